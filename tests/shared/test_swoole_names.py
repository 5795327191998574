"""Names of Swoole that zwoole does not have."""

from __future__ import annotations

from dataclasses import fields

import pytest

from zwoole import Server
from zwoole.shared.errors import SettingsError
from zwoole.shared.settings import Settings
from zwoole.shared.swoole_names import EVENTS, METHODS, SETTINGS
from zwoole.workers.callbacks import EVENTS as OUR_EVENTS

OUR_SETTINGS = {field.name for field in fields(Settings)}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("task_worker_num", "unknown setting 'task_worker_num', which Swoole has: zwoole has no task workers"),
        ("ssl_cert_file", "unknown setting 'ssl_cert_file', which Swoole has: zwoole does not speak TLS"),
        ("ssl_sni_certs", "which Swoole has: zwoole does not speak TLS"),
        ("heartbeat_check_interval", "which Swoole has: zwoole sends pings; see `ping_interval`"),
        ("websocket_subprotocol", "the setting is named `subprotocols`"),
        ("workerNum", "unknown setting 'workerNum': it is named 'worker_num'"),
        ("wroker_num", "unknown setting 'wroker_num': did you mean 'worker_num'?"),
    ],
)
def test_an_unknown_setting_is_answered_with_what_is_true(name: str, words: str) -> None:
    with pytest.raises(SettingsError) as info:
        Settings().update({name: 1})
    assert words in str(info.value)


def test_what_is_said_to_be_missing_is() -> None:
    assert not set(SETTINGS) & OUR_SETTINGS
    assert not set(EVENTS) & set(OUR_EVENTS)
    assert not any(hasattr(Server, name) for name in METHODS)


@pytest.mark.parametrize("why", sorted({*SETTINGS.values(), *EVENTS.values(), *METHODS.values()}))
def test_what_an_explanation_names_is_there(why: str) -> None:
    for name in why.split("`")[1::2]:
        known = OUR_SETTINGS | set(OUR_EVENTS) | {name for name in dir(Server) if hasattr(Server, name)}
        assert name in known or not name.isidentifier() or name.startswith("zwoole"), name
