/* The limit: a WebSocket echo server with nothing but epoll, one thread, one read and one write per turn.
 *
 * It shows how fast any server on this machine could be. It trusts its clients: frames are masked, unfragmented and
 * not longer than MAX_PAYLOAD, and text is echoed without checking its UTF-8.
 *
 * usage: echo PORT (on 127.0.0.1)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_PAYLOAD (1 << 20)
#define BUFFER (MAX_PAYLOAD + 64)
#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

struct connection {
    int fd, upgraded, closing;
    size_t in_end;              /* end of received, unprocessed data */
    size_t out_start, out_end;  /* echoes that are not sent yet */
    uint8_t in[BUFFER], out[2 * BUFFER];
};

static int poller;

static uint32_t rotate(uint32_t word, int bits) { return word << bits | word >> (32 - bits); }

/* SHA-1 (RFC 3174) of a text short enough for two blocks. */
static void sha1(const char *text, uint8_t digest[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    uint8_t blocks[128] = {0};
    size_t length = strlen(text);
    memcpy(blocks, text, length);
    blocks[length] = 0x80;
    blocks[126] = (uint8_t)(length * 8 >> 8);
    blocks[127] = (uint8_t)(length * 8);
    for (int block = 0; block < 2; block++) {
        uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 16; i++) {
            memcpy(&w[i], blocks + 64 * block + 4 * i, 4);
            w[i] = ntohl(w[i]);
        }
        for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20 ? (b & c) | (~b & d) : i < 40 ? b ^ c ^ d : i < 60 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
            uint32_t k = i < 20 ? 0x5A827999 : i < 40 ? 0x6ED9EBA1 : i < 60 ? 0x8F1BBCDC : 0xCA62C1D6;
            uint32_t next = rotate(a, 5) + f + e + k + w[i];
            e = d, d = c, c = rotate(b, 30), b = a, a = next;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++) digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const uint8_t digest[20], char text[29]) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t padded[21] = {0};
    memcpy(padded, digest, 20);
    for (int i = 0; i < 7; i++) {
        uint32_t three = (uint32_t)padded[3 * i] << 16 | padded[3 * i + 1] << 8 | padded[3 * i + 2];
        for (int j = 0; j < 4; j++) text[4 * i + j] = letters[three >> (18 - 6 * j) & 63];
    }
    text[27] = '=', text[28] = 0;
}

/* Answer the upgrade request once it is complete; return 0 when it has no key. */
static int upgrade(struct connection *c) {
    c->in[c->in_end] = 0;
    char *end = strstr((char *)c->in, "\r\n\r\n");
    if (!end) return 1;
    char *key = strcasestr((char *)c->in, "\r\nSec-WebSocket-Key: ");
    if (!key || key + 21 + 24 > end) return 0;
    char text[24 + sizeof GUID], accept[29];
    uint8_t digest[20];
    snprintf(text, sizeof text, "%.24s%s", key + 21, GUID);
    sha1(text, digest);
    base64(digest, accept);
    c->out_end = (size_t)sprintf((char *)c->out,
                                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                 "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept);
    size_t taken = (size_t)(end + 4 - (char *)c->in);
    c->in_end -= taken;
    memmove(c->in, c->in + taken, c->in_end);
    c->upgraded = 1;
    return 1;
}

/* Write the echo of all complete frames to the outbox; return 0 for a frame that is too long or not masked. */
static int echo_frames(struct connection *c) {
    size_t at = 0;
    while (c->in_end - at >= 2 && !c->closing) {
        uint8_t *frame = c->in + at, *out = c->out + c->out_end;
        uint64_t length = frame[1] & 127;
        size_t header = length < 126 ? 2 : length == 126 ? 4 : 10;
        if (c->in_end - at < header) break;
        if (header > 2) {
            length = 0;
            for (size_t i = 2; i < header; i++) length = length << 8 | frame[i];
        }
        if (length > MAX_PAYLOAD || !(frame[1] & 128)) return 0;
        if (c->in_end - at < header + 4 + length || sizeof c->out - c->out_end < header + length) break;
        memcpy(out, frame, header);
        out[1] &= 127;
        if ((out[0] & 15) == 9) out[0] = 0x8A; /* a ping's echo is a pong */
        if ((out[0] & 15) == 8) c->closing = 1;
        uint32_t key;
        uint64_t key2, word, done = 0;
        memcpy(&key, frame + header, 4);
        key2 = (uint64_t)key << 32 | key;
        const uint8_t *masked = frame + header + 4;
        for (; done + 8 <= length; done += 8) {
            memcpy(&word, masked + done, 8);
            word ^= key2;
            memcpy(out + header + done, &word, 8);
        }
        for (; done < length; done++) out[header + done] = masked[done] ^ frame[header + (done & 3)];
        c->out_end += header + length;
        at += header + 4 + length;
    }
    memmove(c->in, c->in + at, c->in_end - at);
    c->in_end -= at;
    return 1;
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
    if (left || had) {
        struct epoll_event event = {.events = left ? EPOLLOUT : EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
    }
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
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *c = calloc(1, sizeof *c); /* pages are allocated when they are touched */
        if (!c) exit(1);
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (argc != 2) return fprintf(stderr, "usage: echo PORT\n"), 2;
    address.sin_port = htons((uint16_t)atoi(argv[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) return perror("echo"), 1;
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[256], event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    puts("ready");
    fflush(stdout);
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
