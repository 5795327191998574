"""Telling the service manager, or the process that waits for a daemon, how the server is: sd_notify(3)."""

from __future__ import annotations

import os
import re
import socket
import time

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


class Notifier:
    """Sends states to the socket that NOTIFY_SOCKET names; without one it does nothing.

    Attributes:
        watchdog_s: how often the manager wants to hear from us, in seconds; 0: never.
    """

    def __init__(self) -> None:
        """Take the variables out of the environment: they are meant for this process only."""
        address = os.environ.pop("NOTIFY_SOCKET", "")
        asked, meant = os.environ.pop("WATCHDOG_USEC", ""), os.environ.pop("WATCHDOG_PID", str(os.getpid()))
        self._address = "\0" + address[1:] if address.startswith("@") else address
        is_for_us = re.fullmatch("[0-9]{1,20}", asked) and meant == str(os.getpid())
        self.watchdog_s = int(asked) / 1e6 if is_for_us else 0.0

    def send(self, state: str) -> None:
        """Send lines of the form NAME=value. If the manager is gone or slow, they are dropped."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            try:
                sender.sendto(state.encode(), self._address)
            except OSError:
                pass

    def reloading(self) -> None:
        """Say that a reload begins; READY ends it."""
        self.send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
