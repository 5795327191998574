"""asgi_app.py on uvicorn, uvloop and the websockets library. Usage: python uvicorn_server.py PORT MODE."""

import os
import sys
from pathlib import Path

import uvicorn

if __name__ == "__main__":
    os.environ["MODE"] = sys.argv[2]
    uvicorn.run(
        "asgi_app:app",
        app_dir=str(Path(__file__).parent),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        ws="websockets-sansio",
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        lifespan="off",
        log_level="error",
    )
