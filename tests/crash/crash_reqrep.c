/* crash_reqrep.c - a requester, a replier or a sweeper dies or stops after any instruction of any call.
 *
 * The harness has a requester and a replier of its own. A request is executed at most once, answered or reported dead;
 * a reply reaches the one who asked and nobody else; no cell, chunk or block stays behind.
 * Statements: S20 to S31, S44, C13, I1, I2, I8.
 */
#include "crash_channel.h"

/* the answer to n is n + REPLY, both small or both large */
enum { ASKED = 10, VICTIMS = 64, SURVIVORS = 128, REPLY = 32 };

static shmipc_socket *asker, *server; /* REQ and REP of the harness, which lives all the time */
static uint32_t asked;                /* the request of the harness in progress, IDS without */
static int served;                    /* the server has a request and has not answered */

/* ---- starting states ---- */

static uint32_t number;
static int serves(crash_run *r, shmipc_socket *s)
{
    static unsigned char to[1024];
    shmipc_msg m;
    int rc = shmipc_recv_msg(s, to, sizeof to, &m, 0);
    if (rc) return rc;
    number = receipt(r, &m);
    return SHMIPC_OK;
}
static int answers(shmipc_socket *s, uint32_t id)
{
    static unsigned char text[1024];
    fill(text, id + REPLY, size_of(id));
    return shmipc_send_tag(s, text, size_of(id), id + REPLY, 0);
}
static int answered(crash_run *r, shmipc_socket *s, uint32_t id)
{
    unsigned char to[1024];
    shmipc_msg m;
    int rc = shmipc_recv_msg(s, to, sizeof to, &m, 0);
    if (!rc) CRASH_EXPECT(r, torn, number_of(m.data, m.len) == id + REPLY && m.tag == id + REPLY);
    return rc;
}

/* Dies as replier over a request, as requester with one under way and one answered. */
static void die_busy(crash_run *r)
{
    shmipc_ctx *c = scope();
    shmipc_socket *rep = joined(c, SHMIPC_REP), *req = joined(c, SHMIPC_REQ), *more = joined(c, SHMIPC_REQ);
    (void)serves(r, rep);
    MUST(sends(req, 250));
    MUST(sends(more, 251));
}
static void die_writing(crash_run *r)
{
    shmipc_ctx *c = scope();
    shmipc_socket *rep = joined(c, SHMIPC_REP);
    uint64_t word;
    void *at;
    uint32_t tag = 0;
    MUST(serves(r, rep));
    if (shmipc__rep_claim(rep, &rep->cells[rep->pending_cell], &word) != 1) _exit(1);
    MUST(shmipc__cell_room(rep, &rep->cells[rep->pending_cell], LARGE, &tag, &at));
}

static void asks(uint32_t id)
{
    MUST(sends(asker, id));
    asked = id;
}

static void setup(crash_run *r)
{
    int small = state_is(r, "asked small") || state_is(r, "answered small");
    begin(r);
    asked = IDS;
    served = 0;
    server = joined(ctx, SHMIPC_REP);
    asker = joined(ctx, SHMIPC_REQ);
    if (!state_is(r, "idle") && !state_is(r, "full")) asks(small ? ASKED : ASKED + 1);
    if (strstr(crash_state(r), "answered")) MUST(serves(r, server)), MUST(answers(server, number));
    if (state_is(r, "served")) MUST(serves(r, server)), served = 1;
    if (state_is(r, "abandoned")) MUST(sends(asker, ASKED + 2)), asked = ASKED + 2;
    if (state_is(r, "dead")) crash_leave_dead(die_busy, r);
    if (state_is(r, "dead writing")) crash_leave_dead(die_writing, r);
    watch(r, server);
}

/* ---- the victim ---- */

