/* explore.h - a model checker for the atomics of shmipc.h: every schedule, every allowed weak-memory read, every kill.
 *
 * A model is one program that includes the real header with its atomic wrappers replaced by calls into this file:
 *
 *     #include "explore.h"
 *     #define SHMIPC_IMPLEMENTATION
 *     #define SHMIPC_STATIC
 *     #define SHMIPC_ATOMICS_HEADER "explore_atomics.h"
 *     #define SHMIPC_OS_HEADER "explore_os.h"
 *     #include "../../shmipc.h"
 *
 *     static uint32_t flag, data, got;
 *     static void setup(void) { flag = 0; data = 0; got = 0; ex_name(&flag, 4, "flag"); ex_name(&data, 4, "data"); }
 *     static void writer(void *arg)
 *     {
 *         uint32_t v = 7;
 *         (void)arg;
 *         shmipc__copy_in(&data, &v, 4);
 *         shmipc__store_release_u32(&flag, 1);
 *     }
 *     static void reader(void *arg)
 *     {
 *         (void)arg;
 *         if (shmipc__load_acquire_u32(&flag)) shmipc__copy_out(&got, &data, 4);
 *     }
 *     static void final(void) { ex_assert(got == 0 || got == 7); }
 *     int main(int argc, char **argv)
 *     {
 *         ex_model m;
 *         ex_begin(argc, argv);
 *         ex_new(&m, "message passing", setup, final);
 *         ex_thread(&m, "writer", writer, NULL);
 *         ex_thread(&m, "reader", reader, NULL);
 *         ex_weaken_all(&m);     (the model, its canary, and every order weakened in turn; ex_run: the model only)
 *         return ex_end();
 *     }
 *
 * setup runs before every schedule, outside the threads, and must restore everything the threads touch, the model's own
 * variables included (static memory, always at the same addresses). final runs after the threads of a schedule ended.
 *
 * The model, before ex_run or ex_weaken_all:
 *   ex_thread(m, name, fn, arg)     adds a thread (a process, to the protocol) and returns its index
 *   ex_killable(m, thread, kills)   the thread may vanish at any step; at most `kills` deaths in one schedule, of all
 *   ex_stoppable(m, thread, stops)  the thread may freeze for ever and stay alive; the others must finish all the same
 *   ex_timeouts(m, n)               up to n timed futex waits may run out at any time
 *   ex_idle_timeouts(m, n)          when nothing can run, the timed waits run out, up to n times in one schedule
 *   m.bound = k                     at most k preemptions, all such schedules, no reduction (0: no bound, reduced)
 *   m.max_schedules, m.max_seconds  stop there and report "bound":"cut" (0: none; FULL=1 allows 20 times the seconds)
 *   ex_weaken_these(list, n)        like ex_weaken_all for several models: what one of them catches is caught
 *   ex_expect_not_caught(m, text, reason)  the weakening of the site whose source line contains text need not be caught
 *   ex_expect_elsewhere(m, text)    the same: another model of the program catches it; ex_end makes sure
 * In threads and final:
 *   ex_assert(expr)       a violation if false: the schedule is printed
 *   ex_is_dead(thread)    as the kernel's lock probe: true after a kill, and then all that the dead did is visible
 *   ex_self()             index of the running thread
 *   ex_ghost()            an event of its own, ordered with every other ex_ghost(): needed before a thread reads
 *                         variables of the model that another thread writes during the run (the reduction cannot see
 *                         plain variables); code up to the next atomic access runs at once with it
 *   ex_outcome(v)         (final) adds v to the set of results: m.outcomes, ex_seen(m, v)
 *   ex_name(p, n, name)   (setup) names n bytes at p in traces
 *
 * How it works, what it covers and what it leaves out: README.md beside this file. */
#ifndef EXPLORE_H
#define EXPLORE_H

#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE 1
#endif
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

/* Limits of one model. Reaching one ends the program with a message: nothing is dropped silently. */
#define EX_THREADS 8
#define EX_LOCS 248   /* distinct atomic words                       */
#define EX_HIST 120   /* stores to one word in one schedule          */
#define EX_MSGS 4096  /* stores in one schedule                      */
#define EX_DEPTH 4000 /* steps in one schedule                       */
#define EX_OPTS 128   /* choices of one step                         */
#define EX_EXPECTED 32 /* orders that a model need not catch          */
#define EX_STACK 65536
#define EX_GRAINS 8192 /* 4-byte words of atomics and payload         */
#define EX_SYNCS 64   /* fences, lives, locks, futex words           */

#define EX_UNUSED __attribute__((unused))

/* ---- types ---- */

/* Which stores and events a thread knows: a clock per thread (for data races) and the oldest readable store per
 * word. */
typedef struct { uint16_t w[EX_THREADS + EX_LOCS]; } __attribute__((aligned(16))) ex_view;
typedef int16_t ex_eight __attribute__((vector_size(16), may_alias)); /* all numbers are small: signed will do */

enum { EX_ACQ = 1, EX_REL = 2, EX_SC = 4 };

/* One call of a wrapper in the source. `drop` takes order bits away while the site is weakened. */
typedef struct ex_site {
    const char *file;
    int line;
    const char *op;
    int order;
    int drop;
    int hit;         /* number of the last run of a model that came here */
    unsigned models; /* which of the present ones did                     */
    int caught, wanted; /* weakened: some model of the program reported it; some model relies on that */
    struct ex_site *next;
} ex_site;

typedef void (*ex_fn)(void *arg);

typedef struct {
    const char *name;
    void (*setup)(void);
    void (*final)(void);
    int threads;
    const char *thread_name[EX_THREADS];
    ex_fn thread_fn[EX_THREADS];
    void *thread_arg[EX_THREADS];
    int killable[EX_THREADS], stoppable[EX_THREADS];
    int kills, stops, timeouts, idle_timeouts;
    int bound, naive, quiet, canary;
    int spin;            /* a pausing loop may go round without news so often before it is parked (default 0)    */
    int rereads;         /* any loop may read what it has read so often before it is parked (default 24)          */
    int max_depth;       /* steps in one schedule (default 1000)                                                  */
    uint64_t max_schedules;
    double max_seconds;
    int expected, expect_met[EX_EXPECTED];
    const char *expect_text[EX_EXPECTED], *expect_reason[EX_EXPECTED]; /* no reason: another model catches it */
    /* results */
    uint64_t schedules, redundant, spun, deep, steps, canary_reached;
    int violations, depth, cut, weakened, caught, failed;
    double seconds;
    const char *what;
    uint64_t *outcome;
    int outcomes;
} ex_model;

enum { EX_NONE, EX_LOAD, EX_STORE, EX_CAS, EX_RMW, EX_FENCE, EX_COPY, EX_WAIT, EX_WAKE, EX_SYNC, EX_RESUME, EX_EXIT };
enum { EX_RUN, EX_ASLEEP, EX_PARKED, EX_FINISHED, EX_DEAD, EX_STOPPED };
enum { EX_KILL = 0xfff0, EX_STOP, EX_TORN, EX_TIMEOUT, EX_ALL = 0xffff };

typedef struct {
    int kind, order, loc, sync, sync_write, size, fn, count;
    ex_site *site;
    void *to;
    const void *from;
    uint64_t value, expected;
} ex_op;

typedef struct {
    void *sp;
    char *stack;
    int state, dirty, idle_spins;
    ex_op op;
    uint64_t result;
    ex_view cur, acq, rel; /* known; known after an acquire fence; carried by relaxed stores since a release fence */
    uint16_t tc[EX_THREADS];                  /* trace clock: events that the next one depends on */
    uint16_t last[EX_LOCS], stamp[EX_LOCS];   /* store last read per word, and `progress` at that time */
    int8_t found[EX_SYNCS];                   /* the same for objects of the kernel */
    uint16_t found_stamp[EX_SYNCS];
    uint16_t progress, pause_progress, repeats, rereads;
} ex_proc;

typedef struct {
    uint64_t value;
    int tid, depth;
    uint16_t tc[EX_THREADS];
    ex_view view;
} ex_msg;

typedef struct {
    const void *addr;
    int size, run, n, reads, grain[2];
    uint16_t msg[EX_HIST];
    uint16_t ar[EX_THREADS], aw[EX_THREADS]; /* clock of the last atomic read and write of each thread */
} ex_loc;

typedef struct { /* four bytes of payload */
    uintptr_t key;
    int run, loc, wtid;
    uint16_t wclk, rclk[EX_THREADS];
} ex_grain;

/* Something of the kernel, or a fence: operations on one object are ordered; a pair is dependent unless both only
 * read. */
typedef struct {
    int run, writer, reads, state;
    uint16_t tw[EX_THREADS], tr[EX_THREADS];
    ex_view view;
} ex_sync;

/* A step of the schedule. To vanish is a process of its own, with bit EX_VANISH + thread in the masks: it is dependent
 * on the thread and on who probes it, and never has to happen. */
#define EX_VANISH 8
typedef struct {
    uint16_t enabled, avail, backtrack, done;
    uint8_t tid, vanish, running, nopt, iopt, preempts;
    uint16_t vslept;                  /* EX_VANISH bits: covered elsewhere */
    uint16_t slept[EX_THREADS];       /* choices below this store are covered elsewhere; EX_ALL: everything */
    uint16_t tc[EX_THREADS];          /* clock of the event */
    int prev_read, prev_sync;         /* earlier event that read the same word, the same object */
    uint16_t opt[EX_OPTS];
} ex_node;

