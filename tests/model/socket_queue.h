/* socket_queue.h - the queue of shmipc.h as one step an operation, for models of what is built on it: model_queue and
 * model_queue_dead check that it is what this says. A message has a box of its own, used once; its word is 1 queued,
 * 2 + owner taken, 0 before and after. Each requester has BOXES boxes. Only queueing and taking order anything. */
#define BOXES 2
#define BOX_BYTES 24
static uint64_t box[EX_THREADS * BOXES], room[EX_THREADS * BOXES][2 + BOX_BYTES / 8];
static uint32_t box_next[EX_THREADS], box_owners; /* how many the model has */

static int box_loan(const shmipc_queue *q, shmipc_queue_msg *m)
{
    if (box_next[q->owner] == BOXES) ex_die("a box more for each requester");
    memset(m, 0, sizeof *m);
    m->chunk = q->owner * BOXES + box_next[q->owner];
    m->data = room[m->chunk] + 2;
    return SHMIPC_OK;
}
static int box_commit(const shmipc_queue *q, const shmipc_queue_msg *m)
{
    box_next[q->owner]++;
    shmipc__store_release_u64(&box[m->chunk], 1);
    return SHMIPC_OK;
}
static int box_take(const shmipc_queue *q, shmipc_queue_msg *m)
{
    uint32_t i;
    for (i = 0; i < box_owners * BOXES; i++) {
        uint64_t w = shmipc__load_relaxed_u64(&box[i]);
        if (w != 1 || !shmipc__cas_acqrel_u64(&box[i], &w, 2 + q->owner)) continue;
        memset(m, 0, sizeof *m);
        m->data = room[i] + 2;
        m->len_bytes = BOX_BYTES;
        m->chunk = i;
        return SHMIPC_OK;
    }
    return SHMIPC_EAGAIN;
}
static int box_release(const shmipc_queue_msg *m)
{
    shmipc__store_relaxed_u64(&box[m->chunk], 0);
    return SHMIPC_OK;
}
/* Takes over what the dead one holds, reports it, and gives it up: who dies in between is swept in his turn. */
static int box_sweep(const shmipc_queue *q, uint32_t dead, void (*report)(void *, const shmipc_queue_msg *), void *arg)
{
    uint32_t i;
    for (i = 0; i < box_owners * BOXES; i++) {
        uint64_t w = shmipc__load_acquire_u64(&box[i]);
        shmipc_queue_msg m;
        if (w != 2 + (uint64_t)dead || !world_holds(dead, 1)) continue;
        if (!shmipc__cas_relaxed_u64(&box[i], &w, 2 + q->owner)) continue;
        memset(&m, 0, sizeof m);
        m.data = room[i] + 2;
        m.len_bytes = BOX_BYTES;
        report(arg, &m);
        shmipc__store_relaxed_u64(&box[i], 0);
    }
    return SHMIPC_OK;
}

#define shmipc__queue_chunk(q, c) ((void)(q), room[c])
#define shmipc_queue_loan(q, max, m) ((void)(max), box_loan((q), (m)))
#define shmipc_queue_commit(q, m) box_commit((q), (m))
#define shmipc_queue_take(q, m) box_take((q), (m))
#define shmipc_queue_release(q, m) ((void)(q), box_release(m))
#define shmipc_queue_sweep(q, dead, report, arg) box_sweep((q), (dead), (report), (arg))
