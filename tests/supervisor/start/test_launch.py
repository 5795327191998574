"""Becoming a supervisor, without one."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from zwoole import Server
from zwoole.shared.errors import SettingsError, StartError
from zwoole.shared.process import plan as plans
from zwoole.shared.settings import Settings
from zwoole.supervisor.start import launch
from zwoole.supervisor.start.app_target import Target
from zwoole.supervisor.start.launch import supervise


class Supervisor:
    """Records what it was asked to run."""

    exit_code = 0
    noted: list[Any]

    def __init__(self, server: Server, plan: plans.Plan, directory: Any, listeners: Any, watched: Any) -> None:
        Supervisor.noted = [server, plan, directory]
        for listening in listeners[0]:
            listening.close()

    def run(self) -> int:
        assert self.noted[2].path.exists()
        return self.exit_code


@pytest.mark.parametrize("exit_code", [0, 3])
def test_the_effective_settings_win_and_the_run_directory_is_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, exit_code: int
) -> None:
    monkeypatch.setattr(launch, "Supervisor", Supervisor)
    monkeypatch.setattr(Supervisor, "exit_code", exit_code)
    app = Target(plans.SCRIPT, "/app.py")
    monkeypatch.setattr("zwoole.supervisor.system.run_directory.LONGEST_NAME", "")
    server = Server(worker_num=2, port=9000)
    run_dir = folder / "r"
    if exit_code:
        with pytest.raises(SystemExit) as info:
            supervise(server, {"worker_num": 5}, str(run_dir), app=app)
        assert info.value.code == exit_code
    else:
        supervise(server, {"worker_num": 5}, str(run_dir), app=app)
    _, plan, directory = Supervisor.noted
    assert plan.settings == server.settings == Settings().update({"worker_num": 5, "port": 9000})
    assert directory.path == run_dir
    assert not run_dir.exists()


def test_settings_that_exclude_each_other_are_said_before_anything_starts() -> None:
    server = Server(buffer_high_watermark=1000)
    with pytest.raises(SettingsError, match=r"buffer_low_watermark \(1000\) must be below the 1000 bytes"):
        supervise(server, {"buffer_low_watermark": 1000}, app=Target(plans.SCRIPT, "/app.py"))


def test_a_loop_that_is_not_installed_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "find_spec", lambda _: None)
    words = r"the setting loop='uvloop' needs the uvloop package: pip install 'zwoole\[uvloop\]'"
    with pytest.raises(StartError, match=words):
        supervise(Server(loop="uvloop"), app=Target(plans.SCRIPT, "/app.py"))


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS], ids=errno.errorcode.get)
def test_a_sandbox_that_forbids_to_watch_processes_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def forbidden(_: int) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "pidfd_open", forbidden)
    with pytest.raises(StartError, match=f"^pidfd_open fails \\({os.strerror(error)}\\): zwoole needs Linux 5.3"):
        supervise(Server())


def test_an_override_that_is_no_setting_is_an_error(folder: Path) -> None:
    with pytest.raises(SettingsError, match="did you mean 'worker_num'"):
        supervise(Server(), {"worker_nums": 5})


@pytest.mark.parametrize("fails", ["listen", "drop", "check_python"])
def test_a_failed_start_gives_the_pid_file_back(folder: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """`start()` may be called again then, in the same script."""

    def fail(*_: object) -> None:
        raise StartError("as the test says")

    for name in ("listen", "drop", "check_python"):
        monkeypatch.setattr(launch, name, fail if name == fails else lambda *_: [])
    monkeypatch.setattr("zwoole.supervisor.system.run_directory.LONGEST_NAME", "")
    server = Server(user="nobody", pid_file="pid")
    for _ in range(2):
        with pytest.raises(StartError, match="as the test says"):
            supervise(server, run_dir=str(folder / "r"), app=Target(plans.SCRIPT, "/app.py"))
        assert not (folder / "pid").exists()
