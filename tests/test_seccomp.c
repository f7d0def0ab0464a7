/* test_seccomp.c - the hot paths make no system call: they run under SECCOMP_MODE_STRICT, where any but read, write and
 * exit is death (invariant 5). Nobody sleeps at the bells; waking somebody is what a system call is for.
 */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../shmipc.h"

#include "check.h"
#include "strict.h"

#define ROUNDS 1000

static void *region(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    REQUIRE(p != MAP_FAILED);
    return p;
}

/* What ran under strict mode reports here: its own checks would print, and printing allocates. */
typedef struct {
    shmipc_spsc_writer writer;
    shmipc_spsc_reader reader;
    shmipc_queue queue;
    shmipc_lane_writer lane_writer;
    shmipc_lane_reader lane_reader, idle;
    shmipc__gate *gate;
    shmipc__bells bells;
    long done;
} work;

/* Runs fn under strict mode and expects it to have counted up to `rounds`. */
static void run_strict(void (*fn)(void *), work *w, long rounds)
{
    w->done = 0;
    CHECK_EQ(strict_run(fn, w), 0);
    CHECK_EQ(w->done, rounds);
}

/* ---- the control ------------------------------------------------------------------------------------------------- */

static void one_system_call(void *arg)
{
    work *w = (work *)arg;
    w->done++;
    syscall(SYS_getppid);
    w->done++;
}

TEST(I5_control_a_system_call_is_caught)
{
    work *w = (work *)region(sizeof *w);
    CHECK_EQ(strict_run(one_system_call, w), 1);
    CHECK_EQ(w->done, 1);
}

/* ---- spsc -------------------------------------------------------------------------------------------------------- */

enum { SPSC_BYTES = 4096 };

static work *spsc_open(void)
{
    work *w = (work *)region(sizeof *w);
    void *m = region(shmipc_spsc_size(SPSC_BYTES));
    REQUIRE(shmipc_spsc_init(m, shmipc_spsc_size(SPSC_BYTES), SPSC_BYTES) == SHMIPC_OK);
    REQUIRE(shmipc_spsc_writer_attach(&w->writer, m, shmipc_spsc_size(SPSC_BYTES)) == SHMIPC_OK);
    REQUIRE(shmipc_spsc_reader_attach(&w->reader, m, shmipc_spsc_size(SPSC_BYTES)) == SHMIPC_OK);
    return w;
}

/* Sizes up to 300 in a ring of 4 KiB: it wraps often. */
static void spsc_copying(void *arg)
{
    work *w = (work *)arg;
    char out[300], in[300];
    uint32_t i, len = 0, tag = 0;
    memset(out, 'x', sizeof out);
    for (i = 0; i < ROUNDS; i++) {
        if (shmipc_spsc_send(&w->writer, out, i % 300, i)) return;
        if (shmipc_spsc_recv(&w->reader, in, sizeof in, &len, &tag) || len != i % 300 || tag != i) return;
        if (shmipc_spsc_recv(&w->reader, in, sizeof in, &len, &tag) != SHMIPC_EAGAIN) return;
        w->done++;
    }
}
TEST(I5_spsc_send_recv) { run_strict(spsc_copying, spsc_open(), ROUNDS); }

static void spsc_in_place(void *arg)
{
    work *w = (work *)arg;
    const void *got;
    void *room;
    uint32_t i, len = 0, tag = 0;
    for (i = 0; i < ROUNDS; i++) {
        if (shmipc_spsc_reserve(&w->writer, 100, &room)) return;
        memset(room, 'x', 100);
        if (shmipc_spsc_commit(&w->writer, 100, i)) return;
        if (shmipc_spsc_peek(&w->reader, &got, &len, &tag) || len != 100 || tag != i) return;
        if (shmipc_spsc_release(&w->reader)) return;
        w->done++;
    }
}
TEST(I5_spsc_reserve_commit_peek_release) { run_strict(spsc_in_place, spsc_open(), ROUNDS); }

