"""Standard descriptors that are closed when a process starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LOOK = """
import json, os, sys
{before}
import zwoole
first = os.open("/", os.O_RDONLY)
print("unseen")
print("unseen", file=sys.stderr)
found = {{number: os.path.realpath(f"/proc/self/fd/{{number}}") for number in (0, 1, 2)}}
kept = [os.get_inheritable(number) for number in (0, 1, 2)]
streams = [stream.fileno() for stream in (sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__)]
with open({path!r}, "w") as file:
    json.dump([first, found, kept, streams], file)
"""


def look(closed: tuple[int, ...], path: Path, before: str = "") -> tuple[int, dict[str, str], list[bool], list[int]]:
    """Return what a script sees that is started with some descriptors closed."""
    shut = " ".join(f"{number}>&-" for number in closed)
    script = LOOK.format(path=str(path), before=before)
    command = ["sh", "-c", f'exec "$@" {shut}', "sh", sys.executable, "-c", script]
    subprocess.run(command, check=True, stdin=subprocess.PIPE, capture_output=True)
    first, found, kept, streams = json.loads(path.read_text())
    return first, found, kept, streams


@pytest.mark.parametrize("closed", [(), (0,), (1,), (2,), (0, 2), (0, 1, 2)], ids=str)
def test_they_are_opened_when_zwoole_is_imported(closed: tuple[int, ...], tmp_path: Path) -> None:
    first, found, kept, streams = look(closed, tmp_path / "seen")
    assert first > 2
    assert {int(number) for number, path in found.items() if path == "/dev/null"} == set(closed)
    assert kept == [True, True, True]
    assert streams == [0, 1, 2, 0, 1]


def test_what_has_taken_such_a_number_before_keeps_it(tmp_path: Path) -> None:
    before = "taken = open('/etc/passwd')"
    _, found, kept, streams = look((2,), tmp_path / "seen", before)
    assert found["2"] == "/etc/passwd"
    assert kept == [True, True, False]
    assert streams[2] not in (0, 1, 2)
