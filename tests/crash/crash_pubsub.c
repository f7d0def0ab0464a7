/* crash_pubsub.c - a publisher, a subscriber or a sweeper dies or stops after any instruction of any call.
 *
 * The harness subscribes all the time, publishes on a lane of its own, and takes over what dead publishers leave. What
 * was published arrives in the order of its lane, whole, once, or is counted as missed; at the end every block and pin
 * is accounted for. Statements: S1 to S9, S44, I1, I2, I5, I8.
 */
#include "crash_channel.h"

enum { FIRST = 0, VICTIMS = 64, SURVIVORS = 128 };

static shmipc_socket *keeper, *other; /* SUB and PUB of the harness */
static shmipc_msg kept[4];            /* views of the harness */
static uint32_t kept_id[4], next_id;
static uint64_t numbers[8]; /* the next number of each lane that the keeper sees */

/* Receives all there is. Numbers of a lane only leave out what is counted. */
static void drain(crash_run *r, shmipc_socket *s)
{
    unsigned char to[1024];
    shmipc_msg m;
    int rc;
    while ((rc = shmipc_recv_msg(s, to, sizeof to, &m, 0)) == SHMIPC_OK) {
        (void)receipt(r, &m);
        if (m.sender >= 8) continue;
        CRASH_EXPECT(r, twice, m.number >= numbers[m.sender]);
        numbers[m.sender] = m.number + 1;
    }
    CRASH_EXPECT(r, other, rc == SHMIPC_ETIMEDOUT);
}

/* ---- starting states ---- */

/* Dies with views, a loan and a lane of its own. */
static void die_busy(crash_run *r)
{
    shmipc_ctx *c = scope();
    shmipc_socket *sub = joined(c, SHMIPC_SUB), *pub = joined(c, SHMIPC_PUB);
    shmipc_msg m[3];
    shmipc_loan l;
    int i;
    (void)r;
    for (i = 0; i < 3; i++) MUST(sends(pub, 201 + (uint32_t)i));
    for (i = 0; i < 2; i++) (void)shmipc_take(sub, &m[i], 0);
    MUST(shmipc_loan_open(pub, LARGE, &l));
    fill((unsigned char *)l.data, 250, LARGE);
}
static void die_publishing(crash_run *r)
{
    shmipc_socket *pub = joined(scope(), SHMIPC_PUB);
    int i;
    (void)r;
    for (i = 0; i < 6; i++) MUST(sends(pub, 211 + (uint32_t)i));
}

static void published(uint32_t n)
{
    while (n--) MUST(sends(other, next_id++));
}

static void setup(crash_run *r)
{
    int i;
    begin(r);
    next_id = FIRST;
    memset(kept, 0, sizeof kept);
    memset(numbers, 0, sizeof numbers);
    keeper = joined(ctx, SHMIPC_SUB);
    other = NULL;
    if (state_is(r, "alone")) {
        watch(r, keeper);
        return;
    }
    if (state_is(r, "left")) crash_leave_dead(die_publishing, r);
    if (!state_is(r, "left")) other = joined(ctx, SHMIPC_PUB);
    if (state_is(r, "half") || state_is(r, "viewed")) published(3);
    if (state_is(r, "wrap")) published(12);
    if (state_is(r, "viewed")) {
        for (i = 0; i < 2; i++) {
            MUST(shmipc_take(keeper, &kept[i], 0));
            kept_id[i] = receipt(r, &kept[i]);
        }
    }
    if (state_is(r, "dead")) crash_leave_dead(die_busy, r);
    watch(r, keeper);
}

/* ---- the victim ---- */

static void enter_pub(crash_run *r)
{
    uint32_t i, n = state_is(r, "wrap") ? 9 : state_is(r, "half") ? 2 : 0;
    enter_scope(r);
    mine = joined(own, SHMIPC_PUB);
    for (i = 0; i < n; i++) MUST(sends(mine, VICTIMS + 20 + i));
}
/* Its lane is full of large messages, some of which the keeper looks at: the next one has to look for a chunk. */
static void enter_short(crash_run *r)
{
    uint32_t i;
    enter_pub(r);
    for (i = 0; i < 40; i++) MUST(sends(mine, VICTIMS + 21));
    book->sent[VICTIMS + 21] = 0;
}
static void enter_sub(crash_run *r)
{
    enter_scope(r);
    mine = joined(own, SHMIPC_SUB);
}
static void enter_beside(crash_run *r)
{
    enter_sub(r);
    crash_leave_dead(die_busy, r);
}
static shmipc_msg views[2];
static void enter_viewing(crash_run *r)
{
    enter_sub(r);
    (void)shmipc_take(mine, &views[0], 0);
    (void)shmipc_take(mine, &views[1], 0);
}
static shmipc_loan lent;
static void enter_lent(crash_run *r)
{
    enter_pub(r);
    MUST(shmipc_loan_open(mine, LARGE, &lent));
}

