/* What all sockets have in common: names, options, errors, statistics, waiting, poll, descriptors, fork, full
 * memory. */
#include "check.h"
#include "faults.h"
#include "socket_world.h"
#include "strict.h"
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/time.h>

enum { SENDERS = 1 << SHMIPC_PUB | 1 << SHMIPC_PUSH | 1 << SHMIPC_REQ };

/* Both ends of a channel in this process. */
typedef struct both {
    shmipc_socket *a, *b;
} both;

static both open_both(shmipc_ctx *ctx, int p, const char *name, const shmipc_socket_config *cfg)
{
    both c;
    c.a = opened(ctx, pairs[p][0], name, cfg);
    c.b = opened(ctx, pairs[p][1], name, cfg);
    return c;
}

static void close_both(both *c)
{
    shmipc_close(&c->a);
    shmipc_close(&c->b);
}

/* One message there, and for REQ/REP the answer back. */
static void exchange(both *c, uint64_t id)
{
    CHECK_EQ(send_id(c->a, id, 0), SHMIPC_OK);
    CHECK_EQ(recv_id(c->b, SOON), (int64_t)id);
    if (shmipc_socket_role(c->b) != SHMIPC_REP) return;
    CHECK_EQ(send_id(c->b, id + 1, 0), SHMIPC_OK);
    CHECK_EQ(recv_id(c->a, SOON), (int64_t)id + 1);
}

/* ---- names ---- */

TEST(S1_S2_C12_every_role_needs_only_a_name)
{
    static const uint64_t depth[ROLES] = {0, 64, 0, 1024, 0, 256, 0} /* the other side learns it */;
    shmipc_ctx *ctx = world_begin();
    int role;
    COVERS("S5 S58");
    for (role = SHMIPC_PUB; role <= SHMIPC_REP; role++) {
        shmipc_socket *s = NULL;
        REQUIRE(open_as(ctx, role, "robot/pose", NULL, &s) == SHMIPC_OK);
        CHECK_EQ(shmipc_socket_role(s), role);
        CHECK_STR(shmipc_socket_name(s), "robot/pose");
        CHECK_EQ(stats_of(s).role, role);
        CHECK_EQ(stats_of(s).peers, 0);
        if (depth[role]) {
            CHECK_EQ(stats_of(s).depth, depth[role]);
            CHECK_EQ(stats_of(s).max_message, 16 << 20);
        }
        CHECK_EQ(channel_files(), 1);
        shmipc_close(&s);
        CHECK(s == NULL);
        shmipc_close(&s); /* again: nothing */
        CHECK_EQ(channel_files(), 0);
    }
    shmipc_close(NULL);
    world_end(ctx);
}

static char long_name[256], cut_name[255];
static const char *const legal[] = {"a", "robot/pose", "with space", ".", "..", "../../etc/passwd", "line\nbreak",
                                    "\x01", "%s%n",
                                    "\xc3\xa4\xc3\xb6", "\xf0\x9f\xa4\x96", long_name, cut_name};
static const char *const illegal[] = {"", "\xff", "a\xc3", "\xed\xa0\x80", "ok\xfe"};

TEST(S6_any_name_works)
{
    enum { N = sizeof legal / sizeof *legal };
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg = options();
    both c[N];
    size_t i;
    cfg.max_memory = 1; /* the least there is, for the sake of 32-bit address spaces */
    memset(long_name, 'x', 255);
    memset(cut_name, 'x', 254);
    for (i = 0; i < N; i++) c[i] = open_both(ctx, (int)(i % PAIRS), legal[i], &cfg);
    for (i = 0; i < N; i++) {
        exchange(&c[i], i);
        CHECK_STR(shmipc_socket_name(c[i].a), legal[i]);
        CHECK_STR(shmipc_socket_name(c[i].b), legal[i]);
    }
    for (i = 0; i < N; i++) close_both(&c[i]);
    world_end(ctx);
}

TEST(S6_names_that_are_none)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg = options();
    shmipc_socket *s = NULL;
    char huge[257];
    size_t i;
    int role;
    memset(huge, 'y', 256);
    huge[256] = 0;
    for (role = SHMIPC_PUB; role <= SHMIPC_REP; role++) {
        for (i = 0; i < sizeof illegal / sizeof *illegal; i++) {
            CHECK_EQ(open_as(ctx, role, illegal[i], NULL, &s), SHMIPC_EINVAL);
            CHECK(says(ctx, "name "));
        }
        CHECK_EQ(open_as(ctx, role, huge, NULL, &s), SHMIPC_EINVAL);
        CHECK_EQ(open_as(ctx, role, NULL, NULL, &s), SHMIPC_EINVAL);
        CHECK_EQ(open_as(NULL, role, "a", NULL, &s), SHMIPC_EINVAL);
        CHECK_EQ(open_as(ctx, role, "a", NULL, NULL), SHMIPC_EINVAL);
        cfg.name_len = 3;
        CHECK_EQ(open_as(ctx, role, "a\0b", &cfg, &s), SHMIPC_EINVAL);
        cfg.name_len = 2;
        CHECK(s == NULL);
        CHECK_EQ(open_as(ctx, role, "abc", &cfg, &s), SHMIPC_OK);
        CHECK_STR(shmipc_socket_name(s), "ab");
        shmipc_close(&s);
    }
    CHECK_EQ(channel_files(), 0);
    world_end(ctx);
}

/* ---- who comes first; who stays ---- */

/* n: 2 * pair + side. One message from the first side to the second, and an answer for REQ/REP. */
static void one_side(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s;
    int role = pairs[n / 2][n % 2];
    s = opened(ctx, role, "either", NULL);
    raise_event(READY);
    if (n % 2 == 0) {
        await(GO, 1); /* a subscriber gets what is sent after it came */
        CHECK_EQ(send_id(s, 5, SOON), SHMIPC_OK);
        if (role == SHMIPC_REQ) CHECK_EQ(recv_id(s, SOON), 6);
    } else {
        CHECK_EQ(recv_id(s, SOON), 5);
        if (role == SHMIPC_REP) CHECK_EQ(send_id(s, 6, 0), SHMIPC_OK);
    }
    raise_event(DONE);
    await(DONE, 2);
    shmipc_close(&s);
}

static void either_first(int p, int first)
{
    shmipc_ctx *ctx = world_begin();
    pid_t pid[2];
    pid[first] = child(one_side, 2 * p + first);
    await(READY, 1);
    await_state(pid[first], "S");
    pid[!first] = child(one_side, 2 * p + !first);
    await(READY, 2);
    raise_event(GO);
    child_done(pid[0]);
    child_done(pid[1]);
    CHECK_EQ(channel_files(), 0);
    world_end(ctx);
}

TEST(S4_S25_publisher_first) { either_first(0, 0); }
TEST(S4_S25_subscriber_first) { either_first(0, 1); }
TEST(S4_S25_pusher_first) { either_first(1, 0); }
TEST(S4_S25_puller_first) { either_first(1, 1); }
TEST(S4_S31_requester_first) { either_first(2, 0); }
TEST(S4_S31_replier_first) { either_first(2, 1); }

static void open_late(shmipc_ctx *ctx, int role)
{
    shmipc_socket *s;
    await(GO, 1);
    s = opened(ctx, role, "late", NULL);
    await(DONE, 1);
    shmipc_close(&s);
}

TEST(S3_waits_for_a_peer_if_asked_to)
{
    shmipc_ctx *ctx = world_begin();
    int role;
    for (role = SHMIPC_PUB; role <= SHMIPC_REP; role++) {
        int other = role % 2 ? role + 1 : role - 1;
        shmipc_socket_config cfg = options();
        shmipc_socket *s = NULL;
        int64_t t0 = now_ns();
        pid_t pid;
        cfg.connect_ns = 20000000;
        CHECK_EQ(open_as(ctx, role, "late", &cfg, &s), SHMIPC_ENOENT);
        CHECK(now_ns() - t0 >= 20000000);
        CHECK(says(ctx, "late"));
        CHECK(s == NULL);
        CHECK_EQ(channel_files(), 0); /* nothing is left of the attempt */
        memset(world__event, 0, EVENTS * sizeof *world__event);
        pid = child(open_late, other);
        cfg.connect_ns = role % 2 ? SOON : -1;
        raise_event(GO);
        s = opened(ctx, role, "late", &cfg);
        CHECK_EQ(stats_of(s).peers, 1);
        raise_event(DONE);
        child_done(pid);
        shmipc_close(&s);
    }
    world_end(ctx);
}

static void open_and_stay(shmipc_ctx *ctx, int role)
{
    (void)opened(ctx, role, "left", NULL);
    raise_event(READY);
    stay();
}

