/* crash_pushpull.c - a pusher, a puller or a sweeper dies or stops after any instruction of any call.
 *
 * The harness pulls and pushes too. What was pushed arrives exactly once, whole, or says that it comes again; what the
 * victim released never does. At the end every chunk and block is accounted for, and the channel goes with the last
 * one. Statements: S10 to S19, S44, C11, C13, I1, I2, I8.
 */
#include "crash_channel.h"

enum { FIRST = 0, VICTIMS = 64, SURVIVORS = 128 }; /* numbers by who sends */

static shmipc_socket *keeper, *feeder; /* PULL and PUSH of the harness */
static shmipc_msg kept;                /* a view that the harness has */
static uint32_t next_id;

/* ---- starting states ---- */

/* Dies with a large message taken, a small one received, a large loan filled, and a chunk in reserve. */
static void die_busy(crash_run *r)
{
    shmipc_ctx *c = scope();
    shmipc_socket *pull = joined(c, SHMIPC_PULL), *push = joined(c, SHMIPC_PUSH);
    shmipc_msg m;
    shmipc_loan l;
    MUST(shmipc_take(pull, &m, 0));
    (void)receipt(r, &m);
    MUST(shmipc_loan_open(push, LARGE, &l));
    fill((unsigned char *)l.data, 250, LARGE);
}

static void pushed(uint32_t n)
{
    while (n--) MUST(sends(feeder, next_id++));
}

static void setup(crash_run *r)
{
    begin(r);
    next_id = FIRST;
    kept.socket = NULL;
    if (state_is(r, "alone")) {
        keeper = joined(ctx, SHMIPC_PULL);
        feeder = NULL;
        watch(r, keeper);
        return;
    }
    keeper = joined(ctx, SHMIPC_PULL);
    feeder = joined(ctx, SHMIPC_PUSH);
    if (state_is(r, "half")) pushed(3);
    if (state_is(r, "large")) next_id++, pushed(1);
    if (state_is(r, "full")) pushed(4);
    if (state_is(r, "wrap") || state_is(r, "spare")) {
        pushed(4);
        while (receives(r, keeper) < IDS) continue;
        pushed(state_is(r, "wrap") ? 3 : 0);
    }
    if (state_is(r, "viewed")) {
        next_id++;
        pushed(3);
        MUST(shmipc_take(keeper, &kept, 0));
    }
    if (state_is(r, "returned") || state_is(r, "dead")) next_id++, pushed(3);
    if (state_is(r, "returned")) {
        shmipc_msg m;
        MUST(shmipc_take(keeper, &m, 0));
        MUST(shmipc_reject(&m));
    }
    if (state_is(r, "dead")) crash_leave_dead(die_busy, r);
    watch(r, keeper);
}

/* ---- the victim ---- */

static void enter_push(crash_run *r)
{
    enter_scope(r);
    mine = joined(own, SHMIPC_PUSH);
}
static void enter_pull(crash_run *r)
{
    enter_scope(r);
    mine = joined(own, SHMIPC_PULL);
}
/* Attached first, so that its own opening does not sweep what then dies. */
static void enter_beside(crash_run *r)
{
    enter_pull(r);
    crash_leave_dead(die_busy, r);
}
static void enter_ready(crash_run *r)
{
    enter_push(r);
    MUST(sends(mine, VICTIMS + 60)); /* a chunk is in reserve from now on */
}
static shmipc_msg view;
static void enter_viewing(crash_run *r)
{
    enter_pull(r);
    MUST(shmipc_take(mine, &view, 0));
    (void)receipt(r, &view);
}
static shmipc_loan lent;
static void enter_lent(crash_run *r)
{
    enter_push(r);
    MUST(shmipc_loan_open(mine, LARGE, &lent));
}

