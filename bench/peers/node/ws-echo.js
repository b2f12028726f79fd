// Echo on the `ws` package, with permessage-deflate if that is said: `node ws-echo.js PORT [deflate]`.

import { WebSocketServer } from "ws";

const [port, deflate] = process.argv.slice(2);

// All as it comes, but for the threshold: messages below 1 KiB would be sent as they are.
const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(port),
  perMessageDeflate: deflate ? { threshold: 0 } : false,
});

server.on("connection", (ws) => {
  ws.on("error", () => ws.terminate());
  ws.on("message", (message, isBinary) => ws.send(message, { binary: isBinary }));
});
