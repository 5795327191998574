"""Tracebacks, and their suggestions for a misspelt name."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from zwoole import Server
from zwoole.shared.process.log import JSONFormatter, LineFormatter
from zwoole.shared.process.tracebacks import print_users_part, text_of, users_part


def raised_by(source: str, server: object) -> BaseException:
    """Return the exception that a line of the app raises."""
    try:
        exec(source, {"server": server})
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def last_line(error: BaseException) -> str:
    return text_of(type(error), error, error.__traceback__).splitlines()[-1]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("server.psuh(1, 'a')", "push"),
        ("server.pushh", "push"),
        ("server.brodcast('a')", "broadcast"),
        ("server.sendMesage(1, 2)", "send_message"),
        ("server.retirng", "retiring"),
    ],
)
def test_a_name_that_was_mistyped_is_answered_with_the_right_one(source: str, name: str) -> None:
    line = last_line(raised_by(source, Server()))
    assert line.lower().count("did you mean") == 1
    assert repr(name) in line


def test_a_server_lists_the_names_that_it_has() -> None:
    names = dir(Server())
    assert {"push", "send_message", "settings", "start"} <= {*names}
    assert all(hasattr(Server(), name) for name in names)
    assert "sendMessage" not in names


class Chat(Server):
    def speak(self) -> None: ...


def test_a_class_that_the_app_derives_has_the_names_of_ours() -> None:
    assert last_line(raised_by("server.psuh()", Chat())).endswith(": did you mean 'push'?")
    assert "did you mean" not in last_line(raised_by("server.spaek()", Chat()))


class Strange:
    __module__ = None  # type: ignore[assignment]


def test_a_class_of_no_module_changes_nothing() -> None:
    assert "did you mean" not in last_line(raised_by("server.psuh()", Strange()))


@pytest.mark.parametrize("source", ["server.xyzzy()", "server.task", "1 + server", "del server.x"])
def test_nothing_is_suggested_where_nothing_is_alike(source: str) -> None:
    assert "did you mean" not in last_line(raised_by(source, Server())).lower()


def test_what_the_app_has_made_is_pythons_business() -> None:
    line = last_line(raised_by("server.psuh", SimpleNamespace(push=1)))
    assert line.startswith("AttributeError: 'types.SimpleNamespace' object has no attribute 'psuh'")
    assert "did you mean" not in line


def test_every_way_to_show_a_traceback_has_the_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    error = raised_by("server.psuh()", Server())
    print_users_part(error)
    record = logging.makeLogRecord(
        {"msg": "failed", "name": "zwoole.x", "exc_info": (type(error), error, error.__traceback__)}
    )
    shown = [LineFormatter("x").format(record), JSONFormatter("x").format(record), capsys.readouterr().err]
    assert [text.count("did you mean 'push'?") for text in shown] == [1, 1, 1]


class Meta(type):
    @property
    def __mro__(cls) -> tuple[type, ...]:  # type: ignore[override]
        raise RuntimeError("mro")


class Odd(metaclass=Meta):
    pass


class Text(str):
    __slots__ = ()

    def __repr__(self) -> str:
        raise RuntimeError("repr")


class Nameless(AttributeError):
    @property
    def name(self) -> str:  # type: ignore[override]
        raise RuntimeError("name")


class Notes(Exception):
    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        raise RuntimeError("notes")


class Traceless(Exception):
    @property
    def __traceback__(self) -> None:  # type: ignore[override]
        raise RuntimeError("traceback")


class Causeless(Exception):
    @property
    def __cause__(self) -> None:  # type: ignore[override]
        raise RuntimeError("cause")


@pytest.mark.parametrize(
    "error",
    [
        AttributeError("x has no attribute 5", name=5, obj=Server()),  # type: ignore[arg-type]
        AttributeError("x has no attribute 'psuh'", name=Text("psuh"), obj=Server()),
        AttributeError("x has no attribute 'psuh'", name="psuh", obj=Odd()),
        Nameless("odd"),
        Notes("odd"),
        Traceless("odd"),
        Causeless("odd"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_whose_own_code_fails_is_shown_all_the_same(error: Exception) -> None:
    name = type(error).__name__
    assert name in text_of(*users_part(error))
    record = logging.makeLogRecord({"msg": "failed", "name": "zwoole.x", "exc_info": users_part(error)})
    assert name in LineFormatter("x").format(record)
