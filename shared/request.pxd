import cython


cdef dict _NAME_CODES


cdef int _head_bytes(Py_ssize_t count) noexcept
@cython.locals(fields=list, name=str, packed=bytes)
cpdef bytes pack_request(bytes target, list headers, str remote_addr, int remote_port, object subprotocol)
cpdef object unpack_request(object fd, bytes record)
cpdef object request_of(object fd, bytes record, object state=*)
cdef list _unpack_scalars(bytes record)
cdef tuple _unpack_header(object name, object value)
cpdef tuple split_target(str target)
cpdef list list_elements(str value)
