/* The explorer's own tests: litmus programs with known sets of results, planted classical errors, random programs.
 * Statement checked: a checker that never caught a planted bug has not been tested (DESIGN section 10). */
#include "explore.h"
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#define SHMIPC_RINGS_ONLY
#define SHMIPC_ATOMICS_HEADER "explore_atomics.h"
#include "../../shmipc.h"

static uint32_t x, y, z, w;
static uint32_t r[8];
static uint64_t cell[2];
static int variant;

static void zero(void)
{
    x = y = z = w = 0;
    memset(r, 0, sizeof r);
    cell[0] = cell[1] = 0;
    ex_name(cell, sizeof cell, "payload");
    ex_name(&x, 4, "x");
    ex_name(&y, 4, "y");
    ex_name(&z, 4, "z");
    ex_name(&w, 4, "w");
}
static uint32_t ld(const uint32_t *p)
{
    return variant == 1 ? shmipc__load_acquire_u32(p) : shmipc__load_relaxed_u32(p);
}
static void st(uint32_t *p, uint32_t v)
{
    if (variant == 1) shmipc__store_release_u32(p, v);
    else shmipc__store_relaxed_u32(p, v);
}
static void mid(void)
{
    if (variant == 2) shmipc__fence_seq_cst();
}
static void pack(void)
{
    int i;
    uint64_t v = 0;
    for (i = 0; i < 8; i++) v = v << 4 | (r[i] & 15);
    ex_outcome(v);
}
#define T(name) static void name(void *arg)

/* ---- litmus tests: variant 0 relaxed, 1 release/acquire, 2 relaxed with full fences in the middle ---- */

T(sb0) { (void)arg; st(&x, 1); mid(); r[0] = ld(&y); }
T(sb1) { (void)arg; st(&y, 1); mid(); r[1] = ld(&x); }
T(mp0) { (void)arg; st(&x, 1); mid(); st(&y, 1); }
T(mp1) { (void)arg; r[0] = ld(&y); mid(); r[1] = ld(&x); }
T(lb0) { (void)arg; r[0] = ld(&x); mid(); st(&y, 1); }
T(lb1) { (void)arg; r[1] = ld(&y); mid(); st(&x, 1); }
T(corr0) { (void)arg; st(&x, 1); }
T(corr1) { (void)arg; r[0] = ld(&x); r[1] = ld(&x); }
T(corr2) { (void)arg; st(&x, 2); }
T(corr3) { (void)arg; r[2] = ld(&x); r[3] = ld(&x); }
T(w22a) { (void)arg; st(&x, 1); mid(); st(&y, 2); }
T(w22b) { (void)arg; st(&y, 1); mid(); st(&x, 2); }
T(wrc0) { (void)arg; st(&x, 1); }
T(wrc1) { (void)arg; r[0] = ld(&x); mid(); st(&y, 1); }
T(wrc2) { (void)arg; r[1] = ld(&y); mid(); r[2] = ld(&x); }
T(ir0) { (void)arg; st(&x, 1); }
T(ir1) { (void)arg; st(&y, 1); }
T(ir2) { (void)arg; r[0] = ld(&x); mid(); r[1] = ld(&y); }
T(ir3) { (void)arg; r[2] = ld(&y); mid(); r[3] = ld(&x); }
T(rs0) { (void)arg; st(&x, 1); shmipc__store_release_u32(&y, 1); }
T(rs1) { uint32_t e = 1; (void)arg; shmipc__cas_relaxed_u32(&y, &e, 2); }
T(rs2) { (void)arg; r[0] = shmipc__load_acquire_u32(&y); r[1] = ld(&x); }
T(add0) { (void)arg; r[0] = shmipc__add_acqrel_u32(&x, 1); }
T(add1) { (void)arg; r[1] = shmipc__add_acqrel_u32(&x, 1); }
T(add2) { (void)arg; r[2] = shmipc__add_acqrel_u32(&x, 1); }
static void pack_memory(void) { r[6] = x; r[7] = y; pack(); }

