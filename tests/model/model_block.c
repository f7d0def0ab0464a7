/* Blocks, every schedule: no block is given out twice, none is used while its memory is away, none leaks with the dead.
 * The memory of an extent is a word of payload that reserve and punch write and every user reads, so that whatever
 * orders too little between them is a data race. What is reserved for good, descriptors and tables of words, may be
 * reserved by two at once: flags, which whoever touches it must see. Checks I1, I2, I4. */
#include "explore.h"
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#define SHMIPC_ATOMICS_HEADER "explore_atomics.h"
#define SHMIPC_OS_HEADER "explore_os.h"
#include "../../shmipc.h"

#define MOST 500000 /* schedules of the larger models, then they are cut */
#define MODELS 18
#define EXTENTS 2
#define DATA 131072
#define SIZE (DATA + EXTENTS * 65536)
#define ONE 65536 /* a class with one block in an extent */
#define TWO 32768 /* and one with two */
#define FOUR 16384
#define NINE 7168
#define TABLES 65536

static unsigned char region[SIZE] __attribute__((aligned(4096)));
static uint32_t backed[EXTENTS], descriptor[EXTENTS], table[EXTENTS];
static uint64_t box, entry, handle[4], got[4];
static shmipc__blocks proto;
static uint32_t extents; /* how many this model has */

static int reserve(void *arg, uint64_t offset, uint64_t len)
{
    uint32_t yes = 1, i;
    (void)arg;
    for (i = 0; offset >= DATA && i < EXTENTS; i++)
        if (offset == DATA + i * 65536 && len) shmipc__copy_in(&backed[i], &yes, 4);
    for (i = 1; offset < TABLES && i < EXTENTS; i++)
        if (offset == 1024 + i * 128) shmipc__store_relaxed_u32(&descriptor[i], 1);
    for (i = 0; offset >= TABLES && i < EXTENTS; i++)
        if (offset == TABLES + i * 8192) shmipc__store_relaxed_u32(&table[i], 1);
    return 0;
}
static int punch(void *arg, uint64_t offset, uint64_t len)
{
    uint32_t no = 0, i;
    (void)arg;
    for (i = 0; i < EXTENTS; i++)
        if (offset == DATA + i * 65536 && len) shmipc__copy_in(&backed[i], &no, 4);
    return 0;
}

static shmipc__blocks blocks_of(uint32_t owner)
{
    shmipc__blocks b = proto;
    b.owner = owner;
    b.next = 0;
    return b;
}

static void setup_new(void)
{
    memset(region, 0, 1024 + EXTENTS * 128);
    memset(region + TABLES + 64, 0, 8);
    memset(backed, 0, sizeof backed);
    memset(descriptor, 0, sizeof descriptor);
    memset(table, 0, sizeof table);
    memset(handle, 0, sizeof handle);
    memset(got, 0, sizeof got);
    box = 0;
    entry = 1;
    memset(&proto, 0, sizeof proto);
    proto.base = region;
    proto.size = DATA + extents * 65536;
    proto.extents = extents;
    proto.owner = 9;
    proto.reserve = reserve;
    proto.punch = punch;
    if (shmipc__blocks_open(&proto, 1) || proto.data != DATA) ex_die("the region does not fit the model");
    ex_name(region, 1024, "region");
    ex_name(region + 1024, 128, "extent0");
    ex_name(region + 1152, 128, "extent1");
    ex_name(region + DATA, SIZE - DATA, "data");
    ex_name(backed, sizeof backed, "backed");
    ex_name(descriptor, sizeof descriptor, "descriptor");
    ex_name(table, sizeof table, "table");
    ex_name(&box, 8, "box");
    ex_name(&entry, 8, "entry");
}
/* Extent 0 is open for TWO and empty. */
static void setup_open(void)
{
    uint64_t h;
    setup_new();
    if (shmipc__block_alloc(&proto, TWO, &h) || shmipc__block_free(&proto, h, 9)) ex_die("setup");
}
/* An extent that is not the youngest of its class is open and empty. */
static void setup_aside(void)
{
    setup_open();
    memset(region + offsetof(shmipc__region, current), 0, sizeof ((shmipc__region *)0)->current);
}
/* Users 1 and 2 hold the two blocks of it. */
static void setup_full(void)
{
    setup_aside();
    for (proto.owner = 1; proto.owner < 3; proto.owner++)
        if (shmipc__block_alloc(&proto, TWO, &handle[proto.owner])) ex_die("setup");
}
/* Owner 1, who died, holds a block in the open extent. */
static void setup_dead(void)
{
    setup_open();
    proto.owner = 1;
    if (shmipc__block_alloc(&proto, TWO, &handle[0])) ex_die("setup");
}

