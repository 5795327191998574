import cython

from zwoole.reactor.core.connection cimport Connection

cdef int _FOR_CLOSES, _FOR_COMMANDS, _NOTHING
cdef int CLOSE
cdef bytearray _CREDIT


cdef class Window:
    cdef readonly unsigned long long next_sequence
    cdef readonly unsigned long long oldest
    cdef readonly Py_ssize_t places
    cdef readonly Py_ssize_t events
    cdef readonly Py_ssize_t bytes
    cdef readonly Py_ssize_t max_events
    cdef readonly Py_ssize_t max_bytes
    cdef unsigned long long _ring
    cdef list _connections
    cdef bytearray _events
    cdef list _data
    cdef dict _stragglers

    cpdef bint has_room(self, Py_ssize_t size) except -1
    cpdef bint has_place(self) except -1
    cpdef bint is_taken(self) except -1

    @cython.locals(at=Py_ssize_t)
    cpdef void skip_taken(self) except *

    @cython.locals(sequence="unsigned long long", at=Py_ssize_t)
    cpdef unsigned long long enter(self, Connection connection, int event, bytes data) except? 0

    @cython.locals(at=Py_ssize_t, connection=Connection, event=int, data=bytes, size=Py_ssize_t)
    cpdef Connection finish(self, unsigned long long sequence)

    cdef void _check_straggler(self, Py_ssize_t at, unsigned long long sequence) except *
