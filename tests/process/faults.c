/* Faults of one client's socket, as the kernel could give them: loaded into a server by LD_PRELOAD.
 *
 * The test shares a file with it (struct plan, named by FAULT_PLAN). The next TCP connection that is accepted while the
 * plan is armed has its system calls counted, and at the one that the plan names something goes wrong. Every real call
 * is made by syscall(), so that nothing here depends on the C library that it stands before.
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
    int armed;         /* the next accepted connection is the one */
    int at;            /* the number of the call, from 1 */
    int fault;         /* one of the enum */
    int number;        /* the errno, with ERRNO */
    int descriptor;    /* the connection's, -1 for none */
    int calls;         /* counted so far */
    int fired;         /* how often something went wrong */
    int accept_number; /* the errno of accepting */
    int accept_times;  /* how often it is still to be given */
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

/* Return how many bytes the call may move at most, or -1 with errno set; -2 where nothing goes wrong. */
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

/* Of many buffers a limited call moves a part of the first that has something. */
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
