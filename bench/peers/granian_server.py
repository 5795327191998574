"""asgi_app.py on granian. Usage: python granian_server.py PORT MODE."""

import os
import sys
from pathlib import Path

from granian import Granian
from granian.constants import Interfaces, Loops
from granian.log import LogLevels

if __name__ == "__main__":
    os.environ["MODE"] = sys.argv[2]
    Granian(
        "asgi_app:app",
        address="127.0.0.1",
        port=int(sys.argv[1]),
        interface=Interfaces.ASGINL,
        loop=Loops.uvloop,
        log_level=LogLevels.error,
        working_dir=Path(__file__).parent,
    ).serve()