TEST(S7_S60_leftovers_of_the_killed_are_no_obstacle)
{
    shmipc_ctx *ctx = world_begin();
    uint32_t n = 0;
    int role;
    COVERS("C3 S5");
    for (role = SHMIPC_PUB; role <= SHMIPC_REP; role++) {
        shmipc_socket_config cfg = of_depth(16); /* another than the dead one's */
        shmipc_socket *s;
        pid_t pid = child(open_and_stay, role);
        await(READY, ++n);
        CHECK_EQ(channel_files(), 1);
        scope_kill(pid);
        s = opened(ctx, role, "left", role % 2 ? &cfg : NULL);
        CHECK_EQ(channel_files(), 1);
        CHECK_EQ(stats_of(s).peers, 0);
        CHECK_EQ(stats_of(s).queued, 0);
        if (role % 2) CHECK_EQ(stats_of(s).depth, 16);
        shmipc_close(&s);
        CHECK_EQ(channel_files(), 0);
    }
    world_end(ctx);
}

static void open_and_end(shmipc_ctx *ctx, int how)
{
    int p;
    for (p = 0; p < PAIRS; p++) {
        both c = open_both(ctx, p, p == 0 ? "ended" : p == 1 ? "ended/too" : "ended/also", NULL);
        exchange(&c, 4);
    }
    if (how == 0) _exit(0); /* without closing anything */
    if (how == 1) return;   /* closing the context only */
    shmipc_ctx_close(ctx);
    _exit(0);
}

TEST(S58_nothing_is_left_after_exit)
{
    shmipc_ctx *ctx = world_begin();
    int how;
    COVERS("S5 S59");
    for (how = 0; how < 3; how++) {
        child_done(child(open_and_end, how));
        if (how == 0) CHECK(shmipc_ctx_sweep(ctx, 0) >= 0);
        CHECK_EQ(channel_files(), 0);
    }
    world_end(ctx);
}

TEST(S62_opening_and_closing_leaks_nothing)
{
    shmipc_ctx *ctx = world_begin();
    int i, descriptors = 0, mappings = 0;
    for (i = 0; i < 300; i++) {
        both c = open_both(ctx, i % PAIRS, "again", NULL);
        exchange(&c, 9);
        CHECK(shmipc_fd(c.b) >= 0);
        close_both(&c);
        if (i == 10) {
            descriptors = scope_descriptors();
            mappings = scope_mappings();
        }
    }
    CHECK_EQ(scope_descriptors(), descriptors);
    CHECK_EQ(scope_mappings(), mappings);
    world_end(ctx);
}

TEST(S9_live_channels_are_listed_and_can_be_unlinked)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_segment_info infos[4];
    both c[PAIRS], again;
    int p, i;
    COVERS("K2 K8");
    c[0] = open_both(ctx, 0, "one", NULL);
    c[1] = open_both(ctx, 1, "two", NULL);
    c[2] = open_both(ctx, 2, "three", NULL);
    CHECK_EQ(shmipc_segment_list(ctx, infos, 4), 3);
    for (p = 0; p < PAIRS; p++) {
        int found = 0;
        for (i = 0; i < 3; i++) {
            if (strcmp(infos[i].name, shmipc_socket_name(c[p].a)) != 0) continue;
            found++;
            CHECK_EQ(infos[i].kind, p + 1);
            CHECK_EQ(infos[i].users, 2);
            CHECK_EQ(infos[i].status, 0);
        }
        CHECK_EQ(found, 1);
    }
    CHECK_EQ(shmipc_segment_unlink(ctx, "one"), SHMIPC_OK);
    CHECK_EQ(shmipc_segment_unlink(ctx, "one"), SHMIPC_ENOENT);
    exchange(&c[0], 3); /* who has it keeps it */
    again = open_both(ctx, 0, "one", NULL);
    exchange(&again, 4);
    CHECK_EQ(recv_id(c[0].b, 0), SHMIPC_ETIMEDOUT);
    close_both(&again);
    for (p = 0; p < PAIRS; p++) close_both(&c[p]);
    world_end(ctx);
}

/* ---- sizes, bursts, growth: where messages go one way ---- */

static const size_t sizes[] = {0, 1, 7, 8, 40, 47, 48, 49, 63, 64, 65, 1000, 4095, 4096, 4097, 65535, 65536, 65537,
                               1000003, 1 << 20, 10 << 20, 16 << 20};
enum { SIZES = sizeof sizes / sizeof *sizes, LARGEST = 16 << 20 };

/* Every size twice: copied, and in place. */
static void recv_sizes(shmipc_ctx *ctx, int role)
{
    shmipc_socket *s = opened(ctx, role, "sizes", NULL);
    unsigned char *buf = (unsigned char *)malloc(LARGEST);
    shmipc_msg m;
    size_t len = 1;
    int i;
    REQUIRE(buf != NULL);
    raise_event(READY);
    for (i = 0; i < SIZES; i++) {
        CHECK_EQ(shmipc_recv(s, buf, LARGEST, &len, SOON), SHMIPC_OK);
        CHECK_EQ(len, sizes[i]);
        CHECK(is_filled(buf, len, (uint64_t)i));
        if (!CHECK_EQ(shmipc_take(s, &m, SOON), SHMIPC_OK)) break;
        CHECK_EQ(m.len, sizes[i]);
        CHECK_EQ(m.tag, i);
        CHECK(is_filled(m.data, (size_t)m.len, (uint64_t)i));
        CHECK_EQ(shmipc_release(&m), SHMIPC_OK);
        raise_event(SEEN);
    }
    free(buf);
    shmipc_close(&s);
}

static void every_size(int p)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *s = opened(ctx, pairs[p][0], "sizes", NULL);
    pid_t pid = child(recv_sizes, pairs[p][1]);
    unsigned char *buf = (unsigned char *)malloc(LARGEST);
    shmipc_loan loan;
    int i;
    REQUIRE(buf != NULL);
    await(READY, 1);
    for (i = 0; i < SIZES; i++) {
        fill(buf, sizes[i], (uint64_t)i);
        CHECK_EQ(shmipc_send(s, buf, sizes[i], SOON), SHMIPC_OK);
        if (!CHECK_EQ(shmipc_loan_open(s, sizes[i], &loan), SHMIPC_OK)) break;
        CHECK(loan.len >= sizes[i]);
        memcpy(loan.data, buf, sizes[i]);
        loan.len = sizes[i];
        loan.tag = (uint32_t)i;
        CHECK_EQ(shmipc_loan_commit(&loan, SOON), SHMIPC_OK);
        await(SEEN, (uint32_t)i + 1);
    }
    child_done(pid);
    free(buf);
    shmipc_close(&s);
    world_end(ctx);
}

TEST_LIMIT(S11_S16_S17_every_size_published, 60) { every_size(0); }
TEST_LIMIT(S16_S17_S38_every_size_pushed, 60) { every_size(1); }

static void bursts(int p)
{
    static const int counts[] = {1000, 10000};
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg = of_depth(10000);
    int k, i;
    for (k = 0; k < 2; k++) {
        both c = open_both(ctx, p, "burst", &cfg);
        CHECK_EQ(stats_of(c.a).depth, 16384); /* rounded up */
        for (i = 0; i < counts[k]; i++) CHECK_EQ(send_id(c.a, (uint64_t)i, 0), SHMIPC_OK); /* nobody takes any */
        CHECK_EQ(stats_of(c.b).queued, counts[k]);
        for (i = 0; i < counts[k]; i++) CHECK_EQ(recv_id(c.b, 0), i);
        is_empty(c.b);
        CHECK_EQ(stats_of(c.b).dropped, 0);
        close_both(&c);
    }
    world_end(ctx);
}

TEST(S66_bursts_published) { bursts(0); }
TEST(S66_bursts_pushed) { bursts(1); }

static void no_growth(int p)
{
    enum { LEN = 100000, N = 10000 };
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg = of_depth(16);
    both c = open_both(ctx, p, "flat", &cfg);
    static unsigned char buf[LEN];
    uint64_t before = 0;
    int i, descriptors = scope_descriptors();
    for (i = 0; i < N; i++) {
        size_t len = 0, want = i % 3 == 0 ? 5000 : i % 3 == 1 ? LEN : 8;
        memcpy(buf, &i, sizeof i);
        if (!CHECK_EQ(shmipc_send(c.a, buf, want, 0), SHMIPC_OK)) break;
        if (!CHECK_EQ(shmipc_recv(c.b, buf, LEN, &len, 0), SHMIPC_OK) || !CHECK_EQ(len, want)) break;
        CHECK_MEM(buf, &i, sizeof i);
        if (i == 200) before = stats_of(c.a).memory;
    }
    CHECK(before > 0);
    CHECK(stats_of(c.a).memory <= before);
    CHECK_EQ(scope_descriptors(), descriptors);
    close_both(&c);
    world_end(ctx);
}

TEST_LIMIT(S62_publishing_takes_no_more_and_more_memory, 60) { no_growth(0); }
TEST_LIMIT(S62_pushing_takes_no_more_and_more_memory, 60) { no_growth(1); }

TEST(S64_a_default_channel_is_small)
{
    shmipc_ctx *ctx = world_begin();
    int p;
    for (p = 0; p < PAIRS; p++) {
        both c = open_both(ctx, p, "small", NULL);
        exchange(&c, 1);
        CHECK(stats_of(c.a).memory > 0 && stats_of(c.a).memory <= 10 << 20);
        close_both(&c);
    }
    world_end(ctx);
}

