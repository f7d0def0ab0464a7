/* crashstep.h - kill a process after exactly k instructions, for every k, and look at what the survivors see.
 *
 * Linux on x86-64 and arm64, C11, no dependency. The manual is tests/crash/README.md; in short:
 *
 *     static void setup(crash_run *r)  { harness: put the shared memory into state r->state; crash_watch() it }
 *     static void enter(crash_run *r)  { victim, before the window: attach, not counted                       }
 *     static void victim(crash_run *r) { victim: the operation, killed after each of its instructions         }
 *     static void check(crash_run *r)  { survivor: goes on in role r->role, counts what is wrong               }
 *     static const char *const states[] = { "empty", "half", "full", NULL };
 *     static const char *const roles[] = { "same", "other", "sweeper", NULL };
 *     static const crash_op ops[] = {
 *         { "ring_send", states, roles, CRASH_KILL | CRASH_ZOMBIE, 0, 0x3, setup, enter, victim, check, 0, 0, 0, 0 },
 *     };
 *     int main(int argc, char **argv) { return crash_main("ring", ops, CRASH_COUNT(ops), argc, argv); }
 *
 * How a kill at step k works: a forked victim runs enter(), then victim() between two breakpoint instructions. The
 * first run walks the window one instruction at a time and records its path. Every later run jumps to step k in a few
 * hops over planted breakpoints (single steps where that is impossible), is killed there, and check() runs in a fresh
 * process under a time limit, so that a crash or a hang of the survivor is a row in the report and not the end of it.
 *
 * Link with -Wl,-z,now: lazy symbol binding would put some 640 instructions into the window. On arm64 compile for LSE
 * atomics: a single step clears the exclusive monitor, so a load/store-exclusive loop would never end.
 */
#ifndef CRASHSTEP_H
#define CRASHSTEP_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------------------------
 * >>interface
 * ------------------------------------------------------------------------------------------- */

/* Modes: what happens to the victim at step k, and what it is while check() runs. */
enum {
    CRASH_KILL = 1,     /* killed and reaped                                                                 */
    CRASH_ZOMBIE = 2,   /* killed and not reaped: its pid still looks alive                                  */
    CRASH_FREEZE = 4,   /* stopped; check() must get on all the same; then it runs to the end, then done()   */
    CRASH_LATE = 8,     /* stopped during check(), then killed where it stood, then done()                   */
    CRASH_BLOCKED = 16, /* killed asleep in the first system call that blocks                               */
    CRASH_WAITING = 32  /* killed while the survivor already sleeps in check() (it says so by crash_ready()) */
};

/* Flags of an operation. */
enum {
    CRASH_INPROC = 1,    /* check() and done() run in the harness: twice as fast; for code without descriptors */
    CRASH_STEP_ONLY = 2, /* reach k by single steps only                                                       */
    CRASH_QUIET = 4      /* do not print failures (self-check)                                                 */
};

#define CRASH_NOTES 64
#define CRASH_WATCHES 8
#define CRASH_COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Shared by harness, victim and survivor. */
typedef struct crash_page {
    uint64_t death_ns, recovered_ns;           /* the victim was reaped; the survivor's first success      */
    uint64_t lost, torn, twice, leaked, other; /* what check() and done() counted                         */
    uint64_t note[CRASH_NOTES];                /* free for the test: acknowledgements of the victim and so */
    uint32_t dead, ready, seen;
    char why[160];                             /* the first complaint                                      */
} crash_page;

typedef struct crash_op crash_op;

typedef struct crash_run {
    const crash_op *op;
    int state, role, mode; /* indices into op->states and op->roles; one CRASH_KILL ... */
    long k;
    pid_t victim;
    crash_page *page;
    struct {
        const void *at;
        size_t size;
    } watch[CRASH_WATCHES];
    int watches;
} crash_run;

struct crash_op {
    const char *name;
    const char *const *states; /* NULL-terminated */
    const char *const *roles;  /* NULL-terminated */
    unsigned modes, flags;
    uint32_t must_see; /* outcomes (crash_saw) that a sweep with kills has to meet, or it tested nothing; 0: none */
    void (*setup)(crash_run *r);    /* harness, before each run                                            */
    void (*enter)(crash_run *r);    /* victim, before the window; may be NULL                              */
    void (*victim)(crash_run *r);   /* victim, the window                                                  */
    void (*check)(crash_run *r);    /* survivor; must call crash_recovered()                               */
    void (*done)(crash_run *r);     /* survivor, CRASH_FREEZE and CRASH_LATE; may be NULL                  */
    void (*wake)(crash_run *r);     /* harness: ends the victim's blocking call, so that the window goes on */
    void (*teardown)(crash_run *r); /* harness, after each run; may be NULL                                */
    int limit_ms;                   /* of victim, check and done each; 0: 3000                             */
};

typedef struct crash_result {
    long steps, kills, fallbacks;
    uint64_t hang, lost, torn, twice, leaked, other;
    uint64_t worst_ns, p999_ns, *recovery; /* the survivors' recovery, one per kill; free it */
    long recoveries;
    uint32_t seen;
    int broken; /* the case itself does not work: setup, window, must_see */
    double seconds;
} crash_result;

