/* Broadcast lane: semantics, edges, takeover, sweep, hostile memory, in one process. */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../shmipc.h"
#include "check.h"

typedef struct lane {
    shmipc_lane_config cfg;
    shmipc_lane_sizes sizes;
    shmipc_lane_env env;
    shmipc_lane_writer w;
} lane;

static void *volatile keep[4]; /* leak checkers: still reachable */
static uint32_t dead_owner;
static int reserve_answer;
static uint32_t reserve_calls;
static void (*meanwhile)(lane *l); /* what others do while somebody asks whether he lives, once */
static lane *meanwhile_lane;

static int alive(void *arg, uint32_t owner)
{
    void (*others)(lane *) = meanwhile;
    (void)arg;
    meanwhile = NULL;
    if (others) others(meanwhile_lane);
    return owner != dead_owner;
}
static int reserve(void *arg, uint32_t first, uint32_t count)
{
    (void)arg, (void)first, (void)count;
    reserve_calls++;
    return reserve_answer;
}

static lane lane_new(uint32_t depth, uint32_t inline_max, uint32_t chunk_max, uint32_t budget)
{
    lane l;
    memset(&l, 0, sizeof l);
    dead_owner = 0xffffffffu;
    reserve_answer = 0;
    reserve_calls = 0;
    shmipc_lane_config_init(&l.cfg);
    l.cfg.depth = depth;
    l.cfg.inline_max = inline_max;
    l.cfg.chunk_max = chunk_max;
    l.cfg.records = 4;
    l.cfg.budget = budget;
    REQUIRE(shmipc_lane_measure(&l.cfg, &l.sizes) == 0);
    l.env.bytes = (size_t)l.sizes.bytes;
    l.env.mem = aligned_alloc(64, l.env.bytes);
    l.env.chunk_bytes = (size_t)l.sizes.chunk_bytes;
    l.env.chunks = chunk_max ? aligned_alloc(64, l.env.chunk_bytes) : NULL;
    keep[0] = l.env.mem;
    keep[1] = l.env.chunks;
    REQUIRE(l.env.mem != NULL && (!chunk_max || l.env.chunks));
    memset(l.env.mem, 0xee, l.env.bytes);
    if (chunk_max) memset(l.env.chunks, 0xee, l.env.chunk_bytes);
    l.env.alive = alive;
    l.env.reserve = reserve;
    l.env.owner = 1;
    REQUIRE(shmipc_lane_init(l.env.mem, l.env.bytes, &l.cfg) == 0);
    REQUIRE(shmipc_lane_writer_attach(&l.w, &l.env) == 0);
    return l;
}

static shmipc_lane_reader reader_new(lane *l, uint32_t owner, uint32_t history)
{
    shmipc_lane_reader r;
    shmipc_lane_env env = l->env;
    env.owner = owner;
    REQUIRE(shmipc_lane_reader_attach(&r, &env, history) == 0);
    return r;
}

static void fill(unsigned char *buf, uint32_t len, uint32_t seed)
{
    uint32_t i;
    for (i = 0; i < len; i++) buf[i] = (unsigned char)(seed * 7u + i * 13u + 1u);
}

static int send_one(lane *l, uint32_t len, uint32_t tag)
{
    unsigned char buf[4096];
    fill(buf, len, tag);
    return shmipc_lane_send(&l->w, buf, len, tag);
}

static void expect_one(shmipc_lane_reader *r, uint32_t len, uint32_t tag)
{
    unsigned char buf[4096], want[4096];
    uint32_t got = 99, t = 0;
    fill(want, len, tag);
    CHECK_EQ(shmipc_lane_recv(r, buf, sizeof buf, &got, &t), 0);
    CHECK_EQ(got, len);
    CHECK_EQ(t, tag);
    CHECK_MEM(buf, want, len);
}

static void expect_none(shmipc_lane_reader *r)
{
    unsigned char buf[8];
    uint32_t len;
    CHECK_EQ(shmipc_lane_recv(r, buf, sizeof buf, &len, NULL), SHMIPC_EAGAIN);
}

