/* crash_segment.c - a process dies or stops at every instruction of what it can do with a scope and its segments.
 *
 * Each run has a directory of its own under /dev/shm. In states with a "living" user the harness itself is attached
 * and must find its segment untouched. The survivor opens the scope, opens or makes the same name, looks whether it is
 * whole, leaves, sweeps, and counts the files that are left. Statements: K2, K7, I1, I2, I7, S7, C13.
 */
#include "crashstep.h"

#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../../shmipc.h"

#include <dirent.h>
#include <sys/stat.h>

#define SIZE 600
#define WORDS 8 /* of the area, each 0 or the life that holds it */

static char dir[64];
static shmipc_ctx *ctx, *own; /* the harness's while it lives in the scope; the victim's */
static shmipc_segment *seg, *mine;
static uint64_t living; /* generation of the segment that a living user has, or 0 */
static int named;       /* the name must lead to that one */

static uint64_t *words(shmipc_segment *s)
{
    void *p = NULL;
    return shmipc_segment_at(s, 0, WORDS * 8, &p) ? NULL : (uint64_t *)p;
}

static int kind_sweep(shmipc_segment *s, uint32_t index, uint64_t life)
{
    uint64_t *w = words(s);
    int i;
    for (i = 0; w && i < WORDS; i++) {
        uint64_t seen = shmipc__load_acquire_u64(&w[i]);
        if (seen == life && shmipc_segment_holds(s, index, life)) (void)shmipc__cas_acqrel_u64(&w[i], &seen, 0);
    }
    return w ? SHMIPC_OK : SHMIPC_ECORRUPT;
}
static const shmipc_kind kind = {77, 1, "words", NULL, kind_sweep, NULL, NULL};

/* The area behind the words is filled before anybody may see it. */
static int fill(shmipc_segment *s, void *arg)
{
    void *p;
    (void)arg;
    if (shmipc_segment_at(s, WORDS * 8, SIZE - WORDS * 8, &p)) return SHMIPC_ECORRUPT;
    memset(p, 'i', SIZE - WORDS * 8);
    return SHMIPC_OK;
}
static int whole(shmipc_segment *s)
{
    void *p;
    int i;
    if (shmipc_segment_at(s, WORDS * 8, SIZE - WORDS * 8, &p)) return 0;
    for (i = 0; i < SIZE - WORDS * 8; i++) {
        if (((const char *)p)[i] != 'i') return 0;
    }
    return 1;
}

static shmipc_ctx *scope(void)
{
    shmipc_ctx_config cfg;
    shmipc_ctx *c = NULL;
    shmipc_ctx_config_init(&cfg);
    cfg.dir = dir;
    return shmipc_ctx_open(&c, &cfg) ? NULL : c;
}
/* The same without the slice of a sweep that opening a scope makes: somebody else seems to be at it. */
static shmipc_ctx *scope_as_it_is(void)
{
    char file[96];
    shmipc_ctx *c;
    int fd;
    snprintf(file, sizeof file, "%s/registry", dir);
    fd = open(file, O_RDWR | O_CLOEXEC);
    if (fd >= 0) (void)shmipc__os_try_lock(fd, SHMIPC__ROLE_SWEEPER); /* or the frozen victim has it */
    c = scope();
    close(fd);
    return c;
}
static int use(shmipc_ctx *c, int mode, uint32_t capacity, shmipc_segment **s)
{
    shmipc_segment_config cfg;
    shmipc_segment_config_init(&cfg);
    cfg.mode = mode;
    cfg.size = SIZE;
    cfg.max_size = 100000;
    cfg.capacity = capacity;
    cfg.kind = &kind;
    cfg.init = fill;
    *s = NULL;
    return shmipc_segment_open(c, "crash/name", &cfg, s);
}

static int files(const char *part)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    int n = 0;
    if (!d) return -1;
    while ((e = readdir(d)) != NULL) n += e->d_name[0] != '.' && strstr(e->d_name, part) != NULL;
    closedir(d);
    return n;
}
static int drafts(void)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    int n = 0;
    if (!d) return -1;
    while ((e = readdir(d)) != NULL) n += strncmp(e->d_name, ".draft", 6) == 0;
    closedir(d);
    return n;
}

