/* The life of a named segment under every schedule, weak-memory read, kill and stop: K2, K7, invariants 1, 2, 7.
 *
 * Each thread is a process with a context of its own, opened before the schedule begins. What runs is the public code:
 * name table, creating, attaching, removing, leaving, the sweep of an index and its reuse. Files, links and locks are
 * events of the explorer. The area's first word is written before a segment is published; whoever opens must see it. */
#include "explore.h"
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#define SHMIPC_ATOMICS_HEADER "explore_atomics.h"
#define SHMIPC_OS_HEADER "explore_os.h"
#include "../../shmipc.h"

#define MAGIC 0x5eedu
enum { LIVES = 4 };

static shmipc_ctx *ctx[LIVES];
static shmipc_segment *seg[LIVES];
static uint64_t gen[LIVES]; /* of what a thread is attached to, as it knows */
static int done[LIVES], lives;
static uint32_t capacity;
static void (*before)(void);

static int fill(shmipc_segment *s, void *arg)
{
    uint32_t v = MAGIC;
    void *p;
    (void)arg;
    if (shmipc_segment_at(s, 0, 64, &p)) return SHMIPC_ECORRUPT;
    shmipc__copy_in(p, &v, sizeof v);
    return 0;
}

/* ---- a kind whose only word names the index that holds it: version << 8 | index + 1 ---- */

static uint32_t *word(shmipc_segment *s) { return (uint32_t *)(void *)(s->base + s->head.area + 32); }
static int take(shmipc_segment *s)
{
    uint32_t w = shmipc__load_relaxed_u32(word(s));
    return (w & 0xff) == 0 && shmipc__cas_acqrel_u32(word(s), &w, ((w >> 8) + 1) << 8 | (s->index + 1));
}
/* Plain bytes that belong to whoever has the index; who gives it back clears them. */
static void own_record(shmipc_segment *s, uint32_t index, uint32_t v)
{
    shmipc__copy_in(s->base + s->head.area + 40 + 4 * index, &v, sizeof v);
}
static int kind_sweep(shmipc_segment *s, uint32_t index, uint64_t life)
{
    uint32_t w = shmipc__load_acquire_u32(word(s));
    if (life == s->ctx->life) own_record(s, index, 0);
    if ((w & 0xff) != index + 1 || !shmipc_segment_holds(s, index, life)) return 0;
    (void)shmipc__cas_acqrel_u32(word(s), &w, ((w >> 8) + 1) << 8);
    return 0;
}
static const shmipc_kind kind = {9, 1, "word", NULL, kind_sweep, NULL, NULL};

static int open_it(int t, int mode)
{
    shmipc_segment_config cfg;
    uint32_t v = 0;
    int rc;
    shmipc_segment_config_init(&cfg);
    cfg.mode = mode;
    cfg.size = 64;
    cfg.max_size = 8192;
    cfg.capacity = capacity;
    cfg.kind = &kind;
    cfg.init = fill;
    rc = shmipc_segment_open(ctx[t], "n", &cfg, &seg[t]);
    if (rc) return rc;
    gen[t] = shmipc_segment_generation(seg[t]);
    shmipc__copy_out(&v, seg[t]->base + seg[t]->head.area, sizeof v);
    ex_assert(v == MAGIC);
    return rc;
}

static void setup(void)
{
    shmipc_ctx_config cfg;
    int t;
    shmipc__ctx_all.head = NULL;
    shmipc_ctx_config_init(&cfg);
    cfg.dir = "model";
    for (t = 0; t < lives; t++) {
        ex_os_as = t;
        seg[t] = NULL;
        gen[t] = 0;
        done[t] = 0;
        if (shmipc_ctx_open(&ctx[t], &cfg)) abort();
    }
    if (before) before();
    ex_os_as = 0;
}

/* ---- what was there before ---- */

static void attached_0(void)
{
    ex_os_as = 0;
    if (open_it(0, SHMIPC_CREATE)) abort();
}
/* The last life dies attached: the kernel lets go of its lock, and nothing else happens. */
static void kill_last(void)
{
    ex_os_as = lives - 1;
    if (open_it(lives - 1, SHMIPC_OPEN_OR_CREATE)) abort();
    (void)take(seg[lives - 1]);
    shmipc__os_close(&ctx[lives - 1]->lock.file);
    gen[lives - 1] = 0;
}
static void both_attached(void)
{
    attached_0();
    ex_os_as = 1;
    if (open_it(1, SHMIPC_OPEN)) abort();
}
/* The last life is attached and takes no part; what is unlinked under it, it keeps. */
static void attached_last(void)
{
    ex_os_as = lives - 1;
    if (open_it(lives - 1, SHMIPC_CREATE)) abort();
    gen[lives - 1] = 0;
}
static void two_beside_dead(void)
{
    both_attached();
    kill_last();
}
static void attached_0_and_last(void)
{
    attached_0();
    ex_os_as = lives - 1;
    if (open_it(lives - 1, SHMIPC_OPEN)) abort();
}
static void attached_0_beside_dead(void)
{
    attached_0();
    kill_last();
}

