"""The master's program, `python -m zwoole.reactor`. Only the supervisor starts it."""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import resource
import socket
from pathlib import Path

from zwoole.reactor.master_process import MasterProcess
from zwoole.shared.memory.connection_table import ConnectionTable
from zwoole.shared.memory.turn_counter import TurnCounter
from zwoole.shared.process import allocator, lifeline, log, open_files, plan, signals, stdio, titles

ORPHAN_GRACE_S = 3.0


def main() -> None:
    """Read the command line, build the master, and serve."""
    parser = argparse.ArgumentParser(prog="zwoole.reactor", description=__doc__)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--incarnation", type=int, required=True)
    parser.add_argument("--id", type=int, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--turns", type=int, required=True)
    parser.add_argument("--table", type=int, required=True)
    parser.add_argument("--listen", type=int, nargs="+", required=True)
    options = parser.parse_args()

    signals.ignore()  # only the supervisor stops a master
    faulthandler.enable(stdio.writer(2).descriptor)
    allocator.keep_freed_memory()
    settings = plan.read_or_end(options.run_dir).settings
    titles.set_name(f"zwoole master {options.id}")
    as_json = settings.log_format == "json"
    log.start(f"master {options.id}", settings.log_level, as_json, at_once=False)
    sockets = [socket.socket(fileno=descriptor) for descriptor in options.listen]
    for descriptor in (options.lifeline, options.table, *options.listen):
        os.set_inheritable(descriptor, False)
    limit = connection_limit(settings.max_connection, settings.worker_num)
    turns = TurnCounter(options.turns)
    os.close(options.turns)
    try:
        table = ConnectionTable.create(options.table, limit, settings.reactor_num)
    except OSError as error:
        log.get_logger("master").error(
            "no memory for a table of %d connections; set max_connection to a lower number: %s", limit, error.strerror
        )
        log.flush()
        raise SystemExit(1) from None
    master = MasterProcess(options.run_dir, options.incarnation, options.id, sockets, table, settings)
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    lifeline.watch(options.lifeline, lambda: os.close(write_end), ORPHAN_GRACE_S)

    def orphaned() -> None:
        master.loop.remove_source(read_end)
        master.orphaned()

    master.loop.add_source(read_end, orphaned)
    master.loop.before_sleep(turns.tick)
    gc.collect()
    gc.freeze()
    master.run()


def connection_limit(wanted: int, worker_num: int) -> int:
    """Raise the limit of open files, and return the maximum number of connections.

    Args:
        wanted: the setting `max_connection`; 0 for as many as the descriptors allow.
        worker_num: the number of workers, which need descriptors too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    allowed = open_files.for_connections(worker_num)
    limit = min(wanted or allowed, allowed, 1 << 20)
    logger = log.get_logger("master")
    logger.info("at most %d connections at a time, %d open files (the soft limit was %d)", limit, hard, soft)
    if wanted > limit:
        logger.warning("max_connection is %d, but this machine's limit of open files does not allow that many", wanted)
    return limit


if __name__ == "__main__":
    main()
