"""gorilla/websocket: compiles gorilla.go and executes it. Usage: python gorilla_server.py PORT MODE."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent / "gorilla.go"


def main() -> None:
    """Compile into a temporary folder, which is removed before the program runs, and replace this process."""
    # Debian's package of the library is in a GOPATH; nothing is downloaded.
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode"}
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "gorilla"
        subprocess.run(["go", "build", "-o", program, SOURCE], check=True, env=environment)
        descriptor = os.open(program, os.O_RDONLY)
    os.execve(descriptor, ["gorilla", *sys.argv[1:]], os.environ)


if __name__ == "__main__":
    main()