static void empty_dir(void)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    while (d && (e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) (void)unlinkat(dirfd(d), e->d_name, 0);
    }
    if (d) closedir(d);
}

/* ---- starting states ---- */

static void die_attached(crash_run *r)
{
    shmipc_ctx *c = scope();
    shmipc_segment *s;
    (void)r;
    if (c && !use(c, SHMIPC_OPEN_OR_CREATE, 0, &s) && words(s)) words(s)[3] = shmipc_ctx_life(c);
}
static void die_removing(crash_run *r)
{
    shmipc_ctx *c = scope();
    shmipc_segment *s;
    (void)r;
    if (c && !use(c, SHMIPC_OPEN_OR_CREATE, 0, &s)) (void)shmipc__or_acqrel_u64(&shmipc__live(s)->k, SHMIPC__K_DEAD);
}
/* Killed between giving up the name and unlinking the file. */
static void die_orphaned(crash_run *r)
{
    shmipc_ctx *c = scope();
    shmipc_segment *s;
    (void)r;
    if (c && !use(c, SHMIPC_OPEN_OR_CREATE, 0, &s)) shmipc__store_release_u64(&s->slot->generation, 0);
}

static void live_there(crash_run *r, uint32_t capacity)
{
    ctx = scope();
    if (!ctx || use(ctx, SHMIPC_OPEN_OR_CREATE, capacity, &seg)) abort();
    living = shmipc_segment_generation(seg);
    named = 1;
    crash_watch(r, seg->base, seg->head.area + SIZE);
    crash_watch(r, ctx->registry, 8192);
}

static void teardown(crash_run *r)
{
    (void)r;
    shmipc_ctx_close(ctx);
    ctx = NULL;
    seg = NULL;
    living = 0;
    named = 0;
    empty_dir();
}

static void setup(crash_run *r)
{
    const char *state = crash_state(r);
    teardown(r);
    if (strcmp(state, "no registry") == 0) return;
    if (strcmp(state, "living") == 0) live_there(r, 0);
    else if (strcmp(state, "living beside dead") == 0) {
        live_there(r, 2); /* the table is full of the living and the dead */
        crash_leave_dead(die_attached, r);
    } else if (strcmp(state, "living, room, dead") == 0) {
        live_there(r, 3);
        crash_leave_dead(die_attached, r);
    } else if (strcmp(state, "leftover") == 0) crash_leave_dead(die_attached, r);
    else if (strcmp(state, "half removed") == 0) crash_leave_dead(die_removing, r);
    else if (strcmp(state, "orphan") == 0) crash_leave_dead(die_orphaned, r);
    else {
        ctx = scope(); /* "empty": a scope that somebody uses, without segments */
        if (!ctx) abort();
        crash_watch(r, ctx->registry, 8192);
    }
}

/* ---- what the victim does ---- */

static void enter(crash_run *r)
{
    (void)r;
    own = scope_as_it_is();
    if (!own) _exit(1);
}
static void enter_attached(crash_run *r)
{
    enter(r);
    if (use(own, SHMIPC_OPEN_OR_CREATE, 0, &mine)) _exit(1);
}
/* Attached without the sweep that opening makes. */
static void enter_beside(crash_run *r)
{
    enter_attached(r);
    shmipc__entry_at(mine, mine->index == 1 ? 2 : 1)->life = shmipc_ctx_life(own) - 1;
    words(mine)[3] = shmipc_ctx_life(own) - 1;
}
/* Holds a word too, so that leaving has something to give back. */
static void enter_holding(crash_run *r)
{
    enter_attached(r);
    if (!words(mine)) _exit(1);
    words(mine)[5] = shmipc_ctx_life(own);
}

