"""The worker processes as the master knows them, where no process is needed to see it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import msgpack
import pytest

from tests.reactor_parts import Reactor
from zwoole.reactor.pool import Pool
from zwoole.reactor.worker import WorkerLink
from zwoole.shared.wire import HELLO, PROTOCOL_VERSION


class House:
    """A pool and the processes in it, which only sleep."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.ready: list[int] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.pool = Pool(
            reactor.loop,
            reactor.router,
            reactor.opening,
            reactor.outbound,
            reactor.handover,
            reactor.pipes,
            reactor.run_dir,
            1,
            reactor.settings,
        )
        self.pool.on_ready = self.ready.append

    def expect(self, slot: int, standby: bool = False) -> WorkerLink:
        """Have the master expect a new worker."""
        process = subprocess.Popen(["sleep", "1000"])
        self.processes.append(process)
        self.pool.expect(slot, len(self.processes), process.pid, standby)
        return self.pool.links[-1]

    def hello(self, link: WorkerLink, path: str) -> None:
        """Let a worker say that its app has one handler, at this path."""
        hello = {"callbacks": False, "handlers": [path], "handshake": False}
        self.reactor.outbound.on_event(link, HELLO, PROTOCOL_VERSION, msgpack.packb(hello))

    def serves(self, path: str) -> bool:
        return self.reactor.opening.routes.serves(path)


@pytest.fixture
def house() -> Iterator[House]:
    with Reactor(worker_num=2) as reactor:
        house = House(reactor)
        yield house
        house.pool.close()
        for process in house.processes:
            process.kill()
            process.wait()


def test_what_a_worker_serves_counts_when_it_takes_its_place(house: House) -> None:
    for slot in range(2):
        house.hello(house.expect(slot), "/old")
    assert house.serves("/old")
    successors = [house.expect(slot, standby=True) for slot in range(2)]
    for link in successors:
        house.hello(link, "/new")
        assert (house.serves("/old"), house.serves("/new")) == (True, False)
    house.pool.switch([link.incarnation for link in successors])
    assert (house.serves("/old"), house.serves("/new")) == (False, True)
    assert house.ready == [1, 2, 3, 4]


def test_a_successor_in_a_place_that_is_empty_serves_at_once(house: House) -> None:
    house.hello(house.expect(0, standby=True), "/new")
    assert house.serves("/new")


def test_a_worker_that_was_given_up_while_it_booted_changes_nothing(house: House) -> None:
    house.hello(house.expect(0), "/old")
    booting = house.expect(1)
    house.pool.set_places(1)
    house.hello(booting, "/new")
    assert (house.serves("/old"), house.serves("/new")) == (True, False)


def test_places_come_and_go_with_the_number_of_workers(house: House) -> None:
    slots = house.reactor.router.slots
    table = house.reactor.table
    house.pool.set_places(4)
    assert ([slot.index for slot in slots], table.waiting(3)) == ([0, 1, 2, 3], 0)
    house.pool.set_places(1)
    assert ([slot.index for slot in slots], table.waiting(3)) == ([0], -1)
    house.pool.set_places(1)
    house.expect(1)
    assert [slot.index for slot in slots] == [0, 1]
