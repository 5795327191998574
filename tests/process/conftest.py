"""Servers for tests with real processes, each of which is gone without a trace when its test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.process.server_process import ServerProcess

Serve = Callable[..., ServerProcess]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients go straight to the server, whatever the machine is set up for."""
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts a server and waits until it serves; arguments as ServerProcess takes them."""
    with ExitStack() as servers:
        yield lambda *app, **settings: servers.enter_context(ServerProcess(*app, **settings)).serve()
