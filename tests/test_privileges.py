"""Becoming another user."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from zwoole.privileges import drop
from zwoole.shared.errors import StartError

BECOMES = """
import os
from zwoole.privileges import drop
drop({!r}, {!r})
print(os.getresuid(), os.getresgid(), os.getgroups())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("group", ["", "daemon"])
def test_root_becomes_another_for_good(group: str) -> None:
    import grp
    import pwd

    nobody = pwd.getpwnam("nobody")
    gid = grp.getgrnam(group).gr_gid if group else nobody.pw_gid
    program = BECOMES.format("nobody", group)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == f"{(nobody.pw_uid,) * 3} {(gid,) * 3} {[gid]}\n"


def test_unknown_names_are_said() -> None:
    with pytest.raises(StartError, match="there is no user 'no such user'"):
        drop("no such user", "")
    with pytest.raises(StartError, match="there is no group 'no such group'"):
        drop("", "no such group")


def test_others_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "initgroups", refuse)
    with pytest.raises(StartError, match="only root may become user 'nobody'"):
        drop("nobody", "")
