"""The connection ids that users see as fd."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zwoole.shared.ids import BLOCK, MAX_FD, fd_of, next_block


@pytest.mark.parametrize("reactor_num", [1, 2, 3, 64])
def test_the_reactors_together_give_out_every_number_once_from_1_on(reactor_num: int) -> None:
    given_out = [fd_of(sequence, reactor, reactor_num) for sequence in range(20) for reactor in range(reactor_num)]
    assert given_out == [*range(1, 20 * reactor_num + 1)]


@given(sequence=st.integers(0, MAX_FD // 64 - 1), reactor_num=st.integers(1, 64), data=st.data())
def test_a_fd_tells_its_reactor(sequence: int, reactor_num: int, data: st.DataObject) -> None:
    reactor = data.draw(st.integers(0, reactor_num - 1))
    fd = fd_of(sequence, reactor, reactor_num)
    assert 1 <= fd <= MAX_FD
    assert (fd - 1) % reactor_num == reactor  # by this a worker finds the link


@pytest.mark.parametrize(
    ("sequence", "block"), [(0, 1), (1, 1), (BLOCK - 1, 1), (BLOCK, 2), (BLOCK + 1, 2), (7 * BLOCK - 1, 7)]
)
def test_the_next_block_lies_behind_every_number_given_out(sequence: int, block: int) -> None:
    assert next_block(sequence) == block * BLOCK
