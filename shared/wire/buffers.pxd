# Locals are declared in the compiled body: this file and buffers.py cannot both import cython.

cdef int _LENGTH_16, _HEAD, _HEAD_16


cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object text)


cdef inline bint _is_ascii(str text) noexcept:
    return PyUnicode_IS_COMPACT_ASCII(text)


cpdef bint is_ascii(str text) noexcept
cpdef void append_ascii(bytearray out, str text) except *
cpdef void append_slice(bytearray out, bytes data, Py_ssize_t start, Py_ssize_t size) except *
cpdef bytearray append_frame(bytearray out, unsigned char first, bytes data, Py_ssize_t start, Py_ssize_t size)
cpdef bytes copy_out(bytearray buffer, Py_ssize_t start, Py_ssize_t size)
