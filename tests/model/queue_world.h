/* queue_world.h - what the models of the MPMC queue share: a small queue, one handle per thread, books of what was
 * pushed and received, and the final check: every acknowledged message once, every chunk accounted for. */
#ifndef QUEUE_WORLD_H
#define QUEUE_WORLD_H

#include "explore.h"
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#define SHMIPC_RINGS_ONLY
#define SHMIPC_ATOMICS_HEADER "explore_atomics.h"
#include "../../shmipc.h"

#define ITEMS 16
#define GHOST 9u   /* an owner that is dead from the beginning    */
#define LAST 10u   /* the owner of the final check, always alive  */

static SHMIPC__ALIGNED(64) uint64_t memory[256];
static shmipc_queue handle[EX_THREADS];
static uint32_t slots, chunks, policy, before, first_hint; /* before: messages pushed before the threads start */
static int ghost_holds, ghost_fills;           /* what the dead owner left: see world_open          */
/* first_hint 3: an earlier redelivery left the hint up, as it does until somebody finds nothing. */
static uint8_t acknowledged[ITEMS], received[EX_THREADS + 1][ITEMS], reported[EX_THREADS + 1][ITEMS];
static uint8_t empties[EX_THREADS], fulls[EX_THREADS];

static int world_alive(void *arg, uint32_t owner)
{
    (void)arg;
    if (owner == GHOST) return 0;
    return owner >= EX_THREADS || !ex_is_dead((int)owner);
}

static void world_attach(shmipc_queue *q, uint32_t owner)
{
    ex_assert(shmipc_queue_attach(q, memory, sizeof memory, owner, world_alive, NULL) == SHMIPC_OK);
    q->cursor = 0;
}

static void put(shmipc_queue *q, uint32_t who, uint32_t id)
{
    int rc = shmipc_queue_push(q, &id, sizeof id, id + 100u);
    ex_assert(rc == SHMIPC_OK || rc == SHMIPC_EFULL || rc == SHMIPC_EBUSY);
    if (rc == SHMIPC_OK) acknowledged[id] = 1;
    else fulls[who]++;
}

static void book(uint8_t *row, const shmipc_queue_msg *m)
{
    uint32_t id = ITEMS;
    ex_assert(m->len_bytes == sizeof id);
    shmipc__copy_out(&id, m->data, sizeof id);
    ex_assert(id < ITEMS && m->tag == id + 100u);
    row[id]++;
}

/* Takes, reads, and releases; the books are made together with the release, so a kill falls before or after both. */
static int get(shmipc_queue *q, uint32_t who)
{
    shmipc_queue_msg m;
    uint8_t row[ITEMS];
    int i, rc = shmipc_queue_take(q, &m);
    ex_assert(rc == SHMIPC_OK || rc == SHMIPC_EAGAIN);
    if (rc != SHMIPC_OK) {
        if (who < EX_THREADS) empties[who]++;
        return 0;
    }
    memset(row, 0, sizeof row);
    book(row, &m);
    ex_assert(shmipc_queue_release(q, &m) == SHMIPC_OK);
    for (i = 0; i < ITEMS; i++) received[who][i] = (uint8_t)(received[who][i] + row[i]);
    return 1;
}

static void report(void *arg, const shmipc_queue_msg *m) { book((uint8_t *)arg, m); }

/* A queue with `before` messages, of which the ghost took the first (ghost_holds 1: its slot still names it, 2:
 * emptied) or which a ghost pushed (ghost_fills: and it was filling one more, unpublished). */
