/* The broadcast lane under every schedule, weak-memory read and kill: K1, invariants 1 and 8.
 *
 * A lane of four messages. Each carries its number as tag, and its number and its writer in all of its payload; a
 * reader checks the payload, and that what it got and what it missed add up to the number.
 *
 * Orders that no model can miss, and why they stay: the acquires of writer attach and sweep (the probe of the dead has
 * already ordered all that the dead did; a detach in peace is ordered by them alone), of the claim of a record (its
 * chunks are read only after a pin, which has orders of its own), of the magic (made before the threads start), and the
 * acquire with which attach looks for the newest message (recv looks at the slot again). */
#include "explore.h"
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#define SHMIPC_ATOMICS_HEADER "explore_atomics.h"
#define SHMIPC_OS_HEADER "explore_os.h"
#include "../../shmipc.h"

#define DEPTH 4u
#define LARGE 64u /* bytes: lies in a chunk */
#define SMALL 8u
static struct {
    _Alignas(64) unsigned char lane[2048];
    _Alignas(64) unsigned char chunks[4096];
} mem;

static shmipc_lane_config cfg;
static shmipc_lane_env env[8]; /* by thread; owner = thread + 1 */
static shmipc_lane_writer w, w2[2];
static shmipc_lane_reader r[3], late[3];
static uint32_t preload, length[3]; /* of the preloaded, of the even, of the odd messages */
static uint32_t n_readers, history, acked, by[64];
static uint32_t successors; /* that got the lane */

static int alive(void *arg, uint32_t owner)
{
    (void)arg;
    return owner == 0 || !ex_is_dead((int)owner - 1);
}

/* The memory of a record's chunks is made by whoever funds it. */
static int reserve(void *arg, uint32_t first, uint32_t count)
{
    uint32_t i, zero = 0;
    (void)arg;
    for (i = first; i < first + count; i++) shmipc__copy_in(shmipc__lane_chunk(&w.map, i) + 16, &zero, 4);
    return 0;
}

static int put(shmipc_lane_writer *to, uint32_t who, uint32_t len)
{
    uint32_t buf[LARGE / 4], i, n = (uint32_t)to->next - DEPTH;
    for (i = 0; i < LARGE / 4; i++) buf[i] = n * 16 + who;
    return shmipc_lane_send(to, buf, len, n);
}

/* number = what came before it + what was missed, for a reader that began at number `from`. */
static void check(shmipc_lane_reader *from, uint32_t first, const uint32_t *p, uint32_t len, uint32_t tag)
{
    uint32_t i;
    for (i = 0; i < len / 4; i++) ex_assert(p[i] / 16 == tag);
    for (i = 1; i < len / 4; i++) ex_assert(p[i] == p[0]);
    ex_assert(tag + 1 == first + from->received + from->missed);
    by[tag] |= 1u << p[0] % 16;
}
static int get(shmipc_lane_reader *from, uint32_t first)
{
    uint32_t buf[LARGE / 4], len, tag;
    int rc = shmipc_lane_recv(from, buf, sizeof buf, &len, &tag);
    ex_assert(rc == 0 || rc == SHMIPC_EAGAIN);
    if (!rc) check(from, first, buf, len, tag);
    return rc;
}

