import cython

from zwoole.reactor.core.connection cimport Connection
from zwoole.reactor.core.loop cimport Loop
from zwoole.reactor.routing.parking cimport Parking
from zwoole.reactor.core.worker_link cimport WorkerLink, Worker

# The modules that define these names export Python objects; as C integers they compare without an object.
cdef int STAGE_ENDING, STAGE_GONE, STAGE_OPEN
cdef int OP_TEXT
cdef int BINARY_MESSAGE, BUFFER_EMPTY, BUFFER_FULL, HANDSHAKE, MESSAGE, OPEN
cdef unsigned int IN


cdef class Router:
    cdef readonly list workers
    cdef readonly Parking parking
    cdef readonly unsigned long long replays
    cdef readonly unsigned long long adoptions
    cdef public bint reading_stopped
    cdef object _finish_ending
    cdef Loop _loop
    cdef bint _debug
    cdef unsigned int _max_events
    cdef Py_ssize_t _max_bytes

    @cython.locals(link=WorkerLink)
    cpdef bint accept(self, Connection connection, int opcode, bytes data) except -1

    @cython.locals(worker=Worker, link=WorkerLink)
    cpdef bint hold_back(self, Connection connection) except -1

    @cython.locals(worker=Worker, owner=WorkerLink, link=WorkerLink)
    cpdef void close(self, Connection connection) except *

    @cython.locals(worker=Worker)
    cpdef void discard_parked(self, Connection connection) except *
    cpdef bint is_idle(self, Connection connection)
    cpdef void read_on(self, Connection connection) except *
    cpdef void read_if_allowed(self, Connection connection) except *
    cpdef void stop_reading(self, Connection connection) except *

    @cython.locals(link=WorkerLink)
    cpdef void notify(self, Connection connection) except *

    @cython.locals(connection=Connection)
    cpdef void finished(self, WorkerLink link, unsigned long long sequence) except *

    @cython.locals(worker=Worker, connection=Connection)
    cpdef void serve(self, WorkerLink link) except *

    @cython.locals(worker=Worker, owner=WorkerLink)
    cpdef void settle(self, Connection connection) except *

    @cython.locals(link=WorkerLink, connection=Connection)
    cdef void _serve_adoptions(self, Worker worker) except *

    @cython.locals(connection=Connection)
    cdef void _serve_queue(self, WorkerLink link) except *
    cdef void _leave_worker(self, Connection connection) except *
    cdef bint _serves(self, WorkerLink link, Connection connection)
    cdef bint _has_room(self, Connection connection, Py_ssize_t size)

    @cython.locals(connection=Connection)
    cdef void _read_held_back(self, WorkerLink link) except *
    cdef void _wait_if_stopped(self, WorkerLink link, Connection connection) except *
    cdef void _wait(self, WorkerLink link, Connection connection) except *
    @cython.locals(link=WorkerLink, size=Py_ssize_t)
    cdef void _resume(self, Connection connection) except *
    @cython.locals(event=int, data=bytes)
    cdef void _send_parked(self, WorkerLink link, Connection connection) except *


@cython.locals(other=Connection)
cdef void join_queue(object queue, Connection connection, Py_ssize_t living) except *
