/* The guard (C14): what nobody living holds is removed at once, whoever died, in whatever order, with nobody else
 * there. */
#include "check.h"
#include "faults.h"
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../shmipc.h"
#include "scope.h"
#include <sched.h>
#include <poll.h>
#include <sys/inotify.h>

enum { SEGMENTS = 4, USERS = 6 };
static uint32_t linger_ms;

static shmipc_segment *hold(shmipc_ctx *ctx, int n)
{
    shmipc_segment_config cfg;
    shmipc_segment *s = NULL;
    char name[16];
    shmipc_segment_config_init(&cfg);
    cfg.mode = SHMIPC_OPEN_OR_CREATE;
    cfg.size = 100;
    cfg.linger_ms = linger_ms;
    snprintf(name, sizeof name, "seg%d", n);
    REQUIRE(shmipc_segment_open(ctx, name, &cfg, &s) == 0);
    return s;
}
static int there(int n)
{
    char part[16];
    snprintf(part, sizeof part, "seg%d.", n);
    return scope_files(part);
}

/* A process that holds the segments of a mask. */
static void use(void *mask)
{
    shmipc_ctx *ctx = scope_open();
    int n;
    for (n = 0; n < SEGMENTS; n++)
        if (*(int *)mask >> n & 1) hold(ctx, n);
}
static pid_t user(int mask) { return scope_stay(use, &mask); }

/* ---- the guard and who watches it ---- */

