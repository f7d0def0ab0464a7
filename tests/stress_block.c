/* Blocks between processes over a real file: sums, hand-over, kills, and an audit of every word and page at the end. */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../shmipc.h"
#include "check.h"
#include <sched.h>
#include <sys/stat.h>

#define SIZE ((uint64_t)256 << 20)
#define EXTENTS 2000
#define OWNERS 64
#define BOXES 256

/* What the processes share beside the region: mail boxes that name blocks, and who is dead. */
typedef struct shared {
    uint64_t box[BOXES];
    uint64_t life[OWNERS]; /* the attach table: index -> life, 0 free */
    uint64_t dead[4096];
    uint64_t done, passed;
} shared;

static shared *m;
static unsigned char *base;
static int file;

static int reserve(void *arg, uint64_t offset, uint64_t len)
{
    (void)arg;
    return posix_fallocate(file, (off_t)offset, (off_t)len) ? SHMIPC_ENOSPC : 0;
}

static int punch(void *arg, uint64_t offset, uint64_t len)
{
    (void)arg;
    return fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len) ? SHMIPC_EOS : 0;
}

static shmipc__blocks region_of(uint32_t owner, int make)
{
    shmipc__blocks b;
    memset(&b, 0, sizeof b);
    if (make) {
        file = memfd_create("blocks", 0);
        REQUIRE(file >= 0 && ftruncate(file, (off_t)SIZE) == 0);
        base = (unsigned char *)mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        m = (shared *)mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        REQUIRE(base != MAP_FAILED && m != MAP_FAILED);
    }
    b.base = base;
    b.size = SIZE;
    b.extents = EXTENTS;
    b.owner = owner;
    b.reserve = reserve;
    b.punch = punch;
    REQUIRE(shmipc__blocks_open(&b, make) == 0);
    return b;
}

static uint64_t pages_in_use(void)
{
    struct stat st;
    REQUIRE(fstat(file, &st) == 0);
    return (uint64_t)st.st_blocks / 8;
}

/* Bytes that depend on the handle, so that a block given out twice is seen. */
static void fill(shmipc__blocks *b, uint64_t handle, int check)
{
    uint64_t size = 0, i, seed = handle * 0x9e3779b97f4a7c15u;
    void *p = NULL;
    uint64_t *at;
    REQUIRE(shmipc__block_at(b, handle, &p, &size) == 0);
    at = (uint64_t *)p;
    for (i = 0; i < size / 8; i += i < 16 ? 1 : 61) {
        if (!check) at[i] = seed + i;
        else if (at[i] != seed + i) CHECK_EQ(at[i], seed + i);
    }
}

static uint64_t some_size(void)
{
    uint64_t r = check_random();
    return r % 200 == 0 ? r / 256 % 3000000 : r / 256 % ((uint64_t)1 << (r / 65536 % 16));
}

/* Publishes a block in an empty box, or takes one over from a full box, checks and frees it. The box names the block
 * (its word is the publication); whoever takes it becomes its owner before the box is emptied. */
static void use_box(shmipc__blocks *b, uint64_t *box)
{
    uint64_t h = shmipc__load_acquire_u64(box), empty = 0;
    uint32_t owner;
    if (!h) {
        if (shmipc__block_alloc(b, some_size(), &h)) return;
        fill(b, h, 0);
        if (!shmipc__cas_acqrel_u64(box, &empty, h)) REQUIRE(shmipc__block_free(b, h, b->owner) == 0);
        return;
    }
    for (owner = 0; owner < OWNERS; owner++)
        if (owner != b->owner && shmipc__block_pass(b, h, owner, b->owner) == 0) break;
    if (owner == OWNERS) { /* ours already, or somebody was faster */
        shmipc__extent_view v;
        uint32_t j;
        uint64_t w;
        if (shmipc__block_find(b, h, &v, &j, &w) || shmipc__word_owner(w) != b->owner) return;
    }
    fill(b, h, 1);
    if (shmipc__cas_acqrel_u64(box, &h, 0)) {
        shmipc__add_acqrel_u64(&m->passed, 1);
        shmipc__block_free(b, h, b->owner); /* unless another has taken it over meanwhile: then he frees it */
    }
}

static void work(uint32_t owner, uint64_t rounds)
{
    enum { MINE = 40 };
    shmipc__blocks b = region_of(owner, 0);
    uint64_t mine[MINE] = {0}, i;
    check__random_state += owner * 977 + m->life[owner];
    for (i = 0; i < rounds && !shmipc__load_relaxed_u64(&m->done); i++) {
        uint64_t *h = &mine[check_random() % MINE];
        if (*h) {
            fill(&b, *h, 1);
            REQUIRE(shmipc__block_free(&b, *h, owner) == 0);
            *h = 0;
        } else if (shmipc__block_alloc(&b, some_size(), h) == 0) fill(&b, *h, 0);
        else *h = 0;
        if (i % 512 == 0) shmipc__blocks_trim(&b);
    }
    for (i = 0; i < MINE; i++)
        if (mine[i]) REQUIRE(shmipc__block_free(&b, mine[i], owner) == 0);
    exit(0);
}

