"""A wheel built from the checkout, or from its source distribution, contains everything it should and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from fnmatch import fnmatch
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from tests.test_build import MODULES

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("reactor", "workers", "shared", "supervisor", "bench", "src")
FILES = ("setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
# One of them has an HTML page that Cython did not generate; compiling all would take minutes.
TO_COMPILE = ("zwoole.shared.websocket.mask", "zwoole.bench.loadtest.pace")
GENERATED = re.compile(r"\.(c|html|so|pyc)$")
OURS = ("bench/loadtest/page.html", "bench/peers/*.c")  # files that look generated but are not
WRITTEN = ("*.py", "*.pxd", "py.typed", *OURS, *(f"bench/peers/*.{kind}" for kind in ("go", "h", "js", "php")))
UNPACKED = ("bench/micro/*", "bench/results/*")  # files that no installation contains

BUILD = """
import sys
from setuptools import build_meta
getattr(build_meta, sys.argv[1])(sys.argv[2])
"""


def is_of(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def files_in(checkout: Path) -> set[str]:
    """Return the files of a checkout in the package's folder and behind its links, by their names there."""
    door = checkout / "src" / "zwoole"
    folders = [door, *(link for link in door.iterdir() if link.is_symlink())]
    return {str(file.relative_to(door)) for folder in folders for file in folder.glob("**/*") if file.is_file()}


def written() -> set[str]:
    """Return the package's hand-written files in the checkout."""
    return {name for name in files_in(ROOT) if is_of(name, WRITTEN) and not is_of(name, UNPACKED)}


def build(folder: Path, what: str, **environment: str) -> Path:
    """Build a distribution from a folder of sources, without network access, and return its file."""
    result = folder / what
    result.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", BUILD, what, str(result)],
        cwd=folder,
        env={**os.environ, "REQUIRE_CYTHON": "1", **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = result.iterdir()
    return file


def package_files(names: Iterable[str]) -> set[str]:
    """Return the names in a wheel that belong to the package."""
    return {name.removeprefix("zwoole/") for name in names if name.startswith("zwoole/")}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the checkout that compiles two modules."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info", "build")
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    script, found = re.subn(
        r"COMPILED = \[.*?\n\]", f"COMPILED = {list(TO_COMPILE)}", (folder / "setup.py").read_text(), flags=re.DOTALL
    )
    assert found == 1
    (folder / "setup.py").write_text(script)
    for name in TO_COMPILE:  # written anew, though the checkout may have it
        (folder / "src" / name.replace(".", "/")).with_suffix(".c").unlink(missing_ok=True)
    return folder


@pytest.fixture(scope="module")
def unpacked(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the contents of the source distribution and nothing else."""
    empty = tmp_path_factory.mktemp("empty")
    with tarfile.open(build(checkout, "build_sdist", CYTHON_ANNOTATE="1")) as archive:
        archive.extractall(empty, filter="data")
    assert (checkout / "shared" / "websocket" / "mask.c").exists()
    assert (checkout / "bench" / "loadtest" / "pace.html").exists()
    (folder,) = empty.iterdir()
    return folder


def test_the_modules_that_are_compiled_here_are_some_of_those_that_always_are() -> None:
    assert set(TO_COMPILE) < set(MODULES)


def test_a_source_distribution_has_all_that_is_written_and_nothing_that_is_generated(unpacked: Path) -> None:
    files = {str(file.relative_to(unpacked)) for file in unpacked.glob("**/*") if file.is_file()}
    package = {name.removeprefix("src/zwoole/") for name in files if name.startswith("src/zwoole/")}
    assert package == written()
    assert [name for name in package if GENERATED.search(name) and not is_of(name, OURS)] == []
    about = {name for name in files if not name.startswith("src/")}
    assert about == {*FILES, "PKG-INFO"}


def test_a_wheel_of_a_source_distribution_is_compiled_and_runs(unpacked: Path, tmp_path: Path) -> None:
    wheel = build(unpacked, "build_wheel")
    with zipfile.ZipFile(wheel) as archive:
        compiled = {name.removeprefix("zwoole.").replace(".", "/") + EXTENSION_SUFFIXES[0] for name in TO_COMPILE}
        assert package_files(archive.namelist()) == written() | compiled
    target = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(target)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(target)}
    done = subprocess.run(
        [sys.executable, "-m", "zwoole", "version"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert f"partly compiled ({len(TO_COMPILE)} of {len(MODULES)} modules)" in done.stdout, done.stderr


def test_a_wheel_of_the_checkout_is_not_of_an_earlier_layout_of_it(checkout: Path) -> None:
    for name in ("reactor/loop.py", "reactor/gone/__init__.py", f"shared/ids{EXTENSION_SUFFIXES[0]}"):
        stale = checkout / "build" / "lib" / "zwoole" / name
        stale.parent.mkdir(parents=True, exist_ok=True)
        stale.touch()
    with zipfile.ZipFile(build(checkout, "build_wheel", SKIP_CYTHON="1")) as archive:
        assert package_files(archive.namelist()) == written()


def test_an_editable_installation_is_the_checkout(checkout: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(build(checkout, "build_editable", SKIP_CYTHON="1")) as archive:
        (path,) = [name for name in archive.namelist() if name.endswith(".pth")]
        assert archive.read(path).decode().strip() == str(checkout / "src")


def test_make_clean_removes_what_is_generated_and_nothing_else(checkout: Path) -> None:
    generated = [
        *(checkout / "shared" / "websocket" / f"mask{suffix}" for suffix in (".c", ".html", EXTENSION_SUFFIXES[0])),
        *(checkout / "bench" / "loadtest" / f"pace{suffix}" for suffix in (".c", ".html", EXTENSION_SUFFIXES[0])),
    ]
    for file in generated:
        file.touch()
    shutil.copy(ROOT / "Makefile", checkout)
    subprocess.run(["make", "clean"], cwd=checkout, check=True, capture_output=True)
    assert [file for file in generated if file.exists()] == []
    assert written() <= files_in(checkout)
