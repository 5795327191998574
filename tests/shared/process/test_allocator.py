"""The next large block reuses freed memory."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from zwoole.shared.process.allocator import KEPT_BYTES

FAULTS_OF_TWENTY_BLOCKS = """
import resource
from zwoole.shared.process.allocator import keep_freed_memory

if {kept}:
    keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

blocks = [b"x" * 1_000_000 for _ in range(3)]
del blocks
before = faults()
for _ in range(20):
    blocks = [b"x" * 1_000_000 for _ in range(3)]
    del blocks
print(faults() - before)
"""


def faults(kept: bool) -> int:
    """Return the number of page faults of a separate process."""
    script = FAULTS_OF_TWENTY_BLOCKS.format(kept=kept)
    return int(subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_large_blocks_are_made_of_what_earlier_ones_left() -> None:
    assert KEPT_BYTES >= 3_000_000
    assert faults(kept=True) < faults(kept=False) / 10
