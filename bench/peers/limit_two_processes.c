/* The limit of zwoole's shape: a bare WebSocket echo server whose messages pass through a second process.
 *
 * The first process holds the connections, as a master does. In each turn of its loop it waits once in epoll, reads what
 * is ready, and collects the echoes of all frames into one batch. At the end of the turn it writes the batch to the
 * second process, through a Unix stream socket, and writes once to each connection whose echoes have come back. The
 * second process stands for a worker: it reads a batch and writes the same bytes back.
 *
 * Each record of a batch is a `struct head`, followed by the frame for the client. What zwoole does between these steps
 * is what it costs beyond this limit. limit_websocket.h says what is expected of clients; they must also read their
 * echoes, since what waits for them is not bounded.
 *
 * usage: two_processes PORT (on 127.0.0.1)
 */
#include "limit_websocket.h"

#include <signal.h>
#include <sys/wait.h>

#define MAX_CONNECTIONS 65536 /* and descriptors */
#define MAX_READ (4 << 20)    /* bytes read from the other process at a time; more than a record has */

struct buffer {
    uint8_t *bytes;
    size_t start, end, size; /* what is between start and end is not sent yet */
};

struct connection {
    int fd, upgraded, closing, ended, touched;
    uint32_t number;
    size_t in_end; /* end of received, unprocessed data */
    struct buffer out;
    uint8_t in[BUFFER];
};

struct head {
    uint32_t fd, number; /* the connection; its number differs from that of earlier ones with the same descriptor */
    uint32_t length;     /* of the frame */
};

static int poller, worker;
static pid_t worker_pid;
static struct connection *connections[MAX_CONNECTIONS]; /* by descriptor */
static struct connection *touched[MAX_CONNECTIONS];     /* those to send to, or to close, at the end of the turn */
static size_t touched_count;
static struct buffer batch;
static uint8_t echoes[MAX_READ];
static size_t echoes_end;

/* Return where to write `count` more bytes of a buffer. */
static uint8_t *room(struct buffer *b, size_t count) {
    if (b->size - b->end < count) {
        b->size = 2 * (b->end + count);
        b->bytes = realloc(b->bytes, b->size);
        if (!b->bytes) exit(1);
    }
    return b->bytes + b->end;
}

/* Send what a buffer holds; return -1 at the end of the connection, else whether something is left. */
static int send_buffer(int fd, struct buffer *b) {
    if (b->start < b->end) {
        ssize_t sent = send(fd, b->bytes + b->start, b->end - b->start, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN) return -1;
        if (sent > 0) b->start += (size_t)sent;
    }
    if (b->start < b->end) return 1;
    b->start = b->end = 0;
    return 0;
}

static void touch(struct connection *c) {
    if (!c->touched) touched[touched_count++] = c;
    c->touched = 1;
}

static void forget(struct connection *c, size_t taken) {
    c->in_end -= taken;
    memmove(c->in, c->in + taken, c->in_end);
}

/* Answer the upgrade request once it is complete; return 0 if it has no key. */
static int upgrade(struct connection *c) {
    size_t written = 0;
    ssize_t taken = answer_upgrade(c->in, c->in_end, room(&c->out, MAX_RESPONSE), &written);
    if (taken > 0) {
        c->out.end += written;
        forget(c, (size_t)taken);
        c->upgraded = 1;
        touch(c);
    }
    return taken >= 0;
}

/* Append the echo of all complete frames to the batch; return 0 for a frame that is too long or not masked. */
static int batch_frames(struct connection *c) {
    struct frame frame;
    size_t at = 0;
    int complete = 0;
    while (!c->closing && (complete = parse_frame(c->in + at, c->in_end - at, &frame)) > 0) {
        struct head head = {(uint32_t)c->fd, c->number, (uint32_t)echo_size(&frame)};
        uint8_t *record = room(&batch, sizeof head + head.length);
        memcpy(record, &head, sizeof head);
        write_echo(record + sizeof head, c->in + at, &frame);
        batch.end += sizeof head + head.length;
        c->closing = is_close(c->in + at);
        at += frame_size(&frame);
    }
    forget(c, at);
    return complete >= 0;
}

static int on_readable(struct connection *c) {
    ssize_t count = recv(c->fd, c->in + c->in_end, sizeof c->in - 1 - c->in_end, 0);
    if (count == 0 || (count < 0 && errno != EAGAIN)) return 0;
    if (count > 0) c->in_end += (size_t)count;
    if (!c->upgraded && !upgrade(c)) return 0;
    return !c->upgraded || batch_frames(c);
}

