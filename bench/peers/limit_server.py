"""The limit of this machine: compiles limit_echo.c and executes it. Usage: python limit_server.py PORT [echo]."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("limit_echo.c")


def main() -> None:
    """Compile into a temporary folder, which is removed before the program runs, and replace this process."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "echo"
        subprocess.run(["cc", "-O3", "-o", program, SOURCE], check=True)
        descriptor = os.open(program, os.O_RDONLY)
    os.execve(descriptor, ["limit", sys.argv[1]], os.environ)


if __name__ == "__main__":
    main()