/* Owner 1, who died, was opening an extent. */
static void setup_opening(void)
{
    shmipc__extent_view v;
    setup_new();
    if (shmipc__extent_append(&proto, 0, &v) || !shmipc__extent_step(&v, shmipc__class_of(ONE), SHMIPC__OPENING, 1)) {
        ex_die("setup");
    }
}

/* Uses a block that we own: its memory is there, and nobody else is in it. */
static void use(shmipc__blocks *b, uint64_t h, uint64_t want, uint64_t value)
{
    uint64_t size, seen = 0;
    uint32_t there = 0;
    void *at = NULL;
    ex_assert(shmipc__block_at(b, h, &at, &size) == 0 && size >= want);
    shmipc__copy_out(&there, &backed[((unsigned char *)at - region - DATA) / 65536], 4);
    ex_assert(there == 1);
    shmipc__copy_in(at, &value, 8);
    shmipc__copy_out(&seen, at, 8);
    ex_assert(seen == value);
}

static void alloc_use_free(uint32_t me, uint64_t size)
{
    shmipc__blocks b = blocks_of(me);
    uint64_t h;
    int rc;
    b.next = me; /* the second block of two for user 1 */
    rc = shmipc__block_alloc(&b, size, &h);
    ex_assert(rc == 0 || rc == SHMIPC_ENOSPC);
    if (rc) return;
    use(&b, h, size, me);
    ex_assert(shmipc__block_free(&b, h, me) == 0);
    got[me] = 1;
}
static void user_one(void *arg) { alloc_use_free((uint32_t)(uintptr_t)arg, ONE); }
static void user_two(void *arg) { alloc_use_free((uint32_t)(uintptr_t)arg, TWO); }
static void trim(void *arg)
{
    shmipc__blocks b = blocks_of((uint32_t)(uintptr_t)arg);
    shmipc__blocks_trim(&b);
}
static void trim_and_use(void *arg)
{
    trim(arg);
    user_one(arg);
}
/* The cores of taking and opening, where a whole alloc has too many schedules. */
static int claim(shmipc__blocks *b, uint32_t first, uint64_t *h)
{
    shmipc__extent_view v;
    b->next = first;
    return shmipc__extent_read(b, 0, &v) == 0 && v.state == SHMIPC__OPEN && v.cls == shmipc__class_of(TWO) &&
           shmipc__extent_claim(b, &v, h) == 0;
}
/* Takes a block of two although the extent may be opened for another class: what we own fixes its class. */
static void user_sure(void *arg)
{
    shmipc__blocks b = blocks_of((uint32_t)(uintptr_t)arg);
    uint64_t h;
    got[1] = (uint64_t)claim(&b, 1, &h); /* not the block that an opener keeps */
}
static void split(void *arg)
{
    shmipc__blocks b = blocks_of((uint32_t)(uintptr_t)arg);
    shmipc__extent_view v;
    uint64_t h;
    if (shmipc__extent_read(&b, 0, &v) || v.state != SHMIPC__CLOSED) return;
    ex_assert(shmipc__extent_open(&b, &v, shmipc__class_of(FOUR), &h) == 0);
    got[2] = 1;
}
static void final_sure(void)
{
    uint64_t word = ((shmipc__extent *)(void *)(region + 1024))->word;
    ex_assert(!got[1] || shmipc__class_size((uint32_t)(word >> 26 & 255)) == TWO);
    ex_outcome(got[1] | got[2] << 1);
}
/* Uses the first block and leaves it, then holds the second: whoever closes meanwhile has to give up. */
static void user_both(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    shmipc__blocks b = blocks_of(me);
    uint64_t h;
    if (!claim(&b, 0, &h)) return;
    use(&b, h, TWO, me);
    ex_assert(shmipc__block_free(&b, h, me) == 0);
    claim(&b, 1, &h);
}
static void close_it(void *arg)
{
    shmipc__blocks b = blocks_of((uint32_t)(uintptr_t)arg);
    shmipc__extent_try_close(&b, 0, 0, 1);
}
static void user_first(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    shmipc__blocks b = blocks_of(me);
    uint64_t h;
    if (claim(&b, 0, &h)) use(&b, h, TWO, me);
}
/* While a closer is at it, whoever frees leaves closing to him. */
static void take_and_free(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    shmipc__blocks b = blocks_of(me);
    uint64_t h;
    if (claim(&b, 1, &h)) ex_assert(shmipc__block_free(&b, h, me) == 0);
}
static void close_aside(void *arg)
{
    shmipc__blocks b = blocks_of((uint32_t)(uintptr_t)arg);
    shmipc__extent_try_close(&b, 0, 0, 0);
}
static void free_mine(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    shmipc__blocks b = blocks_of(me);
    ex_assert(shmipc__block_free(&b, handle[me], me) == 0);
}

