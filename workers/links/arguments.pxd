from zwoole.shared.websocket.mask cimport is_utf8

cpdef int check_int(str name, object value) except -1
