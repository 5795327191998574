# The compiled bodies declare their locals themselves: this file and payload_ring.py cannot both import cython.

cdef Py_ssize_t _SHORT_BYTES


cdef class PayloadRing:
    cdef readonly Py_ssize_t capacity
    cdef object _memory
    cdef unsigned char[::1] _bytes
    cdef int _descriptor
    cdef Py_ssize_t _offset
    cdef Py_ssize_t _reserved
    cdef long long _head
    cdef long long _tail
    cdef long long _sealed
    cdef object _marks

    cpdef Py_ssize_t put(self, bytes payload) except -2
    cpdef Py_ssize_t put_ascii(self, str text) except -2
    cdef Py_ssize_t _claim(self, Py_ssize_t size) except -2
    cdef bint _has_reserved(self, Py_ssize_t end) except -1
    cpdef void seal(self, long long mark) except *
    cpdef void free(self, long long mark) except *
    cpdef bytes data(self, Py_ssize_t position, Py_ssize_t size)
    cpdef str text(self, Py_ssize_t position, Py_ssize_t size)
    cpdef object view(self, Py_ssize_t position, Py_ssize_t size)
    cdef void _check(self, Py_ssize_t position, Py_ssize_t size) except *
