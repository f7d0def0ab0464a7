/* bench/rings/boost.cc - Boost.Lockfree (libboost-dev), both with their storage inside, hence in shared memory */
#include "exchange.h"

#include <boost/lockfree/queue.hpp>
#include <boost/lockfree/spsc_queue.hpp>
#include <new>

namespace {

template <size_t N> struct message {
    uint64_t w[N / 8];
};

template <class Q> struct boost_common {
    static const char *note() { return ""; }
    static const bool threads = false;
    static Q *queue(void *m) { return reinterpret_cast<Q *>((reinterpret_cast<uintptr_t>(m) + 63) & ~(uintptr_t)63); }
    static size_t bytes() { return sizeof(Q) + 64; }
    static void make(void *m) { new (queue(m)) Q; }
    static void unmake(void *m) { queue(m)->~Q(); }
    struct sender {
        Q *q;
        explicit sender(void *m) : q(queue(m)) {}
        bool send(const uint64_t *p) { return q->push(*reinterpret_cast<const typename Q::value_type *>(p)); }
    };
    struct receiver {
        Q *q;
        explicit receiver(void *m) : q(queue(m)) {}
        bool recv(uint64_t *p) { return q->pop(*reinterpret_cast<typename Q::value_type *>(p)); }
        uint64_t skipped() { return 0; }
    };
};

template <size_t N>
struct boost_spsc : boost_common<boost::lockfree::spsc_queue<message<N>, boost::lockfree::capacity<ring_slots> > > {
    static const char *name() { return "boost_spsc"; }
};

template <size_t N>
struct boost_queue : boost_common<boost::lockfree::queue<message<N>, boost::lockfree::capacity<ring_slots> > > {
    static const char *name() { return "boost_queue"; }
};

} // namespace

size_t boost_transports(transport *out)
{
    size_t n = all_sizes<boost_spsc>(out);
    return n + all_sizes<boost_queue>(out + n);
}
