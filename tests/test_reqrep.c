/* REQ/REP across processes: own replies only, timeouts, deaths on both sides, state errors. */
#include "socket_world.h"

static int64_t ask(shmipc_socket *s, uint64_t id, int64_t timeout_ns)
{
    uint64_t reply = 0;
    size_t len = 0;
    int rc = shmipc_request(s, &id, sizeof id, &reply, sizeof reply, &len, timeout_ns);
    if (rc) return rc;
    CHECK_EQ(len, sizeof reply);
    return (int64_t)reply;
}

/* The reply of the tests: the request's number plus 1000000, from whoever it is. */
static void answer(shmipc_socket *s, uint64_t id) { CHECK_EQ(send_id(s, id + 1000000, 0), SHMIPC_OK); }

/* Answers until 0 comes; executed[id] counts what was carried out. */
static uint32_t *executed;
static void replier(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_REP, "r", NULL);
    int64_t id;
    (void)n;
    raise_event(READY);
    while ((id = recv_id(s, SOON)) > 0) {
        if (executed) __atomic_fetch_add(&executed[id % 1000], 1, __ATOMIC_RELAXED);
        answer(s, (uint64_t)id);
    }
    CHECK_EQ(id, 0);
    answer(s, 0);
    shmipc_close(&s);
}

static void end_replier(shmipc_socket *req, pid_t pid)
{
    CHECK_EQ(ask(req, 0, SOON), 1000000);
    child_done(pid);
}

/* ---- exchanges ---- */

TEST(S26_S29_exchanges_by_send_and_recv)
{
    shmipc_ctx *ctx = world_begin();
    pid_t pid = child(replier, 0);
    shmipc_socket *s = opened(ctx, SHMIPC_REQ, "r", NULL);
    uint64_t i;
    COVERS("S11 S25 S31");
    for (i = 1; i <= 5; i++) {
        CHECK_EQ(send_id(s, i, SOON), SHMIPC_OK);
        CHECK_EQ(recv_id(s, SOON), 1000000 + (int64_t)i);
        CHECK_EQ(recv_id(s, 0), SHMIPC_ESTATE); /* each reply once */
    }
    CHECK_EQ(stats_of(s).sent, 5);
    CHECK_EQ(stats_of(s).received, 5);
    CHECK_EQ(stats_of(s).bytes_received, 40);
    end_replier(s, pid);
    shmipc_close(&s);
    world_end(ctx);
}

TEST_LIMIT(S27_S32_a_million_exchanges_on_one_pair, 120)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *s = opened(ctx, SHMIPC_REQ, "r", NULL);
    pid_t pid = child(replier, 0);
    uint64_t i, n = getenv("SHORT") ? 100000 : 1000000, before = 0;
    int descriptors = 0;
    COVERS("S62");
    for (i = 1; i <= n; i++) {
        if (!CHECK_EQ(ask(s, i, SOON), 1000000 + (int64_t)i)) break;
        if (i != 1000) continue;
        before = stats_of(s).memory;
        descriptors = scope_descriptors();
    }
    CHECK_EQ(stats_of(s).memory, before);
    CHECK_EQ(scope_descriptors(), descriptors);
    end_replier(s, pid);
    shmipc_close(&s);
    world_end(ctx);
}

/* Echoes, copied and in place in turns, until an empty request with tag 9 comes. */
static void echo(shmipc_ctx *ctx, int n)
{
    enum { ROOM = 4 << 20 };
    shmipc_socket *s = opened(ctx, SHMIPC_REP, "r", NULL);
    unsigned char *buf = (unsigned char *)malloc(ROOM);
    shmipc_msg m;
    int turn, rc;
    (void)n;
    REQUIRE(buf != NULL);
    for (turn = 0;; turn++) {
        rc = turn % 2 ? shmipc_take(s, &m, SOON) : shmipc_recv_msg(s, buf, ROOM, &m, SOON);
        if (!CHECK_EQ(rc, SHMIPC_OK)) break;
        if (turn % 4 < 2) CHECK_EQ(shmipc_send_tag(s, m.data, (size_t)m.len, m.tag + 1, 0), SHMIPC_OK);
        else {
            shmipc_loan loan;
            if (!CHECK_EQ(shmipc_loan_open(s, (size_t)m.len + 5, &loan), SHMIPC_OK)) break;
            if (m.len) memcpy(loan.data, m.data, (size_t)m.len);
            loan.len = m.len;
            loan.tag = m.tag + 1;
            CHECK_EQ(shmipc_loan_commit(&loan, 0), SHMIPC_OK);
        }
        if (turn % 2) (void)shmipc_release(&m);
        if (m.tag == 9) break;
    }
    free(buf);
    shmipc_close(&s);
}

