"""The tables of the messages on the control socket: what each may say, and which function handles it.

Each part of the supervisor registers in two tables what it handles: requests of the zwoole command (`Requests`), and
reports of the server's own processes (`Reports`). `ControlServer` checks every message against them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol


class BadRequest(Exception):
    """A message that cannot be acted on; the text says why."""


class Answer(Protocol):
    """Answers a request, once."""

    def __call__(self, *, result: Any = None, error: str = "") -> None:
        """Send the result, or why there is none."""


def no_answer(*, result: Any = None, error: str = "") -> None:
    """Discard the answer: the request has come as a signal."""


class Field(NamedTuple):
    """What one field of a message may be.

    Attributes:
        kinds: its types; `bool` does not count as a number.
        low: the smallest number.
        high: the largest number.
        optional: whether it may be missing.
        called: what it is called in an error, "" for its name.
    """

    kinds: tuple[type, ...]
    low: float = 0
    high: float = 0
    optional: bool = False
    called: str = ""

    def check(self, name: str, value: Any) -> None:
        """Raise BadRequest if the value is not what it may be."""
        name = self.called or name
        if type(value) not in self.kinds:
            names = " or ".join(kind.__name__.replace("NoneType", "None") for kind in self.kinds)
            raise BadRequest(f"{name} must be {names}, not {type(value).__name__}")
        if isinstance(value, int | float) and type(value) is not bool and not self.low <= value <= self.high:
            raise BadRequest(f"{name} must be from {self.low} to {self.high}, not {value}")


Fields = dict[str, Field]

NUMBER = Field((int,), 0, 1 << 62)


class Request(NamedTuple):
    """A request of the zwoole command.

    Attributes:
        fields: what it may say.
        carry_out: does it: (answer, fields). It may raise BadRequest, if it has changed nothing.
    """

    fields: Fields
    carry_out: Callable[..., None]


class Report(NamedTuple):
    """A message of a process of the server; its role says whether the process may send it.

    Attributes:
        fields: what it may say.
        act: acts on it: (process, fields).
    """

    fields: Fields
    act: Callable[..., None]


Requests = dict[str, Request]
Reports = dict[str, Report]


def check(kind: str, fields: Fields, given: dict[str, Any]) -> None:
    """Check the fields of a message.

    Args:
        kind: the name of the message, for the error.
        fields: what it may say.
        given: what it says.

    Raises:
        BadRequest: a field is missing, unknown, of another type, or out of bounds.
    """
    for name, value in given.items():
        if name not in fields:
            raise BadRequest(f"{kind!r} has no field {str(name)[:40]!r}")
        fields[name].check(name, value)
    for name, field in fields.items():
        if name not in given and not field.optional:
            raise BadRequest(f"{kind!r} needs a field {name!r}")
