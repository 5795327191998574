"""Memory that processes share, made so that using it cannot fail later.

A page of a mapped file gets its block when it is first touched. If the disk is full by then, the kernel ends the
process with SIGBUS, which no code can handle. So all blocks are reserved when the memory is made, where a lack of room
is an ordinary OSError, and a file is mapped only as far as it reaches.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import tempfile
from pathlib import Path

PIECE = 1 << 20  # bytes that are written at a time
NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # glibc writes zeros by itself, other C libraries do not


def anonymous(name: str, folder: Path) -> int:
    """Return the descriptor of a new, empty memory file without a name, which lives as long as somebody has it open.

    Args:
        name: what `/proc/PID/maps` shows.
        folder: where to make a file, and remove its name at once, if the kernel allows no memory files.

    Raises:
        OSError: neither can be made.
    """
    try:
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.dup(file.fileno())
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return descriptor


def reserve(descriptor: int, start: int, size: int) -> None:
    """Reserve the blocks of a part of a file that nobody has written yet; the file grows to its end.

    Args:
        descriptor: the file, open for writing.
        start: the first byte.
        size: how many bytes, more than 0.

    Raises:
        OSError: the disk is full (ENOSPC), or a quota (EDQUOT) or a limit (EFBIG) does not allow it.
    """
    try:
        os.posix_fallocate(descriptor, start, size)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
        written = 0
        while written < size:
            written += os.pwrite(descriptor, bytes(min(PIECE, size - written)), start + written)


def mapped(descriptor: int, size: int) -> mmap.mmap:
    """Map the first bytes of a file whose blocks are reserved.

    Raises:
        OSError: it cannot be mapped.
        ValueError: the file is shorter than `size`, so that its end could not be touched.
    """
    if os.fstat(descriptor).st_size < size:
        raise ValueError(f"a shared file of {os.fstat(descriptor).st_size} bytes, not {size}")
    return mmap.mmap(descriptor, size)