static void push_open(crash_run *r)
{
    mine = join(own, SHMIPC_PUSH);
    crash_note(r, 0, mine != NULL);
}
static void pull_open(crash_run *r)
{
    mine = join(own, SHMIPC_PULL);
    crash_note(r, 0, mine != NULL);
}
static void close_it(crash_run *r)
{
    shmipc_close(&mine);
    crash_note(r, 0, 1);
}
static void close_all(crash_run *r)
{
    shmipc_ctx_close(own);
    crash_note(r, 0, 1);
}
static void push_small(crash_run *r)
{
    int rc = sends(mine, VICTIMS);
    crash_note(r, 0, 1);
    crash_note(r, 1, (uint64_t)-rc);
}
static void push_large(crash_run *r)
{
    int rc = sends(mine, VICTIMS + 1);
    crash_note(r, 0, 1);
    crash_note(r, 1, (uint64_t)-rc);
}
static void push_many(crash_run *r)
{
    static unsigned char text[3][1024];
    shmipc_item items[3];
    int i, n;
    for (i = 0; i < 3; i++) {
        fill(text[i], VICTIMS + (uint32_t)i, LARGE);
        items[i].data = text[i];
        items[i].len = size_of(VICTIMS + (uint32_t)i);
        items[i].tag = VICTIMS + (uint32_t)i;
        items[i].pad = 0;
    }
    n = shmipc_send_many(mine, items, 3, 0);
    for (i = 0; i < n; i++) book->sent[VICTIMS + i] = 1;
    crash_note(r, 0, 1);
}
static void push_loan(crash_run *r)
{
    shmipc_loan l;
    if (shmipc_loan_open(mine, LARGE, &l) == SHMIPC_OK) {
        fill((unsigned char *)l.data, VICTIMS + 1, LARGE);
        l.tag = VICTIMS + 1;
        if (shmipc_loan_commit(&l, 0) == SHMIPC_OK) book->sent[VICTIMS + 1] = 1;
        else (void)shmipc_loan_discard(&l);
    }
    crash_note(r, 0, 1);
}
static void push_discard(crash_run *r)
{
    shmipc_loan l;
    if (shmipc_loan_open(mine, LARGE, &l) == SHMIPC_OK) (void)shmipc_loan_discard(&l);
    (void)sends(mine, VICTIMS);
    crash_note(r, 0, 1);
}
static void pull_recv(crash_run *r)
{
    static unsigned char to[1024];
    shmipc_msg m;
    book->consuming = 1;
    if (shmipc_recv_msg(mine, to, sizeof to, &m, 0) == SHMIPC_OK) {
        uint32_t id = receipt(r, &m);
        if (id < IDS) book->done[id] = 1;
    }
    book->consuming = 0;
    crash_note(r, 0, 1);
}
static void pull_many(crash_run *r)
{
    static unsigned char to[4096];
    shmipc_msg m[3];
    int i, n;
    book->consuming = 3;
    n = shmipc_recv_many(mine, to, sizeof to, m, 3, 0);
    for (i = 0; i < n; i++) {
        uint32_t id = receipt(r, &m[i]);
        if (id < IDS) book->done[id] = 1;
    }
    book->consuming = 0;
    crash_note(r, 0, 1);
}
static void pull_take(crash_run *r)
{
    shmipc_msg m;
    uint32_t id;
    if (shmipc_take(mine, &m, 0) == SHMIPC_OK) {
        id = receipt(r, &m);
        if (shmipc_release(&m) == SHMIPC_OK && id < IDS) book->done[id] = 1;
    }
    crash_note(r, 0, 1);
}
static void pull_reject(crash_run *r)
{
    shmipc_msg m;
    if (shmipc_take(mine, &m, 0) == SHMIPC_OK) {
        (void)receipt(r, &m);
        (void)shmipc_reject(&m);
    }
    crash_note(r, 0, 1);
}
static void sweep_all(crash_run *r)
{
    crash_note(r, 1, (uint64_t)(shmipc_segment_sweep(mine->segment) < 0));
    crash_note(r, 0, 1);
}
static void stats_and_peers(crash_run *r)
{
    shmipc_socket_stats st;
    shmipc_peer p[8];
    (void)shmipc_socket_get_stats(mine, &st);
    (void)shmipc_socket_peers(mine, p, 8);
    crash_note(r, 0, 1);
}
static void push_wait(crash_run *r)
{
    fill(message, VICTIMS, SMALL);
    if (shmipc_send_tag(mine, message, SMALL, VICTIMS, -1) == SHMIPC_OK) book->sent[VICTIMS] = 1;
    crash_note(r, 0, 1);
}
static void wake_pusher(crash_run *r) { (void)receives(r, keeper); }
static void pull_wait(crash_run *r)
{
    static unsigned char to[1024];
    shmipc_msg m;
    book->consuming = 1;
    if (shmipc_recv_msg(mine, to, sizeof to, &m, -1) == SHMIPC_OK) {
        uint32_t id = receipt(r, &m);
        if (id < IDS) book->done[id] = 1;
    }
    book->consuming = 0;
    crash_note(r, 0, 1);
}
static void wake_puller(crash_run *r)
{
    (void)r;
    MUST(sends(feeder, next_id++));
}

/* ---- the survivor ---- */

static uint32_t survivors_id;

/* Goes on: something in, something out, whatever the victim holds. */
static void goes_on(crash_run *r)
{
    uint32_t i, id = IDS;
    int rc = SHMIPC_EFULL;
    if (!feeder) feeder = join(ctx, SHMIPC_PUSH);
    CRASH_EXPECT(r, other, feeder != NULL);
    if (!feeder) return;
    for (i = 0; i < 8 && rc == SHMIPC_EFULL; i++) {
        rc = sends(feeder, survivors_id);
        if (rc == SHMIPC_EFULL) id = receives(r, keeper);
    }
    CRASH_EXPECT(r, other, rc == SHMIPC_OK);
    survivors_id++;
    for (i = 0; i < 8 && id == IDS; i++) id = receives(r, keeper);
    CRASH_EXPECT(r, lost, id < IDS);
    crash_recovered(r);
}

static void all_arrived(crash_run *r)
{
    uint32_t i, missing = 0;
    for (i = 0; i < IDS; i++) {
        CRASH_EXPECT(r, twice, book->got[i] <= 1 + book->again[i]);
        missing += book->sent[i] && !book->got[i];
    }
    CRASH_EXPECT(r, lost, missing <= book->consuming);
    crash_saw(r, crash_noted(r, 0) ? 1 : 0);
}

