"""Which modules of this installation are compiled: all that can be, none, or some, if the compiler failed on others.

A module can be compiled if a `.pxd` with its types lies beside it.
"""

from __future__ import annotations

import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

PACKAGE = Path(__file__).parent.parent


def count(package: Path = PACKAGE) -> tuple[int, int]:
    """Return how many modules of a package are compiled, and how many there are that can be."""
    sources = [source for source in _pxd_files(package) if source.with_suffix(".py").exists()]
    compiled = [
        source for source in sources if any(source.with_suffix(suffix).exists() for suffix in EXTENSION_SUFFIXES)
    ]
    return len(compiled), len(sources)


def _pxd_files(package: Path) -> list[Path]:
    """Return the files of types in all folders of a package, also in folders that are links, as in a checkout."""
    return [
        Path(folder, name)
        for folder, _, names in os.walk(package, followlinks=True)
        for name in names
        if name.endswith(".pxd")
    ]


def describe(compiled: int, of: int) -> str:
    """Say in words what `count` has found."""
    if compiled == of:
        return "compiled"
    if compiled == 0:
        return "uncompiled, several times slower"
    return f"partly compiled ({compiled} of {of} modules), slower"
