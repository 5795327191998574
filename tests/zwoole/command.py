"""Runs the command line in the test's own process."""

from __future__ import annotations

import sys

import pytest

from zwoole import cli


class Command:
    """Runs `zwoole`, or one of its commands if that is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *command: str) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self._command = command

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Return exit code, output and errors."""
        self._monkeypatch.setattr(sys, "argv", ["zwoole", *self._command, *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err
