import cython

from zwoole.workers.links.commands cimport Commands
from zwoole.workers.core.counts cimport Counts
from zwoole.workers.core.fifo cimport Fifo
from zwoole.workers.links.master_link cimport MasterLink
from zwoole.workers.links.masters cimport Masters
from zwoole.workers.core.waiter cimport Waiter


# A message refers to nothing that refers to it, so the garbage collector need not look at those that wait.
@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class Received:
    cdef public unsigned long long sequence
    cdef public object data


@cython.final
cdef class HandlerConnection:
    cdef readonly unsigned long long fd
    cdef readonly object request
    cdef readonly object close_code
    cdef readonly object close_reason
    cdef readonly MasterLink _link
    cdef public object _task
    cdef Commands _commands
    cdef Masters _masters
    cdef object _flow_control
    cdef Py_ssize_t _share
    cdef Counts _counts
    cdef object _loop
    cdef Fifo _messages
    cdef Waiter _reader
    cdef bint _is_woken
    cdef Received _unfinished
    cdef bint _ended
    cdef object _closed
    cdef object _room
    cdef Py_ssize_t _on_way
    cdef dict __dict__
    cdef object __weakref__

    cdef bint _must_wait(self) except -1

    @cython.locals(link=MasterLink, before="unsigned long long")
    cdef bint _push(self, object message, object opcode) except -1

    @cython.locals(received=Received)
    cpdef void _deliver(self, unsigned long long sequence, object data) except *

    cpdef bint _is_to_wake(self) except -1
    cpdef void _wake(self) except *
    cpdef void _wake_soon(self) except *

    @cython.locals(received=Received)
    cpdef void _end(self, object code, object reason) except *

    cpdef void _acknowledge(self, unsigned long long sequence) except *
    cdef bint _is_ready(self) except -1

    @cython.locals(received=Received)
    cdef object _take(self)

    @cython.locals(sequence="unsigned long long")
    cdef void _finish_last(self) except *
