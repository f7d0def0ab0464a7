/* Many processes open, use, grow and leave a few names while some are killed and some are stopped at random
 * instants. */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "check.h"
#include "../shmipc.h"
#include "scope.h"

enum { WORKERS = 8, NAMES = 3, AREA = 3000, MAX_AREA = 60000 };

/* What a worker says of itself. Who sees `turn` even and the same before and after its own open knows that this worker
 * had `generation` of `name` all the time. */
typedef struct {
    uint64_t turn, generation;
    uint32_t name, doomed; /* doomed: set by the parent before it kills */
    uint64_t opens, joins;
} slot;
static slot *slots;

static int fill(shmipc_segment *s, void *arg)
{
    void *p;
    int rc = shmipc_segment_at(s, 0, AREA, &p);
    (void)arg;
    if (!rc) memset(p, 'w', AREA);
    return rc;
}

static int whole(shmipc_segment *s)
{
    void *p;
    int i;
    if (shmipc_segment_at(s, 0, AREA, &p)) return 0;
    for (i = 0; i < AREA; i++) {
        if (((const char *)p)[i] != 'w') return 0;
    }
    return 1;
}

static void one_round(shmipc_ctx *ctx, int me)
{
    slot seen[WORKERS];
    shmipc_segment_config cfg;
    shmipc_segment *s = NULL;
    uint64_t g, size;
    uint32_t name = (uint32_t)(check_random() % NAMES);
    char text[2] = {(char)('a' + name), 0};
    void *p;
    int i, rc;
    shmipc_segment_config_init(&cfg);
    cfg.mode = check_random() % 4 ? SHMIPC_OPEN_OR_CREATE : SHMIPC_OPEN;
    cfg.size = AREA;
    cfg.max_size = MAX_AREA;
    cfg.init = fill;
    cfg.capacity = WORKERS * 2;
    for (i = 0; i < WORKERS; i++) {
        seen[i].turn = __atomic_load_n(&slots[i].turn, __ATOMIC_SEQ_CST);
        seen[i].generation = __atomic_load_n(&slots[i].generation, __ATOMIC_SEQ_CST);
        seen[i].name = __atomic_load_n(&slots[i].name, __ATOMIC_SEQ_CST);
    }
    rc = shmipc_segment_open(ctx, text, &cfg, &s);
    if (rc == SHMIPC_ENOENT && cfg.mode == SHMIPC_OPEN) return;
    if (!CHECK_EQ(rc, SHMIPC_OK)) {
        printf("%s\n", shmipc_ctx_detail(ctx));
        return;
    }
    g = shmipc_segment_generation(s);
    for (i = 0; i < WORKERS; i++) {
        if (i == me || seen[i].turn % 2 == 0 || seen[i].name != name) continue;
        if (__atomic_load_n(&slots[i].doomed, __ATOMIC_SEQ_CST)) continue; /* it may be dead */
        if (__atomic_load_n(&slots[i].turn, __ATOMIC_SEQ_CST) != seen[i].turn) continue;
        CHECK_EQ(g, seen[i].generation); /* never another segment beside one that a living user has */
        slots[me].joins++;
    }
    __atomic_store_n(&slots[me].generation, g, __ATOMIC_SEQ_CST);
    __atomic_store_n(&slots[me].name, name, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&slots[me].turn, 1, __ATOMIC_SEQ_CST); /* odd: attached */
    slots[me].opens++;
    CHECK(whole(s));
    if (check_random() % 4 == 0) CHECK_EQ(shmipc_segment_grow(s, AREA + check_random() % (MAX_AREA - AREA)), SHMIPC_OK);
    size = shmipc_segment_size(s);
    CHECK(size >= AREA && size <= MAX_AREA);
    CHECK_EQ(shmipc_segment_at(s, 0, size, &p), SHMIPC_OK);
    if (size > AREA) ((char *)p)[size - 1] = 1;
    if (check_random() % 8 == 0) CHECK(shmipc_segment_sweep(s) >= 0);
    if (check_random() % 64 == 0) CHECK(shmipc_ctx_sweep(ctx, 0) >= 0);
    CHECK(whole(s));
    __atomic_add_fetch(&slots[me].turn, 1, __ATOMIC_SEQ_CST);
    shmipc_segment_close(s);
}