TEST(S30_bytes_of_every_size_both_ways)
{
    static const size_t sizes[] = {1, 8, 31, 32, 33, 47, 48, 49, 64, 1000, 4096, 65536, 1000003, 4 << 20, 5};
    enum { SIZES = sizeof sizes / sizeof *sizes, ROOM = 4 << 20 };
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *s = opened(ctx, SHMIPC_REQ, "r", NULL);
    pid_t pid = child(echo, 0);
    unsigned char *buf = (unsigned char *)malloc(ROOM), *got = (unsigned char *)malloc(ROOM);
    shmipc_msg m;
    size_t len = 0;
    uint32_t i;
    COVERS("S16 S17 S31 S23");
    REQUIRE(buf != NULL && got != NULL);
    for (i = 0; i < 4 * SIZES; i++) {
        size_t n = sizes[i % SIZES];
        fill(buf, n, i);
        if (i % 3 == 0) {
            CHECK_EQ(shmipc_request(s, buf, n, got, ROOM, &len, SOON), SHMIPC_OK);
            CHECK_EQ(len, n);
            CHECK_MEM(got, buf, n);
            continue;
        }
        CHECK_EQ(shmipc_send_tag(s, buf, n, i + 100, SOON), SHMIPC_OK);
        if (!CHECK_EQ(i % 3 == 1 ? shmipc_take(s, &m, SOON) : shmipc_recv_msg(s, got, ROOM, &m, SOON), SHMIPC_OK)) {
            break;
        }
        CHECK_EQ(m.len, n);
        CHECK_EQ(m.tag, i + 101);
        CHECK_MEM(m.data, buf, n);
        if (i % 3 == 1) CHECK_EQ(shmipc_release(&m), SHMIPC_OK);
    }
    CHECK_EQ(shmipc_send_tag(s, NULL, 0, 9, SOON), SHMIPC_OK);
    CHECK_EQ(shmipc_recv_msg(s, NULL, 0, &m, SOON), SHMIPC_OK);
    CHECK_EQ(m.len, 0);
    child_done(pid);
    free(buf);
    free(got);
    shmipc_close(&s);
    world_end(ctx);
}

TEST(S26_a_reply_longer_than_the_buffer_stays)
{
    enum { LEN = 100000 };
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *req = opened(ctx, SHMIPC_REQ, "r", NULL), *rep = opened(ctx, SHMIPC_REP, "r", NULL);
    static unsigned char buf[LEN];
    shmipc_msg m;
    size_t n, len = 7;
    for (n = 20; n <= LEN; n += LEN - 20) {
        CHECK_EQ(send_id(req, 1, 0), SHMIPC_OK);
        CHECK_EQ(recv_id(rep, SOON), 1);
        fill(buf, n, 5);
        CHECK_EQ(shmipc_send(rep, buf, n, 0), SHMIPC_OK);
        memset(buf, 0, n);
        CHECK_EQ(shmipc_recv(req, buf, n - 1, &len, SOON), SHMIPC_EMSGSIZE);
        CHECK_EQ(len, 7);
        CHECK_EQ(shmipc_take(req, &m, 0), SHMIPC_OK);
        CHECK_EQ(m.len, n);
        CHECK(is_filled(m.data, n, 5));
        CHECK_EQ(shmipc_release(&m), SHMIPC_OK);
        CHECK_EQ(shmipc_send(req, buf, n, 0), SHMIPC_OK); /* the same for a request */
        CHECK_EQ(shmipc_recv(rep, buf, n - 1, &len, SOON), SHMIPC_EMSGSIZE);
        CHECK_EQ(shmipc_send(rep, "no", 2, 0), SHMIPC_ESTATE); /* it is not received yet */
        CHECK_EQ(shmipc_recv_msg(rep, buf, n, &m, SOON), SHMIPC_OK);
        CHECK_EQ(m.len, n);
        answer(rep, 1);
        CHECK_EQ(recv_id(req, SOON), 1000001);
    }
    shmipc_close(&req);
    shmipc_close(&rep);
    world_end(ctx);
}

