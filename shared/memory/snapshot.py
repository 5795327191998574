"""The snapshot: the counters of one process, in a file of the run directory that every process of the server can read.

The file has a head (length and checksum of the rest) and the packed counters. One call writes it; a reader that sees an
incomplete write notices by the checksum and reads again. Nobody waits for anybody, and the counters of a process that
hangs, is stopped or was killed can still be read. Nothing is mapped, so a full disk is an ordinary error: the process
goes on, and the next write tries again. The same holds if the file was removed.
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
MAX_BYTES = 64 * 1024  # per process; the file has only as many blocks as it needs
TRIES = 50
PAUSE_S = 0.0001  # a write takes a few microseconds, unless its process is suspended meanwhile


class Snapshot:
    """The writer of a process's file; there is only one."""

    def __init__(self, path: Path, capacity: int = MAX_BYTES) -> None:
        """Prepare to write up to `capacity` bytes to `path`; the first write creates the file."""
        self._path = path
        self._capacity = capacity
        self._file = -1
        self._reserved = 0

    def write(self, fields: dict[str, Any]) -> None:
        """Replace the counters in the file. If the disk does not accept them, the old ones stay.

        Must always be called from the same thread.

        Raises:
            ValueError: the packed fields are larger than the capacity; the old ones stay.
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
            pass  # the supervisor reports what is wrong with the run directory, once for all processes

    def _open(self) -> None:
        """Open the file if it is not open yet, or create it anew if it was removed."""
        if self._file >= 0:
            if os.fstat(self._file).st_nlink:
                return
            os.close(self._file)
            self._file = -1
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._reserved = 0


def read(path: Path) -> dict[str, Any] | None:
    """Return what a process wrote last; None if it wrote nothing, is gone, or was killed during a write."""
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