/* ---- what is reserved for good ---- */

static void append(void *arg)
{
    shmipc__blocks b = blocks_of((uint32_t)(uintptr_t)arg);
    shmipc__extent_view v;
    int rc = shmipc__extent_append(&b, 0, &v);
    ex_assert(rc == 0 || rc == SHMIPC_ENOSPC);
    got[b.owner] = rc == 0;
}
/* Whoever looks for extents has touched the descriptor behind the last one he knows. */
static void look(void *arg)
{
    shmipc__blocks b = blocks_of((uint32_t)(uintptr_t)arg);
    shmipc__extent_view v;
    uint32_t i = 0;
    while (shmipc__extent_read(&b, i, &v) == 0) i++;
    ex_assert(b.known == 0 || b.known == extents || shmipc__load_relaxed_u32(&descriptor[b.known]) == 1);
}
/* One lies behind the other. */
static void final_appended(void)
{
    shmipc__blocks b = blocks_of(9);
    shmipc__extent_view v;
    uint32_t i;
    for (i = 0; shmipc__extent_read(&b, i, &v) == 0; i++) ex_assert(v.offset == DATA + i * 65536);
    ex_assert(i == 2 || (i == 1 && extents == 1));
}
static void final_nine(void) { ex_outcome(got[1]); }
static void open_nine(void *arg)
{
    shmipc__blocks b = blocks_of((uint32_t)(uintptr_t)arg);
    shmipc__extent_view v;
    uint64_t h;
    ex_assert(shmipc__extent_read(&b, 0, &v) == 0);
    ex_assert(shmipc__extent_open(&b, &v, shmipc__class_of(NINE), &h) == 0);
}
/* Takes the last of nine blocks, whose word is in the table. */
static void user_ninth(void *arg)
{
    shmipc__blocks b = blocks_of((uint32_t)(uintptr_t)arg);
    shmipc__extent_view v;
    uint64_t h;
    if (shmipc__extent_read(&b, 0, &v) || v.state != SHMIPC__OPEN) return;
    ex_assert(v.count == 9 && shmipc__load_relaxed_u32(&table[0]) == 1);
    b.next = 8;
    if (shmipc__extent_claim(&b, &v, &h)) return;
    use(&b, h, NINE, 1);
    got[1] = 1;
}
static void setup_appended(void)
{
    shmipc__extent_view v;
    setup_new();
    if (shmipc__extent_append(&proto, 0, &v)) ex_die("setup");
}

