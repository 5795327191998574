"""The snapshot: what one process counts, in a file of the run directory that every process of the server may read.

The file has a head, the length and the checksum of what follows, and the packed counters. It is written in one call; a
reader that meets a write half done sees by the checksum that it must look again. Nobody waits for anybody, and a
process that is stuck, stopped or killed can be read all the same. Nothing is mapped, so a full disk is an error of that
call: the process goes on, and the next write tries again. So it is if somebody has removed the file.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import msgpack

from zwoole.shared.memory.mapping import reserve

HEAD = struct.Struct("<II")  # length, checksum
BLOCK = 4096
MAX_BYTES = 64 * 1024  # of one process's counters; the file has only as many blocks as it needs
TRIES = 50
PAUSE_S = 0.0001  # a write takes a few microseconds, unless its process is suspended within


class Snapshot:
    """One process's file, as its only writer sees it."""

    def __init__(self, path: Path, capacity: int = MAX_BYTES) -> None:
        """Prepare to write to `path` at most `capacity` bytes; the first write makes the file."""
        self._path = path
        self._capacity = capacity
        self._file = -1
        self._reserved = 0

    def write(self, fields: dict[str, Any]) -> None:
        """Put `fields` in the place of what was there. If the disk does not take them, what was there stays.

        From one thread only.

        Raises:
            ValueError: they take more than the capacity; what was there stays.
        """
        blob: bytes = msgpack.packb(fields)
        if len(blob) > self._capacity:
            raise ValueError(f"a snapshot has at most {self._capacity} bytes, not {len(blob)}")
        try:
            self._open()
            size = HEAD.size + len(blob)
            if size > self._reserved:
                wanted = -(-size // BLOCK) * BLOCK
                reserve(self._file, self._reserved, wanted - self._reserved)
                self._reserved = wanted
            os.pwrite(self._file, HEAD.pack(len(blob), zlib.crc32(blob)) + blob, 0)
        except OSError:
            pass  # the supervisor says what is wrong with the run directory, once for all processes

    def _open(self) -> None:
        """Make the file if it was not made yet, or was removed."""
        if self._file >= 0:
            if os.fstat(self._file).st_nlink:
                return
            os.close(self._file)
            self._file = -1
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._reserved = 0


def read(path: Path) -> dict[str, Any] | None:
    """Return what a process wrote last; None if it has written nothing, is gone, or was ended while it wrote."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        for _ in range(TRIES):
            content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            if len(content) < HEAD.size:
                return None
            length, checksum = HEAD.unpack_from(content)
            if not length:
                return None
            blob = content[HEAD.size : HEAD.size + length]
            if len(blob) == length and zlib.crc32(blob) == checksum:
                fields: dict[str, Any] = msgpack.unpackb(blob)
                return fields
            time.sleep(PAUSE_S)
    except OSError:
        pass
    finally:
        os.close(descriptor)
    return None
