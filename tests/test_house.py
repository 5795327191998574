"""The folders are the architecture: which may import which. No module imports itself by way of others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CIMPORT = re.compile(r"^from (zwoole[\w.]*) cimport", re.MULTILINE)

SHARED = ("shared", "shared.websocket", "shared.wire", "shared.memory", "shared.process")
SUPERVISORS = ("core", "system", "admin", "lifecycle", "control")
# What each folder may import besides itself. The front door and the peers of the comparison may import everything.
ARROWS: dict[str, tuple[str, ...]] = {
    "shared": (),
    "shared.process": ("shared",),
    "shared.websocket": ("shared",),
    "shared.memory": ("shared", "shared.process"),
    "shared.wire": ("shared", "shared.websocket", "shared.memory", "shared.process"),
    "reactor.core": SHARED,
    "reactor.routing": (*SHARED, "reactor.core"),
    "reactor.clients": (*SHARED, "reactor.core", "reactor.routing"),
    "reactor.sending": (*SHARED, "reactor.core", "reactor.routing", "reactor.clients"),
    "reactor.pool": (*SHARED, "reactor.core", "reactor.routing", "reactor.clients", "reactor.sending"),
    "reactor": (*SHARED, "reactor.core", "reactor.routing", "reactor.clients", "reactor.sending", "reactor.pool"),
    "workers.core": SHARED,
    "workers.links": (*SHARED, "workers.core"),
    "workers.invocation": (*SHARED, "workers.core", "workers.links"),
    "workers": (*SHARED, "workers.core", "workers.links", "workers.invocation"),
    "supervisor.core": SHARED,
    "supervisor.system": (*SHARED, "supervisor.core"),
    "supervisor.admin": (*SHARED, "supervisor.system"),
    "supervisor.lifecycle": (*SHARED, "supervisor.core", "supervisor.system"),
    "supervisor.control": (*SHARED, "supervisor.core", "supervisor.system", "supervisor.lifecycle"),
    "supervisor": (*SHARED, "workers", *(f"supervisor.{name}" for name in SUPERVISORS)),
    "supervisor.start": (*SHARED, "workers", "supervisor.core", "supervisor.system", "supervisor"),
    "bench.loadtest": ("shared", "shared.process", "version"),
    "bench.compare": ("bench.loadtest", "version"),
}
FREE = ("", "commands", "bench.peers")


def sources() -> dict[str, list[Path]]:
    """Return the files of every module by its name: the Python source, and the `.pxd` with its types if there is
    one.
    """
    found: dict[str, list[Path]] = {}
    for folder, package in (*((ROOT / top, top) for top in ("shared", "reactor", "workers", "supervisor", "bench")),):
        for file in sorted(folder.glob("**/*.p*")):
            if file.suffix in (".py", ".pxd") and "micro" not in file.parts:
                found.setdefault(".".join((package, *file.relative_to(folder).with_suffix("").parts)), []).append(file)
    door = ROOT / "src" / "zwoole"
    for file in (*door.glob("*.py"), *door.glob("commands/*.py")):
        found[".".join(file.relative_to(door).with_suffix("").parts)] = [file]
    return {name.removesuffix(".__init__"): files for name, files in found.items()}


SOURCES = sources()


def named_by(file: Path) -> Iterator[str]:
    """Yield the names that a file imports or cimports anywhere, dotted and without `zwoole.`"""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".pxd":
        yield from (name.removeprefix("zwoole.") for name in CIMPORT.findall(text))
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("zwoole.") for alias in node.names if alias.name.startswith("zwoole."))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute in this project"
            package = (node.module or "").removeprefix("cython.cimports.")
            if package == "zwoole" or package.startswith("zwoole."):
                yield from (f"{package}.{alias.name}".removeprefix("zwoole.") for alias in node.names)


def imports_of(module: str) -> set[str]:
    """Return the modules that a module imports."""
    found = set()
    for file in SOURCES[module]:
        for name in named_by(file):
            while name and name not in SOURCES:
                name = name.rpartition(".")[0]
            found.add(name or "__init__")
    return found - {module}


GRAPH = {module: imports_of(module) for module in SOURCES}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the nodes of one circle in a graph, in order; empty if there is none."""
    done: set[str] = set()

    def walk(node: str, way: list[str]) -> list[str]:
        if node in way:
            return way[way.index(node) :]
        if node not in done:
            for other in sorted(graph.get(node, ())):
                if found := walk(other, [*way, node]):
                    return found
            done.add(node)
        return []

    for node in sorted(graph):
        if found := walk(node, []):
            return found
    return []


def folder_of(module: str) -> str:
    """Return the folder that contains a module; a front-door module that others use counts as its own folder."""
    if module == "version" or SOURCES[module][0].name == "__init__.py":
        return module
    return module.rpartition(".")[0]


@pytest.mark.parametrize("folder", ARROWS)
def test_a_folder_imports_only_what_lies_below_it(folder: str) -> None:
    inside = [module for module in SOURCES if folder_of(module) == folder]
    assert inside
    allowed = {folder, *ARROWS[folder]}
    wrong = {module: [to for to in sorted(GRAPH[module]) if folder_of(to) not in allowed] for module in inside}
    assert {module: to for module, to in wrong.items() if to} == {}


def test_every_folder_has_its_arrows() -> None:
    assert {folder_of(module) for module in SOURCES} - {"version", "__init__", "bench"} <= {*ARROWS, *FREE}


def in_words(folders: tuple[str, ...]) -> str:
    """Return folders as the architecture page has them: `shared/**` stands for all of shared."""
    left = [folder for folder in folders if folder not in SHARED] if set(SHARED) <= set(folders) else list(folders)
    names = ["`shared/**`"] if len(left) < len(folders) else []
    return ", ".join(
        names + [f"`{folder.replace('.', '/')}{'.py' if folder == 'version' else '/'}`" for folder in left]
    )


def test_the_architecture_page_shows_these_arrows() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.split("| folder | imports |\n|---|---|\n")[1].split("\n\n")[0]
    expected = [f"| {in_words((folder,))} | {in_words(allowed) or '-'} |" for folder, allowed in ARROWS.items()]
    assert table.split("\n") == expected


def test_the_arrows_make_no_circle() -> None:
    assert circle({folder: set(to) for folder, to in ARROWS.items()}) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Not even for types: imports below `if TYPE_CHECKING` count too."""
    assert circle(GRAPH) == []


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}, []),
        ({"a": {"b"}, "b": {"a"}}, ["a", "b"]),
        ({"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"b"}}, ["b", "c", "d"]),
        ({"a": {"a"}}, ["a"]),
    ],
)
def test_a_circle_is_found(graph: dict[str, set[str]], expected: list[str]) -> None:
    assert circle(graph) == expected
