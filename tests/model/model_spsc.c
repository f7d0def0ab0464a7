/* The SPSC byte ring under every schedule, weak-memory read and kill: K1, invariants 1 and 8.
 *
 * A ring of 256 bytes with small records; the reader counts what it gets, the writer what it was told. Every message
 * carries its number as tag and in all of its payload. At the end a reader drains the ring; then all numbers must have
 * come in order, each once, and none that was acknowledged may be missing. */
#include "explore.h"
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#define SHMIPC_ATOMICS_HEADER "explore_atomics.h"
#define SHMIPC_OS_HEADER "explore_os.h"
#include "../../shmipc.h"

#define CAP 256u
static struct {
    _Alignas(64) unsigned char bytes[128 + CAP];
} mem;
#define MEM mem.bytes, sizeof mem.bytes

static shmipc_spsc_writer w, w2;
static shmipc_spsc_reader r;
static uint32_t start_at, preload, length, length2;
static uint32_t sent, sent2, first2, got[16], n_got, n_taken;

static void fill(uint32_t *p, uint32_t len, uint32_t v)
{
    uint32_t i;
    for (i = 0; i < len / 4; i++) p[i] = v;
}

static int put(shmipc_spsc_writer *to, uint32_t n, uint32_t len)
{
    uint32_t buf[CAP / 4];
    fill(buf, len, n);
    return shmipc_spsc_send(to, buf, len, n);
}

static void saw(uint32_t tag, const uint32_t *p, uint32_t len)
{
    uint32_t i;
    for (i = 0; i < len / 4; i++) ex_assert(p[i] == tag);
    got[n_got++] = tag;
}

static int get(shmipc_spsc_reader *from)
{
    uint32_t buf[CAP / 4], len, tag;
    int rc = shmipc_spsc_recv(from, buf, sizeof buf, &len, &tag);
    ex_assert(rc == 0 || rc == SHMIPC_EAGAIN);
    if (!rc) saw(tag, buf, len);
    return rc;
}

static void setup(void)
{
    shmipc__spsc_mem *m = (shmipc__spsc_mem *)(void *)mem.bytes;
    uint32_t i;
    memset(mem.bytes, 0, sizeof mem.bytes);
    shmipc_spsc_init(MEM, CAP);
    m->head = start_at;
    shmipc_spsc_writer_attach(&w, MEM);
    shmipc_spsc_reader_attach(&r, MEM);
    sent = sent2 = n_got = n_taken = 0;
    first2 = 100;
    for (i = 0; i < preload; i++) {
        if (put(&w, i + 1, length)) abort();
        sent++;
    }
    ex_name(&m->head, 4, "head");
    ex_name(mem.bytes + 128, CAP, "ring");
}

static void writer(void *arg)
{
    uint32_t i, n = (uint32_t)(uintptr_t)arg;
    for (i = 0; i < n; i++) {
        while (put(&w, sent + 1, length2) == SHMIPC_EFULL) shmipc__pause();
        sent++;
    }
}
static void batch_writer(void *arg)
{
    uint32_t i, n = (uint32_t)(uintptr_t)arg;
    void *p;
    for (i = 0; i < n; i++) {
        if (shmipc_spsc_reserve(&w, length2 + 40, &p)) abort();
        { uint32_t v[4] = { sent + 1 + i, sent + 1 + i, sent + 1 + i, sent + 1 + i }; shmipc__copy_in(p, v, length2); }
        shmipc_spsc_stage(&w, length2, sent + 1 + i);
    }
    shmipc_spsc_flush(&w);
    sent += n;
}
static void successor(void *arg) /* of the writer */
{
    uint32_t i, n = (uint32_t)(uintptr_t)arg;
    if (!ex_is_dead(0)) return;
    if (shmipc_spsc_writer_attach(&w2, MEM)) ex_violate("the successor cannot attach");
    for (i = 0; i < n; i++) {
        if (put(&w2, first2 + sent2, length2) == 0) sent2++;
    }
}
static void reader(void *arg)
{
    uint32_t i, n = (uint32_t)(uintptr_t)arg;
    for (i = 0; i < n; i++) {
        if (!get(&r)) n_taken++;
    }
}
static void patient_reader(void *arg)
{
    uint32_t n = (uint32_t)(uintptr_t)arg;
    while (n) {
        if (get(&r)) shmipc__pause();
        else n--;
    }
}
static void peeker(void *arg) /* views two at a time, releases both at once */
{
    const void *p[2];
    uint32_t len[2], tag[2], n = 0, k, buf[CAP / 4];
    (void)arg;
    while (n < 2 && shmipc_spsc_peek(&r, &p[n], &len[n], &tag[n]) == 0) n++;
    for (k = 0; k < n; k++) {
        shmipc__copy_out(buf, p[k], len[k]);
        saw(tag[k], buf, len[k]);
    }
    shmipc_spsc_release(&r);
}

