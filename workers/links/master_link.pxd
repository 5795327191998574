import cython

from zwoole.shared.memory.progress_map cimport ProgressMap
from zwoole.shared.memory.connection_table cimport ConnectionTable
from zwoole.shared.memory.turn_counter cimport TurnCounter
from zwoole.shared.wire.batches cimport BatchWriter
from zwoole.shared.wire.zmtp_socket cimport ZmtpSocket
from zwoole.workers.links.flusher cimport Flusher

cdef Py_ssize_t _FLUSH_BYTES
cdef double _AGED_S


cdef class MasterLink:
    cdef readonly unsigned long long incarnation
    cdef readonly ZmtpSocket wire
    cdef public object unwatch
    cdef readonly BatchWriter writer
    cdef readonly ConnectionTable table
    cdef public unsigned long long credit
    cdef readonly unsigned long long sent
    cdef readonly unsigned long long received
    cdef public Py_ssize_t up_window
    cdef public bint ready
    cdef readonly bint closed
    cdef readonly set owned
    cdef public list inbox
    cdef readonly object memory
    cdef public TurnCounter turns
    cdef ProgressMap _progress
    cdef Flusher _flusher
    cdef object _run_dir
    cdef double _unsent_since
    cdef unsigned long long _worker_incarnation
    cdef unsigned long long _batches
    cdef unsigned long long _ack_first
    cdef unsigned long long _ack_count
    cdef bint _debug

    cpdef list receive(self)
    @cython.locals(before=int)
    cpdef list receive_new(self)

    @cython.locals(wire=ZmtpSocket, parts=list)
    cdef list _receive(self)
    cpdef void look(self) except *
    @cython.locals(before=int)
    cpdef void resume(self) except *
    cpdef void started(self, unsigned long long sequence) except *
    @cython.locals(flusher=Flusher, before=int)
    cpdef void finished(self, unsigned long long sequence) except *
    cpdef void _acknowledge(self, unsigned long long sequence) except *
    cpdef Py_ssize_t in_flight(self) except? -1
    cpdef bint flush_due(self, double begun, double now) except -1

    @cython.locals(before=int)
    cpdef void flush(self) except *

    @cython.locals(wire=ZmtpSocket, parts=list)
    cpdef void send_waiting(self) except *

    cpdef bint has_batches(self) except -1
    cpdef bint is_blocked(self) except -1
    @cython.locals(wire=ZmtpSocket)
    cdef void _end(self) except *

    cdef void _write_ack(self) except *
