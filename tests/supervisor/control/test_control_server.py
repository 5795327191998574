"""The supervisor's control socket: it survives any message, and reports once what is wrong."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.process.waiting import wait_for
from tests.supervisor.process_parts import TestParts
from zwoole.shared.process import control_messages
from zwoole.shared.process.run_files import control_address
from zwoole.supervisor.control.control_server import MESSAGES_PER_TURN, ControlServer
from zwoole.supervisor.control.control_socket import ControlSocket
from zwoole.supervisor.control.queries import MAX_OPEN
from zwoole.supervisor.core.roles import ROLES, WORKER

STRANGER = b"\0stranger"
EITHER = "give a number of workers, or a change of it as `by`, not both"


class Recorded(ControlSocket):
    """Records the answers to requests."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir)
        self.answers: list[dict[str, Any]] = []

    def tell(self, identity: bytes, kind: str, **fields: Any) -> None:
        message = control_messages.unpack(control_messages.pack(kind, **fields))
        if identity == STRANGER:
            self.answers.append(message)


class Served(TestParts):
    """The parts of a supervisor that obeys a control socket."""

    def __init__(self, run_dir: Path) -> None:
        self.socket = Recorded(run_dir)
        super().__init__(run_dir, self.socket.tell)
        self.socket.bind()
        self.server = ControlServer(self.socket, self.processes, self.requests(), self.reports())
        self.start()
        self.all_ready()

    def close(self) -> None:
        self.socket.close()
        super().close()

    def state(self) -> Any:
        """Return everything that a message could have changed."""
        processes = [(str(process), process.retiring, process.killed) for process in self.processes.all()]
        return processes, self.processes.wanted[WORKER], self.processes.stopping, self.rollouts.reloading


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="zw-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def served(run_dir: Path) -> Iterator[Served]:
    parts = Served(run_dir)
    yield parts
    parts.close()


REQUESTS = ("connections", "kick", "push", "reload", "status", "stop", "workers")
FIELDS = ("by", "code", "data", "drain", "fd", "limit", "reason", "to")  # of requests
NAMES = sorted((*FIELDS, "type", "id", "what", "incarnation"))
SCALARS = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, -1, 1, 2, 1025, 1 << 53, (1 << 64) - 1, -(1 << 63), 0.5, float("nan"), float("inf"), -1e308])
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=5), SCALARS, max_size=3)
KINDS = st.sampled_from(["request", *sorted(frozenset().union(*(role.says for role in ROLES)))]) | st.text(max_size=20)
MESSAGES = st.fixed_dictionaries(
    {"type": KINDS | VALUES},
    optional={
        "id": st.just(1) | VALUES,
        "what": st.sampled_from(REQUESTS) | VALUES,
        **{name: VALUES for name in NAMES if name not in ("type", "id", "what")},
    },
) | st.builds(
    lambda what, fields: {"type": "request", "id": 1, "what": what, **fields},
    st.sampled_from(REQUESTS),
    st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), VALUES, max_size=3),
)


def test_every_request_is_tried_with_all_its_fields(served: Served) -> None:
    assert sorted(served.requests()) == sorted(REQUESTS)
    assert sorted({name for request in served.requests().values() for name in request.fields}) == sorted(FIELDS)


def test_every_message_that_a_process_may_send_is_acted_on(served: Served) -> None:
    assert set(served.reports()) == {kind for role in ROLES for kind in role.says}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary(max_size=60) | MESSAGES.map(msgpack.packb))
def test_whatever_a_stranger_sends_is_done_or_answered_with_one_error(served: Served, data: bytes) -> None:
    served.processes.stopping = False
    before = served.state()
    served.socket.answers.clear()
    served.server.take(STRANGER, data)
    errors = [answer["error"] for answer in served.socket.answers if "error" in answer]
    if errors:
        assert len(served.socket.answers) == 1
        assert 0 < len(errors[0]) < 300
        assert "\n" not in errors[0]
        assert served.state() == before
    else:
        message = control_messages.unpack(data)
        assert message["type"] == "request"
        assert message["what"] in REQUESTS
    for _ in range(2):  # masters that do not answer are left out, and changes are over
        served.run_due()
    end_changes(served)


def end_changes(served: Served) -> None:
    """Let the successors of a reload be ready and the replaced workers end; the number of workers stays."""
    for worker in served.workers:
        if worker.ready_at is None:
            served.ready(worker)
    if served.processes.wanted[WORKER] > 4:
        served.rollouts.scale(2)
    for worker in served.workers:
        if worker.retiring:
            served.end(worker, 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary(max_size=60) | MESSAGES.map(msgpack.packb), role=st.sampled_from(["master", "worker"]))
