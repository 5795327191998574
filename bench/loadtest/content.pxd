# The types of content.py. The compiler's module has another name here, as content.py itself defines a "cython".
cimport cython as cy

cdef Py_ssize_t _STAMP_BYTES
cdef Py_ssize_t _FILLER_SHIFTS
cdef bytes _HEX
cdef unsigned int _WORD

@cy.locals(difference=int)
cdef bint same_bytes(
    bytearray left, Py_ssize_t left_start, bytearray right, Py_ssize_t right_start, Py_ssize_t count
) noexcept

cdef void mask_into(
    bytearray target, Py_ssize_t at, bytearray source, Py_ssize_t start, Py_ssize_t count, bytearray key
) noexcept


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
    cdef readonly Py_ssize_t reply_bytes
    cdef readonly Py_ssize_t reply_header_bytes
    cdef readonly Py_ssize_t size

    @cy.locals(index=Py_ssize_t)
    cpdef void write_frame(self, bytearray target, Py_ssize_t at, long long number, long long sequence) noexcept
    cpdef bytearray payload(self, long long number, long long sequence)
    cdef bint is_header(self, bytearray received, Py_ssize_t at) noexcept
    cpdef bint is_payload(self, bytearray received, Py_ssize_t at, long long number, long long sequence) noexcept
    cdef void _write_masked(self, bytearray target, Py_ssize_t at, long long number, long long sequence) noexcept
    @cy.locals(digits="unsigned long long", index=Py_ssize_t)
    cdef void _write_stamp(self, unsigned long long number, unsigned long long sequence) noexcept
    cdef Py_ssize_t _shift(self, long long number, long long sequence) noexcept
    @cy.locals(state="unsigned int", index=Py_ssize_t)
    cdef void _next_key(self) noexcept


cdef class Contents:
    cdef list _by_slot
    cdef Content _only
    cdef long long _slots
    cdef readonly Py_ssize_t most_frame_bytes
    cdef readonly Py_ssize_t most_reply_bytes
    cdef readonly int opcode
    cdef readonly object sizes

    cpdef Content of(self, long long number, long long sequence)
