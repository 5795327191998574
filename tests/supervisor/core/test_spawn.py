"""The command lines of new processes."""

from __future__ import annotations

import sys

from zwoole.supervisor.core.spawn import interpreter_flags, run_module


def test_a_module_is_run_without_the_current_folder_on_its_path() -> None:
    arguments = run_module("zwoole.reactor")
    assert arguments == ["-P", "-m", "zwoole.reactor"] if sys.version_info >= (3, 11) else arguments[0] == "-c"


def test_interpreter_flags_are_strings() -> None:
    assert all(isinstance(flag, str) for flag in interpreter_flags())