/* Counts a failure of one kind (lost, torn, twice, leaked, other) unless cond holds. */
#define CRASH_EXPECT(r, kind, cond)                                                                                    \
    do {                                                                                                               \
        if (!(cond)) crash_complain((r), &(r)->page->kind, #kind ": " #cond, __LINE__);                                \
    } while (0)

static inline uint64_t crash_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void crash_complain(crash_run *r, uint64_t *counter, const char *what, int line)
{
    ++*counter;
    if (!r->page->why[0]) snprintf(r->page->why, sizeof r->page->why, "line %d: %s", line, what);
}

/* Is the victim dead? What a ring's "is this owner alive?" answers for the victim. */
static inline int crash_dead(const crash_run *r) { return __atomic_load_n(&r->page->dead, __ATOMIC_ACQUIRE) != 0; }
/* The survivor has done the operation of its role once: stops the clock. */
static inline void crash_recovered(crash_run *r)
{
    if (!r->page->recovered_ns) r->page->recovered_ns = crash_now_ns();
}
/* CRASH_WAITING: the next call of this survivor is the one that waits. */
static inline void crash_ready(crash_run *r) { __atomic_store_n(&r->page->ready, 1, __ATOMIC_RELEASE); }
/* The survivor met outcome n (0..31), such as "the message had been published". */
static inline void crash_saw(crash_run *r, int n) { r->page->seen |= UINT32_C(1) << n; }
/* Words that survive the victim: what it was told (acknowledged sends, items taken). */
static inline void crash_note(crash_run *r, int i, uint64_t v)
{
    __atomic_store_n(&r->page->note[i], v, __ATOMIC_RELEASE);
}
static inline uint64_t crash_noted(const crash_run *r, int i)
{
    return __atomic_load_n(&r->page->note[i], __ATOMIC_ACQUIRE);
}
/* Shared bytes whose changes mark the steps that matter; call it from setup(). */
static inline void crash_watch(crash_run *r, const void *at, size_t size)
{
    if (r->watches == CRASH_WATCHES) return;
    r->watch[r->watches].at = at;
    r->watch[r->watches++].size = size;
}
static inline const char *crash_state(const crash_run *r) { return r->op->states[r->state]; }
static inline const char *crash_role(const crash_run *r) { return r->op->roles[r->role]; }

/* Shared memory for a test: zeroed, inherited by victims and survivors. */
static inline void *crash_shared(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        perror("crash_shared");
        exit(2);
    }
    return p;
}

/* Runs fn in a process that then dies by SIGKILL: leaves behind what the dead leave. Returns its pid, reaped. */
static inline pid_t crash_leave_dead(void (*fn)(crash_run *), crash_run *r)
{
    int st = 0;
    pid_t p = fork();
    if (p == 0) {
        fn(r);
        kill(getpid(), SIGKILL);
        _exit(1);
    }
    while (p > 0 && waitpid(p, &st, 0) < 0 && errno == EINTR) continue;
    return p;
}

static inline crash_result crash_sweep(const crash_op *op, int state, int role, int mode);

/* ---------------------------------------------------------------------------------------------
 * >>machine  Breakpoints and program counters
 * ------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
#define CRASH_MARK() __asm__ volatile("int3" ::: "memory")
#define CRASH_BREAK_MASK UINT64_C(0xff)
#define CRASH_BREAK UINT64_C(0xcc)
#define CRASH_BREAK_LEN 1u /* the machine stands behind a breakpoint it has hit */
#elif defined(__aarch64__)
#define CRASH_MARK() __asm__ volatile("brk #0x51" ::: "memory")
#define CRASH_BREAK_MASK UINT64_C(0xffffffff)
#define CRASH_BREAK UINT64_C(0xd4200a20) /* brk #0x51 */
#define CRASH_BREAK_LEN 0u
#else
#error "crashstep.h: x86-64 or arm64"
#endif

#ifdef __GLIBC__
#define CRASH_PTRACE(req, pid, addr, data) ptrace((enum __ptrace_request)(req), (pid), (addr), (data))
#else
#define CRASH_PTRACE(req, pid, addr, data) ptrace((int)(req), (pid), (addr), (data))
#endif

static inline int crash__pc_get(pid_t p, uint64_t *pc)
{
    struct user_regs_struct r;
    struct iovec v;
    v.iov_base = &r;
    v.iov_len = sizeof r;
    if (CRASH_PTRACE(PTRACE_GETREGSET, p, (void *)NT_PRSTATUS, &v)) return -1;
#if defined(__x86_64__)
    *pc = r.rip;
#else
    *pc = r.pc;
#endif
    return 0;
}

static inline int crash__pc_set(pid_t p, uint64_t pc)
{
    struct user_regs_struct r;
    struct iovec v;
    v.iov_base = &r;
    v.iov_len = sizeof r;
    if (CRASH_PTRACE(PTRACE_GETREGSET, p, (void *)NT_PRSTATUS, &v)) return -1;
#if defined(__x86_64__)
    r.rip = pc;
#else
    r.pc = pc;
#endif
    return CRASH_PTRACE(PTRACE_SETREGSET, p, (void *)NT_PRSTATUS, &v) ? -1 : 0;
}

static inline uint64_t crash__pc(pid_t p)
{
    uint64_t pc = 0;
#if defined(__x86_64__)
    pc = (uint64_t)CRASH_PTRACE(PTRACE_PEEKUSER, p, (void *)offsetof(struct user, regs.rip), NULL);
#else
    crash__pc_get(p, &pc);
#endif
    return pc;
}

