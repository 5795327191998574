"""python -m tests.conformance: runs Autobahn|Testsuite against an echo server. Exits with 1 if it finds a fault."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from tests.conformance.report import CHAPTERS, Case, failures, read_report, table
from tests.process.server_process import ServerProcess
from zwoole.shared.websocket.mask import COMPILED

APP = Path(__file__).with_name("echo_app.py")
INSTALLED = Path.home() / ".cache" / "autobahn-testsuite" / "bin" / "wstest"
REPORTS = Path(__file__).parents[2] / "build" / "conformance"
SETTINGS = {
    "package_max_length": 16 * 1024 * 1024,  # the largest message of chapter 9
    "websocket_compression": "true",
}
TIME_LIMIT_S = 1200.0
# The suite waits for each answer before it continues, and takes most of the time itself: run several side by side.
SHARES = ({1, 2, 3, 4, 5, 6, 7, 10}, {9}, {12}, {13})


@click.command()
@click.option("--chapter", "chosen", multiple=True, type=click.Choice(list(map(str, CHAPTERS))), help="These only.")
def main(chosen: Sequence[str]) -> None:
    """Run the suite's cases, or only the given chapters, and print the verdicts."""
    if not COMPILED:
        raise click.ClickException("conformance is claimed for the compiled build, and this one is pure")
    wstest = find_wstest()
    chapters = [int(chapter) for chapter in chosen or CHAPTERS]
    began = time.monotonic()
    with ServerProcess(APP, **SETTINGS) as server:
        cases = run_suite(wstest, server.serve().url(), chapters)
    found = failures(cases, chapters)
    click.echo("\n\n".join((table(cases), *found)))
    click.echo(f"\n{len(cases)} cases in {time.monotonic() - began:.0f} s, failures: {len(found)}. Reports: {REPORTS}")
    sys.exit(1 if found else 0)


def find_wstest() -> Path:
    """Return the path of the suite's program."""
    wstest = Path(os.environ.get("WSTEST", INSTALLED))
    if not wstest.is_file():
        raise click.ClickException(f"there is no {wstest}: tests/conformance/install_wstest.sh installs it")
    return wstest


def run_suite(wstest: Path, url: str, chapters: Sequence[int]) -> list[Case]:
    """Run all cases of some chapters against a server and return their verdicts."""
    shutil.rmtree(REPORTS, ignore_errors=True)
    shares = [sorted(share.intersection(chapters)) for share in SHARES if share.intersection(chapters)]
    with ThreadPoolExecutor(len(shares)) as executor:
        runs = [executor.submit(run_share, wstest, url, share, REPORTS / str(share[0])) for share in shares]
    return [case for run in runs for case in run.result()]


def run_share(wstest: Path, url: str, chapters: Sequence[int], folder: Path) -> list[Case]:
    """Run some chapters, one case after the other. The folder then contains the suite's own report."""
    folder.mkdir(parents=True)
    spec = {
        "outdir": str(folder),
        "servers": [{"agent": "zwoole", "url": url}],
        "cases": [f"{chapter}.*" for chapter in chapters],
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    with (folder / "wstest.log").open("w+") as log:
        command = [str(wstest), "-m", "fuzzingclient", "-s", "spec.json"]
        try:
            subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, timeout=TIME_LIMIT_S, check=True, cwd=folder)
            return read_report(folder)
        except (subprocess.SubprocessError, OSError) as error:
            log.seek(0)
            raise click.ClickException(f"{error}; its log ends with\n{''.join(log.readlines()[-5:])}") from None


if __name__ == "__main__":
    main()
