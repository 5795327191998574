"""The worker's program, `python -m zwoole.workers`: it runs the user's script. Only the supervisor starts it."""

from __future__ import annotations

import argparse
import atexit
import faulthandler
import importlib
import os
import runpy
import sys
from functools import partial
from pathlib import Path

from zwoole.shared.memory.turn_counter import TurnCounter
from zwoole.shared.process import allocator, forks, lifeline, log, process_groups, signals, stdio, titles
from zwoole.shared.process import plan as plans
from zwoole.workers import role
from zwoole.workers.core.exits import BOOT_FAILED, end_worker
from zwoole.workers.loops import serve
from zwoole.workers.server import Server
from zwoole.workers.worker_process import WorkerProcess

ORPHAN_GRACE_S = 4.0


def main() -> None:
    """Read the command line, set this process up as the first one was, and run the app up to its start()."""
    parser = argparse.ArgumentParser(prog="zwoole.workers", description=__doc__)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--worker-id", type=int, required=True)
    parser.add_argument("--incarnation", type=int, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--turns", type=int, required=True)
    parser.add_argument("--masters", type=int, nargs="+", required=True)
    parser.add_argument("--tables", type=int, nargs="+", required=True)
    parser.add_argument("--lead-group", action="store_true")
    options = parser.parse_args()

    if options.lead_group:
        signals.live_in_background()
    signals.leave_to_supervisor()
    faulthandler.enable(stdio.writer(2).descriptor)
    allocator.keep_freed_memory()
    plan = plans.read_or_end(options.run_dir)
    titles.set_name(f"zwoole worker {options.worker_id}")
    log.start(f"worker {options.worker_id}", plan.settings.log_level, as_json=plan.settings.log_format == "json")
    for descriptor in (options.lifeline, *options.tables):
        os.set_inheritable(descriptor, False)
    turns = TurnCounter(options.turns)
    os.close(options.turns)
    watch_lifeline(options.lifeline, plan.settings.orphan_timeout)
    forks.in_child(lambda: leave_child(options.lifeline))

    process = WorkerProcess(
        options.run_dir,
        options.worker_id,
        options.incarnation,
        options.masters,
        options.tables,
        turns,
        plan.settings,
        plan.given,
    )
    role.set_starter(partial(serve, process))
    sys.argv[:] = plan.argv
    sys.path[:] = plan.path
    try:
        os.chdir(plan.cwd)
    except OSError as error:
        why = f"cannot enter the folder {plan.cwd!a}, in which the server was started: {error.strerror}"
        boot_failure(why, options.run_dir)
    try:
        with forks.child_ends_here():
            run_app(plan)
    except SystemExit as error:
        if process.ended:
            raise
        boot_failure(f"the app exited before it reached start(): SystemExit({error.code!r})", options.run_dir)
    except BaseException as error:
        when = "after start()" if process.ended else "before it reached start()"
        boot_failure(f"the app failed {when}", options.run_dir, error)
    boot_failure("the app ended without reaching start()", options.run_dir)


def watch_lifeline(descriptor: int, orphan_timeout: float) -> None:
    """End this worker, and the processes that it has started, if the supervisor dies: nobody else would."""
    end = partial(process_groups.end_own, orphan_timeout)

    def orphaned() -> None:
        atexit.register(end)  # in case the worker ends by itself

    lifeline.watch(descriptor, orphaned, ORPHAN_GRACE_S, last=end)


def leave_child(lifeline_descriptor: int) -> None:
    """Set up a child that the app has forked: it is not one of the server's processes."""
    signals.restore()
    titles.restore()
    forks.close_descriptors(lifeline_descriptor)


def run_app(plan: plans.Plan) -> None:
    """Run the script or module as `__main__`, or import the module and start its server."""
    if plan.kind == plans.SCRIPT:
        runpy.run_path(plan.target, run_name="__main__")
        return
    if plan.kind == plans.RUN_MODULE:
        runpy.run_module(plan.target, run_name="__main__", alter_sys=True)
        return
    module, _, attribute = plan.target.partition(":")
    server = getattr(importlib.import_module(module), attribute)
    if isinstance(server, Server):
        server.start()


def boot_failure(why: str, run_dir: Path, error: BaseException | None = None) -> None:
    """End a worker that will never serve.

    Args:
        why: the reason.
        run_dir: the run directory.
        error: the exception that the app has raised, if it has.
    """
    again, trace = ("", None) if error is None else log.boot_trace_of(error, run_dir)
    end_worker("%s%s", why, again, code=BOOT_FAILED, exc_info=trace)


if __name__ == "__main__":
    main()
