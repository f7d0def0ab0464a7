/* Killing, and freezing, at every instruction of the MPMC queue: push, loan and commit, batches, take, receive, reject,
 * sweep, report. Statements I1, I2, I8, S44, C13. */
#include "crashstep.h"
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#define SHMIPC_RINGS_ONLY
#include "../../shmipc.h"

#define SLOTS 4u
#define CHUNKS 12u
#define WORDS 5u   /* a message: its number, and words made of it */
#define IDS 32u
#define VICTIMS 16u /* the numbers that the victim pushes; below: from the beginning; 24 and up: the survivor's */
#define SURVIVORS 24u

enum { VICTIM = 1, SURVIVOR = 2, FILLER = 3, GHOST = 9 }; /* owners; the ghost is dead from the beginning */

/* Shared by all: what was put in, what came out. */
static struct ledger {
    uint8_t pushed[IDS], got[IDS], told[IDS], back[IDS]; /* back: received with a count of redeliveries */
    uint64_t scratch[2][WORDS];                          /* what the victim copied out                   */
    uint32_t next;                                       /* the survivor's next number                   */
} *ledger;
static unsigned char *memory;
static uint64_t memory_size;
static shmipc_queue mine; /* the victim's handle */
static crash_run *now;

static int alive(void *arg, uint32_t owner)
{
    (void)arg;
    return owner == GHOST ? 0 : owner == VICTIM ? !crash_dead(now) : 1;
}

static void fill(uint64_t *word, uint64_t id)
{
    uint32_t i;
    for (i = 0; i < WORDS; i++) word[i] = id + i * 0x0101010101010101u;
}
static int whole(const uint64_t *word)
{
    uint32_t i;
    for (i = 1; i < WORDS; i++)
        if (word[i] != word[0] + i * 0x0101010101010101u) return 0;
    return word[0] < IDS;
}
static int push(shmipc_queue *q, uint64_t id)
{
    uint64_t word[WORDS];
    int rc;
    fill(word, id);
    rc = shmipc_queue_push(q, word, sizeof word, (uint32_t)id);
    if (rc == SHMIPC_OK) ledger->pushed[id]++;
    return rc;
}
static void receipt(crash_run *r, const shmipc_queue_msg *m)
{
    uint64_t word[WORDS];
    memcpy(word, m->data, sizeof word);
    CRASH_EXPECT(r, torn, m->len_bytes == sizeof word && whole(word) && m->tag == word[0]);
    if (word[0] >= IDS) return;
    ledger->got[word[0]]++;
    if (m->redelivered) ledger->back[word[0]]++;
}
static int receive(crash_run *r, shmipc_queue *q)
{
    shmipc_queue_msg m;
    int rc = shmipc_queue_take(q, &m);
    if (rc != SHMIPC_OK) return rc;
    receipt(r, &m);
    CRASH_EXPECT(r, other, shmipc_queue_release(q, &m) == SHMIPC_OK);
    return rc;
}
static void tell(void *arg, const shmipc_queue_msg *m)
{
    uint64_t word[WORDS];
    (void)arg;
    memcpy(word, m->data, sizeof word);
    if (whole(word)) ledger->told[word[0]] = 1;
    else ledger->told[0] = 2;
}

/* ---- the beginning: r->state ---- */

enum { EMPTY, HALF, FULL, WRAP, RETURNED };
static const char *const all[] = {"empty", "half", "full", "wrap", "returned", NULL};
static const char *const room[] = {"empty", "half", "wrap", "returned", NULL};
static const char *const stock[] = {"half", "full", "wrap", "returned", NULL};
static const char *const only_full[] = {"full", NULL}, *const only_empty[] = {"empty", NULL};
static const char *const half[] = {"half", NULL}, *const one[] = {"same", NULL};
static int state_of(const crash_run *r)
{
    int i = 0;
    while (strcmp(all[i], crash_state(r)) != 0) i++;
    return i;
}

