/* All roles of every pattern in processes of their own, which are killed, stopped and started again at random while
 * their traffic is checked: nothing acknowledged is lost, nothing torn, nothing twice beyond what is counted, nobody
 * hangs, nothing leaks. FULL=1: a minute each instead of three seconds (SOAK_MS:
 * as long as that says), and 10^8 messages instead of 10^6. */
#include "socket_world.h"
#include "channel_audit.h"
#include <poll.h>

#define IDS (1u << 21)
#define LIVES (1u << 17)
#define SEATS 8

/* What all processes of a test share. Books by id: one writer at a time each. */
typedef struct books {
    uint32_t next, stopping, leaving, done, dead, refused, kills, stops;
    uint8_t sent[IDS];     /* 1 about to, 2 surely */
    uint8_t received[IDS]; /* the same */
    uint8_t executed[IDS]; /* how often */
} books;
static books *b;

static uint32_t load(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static uint32_t add(uint32_t *word) { return __atomic_fetch_add(word, 1, __ATOMIC_ACQ_REL); }
static int stopping(void) { return load(&b->stopping) != 0; } /* those who begin: publishers, pushers, requesters */
static int leaving(void) { return load(&b->leaving) != 0; }   /* the others, after them */

/* Mostly small, sometimes larger than a slot, now and then large. */
static size_t size_of(uint64_t id)
{
    uint64_t r = id * 0x9e3779b97f4a7c15u >> 40;
    return r % 64 == 0 ? 100000 : r % 16 == 0 ? 2000 + (size_t)(r % 1000) : 8 + (size_t)(r % 120);
}

enum { LARGEST = 100000 };
static unsigned char buf[LARGEST];
static uint64_t dice;

/* Each process throws dice of its own, from the seed of the test. */
static uint32_t die(uint32_t sides)
{
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(dice >> 33) % sides;
}

/* Waits for a message in one of the ways there are. 50 ms, so that the end is noticed; all silent for long is a
 * hang. */
static int wait_in(shmipc_socket *s, int *silent)
{
    enum { SLICE_MS = 50 };
    shmipc_poll_item item;
    struct pollfd p;
    int rc = SHMIPC_OK;
    memset(&item, 0, sizeof item);
    item.socket = s;
    item.events = SHMIPC_POLL_IN;
    if (die(4) == 0) rc = shmipc_poll(&item, 1, SLICE_MS * 1000000);
    else if (die(3) == 0) {
        p.fd = shmipc_fd(s);
        p.events = POLLIN;
        if (!CHECK(p.fd >= 0)) return 0;
        rc = shmipc_fd_arm(s);
        if (rc == 0) (void)poll(&p, 1, SLICE_MS);
    }
    CHECK(rc >= 0 || rc == SHMIPC_ETIMEDOUT);
    if (++*silent % 100 == 99) CHECK(*silent < (int)(2 * SOON / 1000000 / SLICE_MS));
    return rc >= 0;
}

/* ---- PUB/SUB ---- */

/* A message: its id, which names the publisher's socket, and counts within it. */
static void publish(shmipc_ctx *ctx, int n)
{
    uint64_t life, count = 0;
    (void)n;
    while (!stopping() && (life = add(&b->next)) < LIVES) {
        shmipc_socket *s = opened(ctx, SHMIPC_PUB, "chaos", NULL);
        uint32_t some = 1 + die(3000);
        for (count = 0; some && !stopping(); some--) {
            uint64_t id = life << 32 | ++count;
            size_t len = size_of(id);
            shmipc_loan loan;
            int rc;
            memset(&loan, 0, sizeof loan);
            fill(buf, len, id);
            if (die(4)) rc = shmipc_send(s, buf, len, 0);
            else if ((rc = shmipc_loan_open(s, len, &loan)) == SHMIPC_OK) {
                memcpy(loan.data, buf, len);
                rc = shmipc_loan_commit(&loan, 0);
            }
            CHECK_EQ(rc, SHMIPC_OK);
            if (count % 16 == 0) sched_yield();
        }
        shmipc_close(&s);
    }
}

typedef struct track {
    uint64_t number, id;
    int known;
} track;

static void check_published(const shmipc_msg *m, track *lanes, uint32_t *count_of)
{
    track *t = &lanes[m->sender % 64];
    uint64_t id, life;
    if (!CHECK(m->len >= 8 && m->sender < 64)) return;
    id = id_of(m->data);
    life = id >> 32;
    CHECK_EQ(m->len, size_of(id));
    if (!CHECK(is_filled(m->data, (size_t)m->len, id)) || !CHECK(life < LIVES)) return;
    CHECK((uint32_t)id > count_of[life]); /* not again, not out of order */
    count_of[life] = (uint32_t)id;
    if (t->known) CHECK(m->number > t->number);
    if (t->known && t->id >> 32 == life) CHECK_EQ(m->number - t->number, id - t->id); /* what is missing is counted */
    t->known = 1;
    t->number = m->number;
    t->id = id;
}

static void subscribe(shmipc_ctx *ctx, int n)
{
    static uint32_t count_of[LIVES];
    int silent = 0;
    (void)n;
    while (!leaving()) {
        shmipc_socket *s = opened(ctx, SHMIPC_SUB, "chaos", NULL);
        static track lanes[64];
        uint32_t some = 1 + die(3000);
        memset(lanes, 0, sizeof lanes);
        while (some && !leaving()) {
            shmipc_msg m;
            int view = die(2) == 0,
                rc = view ? shmipc_take(s, &m, 0) : shmipc_recv_msg(s, buf, sizeof buf, &m, 50000000);
            if (rc == SHMIPC_ETIMEDOUT && wait_in(s, &silent) >= 0) continue;
            if (!CHECK_EQ(rc, SHMIPC_OK)) return;
            silent = 0;
            check_published(&m, lanes, count_of);
            if (view) CHECK_EQ(shmipc_release(&m), SHMIPC_OK);
            add(&b->done);
            some--;
        }
        shmipc_close(&s);
    }
}

/* Nothing leaked: the budget of views is whole, and memory comes back. */
static void pubsub_is_sound(shmipc_ctx *ctx)
{
    shmipc_socket *pub = opened(ctx, SHMIPC_PUB, "chaos", NULL), *sub = opened(ctx, SHMIPC_SUB, "chaos", NULL);
    shmipc_msg m[4];
    int i;
    for (i = 0; i < 4; i++) {
        fill(buf, LARGEST, (uint64_t)i);
        CHECK_EQ(shmipc_send(pub, buf, LARGEST, 0), SHMIPC_OK);
        REQUIRE(shmipc_take(sub, &m[i], SOON) == SHMIPC_OK);
    }
    for (i = 0; i < 4; i++) {
        CHECK(is_filled(m[i].data, LARGEST, (uint64_t)i));
        CHECK_EQ(shmipc_release(&m[i]), SHMIPC_OK);
    }
    CHECK_EQ(stats_of(sub).peers, 1);
    CHECK_EQ(shmipc_socket_peers(sub, NULL, 0), 2);
    shmipc_close(&pub);
    shmipc_close(&sub);
}

/* ---- PUSH/PULL ---- */

static void push(shmipc_ctx *ctx, int n)
{
    (void)n;
    while (!stopping() && load(&b->next) < IDS) {
        shmipc_socket *s = opened(ctx, SHMIPC_PUSH, "chaos", NULL);
        uint32_t some = 1 + die(2000);
        for (; some && !stopping(); some--) {
            uint32_t id = add(&b->next);
            size_t len = size_of(id);
            int rc;
            if (id >= IDS) break;
            fill(buf, len, id);
            b->sent[id] = 1;
            do rc = shmipc_send_tag(s, buf, len, id & 0xffffff, 50000000);
            while (rc == SHMIPC_EFULL && !stopping());
            if (rc == SHMIPC_EFULL) b->sent[id] = 0; /* the end */
            else if (CHECK_EQ(rc, SHMIPC_OK)) b->sent[id] = 2;
        }
        shmipc_close(&s);
    }
}

static void check_pulled(shmipc_msg *m, int unwilling)
{
    uint64_t id = 0;
    if (CHECK(m->len >= 8)) id = id_of(m->data);
    if (unwilling && m->redelivered < 2) {
        CHECK_EQ(shmipc_reject(m), SHMIPC_OK);
        return;
    }
    if (!CHECK(id < IDS) || !CHECK_EQ(m->len, size_of(id)) || !CHECK(is_filled(m->data, (size_t)m->len, id))) return;
    CHECK_EQ(m->tag, id & 0xffffff);
    CHECK(b->sent[id] != 0);
    CHECK(b->received[id] != 2); /* nobody has it for certain */
    if (m->redelivered == 0) CHECK_EQ(b->received[id], 0);
    b->received[id] = 1;
    CHECK_EQ(shmipc_release(m), SHMIPC_OK);
    b->received[id] = 2;
    add(&b->done);
}

static void pull(shmipc_ctx *ctx, int n)
{
    int silent = 0;
    (void)n;
    while (!leaving()) {
        shmipc_socket *s = opened(ctx, SHMIPC_PULL, "chaos", NULL);
        uint32_t some = 1 + die(2000);
        while (some && !leaving()) {
            shmipc_msg m;
            int rc = shmipc_take(s, &m, die(2) ? 50000000 : 0);
            if (rc == SHMIPC_ETIMEDOUT && wait_in(s, &silent) >= 0) continue;
            if (!CHECK_EQ(rc, SHMIPC_OK)) return;
            silent = 0;
            check_pulled(&m, die(50) == 0);
            some--;
        }
        shmipc_close(&s);
    }
}

static void pushpull_is_sound(shmipc_ctx *ctx)
{
    shmipc_socket *s = opened(ctx, SHMIPC_PULL, "chaos", NULL), *more;
    shmipc_msg m;
    uint32_t id, n = load(&b->next) < IDS ? load(&b->next) : IDS, lost = 0, in_doubt = 0, depth, k;
    while (shmipc_take(s, &m, 300000000) == SHMIPC_OK) check_pulled(&m, 0); /* what the last dead held comes back too */
    for (id = 0; id < n; id++) {
        lost += b->sent[id] == 2 && b->received[id] == 0;
        in_doubt += b->received[id] == 1;
        if (b->sent[id] == 0) CHECK_EQ(b->received[id], 0);
    }
    CHECK_EQ(lost, 0);
    CHECK(in_doubt <= b->kills);
    more = opened(ctx, SHMIPC_PUSH, "chaos", NULL);
    depth = (uint32_t)stats_of(more).depth;
    for (k = 0; k < 3 * depth; k++) { /* every chunk is free */
        if (k % depth == 0)
            for (id = 0; id < depth; id++) CHECK_EQ(send_id(more, id, 0), SHMIPC_OK);
        CHECK_EQ(recv_id(s, 0), k % depth);
    }
    CHECK_EQ(stats_of(s).queued, 0);
    CHECK_EQ(shmipc_socket_peers(s, NULL, 0), 2);
    shmipc_close(&more);
    shmipc_close(&s);
}

/* ---- REQ/REP ---- */

/* The reply to a request: as long as the request, of another id. */
static void reply_to(shmipc_socket *s, uint64_t id)
{
    size_t len = size_of(id);
    fill(buf, len, ~id);
    CHECK_EQ(shmipc_send(s, buf, len, 0), SHMIPC_OK);
}

static void serve(shmipc_ctx *ctx, int n)
{
    int silent = 0;
    (void)n;
    while (!leaving()) {
        shmipc_socket *s = opened(ctx, SHMIPC_REP, "chaos", NULL);
        uint32_t some = 1 + die(1000);
        while (some && !leaving()) {
            shmipc_msg m;
            uint64_t id;
            int view = die(2) == 0,
                rc = view ? shmipc_take(s, &m, 0) : shmipc_recv_msg(s, buf, sizeof buf, &m, 50000000);
            if (rc == SHMIPC_ETIMEDOUT && wait_in(s, &silent) >= 0) continue;
            if (!CHECK_EQ(rc, SHMIPC_OK) || !CHECK(m.len >= 8)) return;
            silent = 0;
            id = id_of(m.data);
            if (!CHECK(id < IDS) || !CHECK_EQ(m.len, size_of(id)) || !CHECK(is_filled(m.data, (size_t)m.len, id)))
                return;
            CHECK_EQ(__atomic_fetch_add(&b->executed[id], 1, __ATOMIC_RELAXED), 0); /* never again */
            reply_to(s, id);
            some--;
        }
        shmipc_close(&s);
    }
}

static void request(shmipc_ctx *ctx, int n)
{
    (void)n;
    while (!stopping() && load(&b->next) < IDS) {
        shmipc_socket *s = opened(ctx, SHMIPC_REQ, "chaos", NULL);
        uint32_t some = 1 + die(1000);
        for (; some && !stopping(); some--) {
            uint32_t id = add(&b->next), hasty = die(20) == 0;
            size_t len = size_of(id), got = 0;
            int rc;
            if (id >= IDS) break;
            fill(buf, len, id);
            rc = shmipc_request(s, buf, len, buf, sizeof buf, &got, hasty ? (int64_t)die(200000) : 2 * SOON);
            if (rc == SHMIPC_EPEERDEAD) add(&b->dead);
            else if (hasty && (rc == SHMIPC_ETIMEDOUT || rc == SHMIPC_EFULL)) add(&b->refused);
            else if (CHECK_EQ(rc, SHMIPC_OK)) {
                CHECK_EQ(got, len);
                CHECK(is_filled(buf, got, ~(uint64_t)id)); /* our own */
                CHECK_EQ(b->executed[id], 1);
                add(&b->done);
            }
        }
        shmipc_close(&s);
    }
}

static void reqrep_is_sound(shmipc_ctx *ctx)
{
    shmipc_socket *req = opened(ctx, SHMIPC_REQ, "chaos", NULL), *rep = opened(ctx, SHMIPC_REP, "chaos", NULL);
    int i;
    for (i = 0; i < 1200; i++) { /* more than there are cells and chunks */
        CHECK_EQ(send_id(req, (uint64_t)i, 0), SHMIPC_OK);
        if (!CHECK_EQ(recv_id(rep, SOON), i)) break;
        if (i % 2) CHECK_EQ(recv_id(req, 0), SHMIPC_ETIMEDOUT); /* and give it up, every other time */
        CHECK_EQ(send_id(rep, (uint64_t)i, 0), SHMIPC_OK);
        if (i % 2 == 0) CHECK_EQ(recv_id(req, SOON), i);
    }
    CHECK_EQ(shmipc_socket_peers(req, NULL, 0), 2);
    shmipc_close(&req);
    shmipc_close(&rep);
    CHECK(b->dead <= b->kills + 1);
}

/* ---- chaos ---- */

typedef void (*role_fn)(shmipc_ctx *ctx, int n);

static pid_t start(role_fn role)
{
    dice = check_random();
    return child(role, 0);
}

/* Kills, stops or wakes one process. */
static void upset(pid_t *pid, int *stopped, role_fn role)
{
    int st;
    if (*stopped) {
        *stopped = 0;
        kill(*pid, SIGCONT);
    } else if (check_random() % 3 == 0) {
        *stopped = 1;
        kill(*pid, SIGSTOP);
        b->stops++;
    } else {
        kill(*pid, SIGKILL);
        CHECK_EQ(waitpid(*pid, &st, 0), *pid);
        CHECK(WIFSIGNALED(st) || st == 0);
        *pid = start(role);
        b->kills++;
    }
}

static int64_t span_ms(void)
{
    const char *soak = getenv("SOAK_MS");
    return soak ? strtol(soak, NULL, 10) : getenv("FULL") ? 60000 : 3000;
}

/* Everybody has left but one, who holds nothing: every block and chunk is accounted for. */
static void all_accounted(shmipc_socket *keeper)
{
    const char *wrong;
    CHECK(shmipc_segment_sweep(keeper->segment) >= 0);
    wrong = channel_audit(keeper, 0);
    CHECK_STR(wrong ? wrong : "nothing wrong", "nothing wrong");
}

static void chaos(role_fn front, role_fn back, void (*sound)(shmipc_ctx *ctx), int with_kills)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *keeper;
    pid_t pid[SEATS];
    int stopped[SEATS] = {0}, i, descriptors;
    int64_t end = now_ns() + span_ms() * 1000000;
    b = (books *)shared_memory(sizeof *b);
    keeper = opened(ctx, front == publish ? SHMIPC_SUB : front == push ? SHMIPC_PUSH : SHMIPC_REQ, "chaos", NULL);
    descriptors = scope_descriptors();
    for (i = 0; i < SEATS; i++) pid[i] = start(i % 2 ? front : back);
    while (now_ns() < end && !check__now->failures) {
        struct timespec pause = {0, (long)(check_random() % 8000000)};
        nanosleep(&pause, NULL); /* the kills fall at random instants: that is the test, not a wait for an event */
        i = (int)(check_random() % SEATS);
        if (with_kills) upset(&pid[i], &stopped[i], i % 2 ? front : back);
    }
    for (i = 0; i < SEATS; i++) kill(pid[i], SIGCONT);
    __atomic_store_n(&b->stopping, 1, __ATOMIC_RELEASE);
    for (i = 1; i < SEATS; i += 2) child_done(pid[i]);
    __atomic_store_n(&b->leaving, 1, __ATOMIC_RELEASE);
    for (i = 0; i < SEATS; i += 2) child_done(pid[i]);
    CHECK_EQ(scope_descriptors(), descriptors);
    all_accounted(keeper);
    shmipc_close(&keeper);
    sound(ctx);
    CHECK(b->done > 100);
    printf("%u messages, %u kills, %u stops, %u requests of dead repliers, %u given up\n", b->done, b->kills, b->stops,
           b->dead, b->refused);
    world_end(ctx);
}