/* Steps over the marker in front of the window: x86 stands behind it already, arm64 on it. */
static inline int crash__leave_mark(pid_t p)
{
#if defined(__aarch64__)
    return crash__pc_set(p, crash__pc(p) + 4);
#else
    (void)p;
    return 0;
#endif
}

/* Did a breakpoint instruction stop the process, and not a single step? */
static inline int crash__is_mark(pid_t p)
{
    siginfo_t si;
    if (CRASH_PTRACE(PTRACE_GETSIGINFO, p, NULL, &si)) return 0;
#if defined(__x86_64__)
    return si.si_code == SI_KERNEL;
#else
    return si.si_code == TRAP_BRKPT;
#endif
}

/* Is the next instruction a system call? Read from our own copy of the text: the victim is a fork of us. */
static inline int crash__at_syscall(uint64_t pc)
{
    unsigned char b[4] = { 0, 0, 0, 0 };
    struct iovec l, r;
    l.iov_base = b;
    r.iov_base = (void *)(uintptr_t)pc;
    l.iov_len = r.iov_len = sizeof b;
    if (process_vm_readv(getpid(), &l, 1, &r, 1, 0) < 2) return 0;
#if defined(__x86_64__)
    return b[0] == 0x0f && b[1] == 0x05;
#else
    return b[0] == 0x01 && b[1] == 0x00 && b[2] == 0x00 && b[3] == 0xd4; /* svc #0 */
#endif
}

/* Puts a breakpoint at `at`, into the victim's private copy of the page. */
static inline int crash__plant(pid_t p, uint64_t at, long *saved)
{
    void *a = (void *)(uintptr_t)(at & ~UINT64_C(7));
    unsigned shift = (unsigned)(at & 7) * 8;
    uint64_t w;
    errno = 0;
    *saved = CRASH_PTRACE(PTRACE_PEEKTEXT, p, a, NULL);
    if (errno) return -1;
    w = ((uint64_t)*saved & ~(CRASH_BREAK_MASK << shift)) | (CRASH_BREAK << shift);
    return CRASH_PTRACE(PTRACE_POKETEXT, p, a, (void *)(uintptr_t)w) ? -1 : 0;
}

static inline int crash__unplant(pid_t p, uint64_t at, long saved)
{
    void *a = (void *)(uintptr_t)(at & ~UINT64_C(7));
    if (CRASH_PTRACE(PTRACE_POKETEXT, p, a, (void *)(uintptr_t)(uint64_t)saved)) return -1;
    return CRASH_BREAK_LEN ? crash__pc_set(p, at) : 0;
}

/* ---------------------------------------------------------------------------------------------
 * >>time  One repeating timer: a limit cannot be missed between a test and the call that it should end
 * ------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t crash__alarmed, crash__guarding;
static sigjmp_buf crash__guard;

static inline void crash__on_signal(int s)
{
    if (s == SIGALRM) crash__alarmed = 1;
    if (crash__guarding) {
        crash__guarding = 0;
        siglongjmp(crash__guard, s);
    }
    if (s != SIGALRM) _exit(98);
}

static inline void crash__limit(int ms)
{
    struct itimerval t;
    t.it_value.tv_sec = ms / 1000;
    t.it_value.tv_usec = (ms % 1000) * 1000;
    t.it_interval.tv_sec = 0;
    t.it_interval.tv_usec = ms ? 20000 : 0;
    crash__alarmed = 0;
    setitimer(ITIMER_REAL, &t, NULL);
}

static inline int crash__limit_of(const crash_op *op) { return op->limit_ms ? op->limit_ms : 3000; }

/* The kernel's one-letter state of a process: S asleep, D busy in the kernel, R running, t traced stop. */
static inline char crash__proc_state(pid_t p)
{
    char path[40], text[256], *after;
    ssize_t n;
    int fd;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)p);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return 0;
    text[n] = 0;
    after = strrchr(text, ')');
    return after && after[1] ? after[2] : 0;
}

static inline void crash__nap(void)
{
    struct timespec t;
    t.tv_sec = 0;
    t.tv_nsec = 100000;
    nanosleep(&t, NULL);
}

/* ---------------------------------------------------------------------------------------------
 * >>victim  Start it, move it, end it
 * ------------------------------------------------------------------------------------------- */

typedef enum { CRASH__AT, CRASH__END, CRASH__STUCK, CRASH__ASLEEP, CRASH__GONE } crash__stop;

static inline crash__stop crash__stopped(int st, int *signal_to_pass)
{
    *signal_to_pass = 0;
    if (!WIFSTOPPED(st)) return CRASH__GONE;
    if (WSTOPSIG(st) == SIGTRAP) return CRASH__AT;
    *signal_to_pass = WSTOPSIG(st);
    return CRASH__STUCK;
}

/* Waits for the next trap of a victim that was set going with `how`; other signals are handed on to it. */
static inline crash__stop crash__await(pid_t p, int how)
{
    int st = 0, sig;
    for (;;) {
        if (waitpid(p, &st, 0) < 0) {
            if (errno != EINTR) return CRASH__GONE;
            if (crash__alarmed) return CRASH__STUCK;
            continue;
        }
        if (crash__stopped(st, &sig) != CRASH__STUCK) return sig ? CRASH__GONE : crash__stopped(st, &sig);
        if (CRASH_PTRACE(how, p, NULL, (void *)(intptr_t)sig)) return CRASH__GONE;
    }
}

