/* One lane, a writer and six readers, all processes, any of them killed at random instants, swept and replaced. Every
 * message is whole, numbers only rise, received and missed add up, views stay unchanged while they are held. */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../shmipc.h"

#include "check.h"

#include <sched.h>

#define READERS 6u
#define OWNERS 4096u
#define LARGE 600u

typedef struct shared {
    uint8_t dead[OWNERS]; /* written by the parent after it has reaped him: the kernel's word in its simplest form */
    uint64_t sent;        /* messages below this are out for certain */
    uint64_t received[OWNERS], views[OWNERS];
    uint32_t stop;
} shared;

static shared *sh;
static shmipc_lane_env env;
static shmipc_lane_config cfg;

static int alive(void *arg, uint32_t owner)
{
    (void)arg;
    return !__atomic_load_n(&sh->dead[owner], __ATOMIC_ACQUIRE);
}

static void start_memory(void)
{
    shmipc_lane_sizes s;
    unsigned char *m;
    shmipc_lane_config_init(&cfg);
    cfg.depth = 16;
    cfg.chunk_max = LARGE;
    cfg.records = READERS;
    cfg.budget = 3;
    REQUIRE(shmipc_lane_measure(&cfg, &s) == SHMIPC_OK);
    sh = (shared *)mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    m = (unsigned char *)mmap(NULL, (size_t)(s.bytes + s.chunk_bytes), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(sh != (shared *)MAP_FAILED && m != (unsigned char *)MAP_FAILED);
    REQUIRE(shmipc_lane_init(m, (size_t)s.bytes, &cfg) == SHMIPC_OK);
    memset(&env, 0, sizeof env);
    env.mem = m;
    env.bytes = (size_t)s.bytes;
    env.chunks = m + s.bytes;
    env.chunk_bytes = (size_t)s.chunk_bytes;
    env.alive = alive;
}

static uint32_t length_of(uint64_t n)
{
    uint32_t x = (uint32_t)n * 2654435761u;
    return x >> 31 ? (x >> 8) % 49u : (x >> 8) % (LARGE + 1);
}
static void fill(unsigned char *p, uint32_t len, uint64_t n)
{
    uint32_t i;
    for (i = 0; i < len; i++) p[i] = (unsigned char)(n * 31u + i);
}
static int intact(const void *data, uint32_t len, uint64_t n)
{
    const unsigned char *p = (const unsigned char *)data;
    uint32_t i;
    for (i = 0; i < len && p[i] == (unsigned char)(n * 31u + i); i++) {}
    return i == len && len == length_of(n);
}

/* The number of a message is that of its place in the lane, so a successor knows it without being told. */
static void writer(uint32_t owner)
{
    shmipc_lane_writer w;
    unsigned char buf[LARGE];
    env.owner = owner;
    memset(&w, 0, sizeof w);
    REQUIRE(shmipc_lane_writer_attach(&w, &env) == SHMIPC_OK);
    CHECK(w.next - cfg.depth >= sh->sent && w.next - cfg.depth <= sh->sent + 1);
    while (!__atomic_load_n(&sh->stop, __ATOMIC_RELAXED)) {
        uint64_t n = w.next - cfg.depth;
        uint32_t len = length_of(n);
        void *p = NULL;
        if (n % 3) {
            fill(buf, len, n);
            CHECK_EQ(shmipc_lane_send(&w, buf, len, (uint32_t)n), SHMIPC_OK);
        } else {
            CHECK_EQ(shmipc_lane_loan(&w, len, &p), SHMIPC_OK);
            if (n % 9 == 0) {
                CHECK_EQ(shmipc_lane_discard(&w), SHMIPC_OK);
                CHECK_EQ(shmipc_lane_loan(&w, len, &p), SHMIPC_OK);
            }
            fill((unsigned char *)p, len, n);
            CHECK_EQ(shmipc_lane_commit(&w, len, (uint32_t)n), SHMIPC_OK);
        }
        __atomic_store_n(&sh->sent, n + 1, __ATOMIC_RELEASE);
        if (n % 64 == 0) sched_yield();
    }
    CHECK_EQ(shmipc_lane_writer_detach(&w), SHMIPC_OK);
}

/* Holds up to three views while the lane goes round many times. */
static void reader(uint32_t owner)
{
    shmipc_lane_reader r;
    shmipc_lane_msg m, held[3];
    unsigned char buf[LARGE];
    uint64_t first, skipped, n_skipped = 0, n;
    uint32_t n_held = 0, len = 0, tag = 0, turn, i;
    int rc;
    env.owner = owner;
    memset(&r, 0, sizeof r);
    memset(held, 0, sizeof held);
    REQUIRE(shmipc_lane_reader_attach(&r, &env, owner % 20) == SHMIPC_OK);
    first = r.next - cfg.depth;
    for (turn = 0; !__atomic_load_n(&sh->stop, __ATOMIC_RELAXED); turn++) {
        if (turn % 64 == 63) {
            for (i = 0; i < n_held; i++) {
                CHECK(intact(held[i].data, held[i].len, held[i].number));
                CHECK_EQ(shmipc_lane_release(&r, &held[i]), SHMIPC_OK);
            }
            n_held = 0;
        }
        if (owner % 3 == 0) {
            CHECK_EQ(shmipc_lane_skip(&r, 1, &skipped), SHMIPC_OK);
            n_skipped += skipped;
        }
        memset(&m, 0, sizeof m);
        rc = turn % 2 ? shmipc_lane_take(&r, buf, sizeof buf, &m) : shmipc_lane_recv(&r, buf, sizeof buf, &len, &tag);
        if (rc == SHMIPC_EAGAIN || rc == SHMIPC_EBUSY) {
            if (rc == SHMIPC_EBUSY) CHECK_EQ(n_held, 3);
            sched_yield();
            continue;
        }
        if (!CHECK_EQ(rc, SHMIPC_OK)) break;
        n = first + r.received + r.missed + n_skipped - 1;
        if (turn % 2) CHECK(m.number == n && m.tag == (uint32_t)n && intact(m.data, m.len, n));
        else CHECK(tag == (uint32_t)n && intact(buf, len, n));
        if (m.pin) held[n_held++] = m;
        sh->views[owner] += m.pin != 0;
        sh->received[owner]++;
    }
    for (i = 0; i < n_held; i++) shmipc_lane_release(&r, &held[i]);
    CHECK_EQ(shmipc_lane_reader_detach(&r), SHMIPC_OK);
}

static pid_t start(uint32_t side, uint32_t owner)
{
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid) return pid;
    if (side) reader(owner);
    else writer(owner);
    fflush(stdout);
    _exit(0);
}