TEST_LIMIT(S15_S21_S43_pubsub_many_to_many, 180) { chaos(publish, subscribe, pubsub_is_sound, 0); }
TEST_LIMIT(S10_S20_S21_S22_S60_S61_pubsub_with_kills, 180)
{
    COVERS("I1 I2 S13 S59");
    chaos(publish, subscribe, pubsub_is_sound, 1);
}
TEST_LIMIT(S39_S43_pushpull_many_to_many, 180) { chaos(push, pull, pushpull_is_sound, 0); }
TEST_LIMIT(S40_S43_S44_S60_S61_pushpull_with_kills, 180) { COVERS("I1 I2"); chaos(push, pull, pushpull_is_sound, 1); }
TEST_LIMIT(S34_reqrep_many_to_many, 180) { chaos(request, serve, reqrep_is_sound, 0); }
TEST_LIMIT(S33_S34_S35_S37_S60_S61_reqrep_with_kills, 180)
{
    COVERS("I1 I2 S10");
    chaos(request, serve, reqrep_is_sound, 1);
}

/* ---- many messages through one pair ---- */

static uint64_t many(void) { return getenv("FULL") ? 100000000 : 1000000; }

static void push_many(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_PUSH, "many", NULL);
    uint64_t i;
    (void)n;
    for (i = 1; i <= many(); i++)
        if (!CHECK_EQ(send_id(s, i, SOON), SHMIPC_OK)) break;
    shmipc_close(&s);
}

