import cython

cdef int _FIN, _RSV1, _RSV2_RSV3, _OPCODE, _MASKED, _LENGTH, _LENGTH_16, _LENGTH_64, _TOP_BIT
cdef unsigned long long _TOO_LONG_FOR_16
cdef int _CONTINUATION, _LAST_DATA, _FIRST_CONTROL, _LAST_CONTROL, _MAX_CONTROL_PAYLOAD


cdef class FrameHeader:
    cdef public bint fin
    cdef public bint rsv1
    cdef public int opcode
    cdef public unsigned long long length
    cdef public unsigned int key
    cdef public int error_code
    cdef public str error

    cpdef int refuse(self, int code, str error)


@cython.locals(
    data="const unsigned char *",
    first="unsigned char",
    second="unsigned char",
    opcode="unsigned char",
    control=bint,
    length="unsigned long long",
    position=Py_ssize_t,
    i=int,
)
cpdef int read_header(
    FrameHeader header, bytearray buffer, Py_ssize_t start, Py_ssize_t end, unsigned long long limit, bint allow_rsv1
) except -2

@cython.locals(shift=int)
cpdef void append_header(bytearray out, unsigned char first, unsigned long long length) except *

cpdef bytes build_frame(int opcode, bytes payload)
