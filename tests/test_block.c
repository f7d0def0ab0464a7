/* Size-class blocks over plain memory in which only reserved pages can be touched. */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../shmipc.h"
#include "check.h"

#define SIZE ((uint64_t)64 << 20)
#define PAGE 4096

static unsigned char *base;
static unsigned char backed[SIZE / PAGE]; /* which pages may be touched */
static uint64_t used_pages, most_pages = SIZE / PAGE, punches;

/* The file system: all or nothing, within a budget. */
static int reserve(void *arg, uint64_t offset, uint64_t len)
{
    uint64_t p, first = offset / PAGE, last = (offset + len - 1) / PAGE, missing = 0;
    (void)arg;
    REQUIRE(len > 0 && offset + len <= SIZE);
    for (p = first; p <= last; p++) missing += !backed[p];
    if (used_pages + missing > most_pages) return SHMIPC_ENOSPC;
    used_pages += missing;
    memset(backed + first, 1, (size_t)(last - first + 1));
    REQUIRE(mprotect(base + first * PAGE, (size_t)((last - first + 1) * PAGE), PROT_READ | PROT_WRITE) == 0);
    return 0;
}

static int punch(void *arg, uint64_t offset, uint64_t len)
{
    uint64_t p, first = offset / PAGE, n = len / PAGE;
    (void)arg;
    REQUIRE(offset % PAGE == 0 && len % PAGE == 0 && offset + len <= SIZE);
    for (p = first; p < first + n; p++) used_pages -= backed[p], backed[p] = 0;
    REQUIRE(madvise(base + offset, (size_t)len, MADV_REMOVE) == 0);
    REQUIRE(mprotect(base + offset, (size_t)len, PROT_NONE) == 0);
    punches++;
    return 0;
}

