"""Servers for tests with real processes; nothing of them is left when their test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.process.server_process import ServerProcess

Serve = Callable[..., ServerProcess]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients connect directly to the server, however the machine is configured."""
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts a server and waits until it serves; it takes the arguments of ServerProcess."""
    with ExitStack() as servers:
        yield lambda *app, **settings: servers.enter_context(ServerProcess(*app, **settings)).serve()
