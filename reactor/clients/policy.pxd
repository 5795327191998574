cdef class Policy:
    cdef readonly tuple subprotocols
    cdef list _origins
    cdef bint _compresses
    cdef object _wishes

    cdef bint _allows(self, str origin, str host) except -1
