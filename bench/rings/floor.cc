/* bench/rings/floor.cc - what the machine itself takes
 *
 * Latency: a sequence word with the payload beside it and nothing else, so that up to 48 bytes travel in one cache
 * line; larger payloads are a plain copy over as many lines as they need. How long a line travels depends on where it
 * lies (measured: 236 to 436 ns on one machine, the same at every try), so the exchange moves on to another line every
 * 64 messages; a ring uses many lines all the time. Throughput: one process alone stamps, copies in,
 * copies out and checks; no line travels, so no ring can be expected to reach it.
 */
#include "exchange.h"

namespace {

template <size_t N> struct cell_floor {
    struct cell {
        alignas(64) uint64_t seq;
        uint64_t payload[N / 8];
    };
    static const char *name() { return "floor"; }
    static const char *note() { return N <= 48 ? "one cache line each way" : "plain copy, sequence word first"; }
    static const bool threads = false;
    static const size_t cells = 64, stay = 64, stride = sizeof(cell) + 17 * 64;
    static size_t bytes() { return cells * stride; }
    static void make(void *m) { memset(m, 0, bytes()); }
    static void unmake(void *) {}
    static cell *at(void *m, uint64_t seq)
    {
        return reinterpret_cast<cell *>(static_cast<char *>(m) + seq / stay % cells * stride);
    }

    struct sender {
        void *memory;
        cell *c;
        uint64_t seq;
        explicit sender(void *m) : memory(m), c(at(m, 0)), seq(0) {}
        bool send(const uint64_t *payload)
        {
            memcpy(c->payload, payload, N);
            __atomic_store_n(&c->seq, ++seq, __ATOMIC_RELEASE);
            if (seq % stay == 0) c = at(memory, seq);
            return true;
        }
    };
    struct receiver {
        void *memory;
        cell *c;
        uint64_t seq;
        explicit receiver(void *m) : memory(m), c(at(m, 0)), seq(0) {}
        bool recv(uint64_t *payload)
        {
            if (__atomic_load_n(&c->seq, __ATOMIC_ACQUIRE) <= seq) return false; // of an earlier visit to this line
            seq++;
            memcpy(payload, c->payload, N);
            if (seq % stay == 0) c = at(memory, seq);
            return true;
        }
    };
};

template <size_t N> thr_result copy_alone(bench_link *, char *memory, double ms, uint64_t *wrong)
{
    const size_t words = N / 8;
    uint64_t *shared = reinterpret_cast<uint64_t *>(memory), in[words], out[words];
    uint64_t start = bench_ticks(), end = start + bench_ticks_of_ms(ms), now = start, n = 0;
    while (now < end) {
        for (int i = 0; i < 64; i++) {
            uint64_t *slot = shared + n % ring_slots * words;
            bench_stamp(out, words, ++n);
            memcpy(slot, out, N);
            bench_escape(slot);
            memcpy(in, slot, N);
            if (!bench_check(in, words, n)) ++*wrong;
        }
        now = bench_ticks();
    }
    thr_result t = {static_cast<double>(n) * 1e9 / (static_cast<double>(now - start) * bench_tick_ns()), 0};
    return t;
}

template <size_t N> transport floor_row()
{
    transport t = {"floor", cell_floor<N>::note(), false, N, exchange<cell_floor, N>::latency, copy_alone<N>};
    return t;
}

} // namespace

size_t floor_transports(transport *out)
{
    out[0] = floor_row<8>();
    out[1] = floor_row<48>();
    out[2] = floor_row<64>();
    out[3] = floor_row<1024>();
    return 4;
}
