// Echo on the `ws` package with permessage-deflate: `node ws-echo.js PORT`.

import { WebSocketServer } from "ws";

// All as it comes, but for the threshold: messages below 1 KiB would be sent as they are.
const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(process.argv[2]),
  perMessageDeflate: { threshold: 0 },
});

server.on("connection", (ws) => {
  ws.on("error", () => ws.terminate());
  ws.on("message", (message, isBinary) => ws.send(message, { binary: isBinary }));
});