TEST(K1_lane_every_length_to_three_readers)
{
    lane l = lane_new(8, 100, 1000, 4);
    shmipc_lane_reader r[3];
    uint32_t i, k;
    for (k = 0; k < 3; k++) r[k] = reader_new(&l, 10 + k, 0);
    for (i = 0; i < 3000; i++) {
        CHECK_EQ(send_one(&l, i % 1001, i), 0);
        for (k = 0; k < 3; k++) expect_one(&r[k], i % 1001, i);
        for (k = 0; k < 3; k++) expect_none(&r[k]);
    }
    CHECK_EQ(send_one(&l, 1001, 0), SHMIPC_EMSGSIZE);
    CHECK_EQ(shmipc_lane_missed(&r[0]), 0);
}

TEST(K1_lane_loss_is_counted_exactly)
{
    lane l = lane_new(16, 48, 200, 4);
    shmipc_lane_reader r = reader_new(&l, 10, 0);
    uint32_t sent = 0, got = 0, last = 0, round, n, len, tag = 0;
    unsigned char buf[256], want[256];
    for (round = 0; round < 3000; round++) {
        for (n = (uint32_t)check_random() % 40; n; n--) {
            CHECK_EQ(send_one(&l, (uint32_t)check_random() % 200, sent++), 0);
        }
        for (n = (uint32_t)check_random() % 20; n; n--) {
            if (shmipc_lane_recv(&r, buf, sizeof buf, &len, &tag)) break;
            fill(want, len, tag);
            CHECK_MEM(buf, want, len);
            CHECK(got == 0 || tag > last);
            last = tag;
            got++;
            CHECK_EQ(tag + 1, got + shmipc_lane_missed(&r));
        }
    }
    while (shmipc_lane_recv(&r, buf, sizeof buf, &len, &tag) == 0) got++;
    CHECK_EQ(got + shmipc_lane_missed(&r), sent);
    CHECK_EQ(shmipc__load_relaxed_u64(SHMIPC__RECORD_RECEIVED(r.record)), got);
    CHECK_EQ(shmipc__load_relaxed_u64(SHMIPC__RECORD_MISSED(r.record)), shmipc_lane_missed(&r));
}

TEST(K1_lane_overtaken_reader_starts_at_oldest_plus_an_eighth)
{
    lane l = lane_new(16, 48, 0, 4);
    shmipc_lane_reader r = reader_new(&l, 10, 0);
    uint32_t i;
    for (i = 0; i < 20; i++) send_one(&l, 8, i);
    expect_one(&r, 8, 4 + 2);
    CHECK_EQ(shmipc_lane_missed(&r), 6);
}

TEST(K1_lane_history_and_skip)
{
    lane l = lane_new(8, 48, 100, 4);
    shmipc_lane_reader r;
    uint64_t skipped;
    uint32_t i;
    r = reader_new(&l, 10, 5);
    expect_none(&r);
    CHECK_EQ(shmipc_lane_reader_detach(&r), 0);
    for (i = 0; i < 3; i++) send_one(&l, 8, i);
    r = reader_new(&l, 10, 100);
    for (i = 0; i < 3; i++) expect_one(&r, 8, i);
    expect_none(&r);
    CHECK_EQ(shmipc_lane_reader_detach(&r), 0);
    for (i = 3; i < 30; i++) send_one(&l, i * 3, i);
    r = reader_new(&l, 10, 2);
    expect_one(&r, 28 * 3, 28);
    expect_one(&r, 29 * 3, 29);
    expect_none(&r);
    for (i = 30; i < 34; i++) send_one(&l, 8, i);
    CHECK_EQ(shmipc_lane_skip(&r, 1, &skipped), 0);
    CHECK_EQ(skipped, 3);
    expect_one(&r, 8, 33);
    CHECK_EQ(shmipc_lane_skip(&r, 1, &skipped), 0);
    CHECK_EQ(skipped, 0);
    expect_none(&r);
    for (i = 34; i < 60; i++) send_one(&l, 8, i);
    CHECK_EQ(shmipc_lane_skip(&r, 0, NULL), 0);
    expect_none(&r);
    CHECK_EQ(shmipc_lane_missed(&r), 0);
}

