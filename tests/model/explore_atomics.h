/* explore_atomics.h - the atomic wrappers of shmipc.h as calls into explore.h (see there), one record per call site. */
#ifndef EXPLORE_ATOMICS_H
#define EXPLORE_ATOMICS_H
#include "explore.h"

/* The counter gives every expansion its own name, so that a wrapper may stand in the arguments of another. */
#define EX_AT(name, order, n, call) (__extension__({ EX_SITE_HERE(n, name, order); call; }))
#define EX_CAT(a, b) a##b
#define EX_N(c) EX_CAT(ex_site_, c)

static inline uint32_t ex_load_u32(ex_site *s, const uint32_t *p) { return (uint32_t)ex_load(s, p, 4); }
static inline uint64_t ex_load_u64(ex_site *s, const uint64_t *p) { return ex_load(s, p, 8); }
static inline void ex_store_u32(ex_site *s, uint32_t *p, uint32_t v) { ex_store(s, p, 4, v); }
static inline void ex_store_u64(ex_site *s, uint64_t *p, uint64_t v) { ex_store(s, p, 8, v); }
static inline uint32_t ex_rmw_u32(ex_site *s, uint32_t *p, int fn, uint32_t v)
{
    return (uint32_t)ex_rmw(s, p, 4, fn, v);
}
static inline uint64_t ex_rmw_u64(ex_site *s, uint64_t *p, int fn, uint64_t v) { return ex_rmw(s, p, 8, fn, v); }

#define EX_LOAD_(U, name, order, n, p) EX_AT(name, order, n, ex_load_##U(&n, (p)))
#define EX_STORE_(U, name, order, n, p, v) EX_AT(name, order, n, ex_store_##U(&n, (p), (v)))
#define EX_CAS_(U, name, order, n, p, e, d) EX_AT(name, order, n, ex_cas_##U(&n, (p), (e), (d)))
#define EX_RMW_(U, name, fn, n, p, v) EX_AT(name, EX_ACQ | EX_REL, n, ex_rmw_##U(&n, (p), fn, (v)))

#define shmipc__load_relaxed_u32(p) EX_LOAD_(u32, "load", 0, EX_N(__COUNTER__), p)
#define shmipc__load_relaxed_u64(p) EX_LOAD_(u64, "load", 0, EX_N(__COUNTER__), p)
#define shmipc__load_acquire_u32(p) EX_LOAD_(u32, "load acquire", EX_ACQ, EX_N(__COUNTER__), p)
#define shmipc__load_acquire_u64(p) EX_LOAD_(u64, "load acquire", EX_ACQ, EX_N(__COUNTER__), p)
#define shmipc__store_relaxed_u32(p, v) EX_STORE_(u32, "store", 0, EX_N(__COUNTER__), p, v)
#define shmipc__store_relaxed_u64(p, v) EX_STORE_(u64, "store", 0, EX_N(__COUNTER__), p, v)
#define shmipc__store_release_u32(p, v) EX_STORE_(u32, "store release", EX_REL, EX_N(__COUNTER__), p, v)
#define shmipc__store_release_u64(p, v) EX_STORE_(u64, "store release", EX_REL, EX_N(__COUNTER__), p, v)
#define shmipc__cas_relaxed_u32(p, e, d) EX_CAS_(u32, "cas", 0, EX_N(__COUNTER__), p, e, d)
#define shmipc__cas_relaxed_u64(p, e, d) EX_CAS_(u64, "cas", 0, EX_N(__COUNTER__), p, e, d)
#define shmipc__cas_acqrel_u32(p, e, d) EX_CAS_(u32, "cas acqrel", EX_ACQ | EX_REL, EX_N(__COUNTER__), p, e, d)
#define shmipc__cas_acqrel_u64(p, e, d) EX_CAS_(u64, "cas acqrel", EX_ACQ | EX_REL, EX_N(__COUNTER__), p, e, d)
#define shmipc__xchg_acqrel_u32(p, v) EX_RMW_(u32, "xchg acqrel", 'x', EX_N(__COUNTER__), p, v)
#define shmipc__xchg_acqrel_u64(p, v) EX_RMW_(u64, "xchg acqrel", 'x', EX_N(__COUNTER__), p, v)
#define shmipc__add_acqrel_u32(p, v) EX_RMW_(u32, "add acqrel", '+', EX_N(__COUNTER__), p, v)
#define shmipc__add_acqrel_u64(p, v) EX_RMW_(u64, "add acqrel", '+', EX_N(__COUNTER__), p, v)
#define shmipc__or_acqrel_u32(p, v) EX_RMW_(u32, "or acqrel", '|', EX_N(__COUNTER__), p, v)
#define shmipc__or_acqrel_u64(p, v) EX_RMW_(u64, "or acqrel", '|', EX_N(__COUNTER__), p, v)
#define shmipc__and_acqrel_u32(p, v) EX_RMW_(u32, "and acqrel", '&', EX_N(__COUNTER__), p, v)
#define shmipc__and_acqrel_u64(p, v) EX_RMW_(u64, "and acqrel", '&', EX_N(__COUNTER__), p, v)

#define EX_FENCE_(n) EX_AT("fence", EX_SC, n, ex_fence(&n))
#define shmipc__fence_seq_cst() EX_FENCE_(EX_N(__COUNTER__))
#define shmipc__pause() ex_pause()
#define EX_COPY_(name, n, to, from, len, write) EX_AT(name, 0, n, ex_copying(&n, (to), (from), (len), write))
#define shmipc__copy_in(shared, from, len) EX_COPY_("copy in", EX_N(__COUNTER__), shared, from, len, 1)
#define shmipc__copy_out(to, shared, len) EX_COPY_("copy out", EX_N(__COUNTER__), to, shared, len, 0)

#endif
