/* check.h - the test harness of shmipc, one header, C11 and C++11.
 *
 *     #include "check.h"
 *     TEST(K1_ring_keeps_order) { CHECK(1 < 2); CHECK_EQ(f(), 7); }
 *     TEST_LIMIT(I1_many_kills, 60) { COVERS("I7 K2"); ... }
 *
 * Include it once, in the file that is the program; it supplies main(). Each test runs in a forked child that leads a
 * process group of its own. A test fails when a check fails in it or in any process it forked, when it dies, when it
 * outlives its limit (20 s unless TEST_LIMIT says otherwise), and when it ends without having checked anything.
 *
 *     CHECK(expr)           true, or file, line and expression are printed; has its value: if (!CHECK(p)) return;
 *     CHECK_EQ(a, b)        integers (enums, results, sizes); prints both values
 *     CHECK_STR(a, b)       strings; prints both
 *     CHECK_MEM(a, b, n)    n bytes; prints the first offset that differs
 *     REQUIRE(expr)         CHECK that ends the process when it fails: for what the rest of the test stands on
 *     SKIP(reason)          ends the test as neither passed nor failed; the reason is printed
 *     COVERS("K1 I2")       statements this test checks, beside those that its name begins with (K1_I2_what_it_does)
 *     check_random()        64 random bits of a sequence that the seed and the test's name determine
 *
 * Arguments: parts of names; tests that contain none of them are left out. --list prints the names.
 * Environment: CHECK_SEED repeats a run, CHECK_SLOW=10 multiplies the limits, CHECK_NOFORK=1 runs the tests in this
 * process (for a debugger), CHECK_REPORT=file gets one JSON row per statement and test.
 * The last line is "N passed, N failed"; the exit status is 0 when none failed and something ran.
 */
#ifndef SHMIPC_CHECK_H
#define SHMIPC_CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#define CHECK__FN static __attribute__((unused))
#define CHECK__SKIPPED 77

typedef struct check__test {
    struct check__test *next;
    const char *name;
    void (*run)(void);
    int limit_s;
} check__test;

/* Shared with every process of the running test, so that a check counts wherever it fails. */
typedef struct check__state {
    int checked;
    int failures;
    char covers[512];
} check__state;

static check__test *check__first, **check__tail = &check__first;
static check__state *check__now;
static uint64_t check__seed, check__random_state;

#define TEST(name) TEST_LIMIT(name, 20)
#define TEST_LIMIT(name, seconds)                                                               \
    static void check__run_##name(void);                                                        \
    static check__test check__entry_##name = {NULL, #name, check__run_##name, (seconds)};       \
    __attribute__((constructor)) static void check__add_##name(void)                            \
    {                                                                                           \
        *check__tail = &check__entry_##name;                                                    \
        check__tail = &check__entry_##name.next;                                                \
    }                                                                                           \
    static void check__run_##name(void)

#define CHECK(expr) check__that((expr) ? 1 : 0, __FILE__, __LINE__, #expr)
#define CHECK_EQ(a, b) check__eq((long long)(a), (long long)(b), __FILE__, __LINE__, #a " == " #b)
#define CHECK_STR(a, b) check__str((a), (b), __FILE__, __LINE__, #a " is " #b)
#define CHECK_MEM(a, b, n) check__mem((a), (b), (n), __FILE__, __LINE__, #a " equals " #b)
#define REQUIRE(expr)                                                                           \
    do {                                                                                        \
        if (!CHECK(expr)) {                                                                     \
            fflush(stdout);                                                                     \
            _exit(1);                                                                           \
        }                                                                                       \
    } while (0)
#define SKIP(reason) check__skip(reason)
#define COVERS(ids) check__covers(ids)

/* Counts one check; says whether a failure is to be printed. A flood of failures tells no more than its beginning. */
CHECK__FN int check__count(int good)
{
    __atomic_store_n(&check__now->checked, 1, __ATOMIC_RELAXED);
    if (good) return 0;
    return __atomic_fetch_add(&check__now->failures, 1, __ATOMIC_RELAXED) < 20;
}

CHECK__FN int check__that(int good, const char *file, int line, const char *text)
{
    if (check__count(good)) {
        printf("%s:%d: CHECK failed: %s\n", file, line, text);
        fflush(stdout);
    }
    return good;
}