static int *result; /* of the guard, in memory shared with it */
static void run_guard(void *arg)
{
    (void)arg;
    *result = shmipc_guard_run(scope_open());
}
static void prepare(void)
{
    scope_dir(); /* before any fork, so that all mean the same one */
    result = (int *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(result != MAP_FAILED);
    *result = 1;
}
static int guarded(shmipc_ctx *ctx) { return shmipc__os_probe(ctx->probe.file, SHMIPC__ROLE_GUARD); }
static pid_t start_guard(shmipc_ctx *ctx)
{
    pid_t pid = fork();
    if (pid == 0) {
        run_guard(NULL);
        _exit(0);
    }
    while (guarded(ctx) != 1) REQUIRE(waitpid(pid, NULL, WNOHANG) == 0 && sched_yield() == 0);
    return pid;
}
static void guard_ends(pid_t pid)
{
    int st;
    CHECK_EQ(waitpid(pid, &st, 0), pid);
    CHECK_EQ(st, 0);
    CHECK_EQ(*result, 0);
    CHECK_EQ(scope_files(".seg"), 0);
}

/* Sleeps until a segment's file is gone, says when that was; 0 when two seconds passed without it. */
static int64_t goes(int n)
{
    int watch = inotify_init1(IN_CLOEXEC);
    int64_t end = shmipc__os_now_ns() + 2000000000, when;
    char events[4096];
    REQUIRE(watch >= 0 && inotify_add_watch(watch, scope_dir(), IN_DELETE) >= 0);
    while (there(n) && shmipc__os_now_ns() < end) {
        struct pollfd p;
        p.fd = watch;
        p.events = POLLIN;
        if (poll(&p, 1, (int)((end - shmipc__os_now_ns()) / 1000000) + 1) > 0) {
            CHECK(read(watch, events, sizeof events) > 0);
        }
    }
    when = there(n) ? 0 : shmipc__os_now_ns();
    close(watch); /* takes its time */
    return when;
}

/* ---- which death it is ---- */

TEST(C14_the_last_user_of_each_segment_in_any_order)
{
    static const int order[][6] = {{0, 1, 2, 3, 4, 5}, {3, 4, 5, 0, 1, 2}, {5, 4, 3, 2, 1, 0}, {0, 3, 1, 4, 2, 5},
                                   {5, 2, 4, 1, 3, 0}, {2, 0, 5, 1, 4, 3}, {1, 5, 0, 4, 2, 3}};
    size_t k;
    COVERS("I7 K7");
    prepare();
    for (k = 0; k < sizeof order / sizeof *order; k++) {
        shmipc_ctx *ctx = scope_open();
        pid_t users[6], guard;
        int left[2] = {3, 3}, i, n;
        for (i = 0; i < 6; i++) users[i] = user(1 << i / 3);
        guard = start_guard(ctx);
        shmipc_ctx_close(ctx); /* nobody is left but the users and the guard */
        for (i = 0; i < 6; i++) {
            scope_kill(users[order[k][i]]);
            n = order[k][i] / 3;
            if (--left[n] == 0) REQUIRE(goes(n));
            CHECK_EQ(there(0), left[0] > 0);
            CHECK_EQ(there(1), left[1] > 0);
        }
        guard_ends(guard);
    }
    scope_end();
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* Users of several segments come, are killed and are replaced at random. A segment goes exactly with its last user. */
TEST_LIMIT(C14_users_of_several_segments_come_and_die, 60)
{
    static int64_t took[4096];
    int mask[USERS] = {0}, removals = 0, rounds = getenv("FULL") ? 3000 : 300, i, n, r;
    pid_t pid[USERS], guard, first;
    shmipc_ctx *ctx;
    COVERS("I7 C13 K7");
    prepare();
    ctx = scope_open();
    first = user(1); /* a guard ends when there is nothing to guard */
    guard = start_guard(ctx);
    shmipc_ctx_close(ctx);
    for (r = 0; r < rounds; r++) {
        int held = 0, before = 0;
        int64_t t0, gone;
        i = (int)(check_random() % USERS);
        for (n = 0; n < USERS; n++) before |= mask[n];
        if (!mask[i]) {
            mask[i] = 2 << check_random() % 3 | (check_random() % 4 ? 0 : 2 << check_random() % 3);
            pid[i] = user(mask[i]);
            continue;
        }
        scope_kill(pid[i]);
        t0 = shmipc__os_now_ns(); /* the kernel has let go of its locks */
        mask[i] = 0;
        for (n = 0; n < USERS; n++) held |= mask[n];
        for (n = 1; n < SEGMENTS; n++) {
            if (held >> n & 1 || !(before >> n & 1)) continue;
            gone = goes(n);
            REQUIRE(gone != 0);
            took[removals++] = gone - t0;
        }
        for (n = 1; n < SEGMENTS; n++) CHECK_EQ(there(n), held >> n & 1);
        CHECK(there(0));
    }
    for (i = 0; i < USERS; i++)
        if (mask[i]) scope_kill(pid[i]);
    scope_kill(first);
    guard_ends(guard);
    CHECK(removals > 5);
    qsort(took, (size_t)removals, sizeof *took, by_size);
    printf("%d removals, ms after the death: p50 %.2f, p99 %.2f, worst %.2f\n", removals,
           (double)took[removals / 2] / 1e6, (double)took[removals * 99 / 100] / 1e6, (double)took[removals - 1] / 1e6);
    scope_end();
}

static void leave_one_and_die(void *arg)
{
    shmipc_ctx *ctx = scope_open();
    shmipc_segment *s = hold(ctx, 0);
    (void)arg;
    hold(ctx, 1);
    shmipc__entry_leave(s); /* as if killed between leaving and removing */
}

TEST(C14_one_who_died_while_leaving)
{
    shmipc_ctx *ctx;
    pid_t pid, other, guard;
    prepare();
    ctx = scope_open();
    other = user(4);
    pid = scope_stay(leave_one_and_die, NULL);
    guard = start_guard(ctx);
    CHECK(goes(0));
    scope_kill(pid);
    CHECK(goes(1));
    CHECK(there(2));
    shmipc_ctx_close(ctx);
    scope_kill(other);
    guard_ends(guard);
    scope_end();
}

TEST(C14_a_stopped_user_is_alive)
{
    shmipc_ctx *ctx;
    pid_t stopped, other, guard;
    int st;
    COVERS("I2");
    prepare();
    ctx = scope_open();
    stopped = user(1);
    other = user(2);
    guard = start_guard(ctx);
    kill(stopped, SIGSTOP);
    CHECK_EQ(waitpid(stopped, &st, WUNTRACED), stopped);
    scope_kill(other);
    CHECK(goes(1)); /* the guard has looked at everything since */
    CHECK_EQ(there(0), 1);
    scope_kill(stopped);
    guard_ends(guard);
    shmipc_ctx_close(ctx);
    scope_end();
}

/* ---- namespaces ---- */

static int *inner; /* pipe through which a process in another PID namespace says that it is there */
static void use_inside(void *mask)
{
    char byte;
    if (unshare(CLONE_NEWPID)) _exit(1);
    if (fork() == 0) {
        use(mask);
        if (write(inner[1], "r", 1) != 1) _exit(1);
        for (;;) pause();
    }
    if (read(inner[0], &byte, 1) != 1) _exit(1);
}
static void guard_inside(void *arg)
{
    if (unshare(CLONE_NEWPID)) _exit(1);
    if (fork() == 0) {
        run_guard(arg);
        _exit(0);
    }
}
static void need_namespaces(void)
{
    pid_t pid = fork();
    int st;
    if (pid == 0) _exit(unshare(CLONE_NEWPID) ? 1 : 0);
    waitpid(pid, &st, 0);
    if (st) SKIP("unshare(CLONE_NEWPID) is not permitted here");
}

/* Killing the first process of a namespace kills all in it. */
static void kill_inside(pid_t outer)
{
    char path[64], line[64] = "";
    FILE *f;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)outer, (int)outer);
    f = fopen(path, "r");
    REQUIRE(f && fgets(line, sizeof line, f) && atoi(line) > 1);
    fclose(f);
    kill((pid_t)atoi(line), SIGKILL);
    scope_kill(outer);
}

