"""README and docs agree with the code: names, tables, links, examples, commands."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import fields
from pathlib import Path
from statistics import median

import pytest

from docs import readme_figures
from docs.settings_page import PAGE, number, page
from tests import snippets
from zwoole import Frame, HandlerConnection, Request, Server
from zwoole.bench.compare.scenarios import SCENARIOS
from zwoole.reactor.core import connection_stages
from zwoole.shared.settings import Settings
from zwoole.shared.wire import events as wire_events
from zwoole.workers.callbacks import EVENTS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PROGRAMMING = ROOT / "docs" / "programming.md"
SECURITY = ROOT / "docs" / "security.md"
DECISIONS = ROOT / "docs" / "decisions"
PAGES = [*snippets.PAGES, ROOT / "CHANGELOG.md"]
HOUSE = ("reactor", "workers", "shared", "supervisor", "bench", "src/zwoole")
SOURCES = [file for top in HOUSE for file in (ROOT / top).glob("**/*.py")]
FOLDERS = sorted({str(file.parent.relative_to(ROOT)) for file in SOURCES} - {"bench", "bench/micro", "bench/peers"})
UNLISTED = {"__init__.py"}
IN_SUPERVISOR = ("worker_error", "start", "before_shutdown", "shutdown")  # the events whose callbacks run there

REFERENCE = re.compile(r"`([\w/]+\.py):([\w.]+)`")
PATH = re.compile(r"`((?:reactor|workers|shared|supervisor|bench|src|tests|docs|examples)/[\w/]+\.(?:py|pxd|md|c))`")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def section(page: Path, title: str) -> str:
    """Return the text between a heading and the next one of the same level or above."""
    level, found = title.split(" ")[0], text_of(page).split(f"\n{title}\n")
    assert len(found) == 2, f"{page.name} has no heading, or several: {title}"
    return re.split(rf"^#{{1,{len(level)}}} ", found[1], maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of a section's first table, without its head."""
    table = re.search(r"^\|.*?(?=^[^|]|\Z)", text, re.MULTILINE | re.DOTALL)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].strip().split("\n")[2:]]


