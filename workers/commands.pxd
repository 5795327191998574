import cython

from zwoole.shared.websocket.mask cimport is_utf8
from zwoole.shared.memory.connection_table cimport ConnectionTable
from zwoole.shared.wire.batches cimport BatchReader, BatchWriter
from zwoole.workers.flusher cimport Flusher
from zwoole.workers.link cimport MasterLink

cdef int check_int(str name, object value) except -1


cdef class Commands:
    cdef public list links
    cdef public bint may_block
    cdef public object on_output
    cdef public object on_wait
    cdef readonly Flusher flusher
    cdef readonly object mailbox
    cdef public Py_ssize_t output_limit
    cdef public Py_ssize_t pipe_queue_bytes
    cdef public object on_welcome
    cdef public bint said_goodbye
    cdef public bint masters_ended
    cdef readonly set ended
    cdef bint _ends
    cdef Py_ssize_t _prune_at
    cdef unsigned long long _reactor_num

    @cython.locals(flusher=Flusher, before=int, taken=bint)
    cpdef bint push(self, long long fd, object data, object opcode=*) except -1

    @cython.locals(link=MasterLink, text=str)
    cdef bint _push(self, long long fd, object data, object opcode) except -1

    cpdef bint has_ended(self, long long fd) except -1

    @cython.locals(link=MasterLink)
    cpdef bint exists(self, object fd) except -1

    @cython.locals(link=MasterLink)
    cpdef bint is_established(self, object fd) except -1

    @cython.locals(link=MasterLink)
    cpdef unsigned long long buffered_amount(self, object fd) except? 1

    @cython.locals(link=MasterLink)
    cpdef bint congested(self) except -1

    @cython.locals(link=MasterLink, flusher=Flusher, before=int)
    cpdef void flush(self) except *

    cdef void _send_waiting(self) except *

    @cython.locals(link=MasterLink)
    cdef void _send_links(self) except *

    @cython.locals(link=MasterLink, place="unsigned long long")
    cdef MasterLink _link(self, long long fd)

    @cython.locals(link=MasterLink, before=int)
    cdef MasterLink _ready(self, unsigned long long place)

    cdef list _await_batch(self, MasterLink link)

    @cython.locals(batch=BatchReader)
    cdef void _wait_for_welcome(self, MasterLink link) except *

    @cython.locals(body=bytes)
    cdef void _add(self, MasterLink link, int kind, long long fd, object data, object opcode) except *

    @cython.locals(link=MasterLink)
    cdef bint _end(self, int kind, long long fd, int code, str reason) except -1

    cdef void _note(self) except *
    cdef void _press(self, MasterLink link) except *
    cdef void _wait_for_credit(self, MasterLink link) except *
