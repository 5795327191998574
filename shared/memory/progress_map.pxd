cdef class ProgressMap:
    cdef readonly object path
    cdef object _mapping
    cdef unsigned char[::1] _marks
    cdef unsigned long long _mask

    cpdef void mark(self, unsigned long long sequence, unsigned char progress)
    cpdef int read(self, unsigned long long sequence)
