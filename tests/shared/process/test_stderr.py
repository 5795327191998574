"""The line on stderr."""

from __future__ import annotations

import io
import sys

import pytest

from zwoole.shared.process.stderr import print_line


def test_the_line_names_zwoole(capsys: pytest.CaptureFixture[str]) -> None:
    print_line("no such file")
    assert capsys.readouterr().err == "zwoole: no such file\n"


class ClosedPipe(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_stream_that_takes_nothing_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", ClosedPipe())
    print_line("no such file")
