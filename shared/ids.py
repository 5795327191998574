"""How fds, the connection ids that users see, are numbered without coordination between reactors.

Reactor r of n uses r+1, n+r+1, 2n+r+1, ... A replaced master continues at the next block of BLOCK sequence numbers, so
no fd is used twice while the server lives. Fds stay below 2^53, the largest integer that is exact in JSON and
JavaScript.
"""

from __future__ import annotations

BLOCK = 1 << 20
MAX_FD = 1 << 53


def fd_of(sequence: int, reactor: int, reactor_num: int) -> int:
    """Return the fd of a reactor's connection number `sequence`, counted from 0."""
    return sequence * reactor_num + reactor + 1


def next_block(sequence: int) -> int:
    """Return the first sequence number of the block after the one that contains `sequence`."""
    return (sequence // BLOCK + 1) * BLOCK