/* ---- nobody answers ---- */

TEST(S28_no_answer_in_time)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *req = opened(ctx, SHMIPC_REQ, "r", NULL), *rep;
    int64_t t0 = now_ns();
    COVERS("S12 S33");
    CHECK_EQ(ask(req, 1, 20000000), SHMIPC_ETIMEDOUT); /* there is no replier at all */
    CHECK(now_ns() - t0 >= 20000000);
    CHECK_EQ(recv_id(req, 0), SHMIPC_ESTATE); /* given up */
    rep = opened(ctx, SHMIPC_REP, "r", NULL);
    CHECK_EQ(recv_id(rep, 0), SHMIPC_ETIMEDOUT); /* and not carried out */
    CHECK_EQ(ask(req, 2, 20000000), SHMIPC_ETIMEDOUT);
    CHECK_EQ(send_id(req, 3, 0), SHMIPC_OK);
    t0 = now_ns();
    CHECK_EQ(recv_id(req, 20000000), SHMIPC_ETIMEDOUT);
    CHECK(now_ns() - t0 >= 20000000);
    CHECK_EQ(recv_id(rep, SOON), 3);
    CHECK_EQ(recv_id(req, 0), SHMIPC_ETIMEDOUT); /* still pending */
    answer(rep, 3);
    CHECK_EQ(recv_id(req, SOON), 1000003);
    shmipc_close(&req);
    shmipc_close(&rep);
    world_end(ctx);
}

TEST(S33_after_a_timeout_the_next_gets_its_own_answer)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *req = opened(ctx, SHMIPC_REQ, "r", NULL), *rep = opened(ctx, SHMIPC_REP, "r", NULL);
    uint64_t i;
    for (i = 1; i < 100; i += 2) { /* more often than there can be cells to leak */
        CHECK_EQ(send_id(req, i, 0), SHMIPC_OK);
        CHECK_EQ(recv_id(rep, SOON), (int64_t)i);
        CHECK_EQ(recv_id(req, 0), SHMIPC_ETIMEDOUT);
        CHECK_EQ(send_id(req, i + 1, 0), SHMIPC_OK); /* abandons the one before */
        answer(rep, i); /* late: OK, and dropped */
        CHECK_EQ(recv_id(req, 0), SHMIPC_ETIMEDOUT);
        CHECK_EQ(recv_id(rep, SOON), (int64_t)i + 1);
        answer(rep, i + 1);
        CHECK_EQ(recv_id(req, SOON), 1000001 + (int64_t)i);
    }
    CHECK_EQ(stats_of(req).queued, 0);
    shmipc_close(&req);
    shmipc_close(&rep);
    world_end(ctx);
}

/* ---- several ---- */

static void requester(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_REQ, "r", NULL);
    uint64_t i;
    for (i = 1; i <= 2000; i++)
        if (!CHECK_EQ(ask(s, (uint64_t)n * 10000 + i, SOON), 1000000 + n * 10000 + (int64_t)i)) break;
    shmipc_close(&s);
}

TEST_LIMIT(S34_each_requester_gets_only_its_own_replies, 60)
{
    enum { CLIENTS = 8, SERVERS = 2 };
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *s = opened(ctx, SHMIPC_REQ, "r", NULL);
    pid_t client[CLIENTS], server[SERVERS];
    int i;
    COVERS("S31");
    for (i = 0; i < SERVERS; i++) server[i] = child(replier, i);
    for (i = 0; i < CLIENTS; i++) client[i] = child(requester, i);
    for (i = 0; i < CLIENTS; i++) child_done(client[i]);
    for (i = 0; i < SERVERS; i++) CHECK_EQ(ask(s, 0, SOON), 1000000);
    for (i = 0; i < SERVERS; i++) child_done(server[i]);
    shmipc_close(&s);
    world_end(ctx);
}

