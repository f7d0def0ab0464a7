/* bench/rings/exchange.h - the one exchange that every ring is put through
 *
 * A ring is a class template over the payload size N (bytes, a multiple of 8):
 *
 *     static const char *name();                  // the row's name
 *     static const char *note();                  // what differs from the others, or ""
 *     static const bool threads;                  // cannot live in shared memory: two threads instead of two processes
 *     static size_t bytes();                      // memory for one ring
 *     static void make(void *m), unmake(void *m);
 *     struct sender   { explicit sender(void *m);   bool send(const uint64_t *payload); };
 *     struct receiver { explicit receiver(void *m); bool recv(uint64_t *payload); uint64_t skipped(); };
 *
 * send and recv copy the payload and answer at once (false: full, empty). Each side makes its own end.
 */
#ifndef BENCH_EXCHANGE_H
#define BENCH_EXCHANGE_H

#include "../harness.h"

/* Setting up one of ours must work. */
static inline void demand(int rc, const char *what)
{
    if (rc >= 0) return;
    fprintf(stderr, "bench: %s: error %d\n", what, rc);
    exit(1);
}

const size_t ring_slots = 1024;      // all rings hold about that many messages
const size_t latency_samples = 1 << 18, thr_samples = 1 << 16;
const uint64_t window = 4 * ring_slots;

struct lat_result {
    size_t samples;
    double p50, p99, p999; // one way, ns
};

struct thr_result {
    double per_s; // messages that arrived, in the median window
    double lost;  // share of the messages sent that did not (only where overtaking is the rule)
};

struct transport {
    const char *name, *note;
    bool threads;
    size_t size;
    lat_result (*latency)(bench_link *link, char *memory, double ms, uint64_t *wrong);
    thr_result (*throughput)(bench_link *link, char *memory, double ms, uint64_t *wrong);
};

/* Two rings in one piece of memory, a few lines out of step so that they do not fall on the same cache sets. */
template <class T> char *second_ring(char *m) { return m + ((T::bytes() + 4095) & ~(size_t)4095) + 5 * 64; }

template <template <size_t> class R, size_t N> struct exchange {
    typedef R<N> T;
    static const size_t words = N / 8;

    static void echo(bench_link *link, void *memory)
    {
        char *m = static_cast<char *>(memory);
        typename T::receiver there(m);
        typename T::sender back(second_ring<T>(m));
        alignas(64) uint64_t in[words], out[words];
        bench_far_ready(link);
        for (uint64_t seq = 1;; seq++) {
            while (!there.recv(in))
                if (bench_stopped(link)) return;
            if (!bench_check(in, words, seq)) link->wrong++;
            bench_stamp(out, words, ~seq);
            while (!back.send(out))
                if (bench_stopped(link)) return;
        }
    }

    /* One sample is one round trip; the clock is read once in each. */
    static size_t ping(char *m, double ms, uint32_t *samples, uint64_t *wrong)
    {
        typename T::sender there(m);
        typename T::receiver back(second_ring<T>(m));
        alignas(64) uint64_t in[words], out[words];
        uint64_t start = bench_ticks(), warm = start + bench_ticks_of_ms(ms / 10), end = warm + bench_ticks_of_ms(ms);
        size_t n = 0;
        uint64_t last = start;
        for (uint64_t seq = 1; last < end; seq++) {
            bench_stamp(out, words, seq);
            while (!there.send(out)) {}
            while (!back.recv(in)) {}
            if (!bench_check(in, words, ~seq)) ++*wrong;
            uint64_t now = bench_ticks();
            samples[n] = static_cast<uint32_t>(now - last > UINT32_MAX ? UINT32_MAX : now - last);
            n += last > warm && n + 1 < latency_samples;
            last = now;
        }
        return n;
    }

    static lat_result latency(bench_link *link, char *m, double ms, uint64_t *wrong)
    {
        static uint32_t samples[latency_samples];
        T::make(m);
        T::make(second_ring<T>(m));
        bench_far_start(link, echo, m);
        size_t n = ping(m, ms, samples, wrong);
        *wrong += bench_far_stop(link);
        T::unmake(second_ring<T>(m));
        T::unmake(m);
        qsort(samples, n, sizeof samples[0], bench_order_u32);
        double half = bench_tick_ns() / 2;
        lat_result r = {n, bench_quantile(samples, n, 0.5) * half, bench_quantile(samples, n, 0.99) * half,
                        bench_quantile(samples, n, 0.999) * half};
        return r;
    }

    static void produce(bench_link *link, void *memory)
    {
        typename T::sender s(memory);
        alignas(64) uint64_t out[words];
        bench_far_ready(link);
        for (uint64_t seq = 1;; seq++) {
            bench_stamp(out, words, seq);
            while (!s.send(out))
                if (bench_stopped(link)) return;
            if (seq % 256 == 0 && bench_stopped(link)) return;
        }
    }

    /* Receives for `ms` and a tenth more to warm up. One sample is the time of `window` messages, several fillings of
     * the ring; half of the windows were at least that fast, so a side that loses its CPU for a while does not
     * count. */
    static thr_result consume(typename T::receiver &r, double ms, uint64_t *wrong)
    {
        static uint32_t samples[thr_samples];
        alignas(64) uint64_t in[words];
        uint64_t warm = bench_ticks() + bench_ticks_of_ms(ms / 10), end = warm + bench_ticks_of_ms(ms);
        uint64_t last = 0, first = 0, skipped = 0;
        size_t taken = 0;
        for (uint64_t n = 1;; n++) {
            while (!r.recv(in)) {}
            if (!bench_check(in, words, n + r.skipped())) ++*wrong;
            if (n % window) continue;
            uint64_t now = bench_ticks();
            if (last) samples[taken++] = static_cast<uint32_t>(now - last > UINT32_MAX ? UINT32_MAX : now - last);
            if (now < warm) continue;
            if (!last) first = n, skipped = r.skipped();
            last = now;
            if (taken && (now > end || taken == thr_samples)) {
                qsort(samples, taken, sizeof samples[0], bench_order_u32);
                double got = static_cast<double>(n - first), missed = static_cast<double>(r.skipped() - skipped);
                double ns = bench_quantile(samples, taken, 0.5) * bench_tick_ns();
                thr_result t = {window * 1e9 / ns, missed / (got + missed)};
                return t;
            }
        }
    }

    static thr_result throughput(bench_link *link, char *m, double ms, uint64_t *wrong)
    {
        T::make(m);
        thr_result t;
        {
            typename T::receiver r(m); // first, so that a broadcast finds it there
            bench_far_start(link, produce, m);
            t = consume(r, ms, wrong);
            bench_far_stop(link);
        }
        T::unmake(m);
        return t;
    }

    static transport row()
    {
        transport t = {T::name(), T::note(), T::threads, N, latency, throughput};
        return t;
    }
};

/* What each file of rings offers: n transports, written to out; returns n. */
size_t floor_transports(transport *out);
size_t spsc_transports(transport *out);
size_t lane_transports(transport *out);
size_t queue_transports(transport *out);
size_t ck_transports(transport *out);
size_t boost_transports(transport *out);
size_t moodycamel_transports(transport *out);

template <template <size_t> class R> size_t all_sizes(transport *out)
{
    out[0] = exchange<R, 8>::row();
    out[1] = exchange<R, 48>::row();
    out[2] = exchange<R, 64>::row();
    out[3] = exchange<R, 1024>::row();
    return 4;
}

#endif
