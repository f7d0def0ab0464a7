/* crash_queue_books.c - the MPMC queue, with books kept of every message: a producer, a consumer or a sweeper dies, or
 * stops, after any instruction (K1, S39, S44, invariants 1 and 2).
 *
 * A second view beside crash_queue.c, from other starting states: dead owners of every kind, chunks that are used again
 * while the victim stands still. Every message says who sent it and as which. At the end all dead owners are swept and
 * the queue is drained; then each message must have come as often as what the victim was told allows, and every chunk
 * must be free again.
 */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../../shmipc.h"

#include "crashstep.h"

enum { SLOTS = 4, CHUNKS = 14, MOST = 100, SEQS = 64 };
enum { BEFORE, DEAD, VICTIM, AFTER, SENDERS };       /* who sent it; DEAD: an owner that died before the sweep begins */
enum { SURVIVOR_ID = 1, VICTIM_ID = 2, DEAD_ID = 3 }; /* owner indices */
/* Notes of the victim: pushes begun and acknowledged, messages taken, releases begun and done, receives begun, what a
 * sweep reported; then the tags of what it took. */
enum { BEGUN, ACKED, TAKEN, RELEASING, RELEASED, RECEIVING, REPORTS, TAGS };

typedef struct {
    uint32_t len, tag;
    unsigned char text[MOST];
} message;

static unsigned char *memory;
static uint64_t size;
static shmipc_queue survivor, victim, dead;
static crash_run *now;      /* for the liveness callback */
static uint32_t reused;     /* the chunk that the victim's push is to find first */
static int over;            /* the victim has come to its end and will do nothing more */
static int sent[SENDERS], consumed; /* by setup() and the survivor; consumed: of BEFORE, in setup() */
static int times[SENDERS][SEQS], last[SENDERS], again[SENDERS][SEQS];
static message *received;   /* shared: what the victim took */
static message outgoing[3]; /* the victim's, made beforehand */

/* ---- messages ---------------------------------------------------------------------------------------------------- */

static void make(message *m, uint32_t tag)
{
    static const uint32_t lens[5] = { 24, 0, 48, 100, 7 };
    uint32_t i;
    m->len = lens[(tag >> 24) * 2 % 5 + (tag & 1)];
    m->tag = tag;
    for (i = 0; i < m->len; i++) m->text[i] = (unsigned char)((tag >> 24) * 31 + (tag & 0xff) * 7 + i + 1);
}

static uint32_t tag_of(int who, int seq) { return (uint32_t)who << 24 | (uint32_t)seq; }

static int push(shmipc_queue *q, int who)
{
    message m;
    int rc;
    make(&m, tag_of(who, sent[who]));
    rc = shmipc_queue_push(q, m.text, m.len, m.tag);
    if (rc == SHMIPC_OK) sent[who]++;
    return rc;
}

/* The survivor got a message, or a sweep reported it. */
static void account(crash_run *r, const shmipc_queue_msg *m, int in_order)
{
    int who = (int)(m->tag >> 24), seq = (int)(m->tag & 0xffffff);
    message want;
    CRASH_EXPECT(r, torn, who < SENDERS && seq < SEQS);
    if (who >= SENDERS || seq >= SEQS) return;
    make(&want, m->tag);
    CRASH_EXPECT(r, torn, m->len_bytes == want.len && !memcmp(m->data, want.text, want.len));
    times[who][seq]++;
    again[who][seq] = (int)m->redelivered;
    if (!in_order || m->redelivered) return; /* redelivery gives up the order */
    CRASH_EXPECT(r, other, seq > last[who]);
    last[who] = seq;
}

static void on_report(void *arg, const shmipc_queue_msg *m) { account((crash_run *)arg, m, 0); }

static int consume(crash_run *r)
{
    shmipc_queue_msg m;
    int rc = shmipc_queue_take(&survivor, &m);
    if (rc) return rc;
    account(r, &m, 1);
    CRASH_EXPECT(r, other, shmipc_queue_release(&survivor, &m) == SHMIPC_OK);
    return SHMIPC_OK;
}

static void drain(crash_run *r)
{
    int rc, guard = 100;
    while ((rc = consume(r)) == SHMIPC_OK && guard--) continue;
    CRASH_EXPECT(r, other, rc == SHMIPC_EAGAIN);
}

/* ---- states ------------------------------------------------------------------------------------------------------ */

static int has(const crash_run *r, const char *part) { return strstr(crash_state(r), part) != NULL; }

static int alive(void *arg, uint32_t owner)
{
    (void)arg;
    if (owner == VICTIM_ID) return !over && !crash_dead(now);
    return owner != DEAD_ID;
}

