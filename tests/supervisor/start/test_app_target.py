"""Which app a server runs."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from zwoole.shared.errors import StartError
from zwoole.shared.process import plan as plans
from zwoole.supervisor.start.app_target import current_folder, find_main, find_server

APP = """
import sys
from zwoole import Server
server = Server("127.0.0.1", 9000, worker_num=2)
server.on("message", lambda server, frame: None)
"""


def test_an_attribute_that_is_no_server_is_said(folder: Path) -> None:
    (folder / "application.py").write_text(APP)
    sys.path.insert(0, str(folder))
    for attribute in ("serve", "sys", "Server"):
        with pytest.raises(StartError, match=f"'{attribute}' in module 'application' is no Server"):
            find_server(f"application:{attribute}")
    with pytest.raises(StartError, match="did you mean 'server'"):
        find_server("application:serve")


def test_main_is_a_script_or_a_module(folder: Path) -> None:
    main = ModuleType("__main__")
    main.__spec__ = None
    with pytest.raises(StartError, match="script"):
        find_main(main)
    main.__file__ = "app.py"
    with pytest.raises(StartError, match="script"):
        find_main(main)
    (folder / "app.py").touch()
    assert find_main(main) == (plans.SCRIPT, str(folder / "app.py"))
    del main.__spec__  # as under pdb
    assert find_main(main) == (plans.SCRIPT, str(folder / "app.py"))
    main.__spec__ = pytest.__spec__
    assert find_main(main) == (plans.RUN_MODULE, "pytest")


def test_main_of_a_folder_or_an_archive_is_its_path(folder: Path) -> None:
    main = ModuleType("__main__")
    main.__spec__ = ModuleSpec("__main__", None)
    main.__file__ = str(folder / "app" / "__main__.py")
    (folder / "app").mkdir()
    assert find_main(main) == (plans.SCRIPT, str(folder / "app"))


@pytest.mark.parametrize(
    ("named", "found"),
    [("link", "link"), ("real", "real"), ("other", "real"), ("gone", "real"), ("", "real")],
)
def test_the_current_folder_has_the_name_that_the_shell_has_for_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, named: str, found: str
) -> None:
    (folder / "real").mkdir()
    (folder / "other").mkdir()
    (folder / "link").symlink_to("real")
    monkeypatch.chdir(folder / "link")
    monkeypatch.setenv("PWD", str(folder / named) if named else "")
    assert current_folder() == folder / found