static void publish_many(shmipc_ctx *ctx, int n)
{
    shmipc_socket *s = opened(ctx, SHMIPC_PUB, "many", NULL);
    uint64_t i;
    (void)n;
    await(GO, 1);
    for (i = 1; i <= many(); i++)
        if (!CHECK_EQ(send_id(s, i, 0), SHMIPC_OK)) break;
    await(DONE, 1);
    shmipc_close(&s);
}

static void receive_many(int role, role_fn sender)
{
    shmipc_ctx *ctx = world_begin();
    pid_t pid = child(sender, 0);
    shmipc_socket *s = opened(ctx, role, "many", NULL);
    uint64_t want = 1, n = many(), memory = 0, missed = 0;
    int descriptors = 0;
    raise_event(GO);
    while (want <= n) {
        int64_t id = recv_id(s, SOON);
        if (!CHECK(id >= (int64_t)want)) break;
        missed += (uint64_t)id - want;
        want = (uint64_t)id + 1;
        if (memory) continue;
        memory = stats_of(s).memory;
        descriptors = scope_descriptors();
    }
    CHECK(stats_of(s).memory <= memory + 65536);
    CHECK_EQ(scope_descriptors(), descriptors);
    CHECK_EQ(stats_of(s).dropped, missed);
    if (role == SHMIPC_PULL) CHECK_EQ(missed, 0);
    raise_event(DONE);
    child_done(pid);
    shmipc_close(&s);
    world_end(ctx);
}

TEST_LIMIT(S22_S62_millions_published, 600) { receive_many(SHMIPC_SUB, publish_many); }
TEST_LIMIT(S38_S62_millions_pushed, 600) { receive_many(SHMIPC_PULL, push_many); }
