"""The table of peers: commands, and the hints for a peer that is not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from zwoole.bench.compare import peer as peers
from zwoole.bench.compare.peer import FOLDER, PEERS, Peer


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that replaces npm's."""
    folder = tmp_path / "node_modules"
    monkeypatch.setattr(peers, "NPM_FOLDER", folder)
    return folder


def test_a_missing_python_package_names_the_command() -> None:
    peer = Peer("missing", "missing.py", packages=("websockets", "no_such_package"))
    assert peer.skip_reason() == f"not installed: {sys.executable} -m pip install websockets no_such_package"


def test_a_missing_npm_package_names_the_command(npm: Path) -> None:
    peer = Peer("missing", "missing.js", ("sh",), npm=("no-such-package",))
    assert peer.skip_reason() == f"not installed: npm install --prefix {npm.parent} no-such-package"
    (npm / "no-such-package").mkdir(parents=True)
    assert peer.skip_reason() == ""


@pytest.mark.parametrize(
    "needs",
    [
        {"programs": ("no-such-program",)},
        {"folder": "/no/such/folder"},
        {"programs": ("sh",), "version_command": ("sh", "-c", "exit 1")},
    ],
    ids=["program", "folder", "version command"],
)
def test_what_pip_and_npm_cannot_install_names_its_own_command(needs: dict[str, tuple[str, ...]]) -> None:
    peer = Peer("missing", "missing.py", **needs, install="apt-get install it")  # type: ignore[arg-type]
    assert peer.skip_reason() == "not installed: apt-get install it"


def test_everything_that_is_missing_is_named_at_once(npm: Path) -> None:
    peer = Peer("missing", "missing.js", ("node",), npm=("ws",), programs=("no-such-program",), install="apt-get it")
    assert peer.skip_reason() == f"not installed: npm install --prefix {npm.parent} ws && apt-get it"


def test_a_peer_that_has_all_it_needs_is_not_skipped() -> None:
    peer = Peer(
        "there", "there.py", packages=("websockets",), programs=("sh",), folder="/", version_command=("sh", "-c", "")
    )
    assert peer.skip_reason() == ""


def test_a_python_peer_is_run_by_this_python() -> None:
    command = Peer("mine", "mine.py", arguments=("def", "2")).command(8080, "echo")
    assert command == [sys.executable, str(FOLDER / "mine.py"), "8080", "echo", "def", "2"]


def test_a_program_of_the_npm_folder_comes_before_one_of_the_path(npm: Path) -> None:
    peer = Peer("mine", "mine.js", ("sh", "-x"))
    assert peer.command(1, "cpu")[1:] == ["-x", str(FOLDER / "mine.js"), "1", "cpu"]
    own = npm / ".bin" / "sh"
    own.parent.mkdir(parents=True)
    own.touch(0o755)
    assert peer.command(1, "cpu")[0] == str(own)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_has_its_script_and_says_how_to_get_what_pip_and_npm_cannot(peer: Peer) -> None:
    assert (FOLDER / peer.script).is_file()
    assert peer.install or not (peer.programs or peer.folder or peer.version_command)
