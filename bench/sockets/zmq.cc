/* bench/sockets/zmq.cc - ZeroMQ (libzmq3-dev), over ipc and over TCP: REQ/REP for round trips, PUSH/PULL and PUB/SUB
 * one way
 *
 * Polling: asked for a message again and again; a full queue is always waited for as the library does.
 */
#include "sockets.h"

#if __has_include(<zmq.h>)
#include <zmq.h>

namespace {

enum kind { PIPES, TOPICS };

struct zmq_end : end {
    void *ctx, *s, *many[most_subscribers];
    unsigned subscribers;
    int flags;
    zmq_end() : ctx(zmq_ctx_new()), s(NULL), subscribers(0), flags(0) { memset(many, 0, sizeof many); }
    ~zmq_end()
    {
        for (unsigned i = 0; i < subscribers; i++) zmq_close(many[i]);
        if (s) zmq_close(s);
        zmq_ctx_term(ctx);
    }
    void send(const uint64_t *message, size_t size)
    {
        while (zmq_send(s, message, size, 0) < 0) demand(errno == EAGAIN || errno == EINTR, "zmq_send");
    }
    size_t recv(uint64_t *message, size_t size)
    {
        int n;
        while ((n = zmq_recv(s, message, size, flags)) < 0) demand(errno == EAGAIN || errno == EINTR, "zmq_recv");
        return static_cast<size_t>(n);
    }
    size_t try_recv(unsigned which, uint64_t *message, size_t size)
    {
        int n = zmq_recv(many[which], message, size, ZMQ_DONTWAIT);
        return n < 0 ? 0 : static_cast<size_t>(n);
    }
};

void *new_socket(zmq_end *e, const spec &s, int type)
{
    void *q = zmq_socket(e->ctx, type);
    demand(q != NULL, "zmq_socket");
    int depth = static_cast<int>(s.depth), linger = 100, yes = 1;
    zmq_setsockopt(q, ZMQ_SNDHWM, &depth, sizeof depth);
    zmq_setsockopt(q, ZMQ_RCVHWM, &depth, sizeof depth);
    zmq_setsockopt(q, ZMQ_LINGER, &linger, sizeof linger);
    if (type == ZMQ_PUB) zmq_setsockopt(q, ZMQ_XPUB_NODROP, &yes, sizeof yes);
    if (type == ZMQ_SUB) zmq_setsockopt(q, ZMQ_SUBSCRIBE, "", 0);
    return q;
}

int type_of(const spec &s, int side, kind k)
{
    if (s.pattern == ECHO) return side == NEAR ? ZMQ_REQ : ZMQ_REP;
    if (k == TOPICS) return side == NEAR ? ZMQ_PUB : ZMQ_SUB;
    return side == NEAR ? ZMQ_PUSH : ZMQ_PULL;
}

void attach(void *q, spec &s, int side, bool binds, bool tcp)
{
    char name[160];
    size_t len = sizeof s.address[0];
    if (!binds) {
        demand(zmq_connect(q, s.address[!side]) == 0, "zmq_connect");
        return;
    }
    if (tcp)
        snprintf(name, sizeof name, "tcp://127.0.0.1:*");
    else
        snprintf(name, sizeof name, "ipc://%s/zmq", s.dir);
    demand(zmq_bind(q, name) == 0, "zmq_bind");
    demand(zmq_getsockopt(q, ZMQ_LAST_ENDPOINT, s.address[side], &len) == 0, "zmq endpoint");
}

end *open_any(spec &s, int side, kind k, bool tcp)
{
    zmq_end *e = new zmq_end;
    int type = type_of(s, side, k);
    e->flags = s.form == POLL ? ZMQ_DONTWAIT : 0;
    bool binds = (side == FAR) != (s.pattern == FANOUT);
    if (s.pattern == FANOUT && side == FAR) {
        e->subscribers = s.subscribers;
        for (unsigned i = 0; i < s.subscribers; i++) attach(e->many[i] = new_socket(e, s, type), s, side, binds, tcp);
    } else {
        attach(e->s = new_socket(e, s, type), s, side, binds, tcp);
    }
    return e;
}

end *open_ipc(spec &s, int side) { return open_any(s, side, PIPES, false); }
end *open_tcp(spec &s, int side) { return open_any(s, side, PIPES, true); }
end *open_ipc_pub(spec &s, int side) { return open_any(s, side, TOPICS, false); }

} // namespace

size_t zmq_peers(peer *out)
{
    out[0] = make_peer("zmq_ipc", "REQ/REP, PUSH/PULL", POLL | BLOCK | DEFAULT, ECHO | STREAM, any_size, open_ipc);
    out[1] = make_peer("zmq_tcp", "REQ/REP, PUSH/PULL", POLL | BLOCK | DEFAULT, ECHO | STREAM, any_size, open_tcp);
    out[2] = make_peer("zmq_ipc_pub", "PUB/SUB", POLL | BLOCK | DEFAULT, STREAM | FANOUT, any_size, open_ipc_pub);
    return 3;
}
#else
size_t zmq_peers(peer *out)
{
    out[0] = absent("zmq", "no zmq.h (libzmq3-dev)");
    return 1;
}
#endif
