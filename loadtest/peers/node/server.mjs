// A chat server of the kind that tutorials show: `ws` beside `serve-handler` on one port. What a client says goes to
// everybody, its sender included, as it came. `ws` compresses nothing unless it is told to.

import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

import handler from "serve-handler";
import { WebSocket, WebSocketServer } from "ws";

const page = fileURLToPath(new URL("../../../public", import.meta.url));

const server = createServer((request, response) => handler(request, response, { public: page }));
const sockets = new WebSocketServer({ server });

sockets.on("connection", (socket) => {
  socket.on("error", console.error);
  socket.on("message", (data, isBinary) => {
    for (const client of sockets.clients) {
      if (client.readyState === WebSocket.OPEN) {
        client.send(data, { binary: isBinary });
      }
    }
  });
});

server.listen(Number(process.env.PORT ?? 0), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
