/* bench/rings/spsc.cc - the SPSC byte ring of shmipc.h
 *
 * Its records have any size, so its capacity is in bytes: the largest power of two within 1,024 records.
 */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#define SHMIPC_RINGS_ONLY
#include "../../shmipc.h"

#include "exchange.h"

namespace {

template <size_t N> struct spsc {
    static const char *name() { return "spsc"; }
    static const char *note() { return ""; }
    static const bool threads = false;
    static uint32_t capacity()
    {
        uint32_t c = 256;
        while (2 * c <= ring_slots * (N + 8)) c *= 2;
        return c;
    }
    static size_t bytes() { return shmipc_spsc_size(capacity()); }
    static void make(void *m) { demand(shmipc_spsc_init(m, bytes(), capacity()), "spsc init"); }
    static void unmake(void *) {}

    struct sender {
        shmipc_spsc_writer w;
        explicit sender(void *m) : w() { demand(shmipc_spsc_writer_attach(&w, m, bytes()), "spsc writer"); }
        bool send(const uint64_t *payload) { return shmipc_spsc_send(&w, payload, N, 0) == SHMIPC_OK; }
    };
    struct receiver {
        shmipc_spsc_reader r;
        explicit receiver(void *m) : r() { demand(shmipc_spsc_reader_attach(&r, m, bytes()), "spsc reader"); }
        bool recv(uint64_t *payload)
        {
            uint32_t len;
            return shmipc_spsc_recv(&r, payload, N, &len, NULL) == SHMIPC_OK;
        }
        uint64_t skipped() { return 0; }
    };
};

/* The same ring, 16 messages published at a time; only where nobody waits for an answer to one message. */
template <size_t N> struct spsc_batch : spsc<N> {
    static const char *name() { return "spsc_batch"; }
    static const char *note() { return "publishes 16 at a time, releases 16 at a time"; }

    struct sender : spsc<N>::sender {
        uint32_t staged;
        explicit sender(void *m) : spsc<N>::sender(m), staged(0) {}
        bool send(const uint64_t *payload)
        {
            void *room;
            if (shmipc_spsc_reserve(&this->w, N, &room) != SHMIPC_OK) return flush();
            memcpy(room, payload, N);
            demand(shmipc_spsc_stage(&this->w, N, 0), "spsc stage");
            if (++staged == 16) flush();
            return true;
        }
        bool flush()
        {
            staged = 0;
            demand(shmipc_spsc_flush(&this->w), "spsc flush");
            return false;
        }
    };
    struct receiver : spsc<N>::receiver {
        uint32_t peeked;
        explicit receiver(void *m) : spsc<N>::receiver(m), peeked(0) {}
        bool recv(uint64_t *payload)
        {
            const void *at;
            uint32_t len;
            if (shmipc_spsc_peek(&this->r, &at, &len, NULL) != SHMIPC_OK) return release();
            if (len != N) return false;
            memcpy(payload, at, N);
            if (++peeked == 16) release();
            return true;
        }
        bool release()
        {
            peeked = 0;
            demand(shmipc_spsc_release(&this->r), "spsc release");
            return false;
        }
    };
};

} // namespace

size_t spsc_transports(transport *out)
{
    size_t n = all_sizes<spsc>(out);
    out[n] = exchange<spsc_batch, 8>::row();
    out[n + 1] = exchange<spsc_batch, 64>::row();
    out[n + 2] = exchange<spsc_batch, 1024>::row();
    for (size_t i = n; i < n + 3; i++) out[i].latency = 0;
    return n + 3;
}
