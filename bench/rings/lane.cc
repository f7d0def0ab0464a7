/* bench/rings/lane.cc - the broadcast lane of shmipc.h, one reader
 *
 * Its writer waits for nobody: where the writer is faster, the reader is overtaken, and the rate counts what it got.
 */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#define SHMIPC_RINGS_ONLY
#include "../../shmipc.h"

#include "exchange.h"

namespace {

template <size_t N> struct lane {
    static const bool chunked = N > 256;
    static const char *name() { return "lane"; }
    static const char *note() { return chunked ? "payload in a chunk" : ""; }
    static const bool threads = false;

    static shmipc_lane_config config()
    {
        shmipc_lane_config c;
        shmipc_lane_config_init(&c);
        c.depth = ring_slots;
        c.inline_max = chunked ? 48 : N;
        c.chunk_max = chunked ? N : 0;
        return c;
    }
    static shmipc_lane_sizes sizes()
    {
        shmipc_lane_config c = config();
        shmipc_lane_sizes s;
        memset(&s, 0, sizeof s);
        demand(shmipc_lane_measure(&c, &s), "lane sizes");
        return s;
    }
    static size_t bytes() { return sizes().bytes + sizes().chunk_bytes; }
    static void make(void *m)
    {
        shmipc_lane_config c = config();
        demand(shmipc_lane_init(m, sizes().bytes, &c), "lane init");
    }
    static void unmake(void *) {}
    static shmipc_lane_env env(void *m, uint32_t owner)
    {
        shmipc_lane_env e;
        memset(&e, 0, sizeof e);
        e.mem = m;
        e.bytes = sizes().bytes;
        e.chunks = chunked ? static_cast<char *>(m) + e.bytes : NULL;
        e.chunk_bytes = sizes().chunk_bytes;
        e.owner = owner;
        return e;
    }

    struct sender {
        shmipc_lane_writer w;
        explicit sender(void *m) : w()
        {
            shmipc_lane_env e = env(m, 1);
            demand(shmipc_lane_writer_attach(&w, &e), "lane writer");
        }
        bool send(const uint64_t *payload) { return shmipc_lane_send(&w, payload, N, 0) == SHMIPC_OK; }
    };
    struct receiver {
        shmipc_lane_reader r;
        explicit receiver(void *m) : r()
        {
            shmipc_lane_env e = env(m, 2);
            demand(shmipc_lane_reader_attach(&r, &e, 0), "lane reader");
        }
        bool recv(uint64_t *payload)
        {
            uint32_t len;
            return shmipc_lane_recv(&r, payload, N, &len, NULL) == SHMIPC_OK;
        }
        uint64_t skipped() { return shmipc_lane_missed(&r); }
    };
};

} // namespace

size_t lane_transports(transport *out) { return all_sizes<lane>(out); }