/* Read echoes from the second process and append each to the output of its connection, if that is still there. */
static void on_echoes(void) {
    ssize_t count = recv(worker, echoes + echoes_end, sizeof echoes - echoes_end, MSG_DONTWAIT);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) exit(1);
    echoes_end += (size_t)count;
    size_t at = 0;
    struct head head;
    while (echoes_end - at >= sizeof head) {
        memcpy(&head, echoes + at, sizeof head);
        if (echoes_end - at < sizeof head + head.length) break;
        struct connection *c = connections[head.fd];
        if (c && c->number == head.number) {
            const uint8_t *frame = echoes + at + sizeof head;
            memcpy(room(&c->out, head.length), frame, head.length);
            c->out.end += head.length;
            c->ended |= is_close(frame);
            touch(c);
        }
        at += sizeof head + head.length;
    }
    echoes_end -= at;
    memmove(echoes, echoes + at, echoes_end);
}

/* Send the batch; while something is left of it, wait for EPOLLOUT too. */
static void flush_batch(void) {
    size_t had = batch.start;
    int left = send_buffer(worker, &batch);
    if (left < 0) exit(1);
    if (left || had) watch(poller, EPOLL_CTL_MOD, worker, left ? EPOLLIN | EPOLLOUT : EPOLLIN, &worker);
}

/* Send the output of a connection; while something is left of it, wait for EPOLLOUT only. Return 0 at its end. */
static int flush(struct connection *c) {
    size_t had = c->out.start;
    int left = send_buffer(c->fd, &c->out);
    if (left < 0 || (!left && c->ended)) return 0;
    if (left || had) watch(poller, EPOLL_CTL_MOD, c->fd, left ? EPOLLOUT : EPOLLIN, c);
    return 1;
}

static void end_turn(void) {
    flush_batch();
    for (size_t i = 0; i < touched_count; i++) {
        struct connection *c = touched[i];
        c->touched = 0;
        if (!flush(c)) {
            connections[c->fd] = NULL;
            close(c->fd);
            free(c->out.bytes);
            free(c);
        }
    }
    touched_count = 0;
}

static void accept_all(int listener) {
    static uint32_t last_number;
    int fd;
    while ((fd = accept_one(listener)) >= 0) {
        struct connection *c = calloc(1, sizeof *c); /* pages are allocated when they are touched */
        if (!c || fd >= MAX_CONNECTIONS) exit(1);
        c->fd = fd;
        c->number = ++last_number;
        connections[fd] = c;
        watch(poller, EPOLL_CTL_ADD, fd, EPOLLIN, c);
    }
}

/* The second process: send back what comes, until the first one has ended. */
static void run_worker(int master) {
    static uint8_t bytes[MAX_READ];
    ssize_t count;
    while ((count = recv(master, bytes, sizeof bytes, 0)) > 0)
        for (ssize_t sent = 0, more; sent < count; sent += more)
            if ((more = send(master, bytes + sent, (size_t)(count - sent), MSG_NOSIGNAL)) < 0) _exit(0);
    _exit(0);
}

/* End both processes; all these calls may be made in a signal handler. */
static void stop(int signal_number) {
    (void)signal_number;
    kill(worker_pid, SIGKILL);
    waitpid(worker_pid, NULL, 0);
    _exit(0);
}

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: two_processes PORT\n"), 2;
    int pair[2], listener = listen_on(argv[1]);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) return perror("socketpair"), 1;
    worker_pid = fork();
    if (worker_pid < 0) return perror("fork"), 1;
    close(pair[worker_pid ? 1 : 0]); /* so that the end of one process is the end of file for the other */
    if (!worker_pid) {
        close(listener);
        run_worker(pair[1]);
    }
    signal(SIGTERM, stop);
    worker = pair[0];
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[256];
    watch(poller, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    watch(poller, EPOLL_CTL_ADD, worker, EPOLLIN, &worker);
    for (;;) {
        int count = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < count; i++) {
            void *data = events[i].data.ptr;
            struct connection *c = data;
            if (!data) {
                accept_all(listener);
            } else if (data == &worker) {
                if (events[i].events & (EPOLLIN | EPOLLHUP)) on_echoes();
            } else if (events[i].events & EPOLLOUT) {
                touch(c);
            } else if (!on_readable(c)) {
                c->ended = 1;
                c->out.start = c->out.end = 0;
                touch(c);
            }
        }
        end_turn();
    }
}
