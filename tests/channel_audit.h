/* channel_audit.h - is everything in a channel accounted for? For tests, which include the implementation before.
 *
 *     const char *wrong = channel_audit(socket, AUDIT_QUIET);   NULL, or what is wrong
 *
 * Nobody may be in the middle of a call. Then every block of the region is either free, or owned by nobody and named
 * exactly once, by the root or by the nook of a chunk or cell, or owned as a spare and named so; every chunk of the
 * queue is free, published by one slot, returned under a raised hint, or in the hands of somebody living; every lane's
 * writer, reader's record and pin belong to somebody living; and so does every reply cell.
 *
 *     AUDIT_QUIET    nobody holds anything: no chunk filled or held, no pin, no lane with a writer, no request
 *     AUDIT_BUSY     somebody living may be in the middle of a call (or stopped in it): he may own blocks and extents
 */
#ifndef CHANNEL_AUDIT_H
#define CHANNEL_AUDIT_H

#include <stdarg.h>

enum { AUDIT_QUIET = 1, AUDIT_BUSY = 2, AUDIT__NAMES = 65536 };

typedef struct audit {
    shmipc_socket *socket;
    shmipc__dead found; /* the rings and cells */
    int flags;
    uint32_t names, spares; /* the first of the names are those of spares */
    uint64_t name[AUDIT__NAMES];
    char wrong[160];
} audit;

static __attribute__((unused, format(printf, 2, 3))) int audit__wrong(audit *a, const char *what, ...)
{
    va_list args;
    if (a->wrong[0]) return 0;
    va_start(args, what);
    vsnprintf(a->wrong, sizeof a->wrong, what, args);
    va_end(args);
    return 0;
}

static int audit__lives(audit *a, uint32_t index) { return shmipc_segment_alive(a->socket->segment, index) == 1; }

static void audit__name(audit *a, uint64_t handle, const char *by, uint32_t which)
{
    shmipc__extent_view v;
    uint32_t block, i;
    uint64_t w;
    if (!handle) return;
    if (shmipc__block_find(&a->found.blocks, handle, &v, &block, &w)) {
        audit__wrong(a, "%s %u names a block that is not there", by, which);
    }
    for (i = 0; i < a->names; i++) {
        if (a->name[i] == handle) audit__wrong(a, "%s %u names a block that is named twice", by, which);
    }
    if (a->names < AUDIT__NAMES) a->name[a->names++] = handle;
}

static int audit__named(const audit *a, uint64_t handle, uint32_t first, uint32_t end)
{
    uint32_t i;
    for (i = first; i < end; i++) {
        if (a->name[i] == handle) return 1;
    }
    return 0;
}

/* How many slots name the chunk. */
static uint32_t audit__slots(audit *a, uint32_t chunk)
{
    const shmipc_queue *q = &a->found.queue;
    uint32_t i, n = 0;
    for (i = 0; i < q->config.slots; i++) {
        n += (shmipc__load_acquire_u64(q->slot + i) & SHMIPC__QUEUE_CHUNK) == chunk + 1;
    }
    return n;
}

static void audit__queue(audit *a)
{
    const shmipc_queue *q = &a->found.queue;
    uint32_t c;
    for (c = 0; a->found.has_queue && c < q->config.chunks; c++) {
        uint64_t w = shmipc__load_acquire_u64(shmipc__queue_chunk(q, c)), state = w & SHMIPC__QUEUE_STATE;
        uint32_t owner = (uint32_t)(w & SHMIPC__QUEUE_NOBODY), named = audit__slots(a, c);
        audit__name(a, shmipc__load_relaxed_u64(shmipc__queue_nook(q, c)), "the nook of chunk", c);
        if (named > 1) audit__wrong(a, "chunk %u is in the queue %u times", c, named);
        if (state == SHMIPC__QUEUE_RETURNED && !(shmipc__queue_hint(q) & 1)) {
            audit__wrong(a, "chunk %u returned, and no hint", c);
        }
        if (state == SHMIPC__QUEUE_FILLING && !named && !audit__lives(a, owner)) {
            audit__wrong(a, "chunk %u is being filled by %u, who is not there", c, owner);
        }
        if (state == SHMIPC__QUEUE_HELD && !audit__lives(a, owner)) {
            audit__wrong(a, "chunk %u is held by %u, who is not there", c, owner);
        }
        if (state && (a->flags & AUDIT_QUIET)) {
            audit__wrong(a, "chunk %u of the queue is %s by %u", c,
                         state == SHMIPC__QUEUE_FILLING ? "filled" :
                         state == SHMIPC__QUEUE_HELD ? "held" : "returned", owner);
        }
    }
}

