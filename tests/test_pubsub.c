/* PUB/SUB across processes: order, loss, late joiners, topics, views, restarts, many to many. */
#include "socket_world.h"

static int next(shmipc_socket *s, shmipc_msg *m, int64_t timeout_ns)
{
    static uint64_t buf[512];
    return shmipc_recv_msg(s, buf, sizeof buf, m, timeout_ns);
}

/* Receives the ids first .. first + count - 1, one after the other. */
static void receives(shmipc_socket *s, int first, int count)
{
    int i;
    for (i = first; i < first + count; i++)
        if (!CHECK_EQ(recv_id(s, SOON), i)) return;
}

static void publishes(shmipc_socket *s, int first, int count)
{
    int i;
    for (i = first; i < first + count; i++) CHECK_EQ(send_id(s, (uint64_t)i, 0), SHMIPC_OK);
}

/* ---- values, order, sizes ---- */

static void sub_in_order(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_SUB, "p", NULL);
    int i;
    raise_event(READY);
    for (i = 0; i < n; i++) {
        if (!CHECK_EQ(recv_id(s, SOON), i)) break;
        if (i % 32 == 31) raise_event(SEEN);
    }
    is_empty(s);
    CHECK_EQ(stats_of(s).dropped, 0);
    shmipc_close(&s);
}

TEST(S13_S15_every_subscriber_gets_all_in_order)
{
    enum { SUBS = 5, ROUNDS = 100 };
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *s = opened(ctx, SHMIPC_PUB, "p", NULL);
    pid_t pid[SUBS];
    int i;
    COVERS("S11 S25");
    for (i = 0; i < SUBS; i++) pid[i] = child(sub_in_order, 32 * ROUNDS);
    await(READY, SUBS);
    for (i = 0; i < ROUNDS; i++) {
        publishes(s, 32 * i, 32);
        await(SEEN, SUBS * (uint32_t)(i + 1)); /* so that everybody is fast enough for 64 */
    }
    for (i = 0; i < SUBS; i++) child_done(pid[i]);
    CHECK_EQ(stats_of(s).sent, 32 * ROUNDS);
    shmipc_close(&s);
    world_end(ctx);
}