static void pub_open(crash_run *r)
{
    mine = join(own, SHMIPC_PUB);
    crash_note(r, 0, 1 + !mine);
}
static void sub_open(crash_run *r)
{
    mine = join(own, SHMIPC_SUB);
    crash_note(r, 0, 1 + !mine);
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
static void pub_small(crash_run *r)
{
    crash_note(r, 0, 1 + (uint64_t)-sends(mine, VICTIMS));
}
static void pub_large(crash_run *r)
{
    crash_note(r, 0, 1 + (uint64_t)-sends(mine, VICTIMS + 1));
}
static void pub_topic(crash_run *r)
{
    int rc;
    fill(message, VICTIMS, SMALL);
    rc = shmipc_send_topic(mine, "left/front", 10, message, SMALL, VICTIMS);
    if (!rc) book->sent[VICTIMS] = 1;
    crash_note(r, 0, 1 + (uint64_t)-rc);
}
static void pub_many(crash_run *r)
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
    crash_note(r, 0, n == 3 ? 1 : 2);
}
static void pub_loan(crash_run *r)
{
    uint32_t id = VICTIMS + (state_is(r, "half") ? 0 : 1);
    shmipc_loan l;
    int rc = shmipc_loan_open(mine, size_of(id), &l);
    if (!rc) {
        fill((unsigned char *)l.data, id, size_of(id));
        l.tag = id;
        rc = shmipc_loan_commit(&l, 0);
    }
    if (!rc) book->sent[id] = 1;
    crash_note(r, 0, 1 + (uint64_t)-rc);
}
static void pub_discard(crash_run *r)
{
    shmipc_loan l;
    int rc = shmipc_loan_open(mine, LARGE, &l);
    if (!rc) rc = shmipc_loan_discard(&l);
    crash_note(r, 0, 1 + (uint64_t)-rc);
}
static void sub_recv(crash_run *r)
{
    unsigned char to[1024];
    shmipc_msg m;
    int i, rc = SHMIPC_OK;
    for (i = 0; i < 3 && !rc; i++) {
        rc = shmipc_recv_msg(mine, to, sizeof to, &m, 0);
        if (!rc) CRASH_EXPECT(r, torn, number_of(m.data, m.len) == m.tag);
    }
    crash_note(r, 0, rc && rc != SHMIPC_ETIMEDOUT ? 2 : 1);
}
static void sub_take(crash_run *r)
{
    shmipc_msg m;
    int i, rc = SHMIPC_OK;
    for (i = 0; i < 3 && !rc; i++) {
        rc = shmipc_take(mine, &m, 0);
        if (rc) break;
        CRASH_EXPECT(r, torn, number_of(m.data, m.len) == m.tag);
        rc = shmipc_release(&m);
    }
    crash_note(r, 0, rc && rc != SHMIPC_ETIMEDOUT ? 2 : 1);
}
static void sweep_all(crash_run *r)
{
    crash_note(r, 0, shmipc_segment_sweep(mine->segment) < 0 ? 2 : 1);
}

/* ---- the survivor ---- */

static uint32_t survivors_id;

/* A publisher of the harness: a lane is there for it, whoever died on which. */
static void goes_on(crash_run *r)
{
    uint32_t i, first = survivors_id;
    if (!other) other = join(ctx, SHMIPC_PUB);
    CRASH_EXPECT(r, other, other != NULL);
    if (!other) return;
    drain(r, keeper);
    for (i = 0; i < 2; i++) CRASH_EXPECT(r, other, sends(other, survivors_id++) == SHMIPC_OK);
    drain(r, keeper);
    for (i = 0; i < 2; i++) CRASH_EXPECT(r, lost, book->got[first + i] == 1);
    crash_recovered(r);
    for (i = 0; i < 12; i++) { /* around the lane */
        CRASH_EXPECT(r, other, sends(other, 191) == SHMIPC_OK);
        drain(r, keeper);
    }
    book->got[191] = book->sent[191] = 0;
    for (i = 0; i < 2; i++) {
        if (kept[i].socket) CRASH_EXPECT(r, torn, number_of(kept[i].data, kept[i].len) == kept_id[i]);
    }
}

/* As a new publisher, on whatever lane that is. */
static void publishes(crash_run *r, uint32_t count)
{
    shmipc_socket *more[3] = {NULL, NULL, NULL};
    uint32_t i;
    for (i = 0; i < count; i++) {
        more[i] = join(ctx, SHMIPC_PUB);
        CRASH_EXPECT(r, other, more[i] != NULL);
        if (!more[i]) continue;
        CRASH_EXPECT(r, other, sends(more[i], 195 + i) == SHMIPC_OK);
        CRASH_EXPECT(r, other, sends(more[i], 198 + i) == SHMIPC_OK);
        drain(r, keeper);
        CRASH_EXPECT(r, lost, book->got[195 + i] == 1 && book->got[198 + i] == 1);
    }
    for (i = 0; i < count; i++) shmipc_close(&more[i]);
}

