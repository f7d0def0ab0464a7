/* SPSC byte ring: semantics, edges, hostile memory, in one process. */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../shmipc.h"
#include "check.h"

#define CAP 256u

typedef struct ring {
    unsigned char *mem;
    size_t size;
    shmipc_spsc_writer w;
    shmipc_spsc_reader r;
} ring;

static void *volatile keep; /* leak checkers: still reachable */

static ring ring_new(uint32_t capacity)
{
    ring q;
    q.size = shmipc_spsc_size(capacity);
    q.mem = (unsigned char *)aligned_alloc(64, q.size);
    REQUIRE(q.mem != NULL);
    keep = q.mem;
    memset(q.mem, 0xee, q.size);
    REQUIRE(shmipc_spsc_init(q.mem, q.size, capacity) == 0);
    REQUIRE(shmipc_spsc_writer_attach(&q.w, q.mem, q.size) == 0);
    REQUIRE(shmipc_spsc_reader_attach(&q.r, q.mem, q.size) == 0);
    return q;
}

static void fill(unsigned char *buf, uint32_t len, uint32_t seed)
{
    uint32_t i;
    for (i = 0; i < len; i++) buf[i] = (unsigned char)(seed * 7u + i * 13u + 1u);
}

static int send_one(ring *q, uint32_t len, uint32_t tag)
{
    unsigned char buf[4096];
    fill(buf, len, tag);
    return shmipc_spsc_send(&q->w, buf, len, tag);
}

static void expect_one(ring *q, uint32_t len, uint32_t tag)
{
    unsigned char buf[4096], want[4096];
    uint32_t got = 99, t = 0;
    fill(want, len, tag);
    CHECK_EQ(shmipc_spsc_recv(&q->r, buf, sizeof buf, &got, &t), 0);
    CHECK_EQ(got, len);
    CHECK_EQ(t, tag);
    CHECK_MEM(buf, want, len);
}

static void expect_empty(ring *q)
{
    unsigned char buf[8];
    uint32_t len;
    CHECK_EQ(shmipc_spsc_recv(&q->r, buf, sizeof buf, &len, NULL), SHMIPC_EAGAIN);
}

TEST(K1_spsc_every_length_in_order_over_many_laps)
{
    ring q = ring_new(CAP);
    uint32_t i, len;
    for (i = 0; i < 2000; i++) {
        len = i % (shmipc_spsc_max_len(CAP) + 1);
        CHECK_EQ(send_one(&q, len, i), 0);
        expect_one(&q, len, i);
        expect_empty(&q);
    }
}

TEST(K1_spsc_random_fill_and_drain_match_a_list)
{
    static uint32_t lens[1u << 16];
    ring q = ring_new(1024);
    uint32_t in = 0, out = 0, round;
    for (round = 0; round < 4000; round++) {
        uint64_t x = check_random();
        uint32_t n = (uint32_t)(x >> 8) % 12, len;
        while (n--) {
            len = (uint32_t)check_random() % (x & 1 ? 57u : shmipc_spsc_max_len(1024) + 1);
            if (send_one(&q, len, in)) break;
            lens[in++ & 0xffff] = len;
        }
        n = (uint32_t)(x >> 32) % 12;
        while (n-- && out != in) {
            expect_one(&q, lens[out & 0xffff], out);
            out++;
        }
    }
    while (out != in) {
        expect_one(&q, lens[out & 0xffff], out);
        out++;
    }
    expect_empty(&q);
    CHECK(in > 4000);
}

TEST(K1_spsc_full_says_so_and_takes_again_after_a_release)
{
    ring q = ring_new(CAP);
    uint32_t n = 0, i;
    while (send_one(&q, 8, n) == 0) n++;
    CHECK_EQ(send_one(&q, 8, n), SHMIPC_EFULL);
    CHECK_EQ(n, CAP / 16 - 1);
    expect_one(&q, 8, 0);
    CHECK_EQ(send_one(&q, 8, n), 0);
    for (i = 1; i <= n; i++) expect_one(&q, 8, i);
    expect_empty(&q);
}

