import cython

from zwoole.reactor.core.connection cimport Connection
from zwoole.reactor.core.deadlines cimport Deadlines
from zwoole.reactor.core.loop cimport Loop
from zwoole.reactor.core.output cimport Output
from zwoole.reactor.core.registry cimport Registry
from zwoole.reactor.routing.router cimport Router
from zwoole.shared.memory.connection_table cimport ConnectionTable
from zwoole.shared.websocket.protocol cimport Protocol

# The modules that define these names export Python objects; as C integers they compare without an object.
cdef int STAGE_CLOSING, STAGE_ENDING, STAGE_GONE, STAGE_HANDSHAKE, STAGE_LINGERING, STAGE_OPEN
cdef int CLOSE_ABNORMAL, CLOSE_NO_STATUS, CLOSE_TRY_AGAIN_LATER
cdef int TABLE_CLOSING
cdef unsigned int IN


cdef class Closing:
    cdef readonly dict closed
    cdef bint _debug
    cdef Loop _loop
    cdef Registry _registry
    cdef Router _router
    cdef object _life
    cdef object _refuse_unanswered
    cdef Deadlines _ending
    cdef Deadlines _closing

    @cython.locals(protocol=Protocol)
    cpdef void client_closed(self, Connection connection) except *
    @cython.locals(protocol=Protocol)
    cpdef void violated(self, Connection connection) except *
    @cython.locals(output=Output)
    cpdef void end_of_stream(self, Connection connection) except *
    cpdef void broken(self, Connection connection, int error) except *
    cpdef void cut(self, Connection connection) except *
    cpdef void refused(self, Connection connection) except *
    cpdef void finish_ending(self, Connection connection) except *
    cpdef void flushed(self, Connection connection) except *
    cdef void _begin_ending(self, Connection connection, int code, str reason, str initiator) except *
    cdef void _note_end(self, Connection connection, int code, str reason, str initiator) except *
    cdef void _tell_worker(self, Connection connection) except *
    cdef void _linger(self, Connection connection) except *
    cdef void _half_close(self, Connection connection) except *
    cdef void _drop_socket(self, Connection connection) except *
    cdef void _destroy(self, Connection connection) except *