TEST(S23_empty_messages_are_messages)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *sub = opened(ctx, SHMIPC_SUB, "p", NULL), *pub = opened(ctx, SHMIPC_PUB, "p", NULL);
    size_t len = 7;
    char buf[8] = "";
    shmipc_msg m;
    CHECK_EQ(shmipc_recv(sub, buf, sizeof buf, &len, 0), SHMIPC_ETIMEDOUT);
    CHECK_EQ(len, 7); /* written only on success */
    CHECK_EQ(shmipc_send(pub, NULL, 0, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_send(pub, "", 0, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_send(pub, "", 1, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_recv(sub, NULL, 0, &len, 0), SHMIPC_OK);
    CHECK_EQ(len, 0);
    CHECK_EQ(shmipc_take(sub, &m, 0), SHMIPC_OK);
    CHECK_EQ(m.len, 0);
    CHECK_EQ(shmipc_release(&m), SHMIPC_OK);
    CHECK_EQ(shmipc_recv(sub, buf, sizeof buf, &len, 0), SHMIPC_OK);
    CHECK_EQ(len, 1);
    shmipc_close(&pub);
    shmipc_close(&sub);
    world_end(ctx);
}

TEST(S11_longer_than_the_buffer_stays)
{
    enum { LEN = 100000 };
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *sub = opened(ctx, SHMIPC_SUB, "p", NULL), *pub = opened(ctx, SHMIPC_PUB, "p", NULL);
    static unsigned char buf[LEN];
    size_t len = 7, want;
    shmipc_msg m;
    for (want = 8; want <= LEN; want += LEN - 8) {
        fill(buf, want, 3);
        CHECK_EQ(shmipc_send(pub, buf, want, 0), SHMIPC_OK);
        memset(buf, 0, want);
        CHECK_EQ(shmipc_recv(sub, buf, want - 1, &len, 0), SHMIPC_EMSGSIZE);
        CHECK_EQ(shmipc_recv_msg(sub, buf, want - 1, &m, 0), SHMIPC_EMSGSIZE);
        CHECK_EQ(len, 7);
        CHECK_EQ(shmipc_take(sub, &m, 0), SHMIPC_OK);
        CHECK_EQ(m.len, want);
        CHECK(is_filled(m.data, want, 3));
        CHECK_EQ(shmipc_release(&m), SHMIPC_OK);
        is_empty(sub);
    }
    CHECK_EQ(stats_of(sub).dropped, 0);
    shmipc_close(&pub);
    shmipc_close(&sub);
    world_end(ctx);
}

TEST(S11_batches_and_tags)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *sub = opened(ctx, SHMIPC_SUB, "p", NULL), *pub = opened(ctx, SHMIPC_PUB, "p", NULL);
    static unsigned char large[5000];
    shmipc_item items[40];
    shmipc_msg msgs[40];
    static uint64_t buf[2000];
    uint64_t ids[40];
    int i, n;
    memset(items, 0, sizeof items);
    fill(large, sizeof large, 11);
    for (i = 0; i < 40; i++) {
        ids[i] = (uint64_t)i;
        items[i].data = i == 11 ? (const void *)large : &ids[i];
        items[i].len = i == 11 ? sizeof large : i == 3 ? 0 : 8;
        items[i].tag = (uint32_t)i + 0xfffe00;
    }
    CHECK_EQ(shmipc_send_many(pub, items, 40, 0), 40);
    n = shmipc_recv_many(sub, buf, sizeof buf, msgs, 30, SOON);
    CHECK_EQ(n, 30);
    for (i = 0; i < n; i++) {
        CHECK_EQ(msgs[i].len, items[i].len);
        CHECK_EQ(msgs[i].tag, items[i].tag);
        CHECK_EQ(msgs[i].number, i);
        CHECK((uintptr_t)msgs[i].data % 8 == 0);
        CHECK_MEM(msgs[i].data, items[i].data, (size_t)items[i].len);
    }
    CHECK_EQ(shmipc_recv_many(sub, buf, sizeof buf, msgs, 40, SOON), 10);
    CHECK_EQ(id_of(msgs[9].data), 39);
    CHECK_EQ(shmipc_recv_many(sub, buf, sizeof buf, msgs, 40, 0), SHMIPC_ETIMEDOUT);
    CHECK_EQ(shmipc_send_tag(pub, "x", 1, 0xffffff, 0), SHMIPC_OK);
    CHECK_EQ(next(sub, msgs, 0), SHMIPC_OK);
    CHECK_EQ(msgs[0].tag, 0xffffff);
    shmipc_close(&pub);
    shmipc_close(&sub);
    world_end(ctx);
}

TEST(S17_loans_are_committed_or_discarded)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *sub = opened(ctx, SHMIPC_SUB, "p", NULL), *pub = opened(ctx, SHMIPC_PUB, "p", NULL);
    shmipc_loan loan, second;
    static unsigned char buf[100000];
    size_t len = 0, room;
    for (room = 40; room <= sizeof buf; room += sizeof buf - 40) {
        REQUIRE(shmipc_loan_open(pub, room, &loan) == SHMIPC_OK);
        CHECK((uintptr_t)loan.data % 8 == 0);
        CHECK(shmipc_loan_open(pub, 8, &second) < 0); /* one at a time */
        memset(loan.data, 1, room);
        CHECK_EQ(shmipc_loan_discard(&loan), SHMIPC_OK);
        CHECK(shmipc_loan_commit(&loan, 0) < 0);
        is_empty(sub);
        REQUIRE(shmipc_loan_open(pub, room, &loan) == SHMIPC_OK);
        fill(loan.data, 20, 2);
        loan.len = room + 1;
        CHECK(shmipc_loan_commit(&loan, 0) < 0); /* more than was lent */
        loan.len = 20;
        CHECK_EQ(shmipc_loan_commit(&loan, 0), SHMIPC_OK);
        CHECK(shmipc_loan_commit(&loan, 0) < 0);
        CHECK(shmipc_loan_discard(&loan) < 0);
        CHECK_EQ(shmipc_recv(sub, buf, sizeof buf, &len, 0), SHMIPC_OK);
        CHECK_EQ(len, 20);
        CHECK(is_filled(buf, 20, 2));
        REQUIRE(shmipc_loan_open(pub, room, &second) == SHMIPC_OK);
        CHECK(shmipc_loan_commit(&loan, 0) < 0); /* the old one, while a new one is out */
        CHECK(shmipc_loan_discard(&loan) < 0);
        CHECK_EQ(shmipc_loan_discard(&second), SHMIPC_OK);
        is_empty(sub);
    }
    REQUIRE(shmipc_loan_open(pub, 1000, &loan) == SHMIPC_OK);
    shmipc_close(&pub); /* with a loan out */
    shmipc_close(&sub);
    world_end(ctx);
}

