"""How a supervisor reacts to settings that its workers find changed in the app's file."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest

from zwoole.supervisor.system.changed_settings import FileSettings


def said(log: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in log.records]


def test_a_change_is_said_once_however_many_workers_find_it(log: pytest.LogCaptureFixture) -> None:
    settings = FileSettings()
    for _ in range(4):
        settings.told(["worker_num 2 -> 4"], starting=False)
    assert settings.changed == ["worker_num 2 -> 4"]
    settings.told(["worker_num 2 -> 4", "port 1 -> 2"], starting=False)
    settings.told([], starting=False)  # as it was
    assert settings.changed == []
    assert said(log) == ["needs a restart: worker_num 2 -> 4", "needs a restart: worker_num 2 -> 4, port 1 -> 2"]


def test_a_change_is_said_during_the_start_if_a_file_of_the_app_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("app")
    module.__file__ = str(tmp_path / "app.py")
    gone = ModuleType("gone")
    gone.__file__ = str(tmp_path / "gone.py")
    (tmp_path / "app.py").write_text("")
    with monkeypatch.context() as patch:
        patch.setattr("sys.modules", {"app": module, "gone": gone, "builtins": ModuleType("builtins"), "blocked": None})
        settings = FileSettings()
    settings.told(["port 5000 -> 5001"], starting=True)
    assert settings.changed == []
    os.utime(tmp_path / "app.py", times=(1000.0, 1000.0))
    settings.told(["port 5000 -> 5001", "worker_num 2 -> 4"], starting=True)
    assert settings.changed == ["worker_num 2 -> 4"]


def test_what_is_another_value_in_each_process_is_no_change(log: pytest.LogCaptureFixture) -> None:
    settings = FileSettings()
    settings.told(["port 5000 -> 5001"], starting=True)
    settings.told(["port 5000 -> 5002", "worker_num 2 -> 4"], starting=False)
    assert settings.changed == ["worker_num 2 -> 4"]
    assert said(log) == ["needs a restart: worker_num 2 -> 4"]
