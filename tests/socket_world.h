/* socket_world.h - what the tests of the sockets share: a scope of their own, sockets by role, child processes, events.
 *
 *     shmipc_ctx *ctx = world_begin();                   an empty scope, a page of events
 *     shmipc_socket *s = opened(ctx, SHMIPC_PUSH, "x", NULL);
 *     pid_t pid = child(puller, 3);                      forks; the child runs puller(its own context, 3), leaves, ends
 *     await(READY, 1);                                   until somebody has said raise_event(READY)
 *     child_done(pid);                                   it ended well; scope_kill(pid) instead ends it here and now
 *     world_end(ctx);                                    nothing may be left of the channels
 */
#ifndef SHMIPC_SOCKET_WORLD_H
#define SHMIPC_SOCKET_WORLD_H

#include "check.h"
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../shmipc_socket.h"
#include "scope.h"
#include <sched.h>

/* What has not come by then never comes: a limit against hanging, not a measurement. */
#define SOON soon()
static inline int64_t soon(void)
{
    const char *slow = getenv("CHECK_SLOW");
    return (int64_t)15000000000 * (slow && atoi(slow) > 0 ? atoi(slow) : 1);
}

enum { ROLES = 7, PAIRS = 3 };
static const int pairs[PAIRS][2] = {{SHMIPC_PUB, SHMIPC_SUB}, {SHMIPC_PUSH, SHMIPC_PULL}, {SHMIPC_REQ, SHMIPC_REP}};

/* ---- events: words that count up, in memory that all processes of a test share ---- */

enum { READY, GO, SEEN, DONE, EVENTS = 32 };
static uint32_t *world__event;

static inline void *shared_memory(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(p != MAP_FAILED);
    return p;
}

static inline uint32_t event_count(int which) { return __atomic_load_n(&world__event[which], __ATOMIC_ACQUIRE); }

static inline void raise_event(int which)
{
    __atomic_fetch_add(&world__event[which], 1, __ATOMIC_ACQ_REL);
    shmipc__os_futex_wake(&world__event[which], 1000);
}

static inline void await(int which, uint32_t count)
{
    uint32_t now;
    while ((now = event_count(which)) < count) (void)shmipc__os_futex_wait(&world__event[which], now, SOON);
}

/* Until the process sleeps in a system call ("S") or is stopped ("T"). */
static inline void await_state(pid_t pid, const char *states)
{
    char path[64], text[512], *p;
    for (;;) {
        size_t n = 0;
        FILE *f;
        snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
        if ((f = fopen(path, "r")) != NULL) {
            n = fread(text, 1, sizeof text - 1, f);
            fclose(f);
        }
        text[n] = 0;
        p = strrchr(text, ')');
        if (!CHECK(p != NULL) || strchr(states, p[2])) return;
        sched_yield();
    }
}

static inline void stop(pid_t pid)
{
    kill(pid, SIGSTOP);
    await_state(pid, "T");
}

/* ---- the scope ---- */

/* Also knows how to sweep channels that nobody is attached to. */
static inline shmipc_ctx *context(void)
{
    shmipc_ctx_config cfg;
    shmipc_ctx *ctx = NULL;
    shmipc_ctx_config_init(&cfg);
    cfg.dir = scope_dir();
    cfg.kinds = shmipc_socket_kinds(&cfg.kind_count);
    REQUIRE(shmipc_ctx_open(&ctx, &cfg) == SHMIPC_OK);
    return ctx;
}

static inline shmipc_ctx *world_begin(void)
{
    world__event = (uint32_t *)shared_memory(EVENTS * sizeof *world__event);
    return context();
}

static inline void world_end(shmipc_ctx *ctx)
{
    CHECK(shmipc_ctx_sweep(ctx, 0) >= 0);
    shmipc_ctx_close(ctx);
    CHECK_EQ(scope_files(".seg"), 0);
    CHECK_EQ(scope_files(""), 1); /* the registry */
    CHECK_EQ(scope_mappings(), 0);
    scope_end();
}

/* Files of channels: all segments but the table of bells, which lasts as long as a context that has slept. */
static inline int channel_files(void) { return scope_files(".seg") - scope_files("bells"); }

/* ---- processes ---- */

