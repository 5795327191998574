# Locals of the kernels are declared in their compiled bodies: this file and mask.py cannot both import cython.

cpdef bytes unmask(bytearray source, Py_ssize_t start, Py_ssize_t end, unsigned int key, int phase)
cpdef bint is_ascii(bytes data)
cpdef bint is_utf8(bytes data)
