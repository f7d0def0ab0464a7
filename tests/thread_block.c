/* Blocks between threads, for ThreadSanitizer: every access to a block's bytes is an ordinary one, so a claim, a free
 * or a hand-over that orders too little is a data race. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wtsan" /* the fences order stores before loads; no access to a block rests on them */
#endif
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../shmipc.h"
#include "check.h"
#include <pthread.h>

#define SIZE ((uint64_t)16 << 20)
#define THREADS 4

static unsigned char *base;
static unsigned char gone[SIZE / 65536]; /* written by punch, read by users: what the kernel does to the memory */
static uint64_t box[8];                  /* hand-over */

static int reserve(void *arg, uint64_t offset, uint64_t len)
{
    shmipc__blocks *b = (shmipc__blocks *)arg;
    if (offset >= b->data) memset(gone + offset / 65536, 0, (len + 65535) / 65536);
    return 0;
}

static int punch(void *arg, uint64_t offset, uint64_t len)
{
    (void)arg;
    memset(gone + offset / 65536, 1, (len + 65535) / 65536);
    return 0;
}

static void fill(shmipc__blocks *b, uint64_t handle, int check)
{
    uint64_t size = 0, i;
    void *p = NULL;
    if (!CHECK(shmipc__block_at(b, handle, &p, &size) == 0)) return;
    CHECK(!gone[((uint64_t)((unsigned char *)p - base)) / 65536]);
    for (i = 0; i < size / 8; i += 7) {
        if (check) CHECK_EQ(((uint64_t *)p)[i], handle + i);
        else ((uint64_t *)p)[i] = handle + i;
    }
}

static void *work(void *arg)
{
    enum { MINE = 8 };
    uint32_t owner = (uint32_t)(uintptr_t)arg;
    uint64_t mine[MINE] = {0}, r = owner * 7919, h;
    shmipc__blocks b;
    int i;
    memset(&b, 0, sizeof b);
    b.base = base;
    b.size = SIZE;
    b.extents = 100;
    b.owner = owner;
    b.reserve = reserve;
    b.punch = punch;
    b.arg = &b;
    CHECK_EQ(shmipc__blocks_open(&b, 0), 0);
    for (i = 0; i < 8000; i++) {
        uint64_t *m, *at;
        r = r * 6364136223846793005u + 1442695040888963407u;
        m = &mine[(r >> 33) % MINE];
        at = &box[(r >> 40) % 8];
        if (*m == 0) {
            if (shmipc__block_alloc(&b, (r >> 43) % 5 ? 20000 + (r >> 50) : (r >> 50) / 16, m) == 0) fill(&b, *m, 0);
        } else if ((r >> 37) % 2) {
            fill(&b, *m, 1);
            CHECK_EQ(shmipc__block_free(&b, *m, owner), 0);
            *m = 0;
        } else if (shmipc__block_pass(&b, *m, owner, 0) == 0) { /* published by the box alone, as by a data structure */
            h = shmipc__xchg_acqrel_u64(at, *m);
            *m = 0;
            if (h == 0) continue;
            CHECK_EQ(shmipc__block_pass(&b, h, 0, owner), 0);
            fill(&b, h, 1);
            CHECK_EQ(shmipc__block_free(&b, h, owner), 0);
        }
        if (i % 64 == 0) shmipc__blocks_trim(&b);
    }
    for (i = 0; i < MINE; i++)
        if (mine[i]) CHECK_EQ(shmipc__block_free(&b, mine[i], owner), 0);
    return NULL;
}

TEST_LIMIT(I1_threads_share_blocks_without_races, 60)
{
    pthread_t t[THREADS];
    shmipc__extent_view v;
    shmipc__blocks b;
    uint32_t i;
    COVERS("K2");
    base = (unsigned char *)aligned_alloc(4096, SIZE);
    REQUIRE(base != NULL);
    memset(base, 0, SIZE);
    memset(&b, 0, sizeof b);
    b.base = base;
    b.size = SIZE;
    b.extents = 100;
    b.owner = 9;
    b.reserve = reserve;
    b.punch = punch;
    b.arg = &b;
    REQUIRE(shmipc__blocks_open(&b, 1) == 0);
    for (i = 0; i < THREADS; i++) REQUIRE(pthread_create(&t[i], NULL, work, (void *)(uintptr_t)(i + 1)) == 0);
    for (i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
    for (i = 0; i < 8; i++)
        if (box[i]) CHECK_EQ(shmipc__block_free(&b, box[i], 0), 0);
    shmipc__blocks_trim(&b);
    for (i = 0; shmipc__extent_read(&b, i, &v) == 0; i++) CHECK_EQ(v.state, SHMIPC__CLOSED);
    CHECK(i > 0);
}