TEST(K1_spsc_positions_wrap_at_32_bits)
{
    ring q = ring_new(CAP);
    shmipc__spsc_mem *m = (shmipc__spsc_mem *)(void *)q.mem;
    uint32_t i;
    m->head = 0u - 512u;
    REQUIRE(shmipc_spsc_writer_attach(&q.w, q.mem, q.size) == 0);
    REQUIRE(shmipc_spsc_reader_attach(&q.r, q.mem, q.size) == 0);
    for (i = 0; i < 100; i++) {
        CHECK_EQ(send_one(&q, 40, i), 0);
        if (i) expect_one(&q, 40, i - 1);
    }
    CHECK(q.w.tail < 0x80000000u);
}

TEST(K1_spsc_reserve_shrinks_and_is_replaced)
{
    ring q = ring_new(CAP);
    void *p = NULL, *p2 = NULL;
    CHECK_EQ(shmipc_spsc_commit(&q.w, 0, 0), SHMIPC_ESTATE);
    CHECK_EQ(shmipc_spsc_reserve(&q.w, 100, &p), 0);
    memset(p, 0xff, 100);
    CHECK_EQ(shmipc_spsc_reserve(&q.w, 50, &p2), 0);
    CHECK(p == p2);
    CHECK_EQ(shmipc_spsc_commit(&q.w, 51, 0), SHMIPC_EMSGSIZE);
    fill((unsigned char *)p2, 5, 3);
    CHECK_EQ(shmipc_spsc_commit(&q.w, 5, 3), 0);
    CHECK_EQ(shmipc_spsc_commit(&q.w, 5, 3), SHMIPC_ESTATE);
    expect_one(&q, 5, 3);
    expect_empty(&q);
    CHECK_EQ(send_one(&q, 0, 4), 0);
    expect_one(&q, 0, 4);
}

TEST(K1_spsc_a_batch_appears_at_once)
{
    ring q = ring_new(CAP);
    uint32_t round, i;
    void *p = NULL;
    for (round = 0; round < 50; round++) {
        for (i = 0; i < 4; i++) {
            CHECK_EQ(shmipc_spsc_reserve(&q.w, 8 + round % 20, &p), 0);
            memset(p, 0xff, 8 + round % 20);
            fill((unsigned char *)p, 8, i);
            CHECK_EQ(shmipc_spsc_stage(&q.w, 8, i), 0);
            expect_empty(&q);
        }
        CHECK_EQ(shmipc_spsc_flush(&q.w), 0);
        CHECK_EQ(shmipc_spsc_flush(&q.w), 0);
        for (i = 0; i < 4; i++) expect_one(&q, 8, i);
        expect_empty(&q);
    }
}

TEST(K1_spsc_send_publishes_what_is_staged_and_flush_keeps_a_reservation)
{
    ring q = ring_new(CAP);
    void *p = NULL;
    CHECK_EQ(shmipc_spsc_reserve(&q.w, 8, &p), 0);
    fill((unsigned char *)p, 8, 1);
    CHECK_EQ(shmipc_spsc_stage(&q.w, 8, 1), 0);
    CHECK_EQ(send_one(&q, 8, 2), 0);
    expect_one(&q, 8, 1);
    expect_one(&q, 8, 2);
    CHECK_EQ(shmipc_spsc_reserve(&q.w, 8, &p), 0);
    fill((unsigned char *)p, 8, 3);
    CHECK_EQ(shmipc_spsc_stage(&q.w, 8, 3), 0);
    CHECK_EQ(shmipc_spsc_reserve(&q.w, 20, &p), 0);
    fill((unsigned char *)p, 20, 4);
    CHECK_EQ(shmipc_spsc_flush(&q.w), 0);
    expect_one(&q, 8, 3);
    CHECK_EQ(shmipc_spsc_commit(&q.w, 20, 4), 0);
    expect_one(&q, 20, 4);
}

