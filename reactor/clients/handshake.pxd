import cython

from zwoole.shared.request cimport list_elements, split_target


cdef dict _LOWER


cdef class Upgrade:
    cdef readonly str path
    cdef readonly str accept
    cdef readonly tuple subprotocols
    cdef readonly tuple extensions
    cdef readonly str host
    cdef readonly object origin
    cdef readonly bytes target
    cdef readonly list headers


cpdef Py_ssize_t find_head_end(object buffer, Py_ssize_t start) except -2
cpdef bint asks_for_head_only(object head) except -1
@cython.locals(begin=bytes)
cpdef object early_refusal(object prefix)
@cython.locals(fields=dict, headers=list, values=list)
cpdef Upgrade parse_upgrade(bytes head)
@cython.locals(lines=list)
cpdef bytes switching_protocols(Upgrade upgrade, object subprotocol=*, object headers=*, object extensions=*)
cdef list _header_lines(object headers, object reserved)
cdef bytes _encode_head(list lines)
cdef tuple _read_head(bytes head)
cdef object _check_lines(bytes head)
cdef tuple _check_request_line(bytes head)
cdef object _check_target(bytes target)
cdef object _check_host(dict fields, bytes version)
cdef object _check_no_body(dict fields)
cdef object _check_upgrade(dict fields)
cdef object _check_version(dict fields)
@cython.locals(nonce=bytes)
cdef str _key(dict fields)
cdef str _accept(str key)
cdef str _base64(bytes data)
@cython.locals(offered=dict, name=str, values=list)
cdef tuple _subprotocols(dict fields)
@cython.locals(values=list)
cdef object _single(dict fields, str name)
@cython.locals(text=str)
cdef bint _lists(dict fields, str key, str token) except -1
