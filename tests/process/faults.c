/* Injects faults into one client's socket, as the kernel could produce them. Loaded into a server with LD_PRELOAD.
 *
 * It shares a file with the test (struct plan, named by FAULT_PLAN). While the plan is armed, the system calls of the
 * next accepted TCP connection are counted, and the one that the plan names fails. Real calls go through syscall(), so
 * nothing here depends on the C library that it overrides.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NOTHING, SHORT, TRICKLE, ERRNO };

struct plan {
    int armed;         /* whether the next accepted connection is chosen */
    int at;            /* the number of the call, from 1 */
    int fault;         /* one of the enum */
    int number;        /* the errno, with ERRNO */
    int descriptor;    /* the connection's, -1 for none */
    int calls;         /* counted so far */
    int fired;         /* number of injected faults */
    int accept_number; /* the errno of accepting */
    int accept_times;  /* how often accepting is still going to fail */
};

static struct plan *plan;

__attribute__((constructor)) static void map_plan(void)
{
    const char *path = getenv("FAULT_PLAN");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    plan = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (plan == MAP_FAILED)
        plan = NULL;
    close(file);
}

/* Return how many bytes the call may move at most, or -1 with errno set; -2 if there is no fault. */
static ssize_t allowance(int descriptor)
{
    if (!plan || plan->descriptor != descriptor)
        return -2;
    int call = ++plan->calls;
    if (plan->fault == TRICKLE) {
        plan->fired++;
        if (call % 3 == 0) {
            errno = call % 2 ? EAGAIN : EINTR;
            return -1;
        }
        return 1 + call % 4096;
    }
    if (call != plan->at)
        return -2;
    plan->fired++;
    if (plan->fault == SHORT)
        return 1;
    errno = plan->number;
    return -1;
}

#define LIMITED(descriptor, size)                   \
    do {                                            \
        ssize_t allowed = allowance(descriptor);    \
        if (allowed == -1)                          \
            return -1;                              \
        if (allowed >= 0 && (size_t)allowed < size) \
            size = allowed;                         \
    } while (0)

ssize_t read(int descriptor, void *buffer, size_t size)
{
    LIMITED(descriptor, size);
    return syscall(SYS_read, descriptor, buffer, size);
}

ssize_t write(int descriptor, const void *buffer, size_t size)
{
    LIMITED(descriptor, size);
    return syscall(SYS_write, descriptor, buffer, size);
}

ssize_t recv(int descriptor, void *buffer, size_t size, int flags)
{
    LIMITED(descriptor, size);
    return syscall(SYS_recvfrom, descriptor, buffer, size, flags, NULL, NULL);
}

ssize_t send(int descriptor, const void *buffer, size_t size, int flags)
{
    LIMITED(descriptor, size);
    return syscall(SYS_sendto, descriptor, buffer, size, flags, NULL, 0);
}

/* With several buffers, a limited call moves a part of the first one that is not empty. */
static ssize_t vectored(long number, int descriptor, const struct iovec *parts, int count)
{
    ssize_t allowed = allowance(descriptor);
    if (allowed == -1)
        return -1;
    if (allowed == -2)
        return syscall(number, descriptor, parts, count);
    struct iovec part = parts[0];
    for (int i = 1; i < count && part.iov_len == 0; i++)
        part = parts[i];
    if ((size_t)allowed < part.iov_len)
        part.iov_len = allowed;
    return syscall(number, descriptor, &part, 1);
}

ssize_t readv(int descriptor, const struct iovec *parts, int count)
{
    return vectored(SYS_readv, descriptor, parts, count);
}

ssize_t writev(int descriptor, const struct iovec *parts, int count)
{
    return vectored(SYS_writev, descriptor, parts, count);
}

int accept4(int listener, struct sockaddr *address, socklen_t *size, int flags)
{
    int domain = 0;
    socklen_t domain_size = sizeof domain;
    int tcp = plan && getsockopt(listener, SOL_SOCKET, SO_DOMAIN, &domain, &domain_size) == 0 && domain == AF_INET;
    if (tcp && plan->accept_times > 0) {
        plan->accept_times--;
        errno = plan->accept_number;
        return -1;
    }
    int descriptor = syscall(SYS_accept4, listener, address, size, flags);
    if (tcp && descriptor >= 0 && plan->armed) {
        plan->armed = 0;
        plan->calls = plan->fired = 0;
        plan->descriptor = descriptor;
    }
    return descriptor;
}

int close(int descriptor)
{
    if (plan && plan->descriptor == descriptor)
        plan->descriptor = -1;
    return syscall(SYS_close, descriptor);
}