static inline crash__stop crash__go(pid_t p, int how)
{
    if (CRASH_PTRACE(how, p, NULL, NULL)) return CRASH__GONE;
    return crash__await(p, how);
}

/* The same across a system call: CRASH__ASLEEP when the victim has slept in the kernel for 10 ms. */
static inline crash__stop crash__go_syscall(pid_t p, int how)
{
    uint64_t since = 0;
    int st = 0, sig;
    if (CRASH_PTRACE(how, p, NULL, NULL)) return CRASH__GONE;
    for (;;) {
        pid_t got = waitpid(p, &st, WNOHANG | __WALL);
        if (got == p) {
            if (crash__stopped(st, &sig) != CRASH__STUCK) return crash__stopped(st, &sig);
            if (CRASH_PTRACE(how, p, NULL, (void *)(intptr_t)sig)) return CRASH__GONE;
            continue;
        }
        if (got < 0 && errno != EINTR) return CRASH__GONE;
        if (crash__alarmed) return CRASH__STUCK;
        if (crash__proc_state(p) != 'S')
            since = 0;
        else if (!since)
            since = crash_now_ns();
        else if (crash_now_ns() - since > 10000000u)
            return CRASH__ASLEEP;
        sched_yield();
        if (since) crash__nap();
    }
}

static inline void crash__victim_main(crash_run *r)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGALRM, SIG_DFL);
    if (CRASH_PTRACE(PTRACE_TRACEME, 0, NULL, NULL)) _exit(97);
    if (r->op->enter) r->op->enter(r);
    CRASH_MARK();
    r->op->victim(r);
    CRASH_MARK();
    _exit(0);
}

static inline void crash__kill(pid_t p, int reap)
{
    int st;
    siginfo_t si;
    kill(p, SIGKILL);
    if (reap)
        while (waitpid(p, &st, 0) < 0 && errno == EINTR) continue;
    else
        while (waitid(P_PID, (id_t)p, &si, WEXITED | WNOWAIT) < 0 && errno == EINTR) continue;
}

/* A fresh victim at the entrance of the window; -1 with a word on stderr when it does not get there. */
static inline pid_t crash__spawn(crash_run *r)
{
    crash__stop s;
    pid_t p;
    memset(r->page, 0, sizeof *r->page);
    r->watches = 0;
    r->victim = 0;
    r->op->setup(r);
    p = fork();
    if (p == 0) crash__victim_main(r);
    if (p < 0) return -1;
    crash__limit(crash__limit_of(r->op));
    s = crash__await(p, PTRACE_CONT);
    if (s == CRASH__AT && !CRASH_PTRACE(PTRACE_SETOPTIONS, p, NULL, (void *)(intptr_t)PTRACE_O_EXITKILL) &&
        !crash__leave_mark(p)) {
        r->victim = p;
        return p;
    }
    fprintf(stderr, "%s: the victim %s before the window\n", r->op->name, s == CRASH__GONE ? "ended" : "hung");
    if (s != CRASH__GONE) crash__kill(p, 1);
    return -1;
}

/* ---------------------------------------------------------------------------------------------
 * >>path  The instructions of the window
 * ------------------------------------------------------------------------------------------- */

typedef struct crash__path {
    uint64_t *pc;        /* where the victim stands after i instructions                        */
    long *prev;          /* the latest earlier index with the same pc, or -1                    */
    unsigned char *want; /* shared memory changes next or has just changed, or a system call is next or is over */
    long n, cap;
    long sleeps;  /* the step whose system call blocked and was woken, or -1 */
    int open_end; /* the path ends in a system call that blocks              */
} crash__path;

static inline void *crash__grow(void *p, long cap, size_t each)
{
    p = realloc(p, (size_t)cap * each);
    if (!p) {
        fprintf(stderr, "crashstep: out of memory\n");
        exit(2);
    }
    return p;
}

static inline void crash__path_add(crash__path *t, uint64_t pc, int want)
{
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 1024;
        t->pc = (uint64_t *)crash__grow(t->pc, t->cap, sizeof *t->pc);
        t->prev = (long *)crash__grow(t->prev, t->cap, sizeof *t->prev);
        t->want = (unsigned char *)crash__grow(t->want, t->cap, sizeof *t->want);
    }
    t->want[t->n] = (unsigned char)want;
    t->pc[t->n++] = pc;
}

static inline void crash__path_free(crash__path *t)
{
    free(t->pc);
    free(t->prev);
    free(t->want);
}

static inline uint64_t crash__mix(uint64_t h, const unsigned char *b)
{
    uint64_t w;
    memcpy(&w, b, 8);
    h = (h ^ w) * UINT64_C(0xff51afd7ed558ccd);
    return h ^ h >> 32;
}

