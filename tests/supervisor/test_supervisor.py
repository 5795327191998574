"""A whole supervisor in the test's process, without the processes that it would start."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.open_files import open_files
from tests.supervisor.process_parts import StandInSpawner
from zwoole import Server
from zwoole.shared.errors import StartError, WrongProcess
from zwoole.shared.memory import mapping
from zwoole.shared.process import titles
from zwoole.supervisor import supervisor as supervisors
from zwoole.supervisor.control.control_server import ControlServer
from zwoole.supervisor.control.control_socket import ControlSocket
from zwoole.supervisor.core.loop import Loop
from zwoole.supervisor.lifecycle.deaths import Deaths
from zwoole.supervisor.lifecycle.staffing import Staffing
from zwoole.supervisor.start.app_target import Target
from zwoole.supervisor.start.launch import make_plan
from zwoole.supervisor.supervisor import Supervisor
from zwoole.supervisor.system.listening import listen
from zwoole.supervisor.system.run_directory import RunDirectory
from zwoole.supervisor.system.run_directory_upkeep import Upkeep

Make = Callable[[], Supervisor]


@pytest.fixture
def server() -> Server:
    return Server(port=0, reactor_num=2)


@pytest.fixture
def make(folder: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Iterator[Make]:
    """Yield a function that makes a supervisor."""
    monkeypatch.setattr("zwoole.supervisor.system.run_directory.LONGEST_NAME", "")
    monkeypatch.setattr(titles, "set_name", lambda _: None)
    monkeypatch.setattr(supervisors, "Spawner", lambda *_, **__: StandInSpawner())
    directory = RunDirectory(folder / "r")
    listeners = listen(server.settings)
    plan = make_plan(server.settings, {}, Target("script", "/app.py"))
    yield lambda: Supervisor(server, plan, directory, listeners)
    for group in listeners:
        for listening in group:
            listening.close()
    directory.remove()


KINDS = ("pipe:", "/memfd:")


@pytest.mark.parametrize("fails", ["room", "tables"])
def test_a_failed_start_leaves_no_descriptor_open(make: Make, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """`start()` may be called again then, in the same script."""
    before = open_files(*KINDS)
    anonymous = mapping.anonymous
    tables: list[int] = []

    def no_room(*_: object) -> None:
        raise StartError("no space left")

    def one_table(name: str, folder: Path) -> int:
        if tables:
            raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))
        tables.append(anonymous(name, folder))
        return tables[0]

    if fails == "room":
        monkeypatch.setattr(Upkeep, "furnish", no_room)
    else:
        monkeypatch.setattr(mapping, "anonymous", one_table)
    with pytest.raises(StartError):
        make()
    assert open_files(*KINDS) - before == Counter()


def test_stats_do_not_work_after_a_start_that_failed(
    make: Make, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_process(_: Staffing) -> None:
        assert server.stats()["workers"] == []
        raise StartError("cannot start a process")

    monkeypatch.setattr(Staffing, "start_all", no_process)
    before = open_files(*KINDS)
    with pytest.raises(StartError, match="cannot start a process"):
        make().run()
    with pytest.raises(WrongProcess):
        server.stats()
    assert open_files(*KINDS) - before == Counter()


def test_a_flood_of_control_messages_does_not_hide_the_end_of_a_process(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    waits: list[float] = []
    wait = Loop.wait

    def watched_wait(loop: Loop, longest_s: float) -> list[int]:
        waits.append(longest_s)
        return wait(loop, longest_s)

    monkeypatch.setattr(Deaths, "ended", lambda _, descriptor: ended.append(descriptor))
    monkeypatch.setattr(Loop, "wait", watched_wait)
    monkeypatch.setattr(ControlSocket, "waiting", True)  # always one more
    monkeypatch.setattr(ControlServer, "handle_messages", lambda _: None)
    supervisor = make()
    processes = supervisor._parts.processes
    supervisor._parts.staffing.start_all()  # their descriptors are readable, as those of ended processes
    supervisor._turn()
    assert set(ended) == set(processes.running) != set()
    assert waits == [0]
    supervisor._close()
    for descriptor in processes.running:
        os.close(descriptor)
