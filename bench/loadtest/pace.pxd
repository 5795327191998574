# The types of pace.py.
cimport cython as cy

from zwoole.bench.loadtest.connection cimport Connection


cdef class Pace:
    cdef list _connections
    cdef long long _end_ns
    cdef long long _first
    cdef Py_ssize_t _next
    cdef long long _round
    cdef long long _spacing_ps
    cdef long long _start_ns
    cdef long long _turn
    cdef readonly long long next_due_ns

    @cy.locals(released=list, connection=Connection, place="long long")
    cpdef list release(self, long long now_ns)