static void fill(int n)
{
    while (n-- && push(&survivor, BEFORE) == SHMIPC_OK) continue;
}

static void use_up(int n)
{
    shmipc_queue_msg m;
    while (n-- && shmipc_queue_take(&survivor, &m) == SHMIPC_OK) {
        shmipc_queue_release(&survivor, &m);
        consumed++;
    }
}

/* An owner that died before: it held a message (its slot emptied or not), it filled a chunk, it had published one. */
static void leave_dead(crash_run *r)
{
    shmipc_queue_msg m;
    uint64_t s, *word;
    if (has(r, "holds")) shmipc_queue_take(&dead, &m);
    if (has(r, "named")) {
        s = *shmipc__queue_slot(&dead, shmipc__queue_of(&dead)->head);
        word = shmipc__queue_chunk(&dead, (uint32_t)(s & SHMIPC__QUEUE_CHUNK) - 1u);
        reused = (uint32_t)(s & SHMIPC__QUEUE_CHUNK) - 1u;
        *word = (*word | SHMIPC__QUEUE_HELD | SHMIPC__QUEUE_NOBODY) - SHMIPC__QUEUE_NOBODY + DEAD_ID;
    }
    if (has(r, "fills")) shmipc_queue_loan(&dead, MOST, &m);
    if (has(r, "published")) push(&dead, DEAD);
}

static void open_all(crash_run *r)
{
    shmipc_queue_config c;
    memset(&c, 0, sizeof c);
    c.slots = SLOTS;
    c.chunks = CHUNKS;
    c.max_message = MOST;
    c.policy = has(r, "report") ? SHMIPC_QUEUE_REPORT : SHMIPC_QUEUE_REDELIVER;
    memset(memory, 0xee, 16384);
    if (shmipc_queue_size(&c, &size) || size > 16384 || shmipc_queue_init(memory, size, &c)) abort();
    if (shmipc_queue_attach(&survivor, memory, size, SURVIVOR_ID, alive, NULL)) abort();
    if (shmipc_queue_attach(&dead, memory, size, DEAD_ID, alive, NULL)) abort();
    crash_watch(r, memory, (size_t)size);
}

static void setup(crash_run *r)
{
    int i;
    now = r;
    over = consumed = 0;
    memset(sent, 0, sizeof sent);
    memset(times, 0, sizeof times);
    memset(again, 0, sizeof again);
    for (i = 0; i < SENDERS; i++) last[i] = -1;
    for (i = 0; i < 3; i++) make(&outgoing[i], tag_of(VICTIM, i));
    open_all(r);
    if (has(r, "wrap")) fill(3), use_up(3);
    if (has(r, "half")) fill(2);
    if (has(r, "full")) fill(SLOTS);
    leave_dead(r);
    if (has(r, "returned") || has(r, "reused")) shmipc_queue_sweep(&survivor, DEAD_ID, on_report, r);
    if (has(r, "reused")) use_up(1); /* what came back: its chunk is free again, and no slot may name it */
}

static void enter(crash_run *r)
{
    if (shmipc_queue_attach(&victim, memory, size, VICTIM_ID, alive, NULL)) _exit(3);
    if (has(r, "reused")) victim.cursor = reused;
}

/* ---- what the victim does ---------------------------------------------------------------------------------------- */

static void push_two(crash_run *r)
{
    int i;
    for (i = 0; i < 2; i++) {
        crash_note(r, BEGUN, (uint64_t)i + 1);
        if (shmipc_queue_push(&victim, outgoing[i].text, outgoing[i].len, outgoing[i].tag)) return;
        crash_note(r, ACKED, (uint64_t)i + 1);
    }
}

static void push_batch(crash_run *r)
{
    shmipc_queue_item items[3];
    int i, n;
    for (i = 0; i < 3; i++) {
        items[i].data = outgoing[i].text;
        items[i].len_bytes = outgoing[i].len;
        items[i].tag = outgoing[i].tag;
    }
    crash_note(r, BEGUN, 3);
    n = shmipc_queue_push_many(&victim, items, 3);
    if (n > 0) crash_note(r, ACKED, (uint64_t)n);
}

static void loan_commit(crash_run *r)
{
    shmipc_queue_msg m;
    if (shmipc_queue_loan(&victim, MOST, &m)) return;
    memcpy(m.data, outgoing[0].text, outgoing[0].len);
    m.len_bytes = outgoing[0].len;
    m.tag = outgoing[0].tag;
    crash_note(r, BEGUN, 1);
    if (shmipc_queue_commit(&victim, &m) == SHMIPC_OK) crash_note(r, ACKED, 1);
}

