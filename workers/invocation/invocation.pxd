import cython

from zwoole.workers.links.commands cimport Commands
from zwoole.workers.core.counts cimport Counts


cdef class Invoker:
    cdef readonly Counts counts
    cdef readonly double slow_s
    cdef public bint exit_requested
    cdef public bint forked
    cdef readonly object server
    cdef readonly dict callbacks
    cdef Commands _commands
    cdef object _on_message
    cdef set _never_awaited

    @cython.locals(before=double, seconds=double)
    cpdef void call(self, int kind, long long fd, object body) except *
