"""Stands in for Cython's module where that is not installed: the sources that import it run as they are then."""

from __future__ import annotations


class cython:
    """The part of it that is asked for outside compiled bodies."""

    compiled = False
