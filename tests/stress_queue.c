/* Four producers and four consumers, processes, of which one is killed now and then and replaced: every message that
 * was acknowledged arrives, each at most once beyond what a kill makes unknowable, and no chunk is lost. */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../shmipc.h"

#include "check.h"

#define SIDES 4u
#define OWNERS 2048u
#define MESSAGES (1u << 20)

/* Who is alive: one byte per owner, written by the parent after it has reaped him; a kernel's lock in its simplest
 * form. An owner's books: what he pushed or received for certain, and the one he was about to. */
typedef struct shared {
    uint64_t counter;
    uint32_t stop, draining;
    uint8_t dead[OWNERS];
    uint8_t pushed[MESSAGES], received[MESSAGES]; /* 1 about to, 2 surely; one writer each */
    uint32_t reported;
} shared;

static shared *sh;
static unsigned char *memory;
static uint64_t memory_size;

static int alive(void *arg, uint32_t owner)
{
    (void)arg;
    return !__atomic_load_n(&sh->dead[owner], __ATOMIC_ACQUIRE);
}

static void fill(uint64_t *word, uint64_t id)
{
    uint32_t i;
    for (i = 0; i < 8; i++) word[i] = id * 0x9e3779b97f4a7c15u + i;
    word[0] = id;
}

static void produce(uint32_t owner)
{
    shmipc_queue q;
    uint64_t word[8], id;
    REQUIRE(shmipc_queue_attach(&q, memory, memory_size, owner, alive, NULL) == SHMIPC_OK);
    while (!__atomic_load_n(&sh->stop, __ATOMIC_RELAXED)) {
        id = __atomic_fetch_add(&sh->counter, 1, __ATOMIC_RELAXED);
        if (id >= MESSAGES) break;
        fill(word, id);
        sh->pushed[id] = 1;
        while (shmipc_queue_push(&q, word, sizeof word, (uint32_t)id) != SHMIPC_OK) sched_yield();
        sh->pushed[id] = 2;
    }
    shmipc_queue_detach(&q);
}

static int consume_one(shmipc_queue *q, int unwilling)
{
    shmipc_queue_msg m;
    uint64_t word[8], want[8];
    if (shmipc_queue_take(q, &m) != SHMIPC_OK) return 0;
    if (unwilling && m.redelivered < 2) return CHECK_EQ(shmipc_queue_reject(q, &m), SHMIPC_OK), 1;
    memcpy(word, m.data, sizeof word);
    if (!CHECK(m.len_bytes == sizeof word && word[0] < MESSAGES && m.tag == word[0])) return 1;
    fill(want, word[0]);
    CHECK_MEM(word, want, sizeof word);
    CHECK(sh->received[word[0]] != 2); /* nobody has received it for certain */
    if (m.redelivered == 0) CHECK_EQ(sh->received[word[0]], 0);
    sh->received[word[0]] = 1;
    CHECK_EQ(shmipc_queue_release(q, &m), SHMIPC_OK);
    sh->received[word[0]] = 2;
    return 1;
}

static void consume(uint32_t owner)
{
    shmipc_queue q;
    uint32_t turn;
    REQUIRE(shmipc_queue_attach(&q, memory, memory_size, owner, alive, NULL) == SHMIPC_OK);
    for (turn = 0;; turn++) {
        if (consume_one(&q, turn % 64 == 5)) continue;
        if (__atomic_load_n(&sh->draining, __ATOMIC_ACQUIRE)) break;
        sched_yield();
    }
    shmipc_queue_detach(&q);
}

static pid_t start(uint32_t side, uint32_t owner)
{
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid) return pid;
    if (side < SIDES) produce(owner);
    else consume(owner);
    fflush(stdout);
    _exit(0);
}

static void setup_shared(void)
{
    shmipc_queue_config c;
    c.slots = 64;
    c.chunks = 64 + 2 * SIDES + 4;
    c.max_message = 64;
    c.policy = SHMIPC_QUEUE_REDELIVER;
    REQUIRE(shmipc_queue_size(&c, &memory_size) == SHMIPC_OK);
    memory = (unsigned char *)mmap(NULL, (size_t)memory_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                                   0);
    sh = (shared *)mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != (unsigned char *)MAP_FAILED && sh != (shared *)MAP_FAILED);
    REQUIRE(shmipc_queue_init(memory, memory_size, &c) == SHMIPC_OK);
}

