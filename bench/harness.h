/* bench/harness.h - what every benchmark here shares: a clock, two pinned sides, a stamp, percentiles, machine facts.
 *
 * C11 that is also C++. Include it first (feature macros). A benchmark is honest only if all that it compares
 * goes through the same functions below: the payload is stamped in full by the sender, copied, and compared in full by
 * the receiver, with the compiler kept from seeing through any of it.
 */
#ifndef BENCH_HARNESS_H
#define BENCH_HARNESS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BENCH_INLINE static inline __attribute__((unused, always_inline))
#define BENCH_FUNC static __attribute__((unused))

/* ---------------------------------------------------------------------------------------------
 * >>clock  A time stamp that costs a few nanoseconds, the same cost for everything measured
 * ------------------------------------------------------------------------------------------- */

BENCH_FUNC double bench_monotonic_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

BENCH_INLINE uint64_t bench_ticks(void)
{
#if defined(__x86_64__) || defined(__i386__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t t;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
    return t;
#else
    return (uint64_t)bench_monotonic_ns();
#endif
}

/* Nanoseconds of one tick, measured once. A pause between the two readings falls into both clocks alike. */
BENCH_FUNC double bench_tick_ns(void)
{
    static double tick_ns;
    if (tick_ns == 0) {
        double a = bench_monotonic_ns(), b;
        uint64_t ta = bench_ticks(), tb;
        do {
            b = bench_monotonic_ns();
            tb = bench_ticks();
        } while (b - a < 20e6);
        tick_ns = (b - a) / (double)(tb - ta);
    }
    return tick_ns;
}

BENCH_FUNC uint64_t bench_ticks_of_ms(double ms) { return (uint64_t)(ms * 1e6 / bench_tick_ns()); }

/* ---------------------------------------------------------------------------------------------
 * >>stamp  Every word of a payload says which message it belongs to
 * ------------------------------------------------------------------------------------------- */

#define BENCH_STAMP_KEY 0x9E3779B97F4A7C15u

/* The compiler must believe that somebody else reads and writes the buffer here. */
BENCH_INLINE void bench_escape(void *p) { __asm__ volatile("" : : "r"(p) : "memory"); }

/* Written by 16 bytes and read by 8, so that a copy in between by words, vectors or the library finds its bytes in one
 * store and is not held up by the way the stamp was made. */
typedef uint64_t bench_pair __attribute__((vector_size(16), may_alias));

BENCH_INLINE void bench_stamp(uint64_t *w, size_t words, uint64_t seq)
{
    uint64_t base = seq * BENCH_STAMP_KEY;
    bench_pair v = {base, base + 1}, step = {2, 2};
    size_t i;
    for (i = 0; i + 1 < words; i += 2) {
        *(bench_pair *)(w + i) = v;
        v += step;
    }
    if (i < words) w[i] = base + i;
    bench_escape(w);
}

BENCH_INLINE int bench_check(uint64_t *w, size_t words, uint64_t seq)
{
    uint64_t base = seq * BENCH_STAMP_KEY, wrong = 0;
    size_t i;
    bench_escape(w);
    for (i = 0; i < words; i++) wrong |= __atomic_load_n(w + i, __ATOMIC_RELAXED) ^ (base + i);
    return wrong == 0;
}

/* ---------------------------------------------------------------------------------------------
 * >>sides  The near side is the calling process; the far side a forked process, or a thread, on the other CPU
 *
 * Far sides sleep in a semaphore between runs, so neither disturbs the other's.
 * ------------------------------------------------------------------------------------------- */

struct bench_link;
typedef void (*bench_far_fn)(struct bench_link *link, void *memory);

struct bench_link {
    sem_t go, done;
    bench_far_fn fn; /* the same address on both sides: the far process is a fork */
    void *memory;
    uint64_t wrong; /* messages that did not pass the far side's check */
    uint64_t spare[4];
    uint32_t ready __attribute__((aligned(64)));
    uint32_t stop __attribute__((aligned(64)));
    uint32_t cpu, quit;
};

BENCH_INLINE int bench_stopped(struct bench_link *l) { return (int)__atomic_load_n(&l->stop, __ATOMIC_RELAXED); }

BENCH_FUNC int bench_pin(unsigned cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof set, &set);
}

/* The first two CPUs that this process may use; 0, or -1 if there is only one. */
BENCH_FUNC int bench_two_cpus(unsigned cpus[2])
{
    cpu_set_t set;
    unsigned i, n = 0;
    if (sched_getaffinity(0, sizeof set, &set)) return -1;
    for (i = 0; i < CPU_SETSIZE && n < 2; i++)
        if (CPU_ISSET(i, &set)) cpus[n++] = i;
    return n == 2 ? 0 : -1;
}

BENCH_FUNC void *bench_map_shared(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (p == MAP_FAILED) {
        perror("bench: mmap");
        exit(1);
    }
    return p;
}

BENCH_FUNC void *bench_far_loop(void *arg)
{
    struct bench_link *l = (struct bench_link *)arg;
    bench_pin(l->cpu);
    sem_post(&l->done);
    for (;;) {
        while (sem_wait(&l->go)) {}
        if (l->quit) return NULL;
        l->fn(l, l->memory);
        sem_post(&l->done);
    }
}

BENCH_FUNC struct bench_link *bench_link_new(unsigned cpu)
{
    struct bench_link *l = (struct bench_link *)bench_map_shared(sizeof *l);
    if (sem_init(&l->go, 1, 0) || sem_init(&l->done, 1, 0)) {
        perror("bench: sem_init");
        exit(1);
    }
    l->cpu = cpu;
    return l;
}

