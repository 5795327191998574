"""The events between master and workers: one table contains everything that both sides must know about each kind.

A new kind of event is a row here, the code that sends it, and the code that acts on it. The table is used by the window
(which events use credit), by the verdict on a dead worker (which are sent again), by the workers (which callback an
event calls) and by the documentation. Commands are the events that come up from workers; the part of the master that
carries one out registers it (`reactor/core/commands.py`).
"""

from __future__ import annotations

from typing import NamedTuple

PROTOCOL_VERSION = 3

# Down: master to worker.
OPEN = 1
MESSAGE = 2
CLOSE = 3
WELCOME = 4
DRAIN = 6
ADOPT = 7
BUFFER_FULL = 8
BUFFER_EMPTY = 9
PIPE_MESSAGE = 10
HANDSHAKE = 11
MOVED = 12

# Up: worker to master.
HELLO = 32
ACK = 33
PUSH = 34
BROADCAST = 35
DISCONNECT = 36
FAIL = 37
BYE = 38
SET_STATE = 39
SEND_MESSAGE = 40
ACCEPT = 41
REFUSE = 42
RINGS = 43
PING = 44
SYNC = 45

END_NOW = 1  # the number of a DRAIN after which the worker does not wait for running callbacks

# The window and the queue of parked messages keep a message's opcode with its kind, so that it can be sent again.
BINARY = 0x80
BINARY_MESSAGE = MESSAGE | BINARY

DOWN = "down"
UP = "up"

# What happens to an event that a worker was sent and had not started when it died.
LOST = "lost"  # dropped: it was for that worker only
SENT_AGAIN = "sent again"  # to the next worker, in order
TOLD_AGAIN = "told again"  # to the next worker, which need not know the connection
ADOPTED = "adopted"  # dropped: the next worker is told to adopt the connection anyway


class Event(NamedTuple):
    """A row of the table.

    Attributes:
        name: its constant's name.
        kind: its number on the wire.
        direction: DOWN or UP.
        about: the meaning of its number and its body.
        credit: whether it counts against the limits of the window; down only. Others only occupy a slot in it.
        after_death: what happens to it if its worker dies before it has started; down only.
        callback: the name of the callback that it calls; "" for none.
    """

    name: str
    kind: int
    direction: str
    about: str
    credit: bool = False
    after_death: str = LOST
    callback: str = ""


EVENTS = (
    Event(
        "OPEN",
        OPEN,
        DOWN,
        "fd; bytes: packed [request record, state]; the `handshake` callback has set the state",
        credit=True,
        after_death=SENT_AGAIN,
        callback="open",
    ),
    Event(
        "MESSAGE",
        MESSAGE,
        DOWN,
        "fd; text or bytes: one whole message",
        credit=True,
        after_death=SENT_AGAIN,
        callback="message",
    ),
    Event(
        "CLOSE",
        CLOSE,
        DOWN,
        "fd; bytes: packed [code, reason, initiator]",
        after_death=TOLD_AGAIN,
        callback="close",
    ),
    Event("WELCOME", WELCOME, DOWN, "number: the protocol version; bytes: packed settings of this link"),
    Event(
        "DRAIN",
        DRAIN,
        DOWN,
        "number: 0: other workers have the connections now; 1: the worker must end at once; nil. No event follows it",
    ),
    Event(
        "ADOPT",
        ADOPT,
        DOWN,
        "fd; bytes: packed [request record, state]. Another worker had this connection",
        after_death=ADOPTED,
        callback="adopt",
    ),
    Event(
        "BUFFER_FULL", BUFFER_FULL, DOWN, "fd; nil. Its output queue has reached the high mark", callback="buffer_full"
    ),
    Event(
        "BUFFER_EMPTY",
        BUFFER_EMPTY,
        DOWN,
        "fd; nil. Its output queue is down to the low mark again",
        callback="buffer_empty",
    ),
    Event(
        "PIPE_MESSAGE",
        PIPE_MESSAGE,
        DOWN,
        "number: the sending worker's id; bytes: packed value",
        credit=True,
        callback="pipe_message",
    ),
    Event(
        "HANDSHAKE",
        HANDSHAKE,
        DOWN,
        "fd; bytes: the packed request. The worker answers with ACCEPT or REFUSE",
        credit=True,
        after_death=SENT_AGAIN,
        callback="handshake",
    ),
    Event("MOVED", MOVED, DOWN, "number: 0; bytes: packed fds. Another worker has these connections now"),
    Event("HELLO", HELLO, UP, "number: the protocol version; bytes: packed {callbacks, handlers, handshake}"),
    Event("ACK", ACK, UP, "number: the first sequence number; integer: how many consecutive events have finished"),
    Event("PUSH", PUSH, UP, "fd; text or bytes: one message to send"),
    Event("BROADCAST", BROADCAST, UP, "number: 0; text or bytes: one message to every established connection"),
    Event("DISCONNECT", DISCONNECT, UP, "fd; bytes: packed [code, reason]"),
    Event(
        "FAIL", FAIL, UP, "fd; bytes: packed [code, reason]: its callback failed, and its remaining events are not run"
    ),
    Event("BYE", BYE, UP, "number: 0; nil. This worker has finished everything and ends"),
    Event("SET_STATE", SET_STATE, UP, "fd; bytes: packed value, which is handed over with the connection"),
    Event("SEND_MESSAGE", SEND_MESSAGE, UP, "number: the receiving worker's id; bytes: packed value"),
    Event("ACCEPT", ACCEPT, UP, "fd; bytes: packed [subprotocol, headers]: the client may connect"),
    Event("REFUSE", REFUSE, UP, "fd; bytes: packed [status, body, headers]: the client may not connect"),
    Event("RINGS", RINGS, UP, "number: 0; nil. This worker has mapped the payload rings"),
    Event("PING", PING, UP, "fd; bytes: payload of a ping to send"),
    Event("SYNC", SYNC, UP, "number: 0; nil. This worker waits for the credit of all earlier batches"),
)

OPENINGS = (OPEN, HANDSHAKE)  # the worker has not heard of the connection before


# The rows of what goes down, by what the window keeps: the kind, for a binary message BINARY_MESSAGE.
BY_KIND = {event.kind: event for event in EVENTS if event.direction == DOWN}
BY_KIND[BINARY_MESSAGE] = BY_KIND[MESSAGE]

CALLBACKS = {event.kind: event.callback for event in EVENTS if event.callback}
