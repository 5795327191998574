import cython

from zwoole.workers.links.arguments cimport check_fd, check_int
from zwoole.workers.links.flusher cimport Flusher
from zwoole.workers.links.master_link cimport MasterLink
from zwoole.workers.links.masters cimport Masters

# Imported from modules whose Python names they are; as C integers they compare without an object.
cdef int ESTABLISHED, FREE
cdef int OP_TEXT
cdef int BROADCAST, PING, PUSH
cdef Py_ssize_t FLUSH_BYTES


cdef class Commands:
    cdef readonly Masters masters
    cdef readonly set ended
    cdef Flusher _flusher
    cdef Py_ssize_t _pipe_queue_bytes
    cdef Py_ssize_t _prune_at
    cdef int _reactor_num

    @cython.locals(flusher=Flusher, before=int, taken=bint, number="long long")
    cpdef bint push(self, object fd, object data, object opcode=*) except -1

    @cython.locals(link=MasterLink, text=str)
    cdef bint _push(self, long long fd, object data, object opcode) except -1

    cpdef bint has_ended(self, long long fd) except -1

    @cython.locals(link=MasterLink)
    cdef MasterLink _link_if_open(self, long long fd)

    @cython.locals(link=MasterLink)
    cpdef bint exists(self, object fd) except -1

    @cython.locals(link=MasterLink)
    cpdef bint is_established(self, object fd) except -1

    @cython.locals(link=MasterLink)
    cpdef unsigned long long buffered_amount(self, object fd) except? 1

    @cython.locals(body=bytes)
    cdef void _add(self, MasterLink link, int kind, long long fd, object data, object opcode) except *

    @cython.locals(link=MasterLink)
    cdef bint _end(self, int kind, long long fd, int code, str reason) except -1