TEST(C14_other_pid_namespaces)
{
    shmipc_ctx *ctx;
    pid_t inside, outside, guard;
    int one = 1, pipes[2];
    COVERS("K7");
    need_namespaces();
    prepare();
    REQUIRE(pipe(pipes) == 0);
    inner = pipes;
    ctx = scope_open();
    inside = scope_stay(use_inside, &one);
    outside = user(2);
    guard = start_guard(ctx);
    kill_inside(inside);
    CHECK(goes(0));
    CHECK_EQ(there(1), 1);
    scope_kill(outside);
    guard_ends(guard);
    outside = user(2); /* and the guard inside, users outside and in a third one */
    inside = scope_stay(use_inside, &one);
    guard = scope_stay(guard_inside, NULL);
    while (guarded(ctx) != 1) sched_yield();
    scope_kill(outside);
    CHECK(goes(1));
    CHECK_EQ(there(0), 1);
    kill_inside(inside);
    CHECK(goes(0));
    while (guarded(ctx) == 1) sched_yield();
    CHECK_EQ(*result, 0);
    scope_kill(guard);
    shmipc_ctx_close(ctx);
    scope_end();
}

/* ---- how it waits ---- */

/* Reads what the kernel says a sleeping process waits in: 1 when that is a call with these leading words. */
static int sleeps_without_timer(pid_t pid)
{
    char path[64], line[256] = "";
    unsigned long number, fds, n, timeout;
    FILE *f;
    snprintf(path, sizeof path, "/proc/%d/syscall", (int)pid);
    f = fopen(path, "r");
    if (!f || !fgets(line, sizeof line, f)) line[0] = 0;
    if (f) fclose(f);
    if (sscanf(line, "%lu %lx %lx %lx", &number, &fds, &n, &timeout) != 4) return 0;
    return n == 1 && (timeout == 0 || (uint32_t)timeout == 0xffffffffu); /* ppoll with NULL, or poll with -1 */
}

TEST(C14_the_guard_sleeps_without_a_timer)
{
    shmipc_ctx *ctx;
    pid_t pid, guard;
    char path[64];
    prepare();
    snprintf(path, sizeof path, "/proc/%d/syscall", (int)getpid());
    if (access(path, R_OK)) SKIP("this kernel does not show the system calls of processes");
    ctx = scope_open();
    pid = user(1);
    guard = start_guard(ctx);
    while (!sleeps_without_timer(guard)) sched_yield(); /* the limit of the test ends this */
    CHECK(there(0));
    scope_kill(pid);
    CHECK(goes(0));
    guard_ends(guard);
    shmipc_ctx_close(ctx);
    scope_end();
}

TEST(C14_without_a_watch_it_looks_from_time_to_time)
{
    shmipc_ctx *ctx;
    pid_t users[2], guard;
    prepare();
    ctx = scope_open();
    users[0] = user(1);
    users[1] = user(2);
    fault_all("watch", EMFILE);
    guard = start_guard(ctx);
    fault_off();
    scope_kill(users[1]);
    CHECK(goes(1));
    CHECK_EQ(there(0), 1);
    scope_kill(users[0]);
    guard_ends(guard);
    shmipc_ctx_close(ctx);
    scope_end();
}