static void loan_discard(crash_run *r)
{
    shmipc_queue_msg m, n;
    (void)r;
    if (shmipc_queue_loan(&victim, MOST, &m)) return;
    if (shmipc_queue_loan(&victim, MOST, &n) == SHMIPC_OK) shmipc_queue_discard(&victim, &n);
    shmipc_queue_discard(&victim, &m);
    shmipc_queue_detach(&victim);
}

/* Remembers and reads a message that the victim took; the text is read late, so that it must still be unchanged. */
static void keep(crash_run *r, const shmipc_queue_msg *m, int i)
{
    received[i].len = m->len_bytes;
    received[i].tag = m->tag;
    crash_note(r, TAGS + i, m->tag);
    crash_note(r, TAKEN, (uint64_t)i + 1);
    memcpy(received[i].text, m->data, m->len_bytes <= MOST ? m->len_bytes : MOST);
}

static void take_release(crash_run *r)
{
    shmipc_queue_msg m;
    int i;
    for (i = 0; i < 2; i++) {
        if (shmipc_queue_take(&victim, &m)) return;
        keep(r, &m, i);
        crash_note(r, RELEASING, (uint64_t)i + 1);
        if (shmipc_queue_release(&victim, &m)) return;
        crash_note(r, RELEASED, (uint64_t)i + 1);
    }
}

static void take_batch(crash_run *r)
{
    shmipc_queue_msg m[2];
    int i, n = shmipc_queue_take_many(&victim, m, 2);
    for (i = 0; i < n; i++) keep(r, &m[i], i);
    for (i = 0; i < n; i++) {
        crash_note(r, RELEASING, (uint64_t)i + 1);
        if (shmipc_queue_release(&victim, &m[i])) return;
        crash_note(r, RELEASED, (uint64_t)i + 1);
    }
}

static void take_reject(crash_run *r)
{
    shmipc_queue_msg m;
    if (shmipc_queue_take(&victim, &m) == SHMIPC_OK) shmipc_queue_reject(&victim, &m);
    (void)r;
}

static void recv_two(crash_run *r)
{
    int i, n;
    for (i = 0; i < 2; i++) {
        crash_note(r, RECEIVING, (uint64_t)i + 1);
        n = shmipc_queue_recv(&victim, received[i].text, MOST, &received[i].tag);
        if (n < 0) {
            crash_note(r, RECEIVING, (uint64_t)i);
            return;
        }
        received[i].len = (uint32_t)n;
        crash_note(r, TAGS + i, received[i].tag);
        crash_note(r, RELEASED, (uint64_t)i + 1);
    }
}

/* The victim's sweep reports: the message counts as delivered once it was told. */
static void report_noted(void *arg, const shmipc_queue_msg *m)
{
    crash_run *r = (crash_run *)arg;
    crash_note(r, TAGS, m->tag);
    crash_note(r, REPORTS, 1);
}
static void sweep_dead(crash_run *r) { shmipc_queue_sweep(&victim, DEAD_ID, report_noted, r); }

/* ---- the survivor ------------------------------------------------------------------------------------------------ */

/* Was this message, sent by another, given to the victim for good? */
static int victim_has(crash_run *r, uint32_t tag, uint64_t how_many)
{
    uint64_t i;
    for (i = 0; i < how_many; i++)
        if (crash_noted(r, TAGS + (int)i) == tag) return 1;
    return 0;
}

/* Messages that were there before: each exactly once, but for those that the victim released. */
static void verify_others(crash_run *r, int who, int from, int *missing)
{
    int seq;
    for (seq = from; seq < sent[who]; seq++) {
        uint32_t tag = tag_of(who, seq);
        int n = times[who][seq];
        if (victim_has(r, tag, crash_noted(r, RELEASED))) {
            crash_saw(r, 1);
            CRASH_EXPECT(r, twice, n == 0);
        } else if (victim_has(r, tag, crash_noted(r, RELEASING))) {
            CRASH_EXPECT(r, twice, n <= 1);
        } else if (crash_noted(r, REPORTS) && crash_noted(r, TAGS) == tag) {
            crash_saw(r, 1);
            CRASH_EXPECT(r, twice, n <= 1); /* a sweeper that dies while it reports: reported again */
        } else {
            *missing += n == 0;
            CRASH_EXPECT(r, twice, n <= 1);
            if (victim_has(r, tag, crash_noted(r, TAKEN)) && n == 1) CRASH_EXPECT(r, other, again[who][seq] >= 1);
        }
    }
}