static void open_queue(crash_run *r, uint32_t policy)
{
    shmipc_queue_config c;
    shmipc_queue q;
    shmipc_queue_msg m;
    uint64_t id = 0;
    int state = state_of(r);
    c.slots = SLOTS;
    c.chunks = CHUNKS;
    c.max_message = WORDS * 8;
    c.policy = policy;
    now = r;
    memset(ledger, 0, sizeof *ledger);
    ledger->next = SURVIVORS;
    shmipc_queue_init(memory, memory_size, &c);
    shmipc_queue_attach(&q, memory, memory_size, FILLER, alive, NULL);
    if (state == WRAP) /* the next messages lie around the end of the slots */
        for (id = 0; id < 3; id++) push(&q, id), receive(r, &q);
    for (; id < (state == EMPTY ? 0u : state == FULL ? 4u : state == WRAP ? 5u : 2u); id++) push(&q, id);
    if (state == RETURNED && shmipc_queue_take(&q, &m) == SHMIPC_OK) shmipc_queue_reject(&q, &m);
    shmipc_queue_detach(&q);
    crash_watch(r, memory, (size_t)memory_size);
}
static void setup(crash_run *r) { open_queue(r, SHMIPC_QUEUE_REDELIVER); }

/* A ghost took one message (in half of the states its slot still names it), pushed one, and was filling another. */
static void setup_ghost_of(crash_run *r, uint32_t policy)
{
    shmipc_queue g;
    shmipc_queue_msg m, loan;
    uint64_t *slot, s;
    open_queue(r, policy);
    shmipc_queue_attach(&g, memory, memory_size, GHOST, alive, NULL);
    push(&g, 8);
    slot = shmipc__queue_slot(&g, shmipc__queue_of(&g)->head);
    s = *slot;
    if (shmipc_queue_take(&g, &m) == SHMIPC_OK && (state_of(r) == HALF || state_of(r) == WRAP)) *slot = s;
    shmipc_queue_loan(&g, 8, &loan);
}
static void setup_ghost(crash_run *r) { setup_ghost_of(r, SHMIPC_QUEUE_REDELIVER); }
static void setup_report(crash_run *r) { setup_ghost_of(r, SHMIPC_QUEUE_REPORT); }

static void enter(crash_run *r)
{
    now = r;
    shmipc_queue_attach(&mine, memory, memory_size, VICTIM, alive, NULL);
}
static void enter_ready(crash_run *r) /* has a spare, so that the window is the usual short one */
{
    shmipc_queue_msg m;
    enter(r);
    if (shmipc_queue_loan(&mine, 8, &m) == SHMIPC_OK) shmipc_queue_discard(&mine, &m);
}

/* ---- the windows; note 0 counts the victim's acknowledged pushes, note 1 + i is 1 + the i-th message received ---- */

static uint64_t out[2][WORDS];
static void enter_push(crash_run *r)
{
    enter(r);
    fill(out[0], VICTIMS);
    fill(out[1], VICTIMS + 1);
}
static void enter_push_ready(crash_run *r)
{
    enter_ready(r);
    fill(out[0], VICTIMS);
    fill(out[1], VICTIMS + 1);
}
static void victim_push(crash_run *r)
{
    if (shmipc_queue_push(&mine, out[0], sizeof out[0], VICTIMS) == SHMIPC_OK) crash_note(r, 0, 1);
}
static void victim_loan(crash_run *r)
{
    shmipc_queue_msg m;
    if (shmipc_queue_loan(&mine, sizeof out[0], &m) != SHMIPC_OK) return;
    memcpy(m.data, out[0], sizeof out[0]);
    m.tag = VICTIMS;
    if (shmipc_queue_commit(&mine, &m) == SHMIPC_OK) crash_note(r, 0, 1);
    else shmipc_queue_discard(&mine, &m);
}
static void victim_push_many(crash_run *r)
{
    shmipc_queue_item item[2];
    uint32_t i;
    int n;
    for (i = 0; i < 2; i++) {
        item[i].data = out[i];
        item[i].len_bytes = sizeof out[i];
        item[i].tag = VICTIMS + i;
    }
    n = shmipc_queue_push_many(&mine, item, 2);
    if (n > 0) crash_note(r, 0, (uint64_t)n);
}
static void victim_recv(crash_run *r)
{
    if (shmipc_queue_recv(&mine, ledger->scratch[0], sizeof ledger->scratch[0], NULL) >= 0)
        crash_note(r, 1, ledger->scratch[0][0] + 1);
}
static void victim_take(crash_run *r)
{
    shmipc_queue_msg m[2];
    int i, n = shmipc_queue_take_many(&mine, m, strcmp(r->op->name, "queue_take_many") == 0 ? 2 : 1);
    for (i = 0; i < n; i++) memcpy(ledger->scratch[i], m[i].data, sizeof ledger->scratch[i]);
    for (i = 0; i < n; i++) {
        shmipc_queue_release(&mine, &m[i]);
        crash_note(r, 1 + i, ledger->scratch[i][0] + 1);
    }
}
static void victim_reject(crash_run *r)
{
    shmipc_queue_msg m;
    (void)r;
    if (shmipc_queue_take(&mine, &m) == SHMIPC_OK) shmipc_queue_reject(&mine, &m);
}
static void victim_sweep(crash_run *r)
{
    (void)r;
    shmipc_queue_sweep(&mine, GHOST, tell, NULL);
}
static void victim_detach(crash_run *r)
{
    (void)r;
    shmipc_queue_detach(&mine);
}

