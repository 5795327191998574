from zwoole import Server

server = Server("127.0.0.1", 8080, worker_num=2)


@server.on("message")
def on_message(server, frame):
    server.broadcast(frame.data)


server.start()
