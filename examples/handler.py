from zwoole import Server

server = Server("127.0.0.1", 8080, worker_num=2)


@server.handler("/websocket")
async def echo(ws):
    async for message in ws:
        print(f"Received message: {message}")
        await ws.send("Hello from zwoole server!")


server.start()