static void world_open(void)
{
    shmipc_queue_config c;
    shmipc_queue q;
    shmipc_queue_msg m;
    uint32_t i;
    uint64_t *slot = NULL, was = 0;
    memset(memory, 0, sizeof memory);
    memset(acknowledged, 0, sizeof acknowledged);
    memset(received, 0, sizeof received);
    memset(reported, 0, sizeof reported);
    memset(empties, 0, sizeof empties);
    memset(fulls, 0, sizeof fulls);
    c.slots = slots;
    c.chunks = chunks;
    c.max_message = 8;
    c.policy = policy;
    ex_assert(shmipc_queue_init(memory, sizeof memory, &c) == SHMIPC_OK);
    for (i = 0; i < EX_THREADS; i++) world_attach(&handle[i], i);
    world_attach(&q, GHOST);
    for (i = 0; i < before; i++) put(&q, 0, i);
    if (!ghost_fills) shmipc_queue_detach(&q);
    if (ghost_holds) {
        slot = q.slot;
        was = *slot;
        ex_assert(shmipc_queue_take(&q, &m) == SHMIPC_OK);
        if (ghost_holds == 1) {
            *slot = was;
            ((shmipc__queue_shared *)(void *)memory)->head = 0;
        }
    }
    ((shmipc__queue_shared *)(void *)memory)->hint = first_hint;
    ex_name(memory, 24, "header");
    ex_name((char *)memory + 32, 8, "hint");
    ex_name((char *)memory + 128, 8, "tail");
    ex_name((char *)memory + 256, 8, "head");
    ex_name((char *)memory + 384, slots * 8, "slot");
    for (i = 0; i < chunks; i++) {
        static const char *const name[] = {"chunk0", "chunk1", "chunk2", "chunk3", "chunk4", "chunk5", "chunk6",
                                           "chunk7"};
        ex_name(shmipc__queue_chunk(&handle[0], i), 64, name[i]);
    }
}

/* A chunk that is not free after the sweeps is the spare of somebody who lives, or with somebody who was stopped. */
static void world_chunk(uint32_t c, uint8_t *with_stopped)
{
    uint64_t w = *shmipc__queue_chunk(&handle[0], c), state = w & SHMIPC__QUEUE_STATE;
    uint32_t owner = (uint32_t)(w & SHMIPC__QUEUE_NOBODY), id;
    if (state == 0) return;
    ex_assert(state != SHMIPC__QUEUE_RETURNED && owner < (uint32_t)ex.m->threads && ex.proc[owner].state != EX_DEAD);
    if (state == SHMIPC__QUEUE_HELD) {
        ex_assert(ex.proc[owner].state == EX_STOPPED);
        memcpy(&id, shmipc__queue_chunk(&handle[0], c) + 2, sizeof id);
        with_stopped[id]++;
    } else {
        ex_assert(ex.proc[owner].state == EX_STOPPED || handle[owner].spare == c + 1u);
    }
}

/* Everybody has ended, died or stopped: sweep the dead, drain, and balance the books. */
static void world_close(void)
{
    shmipc_queue q;
    uint32_t t, i;
    uint8_t with_stopped[ITEMS];
    world_attach(&q, LAST);
    for (t = 0; t < (uint32_t)ex.m->threads; t++)
        if (ex.proc[t].state == EX_DEAD) ex_assert(shmipc_queue_sweep(&q, t, report, reported[EX_THREADS]) >= 0);
    ex_assert(shmipc_queue_sweep(&q, GHOST, report, reported[EX_THREADS]) >= 0);
    while (get(&q, EX_THREADS)) continue;
    memset(with_stopped, 0, sizeof with_stopped);
    for (i = 0; i < chunks; i++) world_chunk(i, with_stopped); /* nothing leaked */
    for (i = 0; i < ITEMS; i++) {
        uint32_t seen = with_stopped[i], told = 0;
        for (t = 0; t <= EX_THREADS; t++) seen += received[t][i], told += reported[t][i];
        ex_assert(seen + (told ? 1u : 0u) <= 1);                     /* nothing twice; reports may repeat */
        ex_assert(!acknowledged[i] || seen + (told ? 1u : 0u) == 1); /* nothing lost                      */
    }
}

/* ---- threads; each has one to three tasks ---- */

#define THREAD(name, ...)                           \
    static void name(void *arg) __attribute__((unused)); \
    static void name(void *arg)                     \
    {                                               \
        uint32_t me = (uint32_t)(uintptr_t)arg;     \
        shmipc_queue *q = &handle[me];              \
        __VA_ARGS__                                 \
    }

