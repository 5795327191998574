import cython

from zwoole.shared.wire.buffers cimport copy_out

cdef Py_ssize_t _BUFFER_BYTES, _MAX_MESSAGE_BYTES, _MAX_COMMAND_BYTES, _MAX_REPLIES_BYTES, _PART_COST, _MIN_ROOM
cdef unsigned int _MORE, _LONG, _COMMAND, _RESERVED
cdef Py_ssize_t _SHORT_HEADER, _LONG_HEADER, _MAX_SHORT
cdef int _AWAITS_GREETING, _AWAITS_READY, _OPEN

cpdef bytes header(Py_ssize_t size, bint more)


cdef class Zmtp:
    cdef readonly bint ready
    cdef readonly bytearray buffer
    cdef public Py_ssize_t end
    cdef readonly bytearray replies
    cdef int _stage
    cdef Py_ssize_t _start
    cdef list _parts
    cdef Py_ssize_t _parts_size

    @cython.locals(left=Py_ssize_t, capacity=Py_ssize_t)
    cpdef void make_room(self) except *

    @cython.locals(
        buffer=bytearray,
        start=Py_ssize_t,
        available=Py_ssize_t,
        flags="unsigned int",
        head=Py_ssize_t,
        size=Py_ssize_t,
        i=Py_ssize_t,
        most=Py_ssize_t,
        begin=Py_ssize_t,
        parts=list,
    )
    cpdef list next_message(self)
