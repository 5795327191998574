"""The recipe of `make profile`, with a stand-in for py-spy: a script that says what it is told to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PY_SPY = """#!/bin/sh
echo "$*" > "$(dirname "$0")/told-$3"
echo "it may not trace"
while [ "$1" != --output ]; do shift; done
{end}
"""


def profile(folder: Path, end: str) -> subprocess.CompletedProcess[str]:
    """Run the recipe for a second, py-spy ending with a command that has the image's path as `$2`."""
    script = folder / "py-spy"
    script.write_text(PY_SPY.format(end=end))
    script.chmod(0o755)
    options = ["--seconds", "1", "--connections", "2", "--folder", str(folder / "images")]
    return subprocess.run(
        [sys.executable, "-m", "zwoole.bench.flame_graphs", *options],
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose path is short enough for Unix sockets."""
    return tmp_path_factory.mktemp("f")


def test_a_master_and_a_worker_are_sampled_while_the_server_is_loaded(folder: Path) -> None:
    done = profile(folder, "touch $2")
    assert done.returncode == 0, done.stderr
    images = [folder / "images" / "master.svg", folder / "images" / "worker.svg"]
    assert all(image.exists() for image in images)
    assert done.stdout.splitlines()[-2:] == [f"master: {images[0]}", f"worker: {images[1]}"]
    assert "right replies" in done.stdout
    told = [file.read_text() for file in folder.glob("told-*")]
    assert len(told) == 2
    assert all(line.startswith("record --pid ") and "--native" in line for line in told)


def test_what_py_spy_complains_of_is_shown_and_the_server_is_stopped(folder: Path) -> None:
    done = profile(folder, "exit 1")
    assert done.returncode == 1
    assert "py-spy cannot sample the master: it may not trace" in done.stderr
    assert not list(folder.glob("zwoole-*/*"))
