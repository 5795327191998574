"""The names of what lies in the run directory, for whoever makes or opens it."""

from __future__ import annotations

from pathlib import Path

LOCK = "lock"
PLAN = "plan"

MAX_IPC_PATH = 107  # sun_path of a Unix socket, less its end


def control_address(run_dir: Path) -> str:
    """Return the address of the supervisor's control socket."""
    return f"ipc://{run_dir}/control"


def endpoint(run_dir: Path, incarnation: int, master: int) -> str:
    """Return the address of the wire between a worker incarnation and a master incarnation."""
    return f"ipc://{run_dir}/w{incarnation}.m{master}"


def progress_path(run_dir: Path, incarnation: int, master: int) -> Path:
    """Return the file of the progress map between a worker incarnation and a master incarnation."""
    return run_dir / f"w{incarnation}.m{master}.progress"


def turns_path(run_dir: Path, incarnation: int) -> Path:
    """Return the file of a process's turn counter."""
    return run_dir / f"turns.{incarnation}"


def table_path(run_dir: Path, reactor: int) -> Path:
    """Return the file of one reactor's connection table."""
    return run_dir / f"table.{reactor}"


def snapshot_path(run_dir: Path, role: str, incarnation: int) -> Path:
    """Return the file of a process's snapshot; the supervisor is incarnation 0."""
    return run_dir / f"{role}.{incarnation}.stats"
