from zwoole.reactor.core.output cimport Output
from zwoole.reactor.core.transport cimport Transport
from zwoole.shared.websocket.protocol cimport Protocol

cdef bytearray _AFTER


cdef class Connection:
    cdef readonly unsigned long long fd
    cdef public int descriptor
    cdef readonly int stage
    cdef public Transport transport
    cdef readonly Output output
    cdef readonly str remote_addr
    cdef readonly int remote_port
    cdef readonly double accepted_at
    cdef public bytearray head
    cdef public Protocol protocol
    cdef public bytes record
    cdef public bint handler
    cdef public bytes state
    cdef public object worker
    cdef public object owner
    cdef public bint adopting
    cdef public int replays
    cdef public unsigned int outstanding
    cdef public Py_ssize_t outstanding_bytes
    cdef public object parked
    cdef public Py_ssize_t parked_bytes
    cdef public bytes unread
    cdef public bint waiting
    cdef public unsigned int interest
    cdef public double heard
    cdef public double pinged
    cdef public bytes late_pong
    cdef public bint throttled
    cdef public double message_bucket
    cdef public double byte_bucket
    cdef public double control_bucket
    cdef public Py_ssize_t partial
    cdef public int close_code
    cdef public str close_reason
    cdef public str close_initiator
    cdef public bint closed_down
    cdef public bint eof
    cdef public bint half_closed
    cdef public bint dirty
    cdef public object deflater
    cdef public bint rereading

    cpdef void enter(self, int stage) except *
