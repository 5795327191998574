"""Flags of ZeroMQ as plain numbers: `&` with pyzmq's enum costs more than the call whose result it tests."""

from __future__ import annotations

import zmq

POLLIN = int(zmq.POLLIN)
