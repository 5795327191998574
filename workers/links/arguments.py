"""Checks of the arguments of commands. They run in the caller's thread, so that the caller gets the error."""

from __future__ import annotations

import inspect
from typing import NoReturn

import msgpack

from zwoole.shared.ids import MAX_FD
from zwoole.shared.websocket.frames import OP_BINARY, OP_TEXT
from zwoole.shared.websocket.mask import is_utf8

_MAX_FD = MAX_FD  # a C number in the compiled module


def check_int(name: str, value: object) -> None:
    """Check an argument that must be an integer.

    Raises:
        TypeError: it is not one.
    """
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")


def check_fd(fd: int) -> int:
    """Return an fd; 0, which no connection has, if it is too small or too large for one.

    Raises:
        TypeError: it is no integer.
    """
    check_int("fd", fd)
    try:
        number = fd
    except OverflowError:  # raised by the conversion to a C number in the compiled module
        return 0
    return number if 0 < number < _MAX_FD else 0


def encode(data: object, opcode: int | None) -> tuple[bytes, int]:
    """Return a message's bytes and opcode: text for `str`, binary for anything else, unless `opcode` is given.

    Raises:
        TypeError: the data is neither `str` nor bytes.
        ValueError: the opcode is neither text nor binary, or bytes to be sent as text are not UTF-8.
    """
    if isinstance(data, str):
        body, natural = data.encode(), OP_TEXT
    elif isinstance(data, bytes | bytearray | memoryview):
        body, natural = bytes(data), OP_BINARY
    else:
        refuse_message(data)
    opcode = natural if opcode is None else opcode
    if opcode not in (OP_TEXT, OP_BINARY):
        raise ValueError(f"a message's opcode must be OP_TEXT (1) or OP_BINARY (2), not {opcode!r}")
    if opcode == OP_TEXT and natural == OP_BINARY and not is_utf8(body):
        raise ValueError("bytes sent as text must be UTF-8")
    return body, opcode


def refuse_message(data: object) -> NoReturn:
    """Raise the error that says why something is not a message.

    Raises:
        TypeError: always.
    """
    if inspect.iscoroutine(data):
        data.close()  # or Python warns, later, that it was never awaited
        raise TypeError("a message must be str or bytes, not a coroutine: await it first")
    raise TypeError(
        f"a message must be str or bytes, not {type(data).__name__}: encode it first, for example with json.dumps"
    )


def pack(what: str, value: object) -> bytes:
    """Return a value of the app, packed by msgpack.

    Raises:
        TypeError: it cannot be packed, or not unpacked by the process that receives it; the message begins with `what`.
    """
    try:
        packed: bytes = msgpack.packb(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{what} must consist of None, numbers, str, bytes, lists and dicts: {error}") from None
    try:
        msgpack.unpackb(packed, strict_map_key=False)
    except TypeError:  # a tuple arrives as a list, which is no key
        raise TypeError(f"{what} must not have a dict with a tuple or a list as a key") from None
    return packed