/* After a sweep nothing names the dead: its index may be used again. */
static int sweep(shmipc_queue *q, uint32_t me, uint32_t dead)
{
    uint32_t i;
    int rc = shmipc_queue_sweep(q, dead, report, reported[me]);
    ex_assert(rc >= 0 || rc == SHMIPC_EBUSY);
    for (i = 0; rc >= 0 && i < chunks; i++) {
        uint64_t w = *shmipc__queue_chunk(q, i);
        ex_assert(!(w & SHMIPC__QUEUE_FILLING) || (w & SHMIPC__QUEUE_NOBODY) != dead);
    }
    return rc;
}

THREAD(push1, put(q, me, 4 + me);)
THREAD(push2, put(q, me, 9 + 2 * me); put(q, me, 10 + 2 * me);)
THREAD(take1, get(q, me);)
THREAD(take2, get(q, me); get(q, me);)
THREAD(push_take, put(q, me, 4 + me); get(q, me);)
THREAD(loan_commit, {
    shmipc_queue_msg m;
    uint32_t id = 4 + me;
    if (shmipc_queue_loan(q, sizeof id, &m) == SHMIPC_OK) {
        shmipc__copy_in(m.data, &id, sizeof id);
        m.tag = id + 100u;
        if (shmipc_queue_commit(q, &m) == SHMIPC_OK) acknowledged[id] = 1;
        else shmipc_queue_discard(q, &m);
    }
})
THREAD(sweep0, sweep(q, me, 0);)
THREAD(sweep_ghost, sweep(q, me, GHOST);)
THREAD(sweep_ghost_take, sweep(q, me, GHOST); get(q, me);)

static void world(ex_model *m, const char *name, uint32_t slots_, uint32_t chunks_, uint32_t before_)
{
    slots = slots_;
    chunks = chunks_;
    before = before_;
    policy = SHMIPC_QUEUE_REDELIVER;
    ghost_holds = ghost_fills = 0;
    first_hint = 0;
    ex_new(m, name, world_open, world_close);
}
static void run_thread(ex_model *m, const char *name, ex_fn fn)
{
    ex_thread(m, name, fn, (void *)(uintptr_t)m->threads);
}

/* The ordered accesses of the header, by a piece of their line. */
#define NAMED "acquire_u64(*slot = q->slot + i)"
#define FREE_ "queue_freed(shmipc__load"
#define CLAIM "FILLING | q->owner)"
#define PUBLISH "*s | (c + 1u)"
#define SLOT "s = shmipc__load_acquire_u64(slot), w"
#define WORD "w = shmipc__load_acquire_u64(shmipc__queue_chunk"
#define PLACE "*s = shmipc__load_acquire_u64(slot)"
#define TAIL "->tail); /* Q4 */"
#define HEAD "->head); /* Q4 */"
#define ADVANCE "store_release_u64(position"
#define TAKE_BACK "w, next)); /* Q3 */"
#define RETURNED "&w, next)) return 0; /* Q3 */"
#define NOBODYS "m->chunk), w); /* Q3 */"
#define SWEPT "&w, next); /* Q2 */"
#define RAISE "(now | 1u) + 2u"
#define HINT "->hint); /* Q5 */"
#define CLEAR "*hint - 1u"

/* Not caught by this model, but by another one of the program; a few only by the other program. */
static void unneeded(ex_model *m, const char *const *text)
{
    for (; *text; text++) {
        if (OTHER_PROGRAM && strcmp(*text, OTHER_PROGRAM) == 0) {
            ex_expect_not_caught(m, *text, "the other program of the queue catches it");
        }
        else ex_expect_elsewhere(m, *text);
    }
}

/* A planted error has to show without weakening. */
static void run_orders(ex_model *m)
{
    if (getenv("MUTANT")) ex_run(m);
    else ex_weaken_all(m);
}

#endif
