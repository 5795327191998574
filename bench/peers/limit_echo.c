/* The limit: a WebSocket echo server with nothing but epoll, one thread, one read and one write per turn.
 *
 * It shows how fast any server on this machine could be. limit_websocket.h says what it expects of its clients.
 *
 * usage: echo PORT (on 127.0.0.1)
 */
#include "limit_websocket.h"

struct connection {
    int fd, upgraded, closing;
    size_t in_end;              /* end of received, unprocessed data */
    size_t out_start, out_end;  /* echoes that are not sent yet */
    uint8_t in[BUFFER], out[2 * BUFFER];
};

static int poller;

static void forget(struct connection *c, size_t taken) {
    c->in_end -= taken;
    memmove(c->in, c->in + taken, c->in_end);
}

/* Answer the upgrade request once it is complete; return 0 if it has no key. */
static int upgrade(struct connection *c) {
    ssize_t taken = answer_upgrade(c->in, c->in_end, c->out, &c->out_end);
    if (taken > 0) {
        forget(c, (size_t)taken);
        c->upgraded = 1;
    }
    return taken >= 0;
}

/* Write the echo of all complete frames to the outbox; return 0 for a frame that is too long or not masked. */
static int echo_frames(struct connection *c) {
    struct frame frame;
    size_t at = 0;
    int complete = 0;
    while (!c->closing && (complete = parse_frame(c->in + at, c->in_end - at, &frame)) > 0) {
        if (sizeof c->out - c->out_end < echo_size(&frame)) break;
        write_echo(c->out + c->out_end, c->in + at, &frame);
        c->closing = is_close(c->in + at);
        c->out_end += echo_size(&frame);
        at += frame_size(&frame);
    }
    forget(c, at);
    return complete >= 0;
}

/* Send the outbox; while it is not empty, wait for EPOLLOUT only. Return 0 at the end of the connection. */
static int flush(struct connection *c) {
    size_t had = c->out_start;
    if (c->out_start < c->out_end) {
        ssize_t sent = send(c->fd, c->out + c->out_start, c->out_end - c->out_start, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return 0;
        if (sent > 0) c->out_start += (size_t)sent;
    }
    int left = c->out_start < c->out_end;
    if (!left) c->out_start = c->out_end = 0;
    if (left || had) watch(poller, EPOLL_CTL_MOD, c->fd, left ? EPOLLOUT : EPOLLIN, c);
    return left || !c->closing;
}

static int on_readable(struct connection *c) {
    ssize_t count = recv(c->fd, c->in + c->in_end, sizeof c->in - 1 - c->in_end, 0);
    if (count == 0 || (count < 0 && errno != EAGAIN)) return 0;
    if (count > 0) c->in_end += (size_t)count;
    if (!c->upgraded && !upgrade(c)) return 0;
    if (c->upgraded && !echo_frames(c)) return 0;
    return flush(c);
}

static int on_writable(struct connection *c) {
    if (!flush(c)) return 0;
    return c->out_end || (echo_frames(c) && flush(c)); /* frames that did not fit the outbox */
}

static void accept_all(int listener) {
    int fd;
    while ((fd = accept_one(listener)) >= 0) {
        struct connection *c = calloc(1, sizeof *c); /* pages are allocated when they are touched */
        if (!c) exit(1);
        c->fd = fd;
        watch(poller, EPOLL_CTL_ADD, fd, EPOLLIN, c);
    }
}

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: echo PORT\n"), 2;
    int listener = listen_on(argv[1]);
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[256];
    watch(poller, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    for (;;) {
        int count = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c) {
                accept_all(listener);
            } else if (!(events[i].events & EPOLLOUT ? on_writable(c) : on_readable(c))) {
                close(c->fd);
                free(c);
            }
        }
    }
}
