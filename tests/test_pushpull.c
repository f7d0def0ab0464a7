/* PUSH/PULL across processes: exactly once, redelivery, turns, the full queue, lingering. */
#include "socket_world.h"

static unsigned char *seen; /* how often each id was received, by whom does not matter */

static int note(int64_t id) { return id >= 0 && __atomic_fetch_add(&seen[id], 1, __ATOMIC_RELAXED) == 0; }

static void each_once(int first, int count)
{
    int i, once = 0;
    for (i = first; i < first + count; i++) once += seen[i] == 1;
    CHECK_EQ(once, count);
}

/* Takes what comes until a message with id 0. */
static void pull_all(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_PULL, "q", NULL);
    int64_t id;
    (void)n;
    raise_event(READY);
    while ((id = recv_id(s, SOON)) > 0) CHECK(note(id));
    CHECK_EQ(id, 0);
    shmipc_close(&s);
}

static void push_range(shmipc_socket *s, int first, int count)
{
    int i;
    for (i = first; i < first + count; i++) CHECK_EQ(send_id(s, (uint64_t)i, SOON), SHMIPC_OK);
}

/* ---- exactly once, in order ---- */

static void pull_in_order(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_PULL, "q", NULL);
    int i;
    for (i = 1; i <= n; i++) CHECK_EQ(recv_id(s, SOON), i);
    is_empty(s);
    shmipc_close(&s);
}

TEST(S38_in_order_between_one_and_one)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *s = opened(ctx, SHMIPC_PUSH, "q", NULL);
    pid_t pid = child(pull_in_order, 5000);
    COVERS("S11 S25");
    push_range(s, 1, 5000);
    child_done(pid);
    shmipc_close(&s);
    world_end(ctx);
}

TEST(S39_two_pullers_each_item_once)
{
    enum { N = 3000 };
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *s = opened(ctx, SHMIPC_PUSH, "q", NULL);
    pid_t pid[2];
    int i;
    seen = (unsigned char *)shared_memory(N + 1);
    for (i = 0; i < 2; i++) pid[i] = child(pull_all, 0);
    push_range(s, 1, N);
    for (i = 0; i < 2; i++) CHECK_EQ(send_id(s, 0, SOON), SHMIPC_OK);
    for (i = 0; i < 2; i++) child_done(pid[i]);
    each_once(1, N);
    shmipc_close(&s);
    world_end(ctx);
}

/* n: 0 closes, 1 ends without closing, 2 stays to be killed */
static void push_ten(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_PUSH, "q", NULL);
    push_range(s, 1, 10);
    raise_event(DONE);
    if (n == 0) shmipc_close(&s);
    if (n == 1) _exit(0);
    if (n == 2) stay();
}

static void ten_jobs(int how)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *s;
    pid_t pusher = child(push_ten, how), pid[2];
    int i;
    seen = (unsigned char *)shared_memory(11);
    await(DONE, 1);
    if (how == 2) scope_kill(pusher);
    else child_done(pusher);
    for (i = 0; i < 2; i++) pid[i] = child(pull_all, 0); /* nobody was there meanwhile */
    await(READY, 2);
    s = opened(ctx, SHMIPC_PUSH, "q", NULL);
    for (i = 0; i < 2; i++) CHECK_EQ(send_id(s, 0, SOON), SHMIPC_OK);
    for (i = 0; i < 2; i++) child_done(pid[i]);
    each_once(1, 10);
    shmipc_close(&s);
    world_end(ctx);
}

TEST(S40_C3_ten_jobs_of_a_pusher_that_closed) { ten_jobs(0); }
TEST(S40_C3_ten_jobs_of_a_pusher_that_just_ended) { ten_jobs(1); }
TEST(S40_S60_C3_ten_jobs_of_a_pusher_that_was_killed) { ten_jobs(2); }

static void push_part(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_PUSH, "q", NULL);
    push_range(s, n * 1000 + 1, 1000);
    shmipc_close(&s);
}

