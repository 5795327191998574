import cython

from zwoole.reactor.core.syscalls cimport write_from
from zwoole.shared.websocket.frames cimport append_header, build_frame
from zwoole.shared.websocket.protocol cimport Protocol
from zwoole.shared.wire.batches cimport BatchReader

cdef Py_ssize_t _LARGE, _FULL_CHUNK


cdef class Connection:
    cdef readonly unsigned long long fd
    cdef public int descriptor
    cdef public int stage
    cdef readonly str remote_addr
    cdef readonly int remote_port
    cdef readonly double accepted_at
    cdef public bytearray head
    cdef public Protocol protocol
    cdef public bytes record
    cdef public bint handler
    cdef public bytes state
    cdef public object slot
    cdef public object owner
    cdef public bint adopting
    cdef public int replays
    cdef public unsigned int outstanding
    cdef public Py_ssize_t outstanding_bytes
    cdef public object parked
    cdef public Py_ssize_t parked_bytes
    cdef public bytes unread
    cdef public bint waiting
    cdef public unsigned int interest
    cdef public double heard
    cdef public double pinged
    cdef public bytes late_pong
    cdef public bint throttled
    cdef public double message_bucket
    cdef public double byte_bucket
    cdef public double control_bucket
    cdef public Py_ssize_t partial
    cdef public int close_code
    cdef public str close_reason
    cdef public str close_initiator
    cdef public bint closed_down
    cdef public bint eof
    cdef public bint half_closed
    cdef public Py_ssize_t queued
    cdef public Py_ssize_t noted
    cdef public bint full
    cdef public bint full_told
    cdef public bint framed
    cdef public bint dirty
    cdef public object deflater
    cdef public object line
    cdef public Py_ssize_t pending
    cdef public bint rereading
    cdef bytearray _out
    cdef object _chunks

    @cython.locals(out=bytearray)
    cpdef void queue(self, bytes data) except *

    cpdef void queue_behind(self, bytes data) except *

    @cython.locals(size=Py_ssize_t, before=Py_ssize_t, out=bytearray)
    cpdef void queue_message(self, int opcode, BatchReader event) except *

    @cython.locals(out=bytearray, count=Py_ssize_t)
    cpdef int flush(self, Py_ssize_t most=*) except -1

    @cython.locals(size=Py_ssize_t)
    cpdef Py_ssize_t held(self) except -1
    cpdef int drop_oldest(self, Py_ssize_t size) except -1
    cpdef void drop_output(self) except *
    @cython.locals(out=bytearray)
    cdef bytearray _open_chunk(self)
    cdef void _queue_chunk(self, bytes data) except *
    @cython.locals(count=Py_ssize_t, size=Py_ssize_t, batch=list)
    cpdef int _flush_chunks(self, Py_ssize_t most) except -1