static void audit__record(audit *a, const shmipc_lane_map *g, uint32_t lane, uint32_t r)
{
    uint64_t *rec = shmipc__lane_record(g, r), was = shmipc__load_acquire_u64(rec), h;
    uint32_t i;
    if ((was & SHMIPC__REC_STATE) && !audit__lives(a, (uint32_t)(was & SHMIPC__REC_OWNER))) {
        audit__wrong(a, "lane %u: record %u is of %u, who is not there", lane, r, (unsigned)(was & SHMIPC__REC_OWNER));
    }
    for (i = 0; i <= g->budget; i++) {
        h = shmipc__load_acquire_u64(SHMIPC__RECORD_HAZARD(rec, i));
        if (!(h & SHMIPC__HZ_CHUNK)) continue;
        if (!(was & SHMIPC__REC_STATE)) audit__wrong(a, "lane %u: pin %u of free record %u", lane, i, r);
        if (a->flags & AUDIT_QUIET) audit__wrong(a, "lane %u: pin %u of record %u", lane, i, r);
    }
}

static void audit__lane(audit *a, uint32_t lane, const shmipc_lane_map *g)
{
    uint32_t i, j, who = (uint32_t)(shmipc__load_acquire_u64(&shmipc__lane_mem_of(g)->wr) & SHMIPC__REC_OWNER);
    if (who && !audit__lives(a, who - 1)) audit__wrong(a, "lane %u: its writer %u is not there", lane, who - 1);
    if (who && (a->flags & AUDIT_QUIET)) audit__wrong(a, "lane %u still has the writer %u", lane, who - 1);
    for (i = 0; i < g->n_chunks; i++) {
        audit__name(a, shmipc__load_relaxed_u64(shmipc__lane_nook(g, i)), "the nook of lane chunk", i);
    }
    for (i = 0; i < g->n_records; i++) audit__record(a, g, lane, i);
    for (i = 0; i < g->depth; i++) {
        uint64_t w = shmipc__load_acquire_u64(shmipc__lane_slot(g, i)), other;
        if (shmipc__lane_state(w) != SHMIPC__LANE_CHUNK) continue;
        for (j = 0; j < i; j++) {
            other = shmipc__load_acquire_u64(shmipc__lane_slot(g, j));
            if (shmipc__lane_state(other) == SHMIPC__LANE_CHUNK && (other & 0xffff) == (w & 0xffff)) {
                audit__wrong(a, "lane %u: slots %u and %u have one chunk", lane, j, i);
            }
        }
    }
}

static void audit__lanes(audit *a)
{
    shmipc_lane_env env;
    shmipc_lane_map g;
    uint32_t i;
    int rc;
    for (i = 0; a->found.depth && i < SHMIPC__LANES &&
                (rc = shmipc__dead_lane(&a->found, i, &env)) != SHMIPC_EAGAIN; i++) {
        audit__name(a, shmipc__load_acquire_u64(&a->found.channel->lanes[i]), "lane", i);
        if (!rc) rc = shmipc__lane_open(&env, &g);
        if (rc) audit__wrong(a, "lane %u cannot be opened: %s", i, shmipc_strerror(rc));
        else audit__lane(a, i, &g);
    }
}

