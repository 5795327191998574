import cython

from zwoole.shared.wire.batches cimport BatchReader
from zwoole.workers.commands cimport Commands
from zwoole.workers.counts cimport Counts
from zwoole.workers.frame cimport Frame
from zwoole.workers.link cimport MasterLink


cdef class Dispatcher:
    cdef public object scheduler
    cdef readonly Counts counts
    cdef public unsigned long long events
    cdef readonly unsigned long long unknown
    cdef public bint exit_requested
    cdef public bint forked
    cdef public double record_at
    cdef public object on_record
    cdef public object on_command
    cdef object _server
    cdef Commands _commands
    cdef dict _callbacks
    cdef object _on_message
    cdef set _never_awaited
    cdef readonly double slow_s

    @cython.locals(
        event=BatchReader, sequence="unsigned long long", before=double, now=double, kind=int,
        fd="unsigned long long", frame=Frame,
    )
    cpdef void take_batch(self, MasterLink link, list parts) except *

    @cython.locals(before=double)
    cdef void _take_rare(self, MasterLink link, unsigned long long sequence, int kind, BatchReader event) except *

    @cython.locals(before=double, seconds=double)
    cdef void _run(self, int kind, long long fd, object body) except *

    cdef void _take_command(self, MasterLink link, unsigned long long sequence, int kind, BatchReader event) except *
