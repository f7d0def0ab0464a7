/* All roles as threads of one process, each with a socket of its own on one context, for ThreadSanitizer. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wtsan" /* the fences order the stores and loads of sleepers and their wakers only */
#endif
#include "socket_world.h"
#include <pthread.h>

enum { EACH = 600, LARGE = 30000 };
static shmipc_ctx *scope;
static uint64_t pulled, answered;

static size_t size_of(uint64_t id) { return id % 20 == 3 ? LARGE : 8 + (size_t)(id % 150); }

static void send_filled(shmipc_socket *s, uint64_t id, int64_t timeout_ns)
{
    unsigned char buf[LARGE];
    fill(buf, size_of(id), id);
    CHECK_EQ(shmipc_send(s, buf, size_of(id), timeout_ns), SHMIPC_OK);
}

/* Receives by copy and in place in turns; the id, or a code. */
static int64_t recv_filled(shmipc_socket *s, int view)
{
    unsigned char buf[LARGE];
    shmipc_msg m;
    int rc = view ? shmipc_take(s, &m, SOON) : shmipc_recv_msg(s, buf, sizeof buf, &m, SOON);
    int64_t id;
    if (!CHECK_EQ(rc, SHMIPC_OK) || !CHECK(m.len >= 8)) return -1;
    id = (int64_t)id_of(m.data);
    CHECK_EQ(m.len, size_of((uint64_t)id));
    CHECK(is_filled(m.data, (size_t)m.len, (uint64_t)id));
    if (view) CHECK_EQ(shmipc_release(&m), SHMIPC_OK);
    return id;
}

static void *publisher(void *arg)
{
    shmipc_socket *s = opened(scope, SHMIPC_PUB, "pub", NULL);
    uint64_t i;
    for (i = 0; i < EACH; i++) send_filled(s, (uint64_t)(uintptr_t)arg * 10000 + i, 0);
    send_filled(s, 99999, 0);
    await(DONE, 2); /* what closes early could be missed by who comes late */
    shmipc_close(&s);
    return NULL;
}

static void *subscriber(void *arg)
{
    shmipc_socket *s = (shmipc_socket *)arg;
    int64_t id, last[2] = {-1, -1};
    int ends = 0, turn;
    for (turn = 0; ends < 2; turn++) {
        if ((id = recv_filled(s, turn % 2)) < 0) break;
        ends += id == 99999;
        if (id == 99999 || !CHECK(id / 10000 < 2)) continue;
        CHECK(id > last[id / 10000]);
        last[id / 10000] = id;
    }
    raise_event(DONE);
    shmipc_close(&s);
    return NULL;
}

static void *pusher(void *arg)
{
    shmipc_socket *s = opened(scope, SHMIPC_PUSH, "push", NULL);
    uint64_t i;
    for (i = 1; i <= EACH; i++) send_filled(s, i, SOON);
    shmipc_close(&s);
    return arg;
}

static void *puller(void *arg)
{
    shmipc_socket *s = opened(scope, SHMIPC_PULL, "push", NULL);
    int64_t id;
    int turn;
    for (turn = 0; (id = recv_filled(s, turn % 2)) > 0; turn++) {
        __atomic_fetch_add(&pulled, (uint64_t)id, __ATOMIC_RELAXED);
    }
    CHECK_EQ(id, 0);
    shmipc_close(&s);
    return arg;
}

static void *requester(void *arg)
{
    shmipc_socket *s = opened(scope, SHMIPC_REQ, "req", NULL);
    uint64_t i, base = (uint64_t)(uintptr_t)arg * 10000;
    for (i = 1; i <= EACH; i++) {
        send_filled(s, base + i, SOON);
        CHECK_EQ(recv_filled(s, i % 2 != 0), (int64_t)(base + i));
        __atomic_fetch_add(&answered, 1, __ATOMIC_RELAXED);
    }
    shmipc_close(&s);
    return NULL;
}

static void *replier(void *arg)
{
    shmipc_socket *s = opened(scope, SHMIPC_REP, "req", NULL);
    int64_t id;
    int turn;
    for (turn = 0; (id = recv_filled(s, 0)) > 0; turn++) send_filled(s, (uint64_t)id, 0);
    send_filled(s, 0, 0);
    shmipc_close(&s);
    return arg;
}

static pthread_t run(void *(*fn)(void *), void *arg)
{
    pthread_t t;
    REQUIRE(pthread_create(&t, NULL, fn, arg) == 0);
    return t;
}

TEST_LIMIT(S15_S21_subscribers_and_publishers, 120)
{
    pthread_t t[4];
    uintptr_t i;
    scope = world_begin();
    for (i = 0; i < 2; i++) t[i] = run(subscriber, opened(scope, SHMIPC_SUB, "pub", NULL));
    for (i = 0; i < 2; i++) t[2 + i] = run(publisher, (void *)i);
    for (i = 0; i < 4; i++) pthread_join(t[i], NULL);
    world_end(scope);
}

TEST_LIMIT(S39_S43_pushers_and_pullers, 120)
{
    shmipc_socket *s;
    pthread_t t[4];
    int i;
    scope = world_begin();
    for (i = 0; i < 4; i++) t[i] = run(i < 2 ? pusher : puller, NULL);
    for (i = 0; i < 2; i++) pthread_join(t[i], NULL);
    s = opened(scope, SHMIPC_PUSH, "push", NULL);
    for (i = 0; i < 2; i++) send_filled(s, 0, SOON);
    for (i = 2; i < 4; i++) pthread_join(t[i], NULL);
    CHECK_EQ(pulled, EACH * (EACH + 1));
    shmipc_close(&s);
    world_end(scope);
}

TEST_LIMIT(S34_requesters_and_repliers, 120)
{
    shmipc_socket *s;
    pthread_t t[5];
    uintptr_t i;
    scope = world_begin();
    for (i = 0; i < 5; i++) t[i] = i < 3 ? run(requester, (void *)i) : run(replier, NULL);
    for (i = 0; i < 3; i++) pthread_join(t[i], NULL);
    CHECK_EQ(answered, 3 * EACH);
    s = opened(scope, SHMIPC_REQ, "req", NULL);
    for (i = 3; i < 5; i++) {
        send_filled(s, 0, SOON);
        CHECK_EQ(recv_filled(s, 0), 0);
    }
    for (i = 3; i < 5; i++) pthread_join(t[i], NULL);
    shmipc_close(&s);
    world_end(scope);
}
