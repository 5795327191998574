import cython

from zwoole.reactor.core.connection cimport Connection
from zwoole.shared.memory.connection_table cimport ConnectionTable


cdef class Registry:
    cdef readonly ConnectionTable table
    cdef readonly dict by_descriptor
    cdef public Py_ssize_t limit
    cdef dict _by_address
    cdef dict _finishing
    cdef list _slots
    cdef Py_ssize_t _places_taken
    cdef int _reactor
    cdef int _reactor_num

    @cython.locals(fd="unsigned long long", connection=Connection)
    cpdef Connection add(self, int descriptor, str remote_addr, int remote_port)
    @cython.locals(count=Py_ssize_t)
    cpdef void forget_socket(self, Connection connection) except *
    cpdef void remove(self, Connection connection) except *
    @cython.locals(connection=Connection)
    cpdef Connection find(self, unsigned long long fd)