TEST(S43_several_pushers_several_pullers)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *s = opened(ctx, SHMIPC_PUSH, "q", NULL);
    pid_t pusher[4], puller[3];
    int i;
    COVERS("C4 S25");
    seen = (unsigned char *)shared_memory(4001);
    for (i = 0; i < 4; i++) pusher[i] = child(push_part, i);
    for (i = 0; i < 3; i++) puller[i] = child(pull_all, 0);
    for (i = 0; i < 4; i++) child_done(pusher[i]);
    for (i = 0; i < 3; i++) CHECK_EQ(send_id(s, 0, SOON), SHMIPC_OK);
    for (i = 0; i < 3; i++) child_done(puller[i]);
    each_once(1, 4000);
    CHECK_EQ(stats_of(s).queued, 0);
    shmipc_close(&s);
    world_end(ctx);
}

TEST(S38_batches_and_tags)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg = of_depth(16);
    shmipc_socket *push = opened(ctx, SHMIPC_PUSH, "q", &cfg), *pull = opened(ctx, SHMIPC_PULL, "q", NULL);
    shmipc_item items[20];
    shmipc_msg msgs[20];
    uint64_t ids[20], buf[64];
    int i, n;
    COVERS("S11 S41");
    memset(items, 0, sizeof items);
    for (i = 0; i < 20; i++) {
        ids[i] = (uint64_t)i;
        items[i].data = &ids[i];
        items[i].len = i == 3 ? 0 : i == 4 ? 3 : 8;
        items[i].tag = (uint32_t)i + 0xfffe00;
    }
    CHECK_EQ(shmipc_send_many(push, NULL, 0, 0), 0);
    CHECK_EQ(shmipc_send_many(push, items, 20, 0), 16); /* as many as there is room for */
    CHECK_EQ(shmipc_send_many(push, items + 16, 4, 0), SHMIPC_EFULL);
    n = shmipc_recv_many(pull, buf, sizeof buf, msgs, 10, 0);
    CHECK_EQ(n, 10);
    for (i = 0; i < n; i++) {
        CHECK_EQ(msgs[i].len, items[i].len);
        CHECK_EQ(msgs[i].tag, items[i].tag);
        CHECK((uintptr_t)msgs[i].data % 8 == 0);
        CHECK((const uint64_t *)msgs[i].data >= buf && (const uint64_t *)msgs[i].data < buf + 64);
        CHECK_MEM(msgs[i].data, items[i].data, (size_t)items[i].len);
    }
    CHECK_EQ(shmipc_send_many(push, items + 16, 4, 0), 4);
    CHECK_EQ(shmipc_recv_many(pull, buf, 3 * 8, msgs, 20, 0), 3); /* as many as buf holds */
    CHECK_EQ(id_of(msgs[0].data), 10);
    CHECK_EQ(shmipc_recv_many(pull, buf, 4, msgs, 20, 0), SHMIPC_EMSGSIZE);
    CHECK_EQ(shmipc_recv_many(pull, buf, sizeof buf, msgs, 20, SOON), 7); /* does not wait for 20 */
    CHECK_EQ(id_of(msgs[0].data), 13);
    CHECK_EQ(id_of(msgs[6].data), 19);
    CHECK_EQ(shmipc_recv_many(pull, buf, sizeof buf, msgs, 20, 0), SHMIPC_ETIMEDOUT);
    CHECK_EQ(shmipc_send_tag(push, "x", 1, 0xffffff, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_recv_msg(pull, buf, sizeof buf, msgs, 0), SHMIPC_OK);
    CHECK_EQ(msgs[0].tag, 0xffffff);
    CHECK(msgs[0].data == (void *)buf);
    shmipc_close(&pull);
    shmipc_close(&push);
    world_end(ctx);
}

/* ---- full ---- */