static pid_t start(int me, uint64_t seed)
{
    pid_t pid;
    int fresh = 0;
    if (__atomic_load_n(&slots[me].turn, __ATOMIC_SEQ_CST) % 2) {
        __atomic_add_fetch(&slots[me].turn, 1, __ATOMIC_SEQ_CST); /* the dead one had it */
    }
    __atomic_store_n(&slots[me].doomed, 0, __ATOMIC_SEQ_CST);
    pid = fork();
    if (pid == 0) {
        shmipc_ctx *ctx = NULL;
        check__random_state = seed;
        for (;;) {
            if (!ctx) ctx = scope_open();
            one_round(ctx, me);
            if (++fresh % 50 == 0) {
                shmipc_ctx_close(ctx);
                ctx = NULL;
            }
        }
    }
    return pid;
}

TEST_LIMIT(I7_S8_kills_and_stops_among_many_users, 110)
{
    pid_t pids[WORKERS];
    uint64_t opens = 0, joins = 0;
    int i, st, kills, total = getenv("FULL") ? 3000 : 250, stopped = -1;
    shmipc_ctx *ctx;
    COVERS("K2 I1 I2 S6 S61");
    slots = (slot *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(slots != MAP_FAILED);
    scope_dir();
    for (i = 0; i < WORKERS; i++) pids[i] = start(i, check_random());
    for (kills = 0; kills < total; kills++) {
        struct timespec pace = {0, 1000000};
        int victim = (int)(check_random() % WORKERS);
        pace.tv_nsec = (long)(check_random() % 4000000);
        nanosleep(&pace, NULL); /* the instant of the kill is what is random here */
        if (stopped < 0) {
            stopped = victim;
            kill(pids[victim], SIGSTOP);
            continue;
        }
        if (check_random() % 4 == 0) {
            kill(pids[stopped], SIGCONT);
            stopped = -1;
            continue;
        }
        __atomic_store_n(&slots[victim].doomed, 1, __ATOMIC_SEQ_CST);
        if (victim == stopped) stopped = -1;
        kill(pids[victim], SIGKILL);
        CHECK_EQ(waitpid(pids[victim], &st, 0), pids[victim]);
        CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
        pids[victim] = start(victim, check_random());
    }
    for (i = 0; i < WORKERS; i++) {
        opens += slots[i].opens;
        joins += slots[i].joins;
        __atomic_store_n(&slots[i].doomed, 1, __ATOMIC_SEQ_CST);
        scope_kill(pids[i]);
    }
    printf("%d kills and stops, %llu opens, %llu of them beside a known user\n", total, (unsigned long long)opens,
           (unsigned long long)joins);
    CHECK(opens > (uint64_t)total && joins > 0);
    ctx = scope_open();
    CHECK(shmipc_ctx_sweep(ctx, 0) >= 0);
    CHECK_EQ(scope_files(".seg"), 0);
    CHECK_EQ(scope_files(""), 1);
    shmipc_ctx_close(ctx);
    scope_end();
}

/* All meet at one entry of the name table although nobody locks it. */
TEST_LIMIT(K2_many_names_from_many_processes, 60)
{
    enum { EACH = 600 };
    int i, n, st, gate[2], bad = 0;
    shmipc_ctx *ctx = scope_open();
    shmipc__name *a;
    REQUIRE(pipe(gate) == 0);
    for (i = 0; i < WORKERS; i++) {
        if (fork() == 0) {
            shmipc_ctx *own = scope_open();
            char byte;
            close(gate[1]);
            if (read(gate[0], &byte, 1) != 0) _exit(1);
            for (n = 1; n <= EACH; n++) {
                if (shmipc__name_find(own, (uint64_t)n * 1234577, 1, &a)) _exit(2);
                (void)shmipc__add_acqrel_u64(&a->generation, 1);
            }
            shmipc_ctx_close(own);
            _exit(0);
        }
    }
    close(gate[0]);
    close(gate[1]);
    while (wait(&st) > 0) CHECK_EQ(st, 0);
    for (n = 1; n <= EACH; n++) {
        bad += shmipc__name_find(ctx, (uint64_t)n * 1234577, 0, &a) ||
               shmipc__load_relaxed_u64(&a->generation) != WORKERS;
    }
    CHECK_EQ(bad, 0);
    shmipc_ctx_close(ctx);
    scope_end();
}