TEST(K1_lane_loans)
{
    lane l = lane_new(4, 48, 500, 2);
    shmipc_lane_reader r = reader_new(&l, 10, 0);
    void *p;
    uint32_t i;
    CHECK_EQ(shmipc_lane_commit(&l.w, 0, 0), SHMIPC_ESTATE);
    CHECK_EQ(shmipc_lane_discard(&l.w), SHMIPC_ESTATE);
    for (i = 0; i < 200; i++) {
        uint32_t len = i % 2 ? 400 : 40;
        CHECK_EQ(shmipc_lane_loan(&l.w, len, &p), 0);
        CHECK_EQ((uintptr_t)p & 15u, 0);
        CHECK_EQ(shmipc_lane_loan(&l.w, 1, &p), SHMIPC_ESTATE);
        memset(p, 0xff, len);
        if (i % 3 == 0) {
            CHECK_EQ(shmipc_lane_discard(&l.w), 0);
            expect_none(&r);
            continue;
        }
        CHECK_EQ(send_one(&l, 100, 7), 0); /* a send beside an open loan */
        expect_one(&r, 100, 7);
        CHECK_EQ(shmipc_lane_commit(&l.w, len + 1, i), SHMIPC_EMSGSIZE);
        fill((unsigned char *)p, len - 3, i);
        CHECK_EQ(shmipc_lane_commit(&l.w, len - 3, i), 0);
        expect_one(&r, len - 3, i);
    }
    CHECK_EQ(shmipc_lane_loan(&l.w, 501, &p), SHMIPC_EMSGSIZE);
}

TEST(I8_lane_views_survive_overtaking_within_the_budget)
{
    lane l = lane_new(4, 48, 300, 3);
    shmipc_lane_reader r[4];
    shmipc_lane_msg m[4][3], more;
    unsigned char want[300], buf[300];
    uint32_t i, k, len, tag = 0;
    memset(m, 0, sizeof m);
    for (k = 0; k < 4; k++) r[k] = reader_new(&l, 10 + k, 0);
    CHECK_EQ(reserve_calls, 4);
    for (i = 0; i < 3; i++) {
        CHECK_EQ(send_one(&l, 300, i), 0);
        for (k = 0; k < 4; k++) CHECK_EQ(shmipc_lane_take(&r[k], NULL, 0, &m[k][i]), 0);
        for (k = 0; k < 200 * i; k++) CHECK_EQ(send_one(&l, 200, 1000 + k), 0);
        for (k = 0; k < 4; k++) CHECK_EQ(shmipc_lane_skip(&r[k], 0, NULL), 0);
    }
    CHECK_EQ(send_one(&l, 300, 77), 0);
    CHECK_EQ(shmipc_lane_take(&r[0], NULL, 0, &more), SHMIPC_EBUSY);
    CHECK_EQ(shmipc_lane_recv(&r[0], buf, sizeof buf, &len, &tag), 0);
    CHECK_EQ(tag, 77);
    for (k = 0; k < 4; k++) {
        for (i = 0; i < 3; i++) {
            CHECK_EQ(m[k][i].len, 300);
            CHECK_EQ(m[k][i].tag, i);
            fill(want, 300, i);
            CHECK_MEM(m[k][i].data, want, 300);
        }
        CHECK_EQ(shmipc_lane_reader_detach(&r[k]), SHMIPC_EBUSY);
        for (i = 0; i < 3; i++) CHECK_EQ(shmipc_lane_release(&r[k], &m[k][i]), 0);
        more = m[k][0];
        more.pin = 1;
        CHECK_EQ(shmipc_lane_release(&r[k], &more), SHMIPC_ESTATE);
        CHECK_EQ(shmipc_lane_reader_detach(&r[k]), 0);
    }
    CHECK_EQ(send_one(&l, 300, 5), 0);
    r[0] = reader_new(&l, 10, 1);
    CHECK_EQ(reserve_calls, 4); /* the funding stays */
    CHECK_EQ(shmipc_lane_take(&r[0], NULL, 0, &more), 0);
    CHECK_EQ(shmipc_lane_release(&r[0], &more), 0);
    send_one(&l, 10, 6);
    CHECK_EQ(shmipc_lane_take(&r[0], NULL, 0, &more), SHMIPC_EMSGSIZE);
    CHECK_EQ(shmipc_lane_take(&r[0], buf, sizeof buf, &more), 0);
    CHECK(more.data == buf);
    CHECK_EQ(shmipc_lane_release(&r[0], &more), 0);
}

