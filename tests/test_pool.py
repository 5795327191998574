"""Worker processes as their master sees them, where the run directory lets it down."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.reactor_parts import Reactor
from zwoole.reactor.pool import BOOT_S, Pool
from zwoole.shared.rundir import endpoint_path, progress_path


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[bytes]]:
    """Return a process in the place of a worker that boots."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


class House:
    """A reactor with a pool."""

    def __init__(self, reactor: Reactor, run_dir: Path) -> None:
        self.reactor = reactor
        self.run_dir = run_dir
        self.pool = Pool(
            reactor.loop,
            reactor.router,
            reactor.opening,
            reactor.outbound,
            reactor.handover,
            reactor.pipes,
            run_dir,
            1,
            reactor.settings,
        )

    def has_endpoint(self) -> bool:
        return endpoint_path(self.run_dir, 7, 1).exists() and progress_path(self.run_dir, 7, 1).exists()

    def look(self) -> None:
        self.reactor.pass_time(BOOT_S + 0.1)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with Reactor() as reactor:
        found = House(reactor, tmp_path / "run")
        yield found
        found.pool.close()


def test_an_endpoint_is_made_as_soon_as_the_run_directory_is_there(
    house: House, worker: subprocess.Popen[bytes], log: pytest.LogCaptureFixture
) -> None:
    house.pool.expect(0, 7, worker.pid, standby=False)
    house.look()
    assert house.pool.links == []
    house.run_dir.mkdir()
    house.look()
    assert [link.pid for link in house.pool.links] == [worker.pid]
    assert house.has_endpoint()
    assert log.text.count("no endpoint for worker 0") == 1


def test_an_endpoint_that_cannot_be_bound_leaves_no_progress_map(
    house: House, worker: subprocess.Popen[bytes], log: pytest.LogCaptureFixture
) -> None:
    house.run_dir.mkdir()
    endpoint_path(house.run_dir, 7, 1).mkdir()
    house.pool.expect(0, 7, worker.pid, standby=False)
    assert not progress_path(house.run_dir, 7, 1).exists()
    assert "no endpoint for worker 0" in log.text
    endpoint_path(house.run_dir, 7, 1).rmdir()
    house.look()
    assert house.has_endpoint()


def test_a_worker_that_ended_meanwhile_gets_none(house: House, worker: subprocess.Popen[bytes]) -> None:
    house.pool.expect(0, 7, worker.pid, standby=False)
    worker.kill()
    worker.wait()
    house.run_dir.mkdir()
    house.look()
    assert house.pool.links == []
    assert list(house.run_dir.iterdir()) == []


@pytest.mark.parametrize("path", [endpoint_path, progress_path])
def test_a_worker_that_will_not_find_what_it_needs_is_ended(
    house: House, worker: subprocess.Popen[bytes], path: Callable[[Path, int, int], Path], log: pytest.LogCaptureFixture
) -> None:
    house.run_dir.mkdir()
    house.pool.expect(0, 7, worker.pid, standby=False)
    house.look()
    assert worker.poll() is None
    path(house.run_dir, 7, 1).unlink()
    house.look()
    assert worker.wait(60) == -9
    assert f"worker 0 (pid {worker.pid}) is ended: what it needs was removed from the run directory" in log.text
