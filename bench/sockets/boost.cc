/* bench/sockets/boost.cc - Boost.Interprocess message_queue (libboost-dev), one each way */
#include "sockets.h"

#if __has_include(<boost/interprocess/ipc/message_queue.hpp>)
#include <boost/interprocess/ipc/message_queue.hpp>

namespace {

namespace bip = boost::interprocess;

/* Named after the process that measures, the parent of both sides. */
void name_of(char *out, size_t size, int parent, int from) { snprintf(out, size, "shmipc-bench-%d-%d", parent, from); }

struct mq_end : end {
    bip::message_queue *out, *in;
    bool poll;
    mq_end(bip::message_queue *to, bip::message_queue *from, bool p) : out(to), in(from), poll(p) {}
    ~mq_end()
    {
        delete out;
        delete in;
    }
    void send(const uint64_t *message, size_t size)
    {
        if (!poll)
            out->send(message, size, 0);
        else
            while (!out->try_send(message, size, 0)) {}
    }
    size_t recv(uint64_t *message, size_t size)
    {
        bip::message_queue::size_type got = 0;
        unsigned priority;
        if (!poll)
            in->receive(message, size, got, priority);
        else
            while (!in->try_receive(message, size, got, priority)) {}
        return got;
    }
};

void remove_both(spec &)
{
    for (int i = 0; i < 2; i++) {
        char name[64];
        name_of(name, sizeof name, static_cast<int>(getpid()), i);
        bip::message_queue::remove(name);
    }
}

bip::message_queue *queue(const spec &s, int from, int side)
{
    char name[64];
    name_of(name, sizeof name, static_cast<int>(getppid()), from);
    if (side == FAR) return new bip::message_queue(bip::create_only, name, s.depth, s.size);
    return new bip::message_queue(bip::open_only, name);
}

end *mq_open(spec &s, int side)
{
    try {
        bip::message_queue *to = s.pattern == ECHO || side == NEAR ? queue(s, side, side) : NULL;
        bip::message_queue *from = s.pattern == ECHO || side == FAR ? queue(s, !side, side) : NULL;
        return new mq_end(to, from, s.form == POLL);
    } catch (bip::interprocess_exception &x) {
        cannot("boost message_queue", x.what());
    }
}

} // namespace

size_t boost_peers(peer *out)
{
    out[0] = make_peer("boost_mq", "", POLL | BLOCK | DEFAULT, ECHO | STREAM, any_size, mq_open);
    out[0].prepare = out[0].unprepare = remove_both;
    return 1;
}
#else
size_t boost_peers(peer *out)
{
    out[0] = absent("boost_mq", "no boost/interprocess (libboost-dev)");
    return 1;
}
#endif
