"""Signals at every moment of a server's life: to one process, to the group, doubled, and at inconvenient times."""

from __future__ import annotations

import os
import signal
import textwrap
from pathlib import Path

import pytest

from tests.process.conftest import Serve
from tests.process.server_process import ServerProcess
from tests.process.test_deaths import who_serves
from tests.process.test_stop import HOUR_S, close_code
from tests.process.waiting import PATIENCE_S, wait_for
from zwoole.shared.process.signals import SUPERVISOR_SIGNALS
from zwoole.supervisor.core.exit_codes import EXIT_FORCED

APP = """
import os
import time
from zwoole import Server

server = Server()

@server.on("worker_start")
def on_worker_start(server, worker_id):
    while os.path.exists("slow boot"):
        time.sleep(0.01)

@server.on("worker_stop")
def on_worker_stop(server, worker_id):
    while os.path.exists("slow stop"):
        time.sleep(0.01)

@server.on("message")
def on_message(server, frame):
    server.push(frame.fd, str(os.getpid()))

server.start()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT], ids=lambda number: number.name)
def test_asked_to_stop_during_boot(number: signal.Signals) -> None:
    """A worker that is not ready has nothing to finish, and does not delay the stop."""
    with ServerProcess(APP, max_wait_time=HOUR_S) as server:
        server.write("slow boot", "")
        server.start()
        wait_for(lambda: len(server.family()) == 2, "the children")
        assert server.stop(number) == (EXIT_FORCED if number == signal.SIGQUIT else 0)
        assert "Traceback" not in server.log()


def test_reload_during_boot_is_refused(serve: Serve) -> None:
    with ServerProcess(APP) as server:
        server.write("slow boot", "")
        server.start()
        wait_for(lambda: len(server.family()) == 2, "the children")
        server.send_signal(signal.SIGHUP)
        server.wait_log("no reload: the server is starting or stopping")
        (server.folder / "slow boot").unlink()
        server.wait_ready()
        assert "reload: starting" not in server.log()


def test_doubled_reload_is_two_at_most_and_one_after_the_other(serve: Serve) -> None:
    server = serve(APP, workers=2)
    with server.connect() as client:
        who_serves(client)
        before = server.pids("worker")
        for _ in range(5):  # without pauses: looking at the children in between takes as long as a reload
            server.process.send_signal(signal.SIGHUP)
        server.wait_log("reload: done in")
        wait_for(lambda: server.log().count("reload: starting") == server.log().count("reload: done"), "all to be done")
        assert 1 <= server.log().count("reload: done") <= 2
        wait_for(lambda: who_serves(client) not in before, "new code to serve")


def test_stop_during_reload(serve: Serve) -> None:
    server = serve(APP)
    with server.connect() as client:
        who_serves(client)
        server.write("slow boot", "")
        server.send_signal(signal.SIGHUP)
        server.wait_log("reload: starting")
        server.send_signal(signal.SIGTERM)
        assert close_code(client) == 1001
    assert server.wait() == 0
    server.assert_nothing_left()


def test_other_signals_during_stop_change_nothing(serve: Serve) -> None:
    server = serve(APP)
    server.write("slow stop", "")
    server.send_signal(signal.SIGTERM)
    server.wait_log("SIGTERM: stopping")
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU):
        server.send_signal(number)
    server.wait_log("no reload: the server is starting or stopping")
    (server.folder / "slow stop").unlink()
    assert server.wait() == 0
    server.assert_nothing_left()
    assert "worker more" not in server.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_group_is_told_and_told_again(serve: Serve, number: signal.Signals) -> None:
    """systemd, `timeout` and terminals signal the whole group, some wrappers twice: the stop is still graceful."""
    server = serve(APP, workers=2)
    with server.connect() as client:
        who_serves(client)
        server.family()
        os.killpg(server.process.pid, number)
        os.killpg(server.process.pid, number)
        assert close_code(client) == 1001
    assert server.wait() == 0
    server.assert_nothing_left()
    assert "ended by" not in server.log()


def test_sighup_of_the_group_reloads_once_and_harms_nobody(serve: Serve) -> None:
    """A terminal that is closed sends it to all of them."""
    server = serve(APP)
    (master,) = server.pids("master")
    with server.connect() as client:
        before = who_serves(client)
        os.killpg(server.process.pid, signal.SIGHUP)
        server.wait_log("reload: done in")
        wait_for(lambda: who_serves(client) != before, "new code to serve")
    assert server.pids("master") == [master]
    assert server.log().count("reload: done") == 1


LEFT_TO_THE_SUPERVISOR = [number for number in SUPERVISOR_SIGNALS if number != signal.SIGTERM]


@pytest.mark.parametrize("options", [(), ("--debug",)], ids=" ".join)
def test_masters_and_workers_leave_signals_to_the_supervisor(options: tuple[str, ...]) -> None:
    """Sent to each of them separately, as tools do that signal all processes of a service."""
    with ServerProcess(APP, *options) as server:
        server.serve()
        with server.connect() as client:
            before = server.pids("master"), server.pids("worker")
            for number in LEFT_TO_THE_SUPERVISOR:
                stops = number in (signal.SIGTTIN, signal.SIGTTOU)
                for pid in before[0] if stops and options else [*before[0], *before[1]]:
                    os.kill(pid, number)
                assert who_serves(client) == before[1][0], number.name
            os.kill(before[0][0], signal.SIGTERM)
            assert who_serves(client) == before[1][0]
        assert (server.pids("master"), server.pids("worker")) == before
        assert "ended by" not in server.log()


def test_a_group_that_is_sent_usr1_and_quit_is_reloaded_and_stopped(serve: Serve) -> None:
    server = serve(APP)
    (master,) = server.pids("master")
    with server.connect() as client:
        who_serves(client)
        os.killpg(server.process.pid, signal.SIGUSR1)
        server.wait_log("reload: done in")
        who_serves(client)
        assert server.pids("master") == [master]
        server.family()
        os.killpg(server.process.pid, signal.SIGQUIT)
    assert server.wait() == EXIT_FORCED
    server.assert_nothing_left()
    assert "ended by" not in server.log()


def test_signals_during_boot_end_nobody() -> None:
    """At no moment between the first instruction and serving."""
    with ServerProcess(APP) as server:
        server.write("slow boot", "")
        server.start()
        children = wait_for(lambda: server.family() if len(server.family()) == 2 else [], "the children")
        for child in children:
            for number in SUPERVISOR_SIGNALS:
                child.send_signal(number)
        (server.folder / "slow boot").unlink()
        server.wait_ready()
        assert {*server.pids("master"), *server.pids("worker")} == {child.pid for child in children}
        assert "ended by" not in server.log()


def test_sigterm_to_a_worker_recycles_it(serve: Serve) -> None:
    server = serve(APP)
    with server.connect() as client:
        before = who_serves(client)
        os.kill(before, signal.SIGTERM)
        server.wait_log("worker 0 is replaced: it was sent SIGTERM")
        wait_for(lambda: who_serves(client) != before, "a successor to serve")
    assert "ended by" not in server.log()


WITH_HANDLERS = APP.replace(
    "server = Server()",
    """
