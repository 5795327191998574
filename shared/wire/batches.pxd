import cython

from zwoole.shared.wire.buffers cimport append_ascii, append_frame, append_slice, is_ascii
from zwoole.shared.wire.payload_ring cimport PayloadRing

cdef int _FIXINT_END, _FIXSTR, _FIXSTR_MARK, _FIXSTR_LENGTH, _NIL, _BINARY_PART, _TEXT_PART, _BIN8, _BIN16
cdef int _UINT8, _UINT16, _UINT32, _UINT64, _FIXEXT8, _STR8, _STR16, _ARRAY32
cdef int _BINARY_IN_RING, _TEXT_IN_RING, _INLINE, _PART, _RING, _COUNT_AT, _FIRST_AT, _CREDIT_AT
cdef Py_ssize_t _RING_MIN_BYTES, _ATTACH_BYTES
cdef bytes _EMPTY_BATCH


cdef class BatchWriter:
    cdef bytearray _buffer
    cdef list _parts
    cdef public PayloadRing ring
    cdef readonly Py_ssize_t events
    cdef readonly Py_ssize_t size
    cdef readonly Py_ssize_t ring_bytes

    @cython.locals(buffer=bytearray, size=Py_ssize_t)
    cpdef void add_bytes(self, int kind, unsigned long long number, bytes body) except *

    @cython.locals(buffer=bytearray, size=Py_ssize_t)
    cpdef void add_text(self, int kind, unsigned long long number, bytes body) except *

    @cython.locals(buffer=bytearray, size=Py_ssize_t, ring=PayloadRing)
    cpdef void add_str(self, int kind, unsigned long long number, str text) except *

    cpdef void add_integer(self, int kind, unsigned long long number, unsigned long long body) except *
    cpdef void add(self, int kind, unsigned long long number) except *

    @cython.locals(buffer=bytearray, count="unsigned long long", i=int)
    cpdef list take(self, unsigned long long first, unsigned long long credit)

    @cython.locals(ring=PayloadRing)
    cdef bint _put(self, int extension, bytes body) except -1
    cdef bint _note(self, int extension, Py_ssize_t size, Py_ssize_t position) except -1

    cdef void _attach(self, int mark, bytes body) except *


@cython.final  # its small methods run for every event; in a final class they need no lookup
cdef class BatchReader:
    cdef readonly unsigned long long first
    cdef readonly unsigned long long credit
    cdef readonly unsigned long long kind
    cdef readonly unsigned long long number
    cdef readonly int body_type
    cdef readonly unsigned long long body_integer
    cdef readonly Py_ssize_t body_size

    cdef list _parts
    cdef Py_ssize_t _parts_read
    cdef bytes _buffer
    cdef Py_ssize_t _position
    cdef Py_ssize_t _end
    cdef Py_ssize_t _start
    cdef readonly unsigned long long left
    cdef int _attached
    cdef PayloadRing _ring
    cdef readonly Py_ssize_t ring_bytes

    cpdef bint next(self) except -1

    @cython.locals(buffer="const unsigned char *")
    cpdef bytes data(self)

    @cython.locals(buffer="const unsigned char *")
    cpdef str text(self)

    cpdef bytearray append_frame(self, bytearray out, unsigned char first)

    @cython.locals(mark="unsigned char")
    cdef void _read_body(self) except *

    @cython.locals(extension=int, place="unsigned long long")
    cdef void _read_place(self) except *

    cdef bytes _in_ring(self)
    cpdef object view(self)

    cdef void _span(self, int body_type, unsigned long long size) except *

    @cython.locals(mark="unsigned char")
    cdef unsigned long long _integer(self) except? 1

    @cython.locals(data="const unsigned char *", value="unsigned long long", i=Py_ssize_t)
    cdef unsigned long long _unsigned(self, int size) except? 1

    @cython.locals(data="const unsigned char *")
    cdef int _byte(self) except -1


cdef void append_text_head(bytearray buffer, Py_ssize_t size) except *

@cython.locals(size=int)
cpdef void append_integer(bytearray buffer, unsigned long long value) except *
