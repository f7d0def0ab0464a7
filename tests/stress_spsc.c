/* Two processes at full speed through one SPSC ring: sizes and ways of sending change all the time, both sides are
 * killed at random instants and replaced. Every record comes in order; only a killed reader's unreleased ones come
 * again. */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../shmipc.h"

#include "check.h"

#include <sched.h>

#define CAPACITY 4096u
#define RECORDS 500000u

typedef struct shared {
    _Alignas(64) unsigned char ring[128 + CAPACITY];
    uint64_t about;    /* the writer is going to publish: records below the high half, and then tail is the low half */
    uint32_t sent;     /* published for certain */
    uint32_t released; /* given back for certain */
    uint32_t seen;     /* seen, and about to be given back */
} shared;

static shared *sh;

static void start_memory(void)
{
    sh = (shared *)mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(sh != (shared *)MAP_FAILED);
    REQUIRE(shmipc_spsc_init(sh->ring, sizeof sh->ring, CAPACITY) == SHMIPC_OK);
}

static uint32_t length_of(uint32_t n)
{
    uint32_t x = n * 2654435761u;
    return x >> 29 ? (x >> 8) % 57u : (x >> 8) % (shmipc_spsc_max_len(CAPACITY) + 1);
}
static void fill(unsigned char *p, uint32_t len, uint32_t n)
{
    uint32_t i;
    for (i = 0; i < len; i++) p[i] = (unsigned char)(n * 31u + i);
}
static int intact(const unsigned char *p, uint32_t len, uint32_t n)
{
    uint32_t i;
    for (i = 0; i < len && p[i] == (unsigned char)(n * 31u + i); i++) {}
    return i == len;
}

static void write_one(shmipc_spsc_writer *w, uint32_t n)
{
    unsigned char buf[CAPACITY];
    uint32_t len = length_of(n);
    void *p;
    int rc;
    if (n % 3) {
        fill(buf, len, n);
        while ((rc = shmipc_spsc_send(w, buf, len, n)) == SHMIPC_EFULL) {
            shmipc_spsc_flush(w);
            sched_yield();
        }
    } else {
        uint32_t more = len + 20 <= shmipc_spsc_max_len(CAPACITY) ? len + 20 : len; /* and less than that is used */
        while ((rc = shmipc_spsc_reserve(w, more, &p)) == SHMIPC_EFULL) {
            shmipc_spsc_flush(w);
            sched_yield();
        }
        if (rc == SHMIPC_OK) {
            memset(p, 0xff, more);
            fill((unsigned char *)p, len, n);
            rc = n % 5 ? shmipc_spsc_stage(w, len, n) : shmipc_spsc_commit(w, len, n);
        }
    }
    CHECK_EQ(rc, SHMIPC_OK);
}

static void write_all(uint32_t end)
{
    shmipc_spsc_writer w;
    uint32_t n;
    memset(&w, 0, sizeof w);
    REQUIRE(shmipc_spsc_writer_attach(&w, sh->ring, sizeof sh->ring) == SHMIPC_OK);
    for (n = 0; n < end; n++) write_one(&w, n);
    shmipc_spsc_flush(&w);
    sh->sent = n;
}

/* Batches of one to four. A successor knows by the tail whether the last batch of its predecessor is there. */
static void write_for_ever(void)
{
    shmipc_spsc_writer w;
    uint32_t n, i;
    memset(&w, 0, sizeof w);
    REQUIRE(shmipc_spsc_writer_attach(&w, sh->ring, sizeof sh->ring) == SHMIPC_OK);
    n = w.tail == (uint32_t)sh->about ? (uint32_t)(sh->about >> 32) : sh->sent;
    CHECK(n >= sh->sent && n <= sh->sent + 4);
    for (;;) {
        uint32_t batch = 1 + n % 4;
        for (i = 0; i < batch; i++) {
            uint32_t len = length_of(n + i);
            void *p = NULL;
            while (shmipc_spsc_reserve(&w, len, &p) == SHMIPC_EFULL && i == 0) sched_yield();
            if (!w.reserved) break; /* full: this batch is a short one */
            fill((unsigned char *)p, len, n + i);
            CHECK_EQ(shmipc_spsc_stage(&w, len, n + i), SHMIPC_OK);
        }
        n += i;
        __atomic_store_n(&sh->about, (uint64_t)n << 32 | w.tail, __ATOMIC_RELEASE);
        CHECK_EQ(shmipc_spsc_flush(&w), SHMIPC_OK);
        __atomic_store_n(&sh->sent, n, __ATOMIC_RELEASE);
    }
}

