"""The build under test is the intended one, and its types were applied."""

from __future__ import annotations

import ast
import importlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from zwoole.commands.about import version
from zwoole.shared import build
from zwoole.shared.websocket import mask
from zwoole.version import VERSION

ROOT = Path(__file__).parent.parent
EXPECTED = os.environ.get("ZWOOLE_EXPECT_BUILD")


def compiled_modules() -> list[str]:
    """Return the list in setup.py without running it."""
    for statement in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "COMPILED":
            names: list[str] = ast.literal_eval(statement.value)
            return names
    raise AssertionError("setup.py has no COMPILED")


def source_of(module: str) -> Path:
    return (ROOT / "src" / module.replace(".", "/")).with_suffix(".py")


MODULES = compiled_modules()


def private_attributes() -> Iterator[tuple[str, str, list[str]]]:
    """Yield (module, class, attributes that only C sees), as declared in the .pxd files."""
    for module in MODULES:
        declarations = source_of(module).with_suffix(".pxd").read_text()
        for name, body in re.findall(r"^cdef class (\w+).*:\n((?:[ ].*\n|\n)*)", declarations, re.MULTILINE):
            attributes = re.findall(r"^    cdef (?!public|readonly)[^(\n]*?(\w+)$", body, re.MULTILINE)
            if attributes:
                yield module, name, attributes


PRIVATE = list(private_attributes())


@pytest.mark.skipif(EXPECTED is None, reason="ZWOOLE_EXPECT_BUILD is not set")
@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_loaded_from_the_build_that_was_asked_for(module: str) -> None:
    assert EXPECTED in ("compiled", "pure")
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).suffix == {"compiled": ".so", "pure": ".py"}[EXPECTED]


@pytest.mark.parametrize("module", MODULES)
def test_one_build_has_all_modules(module: str) -> None:
    spec = find_spec(module)
    assert spec is not None
    assert str(spec.origin).endswith(".so") == mask.COMPILED


@pytest.mark.parametrize(("module", "name", "attributes"), PRIVATE, ids=[f"{m}.{n}" for m, n, _ in PRIVATE])
def test_private_attributes_are_invisible_just_where_types_were_applied(
    module: str, name: str, attributes: list[str]
) -> None:
    both = {"__dict__", "__weakref__"} & set(attributes)  # declared, so that either build has them
    visible = vars(getattr(importlib.import_module(module), name)).keys() & ({"__dict__", *attributes} - both)
    assert bool(visible) is not mask.COMPILED


def test_the_classes_that_carry_the_bytes_are_among_those() -> None:
    names = {name for _, name, _ in PRIVATE}
    assert names >= {"Protocol", "BatchWriter", "BatchReader", "ConnectionTable", "ProgressMap"}


def test_a_module_that_is_not_there_fails_the_build(tmp_path: Path) -> None:
    script = (ROOT / "setup.py").read_text().replace("COMPILED = [", 'COMPILED = [\n    "zwoole.shared.maks",')
    (tmp_path / "setup.py").write_text(script)
    (tmp_path / "src").symlink_to(ROOT / "src")
    environment = {name: value for name, value in os.environ.items() if name != "SKIP_CYTHON"}
    run = subprocess.run(
        [sys.executable, "setup.py", "--version"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.returncode != 0
    assert "zwoole.shared.maks" in run.stderr


def test_the_modules_that_can_be_compiled_are_counted() -> None:
    assert build.count() == (len(MODULES) if mask.COMPILED else 0, len(MODULES))


@pytest.mark.parametrize(
    ("compiled", "words"),
    [
        (0, "uncompiled, several times slower"),
        (1, "partly compiled (1 of 3 modules), slower"),
        (2, "partly compiled (2 of 3 modules), slower"),
        (3, "compiled"),
    ],
)
def test_a_build_of_which_a_part_is_compiled_is_called_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: int, words: str
) -> None:
    room = tmp_path / "shared"
    room.mkdir()
    for number in range(3):
        for suffix in (".py", ".pxd", *([EXTENSION_SUFFIXES[0]] if number < compiled else [])):
            (room / f"m{number}{suffix}").touch()
    (room / "c_only.pxd").touch()
    (room / "plain.py").touch()
    assert build.count(tmp_path) == (compiled, 3)
    assert build.describe(compiled, 3) == words
    monkeypatch.setattr(build, "count", lambda: (compiled, 3))
    run = CliRunner().invoke(version, [])
    assert run.output == f"zwoole {VERSION}, {words}, {platform.python_version()}\n"
    found = json.loads(CliRunner().invoke(version, ["--json"]).output)
    assert (found["compiled"], found["modules"]) == (compiled == 3, {"compiled": compiled, "of": 3})


@pytest.mark.parametrize("module", [module for module in MODULES if "cython.compiled" in source_of(module).read_text()])
def test_a_module_with_two_bodies_runs_uncompiled_without_cython(module: str) -> None:
    script = f"import sys; sys.modules['cython'] = None; import {module}; assert {module}.cython.compiled is False"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("module", MODULES)
def test_every_compiled_module_has_types(module: str) -> None:
    assert source_of(module).with_suffix(".pxd").is_file()
