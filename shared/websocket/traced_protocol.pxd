import cython

from zwoole.shared.websocket.frames cimport FrameHeader, read_header
from zwoole.shared.websocket.protocol cimport Protocol

cdef FrameHeader _HEADER
cdef unsigned long long _NO_LIMIT


cdef class TracedProtocol(Protocol):
    cdef object _trace

    @cython.locals(buffer=bytearray, start=Py_ssize_t, end=Py_ssize_t, event=int)
    cdef int _begin_frame(self) except -1