TEST(I4_lane_reader_pays_for_its_views_or_gets_the_error)
{
    lane l = lane_new(4, 48, 300, 3);
    shmipc_lane_reader r;
    reserve_answer = SHMIPC_ENOSPC;
    CHECK_EQ(shmipc_lane_reader_attach(&r, &l.env, 0), SHMIPC_ENOSPC);
    CHECK_EQ(send_one(&l, 300, 1), 0);
    reserve_answer = 0;
    CHECK_EQ(shmipc_lane_reader_attach(&r, &l.env, 1), 0);
    CHECK_EQ(reserve_calls, 2);
    expect_one(&r, 300, 1);
    CHECK_EQ(r.generation, 2);
}

TEST(I1_lane_takeover_derives_everything)
{
    lane l = lane_new(8, 48, 300, 2);
    shmipc_lane_reader r = reader_new(&l, 10, 0);
    shmipc_lane_msg m[2];
    unsigned char want[300];
    void *p;
    uint32_t i, k, n = 0;
    memset(m, 0, sizeof m);
    CHECK_EQ(send_one(&l, 300, 900), 0);
    CHECK_EQ(shmipc_lane_take(&r, NULL, 0, &m[0]), 0);
    for (i = 0; i < 100; i++) {
        for (k = 0; k < i % 11; k++) CHECK_EQ(send_one(&l, k % 2 ? 200 : 20, n++), 0);
        CHECK_EQ(shmipc_lane_loan(&l.w, 250, &p), 0);
        if (i % 2) SHMIPC__LW_STORE_RELAXED(&shmipc__lane_mem_of(&l.w.map)->head, l.w.next - 2); /* died before head */
        dead_owner = 0xffffffffu;
        l.env.owner = i + 2;
        CHECK_EQ(shmipc_lane_writer_attach(&l.w, &l.env), SHMIPC_EBUSY);
        dead_owner = i + 1;
        CHECK_EQ(shmipc_lane_writer_attach(&l.w, &l.env), 0);
        CHECK_EQ(l.w.next - 8, n + 1);
    }
    fill(want, 300, 900);
    CHECK_MEM(m[0].data, want, 300);
    for (i = 0; i < 100; i++) CHECK_EQ(send_one(&l, 300, n++), 0);
    CHECK_MEM(m[0].data, want, 300);
    CHECK_EQ(shmipc_lane_skip(&r, 1, NULL), 0);
    expect_one(&r, 300, n - 1);
    CHECK_EQ(shmipc_lane_writer_detach(&l.w), 0);
    dead_owner = 0xffffffffu;
    CHECK_EQ(shmipc_lane_writer_attach(&l.w, &l.env), 0);
}

TEST(I1_lane_a_message_half_written_is_written_again)
{
    lane l = lane_new(4, 48, 0, 2);
    shmipc_lane_reader r = reader_new(&l, 10, 0);
    uint32_t i;
    for (i = 0; i < 4; i++) send_one(&l, 8, i);
    SHMIPC__LW_STORE_RELAXED(shmipc__lane_slot(&l.w.map, l.w.next),
                             shmipc__lane_word(&l.w.map, l.w.next, SHMIPC__LANE_BUSY));
    for (i = 1; i < 4; i++) expect_one(&r, 8, i); /* 0 was being overwritten */
    CHECK_EQ(shmipc_lane_missed(&r), 1);
    expect_none(&r);
    dead_owner = 1;
    l.env.owner = 2;
    CHECK_EQ(shmipc_lane_writer_attach(&l.w, &l.env), 0);
    CHECK_EQ(send_one(&l, 9, 4), 0);
    expect_one(&r, 9, 4);
}