static void books(crash_run *r, int victim_gone)
{
    shmipc_socket_stats st;
    uint32_t i, missing = 0;
    drain(r, keeper);
    CRASH_EXPECT(r, other, shmipc_segment_sweep(keeper->segment) >= 0);
    publishes(r, role_is(r, "newcomers") ? 3 : 1);
    for (i = 0; i < 2; i++) {
        if (!kept[i].socket) continue;
        CRASH_EXPECT(r, torn, number_of(kept[i].data, kept[i].len) == kept_id[i]);
        CRASH_EXPECT(r, other, shmipc_release(&kept[i]) == SHMIPC_OK);
    }
    CRASH_EXPECT(r, other, shmipc_socket_get_stats(keeper, &st) == SHMIPC_OK);
    for (i = 0; i < IDS; i++) {
        if (i != VICTIMS + 21) CRASH_EXPECT(r, twice, book->got[i] <= 1);
        missing += book->sent[i] && !book->got[i];
    }
    CRASH_EXPECT(r, lost, missing <= st.dropped);
    crash_saw(r, crash_noted(r, 0) ? 1 : 0);
    shmipc_close(&other);
    if (victim_gone) last_one(r, &keeper);
    else audited(r, keeper, 0);
}

static void check(crash_run *r)
{
    int gone = r->mode & (CRASH_KILL | CRASH_ZOMBIE | CRASH_BLOCKED);
    survivors_id = SURVIVORS;
    if (gone && role_is(r, "sweeps first")) CRASH_EXPECT(r, other, shmipc_segment_sweep(keeper->segment) >= 0);
    if (!gone && role_is(r, "newcomers")) publishes(r, 2), memset(book->got + 190, 0, 11);
    goes_on(r);
    if (gone) books(r, 1);
}
static void done(crash_run *r)
{
    if (r->mode == CRASH_FREEZE) CRASH_EXPECT(r, other, crash_noted(r, 0) == 1);
    goes_on(r);
    books(r, crash_dead(r));
}

static const char *const s_open[] = {"alone", "half", "left", "dead", NULL};
static const char *const s_pub[] = {"empty", "half", "wrap", "viewed", "left", NULL};
static const char *const s_sub[] = {"empty", "half", "wrap", "dead", "left", NULL};
static const char *const s_half[] = {"half", "wrap", NULL};
static const char *const s_short[] = {"viewed", "left", NULL};
static const char *const roles[] = {"goes on", "sweeps first", "newcomers", NULL};
static const char *const two[] = {"goes on", "sweeps first", NULL};

#define ALL (CRASH_KILL | CRASH_ZOMBIE | CRASH_FREEZE | CRASH_LATE)
#define ROW(name, states, roles, see, enter, fn)                                                                       \
    {                                                                                                                  \
        name, states, roles, ALL, CRASH_INPROC, see, setup, enter, fn, check, done, NULL, teardown, 0                  \
    }

static const crash_op ops[] = {
    ROW("pub_open", s_open, roles, 1, enter_scope, pub_open),
    ROW("sub_open", s_open, two, 1, enter_scope, sub_open),
    ROW("pub_close", s_half, roles, 1, enter_pub, close_it),
    ROW("pub_close_short", s_short, roles, 1, enter_short, close_it),
    ROW("pub_leave_lent", s_half, two, 1, enter_lent, close_all),
    ROW("sub_close", s_half, two, 1, enter_sub, close_it),
    ROW("sub_leave_viewing", s_half, two, 1, enter_viewing, close_all),
    ROW("pub_small", s_pub, two, 1, enter_pub, pub_small),
    ROW("pub_topic", s_half, two, 1, enter_pub, pub_topic),
    ROW("pub_large", s_pub, roles, 1, enter_pub, pub_large),
    ROW("pub_large_short", s_short, roles, 1, enter_short, pub_large),
    ROW("pub_many", s_pub, two, 1, enter_pub, pub_many),
    ROW("pub_loan", s_pub, roles, 1, enter_pub, pub_loan),
    ROW("pub_discard", s_half, two, 1, enter_pub, pub_discard),
    ROW("sub_recv", s_sub, two, 1, enter_sub, sub_recv),
    ROW("sub_take", s_sub, roles, 1, enter_sub, sub_take),
    ROW("sweep", s_half, roles, 1, enter_beside, sweep_all),
};

int main(int argc, char **argv) { return run("pubsub", ops, CRASH_COUNT(ops), argc, argv); }
