/* What both limits do alike: listen, answer the opening handshake, parse frames and write their echoes.
 *
 * They trust their clients: frames are masked, unfragmented and not longer than MAX_PAYLOAD, and text is echoed without
 * checking its UTF-8.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_PAYLOAD (1 << 20)
#define MAX_HEADER 10 /* of a frame, without its masking key */
#define MAX_RESPONSE 256
#define BUFFER (MAX_PAYLOAD + 64)
#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

struct frame {
    size_t header, length; /* bytes before the masking key, and of the payload */
};

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

/* Answer an upgrade request of `length` bytes, with room for one more, once it is complete.
 *
 * Writes up to MAX_RESPONSE bytes to `response` and their number to `written`. Returns the length of the request, 0 if it
 * is not complete, -1 if it has no key.
 */
static ssize_t answer_upgrade(uint8_t *request, size_t length, uint8_t *response, size_t *written) {
    request[length] = 0;
    char *end = strstr((char *)request, "\r\n\r\n");
    if (!end) return 0;
    char *key = strcasestr((char *)request, "\r\nSec-WebSocket-Key: ");
    if (!key || key + 21 + 24 > end) return -1;
    char text[24 + sizeof GUID], accept[29];
    uint8_t digest[20];
    snprintf(text, sizeof text, "%.24s%s", key + 21, GUID);
    sha1(text, digest);
    base64(digest, accept);
    *written = (size_t)snprintf((char *)response, MAX_RESPONSE,
                                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept);
    return end + 4 - (char *)request;
}

/* Parse the header of the next frame. Return 1 if the frame is complete, 0 if not, -1 if it is too long or unmasked. */
static int parse_frame(const uint8_t *in, size_t received, struct frame *frame) {
    if (received < 2) return 0;
    uint64_t length = in[1] & 127;
    size_t header = length < 126 ? 2 : length == 126 ? 4 : 10;
    if (received < header) return 0;
    if (header > 2) {
        length = 0;
        for (size_t i = 2; i < header; i++) length = length << 8 | in[i];
    }
    if (length > MAX_PAYLOAD || !(in[1] & 128)) return -1;
    frame->header = header;
    frame->length = length;
    return received >= header + 4 + length;
}

static size_t frame_size(const struct frame *frame) { return frame->header + 4 + frame->length; }

static size_t echo_size(const struct frame *frame) { return frame->header + frame->length; }

static int is_close(const uint8_t *frame) { return (frame[0] & 15) == 8; }

/* Write the echo of a complete frame: the same message, unmasked; the echo of a ping is a pong. */
static void write_echo(uint8_t *out, const uint8_t *in, const struct frame *frame) {
    size_t header = frame->header, length = frame->length, done = 0;
    memcpy(out, in, header);
    out[1] &= 127;
    if ((out[0] & 15) == 9) out[0] = 0x8A;
    uint32_t key;
    uint64_t key2, word;
    memcpy(&key, in + header, 4);
    key2 = (uint64_t)key << 32 | key;
    const uint8_t *masked = in + header + 4;
    for (; done + 8 <= length; done += 8) {
        memcpy(&word, masked + done, 8);
        word ^= key2;
        memcpy(out + header + done, &word, 8);
    }
    for (; done < length; done++) out[header + done] = masked[done] ^ in[header + (done & 3)];
}

/* Listen on a port of 127.0.0.1; end the program if that is not possible. */
static int listen_on(const char *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    address.sin_port = htons((uint16_t)atoi(port));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) {
        perror("listen");
        exit(1);
    }
    return listener;
}

/* Accept a connection that sends without delay; return -1 if none is waiting. */
static int accept_one(int listener) {
    int on = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void watch(int poller, int operation, int fd, uint32_t events, void *data) {
    struct epoll_event event = {.events = events, .data.ptr = data};
    epoll_ctl(poller, operation, fd, &event);
}
