from zwoole.reactor.clients.opening cimport Opening
from zwoole.reactor.core.deadlines cimport Deadlines
from zwoole.reactor.core.loop cimport Loop
from zwoole.reactor.core.registry cimport Registry


cdef class Listener:
    cdef readonly unsigned long long accepted
    cdef readonly unsigned long long rests
    cdef list _sockets
    cdef Loop _loop
    cdef Registry _registry
    cdef Opening _opening
    cdef double _rate
    cdef Py_ssize_t _per_address
    cdef double _bucket
    cdef bint _listening
    cdef readonly object _spare
    cdef Deadlines _pause

    cdef void _welcome(self, int descriptor, str address, int port) except *
