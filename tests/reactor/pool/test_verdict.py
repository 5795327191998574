from __future__ import annotations

import pytest

from zwoole.reactor.core.connection import Connection
from zwoole.reactor.core.window import Outstanding
from zwoole.reactor.pool.verdict import Verdict
from zwoole.shared.memory.progress_map import FINISHED, STARTED, WAITING
from zwoole.shared.wire.events import ADOPT, BINARY_MESSAGE, CLOSE, DRAIN, MESSAGE, OPEN


def connection(fd: int) -> Connection:
    return Connection(fd, -1, "127.0.0.1", 1)


def judge(*events: tuple[Connection | None, int, int]) -> Verdict:
    """Judge events given as (connection, event, progress); each carries its own sequence number as data."""
    unfinished = [Outstanding(i, who, event, b"%d" % i) for i, (who, event, _) in enumerate(events)]
    return Verdict(unfinished, lambda sequence: events[sequence][2])


def test_what_had_not_begun_is_sent_again_in_order() -> None:
    one, two = connection(1), connection(2)
    verdict = judge((one, OPEN, WAITING), (two, MESSAGE, WAITING), (one, BINARY_MESSAGE, WAITING))
    assert verdict.replay == {one: [(OPEN, b"0"), (BINARY_MESSAGE, b"2")], two: [(MESSAGE, b"1")]}
    assert verdict.failed == [] and verdict.closes == []


@pytest.mark.parametrize("progress", [STARTED, FINISHED])
@pytest.mark.parametrize("event", [OPEN, MESSAGE, BINARY_MESSAGE, ADOPT])
def test_what_had_begun_fails_its_connection_and_nothing_of_it_is_sent_again(event: int, progress: int) -> None:
    one, two = connection(1), connection(2)
    verdict = judge((one, event, progress), (one, MESSAGE, WAITING), (two, MESSAGE, WAITING))
    assert verdict.failed == [one]
    assert verdict.replay == {two: [(MESSAGE, b"2")]}


def test_a_connection_fails_once() -> None:
    one = connection(1)
    assert judge((one, MESSAGE, FINISHED), (one, MESSAGE, STARTED)).failed == [one]


def test_an_adoption_that_waited_is_the_next_workers_business_but_its_connection_is_not_forgotten() -> None:
    one = connection(1)
    assert judge((one, ADOPT, WAITING)).replay == {one: []}


@pytest.mark.parametrize(("progress", "told"), [(WAITING, True), (STARTED, False), (FINISHED, False)])
def test_a_close_is_told_to_the_next_worker_unless_it_had_begun(progress: int, told: bool) -> None:
    one = connection(1)
    verdict = judge((one, CLOSE, progress))
    assert verdict.closes == ([one] if told else [])
    assert verdict.failed == [] and verdict.replay == {}


def test_the_close_of_a_connection_whose_open_nobody_has_begun_is_told_to_nobody() -> None:
    one = connection(1)
    verdict = judge((one, OPEN, WAITING), (one, CLOSE, WAITING))
    assert verdict.closes == []
    assert verdict.unopened == {one}


def test_commands_are_forgotten() -> None:
    verdict = judge((None, DRAIN, WAITING), (None, DRAIN, STARTED))
    assert (verdict.failed, verdict.replay, verdict.closes) == ([], {}, [])