static void audit__cells(audit *a)
{
    uint32_t i;
    for (i = 0; i < a->found.cell_count; i++) {
        uint64_t w = shmipc__load_acquire_u64(&a->found.cells[i].word);
        uint32_t state = shmipc__cell_state(w);
        audit__name(a, shmipc__load_relaxed_u64(&a->found.cells[i].nook[0]), "the nook of cell", i);
        if (state == SHMIPC__CELL_FREE) continue;
        if (state > SHMIPC__CELL_FAILED) audit__wrong(a, "cell %u is in no state", i);
        if (a->flags & AUDIT_QUIET) audit__wrong(a, "cell %u is in state %u", i, state);
        if (state == SHMIPC__CELL_WRITING ? !audit__lives(a, shmipc__cell_replier(w))
                                          : !audit__lives(a, shmipc__cell_requester(w))) {
            audit__wrong(a, "cell %u is in state %u of somebody who is not there", i, state);
        }
    }
}

static void audit__block(audit *a, const shmipc__extent_view *v, uint32_t j)
{
    uint64_t w = shmipc__load_acquire_u64(shmipc__blocks_word(&a->found.blocks, v->index, j));
    uint64_t handle = shmipc__block_handle(v->index, j, w);
    uint32_t owner = shmipc__word_owner(w);
    if (shmipc__word_state(w) != SHMIPC__OWNED) return;
    if (!owner || owner == SHMIPC__OWNER_SPARE) {
        uint32_t first = owner ? 0 : a->spares, end = owner ? a->spares : a->names;
        if (!audit__named(a, handle, first, end)) {
            audit__wrong(a, "block %u of extent %u is owned and not named", j, v->index);
        }
        return;
    }
    if (!audit__lives(a, owner - 1)) {
        audit__wrong(a, "block %u of extent %u is owned by %u, who is not there", j, v->index, owner - 1);
    }
    if (!(a->flags & AUDIT_BUSY)) audit__wrong(a, "block %u of extent %u is owned by %u", j, v->index, owner - 1);
}

static void audit__blocks(audit *a)
{
    shmipc__extent_view v;
    uint32_t i, j;
    int rc;
    for (i = 0; (rc = shmipc__extent_read(&a->found.blocks, i, &v)) != SHMIPC_EAGAIN; i++) {
        if (rc) {
            audit__wrong(a, "extent %u: %s", i, shmipc_strerror(rc));
            continue;
        }
        if (v.state == SHMIPC__CLOSED) continue;
        if (v.state != SHMIPC__OPEN && (!(a->flags & AUDIT_BUSY) || !audit__lives(a, v.owner - 1))) {
            audit__wrong(a, "extent %u is being opened or closed by %u", i, v.owner - 1);
        }
        for (j = 0; v.state == SHMIPC__OPEN && j < v.count; j++) audit__block(a, &v, j);
    }
}

static __attribute__((unused)) const char *channel_audit(shmipc_socket *s, int flags)
{
    static audit a;
    uint32_t i;
    int rc;
    memset(&a, 0, offsetof(audit, name));
    a.wrong[0] = 0;
    a.socket = s;
    a.flags = flags;
    a.found.segment = s->segment;
    a.found.index = 0xffffffffu;
    rc = shmipc__dead_open(&a.found);
    if (rc) return shmipc_strerror(rc);
    for (i = 0; i < SHMIPC__SPARES; i++) {
        audit__name(&a, shmipc__load_acquire_u64(&a.found.channel->spare[i]), "spare", i);
    }
    a.spares = a.names;
    audit__name(&a, shmipc__load_acquire_u64(&a.found.channel->queue), "the root's queue", 0);
    audit__name(&a, shmipc__load_acquire_u64(&a.found.channel->cells), "the root's cells", 0);
    audit__lanes(&a);
    audit__queue(&a);
    audit__cells(&a);
    audit__blocks(&a);
    return a.wrong[0] ? a.wrong : NULL;
}

#endif /* CHANNEL_AUDIT_H */
