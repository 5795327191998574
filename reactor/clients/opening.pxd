import cython

from zwoole.reactor.clients.handshake cimport Upgrade, find_head_end, parse_upgrade, switching_protocols
from zwoole.reactor.clients.inbound cimport Inbound
from zwoole.reactor.clients.policy cimport Policy
from zwoole.reactor.core.connection cimport Connection
from zwoole.reactor.core.deadlines cimport Deadlines
from zwoole.reactor.core.loop cimport Loop
from zwoole.reactor.core.output cimport Output
from zwoole.reactor.core.registry cimport Registry
from zwoole.reactor.routing.router cimport Router
from zwoole.shared.request cimport pack_request
from zwoole.shared.websocket.protocol cimport Protocol
from zwoole.shared.websocket.traced_protocol cimport TracedProtocol

# The modules that define these names export Python objects; as C integers they compare without an object.
cdef int STAGE_HANDSHAKE, STAGE_OPEN
cdef int ESTABLISHED
cdef Py_ssize_t HEADROOM


cdef class Opening:
    cdef public object routes
    cdef readonly unsigned long long opened
    cdef readonly unsigned long long compressed
    cdef readonly dict refused
    cdef Loop _loop
    cdef Registry _registry
    cdef Inbound _inbound
    cdef Router _router
    cdef object _closing
    cdef object _life
    cdef Policy _policy
    cdef dict _asked
    cdef bint _debug
    cdef int _level
    cdef bint _framed
    cdef Py_ssize_t _max_head
    cdef Py_ssize_t _max_message
    cdef Py_ssize_t _max_fragments
    cdef Deadlines _timeouts

    cpdef void begin(self, Connection connection) except *
    @cython.locals(head=bytearray, searched=Py_ssize_t, end=Py_ssize_t)
    cpdef void receive_head(self, Connection connection, Py_ssize_t count) except *
    @cython.locals(upgrade=Upgrade, response=bytes)
    cdef void _open(self, Connection connection, bytes head, bytes rest) except *
    cdef void _record(self, Connection connection, Upgrade upgrade, object subprotocol) except *
    cpdef Protocol new_protocol(self, Connection connection, object inflater)
    cdef void _switch(
        self, Connection connection, Upgrade upgrade, object subprotocol, object agreement, bytes response
    ) except *
    cdef void _tell_opened(self, Connection connection, Upgrade upgrade) except *
    cpdef void _forget(self, Connection connection) except *
