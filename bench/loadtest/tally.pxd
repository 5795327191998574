# The types of tally.py.
cimport cython as cy

from zwoole.bench.loadtest.content cimport Contents

cdef Py_ssize_t _LAST_BUCKET

@cy.locals(shift=int, index=Py_ssize_t)
cpdef Py_ssize_t bucket(unsigned long long nanoseconds) noexcept


cdef class Tally:
    cdef list _finished
    cdef long long _interval_ns
    cdef long long _intervals
    cdef unsigned long long[::1] _latencies
    cdef readonly object clock
    cdef readonly Contents contents
    cdef readonly long long depth
    cdef readonly long long gap_ps
    cdef readonly long long interval
    cdef readonly long long interval_end_ns
    cdef public long long last_reply_ns
    cdef readonly object latencies
    cdef public long long limit
    cdef readonly long long messages
    cdef public long long now_ns
    cdef readonly long long payload_bytes
    cdef readonly long long ring
    cdef public long long unanswered

    cpdef void begin(self, long long start_ns, long long opens_ns, long long interval_ns, long long intervals) except *
    @cy.locals(last=bint)
    cpdef void end_intervals(self, long long now_ns) except *
    cpdef void record(self, long long latency_ns, long long size=*) except *
    cdef void _clear(self) except *