TEST(I1_lane_sweep_frees_what_the_dead_held_and_nothing_else)
{
    lane l = lane_new(4, 48, 300, 2);
    shmipc_lane_reader r[4], late;
    shmipc_lane_msg m[4];
    shmipc_lane_env env = l.env;
    unsigned char want[300];
    uint32_t k, i;
    memset(m, 0, sizeof m);
    for (k = 0; k < 4; k++) r[k] = reader_new(&l, 10 + k, 0);
    env.owner = 20;
    CHECK_EQ(shmipc_lane_reader_attach(&late, &env, 0), SHMIPC_ETABLE);
    send_one(&l, 300, 0);
    for (k = 0; k < 4; k++) CHECK_EQ(shmipc_lane_take(&r[k], NULL, 0, &m[k]), 0);
    CHECK_EQ(shmipc_lane_sweep(&env, 12), SHMIPC_EBUSY); /* alive: not robbed */
    CHECK(shmipc__load_relaxed_u64(SHMIPC__RECORD_HAZARD(r[2].record, 1)) != 0);
    dead_owner = 12;
    CHECK_EQ(shmipc_lane_sweep(&env, 12), 0);
    CHECK_EQ(shmipc_lane_sweep(&env, 12), 0);
    CHECK_EQ(shmipc__load_relaxed_u64(SHMIPC__RECORD_HAZARD(r[2].record, 1)), 0);
    CHECK_EQ(shmipc_lane_reader_attach(&late, &env, 1), 0);
    CHECK_EQ(late.generation, 2);
    CHECK(late.record == r[2].record);
    CHECK_EQ(shmipc_lane_take(&late, NULL, 0, &m[2]), 0);
    for (i = 0; i < 100; i++) CHECK_EQ(send_one(&l, 300, 1), 0);
    fill(want, 300, 0);
    for (k = 0; k < 4; k++) CHECK_MEM(m[k].data, want, 300);
    dead_owner = 1;
    CHECK_EQ(shmipc_lane_sweep(&env, 1), 0);
    dead_owner = 0xffffffffu;
    CHECK_EQ(shmipc_lane_writer_attach(&l.w, &env), 0);
}

/* A successor's chunks are those that no slot names: what can still be read is not written over. */
TEST(I1_lane_a_successor_leaves_alone_what_slots_name)
{
    lane l = lane_new(4, 48, 300, 2);
    shmipc_lane_reader r;
    uint32_t n, k;
    for (n = 0; n < 50; n++) {
        CHECK_EQ(send_one(&l, 300, n), 0);
        if (n % 5 == 0) continue; /* so the takeovers fall on every place in the lane */
        dead_owner = l.env.owner++;
        CHECK_EQ(shmipc_lane_writer_attach(&l.w, &l.env), 0);
        CHECK_EQ(send_one(&l, 300, ++n), 0);
        if (n < 3) continue;
        r = reader_new(&l, 100, 3);
        for (k = n - 2; k <= n; k++) expect_one(&r, 300, k);
        CHECK_EQ(shmipc_lane_reader_detach(&r), 0);
    }
}

static shmipc_lane_writer first;
static void another_takes_over(lane *l)
{
    shmipc_lane_env env = l->env;
    env.owner = 3;
    CHECK_EQ(shmipc_lane_writer_attach(&first, &env), 0);
}