static struct {
    ex_model *m;
    ex_proc proc[EX_THREADS];
    ex_loc loc[EX_LOCS];
    ex_msg msg[EX_MSGS];
    ex_grain grain[EX_GRAINS];
    ex_sync sync[EX_SYNCS];
    ex_node node[EX_DEPTH];
    const void *futex[EX_SYNCS];
    int locs, msgs, grains, syncs, vlen, max_msgs;
    uint16_t loc_hash[1024];
    int run, depth, replay, self, starting, trace, kills, stops, timeouts, idles, ended, serial;
    unsigned enabled; /* threads that can run */
    const char *violation;
    char message[512];
    void *main_sp;
    ex_site *sites;
    uint16_t next_slept[EX_THREADS];
    uint16_t next_vslept;
    struct { const char *p; size_t n; const char *name; } names[128];
    int nnames;
    const char *private_from, *private_to; /* memory that no other thread can reach: accesses are no steps */
    int models, failures, verbose;
    double patience; /* FULL=1: how much longer the limits of time are */
    const char *only, *report;
} ex;

/* Processor time: how busy the machine is makes no difference. */
EX_UNUSED static double ex_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
static void ex_die(const char *what)
{
    fprintf(stderr, "explore: %s (model %s)\n", what, ex.m ? ex.m->name : "?");
    exit(2);
}

/* ---- coroutines: switch stacks; threads of the model never run at the same time ---- */

#if defined(__x86_64__)
void ex_swap(void **save, void *load);
__asm__(".text\n.globl ex_swap\n.type ex_swap,@function\nex_swap:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n");
static void *ex_make(char *stack, void (*entry)(void))
{
    void **sp = (void **)(void *)(stack + EX_STACK - 64);
    memcpy(&sp[6], &entry, sizeof entry);
    return sp;
}
#elif defined(__aarch64__)
void ex_swap(void **save, void *load);
__asm__(".text\n.globl ex_swap\n.type ex_swap,%function\nex_swap:\n"
        "sub sp,sp,#160\nstp x19,x20,[sp]\nstp x21,x22,[sp,#16]\nstp x23,x24,[sp,#32]\nstp x25,x26,[sp,#48]\n"
        "stp x27,x28,[sp,#64]\nstp x29,x30,[sp,#80]\nstp d8,d9,[sp,#96]\nstp d10,d11,[sp,#112]\n"
        "stp d12,d13,[sp,#128]\nstp d14,d15,[sp,#144]\nmov x2,sp\nstr x2,[x0]\nmov sp,x1\n"
        "ldp x19,x20,[sp]\nldp x21,x22,[sp,#16]\nldp x23,x24,[sp,#32]\nldp x25,x26,[sp,#48]\n"
        "ldp x27,x28,[sp,#64]\nldp x29,x30,[sp,#80]\nldp d8,d9,[sp,#96]\nldp d10,d11,[sp,#112]\n"
        "ldp d12,d13,[sp,#128]\nldp d14,d15,[sp,#144]\nadd sp,sp,#160\nret\n");
static void *ex_make(char *stack, void (*entry)(void))
{
    void **sp = (void **)(void *)(stack + EX_STACK - 192);
    memcpy(&sp[11], &entry, sizeof entry);
    return sp;
}
#else
static void ex_swap(void **save, void *load)
{
    static ucontext_t pool[EX_THREADS + 1];
    static int used;
    if (!*save) *save = &pool[used++];
    swapcontext((ucontext_t *)*save, (ucontext_t *)load);
}
static void *ex_make(char *stack, void (*entry)(void))
{
    static ucontext_t made[EX_THREADS];
    ucontext_t *u = &made[ex.self];
    getcontext(u);
    u->uc_stack.ss_sp = stack;
    u->uc_stack.ss_size = EX_STACK;
    u->uc_link = NULL;
    makecontext(u, entry, 0);
    return u;
}
#endif

/* ---- views and clocks ---- */

static void ex_join(ex_view *a, const ex_view *b)
{
    ex_eight *x = (ex_eight *)a->w;
    const ex_eight *y = (const ex_eight *)b->w;
    int i, n = (ex.vlen + 7) / 8;
    for (i = 0; i < n; i++) {
        ex_eight greater = x[i] > y[i];
        x[i] = (x[i] & greater) | (y[i] & ~greater);
    }
}
static void ex_copy(ex_view *a, const ex_view *b)
{
    int i, n = (ex.vlen + 7) / 8;
    for (i = 0; i < n; i++) ((ex_eight *)a->w)[i] = ((const ex_eight *)b->w)[i];
}
static void ex_tjoin(uint16_t *a, const uint16_t *b)
{
    ex_eight x, y, greater;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    greater = x > y;
    x = (x & greater) | (y & ~greater);
    memcpy(a, &x, sizeof x);
}

/* ---- traces and violations ---- */

static const char *ex_where(const void *p)
{
    static char buf[4][96];
    static int turn;
    char *b = buf[turn++ & 3];
    int i;
    for (i = ex.nnames - 1; i >= 0; i--) {
        size_t off = (size_t)((const char *)p - ex.names[i].p);
        if ((const char *)p < ex.names[i].p || off >= ex.names[i].n) continue;
        if (off) snprintf(b, 96, "%s+%zu", ex.names[i].name, off);
        else snprintf(b, 96, "%s", ex.names[i].name);
        return b;
    }
    snprintf(b, 96, "%p", p);
    return b;
}
EX_UNUSED static void ex_name(const void *p, size_t n, const char *name)
{
    int i;
    for (i = 0; i < ex.nnames; i++)
        if (ex.names[i].p == p && ex.names[i].n == n) {
            ex.names[i].name = name;
            return;
        }
    if (ex.nnames == 128) ex_die("too many names");
    ex.names[i].p = (const char *)p;
    ex.names[i].n = n;
    ex.names[i].name = name;
    ex.nnames++;
}
static const char *ex_base(const char *file)
{
    const char *s = strrchr(file, '/');
    return s ? s + 1 : file;
}
#define EX_SAY(...)                                                                                                   \
    do {                                                                                                              \
        if (ex.trace) ex_say(t, __VA_ARGS__);                                                                         \
    } while (0)
