/* The lane in one process for ThreadSanitizer: inline messages overtaken while they are read, chunks viewed while the
 * writer goes round. It does not know the two stand-alone fences of a pin; what it checks is the order that the hazard
 * words give, and the fences do their work all the same (the model weakens them). */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wtsan"
#endif
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../shmipc.h"

#include "check.h"

#include <pthread.h>
#include <sched.h>

#define MESSAGES 60000u
#define READERS 3u
#define LARGE 200u

static shmipc_lane_config cfg;
static shmipc_lane_env env;
static uint32_t done;

static uint32_t length_of(uint64_t n)
{
    return cfg.chunk_max ? (uint32_t)(n * 7919u % (LARGE + 1)) : (uint32_t)(n % 49u);
}

static void *write_all(void *arg)
{
    shmipc_lane_writer w;
    unsigned char buf[LARGE];
    uint32_t n;
    memset(&w, 0, sizeof w);
    for (n = 0; n < MESSAGES; n++) {
        if (n % 10000 == 0) { /* another writer takes over, in peace */
            if (n) CHECK_EQ(shmipc_lane_writer_detach(&w), SHMIPC_OK);
            REQUIRE(shmipc_lane_writer_attach(&w, &env) == SHMIPC_OK);
        }
        memset(buf, (int)(n & 0xff), sizeof buf);
        CHECK_EQ(shmipc_lane_send(&w, buf, length_of(n), n), SHMIPC_OK);
        if (n % 16 == 0) sched_yield();
    }
    CHECK_EQ(shmipc_lane_writer_detach(&w), SHMIPC_OK);
    __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
    return arg;
}

static void check(const void *data, uint32_t len, uint32_t n)
{
    const unsigned char *p = (const unsigned char *)data;
    uint32_t i;
    CHECK_EQ(len, length_of(n));
    for (i = 0; i < len && p[i] == (n & 0xff); i++) {}
    CHECK_EQ(i, len);
}

static void *read_all(void *arg)
{
    shmipc_lane_reader r;
    shmipc_lane_env mine = env;
    shmipc_lane_msg m, held;
    unsigned char buf[LARGE];
    uint32_t turn, me = (uint32_t)(uintptr_t)arg;
    int rc;
    mine.owner = 10 + me;
    memset(&r, 0, sizeof r);
    memset(&held, 0, sizeof held);
    memset(&m, 0, sizeof m);
    REQUIRE(shmipc_lane_reader_attach(&r, &mine, 0) == SHMIPC_OK);
    for (turn = 0;; turn++) {
        int last = (int)__atomic_load_n(&done, __ATOMIC_ACQUIRE);
        if (turn % 32 == 31 && held.pin) {
            check(held.data, held.len, held.tag);
            CHECK_EQ(shmipc_lane_release(&r, &held), SHMIPC_OK);
        }
        if (turn % 512 == 511 && !held.pin) {
            CHECK_EQ(shmipc_lane_reader_detach(&r), SHMIPC_OK);
            REQUIRE(shmipc_lane_reader_attach(&r, &mine, me) == SHMIPC_OK);
        }
        rc = shmipc_lane_take(&r, buf, sizeof buf, &m);
        if (rc == SHMIPC_OK) {
            check(m.data, m.len, m.tag);
            if (m.pin && !held.pin) held = m;
            else CHECK_EQ(shmipc_lane_release(&r, &m), SHMIPC_OK);
        } else if (!CHECK(rc == SHMIPC_EAGAIN) || last) {
            break;
        } else {
            sched_yield();
        }
    }
    if (held.pin) shmipc_lane_release(&r, &held);
    CHECK_EQ(shmipc_lane_reader_detach(&r), SHMIPC_OK);
    return arg;
}

static void run(uint32_t chunk_max)
{
    pthread_t t[READERS + 1];
    shmipc_lane_sizes s;
    uint32_t i;
    memset(&s, 0, sizeof s);
    shmipc_lane_config_init(&cfg);
    cfg.depth = 8;
    cfg.chunk_max = chunk_max;
    cfg.records = READERS;
    REQUIRE(shmipc_lane_measure(&cfg, &s) == SHMIPC_OK);
    memset(&env, 0, sizeof env);
    env.bytes = (size_t)s.bytes;
    env.mem = aligned_alloc(64, env.bytes);
    env.chunk_bytes = (size_t)s.chunk_bytes;
    env.chunks = chunk_max ? aligned_alloc(64, env.chunk_bytes) : NULL;
    REQUIRE(env.mem && (env.chunks || !chunk_max));
    REQUIRE(shmipc_lane_init(env.mem, env.bytes, &cfg) == SHMIPC_OK);
    REQUIRE(pthread_create(&t[READERS], NULL, write_all, NULL) == 0);
    for (i = 0; i < READERS; i++) REQUIRE(pthread_create(&t[i], NULL, read_all, (void *)(uintptr_t)i) == 0);
    for (i = 0; i <= READERS; i++) pthread_join(t[i], NULL);
    free(env.mem);
    free(env.chunks);
}

TEST_LIMIT(K1_lane_inline_threads, 60) { run(0); }

TEST_LIMIT(K1_I8_lane_chunk_threads, 60) { run(LARGE); }
