# The compiled bodies declare their locals themselves: this file and syscalls.py cannot both import cython.

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_FromString
from libc.errno cimport errno
from libc.string cimport memset


cdef enum:
    _MAX_BUFFERS = 64  # as in syscalls.py; the length of an array in C must be known when it is compiled


cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len


cdef extern from "<sys/socket.h>" nogil:
    struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen

    struct sockaddr:
        pass

    struct sockaddr_storage:
        unsigned short ss_family

    ctypedef unsigned int socklen_t

    ssize_t sendmsg(int descriptor, msghdr* message, int flags)
    int shutdown(int descriptor, int how)
    int accept4(int descriptor, sockaddr* address, socklen_t* length, int flags)
    int AF_INET6, MSG_DONTWAIT, MSG_NOSIGNAL, SHUT_WR, SOCK_CLOEXEC, SOCK_NONBLOCK


cdef extern from "<arpa/inet.h>" nogil:
    enum:
        INET6_ADDRSTRLEN

    struct in_addr:
        pass

    struct in6_addr:
        pass

    struct sockaddr_in:
        in_addr sin_addr
        unsigned short sin_port

    struct sockaddr_in6:
        in6_addr sin6_addr
        unsigned short sin6_port

    const char* inet_ntop(int family, const void* address, char* text, socklen_t size)
    unsigned short ntohs(unsigned short number)


cpdef tuple accept(int descriptor)
cpdef Py_ssize_t read_into(int descriptor, bytearray buffer, Py_ssize_t start) except? -32768
cpdef Py_ssize_t write_from(int descriptor, bytearray data) except? -32768
cpdef int shut_down(int descriptor) except -1
cpdef Py_ssize_t send_buffers(int descriptor, list buffers, Py_ssize_t offset) except? -32768


# Cython has no declaration of these calls, so the compiled bodies of accept, shut_down and send_buffers are here.

cdef inline tuple _accept4(int descriptor):
    cdef sockaddr_storage address
    cdef socklen_t length = sizeof(address)
    cdef char text[INET6_ADDRSTRLEN]
    cdef int accepted = accept4(descriptor, <sockaddr*>&address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
    cdef sockaddr_in* ip
    cdef sockaddr_in6* ip6
    if accepted < 0:
        return -errno, "", 0
    if address.ss_family == AF_INET6:
        ip6 = <sockaddr_in6*>&address
        inet_ntop(address.ss_family, &ip6.sin6_addr, text, sizeof(text))
        return accepted, PyUnicode_FromString(text), ntohs(ip6.sin6_port)
    ip = <sockaddr_in*>&address
    inet_ntop(address.ss_family, &ip.sin_addr, text, sizeof(text))
    return accepted, PyUnicode_FromString(text), ntohs(ip.sin_port)


cdef inline int _shut_down(int descriptor) noexcept:
    return errno if shutdown(descriptor, SHUT_WR) < 0 else 0


cdef inline Py_ssize_t _sendmsg(int descriptor, list buffers, Py_ssize_t offset) except? -32768:
    cdef iovec parts[_MAX_BUFFERS]
    cdef msghdr message
    cdef Py_ssize_t count = min(len(buffers), _MAX_BUFFERS)
    cdef Py_ssize_t i
    cdef object buffer
    for i in range(count):
        buffer = buffers[i]
        if type(buffer) is bytes:
            parts[i].iov_base = PyBytes_AS_STRING(buffer)
            parts[i].iov_len = PyBytes_GET_SIZE(buffer)
        elif type(buffer) is bytearray:
            parts[i].iov_base = PyByteArray_AS_STRING(buffer)
            parts[i].iov_len = PyByteArray_GET_SIZE(buffer)
        else:
            raise TypeError("only bytes and bytearrays can be sent")
    parts[0].iov_base = <char*>parts[0].iov_base + offset
    parts[0].iov_len -= offset
    memset(&message, 0, sizeof(message))
    message.msg_iov = parts
    message.msg_iovlen = count
    cdef ssize_t sent = sendmsg(descriptor, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
    return -errno if sent < 0 else sent