/* ---- options ---- */

TEST(C4_S8_options_of_a_living_channel_are_adopted_or_must_agree)
{
    shmipc_ctx *ctx = world_begin();
    int p;
    COVERS("S2");
    for (p = 0; p < PAIRS; p++) {
        int role = pairs[p][0];
        shmipc_socket_config cfg = of_depth(100);
        shmipc_socket *first, *same = NULL, *bad = NULL;
        cfg.max_message = 5000;
        first = opened(ctx, role, "opt", &cfg);
        CHECK_EQ(stats_of(first).depth, 128);
        CHECK_EQ(stats_of(first).max_message, 5000);
        same = opened(ctx, role, "opt", NULL);
        CHECK_EQ(stats_of(same).depth, 128);
        CHECK_EQ(stats_of(same).max_message, 5000);
        shmipc_close(&same);
        same = opened(ctx, role, "opt", &cfg);
        shmipc_close(&same);
        cfg.depth = 128;
        same = opened(ctx, role, "opt", &cfg);
        cfg.depth = 32;
        CHECK_EQ(open_as(ctx, role, "opt", &cfg, &bad), SHMIPC_EMISMATCH);
        CHECK(says(ctx, "depth") && says(ctx, "32") && says(ctx, "128"));
        cfg.depth = 0;
        cfg.max_message = 6000;
        CHECK_EQ(open_as(ctx, role, "opt", &cfg, &bad), SHMIPC_EMISMATCH);
        CHECK(says(ctx, "max_message") && says(ctx, "6000") && says(ctx, "5000"));
        CHECK(bad == NULL);
        if (p == 0) CHECK_EQ(open_as(ctx, SHMIPC_SUB, "opt", NULL, &bad), SHMIPC_OK);
        shmipc_close(&bad);
        shmipc_close(&same);
        shmipc_close(&first);
        CHECK_EQ(channel_files(), 0);
    }
    world_end(ctx);
}

TEST(C4_a_name_has_one_pattern)
{
    static const char *const names[] = {"pub/sub", "push/pull", "req/rep"};
    shmipc_ctx *ctx = world_begin();
    int p, role;
    for (p = 0; p < PAIRS; p++) {
        shmipc_socket *s = opened(ctx, pairs[p][0], "kind", NULL), *bad = NULL;
        for (role = SHMIPC_PUB; role <= SHMIPC_REP; role++) {
            if (role == pairs[p][0] || role == pairs[p][1]) continue;
            CHECK_EQ(open_as(ctx, role, "kind", NULL, &bad), SHMIPC_EKIND);
            CHECK(says(ctx, names[p]) && says(ctx, names[(role - 1) / 2])); /* found, and expected */
        }
        CHECK(bad == NULL);
        shmipc_close(&s);
    }
    world_end(ctx);
}

TEST(S2_options_out_of_range)
{
    shmipc_ctx *ctx = world_begin();
    static const char *const none[] = {NULL};
    shmipc_aead blank;
    int role, i;
    memset(&blank, 0, sizeof blank);
    for (role = SHMIPC_PUB; role <= SHMIPC_REP; role++) {
        for (i = 0; i < 7; i++) {
            static const char *const knob[] = {"depth", "max_message", "capacity", "wait", "topic", "topic", "aead"};
            shmipc_socket_config cfg = options();
            shmipc_socket *s = NULL;
            if (i == 0) cfg.depth = (1 << 15) + 1;
            if (i == 1) cfg.max_message = ((uint64_t)1 << 31) - 4095;
            if (i == 2) cfg.capacity = 4097;
            if (i == 3) cfg.wait = 3;
            if (i == 4) cfg.topic_count = 1;
            if (i == 5) {
                cfg.topics = none;
                cfg.topic_count = 1;
            }
            if (i == 6) cfg.aead = &blank;
            if ((i == 4 || i == 5) && role != SHMIPC_SUB) continue;
            CHECK_EQ(open_as(ctx, role, "opt", &cfg, &s), SHMIPC_EINVAL);
            CHECK(says(ctx, knob[i]));
            CHECK(s == NULL);
        }
    }
    CHECK_EQ(channel_files(), 0);
    world_end(ctx);
}

TEST(S24_capacity_is_a_limit_that_the_dead_do_not_use_up)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg = options();
    shmipc_socket *a, *b, *c = NULL;
    uint32_t i;
    COVERS("S60");
    cfg.capacity = 3;
    a = opened(ctx, SHMIPC_PUB, "left", &cfg);
    b = opened(ctx, SHMIPC_SUB, "left", &cfg);
    for (i = 1; i < 20; i++) {
        pid_t pid = child(open_and_stay, i % 2 ? SHMIPC_SUB : SHMIPC_PUB);
        await(READY, i);
        CHECK_EQ(open_as(ctx, SHMIPC_SUB, "left", NULL, &c), SHMIPC_ETABLE);
        CHECK(says(ctx, "capacity"));
        scope_kill(pid);
    }
    c = opened(ctx, SHMIPC_SUB, "left", NULL);
    CHECK_EQ(send_id(a, 4, 0), SHMIPC_OK);
    CHECK_EQ(recv_id(b, 0), 4);
    CHECK_EQ(recv_id(c, 0), 4);
    shmipc_close(&a);
    shmipc_close(&b);
    shmipc_close(&c);
    world_end(ctx);
}

TEST(S18_oversize_is_a_clear_error)
{
    shmipc_ctx *ctx = world_begin();
    static unsigned char buf[5001];
    int p;
    COVERS("C5");
    for (p = 0; p < PAIRS; p++) {
        shmipc_socket_config cfg = options();
        both c;
        shmipc_loan loan;
        shmipc_msg m;
        shmipc_item item;
        uint64_t id;
        size_t len = 0;
        cfg.max_message = 5000;
        c = open_both(ctx, p, "big", &cfg);
        fill(buf, 5001, 1);
        CHECK_EQ(shmipc_send(c.a, buf, 5001, 0), SHMIPC_EMSGSIZE);
        CHECK(says(ctx, "5001") && says(ctx, "5000") && says(ctx, "max_message"));
        CHECK_EQ(shmipc_loan_open(c.a, 5001, &loan), SHMIPC_EMSGSIZE);
        CHECK_EQ(shmipc_loan_open(c.a, SIZE_MAX, &loan), SHMIPC_EMSGSIZE);
        memset(&item, 0, sizeof item);
        item.data = buf;
        item.len = 5001;
        if (p < 2) CHECK_EQ(shmipc_send_many(c.a, &item, 1, 0), SHMIPC_EMSGSIZE);
        CHECK_EQ(shmipc_send(c.a, buf, 5000, 0), SHMIPC_OK);
        CHECK_EQ(shmipc_recv_msg(c.b, buf, 5000, &m, SOON), SHMIPC_OK);
        CHECK_EQ(m.len, 5000);
        CHECK(is_filled(buf, 5000, 1));
        if (p == 2) {
            CHECK_EQ(shmipc_send(c.b, buf, 5001, 0), SHMIPC_EMSGSIZE);
            CHECK_EQ(shmipc_send(c.b, buf, 5000, 0), SHMIPC_OK); /* the request is still to be answered */
            CHECK_EQ(shmipc_recv(c.a, buf, 5000, &len, SOON), SHMIPC_OK);
            CHECK_EQ(shmipc_request(c.a, buf, 5001, &id, 8, &len, 0), SHMIPC_EMSGSIZE);
        }
        CHECK_EQ(recv_id(c.b, 0), SHMIPC_ETIMEDOUT);
        close_both(&c);
    }
    world_end(ctx);
}

/* ---- calls that do not fit ---- */

enum { SEND, TOPIC, MANY, LOAN, RECV, TAKE, RECV_MANY, REQUEST, CALLS };
static const int fits[ROLES] = {0,
                                1 << SEND | 1 << TOPIC | 1 << MANY | 1 << LOAN,
                                1 << RECV | 1 << TAKE | 1 << RECV_MANY,
                                1 << SEND | 1 << MANY | 1 << LOAN,
                                1 << RECV | 1 << TAKE | 1 << RECV_MANY,
                                1 << SEND | 1 << LOAN | 1 << RECV | 1 << TAKE | 1 << REQUEST,
                                1 << SEND | 1 << LOAN | 1 << RECV | 1 << TAKE};

static int call(shmipc_socket *s, int which)
{
    uint64_t x = 1;
    size_t len;
    shmipc_msg m;
    shmipc_loan loan;
    shmipc_item item;
    memset(&item, 0, sizeof item);
    switch (which) {
    case SEND: return shmipc_send(s, &x, 8, 0);
    case TOPIC: return shmipc_send_topic(s, "t", 1, &x, 8, 0);
    case MANY: return shmipc_send_many(s, &item, 1, 0);
    case LOAN: return shmipc_loan_open(s, 8, &loan);
    case RECV: return shmipc_recv(s, &x, 8, &len, 0);
    case TAKE: return shmipc_take(s, &m, 0);
    case RECV_MANY: return shmipc_recv_many(s, &x, 8, &m, 1, 0);
    default: return shmipc_request(s, &x, 8, &x, 8, &len, 0);
    }
}

