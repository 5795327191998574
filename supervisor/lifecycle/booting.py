"""What new processes say until they serve: hello, then that a master has taken a worker's hello."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from zwoole.shared.process.log import get_logger
from zwoole.shared.process.run_files import forget_failures
from zwoole.supervisor.core.control_tables import NUMBER, Field, Report, Reports
from zwoole.supervisor.core.process import Process
from zwoole.supervisor.core.processes import Processes
from zwoole.supervisor.lifecycle.introductions import Introductions
from zwoole.supervisor.lifecycle.readiness import Readiness
from zwoole.supervisor.lifecycle.retirement import Retirement
from zwoole.supervisor.lifecycle.rollout import Rollouts
from zwoole.supervisor.system.changed_settings import FileSettings

log = get_logger("supervisor")


class Boots:
    """Follows the processes of one server from their hello until they serve."""

    def __init__(
        self,
        processes: Processes,
        introductions: Introductions,
        retirement: Retirement,
        readiness: Readiness,
        rollouts: Rollouts,
        file_settings: FileSettings,
        run_dir: Path,
    ) -> None:
        """Prepare; the parts are told what concerns them."""
        self._processes = processes
        self._introductions = introductions
        self._retirement = retirement
        self._readiness = readiness
        self._rollouts = rollouts
        self._file_settings = file_settings
        self._run_dir = run_dir

    def reports(self) -> Reports:
        """Return the messages of processes that are acted on here."""
        hello = {
            "role": Field((str,)),
            "debugged": Field((bool,), optional=True),
            "changed": Field((list,), optional=True),
        }
        return {
            "hello": Report(hello, self.hello),
            "ready": Report({"incarnation": NUMBER}, self.hello_taken),
            "served": Report({"incarnation": NUMBER}, self.served),
        }

    def hello(self, process: Process, role: str = "", debugged: bool = False, changed: Sequence[object] = ()) -> None:
        """Handle `hello`: from now on the process can receive messages.

        Args:
            process: the process.
            role: what it is; the supervisor knows that already.
            debugged: whether a debugger traces it.
            changed: the settings that the app's file gives another value than the server runs with.
        """
        process.connected = True
        process.debugged = debugged
        if not process.role.linked:
            self._is_ready(process)
        self._introductions.said_hello(process)
        self._retirement.said_hello(process)
        if process.role.runs_app:
            texts = [text for text in changed if isinstance(text, str)]
            self._file_settings.told(texts, starting=not self._readiness.complete)

    def hello_taken(self, master: Process, incarnation: int) -> None:
        """Handle `ready`: a master has taken the hello of a process. If all masters have, the process is ready."""
        process = self._processes.linked(incarnation)
        if process is None or not self._introductions.hello_taken(process, master):
            return
        last_end = self._processes.history(process.role, process.id).last_end
        if last_end and process.ready_at is None and not process.standby:
            log.info("%s replaces the one that has ended (%s)", process, last_end)
        if self._readiness.complete:  # before that, the others of the start may still fail in the same way
            forget_failures(self._run_dir)
        self._is_ready(process)
        self._rollouts.ready(process)

    def served(self, master: Process, incarnation: int) -> None:
        """Handle `served`: a process has finished its first event, so its end no longer counts as a failed boot."""
        process = self._processes.linked(incarnation)
        if process is not None:
            process.served = True

    def _is_ready(self, process: Process) -> None:
        process.ready_at = time.monotonic()
        self._processes.history(process.role, process.id).was_ready = True
        self._readiness.update()
