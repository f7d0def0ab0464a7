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
static int variant;

static void zero(void)
{
    x = y = z = w = 0;
    memset(r, 0, sizeof r);
    ex_name(&x, 4, "x");
    ex_name(&y, 4, "y");
    ex_name(&z, 4, "z");
    ex_name(&w, 4, "w");
}
static uint32_t ld(const uint32_t *p) { return variant == 1 ? shmipc__load_acquire_u32(p) : shmipc__load_relaxed_u32(p); }
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
static void litmus(const char *name, const int *want, uint64_t weak, int allowed, void (*final)(void), ex_fn a, ex_fn b, ex_fn c, ex_fn d)
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
            printf("FAIL %s: %d results, expected %d; weak result %s\n", t, m.outcomes, want[variant], ex_seen(&m, weak) ? "seen" : "not seen");
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
    case 9: { static ex_site s = {"", 0, "wait", 0, 0, 0, NULL}; return (uint32_t)ex_futex_wait(&s, p, v, 1); }
    case 10: { static ex_site s = {"", 0, "wake", 0, 0, 0, NULL}; return (uint32_t)ex_futex_wake(&s, p, 1); }
    case 11: { static ex_site s = {"", 0, "lock", 0, 0, 0, NULL}; return (uint32_t)ex_trylock(&s, p); }
    default: { static ex_site s = {"", 0, "unlock", 0, 0, 0, NULL}; ex_unlock(&s, p); return 9; }
    }
}
T(run_code)
{
    int me = (int)(intptr_t)arg, i;
    for (i = 0; i < length; i++)
        trail[me] = trail[me] * 11 + step(code[me][i].op, var[code[me][i].var], (uint32_t)code[me][i].val, code[me][i].reg);
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
            if (!bad++) printf("FAIL random program %d: %d results of %d %s\n", k, m.outcomes, full.outcomes, full.violations ? ex.message : "");
            if (ex.verbose)
                for (i = 0; i < threads; i++)
                    for (j = 0; j < len; j++) printf("   P%d: op %d var %d val %d\n", i, code[i][j].op, code[i][j].var, code[i][j].val);
        }
        free(m.outcome);
        free(full.outcome);
    }
    m.schedules = schedules;
    m.failed = bad != 0;
    m.seconds = ex_now() - start;
    m.canary_reached = results;
    printf("%-4s %-44s %d programs, %llu results, %llu schedules instead of %llu, %.2f s\n", bad ? "FAIL" : "ok", name, count,
           (unsigned long long)results, (unsigned long long)schedules, (unsigned long long)all, m.seconds);
    ex_log(&m);
    ex.failures += m.failed;
}

int main(int argc, char **argv)
{
    ex_begin(argc, argv);
    all_litmus();
    random_programs(1000, 2, 4, 8, 0, "random: 2 threads of 4, words and fences");
    random_programs(60, 3, 3, 8, 0, "random: 3 threads of 3, words and fences");
    random_programs(500, 2, 4, 9, 1, "random: 2 threads of 4, kill and stop");
    random_programs(800, 3, 2, 9, 2, "random: 3 threads of 3, kills and stops");
    random_programs(400, 2, 4, 13, 1, "random: 2 threads of 4, kernel objects");
    random_programs(20, 3, 3, 13, 1, "random: 3 threads of 3, kernel objects");
    return ex_end();
}
