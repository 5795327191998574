"""Every setting: its valid values, and the messages about invalid ones."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from zwoole.shared.errors import SettingsError, ZwooleError
from zwoole.shared.settings import KIB, LOG_LEVELS, LOOPS, MIB, Settings

DEFAULTS = Settings()
FIELDS = {field.name: (type(getattr(DEFAULTS, field.name)), field.metadata) for field in fields(Settings)}
BOUNDS = [(name, kind, meta["low"], meta["high"]) for name, (kind, meta) in FIELDS.items() if kind in (int, float)]
OTHER_TYPES: dict[type, list[Any]] = {
    int: ["1", 1.5, 2.0, None, True, [1], b"1"],
    float: ["1", None, True, [1.0]],
    str: [1, None, b"127.0.0.1", True],
    bool: [1, 0, "yes", None],
    tuple: [1, None, {"a": 1}, ["a", 1], ["a", ""], "", b"a"],
}


def refusal(**given: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        DEFAULTS.update(given)
    return str(caught.value)


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_says_what_it_means_and_its_default_is_one_it_may_have(name: str) -> None:
    assert FIELDS[name][1]["doc"]
    assert DEFAULTS.update({name: getattr(DEFAULTS, name)}) == DEFAULTS


@pytest.mark.parametrize(("name", "kind", "low", "high"), BOUNDS, ids=[bounds[0] for bounds in BOUNDS])
def test_a_number_may_be_anything_between_its_bounds(name: str, kind: type, low: float, high: float) -> None:
    for value in (low, high, (low + high) // 2):
        changed = getattr(DEFAULTS.update({name: kind(value)}), name)
        assert (type(changed), changed) == (kind, value)
    for value in (low - 1, high + 1, -1e9, 1e15):
        assert refusal(**{name: kind(value)}) == f"{name} must be from {low} to {high}, not {kind(value)!r}"


@pytest.mark.parametrize(
    ("name", "wrong"), [(name, wrong) for name, (kind, _) in FIELDS.items() for wrong in OTHER_TYPES[kind]]
)
def test_a_value_of_another_type_is_refused(name: str, wrong: Any) -> None:
    assert refusal(**{name: wrong}).startswith(f"{name} must be ")
    assert refusal(**{name: wrong}).endswith(f", not {wrong!r}")


@pytest.mark.parametrize("name", [name for name, (kind, _) in FIELDS.items() if kind is float])
def test_a_number_of_seconds_may_be_written_as_an_integer_but_not_as_nothing(name: str) -> None:
    changed = getattr(DEFAULTS.update({name: 5}), name)
    assert (type(changed), changed) == (float, 5.0)
    for value in (float("nan"), float("inf"), float("-inf")):
        assert refusal(**{name: value}).startswith(f"{name} must be from ")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("worker_nu", "worker_num"), ("workers_num", "worker_num"), ("package_max_lenght", "package_max_length")],
)
def test_an_unknown_setting_is_refused_with_the_one_that_was_meant(name: str, meant: str) -> None:
    assert refusal(**{name: 1}) == f"unknown setting {name!r}: did you mean {meant!r}?"


def test_a_setting_that_resembles_none_is_refused_without_a_guess() -> None:
    assert refusal(zzz=1) == "unknown setting 'zzz'"


def test_a_refusal_is_one_of_zwooles_errors() -> None:
    assert issubclass(SettingsError, ZwooleError)


@pytest.mark.parametrize("level", LOG_LEVELS)
def test_a_log_level_is_one_of_four(level: str) -> None:
    assert DEFAULTS.update({"log_level": level}).log_level == level
    assert (
        refusal(log_level=level.upper())
        == f"log_level must be one of debug, info, warning, error, not {level.upper()!r}"
    )


@pytest.mark.parametrize("loop", LOOPS)
def test_the_loop_is_asyncios_or_uvloop(loop: str) -> None:
    assert DEFAULTS.loop == "asyncio"
    assert DEFAULTS.update({"loop": loop}).loop == loop
    assert refusal(loop="trio") == "loop must be one of asyncio, uvloop, not 'trio'"


def test_an_update_changes_a_copy_and_only_what_it_names() -> None:
    changed = DEFAULTS.update({"port": 9000}).update({"worker_num": 3})
    assert changed.as_dict() == {**DEFAULTS.as_dict(), "port": 9000, "worker_num": 3}
    assert DEFAULTS.port == Settings().port
    with pytest.raises(FrozenInstanceError):
        changed.port = 1  # type: ignore[misc]


def test_settings_survive_their_way_between_processes() -> None:
    changed = DEFAULTS.update({"host": "::1", "close_timeout": 0.5})
    assert Settings().update(changed.as_dict()) == changed


@pytest.mark.parametrize("name", ["host", "admin_host"])
@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("127.0.0.1:9150", "127.0.0.1"),
        ("ws://127.0.0.1", "127.0.0.1"),
        ("wss://chat.example.com:443/chat", "chat.example.com"),
        ("http://[::1]:80/", "::1"),
        ("localhost:http", "localhost"),
        ("localhost:", "localhost"),
        ("localhost/chat", "localhost"),
        ("[::1]", "::1"),
        ("[::1]:80", "::1"),
        (":80", "0.0.0.0"),
        ("ws://", "0.0.0.0"),
    ],
)
def test_a_host_has_no_scheme_and_no_port(name: str, given: str, host: str) -> None:
    said = f"{name} is a name or an address, without scheme and port: write {host!r}, not {given!r}"
    assert refusal(**{name: given}) == said
    assert getattr(DEFAULTS.update({name: host}), name) == host


@pytest.mark.parametrize("host", ["::", "::1", "2001:db8::1", "::ffff:127.0.0.1", "fe80::1%eth0", "localhost", "a.b"])
def test_names_and_addresses_of_both_kinds_are_hosts(host: str) -> None:
    assert DEFAULTS.update({"host": host}).host == host


@pytest.mark.parametrize("name", [5, None, b"port", ("port",)])
def test_the_name_of_a_setting_is_text(name: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        DEFAULTS.update({name: 1})
    assert str(caught.value) == f"a setting's name must be a string, not {name!r}"


@pytest.mark.parametrize(
    ("package_max_length", "socket_buffer_size", "limit"),
    [(125, 0, 2 * MIB), (MIB, 0, 2 * MIB), (3 * MIB, 0, 6 * MIB), (3 * MIB, 5 * KIB, 5 * KIB)],
)
def test_the_output_limit_follows_the_largest_message_unless_it_is_set(
    package_max_length: int, socket_buffer_size: int, limit: int
) -> None:
    given = {"package_max_length": package_max_length, "socket_buffer_size": socket_buffer_size}
    assert DEFAULTS.update(given).output_limit == limit


@pytest.mark.parametrize(("package_max_length", "fragments"), [(125, 1024), (16 * KIB, 1024), (MIB, 65536)])
def test_the_number_of_fragments_follows_the_largest_message(package_max_length: int, fragments: int) -> None:
    assert DEFAULTS.update({"package_max_length": package_max_length}).max_fragments == fragments


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({}, ""),
        ({"buffer_high_watermark": 1000, "socket_buffer_size": 1000, "buffer_low_watermark": 999}, ""),
        ({"buffer_high_watermark": 1001, "socket_buffer_size": 1000}, "buffer_high_watermark (1001) must not be above"),
        ({"buffer_high_watermark": 3 * MIB}, f"must not be above the {2 * MIB} bytes"),
        ({"buffer_high_watermark": 1000, "buffer_low_watermark": 1000}, "buffer_low_watermark (1000) must be below"),
        ({"socket_buffer_size": 1000, "buffer_low_watermark": 800}, "must be below the 800 bytes"),
    ],
)
def test_a_queue_can_pass_both_watermarks(given: dict[str, int], fault: str) -> None:
    settings = DEFAULTS.update(given)
    if not fault:
        settings.check_watermarks()
        return
    with pytest.raises(SettingsError) as info:
        settings.check_watermarks()
    assert fault in str(info.value)


def test_changes_of_settings_are_said_in_words_and_secrets_are_not() -> None:
    running = Settings().update({"worker_num": 2, "admin_token": "old", "host": "127.0.0.1", "log_file": "/tmp/a/log"})
    file = running.update({"worker_num": 4, "admin_token": "new", "host": "::", "log_file": "/tmp/b/../a/log"})
    changes = ["host '127.0.0.1' -> '::'", "worker_num 2 -> 4", "admin_token has another value"]
    assert running.changes(file.update({"log_file": "/tmp/a/log"}), ()) == changes
    assert running.changes(file.update({"log_file": "/tmp/a/log"}), ["host", "worker_num", "admin_token"]) == []
    assert running.changes(running, ()) == []


def test_a_path_is_the_same_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    running = Settings().update({"log_file": str(tmp_path / "log")})
    assert running.changes(Settings().update({"log_file": "log"}), ()) == []
    assert len(running.changes(Settings(), ())) == 1


def test_a_long_value_is_cut() -> None:
    many = Settings().update({"allowed_origins": [f"https://{number}.example.com" for number in range(1000)]})
    (change,) = Settings().changes(many, ())
    assert len(change) < 200
