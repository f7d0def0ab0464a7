/* crash_block.c - size-class blocks: who takes, publishes, removes, frees, trims or sweeps dies, or stops, after any
 * instruction (K2, invariants 1, 2 and 4).
 *
 * A table of four handles stands for the structure that names blocks. At the end the dead are swept: every published
 * block is there with its contents, everything else is free, and when all is removed all memory is given back.
 */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../../shmipc.h"

#include "crashstep.h"

enum { EXTENTS = 6, SIZE = 2 << 20, PAGE = 4096, NAMES = 4, EDGE = 32 };
enum { BLOCK = 20000, EACH = 3, SMALL = 7000, MOST = 9 }; /* sizes, and how many are in an extent */
enum { SURVIVOR_ID = 1, VICTIM_ID, GHOST_ID };
enum { NAMED, REMOVED, FINISHED }; /* notes of the victim: it published, it removed, it came to its end */

typedef struct {
    uint64_t name[NAMES];           /* handles of published blocks, or 0 */
    unsigned char backed[SIZE / PAGE]; /* pages that are reserved */
} table;

static unsigned char *base;
static table *shared;
static shmipc__blocks mine, his, ghost;
static uint64_t block_size; /* of this case */
static int each;            /* blocks in an extent: three, or nine, the word of the last in a table */

/* ---- the file system: what is not reserved holds nothing --------------------------------------------------------- */

static int reserve(void *arg, uint64_t offset, uint64_t len)
{
    (void)arg;
    if (!len || offset + len > SIZE) return SHMIPC_ENOSPC;
    memset(shared->backed + offset / PAGE, 1, (size_t)((offset + len - 1) / PAGE - offset / PAGE + 1));
    return SHMIPC_OK;
}

static int punch(void *arg, uint64_t offset, uint64_t len)
{
    (void)arg;
    if (madvise(base + offset, (size_t)len, MADV_REMOVE)) abort();
    memset(shared->backed + offset / PAGE, 0, (size_t)(len / PAGE));
    return SHMIPC_OK;
}

/* Even reading allocates a page: none is there that was not reserved. */
static int all_is_reserved(void)
{
    unsigned char there[SIZE / PAGE];
    int p;
    if (mincore(base, SIZE, there)) abort();
    for (p = 0; p < SIZE / PAGE; p++)
        if ((there[p] & 1) && !shared->backed[p]) return 0;
    return 1;
}

static void open_blocks(shmipc__blocks *b, uint32_t owner, int make)
{
    memset(b, 0, sizeof *b);
    b->base = base;
    b->size = SIZE;
    b->extents = EXTENTS;
    b->owner = owner;
    b->reserve = reserve;
    b->punch = punch;
    if (shmipc__blocks_open(b, make)) abort();
}

/* ---- publishing -------------------------------------------------------------------------------------------------- */

static void write_edges(unsigned char *at, int i)
{
    memset(at, 'a' + i, EDGE);
    memset(at + block_size - EDGE, 'a' + i, EDGE);
}

static int edges_are(const unsigned char *at, int i)
{
    unsigned char want[EDGE];
    memset(want, 'a' + i, EDGE);
    return !memcmp(at, want, EDGE) && !memcmp(at + block_size - EDGE, want, EDGE);
}

/* Takes a block, fills it, names it by one store, and leaves it to the table. */
static int publish(shmipc__blocks *b, int i)
{
    uint64_t handle, size;
    void *at;
    int rc = shmipc__block_alloc(b, block_size, &handle);
    if (!rc) rc = shmipc__block_at(b, handle, &at, &size);
    if (rc) return rc;
    write_edges((unsigned char *)at, i);
    shmipc__store_release_u64(&shared->name[i], handle);
    return shmipc__block_pass(b, handle, b->owner, 0);
}

