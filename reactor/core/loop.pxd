import cython

from zwoole.reactor.core.connection cimport Connection
from zwoole.reactor.core.deadlines cimport Clock, Timeouts
from zwoole.reactor.core.output cimport Output
from zwoole.reactor.core.registry cimport Registry
from zwoole.reactor.core.worker_link cimport WorkerLink
from zwoole.shared.wire.zmtp_socket cimport ZmtpSocket

# As C integers they compare without an object.
cdef unsigned int _BROKEN, _IN, _OUT
cdef int STAGE_OPEN


cdef class Loop:
    cdef readonly unsigned long long turns
    cdef readonly Clock clock
    cdef readonly double now
    cdef readonly double lag
    cdef readonly double longest_lag
    cdef object _readable
    cdef object _unread
    cdef object _broken
    cdef object _flushed
    cdef object _batch
    cdef object _link_ended
    cdef list _before_sleep
    cdef object _serve
    cdef object _queue_changed
    cdef object _epoll
    cdef Registry _registry
    cdef dict _sources
    cdef dict _last_sources
    cdef dict _links
    cdef list _timers
    cdef double _timers_due
    cdef list _dirty
    cdef list _touched
    cdef list _again
    cdef list _reread
    cdef list _reread_next
    cdef list _served
    cdef list _next_turn
    cdef list _received
    cdef bint _running
    cdef bint _debug
    cdef public double busy_poll_s
    cdef double _usual_wait
    cdef double _usual_events

    cpdef void join(self, Connection connection) except *
    cpdef void leave(self, Connection connection) except *
    cpdef void listen(self, Connection connection, unsigned int mask) except *
    cpdef void flush_later(self, Connection connection) except *
    @cython.locals(connection=Connection)
    cpdef void flush_connections(self, Py_ssize_t most=*) except *
    cpdef void touch(self, WorkerLink link) except *
    cpdef void read_later(self, Connection connection) except *
    cpdef void read_next_turn(self, Connection connection) except *
    cpdef void serve_later(self, WorkerLink link) except *

    @cython.locals(
        connections=dict,
        connection=Connection,
        link=WorkerLink,
        mask="unsigned int",
        descriptor=int,
        lag=double,
        timeout=double,
        expected=double,
        timer=Timeouts,
    )
    cpdef void turn(self) except *

    @cython.locals(spin=double, began=double, waited=double)
    cdef list _wait(self, double timeout)
    @cython.locals(timer=Timeouts, end=double)
    cdef double _sleep_time(self) except? -1
    cdef void _connection_ready(self, Connection connection, unsigned int mask) except *
    @cython.locals(wire=ZmtpSocket)
    cdef void _link_ready(self, WorkerLink link, unsigned int mask) except *
    @cython.locals(mask="unsigned int")
    cdef void _watch(self, WorkerLink link, ZmtpSocket wire) except *
    @cython.locals(link=WorkerLink, wire=ZmtpSocket)
    cdef void _receive(self) except *
    @cython.locals(connection=Connection)
    cdef void _reread_connections(self) except *
    @cython.locals(link=WorkerLink, rest=list)
    cdef void _flush(self) except *
    @cython.locals(error=int, mask="unsigned int", output=Output, queued=Py_ssize_t)
    cdef void _flush_connection(self, Connection connection, Py_ssize_t most) except *
