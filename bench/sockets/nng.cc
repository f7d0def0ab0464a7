/* bench/sockets/nng.cc - nng (libnng-dev), over ipc: REQ/REP for round trips, PUSH/PULL and PUB/SUB one way */
#include "sockets.h"

#if __has_include(<nng/nng.h>)
#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/pubsub0/sub.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>

namespace {

void require(int rc, const char *what)
{
    if (rc) cannot(what, nng_strerror(rc));
}

struct nng_end : end {
    nng_socket s, many[most_subscribers];
    unsigned subscribers;
    int flags;
    bool single;
    nng_end() : subscribers(0), flags(0), single(false) {}
    ~nng_end()
    {
        for (unsigned i = 0; i < subscribers; i++) nng_close(many[i]);
        if (single) nng_close(s);
    }
    void send(const uint64_t *message, size_t size)
    {
        require(nng_send(s, const_cast<uint64_t *>(message), size, 0), "nng_send");
    }
    size_t recv(uint64_t *message, size_t size)
    {
        int rc;
        while ((rc = nng_recv(s, message, &size, flags)) == NNG_EAGAIN) {}
        require(rc, "nng_recv");
        return size;
    }
    size_t try_recv(unsigned which, uint64_t *message, size_t size)
    {
        return nng_recv(many[which], message, &size, NNG_FLAG_NONBLOCK) ? 0 : size;
    }
};

nng_socket new_socket(const spec &s, int side, bool topics)
{
    nng_socket q;
    bool near_side = side == NEAR;
    if (s.pattern == ECHO)
        require(near_side ? nng_req0_open(&q) : nng_rep0_open(&q), "nng open");
    else if (topics)
        require(near_side ? nng_pub0_open(&q) : nng_sub0_open(&q), "nng open");
    else
        require(near_side ? nng_push0_open(&q) : nng_pull0_open(&q), "nng open");
    if (topics && !near_side) require(nng_socket_set(q, NNG_OPT_SUB_SUBSCRIBE, "", 0), "nng subscribe");
    int depth = static_cast<int>(s.depth);
    nng_socket_set_size(q, NNG_OPT_RECVMAXSZ, 0);
    nng_socket_set_int(q, NNG_OPT_SENDBUF, depth); /* where the protocol has one */
    nng_socket_set_int(q, NNG_OPT_RECVBUF, depth);
    return q;
}

void attach(nng_socket q, const spec &s, bool listens)
{
    char name[160];
    snprintf(name, sizeof name, "ipc://%s/nng", s.dir);
    if (listens)
        require(nng_listen(q, name, NULL, 0), "nng_listen");
    else
        require(nng_dial(q, name, NULL, 0), "nng_dial");
}

end *open_any(spec &s, int side, bool topics)
{
    nng_end *e = new nng_end;
    e->flags = s.form == POLL ? NNG_FLAG_NONBLOCK : 0;
    bool listens = (side == FAR) != (s.pattern == FANOUT);
    if (s.pattern == FANOUT && side == FAR) {
        e->subscribers = s.subscribers;
        for (unsigned i = 0; i < s.subscribers; i++) attach(e->many[i] = new_socket(s, side, topics), s, listens);
    } else {
        e->single = true;
        attach(e->s = new_socket(s, side, topics), s, listens);
    }
    return e;
}

end *open_pipes(spec &s, int side) { return open_any(s, side, false); }
end *open_topics(spec &s, int side) { return open_any(s, side, true); }

} // namespace

size_t nng_peers(peer *out)
{
    out[0] = make_peer("nng_ipc", "REQ/REP, PUSH/PULL", POLL | BLOCK | DEFAULT, ECHO | STREAM, any_size, open_pipes);
    out[1] = make_peer("nng_ipc_pub", "PUB/SUB", POLL | BLOCK | DEFAULT, STREAM | FANOUT, any_size, open_topics);
    return 2;
}
#else
size_t nng_peers(peer *out)
{
    out[0] = absent("nng", "no nng/nng.h (libnng-dev)");
    return 1;
}
#endif