/* ---- what threads do ---- */

static void opens(void *arg)
{
    int t = (int)(intptr_t)arg;
    ex_assert(open_it(t, SHMIPC_OPEN_OR_CREATE) == 0);
    done[t] = 1;
}
/* An index comes free of what its last owner held. */
static void takes(int t)
{
    ex_assert((shmipc__load_relaxed_u32(word(seg[t])) & 0xff) != seg[t]->index + 1);
    own_record(seg[t], seg[t]->index, 7);
    done[t] = take(seg[t]) ? 2 : 1;
}
static void opens_and_takes(void *arg)
{
    opens(arg);
    takes((int)(intptr_t)arg);
}
static void opens_if_there_is_room(void *arg)
{
    int t = (int)(intptr_t)arg, rc = open_it(t, SHMIPC_OPEN_OR_CREATE);
    ex_assert(rc == 0 || rc == SHMIPC_ETABLE);
    if (!rc) takes(t);
}
static void leaves(void *arg)
{
    int t = (int)(intptr_t)arg;
    gen[t] = 0;
    shmipc_segment_close(seg[t]);
    done[t] = 1;
}
static void opens_and_leaves(void *arg)
{
    opens(arg);
    leaves(arg);
}
static void sweeps(void *arg)
{
    int t = (int)(intptr_t)arg;
    ex_assert(shmipc_segment_sweep(seg[t]) >= 0);
    done[t] = 1;
}
static void unlinks(void *arg)
{
    int t = (int)(intptr_t)arg, rc = shmipc_segment_unlink(ctx[t], "n");
    ex_assert(rc == 0 || rc == SHMIPC_ENOENT);
    done[t] = 1;
}

/* ---- what must hold at the end ---- */

static int linked(uint64_t g)
{
    char file[256];
    shmipc__file_name(file, "n", g);
    return ex_os_find(file) >= 0;
}
/* All who are attached and living have one segment; its name leads to it, its file is there, it is not dead. */
static void one_segment(void)
{
    shmipc__name *slot;
    int t;
    for (t = 0; t < lives; t++) {
        if (!gen[t] || ex_is_dead(t)) continue;
        if (shmipc__name_find(ctx[t], shmipc__name_key("n"), 0, &slot)) ex_violate("the name is gone");
        ex_assert(shmipc__load_acquire_u64(&slot->generation) == gen[t]);
        ex_assert(linked(gen[t]));
        ex_assert(!(shmipc__load_acquire_u64(&shmipc__live(seg[t])->k) & SHMIPC__K_DEAD));
        ex_assert(shmipc_segment_holds(seg[t], seg[t]->index, ctx[t]->life) == 1);
    }
}
/* Whoever opened just before the name was taken away has the old one, whole; a newer one is there as it should be. */
static void old_or_current(void)
{
    shmipc__name *slot;
    uint64_t g;
    if (!done[1]) return;
    if (shmipc__name_find(ctx[1], shmipc__name_key("n"), 0, &slot)) ex_violate("the name is gone");
    g = shmipc__load_acquire_u64(&slot->generation);
    ex_assert(g == 0 || g == gen[1]);
    if (gen[1] != shmipc_segment_generation(seg[lives - 1])) ex_assert(g == gen[1] && linked(g));
    if (done[0]) ex_assert(!linked(shmipc_segment_generation(seg[lives - 1])));
}
/* Nobody was killed and all have left: nothing remains. */
static void nothing_left(void)
{
    int t;
    one_segment();
    for (t = 0; t < lives; t++)
        if (!done[t] || gen[t]) return;
    for (t = 1; t < 8; t++) ex_assert(!linked((uint64_t)t));
}
/* What the new owner of an index took is not taken away by a sweep that was late. */
static void word_is_safe(void)
{
    uint32_t w;
    int t;
    one_segment();
    w = shmipc__load_acquire_u32(word(seg[lives - 1]));
    for (t = 0; t < lives; t++)
        if (done[t] == 2 && !ex_is_dead(t)) ex_assert((w & 0xff) == seg[t]->index + 1);
}

static void begin(ex_model *m, const char *name, int n, void (*state)(void), void (*final)(void))
{
    lives = n;
    before = state;
    capacity = 2;
    ex_new(m, name, setup, final);
}

/* Orders that a model does not need, by the name of the model that needs them, or what it is that models cannot see. */
#define NOT(m, text, reason) ex_expect_not_caught(m, text, reason)
#define KERNEL "kernel calls are seen by all at once here; on hardware this keeps link before CAS, and load before open"
static void no_removal(ex_model *m)
{
    NOT(m, "shmipc__live(s)->k, k = ", "nobody can remove here: 'the last leaves while one opens'");
    NOT(m, "->k, 2) & SHMIPC__K_DEAD", "nobody can remove here: 'the last leaves while one opens'");
    NOT(m, "g = shmipc__load_acquire_u64(&s->slot->generation); /* [publish] */", KERNEL);
}