/* Takes a published block over, un-names it, and frees it. */
static int removed(shmipc__blocks *b, int i)
{
    uint64_t handle = shmipc__load_acquire_u64(&shared->name[i]);
    int rc = shmipc__block_pass(b, handle, 0, b->owner);
    if (rc) return rc;
    shmipc__store_release_u64(&shared->name[i], 0);
    return shmipc__block_free(b, handle, b->owner);
}

static int still_dead(void *arg)
{
    (void)arg;
    return 1;
}
static int is_published(void *arg, uint64_t handle)
{
    int i;
    (void)arg;
    for (i = 0; i < NAMES; i++)
        if (shmipc__load_acquire_u64(&shared->name[i]) == handle) return 1;
    return 0;
}
static int sweep(shmipc__blocks *b, uint32_t dead)
{
    shmipc__block_sweeper s;
    s.still_dead = still_dead;
    s.published = is_published;
    s.arg = NULL;
    return shmipc__blocks_sweep(b, dead, &s);
}

/* ---- states ------------------------------------------------------------------------------------------------------ */

static int has(const crash_run *r, const char *part) { return strstr(crash_state(r), part) != NULL; }

static void must(int ok)
{
    if (!ok) abort();
}

static void setup(crash_run *r)
{
    uint64_t h[MOST];
    int i;
    block_size = has(r, "nine") ? SMALL : BLOCK;
    each = has(r, "nine") ? MOST : EACH;
    if (madvise(base, SIZE, MADV_REMOVE)) abort();
    memset(shared, 0, sizeof *shared);
    open_blocks(&mine, SURVIVOR_ID, 1);
    open_blocks(&ghost, GHOST_ID, 0);
    if (has(r, "one")) must(publish(&mine, 0) == SHMIPC_OK);
    if (has(r, "full"))
        for (i = 0; i < each; i++) must(publish(&mine, i) == SHMIPC_OK);
    if (has(r, "open")) must(publish(&mine, 0) == SHMIPC_OK && removed(&mine, 0) == SHMIPC_OK);
    if (has(r, "closed")) { /* an extent that was used and given back */
        for (i = 0; i < each; i++) must(shmipc__block_alloc(&mine, block_size, &h[i]) == SHMIPC_OK);
        for (i = 0; i < each; i++) must(shmipc__block_free(&mine, h[i], SURVIVOR_ID) == SHMIPC_OK);
        shmipc__blocks_trim(&mine);
    }
    if (has(r, "ghost")) { /* it died with a block of its own, and between naming one and leaving it to the table */
        must(shmipc__block_alloc(&ghost, block_size, &h[0]) == SHMIPC_OK && publish(&ghost, 2) == SHMIPC_OK);
        must(shmipc__block_pass(&ghost, shared->name[2], 0, GHOST_ID) == SHMIPC_OK);
    }
    crash_watch(r, base, sizeof(shmipc__region) + EXTENTS * sizeof(shmipc__extent));
    crash_watch(r, shared, sizeof *shared);
    if (has(r, "nine")) crash_watch(r, base + 65536 + 64, 64); /* the first table */
}

static void enter(crash_run *r)
{
    (void)r;
    open_blocks(&his, VICTIM_ID, 0);
}

/* ---- what the victim does ---------------------------------------------------------------------------------------- */

static void publish_one(crash_run *r)
{
    if (publish(&his, 3)) return;
    crash_note(r, NAMED, 1);
    crash_note(r, FINISHED, 1);
}

static void take_and_free(crash_run *r)
{
    uint64_t a, b;
    if (shmipc__block_alloc(&his, block_size, &a) || shmipc__block_alloc(&his, block_size, &b)) return;
    if (shmipc__block_free(&his, a, VICTIM_ID) || shmipc__block_free(&his, b, VICTIM_ID)) return;
    crash_note(r, FINISHED, 1);
}

static void remove_one(crash_run *r)
{
    if (removed(&his, 0)) return;
    crash_note(r, REMOVED, 1);
    crash_note(r, FINISHED, 1);
}

