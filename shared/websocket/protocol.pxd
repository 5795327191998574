import cython

from zwoole.shared.websocket.frames cimport FrameHeader, build_frame, read_header
from zwoole.shared.websocket.mask cimport is_utf8, unmask
from zwoole.shared.websocket.partial_message cimport Pieces

cdef FrameHeader _HEADER
# From modules whose Python names they are; as C integers they compare without an object.
cdef int OP_CLOSE, OP_CONTINUATION, OP_PING, OP_PONG, OP_TEXT
cdef Py_ssize_t _SLICE


cdef class Protocol:
    cdef public bytes data
    cdef public str close_reason
    cdef unsigned long long _max_message
    cdef bytearray _buffer
    cdef Py_ssize_t _position
    cdef Py_ssize_t _end
    cdef bytes _tail
    cdef unsigned long long _remaining
    cdef Pieces _partial
    cdef bytes _utf8_tail
    cdef object _inflater
    cdef bytes _pending
    cdef Py_ssize_t _inflated
    # Small numbers and flags, in as few bytes as possible: there are many of these objects.
    cdef unsigned int _max_fragments
    cdef unsigned int _key
    cdef unsigned int _fragments
    cdef public unsigned short close_code
    cdef public unsigned char opcode
    cdef public unsigned char close_sent
    cdef public unsigned char receiving
    cdef unsigned char _fin
    cdef unsigned char _phase
    cdef unsigned char _message_opcode
    cdef unsigned char _compressed

    @cython.locals(size=Py_ssize_t)
    cpdef void receive_data(self, bytearray buffer, Py_ssize_t start, Py_ssize_t end) except *

    @cython.locals(event=int)
    cpdef int next_event(self) except -1

    @cython.locals(rest=bytes)
    cpdef bytes take_rest(self)

    cpdef Py_ssize_t partial_bytes(self)
    cpdef void stop_receiving(self) except *
    cpdef void give_up(self, int code, str reason) except *
    cpdef bytes close_frame(self, int code, str reason)

    @cython.locals(
        buffer=bytearray,
        partial=Pieces,
        held=Py_ssize_t,
        size=int,
        opcode=int,
        length="unsigned long long",
        start=Py_ssize_t,
        slack="unsigned long long",
        limit="unsigned long long",
    )
    cdef int _begin_frame(self) except -1

    @cython.locals(buffer=bytearray, partial=Pieces, size=Py_ssize_t, chunk=bytes)
    cdef int _continue_payload(self) except -1

    @cython.locals(partial=Pieces, room=Py_ssize_t, limit=Py_ssize_t, out=bytes, size=Py_ssize_t, more=bint)
    cdef int _inflate(self) except -1

    cdef int _end_compressed(self) except -1
    cdef bint _check_text(self, bytes chunk, bint final) except -1
    cdef int _finish_message(self) except -1
    cdef int _control_frame(self, int opcode, bytes payload) except -1
    cdef int _close_frame(self, bytes payload) except -1
    cdef int _fail(self, int code, str reason) except -1