static void victim_scope(crash_run *r)
{
    own = scope();
    if (own) crash_note(r, 0, 1);
    shmipc_ctx_close(own);
}
static void victim_open(crash_run *r)
{
    if (use(own, SHMIPC_OPEN_OR_CREATE, 0, &mine) == SHMIPC_OK) crash_note(r, 0, shmipc_segment_generation(mine));
}
static void victim_close(crash_run *r)
{
    shmipc_segment_close(mine);
    crash_note(r, 0, 1);
}
static void victim_unlink(crash_run *r)
{
    if (shmipc_segment_unlink(own, "crash/name") == SHMIPC_OK) crash_note(r, 0, 1);
}
static void victim_sweep(crash_run *r)
{
    if (shmipc_ctx_sweep(own, 0) >= 0) crash_note(r, 0, 1);
}
static void victim_sweep_entries(crash_run *r)
{
    if (shmipc_segment_sweep(mine) >= 0) crash_note(r, 0, 1);
}
static void victim_grow(crash_run *r)
{
    if (shmipc_segment_grow(mine, 50000) == SHMIPC_OK) crash_note(r, 0, 1);
}
static void victim_pages(crash_run *r)
{
    if (shmipc_segment_punch(mine, 4096, 8192) || shmipc_segment_reserve(mine, 4096, 8192)) return;
    crash_note(r, 0, 1);
}

/* ---- what the survivor finds ---- */

/* With everybody but the harness gone, after a sweep: the registry, and the segment of the living. */
static void nothing_leaked(crash_run *r, shmipc_ctx *c)
{
    CRASH_EXPECT(r, other, shmipc_ctx_sweep(c, 0) >= 0);
    CRASH_EXPECT(r, leaked, files(".seg") == (living && named));
    CRASH_EXPECT(r, leaked, drafts() == 0);
    CRASH_EXPECT(r, leaked, files("") == 1 + files(".seg"));
}

/* No word names the dead once the segment is swept, and no entry does. */
static void nothing_held(crash_run *r, shmipc_segment *s)
{
    uint64_t *w = words(s), life;
    uint32_t i;
    CRASH_EXPECT(r, other, shmipc_segment_sweep(s) >= 0);
    for (i = 0; w && i < WORDS; i++) CRASH_EXPECT(r, leaked, w[i] == 0);
    for (i = 0; i < s->head.capacity; i++) {
        life = shmipc__load_acquire_u64(&shmipc__entry_at(s, i)->life);
        CRASH_EXPECT(r, leaked, life == 0 || shmipc__life_alive(s->ctx, life) == 1);
    }
}

static void look(crash_run *r, int victim_gone)
{
    shmipc_ctx *c = scope_as_it_is();
    shmipc_segment *s = NULL;
    int rc;
    if (!c) {
        CRASH_EXPECT(r, lost, c != NULL);
        return;
    }
    if (strcmp(crash_role(r), "sweeps first") == 0) CRASH_EXPECT(r, other, shmipc_ctx_sweep(c, 0) >= 0);
    rc = use(c, SHMIPC_OPEN_OR_CREATE, 0, &s);
    CRASH_EXPECT(r, lost, rc == SHMIPC_OK);
    if (rc) return;
    crash_recovered(r);
    CRASH_EXPECT(r, torn, whole(s));
    crash_saw(r, shmipc_segment_index(s) == 0);
    if (named) CRASH_EXPECT(r, lost, shmipc_segment_generation(s) == living);
    if (victim_gone) nothing_held(r, s);
    shmipc_segment_close(s);
    if (victim_gone) nothing_leaked(r, c);
    shmipc_ctx_close(c);
}

static void check(crash_run *r)
{
    look(r, r->mode == CRASH_KILL || r->mode == CRASH_ZOMBIE);
}
static void done(crash_run *r) { look(r, crash_dead(r)); }

