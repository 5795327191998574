"""A replacement for Cython's `cython` module if that is not installed. The sources that import it then run
uncompiled.
"""

from __future__ import annotations


class cython:
    """The only part of the module that is used outside compiled bodies."""

    compiled = False