TEST(S56_calls_of_another_role)
{
    static const char *const names[] = {"", "PUB", "SUB", "PUSH", "PULL", "REQ", "REP"};
    shmipc_ctx *ctx = world_begin();
    int role, which;
    COVERS("S36");
    for (role = SHMIPC_PUB; role <= SHMIPC_REP; role++) {
        shmipc_socket *s = opened(ctx, role, "wrong", NULL);
        for (which = 0; which < CALLS; which++) {
            if (fits[role] >> which & 1) continue;
            CHECK_EQ(call(s, which), SHMIPC_ESTATE);
            CHECK(says(ctx, names[role]));
        }
        shmipc_close(&s);
    }
    world_end(ctx);
}

TEST(S56_no_handle_no_buffer)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_stats st;
    shmipc_loan loan;
    shmipc_msg m;
    both c;
    int which, p;
    for (which = 0; which < CALLS; which++) CHECK_EQ(call(NULL, which), SHMIPC_EINVAL);
    memset(&loan, 0, sizeof loan);
    memset(&m, 0, sizeof m);
    CHECK_EQ(shmipc_socket_get_stats(NULL, &st), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_socket_peers(NULL, NULL, 0), SHMIPC_EINVAL);
    CHECK(shmipc_socket_role(NULL) <= 0);
    CHECK_STR(shmipc_socket_name(NULL), "");
    CHECK_EQ(shmipc_fd(NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_fd_arm(NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_loan_commit(NULL, 0), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_loan_discard(NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_release(NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_reject(NULL), SHMIPC_EINVAL);
    CHECK(shmipc_loan_commit(&loan, 0) < 0); /* never lent, never taken */
    CHECK(shmipc_loan_discard(&loan) < 0);
    CHECK(shmipc_release(&m) < 0);
    CHECK(shmipc_reject(&m) < 0);
    shmipc_socket_config_init(NULL);
    for (p = 0; p < PAIRS; p++) {
        size_t len;
        char buf[8];
        c = open_both(ctx, p, "args", NULL);
        CHECK_EQ(shmipc_send(c.a, NULL, 5, 0), SHMIPC_EINVAL);
        CHECK_EQ(shmipc_send_tag(c.a, "x", 1, 1 << 24, 0), SHMIPC_EINVAL); /* 24 bits travel */
        CHECK_EQ(shmipc_loan_open(c.a, 5, NULL), SHMIPC_EINVAL);
        CHECK_EQ(shmipc_recv(c.b, NULL, 5, &len, 0), SHMIPC_EINVAL);
        CHECK_EQ(shmipc_recv(c.b, buf, 5, NULL, 0), SHMIPC_EINVAL);
        CHECK_EQ(shmipc_recv_msg(c.b, buf, 5, NULL, 0), SHMIPC_EINVAL);
        CHECK_EQ(shmipc_take(c.b, NULL, 0), SHMIPC_EINVAL);
        CHECK_EQ(shmipc_socket_get_stats(c.b, NULL), SHMIPC_EINVAL);
        CHECK_EQ(shmipc_socket_peers(c.b, NULL, 1), SHMIPC_EINVAL);
        CHECK_EQ(shmipc_socket_peers(c.b, NULL, 0), 2);
        exchange(&c, 5);
        close_both(&c);
    }
    world_end(ctx);
}

TEST(S56_views_of_another_pattern)
{
    shmipc_ctx *ctx = world_begin();
    both c = open_both(ctx, 0, "view", NULL);
    shmipc_msg m;
    CHECK_EQ(send_id(c.a, 1, 0), SHMIPC_OK);
    REQUIRE(shmipc_take(c.b, &m, 0) == SHMIPC_OK);
    CHECK_EQ(shmipc_reject(&m), SHMIPC_ESTATE); /* for PULL only */
    CHECK_EQ(shmipc_release(&m), SHMIPC_OK);
    close_both(&c);
    world_end(ctx);
}

/* ---- what is not one of our channels ---- */

static const shmipc_kind *kind_of_pair(int p)
{
    uint32_t n = 0, i;
    const shmipc_kind *const *kinds = shmipc_socket_kinds(&n);
    for (i = 0; i < n && kinds[i]->kind != (uint32_t)p + 1; i++) continue;
    REQUIRE(i < n);
    return kinds[i];
}

static shmipc_segment *plant(shmipc_ctx *ctx, const shmipc_kind *kind, uint64_t size)
{
    shmipc_segment_config cfg;
    shmipc_segment *s = NULL;
    shmipc_segment_config_init(&cfg);
    cfg.mode = SHMIPC_CREATE;
    cfg.kind = kind;
    cfg.size = size;
    REQUIRE(shmipc_segment_open(ctx, "planted", &cfg, &s) == SHMIPC_OK);
    return s;
}

TEST(S51_other_layouts_are_refused_by_name)
{
    shmipc_ctx *ctx = world_begin();
    int role;
    COVERS("I9");
    for (role = SHMIPC_PUB; role <= SHMIPC_REP; role++) {
        shmipc_kind newer = *kind_of_pair((role - 1) / 2);
        shmipc_socket *s = NULL;
        shmipc_segment *planted;
        char found[32], expected[32];
        snprintf(expected, sizeof expected, "%u", newer.layout);
        snprintf(found, sizeof found, "%u", ++newer.layout);
        newer.validate = NULL;
        newer.sweep = NULL;
        newer.drained = NULL;
        planted = plant(ctx, &newer, 1 << 16);
        CHECK_EQ(open_as(ctx, role, "planted", NULL, &s), SHMIPC_ELAYOUT);
        CHECK(says(ctx, found) && says(ctx, expected));
        shmipc_segment_close(planted);
        planted = plant(ctx, NULL, 1 << 16);
        CHECK_EQ(open_as(ctx, role, "planted", NULL, &s), SHMIPC_EKIND);
        shmipc_segment_close(planted);
        CHECK(s == NULL);
    }
    world_end(ctx);
}

TEST(I3_channels_full_of_nonsense)
{
    shmipc_ctx *ctx = world_begin();
    int role, turn;
    COVERS("S51");
    for (role = SHMIPC_PUB; role <= SHMIPC_REP; role++) {
        for (turn = 0; turn < 20; turn++) {
            static const uint64_t area[] = {0, 64, 4096, 1 << 16, 1 << 20};
            shmipc_kind k = *kind_of_pair((role - 1) / 2);
            uint64_t size = area[turn % 5], i;
            shmipc_socket *s = NULL;
            shmipc_segment *planted;
            void *p = NULL;
            k.validate = NULL;
            k.sweep = NULL;
            k.drained = NULL;
            planted = plant(ctx, &k, size);
            REQUIRE(shmipc_segment_at(planted, 0, size, &p) == SHMIPC_OK);
            for (i = 0; turn >= 5 && i < size / 8; i++) ((uint64_t *)p)[i] = turn < 10 ? ~(uint64_t)0 : check_random();
            CHECK_EQ(open_as(ctx, role, "planted", NULL, &s), SHMIPC_ECORRUPT);
            CHECK(s == NULL);
            shmipc_segment_close(planted);
        }
    }
    world_end(ctx);
}

/* ---- statistics and peers ---- */

TEST(S19_statistics)
{
    shmipc_ctx *ctx = world_begin();
    int p, i;
    for (p = 0; p < PAIRS; p++) {
        both c = open_both(ctx, p, p == 0 ? "count" : p == 1 ? "count/once" : "count/back", NULL);
        shmipc_socket *more = opened(ctx, pairs[p][1], shmipc_socket_name(c.a), NULL);
        shmipc_socket_stats a, b;
        char buf[8];
        size_t len;
        CHECK_EQ(stats_of(c.a).peers, 2);
        CHECK_EQ(stats_of(c.b).peers, 1);
        shmipc_close(&more);
        CHECK_EQ(stats_of(c.a).peers, 1);
        for (i = 0; i < 10; i++) exchange(&c, (uint64_t)i);
        CHECK_EQ(send_id(c.a, 1, 0), SHMIPC_OK);
        CHECK_EQ(shmipc_recv(c.b, buf, 4, &len, 0), SHMIPC_EMSGSIZE); /* an error, and no message */
        a = stats_of(c.a);
        b = stats_of(c.b);
        CHECK_EQ(a.sent, 11);
        CHECK_EQ(a.bytes_sent, 88);
        CHECK_EQ(b.received, 10);
        CHECK_EQ(b.bytes_received, 80);
        CHECK_EQ(b.queued, 1);
        CHECK(b.high_water >= 1);
        CHECK_EQ(b.errors, 1);
        CHECK_EQ(a.errors, 0);
        CHECK_EQ(a.dropped + b.dropped, 0);
        CHECK_EQ(a.role, pairs[p][0]);
        CHECK_EQ(b.role, pairs[p][1]);
        CHECK(a.memory > 0 && a.memory == b.memory);
        if (p == 2) {
            CHECK_EQ(a.received, 10);
            CHECK_EQ(b.sent, 10);
        }
        CHECK_EQ(recv_id(c.b, 0), 1);
        close_both(&c);
    }
    world_end(ctx);
}

static void send_some_and_stay(shmipc_ctx *ctx, int role)
{
    shmipc_socket *s = opened(ctx, role, "who", NULL);
    if (SENDERS >> role & 1) CHECK_EQ(send_id(s, 1, 0), SHMIPC_OK);
    raise_event(READY);
    stay();
}

TEST(S60_peers_show_who_is_there)
{
    shmipc_ctx *ctx = world_begin();
    uint32_t n = 0;
    int p;
    COVERS("S19");
    for (p = 0; p < PAIRS; p++) {
        shmipc_socket *s = opened(ctx, pairs[p][1], "who", NULL);
        pid_t pid[3];
        shmipc_peer peers[8];
        int i, k, count, alive;
        for (i = 0; i < 3; i++) pid[i] = child(send_some_and_stay, pairs[p][i > 0]);
        await(READY, n += 3);
        count = shmipc_socket_peers(s, peers, 8);
        CHECK_EQ(count, 4);
        for (i = -1; i < 3 && count == 4; i++) {
            for (k = 0; k < count && peers[k].pid != (uint32_t)(i < 0 ? getpid() : pid[i]); k++) continue;
            if (!CHECK(k < count)) continue;
            CHECK_EQ(peers[k].role, pairs[p][i != 0]);
            CHECK_EQ(peers[k].alive, 1);
            CHECK_EQ(peers[k].sent, i == 0);
            CHECK(peers[k].life > 0);
        }
        CHECK_EQ(shmipc_socket_peers(s, peers, 1), 4); /* how many there are, not how many fit */
        CHECK_EQ(stats_of(s).peers, 1);
        scope_kill(pid[0]);
        CHECK_EQ(stats_of(s).peers, 0);
        count = shmipc_socket_peers(s, peers, 8);
        for (k = alive = 0; k < count; k++) {
            alive += peers[k].alive == 1;
            if (peers[k].pid == (uint32_t)pid[0]) CHECK_EQ(peers[k].alive, 0);
        }
        CHECK_EQ(alive, 3);
        scope_kill(pid[1]);
        scope_kill(pid[2]);
        if (p == 1) CHECK_EQ(recv_id(s, SOON), 1);
        shmipc_close(&s);
    }
    world_end(ctx);
}

/* ---- waiting ---- */

TEST(S12_no_wait_ends_early)
{
    shmipc_ctx *ctx = world_begin();
    int p, strategy;
    for (p = 0; p < PAIRS; p++) {
        for (strategy = SHMIPC_WAIT_ADAPTIVE; strategy <= SHMIPC_WAIT_SLEEP; strategy++) {
            shmipc_socket_config cfg = options();
            shmipc_poll_item item;
            shmipc_msg m;
            both c;
            int64_t t0;
            cfg.wait = (uint32_t)strategy;
            c = open_both(ctx, p, "time", &cfg);
            CHECK_EQ(recv_id(c.b, 0), SHMIPC_ETIMEDOUT);
            t0 = now_ns();
            CHECK_EQ(recv_id(c.b, 5000000), SHMIPC_ETIMEDOUT);
            CHECK(now_ns() - t0 >= 5000000);
            t0 = now_ns();
            CHECK_EQ(shmipc_take(c.b, &m, 5000000), SHMIPC_ETIMEDOUT);
            CHECK(now_ns() - t0 >= 5000000);
            memset(&item, 0, sizeof item);
            item.socket = c.b;
            item.events = SHMIPC_POLL_IN;
            t0 = now_ns();
            CHECK_EQ(shmipc_poll(&item, 1, 5000000), SHMIPC_ETIMEDOUT);
            CHECK(now_ns() - t0 >= 5000000);
            close_both(&c);
        }
    }
    world_end(ctx);
}

/* n: 10 * pair + strategy */
static void play_back(shmipc_ctx *ctx, int n)
{
    shmipc_socket_config cfg = options();
    shmipc_socket *in, *out;
    int p = n / 10, i;
    cfg.wait = (uint32_t)n % 10;
    in = opened(ctx, pairs[p][1], "there", &cfg);
    out = p == 2 ? in : opened(ctx, pairs[p][0], "back", &cfg);
    raise_event(READY);
    for (i = 0; i < 300; i++) {
        if (!CHECK_EQ(recv_id(in, SOON), i)) break;
        CHECK_EQ(send_id(out, (uint64_t)i, 0), SHMIPC_OK);
    }
    if (out != in) shmipc_close(&out);
    shmipc_close(&in);
}

static void play(int p)
{
    shmipc_ctx *ctx = world_begin();
    int strategy, i;
    for (strategy = SHMIPC_WAIT_ADAPTIVE; strategy <= SHMIPC_WAIT_SLEEP; strategy++) {
        shmipc_socket_config cfg = options();
        shmipc_socket *out, *in;
        pid_t pid;
        cfg.wait = (uint32_t)strategy;
        out = opened(ctx, pairs[p][0], "there", &cfg);
        in = p == 2 ? out : opened(ctx, pairs[p][1], "back", &cfg);
        pid = child(play_back, 10 * p + strategy);
        await(READY, (uint32_t)strategy + 1);
        for (i = 0; i < 300; i++) {
            CHECK_EQ(send_id(out, (uint64_t)i, 0), SHMIPC_OK);
            if (!CHECK_EQ(recv_id(in, SOON), i)) break;
        }
        child_done(pid);
        if (out != in) shmipc_close(&out);
        shmipc_close(&in);
    }
    world_end(ctx);
}

TEST_LIMIT(S2_S15_every_way_to_wait_for_publishers, 60) { play(0); }
TEST_LIMIT(S2_S38_every_way_to_wait_for_pushers, 60) { play(1); }
TEST_LIMIT(S2_S26_every_way_to_wait_for_requests, 60) { play(2); }

static void nothing(int sig) { (void)sig; }

static void signals_every(int microseconds)
{
    struct sigaction sa;
    struct itimerval it;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = nothing;
    sigaction(SIGALRM, &sa, NULL);
    it.it_interval.tv_sec = it.it_value.tv_sec = 0;
    it.it_interval.tv_usec = it.it_value.tv_usec = microseconds;
    setitimer(ITIMER_REAL, &it, NULL);
}

TEST(S12_signals_end_a_wait_only_if_asked_to)
{
    shmipc_ctx *ctx = world_begin();
    int p, interruptible;
    COVERS("I6");
    for (p = 0; p < PAIRS; p++) {
        for (interruptible = 0; interruptible < 2; interruptible++) {
            shmipc_socket_config cfg = options();
            shmipc_poll_item item;
            both c;
            int64_t t0;
            cfg.interruptible = (uint32_t)interruptible;
            cfg.wait = SHMIPC_WAIT_SLEEP;
            c = open_both(ctx, p, "signal", &cfg);
            memset(&item, 0, sizeof item);
            item.socket = c.b;
            item.events = SHMIPC_POLL_IN;
            t0 = now_ns();
            signals_every(2000);
            if (interruptible) {
                CHECK_EQ(recv_id(c.b, -1), SHMIPC_EINTR);
                CHECK_EQ(shmipc_poll(&item, 1, -1), SHMIPC_EINTR);
            } else {
                CHECK_EQ(recv_id(c.b, 30000000), SHMIPC_ETIMEDOUT);
                CHECK(now_ns() - t0 >= 30000000);
            }
            signals_every(0);
            exchange(&c, 3);
            close_both(&c);
        }
    }
    world_end(ctx);
}

static int stop_after(void *arg) { return ++*(int *)arg >= 3; }

TEST(S12_a_wait_can_be_stopped)
{
    shmipc_ctx *ctx = world_begin();
    int p, strategy;
    COVERS("I6");
    for (p = 0; p < PAIRS; p++) {
        for (strategy = SHMIPC_WAIT_ADAPTIVE; strategy <= SHMIPC_WAIT_SLEEP; strategy++) {
            shmipc_socket_config cfg = options();
            shmipc_poll_item item;
            int asked = 0;
            both c;
            cfg.wait = (uint32_t)strategy;
            cfg.stop = stop_after;
            cfg.stop_arg = &asked;
            c = open_both(ctx, p, "stop", &cfg);
            asked = 0;
            CHECK_EQ(recv_id(c.b, -1), SHMIPC_EINTR);
            CHECK_EQ(asked, 3);
            memset(&item, 0, sizeof item);
            item.socket = c.b;
            item.events = SHMIPC_POLL_IN;
            asked = 0;
            CHECK_EQ(shmipc_poll(&item, 1, -1), SHMIPC_EINTR);
            CHECK_EQ(asked, 3);
            exchange(&c, 3);
            close_both(&c);
        }
    }
    world_end(ctx);
}

static int64_t cpu_ns(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return ((int64_t)u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000 +
           ((int64_t)u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

TEST(S46_idle_waits_burn_no_cpu)
{
    shmipc_ctx *ctx = world_begin();
    int p;
    for (p = 0; p < PAIRS; p++) {
        both c = open_both(ctx, p, "idle", NULL);
        int64_t before, used;
        exchange(&c, 1);
        before = cpu_ns();
        CHECK_EQ(recv_id(c.b, 1000000000), SHMIPC_ETIMEDOUT);
        used = cpu_ns() - before;
        printf("pair %d: %d us in one second\n", p, (int)(used / 1000));
        CHECK(used < 10000000); /* 1 %: ten times the promise, for a busy machine's accounting */
        CHECK(stats_of(c.b).waits > 0);
        close_both(&c);
    }
    world_end(ctx);
}

/* ---- poll ---- */

static shmipc_poll_item item_of(shmipc_socket *s, uint32_t events)
{
    shmipc_poll_item it;
    it.socket = s;
    it.events = events;
    it.ready = 99;
    return it;
}

static void send_later(shmipc_ctx *ctx, int n)
{
    static const char *const names[] = {"zero", "one", "two"};
    shmipc_socket *s = opened(ctx, pairs[n][0], names[n], NULL);
    await(GO, (uint32_t)n + 1);
    CHECK_EQ(send_id(s, (uint64_t)n, 0), SHMIPC_OK);
    if (n == 2) CHECK_EQ(recv_id(s, SOON), 7);
    await(DONE, 1);
    shmipc_close(&s);
}

TEST(C17_poll_sleeps_once_for_all)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *s[PAIRS];
    shmipc_poll_item items[PAIRS];
    pid_t pid[PAIRS];
    int i, n;
    COVERS("S15 S38 S26");
    s[0] = opened(ctx, SHMIPC_SUB, "zero", NULL);
    s[1] = opened(ctx, SHMIPC_PULL, "one", NULL);
    s[2] = opened(ctx, SHMIPC_REP, "two", NULL);
    for (i = 0; i < PAIRS; i++) pid[i] = child(send_later, i);
    for (i = 0; i < PAIRS; i++) items[i] = item_of(s[i], SHMIPC_POLL_IN);
    CHECK_EQ(shmipc_poll(items, PAIRS, 0), SHMIPC_ETIMEDOUT);
    for (n = 0; n < PAIRS; n++) {
        raise_event(GO);
        CHECK_EQ(shmipc_poll(items, PAIRS, SOON), 1);
        for (i = 0; i < PAIRS; i++) CHECK_EQ(items[i].ready, i == n ? SHMIPC_POLL_IN : 0);
        CHECK_EQ(shmipc_poll(items, PAIRS, -1), 1); /* level: as long as it lies there */
        CHECK_EQ(recv_id(s[n], 0), n);
        if (n == 2) CHECK_EQ(send_id(s[2], 7, 0), SHMIPC_OK);
        CHECK_EQ(shmipc_poll(items, PAIRS, 0), SHMIPC_ETIMEDOUT);
    }
    raise_event(DONE);
    for (i = 0; i < PAIRS; i++) child_done(pid[i]);
    for (i = 0; i < PAIRS; i++) shmipc_close(&s[i]);
    world_end(ctx);
}

static void pull_one(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_PULL, "room", NULL);
    await(GO, 1);
    CHECK_EQ(recv_id(s, SOON), n);
    await(DONE, 1);
    shmipc_close(&s);
}

TEST(S41_poll_for_room)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg = of_depth(4);
    shmipc_socket *push = opened(ctx, SHMIPC_PUSH, "room", &cfg), *pub = opened(ctx, SHMIPC_PUB, "never/full", NULL);
    shmipc_poll_item items[2];
    pid_t pid = child(pull_one, 3);
    int i;
    items[0] = item_of(push, SHMIPC_POLL_OUT);
    items[1] = item_of(pub, SHMIPC_POLL_OUT);
    CHECK_EQ(shmipc_poll(items, 2, 0), 2);
    CHECK_EQ(items[0].ready, SHMIPC_POLL_OUT);
    CHECK_EQ(items[1].ready, SHMIPC_POLL_OUT);
    for (i = 3; i < 7; i++) CHECK_EQ(send_id(push, (uint64_t)i, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_poll(items, 1, 0), SHMIPC_ETIMEDOUT);
    CHECK_EQ(items[0].ready, 0);
    raise_event(GO);
    CHECK_EQ(shmipc_poll(items, 1, SOON), 1); /* one has been taken */
    CHECK_EQ(send_id(push, 7, 0), SHMIPC_OK);
    raise_event(DONE);
    child_done(pid);
    {
        shmipc_socket *pull = opened(ctx, SHMIPC_PULL, "room", NULL);
        for (i = 4; i < 8; i++) CHECK_EQ(recv_id(pull, 0), i);
        shmipc_close(&pull);
    }
    shmipc_close(&push);
    shmipc_close(&pub);
    world_end(ctx);
}

TEST(S56_poll_refuses_what_it_cannot_watch)
{
    enum { MOST = 1024 };
    shmipc_ctx *ctx = world_begin();
    both c = open_both(ctx, 1, "many", NULL);
    static shmipc_poll_item items[MOST + 1];
    int i;
    for (i = 0; i <= MOST; i++) items[i] = item_of(c.b, SHMIPC_POLL_IN);
    CHECK_EQ(shmipc_poll(items, MOST + 1, 0), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_poll(NULL, 1, 0), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_poll(items, MOST, 0), SHMIPC_ETIMEDOUT);
    CHECK_EQ(send_id(c.a, 1, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_poll(items, MOST, SOON), MOST); /* the same socket often: each item is told */
    CHECK_EQ(recv_id(c.b, 0), 1);
    items[1].socket = NULL;
    CHECK_EQ(shmipc_poll(items, 2, 0), SHMIPC_EINVAL);
    items[1] = item_of(c.b, 8);
    CHECK_EQ(shmipc_poll(items, 2, 0), SHMIPC_EINVAL); /* no such event */
    close_both(&c);
    world_end(ctx);
}

/* ---- descriptors ---- */

static int readable(int fd, int timeout_ms)
{
    struct pollfd p;
    p.fd = fd;
    p.events = POLLIN;
    p.revents = 0;
    return poll(&p, 1, timeout_ms) == 1 && p.revents & POLLIN;
}

static void send_on_events(shmipc_ctx *ctx, int p)
{
    shmipc_socket *s = opened(ctx, pairs[p][0], "fd", NULL);
    int i;
    raise_event(READY);
    for (i = 0; i < 50; i++) {
        await(GO, (uint32_t)i + 1);
        CHECK_EQ(send_id(s, (uint64_t)i, SOON), SHMIPC_OK);
        if (p == 2) CHECK_EQ(recv_id(s, SOON), i);
    }
    await(DONE, 1);
    shmipc_close(&s);
}

static void wakes_descriptor(int p)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *s = opened(ctx, pairs[p][1], "fd", NULL);
    pid_t pid = child(send_on_events, p);
    int fd = shmipc_fd(s), i;
    REQUIRE(fd >= 0);
    CHECK_EQ(shmipc_fd(s), fd);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    await(READY, 1);
    for (i = 0; i < 50; i++) {
        CHECK_EQ(shmipc_fd_arm(s), 0);
        CHECK(!readable(fd, 0));
        raise_event(GO);
        if (!CHECK(readable(fd, (int)(SOON / 1000000)))) break; /* nobody was killed: the notice comes */
        CHECK(readable(fd, 0)); /* level: until it is armed again */
        CHECK_EQ(shmipc_fd_arm(s), 1); /* do not sleep */
        CHECK_EQ(shmipc_fd_arm(s), 1);
        CHECK_EQ(recv_id(s, 0), i);
        if (p == 2) CHECK_EQ(send_id(s, (uint64_t)i, 0), SHMIPC_OK);
    }
    raise_event(DONE);
    child_done(pid);
    shmipc_close(&s);
    CHECK(fcntl(fd, F_GETFD) < 0);
    world_end(ctx);
}

TEST(C17_S15_descriptor_of_a_subscriber) { wakes_descriptor(0); }
TEST(C17_S38_descriptor_of_a_puller) { wakes_descriptor(1); }
TEST(C17_S26_descriptor_of_a_replier) { wakes_descriptor(2); }

TEST(C17_S26_descriptor_of_a_requester)
{
    shmipc_ctx *ctx = world_begin();
    both c = open_both(ctx, 2, "fd", NULL);
    int fd = shmipc_fd(c.a), i;
    for (i = 0; i < 20; i++) {
        CHECK_EQ(send_id(c.a, 1, 0), SHMIPC_OK);
        CHECK_EQ(shmipc_fd_arm(c.a), 0);
        CHECK(!readable(fd, 0));
        CHECK_EQ(recv_id(c.b, 0), 1);
        CHECK_EQ(send_id(c.b, 2, 0), SHMIPC_OK);
        CHECK(readable(fd, (int)(SOON / 1000000)));
        CHECK_EQ(shmipc_fd_arm(c.a), 1);
        CHECK_EQ(recv_id(c.a, 0), 2);
    }
    close_both(&c);
    world_end(ctx);
}

static void flood(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_PUSH, n ? "odd" : "even", NULL);
    uint64_t i;
    for (i = 0; i < 3000; i++) CHECK_EQ(send_id(s, i, SOON), SHMIPC_OK);
    shmipc_close(&s);
}

/* Each send races with arming; a notice lost for good would end this by its time limit. */
TEST_LIMIT(C17_S38_epoll_over_two_sockets_loses_no_notice, 60)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *s[2];
    int got[2] = {0, 0}, fd[2], i, ep = epoll_create1(0), rounds;
    pid_t pid[2];
    REQUIRE(ep >= 0);
    for (i = 0; i < 2; i++) {
        struct epoll_event e;
        memset(&e, 0, sizeof e);
        s[i] = opened(ctx, SHMIPC_PULL, i ? "odd" : "even", NULL);
        fd[i] = shmipc_fd(s[i]);
        e.events = EPOLLIN;
        e.data.u32 = (uint32_t)i;
        REQUIRE(fd[i] >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, fd[i], &e) == 0);
        pid[i] = child(flood, i);
    }
    for (rounds = 0; got[0] + got[1] < 6000; rounds++) {
        struct epoll_event e[2];
        for (i = 0; i < 2; i++)
            while (recv_id(s[i], 0) == got[i]) got[i]++;
        if (shmipc_fd_arm(s[0]) || shmipc_fd_arm(s[1]) || got[0] + got[1] == 6000) continue;
        if (!CHECK(epoll_wait(ep, e, 2, (int)(SOON / 1000000)) > 0)) break;
    }
    for (i = 0; i < 2; i++) {
        child_done(pid[i]);
        shmipc_close(&s[i]);
    }
    close(ep);
    printf("%d rounds\n", rounds);
    world_end(ctx);
}

/* ---- fork ---- */

TEST(S63_after_fork_the_child_opens_its_own)
{
    shmipc_ctx *ctx = world_begin();
    int p, which;
    COVERS("I2");
    for (p = 0; p < PAIRS; p++) {
        both c = open_both(ctx, p, "fork", NULL);
        shmipc_poll_item item = item_of(c.b, SHMIPC_POLL_IN);
        shmipc_socket_stats st;
        pid_t pid;
        exchange(&c, 1);
        CHECK(shmipc_fd(c.b) >= 0);
        pid = fork();
        if (pid == 0) {
            both own;
            for (which = 0; which < CALLS; which++) {
                if (fits[pairs[p][0]] >> which & 1) CHECK_EQ(call(c.a, which), SHMIPC_EFORKED);
                if (fits[pairs[p][1]] >> which & 1) CHECK_EQ(call(c.b, which), SHMIPC_EFORKED);
            }
            CHECK_EQ(shmipc_poll(&item, 1, 0), SHMIPC_EFORKED);
            CHECK_EQ(shmipc_fd_arm(c.b), SHMIPC_EFORKED);
            CHECK_EQ(shmipc_socket_get_stats(c.a, &st), SHMIPC_EFORKED);
            CHECK_EQ(shmipc_socket_peers(c.a, NULL, 0), SHMIPC_EFORKED);
            close_both(&c);
            shmipc_ctx_close(ctx);
            ctx = context();
            own = open_both(ctx, p, "fork/own", NULL);
            exchange(&own, 2);
            close_both(&own);
            shmipc_ctx_close(ctx);
            CHECK_EQ(scope_mappings(), 0);
            fflush(stdout);
            _exit(0);
        }
        child_done(pid);
        CHECK_EQ(stats_of(c.a).peers, 1);
        exchange(&c, 3);
        close_both(&c);
    }
    world_end(ctx);
}

TEST(S63_a_view_taken_before_fork_is_the_parents)
{
    enum { LEN = 100000 };
    shmipc_ctx *ctx = world_begin();
    both c = open_both(ctx, 1, "fork", NULL);
    static unsigned char buf[LEN];
    shmipc_msg m;
    pid_t pid;
    fill(buf, LEN, 6);
    CHECK_EQ(shmipc_send(c.a, buf, LEN, 0), SHMIPC_OK);
    REQUIRE(shmipc_take(c.b, &m, 0) == SHMIPC_OK);
    pid = fork();
    if (pid == 0) {
        CHECK_EQ(shmipc_release(&m), SHMIPC_EFORKED);
        CHECK_EQ(shmipc_reject(&m), SHMIPC_EFORKED);
        fflush(stdout);
        _exit(0);
    }
    child_done(pid);
    CHECK(is_filled(m.data, LEN, 6));
    CHECK_EQ(shmipc_release(&m), SHMIPC_OK);
    is_empty(c.b);
    close_both(&c);
    world_end(ctx);
}

/* ---- full memory ---- */

/* Makes the scope's directory a file system of its own, as large as that. */
static void small_scope(const char *size)
{
    char opts[64];
    snprintf(opts, sizeof opts, "size=%s,mode=0700", size);
    if (geteuid() != 0) SKIP("needs root, to mount a small tmpfs");
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)) SKIP("no mount namespace here");
    if (mount("none", scope_dir(), "tmpfs", 0, opts)) {
        scope_end();
        SKIP("mounting a tmpfs is not permitted here");
    }
}