/* Runs the three variants; `want` is the number of results of each, `weak` a result (or 0) and who allows it (bits). */
static void litmus(const char *name, const int *want, uint64_t weak, int allowed, void (*final)(void), ex_fn a, ex_fn b,
                   ex_fn c, ex_fn d)
{
    static const char *const kind[] = {"relaxed", "release/acquire", "fences"};
    static char title[64][64];
    static int titles;
    for (variant = 0; variant < 3; variant++) {
        ex_model m;
        char *t = title[titles++];
        snprintf(t, 64, "%s, %s", name, kind[variant]);
        ex_new(&m, t, zero, final);
        ex_thread(&m, "P0", a, NULL);
        ex_thread(&m, "P1", b, NULL);
        if (c) ex_thread(&m, "P2", c, NULL);
        if (d) ex_thread(&m, "P3", d, NULL);
        if (ex_skip(&m)) continue;
        ex_run_only(&m);
        if (m.outcomes != want[variant] || (weak && ex_seen(&m, weak) != (allowed >> variant & 1))) {
            printf("FAIL %s: %d results, expected %d; weak result %s\n", t, m.outcomes, want[variant],
                   ex_seen(&m, weak) ? "seen" : "not seen");
            m.failed = 1;
        }
        ex_log(&m);
        ex.failures += m.failed;
    }
    variant = 0;
}
#define R4(a, b, c, d) ((uint64_t)(a) << 28 | (uint64_t)(b) << 24 | (uint64_t)(c) << 20 | (uint64_t)(d) << 16)
static void all_litmus(void)
{
    static const int sb[] = {4, 4, 3}, mp[] = {4, 3, 3}, lb[] = {3, 3, 3}, w22[] = {3, 3, 3};
    static const int wrc[] = {8, 7, 7}, iriw[] = {16, 16, 15}, add[] = {6, 6, 6};
    /* Coherence: a reader's pair must not go back in the order of the two stores: 6 pairs for each order, 5 fit both;
     * two readers agree on one order: 36 + 36 - 25. */
    static const int corr[] = {47, 47, 47}, rs[] = {4, 4, 4};
    litmus("store buffering", sb, 0, 0, pack, sb0, sb1, NULL, NULL);
    litmus("message passing", mp, R4(1, 0, 0, 0), 1, pack, mp0, mp1, NULL, NULL);
    litmus("load buffering (1,1 left out)", lb, R4(1, 1, 0, 0), 0, pack, lb0, lb1, NULL, NULL);
    litmus("coherence of reads", corr, R4(1, 2, 2, 1), 0, pack, corr0, corr2, corr1, corr3);
    litmus("2+2W (1,1 left out)", w22, 0x11, 0, pack_memory, w22a, w22b, NULL, NULL);
    litmus("write-read causality", wrc, R4(1, 1, 0, 0), 1, pack, wrc0, wrc1, wrc2, NULL);
    litmus("IRIW", iriw, R4(1, 0, 1, 0), 3, pack, ir0, ir1, ir2, ir3);
    litmus("release sequence", rs, R4(2, 0, 0, 0), 0, pack, rs0, rs1, rs2, NULL);
    litmus("three increments", add, 0, 0, pack, add0, add1, add2, NULL);
}


/* ---- random programs: the reduced search must find exactly the results of the full one ---- */

static struct { int op, var, val, reg; } code[4][6];
static int length;
static uint64_t seed;
static uint32_t *const var[] = {&x, &y, &z};
static uint64_t trail[4];