import signal
import sys

def leave(number, frame):
    print("the script's own handler", flush=True)
    sys.exit(1)

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, leave)
signal.signal(signal.SIGCHLD, CHILD_HANDLER)
server = Server()

@server.on("close")
def on_close(server, fd, code):
    print("closed", code, flush=True)
""",
)
CHILD_HANDLERS = ["signal.SIG_IGN", "lambda *_: os.waitpid(-1, os.WNOHANG)"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_scripts_own_handlers_do_not_end_workers_early(serve: Serve, number: signal.Signals) -> None:
    server = serve(WITH_HANDLERS.replace("CHILD_HANDLER", "signal.SIG_IGN"))
    with server.connect() as client:
        who_serves(client)
        for process in [*server.family(), server.process]:
            process.send_signal(number)
        assert close_code(client) == 1001
    assert server.wait() == 0
    server.assert_nothing_left()
    assert server.lines() == ["closed 1001"]


@pytest.mark.parametrize("handler", CHILD_HANDLERS)
def test_a_death_is_told_whatever_the_script_does_at_sigchld(serve: Serve, handler: str) -> None:
    server = serve(WITH_HANDLERS.replace("CHILD_HANDLER", handler))
    with server.connect() as client:
        worker = who_serves(client)
        server.wait_acknowledged()
        os.kill(worker, signal.SIGKILL)
        server.wait_log(f"worker 0 (pid {worker}) was ended by SIGKILL (9)")
        wait_for(lambda: who_serves(client) != worker, "another to serve")


def test_the_script_has_its_handlers_back_when_the_server_has_stopped() -> None:
    app = WITH_HANDLERS.replace("CHILD_HANDLER", "signal.SIG_IGN") + textwrap.dedent(
        """
        print("back", signal.getsignal(signal.SIGINT) is leave, signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN)
        """
    )
    with ServerProcess(app) as server:
        server.serve()
        assert server.stop() == 0
        assert server.lines() == ["back True True"]


def test_a_handler_that_worker_start_installs_stays(serve: Serve) -> None:
    app = APP.replace(
        "def on_worker_start(server, worker_id):",
        """def on_worker_start(server, worker_id):
    import signal
    signal.signal(signal.SIGHUP, lambda *_: print("heard", flush=True))""",
    )
    server = serve(app)
    os.kill(server.pids("worker")[0], signal.SIGHUP)
    server.wait_line("heard")


def test_more_and_fewer_workers_by_signal(serve: Serve) -> None:
    server = serve(APP)
    server.send_signal(signal.SIGTTIN)
    server.wait_log("workers: 1 -> 2")
    server.workers = 2
    server.wait_ready()
    server.send_signal(signal.SIGTTOU)
    server.wait_log("workers: 2 -> 1")
    wait_for(lambda: len(server.pids("worker")) == 1, "the other to end")
    server.send_signal(signal.SIGTTOU)
    server.wait_log("the number of workers is unchanged: there are 1 worker(s), and a server needs one")
    assert len(server.pids("worker")) == 1


def test_signals_that_a_parent_held_back_are_heard() -> None:
    """Programs inherit the signals that their parent blocks."""
    held_back = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGABRT}
    with ServerProcess(APP) as server:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, held_back)
        try:
            server.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        server.wait_log("listening on ")
        server.wait_ready()
        for process in server.family():
            status = dict(line.split(":\t") for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
            assert int(status["SigBlk"], 16) & sum(1 << (number - 1) for number in held_back) == 0
        server.send_signal(signal.SIGHUP)
        server.wait_log("reload: done")
        assert server.stop() == 0


def test_sigusr2_which_is_for_task_workers_in_swoole_ends_nothing(serve: Serve) -> None:
    server = serve(APP)
    with server.connect() as client:
        os.killpg(server.process.pid, signal.SIGUSR2)
        server.wait_log("SIGUSR2 reloads task workers, of which there are none; SIGUSR1 reloads workers")
        client.send("")
        client.recv(PATIENCE_S)
    assert server.stop() == 0
    assert "ERROR" not in server.log()


def test_sigusr2_that_the_script_has_taken_stays_its_own(serve: Serve) -> None:
    server = serve("import faulthandler, signal\nfaulthandler.register(signal.SIGUSR2)\n" + textwrap.dedent(APP))
    server.send_signal(signal.SIGUSR2)
    server.wait_log("most recent call first")
    assert server.stop() == 0
    assert "task workers" not in server.log()
