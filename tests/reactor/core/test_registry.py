"""All connections of one reactor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from zwoole.reactor.core.registry import Registry
from zwoole.shared.memory import mapping
from zwoole.shared.memory.connection_table import ConnectionTable


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    descriptor = mapping.anonymous("table", tmp_path)
    yield Registry(ConnectionTable.create(descriptor, 100, 1), 0, 1)
    os.close(descriptor)


def test_all_are_those_with_a_socket_and_those_that_are_being_finished(registry: Registry) -> None:
    first, second, third = (registry.add(descriptor, "192.0.2.1", 1) for descriptor in (10, 11, 12))
    assert (list(registry), registry.all()) == ([first, second, third], [first, second, third])
    registry.forget_socket(second)
    again = registry.add(11, "192.0.2.1", 1)
    assert list(registry) == [first, third, again]
    assert registry.all() == [first, third, again, second]
    assert registry.find(second.fd) is second
    registry.remove(second)
    registry.forget_socket(first)
    registry.remove(first)
    assert registry.all() == [third, again]
    assert registry.find(second.fd) is None


def test_the_places_that_are_free_cost_nothing(registry: Registry) -> None:
    """There are as many as the machine allows, and scanning them must not hold up the loop."""

    class Places(list[object]):
        def __iter__(self) -> object:  # type: ignore[override]
            raise AssertionError("all places are looked at")

    connection = registry.add(10, "192.0.2.1", 1)
    if hasattr(registry, "_slots"):  # uncompiled
        registry._slots = Places(registry._slots)  # type: ignore[arg-type]
    assert registry.all() == [connection]
