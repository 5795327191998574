from zwoole.reactor.core.output cimport Output
from zwoole.reactor.core.transport cimport Transport
from zwoole.shared.websocket.protocol cimport Protocol

cdef bytearray _AFTER


cdef class Connection:
    cdef readonly unsigned long long fd
    cdef public Transport transport
    cdef readonly Output output
    cdef readonly str remote_addr
    cdef readonly double accepted_at
    cdef public bytearray head
    cdef public Protocol protocol
    cdef public bytes record
    cdef public bytes state
    cdef public object worker
    cdef public object owner
    cdef public Py_ssize_t outstanding_bytes
    cdef public object parked
    cdef public Py_ssize_t parked_bytes
    cdef public bytes unread
    cdef public double heard
    cdef public double pinged
    cdef public bytes late_pong
    cdef public double message_bucket
    cdef public double byte_bucket
    cdef public double control_bucket
    cdef public Py_ssize_t partial
    cdef public str close_reason
    cdef public str close_initiator
    cdef public object deflater
    # Small numbers and flags, in as few bytes as possible: there are many of these objects.
    cdef public int descriptor
    cdef public unsigned int outstanding
    cdef public unsigned int interest
    cdef readonly unsigned short remote_port
    cdef public unsigned short close_code
    cdef readonly unsigned char stage
    cdef public unsigned char handler
    cdef public unsigned char adopting
    cdef public unsigned char replays
    cdef public unsigned char waiting
    cdef public unsigned char throttled
    cdef public unsigned char closed_down
    cdef public unsigned char eof
    cdef public unsigned char half_closed
    cdef public unsigned char dirty
    cdef public unsigned char rereading

    cpdef void enter(self, int stage) except *
