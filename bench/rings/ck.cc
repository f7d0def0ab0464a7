/* bench/rings/ck.cc - Concurrency Kit's ring (libck-dev), elements of the payload's size, in shared memory
 *
 * Its typed functions come from a C macro that C++ refuses; these call what the macro calls, with the element size as
 * a constant.
 */
#include "exchange.h"

#define false 0 /* the header returns false for a null pointer */
#include <ck_ring.h>
#undef false

namespace {

template <size_t N> struct ck_common {
    static const char *note() { return ""; }
    static const bool threads = false;
    static ck_ring_t *ring(void *m) { return static_cast<ck_ring_t *>(m); }
    static void *buffer(void *m) { return static_cast<char *>(m) + 512; }
    static size_t bytes() { return 512 + ring_slots * N; }
    static void make(void *m) { ck_ring_init(ring(m), ring_slots); }
    static void unmake(void *) {}
    struct end {
        ck_ring_t *r;
        void *b;
        explicit end(void *m) : r(ring(m)), b(buffer(m)) {}
        uint64_t skipped() { return 0; }
    };
};
static_assert(sizeof(ck_ring_t) <= 512, "room before the buffer");

template <size_t N> struct ck_spsc : ck_common<N> {
    static const char *name() { return "ck_ring_spsc"; }
    struct sender : ck_common<N>::end {
        explicit sender(void *m) : ck_common<N>::end(m) {}
        bool send(const uint64_t *p) { return _ck_ring_enqueue_sp(this->r, this->b, p, N, NULL); }
    };
    struct receiver : ck_common<N>::end {
        explicit receiver(void *m) : ck_common<N>::end(m) {}
        bool recv(uint64_t *p) { return _ck_ring_dequeue_sc(this->r, this->b, p, N); }
    };
};

template <size_t N> struct ck_mpmc : ck_common<N> {
    static const char *name() { return "ck_ring_mpmc"; }
    struct sender : ck_common<N>::end {
        explicit sender(void *m) : ck_common<N>::end(m) {}
        bool send(const uint64_t *p) { return _ck_ring_enqueue_mp(this->r, this->b, p, N, NULL); }
    };
    struct receiver : ck_common<N>::end {
        explicit receiver(void *m) : ck_common<N>::end(m) {}
        bool recv(uint64_t *p) { return _ck_ring_dequeue_mc(this->r, this->b, p, N); }
    };
};

} // namespace

size_t ck_transports(transport *out)
{
    size_t n = all_sizes<ck_spsc>(out);
    return n + all_sizes<ck_mpmc>(out + n);
}
