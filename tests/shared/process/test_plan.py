"""The plan that every process reads."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import msgpack
import pytest

from zwoole.shared.errors import SettingsError
from zwoole.shared.process import plan as plans
from zwoole.shared.process.run_files import PLAN
from zwoole.shared.settings import Settings


def a_plan(**settings: object) -> plans.Plan:
    return plans.Plan("app.py", plans.SCRIPT, ["app.py", "-x"], ["", "/lib"], "/home", Settings().update(settings))


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = a_plan(worker_num=3, host="ä", handshake_timeout=0.5)
    plans.write(tmp_path, plan)
    assert plans.read(tmp_path) == plan


def test_paths_and_arguments_need_not_be_utf_8(tmp_path: Path) -> None:
    odd = os.fsdecode(b"/caf\xe9")
    plan = plans.Plan(f"{odd}/app.py", plans.SCRIPT, [odd], [odd], odd, Settings().update({"log_file": odd}))
    plans.write(tmp_path, plan)
    assert plans.read(tmp_path) == plan


def test_a_plan_replaces_the_one_before_and_leaves_nothing_else(tmp_path: Path) -> None:
    plans.write(tmp_path, a_plan(worker_num=3))
    plans.write(tmp_path, a_plan(worker_num=4))
    assert plans.read(tmp_path).settings.worker_num == 4
    assert [path.name for path in tmp_path.iterdir()] == [PLAN]


def test_a_plan_of_any_version_says_which_server_it_is(tmp_path: Path) -> None:
    assert plans.describe(tmp_path) == ("", [])
    plans.write(tmp_path, dataclasses.replace(a_plan(), listening=["127.0.0.1:8080"]))
    assert plans.describe(tmp_path) == ("app.py", ["127.0.0.1:8080"])
    (tmp_path / PLAN).write_bytes(msgpack.packb({"target": "app.py", "listening": ["[::1]:80"], "settings": None}))
    assert plans.describe(tmp_path) == ("app.py", ["[::1]:80"])
    for nonsense in (b"", b"\xc1", msgpack.packb([1]), msgpack.packb({"target": "app.py"})):
        (tmp_path / PLAN).write_bytes(nonsense)
        assert plans.describe(tmp_path) == ("", [])


def test_without_a_plan_reading_fails(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=PLAN):
        plans.read(tmp_path)


def test_the_settings_of_another_version_are_noticed(tmp_path: Path) -> None:
    plans.write(tmp_path, a_plan())
    fields = msgpack.unpackb((tmp_path / PLAN).read_bytes())
    fields["settings"]["of_the_future"] = 1
    (tmp_path / PLAN).write_bytes(msgpack.packb(fields))
    with pytest.raises(SettingsError, match="of_the_future"):
        plans.read(tmp_path)
