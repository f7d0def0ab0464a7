/* bench/sockets/iceoryx2.cc - iceoryx2, its Rust crate behind a few C functions (bench/sockets/iceoryx2, built where
 * cargo is)
 *
 * Publish-subscribe, one service each way. Sleeping: its event service announces every message.
 */
#include "sockets.h"

#include <dlfcn.h>

namespace {

struct iox_spec {
    const char *dir, *prefix, *publish, *subscribe;
    size_t bytes, depth, subscribers;
    int sleep;
};

struct library {
    void *(*open)(const iox_spec *);
    void (*close)(void *);
    void (*send)(void *, const uint64_t *, size_t);
    size_t (*recv)(void *, uint64_t *, size_t);
    size_t (*try_recv)(void *, size_t, uint64_t *, size_t);
    uint64_t *(*loan)(void *, size_t);
    void (*commit)(void *);
    const uint64_t *(*take)(void *, size_t *);
    void (*release)(void *);
} lib;

template <class F> bool find(void *handle, F *out, const char *name)
{
    *out = reinterpret_cast<F>(dlsym(handle, name));
    return *out != NULL;
}

bool load()
{
    void *h = dlopen("build/bench/sockets.iceoryx2/libbench_iceoryx2.so", RTLD_NOW | RTLD_LOCAL);
    return h && find(h, &lib.open, "bench_iox_open") && find(h, &lib.close, "bench_iox_close") &&
           find(h, &lib.send, "bench_iox_send") && find(h, &lib.recv, "bench_iox_recv") &&
           find(h, &lib.try_recv, "bench_iox_try") && find(h, &lib.loan, "bench_iox_loan") &&
           find(h, &lib.commit, "bench_iox_commit") && find(h, &lib.take, "bench_iox_take") &&
           find(h, &lib.release, "bench_iox_release");
}

struct iox_end : end {
    void *h;
    explicit iox_end(void *handle) : h(handle) {}
    ~iox_end() { lib.close(h); }
    void send(const uint64_t *message, size_t size) { lib.send(h, message, size); }
    size_t recv(uint64_t *message, size_t size) { return lib.recv(h, message, size); }
    size_t try_recv(unsigned which, uint64_t *message, size_t size) { return lib.try_recv(h, which, message, size); }
    uint64_t *loan(size_t size) { return lib.loan(h, size); }
    void commit() { lib.commit(h); }
    const uint64_t *take(size_t *size) { return lib.take(h, size); }
    void release() { lib.release(h); }
};

end *iox_open(spec &s, int side)
{
    static const char *const names[2] = {"bench/near", "bench/far"};
    char prefix[32];
    bool both = s.pattern == ECHO || s.pattern == ZEROCOPY;
    snprintf(prefix, sizeof prefix, "shmipc_bench_%d_", static_cast<int>(getppid()));
    iox_spec x = {s.dir,  prefix,  both || side == NEAR ? names[side] : NULL, both || side == FAR ? names[!side] : NULL,
                  s.size, s.depth, s.pattern == FANOUT ? s.subscribers : 1,   s.form == BLOCK};
    void *h = lib.open(&x);
    if (!h) _exit(1);
    return new iox_end(h);
}

} // namespace

size_t iceoryx2_peers(peer *out)
{
    out[0] = make_peer("iceoryx2", "publish-subscribe; sleeps by its events", POLL | BLOCK,
                       ECHO | STREAM | FANOUT | ZEROCOPY, any_size, iox_open);
    out[0].sleeps_by_default = false;
    if (!load()) out[0] = absent("iceoryx2", "not built (needs cargo)");
    return 1;
}