def test_whatever_a_process_sends_the_supervisor_goes_on(served: Served, data: bytes, role: str) -> None:
    process = (served.masters if role == "master" else served.workers)[0]
    served.server.take(process.identity, data)
    served.run_due()
    assert process.pidfd in served.processes.running
    end_changes(served)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"what": "workers", "by": "two"}, "the change of the number of workers must be int, not str"),
        ({"what": "workers", "to": 0}, "the number of workers must be from 1 to 1024, not 0"),
        ({"what": "workers", "to": 1025}, "the number of workers must be from 1 to 1024, not 1025"),
        ({"what": "workers", "by": -1025}, "the change of the number of workers must be from -1024 to 1024, not -1025"),
        ({"what": "workers", "by": True}, "the change of the number of workers must be int, not bool"),
        ({"what": "workers", "by": -2}, "there are 2 worker(s), and a server needs one"),
        ({"what": "workers", "by": 1024}, "a server has at most 1024 workers"),
        ({"what": "workers"}, EITHER),
        ({"what": "workers", "to": 2, "by": 1}, EITHER),
        ({"what": "stop", "drain": float("nan")}, "drain must be from 0 to 86400, not nan"),
        ({"what": "stop", "drain": -0.5}, "drain must be from 0 to 86400, not -0.5"),
        ({"what": "stop", "drain": None}, "drain must be int or float, not NoneType"),
        ({"what": "kick", "fd": 1, "code": 1 << 63, "reason": ""}, f"code must be from 0 to 65535, not {1 << 63}"),
        ({"what": "connections", "limit": 0}, "limit must be from 1 to 2000, not 0"),
        ({"what": "push", "fd": 1, "data": 5}, "a message must be str or bytes, not int"),
        ({"what": "kick", "fd": 1, "code": 1000}, "'kick' needs a field 'reason'"),
        ({"what": "push", "fd": 1 << 60, "data": ""}, f"fd must be from 1 to {1 << 53}, not {1 << 60}"),
        ({"what": "connections", "limit": 5, "identity": 7}, "'connections' has no field 'identity'"),
        ({"what": "kindness"}, "unknown request 'kindness'"),
        ({"what": ["status"]}, "a request without a name"),
    ],
)
def test_a_request_that_is_wrong_is_answered_with_why(served: Served, fields: dict[str, Any], error: str) -> None:
    before = served.state()
    served.server.take(STRANGER, control_messages.pack("request", id=7, **fields))
    assert served.socket.answers == [{"type": "answer", "id": 7, "error": error}]
    assert served.state() == before


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\xc1", "not a control message"),
        (control_messages.pack("ready", incarnation=1), "only a process of this server may say 'ready'"),
        (control_messages.pack("request", what="stop"), "a request's id must be an integer"),
        (control_messages.pack("request", what="stop", id="1"), "a request's id must be an integer"),
        (b"x" * (control_messages.MAX_MESSAGE_BYTES + 1), "a control message of 1048577 bytes"),
    ],
)
def test_what_is_no_request_is_answered_without_a_number(served: Served, data: bytes, error: str) -> None:
    served.server.take(STRANGER, data)
    (answer,) = served.socket.answers
    assert answer["id"] is None
    assert error in answer["error"]
    assert not served.processes.stopping


def test_a_worker_that_a_master_cannot_go_on_with_is_killed_and_the_log_says_why(
    served: Served, log: pytest.LogCaptureFixture
) -> None:
    master, worker = served.masters[0], served.worker(1)
    served.server.take(
        master.identity, control_messages.pack("kill", incarnation=worker.incarnation, why="it sent no batch")
    )
    assert [each.killed for each in served.workers] == ["", "it sent no batch"]
    served.end(worker, -9)
    assert f"{worker} was ended by zwoole with SIGKILL: it sent no batch" in log.text
    assert "out of memory" not in log.text
    served.run_due()
    assert served.worker(1) is not worker, "it is replaced"


@pytest.mark.parametrize(
    ("fields", "number"),
    [({"to": 5}, 5), ({"to": 1}, 1), ({"by": 1}, 3), ({"by": -1}, 1), ({"by": 3}, 5), ({"to": 2}, 2), ({"by": 0}, 2)],
)
def test_as_many_workers_as_were_asked_for(served: Served, fields: dict[str, int], number: int) -> None:
    served.server.take(STRANGER, control_messages.pack("request", id=1, what="workers", **fields))
    assert served.socket.answers == [{"type": "answer", "id": 1, "result": {"worker_num": number}}]
    staying = [worker.id for worker in served.workers if not worker.retiring]
    assert sorted(staying) == list(range(number))


def test_numbers_asked_for_during_a_reload_are_kept_until_it_is_done(served: Served) -> None:
    served.rollouts.reload()
    assert [served.rollouts.scale(by=1), served.rollouts.scale(by=1), served.rollouts.scale(3)] == [3, 4, 3]
    assert served.processes.wanted[WORKER] == 2
    for worker in served.workers:
        if worker.ready_at is None:
            served.ready(worker)
    assert served.processes.wanted[WORKER] == 3


def test_so_many_requests_may_wait_for_masters(served: Served) -> None:
    for _ in range(MAX_OPEN + 1):
        served.server.take(STRANGER, control_messages.pack("request", id=1, what="status"))
    assert [answer["error"] for answer in served.socket.answers] == [
        f"{MAX_OPEN} requests wait already: ask again later"
    ]


def test_a_masters_answer_that_makes_no_sense_is_an_error(served: Served) -> None:
    (master,) = served.masters
    served.server.take(STRANGER, control_messages.pack("request", id=1, what="kick", fd=1, code=1000, reason=""))
    served.server.take(master.identity, control_messages.pack("answer", id=1, result={}))
    assert served.socket.answers == [
        {"type": "answer", "id": 1, "error": "a master's answer could not be understood: KeyError('clients')"}
    ]


def test_a_flood_of_messages_is_taken_in_turns(served: Served, run_dir: Path) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.IDENTITY, STRANGER[1:])
        dealer.connect(control_address(run_dir))
        for _ in range(MESSAGES_PER_TURN + 1):
            dealer.send(b"nonsense")
        heard: list[bytes] = []
        served.server.take = lambda sender, data: heard.append(data)  # type: ignore[method-assign]
        turns: list[int] = []

        def all_came() -> bool:
            before = len(heard)
            served.server.handle_messages()
            turns.append(len(heard) - before)
            return len(heard) > MESSAGES_PER_TURN

        wait_for(all_came, "all messages to come")
        assert max(turns) <= MESSAGES_PER_TURN
