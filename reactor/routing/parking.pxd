import cython

from zwoole.reactor.core.connection cimport Connection


cdef class Parking:
    cdef readonly Py_ssize_t bytes
    cdef Py_ssize_t _max_messages
    cdef Py_ssize_t _max_bytes
    cdef Py_ssize_t _total

    cpdef bint is_full(self) except -1
    cpdef bint may_read(self, Connection connection) except -1
    cpdef void park(self, Connection connection, int event, bytes data) except *
    cpdef tuple take(self, Connection connection)
    cpdef void discard(self, Connection connection) except *
    cpdef void keep_unread(self, Connection connection, bytes rest) except *
    cpdef bytes take_unread(self, Connection connection)
    cdef void _count(self, Connection connection, Py_ssize_t messages, Py_ssize_t size) except *