TEST(I2_lane_of_two_successors_one_gets_it)
{
    lane l = lane_new(4, 48, 300, 2);
    dead_owner = 1;
    l.env.owner = 2;
    meanwhile = another_takes_over;
    meanwhile_lane = &l;
    CHECK_EQ(shmipc_lane_writer_attach(&l.w, &l.env), SHMIPC_EBUSY);
    CHECK_EQ(shmipc_lane_send(&first, "x", 1, 0), 0);
    CHECK_EQ(shmipc_lane_writer_detach(&first), 0);
    CHECK_EQ(shmipc_lane_writer_attach(&l.w, &l.env), 0);
}

static shmipc_lane_reader next_reader;
static shmipc_lane_msg next_view[2];
static void another_sweeps_and_reads(lane *l)
{
    uint32_t i;
    CHECK_EQ(shmipc_lane_sweep(&l->env, dead_owner), 0);
    next_reader = reader_new(l, 30, 2);
    for (i = 0; i < 2; i++) CHECK_EQ(shmipc_lane_take(&next_reader, NULL, 0, &next_view[i]), 0);
}

/* A sweeper that comes too late finds the record in use again: by its generation he tells the new views from the
 * old. */
TEST(I1_I8_lane_a_late_sweeper_leaves_the_next_readers_views)
{
    lane l = lane_new(4, 48, 300, 2);
    shmipc_lane_reader r[4];
    shmipc_lane_msg m;
    unsigned char want[300];
    uint32_t k, i;
    memset(&m, 0, sizeof m);
    for (k = 0; k < 4; k++) r[k] = reader_new(&l, 10 + k, 0);
    for (i = 0; i < 2; i++) CHECK_EQ(send_one(&l, 300, i), 0);
    for (i = 0; i < 2; i++) CHECK_EQ(shmipc_lane_take(&r[2], NULL, 0, &m), 0);
    dead_owner = 12;
    meanwhile = another_sweeps_and_reads;
    meanwhile_lane = &l;
    CHECK_EQ(shmipc_lane_sweep(&l.env, 12), 0);
    REQUIRE(next_reader.record == r[2].record);
    for (i = 0; i < 100; i++) CHECK_EQ(send_one(&l, 300, 9), 0);
    for (i = 0; i < 2; i++) {
        fill(want, 300, i);
        CHECK_MEM(next_view[i].data, want, 300);
        CHECK_EQ(shmipc_lane_release(&next_reader, &next_view[i]), 0);
    }
    CHECK_EQ(shmipc_lane_reader_detach(&next_reader), 0);
}

TEST(K1_lane_unregistered_readers_of_an_inline_lane)
{
    lane l = lane_new(4, 48, 0, 0);
    shmipc_lane_reader r[9];
    uint32_t k;
    l.cfg.records = 0;
    CHECK_EQ(shmipc_lane_init(l.env.mem, l.env.bytes, &l.cfg), 0);
    CHECK_EQ(shmipc_lane_writer_attach(&l.w, &l.env), 0);
    for (k = 0; k < 9; k++) r[k] = reader_new(&l, 10, 0);
    send_one(&l, 48, 3);
    for (k = 0; k < 9; k++) expect_one(&r[k], 48, 3);
    for (k = 0; k < 9; k++) CHECK_EQ(shmipc_lane_reader_detach(&r[k]), 0);
    CHECK_EQ(send_one(&l, 49, 3), SHMIPC_EMSGSIZE);
}

