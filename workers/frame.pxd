cimport cython


@cython.freelist(64)
cdef class Frame:
    cdef public unsigned long long fd
    cdef public object data
    cdef public int opcode
