import cython

from zwoole.shared.websocket.mask cimport is_utf8

cdef long long _MAX_FD

cpdef int check_int(str name, object value) except -1
@cython.locals(number="long long")
cpdef long long check_fd(object fd) except -1