CHECK__FN int check__eq(long long a, long long b, const char *file, int line, const char *text)
{
    if (check__count(a == b)) {
        printf("%s:%d: CHECK failed: %s: %lld (0x%llx) and %lld (0x%llx)\n", file, line, text, a,
               (unsigned long long)a, b, (unsigned long long)b);
        fflush(stdout);
    }
    return a == b;
}

CHECK__FN int check__str(const char *a, const char *b, const char *file, int line, const char *text)
{
    int good = a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
    if (check__count(good)) {
        printf("%s:%d: CHECK failed: %s: \"%s\" and \"%s\"\n", file, line, text, a ? a : "(null)", b ? b : "(null)");
        fflush(stdout);
    }
    return good;
}

CHECK__FN int check__mem(const void *a, const void *b, size_t n, const char *file, int line, const char *text)
{
    const unsigned char *x = (const unsigned char *)a, *y = (const unsigned char *)b;
    size_t i = 0;
    while (i < n && x[i] == y[i]) i++;
    if (check__count(i == n)) {
        printf("%s:%d: CHECK failed: %s: byte %lu of %lu is 0x%02x and 0x%02x\n", file, line, text, (unsigned long)i,
               (unsigned long)n, x[i], y[i]);
        fflush(stdout);
    }
    return i == n;
}

CHECK__FN void check__skip(const char *reason)
{
    printf("skip %s\n", reason);
    fflush(stdout);
    exit(CHECK__SKIPPED);
}

CHECK__FN void check__covers(const char *ids)
{
    size_t have = strlen(check__now->covers), more = strlen(ids);
    if (have + more + 2 > sizeof check__now->covers) return;
    memcpy(check__now->covers + have, ids, more);
    check__now->covers[have + more] = ' ';
    check__now->covers[have + more + 1] = '\0';
}

/* splitmix64: every seed is a good one. */
CHECK__FN uint64_t check_random(void)
{
    uint64_t z = (check__random_state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

CHECK__FN int64_t check__clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void check__seed_test(const char *name)
{
    check__random_state = check__seed;
    for (; *name; name++) check__random_state = check__random_state * 31 + (unsigned char)*name;
}

static void check__child(const check__test *test, const sigset_t *mask)
{
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* an interrupted run leaves nothing behind */
#endif
    setpgid(0, 0);
    sigprocmask(SIG_SETMASK, mask, NULL);
    test->run();
    fflush(stdout);
    exit(0);
}

/* Waits until the child has ended, without reaping it: its pid, and so its group, stays reserved. 0 = out of time. */
static int check__await(pid_t pid, int64_t deadline, const sigset_t *child_signal)
{
    for (;;) {
        siginfo_t info;
        struct timespec left;
        int64_t ns;
        memset(&info, 0, sizeof info);
        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | WNOHANG) == 0 && info.si_pid == pid) return 1;
        ns = deadline - check__clock_ns();
        if (ns <= 0) return 0;
        left.tv_sec = (time_t)(ns / 1000000000);
        left.tv_nsec = (long)(ns % 1000000000);
        sigtimedwait(child_signal, NULL, &left);
    }
}

static int check__run_forked(const check__test *test, int limit_s, int *timed_out)
{
    sigset_t child_signal, before;
    int status = 0;
    pid_t pid;
    sigemptyset(&child_signal);
    sigaddset(&child_signal, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child_signal, &before);
    pid = fork();
    if (pid < 0) {
        perror("fork");
        exit(1);
    }
    if (pid == 0) check__child(test, &before);
    setpgid(pid, pid);
    *timed_out = !check__await(pid, check__clock_ns() + (int64_t)limit_s * 1000000000, &child_signal);
    kill(-pid, SIGKILL); /* what the test left running, and the test itself if it hangs */
    waitpid(pid, &status, 0);
    while (waitpid(-pid, NULL, 0) > 0) continue; /* orphans of the group: we are their reaper */
    sigprocmask(SIG_SETMASK, &before, NULL);
    return status;
}

static void check__report(const char *program, const check__test *test, const char *id, size_t len, const char *status)
{
    char line[512];
    const char *path = getenv("CHECK_REPORT");
    int fd, n;
    if (path == NULL || *path == '\0') return;
    n = snprintf(line, sizeof line, "{\"id\":\"%.*s\",\"tests\":\"%s:%s\",\"status\":\"%s\"}\n", (int)len, id, program,
                 test->name, status);
    if (n <= 0 || (size_t)n >= sizeof line) return;
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (fd < 0 || write(fd, line, (size_t)n) != n) perror(path);
    if (fd >= 0) close(fd);
}

