"""Which modules of this installation are compiled: all, none, or some, if the compiler failed on the others.

A module can be compiled if a `.pxd` file with its types lies beside it.
"""

from __future__ import annotations

import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

PACKAGE = Path(__file__).parent.parent


def count(package: Path = PACKAGE) -> tuple[int, int]:
    """Return how many modules of a package are compiled, and how many could be."""
    sources = [source for source in _pxd_files(package) if source.with_suffix(".py").exists()]
    compiled = [
        source for source in sources if any(source.with_suffix(suffix).exists() for suffix in EXTENSION_SUFFIXES)
    ]
    return len(compiled), len(sources)


def _pxd_files(package: Path) -> list[Path]:
    """Return the `.pxd` files of a package, following links to folders, as in a checkout."""
    return [
        Path(folder, name)
        for folder, _, names in os.walk(package, followlinks=True)
        for name in names
        if name.endswith(".pxd")
    ]


def describe(compiled: int, of: int) -> str:
    """Return the result of `count` in words."""
    if compiled == of:
        return "compiled"
    if compiled == 0:
        return "uncompiled, several times slower"
    return f"partly compiled ({compiled} of {of} modules), slower"
