"""What every test runs under."""

from __future__ import annotations

import logging

import pytest
from hypothesis import settings

settings.register_profile("zwoole", deadline=None)  # shared cores are slow at times, which proves nothing
settings.load_profile("zwoole")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """Return what zwoole logs, also where a test before has set logging up."""
    logger = logging.getLogger("zwoole")
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "handlers", [])
    caplog.set_level(logging.INFO, "zwoole")
    return caplog