/* Every block free or sealed, every extent closed, and of the extents' memory nothing left. */
static void audit(shmipc__blocks *b)
{
    shmipc__extent_view v;
    uint64_t i, h;
    uint32_t j, extents = 0;
    for (i = 0; i < BOXES; i++)
        if ((h = m->box[i]) != 0) {
            uint32_t owner;
            for (owner = 0; owner < OWNERS; owner++)
                if (shmipc__block_free(b, h, owner) == 0) break;
            CHECK(owner < OWNERS);
        }
    shmipc__blocks_trim(b);
    for (i = 0; shmipc__extent_read(b, (uint32_t)i, &v) == 0; i++, extents++) {
        CHECK_EQ(v.state, SHMIPC__CLOSED);
        for (j = 0; j < 1024; j++) {
            if (j >= 8 && v.order > 0) break;
            CHECK_EQ(shmipc__word_state(*shmipc__blocks_word(b, (uint32_t)i, j)), SHMIPC__SEALED);
        }
    }
    madvise(base, b->data, MADV_DONTNEED);
    CHECK(pages_in_use() <= b->data / 4096);
    printf("%u extents, %llu blocks handed over\n", extents, (unsigned long long)m->passed);
    punch(NULL, 0, b->data / 4096 * 4096);
    CHECK_EQ(pages_in_use(), 0);
}

static void reap(pid_t *pid, int n)
{
    int i, status;
    for (i = 0; i < n; i++) {
        CHECK(waitpid(pid[i], &status, 0) == pid[i]);
        CHECK_EQ(status, 0);
    }
}

TEST_LIMIT(I1_processes_share_a_region, 120)
{
    enum { N = 4 };
    shmipc__blocks b = region_of(63, 1);
    pid_t pid[N];
    uint32_t k;
    COVERS("I4 K2");
    for (k = 0; k < N; k++) {
        pid[k] = fork();
        if (pid[k] == 0) work(k + 1, 60000);
    }
    reap(pid, N);
    audit(&b);
}

static void trade(uint32_t owner, uint64_t rounds)
{
    shmipc__blocks b = region_of(owner, 0);
    uint64_t i;
    check__random_state += owner * 977 + m->life[owner];
    for (i = 0; i < rounds && !shmipc__load_relaxed_u64(&m->done); i++) {
        uint64_t *box = &m->box[owner * 16 + check_random() % 16];
        if (check_random() % 2) box = &m->box[check_random() % OWNERS / 16 * 16]; /* a box of another process */
        if (shmipc__load_relaxed_u64(box) == 0 || box == &m->box[owner * 16]) use_box(&b, box);
        if (i % 512 == 0) shmipc__blocks_trim(&b);
    }
    exit(0);
}

/* A sweep asks: does a box name it? A life that ended stays dead; the entry may be another's by now. */
typedef struct question {
    uint32_t index;
    uint64_t life;
} question;

static int still_dead(void *arg)
{
    const question *q = (const question *)arg;
    return shmipc__load_acquire_u64(&m->life[q->index]) == q->life;
}

static int published(void *arg, uint64_t handle)
{
    int i;
    (void)arg;
    for (i = 0; i < BOXES; i++)
        if (shmipc__load_acquire_u64(&m->box[i]) == handle) return 1;
    return 0;
}

/* Workers and traders are killed at random, two sweepers clean up after them, one of which is killed as well. */
static void sweeper(uint32_t owner, uint32_t index, uint64_t life)
{
    shmipc__blocks b = region_of(owner, 0);
    question q = {index, life};
    shmipc__block_sweeper s = {still_dead, published, &q};
    if (owner == 62) REQUIRE(shmipc__blocks_sweep(&b, index, &s) == 0);
    else shmipc__blocks_sweep(&b, index, &s);
    exit(0);
}

TEST_LIMIT(I1_killed_processes_leak_no_block, 120)
{
    enum { N = 4 };
    shmipc__blocks b = region_of(63, 1);
    shmipc__block_sweeper s;
    question q;
    pid_t pid[N], clean[2];
    uint64_t next = 1;
    uint32_t k;
    int round, rounds = 300, status;
    COVERS("I2 I4");
    for (round = -N; round < rounds; round++) {
        k = round < 0 ? (uint32_t)(round + N) : (uint32_t)(check_random() % N);
        if (round >= 0) {
            struct timespec t = {0, (long)(check_random() % 3000000)};
            nanosleep(&t, NULL); /* the kill falls anywhere */
            kill(pid[k], SIGKILL);
            waitpid(pid[k], &status, 0);
            CHECK(WIFSIGNALED(status));
            m->life[61] = next++;
            m->life[62] = next++;
            for (status = 0; status < 2; status++) {
                clean[status] = fork();
                if (clean[status] == 0) sweeper(61 + (uint32_t)status, k + 1, m->life[k + 1]);
            }
            t.tv_nsec = (long)(check_random() % 300000);
            nanosleep(&t, NULL);
            kill(clean[0], SIGKILL);
            waitpid(clean[0], NULL, 0);
            reap(clean + 1, 1);
            q.index = 61;
            q.life = m->life[61];
            s.still_dead = still_dead;
            s.published = published;
            s.arg = &q;
            CHECK_EQ(shmipc__blocks_sweep(&b, 61, &s), 0);
            m->life[61] = 0;
        }
        m->life[k + 1] = next++;
        pid[k] = fork();
        if (pid[k] == 0) {
            if (k & 1) work(k + 1, UINT64_MAX);
            trade(k + 1, UINT64_MAX);
        }
    }
    shmipc__store_release_u64(&m->done, 1);
    reap(pid, N);
    audit(&b);
}