static void books(crash_run *r, int victim_gone)
{
    shmipc_socket *more;
    if (kept.socket) {
        (void)receipt(r, &kept);
        CRASH_EXPECT(r, other, shmipc_release(&kept) == SHMIPC_OK);
    }
    if (role_is(r, "newcomer")) {
        more = join(ctx, SHMIPC_PULL);
        CRASH_EXPECT(r, other, more != NULL);
        if (!more) return;
        while (receives(r, more) < IDS) continue;
        shmipc_close(&more);
    }
    CRASH_EXPECT(r, other, shmipc_segment_sweep(keeper->segment) >= 0);
    while (receives(r, keeper) < IDS) continue;
    all_arrived(r);
    shmipc_close(&feeder);
    if (victim_gone) last_one(r, &keeper);
    else audited(r, keeper, 0);
}

static void check(crash_run *r)
{
    int gone = r->mode & (CRASH_KILL | CRASH_ZOMBIE | CRASH_BLOCKED);
    survivors_id = SURVIVORS;
    if (gone && role_is(r, "sweeps first")) CRASH_EXPECT(r, other, shmipc_segment_sweep(keeper->segment) >= 0);
    goes_on(r);
    if (gone) books(r, 1);
}
static void done(crash_run *r)
{
    if (r->mode == CRASH_FREEZE) {
        CRASH_EXPECT(r, other, crash_noted(r, 0));
        CRASH_EXPECT(r, other, !crash_noted(r, 1) || crash_noted(r, 1) == (uint64_t)-SHMIPC_EFULL);
        book->consuming = 0;
    }
    goes_on(r);
    books(r, crash_dead(r));
}

static const char *const s_open[] = {"alone", "half", "dead", NULL};
static const char *const s_push[] = {"empty", "half", "full", "wrap", "viewed", "spare", NULL};
static const char *const s_pull[] = {"empty", "half", "large", "full", "viewed", "returned", "dead", NULL};
static const char *const s_some[] = {"half", "large", "returned", NULL};
static const char *const s_close[] = {"empty", "full", NULL};
static const char *const s_sweep1[] = {"empty", "half", NULL};
static const char *const s_dead[] = {"half", NULL};
static const char *const s_large[] = {"large", "half", NULL};
static const char *const s_full[] = {"full", NULL};
static const char *const s_empty[] = {"empty", NULL};
static const char *const s_sweep[] = {"half", "full", NULL};
static const char *const roles[] = {"goes on", "sweeps first", "newcomer", NULL};
static const char *const two[] = {"goes on", "sweeps first", NULL};

#define ALL (CRASH_KILL | CRASH_ZOMBIE | CRASH_FREEZE | CRASH_LATE)
#define ROW(name, states, roles, see, enter, fn)                                                                       \
    {                                                                                                                  \
        name, states, roles, ALL, CRASH_INPROC, see, setup, enter, fn, check, done, NULL, teardown, 0                  \
    }
#define WAITS (CRASH_KILL | CRASH_BLOCKED)

static const crash_op ops[] = {
    ROW("push_open", s_open, two, 1, enter_scope, push_open),
    ROW("pull_open", s_open, two, 1, enter_scope, pull_open),
    ROW("push_close", s_sweep1, two, 1, enter_ready, close_it),
    ROW("push_close_lent", s_close, two, 1, enter_lent, close_it),
    ROW("push_leave_lent", s_close, two, 1, enter_lent, close_all),
    ROW("pull_close", s_close, two, 1, enter_pull, close_it),
    ROW("pull_leave_viewing", s_large, roles, 1, enter_viewing, close_all),
    ROW("push_small", s_push, two, 1, enter_push, push_small),
    ROW("push_large", s_push, roles, 1, enter_push, push_large),
    ROW("push_many", s_push, two, 1, enter_push, push_many),
    ROW("push_loan", s_push, roles, 1, enter_push, push_loan),
    ROW("push_discard", s_close, two, 1, enter_push, push_discard),
    ROW("pull_recv", s_pull, roles, 1, enter_pull, pull_recv),
    ROW("pull_take", s_pull, roles, 1, enter_pull, pull_take),
    ROW("pull_reject", s_some, roles, 1, enter_pull, pull_reject),
    ROW("pull_many", s_pull, two, 1, enter_pull, pull_many),
    ROW("sweep", s_sweep, roles, 1, enter_beside, sweep_all),
    ROW("look", s_dead, two, 1, enter_beside, stats_and_peers),
    {"push_wait", s_full, two, WAITS, CRASH_INPROC, 0, setup, enter_push, push_wait, check, done, wake_pusher, teardown,
     0},
    {"pull_wait", s_empty, two, WAITS, CRASH_INPROC, 0, setup, enter_pull, pull_wait, check, done, wake_puller,
     teardown, 0},
};

int main(int argc, char **argv) { return run("pushpull", ops, CRASH_COUNT(ops), argc, argv); }
