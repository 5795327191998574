cdef class Counts:
    cdef readonly unsigned long long total
    cdef public unsigned long long finished
    cdef readonly double seconds
    cdef readonly object failures
    cdef public double record_at
    cdef public object on_record
    cdef double[::1] _bounds
    cdef unsigned long long[::1] _times
    cdef unsigned long long[::1] _events

    cpdef void taken(self, int kind) except *
    cpdef void ran(self, double seconds) except *