TEST(S41_C11_full_queue_refuses_and_counts)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg = of_depth(8);
    shmipc_socket *push = opened(ctx, SHMIPC_PUSH, "q", &cfg), *pull = opened(ctx, SHMIPC_PULL, "q", NULL);
    shmipc_socket_stats st;
    shmipc_loan loan;
    int64_t t0;
    int i;
    COVERS("S19");
    push_range(push, 1, 8);
    CHECK_EQ(send_id(push, 99, 0), SHMIPC_EFULL);
    t0 = now_ns();
    CHECK_EQ(send_id(push, 99, 20000000), SHMIPC_EFULL);
    CHECK(now_ns() - t0 >= 20000000);
    CHECK_EQ(shmipc_loan_open(push, 8, &loan), SHMIPC_OK); /* room to write is there, a place in the queue is not */
    fill(loan.data, 8, 9);
    CHECK_EQ(shmipc_loan_commit(&loan, 0), SHMIPC_EFULL);
    st = stats_of(push);
    CHECK_EQ(st.dropped, 2); /* those that would not wait */
    CHECK_EQ(st.sent, 8);
    CHECK_EQ(st.bytes_sent, 64);
    CHECK_EQ(st.queued, 8);
    CHECK_EQ(st.high_water, 8);
    CHECK_EQ(st.depth, 8);
    CHECK_EQ(st.peers, 1);
    CHECK_EQ(recv_id(pull, 0), 1);
    CHECK_EQ(shmipc_loan_commit(&loan, 0), SHMIPC_OK); /* the loan was left */
    for (i = 2; i <= 9; i++) CHECK_EQ(recv_id(pull, 0), i);
    is_empty(pull);
    st = stats_of(pull);
    CHECK_EQ(st.received, 9);
    CHECK_EQ(st.bytes_received, 72);
    CHECK_EQ(st.queued, 0);
    shmipc_close(&pull);
    shmipc_close(&push);
    world_end(ctx);
}

static void push_into_full(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_PUSH, "q", NULL);
    raise_event(READY);
    CHECK_EQ(send_id(s, (uint64_t)n, -1), SHMIPC_OK);
    CHECK(stats_of(s).waits > 0);
    shmipc_close(&s);
}

TEST(S41_C11_waiting_pushers_go_on_when_there_is_room)
{
    enum { WAITING = 5 };
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg = of_depth(4);
    shmipc_socket *push = opened(ctx, SHMIPC_PUSH, "q", &cfg), *pull = opened(ctx, SHMIPC_PULL, "q", NULL);
    pid_t pid[WAITING];
    int i;
    COVERS("S19");
    seen = (unsigned char *)shared_memory(100);
    push_range(push, 1, 4);
    for (i = 0; i < WAITING; i++) pid[i] = child(push_into_full, 5 + i);
    await(READY, WAITING);
    for (i = 0; i < WAITING; i++) await_state(pid[i], "S");
    for (i = 0; i < 4 + WAITING; i++) CHECK(note(recv_id(pull, SOON)));
    for (i = 0; i < WAITING; i++) child_done(pid[i]);
    each_once(1, 4 + WAITING);
    shmipc_close(&pull);
    shmipc_close(&push);
    world_end(ctx);
}

static void take_and_stay(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_PULL, "q", NULL);
    shmipc_msg m;
    int i;
    for (i = 0; i < n; i++) {
        CHECK_EQ(shmipc_take(s, &m, SOON), SHMIPC_OK);
        raise_event(SEEN);
    }
    stay();
}

TEST(S44_a_held_item_keeps_no_place_in_the_queue)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg = of_depth(4);
    shmipc_socket *push = opened(ctx, SHMIPC_PUSH, "q", &cfg), *pull;
    pid_t holder = child(take_and_stay, 1);
    int i;
    push_range(push, 1, 1);
    await(SEEN, 1);
    stop(holder);
    pull = opened(ctx, SHMIPC_PULL, "q", NULL);
    for (i = 0; i < 100; i++) {
        push_range(push, 10, 4);
        CHECK_EQ(recv_id(pull, SOON), 10);
        CHECK_EQ(recv_id(pull, SOON), 11);
        CHECK_EQ(recv_id(pull, SOON), 12);
        CHECK_EQ(recv_id(pull, SOON), 13);
    }
    is_empty(pull); /* a stopped process is not robbed */
    scope_kill(holder);
    CHECK_EQ(recv_id(pull, SOON), 1);
    shmipc_close(&pull);
    shmipc_close(&push);
    world_end(ctx);
}