TEST(I8_spsc_peeked_records_stay_until_released)
{
    ring q = ring_new(CAP);
    const void *a, *b;
    uint32_t len, n = 2;
    unsigned char want[40];
    CHECK_EQ(send_one(&q, 40, 0), 0);
    CHECK_EQ(send_one(&q, 40, 1), 0);
    CHECK_EQ(shmipc_spsc_peek(&q.r, &a, &len, NULL), 0);
    CHECK_EQ(shmipc_spsc_peek(&q.r, &b, &len, NULL), 0);
    CHECK_EQ(shmipc_spsc_peek(&q.r, &b, &len, NULL), SHMIPC_EAGAIN);
    CHECK_EQ(shmipc_spsc_recv(&q.r, want, sizeof want, &len, NULL), SHMIPC_ESTATE);
    while (send_one(&q, 40, n) == 0) n++;
    fill(want, 40, 0);
    CHECK_MEM(a, want, 40);
    fill(want, 40, 1);
    CHECK_MEM(b, want, 40);
    CHECK_EQ(shmipc_spsc_release(&q.r), 0);
    CHECK_EQ(send_one(&q, 40, n), 0);
    expect_one(&q, 40, 2);
}

TEST(I1_spsc_successors_find_everything)
{
    ring q = ring_new(CAP);
    const void *a;
    void *p = NULL;
    uint32_t len, i;
    for (i = 0; i < 40; i++) {
        CHECK_EQ(send_one(&q, 30, 10), 0);
        CHECK_EQ(send_one(&q, 50, 11), 0);
        CHECK_EQ(shmipc_spsc_reserve(&q.w, 30, &p), 0);
        memset(p, 0xff, 30);
        CHECK_EQ(shmipc_spsc_stage(&q.w, 30, 12), 0);
        CHECK_EQ(shmipc_spsc_peek(&q.r, &a, &len, NULL), 0);
        CHECK_EQ(shmipc_spsc_writer_attach(&q.w, q.mem, q.size), 0);
        CHECK_EQ(shmipc_spsc_reader_attach(&q.r, q.mem, q.size), 0);
        CHECK_EQ(send_one(&q, 3, 13), 0);
        expect_one(&q, 30, 10);
        expect_one(&q, 50, 11);
        expect_one(&q, 3, 13);
        expect_empty(&q);
    }
}

