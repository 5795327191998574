"""Questions that the masters answer: each is asked, and when all have said something, or in time, so is who asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zwoole.supervisor.processes import Crew, Sender

MAX_OPEN = 100  # requests that wait for masters
QUERY_TIMEOUT_S = 2.0  # a master that has not answered by then is left out

Combine = Callable[[list[Any]], Any]


class Queries:
    """The questions that are under way."""

    def __init__(
        self, crew: Crew, tell: Callable[..., None], later: Callable[[float, Callable[[], None]], None]
    ) -> None:
        """Prepare to ask a crew's masters."""
        self._crew = crew
        self._tell = tell
        self._later = later
        self._open: dict[int, tuple[Sender, Combine, dict[int, Any]]] = {}
        self._last = 0

    def ask(self, sender: Sender, combine: Combine, **fields: Any) -> None:
        """Ask every master; what they say, combined, is the answer to `sender`."""
        if len(self._open) >= MAX_OPEN:
            self._tell(sender[0], "answer", id=sender[1], error=f"{MAX_OPEN} requests wait already: ask again later")
            return
        self._last += 1
        query = self._last
        self._open[query] = (sender, combine, {})
        for epoch in self._crew.greeted:
            self._tell(f"master-{epoch}".encode(), "query", id=query, **fields)
        self._later(QUERY_TIMEOUT_S if self._crew.greeted else 0.0, lambda: self._answer(query))

    def answered(self, epoch: int, query: int, result: dict[str, Any]) -> None:
        """Take what one master says."""
        if query in self._open:
            said = self._open[query][2]
            said[epoch] = result
            if len(said) == len(self._crew.greeted):
                self._answer(query)

    def _answer(self, query: int) -> None:
        if query not in self._open:
            return
        (identity, request), combine, answers = self._open.pop(query)
        said = list(answers.values())
        errors = [result["error"] for result in said if "error" in result]
        if errors:
            self._tell(identity, "answer", id=request, error=str(errors[0]))
            return
        try:
            result = combine(said)
        except (KeyError, TypeError) as failure:  # of another version, started after zwoole was installed anew
            self._tell(identity, "answer", id=request, error=f"a master's answer could not be understood: {failure!r}")
        else:
            self._tell(identity, "answer", id=request, result=result)


def count_clients(said: list[Any]) -> dict[str, Any]:
    """Combine the answers to kick and push."""
    return {"clients": sum(result["clients"] for result in said)}


def join_connections(said: list[Any]) -> dict[str, Any]:
    """Combine lists of connections."""
    return {
        "total": sum(result["total"] for result in said),
        "connections": [connection for result in said for connection in result["connections"]],
    }


COMBINE: dict[str, Combine] = {"kick": count_clients, "push": count_clients, "connections": join_connections}