/* Length of a statement id (K1, S21, I10, C13, P3, L37) at the start of text, or 0. */
static size_t check__id_len(const char *text)
{
    size_t n = 1;
    if (*text == '\0' || strchr("KSPLCI", *text) == NULL) return 0;
    while (text[n] >= '0' && text[n] <= '9') n++;
    return n > 1 && (text[n] == '\0' || text[n] == '_' || text[n] == ' ' || text[n] == ',') ? n : 0;
}

static void check__report_all(const char *program, const check__test *test, const char *status)
{
    const char *at = test->name;
    size_t n;
    for (; (n = check__id_len(at)) > 0; at += n + (at[n] == '_')) check__report(program, test, at, n, status);
    for (at = check__now->covers; *at; at += n ? n : 1) {
        n = check__id_len(at);
        if (n) check__report(program, test, at, n, status);
    }
}

/* 1 passed, 0 failed, -1 skipped */
static int check__one(const char *program, const check__test *test)
{
    const char *slow = getenv("CHECK_SLOW"), *nofork = getenv("CHECK_NOFORK");
    int limit_s = test->limit_s * (slow && atoi(slow) > 0 ? atoi(slow) : 1), status = 0, timed_out = 0;
    int64_t start = check__clock_ns();
    char why[128] = "";
    memset(check__now, 0, sizeof *check__now);
    check__seed_test(test->name);
    fflush(stdout);
    if (nofork && *nofork == '1') test->run();
    else status = check__run_forked(test, limit_s, &timed_out);
    if (timed_out) snprintf(why, sizeof why, "still running after %d s", limit_s);
    else if (WIFSIGNALED(status)) snprintf(why, sizeof why, "killed by signal %d", WTERMSIG(status));
    else if (check__now->failures) snprintf(why, sizeof why, "%d checks failed", check__now->failures);
    else if (WEXITSTATUS(status) == CHECK__SKIPPED) return printf("skip %s\n", test->name), -1;
    else if (WEXITSTATUS(status)) snprintf(why, sizeof why, "exit status %d", WEXITSTATUS(status));
    else if (!check__now->checked) snprintf(why, sizeof why, "it checked nothing");
    printf("%s %s (%d ms)%s%s\n", *why ? "FAIL" : "ok  ", test->name, (int)((check__clock_ns() - start) / 1000000),
           *why ? ": " : "", why);
    check__report_all(program, test, *why ? "failed" : "passed");
    return *why == '\0';
}

static int check__wanted(const check__test *test, int argc, char **argv)
{
    int i;
    for (i = 1; i < argc; i++)
        if (strstr(test->name, argv[i]) != NULL) return 1;
    return argc < 2;
}

CHECK__FN int check_main(int argc, char **argv)
{
    const char *program = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0], *seed = getenv("CHECK_SEED");
    const check__test *test;
    int passed = 0, failed = 0, result, list = argc > 1 && strcmp(argv[1], "--list") == 0;
    void *shared = mmap(NULL, sizeof *check__now, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check__seed = seed && *seed ? strtoull(seed, NULL, 0) : (uint64_t)check__clock_ns() ^ ((uint64_t)time(NULL) << 32);
    if (shared == MAP_FAILED) return perror("mmap"), 1;
    check__now = (check__state *)shared;
#ifdef __linux__
    prctl(PR_SET_CHILD_SUBREAPER, 1);
#endif
    if (!list) printf("%s: CHECK_SEED=%llu\n", program, (unsigned long long)check__seed);
    for (test = check__first; test != NULL; test = test->next) {
        if (list) printf("%s\n", test->name);
        else if (check__wanted(test, argc, argv)) {
            result = check__one(program, test);
            passed += result == 1;
            failed += result == 0;
            if (failed && getenv("MUTANT")) break; /* tools/mutate: caught, the rest is of no interest */
        }
    }
    if (!list) printf("%d passed, %d failed\n", passed, failed);
    fflush(stdout);
    return list ? 0 : failed > 0 || passed == 0;
}

#ifndef CHECK_NO_MAIN
int main(int argc, char **argv) { return check_main(argc, argv); }
#endif

#endif /* SHMIPC_CHECK_H */
