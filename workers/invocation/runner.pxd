import cython

from zwoole.workers.links.commands cimport Commands
from zwoole.workers.core.counts cimport Counts
from zwoole.workers.invocation.received_frame cimport frame_of
from zwoole.workers.invocation.invocation cimport Invoker
from zwoole.workers.invocation.lanes cimport Job, Lanes
from zwoole.workers.links.master_link cimport MasterLink
from zwoole.workers.links.masters cimport Masters
from zwoole.workers.core.steps cimport Steps, references
from zwoole.workers.core.waiter cimport Waiter

# Imported from modules whose Python names they are; as C integers they compare without an object.
cdef int CLOSE, HANDSHAKE, MESSAGE
cdef Py_ssize_t _MAX_IDLE_RUNNERS


@cython.final
cdef class Runners:
    cdef readonly Lanes lanes
    cdef public bint stopping
    cdef readonly set running
    cdef list _idle
    cdef Invoker _invoker
    cdef Commands _commands
    cdef Masters _masters
    cdef object _loop
    cdef object _server
    cdef object _on_message

    cdef bint _runs
    cdef public bint begins
    cdef public object call_run

    cpdef bint want_one(self) except -1

    @cython.locals(runner=Runner, waiter=Waiter)
    cpdef void run(self, bint debug) except *

    cdef void leave(self) except *

    @cython.locals(runner=Runner, job=Job)
    cpdef list suspended(self)

    @cython.locals(runner=Runner)
    cdef void _make(self) except *


@cython.final
cdef class Runner:
    cdef public object task
    cdef public bint is_used
    cdef readonly Waiter waiter
    cdef Runners _runners
    cdef Steps _steps
    cdef Job _job
    cdef object _name
    cdef double _before
    cdef double _now
    cdef Py_ssize_t _expected

    @cython.locals(runners=Runners, job=Job, waiter=Waiter)
    cdef object _advance(self, object error)

    @cython.locals(runners=Runners)
    cdef void _leave(self) except *

    @cython.locals(runners=Runners, invoker=Invoker, steps=Steps, link=MasterLink, arguments=tuple, before=double,
                   now=double)
    cdef object _begin(self, Job job)

    @cython.locals(steps=Steps)
    cdef object _step(self, Job job, object error)

    @cython.locals(invoker=Invoker)
    cdef void _succeed(self, Job job, object result, double now) except *

    cdef void _fail(self, Job job, object error) except *

    @cython.locals(runners=Runners, counts=Counts, link=MasterLink, begun=double)
    cdef void _finish(self, Job job, double now) except *