static unsigned rnd(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}
static uint32_t step(int op, uint32_t *p, uint32_t v, int other)
{
    uint32_t e = v - 1, old = e;
    switch (op) {
    case 0: return shmipc__load_relaxed_u32(p);
    case 1: return shmipc__load_acquire_u32(p);
    case 2: shmipc__store_relaxed_u32(p, v); return 9;
    case 3: shmipc__store_release_u32(p, v); return 9;
    case 4: shmipc__cas_acqrel_u32(p, &e, v); return e == old ? 8 : e;
    case 5: shmipc__cas_relaxed_u32(p, &e, v); return e == old ? 8 : e;
    case 6: return shmipc__add_acqrel_u32(p, 1);
    case 7: shmipc__fence_seq_cst(); return 9;
    case 8: return (uint32_t)ex_is_dead(other);
    case 9: { EX_SITE_HERE(s, "wait", 0); return (uint32_t)ex_futex_wait(&s, p, v, 1); }
    case 10: { EX_SITE_HERE(s, "wake", 0); return (uint32_t)ex_futex_wake(&s, p, 1); }
    case 11: { EX_SITE_HERE(s, "lock", 0); return (uint32_t)ex_trylock(&s, p); }
    default: { EX_SITE_HERE(s, "unlock", 0); ex_unlock(&s, p); return 9; }
    }
}
T(run_code)
{
    int me = (int)(intptr_t)arg, i;
    for (i = 0; i < length; i++)
        trail[me] = trail[me] * 11 + step(code[me][i].op, var[code[me][i].var], (uint32_t)code[me][i].val,
                                          code[me][i].reg);
}
static const ex_model *reduced; /* its results must be all */
static void code_setup(void) { zero(); memset(trail, 0, sizeof trail); }
static void code_final(void)
{
    uint64_t h = x * 31u + y * 7u + z;
    int i;
    for (i = 0; i < 4; i++) h = (h ^ (trail[i] + (uint64_t)ex.proc[i].state * 77u)) * 0x9E3779B97F4A7C15u;
    h ^= h >> 29;
    if (reduced && !ex_seen(reduced, h)) ex_violate("a result that the reduced search did not find");
    ex_outcome(h);
}
static void random_programs(int count, int threads, int len, int ops, int kills, const char *name)
{
    ex_model m, full;
    uint64_t schedules = 0, all = 0, results = 0;
    int k, i, j, bad = 0;
    double start = ex_now();
    ex_new(&m, name, code_setup, code_final);
    if (ex_skip(&m)) return;
    for (i = 0; i < threads; i++) ex_thread(&m, "P", run_code, (void *)(intptr_t)i);
    if (kills) ex_killable(&m, 0, kills);
    if (kills) ex_stoppable(&m, 1, 1);
    ex_idle_timeouts(&m, 10);
    if (kills) ex_timeouts(&m, 1);
    length = len;
    for (k = 0; k < count; k++) {
        seed = (uint64_t)k * 7919u + (uint64_t)len;
        for (i = 0; i < threads; i++)
            for (j = 0; j < len; j++) {
                code[i][j].op = (int)rnd((unsigned)ops);
                code[i][j].var = (int)rnd(2);
                code[i][j].val = 1 + (int)rnd(2);
                code[i][j].reg = 0;
            }
        m.outcome = NULL;
        full = m;
        full.naive = 1;
        m.quiet = 1;
        full.quiet = !ex.verbose;
        ex_explore(&m);
        reduced = &m;
        ex_explore(&full);
        reduced = NULL;
        schedules += m.schedules + m.redundant;
        all += full.schedules;
        results += (uint64_t)m.outcomes;
        if (m.outcomes != full.outcomes || m.violations || full.violations) {
            if (!bad++) {
                printf("FAIL random program %d: %d results of %d %s\n", k, m.outcomes, full.outcomes,
                       full.violations ? ex.message : "");
            }
            if (ex.verbose)
                for (i = 0; i < threads; i++)
                    for (j = 0; j < len; j++) {
                        printf("   P%d: op %d var %d val %d\n", i, code[i][j].op, code[i][j].var, code[i][j].val);
                    }
        }
        free(m.outcome);
        free(full.outcome);
    }
    m.schedules = schedules;
    m.failed = bad != 0;
    m.seconds = ex_now() - start;
    m.canary_reached = results;
    printf("%-4s %-44s %d programs, %llu results, %llu schedules instead of %llu, %.2f s\n", bad ? "FAIL" : "ok", name,
           count,
           (unsigned long long)results, (unsigned long long)schedules, (unsigned long long)all, m.seconds);
    ex_log(&m);
    ex.failures += m.failed;
}


