import cython

from zwoole.shared.wire.batches cimport BatchReader
from zwoole.workers.links.commands cimport Commands
from zwoole.workers.core.counts cimport Counts
from zwoole.workers.invocation.received_frame cimport Frame, frame_of
from zwoole.workers.invocation.invocation cimport Invoker
from zwoole.workers.links.master_link cimport MasterLink
from zwoole.workers.links.masters cimport Masters
from zwoole.workers.invocation.scheduler cimport Scheduler

# Imported from modules whose Python names they are; as C integers they compare without an object.
cdef int MESSAGE
cdef int BODY_BYTES, BODY_TEXT
cdef int _OPCODE_OFFSET


cdef class Dispatcher:
    cdef public Scheduler scheduler
    cdef readonly bint taking
    cdef readonly unsigned long long unknown
    cdef public object on_command
    cdef readonly Invoker invoker
    cdef Commands _commands
    cdef Masters _masters
    cdef object _server
    cdef object _on_message

    @cython.locals(parts=list)
    cpdef bint take_batches(self, MasterLink link, int most) except -1

    @cython.locals(
        event=BatchReader, sequence="unsigned long long", before=double, now=double, kind=int,
        fd="unsigned long long", frame=Frame, invoker=Invoker, counts=Counts,
        scheduler=Scheduler,
    )
    cpdef void take_batch(self, MasterLink link, list parts) except *

    @cython.locals(before=double, counts=Counts)
    cdef void _take_rare(self, MasterLink link, unsigned long long sequence, int kind, BatchReader event) except *

    cdef void _take_command(self, MasterLink link, unsigned long long sequence, int kind, BatchReader event) except *
