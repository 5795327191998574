import cython

from zwoole.workers.core.fifo cimport Fifo
from zwoole.workers.links.master_link cimport MasterLink


# Nothing that a job refers to refers to a job, so the garbage collector need not look at those that are queued.
@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class Job:
    cdef public MasterLink link
    cdef public unsigned long long sequence
    cdef public int kind
    cdef public long long fd
    cdef public int opcode
    cdef public object body
    cdef public bint has_lane


@cython.locals(job=Job)
cpdef Job job_of(MasterLink link, unsigned long long sequence, int kind, long long fd, int opcode, object body)


@cython.final
cdef class Lanes:
    cdef Fifo _queue
    cdef dict _lanes

    cpdef void add(self, Job job) except *
    cpdef bint waits(self) except -1
    cpdef bint busy(self) except -1

    @cython.locals(job=Job)
    cpdef Job take(self)

    cpdef void suspended(self, Job job) except *

    @cython.locals(follower=Job)
    cpdef void ended(self, Job job) except *