/* ---- the survivor ---- */

static int consumed_by_victim(const crash_run *r, uint64_t id)
{
    return crash_noted(r, 1) == id + 1 || crash_noted(r, 2) == id + 1;
}
static int copied_by_victim(uint64_t id)
{
    return (whole(ledger->scratch[0]) && ledger->scratch[0][1] && ledger->scratch[0][0] == id) ||
           (whole(ledger->scratch[1]) && ledger->scratch[1][1] && ledger->scratch[1][0] == id);
}

/* The books: every message came out exactly once; what the victim alone may know is where it can be. */
static void balance(crash_run *r)
{
    uint32_t id;
    for (id = 0; id < IDS; id++) {
        int by_victim = consumed_by_victim(r, id), seen = ledger->got[id] + by_victim + (ledger->told[id] != 0);
        int sure = ledger->pushed[id] || (id >= VICTIMS && id < VICTIMS + crash_noted(r, 0));
        int maybe = sure || (id >= VICTIMS && id < VICTIMS + 2);
        CRASH_EXPECT(r, twice, seen <= 1 && (maybe || !seen));
        if (sure && seen == 0) CRASH_EXPECT(r, lost, copied_by_victim(id)); /* it died between release and note */
        if (id >= VICTIMS && id < VICTIMS + 2 && !crash_noted(r, 0)) crash_saw(r, seen ? 1 : 0);
        if (ledger->back[id]) crash_saw(r, 3);
    }
    CRASH_EXPECT(r, torn, ledger->told[0] != 2);
}

/* Nobody is left but the survivor, and the victim if it lives: sweep, drain, no chunk is missing, the books balance. */
static void settle(crash_run *r, shmipc_queue *q)
{
    uint32_t c;
    int dead = crash_dead(r), rc = shmipc_queue_sweep(q, VICTIM, tell, NULL);
    CRASH_EXPECT(r, other, dead ? rc >= 0 : rc == SHMIPC_EBUSY);
    CRASH_EXPECT(r, other, shmipc_queue_sweep(q, GHOST, tell, NULL) >= 0);
    if (dead) CRASH_EXPECT(r, leaked, shmipc_queue_sweep(q, VICTIM, tell, NULL) == 0);
    while (receive(r, q) == SHMIPC_OK) continue;
    shmipc_queue_detach(q);
    for (c = 0; c < CHUNKS; c++) {
        uint64_t w = *shmipc__queue_chunk(q, c);
        int spare = !dead && (w & SHMIPC__QUEUE_STATE) == SHMIPC__QUEUE_FILLING && (w & SHMIPC__QUEUE_NOBODY) == VICTIM;
        CRASH_EXPECT(r, leaked, spare || (w & SHMIPC__QUEUE_STATE) == 0);
    }
    balance(r);
}

/* In every role: whatever the victim stopped at, after a push (or "full") there is something to take, and after a take
 * there is room. The chunks suffice, so "busy" never comes. */
static void check(crash_run *r)
{
    shmipc_queue q;
    int rc, turns = 0;
    now = r;
    shmipc_queue_attach(&q, memory, memory_size, SURVIVOR, alive, NULL);
    if (r->role == 2) {
        rc = shmipc_queue_sweep(&q, VICTIM, tell, NULL);
        CRASH_EXPECT(r, other, crash_dead(r) ? rc >= 0 : rc == SHMIPC_EBUSY);
    }
    if (r->role == 1) {
        rc = receive(r, &q);
        CRASH_EXPECT(r, other, rc == SHMIPC_OK || rc == SHMIPC_EAGAIN);
        crash_recovered(r);
    }
    rc = push(&q, ledger->next++);
    CRASH_EXPECT(r, other, rc == SHMIPC_OK || rc == SHMIPC_EFULL);
    crash_recovered(r);
    do CRASH_EXPECT(r, lost, receive(r, &q) == SHMIPC_OK); /* what was returned comes first, and frees no slot */
    while ((rc = push(&q, ledger->next)) == SHMIPC_EFULL && ++turns < 4);
    CRASH_EXPECT(r, other, rc == SHMIPC_OK);
    if (r->mode == CRASH_FREEZE || r->mode == CRASH_LATE) {
        CRASH_EXPECT(r, lost, receive(r, &q) == SHMIPC_OK);
        shmipc_queue_detach(&q);
    } else {
        settle(r, &q);
    }
}
/* The victim has gone on to its end, or died where it stood. */
static void done(crash_run *r)
{
    shmipc_queue q;
    now = r;
    shmipc_queue_attach(&q, memory, memory_size, SURVIVOR, alive, NULL);
    settle(r, &q);
}

