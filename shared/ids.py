"""The numbers that users see as fd, and how each reactor makes its own without asking the others.

Reactor r of n gives out r+1, n+r+1, 2n+r+1, ... A replaced master goes on at the next block of BLOCK ids, so
no id is given twice while the server lives. 2^53 is the limit, for clients of JSON and JavaScript.
"""

from __future__ import annotations

BLOCK = 1 << 20
MAX_FD = 1 << 53


def fd_of(sequence: int, reactor: int, reactor_num: int) -> int:
    """Return the fd of the `sequence`-th connection, from 0, of that reactor."""
    return sequence * reactor_num + reactor + 1


def reactor_of(fd: int, reactor_num: int) -> int:
    """Return the index of the reactor that gave this fd out."""
    return (fd - 1) % reactor_num


def next_block(sequence: int) -> int:
    """Return the first sequence number of the block behind the one that `sequence` lies in."""
    return (sequence // BLOCK + 1) * BLOCK
