"""How many CPUs this process may use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zwoole.shared import cpus

V2 = "0::/app.slice/zwoole.service\n"
V2_CONTAINER = "0::/\n"
V1 = "12:pids:/docker/1\n4:cpu,cpuacct:/docker/1\n1:name=systemd:/docker/1\n"


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def machine(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    """Return the root of a file system in which this process is in these control groups."""
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "count"),
    [
        pytest.param(V2, {}, 8, id="no file"),
        pytest.param(V2_CONTAINER, {"cpu.max": "max 100000\n"}, 8, id="no quota"),
        pytest.param(V2_CONTAINER, {"cpu.max": "200000 100000\n"}, 2, id="two CPUs"),
        pytest.param(V2_CONTAINER, {"cpu.max": "250000 100000\n"}, 3, id="two and a half"),
        pytest.param(V2_CONTAINER, {"cpu.max": "5000 100000\n"}, 1, id="a twentieth"),
        pytest.param(V2_CONTAINER, {"cpu.max": "3200000 100000\n"}, 8, id="more than there are"),
        pytest.param(V2, {"app.slice/zwoole.service/cpu.max": "300000 100000\n"}, 3, id="of the service"),
        pytest.param(
            V2,
            {"app.slice/zwoole.service/cpu.max": "300000 100000\n", "app.slice/cpu.max": "100000 100000\n"},
            1,
            id="of the slice around it",
        ),
        pytest.param(V2_CONTAINER, {"cpu.max": "\n"}, 8, id="empty"),
        pytest.param(V2_CONTAINER, {"cpu.max": "1000 0\n"}, 8, id="no period"),
        pytest.param(
            V1,
            {"cpu/docker/1/cpu.cfs_quota_us": "150000\n", "cpu/docker/1/cpu.cfs_period_us": "100000\n"},
            2,
            id="version 1",
        ),
        pytest.param(
            V1,
            {"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            2,
            id="version 1 in a container, which sees its own group as the root",
        ),
        pytest.param(V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8, id="version 1, all"),
    ],
)
def test_quota_counts(tmp_path: Path, cgroup: str, files: dict[str, str], count: int) -> None:
    root = machine(tmp_path, cgroup, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    assert cpus.usable(root) == count


def test_without_proc_and_sys_the_affinity_counts(tmp_path: Path) -> None:
    assert cpus.usable(tmp_path) == 8


def test_where_the_affinity_is_secret_the_machine_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_: int) -> set[int]:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_getaffinity", forbidden)
    assert cpus.usable(tmp_path) == 16


def test_a_server_has_as_many_workers_by_default() -> None:
    """In a separate process: the default is read when the settings are imported."""
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        " from zwoole.shared.settings import Settings; print(Settings().worker_num)"
    )
    assert subprocess.check_output([sys.executable, "-c", program]) == b"1\n"