static void trim(crash_run *r)
{
    shmipc__blocks_trim(&his);
    crash_note(r, FINISHED, 1);
}

static void sweep_ghost(crash_run *r)
{
    if (sweep(&his, GHOST_ID) == SHMIPC_OK) crash_note(r, FINISHED, 1);
}

/* ---- the survivor ------------------------------------------------------------------------------------------------ */

/* Reserved before it was handed out, so that touching it cannot fail. */
static int is_backed(const void *at, uint64_t size)
{
    uint64_t first = (uint64_t)((const unsigned char *)at - base), p;
    for (p = first / PAGE; p <= (first + size - 1) / PAGE; p++)
        if (!shared->backed[p]) return 0;
    return 1;
}

static void check_names(crash_run *r)
{
    uint64_t size;
    void *at;
    int i;
    for (i = 0; i < NAMES; i++) {
        if (!shared->name[i]) continue;
        CRASH_EXPECT(r, lost, shmipc__block_at(&mine, shared->name[i], &at, &size) == SHMIPC_OK);
        if (shmipc__block_at(&mine, shared->name[i], &at, &size)) continue;
        CRASH_EXPECT(r, torn, size >= block_size && edges_are((unsigned char *)at, i));
        CRASH_EXPECT(r, lost, is_backed(at, size));
    }
}

/* Two blocks at once, which nobody else has. */
static void use_two(crash_run *r)
{
    uint64_t h[2], size = 0;
    void *at[2];
    int i;
    for (i = 0; i < 2; i++) {
        CRASH_EXPECT(r, other, shmipc__block_alloc(&mine, block_size, &h[i]) == SHMIPC_OK);
        CRASH_EXPECT(r, other, shmipc__block_at(&mine, h[i], &at[i], &size) == SHMIPC_OK);
        if (r->page->other) return;
        CRASH_EXPECT(r, other, is_backed(at[i], size));
        CRASH_EXPECT(r, twice, !is_published(NULL, h[i]));
        write_edges((unsigned char *)at[i], 8 + i);
    }
    crash_recovered(r);
    check_names(r);
    for (i = 0; i < 2; i++) {
        CRASH_EXPECT(r, twice, edges_are((unsigned char *)at[i], 8 + i));
        CRASH_EXPECT(r, other, shmipc__block_free(&mine, h[i], SURVIVOR_ID) == SHMIPC_OK);
    }
}

/* After the sweeps: how many blocks are owned, and no extent is half way. */
static int owned_blocks(crash_run *r)
{
    shmipc__extent_view v;
    uint32_t i, j;
    int n = 0;
    for (i = 0; shmipc__extent_read(&mine, i, &v) == SHMIPC_OK; i++) {
        CRASH_EXPECT(r, leaked, v.state == SHMIPC__OPEN || v.state == SHMIPC__CLOSED);
        for (j = 0; v.state == SHMIPC__OPEN && j < v.count; j++)
            n += shmipc__word_state(*shmipc__blocks_word(&mine, i, j)) == SHMIPC__OWNED;
    }
    return n;
}

static int data_pages(void)
{
    int i, n = 0;
    for (i = (int)(mine.data / PAGE); i < SIZE / PAGE; i++) n += shared->backed[i];
    return n;
}

/* Every extent can be had, each block once. */
static void use_everything(crash_run *r)
{
    uint64_t h[EXTENTS * MOST + 1];
    int n = 0, i;
    while (n <= EXTENTS * each && shmipc__block_alloc(&mine, block_size, &h[n]) == SHMIPC_OK) n++;
    CRASH_EXPECT(r, leaked, n == EXTENTS * each);
    for (i = 0; i < n; i++) CRASH_EXPECT(r, other, shmipc__block_free(&mine, h[i], SURVIVOR_ID) == SHMIPC_OK);
}