/* Four chains at once: it runs after every step of a walk. */
static inline uint64_t crash__hash(const crash_run *r)
{
    uint64_t h[4] = { UINT64_C(0x9e3779b97f4a7c15), 1, 2, 3 };
    int i, j;
    for (i = 0; i < r->watches; i++) {
        const unsigned char *b = (const unsigned char *)r->watch[i].at;
        size_t n = r->watch[i].size;
        for (; n >= 32; n -= 32, b += 32)
            for (j = 0; j < 4; j++) h[j] = crash__mix(h[j], b + 8 * j);
        for (; n; n--, b++) h[0] = (h[0] ^ *b) * UINT64_C(0x100000001b3);
    }
    return h[0] ^ h[1] * 3 ^ h[2] * 5 ^ h[3] * 7;
}

/* One recorded step. Returns CRASH__AT while the window goes on. */
static inline crash__stop crash__walk_step(crash_run *r, crash__path *t, pid_t p, uint64_t *hash)
{
    long i = t->n - 1;
    int sys = crash__at_syscall(t->pc[i]);
    uint64_t h;
    crash__stop s = sys ? crash__go_syscall(p, PTRACE_SINGLESTEP) : crash__go(p, PTRACE_SINGLESTEP);
    if (s == CRASH__ASLEEP && r->op->wake && t->sleeps < 0) {
        t->sleeps = i;
        r->op->wake(r);
        s = crash__await(p, PTRACE_SINGLESTEP);
    }
    if (sys) t->want[i] = 1;
    if (s == CRASH__ASLEEP) t->open_end = 1;
    if (s != CRASH__AT) return s;
    if (crash__is_mark(p)) return CRASH__END;
    h = crash__hash(r);
    if (h != *hash) t->want[i] = 1; /* about to change something: what a stopped one believes may be out of date */
    crash__path_add(t, crash__pc(p), sys || h != *hash);
    *hash = h;
    return CRASH__AT;
}

/* Walks the whole window once. */
static inline int crash__walk(crash_run *r, crash__path *t)
{
    crash__stop s = CRASH__AT;
    uint64_t h;
    pid_t p = crash__spawn(r);
    t->sleeps = -1;
    if (p < 0) return -1;
    crash__limit(20 * crash__limit_of(r->op));
    h = crash__hash(r);
    crash__path_add(t, crash__pc(p), 1);
    while (s == CRASH__AT) s = crash__walk_step(r, t, p, &h);
    t->want[t->n - 1] = 1;
    crash__limit(0);
    if (s != CRASH__GONE) crash__kill(p, 1);
    if (r->op->teardown) r->op->teardown(r);
    if (s == CRASH__END || s == CRASH__ASLEEP) return 0;
    fprintf(stderr, "%s: the victim %s after %ld steps\n", r->op->name, s == CRASH__GONE ? "died by itself" : "hung",
            t->n - 1);
    return -1;
}

