cdef class TurnCounter:
    cdef object _mapping
    cdef unsigned long long[::1] _words

    cpdef void tick(self)
    cpdef unsigned long long read(self)
