"""The answer to `zwoole status`: what the supervisor knows, and what each master says when asked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zwoole.crew import Crew, Sender
from zwoole.shared import stats

QUERY_TIMEOUT_S = 2.0  # a master that has not answered by then is left out


class Status:
    """Gathers status reports."""

    def __init__(
        self,
        crew: Crew,
        run_dir: str,
        listening: list[str],
        tell: Callable[..., None],
        later: Callable[[float, Callable[[], None]], None],
    ) -> None:
        """Prepare to report on a crew that serves the addresses `listening`."""
        self._crew = crew
        self._run_dir = run_dir
        self._listening = listening
        self._tell = tell
        self._later = later
        self._started = time.time()
        self._queries: dict[int, tuple[Sender, list[Any]]] = {}
        self._last_query = 0

    def requested(self, sender: Sender) -> None:
        """Ask every master, and answer when all have, or in time."""
        self._last_query += 1
        query = self._last_query
        self._queries[query] = (sender, [])
        for epoch in self._crew.greeted:
            self._tell(f"master-{epoch}".encode(), "query", id=query)
        self._later(QUERY_TIMEOUT_S if self._crew.greeted else 0.0, lambda: self._answer(query))

    def answered(self, query: int, result: Any) -> None:
        """Take what one master says."""
        if query in self._queries:
            said = self._queries[query][1]
            said.append(result)
            if len(said) == len(self._crew.greeted):
                self._answer(query)

    def _answer(self, query: int) -> None:
        if query not in self._queries:
            return
        (identity, request), masters = self._queries.pop(query)
        self._tell(identity, "answer", id=request, result=self._report(masters))

    def _report(self, masters: list[Any]) -> dict[str, Any]:
        crew = self._crew
        return {
            "pid": os.getpid(),
            "uptime_s": round(time.time() - self._started, 1),
            "state": "stopping" if crew.stopping else "serving" if crew.served else "starting",
            "listening": self._listening,
            "run_dir": self._run_dir,
            "processes": [
                {
                    "role": child.role,
                    "index": child.index,
                    "pid": child.process.pid,
                    "ready": child.ready_at is not None,
                    "retiring": child.retiring,
                }
                for child in crew.children.values()
            ],
            "masters": masters,
            "stats": stats.gather(Path(self._run_dir)),
        }