static void setup(void)
{
    shmipc_lane_sizes s;
    uint32_t i;
    memset(&mem, 0, sizeof mem);
    memset(by, 0, sizeof by);
    if (shmipc_lane_measure(&cfg, &s) || s.bytes > sizeof mem.lane || s.chunk_bytes > sizeof mem.chunks) abort();
    if (shmipc_lane_init(mem.lane, sizeof mem.lane, &cfg)) abort();
    for (i = 0; i < 8; i++) {
        memset(&env[i], 0, sizeof env[i]);
        env[i].mem = mem.lane;
        env[i].bytes = sizeof mem.lane;
        env[i].chunks = mem.chunks;
        env[i].chunk_bytes = sizeof mem.chunks;
        env[i].alive = alive;
        env[i].reserve = i ? reserve : NULL;
        env[i].owner = i + 1;
    }
    if (shmipc_lane_writer_attach(&w, &env[0])) abort();
    for (i = 0; i < n_readers; i++) {
        if (shmipc_lane_reader_attach(&r[i], &env[i + 1], 0)) abort();
    }
    for (i = 0; i < preload; i++) {
        if (put(&w, 1, length[0])) abort();
    }
    for (i = 0; i < n_readers; i++) { /* the last `history` messages are news to them */
        r[i].next = w.next - history;
        r[i].missed = r[i].received = 0;
    }
    acked = preload;
    successors = 0;
    ex_name(mem.lane + 64, 8, "wr");
    ex_name(mem.lane + 72, 8, "head");
    for (i = 0; i < cfg.records; i++) ex_name(shmipc__lane_record(&w.map, i), w.map.record_stride, "record");
    for (i = 0; i < DEPTH; i++) ex_name(shmipc__lane_slot(&w.map, i), w.map.stride, "slot");
    ex_name(mem.chunks, sizeof mem.chunks, "chunks");
}
#define FIRST (preload - history)

static void writer(void *arg)
{
    uint32_t i, n = (uint32_t)(uintptr_t)arg;
    for (i = 0; i < n; i++) {
        if (put(&w, 1, length[1 + i % 2])) ex_violate("send failed");
        acked++;
    }
}
static void shedder(void *arg) /* gives up the oldest, uses their chunks at once */
{
    uint32_t i, n = (uint32_t)(uintptr_t)arg;
    for (i = 0; i < n; i++) {
        if (!shmipc__lane_shed(&w)) ex_violate("nothing to give up");
        shmipc__lane_scan(&w);
    }
    if (put(&w, 1, LARGE)) ex_violate("send failed");
    acked++;
}
static void reader(void *arg) /* copies */
{
    uint32_t i, n = (uint32_t)(uintptr_t)arg;
    for (i = 0; i < n; i++) get(&r[ex_self() - 1], FIRST);
}
static int take(shmipc_lane_reader *from, uint32_t first, shmipc_lane_msg *m, uint32_t *small)
{
    uint32_t buf[LARGE / 4];
    int rc = shmipc_lane_take(from, small, SMALL, m);
    ex_assert(rc == 0 || rc == SHMIPC_EAGAIN || rc == SHMIPC_EBUSY);
    if (rc) return rc;
    if (m->pin) shmipc__copy_out(buf, m->data, m->len);
    else memcpy(buf, m->data, m->len);
    check(from, first, buf, m->len, m->tag);
    return rc;
}
static void viewer(void *arg) /* takes a view, tries a second one, copies on, looks at the view again */
{
    shmipc_lane_reader *me = &r[ex_self() - 1];
    shmipc_lane_msg m, more;
    uint32_t small[SMALL / 4], buf[LARGE / 4], i;
    (void)arg;
    if (take(me, FIRST, &m, small)) return;
    if (arg) {
        int rc = shmipc_lane_take(me, small, SMALL, &more);
        ex_assert(rc == SHMIPC_EBUSY || rc == SHMIPC_EAGAIN);
        get(me, FIRST);
    }
    if (m.pin) {
        shmipc__copy_out(buf, m.data, m.len);
        for (i = 0; i < m.len / 4; i++) ex_assert(buf[i] / 16 == m.tag);
    }
    shmipc_lane_release(me, &m);
}
static void comer(void *arg) /* a reader that attaches meanwhile, takes a view and leaves */
{
    int t = ex_self();
    shmipc_lane_reader *me = &late[t - 1];
    shmipc_lane_msg m;
    uint32_t small[SMALL / 4], first;
    int rc = shmipc_lane_reader_attach(me, &env[t], (uint32_t)(uintptr_t)arg);
    ex_assert(rc == 0 || rc == SHMIPC_ETABLE);
    if (rc) return;
    first = (uint32_t)me->next - DEPTH;
    if (!take(me, first, &m, small)) shmipc_lane_release(me, &m);
    if (shmipc_lane_reader_detach(me)) ex_violate("detach failed");
}
static void dying_comer(void *arg) /* the same, and stays with its view */
{
    int t = ex_self();
    shmipc_lane_msg m;
    uint32_t small[SMALL / 4];
    if (shmipc_lane_reader_attach(&late[t - 1], &env[t], (uint32_t)(uintptr_t)arg)) return;
    take(&late[t - 1], (uint32_t)late[t - 1].next - DEPTH, &m, small);
}
static void sweeper(void *arg)
{
    int dead = (int)(uintptr_t)arg;
    if (ex_is_dead(dead) && shmipc_lane_sweep(&env[ex_self()], (uint32_t)dead + 1)) ex_violate("sweep failed");
}
static void sweep_and_come(void *arg)
{
    sweeper((void *)(uintptr_t)1);
    comer(arg);
}
static void successor(void *arg) /* of the writer */
{
    uint32_t i, n = (uint32_t)(uintptr_t)arg, t = (uint32_t)ex_self();
    shmipc_lane_writer *me = &w2[t == 2 ? 0 : 1];
    int rc;
    if (!ex_is_dead(0)) return;
    rc = shmipc_lane_writer_attach(me, &env[t]);
    ex_assert(rc == 0 || rc == SHMIPC_EBUSY);
    if (!rc) ex_assert(++successors == 1); /* he stays alive */
    for (i = 0; i < n && !rc; i++) {
        if (put(me, t + 1, length[1 + i % 2])) ex_violate("the successor's send failed");
    }
}

