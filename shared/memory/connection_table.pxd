import cython

# As C integers they compare and add without an object.
cdef Py_ssize_t _AT_SEQUENCE, _HEAD_WORDS, _SLOT_WORDS, _WORKER_WORDS
cdef int _FREE, _STATE, _STATE_BITS


cdef class ConnectionTable:
    cdef readonly Py_ssize_t capacity
    cdef readonly Py_ssize_t limit
    cdef unsigned long long[::1] _words
    cdef unsigned long long _mask
    cdef unsigned long long _reactor_num

    @cython.locals(words="unsigned long long[::1]", sequence="unsigned long long")
    cpdef unsigned long long next_sequence(self) except? 0

    cpdef Py_ssize_t slot(self, unsigned long long fd)

    @cython.locals(words="unsigned long long[::1]", at=Py_ssize_t)
    cpdef void set_state(self, unsigned long long fd, int state)

    cpdef void set_queued(self, unsigned long long fd, unsigned long long size)

    @cython.locals(word="unsigned long long")
    cpdef int state(self, unsigned long long fd)

    cpdef unsigned long long queued(self, unsigned long long fd)
    cpdef void set_waiting(self, Py_ssize_t worker, Py_ssize_t size)
    cpdef Py_ssize_t waiting(self, Py_ssize_t worker)