/* "Nothing" must be true at some instant. The survivor holds message 0, message 1 is untaken; while the victim stands
 * anywhere in its receive, 0 comes back, and then one who looked at the hint before takes 1. There was always
 * something. */
static shmipc_queue holder;
static shmipc_queue_msg held;
static void setup_held(crash_run *r)
{
    setup(r);
    shmipc_queue_attach(&holder, memory, memory_size, SURVIVOR, alive, NULL);
    if (shmipc_queue_take(&holder, &held) != SHMIPC_OK) abort();
}
static void victim_recv_something(crash_run *r)
{
    victim_recv(r);
    crash_note(r, 3, 1);
}
static void check_something(crash_run *r)
{
    shmipc_queue_msg m;
    uint64_t p = shmipc__queue_of(&holder)->head;
    int rc;
    CRASH_EXPECT(r, other, shmipc_queue_reject(&holder, &held) == SHMIPC_OK);
    rc = shmipc__queue_take_at(&holder, &m, &p);
    CRASH_EXPECT(r, other, rc >= 0);
    if (rc > 0) {
        receipt(r, &m);
        CRASH_EXPECT(r, other, shmipc_queue_release(&holder, &m) == SHMIPC_OK);
    }
    crash_recovered(r);
}
static void done_something(crash_run *r)
{
    CRASH_EXPECT(r, lost, crash_noted(r, 3) && crash_noted(r, 1));
    done(r);
}

/* "Full" must be true at some instant. Three messages are untaken; the fourth is taken, but its taker stopped before he
 * emptied the slot. While the victim stands anywhere in its push, he empties it and gives the chunk back, and another
 * producer begins to fill that very chunk. There was always room. */
static uint64_t *named;
static void setup_named(crash_run *r)
{
    uint64_t s;
    setup(r);
    shmipc_queue_attach(&holder, memory, memory_size, SURVIVOR, alive, NULL);
    named = shmipc__queue_slot(&holder, shmipc__queue_of(&holder)->head);
    s = *named;
    if (shmipc_queue_take(&holder, &held) != SHMIPC_OK) abort();
    ledger->got[0] = 1;
    *named = s;
    shmipc__queue_of(&holder)->head--;
}
static void victim_push_surely(crash_run *r)
{
    victim_push(r);
    crash_note(r, 3, 1);
}
static void check_room(crash_run *r)
{
    shmipc_queue_msg m;
    uint64_t s = *named;
    if (s & SHMIPC__QUEUE_CHUNK && (s & SHMIPC__QUEUE_CHUNK) == held.chunk + 1u)
        shmipc__cas_relaxed_u64(named, &s, shmipc__queue_emptied(s));
    holder.cursor = held.chunk;
    CRASH_EXPECT(r, other, shmipc_queue_release(&holder, &held) == SHMIPC_OK);
    CRASH_EXPECT(r, other, shmipc_queue_loan(&holder, 8, &m) == SHMIPC_OK);
    crash_recovered(r);
    held = m;
}
static void done_room(crash_run *r)
{
    CRASH_EXPECT(r, lost, crash_noted(r, 3) && crash_noted(r, 0));
    CRASH_EXPECT(r, other, shmipc_queue_discard(&holder, &held) == SHMIPC_OK);
    shmipc_queue_detach(&holder);
    done(r);
}

/* "No chunk" must be true at some instant. One chunk is free; while the victim looks for it, another one, which it may
 * have passed already, becomes free, and then the first is taken. */