/* ---- planted classical errors, each beside its correct form ---- */

enum { BROKEN, SOUND };
static int form;

static void plant(const char *name, const char *text, void (*final)(void), ex_fn a, ex_fn b, void (*more)(ex_model *m))
{
    ex_model m;
    int k;
    for (k = BROKEN; k <= SOUND; k++) {
        form = k;
        ex_new(&m, name, zero, final);
        ex_thread(&m, "first", a, (void *)(intptr_t)0);
        ex_thread(&m, "second", b, (void *)(intptr_t)1);
        if (more) more(&m);
        if (form == SOUND) ex_weaken_all(&m);
        else ex_must_fail(&m, text);
    }
}
static void payload_write(uint64_t v)
{
    uint64_t two[2];
    two[0] = two[1] = v;
    shmipc__copy_in(cell, two, sizeof two);
}
static void payload_check(void)
{
    uint64_t two[2];
    shmipc__copy_out(two, cell, sizeof two);
    ex_assert(two[0] == two[1]);
}

/* Peterson's lock: x, y are the flags, z the turn. Plain stores let both enter; an exchange of the turn reads what the
 * other wrote there, so one of them sees the other's flag. */
T(peterson)
{
    int me = (int)(intptr_t)arg;
    uint32_t *mine = me ? &y : &x, *other = me ? &x : &y;
    shmipc__store_relaxed_u32(mine, 1);
    if (form == SOUND) shmipc__xchg_acqrel_u32(&z, (uint32_t)me);
    else shmipc__store_release_u32(&z, (uint32_t)me);
    while (shmipc__load_acquire_u32(other)) {
        if (shmipc__load_relaxed_u32(&z) != (uint32_t)me) break;
        shmipc__pause();
    }
    payload_write((uint64_t)me + 1);
    shmipc__store_release_u32(mine, 0);
}
/* Dekker's core, entered at most once: give up when the other is interested. */
T(dekker)
{
    int me = (int)(intptr_t)arg;
    shmipc__store_relaxed_u32(me ? &y : &x, 1);
    if (form == SOUND) shmipc__fence_seq_cst();
    if (shmipc__load_relaxed_u32(me ? &x : &y)) return;
    payload_write((uint64_t)me + 1);
}
/* Message passing. */
T(passing_out)
{
    (void)arg;
    payload_write(5);
    if (form == SOUND) shmipc__store_release_u32(&x, 1);
    else shmipc__store_relaxed_u32(&x, 1);
}
T(passing_in)
{
    (void)arg;
    if (shmipc__load_acquire_u32(&x)) payload_check();
}
/* Double-checked initialisation: x says "initialised", y is the lock. */
T(checked)
{
    uint32_t free_lock = 0;
    (void)arg;
    if (!(form == SOUND ? shmipc__load_acquire_u32(&x) : shmipc__load_relaxed_u32(&x))) {
        while (!shmipc__cas_acqrel_u32(&y, &free_lock, 1)) {
            free_lock = 0;
            shmipc__pause();
        }
        if (!shmipc__load_relaxed_u32(&x)) {
            payload_write(7);
            shmipc__store_release_u32(&x, 1);
        }
        shmipc__store_release_u32(&y, 0);
    }
    payload_check();
}
/* A sequence lock whose payload is copied by plain accesses: a race even if the copy is thrown away. The sound form
 * copies word by word with ordered accesses. */
T(seq_write)
{
    (void)arg;
    shmipc__store_relaxed_u32(&x, 1);
    if (form == BROKEN) payload_write(3);
    else {
        shmipc__store_release_u64(&cell[0], 3);
        shmipc__store_release_u64(&cell[1], 3);
    }
    shmipc__store_release_u32(&x, 2);
}
T(seq_read)
{
    uint32_t before = shmipc__load_acquire_u32(&x);
    uint64_t a, b;
    (void)arg;
    if (before & 1) return;
    if (form == BROKEN) {
        payload_check();
        return;
    }
    a = shmipc__load_acquire_u64(&cell[0]);
    b = shmipc__load_acquire_u64(&cell[1]);
    if (shmipc__load_relaxed_u32(&x) == before) ex_assert(a == b);
}