TEST(S34_requests_are_served_in_order_of_arrival)
{
    enum { CLIENTS = 20 };
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg = options();
    shmipc_socket *req[CLIENTS], *rep[2];
    int i;
    cfg.max_memory = 1; /* the least there is, for the sake of 32-bit address spaces */
    for (i = 0; i < CLIENTS; i++) {
        req[i] = opened(ctx, SHMIPC_REQ, "r", &cfg);
        CHECK_EQ(send_id(req[i], (uint64_t)i, 0), SHMIPC_OK);
    }
    CHECK_EQ(stats_of(req[0]).queued, CLIENTS);
    for (i = 0; i < 2; i++) rep[i] = opened(ctx, SHMIPC_REP, "r", NULL);
    for (i = 0; i < CLIENTS; i += 2) {
        CHECK_EQ(recv_id(rep[0], SOON), i);
        CHECK_EQ(recv_id(rep[1], SOON), i + 1);
        answer(rep[1], (uint64_t)i + 1);
        answer(rep[0], (uint64_t)i);
    }
    for (i = CLIENTS - 1; i >= 0; i--) {
        CHECK_EQ(recv_id(req[i], SOON), 1000000 + i);
        shmipc_close(&req[i]);
    }
    for (i = 0; i < 2; i++) shmipc_close(&rep[i]);
    world_end(ctx);
}

TEST(S41_full_request_queue)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg = of_depth(4);
    shmipc_socket *a = opened(ctx, SHMIPC_REQ, "r", &cfg), *b = opened(ctx, SHMIPC_REQ, "r", NULL);
    shmipc_socket *c = opened(ctx, SHMIPC_REQ, "r", NULL), *rep = opened(ctx, SHMIPC_REP, "r", NULL), *more[2];
    int64_t t0;
    int i;
    CHECK_EQ(send_id(a, 1, 0), SHMIPC_OK);
    CHECK_EQ(send_id(b, 2, 0), SHMIPC_OK);
    for (i = 0; i < 2; i++) {
        more[i] = opened(ctx, SHMIPC_REQ, "r", NULL);
        CHECK_EQ(send_id(more[i], 4 + (uint64_t)i, 0), SHMIPC_OK);
    }
    CHECK_EQ(send_id(c, 3, 0), SHMIPC_EFULL);
    t0 = now_ns();
    CHECK_EQ(send_id(c, 3, 20000000), SHMIPC_EFULL);
    CHECK(now_ns() - t0 >= 20000000);
    CHECK_EQ(stats_of(c).dropped, 1); /* the one that would not wait */
    CHECK_EQ(recv_id(c, 0), SHMIPC_ESTATE); /* nothing was sent */
    CHECK_EQ(recv_id(rep, SOON), 1);
    CHECK_EQ(send_id(c, 3, 0), SHMIPC_OK);
    answer(rep, 1);
    CHECK_EQ(recv_id(rep, SOON), 2);
    answer(rep, 2);
    for (i = 0; i < 2; i++) {
        CHECK_EQ(recv_id(rep, SOON), 4 + i);
        answer(rep, 4 + (uint64_t)i);
        CHECK_EQ(recv_id(more[i], SOON), 1000004 + i);
        shmipc_close(&more[i]);
    }
    CHECK_EQ(recv_id(rep, SOON), 3);
    answer(rep, 3);
    CHECK_EQ(recv_id(c, SOON), 1000003);
    CHECK_EQ(recv_id(b, SOON), 1000002);
    CHECK_EQ(recv_id(a, SOON), 1000001);
    shmipc_close(&a);
    shmipc_close(&b);
    shmipc_close(&c);
    shmipc_close(&rep);
    world_end(ctx);
}

/* ---- state errors ---- */

