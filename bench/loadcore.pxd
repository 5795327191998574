# The types of loadcore.py. The compiler's module has another name here, as loadcore.py itself defines a "cython".
cimport cython as cy

cdef Py_ssize_t _AGAIN
cdef Py_ssize_t _BROKEN
cdef Py_ssize_t _LAST_BUCKET
cdef Py_ssize_t _STAMP_BYTES
cdef Py_ssize_t _FILLER_SHIFTS
cdef bytes _HEX

cpdef long long clock_ns() noexcept

@cy.locals(count=Py_ssize_t)
cdef Py_ssize_t receive_into(int fd, bytearray buffer, Py_ssize_t start, Py_ssize_t end) except -3

@cy.locals(count=Py_ssize_t)
cdef Py_ssize_t send_from(int fd, bytearray buffer, Py_ssize_t start, Py_ssize_t end) except -3

@cy.locals(difference=int)
cdef bint same_bytes(
    bytearray left, Py_ssize_t left_start, bytearray right, Py_ssize_t right_start, Py_ssize_t count
) noexcept

cdef void mask_into(
    bytearray target, Py_ssize_t at, bytearray source, Py_ssize_t start, Py_ssize_t count, bytearray key
) noexcept

@cy.locals(shift=int, index=Py_ssize_t)
cpdef Py_ssize_t bucket(unsigned long long nanoseconds) noexcept


cdef class Content:
    cdef bytearray _filler
    cdef Py_ssize_t _filler_bytes
    cdef bytearray _header
    cdef bytearray _key
    cdef unsigned int _key_state
    cdef bytearray _reply_header
    cdef bytearray _stamp
    cdef Py_ssize_t _stamp_bytes
    cdef readonly Py_ssize_t frame_bytes
    cdef readonly int opcode
    cdef readonly Py_ssize_t reply_bytes
    cdef readonly Py_ssize_t reply_header_bytes
    cdef readonly Py_ssize_t size

    @cy.locals(index=Py_ssize_t)
    cpdef void write_frame(self, bytearray target, Py_ssize_t at, long long number, long long sequence) noexcept
    cdef bint is_header(self, bytearray received, Py_ssize_t at) noexcept
    cpdef bint is_payload(self, bytearray received, Py_ssize_t at, long long number, long long sequence) noexcept
    @cy.locals(digits="unsigned long long", index=Py_ssize_t)
    cdef void _write_stamp(self, unsigned long long number, unsigned long long sequence) noexcept
    cdef Py_ssize_t _shift(self, long long number, long long sequence) noexcept
    @cy.locals(state="unsigned int", index=Py_ssize_t)
    cdef void _next_key(self) noexcept


cdef class Tally:
    cdef unsigned long long[::1] _latencies
    cdef public long long closes_ns
    cdef readonly Content content
    cdef readonly long long depth
    cdef public long long last_reply_ns
    cdef readonly object latencies
    cdef public long long limit
    cdef readonly long long messages
    cdef public long long now_ns
    cdef public long long opens_ns
    cdef readonly long long ring
    cdef public long long unanswered


cdef class Connection:
    cdef Py_ssize_t _inbox_bytes
    cdef Py_ssize_t _outbox_bytes
    cdef unsigned long long[::1] _sent_at
    cdef Tally _tally
    cdef public bint close_received
    cdef public bint close_sent
    cdef public long long expected
    cdef readonly int fd
    cdef readonly bytearray inbox
    cdef readonly Py_ssize_t inbox_end
    cdef public Py_ssize_t inbox_start
    cdef readonly set late
    cdef readonly long long number
    cdef readonly bytearray outbox
    cdef public Py_ssize_t outbox_end
    cdef public Py_ssize_t outbox_start
    cdef public long long sent
    cdef public long long skip
    cdef readonly object sock
    cdef public long long unanswered
    cdef public bint writing

    @cy.locals(rest=Py_ssize_t, count=Py_ssize_t)
    cpdef int serve(self) except -1
    cpdef int proceed(self) except -1
    @cy.locals(count=Py_ssize_t)
    cpdef int send(self) except -1
    @cy.locals(tally=Tally)
    cpdef void count_right(self) except *
    cpdef void settle(self) except *
    @cy.locals(content=Content, skipped=Py_ssize_t, available=Py_ssize_t, payload=Py_ssize_t)
    cdef bint _check_replies(self) except -1
    @cy.locals(tally=Tally, content=Content, first="long long", sequence="long long", end=Py_ssize_t, now_ns="long long")
    cdef bint _fill_outbox(self) except -1