static void spsc_until_full(void *arg)
{
    work *w = (work *)arg;
    char buf[48];
    uint32_t i, len = 0, tag = 0;
    memset(buf, 'x', sizeof buf);
    for (i = 0; i < ROUNDS; i++) {
        while (!shmipc_spsc_send(&w->writer, buf, sizeof buf, i)) continue;
        while (!shmipc_spsc_recv(&w->reader, buf, sizeof buf, &len, &tag)) continue;
        w->done++;
    }
}
TEST(I5_spsc_full_and_empty) { run_strict(spsc_until_full, spsc_open(), ROUNDS); }

/* ---- queue ------------------------------------------------------------------------------------------------------- */

static int everybody_lives(void *arg, uint32_t owner)
{
    (void)arg;
    (void)owner;
    return 1;
}

static work *queue_open(void)
{
    work *w = (work *)region(sizeof *w);
    shmipc_queue_config c;
    uint64_t size;
    void *m;
    memset(&c, 0, sizeof c);
    c.slots = 8;
    c.chunks = 10;
    c.max_message = 200;
    c.policy = SHMIPC_QUEUE_REDELIVER;
    REQUIRE(shmipc_queue_size(&c, &size) == SHMIPC_OK);
    m = region((size_t)size);
    REQUIRE(shmipc_queue_init(m, size, &c) == SHMIPC_OK);
    REQUIRE(shmipc_queue_attach(&w->queue, m, size, 1, everybody_lives, NULL) == SHMIPC_OK);
    return w;
}

static void queue_copying(void *arg)
{
    work *w = (work *)arg;
    char out[200], in[200];
    uint32_t i, tag;
    memset(out, 'x', sizeof out);
    for (i = 0; i < ROUNDS; i++) {
        if (shmipc_queue_push(&w->queue, out, i % 200, i)) return;
        if (shmipc_queue_recv(&w->queue, in, sizeof in, &tag) != (int)(i % 200) || tag != i) return;
        if (shmipc_queue_recv(&w->queue, in, sizeof in, &tag) != SHMIPC_EAGAIN) return;
        w->done++;
    }
}
TEST(I5_queue_push_recv) { run_strict(queue_copying, queue_open(), ROUNDS); }

static void queue_in_place(void *arg)
{
    work *w = (work *)arg;
    shmipc_queue_msg m;
    uint32_t i;
    for (i = 0; i < ROUNDS; i++) {
        if (shmipc_queue_loan(&w->queue, 100, &m)) return;
        memset(m.data, 'x', 100);
        if (shmipc_queue_commit(&w->queue, &m)) return;
        if (shmipc_queue_take(&w->queue, &m) || m.len_bytes != 100) return;
        if (shmipc_queue_release(&w->queue, &m)) return;
        w->done++;
    }
}
TEST(I5_queue_loan_commit_take_release) { run_strict(queue_in_place, queue_open(), ROUNDS); }

static void queue_until_full(void *arg)
{
    work *w = (work *)arg;
    char buf[48];
    uint32_t i;
    memset(buf, 'x', sizeof buf);
    for (i = 0; i < ROUNDS; i++) {
        while (!shmipc_queue_push(&w->queue, buf, sizeof buf, i)) continue;
        while (shmipc_queue_recv(&w->queue, buf, sizeof buf, NULL) >= 0) continue;
        w->done++;
    }
}
TEST(I5_queue_full_and_empty) { run_strict(queue_until_full, queue_open(), ROUNDS); }

/* ---- lane -------------------------------------------------------------------------------------------------------- */

enum { LARGE = 300 };