TEST(K1_spsc_bad_arguments)
{
    ring q = ring_new(CAP);
    unsigned char buf[8];
    uint32_t len;
    const void *a;
    void *p = NULL;
    CHECK_EQ(shmipc_spsc_size(0), 0);
    CHECK_EQ(shmipc_spsc_size(128), 0);
    CHECK_EQ(shmipc_spsc_size(300), 0);
    CHECK_EQ(shmipc_spsc_size(0x80000000u), 0);
    CHECK_EQ(shmipc_spsc_init(NULL, 1000, CAP), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_spsc_init(q.mem + 8, 1000, CAP), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_spsc_init(q.mem, q.size - 1, CAP), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_spsc_init(q.mem, q.size, 255), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_spsc_writer_attach(NULL, q.mem, q.size), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_spsc_writer_attach(&q.w, NULL, q.size), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_spsc_reader_attach(NULL, q.mem, q.size), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_spsc_reader_attach(&q.r, q.mem, 64), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_spsc_send(NULL, buf, 8, 0), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_spsc_send(&q.w, NULL, 8, 0), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_spsc_send(&q.w, NULL, 0, 0), 0);
    CHECK_EQ(shmipc_spsc_send(&q.w, buf, shmipc_spsc_max_len(CAP) + 1, 0), SHMIPC_EMSGSIZE);
    CHECK_EQ(shmipc_spsc_send(&q.w, buf, 0xffffffffu, 0), SHMIPC_EMSGSIZE);
    CHECK_EQ(shmipc_spsc_reserve(NULL, 8, &p), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_spsc_reserve(&q.w, 8, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_spsc_reserve(&q.w, 0xffffffffu, &p), SHMIPC_EMSGSIZE);
    CHECK_EQ(shmipc_spsc_commit(NULL, 8, 0), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_spsc_flush(NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_spsc_peek(NULL, &a, &len, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_spsc_peek(&q.r, NULL, &len, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_spsc_release(NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_spsc_recv(&q.r, NULL, 8, &len, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_spsc_recv(&q.r, NULL, 0, &len, NULL), 0);
    CHECK_EQ(send_one(&q, 9, 5), 0);
    CHECK_EQ(shmipc_spsc_recv(&q.r, buf, 8, &len, NULL), SHMIPC_EMSGSIZE);
    expect_one(&q, 9, 5);
}

TEST(I9_spsc_foreign_memory_is_refused)
{
    ring q = ring_new(CAP);
    shmipc__spsc_mem *m = (shmipc__spsc_mem *)(void *)q.mem;
    m->capacity = 512;
    CHECK_EQ(shmipc_spsc_reader_attach(&q.r, q.mem, q.size), SHMIPC_ECORRUPT);
    m->capacity = 255;
    CHECK_EQ(shmipc_spsc_writer_attach(&q.w, q.mem, q.size), SHMIPC_ECORRUPT);
    m->layout++;
    CHECK_EQ(shmipc_spsc_writer_attach(&q.w, q.mem, q.size), SHMIPC_ELAYOUT);
    m->magic++;
    CHECK_EQ(shmipc_spsc_reader_attach(&q.r, q.mem, q.size), SHMIPC_EFOREIGN);
}

/* A head beyond the tail, or more than a ring behind it: no reader was there, so it makes no room. */
TEST(I3_spsc_a_head_that_cannot_be_is_refused)
{
    ring q = ring_new(CAP);
    shmipc__spsc_mem *m = (shmipc__spsc_mem *)(void *)q.mem;
    uint32_t n = 0, head = m->head;
    while (send_one(&q, 24, n) == 0) n++;
    m->head = q.w.tail + 8;
    CHECK_EQ(send_one(&q, 24, n), SHMIPC_ECORRUPT);
    m->head = q.w.tail - CAP - 8;
    CHECK_EQ(send_one(&q, 24, n), SHMIPC_ECORRUPT);
    m->head = head + 4;
    CHECK_EQ(send_one(&q, 24, n), SHMIPC_ECORRUPT);
    m->head = head; /* the handle stays usable */
    CHECK_EQ(send_one(&q, 24, n), SHMIPC_EFULL);
    expect_one(&q, 24, 0);
    CHECK_EQ(send_one(&q, 24, n), 0);
}

/* Whatever the memory holds, every call returns, stays inside (ASan watches the exact-size block), and says so. */
TEST(I3_spsc_random_images)
{
    ring q = ring_new(CAP);
    uint32_t round, i, len, refused = 0;
    unsigned char buf[CAP];
    const void *p;
    int rc;
    for (round = 0; round < 20000; round++) {
        REQUIRE(shmipc_spsc_init(q.mem, q.size, CAP) == 0);
        REQUIRE(shmipc_spsc_writer_attach(&q.w, q.mem, q.size) == 0);
        REQUIRE(shmipc_spsc_reader_attach(&q.r, q.mem, q.size) == 0);
        for (i = 0; i < 4; i++) send_one(&q, 24, i);
        for (i = 0; i < 3; i++) {
            uint32_t at = (64 + (uint32_t)check_random() % ((uint32_t)q.size - 64)) & ~3u, v = (uint32_t)check_random();
            if (v & 1) v = 0x80000000u | ((v >> 8) & 0xff);
            memcpy(q.mem + at, &v, 4);
        }
        for (i = 0; i < 40; i++) {
            rc = i & 1 ? shmipc_spsc_recv(&q.r, buf, sizeof buf, &len, NULL) : shmipc_spsc_send(&q.w, buf, i * 3, 1);
            refused += rc == SHMIPC_ECORRUPT;
        }
        while ((rc = shmipc_spsc_peek(&q.r, &p, &len, NULL)) == 0) CHECK(len <= shmipc_spsc_max_len(CAP));
        CHECK(rc == SHMIPC_EAGAIN || rc == SHMIPC_ECORRUPT);
        rc = shmipc_spsc_writer_attach(&q.w, q.mem, q.size);
        CHECK(rc == 0 || rc == SHMIPC_ECORRUPT);
    }
    CHECK(refused > 0);
}