static void large_scope(shmipc_ctx *ctx)
{
    CHECK(shmipc_ctx_sweep(ctx, 0) >= 0);
    shmipc_ctx_close(ctx);
    CHECK_EQ(channel_files(), 0);
    CHECK(umount2(scope_dir(), MNT_DETACH) == 0);
    scope_end();
}

TEST(I4_S18_full_memory_loses_no_pushed_message)
{
    enum { LEN = 200000, MOST = 100 };
    static unsigned char buf[LEN];
    shmipc_ctx *ctx;
    size_t len = 0;
    both c;
    int n, i, turn, rc = 0;
    small_scope("6m");
    ctx = world_begin();
    c = open_both(ctx, 1, "full", NULL);
    for (turn = 0; turn < 3; turn++) {
        for (n = 0; n < MOST; n++) {
            fill(buf, LEN, (uint64_t)n);
            if ((rc = shmipc_send(c.a, buf, LEN, 0)) != SHMIPC_OK) break;
        }
        CHECK_EQ(rc, SHMIPC_ENOSPC);
        CHECK(says(ctx, "--shm-size"));
        CHECK(n >= 5 && n < MOST);
        CHECK_EQ(send_id(c.a, 77, 0), SHMIPC_OK); /* what is small needs no new memory */
        for (i = 0; i < n; i++) {
            CHECK_EQ(shmipc_recv(c.b, buf, LEN, &len, 0), SHMIPC_OK);
            CHECK_EQ(len, LEN);
            CHECK(is_filled(buf, LEN, (uint64_t)i));
        }
        CHECK_EQ(recv_id(c.b, 0), 77);
        is_empty(c.b);
    }
    close_both(&c);
    large_scope(ctx);
}

