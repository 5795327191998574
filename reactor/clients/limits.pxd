import cython

from zwoole.reactor.core.connection cimport Connection
from zwoole.reactor.core.loop cimport Loop
from zwoole.reactor.core.registry cimport Registry
from zwoole.reactor.routing.router cimport Router

cdef int STAGE_OPEN


cdef class Limits:
    cdef readonly double message_rate
    cdef readonly double byte_rate
    cdef readonly Py_ssize_t partial_bytes
    cdef readonly unsigned long long pauses
    cdef readonly object resumes
    cdef readonly dict enforced
    cdef bint _closes
    cdef double _control_rate
    cdef Py_ssize_t _partial_limit
    cdef Loop _loop
    cdef Registry _registry
    cdef Router _router
    cdef object _closing

    cpdef bint take_message(self, Connection connection) except -1
    cpdef bint take_bytes(self, Connection connection, Py_ssize_t count) except -1
    cpdef bint take_control(self, Connection connection) except -1
    cpdef void hold(self, Connection connection, Py_ssize_t size) except *
    cpdef void enforce(self, Connection connection, str setting, int code, str reason) except *
    cpdef void forget(self, Connection connection) except *
    @cython.locals(too_much=double)
    cdef bint _allow(self, Connection connection, double full_at, str setting, str reason) except -1
    cdef void _pause(self, Connection connection) except *


cpdef double taken(double full_at, double seconds, double now) except? -1
cpdef double over(double full_at, double now) except? -1
