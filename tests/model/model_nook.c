/* Blocks under nooks and spare blocks, every schedule: whoever dies where he likes, each block is named by one nook, or
 * is one spare, or is free; none is used by two. Everybody owns a chunk (here: a cell) and with it its nook; what he
 * writes into the block there must still be there when he reads it. Checks I1, I2, I4. */
#include "socket_world.h"

#define CHUNKS 4
#define LAST EX_THREADS /* the index of who checks at the end */
#define DATA 131072
#define SIZE (DATA + 65536)
#define TWO 32768 /* a class with two blocks in an extent */

static unsigned char region[SIZE] __attribute__((aligned(4096)));
static shmipc__cell cell[CHUNKS] __attribute__((aligned(128)));
static uint64_t handed;
static uint8_t swept[EX_THREADS], held[EX_THREADS];
static uint64_t block[2]; /* the handles at the beginning */

static int world_alive(uint32_t index) { return index == LAST || !ex_is_dead((int)index); }
static int world_holds(uint32_t index, uint64_t life) { return (void)index, life == 1; }
static int world_sweep(uint32_t index) { return (void)index, 0; }
static int nothing_to_do(void *arg, uint64_t offset, uint64_t len) { return (void)arg, (void)offset, (void)len, 0; }

static uint64_t *nook(uint32_t i) { return cell[i].nook; }

static void sweep_of(uint32_t me, uint32_t dead)
{
    shmipc__block_sweeper sweeper = {shmipc__dead_still, shmipc__dead_published, NULL};
    shmipc__dead d;
    memset(&d, 0, sizeof d);
    d.segment = &world_segment[me];
    d.channel = channel_of();
    d.blocks = sock[me].blocks;
    d.index = dead;
    d.life = 1;
    d.cells = cell;
    d.cell_count = CHUNKS;
    sweeper.arg = &d;
    ex_assert(shmipc__blocks_sweep(&d.blocks, dead + 1, &sweeper) == SHMIPC_OK);
    swept[dead] = 1;
}

/* Two blocks, both owned by `who` and named by nobody. */
static void setup_blocks(uint32_t who)
{
    uint32_t i;
    channel_make();
    memset(region, 0, 2048);
    memset(cell, 0, sizeof cell);
    memset(swept, 0, sizeof swept);
    memset(held, 0, sizeof held);
    handed = 0;
    for (i = 0; i <= LAST; i++) {
        shmipc__blocks *b = &sock[i].blocks;
        socket_make(i, SHMIPC_PUSH, 8);
        sock[i].max_message = TWO;
        b->base = region;
        b->size = SIZE;
        b->extents = 1;
        b->owner = i + 1;
        b->reserve = b->punch = nothing_to_do;
        if (shmipc__blocks_open(b, i == 0) || b->data != DATA) ex_die("the region does not fit the model");
    }
    for (i = 0; i < 2; i++)
        if (shmipc__block_alloc(&sock[who].blocks, TWO, &block[i])) ex_die("setup");
    ex_name(region, 1024, "region");
    ex_name(region + 1024, 128, "extent0");
    ex_name(region + DATA, SIZE - DATA, "data");
    ex_name(nook(0), 16, "nook0");
    ex_name(nook(1), 16, "nook1");
    ex_name(nook(2), 16, "nook2");
    ex_name(&handed, 8, "handed");
}
/* One is a spare, the other is free. */
static void setup_spare(void)
{
    setup_blocks(LAST);
    shmipc__block_spare(&sock[LAST], block[0], TWO);
    if (shmipc__block_free(&sock[LAST].blocks, block[1], LAST + 1)) ex_die("setup");
}
/* One is under the nook of thread 0, the other is free. */
static void setup_named(void)
{
    setup_blocks(LAST);
    *nook(0) = block[0];
    if (shmipc__block_pass(&sock[LAST].blocks, block[0], LAST + 1, 0)) ex_die("setup");
    if (shmipc__block_free(&sock[LAST].blocks, block[1], LAST + 1)) ex_die("setup");
}
static void setup_free(void)
{
    uint32_t i;
    setup_blocks(LAST);
    for (i = 0; i < 2; i++)
        if (shmipc__block_free(&sock[LAST].blocks, block[i], LAST + 1)) ex_die("setup");
}

/* ---- what a process does with its chunk ---- */

