/* bench/sockets/floor.cc - what the machine itself takes, and a ring that is not ours
 *
 * Spinning: a sequence word with the payload beside it (above 48 bytes, over as many lines as it needs), each direction
 * its own; it moves on to another line every 64 messages, since how fast a line travels depends on its address. Rates
 * and many subscribers: the same as a ring of such cells. Sleeping, or both sides on one CPU: one word, handed
 * over by the bare futex call, the payload beside it. Copying: memcpy by one process alone.
 */
#include "sockets.h"

#include <linux/futex.h>
#include <sys/syscall.h>

#define false 0 /* ck_ring.h returns false for a null pointer */
#include <ck_ring.h>
#undef false

namespace {

const size_t direction_bytes = 112u << 20;

char *direction(const spec &s, int which) { return s.memory + static_cast<size_t>(which) * (direction_bytes + 5 * 64); }

uint64_t load(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
void store(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }

/* Cells that are written in turn; nobody says that he has read, so only for who speaks in turn. */
struct cells {
    size_t size, stride, count, stay;
    char *memory;
    cells(const spec &s, int which) : size(s.size), count(64), stay(64), memory(direction(s, which))
    {
        stride = ((size + 8 + 63) & ~(size_t)63) + 17 * 64;
        if (size > 1024) count = 2, stay = 1;
    }
    uint64_t *at(uint64_t seq) const { return reinterpret_cast<uint64_t *>(memory + seq / stay % count * stride); }
};

struct floor_end : end {
    cells out, in;
    uint64_t sent, got;
    floor_end(const spec &s, int side) : out(s, side), in(s, !side), sent(0), got(0) {}
    void send(const uint64_t *message, size_t size)
    {
        uint64_t *c = out.at(sent);
        memcpy(c + 1, message, size);
        store(c, ++sent);
    }
    uint64_t *wait_next()
    {
        uint64_t *c = in.at(got);
        while (load(c) <= got) {}
        got++;
        return c + 1;
    }
    size_t recv(uint64_t *message, size_t size)
    {
        memcpy(message, wait_next(), size);
        return size;
    }
    uint64_t *loan(size_t) { return out.at(sent) + 1; }
    void commit()
    {
        uint64_t *c = out.at(sent);
        store(c, ++sent);
    }
    const uint64_t *take(size_t *size)
    {
        *size = in.size;
        return wait_next();
    }
};

/* A ring between two: each cell has its sequence word, the reader tells now and then how far it is. */
struct ring_end : end {
    size_t size, stride, depth;
    char *memory;
    uint64_t *read, sent, got, room;
    bool broadcast;
    uint64_t at_of[most_subscribers];
    explicit ring_end(const spec &s)
        : size(s.size), depth(s.depth), sent(0), got(0), room(0), broadcast(s.pattern == FANOUT)
    {
        memory = direction(s, 0) + 4096;
        read = reinterpret_cast<uint64_t *>(direction(s, 0));
        stride = ((size + 8 + 63) & ~(size_t)63);
        memset(at_of, 0, sizeof at_of);
    }
    uint64_t *at(uint64_t seq) const { return reinterpret_cast<uint64_t *>(memory + seq % depth * stride); }
    void send(const uint64_t *message, size_t bytes)
    {
        while (!broadcast && sent - room >= depth) room = load(read);
        uint64_t *c = at(sent);
        memcpy(c + 1, message, bytes);
        store(c, ++sent);
    }
    size_t recv(uint64_t *message, size_t bytes)
    {
        uint64_t *c = at(got);
        while (load(c) <= got) {}
        memcpy(message, c + 1, bytes);
        if (++got % (depth / 4) == 0) store(read, got);
        return bytes;
    }
    void send_many(const uint64_t *messages, size_t bytes, unsigned count)
    {
        for (unsigned i = 0; i < count; i++) send(messages + i * (bytes / 8), bytes);
    }
    unsigned recv_many(uint64_t *messages, size_t bytes)
    {
        unsigned n = 1;
        recv(messages, bytes);
        for (; n < batch && load(at(got)) > got; n++) recv(messages + n * (bytes / 8), bytes);
        return n;
    }
    size_t try_recv(unsigned which, uint64_t *message, size_t bytes)
    {
        uint64_t *c = at(at_of[which]);
        if (load(c) <= at_of[which]) return 0;
        memcpy(message, c + 1, bytes);
        at_of[which]++;
        return bytes;
    }
};

struct copy_end : end {
    ring_end r;
    explicit copy_end(const spec &s) : r(s) {}
    void send(const uint64_t *message, size_t size) { memcpy(r.at(r.sent++) + 1, message, size); }
    size_t recv(uint64_t *, size_t) { return 0; }
};

/* One word and the payload beside it; both sides sleep in the kernel. */
struct futex_end : end {
    char *out, *in;
    uint32_t sent, got;
    futex_end(const spec &s, int side) : out(direction(s, side)), in(direction(s, !side)), sent(0), got(0) {}
    void send(const uint64_t *message, size_t size)
    {
        uint32_t *word = reinterpret_cast<uint32_t *>(out);
        memcpy(out + 8, message, size);
        __atomic_store_n(word, ++sent, __ATOMIC_RELEASE);
        syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
    size_t recv(uint64_t *message, size_t size)
    {
        uint32_t *word = reinterpret_cast<uint32_t *>(in);
        while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == got) syscall(SYS_futex, word, FUTEX_WAIT, got, NULL, NULL, 0);
        got = __atomic_load_n(word, __ATOMIC_ACQUIRE);
        memcpy(message, in + 8, size);
        return size;
    }
};

end *floor_open(spec &s, int side)
{
    if (s.pattern == ALONE) return new copy_end(s);
    if (s.form == BLOCK || s.cpus == 1 || s.idle) return new futex_end(s, side);
    if (s.pattern == ECHO || s.pattern == ZEROCOPY || s.depth == 1) return new floor_end(s, side);
    return new ring_end(s);
}

end *ring_open(spec &s, int) { return new ring_end(s); }

/* Concurrency Kit's ring of many producers and consumers, elements of the payload's size; as bench/rings has it. */
template <size_t N> struct ck_end : end {
    ck_ring_t *out, *in;
    ck_end(const spec &s, int side) : out(at(s, side)), in(at(s, !side)) {}
    static ck_ring_t *at(const spec &s, int which) { return reinterpret_cast<ck_ring_t *>(direction(s, which)); }
    static void *room(ck_ring_t *r) { return reinterpret_cast<char *>(r) + 512; }
    void send(const uint64_t *message, size_t)
    {
        while (!_ck_ring_enqueue_mp(out, room(out), message, N, NULL)) {}
    }
    size_t recv(uint64_t *message, size_t)
    {
        while (!_ck_ring_dequeue_mc(in, room(in), message, N)) {}
        return N;
    }
};

void ck_prepare(spec &s)
{
    for (int i = 0; i < 2; i++)
        ck_ring_init(reinterpret_cast<ck_ring_t *>(direction(s, i)), static_cast<unsigned>(s.depth));
}

end *ck_open(spec &s, int side)
{
    if (s.size == 8) return new ck_end<8>(s, side);
    if (s.size == 64) return new ck_end<64>(s, side);
    return new ck_end<1024>(s, side);
}

} // namespace

size_t floor_peers(peer *out)
{
    out[0] = make_peer("floor", "", POLL | BLOCK | DEFAULT, ECHO | STREAM | BATCH | FANOUT | ZEROCOPY | ALONE, any_size,
                       floor_open);
    out[1] = make_peer("ring", "bare ring, no library", POLL, STREAM | BATCH, any_size, ring_open);
    out[2] = make_peer("ck_ring_mpmc", "bare ring, one element size", POLL, ECHO | STREAM, 1024, ck_open);
    for (int i = 0; i < 3; i++) out[i].sleeps_by_default = false, out[i].memory = 1 << 20;
    out[2].prepare = ck_prepare;
    return 3;
}