/* A living writer goes on, the readers see it, and what was acknowledged has not been written by somebody else. */
static void final(void)
{
    shmipc_lane_writer last;
    uint32_t i, t, n = 0;
    if (ex_is_dead(1)) {
        if (shmipc_lane_sweep(&env[7], 2) || shmipc_lane_sweep(&env[7], 2)) ex_violate("sweep failed");
        for (i = 0; i < cfg.records; i++) {
            uint64_t rec = *shmipc__lane_record(&w.map, i);
            ex_assert(!(rec & SHMIPC__REC_STATE) || (rec & SHMIPC__REC_OWNER) != 2);
            for (t = 0; !(rec & SHMIPC__REC_STATE) && t <= cfg.budget; t++)
                ex_assert(*SHMIPC__RECORD_HAZARD(shmipc__lane_record(&w.map, i), t) == 0);
        }
    }
    shmipc_lane_writer_detach(&w);
    if (shmipc_lane_writer_attach(&last, &env[7])) ex_violate("nobody can write any more");
    ex_assert(last.next - DEPTH >= acked);
    for (i = 0; i < 5; i++) {
        if (put(&last, 9, length[2])) ex_violate("out of chunks");
        for (t = 0; t < n_readers; t++) {
            if (!ex_is_dead((int)t + 1) && !r[t].pins) while (!get(&r[t], FIRST)) n++;
        }
    }
    ex_assert(n || !n_readers || ex_is_dead(1) || r[0].pins);
    for (t = 0; t < n_readers; t++) ex_assert(ex_is_dead((int)t + 1) || r[t].pins || r[t].next == last.next);
    for (i = 0; i < acked; i++) ex_assert((by[i] & ~2u) == 0);
    ex_outcome(by[acked]);
}

static int begin(ex_model *m, const char *name, uint32_t records, uint32_t budget, uint32_t chunk, uint32_t before,
                 uint32_t attached, uint32_t news, uint32_t len0, uint32_t even, uint32_t odd)
{
    ex_new(m, name, setup, final);
    if (ex_skip(m)) return 0;
    cfg.depth = DEPTH;
    cfg.inline_max = 48;
    cfg.chunk_max = chunk;
    cfg.records = records;
    cfg.budget = budget;
    cfg.spare = 1;
    preload = before;
    n_readers = attached;
    history = news;
    length[0] = len0;
    length[1] = even;
    length[2] = odd;
    m->max_seconds = getenv("FULL") ? 300 : 8;
    return 1;
}
#define N(n) ((void *)(uintptr_t)(n))