static shmipc__blocks region_of(uint32_t owner, uint32_t extents, int make)
{
    shmipc__blocks b;
    memset(&b, 0, sizeof b);
    if (make) {
        base = (unsigned char *)mmap(NULL, SIZE, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        REQUIRE(base != MAP_FAILED);
    }
    b.base = base;
    b.size = SIZE;
    b.extents = extents;
    b.owner = owner;
    b.reserve = reserve;
    b.punch = punch;
    REQUIRE(shmipc__blocks_open(&b, make) == 0);
    return b;
}

/* How many blocks are in this state and, if not 0xffffffff, of this owner. */
static uint32_t count(shmipc__blocks *b, uint32_t state, uint32_t owner)
{
    shmipc__extent_view v;
    uint32_t i, j, n = 0;
    for (i = 0; shmipc__extent_read(b, i, &v) == 0; i++) {
        for (j = 0; v.state != SHMIPC__CLOSED && j < v.count; j++) {
            uint64_t w = *shmipc__blocks_word(b, i, j);
            n += shmipc__word_state(w) == state && (owner == 0xffffffff || shmipc__word_owner(w) == owner);
        }
    }
    return n;
}

static uint32_t extents_in(shmipc__blocks *b, uint32_t state)
{
    shmipc__extent_view v;
    uint32_t i, n = 0;
    for (i = 0; shmipc__extent_read(b, i, &v) == 0; i++) n += v.state == state;
    return n;
}

/* Pages below the extents: header, descriptors, tables. They stay. */
static uint64_t data_pages(shmipc__blocks *b)
{
    uint64_t p, n = 0;
    for (p = b->data / PAGE; p < SIZE / PAGE; p++) n += backed[p];
    return n;
}

static unsigned char *at(shmipc__blocks *b, uint64_t handle, uint64_t *size)
{
    void *p = NULL;
    REQUIRE(shmipc__block_at(b, handle, &p, size) == 0);
    return (unsigned char *)p;
}

TEST(K2_classes_waste_at_most_a_quarter)
{
    uint64_t n, was = 0;
    uint32_t c;
    for (c = 0; c < SHMIPC__CLASSES; c++) {
        uint64_t size = shmipc__class_size(c);
        CHECK(size > was);
        CHECK_EQ(shmipc__class_of(size), c);
        CHECK_EQ(shmipc__class_of(was + 1), c);
        CHECK(c == 0 || (size - (was + 1)) * 4 <= size);
        CHECK_EQ(size % 16, 0);
        CHECK(SHMIPC__UNIT << shmipc__class_order(c) >= size);
        was = size;
    }
    CHECK_EQ(was, (uint64_t)1 << 40);
    CHECK_EQ(shmipc__class_of(was + 1), SHMIPC__CLASSES);
    CHECK_EQ(shmipc__class_of(UINT64_MAX), SHMIPC__CLASSES);
    CHECK_EQ(shmipc__class_of(0), 0);
    for (n = 1; n < 300000; n++) CHECK(shmipc__class_size(shmipc__class_of(n)) >= n);
}

TEST(K2_bad_arguments_are_refused)
{
    shmipc__blocks b = region_of(1, 100, 1), c = b;
    uint64_t h = 0, size;
    void *p;
    c.owner = 0;
    CHECK_EQ(shmipc__blocks_open(&c, 0), SHMIPC_EINVAL);
    c = b, c.extents = 0;
    CHECK_EQ(shmipc__blocks_open(&c, 0), SHMIPC_EINVAL);
    c = b, c.extents = 99;
    CHECK_EQ(shmipc__blocks_open(&c, 0), SHMIPC_EMISMATCH);
    c = b, c.size = 1 << 19;
    CHECK_EQ(shmipc__blocks_open(&c, 0), SHMIPC_EINVAL);
    c = b, c.base += 8;
    CHECK_EQ(shmipc__blocks_open(&c, 0), SHMIPC_EINVAL);
    c = b, c.punch = NULL;
    CHECK_EQ(shmipc__blocks_open(&c, 0), SHMIPC_EINVAL);
    CHECK_EQ(shmipc__block_alloc(&b, SIZE, &h), SHMIPC_EMSGSIZE);
    CHECK_EQ(shmipc__block_alloc(&b, UINT64_MAX, &h), SHMIPC_EMSGSIZE);
    CHECK_EQ(h, 0);
    CHECK_EQ(shmipc__block_at(&b, 0, &p, &size), SHMIPC_ECORRUPT);
    CHECK_EQ(shmipc__block_at(&b, UINT64_MAX, &p, &size), SHMIPC_ECORRUPT);
    CHECK_EQ(shmipc__block_free(&b, 77, 1), SHMIPC_ECORRUPT);
    ((shmipc__region *)(void *)base)->stamp++;
    CHECK_EQ(shmipc__blocks_open(&b, 0), SHMIPC_EFOREIGN);
}

TEST(I1_blocks_of_all_sizes_are_disjoint_and_keep_their_bytes)
{
    enum { N = 900 };
    static uint64_t handle[N], want[N];
    shmipc__blocks b = region_of(1, 500, 1);
    uint64_t size, k, round;
    uint32_t i;
    for (round = 0; round < 20000; round++) {
        i = (uint32_t)(check_random() % N);
        if (handle[i]) {
            unsigned char *p = at(&b, handle[i], &size);
            CHECK(size >= want[i]);
            for (k = 0; k < want[i]; k++)
                if (p[k] != (unsigned char)(i + k)) break;
            CHECK_EQ(k, want[i]);
            CHECK_EQ(shmipc__block_free(&b, handle[i], 1), 0);
            CHECK_EQ(shmipc__block_free(&b, handle[i], 1), SHMIPC_ESTATE); /* twice */
            handle[i] = 0;
        } else {
            want[i] = check_random() % ((uint64_t)1 << (check_random() % 17)) + (check_random() % 50 == 0 ? 100000 : 0);
            REQUIRE(shmipc__block_alloc(&b, want[i], &handle[i]) == 0);
            for (k = 0; k < want[i]; k++) at(&b, handle[i], &size)[k] = (unsigned char)(i + k);
        }
    }
    for (i = 0; i < N; i++)
        if (handle[i]) CHECK_EQ(shmipc__block_free(&b, handle[i], 1), 0);
    CHECK_EQ(count(&b, SHMIPC__OWNED, 0xffffffff), 0);
    shmipc__blocks_trim(&b);
    CHECK_EQ(extents_in(&b, SHMIPC__OPEN), 0);
    CHECK_EQ(data_pages(&b), 0);
}

TEST(I4_memory_is_given_back_and_reserved_again)
{
    shmipc__blocks b = region_of(1, 500, 1);
    uint64_t handle[300], size, h;
    uint32_t i, round;
    for (round = 0; round < 3; round++) {
        for (i = 0; i < 300; i++) {
            CHECK_EQ(shmipc__block_alloc(&b, 16384, &handle[i]), 0);
            memset(at(&b, handle[i], &size), 1, 16384);
        }
        CHECK_EQ(data_pages(&b), 300 * 4);
        for (i = 0; i < 300; i++) CHECK_EQ(shmipc__block_free(&b, handle[i], 1), 0);
        CHECK_EQ(extents_in(&b, SHMIPC__OPEN), 1); /* the youngest is kept */
        CHECK_EQ(data_pages(&b), 16);
    }
    CHECK_EQ(b.known, 75); /* addresses are used again */
    CHECK_EQ(shmipc__block_alloc(&b, 65536, &h), 0); /* also by another class of the same extents */
    CHECK_EQ(b.known, 75);
    CHECK_EQ(shmipc__block_alloc(&b, 5 << 20, &h), 0);
    CHECK_EQ(b.known, 76);
    memset(at(&b, h, &size), 1, 5 << 20);
    CHECK_EQ(data_pages(&b), 16 + 16 + (5 << 20) / PAGE);
    punches = 0;
    for (i = 0; i < 10; i++) { /* one block to and fro costs no system call */
        CHECK_EQ(shmipc__block_free(&b, h, 1), 0);
        CHECK_EQ(shmipc__block_alloc(&b, 5 << 20, &h), 0);
    }
    CHECK_EQ(punches, 0);
}

TEST(I4_a_full_file_system_is_an_error_and_loses_nothing)
{
    shmipc__blocks b = region_of(1, 500, 1);
    static uint64_t handle[2000];
    uint64_t size, h = 0, before;
    uint32_t i, n = 0;
    most_pages = used_pages + 200;
    while (shmipc__block_alloc(&b, 3000, &handle[n]) == 0) memset(at(&b, handle[n], &size), (int)n, 3000), n++;
    CHECK(n > 200 && used_pages <= most_pages);
    before = used_pages;
    CHECK_EQ(shmipc__block_alloc(&b, 3000, &h), SHMIPC_ENOSPC);
    CHECK_EQ(shmipc__block_alloc(&b, 1 << 20, &h), SHMIPC_ENOSPC);
    CHECK_EQ(h, 0);
    CHECK(used_pages <= before + 2); /* words of the extents that were tried stay; their memory does not */
    for (i = 0; i < n; i++) CHECK_EQ(at(&b, handle[i], &size)[2999], i & 255);
    for (i = 0; i < n; i++) CHECK_EQ(shmipc__block_free(&b, handle[i], 1), 0);
    CHECK_EQ(shmipc__block_alloc(&b, 500000, &h), 0); /* the empty extent of the other class goes for it */
    most_pages = used_pages;
    CHECK_EQ(shmipc__block_alloc(&b, 500000, &handle[0]), SHMIPC_ENOSPC);
    most_pages = SIZE / PAGE;
    CHECK_EQ(shmipc__block_alloc(&b, 500000, &handle[0]), 0);
}

TEST(I4_no_address_left_is_an_error)
{
    shmipc__blocks b = region_of(1, 3, 1);
    uint64_t h[6];
    uint32_t i;
    for (i = 0; i < 6; i++) CHECK_EQ(shmipc__block_alloc(&b, 30000, &h[i]), 0);
    CHECK_EQ(shmipc__block_alloc(&b, 30000, &h[0]), SHMIPC_ENOSPC);
    CHECK_EQ(shmipc__block_alloc(&b, 64, &h[0]), SHMIPC_ENOSPC);
    CHECK_EQ(shmipc__block_free(&b, h[2], 1), 0);
    CHECK_EQ(shmipc__block_alloc(&b, 30000, &h[2]), 0);
    b = region_of(1, 100, 1);
    CHECK_EQ(shmipc__block_alloc(&b, 32 << 20, &h[0]), 0);
    CHECK_EQ(shmipc__block_alloc(&b, 32 << 20, &h[1]), SHMIPC_ENOSPC);
    CHECK_EQ(shmipc__block_alloc(&b, 8 << 20, &h[1]), 0);
}

TEST(I1_a_generation_never_comes_back)
{
    shmipc__blocks b = region_of(1, 10, 1);
    static uint64_t seen[4096];
    uint32_t i, k;
    for (i = 0; i < 1000; i++) { /* closed and opened for another class each time: the words outlive the memory */
        CHECK_EQ(shmipc__block_alloc(&b, i % 2 ? 40000 : 3000, &seen[i]), 0);
        for (k = 0; k < i; k++)
            if (seen[k] == seen[i]) CHECK(!"a handle came back");
        CHECK_EQ(shmipc__block_free(&b, seen[i], 1), 0);
        shmipc__blocks_trim(&b);
        CHECK_EQ(shmipc__block_free(&b, seen[i / 2], 1), SHMIPC_ESTATE);
    }
    CHECK_EQ(b.known, 1);
    CHECK_EQ(punches, 1000);
}

TEST(I2_blocks_change_hands)
{
    shmipc__blocks a = region_of(1, 10, 1), b = region_of(2, 10, 0);
    uint64_t h, size;
    CHECK_EQ(shmipc__block_alloc(&a, 100, &h), 0);
    memset(at(&a, h, &size), 7, 100);
    CHECK_EQ(shmipc__block_free(&b, h, 2), SHMIPC_ESTATE); /* not his */
    CHECK_EQ(shmipc__block_pass(&a, h, 1, 0), 0);
    CHECK_EQ(shmipc__block_pass(&b, h, 1, 2), SHMIPC_ESTATE);
    CHECK_EQ(shmipc__block_pass(&b, h, 0, 2), 0);
    CHECK_EQ(shmipc__block_free(&a, h, 1), SHMIPC_ESTATE);
    CHECK_EQ(at(&b, h, &size)[99], 7);
    CHECK_EQ(shmipc__block_free(&b, h, 2), 0);
    CHECK_EQ(shmipc__block_pass(&b, h, 2, 1), SHMIPC_ESTATE);
}

static int dead_now = 1;
static uint64_t named; /* the one published handle */
static int still_dead(void *arg) { (void)arg; return dead_now; }
static int published(void *arg, uint64_t handle) { (void)arg; return handle == named; }

TEST(I1_a_sweep_frees_what_the_dead_did_not_publish)
{
    shmipc__blocks a = region_of(1, 200, 1), b = region_of(2, 200, 0);
    shmipc__block_sweeper s = {still_dead, published, NULL};
    uint64_t h[100], mine;
    uint32_t i;
    for (i = 0; i < 100; i++) CHECK_EQ(shmipc__block_alloc(&a, 1000 * i, &h[i]), 0);
    CHECK_EQ(shmipc__block_alloc(&b, 50, &mine), 0);
    named = h[30];
    dead_now = 0; /* the index has another owner by now */
    CHECK_EQ(shmipc__blocks_sweep(&b, 1, &s), 0);
    CHECK_EQ(count(&b, SHMIPC__OWNED, 1), 100);
    dead_now = 1;
    CHECK_EQ(shmipc__blocks_sweep(&b, 2, &s), SHMIPC_EINVAL); /* oneself */
    CHECK_EQ(shmipc__blocks_sweep(&b, 0, &s), SHMIPC_EINVAL);
    CHECK_EQ(shmipc__blocks_sweep(&b, 1, &s), 0);
    CHECK_EQ(count(&b, SHMIPC__OWNED, 1), 0);
    CHECK_EQ(count(&b, SHMIPC__OWNED, 0), 1);
    CHECK_EQ(count(&b, SHMIPC__OWNED, 2), 1);
    CHECK_EQ(shmipc__block_free(&b, h[30], 0), 0);
    CHECK_EQ(shmipc__block_free(&b, mine, 2), 0);
    shmipc__blocks_trim(&b);
    CHECK_EQ(data_pages(&b), 0);
}

TEST(I1_a_sweep_finishes_what_the_dead_was_opening_or_closing)
{
    shmipc__blocks a = region_of(1, 50, 1), b = region_of(2, 50, 0);
    shmipc__block_sweeper s = {still_dead, published, NULL};
    shmipc__extent_view v;
    uint64_t h, w;
    CHECK_EQ(shmipc__block_alloc(&a, 1000, &h), 0);
    CHECK_EQ(shmipc__block_free(&a, h, 1), 0);
    REQUIRE(shmipc__extent_read(&a, 0, &v) == 0 && v.state == SHMIPC__OPEN);
    REQUIRE(shmipc__extent_step(&v, v.cls, SHMIPC__CLOSING, 1));
    w = *shmipc__blocks_word(&a, 0, 0);
    *shmipc__blocks_word(&a, 0, 0) = shmipc__block_word(w >> 26, SHMIPC__SEALED, 0); /* and dies here */
    CHECK_EQ(shmipc__block_alloc(&b, 1000, &h), 0); /* passed over, not waited for */
    CHECK_EQ(b.known, 2);
    CHECK_EQ(shmipc__blocks_sweep(&b, 1, &s), 0);
    CHECK_EQ(extents_in(&b, SHMIPC__CLOSED), 1);
    CHECK_EQ(data_pages(&b), 16);
    REQUIRE(shmipc__extent_read(&a, 0, &v) == 0 && v.state == SHMIPC__CLOSED);
    REQUIRE(shmipc__extent_step(&v, shmipc__class_of(100), SHMIPC__OPENING, 1)); /* dies before it reserves */
    CHECK_EQ(shmipc__blocks_sweep(&b, 1, &s), 0);
    CHECK_EQ(extents_in(&b, SHMIPC__CLOSED), 1);
    REQUIRE(shmipc__extent_read(&a, 1, &v) == 0 && v.state == SHMIPC__OPEN);
    REQUIRE(shmipc__extent_step(&v, v.cls, SHMIPC__CLOSING, 1)); /* closing although a block is owned */
    CHECK_EQ(shmipc__blocks_sweep(&b, 1, &s), 0);
    CHECK_EQ(extents_in(&b, SHMIPC__OPEN), 1);
    CHECK_EQ(count(&b, SHMIPC__OWNED, 2), 1);
    CHECK_EQ(count(&b, SHMIPC__SEALED, 0xffffffff), 0);
}

static void anything(shmipc__blocks *b, uint64_t h)
{
    shmipc__block_sweeper s = {still_dead, published, NULL};
    uint64_t size, more;
    void *p;
    int rc = shmipc__block_at(b, h, &p, &size);
    CHECK(rc <= 0);
    if (rc == 0) CHECK((unsigned char *)p >= base + b->data && (unsigned char *)p + size <= base + SIZE);
    shmipc__block_free(b, h, (uint32_t)(check_random() % 4));
    if (shmipc__block_alloc(b, check_random() % 100000, &more) == 0) CHECK_EQ(shmipc__block_at(b, more, &p, &size), 0);
    shmipc__blocks_sweep(b, 1 + 2 * (uint32_t)(check_random() % 2), &s);
    shmipc__blocks_trim(b);
}

TEST_LIMIT(I3_a_corrupt_region_is_survived, 60)
{
    shmipc__blocks b = region_of(2, 20, 1);
    uint64_t words = (b.data) / 8, h[20];
    uint32_t round, i;
    REQUIRE(mprotect(base, SIZE, PROT_READ | PROT_WRITE) == 0); /* the file stays; only its words lie */
    memset(backed, 1, sizeof backed);
    used_pages = SIZE / PAGE;
    for (round = 0; round < 3000; round++) {
        memset(base + 64, 0, round % 3 ? 0 : (size_t)b.data - 64);
        b.known = 0;
        for (i = 0; i < 20; i++)
            if (shmipc__block_alloc(&b, check_random() % 70000, &h[i])) h[i] = check_random();
        for (i = 0; i < 30; i++) {
            uint64_t k = 8 + (i % 3 ? check_random() % 320 : check_random() % (words - 8));
            uint64_t *at = (uint64_t *)(void *)base + k;
            *at = i % 2 ? check_random() : *at ^ (uint64_t)1 << check_random() % 64;
        }
        for (i = 0; i < 20; i++) anything(&b, i % 4 ? h[i] : check_random());
        mprotect(base, SIZE, PROT_READ | PROT_WRITE);
        memset(backed, 1, sizeof backed);
        used_pages = SIZE / PAGE;
    }
}
