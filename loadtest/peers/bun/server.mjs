// A chat server on what Bun brings: everybody subscribes to one topic, and what a client says is published there, so that
// its sender hears it as well. Bun compresses nothing unless it is told to. Beyond `backpressureLimit` bytes that a client
// has not taken, it would drop messages; 0 lifts that, since no server here may lose any.

import { fileURLToPath } from "node:url";

const page = fileURLToPath(new URL("../../../public", import.meta.url));

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT ?? 0),
  async fetch(request, server) {
    if (server.upgrade(request)) {
      return undefined;
    }
    const { pathname } = new URL(request.url);
    const file = Bun.file(page + (pathname === "/" ? "/index.html" : pathname));
    return (await file.exists()) ? new Response(file) : new Response("Not found", { status: 404 });
  },
  websocket: {
    backpressureLimit: 0,
    open(socket) {
      socket.subscribe("lobby");
    },
    message(_socket, message) {
      server.publish("lobby", message);
    },
  },
});

console.log(`listening on http://127.0.0.1:${server.port}`);
