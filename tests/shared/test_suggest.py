"""The "did you mean" of errors."""

from __future__ import annotations

import pytest

from zwoole.shared.suggest import did_you_mean

KNOWN = ["worker_num", "reactor_num", "port"]


@pytest.mark.parametrize(
    ("name", "meant"), [("workers_num", "worker_num"), ("workernum", "worker_num"), ("prot", "port"), ("PORT", None)]
)
def test_the_nearest_name_is_suggested(name: str, meant: str | None) -> None:
    assert did_you_mean(name, iter(KNOWN)) == ("" if meant is None else f": did you mean {meant!r}?")


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    assert did_you_mean("colour", KNOWN) == did_you_mean("", KNOWN) == did_you_mean("port", []) == ""