static inline pid_t child(void (*fn)(shmipc_ctx *ctx, int n), int n)
{
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        shmipc_ctx *ctx = context();
        fn(ctx, n);
        shmipc_ctx_close(ctx);
        fflush(stdout);
        _exit(0);
    }
    return pid;
}

static inline void child_done(pid_t pid)
{
    int status = 0;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}

/* For children that are to be killed where they are. */
static inline void stay(void)
{
    fflush(stdout);
    for (;;) pause();
}

/* ---- sockets ---- */

static inline shmipc_socket_config options(void)
{
    shmipc_socket_config cfg;
    shmipc_socket_config_init(&cfg);
    return cfg;
}

static inline shmipc_socket_config of_depth(uint32_t depth)
{
    shmipc_socket_config cfg = options();
    cfg.depth = depth;
    return cfg;
}

static inline int open_as(shmipc_ctx *ctx, int role, const char *name, const shmipc_socket_config *cfg,
                          shmipc_socket **out)
{
    switch (role) {
    case SHMIPC_PUB: return shmipc_pub_open(out, ctx, name, cfg);
    case SHMIPC_SUB: return shmipc_sub_open(out, ctx, name, cfg);
    case SHMIPC_PUSH: return shmipc_push_open(out, ctx, name, cfg);
    case SHMIPC_PULL: return shmipc_pull_open(out, ctx, name, cfg);
    case SHMIPC_REQ: return shmipc_req_open(out, ctx, name, cfg);
    default: return shmipc_rep_open(out, ctx, name, cfg);
    }
}

static inline shmipc_socket *opened(shmipc_ctx *ctx, int role, const char *name, const shmipc_socket_config *cfg)
{
    shmipc_socket *s = NULL;
    int rc = open_as(ctx, role, name, cfg, &s);
    if (rc) printf("open as %d: %s (%s)\n", role, shmipc_strerror(rc), shmipc_ctx_detail(ctx));
    REQUIRE(rc == SHMIPC_OK && s != NULL);
    return s;
}

static inline shmipc_socket_stats stats_of(shmipc_socket *s)
{
    shmipc_socket_stats st;
    memset(&st, 0, sizeof st);
    CHECK_EQ(shmipc_socket_get_stats(s, &st), SHMIPC_OK);
    return st;
}

static inline int says(shmipc_ctx *ctx, const char *part)
{
    if (strstr(shmipc_ctx_detail(ctx), part)) return 1;
    printf("the detail is \"%s\", without \"%s\"\n", shmipc_ctx_detail(ctx), part);
    return 0;
}

/* ---- messages ---- */

/* Bytes that tell which message they belong to and where in it they stand; the first 8, if there are so many, are
 * id. */
static inline unsigned char pattern_byte(uint64_t id, size_t i)
{
    if (i < 8) return (unsigned char)(id >> (8 * i));
    return (unsigned char)((id * 0x9e3779b97f4a7c15u + i * 0x2545f491u) >> 13);
}

static inline void fill(void *to, size_t len, uint64_t id)
{
    size_t i;
    for (i = 0; i < len; i++) ((unsigned char *)to)[i] = pattern_byte(id, i);
}

static inline int is_filled(const void *from, size_t len, uint64_t id)
{
    size_t i = 0;
    while (i < len && ((const unsigned char *)from)[i] == pattern_byte(id, i)) i++;
    if (i < len) printf("message %llu of %lu bytes differs at %lu\n", (unsigned long long)id, (unsigned long)len,
                        (unsigned long)i);
    return i == len;
}

static inline uint64_t id_of(const void *data)
{
    uint64_t id;
    memcpy(&id, data, 8);
    return id;
}

static inline int send_id(shmipc_socket *s, uint64_t id, int64_t timeout_ns)
{
    return shmipc_send(s, &id, sizeof id, timeout_ns);
}

/* The next message's number, or the code. */
static inline int64_t recv_id(shmipc_socket *s, int64_t timeout_ns)
{
    uint64_t id = 0;
    size_t len = 0;
    int rc = shmipc_recv(s, &id, sizeof id, &len, timeout_ns);
    if (rc) return rc;
    CHECK_EQ(len, sizeof id);
    return (int64_t)id;
}

static inline void is_empty(shmipc_socket *s) { CHECK_EQ(recv_id(s, 0), SHMIPC_ETIMEDOUT); }

static inline int64_t now_ns(void) { return check__clock_ns(); }

#endif /* SHMIPC_SOCKET_WORLD_H */
