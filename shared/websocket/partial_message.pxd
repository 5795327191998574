import cython

cdef Py_ssize_t _PIECE


cdef class Pieces:
    cdef readonly Py_ssize_t size
    cdef list _kept
    cdef bytearray _growing

    @cython.locals(size=Py_ssize_t, growing=bytearray)
    cpdef void add(self, bytes part) except *

    @cython.locals(growing=bytearray, end=bytes)
    cpdef bytes join(self)