/* The far side must have left this CPU before anybody here spins for it. */
BENCH_FUNC void bench_far_pinned(struct bench_link *l)
{
    while (sem_wait(&l->done)) {}
}

/* The far process dies with the near one. */
BENCH_FUNC struct bench_link *bench_far_process(unsigned cpu)
{
    struct bench_link *l = bench_link_new(cpu);
    pid_t near_pid = getpid(), pid = fork();
    if (pid < 0) {
        perror("bench: fork");
        exit(1);
    }
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != near_pid) _exit(1);
        bench_far_loop(l);
        _exit(0);
    }
    bench_far_pinned(l);
    return l;
}

BENCH_FUNC struct bench_link *bench_far_thread(unsigned cpu)
{
    struct bench_link *l = bench_link_new(cpu);
    pthread_t thread;
    if (pthread_create(&thread, NULL, bench_far_loop, l)) {
        fprintf(stderr, "bench: no thread\n");
        exit(1);
    }
    pthread_detach(thread);
    bench_far_pinned(l);
    return l;
}

/* Start the far side and return when it runs. It says so by bench_far_ready. */
BENCH_FUNC void bench_far_start(struct bench_link *l, bench_far_fn fn, void *memory)
{
    l->fn = fn;
    l->memory = memory;
    l->wrong = 0;
    __atomic_store_n(&l->stop, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&l->ready, 0, __ATOMIC_RELAXED);
    sem_post(&l->go);
    while (!__atomic_load_n(&l->ready, __ATOMIC_ACQUIRE)) {}
}

BENCH_INLINE void bench_far_ready(struct bench_link *l) { __atomic_store_n(&l->ready, 1, __ATOMIC_RELEASE); }

/* The number of wrong messages that the far side saw. */
BENCH_FUNC uint64_t bench_far_stop(struct bench_link *l)
{
    __atomic_store_n(&l->stop, 1, __ATOMIC_RELAXED);
    while (sem_wait(&l->done)) {}
    return l->wrong;
}

BENCH_FUNC void bench_far_quit(struct bench_link *l)
{
    l->quit = 1;
    sem_post(&l->go);
}

/* ---------------------------------------------------------------------------------------------
 * >>numbers
 * ------------------------------------------------------------------------------------------- */

BENCH_FUNC int bench_order_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

BENCH_FUNC int bench_order_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts v. Of no values: 0. */
BENCH_FUNC double bench_median(double *v, size_t n)
{
    if (n == 0) return 0;
    qsort(v, n, sizeof *v, bench_order_double);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* Of sorted values; q between 0 and 1. Clocks tick coarsely (10 ns on some machines), so many values are equal: each
 * stands for the range up to halfway to its neighbours, and the quantile lies within by how many of the equals it
 * needs. */
BENCH_FUNC double bench_quantile(const uint32_t *v, size_t n, double q)
{
    size_t at = (size_t)(q * (double)(n - 1)), first = at, last = at;
    double low, high;
    if (n == 0) return 0;
    while (first > 0 && v[first - 1] == v[at]) first--;
    while (last + 1 < n && v[last + 1] == v[at]) last++;
    low = first > 0 ? (v[first - 1] + (double)v[at]) / 2 : v[at];
    high = last + 1 < n ? (v[last + 1] + (double)v[at]) / 2 : v[at];
    return low + (high - low) * (q * (double)n - (double)first) / (double)(last - first + 1);
}

/* ---------------------------------------------------------------------------------------------
 * >>facts  The first line of every result file
 * ------------------------------------------------------------------------------------------- */

BENCH_FUNC void bench_put_quoted(FILE *f, const char *s)
{
    fputc('"', f);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') fputc('\\', f);
        if ((unsigned char)*s >= 32) fputc(*s, f);
    }
    fputc('"', f);
}

BENCH_FUNC void bench_cpu_name(char *out, size_t size)
{
    char line[512];
    FILE *f = fopen("/proc/cpuinfo", "r");
    snprintf(out, size, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        char *value = strstr(line, ": ");
        if (value && (!strncmp(line, "model name", 10) || !strncmp(line, "Model", 5) || !strncmp(line, "uarch", 5))) {
            value[strcspn(value, "\n")] = 0;
            snprintf(out, size, "%s", value + 2);
            break;
        }
    }
    if (f) fclose(f);
}

BENCH_FUNC void bench_put_facts(FILE *f, const char *bench, const char *flags, const unsigned cpus[2], int quick)
{
    struct utsname u;
    char cpu[256];
    bench_cpu_name(cpu, sizeof cpu);
    memset(&u, 0, sizeof u);
    uname(&u);
    fprintf(f, "{\"bench\": \"machine\", \"of\": \"%s\", \"cpu\": ", bench);
    bench_put_quoted(f, cpu);
    fprintf(f, ", \"arch\": \"%s\", \"online\": %ld, \"pinned\": [%u, %u], \"kernel\": ", u.machine,
            sysconf(_SC_NPROCESSORS_ONLN), cpus[0], cpus[1]);
    bench_put_quoted(f, u.release);
    fprintf(f, ", \"compiler\": ");
#ifdef __clang__
    bench_put_quoted(f, "clang " __clang_version__);
#else
    bench_put_quoted(f, "gcc " __VERSION__);
#endif
    fprintf(f, ", \"flags\": ");
    bench_put_quoted(f, flags);
    fprintf(f, ", \"quick\": %s}\n", quick ? "true" : "false");
}

#endif /* BENCH_HARNESS_H */