/* A second reader never reads: it may not cost the writer anything. */
static work *lane_open(void)
{
    work *w = (work *)region(sizeof *w);
    shmipc_lane_config c;
    shmipc_lane_sizes sizes;
    shmipc_lane_env env;
    shmipc_lane_config_init(&c);
    c.depth = 8;
    c.chunk_max = LARGE;
    REQUIRE(shmipc_lane_measure(&c, &sizes) == SHMIPC_OK);
    memset(&env, 0, sizeof env);
    env.bytes = (size_t)sizes.bytes;
    env.chunk_bytes = (size_t)sizes.chunk_bytes;
    env.mem = region(env.bytes);
    env.chunks = region(env.chunk_bytes);
    REQUIRE(shmipc_lane_init(env.mem, env.bytes, &c) == SHMIPC_OK);
    REQUIRE(shmipc_lane_writer_attach(&w->lane_writer, &env) == SHMIPC_OK);
    REQUIRE(shmipc_lane_reader_attach(&w->lane_reader, &env, 0) == SHMIPC_OK);
    REQUIRE(shmipc_lane_reader_attach(&w->idle, &env, 0) == SHMIPC_OK);
    return w;
}

static void lane_copying(void *arg)
{
    work *w = (work *)arg;
    char out[LARGE], in[LARGE];
    uint32_t i, len = 0, tag = 0;
    memset(out, 'x', sizeof out);
    for (i = 0; i < ROUNDS; i++) {
        if (shmipc_lane_send(&w->lane_writer, out, i % LARGE, i)) return;
        if (shmipc_lane_recv(&w->lane_reader, in, sizeof in, &len, &tag) || len != i % LARGE || tag != i) return;
        if (shmipc_lane_recv(&w->lane_reader, in, sizeof in, &len, &tag) != SHMIPC_EAGAIN) return;
        w->done++;
    }
}
TEST(I5_S20_lane_send_recv) { run_strict(lane_copying, lane_open(), ROUNDS); }

static void lane_in_place(void *arg)
{
    work *w = (work *)arg;
    shmipc_lane_msg m;
    char in[48];
    void *at;
    uint32_t i;
    for (i = 0; i < ROUNDS; i++) {
        if (shmipc_lane_loan(&w->lane_writer, LARGE, &at)) return;
        memset(at, 'x', LARGE);
        if (shmipc_lane_commit(&w->lane_writer, LARGE, i)) return;
        if (shmipc_lane_take(&w->lane_reader, in, sizeof in, &m) || m.len != LARGE || m.tag != i) return;
        if (shmipc_lane_release(&w->lane_reader, &m)) return;
        w->done++;
    }
}
TEST(I5_lane_loan_commit_take_release) { run_strict(lane_in_place, lane_open(), ROUNDS); }

static void lane_overtaking(void *arg)
{
    work *w = (work *)arg;
    char buf[48];
    uint32_t i, k, len, tag;
    memset(buf, 'x', sizeof buf);
    for (i = 0; i < ROUNDS; i++) {
        for (k = 0; k < 20; k++)
            if (shmipc_lane_send(&w->lane_writer, buf, sizeof buf, i)) return;
        while (!shmipc_lane_recv(&w->lane_reader, buf, sizeof buf, &len, &tag)) continue;
        w->done++;
    }
    if (!shmipc_lane_missed(&w->lane_reader)) w->done = -1;
}
TEST(I5_S22_lane_overtaken) { run_strict(lane_overtaking, lane_open(), ROUNDS); }

/* ---- a gate where nobody sleeps ---------------------------------------------------------------------------------- */

static void ring_gate(void *arg)
{
    work *w = (work *)arg;
    uint32_t i;
    for (i = 0; i < ROUNDS; i++) {
        if (shmipc__gate_ring(w->gate, w->bells, SHMIPC__WAKE_ALL)) return;
        w->done++;
    }
}
TEST(I5_ring_with_nobody_asleep)
{
    work *w = (work *)region(sizeof *w);
    w->gate = (shmipc__gate *)region(sizeof *w->gate);
    w->bells.at = (shmipc__bell *)region(64 * sizeof(shmipc__bell));
    w->bells.count = 64;
    run_strict(ring_gate, w, ROUNDS);
}