TEST(S36_state_errors)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *req = opened(ctx, SHMIPC_REQ, "r", NULL), *rep = opened(ctx, SHMIPC_REP, "r", NULL), *lone;
    shmipc_loan loan;
    uint64_t i;
    CHECK_EQ(send_id(rep, 1, 0), SHMIPC_ESTATE);
    CHECK_EQ(recv_id(req, 0), SHMIPC_ESTATE);
    CHECK_EQ(recv_id(req, SOON), SHMIPC_ESTATE); /* does not wait for what cannot come */
    CHECK_EQ(ask(req, 1, 0), SHMIPC_ETIMEDOUT);
    for (i = 2; i < 5; i++) {
        CHECK_EQ(send_id(req, i, 0), SHMIPC_OK);
        CHECK_EQ(recv_id(rep, SOON), (int64_t)i);
        CHECK_EQ(recv_id(rep, SOON), SHMIPC_ESTATE); /* this one first */
        answer(rep, i);
        CHECK_EQ(send_id(rep, 9, 0), SHMIPC_ESTATE); /* answered already */
        CHECK_EQ(recv_id(req, SOON), 1000000 + (int64_t)i);
        CHECK_EQ(recv_id(req, SOON), SHMIPC_ESTATE);
        CHECK_EQ(send_id(req, 99, 0), SHMIPC_OK);
        CHECK_EQ(shmipc_abandon(req), SHMIPC_OK);
        CHECK_EQ(shmipc_abandon(req), SHMIPC_OK); /* nothing to give up is no error */
        CHECK_EQ(recv_id(req, 0), SHMIPC_ESTATE);
        CHECK_EQ(recv_id(rep, 0), SHMIPC_ETIMEDOUT); /* nor is it carried out */
        CHECK_EQ(shmipc_abandon(rep), SHMIPC_ESTATE);
    }
    CHECK_EQ(shmipc_loan_open(rep, 10, &loan), SHMIPC_ESTATE);
    lone = opened(ctx, SHMIPC_REP, "nobody/asks", NULL); /* nor where nobody has decided on the channel's parameters */
    CHECK_EQ(send_id(lone, 1, 0), SHMIPC_ESTATE);
    CHECK_EQ(shmipc_loan_open(lone, 10, &loan), SHMIPC_ESTATE);
    CHECK_EQ(recv_id(lone, 0), SHMIPC_ETIMEDOUT);
    shmipc_close(&lone);
    CHECK_EQ(send_id(req, 7, 0), SHMIPC_OK);
    CHECK_EQ(recv_id(rep, SOON), 7);
    answer(rep, 7);
    CHECK_EQ(recv_id(req, SOON), 1000007);
    shmipc_close(&req);
    shmipc_close(&rep);
    world_end(ctx);
}

/* Requests and replies written in place, each way they can end. */
TEST(S17_S30_loans_of_large_messages)
{
    enum { LEN = 300000 };
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *req = opened(ctx, SHMIPC_REQ, "r", NULL), *rep = opened(ctx, SHMIPC_REP, "r", NULL);
    shmipc_loan ask_with, answer_with;
    shmipc_msg m;
    uint64_t i;
    for (i = 1; i <= 20; i++) {
        CHECK_EQ(shmipc_loan_open(req, LEN, &ask_with), SHMIPC_OK);
        fill(ask_with.data, LEN, i);
        ask_with.len -= i;
        ask_with.tag = 5;
        CHECK_EQ(shmipc_loan_commit(&ask_with, 0), SHMIPC_OK);
        CHECK_EQ(shmipc_loan_commit(&ask_with, 0), SHMIPC_ESTATE);
        CHECK_EQ(shmipc_take(rep, &m, SOON), SHMIPC_OK);
        CHECK_EQ(m.len, LEN - i);
        CHECK_EQ(m.tag, 5);
        CHECK(is_filled(m.data, (size_t)(LEN - i), i));
        CHECK_EQ(shmipc_loan_open(rep, LEN, &answer_with), SHMIPC_OK);
        CHECK_EQ(send_id(rep, 1, 0), SHMIPC_ESTATE); /* one answer */
        fill(answer_with.data, LEN, 1000 + i);
        if (i % 3 == 0) { /* thought better of it */
            CHECK_EQ(shmipc_loan_discard(&answer_with), SHMIPC_OK);
            CHECK_EQ(recv_id(req, 0), SHMIPC_ETIMEDOUT);
            answer(rep, i);
            CHECK_EQ(recv_id(req, SOON), (int64_t)(1000000 + i));
            continue;
        }
        if (i % 3 == 1) CHECK_EQ(shmipc_abandon(req), SHMIPC_OK); /* given up while the reply is being written */
        CHECK_EQ(shmipc_loan_commit(&answer_with, 0), SHMIPC_OK);
        if (i % 3 == 1) {
            CHECK_EQ(recv_id(req, 0), SHMIPC_ESTATE);
            continue;
        }
        CHECK_EQ(shmipc_take(req, &m, SOON), SHMIPC_OK);
        CHECK(m.len == LEN && is_filled(m.data, LEN, 1000 + i));
        CHECK_EQ(shmipc_release(&m), SHMIPC_OK);
    }
    CHECK_EQ(shmipc_loan_open(req, LEN, &ask_with), SHMIPC_OK);
    CHECK_EQ(send_id(req, 8, SOON), SHMIPC_OK); /* another request may pass the loan */
    CHECK_EQ(recv_id(rep, SOON), 8);
    CHECK_EQ(shmipc_loan_open(rep, LEN, &answer_with), SHMIPC_OK);
    shmipc_close(&rep); /* with the reply unfinished */
    CHECK_EQ(recv_id(req, SOON), SHMIPC_EPEERDEAD);
    shmipc_close(&req);
    CHECK_EQ(channel_files(), 0);
    world_end(ctx);
}

