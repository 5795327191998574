# steps.py has two bodies and imports cython, so this file must not.

cdef class Steps:
    cdef public object coroutine
    cdef readonly bint ended
    cdef readonly object result
    cdef object _context

    cpdef void begin(self) except *
    cpdef object call(self, object callback, object server, object argument)
    cpdef object call_all(self, object callback, tuple arguments)
    cpdef object send(self)
    cpdef object throw(self, object error)
    cdef object _send(self, object method, object argument)
    cpdef void end(self) except *


cpdef void call_in(object context, object function, object argument) except *
cpdef Py_ssize_t references(object value) except -1
