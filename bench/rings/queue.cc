/* bench/rings/queue.cc - the MPMC queue of shmipc.h */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#define SHMIPC_RINGS_ONLY
#include "../../shmipc.h"

#include "exchange.h"

namespace {

int everybody_lives(void *, uint32_t) { return 1; }

template <size_t N> struct queue {
    static const char *name() { return "queue"; }
    static const char *note() { return ""; }
    static const bool threads = false;
    static shmipc_queue_config config()
    {
        shmipc_queue_config c;
        memset(&c, 0, sizeof c);
        c.slots = ring_slots;
        c.chunks = ring_slots + 4;
        c.max_message = N;
        c.policy = SHMIPC_QUEUE_REDELIVER;
        return c;
    }
    static size_t bytes()
    {
        shmipc_queue_config c = config();
        uint64_t size = 0;
        demand(shmipc_queue_size(&c, &size), "queue size");
        return size;
    }
    static void make(void *m)
    {
        shmipc_queue_config c = config();
        demand(shmipc_queue_init(m, bytes(), &c), "queue init");
    }
    static void unmake(void *) {}

    struct end {
        shmipc_queue q;
        end(void *m, uint32_t owner) : q()
        {
            demand(shmipc_queue_attach(&q, m, bytes(), owner, everybody_lives, NULL), "queue attach");
        }
    };
    struct sender : end {
        explicit sender(void *m) : end(m, 1) {}
        bool send(const uint64_t *payload) { return shmipc_queue_push(&this->q, payload, N, 0) == SHMIPC_OK; }
    };
    struct receiver : end {
        explicit receiver(void *m) : end(m, 2) {}
        bool recv(uint64_t *payload) { return shmipc_queue_recv(&this->q, payload, N, NULL) == static_cast<int>(N); }
        uint64_t skipped() { return 0; }
    };
};

} // namespace

size_t queue_transports(transport *out) { return all_sizes<queue>(out); }
