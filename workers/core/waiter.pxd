import cython

from zwoole.workers.core.steps cimport call_in


@cython.freelist(64)
cdef class Waiter:
    cdef public bint _asyncio_future_blocking
    cdef object _loop
    cdef object _wakeup
    cdef object _context
    cdef object _message
    cdef bint _waits
    cdef bint _done
    cdef bint _cancelled

    cpdef void wake(self) except *
    cpdef void wake_soon(self) except *
    cpdef bint done(self) except -1