TEST(C14_what_lingers_goes_at_its_time)
{
    shmipc_ctx *ctx;
    pid_t brief, longer, guard;
    int64_t t0;
    COVERS("C3");
    prepare();
    ctx = scope_open();
    linger_ms = 1300; /* longer than the guard's last look without a timer */
    brief = user(1);
    linger_ms = 100000;
    longer = user(2);
    guard = start_guard(ctx);
    t0 = shmipc__os_now_ns();
    scope_kill(brief);
    CHECK(goes(0));
    CHECK(shmipc__os_now_ns() - t0 >= 1290000000);
    scope_kill(longer);
    CHECK_EQ(shmipc_guard_run(ctx), SHMIPC_EBUSY); /* nobody is left, but something to guard */
    CHECK_EQ(shmipc_segment_unlink(ctx, "seg1"), 0);
    shmipc_ctx_close(ctx);
    guard_ends(guard);
    scope_end();
}

/* ---- how it begins and ends ---- */

TEST(C14_I7_one_guard_that_ends_with_the_last_user)
{
    shmipc_ctx *ctx;
    pid_t first, second, guard;
    int st;
    prepare();
    scope_leave_dead(run_guard, NULL);
    CHECK_EQ(*result, 0); /* nothing to guard */
    ctx = scope_open();
    first = user(1);
    second = user(1);
    guard = start_guard(ctx);
    CHECK_EQ(shmipc_guard_run(ctx), SHMIPC_EBUSY);
    scope_kill(first);
    CHECK_EQ(waitpid(guard, &st, WNOHANG), 0); /* there is another user */
    scope_kill(second);
    guard_ends(guard);
    CHECK_EQ(guarded(ctx), 0);
    hold(ctx, 0);
    CHECK_EQ(shmipc_guard_run(ctx), SHMIPC_ESTATE); /* it would keep itself from ending */
    CHECK(strstr(shmipc_ctx_detail(ctx), "guard") != NULL);
    CHECK_EQ(shmipc_guard_run(NULL), SHMIPC_EINVAL);
    shmipc_ctx_close(ctx);
    scope_end();
}

static void nothing(int sig) { (void)sig; }
TEST(K7_guard_ends_with_a_signal)
{
    struct sigaction sa;
    shmipc_ctx *ctx;
    pid_t pid;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = nothing;
    sigaction(SIGALRM, &sa, NULL);
    prepare();
    ctx = scope_open();
    pid = user(1);
    ualarm(20000, 20000);
    CHECK_EQ(shmipc_guard_run(ctx), SHMIPC_EINTR);
    ualarm(0, 0);
    CHECK_EQ(guarded(ctx), 0);
    scope_kill(pid);
    shmipc_ctx_close(ctx);
    scope_end();
}

/* Whatever call fails, once: the guard says so or does its work, and gives its role and its descriptors back. */
TEST(I4_every_system_call_of_the_guard_may_fail)
{
    shmipc_ctx *ctx;
    int n, rc, reached = 1, before;
    prepare();
    ctx = scope_open();
    before = scope_descriptors();
    for (n = 1; reached; n++) {
        int mask = 1;
        scope_leave_dead(use, &mask);
        fault_nth(n, EIO);
        rc = shmipc_guard_run(ctx);
        reached = fault_off();
        if (!CHECK(rc == 0 || rc == SHMIPC_EOS || rc == SHMIPC_ENOTSUP || rc == SHMIPC_ENOMEM)) {
            printf("call %d: %s\n", n, shmipc_strerror(rc));
        }
        CHECK_EQ(guarded(ctx), 0);
        CHECK_EQ(scope_descriptors(), before);
        CHECK(shmipc_guard_run(ctx) == 0);
        CHECK_EQ(there(0), 0);
    }
    CHECK(n > 5);
    shmipc_ctx_close(ctx);
    scope_end();
}

TEST(C14_a_file_that_cannot_be_removed_stops_nothing)
{
    shmipc_ctx *ctx;
    pid_t users[2], guard;
    prepare();
    ctx = scope_open();
    users[0] = user(1);
    users[1] = user(2);
    fault_all("unlink", EACCES);
    guard = start_guard(ctx);
    fault_off();
    scope_kill(users[0]);
    while (!sleeps_without_timer(guard) && guarded(ctx)) sched_yield();
    CHECK_EQ(guarded(ctx), 1); /* it goes on for the others */
    scope_kill(users[1]);
    CHECK_EQ(waitpid(guard, NULL, 0), guard);
    CHECK_EQ(*result, SHMIPC_EACCES); /* nothing living is left, and it says why files are */
    CHECK_EQ(there(0) + there(1), 2);
    CHECK_EQ(shmipc_ctx_sweep(ctx, 0), 2);
    shmipc_ctx_close(ctx);
    scope_end();
}