/* Every word says free; what is open is backed, what is closed is not. */
static void audit(uint32_t owned)
{
    shmipc__blocks b = blocks_of(9);
    shmipc__extent_view v;
    uint32_t i, j, n = 0;
    for (i = 0; shmipc__extent_read(&b, i, &v) == 0; i++) {
        ex_assert(v.state == SHMIPC__CLOSED || v.state == SHMIPC__OPEN);
        ex_assert(backed[i] == (v.state == SHMIPC__OPEN));
        for (j = 0; j < 8; j++) {
            uint32_t s = shmipc__word_state(*shmipc__blocks_word(&b, i, j));
            n += s == SHMIPC__OWNED;
            ex_assert((s != SHMIPC__SEALED) == (v.state == SHMIPC__OPEN && j < v.count));
        }
    }
    ex_assert(n == owned);
}
static void final_empty(void)
{
    audit(0);
    ex_outcome(got[1] | got[2] << 1);
}

/* ---- handing a block over ---- */

static void give(void *arg)
{
    shmipc__blocks b = blocks_of(1);
    uint64_t h;
    (void)arg;
    ex_assert(shmipc__block_alloc(&b, TWO, &h) == 0);
    use(&b, h, TWO, 7);
    ex_assert(shmipc__block_pass(&b, h, 1, 0) == 0);
    shmipc__store_relaxed_u64(&box, h);
}
static void receive(void *arg)
{
    shmipc__blocks b = blocks_of(2);
    uint64_t h = shmipc__load_relaxed_u64(&box), size, seen = 0;
    void *at = NULL;
    (void)arg;
    if (!h) return;
    if (shmipc__block_pass(&b, h, 0, 2)) return; /* an old view of the block: not yet ours to take */
    ex_assert(shmipc__block_at(&b, h, &at, &size) == 0);
    shmipc__copy_out(&seen, at, 8);
    ex_assert(seen == 7);
    ex_assert(shmipc__block_free(&b, h, 2) == 0);
    got[2] = 1;
}
static void final_closed(void)
{
    ex_assert(shmipc__word_state(((shmipc__extent *)(void *)(region + 1024))->word) == SHMIPC__CLOSED);
    audit(0);
}
static void final_given(void) { audit(got[2] ? 0 : 1); }

/* ---- the dead ---- */

static int dead_thread;
static int still_dead(void *arg)
{
    (void)arg;
    return shmipc__load_relaxed_u64(&entry) == 1;
}
static int published(void *arg, uint64_t h)
{
    (void)arg;
    return shmipc__load_relaxed_u64(&box) == h;
}
static const shmipc__block_sweeper questions = {still_dead, published, NULL};

/* Takes, publishes, takes another, gives it back, closes what is empty: dies anywhere. */
static void mortal(void *arg)
{
    shmipc__blocks b = blocks_of(1);
    uint64_t h;
    (void)arg;
    if (shmipc__block_alloc(&b, ONE, &h)) return;
    use(&b, h, ONE, 5);
    shmipc__store_relaxed_u64(&box, h);
}
static void mortal_closer(void *arg)
{
    shmipc__blocks b = blocks_of(1);
    uint64_t h;
    (void)arg;
    if (shmipc__block_alloc(&b, TWO, &h)) return;
    shmipc__block_free(&b, h, 1);
    shmipc__blocks_trim(&b);
}
static void sweep(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    shmipc__blocks b = blocks_of(me);
    if (!ex_is_dead(dead_thread)) return;
    ex_assert(shmipc__blocks_sweep(&b, 1, &questions) == 0);
    got[me] = 1;
}
/* Whoever comes later finds the rest. */
static void final_swept(void)
{
    shmipc__blocks b = blocks_of(4);
    if (ex_is_dead(dead_thread)) ex_assert(shmipc__blocks_sweep(&b, 1, &questions) == 0);
    if (ex_is_dead(1)) ex_assert(shmipc__blocks_sweep(&b, 2, &questions) == 0);
    ex_outcome((uint64_t)ex_is_dead(dead_thread) | (uint64_t)ex_is_dead(1) << 1 | (uint64_t)(box != 0) << 2 |
               got[3] << 3);
    if (ex_is_dead(dead_thread)) audit(box != 0);
}