/* ---- deaths ---- */

/* n: 0 stays with the request in hand, 1 closes with it, 2 stays with the request viewed */
static void unwilling(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_REP, "r", NULL);
    shmipc_msg m;
    int64_t id = -1;
    raise_event(READY);
    if (n < 2) id = recv_id(s, SOON);
    else if (CHECK_EQ(shmipc_take(s, &m, SOON), SHMIPC_OK)) id = (int64_t)id_of(m.data);
    if (CHECK(id >= 0)) __atomic_fetch_add(&executed[id], 1, __ATOMIC_RELAXED);
    raise_event(SEEN);
    if (n == 1) {
        await(GO, 1);
        shmipc_close(&s);
    } else stay();
}

static void await_reply_of_dead(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_REQ, "r", NULL);
    CHECK_EQ(send_id(s, (uint64_t)n, 0), SHMIPC_OK);
    await(SEEN, 1);
    raise_event(DONE);
    CHECK_EQ(recv_id(s, SOON), SHMIPC_EPEERDEAD);
    CHECK(says(ctx, "replier"));
    CHECK_EQ(recv_id(s, 0), SHMIPC_ESTATE); /* that was the outcome */
    CHECK_EQ(ask(s, (uint64_t)n + 1, SOON), 1000001 + n); /* with whoever serves now, without a call in between */
    shmipc_close(&s);
}

/* The requester sleeps for the reply when its replier goes. A second replier is there, and must not get the request. */
static void replier_gone(int how)
{
    shmipc_ctx *ctx = world_begin();
    pid_t bad, good, client;
    shmipc_socket *req;
    executed = (uint32_t *)shared_memory(4096);
    bad = child(unwilling, how);
    await(READY, 1);
    client = child(await_reply_of_dead, 5);
    await(DONE, 1);
    good = child(replier, 0);
    await(READY, 2);
    await_state(client, "S");
    if (how == 1) {
        raise_event(GO);
        child_done(bad);
    } else scope_kill(bad);
    child_done(client);
    CHECK_EQ(executed[5], 1);
    CHECK_EQ(executed[6], 1);
    req = opened(ctx, SHMIPC_REQ, "r", NULL);
    end_replier(req, good);
    shmipc_close(&req);
    world_end(ctx);
}

TEST(S37_S60_C13_replier_killed_over_a_request) { replier_gone(0); }
TEST(S37_S60_C13_replier_killed_with_the_request_in_view) { replier_gone(2); }
TEST(S37_replier_closes_without_an_answer) { replier_gone(1); }

TEST(S37_S10_request_not_yet_taken_waits_for_the_next_replier)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *req = opened(ctx, SHMIPC_REQ, "r", NULL), *rep = opened(ctx, SHMIPC_REP, "r", NULL);
    pid_t pid;
    shmipc_close(&rep);
    CHECK_EQ(send_id(req, 8, 0), SHMIPC_OK);
    pid = child(replier, 0);
    CHECK_EQ(recv_id(req, SOON), 1000008);
    end_replier(req, pid);
    pid = child(replier, 0);
    CHECK_EQ(ask(req, 9, SOON), 1000009);
    end_replier(req, pid);
    shmipc_close(&req);
    world_end(ctx);
}

