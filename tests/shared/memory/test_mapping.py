"""Shared memory whose blocks are allocated before anybody touches it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zwoole.shared.memory import mapping
from zwoole.shared.memory.mapping import anonymous, mapped, reserve


def failing(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture(params=["memory file", "file without a name"])
def descriptor(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    if request.param == "file without a name":
        monkeypatch.setattr(os, "memfd_create", failing(errno.EPERM))
    found = anonymous("zwoole-test", tmp_path)
    yield found
    os.close(found)
    assert list(tmp_path.iterdir()) == []


def test_what_is_reserved_is_there_and_can_be_mapped(descriptor: int) -> None:
    assert not os.get_inheritable(descriptor)
    assert os.fstat(descriptor).st_size == 0
    reserve(descriptor, 0, 10_000)
    assert os.fstat(descriptor).st_blocks * 512 >= os.fstat(descriptor).st_size == 10_000
    mapping = mapped(descriptor, 10_000)
    assert bytes(mapping[:]) == bytes(10_000)
    mapping[9_999] = 7
    reserve(descriptor, 10_000, 20_000)
    assert bytes(mapped(descriptor, 30_000)[:]) == bytes(9_999) + b"\7" + bytes(20_000)


def test_memory_that_is_shorter_cannot_be_mapped(descriptor: int) -> None:
    reserve(descriptor, 0, 100)
    with pytest.raises(ValueError, match="100 bytes, not 101"):
        mapped(descriptor, 101)


def test_nobody_can_cut_a_memory_file_short(tmp_path: Path) -> None:
    descriptor = anonymous("zwoole-test", tmp_path)
    reserve(descriptor, 0, 100)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 99)
    os.close(descriptor)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_where_the_file_system_reserves_nothing_zeros_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", failing(number))
    monkeypatch.setattr(mapping, "PIECE", 1000)
    with (tmp_path / "file").open("w+b", buffering=0) as file:
        file.write(b"before")
        reserve(file.fileno(), 6, 5_500)
        assert (tmp_path / "file").read_bytes() == b"before" + bytes(5_500)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_a_lack_of_room_is_an_error_at_once(descriptor: int, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(os, "posix_fallocate", failing(number))
    with pytest.raises(OSError, match=os.strerror(number)):
        reserve(descriptor, 0, 100)


def test_a_limit_of_file_sizes_is_an_error_and_no_signal(tmp_path: Path) -> None:
    """RLIMIT_FSIZE also sends SIGXFSZ, which Python ignores."""
    script = f"""
import os, resource
from pathlib import Path
from zwoole.shared.memory.mapping import anonymous, reserve
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
file = os.open({str(tmp_path / "file")!r}, os.O_RDWR | os.O_CREAT)
for descriptor in (anonymous("zwoole-test", Path({str(tmp_path)!r})), file):
    reserve(descriptor, 0, 4096)
    try:
        reserve(descriptor, 4096, 1)
    except OSError as error:
        print(error.errno)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(errno.EFBIG)] * 2, done.stderr
