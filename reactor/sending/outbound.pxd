import cython

from zwoole.reactor.core.connection cimport Connection
from zwoole.reactor.core.loop cimport Loop
from zwoole.reactor.core.output cimport Output
from zwoole.reactor.core.registry cimport Registry
from zwoole.reactor.routing.router cimport Router
from zwoole.reactor.core.worker_link cimport WorkerLink
from zwoole.shared.websocket.frames cimport build_frame
from zwoole.shared.wire.batches cimport BatchReader

# The modules that define these names export Python objects; as C integers they compare without an object.
cdef int STAGE_ENDING, STAGE_OPEN
cdef int OP_BINARY, OP_PING, OP_TEXT
cdef int BODY_BYTES, BODY_INTEGER, BODY_TEXT
cdef int ACK, BROADCAST, PUSH
cdef Py_ssize_t _LARGE


cdef class Outbound:
    cdef readonly unsigned long long messages
    cdef readonly unsigned long long bytes
    cdef readonly unsigned long long dropped
    cdef Loop _loop
    cdef Registry _registry
    cdef Router _router
    cdef object _closing
    cdef object _pipes
    cdef object _limits
    cdef object _compression
    cdef dict _commands
    cdef object _served
    cdef object _distrust
    cdef bint _debug
    cdef Py_ssize_t _limit
    cdef Py_ssize_t _room

    @cython.locals(i=int, parts=list, event=BatchReader)
    cpdef bint receive(self, WorkerLink link) except -1

    @cython.locals(event=BatchReader)
    cdef BatchReader _begin(self, WorkerLink link, list parts)

    @cython.locals(kind=int)
    cdef bint _carry_out(self, WorkerLink link, BatchReader event) except -1

    @cython.locals(connection=Connection, size=Py_ssize_t, opcode=int, output=Output, sent=int)
    cdef void _push(self, BatchReader event) except *

    @cython.locals(frame=bytes, data=bytes, opcode=int, size=Py_ssize_t, connections=list, connection=Connection)
    cdef Py_ssize_t _broadcast(self, BatchReader event) except -1

    cdef void _queue_frame(self, Connection connection, bytes frame, Py_ssize_t size) except *

    @cython.locals(output=Output)
    cdef bint _admits(self, Connection connection, Py_ssize_t size) except -1
    cdef void _queued(self, Py_ssize_t size) except *

    @cython.locals(sequence="unsigned long long", _="unsigned long long")
    cdef void _acknowledge(self, WorkerLink link, BatchReader event) except *


cdef int _opcode(BatchReader event) except -1