/* ---- redelivery ---- */

TEST(S44_S60_killed_between_take_and_release)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *push = opened(ctx, SHMIPC_PUSH, "q", NULL), *pull;
    shmipc_msg m;
    uint64_t id = 0;
    int death;
    COVERS("S37");
    push_range(push, 7, 1);
    for (death = 1; death <= 3; death++) {
        pid_t pid = child(take_and_stay, 1);
        await(SEEN, (uint32_t)death);
        scope_kill(pid);
    }
    pull = opened(ctx, SHMIPC_PULL, "q", NULL);
    CHECK_EQ(shmipc_recv_msg(pull, &id, sizeof id, &m, SOON), SHMIPC_OK);
    CHECK_EQ(id, 7);
    CHECK_EQ(m.redelivered, 3);
    is_empty(pull);
    shmipc_close(&pull);
    shmipc_close(&push);
    world_end(ctx);
}

static void recv_and_stay(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_PULL, "q", NULL);
    CHECK_EQ(recv_id(s, SOON), n);
    raise_event(SEEN);
    stay();
}

TEST(S44_recv_releases_on_return)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *push = opened(ctx, SHMIPC_PUSH, "q", NULL), *pull;
    pid_t pid = child(recv_and_stay, 7);
    push_range(push, 7, 1);
    await(SEEN, 1);
    scope_kill(pid);
    pull = opened(ctx, SHMIPC_PULL, "q", NULL);
    CHECK_EQ(recv_id(pull, 200000000), SHMIPC_ETIMEDOUT);
    shmipc_close(&pull);
    shmipc_close(&push);
    world_end(ctx);
}

static void recv_redelivered(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_PULL, "q", NULL);
    shmipc_msg m;
    uint64_t id = 0;
    raise_event(READY);
    CHECK_EQ(shmipc_recv_msg(s, &id, sizeof id, &m, SOON), SHMIPC_OK);
    CHECK_EQ(id, n);
    CHECK_EQ(m.redelivered, 1);
    shmipc_close(&s);
}

/* The one who waits already notices the death by itself: nobody calls anything. */
TEST(S44_S60_C13_redelivered_to_one_who_sleeps)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *push = opened(ctx, SHMIPC_PUSH, "q", NULL);
    pid_t holder = child(take_and_stay, 1), waiter;
    push_range(push, 5, 1);
    await(SEEN, 1);
    waiter = child(recv_redelivered, 5);
    await(READY, 1);
    await_state(waiter, "S");
    scope_kill(holder);
    child_done(waiter);
    shmipc_close(&push);
    world_end(ctx);
}

TEST(S44_large_items_are_redelivered_intact)
{
    enum { LEN = 3000000 };
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *push = opened(ctx, SHMIPC_PUSH, "q", NULL), *pull;
    unsigned char *buf = (unsigned char *)malloc(LEN);
    shmipc_msg m;
    pid_t pid = child(take_and_stay, 1);
    REQUIRE(buf != NULL);
    fill(buf, LEN, 4);
    CHECK_EQ(shmipc_send(push, buf, LEN, SOON), SHMIPC_OK);
    await(SEEN, 1);
    scope_kill(pid);
    pull = opened(ctx, SHMIPC_PULL, "q", NULL);
    if (CHECK_EQ(shmipc_take(pull, &m, SOON), SHMIPC_OK)) {
        CHECK_EQ(m.len, LEN);
        CHECK_EQ(m.redelivered, 1);
        CHECK(is_filled(m.data, LEN, 4));
        CHECK_EQ(shmipc_release(&m), SHMIPC_OK);
    }
    free(buf);
    shmipc_close(&pull);
    shmipc_close(&push);
    world_end(ctx);
}

