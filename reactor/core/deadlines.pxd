import cython

cdef int _MOST_ENDS, _SPARE_TICKS
cdef double _LATE_S, _TICK_S, _NEVER


cdef class Clock:
    cdef object _monotonic
    cdef double _lost
    cdef public double latest
    cdef readonly double now
    cdef readonly double woke

    @cython.locals(late=double)
    cpdef void turn(self, double expected) except *


cdef class Timeouts:
    cpdef double next_end(self) except? -1
    cpdef void run(self) except *


cdef class Deadlines(Timeouts):
    cdef Clock _clock
    cdef double _seconds
    cdef object _expired
    cdef object _ends

    cpdef void start(self, object fd) except *
    cpdef void stop(self, object fd) except *
    cpdef double next_end(self) except? -1
    @cython.locals(ended=int, end=double)
    cpdef void run(self) except *


cdef class Wheel(Timeouts):
    cdef Clock _clock
    cdef object _expired
    cdef list _ticks
    cdef dict _ending
    cdef dict _set_of

    cdef void _forget_empty_ticks(self) except *
    @cython.locals(tick=object, ending=set)
    cpdef void start(self, object fd, double seconds) except *
    @cython.locals(ending=set)
    cpdef void stop(self, object fd) except *
    cpdef double next_end(self) except? -1
    @cython.locals(ended=int, ending=set, tick=object)
    cpdef void run(self) except *