/* ---- who gets what ---- */

TEST(S14_late_subscribers_and_history)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *pub = opened(ctx, SHMIPC_PUB, "p", NULL), *sub, *other;
    shmipc_socket_config cfg = options();
    int64_t first;
    publishes(pub, 0, 30);
    sub = opened(ctx, SHMIPC_SUB, "p", NULL);
    is_empty(sub);
    publishes(pub, 30, 2);
    receives(sub, 30, 2);
    cfg.history = 5;
    other = opened(ctx, SHMIPC_SUB, "p", &cfg);
    receives(other, 27, 5);
    is_empty(other);
    publishes(pub, 32, 1);
    receives(other, 32, 1);
    shmipc_close(&other);
    cfg.history = 1000; /* what is there: 33 of 64 */
    other = opened(ctx, SHMIPC_SUB, "p", &cfg);
    receives(other, 0, 33);
    CHECK_EQ(stats_of(other).dropped, 0);
    shmipc_close(&other);
    publishes(pub, 33, 200);
    other = opened(ctx, SHMIPC_SUB, "p", &cfg);
    first = recv_id(other, 0); /* what the lane still has: the slot that is written next may be missing */
    CHECK(first == 233 - 64 || first == 233 - 63);
    receives(other, (int)first + 1, 232 - (int)first);
    is_empty(other);
    CHECK_EQ(stats_of(other).dropped, 0);
    shmipc_close(&other);
    shmipc_close(&sub);
    shmipc_close(&pub);
    world_end(ctx);
}

TEST(C3_closed_publisher_is_read_by_those_who_were_there)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *pub = opened(ctx, SHMIPC_PUB, "p", NULL), *sub = opened(ctx, SHMIPC_SUB, "p", NULL), *late;
    shmipc_socket_config cfg = options();
    COVERS("S5");
    publishes(pub, 0, 10);
    shmipc_close(&pub);
    cfg.history = 10;
    late = opened(ctx, SHMIPC_SUB, "p", &cfg);
    is_empty(late);
    receives(sub, 0, 10);
    is_empty(sub);
    shmipc_close(&sub);
    shmipc_close(&late);
    CHECK_EQ(channel_files(), 0);
    world_end(ctx);
}

TEST(C12_latest_keeps_only_the_newest)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg = options();
    shmipc_socket *pub = opened(ctx, SHMIPC_PUB, "p", NULL), *sub;
    shmipc_msg m;
    int n;
    cfg.latest = 1;
    sub = opened(ctx, SHMIPC_SUB, "p", &cfg);
    is_empty(sub);
    for (n = 1; n < 300; n = n * 3) { /* also after being overtaken */
        publishes(pub, n, n);
        CHECK_EQ(next(sub, &m, 0), SHMIPC_OK);
        CHECK_EQ(id_of(m.data), 2 * n - 1);
        is_empty(sub);
    }
    shmipc_close(&sub);
    shmipc_close(&pub);
    world_end(ctx);
}

static const unsigned char all_bytes[256] = {0, 255, 1, 2, 3};

