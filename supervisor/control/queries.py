"""Requests that the masters answer. All are asked; when all have answered, or time is up, the request is answered."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from zwoole.shared.ids import MAX_FD
from zwoole.shared.process.control_messages import MAX_LISTED
from zwoole.supervisor.core.control_tables import NUMBER, Answer, Field, Fields, Report, Reports, Request, Requests
from zwoole.supervisor.core.loop import Later
from zwoole.supervisor.core.process import Process
from zwoole.supervisor.core.processes import Processes

MAX_OPEN = 100  # requests that wait for masters
QUERY_TIMEOUT_S = 2.0  # a master that has not answered by then is left out
CLIENT = Field((int, type(None)), 1, MAX_FD)  # None: all

Combine = Callable[[list[Any]], Any]


def count_clients(said: list[Any]) -> dict[str, Any]:
    """Combine the answers to kick and push."""
    return {"clients": sum(result["clients"] for result in said)}


def join_connections(said: list[Any]) -> dict[str, Any]:
    """Combine lists of connections."""
    return {
        "total": sum(result["total"] for result in said),
        "connections": [connection for result in said for connection in result["connections"]],
    }


# Each request that masters answer: what it may say, and how their answers are combined.
QUERIES: dict[str, tuple[Fields, Combine]] = {
    "connections": ({"limit": Field((int,), 1, MAX_LISTED)}, join_connections),
    "kick": ({"fd": CLIENT, "code": Field((int,), 0, 65535), "reason": Field((str,))}, count_clients),
    "push": ({"fd": CLIENT, "data": Field((str, bytes), called="a message")}, count_clients),
}


class Query(NamedTuple):
    """A request that is under way.

    Attributes:
        answer: answers it.
        combine: makes one result of what the masters said.
        said: what each has said so far, by the master's incarnation.
    """

    answer: Answer
    combine: Combine
    said: dict[int, Any]


class Queries:
    """The requests that wait for masters."""

    def __init__(self, processes: Processes, tell: Callable[..., None], later: Later) -> None:
        """Prepare.

        Args:
            processes: those that run, the masters among them.
            tell: sends a control message: (identity, kind, fields).
            later: calls a function after a number of seconds.
        """
        self._processes = processes
        self._tell = tell
        self._later = later
        self._open: dict[int, Query] = {}
        self._last = 0

    def requests(self) -> Requests:
        """Return the requests that are carried out here."""
        return {
            what: Request(fields, partial(self.ask, what=what, combine=combine))
            for what, (fields, combine) in QUERIES.items()
        }

    def reports(self) -> Reports:
        """Return the messages of processes that are acted on here."""
        return {"answer": Report({"id": NUMBER, "result": Field((dict,))}, self.answered)}

    def ask(self, answer: Answer, *, what: str, combine: Combine, **fields: Any) -> None:
        """Ask every master.

        Args:
            answer: is given what the masters say, combined.
            what: what they are asked.
            combine: makes one result of what they say.
            fields: the rest of the question.
        """
        if len(self._open) >= MAX_OPEN:
            answer(error=f"{MAX_OPEN} requests wait already: ask again later")
            return
        self._last += 1
        number = self._last
        self._open[number] = Query(answer, combine, {})
        masters = self._processes.connected_masters()
        for master in masters:
            self._tell(master.identity, "query", id=number, what=what, **fields)
        self._later(QUERY_TIMEOUT_S if masters else 0.0, lambda: self._finish(number))

    def answered(self, master: Process, id: int, result: dict[str, Any]) -> None:
        """Take what one master says to the query `id`."""
        if id in self._open:
            said = self._open[id].said
            said[master.incarnation] = result
            if len(said) == len(self._processes.connected_masters()):
                self._finish(id)

    def _finish(self, number: int) -> None:
        if number not in self._open:
            return
        answer, combine, said = self._open.pop(number)
        results = list(said.values())
        errors = [result["error"] for result in results if "error" in result]
        if errors:
            answer(error=str(errors[0]))
            return
        try:
            result = combine(results)
        except (KeyError, TypeError) as failure:  # of another version: zwoole was upgraded meanwhile
            answer(error=f"a master's answer could not be understood: {failure!r}")
        else:
            answer(result=result)
