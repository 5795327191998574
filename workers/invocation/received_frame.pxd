import cython


@cython.freelist(64)
cdef class Frame:
    cdef public unsigned long long fd
    cdef public object data
    cdef public int opcode


@cython.locals(frame=Frame)
cpdef Frame frame_of(unsigned long long fd, object data, int opcode)
