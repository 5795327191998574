"""All connections of one reactor."""

from __future__ import annotations

from pathlib import Path

from zwoole.reactor.registry import Registry
from zwoole.shared.table import ConnectionTable


def test_all_are_those_with_a_socket_and_those_that_are_being_finished(tmp_path: Path) -> None:
    registry = Registry(ConnectionTable.create(tmp_path / "table", 100, 1), 0, 1)
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


def test_the_places_that_are_free_cost_nothing(tmp_path: Path) -> None:
    """There are as many as the machine allows, and the loop must not be held up by them."""

    class Places(list[object]):
        def __iter__(self) -> object:  # type: ignore[override]
            raise AssertionError("all places are looked at")

    registry = Registry(ConnectionTable.create(tmp_path / "table", 100, 1), 0, 1)
    connection = registry.add(10, "192.0.2.1", 1)
    if hasattr(registry, "_slots"):  # uncompiled
        registry._slots = Places(registry._slots)  # type: ignore[arg-type]
    assert registry.all() == [connection]