static void ex_say(const ex_proc *t, const ex_site *site, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void ex_say(const ex_proc *t, const ex_site *site, const char *fmt, ...)
{
    char b[256];
    __builtin_va_list ap;
    __builtin_va_start(ap, fmt);
    vsnprintf(b, sizeof b, fmt, ap);
    __builtin_va_end(ap);
    printf("  %4d  %-10s %-62s", ex.depth, ex.m->thread_name[t - ex.proc], b);
    if (site) printf(" %s:%d%s", ex_base(site->file), site->line, site->drop ? " (weakened)" : "");
    printf("\n");
}
/* Ends the schedule at once: what runs is abandoned. */
static void ex_leave(void)
{
    void *lost = ex.proc[ex.self].sp;
    if (!ex.ended) ex.ended = 1;
    ex_swap(&lost, ex.main_sp);
}
static void ex_violate(const char *what)
{
    snprintf(ex.message, sizeof ex.message, "%s", what);
    ex.violation = ex.message;
    if (ex.self >= 0) ex_leave();
}
EX_UNUSED static void ex_fail_at(const char *expr, const char *file, int line)
{
    char b[400];
    snprintf(b, sizeof b, "assertion failed: %s  (%s:%d, %s)", expr, ex_base(file), line,
             ex.self >= 0 ? ex.m->thread_name[ex.self] : "final check");
    ex_violate(b);
}
#define ex_assert(e) ((e) ? (void)0 : ex_fail_at(#e, __FILE__, __LINE__))

/* ---- words and their histories ---- */

static ex_grain *ex_grain_of(uintptr_t key, int make)
{
    unsigned h = (unsigned)((key * 0x9E3779B97F4A7C15u) >> 40) % EX_GRAINS;
    while (ex.grain[h].key && ex.grain[h].key != key) h = (h + 1) % EX_GRAINS;
    if (!ex.grain[h].key) {
        if (!make) return NULL;
        if (++ex.grains > EX_GRAINS / 2) ex_die("too much payload memory");
        ex.grain[h].key = key;
        ex.grain[h].loc = -1;
        ex.grain[h].run = 0;
    }
    if (ex.grain[h].run != ex.run) {
        ex.grain[h].run = ex.run;
        ex.grain[h].wclk = 0;
        ex.grain[h].wtid = 0;
        memset(ex.grain[h].rclk, 0, sizeof ex.grain[h].rclk);
    }
    return &ex.grain[h];
}
static ex_msg *ex_append(ex_loc *x, uint64_t value, int tid)
{
    ex_msg *g = &ex.msg[ex.msgs];
    if (ex.msgs >= EX_MSGS || x->n >= EX_HIST) ex_die("too many stores in one schedule");
    g->value = value;
    g->tid = tid;
    g->depth = ex.depth;
    x->msg[x->n++] = (uint16_t)ex.msgs++;
    if (ex.msgs > ex.max_msgs) ex.max_msgs = ex.msgs;
    return g;
}
static uint64_t ex_memory(const void *p, int size)
{
    uint32_t a;
    uint64_t b;
    if (size == 4) return memcpy(&a, p, 4), a;
    return memcpy(&b, p, 8), b;
}
/* The history of a word begins with what memory held when it was first used in this schedule. */
static void ex_revive(ex_loc *x)
{
    ex_msg *g;
    x->run = ex.run;
    x->n = 0;
    x->reads = -1;
    memset(x->ar, 0, sizeof x->ar);
    memset(x->aw, 0, sizeof x->aw);
    g = ex_append(x, ex_memory(x->addr, x->size), -1);
    g->depth = -1;
    memset(g->view.w, 0, sizeof g->view.w[0] * (size_t)ex.vlen);
    memset(g->tc, 0, sizeof g->tc);
}
static void ex_widen(void)
{
    int i, at = ex.vlen++;
    for (i = 0; i < ex.max_msgs; i++) ex.msg[i].view.w[at] = 0;
    for (i = 0; i < EX_SYNCS; i++) ex.sync[i].view.w[at] = 0;
    for (i = 0; i < EX_THREADS; i++) {
        ex.proc[i].cur.w[at] = ex.proc[i].acq.w[at] = ex.proc[i].rel.w[at] = 0;
        ex.proc[i].stamp[ex.locs] = 0;
    }
}
static int ex_loc_of(const void *p, int size)
{
    unsigned h = (unsigned)(((uintptr_t)p * 0x9E3779B97F4A7C15u) >> 40) & 1023u;
    ex_loc *x;
    int i;
    for (; ex.loc_hash[h]; h = (h + 1) & 1023u) {
        x = &ex.loc[ex.loc_hash[h] - 1];
        if (x->addr != p) continue;
        if (x->size != size) ex_violate("a word is accessed with two sizes");
        if (x->run != ex.run) ex_revive(x);
        return ex.loc_hash[h] - 1;
    }
    if (ex.locs == EX_LOCS) ex_die("too many atomic words");
    if ((uintptr_t)p % (size_t)size) ex_violate("misaligned atomic access");
    ex_widen();
    x = &ex.loc[ex.locs];
    x->addr = p;
    x->size = size;
    for (i = 0; i < size / 4; i++) {
        ex_grain *g = ex_grain_of(((uintptr_t)p >> 2) + (uintptr_t)i, 1);
        g->loc = ex.locs;
        x->grain[i] = (int)(g - ex.grain);
    }
    ex_revive(x);
    ex.loc_hash[h] = (uint16_t)++ex.locs;
    return ex.locs - 1;
}
#define EX_SEEN(view, loc) ((view).w[EX_THREADS + (loc)])
#define EX_CLOCK(view, tid) ((view).w[tid])

/* ---- data races ---- */

static void ex_race_found(const ex_proc *t, const void *p, const char *what, int with)
{
    char b[300];
    snprintf(b, sizeof b, "data race: %s of %s by %s, unordered with %s", what, ex_where(p),
             ex.m->thread_name[t - ex.proc], ex.m->thread_name[with]);
    ex_violate(b);
}
static int ex_unordered(const ex_proc *t, const uint16_t *clk)
{
    int u, me = (int)(t - ex.proc);
    for (u = 0; u < ex.m->threads; u++)
        if (u != me && clk[u] > EX_CLOCK(t->cur, u)) return u;
    return -1;
}
/* An atomic access meets the payload accesses of the same bytes. */
static void ex_check_atomic(const ex_proc *t, ex_loc *x, int write)
{
    int i, u, me = (int)(t - ex.proc);
    for (i = 0; i < x->size / 4; i++) {
        ex_grain *g = &ex.grain[x->grain[i]];
        if (g->run != ex.run) continue;
        if (g->wtid != me && g->wclk > EX_CLOCK(t->cur, g->wtid))
            ex_race_found(t, x->addr, write ? "atomic write" : "atomic read", g->wtid);
        if (write && (u = ex_unordered(t, g->rclk)) >= 0) ex_race_found(t, x->addr, "atomic write", u);
    }
    (write ? x->aw : x->ar)[me] = EX_CLOCK(t->cur, me);
}
static void ex_check_payload(ex_proc *t, uintptr_t key, int write)
{
    ex_grain *g = ex_grain_of(key, 1);
    int u, me = (int)(t - ex.proc);
    const void *p = (const void *)(key << 2);
    const char *what = write ? "payload write" : "payload read";
    if (g->wtid != me && g->wclk > EX_CLOCK(t->cur, g->wtid)) ex_race_found(t, p, what, g->wtid);
    if (write && (u = ex_unordered(t, g->rclk)) >= 0) ex_race_found(t, p, what, u);
    if (g->loc >= 0 && ex.loc[g->loc].run == ex.run) {
        if ((u = ex_unordered(t, ex.loc[g->loc].aw)) >= 0) ex_race_found(t, p, what, u);
        if (write && (u = ex_unordered(t, ex.loc[g->loc].ar)) >= 0) ex_race_found(t, p, what, u);
    }
    if (write) {
        g->wtid = me;
        g->wclk = EX_CLOCK(t->cur, me);
    } else g->rclk[me] = EX_CLOCK(t->cur, me);
}
/* Payload written over atomic words becomes their newest store. */
static void ex_payload_stored(ex_proc *t, uintptr_t key)
{
    ex_grain *g = ex_grain_of(key, 1);
    ex_loc *x = g->loc >= 0 ? &ex.loc[g->loc] : NULL;
    ex_msg *m;
    if (!x || x->run != ex.run) return;
    m = ex_append(x, ex_memory(x->addr, x->size), (int)(t - ex.proc));
    EX_SEEN(t->cur, g->loc) = EX_SEEN(t->acq, g->loc) = (uint16_t)(x->n - 1);
    ex_copy(&m->view, &t->cur);
    memcpy(m->tc, t->tc, sizeof m->tc);
    m->depth = ex.depth - 1;
}
static void ex_payload(ex_proc *t, void *to, const void *from, size_t n, int write, ex_site *site)
{
    uintptr_t p = (uintptr_t)(write ? to : from), k;
    if (!n) return;
    for (k = p >> 2; k <= (p + n - 1) >> 2; k++) ex_check_payload(t, k, write);
    memcpy(to, from, n);
    for (k = p >> 2; write && k <= (p + n - 1) >> 2; k++) ex_payload_stored(t, k);
    EX_SAY(site, "%s %zu bytes, first word %08x", write ? "copy into" : "copy out of", n,
           (unsigned)(n >= 4 ? ex_memory(from, 4) : *(const unsigned char *)from));
}

/* ---- choices of a step ---- */

static ex_sync *ex_object(int i)
{
    ex_sync *s = &ex.sync[i];
    if (s->run != ex.run) {
        memset(s, 0, sizeof *s);
        s->run = ex.run;
        s->writer = s->reads = s->state = -1;
    }
    return s;
}
static int ex_life(int tid) { return 1 + tid; } /* object 0 is the fences' common view */
static int ex_futex_object(const void *p)
{
    int i;
    for (i = 0; i < ex.syncs; i++)
        if (ex.futex[i] == p) return 1 + EX_THREADS + i;
    if (1 + EX_THREADS + ex.syncs >= EX_SYNCS) ex_die("too many futex words and locks");
    ex.futex[ex.syncs] = p;
    return 1 + EX_THREADS + ex.syncs++;
}
static int ex_torn(int tid)
{
    const ex_op *op = &ex.proc[tid].op;
    return op->kind == EX_COPY && op->size > 4 && ex.kills < ex.m->kills;
}
/* Only the first step after something that others can notice: to vanish later, before the next such thing, is the
 * same. */
static int ex_may_vanish(int tid)
{
    return ex_torn(tid) || (ex.proc[tid].dirty && ((ex.m->killable[tid] && ex.kills < ex.m->kills) ||
                                                  (ex.m->stoppable[tid] && ex.stops < ex.m->stops)));
}
/* The choices of a load, CAS or wait are stores; they are covered below `slept`. */
static int ex_by_store(const ex_op *op)
{
    return op->kind == EX_LOAD || op->kind == EX_STORE || op->kind == EX_CAS || op->kind == EX_RMW ||
           op->kind == EX_WAIT;
}
static void ex_option(ex_node *n, int o)
{
    if (n->nopt == EX_OPTS) ex_die("too many choices in one step");
    n->opt[n->nopt++] = (uint16_t)o;
}
static void ex_store_options(ex_node *n, const ex_proc *t, int slept)
{
    const ex_op *op = &t->op;
    ex_loc *x = &ex.loc[op->loc];
    int i, low = EX_SEEN(t->cur, op->loc);
    if (op->kind == EX_STORE || op->kind == EX_RMW) low = x->n - 1;
    if (op->kind == EX_WAIT && ex_object(op->sync)->view.w[EX_THREADS + op->loc] > low)
        low = ex_object(op->sync)->view.w[EX_THREADS + op->loc];
    if (slept > low) low = slept;
    for (i = x->n - 1; i >= low; i--)
        if (op->kind != EX_CAS || i == x->n - 1 || ex.msg[x->msg[i]].value != op->expected) ex_option(n, i);
}
static int ex_sleepers(int sync)
{
    int i, k = 0;
    for (i = 0; i < ex.m->threads; i++) k += ex.proc[i].state == EX_ASLEEP && ex.proc[i].op.sync == sync;
    return k;
}
static void ex_vanish_options(ex_node *n, int tid)
{
    if (ex_torn(tid)) ex_option(n, EX_TORN);
    if (!ex.proc[tid].dirty) return;
    if (ex.m->killable[tid] && ex.kills < ex.m->kills) ex_option(n, EX_KILL);
    if (ex.m->stoppable[tid] && ex.stops < ex.m->stops) ex_option(n, EX_STOP);
}
static void ex_options(ex_node *n)
{
    const ex_proc *t = &ex.proc[n->tid];
    int k, slept = n->slept[n->tid];
    n->nopt = n->iopt = 0;
    if (n->vanish) {
        ex_vanish_options(n, n->tid);
        return;
    }
    if (ex_by_store(&t->op)) ex_store_options(n, t, slept);
    else {
        int choices = 1;
        if (t->op.kind == EX_WAKE && ex_sleepers(t->op.sync) > t->op.count) choices = ex_sleepers(t->op.sync);
        for (k = 0; k < choices; k++) ex_option(n, k);
    }
    if (t->op.kind == EX_WAIT && t->op.count && !slept && ex.timeouts < ex.m->timeouts) ex_option(n, EX_TIMEOUT);
}
static int ex_awake(const ex_node *n, int tid)
{
    const ex_op *op = &ex.proc[tid].op;
    return !n->slept[tid] || (ex_by_store(op) && n->slept[tid] != EX_ALL && ex.loc[op->loc].n > n->slept[tid]);
}

/* ---- the reduction: which orders of dependent events must also be tried ---- */

/* The event at node i and the present one of thread p do not commute, and nothing else orders them: some thread that
 * can begin "everything after i that does not depend on i, then the present event" must be tried at node i. */
static void ex_reverse(int i, int p)
{
    ex_node *n = &ex.node[i], *now = &ex.node[ex.depth];
    int first[EX_THREADS], j, r, u;
    unsigned initial = 0;
    for (r = 0; r < EX_THREADS; r++) first[r] = -1;
    for (j = i + 1; j < ex.depth; j++) {
        r = ex.node[j].tid;
        if (first[r] < 0 && ex.node[j].tc[n->tid] < n->tc[n->tid]) first[r] = j;
    }
    if (first[p] < 0) first[p] = ex.depth;
    for (r = 0; r < ex.m->threads; r++) {
        const ex_node *f = first[r] < 0 ? NULL : first[r] == ex.depth ? now : &ex.node[first[r]];
        if (!f) continue;
        for (u = 0; u < ex.m->threads; u++)
            if (u != r && first[u] >= 0 && first[u] != ex.depth && f->tc[u] >= ex.node[first[u]].tc[u]) break;
        if (u == ex.m->threads) initial |= 1u << (f->vanish ? r + EX_VANISH : r);
    }
    if (initial & n->backtrack) return;
    initial &= n->enabled;
    if (!initial) n->backtrack = n->enabled;
    else if (initial & (1u << p)) n->backtrack = (uint16_t)(n->backtrack | 1u << p);
    else n->backtrack = (uint16_t)(n->backtrack | (initial & (0u - initial)));
}
/* Collects the events that race with the present one; reversed when its clock is complete. */
static int ex_raced[EX_DEPTH], ex_nraced;
static void ex_raced_with(int i, const uint16_t *before, int p)
{
    const ex_node *n;
    if (i < 0 || ex.depth < ex.replay - 1) return;
    n = &ex.node[i];
    if (n->tid != p && before[n->tid] < n->tc[n->tid]) ex_raced[ex_nraced++] = i;
}
static void ex_touch(int sync, int write, int p, const uint16_t *before)
{
    ex_sync *s = ex_object(sync);
    ex_node *n = &ex.node[ex.depth];
    ex_proc *t = &ex.proc[p];
    int i;
    ex_raced_with(s->writer, before, p);
    ex_tjoin(t->tc, s->tw);
    if (!write) {
        n->prev_sync = s->reads;
        s->reads = ex.depth;
        ex_tjoin(s->tr, t->tc);
        return;
    }
    for (i = s->reads; i >= 0; i = ex.node[i].prev_sync) ex_raced_with(i, before, p);
    ex_tjoin(t->tc, s->tr);
    s->writer = ex.depth;
    s->reads = -1;
    ex_tjoin(s->tw, t->tc);
}
static void ex_wrote(ex_loc *x, int p, const uint16_t *before)
{
    int i;
    ex_msg *g = &ex.msg[x->msg[x->n - 1]];
    if (g->tid >= 0) ex_raced_with(g->depth, before, p);
    ex_tjoin(ex.proc[p].tc, g->tc);
    for (i = x->reads; i >= 0; i = ex.node[i].prev_read) ex_raced_with(i, before, p);
}

/* ---- what a step does ---- */

static void ex_read(ex_proc *t, ex_loc *x, int at, int order)
{
    ex_msg *g = &ex.msg[x->msg[at]];
    int loc = (int)(x - ex.loc);
    ex_check_atomic(t, x, 0);
    t->rereads++;
    if (t->last[loc] != at || !t->stamp[loc]) {
        t->progress++;
        t->rereads = 0;
    }
    t->last[loc] = (uint16_t)at;
    t->stamp[loc] = t->progress;
    EX_SEEN(t->cur, loc) = EX_SEEN(t->acq, loc) = (uint16_t)at;
    ex_join(&t->acq, &g->view);
    if (order & EX_ACQ) ex_join(&t->cur, &g->view);
    ex_tjoin(t->tc, g->tc);
}
static void ex_write(ex_proc *t, ex_loc *x, uint64_t value, int order, const ex_view *sequence)
{
    ex_msg *g = ex_append(x, value, (int)(t - ex.proc));
    int loc = (int)(x - ex.loc);
    uint32_t v = (uint32_t)value;
    ex_check_atomic(t, x, 1);
    EX_SEEN(t->cur, loc) = EX_SEEN(t->acq, loc) = (uint16_t)(x->n - 1);
    ex_copy(&g->view, order & EX_REL ? &t->cur : &t->rel);
    EX_SEEN(g->view, loc) = (uint16_t)(x->n - 1);
    if (sequence) ex_join(&g->view, sequence);
    memcpy(g->tc, t->tc, sizeof g->tc);
    if (x->size == 4) memcpy((void *)(uintptr_t)x->addr, &v, 4);
    else memcpy((void *)(uintptr_t)x->addr, &value, 8);
    t->progress++;
    t->rereads = 0;
    t->dirty = 1;
}
static uint64_t ex_apply(const ex_op *op, uint64_t old)
{
    uint64_t v = op->fn == 'x' ? op->value : op->fn == '+' ? old + op->value : op->fn == '|' ? old | op->value
                                                                                            : old & op->value;
    return op->size == 4 ? (uint32_t)v : v;
}
static void ex_memory_step(ex_proc *t, int p, int at, const uint16_t *before)
{
    const ex_op *op = &t->op;
    ex_loc *x = &ex.loc[op->loc];
    uint64_t seen = ex.msg[x->msg[at]].value, value = op->value;
    ex_view sequence;
    int swapped = op->kind == EX_CAS && at == x->n - 1 && seen == op->expected;
    int writes = op->kind == EX_STORE || op->kind == EX_RMW || swapped;
    const char *how = at == x->n - 1 ? "" : " (stale)";
    if (writes) ex_wrote(x, p, before);
    else {
        ex.node[ex.depth].prev_read = x->reads;
        x->reads = ex.depth;
        /* A CAS that fails might have succeeded before the newest store; a load could still read what was before it. */
        if (op->kind == EX_CAS) ex_raced_with(ex.msg[x->msg[x->n - 1]].depth, before, p);
    }
    if (op->kind != EX_STORE) {
        if (writes) ex_copy(&sequence, &ex.msg[x->msg[at]].view);
        ex_read(t, x, at, op->order);
    }
    t->result = seen;
    if (op->kind == EX_RMW) value = ex_apply(op, seen);
    if (writes) ex_write(t, x, value, op->order, op->kind == EX_STORE ? NULL : &sequence);
    if (!ex.trace) return;
    if (op->kind == EX_LOAD) {
        ex_say(t, op->site, "%s %s = %llx%s", op->site->op, ex_where(x->addr), (unsigned long long)seen, how);
    }
    if (op->kind == EX_STORE) {
        ex_say(t, op->site, "%s %s := %llx", op->site->op, ex_where(x->addr), (unsigned long long)value);
    }
    if (op->kind == EX_RMW)
        ex_say(t, op->site, "%s %s: %llx -> %llx", op->site->op, ex_where(x->addr), (unsigned long long)seen,
               (unsigned long long)value);
    if (op->kind == EX_CAS && writes)
        ex_say(t, op->site, "%s %s: %llx -> %llx", op->site->op, ex_where(x->addr), (unsigned long long)seen,
               (unsigned long long)value);
    if (op->kind == EX_CAS && !writes)
        ex_say(t, op->site, "%s %s fails: %llx, not %llx%s", op->site->op, ex_where(x->addr), (unsigned long long)seen,
               (unsigned long long)op->expected, how);
}
static void ex_fence_step(ex_proc *t)
{
    ex_sync *s = ex_object(0);
    ex_join(&t->acq, &s->view);
    ex_copy(&t->cur, &t->acq);
    ex_copy(&s->view, &t->cur);
    ex_copy(&t->rel, &t->cur);
    t->dirty = 1;
    EX_SAY(t->op.site, "fence");
}
static void ex_wait_step(ex_proc *t, int at)
{
    ex_sync *s = ex_object(t->op.sync);
    ex_loc *x = &ex.loc[t->op.loc];
    uint64_t seen;
    if (at == EX_TIMEOUT) {
        ex.timeouts++;
        t->result = 2;
        EX_SAY(t->op.site, "wait on %s times out", ex_where(x->addr));
        return;
    }
    ex.node[ex.depth].prev_read = x->reads;
    x->reads = ex.depth;
    seen = ex.msg[x->msg[at]].value;
    ex_join(&t->acq, &s->view);
    ex_join(&t->cur, &s->view);
    ex_read(t, x, at, 0);
    t->result = seen != t->op.expected;
    if (!t->result) {
        t->state = EX_ASLEEP;
        ex.enabled &= ~(1u << (t - ex.proc));
    }
    EX_SAY(t->op.site, "wait on %s = %llx: %s%s", ex_where(x->addr), (unsigned long long)seen,
           t->result ? "returns at once" : "sleeps", at == x->n - 1 ? "" : " (stale)");
}
static void ex_resume(ex_proc *t, uint64_t result)
{
    t->state = EX_RUN;
    t->op.kind = EX_RESUME;
    t->op.sync = -1;
    t->op.site = NULL;
    t->result = result;
    t->dirty = 1;
    t->progress++;
    ex.enabled |= 1u << (t - ex.proc);
}
static void ex_wake_step(ex_proc *t, int start)
{
    int i, k = 0, woken = 0, all = ex_sleepers(t->op.sync), sync = t->op.sync;
    ex_join(&ex_object(sync)->view, &t->cur);
    for (i = 0; i < ex.m->threads; i++) {
        ex_proc *u = &ex.proc[i];
        if (u->state != EX_ASLEEP || u->op.sync != sync) continue;
        if (all > t->op.count && (k++ - start + all) % all >= t->op.count) continue;
        ex_resume(u, 0);
        ex_join(&u->cur, &t->cur);
        ex_join(&u->acq, &t->cur);
        ex_tjoin(u->tc, t->tc);
        woken++;
    }
    t->result = (uint64_t)woken;
    t->dirty = 1;
    EX_SAY(t->op.site, "wake %s: %d of %d", ex_where(ex.futex[sync - 1 - EX_THREADS]), woken, all);
}
/* Remembers what a look at an object of the kernel found, as ex_read does for words. */
static void ex_looked(ex_proc *t, int sync, int found)
{
    if (t->found[sync] != found || !t->found_stamp[sync]) t->progress++;
    t->found[sync] = (int8_t)found;
    t->found_stamp[sync] = t->progress;
}
static void ex_sync_step(ex_proc *t, int p)
{
    ex_sync *s = ex_object(t->op.sync);
    int q = t->op.sync - 1;
    t->result = 0;
    if (t->op.fn == 'p') { /* probe */
        t->result = ex.proc[q].state == EX_DEAD;
        if (t->result) {
            ex_join(&t->cur, &s->view);
            ex_join(&t->acq, &s->view);
        }
        ex_looked(t, t->op.sync, (int)t->result);
        EX_SAY(t->op.site, "probe %s: %s", ex.m->thread_name[q], t->result ? "dead" : "alive");
    } else if (t->op.fn == 'l') { /* try to lock: state is the owner */
        if (s->state >= 0) t->result = 1;
        ex_looked(t, t->op.sync, s->state);
        if (s->state < 0) {
            s->state = p;
            t->progress++;
            t->dirty = 1;
            ex_join(&t->cur, &s->view);
            ex_join(&t->acq, &s->view);
        }
        EX_SAY(t->op.site, "lock %s: %s", ex_where(ex.futex[t->op.sync - 1 - EX_THREADS]),
               t->result ? "held" : "taken");
    } else if (t->op.fn == 'u') {
        if (s->state == p) s->state = -1;
        ex_join(&s->view, &t->cur);
        t->progress++;
        t->dirty = 1;
        EX_SAY(t->op.site, "unlock %s", ex_where(ex.futex[t->op.sync - 1 - EX_THREADS]));
    } else if (t->op.fn == 'q') { /* who holds it? If nobody, what the last holder did is visible */
        t->result = (uint64_t)(s->state + 1);
        ex_looked(t, t->op.sync, s->state);
        if (s->state < 0) {
            ex_join(&t->cur, &s->view);
            ex_join(&t->acq, &s->view);
        }
        EX_SAY(t->op.site, "query lock %s: %s", ex_where(ex.futex[t->op.sync - 1 - EX_THREADS]),
               s->state < 0 ? "free" : ex.m->thread_name[s->state]);
    } else if (t->op.fn == 'g') { /* nothing but an order */
        t->progress++;
        t->dirty = 1;
        EX_SAY(t->op.site, "ghost step");
    } else { /* 'r', 'w': a reading or changing system call */
        t->progress++;
        ex_join(&t->cur, &s->view);
        ex_join(&t->acq, &s->view);
        if (t->op.fn == 'w') {
            ex_join(&s->view, &t->cur);
            t->dirty = 1;
        }
        EX_SAY(t->op.site, "%s %s", t->op.site->op, ex_where(ex.futex[t->op.sync - 1 - EX_THREADS]));
    }
}
static void ex_vanish(ex_proc *t, int p, int how, const uint16_t *before)
{
    int i;
    ex.enabled &= ~(1u << p);
    if (how == EX_STOP) {
        ex.stops++;
        t->state = EX_STOPPED;
        EX_SAY(t->op.site, "STOPPED for ever before: %s", t->op.site ? t->op.site->op : "its end");
        return;
    }
    EX_SAY(t->op.site, "KILLED before: %s", t->op.site ? t->op.site->op : "its end");
    ex.kills++;
    t->state = EX_DEAD;
    ex_touch(ex_life(p), 1, p, before);
    ex_copy(&ex_object(ex_life(p))->view, &t->cur);
    for (i = 0; i < ex.syncs; i++) { /* the kernel frees the locks of the dead */
        ex_sync *s = ex_object(1 + EX_THREADS + i);
        if (s->state != p) continue;
        ex_touch(1 + EX_THREADS + i, 1, p, before);
        s->state = -1;
        ex_join(&s->view, &t->cur);
    }
}
/* Executes one choice of thread p. Its clock ticks first, so the objects it touches carry the event itself. */
static void ex_execute(int p, int option)
{
    ex_proc *t = &ex.proc[p];
    ex_node *n = &ex.node[ex.depth];
    uint16_t before[EX_THREADS];
    int i;
    memcpy(before, t->tc, sizeof before);
    t->tc[p]++;
    ex_nraced = 0;
    if (option == EX_TORN) ex_payload(t, t->op.to, t->op.from, (size_t)t->op.size / 2 & ~(size_t)3, 1, t->op.site);
    if (option == EX_KILL || option == EX_STOP || option == EX_TORN) ex_vanish(t, p, option, before);
    else {
        t->dirty = 0;
        if (t->op.sync >= 0) ex_touch(t->op.sync, t->op.sync_write, p, before);
        switch (t->op.kind) {
        case EX_LOAD: case EX_STORE: case EX_CAS: case EX_RMW: ex_memory_step(t, p, option, before); break;
        case EX_FENCE: ex_fence_step(t); break;
        case EX_COPY:
            ex_payload(t, t->op.to, t->op.from, (size_t)t->op.size, 1, t->op.site);
            t->dirty = 1;
            break;
        case EX_WAIT: ex_wait_step(t, option); break;
        case EX_WAKE: ex_wake_step(t, option); break;
        case EX_SYNC: ex_sync_step(t, p); break;
        case EX_EXIT:
            t->state = EX_FINISHED;
            ex.enabled &= ~(1u << p);
            break;
        default: break;
        }
    }
    /* What comes later is not covered by what was published: a new tick of the race clock. */
    EX_CLOCK(t->cur, p)++;
    EX_CLOCK(t->acq, p) = EX_CLOCK(t->cur, p);
    memcpy(n->tc, t->tc, sizeof n->tc);
    if (ex.m->naive || ex.m->bound) return;
    for (i = 0; i < ex_nraced; i++) ex_reverse(ex_raced[i], p);
}

/* ---- the scheduler ---- */

/* What is covered elsewhere stays so until a dependent event: computed from the state before the event of node n ... */
static void ex_cover(const ex_node *n)
{
    int u;
    ex.next_vslept = (uint16_t)(n->vslept | (n->done & ~((1u << EX_VANISH) - 1)));
    for (u = 0; u < ex.m->threads; u++) {
        const ex_op *op = &ex.proc[u].op;
        ex.next_slept[u] = n->slept[u];
        if (n->done >> u & 1) ex.next_slept[u] = ex_by_store(op) ? (uint16_t)ex.loc[op->loc].n : EX_ALL;
    }
}
/* ... and uncovered by it. Stores to a word need nothing here: they lie above what is covered. */
static void ex_uncover(int p, const ex_op *did, int option)
{
    int u, died = option == EX_KILL || option == EX_TORN;
    ex.next_slept[p] = 0;
    ex.next_vslept = (uint16_t)(ex.next_vslept & ~(1u << (p + EX_VANISH)));
    for (u = 0; u < ex.m->threads; u++) {
        const ex_op *op = &ex.proc[u].op;
        if (u == p) continue;
        if (op->sync >= 0 && (died ? op->sync == ex_life(p) || op->sync > EX_THREADS
                                   : op->sync == did->sync && (op->sync_write || did->sync_write)))
            ex.next_slept[u] = 0;
        if (did->kind == EX_SYNC && (did->sync == ex_life(u) || did->sync > EX_THREADS))
            ex.next_vslept = (uint16_t)(ex.next_vslept & ~(1u << (u + EX_VANISH)));
    }
}
/* Thread or EX_VANISH + thread is what runs at node n; the vanishing of a thread is tried wherever the thread is. */
static void ex_choose(ex_node *n, int who)
{
    n->vanish = who >= EX_VANISH;
    n->tid = (uint8_t)(who & (EX_VANISH - 1));
    if (!n->vanish) n->running = n->tid;
    n->backtrack = (uint16_t)(n->backtrack | 1u << who | 1u << (n->tid + EX_VANISH));
    n->nopt = n->iopt = 0;
}
static int ex_new_node(ex_node *n)
{
    const ex_node *up = ex.depth ? n - 1 : NULL;
    int u, last = up ? up->running : 0, full = ex.m->naive || ex.m->bound;
    unsigned threads = (1u << EX_VANISH) - 1;
    memset(n, 0, offsetof(ex_node, opt));
    n->running = (uint8_t)last;
    if (up && !full) {
        memcpy(n->slept, ex.next_slept, sizeof n->slept);
        n->vslept = ex.next_vslept;
    }
    for (u = 0; u < ex.m->threads; u++) {
        unsigned run = 1u << u, vanish = 1u << (u + EX_VANISH);
        if (!(ex.enabled & run)) continue;
        n->enabled = (uint16_t)(n->enabled | run | (ex_may_vanish(u) ? vanish : 0));
        if (!ex_awake(n, u)) run = 0;
        if (!ex_may_vanish(u) || (n->vslept & vanish)) vanish = 0;
        n->avail = (uint16_t)(n->avail | run | vanish);
    }
    if (up && ex.m->bound) {
        n->preempts = up->preempts;
        if (ex.depth > 1 && up[-1].running != up->running && (up->enabled >> up[-1].running & 1)) n->preempts++;
        if (n->preempts >= ex.m->bound && (n->enabled >> last & 1))
            n->avail = (uint16_t)(n->avail & ((1u << last) | ~threads));
    }
    if (!n->avail) return 0;
    ex_choose(n, (n->avail >> last & 1) ? last : __builtin_ctz(n->avail)); /* threads first */
    if (full) n->backtrack = n->avail;
    return 1;
}
/* Could the loop that t is parked in see something else by now? */
static int ex_has_news(const ex_proc *t)
{
    int i;
    for (i = 0; i < ex.locs; i++)
        if (t->stamp[i] == t->progress && ex.loc[i].run == ex.run && ex.loc[i].n - 1 > t->last[i]) return 1;
    for (i = 1; i < 1 + EX_THREADS + ex.syncs; i++) {
        int now = i <= EX_THREADS ? ex.proc[i - 1].state == EX_DEAD : ex_object(i)->state;
        if (t->found_stamp[i] == t->progress && now != t->found[i]) return 1;
    }
    return 0;
}
/* Everything that happened is before what an idle system does next. */
static void ex_barrier(void)
{
    int i;
    for (i = 1; i < ex.m->threads; i++) ex_tjoin(ex.proc[0].tc, ex.proc[i].tc);
    for (i = 1; i < ex.m->threads; i++) memcpy(ex.proc[i].tc, ex.proc[0].tc, sizeof ex.proc[i].tc);
}
static void ex_stuck(void)
{
    char b[400];
    int i, n = snprintf(b, sizeof b, "stuck, nobody can run:");
    for (i = 0; i < ex.m->threads; i++) {
        const ex_proc *t = &ex.proc[i];
        if (t->state != EX_ASLEEP && t->state != EX_PARKED) continue;
        n += snprintf(b + n, sizeof b - (size_t)n, " %s %s", ex.m->thread_name[i],
                      t->state == EX_ASLEEP ? "sleeps (lost wake-up?)" : "spins for ever");
        if (t->op.site) {
            n += snprintf(b + n, sizeof b - (size_t)n, " at %s:%d", ex_base(t->op.site->file), t->op.site->line);
        }
        n += snprintf(b + n, sizeof b - (size_t)n, ";");
        if (n > 300) break;
    }
    ex_violate(b);
}
/* Nobody can run. Returns 1 if that was changed. */
static int ex_idle(void)
{
    int i, asleep = 0, timed = 0, parked = 0;
    for (i = 0; i < ex.m->threads; i++) {
        ex_proc *t = &ex.proc[i];
        asleep += t->state == EX_ASLEEP;
        timed += t->state == EX_ASLEEP && t->op.count;
        parked += t->state == EX_PARKED;
        if (t->state == EX_PARKED && ex_has_news(t)) {
            ex.ended = 2;
            return 0;
        }
    }
    if (!asleep && !parked) return 0;
    ex_barrier();
    if (timed && ex.idles < ex.m->idle_timeouts) {
        ex.idles++;
        for (i = 0; i < ex.m->threads; i++)
            if (ex.proc[i].state == EX_ASLEEP && ex.proc[i].op.count) ex_resume(&ex.proc[i], 2);
        return 1;
    }
    for (i = 0; i < ex.m->threads; i++) {
        ex_proc *t = &ex.proc[i];
        if (t->state != EX_PARKED || t->idle_spins++ >= 64) continue;
        t->state = EX_RUN;
        t->repeats = t->rereads = 0;
        ex.enabled |= 1u << i;
    }
    if (!ex.enabled) ex_stuck();
    return ex.enabled != 0;
}
/* Chooses and executes one step. Returns the thread, or -1 at the end of the schedule. */
static int ex_pick(void)
{
    ex_node *n = &ex.node[ex.depth];
    int p, option, fresh = ex.depth >= ex.replay - 1;
    ex_op did;
    while (!ex.enabled && !ex.violation)
        if (!ex_idle()) return -1;
    if (ex.violation) return -1;
    if (ex.depth >= ex.m->max_depth) {
        ex.ended = 3;
        return -1;
    }
    if (ex.depth >= ex.replay && !ex_new_node(n)) {
        ex.ended = 4;
        return -1;
    }
    if (!n->nopt) ex_options(n);
    if (!n->nopt) ex_die("internal: a step without choices");
    p = n->tid;
    option = n->opt[n->iopt];
    if (fresh) ex_cover(n);
    did = ex.proc[p].op;
    ex_execute(p, option);
    if (fresh) ex_uncover(p, &did, option);
    ex.depth++;
    return ex.violation ? -1 : p;
}
/* Runs steps until one of them continues a thread, and goes there. Returns when the calling thread is to continue. */
static void ex_next(void)
{
    int me = ex.self, p;
    do {
        p = ex_pick();
        if (p < 0) {
            if (me >= 0) ex_leave();
            return;
        }
    } while (ex.proc[p].state != EX_RUN);
    if (p == me) return;
    ex.self = p;
    ex_swap(me < 0 ? &ex.main_sp : &ex.proc[me].sp, ex.proc[p].sp);
}
static uint64_t ex_do(const ex_op *op)
{
    ex_proc *t = &ex.proc[ex.self];
    t->op = *op;
    if (t->op.site && t->op.site->hit != ex.serial) {
        if (!t->op.site->hit) {
            t->op.site->next = ex.sites;
            ex.sites = t->op.site;
        }
        t->op.site->hit = ex.serial;
    }
    if (t->op.site) t->op.order &= ~t->op.site->drop;
    if (t->rereads > ex.m->rereads) {
        t->state = EX_PARKED;
        ex.enabled &= ~(1u << ex.self);
    }
    if (ex.starting) ex_swap(&t->sp, ex.main_sp);
    else ex_next();
    return t->result;
}
static void ex_entry(void)
{
    ex_op op;
    int me = ex.self;
    ex.m->thread_fn[me](ex.m->thread_arg[me]);
    if (ex.m->killable[me]) {
        memset(&op, 0, sizeof op);
        op.kind = EX_EXIT;
        op.sync = -1;
        ex_do(&op);
    }
    ex.proc[me].state = EX_FINISHED;
    ex.enabled &= ~(1u << me);
    if (ex.starting) ex_swap(&ex.proc[me].sp, ex.main_sp);
    ex_next();
    abort();
}

/* ---- what the wrappers call ---- */

static ex_op ex_op_of(int kind, ex_site *site)
{
    ex_op op;
    memset(&op, 0, sizeof op);
    op.kind = kind;
    op.site = site;
    op.order = site ? site->order : 0;
    op.sync = -1;
    return op;
}
static int ex_outside(const void *p)
{
    return ex.self < 0 || ((const char *)p >= ex.private_from && (const char *)p < ex.private_to);
}
EX_UNUSED static uint64_t ex_load(ex_site *site, const void *p, int size)
{
    ex_op op;
    if (ex_outside(p)) return ex_memory(p, size);
    op = ex_op_of(EX_LOAD, site);
    op.loc = ex_loc_of(p, size);
    return ex_do(&op);
}
static void ex_poke(void *p, int size, uint64_t v)
{
    uint32_t w = (uint32_t)v;
    memcpy(p, size == 4 ? (const void *)&w : (const void *)&v, (size_t)size);
}
EX_UNUSED static void ex_store(ex_site *site, void *p, int size, uint64_t v)
{
    ex_op op;
    if (ex_outside(p)) {
        ex_poke(p, size, v);
        return;
    }
    op = ex_op_of(EX_STORE, site);
    op.loc = ex_loc_of(p, size);
    op.value = v;
    ex_do(&op);
}
EX_UNUSED static uint64_t ex_rmw(ex_site *site, void *p, int size, int fn, uint64_t v)
{
    ex_op op = ex_op_of(EX_RMW, site);
    op.fn = fn;
    op.size = size;
    op.value = v;
    if (ex_outside(p)) {
        uint64_t old = ex_memory(p, size);
        ex_poke(p, size, ex_apply(&op, old));
        return old;
    }
    op.loc = ex_loc_of(p, size);
    return ex_do(&op);
}
EX_UNUSED static uint64_t ex_cas(ex_site *site, void *p, int size, uint64_t expected, uint64_t v)
{
    ex_op op = ex_op_of(EX_CAS, site);
    if (ex_outside(p)) {
        uint64_t old = ex_memory(p, size);
        if (old == expected) ex_poke(p, size, v);
        return old;
    }
    op.loc = ex_loc_of(p, size);
    op.expected = expected;
    op.value = v;
    return ex_do(&op);
}
EX_UNUSED static int ex_cas_u32(ex_site *site, uint32_t *p, uint32_t *expected, uint32_t v)
{
    uint32_t seen = (uint32_t)ex_cas(site, p, 4, *expected, v);
    if (seen == *expected) return 1;
    *expected = seen;
    return 0;
}
EX_UNUSED static int ex_cas_u64(ex_site *site, uint64_t *p, uint64_t *expected, uint64_t v)
{
    uint64_t seen = ex_cas(site, p, 8, *expected, v);
    if (seen == *expected) return 1;
    *expected = seen;
    return 0;
}
EX_UNUSED static void ex_fence(ex_site *site)
{
    ex_op op = ex_op_of(EX_FENCE, site);
    if (ex.self < 0) return;
    op.sync = 0;
    op.sync_write = 1;
    if (site->drop & EX_SC) return;
    ex_do(&op);
}
EX_UNUSED static void ex_copying(ex_site *site, void *to, const void *from, size_t n, int write)
{
    ex_op op;
    if (ex.self < 0) memcpy(to, from, n);
    else if (ex.m->killable[ex.self] && write) {
        op = ex_op_of(EX_COPY, site);
        op.to = to;
        op.from = from;
        op.size = (int)n;
        ex_do(&op);
    } else ex_payload(&ex.proc[ex.self], to, from, n, write, site);
}
EX_UNUSED static void ex_pause(void)
{
    ex_proc *t;
    ex_op op;
    if (ex.self < 0 || ex.starting) return;
    t = &ex.proc[ex.self];
    t->repeats = (uint16_t)(t->progress == t->pause_progress ? t->repeats + 1 : 0);
    t->pause_progress = t->progress;
    if (t->repeats <= ex.m->spin) return;
    op = ex_op_of(EX_RESUME, NULL);
    op.site = t->op.site;
    t->op = op;
    t->state = EX_PARKED;
    ex.enabled &= ~(1u << ex.self);
    if (ex.trace) ex_say(t, op.site, "waits in a loop");
    ex_next();
}
/* 0: woken, 1: the word was not `expected`, 2: timed out. */
EX_UNUSED static int ex_futex_wait(ex_site *site, const uint32_t *word, uint32_t expected, int64_t timeout_ns)
{
    ex_op op = ex_op_of(EX_WAIT, site);
    if (ex.self < 0) return *word == expected ? 2 : 1;
    op.loc = ex_loc_of(word, 4);
    op.sync = ex_futex_object(word);
    op.expected = expected;
    op.count = timeout_ns >= 0;
    return (int)ex_do(&op);
}
EX_UNUSED static int ex_futex_wake(ex_site *site, const uint32_t *word, int count)
{
    ex_op op = ex_op_of(EX_WAKE, site);
    if (ex.self < 0) return 0;
    op.sync = ex_futex_object(word);
    op.sync_write = 1;
    op.count = count;
    return (int)ex_do(&op);
}
static uint64_t ex_kernel(ex_site *site, int object, int fn, int write)
{
    ex_op op = ex_op_of(EX_SYNC, site);
    op.sync = object;
    op.sync_write = write;
    op.fn = fn;
    return ex_do(&op);
}
#define EX_SITE(name, order) {__FILE__, __LINE__, name, order, 0, 0, 0, 0, 0, NULL}
#define EX_SITE_HERE(n, name, order) static ex_site n = EX_SITE(name, order)
EX_UNUSED static int ex_dead_at(ex_site *site, int thread)
{
    if (ex.self < 0) return ex.proc[thread].state == EX_DEAD;
    return (int)ex_kernel(site, ex_life(thread), 'p', 0);
}
#define ex_is_dead(thread) (__extension__({ EX_SITE_HERE(ex_here, "probe", 0); ex_dead_at(&ex_here, (thread)); }))
/* Kernel locks, freed by death: 1 taken, 0 somebody holds it. `key` is any address that stands for the lock. */
EX_UNUSED static int ex_trylock(ex_site *site, const void *key)
{
    return ex.self < 0 || ex_kernel(site, ex_futex_object(key), 'l', 1) == 0;
}
EX_UNUSED static void ex_unlock(ex_site *site, const void *key)
{
    if (ex.self >= 0) ex_kernel(site, ex_futex_object(key), 'u', 1);
}
/* 0 free, else 1 + the thread that holds it. */
EX_UNUSED static int ex_holder(ex_site *site, const void *key)
{
    return ex.self < 0 ? 0 : (int)ex_kernel(site, ex_futex_object(key), 'q', 0);
}
EX_UNUSED static void ex_ghost(void)
{
    static int ghost;
    if (ex.self >= 0) ex_kernel(NULL, ex_futex_object(&ghost), 'g', 1);
}
EX_UNUSED static int ex_self(void) { return ex.self; }
EX_UNUSED static int ex_seen(const ex_model *m, uint64_t v)
{
    int i;
    for (i = 0; i < m->outcomes; i++)
        if (m->outcome[i] == v) return 1;
    return 0;
}
EX_UNUSED static void ex_outcome(uint64_t v)
{
    ex_model *m = ex.m;
    if (ex_seen(m, v)) return;
    if (m->outcomes % 64 == 0) {
        m->outcome = (uint64_t *)realloc(m->outcome, sizeof *m->outcome * (size_t)(m->outcomes + 64));
    }
    if (!m->outcome) ex_die("out of memory");
    m->outcome[m->outcomes++] = v;
}

/* ---- running a model ---- */

EX_UNUSED static void ex_new(ex_model *m, const char *name, void (*setup)(void), void (*final)(void))
{
    memset(m, 0, sizeof *m);
    m->name = name;
    m->setup = setup;
    m->final = final;
    m->rereads = 24;
    m->max_depth = 1000;
}
EX_UNUSED static int ex_thread(ex_model *m, const char *name, ex_fn fn, void *arg)
{
    if (m->threads == EX_THREADS) ex_die("too many threads");
    m->thread_name[m->threads] = name;
    m->thread_fn[m->threads] = fn;
    m->thread_arg[m->threads] = arg;
    return m->threads++;
}
EX_UNUSED static void ex_killable(ex_model *m, int thread, int kills)
{
    m->killable[thread] = 1;
    if (m->kills < kills) m->kills = kills;
}
EX_UNUSED static void ex_stoppable(ex_model *m, int thread, int stops)
{
    m->stoppable[thread] = 1;
    if (m->stops < stops) m->stops = stops;
}
EX_UNUSED static void ex_timeouts(ex_model *m, int n) { m->timeouts = n; }
EX_UNUSED static void ex_idle_timeouts(ex_model *m, int n) { m->idle_timeouts = n; }
EX_UNUSED static void ex_expect_not_caught(ex_model *m, const char *text, const char *reason)
{
    if (m->expected == EX_EXPECTED) ex_die("too many expectations");
    m->expect_text[m->expected] = text;
    m->expect_reason[m->expected++] = reason;
}
EX_UNUSED static void ex_expect_elsewhere(ex_model *m, const char *text) { ex_expect_not_caught(m, text, NULL); }
static void ex_fresh(void)
{
    int i;
    size_t view = sizeof(uint16_t) * (size_t)ex.vlen;
    ex.run++;
    ex.depth = ex.msgs = ex.kills = ex.stops = ex.timeouts = ex.idles = ex.ended = 0;
    ex.violation = NULL;
    ex.self = -1;
    ex.enabled = 0;
    for (i = 0; i < ex.m->threads; i++) {
        ex_proc *t = &ex.proc[i];
        memset(t->cur.w, 0, view);
        memset(t->acq.w, 0, view);
        memset(t->rel.w, 0, view);
        memset(t->tc, 0, sizeof t->tc);
        memset(t->stamp, 0, sizeof(uint16_t) * (size_t)ex.locs);
        memset(t->found_stamp, 0, sizeof t->found_stamp);
        t->state = EX_RUN;
        t->dirty = 1;
        t->progress = 1;
        t->idle_spins = t->pause_progress = t->repeats = t->rereads = 0;
        EX_CLOCK(t->cur, i) = EX_CLOCK(t->acq, i) = 1;
    }
}
/* One schedule: the choices of the nodes below ex.replay, then the first of everything. */
static void ex_once(void)
{
    int i;
    ex_fresh();
    ex.m->setup();
    ex.starting = 1;
    for (i = 0; i < ex.m->threads && !ex.violation; i++) {
        ex.self = i;
        ex.proc[i].sp = ex_make(ex.proc[i].stack, ex_entry);
        ex.enabled |= 1u << i;
        ex_swap(&ex.main_sp, ex.proc[i].sp);
    }
    ex.starting = 0;
    ex.self = -1;
    if (!ex.violation) ex_next();
    ex.self = -1;
}
static void ex_finish(ex_model *m)
{
    int i, all = 1;
    if (ex.violation) return;
    if (ex.ended == 2) m->spun++;
    if (ex.ended == 3) m->deep++;
    if (ex.ended == 4) m->redundant++;
    if (ex.ended >= 2) return;
    m->schedules++;
    for (i = 0; i < m->threads; i++) all &= ex.proc[i].state == EX_FINISHED;
    if (m->final) m->final();
    if (all) m->canary_reached++;
    if (all && m->canary && !ex.violation) ex_violate("canary: the final check was reached");
}
static int ex_backtrack(void)
{
    int d;
    for (d = ex.depth - 1; d >= 0; d--) {
        ex_node *n = &ex.node[d];
        unsigned todo;
        ex.replay = d + 1;
        if (++n->iopt < n->nopt) return 1;
        n->done = (uint16_t)(n->done | 1u << (n->tid + (n->vanish ? EX_VANISH : 0)));
        todo = n->backtrack & n->avail & ~(unsigned)n->done;
        if (!todo) continue;
        ex_choose(n, __builtin_ctz(todo));
        return 1;
    }
    return 0;
}
static void ex_show(ex_model *m)
{
    char what[sizeof ex.message];
    memcpy(what, ex.message, sizeof what);
    printf("VIOLATION in model '%s': %s\n", m->name, what);
    ex.trace = 1;
    ex.replay = ex.depth + 1;
    ex_once();
    if (!ex.violation && m->final) m->final();
    ex.trace = 0;
    memcpy(ex.message, what, sizeof what);
}
static void ex_reset(ex_model *m)
{
    int i;
    ex.m = m;
    ex.serial++;
    ex.locs = ex.grains = ex.syncs = ex.max_msgs = ex.nnames = ex.replay = 0;
    ex.vlen = EX_THREADS;
    memset(ex.loc_hash, 0, sizeof ex.loc_hash);
    memset(ex.grain, 0, sizeof ex.grain);
    for (i = 0; i < m->threads; i++)
        if (!ex.proc[i].stack && !(ex.proc[i].stack = (char *)malloc(EX_STACK))) ex_die("out of memory");
    m->schedules = m->redundant = m->spun = m->deep = m->steps = m->canary_reached = 0;
    m->violations = m->depth = m->cut = m->outcomes = 0;
}
/* Explores; stops at the first violation. */
static void ex_explore(ex_model *m)
{
    double start = ex_now();
    uint64_t runs = 0;
    ex_reset(m);
    do {
        ex_once();
        ex_finish(m);
        m->steps += (uint64_t)ex.depth;
        if (ex.depth > m->depth) m->depth = ex.depth;
        if (ex.violation) {
            m->violations++;
            if (!m->quiet) ex_show(m);
            break;
        }
        if (++runs == m->max_schedules) m->cut = 1;
        if (m->max_seconds > 0 && runs % 64 == 0 && ex_now() - start > m->max_seconds * ex.patience) m->cut = 1;
    } while (!m->cut && ex_backtrack());
    m->seconds = ex_now() - start;
    m->what = m->violations ? ex.message : NULL;
}
static void ex_bound_text(const ex_model *m, char *b, size_t n)
{
    if (m->cut) snprintf(b, n, "cut");
    else if (m->bound) snprintf(b, n, "%d preemptions", m->bound);
    else snprintf(b, n, "none");
}
static void ex_log(ex_model *m)
{
    char bound[32];
    FILE *f;
    ex.models++;
    ex_bound_text(m, bound, sizeof bound);
    if (!ex.report[0]) return;
    mkdir("build", 0777);
    mkdir("build/report", 0777);
    f = fopen(ex.report, "a");
    if (!f) return;
    fprintf(f, "{\"model\":\"%s\",\"schedules\":%llu,\"violations\":%d,\"canary_reached\":%llu,\"weakened\":%d,"
            "\"caught\":%d,\"bound\":\"%s\",\"depth\":%d,\"redundant\":%llu,\"seconds\":%.3f}\n",
            m->name, (unsigned long long)m->schedules, m->violations, (unsigned long long)m->canary_reached,
            m->weakened, m->caught, bound, m->depth, (unsigned long long)(m->redundant + m->spun), m->seconds);
    fclose(f);
}
static int ex_skip(const ex_model *m)
{
    if (ex.failures && getenv("MUTANT")) return 1; /* tools/mutate: caught, the rest is of no interest */
    return ex.only && !strstr(m->name, ex.only);
}
static void ex_judge(ex_model *m)
{
    char bound[32];
    ex_bound_text(m, bound, sizeof bound);
    if (m->violations || (m->final && !m->canary_reached) || m->deep) m->failed = 1;
    printf("%-4s %-44s %9llu schedules, %llu cut short, depth %d, bound %s, %.2f s (%.0f k steps/s)\n",
           m->failed ? "FAIL" : "ok",
           m->name, (unsigned long long)m->schedules, (unsigned long long)(m->redundant + m->spun + m->deep), m->depth,
           bound,
           m->seconds, (double)m->steps / 1e3 / (m->seconds > 1e-9 ? m->seconds : 1e-9));
    if (!m->violations && m->deep) {
        printf("     %llu schedules exceeded %d steps\n", (unsigned long long)m->deep, m->max_depth);
    }
    if (!m->violations && m->final && !m->canary_reached) printf("     no schedule in which all threads finish\n");
    fflush(stdout);
}
/* The same exploration with a final check that always fails must report it. */
static void ex_canary(ex_model *m)
{
    ex_model c = *m;
    c.canary = 1;
    c.quiet = 1;
    c.outcome = NULL;
    ex_explore(&c);
    if (c.violations && strstr(ex.message, "canary")) return;
    printf("     the canary was not reported: %s\n", c.violations ? ex.message : "no violation");
    m->failed = 1;
}
EX_UNUSED static int ex_run_only(ex_model *m)
{
    if (ex_skip(m)) return 0;
    ex_explore(m);
    ex_judge(m);
    if (!m->failed) ex_canary(m);
    return m->failed;
}
EX_UNUSED static int ex_run(ex_model *m)
{
    if (ex_skip(m)) return 0;
    ex_run_only(m);
    ex_log(m);
    ex.failures += m->failed;
    return m->failed;
}
/* A planted error: exploring must report a violation whose text contains `text`. */
EX_UNUSED static int ex_must_fail(ex_model *m, const char *text)
{
    if (ex_skip(m)) return 0;
    m->quiet = !ex.verbose;
    ex_explore(m);
    m->weakened = 1;
    m->caught = m->violations && strstr(ex.message, text);
    m->failed = !m->caught;
    printf("%-4s %-44s planted: %s after %llu schedules, %.2f s: %s\n", m->failed ? "FAIL" : "ok", m->name,
           m->violations ? "found" : "NOT FOUND", (unsigned long long)m->schedules, m->seconds,
           m->violations ? ex.message : "");
    m->violations = 0;
    ex_log(m);
    ex.failures += m->failed;
    return m->failed;
}

/* ---- weakening every order in turn ---- */

static const char *ex_source(const ex_site *site)
{
    static char line[400];
    FILE *f = fopen(site->file, "r");
    int i;
    char *s;
    snprintf(line, sizeof line, "?");
    for (i = 0; f && i < site->line && fgets(line, sizeof line, f); i++) continue;
    if (f) fclose(f);
    line[strcspn(line, "\n")] = 0;
    for (s = line; *s == ' '; s++) continue;
    return s;
}
/* Tries the models that come across the site until one reports a violation. */
static int ex_weak_caught(ex_model *const *m, int n, ex_site *site, int drop, int *cut)
{
    int i, caught = 0;
    site->drop = drop;
    for (i = 0; i < n && !caught; i++) {
        ex_model w = *m[i];
        if (!(site->models >> i & 1)) continue;
        w.quiet = 1;
        w.outcome = NULL;
        if (!(w.max_seconds > 0) || w.max_seconds > 10) w.max_seconds = 10;
        ex_explore(&w);
        m[i]->seconds += w.seconds;
        caught = w.violations > 0;
        *cut |= w.cut;
    }
    site->drop = 0;
    return caught;
}
static void ex_weaken_one(ex_model *const *m, int n, ex_site *site, int drop, const char *how, int required)
{
    const char *text = ex_source(site);
    int i, k, cut = 0, caught = ex_weak_caught(m, n, site, drop, &cut);
    const char *reason = NULL;
    for (i = 0; !caught && required && i < n; i++)
        for (k = 0; k < m[i]->expected; k++) {
            if (!strstr(text, m[i]->expect_text[k])) continue;
            reason = m[i]->expect_reason[k];
            if (!reason) reason = "another model catches it";
            site->wanted |= !m[i]->expect_reason[k];
            m[i]->expect_met[k]++;
        }
    if (required) site->caught |= caught;
    if (!reason && required) {
        m[0]->weakened++;
        m[0]->caught += caught;
        m[0]->failed |= !caught;
    }
    printf("     %-10s %s:%-5d %-14s %.100s\n", caught ? "caught" : reason ? "expected" : required ? "NOT CAUGHT" : "-",
           ex_base(site->file), site->line, how, text);
    if (reason) printf("                not caught because: %s\n", reason);
    if (!caught && cut) printf("                (exploration cut)\n");
    if (caught && ex.verbose) printf("                %s\n", ex.message);
    fflush(stdout);
}
static int ex_by_line(const void *a, const void *b)
{
    const ex_site *x = *(ex_site *const *)a, *y = *(ex_site *const *)b;
    int c = strcmp(x->file, y->file);
    return c ? c : x->line - y->line;
}
static int ex_base_runs(ex_model *const *m, int n)
{
    int i, ok = 1;
    ex_site *s;
    for (s = ex.sites; s; s = s->next) s->models = 0;
    for (i = 0; i < n && (ok || !getenv("MUTANT")); i++) { /* tools/mutate: one that fails is enough */
        int first = ex.serial + 1;
        ok &= !ex_run_only(m[i]);
        for (s = ex.sites; s; s = s->next)
            if (s->hit >= first) s->models |= 1u << i;
    }
    return ok;
}
static void ex_expectations_met(const ex_model *m, int *failed)
{
    int i;
    for (i = 0; i < m->expected; i++) {
        if (m->expect_met[i]) continue;
        *failed = 1;
        printf("     every site with '%s' was caught, or there is none: take the expectation away\n",
               m->expect_text[i]);
    }
}
/* Runs the models, their canaries, and again with each order that is stronger than relaxed made relaxed, and each fence
 * removed, until one model reports it. The halves of acquire-release operations are reported too, but need not be
 * caught: the wrappers offer no such half. */
EX_UNUSED static int ex_weaken_these(ex_model *const *m, int n)
{
    ex_site *list[512], *s;
    int i, sites = 0;
    double base = 0;
    if (ex_skip(m[0])) return 0;
    if (ex_base_runs(m, n) && !getenv("MUTANT")) { /* tools/mutate: does the header as it is pass or not */
        for (i = 0; i < n; i++) base += m[i]->seconds;
        for (s = ex.sites; s && sites < 512; s = s->next)
            if (s->models && s->order) list[sites++] = s;
        qsort(list, (size_t)sites, sizeof list[0], ex_by_line);
        for (i = 0; i < sites; i++) {
            s = list[i];
            if (s->order == EX_SC) ex_weaken_one(m, n, s, EX_SC, "no fence", 1);
            else ex_weaken_one(m, n, s, EX_ACQ | EX_REL, "relaxed", 1);
            if (s->order == (EX_ACQ | EX_REL) && base < 0.5) {
                ex_weaken_one(m, n, s, EX_ACQ, "release only", 0);
                ex_weaken_one(m, n, s, EX_REL, "acquire only", 0);
            }
        }
        for (i = 0; i < n; i++) ex_expectations_met(m[i], &m[0]->failed);
        printf("%-4s %-44s %d weakened, %d caught\n", m[0]->failed ? "FAIL" : "ok", m[0]->name, m[0]->weakened,
               m[0]->caught);
    }
    for (i = 0; i < n; i++) {
        ex_log(m[i]);
        ex.failures += m[i]->failed;
    }
    return m[0]->failed;
}
EX_UNUSED static int ex_weaken_all(ex_model *m) { return ex_weaken_these(&m, 1); }
EX_UNUSED static void ex_begin(int argc, char **argv)
{
    int i;
    const char *r = getenv("EX_REPORT");
    ex.patience = getenv("FULL") ? 20 : 1;
    ex.report = r ? r : "build/report/model.jsonl";
    ex.self = -1;
    for (i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-v")) ex.verbose = 1;
        else ex.only = argv[i];
    }
}
EX_UNUSED static int ex_end(void)
{
    ex_site *s;
    for (s = ex.sites; s; s = s->next) {
        if (!s->wanted || s->caught) continue;
        printf("FAIL no model of this program catches the weakened %s:%d %s\n", ex_base(s->file), s->line,
               ex_source(s));
        ex.models++;
        ex.failures++;
    }
    printf("%d passed, %d failed\n", ex.models - ex.failures, ex.failures);
    return ex.failures != 0;
}

#endif