TEST(K1_lane_bad_arguments)
{
    lane l = lane_new(4, 48, 300, 2);
    shmipc_lane_config c;
    shmipc_lane_sizes s;
    shmipc_lane_env env = l.env;
    shmipc_lane_reader r = reader_new(&l, 10, 0);
    shmipc_lane_msg m;
    unsigned char buf[300];
    uint32_t len;
    void *p;
#define BAD(field, value)                                                                                         \
    do {                                                                                                          \
        c = l.cfg;                                                                                                \
        c.field = value;                                                                                          \
        CHECK_EQ(shmipc_lane_measure(&c, &s), SHMIPC_EINVAL);                                                     \
        CHECK_EQ(shmipc_lane_init(l.env.mem, l.env.bytes, &c), SHMIPC_EINVAL);                                    \
    } while (0)
    BAD(depth, 0);
    BAD(depth, 2);
    BAD(depth, 5);
    BAD(depth, 1u << 21);
    BAD(depth, 1u << 16);
    BAD(inline_max, 65521);
    BAD(chunk_max, 0x80000000u);
    BAD(records, 0);
    BAD(records, 4097);
    BAD(budget, 33);
    BAD(spare, 0);
    CHECK_EQ(shmipc_lane_measure(NULL, &s), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_lane_init(NULL, 100, &l.cfg), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_lane_init((char *)l.env.mem + 8, l.env.bytes, &l.cfg), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_lane_init(l.env.mem, l.env.bytes - 1, &l.cfg), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_lane_writer_attach(NULL, &env), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_lane_reader_attach(&r, NULL, 0), SHMIPC_EINVAL);
    env.chunk_bytes--;
    CHECK_EQ(shmipc_lane_reader_attach(&r, &env, 0), SHMIPC_EINVAL);
    env = l.env;
    env.chunks = NULL;
    CHECK_EQ(shmipc_lane_reader_attach(&r, &env, 0), SHMIPC_EINVAL);
    env = l.env;
    env.owner = 0xffffff;
    CHECK_EQ(shmipc_lane_reader_attach(&r, &env, 0), SHMIPC_EINVAL);
    r = reader_new(&l, 10, 0);
    CHECK_EQ(shmipc_lane_send(NULL, buf, 1, 0), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_lane_send(&l.w, NULL, 1, 0), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_lane_send(&l.w, NULL, 0, 9), 0);
    CHECK_EQ(shmipc_lane_recv(&r, NULL, 0, &len, NULL), 0);
    CHECK_EQ(shmipc_lane_send(&l.w, buf, 0xffffffffu, 0), SHMIPC_EMSGSIZE);
    CHECK_EQ(shmipc_lane_loan(NULL, 1, &p), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_lane_loan(&l.w, 1, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_lane_commit(NULL, 1, 0), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_lane_discard(NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_lane_recv(NULL, buf, 1, &len, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_lane_recv(&r, NULL, 1, &len, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_lane_take(&r, buf, 1, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_lane_release(NULL, &m), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_lane_skip(NULL, 1, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_lane_missed(NULL), 0);
    send_one(&l, 300, 1);
    CHECK_EQ(shmipc_lane_recv(&r, buf, 299, &len, NULL), SHMIPC_EMSGSIZE);
    expect_one(&r, 300, 1);
    send_one(&l, 48, 2);
    CHECK_EQ(shmipc_lane_recv(&r, buf, 47, &len, NULL), SHMIPC_EMSGSIZE);
    expect_one(&r, 48, 2);
}

TEST(I9_lane_foreign_memory_is_refused)
{
    lane l = lane_new(4, 48, 300, 2);
    shmipc__lane_mem *m = (shmipc__lane_mem *)l.env.mem;
    shmipc_lane_reader r;
    m->depth = 8;
    CHECK_EQ(shmipc_lane_reader_attach(&r, &l.env, 0), SHMIPC_ECORRUPT);
    m->depth = 3;
    CHECK_EQ(shmipc_lane_writer_attach(&l.w, &l.env), SHMIPC_ECORRUPT);
    m->layout ^= 0x100;
    CHECK_EQ(shmipc_lane_sweep(&l.env, 1), SHMIPC_ELAYOUT);
    m->magic = 0;
    CHECK_EQ(shmipc_lane_writer_attach(&l.w, &l.env), SHMIPC_EFOREIGN);
}

/* Whatever the memory holds, every call returns and stays inside (ASan watches the exact-size blocks). */
/* Messages given up are missed, exactly, and the ones behind them are still there. */
TEST(S22_lane_gives_up_the_oldest)
{
    shmipc_lane_config config;
    shmipc_lane_sizes s;
    shmipc_lane_env env;
    shmipc_lane_writer w;
    shmipc_lane_reader r;
    unsigned char buf[512];
    uint32_t len = 0, tag = 0, i, shed;
    shmipc_lane_config_init(&config);
    config.depth = 64;
    config.chunk_max = 512;
    config.records = 1;
    CHECK_EQ(shmipc_lane_measure(&config, &s), SHMIPC_OK);
    memset(&env, 0, sizeof env);
    env.bytes = (size_t)s.bytes;
    env.chunk_bytes = (size_t)s.chunk_bytes;
    env.mem = aligned_alloc(64, (env.bytes + 63) / 64 * 64);
    env.chunks = aligned_alloc(64, (env.chunk_bytes + 63) / 64 * 64);
    for (shed = 0; shed <= 70; shed++) {
        uint64_t before;
        CHECK_EQ(shmipc_lane_init(env.mem, env.bytes, &config), SHMIPC_OK);
        CHECK_EQ(shmipc_lane_writer_attach(&w, &env), SHMIPC_OK);
        CHECK_EQ(shmipc_lane_reader_attach(&r, &env, 0), SHMIPC_OK);
        memset(buf, 1, sizeof buf);
        for (i = 0; i < 100; i++) CHECK_EQ(shmipc_lane_send(&w, buf, 300, i), SHMIPC_OK);
        for (i = 0; i < shed; i++) CHECK_EQ(shmipc__lane_shed(&w), i < 63);
        for (i = 0;; i++) {
            before = r.missed;
            if (shmipc_lane_recv(&r, buf, sizeof buf, &len, &tag) != SHMIPC_OK) break;
            CHECK_EQ(tag, i + r.missed);
            CHECK(before == r.missed || i == 0); /* nothing in the middle is lost */
        }
        CHECK_EQ(i + r.missed, 100);
        CHECK(i >= 1);
        CHECK_EQ(shmipc_lane_send(&w, buf, 300, 100), SHMIPC_OK);
        CHECK_EQ(shmipc_lane_recv(&r, buf, sizeof buf, &len, &tag), SHMIPC_OK);
        CHECK_EQ(tag, 100);
    }
    free(env.mem);
    free(env.chunks);
}

TEST(I3_lane_random_images)
{
    lane l = lane_new(8, 48, 300, 2);
    uint32_t round, i, len = 0, refused = 0;
    unsigned char buf[300];
    shmipc_lane_msg m;
    uint64_t *words = (uint64_t *)l.env.mem;
    for (round = 0; round < 10000; round++) {
        shmipc_lane_reader r, late;
        REQUIRE(shmipc_lane_init(l.env.mem, l.env.bytes, &l.cfg) == 0);
        REQUIRE(shmipc_lane_writer_attach(&l.w, &l.env) == 0);
        r = reader_new(&l, 10, 0);
        for (i = 0; i < 12; i++) send_one(&l, i % 2 ? 300 : 24, i);
        for (i = 0; i < 6; i++) {
            uint64_t v = check_random(), *at = &words[8 + check_random() % (l.env.bytes / 8 - 8)];
            *at = v & 1 ? v : *at ^ (uint64_t)1 << (v >> 1) % 64;
            at = (uint64_t *)(void *)((char *)l.env.chunks + (v >> 8) % l.sizes.chunks * l.sizes.chunk_stride);
            *at = v >> 32;
        }
        for (i = 0; i < 30; i++) {
            int rc = i & 1 ? shmipc_lane_recv(&r, buf, sizeof buf, &len, NULL)
                           : shmipc_lane_take(&r, buf, sizeof buf, &m);
            refused += rc == SHMIPC_ECORRUPT;
            if (!rc) CHECK((i & 1 ? len : m.len) <= 300);
            if (i & 2) (void)send_one(&l, i * 10, i);
        }
        (void)shmipc_lane_skip(&r, 1, NULL);
        (void)shmipc_lane_sweep(&l.env, 10);
        (void)shmipc_lane_reader_attach(&late, &l.env, 4);
        dead_owner = 1;
        (void)shmipc_lane_writer_attach(&l.w, &l.env);
        dead_owner = 0xffffffffu;
    }
    CHECK(refused > 0);
}