TEST(S37_I2_a_stopped_replier_is_late_and_not_dead)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *req = opened(ctx, SHMIPC_REQ, "r", NULL), *other = opened(ctx, SHMIPC_REQ, "r", NULL);
    pid_t stopped, good;
    COVERS("S33 S34");
    executed = (uint32_t *)shared_memory(4096);
    stopped = child(unwilling, 0);
    CHECK_EQ(send_id(req, 5, 0), SHMIPC_OK);
    await(SEEN, 1);
    stop(stopped);
    good = child(replier, 0);
    CHECK_EQ(ask(other, 6, SOON), 1000006); /* nobody else waits for it */
    CHECK_EQ(recv_id(req, 150000000), SHMIPC_ETIMEDOUT);
    CHECK_EQ(ask(req, 7, SOON), 1000007);
    CHECK_EQ(executed[5], 1);
    scope_kill(stopped);
    CHECK_EQ(ask(req, 8, SOON), 1000008);
    end_replier(req, good);
    shmipc_close(&req);
    shmipc_close(&other);
    world_end(ctx);
}

static void ask_and_stay(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_REQ, "r", NULL);
    CHECK_EQ(send_id(s, (uint64_t)n, 0), SHMIPC_OK);
    raise_event(SEEN);
    stay();
}

TEST(S35_S60_a_killed_requester_leaves_nothing_to_its_successor)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *rep = opened(ctx, SHMIPC_REP, "r", NULL), *req;
    uint32_t i;
    COVERS("S61 S62");
    for (i = 1; i <= 40; i++) {
        pid_t pid = child(ask_and_stay, (int)i);
        await(SEEN, i);
        if (i % 2) CHECK_EQ(recv_id(rep, SOON), i); /* the request is in our hands */
        scope_kill(pid);
        req = opened(ctx, SHMIPC_REQ, "r", NULL);
        CHECK_EQ(send_id(req, i + 500, 0), SHMIPC_OK);
        if (i % 2) answer(rep, i); /* nobody wants it: OK all the same */
        CHECK_EQ(recv_id(req, 0), SHMIPC_ETIMEDOUT);
        CHECK_EQ(recv_id(rep, SOON), i + 500); /* what the dead one had queued is dropped */
        answer(rep, i + 500);
        CHECK_EQ(recv_id(req, SOON), 1000500 + i);
        shmipc_close(&req);
    }
    CHECK_EQ(recv_id(rep, 0), SHMIPC_ETIMEDOUT);
    CHECK_EQ(stats_of(rep).peers, 0);
    shmipc_close(&rep);
    world_end(ctx);
}

TEST(S35_closed_requester_leaves_nothing_to_its_successor)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *rep = opened(ctx, SHMIPC_REP, "r", NULL), *req;
    uint32_t i;
    for (i = 1; i <= 600; i++) { /* more often than the queue is deep */
        req = opened(ctx, SHMIPC_REQ, "r", NULL);
        CHECK_EQ(send_id(req, i, 0), SHMIPC_OK);
        if (i % 3 == 0) CHECK_EQ(recv_id(rep, SOON), i);
        shmipc_close(&req);
        if (i % 3 == 0) answer(rep, i);
    }
    req = opened(ctx, SHMIPC_REQ, "r", NULL);
    CHECK_EQ(send_id(req, 1000, 0), SHMIPC_OK);
    CHECK_EQ(recv_id(rep, SOON), 1000);
    answer(rep, 1000);
    CHECK_EQ(recv_id(req, SOON), 1001000);
    shmipc_close(&req);
    shmipc_close(&rep);
    world_end(ctx);
}

/* C3: nothing of REQ/REP outlives its last user, however it ended. */
TEST(C3_S7_leftovers_are_not_joined)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *s;
    pid_t pid = child(ask_and_stay, 1);
    COVERS("S5");
    await(SEEN, 1);
    scope_kill(pid);
    s = opened(ctx, SHMIPC_REP, "r", NULL);
    is_empty(s);
    CHECK_EQ(stats_of(s).queued, 0);
    shmipc_close(&s);
    s = opened(ctx, SHMIPC_REQ, "r", NULL);
    CHECK_EQ(send_id(s, 1, 0), SHMIPC_OK);
    shmipc_close(&s);
    CHECK_EQ(channel_files(), 0);
    world_end(ctx);
}