static void close_books(crash_run *r)
{
    int i, names = 0;
    if (r->mode == CRASH_FREEZE) CRASH_EXPECT(r, other, crash_noted(r, FINISHED));
    CRASH_EXPECT(r, other, sweep(&mine, VICTIM_ID) == SHMIPC_OK && sweep(&mine, GHOST_ID) == SHMIPC_OK);
    CRASH_EXPECT(r, other, all_is_reserved());
    if (crash_noted(r, NAMED)) CRASH_EXPECT(r, lost, shared->name[3]);
    if (crash_noted(r, REMOVED)) CRASH_EXPECT(r, twice, !shared->name[0]);
    crash_saw(r, shared->name[3] || (has(r, "one") && !shared->name[0]) ? 1 : 0);
    check_names(r);
    for (i = 0; i < NAMES; i++) names += shared->name[i] != 0;
    CRASH_EXPECT(r, leaked, owned_blocks(r) == names);
    for (i = 0; i < NAMES; i++)
        if (shared->name[i]) CRASH_EXPECT(r, other, removed(&mine, i) == SHMIPC_OK);
    use_everything(r);
    shmipc__blocks_trim(&mine);
    CRASH_EXPECT(r, leaked, owned_blocks(r) == 0 && data_pages() == 0);
    CRASH_EXPECT(r, other, all_is_reserved());
}

/* Beside a stopped victim: takes a block where he is about to do something, and keeps it until he has gone on. */
static void keep_one(crash_run *r)
{
    CRASH_EXPECT(r, other, publish(&mine, 1) == SHMIPC_OK);
    crash_recovered(r);
}

static void check(crash_run *r)
{
    int stopped = r->mode == CRASH_FREEZE || r->mode == CRASH_LATE;
    if (stopped && !shared->name[1] && !strcmp(crash_role(r), "owner")) {
        keep_one(r);
        return;
    }
    if (!strcmp(crash_role(r), "sweeper")) {
        CRASH_EXPECT(r, other, sweep(&mine, GHOST_ID) == SHMIPC_OK);
        if (crash_dead(r)) CRASH_EXPECT(r, other, sweep(&mine, VICTIM_ID) == SHMIPC_OK);
        crash_recovered(r);
    }
    if (!strcmp(crash_role(r), "trimmer")) shmipc__blocks_trim(&mine);
    use_two(r);
    shmipc__blocks_trim(&mine);
    use_two(r);
    if (!stopped) close_books(r);
    else if (!shared->name[1]) keep_one(r);
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

static const char *const all[] = { "open", "empty", "one", "full", "closed", "one ghost", "closed ghost", NULL };
static const char *const nine[] = { "nine", "nine closed", "nine open", NULL };
static const char *const some[] = { "one", "one ghost", "one closed", NULL };
static const char *const ghosts[] = { "ghost", "one ghost", "closed ghost", NULL };
static const char *const roles[] = { "owner", "sweeper", "trimmer", NULL };

#define ALL (CRASH_KILL | CRASH_ZOMBIE | CRASH_FREEZE | CRASH_LATE)
#define ROW(name, states, see, fn)                                                                                     \
    {                                                                                                                  \
        name, states, roles, ALL, CRASH_INPROC, see, setup, enter, fn, check, close_books, NULL, NULL, 0               \
    }

static const crash_op ops[] = {
    ROW("trim", all, 1, trim),
    ROW("take and free", nine, 1, take_and_free),
    ROW("publish", all, 3, publish_one),
    ROW("take and free", all, 1, take_and_free),
    ROW("remove", some, 3, remove_one),
    ROW("sweep", ghosts, 1, sweep_ghost),
};

int main(int argc, char **argv)
{
    base = (unsigned char *)crash_shared(SIZE);
    madvise(base, SIZE, MADV_NOHUGEPAGE); /* where pages are never huge it fails: as well */
    shared = (table *)crash_shared(sizeof *shared);
    return crash_main("block", ops, CRASH_COUNT(ops), argc, argv);
}
