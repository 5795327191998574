import cython

from zwoole.reactor.core.connection cimport Connection
from zwoole.reactor.core.window cimport Window
from zwoole.shared.memory.progress_map cimport ProgressMap
from zwoole.shared.wire.batches cimport BatchReader, BatchWriter
from zwoole.shared.wire.zmtp_socket cimport ZmtpSocket


cdef int ADOPT, CLOSE, HANDSHAKE, MESSAGE, OPEN, PIPE_MESSAGE
cdef int RING, RING_MIN_BYTES


cdef class Worker


cdef class WorkerLink:
    cdef public Worker worker
    cdef readonly unsigned long long incarnation
    cdef readonly int pid
    cdef readonly ZmtpSocket wire
    cdef public unsigned int interest
    cdef readonly ProgressMap progress
    cdef readonly Window window
    cdef readonly BatchWriter writer
    cdef readonly object memory
    cdef public bint ready
    cdef public bint active
    cdef public bint retiring
    cdef public bint drained
    cdef public bint served
    cdef readonly bint closed
    cdef public bint deaf
    cdef public Py_ssize_t connections
    cdef public Py_ssize_t handlers
    cdef readonly object waiting
    cdef public bint touched
    cdef public unsigned long long batches
    cdef public unsigned long long received
    cdef public unsigned long long settled
    cdef public bint credit_asked
    cdef public BatchReader unfinished
    cdef public unsigned long long turn
    cdef public Py_ssize_t events_left
    cdef unsigned long long _credit_step
    cdef unsigned long long _credit_told
    cdef list _moved
    cdef bint _debug

    cpdef void send_handshake(self, Connection connection) except *
    cpdef void send_open(self, Connection connection) except *
    cpdef void send_adopt(self, Connection connection) except *
    cpdef void send_message(self, Connection connection, int event, bytes data) except *
    cpdef void send_close(self, Connection connection) except *
    cpdef void send_command(self, int kind, unsigned long long number, bytes body) except *
    cpdef void send_pipe_message(self, unsigned long long source, bytes body) except *
    cpdef void disown(self, Connection connection) except *
    cpdef void hand_over(self, Connection connection) except *
    cpdef bint may_drain(self) except -1
    cpdef bint owes_credit(self) except -1
    cpdef list receive(self)
    cpdef void flush(self) except *
    cpdef void connect(self, int descriptor) except *
    @cython.locals(window=Window)
    cdef void _enter(self, Connection connection, int event, bytes data) except *
    cdef void _own(self, Connection connection) except *


cdef class Worker:
    cdef readonly int id
    cdef public WorkerLink link
    cdef public Py_ssize_t connections
    cdef readonly object adoptions
    cdef readonly object pending_closes
    cdef readonly object held_back
    cdef public dict notices
    cdef readonly object pipe
    cdef public Py_ssize_t pipe_bytes
    cdef public double gone_since
