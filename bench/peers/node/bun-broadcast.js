// Everyone receives what anyone sends, by the topics of Bun: `bun bun-broadcast.js PORT`.

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.argv[2]),
  fetch: (request, server) =>
    server.upgrade(request) ? undefined : new Response("WebSocket only", { status: 426 }),
  websocket: {
    idleTimeout: 0,
    open: (ws) => ws.subscribe("all"),
    // The server publishes to all subscribers; `ws.publish` would leave out the one that sends.
    message: (_ws, message) => server.publish("all", message),
  },
});
