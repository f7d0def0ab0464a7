/* bench/sockets/kernel.cc - what the kernel offers: pipe, Unix stream socket, TCP over the loopback interface
 *
 * Bytes without boundaries: one at a time, every message of a run has the same size, which both sides know; in batches
 * each has its length before it, as it must where the sizes are not known. Polling: the descriptors do not block and
 * are asked again and again.
 */
#include "sockets.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace {

struct fd_end : end {
    int out, in, *many;
    unsigned subscribers;
    bool framed;
    uint64_t packed[batch * 17]; /* messages of up to 128 bytes */
    fd_end(const spec &s, int to, int from) : out(to), in(from), many(NULL), subscribers(0), framed(s.pattern == BATCH)
    {
    }
    static void put(int fd, const void *from, size_t size)
    {
        const char *p = static_cast<const char *>(from);
        while (size) {
            ssize_t n = write(fd, p, size);
            if (n < 0 && errno == EPIPE) return;
            demand(n > 0 || errno == EAGAIN, "write");
            if (n > 0) p += n, size -= static_cast<size_t>(n);
        }
    }
    static void get(int fd, void *to, size_t size)
    {
        char *p = static_cast<char *>(to);
        while (size) {
            ssize_t n = read(fd, p, size);
            demand(n > 0 || (n < 0 && errno == EAGAIN), "read");
            if (n > 0) p += n, size -= static_cast<size_t>(n);
        }
    }
    void send(const uint64_t *message, size_t size)
    {
        if (framed) return send_many(message, size, 1);
        if (!many) put(out, message, size);
        for (unsigned i = 0; i < subscribers; i++) put(many[2 * i], message, size);
    }
    size_t recv(uint64_t *message, size_t size)
    {
        get(in, message, size);
        return size;
    }
    /* One write for all of them. */
    void send_many(const uint64_t *messages, size_t size, unsigned count)
    {
        uint64_t *w = packed;
        for (unsigned i = 0; i < count; i++) {
            *w++ = size;
            memcpy(w, messages + i * (size / 8), size);
            w += size / 8;
        }
        put(out, packed, static_cast<size_t>(w - packed) * 8);
    }
    /* One read for as many as there are; the rest of the last one is waited for. */
    unsigned recv_many(uint64_t *messages, size_t size)
    {
        ssize_t n;
        do n = read(in, packed, (size + 8) * batch);
        while (n < 0 && errno == EAGAIN);
        demand(n > 0, "read");
        size_t rest = static_cast<size_t>(n) % (size + 8), count = (static_cast<size_t>(n) + size + 7) / (size + 8);
        if (rest) get(in, reinterpret_cast<char *>(packed) + n, size + 8 - rest);
        const uint64_t *w = packed;
        for (size_t i = 0; i < count; i++) {
            size_t len = static_cast<size_t>(*w++);
            memcpy(messages + i * (size / 8), w, len < size ? len : size);
            w += len / 8;
        }
        return static_cast<unsigned>(count);
    }
    size_t try_recv(unsigned which, uint64_t *message, size_t size)
    {
        ssize_t n = read(many[2 * which + 1], message, size);
        if (n < 0) return 0;
        get(many[2 * which + 1], reinterpret_cast<char *>(message) + n, size - static_cast<size_t>(n));
        return size;
    }
};

void keep(spec &s, unsigned i, int near_fd, int far_fd)
{
    int flags = s.form == POLL ? O_NONBLOCK : 0;
    fcntl(near_fd, F_SETFL, flags);
    fcntl(far_fd, F_SETFL, flags);
    s.fd[i][NEAR] = near_fd;
    s.fd[i][FAR] = far_fd;
}

/* fd[0]: near to far, fd[1]: far to near. */
void pipe_prepare(spec &s)
{
    for (unsigned i = 0; i < 2; i++) {
        int p[2];
        demand(pipe(p) == 0, "pipe");
        fcntl(p[1], F_SETPIPE_SZ, 1 << 20);
        if (i == 0)
            keep(s, i, p[1], p[0]);
        else
            keep(s, i, p[0], p[1]);
    }
}

void enlarge(int fd)
{
    int bytes = 1 << 20;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
}

void unix_prepare(spec &s)
{
    for (unsigned i = 0; i < (s.pattern == FANOUT ? s.subscribers : 1); i++) {
        int p[2];
        demand(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0, "socketpair");
        if (s.size > 1024) enlarge(p[0]), enlarge(p[1]);
        keep(s, i, p[0], p[1]);
    }
}

void tcp_prepare(spec &s)
{
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    int one = 1, l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct sockaddr *at = reinterpret_cast<struct sockaddr *>(&a);
    demand(bind(l, at, sizeof a) == 0 && listen(l, 1) == 0 && getsockname(l, at, &len) == 0, "listen");
    demand(connect(c, at, sizeof a) == 0, "connect");
    int d = accept(l, NULL, NULL);
    demand(d >= 0, "accept");
    close(l);
    setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(d, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    keep(s, 0, c, d);
}

void close_all(spec &s)
{
    for (unsigned i = 0; i < 2 * most_subscribers; i++)
        for (int k = 0; k < 2; k++) {
            if (s.fd[i][k] > 0) close(s.fd[i][k]);
            s.fd[i][k] = 0;
        }
}

end *pipe_open(spec &s, int side)
{
    return new fd_end(s, s.fd[side == NEAR ? 0 : 1][side], s.fd[side == NEAR ? 1 : 0][side]);
}

end *socket_open(spec &s, int side)
{
    fd_end *e = new fd_end(s, s.fd[0][side], s.fd[0][side]);
    if (s.pattern == FANOUT) e->many = &s.fd[0][0], e->subscribers = s.subscribers;
    if (s.pattern == FANOUT && side == FAR)
        for (unsigned i = 0; i < s.subscribers; i++) fcntl(s.fd[i][FAR], F_SETFL, O_NONBLOCK);
    return e;
}

} // namespace

size_t kernel_peers(peer *out)
{
    out[0] = make_peer("tcp", "loopback", POLL | BLOCK | DEFAULT, ECHO | STREAM | BATCH, any_size, socket_open);
    out[0].prepare = tcp_prepare;
    out[1] = make_peer("unix", "stream socket", POLL | BLOCK | DEFAULT, ECHO | STREAM | BATCH | FANOUT, any_size,
                       socket_open);
    out[1].prepare = unix_prepare;
    out[2] = make_peer("pipe", "", POLL | BLOCK | DEFAULT, ECHO | STREAM | BATCH, any_size, pipe_open);
    out[2].prepare = pipe_prepare;
    for (int i = 0; i < 3; i++) out[i].unprepare = close_all;
    return 3;
}