TEST(S44_rejected_items_go_to_another_and_are_counted)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *push = opened(ctx, SHMIPC_PUSH, "q", NULL), *a = opened(ctx, SHMIPC_PULL, "q", NULL);
    shmipc_socket *b = opened(ctx, SHMIPC_PULL, "q", NULL);
    shmipc_msg m;
    uint32_t i;
    push_range(push, 3, 1);
    for (i = 0; i < 5; i++) {
        if (!CHECK_EQ(shmipc_take(i % 2 ? a : b, &m, SOON), SHMIPC_OK)) break;
        CHECK_EQ(m.redelivered, i);
        CHECK_EQ(id_of(m.data), 3);
        CHECK_EQ(i < 4 ? shmipc_reject(&m) : shmipc_release(&m), SHMIPC_OK);
        CHECK(shmipc_release(&m) < 0); /* it is not ours any more */
        CHECK(shmipc_reject(&m) < 0);
    }
    is_empty(a);
    shmipc_close(&a);
    shmipc_close(&b);
    shmipc_close(&push);
    world_end(ctx);
}

TEST(S44_closed_with_an_item_in_hand)
{
    shmipc_ctx *ctx = world_begin(), *own = context();
    shmipc_socket *push = opened(ctx, SHMIPC_PUSH, "q", NULL), *a = opened(own, SHMIPC_PULL, "q", NULL);
    shmipc_socket *b = opened(ctx, SHMIPC_PULL, "q", NULL);
    shmipc_msg m, again;
    uint64_t id = 0;
    push_range(push, 3, 1);
    REQUIRE(shmipc_take(a, &m, SOON) == SHMIPC_OK);
    shmipc_close(&a);
    CHECK_EQ(id_of(m.data), 3); /* the view stays valid */
    is_empty(b);
    CHECK_EQ(shmipc_release(&m), SHMIPC_OK); /* done after all */
    is_empty(b);
    push_range(push, 4, 2);
    a = opened(own, SHMIPC_PULL, "q", NULL);
    REQUIRE(shmipc_take(a, &m, SOON) == SHMIPC_OK);
    shmipc_ctx_close(own); /* as if its process had died */
    CHECK_EQ(shmipc_recv_msg(b, &id, sizeof id, &again, SOON), SHMIPC_OK);
    CHECK_EQ(again.redelivered, id == 4);
    CHECK_EQ(shmipc_recv_msg(b, &id, sizeof id, &again, SOON), SHMIPC_OK);
    CHECK_EQ(again.redelivered, id == 4);
    is_empty(b);
    shmipc_close(&b);
    shmipc_close(&push);
    world_end(ctx);
}

TEST(S38_longer_than_the_buffer_stays_where_it_is)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *push = opened(ctx, SHMIPC_PUSH, "q", NULL), *pull = opened(ctx, SHMIPC_PULL, "q", NULL);
    static unsigned char buf[70000];
    size_t len = 7, n;
    shmipc_msg m;
    COVERS("S11");
    for (n = 100; n <= sizeof buf; n += sizeof buf - 100) {
        fill(buf, n, 1);
        CHECK_EQ(shmipc_send(push, buf, n, 0), SHMIPC_OK);
        push_range(push, 2, 1);
        CHECK_EQ(shmipc_recv(pull, buf, n - 1, &len, 0), SHMIPC_EMSGSIZE);
        CHECK_EQ(len, 7);
        if (!CHECK_EQ(shmipc_take(pull, &m, 0), SHMIPC_OK)) break;
        CHECK_EQ(m.len, n);
        CHECK(is_filled(m.data, n, 1));
        CHECK_EQ(shmipc_release(&m), SHMIPC_OK);
        CHECK_EQ(recv_id(pull, 0), 2);
    }
    shmipc_close(&pull);
    shmipc_close(&push);
    world_end(ctx);
}