static uint32_t read_some(shmipc_spsc_reader *r, uint32_t n, int views)
{
    unsigned char buf[CAPACITY];
    const void *p[3];
    uint32_t len[3], tag[3], k, i;
    if (n % 2 && !views) {
        if (shmipc_spsc_recv(r, buf, sizeof buf, &len[0], &tag[0])) return n;
        p[0] = buf;
        k = 1;
    } else {
        for (k = 0; k < 3 && shmipc_spsc_peek(r, &p[k], &len[k], &tag[k]) == SHMIPC_OK; k++) {}
    }
    for (i = 0; i < k; i++) {
        CHECK_EQ(tag[i], n + i);
        CHECK_EQ(len[i], length_of(tag[i]));
        CHECK(intact((const unsigned char *)p[i], len[i], tag[i]));
    }
    __atomic_store_n(&sh->seen, n + k, __ATOMIC_RELEASE);
    CHECK_EQ(shmipc_spsc_release(r), SHMIPC_OK);
    __atomic_store_n(&sh->released, n + k, __ATOMIC_RELEASE);
    return n + k;
}

/* Goes on where the ring is: between what the predecessor surely gave back and what it had seen. */
static void read_on(uint32_t end, int views)
{
    shmipc_spsc_reader r, peek;
    const void *p;
    uint32_t len, n = 0;
    memset(&r, 0, sizeof r);
    memset(&peek, 0, sizeof peek);
    REQUIRE(shmipc_spsc_reader_attach(&peek, sh->ring, sizeof sh->ring) == SHMIPC_OK);
    while (shmipc_spsc_peek(&peek, &p, &len, &n)) sched_yield();
    /* only now: peek may have given back a PAD, whose room the writer uses again */
    REQUIRE(shmipc_spsc_reader_attach(&r, sh->ring, sizeof sh->ring) == SHMIPC_OK);
    CHECK(n >= sh->released && n <= sh->seen);
    while (n < end) {
        uint32_t next = read_some(&r, n, views);
        if (next == n) sched_yield();
        n = next;
    }
}

static pid_t start(int writer)
{
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid) return pid;
    if (writer) write_for_ever();
    read_on(UINT32_MAX, 1);
    _exit(0);
}

TEST_LIMIT(K1_spsc_two_processes_keep_every_record_in_order, 60)
{
    pid_t pid;
    int st = -1;
    start_memory();
    pid = fork();
    REQUIRE(pid >= 0);
    if (!pid) {
        write_all(RECORDS);
        _exit(0);
    }
    read_on(RECORDS, 0);
    CHECK(waitpid(pid, &st, 0) == pid && st == 0);
    CHECK_EQ(sh->sent, RECORDS);
    CHECK_EQ(sh->released, RECORDS);
}

TEST_LIMIT(I1_spsc_sides_killed_at_random_instants_are_replaced, 60)
{
    pid_t pid[2];
    uint32_t round, moved = 0, before = 0;
    int st, side;
    start_memory();
    for (side = 0; side < 2; side++) pid[side] = start(side);
    for (round = 0; round < 400; round++) {
        struct timespec t = { 0, (long)(check_random() % 2000000) };
        nanosleep(&t, NULL); /* the instant of the kill */
        side = (int)(check_random() & 1);
        kill(pid[side], SIGKILL);
        REQUIRE(waitpid(pid[side], &st, 0) == pid[side]);
        CHECK(WIFSIGNALED(st));
        pid[side] = start(side);
        moved += sh->released != before;
        before = sh->released;
    }
    for (side = 0; side < 2; side++) {
        kill(pid[side], SIGKILL);
        waitpid(pid[side], &st, 0);
    }
    CHECK(moved > 20);
    CHECK(sh->released > 1000);
}
