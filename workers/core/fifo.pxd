import cython

cdef Py_ssize_t _COMPACT_AT


@cython.final
cdef class Fifo:
    cdef list _items
    cdef Py_ssize_t _at

    cpdef bint is_empty(self) except -1
    cpdef void add(self, object item) except *

    @cython.locals(items=list, at=Py_ssize_t)
    cpdef object take(self)