/* Two sweepers at once, one of which may be killed as well. */
static void sweep(uint32_t dead, uint32_t owner)
{
    pid_t helper = fork();
    int st;
    REQUIRE(helper >= 0);
    env.owner = owner;
    if (!helper) {
        shmipc_lane_sweep(&env, dead);
        _exit(0);
    }
    if (dead & 1) kill(helper, SIGKILL);
    CHECK_EQ(shmipc_lane_sweep(&env, dead), SHMIPC_OK);
    REQUIRE(waitpid(helper, &st, 0) == helper);
}

TEST_LIMIT(I1_I8_lane_anybody_killed_at_random_instants_is_replaced, 90)
{
    pid_t pid[READERS + 1];
    uint32_t owner[READERS + 1], fresh = 1, side, round;
    uint64_t received = 0, views = 0;
    shmipc_lane_map g;
    int st;
    start_memory();
    for (side = 0; side <= READERS; side++) {
        owner[side] = fresh++;
        pid[side] = start(side, owner[side]);
    }
    for (round = 0; round < 400; round++) {
        struct timespec t = { 0, (long)(check_random() % 3000000) };
        nanosleep(&t, NULL); /* the instant of the kill */
        side = (uint32_t)(check_random() % (READERS + 1));
        kill(pid[side], SIGKILL);
        REQUIRE(waitpid(pid[side], &st, 0) == pid[side]);
        CHECK(WIFSIGNALED(st));
        __atomic_store_n(&sh->dead[owner[side]], 1, __ATOMIC_RELEASE);
        if (side || round % 2) sweep(owner[side], fresh++); /* a writer's lane is taken over without one, too */
        owner[side] = fresh++;
        pid[side] = start(side, owner[side]);
    }
    __atomic_store_n(&sh->stop, 1, __ATOMIC_RELEASE);
    for (side = 0; side <= READERS; side++) {
        REQUIRE(waitpid(pid[side], &st, 0) == pid[side]);
        CHECK_EQ(st, 0);
    }
    REQUIRE(shmipc__lane_open(&env, &g) == SHMIPC_OK); /* nothing is held any more */
    for (side = 0; side < READERS; side++) {
        uint32_t i;
        CHECK_EQ(shmipc__load_relaxed_u64(shmipc__lane_record(&g, side)) & SHMIPC__REC_STATE, 0);
        for (i = 0; i <= cfg.budget; i++)
            CHECK_EQ(shmipc__load_relaxed_u64(SHMIPC__RECORD_HAZARD(shmipc__lane_record(&g, side), i)), 0);
    }
    for (side = 0; side < OWNERS; side++) {
        received += sh->received[side];
        views += sh->views[side];
    }
    CHECK(sh->sent > 10000 && received > 10000 && views > 1000);
}
