"""Becoming another user, after the work that needs privileges."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import sys

from zwoole.shared.errors import StartError

HIGHEST_ID = 2**32 - 2  # the next number stands for no user


def drop(user: str, group: str) -> None:
    """Become another user and group.

    Args:
        user: a name or a number; "" leaves the user as it is.
        group: a name or a number; "" takes the user's group, or leaves the group as it is.

    Raises:
        StartError: there is no such user or group, or this process may not become it.
    """
    entry = find_user(user) if user else None
    gid = find_group(group) if group else entry.pw_gid if entry else os.getgid()
    try:
        if entry is not None and entry.pw_name:
            os.initgroups(entry.pw_name, gid)
        elif user or group:
            os.setgroups([gid])
        os.setgid(gid)
        if entry is not None:
            os.setuid(entry.pw_uid)
            os.environ["HOME"] = entry.pw_dir
    except OSError as error:
        wanted = " and ".join(f"{kind} {name!r}" for kind, name in (("user", user), ("group", group)) if name)
        if os.geteuid() != 0:
            raise StartError(f"only root may become {wanted}") from None
        raise StartError(f"root may not become {wanted} here: {error.strerror}") from None


def find_user(user: str) -> pwd.struct_passwd:
    """Return the entry of a user. A number without an entry, as in a container, stands for a user and a group.

    Raises:
        StartError: there is none.
    """
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(user)
    uid = number(user)
    if uid is None:
        raise StartError(f"there is no user {user!r}")
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid)
    return pwd.struct_passwd(("", "x", uid, uid, "", "/", ""))


def find_group(group: str) -> int:
    """Return the number of a group.

    Raises:
        StartError: there is none.
    """
    with contextlib.suppress(KeyError):
        return grp.getgrnam(group).gr_gid
    gid = number(group)
    if gid is None:
        raise StartError(f"there is no group {group!r}")
    return gid


def number(text: str) -> int | None:
    """Return the user or group id that a text is, None if it is none."""
    return int(text) if re.fullmatch("[0-9]{1,10}", text) and int(text) <= HIGHEST_ID else None


def check_python(user: str) -> None:
    """Check that this process, which has become `user`, may run the Python that all other processes run.

    Raises:
        StartError: it may not.
    """
    if not os.access(sys.executable, os.X_OK):
        raise StartError(f"user {user!r} may not run {sys.executable}: open its folders to that user")