/* Fills prev[] in one pass with a small hash table. */
static inline void crash__path_index(crash__path *t)
{
    size_t cap = 1024, i;
    long k, *at;
    while (cap < (size_t)t->n * 2) cap *= 2;
    at = (long *)crash__grow(NULL, (long)cap, sizeof *at);
    for (i = 0; i < cap; i++) at[i] = -1;
    for (k = 0; k < t->n; k++) {
        i = (size_t)(t->pc[k] * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (cap - 1);
        while (at[i] >= 0 && t->pc[at[i]] != t->pc[k]) i = (i + 1) & (cap - 1);
        t->prev[k] = at[i];
        at[i] = k;
    }
    free(at);
}

/* The furthest step up to `to` that a breakpoint set now meets for the first time there; `from` if there is none. */
static inline long crash__hop_target(const crash__path *t, long from, long to)
{
    long j = to;
    while (j > from && t->prev[j] >= from) j--;
    return j;
}

static inline crash__stop crash__hop(const crash__path *t, pid_t p, long to)
{
    long saved;
    crash__stop s;
    if (crash__plant(p, t->pc[to], &saved)) return CRASH__ASLEEP;
    s = crash__go(p, PTRACE_CONT);
    if (s != CRASH__AT) return s;
    if (crash__pc(p) != t->pc[to] + CRASH_BREAK_LEN) return CRASH__END; /* another path: the end marker */
    return crash__unplant(p, t->pc[to], saved) ? CRASH__GONE : CRASH__AT;
}

/* The one step that sleeps: let it, wake it, go on. */
static inline crash__stop crash__step_asleep(crash_run *r, pid_t p)
{
    crash__stop s = crash__go_syscall(p, PTRACE_SINGLESTEP);
    if (s != CRASH__ASLEEP) return s;
    r->op->wake(r);
    return crash__await(p, PTRACE_SINGLESTEP);
}

/* Brings a fresh victim to k executed instructions. */
static inline crash__stop crash__reach(crash_run *r, const crash__path *t, pid_t p, long k, int steps_only)
{
    crash__stop s;
    long i = 0, j, to;
    while (i < k) {
        to = t->sleeps >= i && t->sleeps < k ? t->sleeps : k;
        j = steps_only ? i : crash__hop_target(t, i, to);
        s = j > i ? crash__hop(t, p, j) : CRASH__ASLEEP;
        if (s == CRASH__AT) {
            i = j;
            continue;
        }
        if (s != CRASH__ASLEEP) return s;
        s = i == t->sleeps ? crash__step_asleep(r, p) : crash__go(p, PTRACE_SINGLESTEP);
        if (s != CRASH__AT) return s;
        i++;
        if (crash__pc(p) != t->pc[i] && crash__is_mark(p)) return CRASH__END;
    }
    return CRASH__AT;
}

/* ---------------------------------------------------------------------------------------------
 * >>survivor  Run check() or done() so that nothing it does can hurt the sweep
 * ------------------------------------------------------------------------------------------- */

enum { CRASH__FINE, CRASH__HUNG, CRASH__DIED };

static inline int crash__inproc(crash_run *r, void (*fn)(crash_run *))
{
    int s = sigsetjmp(crash__guard, 1);
    if (!s) {
        crash__limit(crash__limit_of(r->op));
        crash__guarding = 1;
        fn(r);
    }
    crash__guarding = 0;
    crash__limit(0);
    if (s && s != SIGALRM) snprintf(r->page->why, sizeof r->page->why, "the survivor died of signal %d", s);
    return !s ? CRASH__FINE : s == SIGALRM ? CRASH__HUNG : CRASH__DIED;
}

static inline pid_t crash__fork(crash_run *r, void (*fn)(crash_run *))
{
    pid_t p = fork();
    if (p == 0) {
        static const int back[] = { SIGALRM, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
        size_t i;
        for (i = 0; i < CRASH_COUNT(back); i++) signal(back[i], SIG_DFL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        fn(r);
        fflush(NULL);
        _exit(0);
    }
    return p;
}

static inline int crash__join(crash_run *r, pid_t p)
{
    int st = 0;
    crash__limit(crash__limit_of(r->op));
    while (waitpid(p, &st, 0) < 0) {
        if (errno != EINTR) return CRASH__DIED;
        if (!crash__alarmed) continue;
        crash__limit(0);
        crash__kill(p, 1);
        return CRASH__HUNG;
    }
    crash__limit(0);
    if (WIFEXITED(st) && WEXITSTATUS(st) == 0) return CRASH__FINE;
    snprintf(r->page->why, sizeof r->page->why, "the survivor %s %d",
             WIFSIGNALED(st) ? "died of signal" : "exited with", WIFSIGNALED(st) ? WTERMSIG(st) : WEXITSTATUS(st));
    return CRASH__DIED;
}

static inline int crash__survive(crash_run *r, void (*fn)(crash_run *))
{
    pid_t p;
    if (r->op->flags & CRASH_INPROC) return crash__inproc(r, fn);
    p = crash__fork(r, fn);
    return p < 0 ? CRASH__DIED : crash__join(r, p);
}

/* CRASH_WAITING: a survivor that has said it is ready, and sleeps or has ended. */
static inline pid_t crash__start_waiting(crash_run *r)
{
    siginfo_t si;
    pid_t p = crash__fork(r, r->op->check);
    crash__limit(crash__limit_of(r->op));
    while (p > 0 && !crash__alarmed) {
        if (__atomic_load_n(&r->page->ready, __ATOMIC_ACQUIRE) && crash__proc_state(p) == 'S') break;
        si.si_pid = 0;
        if (!waitid(P_PID, (id_t)p, &si, WEXITED | WNOWAIT | WNOHANG) && si.si_pid == p) break;
        crash__nap();
    }
    crash__limit(0);
    return p;
}

/* ---------------------------------------------------------------------------------------------
 * >>sweep  All steps of one operation, state, role and mode
 * ------------------------------------------------------------------------------------------- */

static inline void crash__where(uint64_t pc, char *out, size_t n)
{
    extern const char __executable_start; /* of the linker: turns a program counter into what addr2line wants */
    uint64_t base = (uint64_t)(uintptr_t)&__executable_start;
    if (pc >= base && pc - base < UINT64_C(0x10000000))
        snprintf(out, n, "addr2line -fe PROGRAM 0x%llx", (unsigned long long)(pc - base));
    else
        snprintf(out, n, "0x%llx, outside the program", (unsigned long long)pc);
}

static inline const char *crash_mode_name(int mode)
{
    switch (mode) {
    case CRASH_KILL: return "kill";
    case CRASH_ZOMBIE: return "zombie";
    case CRASH_FREEZE: return "freeze";
    case CRASH_LATE: return "late";
    case CRASH_BLOCKED: return "blocked";
    default: return "waiting";
    }
}

static inline void crash__tell(const crash_run *r, const crash_result *res, uint64_t pc, const char *what)
{
    char where[80];
    if (r->op->flags & CRASH_QUIET) return;
    if (res->hang + res->lost + res->torn + res->twice + res->leaked + res->other > 5) return;
    crash__where(pc, where, sizeof where);
    printf("  %s/%s/%s/%s step %ld of %ld: %s (%s)\n", r->op->name, crash_state(r), crash_role(r),
           crash_mode_name(r->mode), r->k, res->steps, what, where);
}

static inline void crash__died(crash_run *r)
{
    crash_page *g = r->page;
    g->death_ns = crash_now_ns();
    __atomic_store_n(&g->dead, 1, __ATOMIC_RELEASE);
}

/* Adds up what one run left on the shared page. */
static inline void crash__tally(crash_run *r, crash_result *res, int how, uint64_t pc)
{
    crash_page *g = r->page;
    uint64_t bad;
    if (how == CRASH__FINE && !g->recovered_ns && !(g->lost + g->torn + g->twice + g->leaked + g->other))
        crash_complain(r, &g->other, "the survivor never said that it succeeded", 0);
    if (how == CRASH__DIED) g->other++;
    res->hang += how == CRASH__HUNG;
    res->lost += g->lost;
    res->torn += g->torn;
    res->twice += g->twice;
    res->leaked += g->leaked;
    res->other += g->other;
    res->seen |= g->seen;
    bad = g->lost + g->torn + g->twice + g->leaked + g->other;
    if (how == CRASH__HUNG || bad) crash__tell(r, res, pc, how == CRASH__HUNG ? "the survivor hung" : g->why);
    if (!g->recovered_ns || g->recovered_ns < g->death_ns) return; /* recovered already while the victim stood still */
    if (!(res->recoveries & (res->recoveries + 1)) || !res->recovery)
        res->recovery = (uint64_t *)crash__grow(res->recovery, 2 * (res->recoveries + 1), sizeof *res->recovery);
    res->recovery[res->recoveries++] = g->recovered_ns - g->death_ns;
}

/* A frozen victim goes on and has to come to its end, woken once if it sleeps. */
static inline crash__stop crash__finish(crash_run *r, const crash__path *t, pid_t p)
{
    crash__stop s;
    crash__limit(crash__limit_of(r->op));
    s = crash__go_syscall(p, PTRACE_CONT);
    if (s == CRASH__ASLEEP && r->op->wake) {
        r->op->wake(r);
        s = crash__await(p, PTRACE_CONT);
    }
    crash__limit(0);
    if (s == CRASH__ASLEEP && t->open_end) return CRASH__AT;
    return s;
}

/* The second half of CRASH_FREEZE and CRASH_LATE. */
static inline int crash__thaw(crash_run *r, const crash__path *t, pid_t p)
{
    int how = CRASH__FINE;
    if (r->mode == CRASH_LATE) {
        crash__kill(p, 1);
        crash__died(r);
    } else if (crash__finish(r, t, p) != CRASH__AT) {
        snprintf(r->page->why, sizeof r->page->why, "the frozen process did not come to its end");
        crash__kill(p, 1);
        return CRASH__DIED;
    }
    if (r->op->done) how = crash__survive(r, r->op->done);
    if (r->mode == CRASH_FREEZE) crash__kill(p, 1);
    return how;
}

/* The victim stands at step k: do what the mode says and look at the survivor. */
static inline int crash__strike(crash_run *r, const crash__path *t, pid_t p)
{
    pid_t s = 0;
    int how, st;
    if (r->mode == CRASH_FREEZE || r->mode == CRASH_LATE) {
        r->page->death_ns = crash_now_ns(); /* the clock of a survivor that nobody may delay */
        how = crash__survive(r, r->op->check);
        if (how == CRASH__FINE) return crash__thaw(r, t, p);
        crash__kill(p, 1);
        return how;
    }
    if (r->mode == CRASH_WAITING) s = crash__start_waiting(r);
    crash__kill(p, r->mode != CRASH_ZOMBIE);
    crash__died(r);
    how = s ? crash__join(r, s) : crash__survive(r, r->op->check);
    if (r->mode == CRASH_ZOMBIE)
        while (waitpid(p, &st, 0) < 0 && errno == EINTR) continue;
    return how;
}

/* Brings a victim to step k; steps a second one there if the first took another path. */
static inline pid_t crash__bring(crash_run *r, const crash__path *t, crash_result *res)
{
    crash__stop s;
    pid_t p = crash__spawn(r);
    if (p < 0) return -1;
    s = crash__reach(r, t, p, r->k, (r->op->flags & CRASH_STEP_ONLY) != 0);
    if (s == CRASH__END || s == CRASH__GONE) {
        crash__kill(p, 1);
        if (r->op->teardown) r->op->teardown(r);
        res->fallbacks++;
        p = crash__spawn(r);
        if (p < 0) return -1;
        s = crash__reach(r, t, p, r->k, 1);
    }
    if (r->mode == CRASH_BLOCKED) s = crash__go_syscall(p, PTRACE_CONT);
    crash__limit(0);
    if (r->mode != CRASH_BLOCKED || s == CRASH__ASLEEP) return p;
    fprintf(stderr, "%s: the victim did not fall asleep\n", r->op->name);
    crash__kill(p, 1);
    return -1;
}

static inline int crash__one(crash_run *r, const crash__path *t, crash_result *res, long k)
{
    pid_t p;
    r->k = k;
    p = crash__bring(r, t, res);
    if (p < 0) return -1;
    res->kills++;
    crash__tally(r, res, crash__strike(r, t, p), t->pc[k]);
    if (r->op->teardown) r->op->teardown(r);
    return 0;
}

/* The middle of a repeated string instruction: the same state but for one byte. */
static inline int crash__is_repeat(const crash__path *t, long k)
{
    return k > 1 && k + 1 < t->n && t->pc[k] == t->pc[k - 1] && t->pc[k] == t->pc[k + 1] &&
           t->pc[k - 1] == t->pc[k - 2];
}

static inline long crash__env(const char *name)
{
    const char *v = getenv(name);
    return v && *v ? strtol(v, NULL, 10) : 0;
}

static inline long crash__reverse_bits(long v, int bits)
{
    long out = 0;
    for (; bits; bits--, v >>= 1) out = out << 1 | (v & 1);
    return out;
}

/* The share of this case in the time of its program, 0 for all it needs; set by crash_main(). */
static long crash__share_ms;

/* Hanging survivors cost the whole limit each: a few of them are enough to know. */
#define CRASH_HANGS 5

/* However short the time of a case, this many steps of it are tried, and half as many where nothing shared changes. */
#define CRASH_LEAST 8

/* One pass over the steps where something shared has just changed (want 1), or over the others (want 0), in an order
 * that is spread evenly wherever it is cut off; the end comes first, so that every sweep has seen it. */
static inline int crash__pass(crash_run *r, const crash__path *t, crash_result *res, int want, long stride,
                              uint64_t end)
{
    long i, k, least = res->kills + (want ? CRASH_LEAST : CRASH_LEAST / 2);
    int bits = 0;
    while (1L << bits < t->n) bits++;
    if (want && crash__one(r, t, res, t->n - 1)) return -1;
    for (i = 0; i < 1L << bits && res->hang < CRASH_HANGS; i++) {
        if (res->kills >= least && crash_now_ns() >= end) break;
        k = crash__reverse_bits(i, bits);
        if (k >= t->n - 1 || t->want[k] != want || (!want && k % stride) || crash__is_repeat(t, k)) continue;
        if (crash__one(r, t, res, k)) return -1;
    }
    return 0;
}

/* All steps: first those where something shared changed, then the rest, until the budget is used. */
static inline int crash__all_steps(crash_run *r, const crash__path *t, crash_result *res)
{
    long stride = crash__env("CRASH_STRIDE"), budget = crash__env("CRASH_BUDGET_MS");
    uint64_t end = UINT64_MAX;
    if (stride < 1) stride = 1;
    if (!budget) budget = crash__share_ms;
    if (budget) end = crash_now_ns() + (uint64_t)budget * 1000000u;
    return crash__pass(r, t, res, 1, stride, end) || crash__pass(r, t, res, 0, stride, end) ? -1 : 0;
}

/* CRASH_BLOCKED: the one place, several times. */
static inline int crash__all_sleeps(crash_run *r, const crash__path *t, crash_result *res)
{
    long k = t->sleeps >= 0 ? t->sleeps : t->open_end ? t->n - 1 : -1;
    int i;
    if (k < 0) {
        if (!(r->op->flags & CRASH_QUIET)) fprintf(stderr, "%s: no system call blocked\n", r->op->name);
        return -1;
    }
    for (i = 0; i < 8; i++)
        if (crash__one(r, t, res, k)) return -1;
    return 0;
}

static inline int crash__by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static inline void crash__times(crash_result *res)
{
    long n = res->recoveries;
    if (!n) return;
    qsort(res->recovery, (size_t)n, sizeof *res->recovery, crash__by_size);
    res->worst_ns = res->recovery[n - 1];
    res->p999_ns = res->recovery[(n * 999 + 999) / 1000 - 1];
}

/* Signals of the harness: no SA_RESTART, the alarm has to interrupt waitpid. */
static inline void crash__signals(void)
{
    static const int caught[] = { SIGALRM, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
    struct sigaction sa;
    size_t i;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = crash__on_signal;
    for (i = 0; i < CRASH_COUNT(caught); i++) sigaction(caught[i], &sa, NULL);
}

/* One processor for all: a step is two switches and no interrupt between processors. */
static inline void crash__pin(cpu_set_t *before)
{
    cpu_set_t one;
    sched_getaffinity(0, sizeof *before, before);
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
}

static inline void crash__run_case(crash_run *r, crash_result *res)
{
    crash__path t;
    memset(&t, 0, sizeof t);
    res->broken = crash__walk(r, &t) != 0;
    if (!res->broken) {
        crash__path_index(&t);
        res->steps = t.n - 1;
        res->broken = (r->mode == CRASH_BLOCKED ? crash__all_sleeps(r, &t, res) : crash__all_steps(r, &t, res)) != 0;
    }
    crash__path_free(&t);
    if (res->broken || r->mode != CRASH_KILL || (res->seen & r->op->must_see) == r->op->must_see) return;
    res->broken = 1;
    if (r->op->flags & CRASH_QUIET) return;
    printf("  %s: outcomes met 0x%x, expected 0x%x: the sweep tests less than it says\n", r->op->name, res->seen,
           r->op->must_see);
}

static inline crash_result crash_sweep(const crash_op *op, int state, int role, int mode)
{
    crash_result res;
    crash_run r;
    cpu_set_t before;
    uint64_t t0 = crash_now_ns();
    memset(&res, 0, sizeof res);
    memset(&r, 0, sizeof r);
    r.op = op;
    r.state = state;
    r.role = role;
    r.mode = mode;
    r.page = (crash_page *)crash_shared(sizeof *r.page);
    crash__pin(&before);
    crash__signals();
    fflush(NULL);
    crash__run_case(&r, &res);
    crash__times(&res);
    munmap(r.page, sizeof *r.page);
    sched_setaffinity(0, sizeof before, &before);
    res.seconds = (double)(crash_now_ns() - t0) * 1e-9;
    return res;
}

static inline int crash_failed(const crash_result *res)
{
    return res->broken || !res->kills || res->hang + res->lost + res->torn + res->twice + res->leaked + res->other != 0;
}

#include "report.h"

#endif /* CRASHSTEP_H */