static void enter_req(crash_run *r)
{
    enter_scope(r);
    mine = joined(own, SHMIPC_REQ);
}
static void enter_rep(crash_run *r)
{
    enter_scope(r);
    mine = joined(own, SHMIPC_REP);
}
/* Its request is answered by the server, which the harness holds: so by a child of ours. */
static void serve_one(crash_run *r)
{
    shmipc_ctx *c = scope();
    shmipc_socket *rep = joined(c, SHMIPC_REP);
    while (serves(r, rep) == SHMIPC_OK) MUST(answers(rep, number));
    shmipc_ctx_close(c);
}
static void enter_answered(crash_run *r)
{
    enter_req(r);
    MUST(sends(mine, VICTIMS + (state_is(r, "idle") ? 0 : 1)));
    crash_leave_dead(serve_one, r);
}
static void enter_asking(crash_run *r)
{
    enter_req(r);
    MUST(sends(mine, VICTIMS + 1));
}
static void enter_serving(crash_run *r)
{
    enter_rep(r);
    MUST(serves(r, mine));
}
static shmipc_loan lent;
static void enter_lent_reply(crash_run *r)
{
    enter_serving(r);
    MUST(shmipc_loan_open(mine, size_of(number), &lent));
}
static void enter_lent_request(crash_run *r)
{
    enter_req(r);
    MUST(shmipc_loan_open(mine, LARGE, &lent));
}
static void enter_beside(crash_run *r)
{
    enter_rep(r);
    crash_leave_dead(strcmp(crash_state(r), "asked") ? die_busy : die_writing, r);
}
static shmipc_msg view;
static void enter_viewing(crash_run *r)
{
    enter_answered(r);
    MUST(shmipc_take(mine, &view, 0));
}