/* The lane becomes shorter than its depth, and nothing else changes: each message is got or counted, none is torn. */
TEST(I4_S18_S20_full_memory_drops_the_oldest_published)
{
    enum { LEN = 200000, SENT = 60 };
    static unsigned char buf[LEN];
    shmipc_ctx *ctx;
    both c;
    int i, got = 0;
    shmipc_msg m, view;
    small_scope("6m");
    ctx = world_begin();
    c = open_both(ctx, 0, "full", NULL);
    fill(buf, LEN, 0);
    CHECK_EQ(shmipc_send(c.a, buf, LEN, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_take(c.b, &view, 0), SHMIPC_OK);
    for (i = 1; i < SENT; i++) {
        fill(buf, LEN, (uint64_t)i);
        CHECK_EQ(shmipc_send(c.a, buf, LEN, 0), SHMIPC_OK);
    }
    CHECK_EQ(shmipc_send(c.a, buf, 7000000, 0), SHMIPC_ENOSPC); /* never possible: then nothing is given up for it */
    CHECK_EQ(send_id(c.a, 77, 0), SHMIPC_OK);
    CHECK(is_filled((const unsigned char *)view.data, LEN, 0)); /* S20: whatever views are out */
    while (shmipc_recv_msg(c.b, buf, LEN, &m, 0) == SHMIPC_OK && m.number < SENT) {
        got++;
        CHECK_EQ(m.number + 1, 1 + stats_of(c.b).dropped + (uint64_t)got);
        CHECK(is_filled(buf, LEN, m.number));
    }
    CHECK_EQ(m.number, SENT);
    CHECK(got >= 5 && got < SENT);
    CHECK_EQ(stats_of(c.b).dropped, SENT - 1 - got);
    CHECK_EQ(shmipc_release(&view), SHMIPC_OK);
    close_both(&c);
    large_scope(ctx);
}

TEST(I4_S18_full_memory_and_requests)
{
    enum { LEN = 3000000 };
    static unsigned char buf[LEN];
    shmipc_ctx *ctx;
    shmipc_socket *other;
    size_t len = 0;
    both c;
    small_scope("6m");
    ctx = world_begin();
    c = open_both(ctx, 2, "full", NULL);
    other = opened(ctx, SHMIPC_REQ, "full", NULL);
    fill(buf, LEN, 5);
    CHECK_EQ(shmipc_send(c.a, buf, LEN, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_send(other, buf, LEN, 0), SHMIPC_ENOSPC);
    CHECK_EQ(recv_id(other, 0), SHMIPC_ESTATE);
    CHECK_EQ(send_id(other, 9, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_recv(c.b, buf, LEN, &len, 0), SHMIPC_OK);
    CHECK(is_filled(buf, LEN, 5));
    CHECK_EQ(send_id(c.b, 1, 0), SHMIPC_OK);
    CHECK_EQ(recv_id(c.a, 0), 1);
    CHECK_EQ(recv_id(c.b, 0), 9);
    CHECK_EQ(shmipc_send(c.b, buf, LEN, 0), SHMIPC_OK); /* the memory of the request is free again */
    CHECK_EQ(shmipc_recv(other, buf, LEN, &len, 0), SHMIPC_OK);
    CHECK(is_filled(buf, LEN, 5));
    shmipc_close(&other);
    close_both(&c);
    large_scope(ctx);
}

/* Blocks that are kept for the next large message give way to a message of another size. */
TEST(I4_S62_spare_memory_is_given_up_when_it_is_needed)
{
    enum { LARGE = 3000000, MIDDLE = 900000 };
    static unsigned char buf[LARGE];
    shmipc_ctx *ctx;
    size_t len = 0;
    both c;
    int turn, i;
    small_scope("8m");
    ctx = world_begin();
    c = open_both(ctx, 1, "spare", NULL);
    for (turn = 0; turn < 5; turn++) {
        for (i = 0; i < 4; i++) CHECK_EQ(shmipc_send(c.a, buf, MIDDLE, 0), SHMIPC_OK);
        for (i = 0; i < 4; i++) CHECK_EQ(shmipc_recv(c.b, buf, LARGE, &len, 0), SHMIPC_OK);
        CHECK_EQ(shmipc_send(c.a, buf, LARGE, 0), SHMIPC_OK);
        CHECK_EQ(shmipc_recv(c.b, buf, LARGE, &len, 0), SHMIPC_OK);
        CHECK_EQ(len, LARGE);
    }
    close_both(&c);
    large_scope(ctx);
}

TEST(I4_no_room_for_a_channel)
{
    shmipc_socket_config cfg = options();
    shmipc_ctx *ctx;
    int role, i;
    cfg.max_memory = 1; /* the least there is, for the sake of 32-bit address spaces */
    small_scope("2m");
    ctx = world_begin();
    for (role = SHMIPC_PUB; role <= SHMIPC_REP; role++) {
        shmipc_socket *s[200];
        char name[16];
        int rc = 0, n;
        for (n = 0; n < 200; n++) {
            snprintf(name, sizeof name, "n%d", n);
            if ((rc = open_as(ctx, role, name, &cfg, &s[n])) != SHMIPC_OK) break;
        }
        CHECK_EQ(rc, SHMIPC_ENOSPC);
        CHECK_EQ(channel_files(), n); /* nothing of the failed one */
        for (i = 0; i < n; i++) shmipc_close(&s[i]);
        CHECK_EQ(channel_files(), 0);
    }
    large_scope(ctx);
}

/* ---- faults of the system ---- */

/* Everything that may make a system call or allocate; the first error ends it. */
static int whole_life(shmipc_ctx *ctx, int p)
{
    static unsigned char buf[70000];
    shmipc_socket *a = NULL, *b = NULL;
    shmipc_poll_item item;
    shmipc_peer peers[4];
    shmipc_socket_config cfg = options();
    size_t len;
    int rc;
    cfg.linger_ns = -1;
    rc = open_as(ctx, pairs[p][1], "f", &cfg, &b);
    if (rc >= 0) rc = open_as(ctx, pairs[p][0], "f", &cfg, &a);
    if (rc >= 0) rc = shmipc_fd(b);
    if (rc >= 0) rc = shmipc_fd_arm(b);
    item = item_of(b, SHMIPC_POLL_IN);
    if (rc >= 0 && (rc = shmipc_poll(&item, 1, 0)) == SHMIPC_ETIMEDOUT) rc = 0;
    if (rc >= 0) rc = shmipc_send(a, buf, sizeof buf, 0);
    if (rc >= 0) rc = shmipc_recv(b, buf, sizeof buf, &len, 0);
    if (rc >= 0 && p == 2) rc = shmipc_send(b, buf, sizeof buf, 0);
    if (rc >= 0 && p == 2) rc = shmipc_recv(a, buf, sizeof buf, &len, 0);
    if (rc >= 0 && (rc = shmipc_recv(b, buf, sizeof buf, &len, 1000)) == SHMIPC_ETIMEDOUT) rc = 0;
    if (rc >= 0) rc = shmipc_socket_peers(a, peers, 4);
    shmipc_close(&a);
    shmipc_close(&b);
    return rc < 0 ? rc : 0;
}

static void may_fail(int p)
{
    static const int errors[] = {EMFILE, ENOMEM, ENOSPC, EACCES, EIO, ENOENT, EINVAL};
    shmipc_ctx *ctx = world_begin();
    size_t e;
    CHECK_EQ(whole_life(ctx, p), 0);
    for (e = 0; e < sizeof errors / sizeof *errors; e++) {
        int before = scope_descriptors(), maps = scope_mappings(), n, failed = 0, reached = 1;
        for (n = 1; reached && n < 400; n++) {
            int rc;
            fault_nth(n, errors[e]);
            rc = whole_life(ctx, p);
            reached = fault_off();
            if (rc < 0) {
                failed++;
                CHECK(strcmp(shmipc_strerror(rc), "unknown code") != 0);
            }
            CHECK_EQ(scope_descriptors(), before);
            CHECK_EQ(scope_mappings(), maps);
            if (!CHECK_EQ(whole_life(ctx, p), 0)) printf("after call %d, %s, errno %d\n", n, fault_hit, errors[e]);
            CHECK(shmipc_ctx_sweep(ctx, 0) >= 0);
            if (!CHECK_EQ(channel_files() + scope_files(".draft"), 0)) {
                printf("call %d, %s, errno %d: %d\n", n, fault_hit, errors[e], rc);
            }
        }
        CHECK(failed > 10 && n < 400);
    }
    world_end(ctx);
}

TEST_LIMIT(I4_I6_S62_every_system_call_of_PUB_SUB_may_fail, 60) { may_fail(0); }
TEST_LIMIT(I4_I6_S62_every_system_call_of_PUSH_PULL_may_fail, 60) { may_fail(1); }
TEST_LIMIT(I4_I6_S62_every_system_call_of_REQ_REP_may_fail, 60) { may_fail(2); }

/* ---- the hot paths make no system call ---- */

static int hot_round(both *c, int p, unsigned char *buf, size_t len)
{
    size_t got = 0;
    shmipc_msg m;
    if (shmipc_send(c->a, buf, len, 0) || shmipc_take(c->b, &m, 0) || m.len != len) return 1;
    if (p == 2 ? shmipc_send(c->b, "r", 1, 0) || shmipc_release(&m) : shmipc_release(&m)) return 2;
    if (p == 2 && shmipc_recv(c->a, buf, len, &got, 0)) return 3;
    if (shmipc_send(c->a, buf, len, 0) || shmipc_recv(c->b, buf, len, &got, 0) || got != len) return 4;
    return p == 2 && (shmipc_send(c->b, buf, len, 0) || shmipc_recv(c->a, buf, len, &got, 0)) ? 5 : 0;
}

static void without_system_calls(int p, size_t len)
{
    shmipc_ctx *ctx = world_begin();
    pid_t pid = fork();
    int status = 0;
    if (pid == 0) {
        static unsigned char buf[100000];
        shmipc_ctx *own = context(); /* the parent's cannot be used here */
        both c = open_both(own, p, "hot", NULL);
        int i, rc = 0;
        for (i = 0; i < 200; i++) rc |= hot_round(&c, p, buf, len);
        if (rc) _exit(1);
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)) _exit(2);
        for (i = 0; i < 2000 && !rc; i++) rc = hot_round(&c, p, buf, len);
        syscall(SYS_exit, rc ? 10 + rc : 0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2) SKIP("no strict seccomp here");
    CHECK_EQ(status, 0);
    world_end(ctx);
}

TEST(I5_PUB_SUB_makes_no_system_call) { without_system_calls(0, 40); }
TEST(I5_PUSH_PULL_makes_no_system_call) { without_system_calls(1, 40); }
TEST(I5_REQ_REP_makes_no_system_call) { without_system_calls(2, 40); }
TEST(I5_large_PUB_SUB_makes_no_system_call) { without_system_calls(0, 100000); }
TEST(I5_large_PUSH_PULL_makes_no_system_call) { without_system_calls(1, 100000); }
TEST(I5_large_REQ_REP_makes_no_system_call) { without_system_calls(2, 100000); }
