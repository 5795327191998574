# flusher.py has two bodies and imports cython, so this file must not.

cdef int _IDLE_LOOKS, _NOBODY, _OWN_THREAD, _FLUSHER
cdef double _DUE_S

cdef double _now() noexcept nogil


cdef class Flusher:
    cdef readonly bint waiting
    cdef public bint has_commands
    cdef public object behind_commands
    cdef double _since
    cdef int _idle
    cdef int _holder
    cdef bint _parked
    cdef bint _stopped
    cdef unsigned long _own_thread
    cdef object _mutex
    cdef int _wake
    cdef object _send
    cdef object _thread

    cpdef bint is_own_thread(self) noexcept
    cpdef int enter(self) except -1
    cpdef void leave(self, int before) except *
    cpdef void note(self) except *
    cpdef void sent(self) noexcept
    cpdef bint is_sending(self) noexcept
    cpdef bint is_parked(self) noexcept
    cdef int _wait(self) except -1
    cpdef double look(self, double now) noexcept
    cdef double _look(self, double now) noexcept nogil