static void fit(uint32_t me, uint64_t value)
{
    void *at = NULL;
    uint64_t seen = 0;
    int rc = shmipc__nook_fit(&sock[me], nook(me), TWO, &at);
    ex_assert(rc == SHMIPC_OK || rc == SHMIPC_ENOSPC || rc == SHMIPC_EBUSY);
    if (rc) return;
    shmipc__copy_in(at, &value, 8);
    shmipc__store_relaxed_u64(nook(me) + 1, 8);
    shmipc__copy_out(&seen, at, 8);
    ex_assert(seen == value);
    held[me] = 1;
}
static void drop(uint32_t me, uint64_t value)
{
    uint64_t seen = 0, len;
    void *at = NULL;
    if (held[me]) {
        ex_assert(shmipc__nook_read(&sock[me], nook(me), &at, &len) == SHMIPC_OK && len == 8);
        shmipc__copy_out(&seen, at, 8);
        ex_assert(seen == value);
    }
    shmipc__nook_drop(&sock[me], nook(me));
    held[me] = 0;
}
static void fit_one(void *arg) { fit((uint32_t)(uintptr_t)arg, 1); }
static void drop_one(void *arg) { drop((uint32_t)(uintptr_t)arg, 1); }
static void fit_and_drop(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    fit(me, 7 + me);
    drop(me, 7 + me);
}
static void drop_and_fit(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    drop(me, 1);
    fit(me, 7 + me);
}
static void drop_spares(void *arg) { shmipc__spares_drop(&sock[(uintptr_t)arg]); }

/* Chunk 0 is handed over with what it holds, and given up by who took it. */
static void send(void *arg)
{
    (void)arg;
    fit(0, 5);
    if (held[0]) shmipc__store_release_u64(&handed, 1);
}
static void receive_of(uint32_t me)
{
    uint64_t w = 1, len, seen = 0;
    void *at = NULL;
    if (!shmipc__cas_acqrel_u64(&handed, &w, 2)) return;
    ex_assert(shmipc__nook_read(&sock[me], nook(0), &at, &len) == SHMIPC_OK && len == 8);
    shmipc__copy_out(&seen, at, 8);
    ex_assert(seen == 5);
    shmipc__nook_drop(&sock[me], nook(0));
}
static void receive(void *arg) { receive_of((uint32_t)(uintptr_t)arg); }

/* A block under a name of the root: whoever is first fills it, and all use his. */
static void look_at(uint32_t me, uint64_t h)
{
    uint64_t size, seen = 0;
    void *at = NULL;
    ex_assert(shmipc__block_reach(&world_segment[me], &sock[me].blocks, h, TWO, &at, &size) == SHMIPC_OK);
    shmipc__copy_out(&seen, at, 8);
    ex_assert(seen == 9);
}
static void make_named(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    uint64_t h, size, nine = 9;
    void *at = NULL;
    ex_assert(shmipc__block_alloc(&sock[me].blocks, TWO, &h) == SHMIPC_OK);
    ex_assert(shmipc__block_reach(&world_segment[me], &sock[me].blocks, h, TWO, &at, &size) == SHMIPC_OK);
    shmipc__copy_in(at, &nine, 8);
    shmipc__block_publish(&sock[me], &channel_of()->queue, &h);
    look_at(me, h);
}
static void find_named(void *arg)
{
    uint64_t h = shmipc__load_acquire_u64(&channel_of()->queue); /* as shmipc__queue_join does */
    if (h) look_at((uint32_t)(uintptr_t)arg, h);
}

static void sweep0(void *arg)
{
    if (ex_is_dead(0)) sweep_of((uint32_t)(uintptr_t)arg, 0);
}
static void sweep1(void *arg)
{
    if (ex_is_dead(1)) sweep_of((uint32_t)(uintptr_t)arg, 1);
}
static void sweep01(void *arg)
{
    sweep0(arg);
    sweep1(arg);
}

/* ---- the balance ---- */

static uint32_t named(uint64_t h, uint32_t *spares)
{
    uint32_t i, n = 0;
    for (i = 0; i < CHUNKS; i++) n += *nook(i) == h;
    n += channel_of()->queue == h;
    for (i = 0, *spares = 0; i < SHMIPC__SPARES; i++) *spares += channel_of()->spare[i] == h;
    return n + *spares;
}
static void final(void)
{
    uint64_t *words = ((shmipc__extent *)(void *)(region + 1024))->blocks, names = 0;
    uint32_t i, spares, all;
    for (i = 0; i < (uint32_t)ex.m->threads; i++)
        if (ex_is_dead((int)i) && !swept[i]) sweep_of(LAST, i);
    all = channel_of()->queue != 0;
    for (i = 0; i < CHUNKS; i++) all += *nook(i) != 0;
    for (i = 0; i < SHMIPC__SPARES; i++) all += channel_of()->spare[i] != 0;
    for (i = 0; i < 2; i++) {
        uint64_t h = shmipc__block_handle(0, i, words[i]);
        uint32_t n = named(h, &spares), state = shmipc__word_state(words[i]);
        ex_assert(n == (state == SHMIPC__OWNED)); /* none leaked, none named twice, none freed while named */
        if (n) ex_assert(shmipc__word_owner(words[i]) == (spares ? (uint32_t)SHMIPC__OWNER_SPARE : 0));
        names += n;
    }
    ex_assert(names == all); /* nothing names what is not there */
    ex_outcome(names);
}

#define MODELS 12
static ex_model model[MODELS];
static int models;
static void (*model_setup[MODELS])(void);

