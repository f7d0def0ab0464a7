/* crash_selfcheck.c - does the harness see what it is there to see?
 *
 * Small protocols, each once right and once broken in a classical way. A broken one has to be reported, and as the
 * right kind of failure; a right one has to come out clean. If this program fails, no other row means anything.
 */
#include "crashstep.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>

#define TEXT 40
#define HANG_MS 100 /* the limit for survivors that hang for ever */

typedef struct {
    uint32_t head, lock, sleepers, value;
    uint32_t slot[4]; /* 0 or the owner */
    uint32_t item[4]; /* 0 free, 1 ready, 2 + owner held */
    char text[4][TEXT];
} box;

static box *b;
static const char *lock_path;

enum { VICTIM = 7, SURVIVOR = 9 };

static uint32_t get(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static void put(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static int cas(uint32_t *p, uint32_t from, uint32_t to)
{
    return __atomic_compare_exchange_n(p, &from, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static void setup(crash_run *r)
{
    memset(b, 0, sizeof *b);
    crash_watch(r, b, sizeof *b);
}

/* ---- publish before payload; acknowledge before publishing ------------------------------------------------------- */

static void send_right(crash_run *r)
{
    memset(b->text[0], 'v', TEXT);
    put(&b->head, 1);
    crash_note(r, 0, 1);
}
static void send_early(crash_run *r)
{
    put(&b->head, 1);
    memset(b->text[0], 'v', TEXT);
    crash_note(r, 0, 1);
}
static void send_acknowledged_early(crash_run *r)
{
    memset(b->text[0], 'v', TEXT);
    crash_note(r, 0, 1);
    put(&b->head, 1);
}
static void check_sent(crash_run *r)
{
    uint32_t h = get(&b->head);
    int i, right = 0;
    for (i = 0; i < TEXT; i++) right += b->text[0][i] == 'v';
    crash_saw(r, h != 0);
    if (h) CRASH_EXPECT(r, torn, right == TEXT);
    if (crash_noted(r, 0)) CRASH_EXPECT(r, lost, h == 1);
    put(&b->head, h + 1);
    crash_recovered(r);
}

/* ---- a lock that dies with its owner ----------------------------------------------------------------------------- */

static void lock_naive(crash_run *r)
{
    (void)r;
    while (!cas(&b->lock, 0, 1)) continue;
    b->value++;
    put(&b->lock, 0);
}
static void check_naive(crash_run *r)
{
    lock_naive(r);
    crash_recovered(r);
}

/* Recovery by pid: right only until the pid of the dead is somebody else's, or a zombie's. */
static void lock_by_pid(crash_run *r)
{
    (void)r;
    while (!cas(&b->lock, 0, (uint32_t)getpid())) {
        uint32_t o = get(&b->lock);
        if (o && kill((pid_t)o, 0) && errno == ESRCH) cas(&b->lock, o, 0);
    }
    b->value++;
    put(&b->lock, 0);
}
static void check_by_pid(crash_run *r)
{
    lock_by_pid(r);
    crash_recovered(r);
}

/* Recovery by the kernel's word: the owner holds a file lock for as long as it lives. */
static int hold_fd = -1;
static void hold_file_lock(crash_run *r)
{
    struct flock f;
    (void)r;
    memset(&f, 0, sizeof f);
    f.l_type = F_WRLCK;
    f.l_len = 1;
    hold_fd = open(lock_path, O_RDWR | O_CLOEXEC);
    if (hold_fd < 0 || fcntl(hold_fd, F_OFD_SETLK, &f)) _exit(1);
}
static int owner_lives(void)
{
    struct flock f;
    int fd = open(lock_path, O_RDWR | O_CLOEXEC);
    memset(&f, 0, sizeof f);
    f.l_type = F_WRLCK;
    f.l_len = 1;
    if (fd < 0 || fcntl(fd, F_OFD_GETLK, &f)) _exit(1);
    close(fd);
    return f.l_type != F_UNLCK;
}
static void lock_by_kernel(crash_run *r)
{
    (void)r;
    while (!cas(&b->lock, 0, VICTIM)) continue;
    b->value++;
    put(&b->lock, 0);
}
static void check_by_kernel(crash_run *r)
{
    while (!cas(&b->lock, 0, SURVIVOR))
        if (!owner_lives()) cas(&b->lock, VICTIM, 0);
    b->value++;
    put(&b->lock, 0);
    crash_recovered(r);
}

/* Robbing by patience: a stopped owner is alive, and comes back. */
static void check_impatient(crash_run *r)
{
    int patience = 100;
    while (!cas(&b->lock, 0, SURVIVOR))
        if (!patience--) put(&b->lock, 0);
    memset(b->text[0], 's', TEXT);
    crash_recovered(r);
}
static void lock_and_write(crash_run *r)
{
    (void)r;
    while (!cas(&b->lock, 0, VICTIM)) {
        if (get(&b->lock) == SURVIVOR) return;
    }
    memset(b->text[0], 'v', TEXT);
    b->value = 1;
    put(&b->lock, 0);
}
static void done_impatient(crash_run *r)
{
    if (get(&b->lock) != SURVIVOR) CRASH_EXPECT(r, twice, b->value == 0 || crash_dead(r));
}
static void count_right(crash_run *r)
{
    (void)r;
    __atomic_fetch_add(&b->value, 1, __ATOMIC_ACQ_REL);
}
static void check_count(crash_run *r)
{
    uint32_t before = get(&b->value);
    crash_saw(r, (int)before);
    count_right(r);
    CRASH_EXPECT(r, lost, get(&b->value) == before + 1);
    crash_recovered(r);
}
static void done_count(crash_run *r) { CRASH_EXPECT(r, lost, get(&b->value) == 2); }

/* ---- slots ------------------------------------------------------------------------------------------------------- */

static void slot_nameless(crash_run *r)
{
    int i;
    (void)r;
    for (i = 0; i < 4 && !cas(&b->slot[i], 0, 1); i++) continue;
    b->text[i][0] = 'v';
    put(&b->slot[i], 0);
}
static void slot_named(crash_run *r)
{
    int i;
    (void)r;
    for (i = 0; i < 4 && !cas(&b->slot[i], 0, VICTIM); i++) continue;
    b->text[i][0] = 'v';
    put(&b->slot[i], 0);
}
/* The sweep frees what names the dead, then every slot has to be free. */
static void check_slots(crash_run *r)
{
    int i;
    for (i = 0; i < 4; i++)
        if (get(&b->slot[i]) == VICTIM) {
            crash_saw(r, 1);
            cas(&b->slot[i], VICTIM, 0);
        }
    for (i = 0; i < 4; i++) CRASH_EXPECT(r, leaked, get(&b->slot[i]) == 0);
    crash_recovered(r);
}

/* ---- delivery: item 0 is there, the victim consumes it ----------------------------------------------------------- */

static void setup_item(crash_run *r)
{
    setup(r);
    put(&b->item[0], 1);
}
static void take_right(crash_run *r)
{
    cas(&b->item[0], 1, 2 + VICTIM);
    put(&b->item[0], 0);
    crash_note(r, 0, 1);
}
static void take_twice(crash_run *r)
{
    crash_note(r, 0, 1); /* handed to the caller as consumed, while the word still offers it */
    put(&b->item[0], 0);
}
static void take_losing(crash_run *r)
{
    put(&b->item[0], 0); /* gone from the queue before anybody is named as its holder */
    crash_note(r, 1, 1);
    put(&b->slot[0], VICTIM);
    put(&b->slot[0], 0);
    crash_note(r, 0, 1);
}
static void check_item(crash_run *r)
{
    uint32_t w = get(&b->item[0]);
    if (w == 2 + VICTIM && cas(&b->item[0], w, 1)) w = 1;
    crash_saw(r, w == 1);
    if (crash_noted(r, 0)) CRASH_EXPECT(r, twice, w != 1);
    if (crash_noted(r, 1) && !crash_noted(r, 0)) CRASH_EXPECT(r, lost, w == 1 || get(&b->slot[0]) == VICTIM);
    crash_recovered(r);
}

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

static void futex(uint32_t *word, int op, uint32_t v, int64_t ns)
{
    struct timespec t;
    t.tv_sec = (time_t)(ns / 1000000000);
    t.tv_nsec = (long)(ns % 1000000000);
    syscall(SYS_futex, word, op, v, ns ? &t : NULL, NULL, 0);
}
static void publish_then_wake(crash_run *r)
{
    (void)r;
    put(&b->value, 1);
    futex(&b->value, FUTEX_WAKE, INT_MAX, 0);
}
static void wait_trusting(crash_run *r)
{
    crash_ready(r);
    while (!get(&b->value) && !crash_dead(r)) futex(&b->value, FUTEX_WAIT, 0, 0);
    crash_recovered(r);
}
static void wait_in_slices(crash_run *r)
{
    crash_ready(r);
    while (!get(&b->value) && !crash_dead(r)) futex(&b->value, FUTEX_WAIT, 0, 40000000);
    crash_recovered(r);
}
static void sleep_counted(crash_run *r)
{
    (void)r;
    __atomic_fetch_add(&b->sleepers, 1, __ATOMIC_ACQ_REL);
    futex(&b->value, FUTEX_WAIT, 0, 0);
    __atomic_fetch_sub(&b->sleepers, 1, __ATOMIC_ACQ_REL);
}
static void sleep_named(crash_run *r)
{
    (void)r;
    put(&b->sleepers, VICTIM);
    futex(&b->value, FUTEX_WAIT, 0, 0);
    put(&b->sleepers, 0);
}
static void wake_sleeper(crash_run *r)
{
    (void)r;
    futex(&b->value, FUTEX_WAKE, INT_MAX, 0);
}
static void check_sleepers(crash_run *r)
{
    crash_saw(r, get(&b->sleepers) != 0);
    cas(&b->sleepers, VICTIM, 0);
    CRASH_EXPECT(r, leaked, get(&b->sleepers) == 0);
    crash_recovered(r);
}

/* ---- checks that would hide a failure ---------------------------------------------------------------------------- */

static void check_silent(crash_run *r) { (void)r; }
static void check_faulting(crash_run *r)
{
    (void)r;
    raise(SIGSEGV);
}
static void check_blind(crash_run *r) { crash_recovered(r); }

/* ---- the table --------------------------------------------------------------------------------------------------- */

static const char *const states[] = { "start", NULL };
static const char *const roles[] = { "same", NULL };

enum { CLEAN, HANG, LOST, TORN, TWICE, LEAKED, OTHER, BROKEN };
static const char *const kinds[] = { "clean", "hang", "lost", "torn", "twice", "leaked", "other", "broken" };

#define K CRASH_KILL
#define Q CRASH_QUIET
#define QI (CRASH_QUIET | CRASH_INPROC)
#define STOPS (CRASH_FREEZE | CRASH_LATE)
#define ALL (CRASH_KILL | CRASH_ZOMBIE | STOPS)

static const struct {
    int expect;
    crash_op op;
} table[] = {
    { CLEAN, { "payload, then publish", states, roles, ALL, 0, 3, setup, NULL, send_right, check_sent, 0, 0, 0, 0 } },
    { CLEAN, { "the same, in process", states, roles, ALL, QI, 3, setup, NULL, send_right, check_sent, 0, 0, 0, 0 } },
    { CLEAN,
      { "the same, stepped", states, roles, K, CRASH_STEP_ONLY, 3, setup, NULL, send_right, check_sent, 0, 0, 0, 0 } },
    { TORN, { "publish before payload", states, roles, ALL, Q, 3, setup, NULL, send_early, check_sent, 0, 0, 0, 0 } },
    { TORN, { "the same, in process", states, roles, ALL, QI, 3, setup, NULL, send_early, check_sent, 0, 0, 0, 0 } },
    { LOST,
      { "acknowledge early", states, roles, K, Q, 3, setup, NULL, send_acknowledged_early, check_sent, 0, 0, 0, 0 } },
    { HANG, { "naive lock", states, roles, K, Q, 0, setup, NULL, lock_naive, check_naive, 0, 0, 0, HANG_MS } },
    { HANG,
      { "naive lock, in process", states, roles, K, QI, 0, setup, NULL, lock_naive, check_naive, 0, 0, 0, HANG_MS } },
    { HANG,
      { "recovery by pid, zombie", states, roles, CRASH_ZOMBIE, Q, 0, setup, NULL, lock_by_pid, check_by_pid, 0, 0, 0,
        HANG_MS } },
    { CLEAN,
      { "recovery by kernel lock", states, roles, K | CRASH_ZOMBIE, 0, 0, setup, hold_file_lock, lock_by_kernel,
        check_by_kernel, 0, 0, 0, 0 } },
    { HANG,
      { "any lock, frozen owner", states, roles, CRASH_FREEZE, Q, 0, setup, hold_file_lock, lock_by_kernel,
        check_by_kernel, 0, 0, 0, HANG_MS } },
    { TWICE,
      { "lock robbed by timeout", states, roles, CRASH_FREEZE, Q, 0, setup, NULL, lock_and_write, check_impatient,
        done_impatient, 0, 0, 0 } },
    { CLEAN, { "one atomic step", states, roles, ALL, 0, 3, setup, NULL, count_right, check_count, NULL, 0, 0, 0 } },
    { CLEAN,
      { "one atomic step, thawed", states, roles, CRASH_FREEZE, 0, 3, setup, NULL, count_right, check_count, done_count,
        0, 0, 0 } },
    { LEAKED,
      { "slot without an owner", states, roles, K, Q, 0, setup, NULL, slot_nameless, check_slots, 0, 0, 0, 0 } },
    { CLEAN,
      { "slot that names its owner", states, roles, K | CRASH_ZOMBIE, 0, 2, setup, NULL, slot_named, check_slots, 0, 0,
        0, 0 } },
    { CLEAN, { "take", states, roles, K | CRASH_ZOMBIE, 0, 3, setup_item, NULL, take_right, check_item, 0, 0, 0, 0 } },
    { TWICE,
      { "consumed, then taken off", states, roles, K, Q, 0, setup_item, NULL, take_twice, check_item, 0, 0, 0, 0 } },
    { LOST, { "taken off, then held", states, roles, K, Q, 0, setup_item, NULL, take_losing, check_item, 0, 0, 0, 0 } },
    { HANG,
      { "sleeper that trusts the wake", states, roles, CRASH_WAITING, Q, 0, setup, NULL, publish_then_wake,
        wait_trusting, 0, 0, 0, HANG_MS } },
    { CLEAN,
      { "sleeper that wakes by itself", states, roles, CRASH_WAITING, 0, 0, setup, NULL, publish_then_wake,
        wait_in_slices, 0, 0, 0, 0 } },
    { LEAKED,
      { "counted sleeper", states, roles, CRASH_BLOCKED, Q, 0, setup, NULL, sleep_counted, check_sleepers, 0, 0, 0,
        0 } },
    { CLEAN,
      { "named sleeper", states, roles, K | CRASH_BLOCKED, 0, 3, setup, NULL, sleep_named, check_sleepers, 0, 0, 0,
        0 } },
    { CLEAN,
      { "named sleeper, woken", states, roles, K | CRASH_BLOCKED, 0, 3, setup, NULL, sleep_named, check_sleepers, 0,
        wake_sleeper, 0, 0 } },
    { BROKEN,
      { "nothing ever blocks", states, roles, CRASH_BLOCKED, Q, 0, setup, NULL, send_right, check_sent, 0, 0, 0, 0 } },
    { OTHER,
      { "survivor that checks nothing", states, roles, K, Q, 0, setup, NULL, send_right, check_silent, 0, 0, 0, 0 } },
    { OTHER, { "survivor that dies", states, roles, K, Q, 0, setup, NULL, send_right, check_faulting, 0, 0, 0, 0 } },
    { OTHER, { "the same, in process", states, roles, K, QI, 0, setup, NULL, send_right, check_faulting, 0, 0, 0, 0 } },
    { BROKEN, { "outcome never met", states, roles, K, Q, 1, setup, NULL, send_right, check_blind, 0, 0, 0, 0 } },
};

static uint64_t found(const crash_result *res, int kind)
{
    const uint64_t by_kind[] = { 0,          res->hang,   res->lost,  res->torn,
                                 res->twice, res->leaked, res->other, (uint64_t)res->broken };
    return by_kind[kind];
}

/* As expected: that kind and no other, and not at every step (where nothing has happened yet, nothing can be wrong). */
static int as_expected(const crash_op *op, const crash_result *res, int kind)
{
    int i;
    for (i = HANG; i <= BROKEN; i++)
        if (i != kind && found(res, i)) return 0;
    if (kind == CLEAN) return res->kills > 0;
    if (!found(res, kind)) return 0;
    return kind != HANG || op->modes == CRASH_WAITING || found(res, HANG) < (uint64_t)res->kills;
}

static int run_row(const crash_op *op, int kind, int mode, FILE *out)
{
    crash_result res = crash_sweep(op, 0, 0, mode);
    int ok = as_expected(op, &res, kind);
    printf("%s %-30s %-8s expected %-6s steps %4ld kills %4ld hang %llu lost %llu torn %llu twice %llu leaked %llu "
           "other %llu broken %d\n",
           ok ? "ok  " : "FAIL", op->name, crash_mode_name(mode), kinds[kind], res.steps, res.kills,
           (unsigned long long)res.hang, (unsigned long long)res.lost, (unsigned long long)res.torn,
           (unsigned long long)res.twice, (unsigned long long)res.leaked, (unsigned long long)res.other, res.broken);
    if (out)
        fprintf(out,
                "{\"protocol\":\"%s\",\"mode\":\"%s\",\"expected\":\"%s\",\"kills\":%ld,\"found\":%llu,\"as_expected\":"
                "%s}\n",
                op->name, crash_mode_name(mode), kinds[kind], res.kills, (unsigned long long)found(&res, kind),
                ok ? "true" : "false");
    free(res.recovery);
    return ok;
}

/* ---- the engine itself: hopping and stepping lead to the same place ---------------------------------------------- */

#define SEEN 4096
static uint64_t *state_at;
static int comparing;

static void busy(crash_run *r)
{
    int i;
    for (i = 0; i < 12; i++) {
        send_right(r);
        put(&b->head, 0);
        count_right(r);
    }
}
static void check_place(crash_run *r)
{
    uint64_t h = crash__hash(r);
    if (!comparing && r->k < SEEN) state_at[r->k] = h;
    CRASH_EXPECT(r, other, r->k < SEEN && state_at[r->k] == h);
    crash_recovered(r);
}
static int engine_agrees(void)
{
    static crash_op op = { "place", states, roles, K, CRASH_INPROC | CRASH_STEP_ONLY, 0, setup, NULL, busy, check_place,
                           0,       0,      0,     0 };
    crash_result by_step, by_hop;
    int ok;
    by_step = crash_sweep(&op, 0, 0, CRASH_KILL);
    comparing = 1;
    op.flags = CRASH_INPROC;
    by_hop = crash_sweep(&op, 0, 0, CRASH_KILL);
    ok = !crash_failed(&by_step) && !crash_failed(&by_hop) && by_step.steps == by_hop.steps && by_hop.kills > 100;
    printf("%s hops lead to the same state as single steps: %ld places of %ld steps, %ld retries\n",
           ok ? "ok  " : "FAIL", by_hop.kills, by_hop.steps, by_hop.fallbacks);
    free(by_step.recovery);
    free(by_hop.recovery);
    return ok;
}

/* ---- the summary: clean rows pass, one lost message or no row at all fails --------------------------------------- */

static int summary_of(uint64_t lost, int rows)
{
    static const crash_op op = { "put", states, roles, K, 0, 0, setup, NULL, send_right, check_sent, 0, 0, 0, 0 };
    uint64_t times[2] = { 1000, 2000 };
    char path[] = "/tmp/crash_selfcheck.XXXXXX", command[96];
    crash_result res;
    crash_run c;
    int i, fd = mkstemp(path), st;
    memset(&c, 0, sizeof c);
    memset(&res, 0, sizeof res);
    c.op = &op;
    c.mode = CRASH_KILL;
    res.kills = res.recoveries = 2;
    res.recovery = times;
    for (i = 0; i < rows; i++) {
        res.lost = i ? 0 : lost;
        crash_report_row(fd, "selfcheck", &c, &res);
    }
    snprintf(command, sizeof command, "tools/crash-summary %s >/dev/null 2>&1", path);
    st = system(command);
    close(fd);
    unlink(path);
    return WIFEXITED(st) ? WEXITSTATUS(st) : -1;
}

static int summary_counts(void)
{
    int clean = summary_of(0, 2), lost = summary_of(1, 2), empty = summary_of(0, 0);
    int ok = clean == 0 && lost == 1 && empty == 1;
    printf("%s tools/crash-summary: clean rows %d, one lost %d, no row %d\n", ok ? "ok  " : "FAIL", clean, lost, empty);
    return ok;
}

static int make_lock_file(void)
{
    static char path[] = "/tmp/crash_selfcheck.XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0) return -1;
    close(fd);
    lock_path = path;
    return 0;
}

int main(void)
{
    int passed = 0, failed = 0, ok, mode;
    size_t i;
    FILE *out;
    b = (box *)crash_shared(sizeof *b);
    state_at = (uint64_t *)crash_shared(SEEN * sizeof *state_at);
    if (make_lock_file()) return 2;
    mkdir("build", 0755);
    mkdir("build/report", 0755);
    out = fopen("build/report/crash_selfcheck.jsonl", "w");
    for (i = 0; i < CRASH_COUNT(table); i++)
        for (mode = CRASH_KILL; mode <= CRASH_WAITING; mode *= 2) {
            if (!(table[i].op.modes & (unsigned)mode)) continue;
            ok = run_row(&table[i].op, table[i].expect, mode, out);
            passed += ok;
            failed += !ok;
        }
    ok = engine_agrees();
    passed += ok;
    failed += !ok;
    ok = summary_counts();
    passed += ok;
    failed += !ok;
    if (out) fclose(out);
    unlink(lock_path);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
