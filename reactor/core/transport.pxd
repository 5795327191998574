from zwoole.shared.process.syscalls cimport read_into, shut_down, write_from


cdef class Transport:
    cpdef Py_ssize_t read(self, int descriptor, bytearray buffer, Py_ssize_t start) except? -32768
    cpdef bint has_unread(self) except -1
    cpdef Py_ssize_t write(self, int descriptor, bytearray data) except? -32768
    cpdef Py_ssize_t write_all(self, int descriptor, list parts) except? -32768