/* Kills one side, sweeps it, and starts it again under a new owner index. */
static void kill_and_replace(shmipc_queue *broom, pid_t *pid, uint32_t *owner, uint32_t side, uint32_t *fresh)
{
    int st;
    kill(pid[side], SIGKILL);
    REQUIRE(waitpid(pid[side], &st, 0) == pid[side]);
    CHECK(WIFSIGNALED(st) || WEXITSTATUS(st) == 0);
    __atomic_store_n(&sh->dead[owner[side]], 1, __ATOMIC_RELEASE);
    CHECK(shmipc_queue_sweep(broom, owner[side], NULL, NULL) >= 0);
    CHECK_EQ(shmipc_queue_sweep(broom, owner[side], NULL, NULL), 0);
    owner[side] = (*fresh)++;
    pid[side] = start(side, owner[side]);
}

/* Every message that its producer knows to be in has come out; what a killed producer may have pushed has too, or not;
 * a consumer killed between its two notes leaves a 1. Kills bound the uncertain ones. */
static void balance(uint32_t kills)
{
    uint64_t id, lost = 0, in_doubt = 0, n = sh->counter < MESSAGES ? sh->counter : MESSAGES;
    for (id = 0; id < n; id++) {
        if (sh->pushed[id] == 2 && sh->received[id] == 0) lost++;
        if (sh->received[id] == 1) in_doubt++;
        if (sh->pushed[id] == 0) CHECK_EQ(sh->received[id], 0);
    }
    CHECK_EQ(lost, 0);
    CHECK(in_doubt <= kills);
    printf("stress_queue: %llu messages, %u kills\n", (unsigned long long)n, kills);
}

static void run(uint32_t milliseconds, int with_kills)
{
    shmipc_queue broom;
    shmipc_queue_stats st;
    pid_t pid[2 * SIDES];
    uint32_t owner[2 * SIDES], side, fresh = 2 * SIDES + 1, kills = 0;
    int64_t end;
    int status;
    setup_shared();
    REQUIRE(shmipc_queue_attach(&broom, memory, memory_size, 0, alive, NULL) == SHMIPC_OK);
    for (side = 0; side < 2 * SIDES; side++) pid[side] = start(side, owner[side] = side + 1);
    for (end = check__clock_ns() + (int64_t)milliseconds * 1000000; check__clock_ns() < end;) {
        struct timespec pause = {0, (long)(check_random() % 3000000)};
        nanosleep(&pause, NULL); /* the kills fall at random instants: that is the test, not a wait for an event */
        if (!with_kills || fresh == OWNERS) continue;
        kill_and_replace(&broom, pid, owner, (uint32_t)(check_random() % (2 * SIDES)), &fresh);
        kills++;
    }
    __atomic_store_n(&sh->stop, 1, __ATOMIC_RELEASE);
    for (side = 0; side < 2 * SIDES; side++) {
        if (side == SIDES) __atomic_store_n(&sh->draining, 1, __ATOMIC_RELEASE);
        REQUIRE(waitpid(pid[side], &status, 0) == pid[side]);
        CHECK_EQ(status, 0);
    }
    while (consume_one(&broom, 0)) continue;
    CHECK_EQ(shmipc_queue_detach(&broom), SHMIPC_OK);
    CHECK_EQ(shmipc_queue_get_stats(&broom, &st), SHMIPC_OK);
    CHECK_EQ(st.free_chunks, broom.config.chunks);
    CHECK(sh->counter > 100);
    balance(kills);
}

TEST_LIMIT(K1_queue_4_to_4_processes, 60) { run(800, 0); }
TEST_LIMIT(I1_S43_S44_queue_4_to_4_processes_with_kills, 60)
{
    COVERS("S60 S61");
    run(getenv("FULL") ? 20000 : 3000, 1);
}
