import cython

from zwoole.shared.process.syscalls cimport read_into, send_buffers
from zwoole.shared.wire.zmtp cimport Zmtp, header


cdef class ZmtpSocket:
    cdef readonly int descriptor
    cdef readonly bint ready
    cdef public bint readable
    cdef readonly bint ended
    cdef readonly bint pending
    cdef readonly bint blocked
    cdef Zmtp _zmtp
    cdef list _queue
    cdef Py_ssize_t _offset
    cdef bint _lost

    @cython.locals(zmtp=Zmtp, parts=list)
    cpdef list receive(self)
    @cython.locals(queue=list, left=Py_ssize_t)
    cpdef void send(self, list parts) except *
    @cython.locals(queue=list, count=Py_ssize_t)
    cpdef void flush(self) except *
    cpdef void close(self) except *
    @cython.locals(zmtp=Zmtp, room=Py_ssize_t, count=Py_ssize_t)
    cpdef void read(self) except *
    @cython.locals(zmtp=Zmtp, replies=bytes)
    cdef void _reply(self) except *
    @cython.locals(queue=list, sent=Py_ssize_t)
    cdef void _forget(self, Py_ssize_t count) except *
    cdef void _lose_peer(self) except *