TEST(S15_topics_filter_by_prefix)
{
    static const char *const two[] = {"arm/", "leg/left"}, *const empty[] = {""}, *const odd[] = {"\xff\xfe"};
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg = options();
    shmipc_socket *pub = opened(ctx, SHMIPC_PUB, "p", NULL);
    shmipc_socket *all = opened(ctx, SHMIPC_SUB, "p", NULL), *some, *each, *raw;
    shmipc_msg m;
    cfg.topics = two;
    cfg.topic_count = 2;
    some = opened(ctx, SHMIPC_SUB, "p", &cfg);
    cfg.topic_count = 1;
    cfg.topics = empty;
    each = opened(ctx, SHMIPC_SUB, "p", &cfg);
    cfg.topics = odd;
    raw = opened(ctx, SHMIPC_SUB, "p", &cfg);
    CHECK_EQ(shmipc_send_topic(pub, "arm/1", 5, "a", 1, 7), SHMIPC_OK);
    CHECK_EQ(shmipc_send_topic(pub, "arm", 3, "b", 1, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_send_topic(pub, "leg/right", 9, "c", 1, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_send_topic(pub, "leg/left", 8, "d", 1, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_send_topic(pub, "arm/\0x", 6, "e", 1, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_send_topic(pub, "\xff\xfe\xfd", 3, "f", 1, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_send_topic(pub, NULL, 0, "g", 1, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_send(pub, "h", 1, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_send_topic(pub, all_bytes, 255, "i", 1, 0), SHMIPC_OK);
    CHECK(shmipc_send_topic(pub, all_bytes, 256, "x", 1, 0) < 0);
    CHECK(shmipc_send_topic(pub, NULL, 3, "x", 1, 0) < 0);
#define GETS(s, letter, name, n)                                                                    \
    do {                                                                                            \
        CHECK_EQ(next(s, &m, 0), SHMIPC_OK);                                                        \
        CHECK_EQ(m.len, 1);                                                                         \
        CHECK_MEM(m.data, letter, 1);                                                               \
        if (CHECK_EQ(m.topic_len, n) && (n) > 0 && CHECK(m.topic != NULL)) CHECK_MEM(m.topic, name, n); \
    } while (0)
    GETS(all, "a", "arm/1", 5);
    CHECK_EQ(m.tag, 7);
    GETS(all, "b", "arm", 3);
    GETS(all, "c", "leg/right", 9);
    GETS(all, "d", "leg/left", 8);
    GETS(all, "e", "arm/\0x", 6);
    GETS(all, "f", "\xff\xfe\xfd", 3);
    GETS(all, "g", "", 0);
    GETS(all, "h", "", 0);
    CHECK(m.topic == NULL);
    GETS(all, "i", all_bytes, 255);
    GETS(some, "a", "arm/1", 5);
    GETS(some, "d", "leg/left", 8);
    CHECK_EQ(shmipc_take(some, &m, 0), SHMIPC_OK);
    CHECK_MEM(m.data, "e", 1);
    CHECK_EQ(m.topic_len, 6);
    CHECK_MEM(m.topic, "arm/\0x", 6);
    CHECK_EQ(shmipc_release(&m), SHMIPC_OK);
    is_empty(some);
    GETS(each, "a", "arm/1", 5);
    GETS(raw, "f", "\xff\xfe\xfd", 3);
    is_empty(raw);
    CHECK_EQ(stats_of(some).dropped, 0); /* not wanted is not missed */
    CHECK_EQ(stats_of(raw).dropped, 0);
    shmipc_close(&all);
    shmipc_close(&some);
    shmipc_close(&each);
    shmipc_close(&raw);
    shmipc_close(&pub);
    world_end(ctx);
}

TEST(S17_large_messages_with_topics)
{
    enum { LEN = 300000 };
    static const char *const one[] = {"cam"};
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg = options();
    shmipc_socket *pub = opened(ctx, SHMIPC_PUB, "p", NULL), *sub;
    static unsigned char buf[LEN], got[LEN];
    shmipc_msg m;
    int i;
    COVERS("S15");
    cfg.topics = one;
    cfg.topic_count = 1;
    sub = opened(ctx, SHMIPC_SUB, "p", &cfg);
    for (i = 0; i < 4; i++) {
        fill(buf, LEN, (uint64_t)i);
        CHECK_EQ(shmipc_send_topic(pub, i % 2 ? "camera/0" : "other", i % 2 ? 8 : 5, buf, LEN, 0), SHMIPC_OK);
    }
    CHECK_EQ(shmipc_recv_msg(sub, got, LEN, &m, 0), SHMIPC_OK);
    CHECK_EQ(m.len, LEN);
    CHECK(is_filled(got, LEN, 1));
    CHECK_EQ(m.topic_len, 8);
    CHECK_MEM(m.topic, "camera/0", 8);
    CHECK_EQ(shmipc_take(sub, &m, 0), SHMIPC_OK);
    CHECK(is_filled(m.data, (size_t)m.len, 3));
    CHECK_MEM(m.topic, "camera/0", 8);
    CHECK_EQ(shmipc_release(&m), SHMIPC_OK);
    is_empty(sub);
    shmipc_close(&sub);
    shmipc_close(&pub);
    world_end(ctx);
}

/* ---- overtaken ---- */

TEST(S22_overtaken_subscriber_learns_how_many_it_missed)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg = of_depth(16);
    shmipc_socket *a = opened(ctx, SHMIPC_PUB, "p", &cfg), *b = opened(ctx, SHMIPC_PUB, "p", NULL);
    shmipc_socket *sub = opened(ctx, SHMIPC_SUB, "p", NULL);
    shmipc_msg m;
    uint64_t got[2] = {0, 0}, first[2] = {0, 0}, last[2] = {0, 0};
    uint32_t lane[2] = {0, 0};
    int i, k, rc;
    COVERS("S21 S19");
    for (i = 0; i < 100; i++) publishes(a, 1000 + i, 1);
    for (i = 0; i < 40; i++) publishes(b, 2000 + i, 1);
    while ((rc = next(sub, &m, 0)) == SHMIPC_OK) {
        k = id_of(m.data) >= 2000;
        if (got[k]) {
            CHECK_EQ(m.number, last[k] + 1);
            CHECK_EQ(m.sender, lane[k]);
        } else {
            first[k] = m.number;
            lane[k] = m.sender;
        }
        CHECK_EQ(id_of(m.data), (k ? 2000 : 1000) + m.number);
        last[k] = m.number;
        got[k]++;
    }
    CHECK_EQ(rc, SHMIPC_ETIMEDOUT);
    CHECK(lane[0] != lane[1]);
    CHECK_EQ(last[0], 99);
    CHECK_EQ(last[1], 39);
    CHECK(first[0] >= 84 && first[0] <= 88); /* an old one, still safely valid */
    CHECK(first[1] >= 24 && first[1] <= 28);
    CHECK_EQ(stats_of(sub).dropped, first[0] + first[1]);
    CHECK_EQ(stats_of(sub).received, got[0] + got[1]);
    CHECK_EQ(stats_of(sub).queued, 0);
    shmipc_close(&sub);
    shmipc_close(&a);
    shmipc_close(&b);
    world_end(ctx);
}

/* Messages of all sizes, as fast as they come; now and then the subscriber dawdles. */
static size_t size_of(uint64_t id) { return (size_t)(id % 50 == 7 ? 70000 : 8 + id * 37 % 300); }

static void sub_overtaken(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_SUB, "p", NULL);
    static unsigned char buf[70000];
    uint64_t want = 0, id = 0;
    shmipc_socket_stats st;
    shmipc_msg m;
    int turn, rc;
    raise_event(READY);
    for (turn = 0; want < (uint64_t)n; turn++) {
        if (turn % 1000 == 999) sched_yield();
        rc = turn % 3 ? shmipc_recv_msg(s, buf, sizeof buf, &m, SOON) : shmipc_take(s, &m, SOON);
        if (!CHECK_EQ(rc, SHMIPC_OK) || !CHECK(m.len >= 8)) break;
        id = id_of(m.data);
        CHECK(id >= want); /* never again, never out of order */
        CHECK_EQ(m.number, id);
        CHECK_EQ(m.len, size_of(id));
        CHECK(is_filled(m.data, (size_t)m.len, id));
        if (turn % 3 == 0) CHECK_EQ(shmipc_release(&m), SHMIPC_OK);
        want = id + 1;
    }
    st = stats_of(s);
    CHECK_EQ(st.received + st.dropped, n);
    CHECK(st.received > 0);
    shmipc_close(&s);
}

TEST_LIMIT(S21_S22_overtaken_at_full_speed, 60)
{
    enum { N = 100000, SUBS = 2 };
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg = of_depth(32);
    shmipc_socket *s = opened(ctx, SHMIPC_PUB, "p", &cfg);
    static unsigned char buf[70000];
    pid_t pid[SUBS];
    int i;
    COVERS("S13 S20");
    for (i = 0; i < SUBS; i++) pid[i] = child(sub_overtaken, N);
    await(READY, SUBS);
    for (i = 0; i < N; i++) {
        size_t len = size_of((uint64_t)i);
        fill(buf, len, (uint64_t)i);
        CHECK_EQ(shmipc_send(s, buf, len, 0), SHMIPC_OK);
    }
    for (i = 0; i < SUBS; i++) child_done(pid[i]);
    shmipc_close(&s);
    world_end(ctx);
}

static void take_views_and_stay(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_SUB, "p", NULL);
    shmipc_msg m;
    int i;
    raise_event(READY);
    for (i = 0; i < n; i++) CHECK_EQ(shmipc_take(s, &m, SOON), SHMIPC_OK);
    raise_event(SEEN);
    stay();
}

TEST(S20_stopped_and_killed_subscribers_with_views_stop_no_publisher)
{
    enum { SUBS = 6, LEN = 20000 };
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg = of_depth(8);
    shmipc_socket *pub = opened(ctx, SHMIPC_PUB, "p", &cfg), *sub;
    static unsigned char buf[LEN];
    pid_t pid[SUBS];
    int i;
    COVERS("S60 S62 I5");
    for (i = 0; i < SUBS; i++) pid[i] = child(take_views_and_stay, 4);
    await(READY, SUBS);
    for (i = 0; i < 4; i++) {
        fill(buf, LEN, (uint64_t)i);
        CHECK_EQ(shmipc_send(pub, buf, LEN, 0), SHMIPC_OK);
    }
    await(SEEN, SUBS);
    for (i = 0; i < SUBS; i++) stop(pid[i]);
    for (i = 0; i < 1000; i++) CHECK_EQ(shmipc_send(pub, buf, LEN, 0), SHMIPC_OK);
    for (i = 0; i < SUBS; i++) scope_kill(pid[i]);
    for (i = 0; i < 1000; i++) CHECK_EQ(shmipc_send(pub, buf, LEN, 0), SHMIPC_OK);
    sub = opened(ctx, SHMIPC_SUB, "p", NULL); /* gives back what the dead had */
    for (i = 0; i < 3; i++) {
        shmipc_msg m[4];
        int k;
        for (k = 0; k < 4; k++) CHECK_EQ(shmipc_send(pub, buf, LEN, 0), SHMIPC_OK);
        for (k = 0; k < 4; k++) CHECK_EQ(shmipc_take(sub, &m[k], 0), SHMIPC_OK);
        for (k = 0; k < 4; k++) CHECK_EQ(shmipc_release(&m[k]), SHMIPC_OK);
    }
    CHECK_EQ(stats_of(pub).peers, 1);
    shmipc_close(&sub);
    shmipc_close(&pub);
    world_end(ctx);
}

/* ---- views ---- */

TEST(I8_views_stay_valid_and_unchanged_until_released)
{
    enum { LEN = 50000 };
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg = of_depth(8);
    shmipc_socket *pub = opened(ctx, SHMIPC_PUB, "p", &cfg), *sub = opened(ctx, SHMIPC_SUB, "p", NULL);
    static unsigned char buf[LEN];
    shmipc_msg m[4], more, small;
    int i;
    COVERS("S20");
    for (i = 0; i < 6; i++) {
        fill(buf, LEN, (uint64_t)i);
        CHECK_EQ(shmipc_send(pub, buf, LEN, 0), SHMIPC_OK);
    }
    publishes(pub, 6, 1);
    for (i = 0; i < 4; i++) REQUIRE(shmipc_take(sub, &m[i], 0) == SHMIPC_OK);
    CHECK_EQ(shmipc_take(sub, &more, 0), SHMIPC_EBUSY); /* four are out */
    CHECK_EQ(shmipc_recv_msg(sub, buf, LEN, &more, 0), SHMIPC_OK);
    CHECK_EQ(more.number, 4);
    CHECK(is_filled(buf, LEN, 4));
    CHECK_EQ(shmipc_take(sub, &more, 0), SHMIPC_EBUSY);
    CHECK_EQ(shmipc_release(&m[0]), SHMIPC_OK);
    CHECK(shmipc_release(&m[0]) < 0); /* once only */
    CHECK_EQ(shmipc_take(sub, &m[0], 0), SHMIPC_OK);
    CHECK_EQ(m[0].number, 5);
    CHECK_EQ(shmipc_take(sub, &small, 0), SHMIPC_OK); /* small ones are copies and need no view */
    CHECK_EQ(id_of(small.data), 6);
    for (i = 0; i < 200; i++) {
        fill(buf, LEN, 1000 + (uint64_t)i);
        CHECK_EQ(shmipc_send(pub, buf, LEN, 0), SHMIPC_OK);
    }
    shmipc_close(&pub);
    CHECK_EQ(id_of(small.data), 6);
    CHECK_EQ(shmipc_release(&small), SHMIPC_OK);
    for (i = 1; i < 4; i++) CHECK(is_filled(m[i].data, LEN, (uint64_t)i));
    shmipc_close(&sub); /* views outlive their socket */
    pub = opened(ctx, SHMIPC_PUB, "p", NULL);
    for (i = 0; i < 200; i++) CHECK_EQ(shmipc_send(pub, buf, LEN, 0), SHMIPC_OK);
    CHECK(is_filled(m[0].data, LEN, 5));
    for (i = 1; i < 4; i++) CHECK(is_filled(m[i].data, LEN, (uint64_t)i));
    for (i = 0; i < 4; i++) CHECK_EQ(shmipc_release(&m[i]), SHMIPC_OK);
    shmipc_close(&pub);
    world_end(ctx);
}

/* ---- coming and going ---- */

static void pub_some(shmipc_ctx *ctx, int first)
{
    shmipc_socket *s = opened(ctx, SHMIPC_PUB, "p", NULL);
    publishes(s, first, 10);
    raise_event(DONE);
    if (first % 20) stay(); /* every other one is killed */
    shmipc_close(&s);
}

TEST(S10_S60_restarted_publishers_are_simply_there)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *sub = opened(ctx, SHMIPC_SUB, "p", NULL);
    shmipc_msg m;
    int i, k;
    COVERS("S4 S61");
    for (i = 0; i < 30; i++) {
        pid_t pid = child(pub_some, 10 * i);
        await(DONE, (uint32_t)i + 1);
        if (10 * i % 20) scope_kill(pid);
        else child_done(pid);
        for (k = 0; k < 10; k++) {
            if (!CHECK_EQ(next(sub, &m, SOON), SHMIPC_OK)) break;
            CHECK_EQ(id_of(m.data), 10 * i + k);
            CHECK_EQ(m.sender, 0); /* its lane is taken over, */
            CHECK_EQ(m.number, 10 * i + k); /* with its numbers */
        }
    }
    CHECK_EQ(stats_of(sub).dropped, 0);
    CHECK_EQ(stats_of(sub).peers, 0);
    shmipc_close(&sub);
    world_end(ctx);
}

static void sub_some(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_SUB, "p", NULL);
    raise_event(READY);
    receives(s, n, 5);
    raise_event(SEEN);
    if (n % 10) stay();
    if (n % 4) _exit(0); /* without closing */
    shmipc_close(&s);
}

TEST(S10_S59_subscribers_that_leave_in_any_way_leave_all_working)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *pub = opened(ctx, SHMIPC_PUB, "p", NULL), *sub = opened(ctx, SHMIPC_SUB, "p", NULL);
    int i;
    COVERS("S60");
    for (i = 0; i < 30; i++) {
        pid_t pid = child(sub_some, 5 * i);
        await(READY, (uint32_t)i + 1);
        publishes(pub, 5 * i, 5);
        await(SEEN, (uint32_t)i + 1);
        if (5 * i % 10) scope_kill(pid);
        else child_done(pid);
        receives(sub, 5 * i, 5);
    }
    CHECK_EQ(stats_of(pub).peers, 1);
    shmipc_close(&sub);
    shmipc_close(&pub);
    world_end(ctx);
}

static void sub_waiting(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_SUB, "p", NULL);
    raise_event(READY);
    receives(s, n, 1);
    raise_event(SEEN);
    receives(s, n + 1, 1);
    CHECK_EQ(stats_of(s).dropped, 0);
    shmipc_close(&s);
}

