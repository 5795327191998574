// The `ws` library of Node. Usage: node ws_server.js PORT MODE.
const { createRequire } = require("module");
const { WebSocketServer } = createRequire(process.env.PEER_MODULES + "/")("ws");
const [port, mode] = [Number(process.argv[2]), process.argv[3]];

function spin(milliseconds) {
  for (const end = performance.now() + milliseconds; performance.now() < end; );
}

const server = new WebSocketServer({ host: "127.0.0.1", port, perMessageDeflate: mode === "deflate" && { threshold: 256 } });
server.on("connection", (socket) => {
  socket.on("error", () => {});
  socket.on("message", (data, binary) => {
    if (mode === "broadcast") {
      for (const client of server.clients) client.send(data, { binary });
      return;
    }
    if (mode === "cpu") spin(1);
    socket.send(data, { binary });
  });
});
