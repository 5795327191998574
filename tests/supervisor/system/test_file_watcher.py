"""Watching source files: which folders are watched, and which changes are reported."""

from __future__ import annotations

import queue
from pathlib import Path

import pytest

from tests.process.waiting import PATIENCE_S, wait_for
from zwoole.shared.errors import StartError
from zwoole.supervisor.system import file_watcher


def test_the_folders_are_the_current_one_and_the_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "below").mkdir(parents=True)
    here = tmp_path / "here"
    monkeypatch.chdir(here)
    assert file_watcher.folders_of("app.py") == [here]
    assert file_watcher.folders_of("below/app.py") == [here]
    assert file_watcher.folders_of("module:server") == [here]
    assert file_watcher.folders_of(str(tmp_path / "app.py")) == [here, tmp_path]


def test_changes_of_python_files_are_told_until_it_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(file_watcher, "JOIN_S", PATIENCE_S)
    told: queue.Queue[list[str]] = queue.Queue()
    watcher = file_watcher.Watcher([tmp_path], told.put)

    def is_told() -> bool:  # the first writes may come before the watches exist
        (tmp_path / "notes.txt").write_text("")
        (tmp_path / "app.py").write_text("")
        try:
            return told.get(timeout=0.2) == ["app.py"]
        except queue.Empty:
            return False

    wait_for(is_told, "a change to be told")
    watcher.stop()
    assert not watcher._thread.is_alive()


def test_without_the_package_the_option_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    file_watcher.require()
    monkeypatch.setattr(file_watcher, "watchfiles", None)
    with pytest.raises(StartError, match=r"pip install 'zwoole\[reload\]'"):
        file_watcher.require()
