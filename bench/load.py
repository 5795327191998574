"""The load tester: a closed loop of verified echoes from several processes, as a command and as a function.

    python -m zwoole.bench.load ws://127.0.0.1:8080/ -c 100 --processes 2 --size 64 --depth 16 --duration 5

The server has to send every message back as it was. The exit code is 1 when any reply was wrong or missing or any
connection failed.
"""

import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

import click

from zwoole.bench import handshake, histogram, loadclient, loadcore
from zwoole.bench.loadprocess import Plan, Ready, Report, Window, load_process

ERROR_KINDS = handshake.ERROR_KINDS | loadclient.ERROR_KINDS
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
Message = TypeVar("Message", Ready, Report)
_START_DELAY_NS = 50_000_000  # for all processes to have read the window before it starts


class LoadError(Exception):
    """No result can be given, for a reason the message tells in one line."""


@dataclass(frozen=True)
class LoadResult:
    """What all processes of a run measured together."""

    connections: int
    """Connections that were opened."""
    messages: int
    """Right replies in the measured window."""
    seconds: float
    rate: float
    """Messages per second."""
    megabytes_per_second: float
    """10**6 bytes of payload in one direction."""
    latency_us: dict[str, float]
    """The percentiles named in PERCENTILES, microseconds."""
    errors: dict[str, int]
    """Counts by the kinds in ERROR_KINDS, without those that did not occur."""
    client_cpu_s: float
    """CPU time of the load processes, warm-up included."""
    metered: float
    """By how much the meter that run_load() was given rose in the measured window."""


def run_load(plan: Plan, meter: Callable[[], float] = lambda: 0.0) -> LoadResult:
    """Run a plan and return what was measured; errors of single connections and replies are counted in the result.

    Args:
        plan: the load. More processes than connections are not started.
        meter: called when the measured window opens and when it closes, for the difference.

    Raises:
        LoadError: not one connection could be opened, or a load process died.
    """
    with _processes(plan) as pipes:
        ready = [_receive(pipe, Ready) for pipe in pipes]
        if not any(one.connections for one in ready):
            raise LoadError(f"cannot open a connection to {plan.target}: {ready[0].first_error}")
        window = Window.after(time.monotonic_ns() + _START_DELAY_NS, plan)
        for pipe in pipes:
            pipe.send(window)
        _sleep_until(window.opens_ns)
        metered = -meter()
        if not plan.messages:
            _sleep_until(window.closes_ns)
            metered += meter()
        reports = [_receive(pipe, Report) for pipe in pipes]
        if plan.messages:
            metered += meter()
    return _merge(plan, window, ready, reports, metered)


def _merge(plan: Plan, window: Window, ready: list[Ready], reports: list[Report], metered: float) -> LoadResult:
    messages = sum(report.messages for report in reports)
    closes_ns = max(report.last_reply_ns for report in reports) if plan.messages else window.closes_ns
    seconds = max(closes_ns - window.opens_ns, 1) / 1e9
    latencies = histogram.merge(report.latencies for report in reports)
    errors = sum([one.errors for one in ready] + [report.errors for report in reports], Counter[str]())
    return LoadResult(
        connections=sum(one.connections for one in ready),
        messages=messages,
        seconds=seconds,
        rate=messages / seconds,
        megabytes_per_second=messages / seconds * plan.size / 1e6,
        latency_us={name: histogram.percentile_ns(latencies, part) / 1e3 for name, part in PERCENTILES.items()},
        errors=dict(errors),
        client_cpu_s=sum(report.cpu_s for report in reports),
        metered=metered,
    )


@contextmanager
def _processes(plan: Plan) -> Iterator[list[Connection]]:
    """Start the load processes and yield a pipe to each; none of them outlives the block."""
    spawn = multiprocessing.get_context("spawn")
    count = min(plan.processes, plan.connections)
    shares = [plan.connections // count + (index < plan.connections % count) for index in range(count)]
    pipes: list[Connection] = []
    processes = []
    try:
        for index, share in enumerate(shares):
            pipe, remote = spawn.Pipe()
            process = spawn.Process(target=load_process, args=(remote, plan, share, sum(shares[:index])), daemon=True)
            process.start()
            remote.close()  # so that the end of the process is the end of the pipe
            pipes.append(pipe)
            processes.append(process)
        yield pipes
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.join(1)
            process.kill()
            process.join()


def _receive(pipe: Connection, kind: type[Message]) -> Message:
    try:
        message = pipe.recv()
    except EOFError:
        raise LoadError("a load process died") from None
    assert isinstance(message, kind)
    return message


def _sleep_until(moment_ns: int) -> None:
    time.sleep(max(0, moment_ns - time.monotonic_ns()) / 1e9)


def describe(plan: Plan, result: LoadResult) -> str:
    """Return the result as a small table, one line for each kind of error."""
    kind = "binary" if plan.binary else "text"
    latency = "  ".join(f"{name} {value:,.1f}" for name, value in result.latency_us.items())
    lines = [
        f"{plan.target}: {plan.connections} connections, {plan.size} B {kind}, {plan.depth} outstanding",
        f"messages    {result.messages:,} in {result.seconds:.2f} s",
        f"rate        {result.rate:,.0f} /s, {result.megabytes_per_second:,.1f} MB/s",
        f"latency us  {latency}",
        f"client CPU  {result.client_cpu_s:.2f} s{'' if loadcore.COMPILED else ', uncompiled: may be the limit'}",
        *(f"ERROR       {count:,} {kind}: {ERROR_KINDS[kind]}" for kind, count in sorted(result.errors.items())),
    ]
    return "\n".join(lines)


@click.command()
@click.argument("url")
@click.option("-c", "--connections", type=click.IntRange(1), default=100, show_default=True)
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="Processes that share them.")
@click.option("--size", type=click.IntRange(0), default=64, show_default=True, help="Payload bytes of a message.")
@click.option("--depth", type=click.IntRange(1), default=1, show_default=True, help="Outstanding on each connection.")
@click.option("--duration", type=click.FloatRange(0, min_open=True), default=5.0, show_default=True, help="Seconds.")
@click.option("--warmup", type=click.FloatRange(0), default=1.0, show_default=True, help="Seconds before it.")
@click.option("--messages", type=click.IntRange(1), help="On each connection, in place of warm-up and duration.")
@click.option("--binary", is_flag=True, help="Send binary messages instead of text.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the result there.")
def main(
    url: str,
    connections: int,
    processes: int,
    size: int,
    depth: int,
    duration: float,
    warmup: float,
    messages: int | None,
    binary: bool,
    json_file: Path | None,
) -> None:
    """Load the echo server at URL (ws://host:port/path) and check every reply."""
    try:
        target = handshake.Target.from_url(url)
        plan = Plan(target, connections, processes, size, depth, duration, warmup, messages or 0, binary)
        result = run_load(plan)
    except (ValueError, LoadError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(describe(plan, result))
    if json_file:
        json_file.write_text(json.dumps({"plan": asdict(plan), "result": asdict(result)}, indent=2) + "\n")
    raise SystemExit(1 if result.errors else 0)


if __name__ == "__main__":
    main()
