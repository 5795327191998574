import cython

from zwoole.reactor.core.connection cimport Connection
from zwoole.reactor.clients.closing cimport Closing
from zwoole.reactor.clients.limits cimport Limits
from zwoole.reactor.core.loop cimport Loop
from zwoole.reactor.routing.parking cimport Parking
from zwoole.reactor.routing.router cimport Router
from zwoole.shared.websocket.frames cimport build_frame
from zwoole.shared.websocket.protocol cimport Protocol

# The modules that define these names export Python objects; as C integers they compare without an object.
cdef int STAGE_HANDSHAKE, STAGE_OPEN, STAGE_CLOSING
cdef int HEADROOM
cdef unsigned int IN, OUT
cdef int CLOSED_BY_PEER, FAILED, MESSAGE, NEED_DATA, PING, PONG, YIELD


cdef class Inbound:
    cdef readonly unsigned long long messages
    cdef readonly unsigned long long bytes
    cdef object _receive_head
    cdef bint _debug
    cdef readonly bytearray buffer
    cdef Loop _loop
    cdef Router _router
    cdef Parking _parking
    cdef Closing _closing
    cdef Limits _limits

    @cython.locals(count=Py_ssize_t)
    cpdef void read(self, Connection connection) except *

    @cython.locals(end=Py_ssize_t)
    cpdef void process(self, Connection connection, bytes data) except *

    cpdef void read_again(self, Connection connection) except *

    @cython.locals(stage=int, protocol=Protocol)
    cdef void _received(self, Connection connection, Py_ssize_t count) except *

    @cython.locals(protocol=Protocol, event=int, may_go_on=bint, held=Py_ssize_t)
    cdef void _take_events(self, Connection connection) except *
    cdef void _answer_ping(self, Connection connection, bytes payload) except *