def table_cells(page: Path) -> list[list[str]]:
    """Return the cells of every row in a page's tables, without their heads."""
    lines = re.findall(r"^\| .*\|$", text_of(page), re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names_in(source: Path) -> set[str]:
    """Return the names that a module defines: functions, classes, constants, and methods as Class.method."""
    names = set()
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, FUNCTIONS)}
        if isinstance(node, (ast.ClassDef, *FUNCTIONS)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {ast.unparse(target) for target in node.targets}
        elif isinstance(node, ast.AnnAssign):
            names.add(ast.unparse(node.target))
    return names


TESTING = {
    "log",
    "output",
    "pids",
    "reload",
    "status",
    "url",
}  # attributes of what `zwoole.testing.serve` yields
PARTS = {
    "server": {*dir(Server), "py", *TESTING},
    "ws": set(dir(HandlerConnection)),
    "frame": set(dir(Frame)),
    "request": {*dir(Request), *Request.__slots__},
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
REFERENCES = sorted({reference for page in PAGES for reference in REFERENCE.findall(text_of(page))})
LINKS = [(page, link) for page in PAGES for link in LINK.findall(text_of(page)) if "://" not in link]


@pytest.mark.parametrize(("file", "name"), REFERENCES, ids=[":".join(reference) for reference in REFERENCES])
def test_a_function_that_a_page_names_exists(file: str, name: str) -> None:
    assert name in names_in(ROOT / file)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_file_that_a_page_names_exists(page: Path) -> None:
    assert [path for path in PATH.findall(text_of(page)) if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize(("page", "link"), LINKS, ids=[f"{page.name}-{link}" for page, link in LINKS])
def test_a_link_leads_somewhere(page: Path, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (page.parent / path) if path else page
    assert target.exists()
    if anchor:
        titles = re.findall(r"^#+ (.+)$", text_of(target), re.MULTILINE)
        assert anchor in [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


@pytest.mark.parametrize("page", [README, ARCHITECTURE], ids=lambda page: page.name)
def test_the_way_of_a_message_names_functions_at_every_step(page: Path) -> None:
    steps = re.split(r"^\d+\. ", section(page, "## The way of a message"), flags=re.MULTILINE)[1:]
    assert len(steps) >= 10
    assert all(REFERENCE.search(step) for step in steps)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_architecture_page_has_a_line_for_every_module(folder: str) -> None:
    modules = {f"{folder}/{file.name}" for file in (ROOT / folder).glob("*.py") if file.name not in UNLISTED}
    listed = re.findall(rf"^\| `({folder}/\w+\.py)` \| \S.* \|$", text_of(ARCHITECTURE), re.MULTILINE)
    assert sorted(listed) == sorted(modules)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_says_of_an_object_is_there(page: Path) -> None:
    """As in `server.push(fd, data)`."""
    named = re.findall(
        r"\b(server|ws|frame|request)\.(?!py\b)(\w+)", " ".join(re.findall(r"`([^`\n]+)`", text_of(page)))
    )
    assert [f"{name}.{part}" for name, part in named if part not in PARTS[name]] == []


def test_a_metric_that_a_page_names_is_on_the_page_of_numbers() -> None:
    metrics = re.compile(r"`(zwoole_\w+)`")
    listed = set(metrics.findall(text_of(ROOT / "docs" / "stats.md")))
    assert {name for page in PAGES for name in metrics.findall(text_of(page))} == listed
    assert len(listed) > 30


def test_the_quick_start_is_two_commands() -> None:
    _, language, commands = snippets.FENCE.findall(section(README, "## Quick start"))[0]
    assert (language, commands) == ("sh", "make run\nmake test\n")
    targets = re.findall(r"^([\w-]+):", text_of(ROOT / "Makefile"), re.MULTILINE)
    assert {"run", "test"} <= set(targets)


@pytest.mark.parametrize(("index", "example"), [(0, "echo.py"), (1, "handler.py")])
def test_the_code_in_the_readme_is_the_examples(index: int, example: str) -> None:
    blocks = [block.text for block in snippets.of_page(README) if block.language == "python"]
    assert blocks[index] == text_of(ROOT / "examples" / example)


def test_the_table_of_events_is_the_one_of_the_code() -> None:
    expected = [
        [f"`{event}`", f"`{', '.join(arguments)}`", "supervisor" if event in IN_SUPERVISOR else "worker"]
        for event, arguments in EVENTS.items()
    ]
    assert set(IN_SUPERVISOR) <= set(EVENTS)
    assert rows(section(PROGRAMMING, "## Events")) == expected


def test_the_table_of_scenarios_is_the_one_of_the_code() -> None:
    named = re.findall(r"`([\w-]+)`", " ".join(cells[0] for cells in rows(section(README, "## How fast"))))
    assert named == [scenario.name for scenario in SCENARIOS]


def test_the_ratios_in_the_readme_are_those_of_the_last_comparison() -> None:
    """Numbers come from `make bench` only."""
    runs = json.loads(text_of(ROOT / "bench" / "results" / "latest.json"))["runs"]
    figures = {
        (run["scenario"], run["peer"], run["round"]): run["bytes_per_connection"] or run["result"]["rate"]
        for run in runs
        if run["result"]
    }
    for name, _, *told in rows(section(README, "## How fast")):
        scenario = next(scenario for scenario in SCENARIOS if f"`{scenario.name}`" == name)
        for peer, ratio in zip(readme_figures.PEERS, told, strict=True):
            ratios = [
                figures[scenario.name, scenario.ours, number] / figure
                for (of, by, number), figure in figures.items()
                if (of, by) == (scenario.name, peer)
            ]
            assert ratio == (f"{median(ratios):.2f}" if ratios else ""), (name, peer)


def test_the_figures_in_the_readme_are_written_from_the_runs() -> None:
    runs = [
        {"scenario": "lone", "peer": peer, "round": number, "bytes_per_connection": None, "result": {"rate": rate}}
        for number in (1, 2, 3)
        for peer, rate in (("zwoole", 100 * number), ("swoole", 200), ("bun", 400))
    ]
    runs.append({"scenario": "lone", "peer": "gorilla", "round": 1, "bytes_per_connection": None, "result": None})
    text = "| scenario | what | it | says |\n| `lone` | one at a time | 1 | 2 | 3 | 4 |\n| `other` | x | 1 |\n"
    assert readme_figures.with_figures(text, runs) == text.replace("| 1 | 2 | 3 | 4 |", "| | | 0.50 | 1.00 |")


def test_the_page_of_settings_is_written_from_their_metadata() -> None:
    assert text_of(PAGE) == page(), "docs/settings.md is old: python docs/settings_page.py writes it anew"


def test_the_page_of_settings_has_every_name_and_default() -> None:
    table = {cells[0].strip("`"): cells[1].strip("`") for cells in rows(text_of(PAGE))}
    defaults = {setting.name: number(setting.default) for setting in fields(Settings)}
    assert table == {**defaults, "worker_num": "the number of CPUs that the server may use"}


@pytest.mark.parametrize("page", snippets.PAGES, ids=lambda page: page.name)
def test_a_line_has_at_most_120_columns(page: Path) -> None:
    """Except in tables and code, which cannot always be broken."""
    prose = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    assert [line for line in prose.splitlines() if len(line) > 120 and not line.startswith("|")] == []


@pytest.mark.parametrize(
    ("kind", "title", "prefix"),
    [(HandlerConnection, "## What a handler is given", "ws"), (Request, "## The request", "")],
)
def test_a_table_has_every_attribute(kind: type, title: str, prefix: str) -> None:
    public = {name for name in (*vars(kind), *getattr(kind, "__annotations__", {})) if not name.startswith("_")}
    cells = " ".join(cells[0] for cells in rows(section(PROGRAMMING, title)))
    listed = set(re.findall(r"\bws\.(\w+)" if prefix else r"`(\w+)`", cells))
    assert listed == public


LIMITS = [cells for cells in table_cells(SECURITY) if cells[0] != "limit"]


@pytest.mark.parametrize("cells", LIMITS, ids=[cells[0] for cells in LIMITS])
def test_a_limit_has_its_setting_and_default_and_a_test(cells: list[str]) -> None:
    assert all(cells)
    _, setting, default, _, shown_by = cells
    defaults = {f"`{setting.name}`": f"`{number(setting.default)}`" for setting in fields(Settings)}
    assert setting == "-" or default == defaults[setting]
    assert REFERENCE.search(shown_by)
    assert all(file.startswith("tests/") for file, _ in REFERENCE.findall(shown_by))


def test_every_setting_that_bounds_a_client_is_on_the_page_of_limits() -> None:
    listed = {cells[1].strip("`") for cells in LIMITS}
    bounds = re.compile(r"rate|^max_connection|_(bytes|events|messages|length|size|second)$|^ping|^heartbeat")
    assert {setting.name for setting in fields(Settings) if bounds.search(setting.name)} <= listed


def test_the_table_of_events_is_the_one_of_the_wire() -> None:
    expected = [[f"`{event.name}`", str(event.kind), event.direction, event.about] for event in wire_events.EVENTS]
    assert rows(section(ARCHITECTURE, "## The wire")) == expected


def test_the_table_of_stages_is_the_one_of_the_code() -> None:
    named = [cells[0] for cells in rows(section(ARCHITECTURE, "## The stages of a connection"))]
    assert named == [f"`{name.upper()}`" for name in connection_stages.NAMES]


def test_every_decision_is_listed() -> None:
    listed = re.findall(r"^\| \[(.+)\]\(\1\) \| .+ \|$", text_of(DECISIONS / "README.md"), re.MULTILINE)
    assert sorted([*listed, "README.md"]) == sorted(page.name for page in DECISIONS.iterdir())


@pytest.mark.parametrize("page", sorted(DECISIONS.glob("[a-z]*.md")), ids=lambda page: page.name)
def test_a_decision_fits_on_a_page_and_says_why_what_and_how_it_was_measured(page: Path) -> None:
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    assert headings[1:] == ["Context", "Decision", "Consequences", "How it was measured"]
    assert len(text_of(page).splitlines()) <= 60


def test_the_tests_that_the_coverage_leaves_out_exist() -> None:
    left_out = re.search(r"^NOT_TRACED := (.+?[^\\])$", text_of(ROOT / "Makefile"), re.MULTILINE | re.DOTALL)
    assert left_out is not None
    names = [name.partition("::") for name in left_out[1].replace("\\", " ").split()]
    assert names
    for file, _, test in names:
        path = ROOT / "tests" / "process" / file
        assert path.is_file()
        assert not test or test.partition("[")[0] in names_in(path)