/* When a sweep has said that all is done no word names the dead any more, whatever a closer is at. */
static void final_unnamed(void)
{
    const uint64_t *words = ((shmipc__extent *)(void *)(region + 1024))->blocks;
    int j;
    for (j = 0; got[2] && j < 2; j++) {
        ex_assert(shmipc__word_state(words[j]) != SHMIPC__OWNED || shmipc__word_owner(words[j]) != 1);
    }
    ex_outcome(got[2]);
}

/* ---- an index that has another owner since: a late sweeper leaves his blocks alone ---- */

static void late_sweeper(void *arg)
{
    shmipc__blocks b = blocks_of(2);
    (void)arg;
    shmipc__blocks_sweep(&b, 1, &questions);
}
static void sweep_and_succeed(void *arg)
{
    shmipc__blocks b = blocks_of(3);
    uint64_t h, was = 1;
    (void)arg;
    ex_assert(shmipc__blocks_sweep(&b, 1, &questions) == 0);
    if (!shmipc__cas_relaxed_u64(&entry, &was, 2)) return; /* now we are the owner with index 1 */
    b = blocks_of(1);
    ex_assert(shmipc__block_alloc(&b, TWO, &h) == 0);
    use(&b, h, TWO, 8);
    ex_assert(shmipc__block_free(&b, h, 1) == 0);
}
static void sweep_and_open(void *arg)
{
    shmipc__blocks b = blocks_of(3);
    uint64_t h, was = 1;
    int rc;
    (void)arg;
    ex_assert(shmipc__blocks_sweep(&b, 1, &questions) == 0);
    if (!shmipc__cas_relaxed_u64(&entry, &was, 2)) return;
    b = blocks_of(1);
    rc = shmipc__block_alloc(&b, ONE, &h);
    ex_assert(rc == 0 || rc == SHMIPC_ENOSPC); /* the late sweeper may be closing the only extent */
    if (rc) return;
    use(&b, h, ONE, 8);
    ex_assert(shmipc__block_free(&b, h, 1) == 0);
    got[1] = 1;
}
static void final_reused(void)
{
    audit(0);
    ex_outcome(got[1]);
}

/* ---- stops: whoever stops, the others get blocks ---- */

static void needs_one(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    shmipc__blocks b = blocks_of(me);
    uint64_t h;
    ex_assert(shmipc__block_alloc(&b, TWO, &h) == 0);
    use(&b, h, TWO, me);
    ex_assert(shmipc__block_free(&b, h, me) == 0);
}

/* All models are static: the weakenings run them all until one reports something. */
static ex_model model[MODELS];
static uint32_t model_extents[MODELS];
static int models;
static void (*model_setup[MODELS])(void);

static void setup_any(void)
{
    int i = 0;
    while (strcmp(model[i].name, ex.m->name) != 0) i++;
    extents = model_extents[i];
    model_setup[i]();
}
static ex_model *begin(const char *name, void (*setup)(void), void (*final)(void), uint32_t n)
{
    ex_model *m = &model[models];
    model_extents[models] = n;
    model_setup[models++] = setup;
    ex_new(m, name, setup_any, final);
    m->max_schedules = MOST;
    return m;
}

