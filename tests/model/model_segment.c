/* The life of a named segment (DESIGN section 3, invariants I1, I2, I7; statements K2, K7): creating, joining, leaving,
 * removing and sweeping at once, with deaths and stops. What must hold:
 *   - living users of one name that are attached at the same time are in the same generation;
 *   - whoever is attached sees what the creator wrote, and it stays as long as he is there;
 *   - an open by name always ends, whatever the others died of or stopped at;
 *   - when all have left or died, one look through the directory leaves neither a file nor a generation;
 *   - an attach index is free only when all that its dead owner held has been given back. */
#include "explore.h"
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#define SHMIPC_ATOMICS_HEADER "explore_atomics.h"
#define SHMIPC_OS_HEADER "explore_os.h"
#include "../../shmipc.h"

#define USERS 4
static shmipc_ctx *ctx[USERS];
static uint64_t generation[USERS]; /* where a user is attached, for the others to compare */
static int capacity;
static int sweep(shmipc_segment *s, uint32_t index, uint64_t life);
static const shmipc_kind kind = {7, 1, "model", NULL, sweep, NULL, NULL};
static const shmipc_kind *const kinds[] = {&kind};

static int init(shmipc_segment *s, void *arg)
{
    uint64_t v = 0x1234;
    void *p = NULL;
    (void)arg;
    ex_assert(shmipc_segment_at(s, 0, 8, &p) == SHMIPC_OK);
    shmipc__copy_in(p, &v, 8);
    return SHMIPC_OK;
}
static shmipc_segment *open_segment(int me)
{
    shmipc_segment_config cfg;
    shmipc_segment *s = NULL;
    int rc;
    shmipc_segment_config_init(&cfg);
    cfg.mode = SHMIPC_OPEN_OR_CREATE;
    cfg.capacity = (uint32_t)capacity;
    cfg.size = 64;
    cfg.kind = &kind;
    cfg.init = init;
    rc = shmipc_segment_open(ctx[me], "a", &cfg, &s);
    ex_assert(rc == SHMIPC_OK || rc == SHMIPC_ETABLE);
    return s;
}
static void setup(void)
{
    shmipc_ctx_config cfg;
    int i;
    capacity = 2;
    shmipc_ctx_config_init(&cfg);
    cfg.dir = "d";
    cfg.kinds = kinds;
    cfg.kind_count = 1;
    for (i = 0; i < USERS; i++) {
        ex_os_as = i;
        generation[i] = 0;
        if (shmipc_ctx_open(&ctx[i], &cfg)) ex_die("no context");
    }
    ex_os_as = -1;
}
/* User 0 is attached already. */
static shmipc_segment *there;
static void setup_attached(void)
{
    setup();
    ex_os_as = 0;
    there = open_segment(0);
    ex_os_as = -1;
}

/* While attached: what the creator wrote is there, and no living user is somewhere else. */
static void stay(int me, shmipc_segment *s)
{
    uint64_t v;
    void *p = NULL;
    int i;
    ex_assert(shmipc_segment_at(s, 0, 8, &p) == SHMIPC_OK);
    shmipc__copy_out(&v, p, 8);
    ex_assert(v == 0x1234);
    ex_ghost();
    generation[me] = shmipc_segment_generation(s);
    for (i = 0; i < USERS; i++)
        if (generation[i] && ex.proc[i].state != EX_DEAD) ex_assert(generation[i] == generation[me]);
    ex_ghost();
    generation[me] = 0;
}
static void user(void *arg)
{
    int me = (int)(intptr_t)arg;
    shmipc_segment *s = open_segment(me);
    if (!s) return;
    stay(me, s);
    shmipc_segment_close(s);
}
static void leaver(void *arg)
{
    stay((int)(intptr_t)arg, there);
    shmipc_segment_close(there);
}
static void sweeper(void *arg) { ex_assert(shmipc_ctx_sweep(ctx[(intptr_t)arg], 0) >= 0); }

/* Outside the threads: the last context looks through the directory once. */
static void all_gone(void)
{
    shmipc_segment_info info;
    int i;
    for (i = 0; i < USERS - 1; i++)
        if (ex.proc[i].state == EX_STOPPED) return;
    ex_os_as = USERS - 1;
    ex_assert(shmipc_ctx_sweep(ctx[USERS - 1], 0) >= 0);
    ex_assert(shmipc_segment_inspect(ctx[USERS - 1], "a", &info) == SHMIPC_ENOENT);
    for (i = 0; i < EX_OS_FILES; i++)
        ex_assert(!ex_os.file[i].linked || strcmp(ex_os.file[i].name, SHMIPC__REGISTRY_FILE) == 0);
    ex_os_as = -1;
}

