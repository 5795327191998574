cdef class Counts:
    cdef readonly unsigned long long total
    cdef readonly double seconds
    cdef readonly object failures
    cdef double[::1] _bounds
    cdef unsigned long long[::1] _times
    cdef unsigned long long[::1] _events

    cpdef void taken(self, int kind) except *
    cpdef void ran(self, double seconds) except *
