from zwoole import Server

server = Server("127.0.0.1", 8080, worker_num=2)


@server.on("open")
def on_open(server, request):
    print(f"New WebSocket connection opened: {request.fd}")


@server.on("message")
def on_message(server, frame):
    print(f"Received message from {frame.fd}: {frame.data}")
    server.push(frame.fd, "Hello from zwoole server!")


@server.on("close")
def on_close(server, fd):
    print(f"WebSocket connection closed: {fd}")


server.start()
