import cython

from zwoole.shared.wire.batches cimport BatchReader
from zwoole.workers.links.flusher cimport Flusher
from zwoole.workers.links.master_link cimport MasterLink


cdef class Masters:
    cdef public list links
    cdef readonly Flusher flusher
    cdef readonly object mailbox
    cdef public bint may_block
    cdef public object on_output
    cdef public object on_wait
    cdef public object on_welcome
    cdef public bint said_goodbye
    cdef public bint have_ended
    cdef bint _ends
    cdef unsigned long long _reactor_num

    @cython.locals(link=MasterLink, reactor="unsigned long long")
    cdef MasterLink link_of(self, long long fd)

    @cython.locals(link=MasterLink, before=int)
    cdef MasterLink ready(self, unsigned long long reactor)

    @cython.locals(link=MasterLink)
    cpdef bint congested(self) except -1

    @cython.locals(link=MasterLink)
    cpdef bint has_batches(self) except -1
    @cython.locals(link=MasterLink)
    cpdef bint is_blocked(self) except -1

    cdef void relieve(self, MasterLink link) except *

    @cython.locals(flusher=Flusher, before=int)
    cpdef void flush(self) except *

    cdef void note(self) except *
    cdef void _send_waiting(self) except *

    @cython.locals(link=MasterLink)
    cdef void _send_links(self) except *

    cdef list _await_batch(self, MasterLink link)

    @cython.locals(batch=BatchReader)
    cdef void _wait_for_welcome(self, MasterLink link) except *

    cdef void _wait_for_credit(self, MasterLink link) except *