TEST(S44_several_items_held_at_once)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *push = opened(ctx, SHMIPC_PUSH, "q", NULL), *pull = opened(ctx, SHMIPC_PULL, "q", NULL);
    shmipc_msg m[4];
    int i;
    push_range(push, 0, 5);
    for (i = 0; i < 4; i++) REQUIRE(shmipc_take(pull, &m[i], 0) == SHMIPC_OK);
    CHECK_EQ(recv_id(pull, 0), 4);
    for (i = 3; i >= 0; i--) {
        CHECK_EQ(id_of(m[i].data), i);
        CHECK_EQ(shmipc_release(&m[i]), SHMIPC_OK);
    }
    is_empty(pull);
    shmipc_close(&pull);
    shmipc_close(&push);
    world_end(ctx);
}

TEST(S62_loans_left_at_close_come_back)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg = of_depth(4);
    shmipc_socket *s = opened(ctx, SHMIPC_PUSH, "q", &cfg), *pull = opened(ctx, SHMIPC_PULL, "q", NULL);
    shmipc_loan loan;
    shmipc_msg m;
    int i;
    COVERS("S44");
    for (i = 0; i < 1500; i++) { /* more often than there are chunks */
        shmipc_socket *more = opened(ctx, i % 2 ? SHMIPC_PUSH : SHMIPC_PULL, "q", NULL);
        if (i % 2) {
            if (!CHECK_EQ(shmipc_loan_open(more, i % 4 == 1 ? 8 : 20000, &loan), SHMIPC_OK)) break;
        } else {
            push_range(s, 1, 1);
            if (!CHECK_EQ(shmipc_take(more, &m, 0), SHMIPC_OK)) break;
            CHECK_EQ(m.redelivered, 0);
            CHECK_EQ(shmipc_release(&m), SHMIPC_OK);
        }
        shmipc_close(&more);
    }
    is_empty(pull);
    push_range(s, 1, 4);
    for (i = 1; i <= 4; i++) CHECK_EQ(recv_id(pull, 0), i);
    shmipc_close(&s);
    shmipc_close(&pull);
    world_end(ctx);
}

/* ---- turns ---- */

static uint32_t *share;

static void pull_in_turn(shmipc_ctx *ctx, int n)
{
    shmipc_socket_config cfg = options();
    shmipc_socket *s;
    cfg.wait = SHMIPC_WAIT_SLEEP;
    s = opened(ctx, SHMIPC_PULL, "q", &cfg);
    raise_event(READY);
    while (recv_id(s, SOON) > 0) {
        share[n]++;
        raise_event(SEEN);
    }
    shmipc_close(&s);
}

TEST_LIMIT(S42_waiting_pullers_are_served_in_turn, 60)
{
    enum { PULLERS = 4, ITEMS = 400 };
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *push = opened(ctx, SHMIPC_PUSH, "q", NULL);
    pid_t pid[PULLERS];
    uint32_t i;
    int k;
    share = (uint32_t *)shared_memory(4096);
    for (k = 0; k < PULLERS; k++) pid[k] = child(pull_in_turn, k);
    await(READY, PULLERS);
    for (i = 1; i <= ITEMS; i++) {
        for (k = 0; k < PULLERS; k++) await_state(pid[k], "S");
        CHECK_EQ(send_id(push, i, SOON), SHMIPC_OK);
        await(SEEN, i);
    }
    for (k = 0; k < PULLERS; k++) CHECK(share[k] >= ITEMS / PULLERS / 2); /* the bound: half of the fair share */
    for (k = 0; k < PULLERS; k++) CHECK_EQ(send_id(push, 0, SOON), SHMIPC_OK);
    for (k = 0; k < PULLERS; k++) child_done(pid[k]);
    printf("shares: %u %u %u %u\n", share[0], share[1], share[2], share[3]);
    shmipc_close(&push);
    world_end(ctx);
}

