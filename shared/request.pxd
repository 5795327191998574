import cython


@cython.locals(name=str)
cpdef bytes pack_request(bytes target, list headers, str remote_addr, int remote_port, object subprotocol)
cpdef object unpack_request(object fd, bytes record)
cpdef object request_of(object fd, bytes record, object state=*)
cdef list _unpack_scalars(bytes record)
cdef tuple _unpack_header(object name, object value)
cpdef tuple split_target(str target)
cpdef list list_elements(str value)