int main(int argc, char **argv)
{
    ex_model m;
    ex_begin(argc, argv);

    begin(&m, "the last leaves while one opens", 2, attached_0, nothing_left);
    ex_thread(&m, "leaver", leaves, (void *)0);
    ex_thread(&m, "opener", opens, (void *)1);
    NOT(&m, "next_generation", "only a number is drawn; there is no weaker wrapper");
    NOT(&m, "[publish] */", KERNEL);
    NOT(&m, "[entry] [attach]", "no index is used again: 'index that one leaves and one takes'");
    NOT(&m, "shmipc__entry_at(s, s->index)->life, &life, 0); /* [entry]",
        "no index is used again: 'index that one leaves and one takes'");
    NOT(&m, "[leave] */", "only one leaves: 'both leave'");
    NOT(&m, "w = shmipc__load_acquire_u32(word(s));", "nobody swept here: 'index of the dead, swept and reused'");
    ex_weaken_all(&m);

    begin(&m, "both leave", 2, both_attached, nothing_left);
    ex_thread(&m, "a", leaves, (void *)0);
    ex_thread(&m, "b", leaves, (void *)1);
    NOT(&m, "shmipc__live(s)->k, k = ", "nobody attaches here: 'the last leaves while one opens'");
    NOT(&m, "k | SHMIPC__K_DEAD)) break", "nobody attaches here: 'the last leaves while one opens'");
    NOT(&m, "shmipc__entry_at(s, s->index)->life, &life, 0); /* [entry]",
        "no index is used again: 'index that one leaves and one takes'");
    NOT(&m, "w = shmipc__load_acquire_u32(word(s));", "nobody swept here: 'index of the dead, swept and reused'");
    ex_weaken_all(&m);

    begin(&m, "index of the dead, swept and reused", 3, attached_0_beside_dead, word_is_safe);
    ex_thread(&m, "sweeper", sweeps, (void *)0);
    ex_thread(&m, "opener", opens_and_takes, (void *)1);
    no_removal(&m);
    NOT(&m, "->life) == life;",
        "the kind's own acquire of the word is enough here; a kind may lean on this one instead");
    NOT(&m, "(void)shmipc__cas_acqrel_u32(word(s), &w, ((w >> 8) + 1) << 8);",
        "the entry's CAS after it releases it too");
    ex_weaken_all(&m);

    begin(&m, "index that one leaves and one takes", 3, attached_0_and_last, word_is_safe);
    ex_thread(&m, "leaver", leaves, (void *)0);
    ex_thread(&m, "opener", opens_if_there_is_room, (void *)1);
    no_removal(&m);
    NOT(&m, "[leave] */", "another user stays: 'both leave'");
    NOT(&m, "(w & 0xff) == 0 && shmipc__cas_acqrel_u32",
        "nobody sweeps the new owner here: 'index of the dead, swept and reused'");
    NOT(&m, "w = shmipc__load_acquire_u32(word(s));", "nobody swept here: 'index of the dead, swept and reused'");
    ex_weaken_all(&m);

    begin(&m, "two sweepers, one may die, and the next owner", 4, two_beside_dead, word_is_safe);
    capacity = 3;
    ex_thread(&m, "sweeper", sweeps, (void *)0);
    ex_thread(&m, "sweeper 2", sweeps, (void *)1);
    ex_thread(&m, "opener", opens_and_takes, (void *)2);
    ex_killable(&m, 1, 1);
    ex_run(&m);

    begin(&m, "two create", 2, NULL, one_segment);
    ex_thread(&m, "a", opens, (void *)0);
    ex_thread(&m, "b", opens, (void *)1);
    ex_run(&m);

    begin(&m, "two open what the dead left", 3, kill_last, one_segment);
    ex_thread(&m, "a", opens, (void *)0);
    ex_thread(&m, "b", opens, (void *)1);
    ex_killable(&m, 0, 1);
    ex_killable(&m, 1, 1);
    ex_run(&m);

    begin(&m, "unlinked by name while one opens", 3, attached_last, old_or_current);
    ex_thread(&m, "remover", unlinks, (void *)0);
    ex_thread(&m, "opener", opens, (void *)1);
    ex_killable(&m, 0, 1);
    ex_run(&m);

    begin(&m, "open and leave, both", 2, NULL, nothing_left);
    ex_thread(&m, "a", opens_and_leaves, (void *)0);
    ex_thread(&m, "b", opens_and_leaves, (void *)1);
    ex_run(&m);

    begin(&m, "killed while creating", 2, NULL, one_segment);
    ex_thread(&m, "a", opens, (void *)0);
    ex_thread(&m, "b", opens, (void *)1);
    ex_killable(&m, 0, 1);
    ex_run(&m);

    begin(&m, "stopped while leaving", 2, attached_0, one_segment);
    ex_thread(&m, "leaver", leaves, (void *)0);
    ex_thread(&m, "opener", opens, (void *)1);
    ex_stoppable(&m, 0, 1);
    ex_run(&m);

    return ex_end();
}
