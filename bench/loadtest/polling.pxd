# Declarations from poll.h that Cython's own files lack, for connection.py.
from posix.time cimport timespec

cdef extern from "poll.h" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    short POLLIN
    int ppoll(pollfd *watched, unsigned long count, const timespec *limit, const void *signals)