TEST(S42_a_stopped_puller_delays_nobody)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *push = opened(ctx, SHMIPC_PUSH, "q", NULL);
    pid_t stopped[3], going;
    int i;
    COVERS("S44");
    seen = (unsigned char *)shared_memory(2001);
    for (i = 0; i < 3; i++) stopped[i] = child(pull_all, 0);
    await(READY, 3);
    for (i = 0; i < 3; i++) {
        await_state(stopped[i], "S"); /* in its wait, where a wake may be meant for it */
        stop(stopped[i]);
    }
    going = child(pull_all, 0);
    await(READY, 4);
    push_range(push, 1, 2000);
    CHECK_EQ(send_id(push, 0, SOON), SHMIPC_OK);
    child_done(going);
    each_once(1, 2000);
    for (i = 0; i < 3; i++) CHECK_EQ(send_id(push, 0, SOON), SHMIPC_OK);
    for (i = 0; i < 3; i++) kill(stopped[i], SIGCONT);
    for (i = 0; i < 3; i++) child_done(stopped[i]);
    shmipc_close(&push);
    world_end(ctx);
}

/* ---- what outlives whom ---- */

TEST(C3_S5_a_drained_queue_goes_with_its_last_user)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *push = opened(ctx, SHMIPC_PUSH, "q", NULL), *pull = opened(ctx, SHMIPC_PULL, "q", NULL);
    COVERS("S58");
    push_range(push, 1, 3);
    shmipc_close(&push);
    CHECK_EQ(recv_id(pull, 0), 1);
    CHECK_EQ(recv_id(pull, 0), 2);
    CHECK_EQ(recv_id(pull, 0), 3);
    CHECK_EQ(channel_files(), 1);
    shmipc_close(&pull);
    CHECK_EQ(channel_files(), 0);
    world_end(ctx);
}

TEST(C3_S7_an_undrained_queue_is_joined)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *s = opened(ctx, SHMIPC_PUSH, "q", NULL);
    push_range(s, 1, 3);
    shmipc_close(&s);
    CHECK_EQ(shmipc_ctx_sweep(ctx, 0), 0);
    CHECK_EQ(channel_files(), 1);
    s = opened(ctx, SHMIPC_PULL, "q", NULL);
    CHECK_EQ(recv_id(s, 0), 1);
    shmipc_close(&s);
    CHECK_EQ(channel_files(), 1); /* two are still in it */
    s = opened(ctx, SHMIPC_PUSH, "q", NULL);
    push_range(s, 4, 1);
    shmipc_close(&s);
    s = opened(ctx, SHMIPC_PULL, "q", NULL);
    CHECK_EQ(recv_id(s, 0), 2);
    CHECK_EQ(recv_id(s, 0), 3);
    CHECK_EQ(recv_id(s, 0), 4);
    shmipc_close(&s);
    CHECK_EQ(channel_files(), 0);
    world_end(ctx);
}

/* A held item is not drained: it comes again. */
TEST(C3_S60_an_item_of_a_killed_puller_keeps_the_queue)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *s = opened(ctx, SHMIPC_PUSH, "q", NULL);
    pid_t pid = child(take_and_stay, 1);
    push_range(s, 6, 1);
    await(SEEN, 1);
    shmipc_close(&s);
    scope_kill(pid);
    CHECK(shmipc_ctx_sweep(ctx, 0) >= 0);
    s = opened(ctx, SHMIPC_PULL, "q", NULL);
    CHECK_EQ(recv_id(s, SOON), 6);
    shmipc_close(&s);
    world_end(ctx);
}

static void lingers(int64_t linger_ns, int stays)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg = options();
    shmipc_socket *s;
    int64_t end;
    cfg.linger_ns = linger_ns;
    s = opened(ctx, SHMIPC_PUSH, "q", &cfg);
    push_range(s, 1, 3);
    shmipc_close(&s);
    if (stays) CHECK_EQ(channel_files(), 1);
    for (end = now_ns() + SOON; channel_files() && now_ns() < end;) CHECK(shmipc_ctx_sweep(ctx, 0) >= 0);
    CHECK_EQ(channel_files(), 0);
    s = opened(ctx, SHMIPC_PULL, "q", NULL); /* fresh */
    is_empty(s);
    shmipc_close(&s);
    world_end(ctx);
}

TEST(C3_S58_a_sweep_takes_it_when_linger_has_passed) { lingers(100000000, 1); }
TEST(C3_S58_negative_linger_leaves_nothing) { lingers(-1, 0); }
