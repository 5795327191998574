# A step of a coroutine without an exception at its end, which Cython does not declare.
from cpython.object cimport PyObject


cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT

    PySendResult PyIter_Send(object iterator, object argument, PyObject **result) except PYGEN_ERROR
