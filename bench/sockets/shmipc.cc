/* bench/sockets/shmipc.cc - ours: shmipc_socket.h
 *
 * reqrep: a request and its reply. pubsub, pushpull: one channel each way for round trips, one for all else. Polling is
 * SHMIPC_WAIT_SPIN, blocking SHMIPC_WAIT_SLEEP, the default is the default.
 */
#include "sockets.h"

#if __has_include("shmipc_socket.h")
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "shmipc_socket.h"

namespace {

shmipc_ctx *ctx;

void require(int rc, const char *what)
{
    if (rc >= 0) return;
    fprintf(stderr, "bench: %s: %s: %s\n", what, shmipc_strerror(rc), ctx ? shmipc_ctx_detail(ctx) : "");
    _exit(1);
}

void join(const spec &s)
{
    shmipc_ctx_config c;
    shmipc_ctx_config_init(&c);
    c.dir = s.dir;
    require(shmipc_ctx_open(&ctx, &c), "shmipc_ctx_open");
}

typedef int (*open_fn)(shmipc_socket **, shmipc_ctx *, const char *, const shmipc_socket_config *);

shmipc_socket *new_socket(const spec &s, open_fn open, const char *name, bool owner)
{
    shmipc_socket_config c;
    shmipc_socket *q;
    shmipc_socket_config_init(&c);
    if (owner) c.depth = static_cast<uint32_t>(s.depth);
    c.wait = s.form == POLL ? SHMIPC_WAIT_SPIN : s.form == BLOCK ? SHMIPC_WAIT_SLEEP : SHMIPC_WAIT_ADAPTIVE;
    require(open(&q, ctx, name, &c), name);
    return q;
}

struct our_end : end {
    shmipc_socket *out, *in, *many[most_subscribers];
    unsigned subscribers;
    shmipc_item items[batch];
    shmipc_msg taken, msgs[batch];
    shmipc_loan lent;
    our_end() : out(NULL), in(NULL), subscribers(0) { memset(items, 0, sizeof items); }
    ~our_end()
    {
        for (unsigned i = 0; i < subscribers; i++) shmipc_close(&many[i]);
        if (in && in != out) shmipc_close(&in);
        if (out) shmipc_close(&out);
        shmipc_ctx_close(ctx);
    }
    void send(const uint64_t *message, size_t size) { require(shmipc_send(out, message, size, -1), "shmipc_send"); }
    size_t recv(uint64_t *message, size_t size)
    {
        size_t len = 0;
        require(shmipc_recv(in, message, size, &len, -1), "shmipc_recv");
        return len;
    }
    size_t try_recv(unsigned which, uint64_t *message, size_t size)
    {
        size_t len = 0;
        int rc = shmipc_recv(many[which], message, size, &len, 0);
        if (rc == SHMIPC_ETIMEDOUT || rc == SHMIPC_EAGAIN) return 0;
        require(rc, "shmipc_recv");
        return len;
    }
    void send_many(const uint64_t *messages, size_t size, unsigned count)
    {
        for (unsigned i = 0; i < count; i++) items[i].data = messages + i * (size / 8), items[i].len = size;
        for (unsigned done = 0; done < count;) {
            int n = shmipc_send_many(out, items + done, count - done, -1);
            require(n, "shmipc_send_many");
            done += static_cast<unsigned>(n);
        }
    }
    unsigned recv_many(uint64_t *messages, size_t size)
    {
        int n = shmipc_recv_many(in, messages, size * batch, msgs, batch, -1);
        require(n, "shmipc_recv_many");
        return static_cast<unsigned>(n);
    }
    uint64_t *loan(size_t size)
    {
        require(shmipc_loan_open(out, size, &lent), "shmipc_loan_open");
        lent.len = size;
        return static_cast<uint64_t *>(lent.data);
    }
    void commit() { require(shmipc_loan_commit(&lent, -1), "shmipc_loan_commit"); }
    const uint64_t *take(size_t *size)
    {
        require(shmipc_take(in, &taken, -1), "shmipc_take");
        *size = taken.len;
        return static_cast<const uint64_t *>(taken.data);
    }
    void release() { require(shmipc_release(&taken), "shmipc_release"); }
};

end *open_both(spec &s, int side, open_fn sender, open_fn receiver)
{
    static const char *const names[2] = {"bench/near", "bench/far"};
    our_end *e = new our_end;
    bool both = s.pattern == ECHO || s.pattern == ZEROCOPY;
    join(s);
    if (s.pattern == FANOUT && side == FAR) {
        e->subscribers = s.subscribers;
        for (unsigned i = 0; i < s.subscribers; i++) e->many[i] = new_socket(s, receiver, names[NEAR], false);
        return e;
    }
    if (both || side == FAR) e->in = new_socket(s, receiver, names[!side], false);
    if (both || side == NEAR) e->out = new_socket(s, sender, names[side], true);
    return e;
}

end *open_pubsub(spec &s, int side) { return open_both(s, side, shmipc_pub_open, shmipc_sub_open); }
end *open_pushpull(spec &s, int side) { return open_both(s, side, shmipc_push_open, shmipc_pull_open); }
end *open_reqrep(spec &s, int side)
{
    our_end *e = new our_end;
    join(s);
    e->in = e->out = new_socket(s, side == NEAR ? shmipc_req_open : shmipc_rep_open, "bench", false);
    return e;
}

} // namespace

size_t shmipc_peers(peer *out)
{
    const unsigned forms = POLL | BLOCK | DEFAULT;
    out[0] = make_peer("reqrep", "", forms, ECHO | ZEROCOPY, any_size, open_reqrep);
    out[1] = make_peer("pubsub", "", forms, ECHO | STREAM | BATCH | FANOUT | ZEROCOPY, any_size, open_pubsub);
    out[2] = make_peer("pushpull", "", forms, ECHO | STREAM | BATCH | ZEROCOPY, any_size, open_pushpull);
    for (int i = 0; i < 3; i++) out[i].sleeps_by_default = false;
    return 3;
}
#else
size_t shmipc_peers(peer *out)
{
    out[0] = absent("shmipc", "no shmipc_socket.h");
    return 1;
}
#endif
