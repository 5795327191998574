"""Becoming another user, once what needs privileges is done."""

from __future__ import annotations

import grp
import os
import pwd
import sys

from zwoole.shared.errors import StartError


def drop(user: str, group: str) -> None:
    """Become `user` and `group`; "" leaves the one as it is, or takes the user's group.

    Raises:
        StartError: there is none of that name, or this process may not.
    """
    try:
        entry = pwd.getpwnam(user) if user else None
    except KeyError:
        raise StartError(f"there is no user {user!r}") from None
    try:
        gid = grp.getgrnam(group).gr_gid if group else entry.pw_gid if entry else os.getgid()
    except KeyError:
        raise StartError(f"there is no group {group!r}") from None
    try:
        if entry is not None:
            os.initgroups(user, gid)
        elif group:
            os.setgroups([gid])
        os.setgid(gid)
        if entry is not None:
            os.setuid(entry.pw_uid)
            os.environ["HOME"] = entry.pw_dir
    except PermissionError:
        raise StartError(f"only root may become user {user!r}, group {group!r}") from None


def check_python() -> None:
    """Check that this user may run the Python that this process is: every other process of the server will be it.

    Raises:
        StartError: it may not.
    """
    if not os.access(sys.executable, os.X_OK):
        name = pwd.getpwuid(os.getuid()).pw_name
        raise StartError(f"user {name!r} may not run {sys.executable}: open its folders to that user")