/* The subscriber sleeps while publishers die and come. */
TEST(S4_S60_sleeping_subscriber_hears_the_next_publisher)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *pub;
    pid_t sub = child(sub_waiting, 3), dead;
    int i;
    COVERS("S10");
    await(READY, 1);
    await_state(sub, "S");
    pub = opened(ctx, SHMIPC_PUB, "p", NULL);
    await_state(sub, "S");
    publishes(pub, 3, 1);
    await(SEEN, 1);
    shmipc_close(&pub);
    for (i = 0; i < 3; i++) {
        dead = fork();
        if (dead == 0) {
            (void)opened(context(), SHMIPC_PUB, "p", NULL);
            raise_event(DONE);
            stay();
        }
        await(DONE, (uint32_t)i + 1);
        scope_kill(dead);
    }
    await_state(sub, "S");
    pub = opened(ctx, SHMIPC_PUB, "p", NULL);
    publishes(pub, 4, 1);
    child_done(sub);
    shmipc_close(&pub);
    world_end(ctx);
}

/* ---- many ---- */

enum { PUBS = 32, SUBS = 64, EACH = 40 };

static void pub_of_many(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_PUB, "many", NULL);
    int i;
    raise_event(READY);
    await(GO, 1);
    for (i = 0; i < EACH; i++) CHECK_EQ(send_id(s, (uint64_t)(n * 1000 + i), 0), SHMIPC_OK);
    await(DONE, 1);
    shmipc_close(&s);
}