/* The name is gone, or still leads to the one that was there; who had it keeps it. */
static void check_unlinked(crash_run *r)
{
    shmipc_ctx *c = scope();
    shmipc_segment *s = NULL;
    if (!c || use(c, SHMIPC_OPEN_OR_CREATE, 0, &s)) {
        CRASH_EXPECT(r, lost, s != NULL);
        return;
    }
    crash_recovered(r);
    CRASH_EXPECT(r, torn, whole(s));
    CRASH_EXPECT(r, torn, seg->base[seg->head.area + WORDS * 8] == 'i' && seg->base[seg->head.area + SIZE - 1] == 'i');
    crash_saw(r, shmipc_segment_generation(s) == living);
    if (crash_noted(r, 0)) CRASH_EXPECT(r, other, shmipc_segment_generation(s) != living);
    shmipc_segment_close(s);
    CRASH_EXPECT(r, other, shmipc_ctx_sweep(c, 0) >= 0);
    CRASH_EXPECT(r, leaked, files(".seg") <= 1); /* only the living user's own, until it leaves */
    shmipc_ctx_close(c);
}

/* The guard sleeps in the kernel until the victim is gone, and removes what it had. */
static void check_guard(crash_run *r)
{
    shmipc_ctx *c = scope();
    if (!c) return;
    crash_ready(r);
    CRASH_EXPECT(r, other, shmipc_guard_run(c) == SHMIPC_OK);
    crash_recovered(r);
    CRASH_EXPECT(r, leaked, files(".seg") == 0);
    shmipc_ctx_close(c);
}

static const char *const s_scope[] = {"no registry", "empty", "leftover", NULL};
static const char *const s_create[] = {"empty", "leftover", "half removed", "orphan", NULL};
static const char *const s_join[] = {"living", "living, room, dead", NULL};
static const char *const s_full[] = {"living beside dead", NULL};
static const char *const s_close[] = {"empty", "living", NULL};
static const char *const s_living[] = {"living", NULL};
static const char *const s_sweep[] = {"leftover", "half removed", "orphan", NULL};
static const char *const s_dead[] = {"living, room, dead", NULL};
static const char *const s_guard[] = {"empty", NULL};
static const char *const roles[] = {"opens", "sweeps first", NULL};
static const char *const one[] = {"opens", NULL};
static const char *const guard[] = {"guard", NULL};

#define ALL (CRASH_KILL | CRASH_ZOMBIE | CRASH_FREEZE | CRASH_LATE)
static const crash_op ops[] = {
    {"scope_open_close", s_scope, roles, ALL, 0, 0, setup, NULL, victim_scope, check, done, NULL, teardown, 0},
    {"segment_create", s_create, roles, ALL, 0, 0, setup, enter, victim_open, check, done, NULL, teardown, 0},
    {"segment_join", s_join, roles, ALL, 0, 0, setup, enter, victim_open, check, done, NULL, teardown, 0},
    {"segment_join_full", s_full, roles, CRASH_KILL | CRASH_ZOMBIE, 0, 0, setup, enter, victim_open, check, NULL,
     NULL, teardown, 0},
    {"segment_close", s_close, roles, ALL, 0, 0, setup, enter_holding, victim_close, check, done, NULL, teardown, 0},
    {"segment_unlink", s_living, one, ALL, 0, 3, setup, enter, victim_unlink, check_unlinked, check_unlinked, NULL,
     teardown, 0},
    {"scope_sweep", s_sweep, roles, ALL, 0, 0, setup, enter, victim_sweep, check, done, NULL, teardown, 0},
    {"segment_sweep", s_dead, roles, ALL, 0, 0, setup, enter_beside, victim_sweep_entries, check, done, NULL,
     teardown, 0},
    {"segment_grow", s_living, one, ALL, 0, 0, setup, enter_attached, victim_grow, check, done, NULL, teardown, 0},
    {"segment_pages", s_living, one, ALL, 0, 0, setup, enter_attached, victim_pages, check, done, NULL, teardown, 0},
    {"guard_sees_death", s_guard, guard, CRASH_WAITING, 0, 0, setup, enter_attached, victim_grow, check_guard, NULL,
     NULL, teardown, 0},
};

int main(int argc, char **argv)
{
    int rc;
    strcpy(dir, "/dev/shm/shmipc-crash-XXXXXX");
    if (!mkdtemp(dir)) return 2;
    rc = crash_main("segment", ops, CRASH_COUNT(ops), argc, argv);
    empty_dir();
    (void)rmdir(dir);
    return rc;
}
