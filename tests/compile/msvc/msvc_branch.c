/* The Microsoft branch of the atomic wrappers, compiled by gcc that pretends: what is shown is that it is complete, has
 * no typing error and that its loops do what their names say. Orders are the real compiler's business and not shown. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>

#undef __GNUC__
#define _MSC_VER 1930
#define _M_X64 1
#define __int64 long long
#define SHMIPC_RINGS_ONLY
#define SHMIPC_IMPLEMENTATION
#include "shmipc.h"

#if SHMIPC__GNU
#error "this is not the branch that was meant"
#endif

static uint64_t counter;
static uint32_t bits;

static void *add(void *arg)
{
    int i;
    for (i = 0; i < 100000; i++) shmipc__add_acqrel_u64(&counter, 1);
    shmipc__or_acqrel_u32(&bits, *(const uint32_t *)arg);
    return NULL;
}

#define EXPECT(x)                                            \
    do {                                                     \
        if (!(x)) return printf("not so: %s\n", #x), 1;      \
    } while (0)

int main(void)
{
    static const uint32_t mine = 1, other = 0x80000000u;
    uint32_t w = 5, e = 4;
    uint64_t d = 0xfffffffffffffff0u, f = 1;
    pthread_t t;
    EXPECT(!shmipc__cas_acqrel_u32(&w, &e, 9) && e == 5 && w == 5);
    EXPECT(shmipc__cas_relaxed_u32(&w, &e, 0xfffffffeu) && w == 0xfffffffeu && e == 5);
    EXPECT(shmipc__and_acqrel_u32(&w, 0xf0000000u) == 0xfffffffeu && shmipc__load_acquire_u32(&w) == 0xf0000000u);
    EXPECT(shmipc__xchg_acqrel_u32(&w, 1) == 0xf0000000u && shmipc__load_relaxed_u32(&w) == 1);
    EXPECT(!shmipc__cas_acqrel_u64(&d, &f, 2) && f == 0xfffffffffffffff0u);
    EXPECT(shmipc__cas_acqrel_u64(&d, &f, 7) && d == 7);
    shmipc__store_release_u64(&d, 3);
    shmipc__fence_seq_cst();
    shmipc__pause();
    EXPECT(shmipc__load_acquire_u64(&d) == 3);
    shmipc__copy_in(&d, &f, sizeof d);
    EXPECT(d == 0xfffffffffffffff0u);
    EXPECT(pthread_create(&t, NULL, add, (void *)&mine) == 0);
    add((void *)&other);
    pthread_join(t, NULL);
    EXPECT(counter == 200000 && bits == 0x80000001u);
    return 0;
}