static void sub_of_many(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_SUB, "many", NULL);
    int i, want[PUBS];
    shmipc_msg m;
    (void)n;
    memset(want, 0, sizeof want);
    raise_event(READY);
    for (i = 0; i < PUBS * EACH; i++) {
        uint64_t id, from;
        if (!CHECK_EQ(next(s, &m, 2 * SOON), SHMIPC_OK)) break;
        id = id_of(m.data);
        from = id / 1000;
        if (!CHECK(from < PUBS)) break;
        CHECK_EQ(id % 1000, want[from]);
        want[from]++;
    }
    CHECK_EQ(recv_id(s, 0), SHMIPC_ETIMEDOUT);
    CHECK_EQ(stats_of(s).dropped, 0);
    CHECK_EQ(stats_of(s).peers, PUBS);
    raise_event(SEEN);
    shmipc_close(&s);
}

TEST_LIMIT(S24_32_publishers_and_64_subscribers, 90)
{
    shmipc_ctx *ctx = world_begin();
    pid_t pub[PUBS], sub[SUBS];
    int i;
    COVERS("S25 S8");
    for (i = 0; i < SUBS; i++) sub[i] = child(sub_of_many, i);
    for (i = 0; i < PUBS; i++) pub[i] = child(pub_of_many, i);
    await(READY, PUBS + SUBS);
    raise_event(GO);
    await(SEEN, SUBS);
    raise_event(DONE);
    for (i = 0; i < SUBS; i++) child_done(sub[i]);
    for (i = 0; i < PUBS; i++) child_done(pub[i]);
    world_end(ctx);
}

