"""Memory that processes share, allocated so that using it cannot fail later.

The blocks of a mapped file are normally allocated when a page is first touched. If the disk is full by then, the kernel
kills the process with SIGBUS, which no code can handle. So all blocks are reserved when the memory is created, where a
full disk is an ordinary OSError, and a file is never mapped beyond its end.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import tempfile
from pathlib import Path

PIECE = 1 << 20  # bytes per write
# posix_fallocate's errors if the file system cannot reserve: glibc then writes zeros, other libraries do not.
NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def anonymous(name: str, folder: Path) -> int:
    """Return the descriptor of a new, empty, unnamed memory file, which exists as long as a process has it open.

    Args:
        name: shown in `/proc/PID/maps`.
        folder: if the kernel does not allow memory files, a file is created here and its name is removed at once.

    Raises:
        OSError: neither can be created.
    """
    try:
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.dup(file.fileno())
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return descriptor


def reserve(descriptor: int, start: int, size: int) -> None:
    """Reserve the blocks of a part of a file that has not been written yet. The file grows to the end of that part.

    Args:
        descriptor: the file, open for writing.
        start: index of the first byte.
        size: number of bytes, more than 0.

    Raises:
        OSError: the disk is full (ENOSPC), or a quota (EDQUOT) or a limit (EFBIG) is reached.
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
    """Map the first `size` bytes of a file whose blocks are reserved.

    Raises:
        OSError: it cannot be mapped.
        ValueError: the file is shorter than `size`.
    """
    if os.fstat(descriptor).st_size < size:
        raise ValueError(f"a shared file of {os.fstat(descriptor).st_size} bytes, not {size}")
    return mmap.mmap(descriptor, size)
