/* bench/rings/moodycamel.cc - moodycamel's queues (libreaderwriterqueue-dev, libconcurrentqueue-dev)
 *
 * They hold pointers to heap blocks and cannot live in shared memory, so their two sides are threads of one process.
 * A thread needs no other address space than its peer; that favours them if anything.
 */
#include "exchange.h"

#include <concurrentqueue/concurrentqueue.h>
#include <new>
#include <readerwriterqueue/readerwriterqueue.h>

namespace {

template <size_t N> struct message {
    uint64_t w[N / 8];
};

/* try_enqueue never allocates; the room is made beforehand, as for all others. */
template <size_t N> struct readerwriter {
    typedef moodycamel::ReaderWriterQueue<message<N> > queue;
    static const char *name() { return "moodycamel_rwq"; }
    static const char *note() { return "threads: holds pointers"; }
    static const bool threads = true;
    static queue *at(void *m)
    {
        return reinterpret_cast<queue *>((reinterpret_cast<uintptr_t>(m) + 63) & ~(uintptr_t)63);
    }
    static size_t bytes() { return sizeof(queue) + 64; }
    static void make(void *m) { new (at(m)) queue(ring_slots); }
    static void unmake(void *m) { at(m)->~queue(); }
    struct sender {
        queue *q;
        explicit sender(void *m) : q(at(m)) {}
        bool send(const uint64_t *p) { return q->try_enqueue(*reinterpret_cast<const message<N> *>(p)); }
    };
    struct receiver {
        queue *q;
        explicit receiver(void *m) : q(at(m)) {}
        bool recv(uint64_t *p) { return q->try_dequeue(*reinterpret_cast<message<N> *>(p)); }
        uint64_t skipped() { return 0; }
    };
};

/* With explicit producer and consumer tokens, which its manual gives as the fast way. */
template <size_t N> struct concurrent {
    typedef moodycamel::ConcurrentQueue<message<N> > queue;
    static const char *name() { return "moodycamel_cq"; }
    static const char *note() { return "threads: holds pointers; with tokens"; }
    static const bool threads = true;
    static queue *at(void *m)
    {
        return reinterpret_cast<queue *>((reinterpret_cast<uintptr_t>(m) + 63) & ~(uintptr_t)63);
    }
    static size_t bytes() { return sizeof(queue) + 64; }
    static void make(void *m) { new (at(m)) queue(ring_slots, 1, 0); }
    static void unmake(void *m) { at(m)->~queue(); }
    struct sender {
        queue *q;
        moodycamel::ProducerToken token;
        explicit sender(void *m) : q(at(m)), token(*q) {}
        bool send(const uint64_t *p) { return q->try_enqueue(token, *reinterpret_cast<const message<N> *>(p)); }
    };
    struct receiver {
        queue *q;
        moodycamel::ConsumerToken token;
        explicit receiver(void *m) : q(at(m)), token(*q) {}
        bool recv(uint64_t *p) { return q->try_dequeue(token, *reinterpret_cast<message<N> *>(p)); }
        uint64_t skipped() { return 0; }
    };
};

} // namespace

size_t moodycamel_transports(transport *out)
{
    size_t n = all_sizes<readerwriter>(out);
    return n + all_sizes<concurrent>(out + n);
}