int main(int argc, char **argv)
{
    ex_model m;
    ex_begin(argc, argv);
    if (begin(&m, "lane, inline, overtaken", 0, 0, 0, 4, 1, 4, SMALL, SMALL, SMALL)) {
        ex_thread(&m, "writer", writer, N(2));
        ex_thread(&m, "reader", reader, N(2));
        ex_expect_not_caught(&m, "/* L1 */", "reads only what was there before");
        ex_expect_not_caught(&m, "/* L2 */", "reads only what was there before");
        ex_weaken_all(&m);
    }
    if (begin(&m, "lane, inline, following", 0, 0, 0, 4, 1, 1, SMALL, SMALL, SMALL)) {
        ex_thread(&m, "writer", writer, N(2));
        ex_thread(&m, "reader", reader, N(3));
        ex_expect_not_caught(&m, "/* L3 */", "is not overtaken");
        ex_expect_not_caught(&m, "/* L4 */", "is not overtaken");
        ex_weaken_all(&m);
    }
    if (begin(&m, "lane, inline, two readers", 0, 0, 0, 4, 2, 2, SMALL, SMALL, SMALL)) {
        ex_thread(&m, "writer", writer, N(3));
        ex_thread(&m, "reader", reader, N(2));
        ex_thread(&m, "reader", reader, N(2));
        ex_run(&m);
    }
    if (begin(&m, "lane, chunks, copying while they are reused", 1, 0, LARGE, 5, 1, 4, LARGE, LARGE, LARGE)) {
        ex_thread(&m, "writer", writer, N(2));
        ex_thread(&m, "reader", reader, N(2));
        ex_expect_not_caught(&m, "/* L1 */", "reads only what was there before");
        ex_expect_not_caught(&m, "/* L2 */", "reads only what was there before");
        ex_expect_not_caught(&m, "(rec) & SHMIPC__REC_FUNDED", "funded before the threads start");
        ex_weaken_all(&m);
    }
    if (begin(&m, "lane, chunks, the oldest given up", 1, 0, LARGE, 5, 1, 4, LARGE, LARGE, LARGE)) {
        ex_thread(&m, "writer", shedder, N(2));
        ex_thread(&m, "reader", reader, N(3));
        ex_run(&m);
    }
    if (begin(&m, "lane, chunks, the newest stays", 1, 1, LARGE, 5, 1, 4, LARGE, LARGE, LARGE)) {
        ex_thread(&m, "writer", shedder, N(3));
        ex_thread(&m, "viewer", viewer, N(1));
        ex_run(&m);
    }
    if (begin(&m, "lane, chunks, following", 1, 0, LARGE, 5, 1, 0, LARGE, LARGE, LARGE)) {
        ex_thread(&m, "writer", writer, N(2));
        ex_thread(&m, "reader", reader, N(2));
        ex_expect_not_caught(&m, "(rec) & SHMIPC__REC_FUNDED", "funded before the threads start");
        ex_expect_not_caught(&m, "/* L6 */", "nothing is reused");
        ex_expect_not_caught(&m, "/* L7 */", "nothing is reused");
        ex_expect_not_caught(&m, "/* L8 */", "nothing is reused");
        ex_expect_not_caught(&m, "/* L9 */", "nothing is reused");
        ex_expect_not_caught(&m, "/* L2 */", "the fence of the pin orders it too");
        ex_weaken_all(&m);
    }
    if (begin(&m, "lane, chunks, a view and the budget", 1, 1, LARGE, 6, 1, 4, LARGE, LARGE, LARGE)) {
        ex_thread(&m, "writer", writer, N(3));
        ex_thread(&m, "viewer", viewer, N(1));
        ex_expect_not_caught(&m, "(rec) & SHMIPC__REC_FUNDED", "funded before the threads start");
        ex_expect_not_caught(&m, "SHMIPC__LANE_CHUNK) | (chunk + 1", "reads only what was there before");
        ex_expect_not_caught(&m, "SHMIPC__HZ_GENERATION | c); /* L8 */", "each word is pinned once");
        ex_expect_not_caught(&m, "if (rc || !view) shmipc__store_release_u64(hazard, 0)", "copies what is not reused");
        ex_expect_not_caught(&m, "/* L2 */", "the fence of the pin orders it too");
        ex_weaken_all(&m);
    }
    if (begin(&m, "lane, both forms", 1, 0, LARGE, 5, 1, 4, LARGE, SMALL, LARGE)) {
        ex_thread(&m, "writer", writer, N(2));
        ex_thread(&m, "reader", reader, N(2));
        ex_run(&m);
    }
    if (begin(&m, "lane, a reader comes and goes", 1, 0, LARGE, 4, 0, 0, LARGE, LARGE, LARGE)) {
        ex_thread(&m, "writer", writer, N(3));
        ex_thread(&m, "comer", comer, N(4));
        ex_expect_not_caught(&m, "load_acquire_u32(&m->magic)", "made before the threads start");
        ex_expect_not_caught(&m, "/* L6 */", "it leaves before its chunk is wanted");
        ex_expect_not_caught(&m, "/* L9 */", "it leaves before its chunk is wanted");
        ex_expect_not_caught(&m, "SHMIPC__LANE_CHUNK) | (chunk + 1", "reads only what was there before");
        ex_expect_not_caught(&m, "funded, old = shmipc__load_acquire_u64(rec)", "the pin has orders of its own");
        ex_expect_not_caught(&m, "shmipc__cas_acqrel_u64(rec, &old, r->generation", "the pin has orders of its own");
        ex_expect_not_caught(&m, "SHMIPC__LW_LOAD_ACQUIRE(shmipc__lane_slot(g, (shmipc__lw)(pos + 1)))",
                             "recv looks again");
        ex_expect_not_caught(&m, "/* L2 */", "the fence of the pin orders it too");
        ex_weaken_all(&m);
    }
    if (begin(&m, "lane, two come for one record", 1, 1, LARGE, 4, 0, 0, LARGE, LARGE, LARGE)) {
        ex_thread(&m, "writer", writer, N(1));
        ex_thread(&m, "comer", comer, N(3));
        ex_thread(&m, "comer", comer, N(3));
        ex_run(&m);
    }
    if (begin(&m, "lane, writer killed, taken over", 1, 0, LARGE, 4, 1, 3, LARGE, SMALL, LARGE)) {
        ex_thread(&m, "writer", writer, N(2));
        ex_thread(&m, "reader", reader, N(2));
        ex_thread(&m, "successor", successor, N(2));
        ex_killable(&m, 0, 1);
        ex_run(&m);
    }
    if (begin(&m, "lane, writer killed, two successors", 0, 0, 0, 4, 0, 0, SMALL, SMALL, SMALL)) {
        ex_thread(&m, "writer", writer, N(1));
        ex_thread(&m, "nobody", sweeper, N(0));
        ex_thread(&m, "successor", successor, N(1));
        ex_thread(&m, "successor", successor, N(1));
        ex_killable(&m, 0, 1);
        ex_run(&m);
    }
    if (begin(&m, "lane, reader killed, swept, record used again", 1, 1, LARGE, 6, 0, 0, LARGE, LARGE, LARGE)) {
        ex_thread(&m, "writer", writer, N(2));
        ex_thread(&m, "dying", dying_comer, N(3));
        ex_thread(&m, "sweeper", sweeper, N(1));
        ex_thread(&m, "sweeper, comer", sweep_and_come, N(2));
        ex_killable(&m, 1, 1);
        ex_run(&m);
    }
    return ex_end();
}