/* All that the ring still holds, and then: 1, 2, 3 ... and first2, first2 + 1 ..., nothing missing, nothing twice. */
static void final(void)
{
    shmipc_spsc_reader last = r;
    uint32_t i, next = 1, next2 = first2, before = n_got;
    if (ex_is_dead(1)) {
        if (shmipc_spsc_reader_attach(&last, MEM)) ex_violate("the reader's successor cannot attach");
        n_got = before;
    }
    while (!get(&last)) {}
    for (i = 0; i < n_got; i++) {
        if (got[i] >= first2) {
            ex_assert(got[i] == next2);
            next2++;
            continue;
        }
        ex_assert(next2 == first2);
        if (i == before && got[i] == next + 1 && ex_is_dead(1)) next++; /* released, and dead before it said so */
        ex_assert(got[i] == next);
        next++;
    }
    if (ex_is_dead(1) && before == n_got && next == sent) next++; /* the same, with the last one */
    ex_assert(next == sent + 1 || (ex_is_dead(0) && next == sent + 2));
    ex_assert(next2 == first2 + sent2);
}

enum { NO_KILL, KILL_WRITER, KILL_READER };

static void run(const char *name, uint32_t at, uint32_t full, uint32_t len, uint32_t len2, ex_fn write, int n,
                ex_fn read,
                int k, int after, int kills, int weaken)
{
    ex_model m;
    ex_new(&m, name, setup, final);
    if (ex_skip(&m)) return;
    start_at = at;
    preload = full;
    length = len;
    length2 = len2;
    ex_thread(&m, "writer", write, (void *)(uintptr_t)n);
    ex_thread(&m, "reader", read, (void *)(uintptr_t)k);
    if (after) ex_thread(&m, "successor", successor, (void *)(uintptr_t)after);
    if (kills) ex_killable(&m, kills == KILL_READER, 1);
    if (weaken && kills) ex_expect_not_caught(&m, "load_acquire_u32(&m->magic)", "made before the threads start");
    if (weaken) ex_weaken_all(&m);
    else ex_run(&m);
}

/* Made by one thread, used by two that come as soon as they recognise it. */
static void blank(void)
{
    memset(mem.bytes, 0, sizeof mem.bytes);
    n_got = sent = 0;
    ex_name(mem.bytes, 64, "header");
    ex_name(mem.bytes + 64, 4, "head");
    ex_name(mem.bytes + 128, CAP, "ring");
}
static void maker(void *arg)
{
    (void)arg;
    shmipc_spsc_init(MEM, CAP);
}
static void early_writer(void *arg)
{
    int rc = shmipc_spsc_writer_attach(&w, MEM);
    (void)arg;
    ex_assert(rc == 0 || rc == SHMIPC_EFOREIGN);
    if (!rc && !put(&w, 1, 8)) sent = 1;
}
static void early_reader(void *arg)
{
    int rc = shmipc_spsc_reader_attach(&r, MEM);
    (void)arg;
    ex_assert(rc == 0 || rc == SHMIPC_EFOREIGN);
    if (!rc) get(&r);
}
static void made(void)
{
    ex_assert(n_got <= sent);
}
static void run_init(void)
{
    ex_model m;
    ex_new(&m, "spsc, made and used at once", blank, made);
    if (ex_skip(&m)) return;
    ex_thread(&m, "maker", maker, NULL);
    ex_thread(&m, "writer", early_writer, NULL);
    ex_thread(&m, "reader", early_reader, NULL);
    ex_expect_not_caught(&m, "load_acquire_u32(&m->head); /* H2 */", "nothing is given back before it");
    ex_expect_not_caught(&m, "store_release_u32(head, pos); /* H1 */", "the writer does not come round again");
    ex_weaken_all(&m);
}

int main(int argc, char **argv)
{
    ex_begin(argc, argv);
    run_init();
    run("spsc, empty", 0, 0, 8, 8, writer, 3, reader, 4, 0, NO_KILL, 0);
    run("spsc, large records, full", 0, 2, 104, 104, writer, 2, patient_reader, 4, 0, NO_KILL, 1);
    run("spsc, at the wrap", CAP - 24u, 0, 8, 40, writer, 3, reader, 3, 0, NO_KILL, 0);
    run("spsc, counters wrap", 0u - 16u, 0, 8, 8, writer, 2, reader, 3, 0, NO_KILL, 0);
    run("spsc, batch at the wrap", CAP - 64u, 0, 8, 16, batch_writer, 2, reader, 3, 0, NO_KILL, 0);
    run("spsc, two views", 0, 2, 104, 104, writer, 1, peeker, 0, 0, NO_KILL, 0);
    run("spsc, writer killed, successor", 0, 0, 8, 8, writer, 2, reader, 3, 2, KILL_WRITER, 0);
    run("spsc, batch writer killed, successor", CAP - 64u, 0, 8, 16, batch_writer, 2, reader, 3, 1, KILL_WRITER, 0);
    run("spsc, writer killed at the wrap, successor", CAP - 24u, 1, 8, 40, writer, 1, reader, 2, 1, KILL_WRITER, 0);
    run("spsc, writer of a full ring killed, successor", 0, 2, 104, 104, writer, 1, reader, 3, 1, KILL_WRITER, 1);
    run("spsc, reader killed", 0, 2, 8, 8, writer, 1, reader, 2, 0, KILL_READER, 0);
    run("spsc, reader of a full ring killed", 0, 2, 104, 8, writer, 1, reader, 2, 0, KILL_READER, 0);
    return ex_end();
}
