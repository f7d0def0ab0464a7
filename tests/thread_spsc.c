/* The SPSC ring in one process for ThreadSanitizer: single sends, batches, views, and hand-over of either end. */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../shmipc.h"

#include "check.h"

#include <pthread.h>
#include <sched.h>

#define CAPACITY 1024u
#define RECORDS 40000u
#define TURN 5000u /* records until another handle takes the end over */

static struct {
    _Alignas(64) unsigned char bytes[128 + CAPACITY];
} mem;

static uint32_t length_of(uint32_t n)
{
    return n * 2654435761u >> 8 & 4 ? n % 57u : n % (shmipc_spsc_max_len(CAPACITY) + 1);
}

static void *write_all(void *arg)
{
    shmipc_spsc_writer w;
    uint32_t n, len;
    unsigned char buf[CAPACITY];
    void *p = NULL;
    memset(&w, 0, sizeof w);
    for (n = 0; n < RECORDS; n++) {
        if (n % TURN == 0) {
            if (n) shmipc_spsc_flush(&w);
            REQUIRE(shmipc_spsc_writer_attach(&w, mem.bytes, sizeof mem.bytes) == SHMIPC_OK);
        }
        len = length_of(n);
        if (n % 4) {
            while (shmipc_spsc_reserve(&w, len, &p)) {
                shmipc_spsc_flush(&w);
                sched_yield();
            }
            memset(p, (int)(n & 0xff), len);
            CHECK_EQ(n % 4 == 3 ? shmipc_spsc_commit(&w, len, n) : shmipc_spsc_stage(&w, len, n), SHMIPC_OK);
        } else {
            memset(buf, (int)(n & 0xff), len);
            while (shmipc_spsc_send(&w, buf, len, n)) sched_yield();
        }
    }
    shmipc_spsc_flush(&w);
    return arg;
}

static void check(const void *data, uint32_t len, uint32_t tag, uint32_t n)
{
    const unsigned char *p = (const unsigned char *)data;
    uint32_t i;
    CHECK_EQ(tag, n);
    CHECK_EQ(len, length_of(n));
    for (i = 0; i < len && p[i] == (n & 0xff); i++) {}
    CHECK_EQ(i, len);
}

static void *read_all(void *arg)
{
    shmipc_spsc_reader r;
    uint32_t n = 0, len = 0, tag = 0, turn = 0;
    unsigned char buf[CAPACITY];
    const void *p = NULL;
    memset(&r, 0, sizeof r);
    while (n < RECORDS) {
        if (turn++ % TURN == 0) REQUIRE(shmipc_spsc_reader_attach(&r, mem.bytes, sizeof mem.bytes) == SHMIPC_OK);
        if (n % 2 && !shmipc_spsc_recv(&r, buf, sizeof buf, &len, &tag)) {
            check(buf, len, tag, n++);
            continue;
        }
        while (!shmipc_spsc_peek(&r, &p, &len, &tag)) check(p, len, tag, n++);
        shmipc_spsc_release(&r);
        sched_yield();
    }
    return arg;
}

TEST_LIMIT(K1_spsc_threads, 60)
{
    pthread_t a, b;
    REQUIRE(shmipc_spsc_init(mem.bytes, sizeof mem.bytes, CAPACITY) == SHMIPC_OK);
    REQUIRE(pthread_create(&a, NULL, write_all, NULL) == 0);
    REQUIRE(pthread_create(&b, NULL, read_all, NULL) == 0);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    CHECK(shmipc__load_relaxed_u32(&((shmipc__spsc_mem *)(void *)mem.bytes)->head) >= RECORDS * 16u);
}