/* A word of the segment that names an attachment, with a version, as all words that a sweep gives back. */
static uint64_t *word_of(shmipc_segment *s)
{
    void *p = NULL;
    ex_assert(shmipc_segment_at(s, 8, 8, &p) == SHMIPC_OK);
    return (uint64_t *)p;
}
static int sweep(shmipc_segment *s, uint32_t index, uint64_t life)
{
    uint64_t *word = word_of(s), w = shmipc__load_acquire_u64(word);
    if ((w & 255) != index + 1 || !shmipc_segment_holds(s, index, life)) return SHMIPC_OK;
    (void)shmipc__cas_acqrel_u64(word, &w, w & ~(uint64_t)255);
    return SHMIPC_OK;
}
static void hold(shmipc_segment *s)
{
    uint64_t *word = word_of(s), w = shmipc__load_acquire_u64(word), mine;
    ex_assert((w & 255) != s->index + 1);
    if (w & 255) return;
    mine = (w | 255) + 2 + s->index;
    if (!shmipc__cas_acqrel_u64(word, &w, mine)) return;
    ex_assert(shmipc__load_relaxed_u64(word) == mine); /* nobody sweeps what a living one holds */
    shmipc__store_release_u64(word, mine & ~(uint64_t)255);
}
/* The table has two entries: user 0 has one and holds the word, user 1 is mapped but not attached, user 2 has the
 * other. */
static shmipc_segment *coming, *other;
static void setup_holding(void)
{
    capacity = 2;
    setup_attached();
    ex_os_as = 1;
    coming = open_segment(1);
    shmipc__entry_leave(coming);
    coming->attached = 0;
    ex_os_as = 2;
    other = open_segment(2);
    ex_os_as = -1;
    *word_of(there) = 256 + there->index + 1;
}
static void holder(void *arg)
{
    (void)arg;
    shmipc__store_release_u64(word_of(there), 256);
    shmipc__entry_leave(there);
}
static void taker(void *arg)
{
    (void)arg;
    if (shmipc__segment_attach(coming) == SHMIPC_OK) hold(coming);
}
static void entry_sweeper(void *arg)
{
    (void)arg;
    ex_assert(shmipc__entry_sweep(other, 0) >= 0);
}
static void holding_gone(void)
{
    if (ex.proc[0].state != EX_DEAD) there->attached = 0;
    ex_os_as = 1;
    if (coming->attached) shmipc_segment_close(coming);
    ex_os_as = 2;
    shmipc_segment_close(other);
    all_gone();
}

int main(int argc, char **argv)
{
    ex_model join, leave, die, swept, reuse;
    ex_model *all[5];
    int i, n = 0;
    ex_begin(argc, argv);

    ex_new(&leave, "segment: one leaves, one comes", setup_attached, all_gone);
    ex_thread(&leave, "leaver", leaver, (void *)0);
    ex_thread(&leave, "user", user, (void *)1);
    all[n++] = &leave;

    ex_new(&die, "segment: one leaves, dies or stops, one comes", setup_attached, all_gone);
    ex_thread(&die, "leaver", leaver, (void *)0);
    ex_thread(&die, "user", user, (void *)1);
    ex_killable(&die, 0, 1);
    ex_stoppable(&die, 0, 1);
    all[n++] = &die;

    ex_new(&reuse, "segment: index of a dead user", setup_holding, holding_gone);
    ex_thread(&reuse, "holder", holder, (void *)0);
    ex_thread(&reuse, "taker", taker, (void *)1);
    ex_thread(&reuse, "sweeper", entry_sweeper, (void *)2);
    ex_killable(&reuse, 0, 1);
    all[n++] = &reuse;

    ex_new(&join, "segment: two create or join", setup, all_gone);
    ex_thread(&join, "user 0", user, (void *)0);
    ex_thread(&join, "user 1", user, (void *)1);
    all[n++] = &join;

    ex_new(&swept, "segment: one leaves or dies, one comes, one sweeps", setup_attached, all_gone);
    ex_thread(&swept, "leaver", leaver, (void *)0);
    ex_thread(&swept, "user", user, (void *)1);
    ex_thread(&swept, "sweeper", sweeper, (void *)2);
    ex_killable(&swept, 0, 1);
    all[n++] = &swept;
    for (i = 0; i < n; i++) ex_run(all[i]);
    return ex_end();
}