int main(int argc, char **argv)
{
    ex_model *m, *all[MODELS];
    int i;
    ex_begin(argc, argv);
    m = begin("blocks: two users, one block", setup_new, final_empty, 1);
    ex_thread(m, "user 1", user_one, (void *)1);
    ex_thread(m, "user 2", user_one, (void *)2);

    m = begin("blocks: two append", setup_new, final_appended, 2);
    ex_thread(m, "appender 1", append, (void *)1);
    ex_thread(m, "appender 2", append, (void *)2);
    ex_thread(m, "looker", look, (void *)3);

    m = begin("blocks: words in a table", setup_appended, final_nine, 1);
    ex_thread(m, "opener", open_nine, (void *)2);
    ex_thread(m, "user", user_ninth, (void *)1);

    m = begin("blocks: a user and a closer", setup_open, final_empty, 1);
    ex_thread(m, "user", user_two, (void *)1);
    ex_thread(m, "closer", trim, (void *)2);

    m = begin("blocks: closed and opened for a smaller class", setup_open, final_sure, 1);
    ex_thread(m, "user", user_sure, (void *)1);
    ex_thread(m, "closer", close_it, (void *)2);
    ex_thread(m, "opener", split, (void *)3);

    m = begin("blocks: a closer looks again", setup_aside, final_closed, 1);
    ex_thread(m, "user", take_and_free, (void *)1);
    ex_thread(m, "closer", close_aside, (void *)2);

    m = begin("blocks: the last two are freed", setup_full, final_closed, 1);
    ex_thread(m, "user 1", free_mine, (void *)1);
    ex_thread(m, "user 2", free_mine, (void *)2);

    m = begin("blocks: handed over", setup_open, final_given, 1);
    ex_thread(m, "giver", give, NULL);
    ex_thread(m, "receiver", receive, NULL);

    m = begin("blocks: an owner and a sweeper die", setup_new, final_swept, 2);
    ex_killable(m, ex_thread(m, "owner", mortal, NULL), 2);
    ex_killable(m, ex_thread(m, "sweeper 2", sweep, (void *)2), 2);
    ex_thread(m, "sweeper 3", sweep, (void *)3);

    m = begin("blocks: what a dead owner used is used again", setup_open, NULL, 1);
    ex_killable(m, ex_thread(m, "owner", user_first, (void *)1), 1);
    ex_thread(m, "sweeper", sweep, (void *)2);
    ex_thread(m, "user", user_first, (void *)3);

    m = begin("blocks: a sweep beside a closer", setup_open, final_unnamed, 1);
    ex_killable(m, ex_thread(m, "owner", user_first, (void *)1), 1);
    ex_thread(m, "sweeper", sweep, (void *)2);
    ex_thread(m, "closer", close_it, (void *)3);

    m = begin("blocks: a closer and a sweeper die", setup_open, final_swept, 1);
    ex_killable(m, ex_thread(m, "closer", mortal_closer, NULL), 2);
    ex_killable(m, ex_thread(m, "sweeper 2", sweep, (void *)2), 2);
    ex_thread(m, "sweeper 3", sweep, (void *)3);

    m = begin("blocks: an index is used again", setup_dead, final_reused, 1);
    ex_thread(m, "late sweeper", late_sweeper, NULL);
    ex_thread(m, "sweeper and successor", sweep_and_succeed, NULL);

    m = begin("blocks: an index is used again by an opener", setup_opening, final_reused, 1);
    ex_thread(m, "late sweeper", late_sweeper, NULL);
    ex_thread(m, "sweeper and successor", sweep_and_open, NULL);

    m = begin("blocks: a closer stops", setup_open, NULL, 2);
    ex_stoppable(m, ex_thread(m, "closer", trim, (void *)1), 1);
    ex_thread(m, "user", needs_one, (void *)2);

    m = begin("blocks: an opener stops", setup_appended, NULL, 2);
    ex_stoppable(m, ex_thread(m, "opener", user_two, (void *)1), 1);
    ex_thread(m, "user", needs_one, (void *)2);

    m = begin("blocks: closed and opened for another class", setup_open, final_empty, 1);
    ex_thread(m, "user", user_two, (void *)1);
    ex_thread(m, "changer", trim_and_use, (void *)2);

    m = begin("blocks: a closer gives up", setup_open, NULL, 1);
    ex_thread(m, "user of both", user_both, (void *)1);
    ex_thread(m, "closer", close_it, (void *)2);
    ex_thread(m, "user of the first", user_first, (void *)3);

    for (i = 0; i < models; i++) all[i] = &model[i];
    ex_weaken_these(all, models);
    return ex_end();
}