static void verify_victims(crash_run *r)
{
    int seq, acked = (int)crash_noted(r, ACKED), begun = (int)crash_noted(r, BEGUN);
    for (seq = 0; seq < 3; seq++) {
        int n = times[VICTIM][seq];
        if (n) crash_saw(r, 1);
        if (seq < acked) CRASH_EXPECT(r, lost, n >= 1);
        CRASH_EXPECT(r, twice, n <= 1);
        if (seq >= begun) CRASH_EXPECT(r, other, n == 0);
        if (seq && n) CRASH_EXPECT(r, lost, times[VICTIM][seq - 1] == 1);
    }
}

/* What the victim read is what was sent, however long it stood still in between. */
static void verify_received(crash_run *r)
{
    uint64_t i, n = crash_noted(r, RELEASED);
    if (n < crash_noted(r, RELEASING)) n = crash_noted(r, RELEASING);
    for (i = 0; i < n; i++) {
        message want;
        make(&want, received[i].tag);
        CRASH_EXPECT(r, torn, received[i].len == want.len && !memcmp(received[i].text, want.text, want.len));
    }
}

static void verify_leaks(crash_run *r)
{
    shmipc_queue_stats s;
    int i;
    shmipc_queue_detach(&survivor);
    shmipc_queue_get_stats(&survivor, &s);
    CRASH_EXPECT(r, leaked, s.free_chunks == CHUNKS && !s.filling && !s.held && !s.returned);
    for (i = 0; i < SLOTS; i++) CRASH_EXPECT(r, leaked, push(&survivor, AFTER) == SHMIPC_OK);
    CRASH_EXPECT(r, other, push(&survivor, AFTER) == SHMIPC_EFULL);
    drain(r);
}

/* Everybody who died is swept, all is taken, and the books are closed. */
static void close_books(crash_run *r)
{
    int seq, missing = 0;
    over = 1;
    CRASH_EXPECT(r, other, shmipc_queue_sweep(&survivor, VICTIM_ID, on_report, r) >= 0);
    CRASH_EXPECT(r, other, shmipc_queue_sweep(&survivor, DEAD_ID, on_report, r) >= 0);
    drain(r);
    verify_leaks(r);
    verify_others(r, BEFORE, consumed, &missing);
    verify_others(r, DEAD, 0, &missing);
    CRASH_EXPECT(r, lost, missing <= (crash_noted(r, RECEIVING) > crash_noted(r, RELEASED) ? 1 : 0));
    verify_victims(r);
    verify_received(r);
    for (seq = 0; seq < sent[AFTER]; seq++) {
        CRASH_EXPECT(r, lost, times[AFTER][seq] >= 1);
        CRASH_EXPECT(r, twice, times[AFTER][seq] <= 1);
    }
    if (!times[VICTIM][0] && !crash_noted(r, RELEASED)) crash_saw(r, 0);
}

/* A push answers at once; full only where four lie untaken, so after one more take there is room. */
static void produce(crash_run *r)
{
    int rc = push(&survivor, AFTER);
    CRASH_EXPECT(r, other, rc == SHMIPC_OK || rc == SHMIPC_EFULL);
    if (rc == SHMIPC_EFULL) {
        CRASH_EXPECT(r, other, consume(r) == SHMIPC_OK);
        CRASH_EXPECT(r, other, push(&survivor, AFTER) == SHMIPC_OK);
    }
    crash_recovered(r);
}

static void sweep_victim(crash_run *r)
{
    int rc = shmipc_queue_sweep(&survivor, VICTIM_ID, on_report, r);
    if (crash_dead(r)) CRASH_EXPECT(r, other, rc >= 0);
    else CRASH_EXPECT(r, other, rc == SHMIPC_EBUSY); /* stopped is not dead */
    CRASH_EXPECT(r, other, shmipc_queue_sweep(&survivor, DEAD_ID, on_report, r) >= 0);
    crash_recovered(r);
}

/* Beside a stopped victim all chunks are used again, so that whatever it still believes about one is out of date. */
static void go_round(crash_run *r)
{
    int i;
    for (i = 0; i < 2 * CHUNKS; i++) {
        CRASH_EXPECT(r, other, push(&survivor, AFTER) == SHMIPC_OK);
        CRASH_EXPECT(r, other, consume(r) == SHMIPC_OK);
    }
}

