import cython

from zwoole.shared.progress cimport ProgressMap
from zwoole.shared.table cimport ConnectionTable
from zwoole.shared.turns cimport TurnCounter
from zwoole.shared.wire cimport BatchWriter


cdef class MasterLink:
    cdef readonly int epoch
    cdef readonly unsigned long long incarnation
    cdef readonly object socket
    cdef readonly int descriptor
    cdef readonly BatchWriter writer
    cdef public TurnCounter turns
    cdef readonly ConnectionTable table
    cdef public unsigned long long credit
    cdef readonly unsigned long long sent
    cdef readonly unsigned long long received
    cdef public Py_ssize_t up_window
    cdef public bint ready
    cdef readonly bint closed
    cdef readonly set owned
    cdef public list inbox
    cdef readonly object memory
    cdef ProgressMap _progress
    cdef object _run_dir
    cdef unsigned long long _batches
    cdef unsigned long long _ack_first
    cdef unsigned long long _ack_count
    cdef double _unsent_since
    cdef int _flags
    cdef int _more

    cpdef list receive(self)
    cpdef list receive_new(self)
    cpdef void started(self, unsigned long long sequence) except *
    cpdef void finished(self, unsigned long long sequence) except *
    cpdef Py_ssize_t in_flight(self) except? -1
    cpdef bint has_output(self) except -1
    cpdef bint flush_due(self, double now) except -1
    cpdef void flush(self) except *
    cpdef bint readable(self) except -1
    cdef void _write_ack(self) except *