static void req_open(crash_run *r)
{
    mine = join(own, SHMIPC_REQ);
    crash_note(r, 0, 1 + !mine);
}
static void rep_open(crash_run *r)
{
    mine = join(own, SHMIPC_REP);
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
static void req_small(crash_run *r)
{
    crash_note(r, 0, 1 + (uint64_t)-sends(mine, VICTIMS));
}
static void req_large(crash_run *r)
{
    crash_note(r, 0, 1 + (uint64_t)-sends(mine, VICTIMS + 1));
}
static void req_again(crash_run *r) /* gives up the one before */
{
    crash_note(r, 0, 1 + (uint64_t)-sends(mine, VICTIMS + 2));
}
static void req_loan(crash_run *r)
{
    shmipc_loan l;
    int rc = shmipc_loan_open(mine, LARGE, &l);
    if (!rc) {
        fill((unsigned char *)l.data, VICTIMS + 1, LARGE);
        l.tag = VICTIMS + 1;
        rc = shmipc_loan_commit(&l, 0);
    }
    crash_note(r, 0, 1 + (uint64_t)-rc);
}
static void req_recv(crash_run *r)
{
    int rc = answered(r, mine, VICTIMS + (state_is(r, "idle") ? 0 : 1));
    crash_note(r, 0, 1 + (uint64_t)-rc);
}
static void req_take(crash_run *r)
{
    shmipc_msg m;
    int rc = shmipc_take(mine, &m, 0);
    if (!rc) rc = shmipc_release(&m);
    crash_note(r, 0, 1 + (uint64_t)-rc);
}
static void req_timeout(crash_run *r)
{
    size_t len;
    unsigned char to[1024];
    int rc;
    fill(message, VICTIMS + 1, LARGE);
    rc = shmipc_request(mine, message, LARGE, to, sizeof to, &len, 1);
    crash_note(r, 0, rc == SHMIPC_ETIMEDOUT || rc == SHMIPC_OK ? 1 : 2);
}
static void rep_recv(crash_run *r)
{
    int rc = serves(r, mine);
    crash_note(r, 0, rc && rc != SHMIPC_ETIMEDOUT ? 2 : 1);
}
static void rep_take(crash_run *r)
{
    shmipc_msg m;
    int rc = shmipc_take(mine, &m, 0);
    if (!rc) number = receipt(r, &m);
    if (!rc) rc = answers(mine, number);
    crash_note(r, 0, rc && rc != SHMIPC_ETIMEDOUT ? 2 : 1);
}
static void rep_send(crash_run *r)
{
    crash_note(r, 0, 1 + (uint64_t)-answers(mine, number));
}
static void rep_loan(crash_run *r)
{
    shmipc_loan l;
    int rc = shmipc_loan_open(mine, size_of(number), &l);
    if (!rc) {
        fill((unsigned char *)l.data, number + REPLY, size_of(number));
        l.tag = number + REPLY;
        rc = shmipc_loan_commit(&l, 0);
    }
    crash_note(r, 0, 1 + (uint64_t)-rc);
}
static void rep_discard(crash_run *r)
{
    int rc = shmipc_loan_discard(&lent);
    if (!rc) rc = answers(mine, number);
    crash_note(r, 0, 1 + (uint64_t)-rc);
}
static void rep_too_short(crash_run *r) /* the request stays */
{
    unsigned char to[8];
    size_t len;
    int rc = shmipc_recv(mine, to, sizeof to, &len, 0);
    crash_note(r, 0, rc == SHMIPC_EMSGSIZE || rc == SHMIPC_ETIMEDOUT ? 1 : 2);
}
static void sweep_all(crash_run *r)
{
    crash_note(r, 0, shmipc_segment_sweep(mine->segment) < 0 ? 2 : 1);
}

/* ---- the survivor ---- */

static uint32_t survivors_id;

/* What the harness asked must be answered, or reported, once the victim is gone; before, if nobody has it. */
static void own_request(crash_run *r, int must)
{
    int rc;
    if (served) {
        rc = answers(server, asked);
        CRASH_EXPECT(r, other, rc == SHMIPC_OK);
        served = 0;
    }
    while (serves(r, server) == SHMIPC_OK) CRASH_EXPECT(r, other, answers(server, number) == SHMIPC_OK);
    if (asked == IDS) return;
    rc = answered(r, asker, asked);
    if (rc == SHMIPC_OK) crash_saw(r, 2);
    if (rc == SHMIPC_EPEERDEAD) crash_saw(r, 3);
    if (rc == SHMIPC_OK || rc == SHMIPC_EPEERDEAD) asked = IDS;
    else if (must || rc != SHMIPC_ETIMEDOUT) CRASH_EXPECT(r, lost, !"an answer, or the news that there is none");
}

/* A request of its own goes through, whatever the victim holds. */
static void goes_on(crash_run *r)
{
    shmipc_socket *more = asked == IDS ? asker : join(ctx, SHMIPC_REQ);
    uint32_t id = survivors_id, tries;
    int rc;
    survivors_id += 3;
    CRASH_EXPECT(r, other, more != NULL);
    if (!more) return;
    for (tries = 0, rc = SHMIPC_EFULL; tries < 8 && rc == SHMIPC_EFULL; tries++) {
        rc = sends(more, id);
        if (rc == SHMIPC_EFULL) own_request(r, 0);
    }
    CRASH_EXPECT(r, other, rc == SHMIPC_OK);
    own_request(r, 0);
    CRASH_EXPECT(r, lost, answered(r, more, id) == SHMIPC_OK);
    crash_recovered(r);
    if (more != asker) shmipc_close(&more);
}

static void books(crash_run *r, int victim_gone)
{
    uint32_t i;
    CRASH_EXPECT(r, other, shmipc_segment_sweep(server->segment) >= 0);
    if (role_is(r, "newcomer")) {
        shmipc_close(&server);
        served = 0;
        server = join(ctx, SHMIPC_REP);
        CRASH_EXPECT(r, other, server != NULL);
        if (!server) return;
    }
    own_request(r, 1);
    goes_on(r);
    for (i = 0; i < IDS; i++) CRASH_EXPECT(r, twice, book->got[i] <= 1); /* executed */
    crash_saw(r, crash_noted(r, 0) ? 1 : 0);
    shmipc_close(&asker);
    if (victim_gone) last_one(r, &server);
    else audited(r, server, 0);
}

static void check(crash_run *r)
{
    int gone = r->mode & (CRASH_KILL | CRASH_ZOMBIE | CRASH_BLOCKED);
    survivors_id = SURVIVORS;
    if (gone && role_is(r, "sweeps first")) CRASH_EXPECT(r, other, shmipc_segment_sweep(server->segment) >= 0);
    if (!gone && role_is(r, "gives up") && asked < IDS) {
        shmipc__req_abandon(asker);
        asked = IDS;
    }
    if (role_is(r, "leaves")) { /* the one who asked goes */
        shmipc_close(&asker);
        asker = joined(ctx, SHMIPC_REQ);
        asked = IDS;
    }
    goes_on(r);
    if (gone) books(r, 1);
}
static void done(crash_run *r)
{
    if (r->mode == CRASH_FREEZE) CRASH_EXPECT(r, other, crash_noted(r, 0) == 1);
    if (r->mode == CRASH_FREEZE && mine == NULL) goes_on(r);
    books(r, crash_dead(r));
}
/* A frozen replier may keep the harness's request in hand: it ends first. */
static void done_serving(crash_run *r)
{
    if (r->mode == CRASH_FREEZE) CRASH_EXPECT(r, other, crash_noted(r, 0) == 1);
    if (r->mode == CRASH_FREEZE && asked < IDS && answered(r, asker, asked) == SHMIPC_ETIMEDOUT) {
        shmipc__req_abandon(asker); /* it took the request, and nobody told it to answer */
        asked = IDS;
    } else if (r->mode == CRASH_FREEZE) {
        asked = IDS;
    }
    books(r, crash_dead(r));
}


static const char *const s_open[] = {"idle", "asked", "dead", NULL};
static const char *const s_req[] = {"idle", "asked", "served", "dead", NULL};
static const char *const s_idle[] = {"idle", "asked", NULL};
static const char *const s_rep[] = {"idle", "asked", "asked small", "abandoned", "dead", "dead writing", NULL};
static const char *const s_serving[] = {"asked", "asked small", NULL};
static const char *const s_sweep[] = {"asked", "asked small", "idle", NULL};
static const char *const roles[] = {"goes on", "sweeps first", "newcomer", NULL};
static const char *const quits[] = {"goes on", "sweeps first", "newcomer", "gives up", "leaves", NULL};
static const char *const two[] = {"goes on", "sweeps first", NULL};

#define ALL (CRASH_KILL | CRASH_ZOMBIE | CRASH_FREEZE | CRASH_LATE)
#define ROW(name, states, roles, see, enter, fn, done)                                                                 \
    {                                                                                                                  \
        name, states, roles, ALL, CRASH_INPROC, see, setup, enter, fn, check, done, NULL, teardown, 0                  \
    }

static const crash_op ops[] = {
    ROW("req_open", s_open, two, 1, enter_scope, req_open, done),
    ROW("rep_open", s_open, two, 1, enter_scope, rep_open, done),
    ROW("req_close", s_idle, two, 1, enter_asking, close_it, done),
    ROW("req_close_answered", s_idle, two, 1, enter_answered, close_it, done),
    ROW("req_leave_viewing", s_idle, two, 1, enter_viewing, close_all, done),
    ROW("rep_close", s_serving, quits, 1, enter_serving, close_it, done_serving),
    ROW("req_small", s_req, two, 1, enter_req, req_small, done),
    ROW("req_large", s_req, roles, 1, enter_req, req_large, done),
    ROW("req_again", s_idle, two, 1, enter_asking, req_again, done),
    ROW("req_loan", s_idle, two, 1, enter_req, req_loan, done),
    ROW("req_recv", s_idle, two, 1, enter_answered, req_recv, done),
    ROW("req_take", s_idle, two, 1, enter_answered, req_take, done),
    ROW("req_timeout", s_idle, two, 1, enter_req, req_timeout, done),
    ROW("rep_recv", s_rep, quits, 1, enter_rep, rep_recv, done_serving),
    ROW("rep_take", s_rep, quits, 1, enter_rep, rep_take, done_serving),
    ROW("rep_send", s_serving, quits, 1, enter_serving, rep_send, done_serving),
    ROW("rep_loan", s_serving, quits, 1, enter_serving, rep_loan, done_serving),
    ROW("rep_close_lent", s_serving, quits, 1, enter_lent_reply, close_it, done_serving),
    ROW("rep_discard", s_serving, quits, 1, enter_lent_reply, rep_discard, done_serving),
    ROW("req_leave_lent", s_idle, two, 1, enter_lent_request, close_all, done),
    ROW("rep_too_short", s_serving, two, 1, enter_rep, rep_too_short, done),
    ROW("sweep", s_sweep, quits, 1, enter_beside, sweep_all, done),
};

int main(int argc, char **argv) { return run("reqrep", ops, CRASH_COUNT(ops), argc, argv); }
