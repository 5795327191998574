// Deno. Usage: deno run --allow-net deno_server.js PORT MODE.
const [port, mode] = [Number(Deno.args[0]), Deno.args[1]];
const all = new Set();

function spin(milliseconds) {
  for (const end = performance.now() + milliseconds; performance.now() < end; );
}

Deno.serve({ hostname: "127.0.0.1", port, onListen() {} }, (request) => {
  if (request.headers.get("upgrade") !== "websocket") return new Response("not a WebSocket", { status: 426 });
  const { socket, response } = Deno.upgradeWebSocket(request);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => all.add(socket);
  socket.onclose = () => all.delete(socket);
  socket.onerror = () => all.delete(socket);
  socket.onmessage = ({ data }) => {
    if (mode === "broadcast") {
      for (const one of all) one.send(data);
      return;
    }
    if (mode === "cpu") spin(1);
    socket.send(data);
  };
  return response;
});
