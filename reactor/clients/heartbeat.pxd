import cython

from zwoole.reactor.core.connection cimport Connection
from zwoole.reactor.core.deadlines cimport Wheel
from zwoole.reactor.core.loop cimport Loop
from zwoole.reactor.core.registry cimport Registry

cdef int STAGE_OPEN
cdef unsigned int IN
cdef double _NEVER


cdef class Heartbeat:
    cdef readonly unsigned long long pings
    cdef double _interval
    cdef double _timeout
    cdef double _idle
    cdef Loop _loop
    cdef Registry _registry
    cdef object _inbound
    cdef object _limits
    cdef readonly Wheel _looks

    @cython.locals(now=double)
    cpdef void watch(self, Connection connection, object _=*) except *
    cpdef void forget(self, Connection connection) except *
    @cython.locals(now=double)
    cdef str _overdue(self, Connection connection)
    cdef bint _ping_due(self, Connection connection) except -1
    cdef void _ping(self, Connection connection) except *
    @cython.locals(now=double, due=double, end=double)
    cdef void _look_later(self, Connection connection) except *


cdef bint is_read(Connection connection) except -1
