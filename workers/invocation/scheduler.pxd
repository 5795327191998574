import cython

from zwoole.workers.links.commands cimport Commands
from zwoole.workers.core.counts cimport Counts
from zwoole.workers.invocation.handlers cimport HandlerConnection
from zwoole.workers.invocation.invocation cimport Invoker
from zwoole.workers.invocation.lanes cimport job_of
from zwoole.workers.links.master_link cimport MasterLink
from zwoole.workers.links.masters cimport Masters
from zwoole.workers.invocation.runner cimport Runners

# Imported from modules whose Python names they are; as C integers they compare without an object.
cdef int BUFFER_EMPTY, BUFFER_FULL, CLOSE, MESSAGE, OPEN


@cython.final
cdef class Scheduler:
    cdef readonly dict connections
    cdef public object forked_in
    cdef Invoker _invoker
    cdef Counts _counts
    cdef Commands _commands
    cdef Masters _masters
    cdef object _flow_control
    cdef dict _handlers
    cdef object _loop
    cdef Runners _runners
    cdef set _tasks
    cdef list _woken
    cdef bint _runs
    cdef bint _is_called

    @cython.locals(connection=HandlerConnection)
    cpdef void add_message(
        self, MasterLink link, unsigned long long sequence, unsigned long long fd, object data, int opcode
    ) except *

    @cython.locals(connection=HandlerConnection)
    cpdef void add(self, MasterLink link, unsigned long long sequence, int kind, long long fd, object body) except *

    cpdef bint busy(self) except -1
    @cython.locals(debug=bint)
    cpdef void run(self) except *

    @cython.locals(woken=list, connection=HandlerConnection, link=MasterLink, before=double, now=double)
    cdef void _run_handlers(self, bint debug) except *

    cdef void _end_if_forked(self) except *

    cdef void _note(self, HandlerConnection connection) except *