static void setup_any(void)
{
    int i = 0;
    while (strcmp(model[i].name, ex.m->name) != 0) i++;
    model_setup[i]();
}
static ex_model *begin(const char *name, void (*setup)(void))
{
    ex_model *m = &model[models];
    model_setup[models++] = setup;
    ex_new(m, name, setup_any, final);
    m->max_seconds = 20;
    return m;
}
static int thread(ex_model *m, const char *name, ex_fn fn)
{
    return ex_thread(m, name, fn, (void *)(uintptr_t)m->threads);
}

/* The block's own word orders what is done with it, so what names it need not; but the root, behind which one looks
 * without taking the block over. */
static void expect(ex_model *m)
{
    static const char *const blocks[] = {"place)) return SHMIPC_EAGAIN", "[K4] */", "SHMIPC__SEALED, 0))) break",
                                         "store_release_u64(word, shmipc__block_freed(w))", "shmipc__fence_seq_cst();",
                                         "load_acquire_u64(word); /* [K1]", "&w, mine)) continue; /* [K7]",
                                         "store_release_u64(word, w); /* [K1]"};
    static const char *const spares[] = {"&s->channel->spare[i], &nothing, handle)",
                                         "load_acquire_u64(&s->channel->spare[i]), got",
                                         "&s->channel->spare[i], &h, 0)",
                                         "load_acquire_u64(&s->channel->spare[i]), seen",
                                         "&s->channel->spare[i], &seen, 0)"};
    static const char *const dead[] = {"&d->channel->lanes[i]); /* [C1] */", "&d->channel->queue) == handle",
                                       "&d->channel->cells) == handle", "&d->channel->spare[i]) == handle",
                                       "lane = shmipc__load_acquire_u64(&d->channel->lanes[i])"};
    size_t i;
    for (i = 0; i < sizeof blocks / sizeof *blocks; i++) ex_expect_not_caught(m, blocks[i], "model_block does");
    for (i = 0; i < sizeof spares / sizeof *spares; i++) {
        ex_expect_not_caught(m, spares[i], "the word of the block, by which it changes hands, orders it");
    }
    for (i = 0; i < sizeof dead / sizeof *dead; i++) {
        ex_expect_not_caught(m, dead[i], "what the dead one named is seen by whoever found him dead");
    }
    ex_expect_not_caught(m, "w = shmipc__load_acquire_u64(word), to; /* [K7",
                         "no index is used again here: model_block");
    ex_expect_not_caught(m, "shmipc__cas_acqrel_u64(word, &w, to);",
                         "who gives a block up passes it to himself after his last access");
    ex_expect_not_caught(m, "shmipc__store_release_u64(nook,", "only who owns the chunk reads it, and who sweeps him");
}

int main(int argc, char **argv)
{
    ex_model *m, *all[MODELS];
    int i;
    ex_begin(argc, argv);
    m = begin("nooks: two want a spare", setup_spare);
    thread(m, "user 0", fit_one);
    thread(m, "user 1", fit_one);

    m = begin("nooks: a user is killed", setup_spare);
    ex_killable(m, thread(m, "user 0", fit_and_drop), 1);
    thread(m, "sweeper", sweep0);
    thread(m, "user 2", fit_one);

    m = begin("nooks: one gives up what another takes", setup_named);
    thread(m, "giver", drop_one);
    thread(m, "user", fit_one);

    m = begin("nooks: giver killed", setup_named);
    ex_killable(m, thread(m, "giver", drop_and_fit), 1);
    thread(m, "sweeper", sweep0);
    thread(m, "user", fit_one);

    m = begin("nooks: taker killed", setup_spare);
    thread(m, "user 0", fit_and_drop);
    ex_killable(m, thread(m, "user 1", fit_one), 1);
    thread(m, "sweeper", sweep1);

    m = begin("nooks: a spare is taken, and all are given up", setup_spare);
    thread(m, "user", fit_and_drop);
    thread(m, "short of memory", drop_spares);

    m = begin("nooks: handed over", setup_spare);
    thread(m, "sender", send);
    thread(m, "receiver", receive);

    m = begin("nooks: handed over, killed", setup_spare);
    ex_killable(m, thread(m, "sender", send), 2);
    ex_killable(m, thread(m, "receiver", receive), 2);
    thread(m, "sweeper", sweep01);

    m = begin("nooks: named by the root", setup_free);
    thread(m, "maker 0", make_named);
    thread(m, "maker 1", make_named);
    thread(m, "finder", find_named);

    m = begin("nooks: named by the root, maker killed", setup_free);
    ex_killable(m, thread(m, "maker 0", make_named), 1);
    thread(m, "maker 1", make_named);
    thread(m, "sweeper", sweep0);

    expect(&model[0]);
    for (i = 0; i < models; i++) all[i] = &model[i];
    ex_weaken_these(all, models);
    return ex_end();
}
