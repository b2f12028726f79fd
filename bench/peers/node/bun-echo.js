// Echo on Bun, with permessage-deflate if a compressor is named: `bun bun-echo.js PORT [shared|dedicated]`.

const [port, compressor] = process.argv.slice(2);

Bun.serve({
  hostname: "127.0.0.1",
  port: Number(port),
  fetch: (request, server) =>
    server.upgrade(request) ? undefined : new Response("WebSocket only", { status: 426 }),
  websocket: {
    perMessageDeflate: compressor ? { compress: compressor, decompress: compressor } : false,
    idleTimeout: 0,
    // Bun compresses only what is sent with this flag.
    message: (ws, message) => ws.send(message, Boolean(compressor)),
  },
});
