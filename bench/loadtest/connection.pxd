# The types of connection.py. The compiler's module has another name here, as connection.py itself defines a "cython".
cimport cython as cy

from zwoole.bench.loadtest.content cimport Content, Contents
from zwoole.bench.loadtest.tally cimport Tally, bucket

cdef Py_ssize_t _AGAIN
cdef Py_ssize_t _BROKEN
cdef long long _UNKNOWN
cdef Py_ssize_t _SENDER_DIGITS

cpdef long long clock_ns() noexcept

cpdef void wait_readable(int fd, long long nanoseconds) noexcept

@cy.locals(count=Py_ssize_t)
cdef Py_ssize_t receive_into(int fd, bytearray buffer, Py_ssize_t start, Py_ssize_t end) except -3

@cy.locals(count=Py_ssize_t)
cdef Py_ssize_t send_from(int fd, bytearray buffer, Py_ssize_t start, Py_ssize_t end) except -3

cdef long long moment(Tally tally) except -1


cdef class Stream:
    cdef public long long expected
    cdef readonly set late
    cdef readonly long long number
    cdef public long long sent

    cpdef long long due(self) except -1


cdef class Connection:
    cdef Py_ssize_t _inbox_bytes
    cdef Py_ssize_t _outbox_bytes
    cdef unsigned long long[::1] _sent_at
    cdef Stream _stream
    cdef Tally _tally
    cdef object _tls
    cdef public bint close_received
    cdef public bint close_sent
    cdef readonly int fd
    cdef public long long first_due_ns
    cdef public bint gone
    cdef readonly bytearray inbox
    cdef readonly Py_ssize_t inbox_end
    cdef public Py_ssize_t inbox_start
    cdef public bint odd
    cdef readonly bytearray outbox
    cdef public Py_ssize_t outbox_end
    cdef public Py_ssize_t outbox_start
    cdef readonly Stream own
    cdef public long long quota
    cdef readonly object sock
    cdef readonly list streams
    cdef public bint writing

    @cy.locals(tally=Tally, rest=Py_ssize_t, count=Py_ssize_t)
    cpdef int serve(self) except -1
    cpdef int proceed(self) except -1
    @cy.locals(count=Py_ssize_t)
    cpdef int send(self) except -1
    cpdef bint pending(self) except -1
    @cy.locals(tally=Tally, since_ns="long long")
    cpdef void count_right(self, Stream stream, Py_ssize_t size) except *
    @cy.locals(tally=Tally)
    cpdef void settle(self, Stream stream) except *
    @cy.locals(own=Stream, contents=Contents, content=Content, limit="long long", first="long long", end=Py_ssize_t)
    cpdef bint fill_outbox(self) except -1
    @cy.locals(own=Stream, tally=Tally, sequence="long long", now_ns="long long")
    cpdef bint note_sent(self, long long first, Py_ssize_t end) except -1
    @cy.locals(contents=Contents, content=Content, stream=Stream, available=Py_ssize_t, payload=Py_ssize_t)
    cdef bint _check_replies(self) except -1
    @cy.locals(available=Py_ssize_t, length=int, header=Py_ssize_t, number="long long", digit=int, index=Py_ssize_t)
    cdef Stream _find_stream(self)
    cdef Py_ssize_t _receive_tls(self) except -3
    cdef Py_ssize_t _send_tls(self) except -3
