"""Becoming another user."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import subprocess
import sys

import pytest

from zwoole.shared.errors import StartError
from zwoole.supervisor.start.privileges import drop, find_user

FREE_ID = max(entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid < 60_000) + 1_000
BECOMES = """
import os
from zwoole.supervisor.start.privileges import drop, find_user
drop({!r}, {!r})
print(os.getresuid(), os.getresgid(), os.getgroups())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("group", ["", "daemon"])
def test_root_becomes_another_for_good(group: str) -> None:
    nobody = pwd.getpwnam("nobody")
    gid = grp.getgrnam(group).gr_gid if group else nobody.pw_gid
    program = BECOMES.format("nobody", group)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == f"{(nobody.pw_uid,) * 3} {(gid,) * 3} {[gid]}\n"


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize(("group", "gid"), [("", FREE_ID), ("54321", 54321), ("daemon", None)])
def test_a_number_need_be_in_no_list_of_users(group: str, gid: int | None) -> None:
    gid = grp.getgrnam(group).gr_gid if gid is None else gid
    program = BECOMES.format(str(FREE_ID), group) + "print(os.environ['HOME'])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == f"{(FREE_ID,) * 3} {(gid,) * 3} {[gid]}\n/\n"


def test_a_number_that_is_in_the_list_of_users_is_that_user() -> None:
    nobody = pwd.getpwnam("nobody")
    assert find_user(str(nobody.pw_uid)) == find_user("nobody") == nobody


@pytest.mark.parametrize("name", ["no such user", "-1", "1.5", str(2**32 - 1), "²", "9" * 5000])
def test_unknown_names_are_said(name: str) -> None:
    with pytest.raises(StartError, match=f"there is no user {name!r}"):
        drop(name, "")
    with pytest.raises(StartError, match=f"there is no group {name!r}"):
        drop("", name)


@pytest.mark.parametrize("error", [errno.EPERM, errno.EINVAL], ids=errno.errorcode.get)
@pytest.mark.parametrize(
    ("uid", "message"),
    [
        (1, "only root may become user 'nobody' and group 'daemon'"),
        (0, "root may not become user 'nobody' and group 'daemon' here: {}"),
    ],
)
def test_who_may_not_is_told_why(monkeypatch: pytest.MonkeyPatch, uid: int, message: str, error: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "initgroups", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    with pytest.raises(StartError) as caught:
        drop("nobody", "daemon")
    assert str(caught.value) == message.format(os.strerror(error))
