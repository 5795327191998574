"""How many files a server may open, and how many it needs."""

from __future__ import annotations

import resource

import pytest

from zwoole.shared.errors import StartError
from zwoole.shared.process import open_files


class Limits:
    """Replaces the limits of this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = (1024, 4096)
        monkeypatch.setattr(resource, "getrlimit", lambda _: self.now)
        monkeypatch.setattr(resource, "setrlimit", self._set)

    def _set(self, _: int, limits: tuple[int, int]) -> None:
        self.now = limits


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    return Limits(monkeypatch)


@pytest.mark.parametrize(("workers", "reactors"), [(1, 1), (4, 1), (1, 8), (64, 4)])
def test_with_what_is_needed_a_few_clients_can_connect(limits: Limits, workers: int, reactors: int) -> None:
    number = open_files.needed(workers, reactors)
    limits.now = (10, number)
    open_files.make_room(workers, reactors)
    assert limits.now == (number, number)
    assert open_files.for_connections(workers) >= open_files.LEAST_CONNECTIONS
    limits.now = (10, number - 1)
    with pytest.raises(StartError, match=rf"{number - 1} files.*{workers} worker\(s\) needs {number}"):
        open_files.make_room(workers, reactors)
    assert limits.now == (10, number - 1)


def test_a_soft_limit_that_is_enough_stays(limits: Limits) -> None:
    open_files.make_room(1, 1)
    assert limits.now == (1024, 4096)


def test_no_limit_is_a_million(limits: Limits) -> None:
    limits.now = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    open_files.make_room(1, 1)
    assert open_files.UNLIMITED - 100 < open_files.for_connections(1) < open_files.UNLIMITED


def test_more_workers_leave_less_to_connections(limits: Limits) -> None:
    fewer = open_files.for_connections(1) - open_files.for_connections(2)
    assert fewer == open_files.LINKS * open_files.LINK
    assert open_files.for_connections(1000) == 1
