// Everyone receives what anyone sends, on the `ws` package as in its README: `node ws-broadcast.js PORT`.

import { WebSocket, WebSocketServer } from "ws";

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]) });

server.on("connection", (ws) => {
  ws.on("error", () => ws.terminate());
  ws.on("message", (message, isBinary) => {
    for (const client of server.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(message, { binary: isBinary });
    }
  });
});
