# The compiled bodies declare their locals themselves: this file and syscalls.py cannot both import cython.

cpdef Py_ssize_t read_into(int descriptor, bytearray buffer, Py_ssize_t start) except? -32768
cpdef Py_ssize_t write_from(int descriptor, bytearray data) except? -32768
