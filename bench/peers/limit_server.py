"""A limit of this machine: compiles one of the C programs and executes it.

Usage: python limit_server.py PORT echo PROGRAM; PROGRAM is limit_echo.c or limit_two_processes.c.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Compile into a temporary folder, which is removed before the program runs, and replace this process."""
    port, _, source = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "limit"
        subprocess.run(["cc", "-O3", "-o", program, Path(__file__).with_name(source)], check=True)
        descriptor = os.open(program, os.O_RDONLY)
    os.execve(descriptor, ["limit", port], os.environ)


if __name__ == "__main__":
    main()