/* Roles: producer, consumer, sweeper. Whatever comes first has to work, and then all the rest. */
static void check(crash_run *r)
{
    int rc;
    if (!strcmp(crash_role(r), "producer")) produce(r);
    if (!strcmp(crash_role(r), "sweeper")) sweep_victim(r);
    rc = consume(r);
    CRASH_EXPECT(r, other, rc == SHMIPC_OK || rc == SHMIPC_EAGAIN);
    crash_recovered(r);
    produce(r);
    drain(r);
    if (r->mode == CRASH_KILL || r->mode == CRASH_ZOMBIE) close_books(r);
    else go_round(r);
}

static void done(crash_run *r)
{
    produce(r);
    close_books(r);
}

/* ---- making the queue -------------------------------------------------------------------------------------------- */

static void setup_raw(crash_run *r)
{
    setup(r);
    r->watches = 0;
    memset(memory, has(r, "zeroed") ? 0 : 0xee, 16384);
    crash_watch(r, memory, (size_t)size);
}

static shmipc_queue_config config_of(void)
{
    shmipc_queue_config c;
    c.slots = SLOTS;
    c.chunks = CHUNKS;
    c.max_message = MOST;
    c.policy = SHMIPC_QUEUE_REDELIVER;
    return c;
}

static void init_queue(crash_run *r)
{
    shmipc_queue_config c = config_of();
    if (shmipc_queue_init(memory, size, &c) == SHMIPC_OK) crash_note(r, ACKED, 1);
}

static void check_init(crash_run *r)
{
    shmipc_queue_config c = config_of();
    int rc = shmipc_queue_attach(&survivor, memory, size, SURVIVOR_ID, alive, NULL);
    crash_saw(r, rc == SHMIPC_OK);
    CRASH_EXPECT(r, other, rc == SHMIPC_OK || rc == SHMIPC_EFOREIGN);
    if (crash_noted(r, ACKED)) CRASH_EXPECT(r, lost, rc == SHMIPC_OK);
    if (rc) CRASH_EXPECT(r, other, shmipc_queue_init(memory, size, &c) == SHMIPC_OK);
    if (rc) rc = shmipc_queue_attach(&survivor, memory, size, SURVIVOR_ID, alive, NULL);
    CRASH_EXPECT(r, other, rc == SHMIPC_OK);
    crash_recovered(r);
    verify_leaks(r);
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

static const char *const pushable[] = { "empty", "half", "wrap", "wrap half", "half dead holds",
                                        "half dead fills published", "half dead named reused", NULL };
static const char *const full[] = { "full", "wrap full", "full dead holds", "full dead named", NULL };
static const char *const takeable[] = { "half", "full", "wrap half", "half report",
                                        "wrap full dead named report", NULL };
static const char *const returned[] = { "full dead holds returned", "half dead holds", "half dead named", NULL };
static const char *const empty[] = { "empty", "wrap", NULL };
static const char *const deads[] = { "half dead holds", "half dead named", "half dead holds named fills published",
                                     "half dead fills", "full dead holds report",
                                     "full dead named fills report", NULL };
static const char *const raw[] = { "zeroed", "dirty", NULL };
static const char *const roles[] = { "producer", "consumer", "sweeper", NULL };
static const char *const one[] = { "same", NULL };

#define ALL (CRASH_KILL | CRASH_ZOMBIE | CRASH_FREEZE | CRASH_LATE)
#define ROW(name, states, see, fn)                                                                                     \
    {                                                                                                                  \
        name, states, roles, ALL, CRASH_INPROC, see, setup, enter, fn, check, done, NULL, NULL, 0                      \
    }

static const crash_op ops[] = {
    ROW("push", pushable, 3, push_two),
    ROW("push, full", full, 1, push_two),
    ROW("push many", pushable, 3, push_batch),
    ROW("loan and commit", pushable, 3, loan_commit),
    ROW("loan and discard", pushable, 1, loan_discard),
    ROW("take and release", takeable, 3, take_release),
    ROW("take many", takeable, 3, take_batch),
    ROW("take what came back", returned, 3, take_release),
    ROW("take and reject", takeable, 1, take_reject),
    ROW("take, empty", empty, 1, take_release),
    ROW("recv", takeable, 3, recv_two),
    ROW("sweep", deads, 1, sweep_dead),
    { "init", raw, one, CRASH_KILL | CRASH_ZOMBIE, CRASH_INPROC, 3, setup_raw, NULL, init_queue, check_init, NULL, NULL,
      NULL, 0 },
};

int main(int argc, char **argv)
{
    memory = (unsigned char *)crash_shared(16384);
    received = (message *)crash_shared(4096);
    return crash_main("queue books", ops, CRASH_COUNT(ops), argc, argv);
}