/* A stack of three nodes by index in x; y = next of node 1, z = next of node 2. The sound form counts pops in the
 * head. */
static int owner[4];
static uint32_t *next_of(uint32_t node) { return node == 1 ? &y : node == 2 ? &z : &w; }
static uint32_t pop(void)
{
    uint32_t head = shmipc__load_acquire_u32(&x), next;
    do {
        if (!(head & 15)) return 0;
        next = shmipc__load_relaxed_u32(next_of(head & 15));
        if (form == SOUND) next |= (head & ~15u) + 16;
    } while (!shmipc__cas_acqrel_u32(&x, &head, next));
    ex_assert(owner[head & 15] == 0);
    owner[head & 15] = 1;
    return head & 15;
}
static void push(uint32_t node)
{
    uint32_t head = shmipc__load_relaxed_u32(&x), want;
    owner[node] = 0;
    do {
        shmipc__store_relaxed_u32(next_of(node), head & 15);
        want = node | (form == SOUND ? head & ~15u : 0);
    } while (!shmipc__cas_acqrel_u32(&x, &head, want));
}
static void stack_setup(void)
{
    zero();
    memset(owner, 0, sizeof owner);
    x = 1;
    y = 2;
}
T(stack_twice) { (void)arg; pop(); pop(); }
T(stack_cycle)
{
    uint32_t a = pop(), b = pop();
    (void)arg;
    if (a) push(a);
    (void)b;
}
static void stack_model(ex_model *m)
{
    m->setup = stack_setup;
    m->thread_fn[0] = stack_twice;
    m->thread_fn[1] = stack_cycle;
}

/* Going to sleep: x is the news and the futex word, y says that somebody sleeps. Without the fences the sender may not
 * see the sleeper, and the sleeper not the news. */
T(sleeper)
{
    EX_SITE_HERE(here, "futex wait", 0);
    (void)arg;
    while (!shmipc__load_acquire_u32(&x)) {
        shmipc__store_relaxed_u32(&y, 1);
        if (form == SOUND) shmipc__fence_seq_cst();
        ex_futex_wait(&here, &x, 0, -1);
    }
    payload_check();
}
T(waker)
{
    EX_SITE_HERE(here, "futex wake", 0);
    (void)arg;
    payload_write(4);
    shmipc__store_release_u32(&x, 1);
    if (form == SOUND) shmipc__fence_seq_cst();
    if (shmipc__load_relaxed_u32(&y)) ex_futex_wake(&here, &x, 1);
}

/* A lock that does not name its owner stays taken when the owner dies; the sound form names it and asks the kernel. */
T(lock_user)
{
    uint32_t me = (uint32_t)(intptr_t)arg + 1, free_lock = 0;
    while (!shmipc__cas_acqrel_u32(&x, &free_lock, form == SOUND ? me : 9)) {
        if (form == SOUND && free_lock && free_lock != me && ex_is_dead((int)free_lock - 1) &&
            shmipc__cas_acqrel_u32(&x, &free_lock, me)) break;
        free_lock = 0;
        shmipc__pause();
    }
    payload_write(me);
    payload_check();
    shmipc__store_release_u32(&x, 0);
}
static void lock_killable(ex_model *m)
{
    ex_killable(m, 0, 1);
    ex_expect_not_caught(m, "shmipc__cas_acqrel_u32(&x, &free_lock, me)) break;",
                         "the probe of the dead orders everything it did");
}

/* A counter of users that is raised on entry and lowered on exit: a killed user stays counted (DESIGN invariant 1). */
T(counted)
{
    uint32_t me = (uint32_t)(intptr_t)arg;
    if (form == BROKEN) {
        shmipc__add_acqrel_u32(&x, 1);
        shmipc__add_acqrel_u32(&x, (uint32_t)-1);
    } else {
        shmipc__store_release_u32(me ? &y : &z, 1);
        shmipc__store_release_u32(me ? &y : &z, 0);
    }
}
static void counted_final(void)
{
    if (form == BROKEN) ex_assert(x == 0);
    else ex_assert((z == 0 || ex_is_dead(0)) && y == 0);
}
static void counted_notes(ex_model *m)
{
    ex_killable(m, 0, 1);
    ex_expect_not_caught(m, "shmipc__store_release_u32(me ? &y : &z",
                         "nothing is read through the presence words here");
}