static shmipc_queue_msg loans[CHUNKS];
static void setup_scarce(crash_run *r)
{
    uint32_t i;
    setup(r);
    shmipc_queue_attach(&holder, memory, memory_size, SURVIVOR, alive, NULL);
    for (i = 0; i < CHUNKS - 1; i++)
        if (shmipc_queue_loan(&holder, 8, &loans[i]) != SHMIPC_OK) abort();
}
static void enter_scarce(crash_run *r)
{
    enter_push(r);
    mine.cursor = loans[0].chunk; /* the free one is the last that it looks at */
}
static void check_scarce(crash_run *r)
{
    shmipc_queue_msg m;
    int rc;
    holder.cursor = loans[CHUNKS - 2].chunk + 1 == CHUNKS ? 0 : loans[CHUNKS - 2].chunk + 1;
    shmipc_queue_discard(&holder, &loans[0]);
    shmipc_queue_detach(&holder); /* free, not merely a spare */
    rc = shmipc_queue_loan(&holder, 8, &m);
    CRASH_EXPECT(r, other, rc == SHMIPC_OK || rc == SHMIPC_EBUSY); /* busy: the victim has both */
    if (rc == SHMIPC_OK) loans[0] = m;
    crash_recovered(r);
}
static void done_scarce(crash_run *r)
{
    uint32_t i;
    CRASH_EXPECT(r, lost, crash_noted(r, 3) && crash_noted(r, 0));
    for (i = 0; i < CHUNKS - 1; i++)
        if (loans[i].data) shmipc_queue_discard(&holder, &loans[i]);
    shmipc_queue_detach(&holder);
    done(r);
}

#define MODES (CRASH_KILL | CRASH_ZOMBIE | CRASH_FREEZE | CRASH_LATE)
#define OP(name, states, sees, setup_, enter_, victim) \
    {name, states, roles, MODES, CRASH_INPROC, sees, setup_, enter_, victim, check, done, NULL, NULL, 0}
#define PUBLISHED_OR_NOT 3u /* a kill must have met both */
#define REDELIVERED 8u

int main(int argc, char **argv)
{
    static const char *const roles[] = {"same", "other", "sweeper", NULL};
    static const crash_op ops[] = {
        OP("queue_push", room, PUBLISHED_OR_NOT, setup, enter_push_ready, victim_push),
        OP("queue_push", only_full, 0, setup, enter_push_ready, victim_push),
        OP("queue_push_first", room, PUBLISHED_OR_NOT, setup, enter_push, victim_push),
        OP("queue_loan_commit", room, PUBLISHED_OR_NOT, setup, enter_push, victim_loan),
        OP("queue_loan_commit", only_full, 0, setup, enter_push, victim_loan),
        OP("queue_push_many", room, PUBLISHED_OR_NOT, setup, enter_push_ready, victim_push_many),
        OP("queue_recv", stock, REDELIVERED, setup, enter, victim_recv),
        OP("queue_recv", only_empty, 0, setup, enter, victim_recv),
        OP("queue_take_release", stock, REDELIVERED, setup, enter, victim_take),
        OP("queue_take_many", stock, REDELIVERED, setup, enter, victim_take),
        OP("queue_reject", stock, REDELIVERED, setup, enter, victim_reject),
        OP("queue_sweep", all, REDELIVERED, setup_ghost, enter_ready, victim_sweep),
        OP("queue_sweep_report", all, 0, setup_report, enter_ready, victim_sweep),
        {"queue_recv_something", half, one, CRASH_FREEZE, CRASH_INPROC, 0, setup_held, enter, victim_recv_something,
         check_something, done_something, NULL, NULL, 0},
        {"queue_push_room", only_full, one, CRASH_FREEZE, CRASH_INPROC, 0, setup_named, enter_push_ready,
         victim_push_surely, check_room, done_room, NULL, NULL, 0},
        {"queue_push_scarce", only_empty, one, CRASH_FREEZE, CRASH_INPROC, 0, setup_scarce, enter_scarce,
         victim_push_surely, check_scarce, done_scarce, NULL, NULL, 0},
        OP("queue_detach", only_empty, 0, setup, enter_ready, victim_detach),
    };
    shmipc_queue_config c;
    if (getenv("MUTANT")) setenv("SHORT", "1", 0); /* the error is planted: it shows in the steps that matter */
    c.slots = SLOTS;
    c.chunks = CHUNKS;
    c.max_message = WORDS * 8;
    c.policy = SHMIPC_QUEUE_REDELIVER;
    if (shmipc_queue_size(&c, &memory_size) != SHMIPC_OK) return 2;
    memory = (unsigned char *)crash_shared((size_t)memory_size);
    ledger = (struct ledger *)crash_shared(sizeof *ledger);
    return crash_main("queue", ops, CRASH_COUNT(ops), argc, argv);
}