/* A publisher with much to say does not silence one with little: no more than 16 messages at a stretch. */
TEST(S24_lanes_are_read_in_turn)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *busy = opened(ctx, SHMIPC_PUB, "p", NULL), *calm = opened(ctx, SHMIPC_PUB, "p", NULL);
    shmipc_socket *sub = opened(ctx, SHMIPC_SUB, "p", NULL);
    int i, turn;
    for (turn = 0; turn < 20; turn++) {
        publishes(busy, 0, 30);
        publishes(calm, 1000, 1);
        for (i = 0; i < 17 && recv_id(sub, 0) != 1000; i++) continue;
        CHECK(i < 17);
        while (recv_id(sub, 0) >= 0) continue;
    }
    CHECK_EQ(stats_of(sub).received, 20 * 31);
    shmipc_close(&sub);
    shmipc_close(&busy);
    shmipc_close(&calm);
    world_end(ctx);
}

/* Nor one that comes later, when the subscriber never finds its lanes empty. */
TEST(S4_S24_a_busy_subscriber_hears_new_publishers)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *busy = opened(ctx, SHMIPC_PUB, "p", NULL), *sub = opened(ctx, SHMIPC_SUB, "p", NULL), *calm = NULL;
    int i, heard = 0;
    for (i = 0; i < 2000; i++) {
        publishes(busy, 0, 2);
        if (i == 10) {
            calm = opened(ctx, SHMIPC_PUB, "p", NULL);
            publishes(calm, 1000, 1);
        }
        heard += recv_id(sub, 0) == 1000;
    }
    CHECK_EQ(heard, 1);
    shmipc_close(&sub);
    shmipc_close(&busy);
    shmipc_close(&calm);
    world_end(ctx);
}