/* A payload that a kill tears: completeness must be published after it, not before. */
T(torn_write)
{
    (void)arg;
    if (form == BROKEN) shmipc__store_release_u32(&x, 1);
    payload_write(6);
    if (form == SOUND) shmipc__store_release_u32(&x, 1);
}
T(torn_read)
{
    (void)arg;
    if (ex_is_dead(0) && shmipc__load_relaxed_u32(&x)) payload_check();
}
static void torn_notes(ex_model *m)
{
    ex_killable(m, 0, 1);
    ex_expect_not_caught(m, "shmipc__store_release_u32(&x, 1)", "the probe of the dead orders everything it did");
}

/* IRIW: two readers may disagree about the order of two stores unless there are full fences between their loads. */
static void iriw_final(void) { ex_assert(!(r[0] == 1 && r[1] == 0 && r[2] == 1 && r[3] == 0)); }
static void iriw_more(ex_model *m)
{
    variant = form == SOUND ? 2 : 1;
    ex_thread(m, "third", ir2, NULL);
    ex_thread(m, "fourth", ir3, NULL);
}
/* A spin lock (which is all there is to it) whose holder stops for ever: the others must not be held up. */
T(stopped_user)
{
    uint32_t free_lock = 0;
    (void)arg;
    if (form == BROKEN) {
        while (!shmipc__cas_acqrel_u32(&x, &free_lock, 1)) {
            free_lock = 0;
            shmipc__pause();
        }
        payload_write(1);
        shmipc__store_release_u32(&x, 0);
    } else shmipc__add_acqrel_u32(&x, 1);
}
static void stopped_notes(ex_model *m)
{
    ex_stoppable(m, 0, 1);
    ex_expect_not_caught(m, "shmipc__add_acqrel_u32(&x, 1)", "only the sum counts");
}
static void nothing(void) { }

static void all_planted(void)
{
    plant("Peterson", "data race", nothing, peterson, peterson, NULL);
    plant("Dekker", "data race", nothing, dekker, dekker, NULL);
    plant("message passing with payload", "data race", nothing, passing_out, passing_in, NULL);
    plant("double-checked initialisation", "data race", nothing, checked, checked, NULL);
    plant("sequence lock", "data race", nothing, seq_write, seq_read, NULL);
    plant("ABA on a stack", "owner[head & 15] == 0", nothing, stack_twice, stack_cycle, stack_model);
    plant("lost wake-up", "sleeps", nothing, sleeper, waker, NULL);
    plant("lock of a killed owner", "spins for ever", nothing, lock_user, lock_user, lock_killable);
    plant("counter of users", "x == 0", counted_final, counted, counted, counted_notes);
    plant("payload torn by a kill", "two[0] == two[1]", nothing, torn_write, torn_read, torn_notes);
    plant("IRIW with acquire loads", "r[0] == 1", iriw_final, ir0, ir1, iriw_more);
    plant("stopped in a lock", "spins for ever", nothing, stopped_user, stopped_user, stopped_notes);
}

int main(int argc, char **argv)
{
    ex_begin(argc, argv);
    all_litmus();
    all_planted();
    random_programs(1000, 2, 4, 8, 0, "random: 2 threads of 4, words and fences");
    random_programs(60, 3, 3, 8, 0, "random: 3 threads of 3, words and fences");
    random_programs(500, 2, 4, 9, 1, "random: 2 threads of 4, kill and stop");
    random_programs(800, 3, 2, 9, 2, "random: 3 threads of 3, kills and stops");
    random_programs(400, 2, 4, 13, 1, "random: 2 threads of 4, kernel objects");
    random_programs(20, 3, 3, 13, 1, "random: 3 threads of 3, kernel objects");
    return ex_end();
}
