import cython

from zwoole.reactor.core.transport cimport Transport
from zwoole.shared.websocket.frames cimport append_header, build_frame
from zwoole.shared.wire.batches cimport BatchReader

cdef Py_ssize_t _LARGE, _FULL_CHUNK, _MOST_FROM_RING
cdef int _FIN


cdef class Output:
    cdef readonly Py_ssize_t queued
    cdef public Py_ssize_t pending
    cdef public Py_ssize_t noted
    cdef public object jobs
    cdef bytearray _out
    cdef object _chunks
    # Small numbers and flags, in as few bytes as possible: there are many of these objects.
    cdef public unsigned char framed
    cdef public unsigned char full
    cdef public unsigned char full_told

    @cython.locals(out=bytearray)
    cpdef void queue(self, bytes data) except *

    cpdef void queue_behind(self, bytes data) except *

    @cython.locals(size=Py_ssize_t, before=Py_ssize_t, out=bytearray)
    cpdef void queue_message(self, int opcode, BatchReader event) except *
    @cython.locals(size=Py_ssize_t, header=bytearray, count=Py_ssize_t, rest=bytes)
    cpdef int send_from_ring(self, Transport transport, int descriptor, int opcode, BatchReader event) except? -32768

    @cython.locals(out=bytearray, count=Py_ssize_t)
    cpdef int flush(self, Transport transport, int descriptor, Py_ssize_t most=*) except -1

    @cython.locals(size=Py_ssize_t)
    cpdef Py_ssize_t held(self) except -1
    cpdef int drop_oldest(self, Py_ssize_t size) except -1
    cpdef void drop(self) except *
    @cython.locals(out=bytearray)
    cdef bytearray _open_chunk(self)
    cdef void _queue_chunk(self, bytes data) except *
    @cython.locals(count=Py_ssize_t, size=Py_ssize_t, batch=list)
    cpdef int _flush_chunks(self, Transport transport, int descriptor, Py_ssize_t most) except -1
