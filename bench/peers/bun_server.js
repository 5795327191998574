// Bun, whose core is uWebSockets. Usage: bun bun_server.js PORT MODE.
const [port, mode] = [Number(process.argv[2]), process.argv[3]];

function spin(milliseconds) {
  for (const end = performance.now() + milliseconds; performance.now() < end; );
}

const server = Bun.serve({
  hostname: "127.0.0.1",
  port,
  fetch(request, server) {
    return server.upgrade(request) ? undefined : new Response("not a WebSocket", { status: 426 });
  },
  websocket: {
    perMessageDeflate: mode === "deflate",
    maxPayloadLength: 16 * 1024 * 1024,
    open(socket) {
      if (mode === "broadcast") socket.subscribe("all");
    },
    message(socket, message) {
      if (mode === "broadcast") {
        server.publish("all", message);
        return;
      }
      if (mode === "cpu") spin(1);
      socket.send(message, mode === "deflate");
    },
  },
});
