/* Waiting: bells, gates and the wait itself, over plain shared memory. */
#define _GNU_SOURCE 1
#include <stdint.h>
static uint32_t syscalls[2]; /* futex_wait, futex_wake of this process */
static int count_call(const char *name);
#define SHMIPC__OS_FAULT(name) count_call(name)
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../shmipc.h"
#include "check.h"
#include "strict.h"
#include <sched.h>
#include <sys/resource.h>

static int count_call(const char *name)
{
    if (strcmp(name, "futex_wait") == 0) syscalls[0]++;
    if (strcmp(name, "futex_wake") == 0) syscalls[1]++;
    return 0;
}

#define BELLS 200

typedef struct world {
    shmipc__bell bell[BELLS];
    shmipc__gate gate[2];
    uint64_t data[2], dead; /* `dead`: the life that is not alive */
    uint32_t sleeping;
} world;

static world *m;
static shmipc__bells bells;

static void make_world(void)
{
    m = (world *)mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(m != MAP_FAILED);
    bells.at = m->bell;
    bells.count = BELLS;
}

static int alive(void *arg, uint64_t life)
{
    (void)arg;
    return life != shmipc__load_acquire_u64(&m->dead);
}

static uint32_t looks;
static int ready(void *arg)
{
    looks++;
    return shmipc__load_acquire_u64((uint64_t *)arg) != 0;
}

static uint32_t sleepers_of(int source) { return (uint32_t)shmipc__load_acquire_u64(&m->gate[source].summary); }

static shmipc__wait_item item_of(int i)
{
    shmipc__wait_item it;
    memset(&it, 0, sizeof it);
    it.gate = &m->gate[i];
    it.ready = ready;
    it.arg = &m->data[i];
    return it;
}

static shmipc__waiter waiter_of(uint64_t life)
{
    shmipc__waiter w;
    REQUIRE(shmipc__waiter_open(&w, bells, life, alive, NULL) == 0);
    return w;
}

/* Returns once the process sleeps in a system call (or is stopped); says whether it still lives. */
static int await_state(pid_t pid, const char *states)
{
    char path[64], text[512], *p;
    size_t n;
    for (;;) {
        FILE *f;
        snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
        f = fopen(path, "r");
        if (!f) return 0;
        n = fread(text, 1, sizeof text - 1, f);
        fclose(f);
        text[n] = 0;
        p = strrchr(text, ')');
        if (p && strchr(states, p[2])) return 1;
        if (p && p[2] == 'Z') return 0;
        sched_yield();
    }
}

static pid_t fork_waiter(uint64_t life, int source)
{
    pid_t pid = fork();
    if (pid == 0) {
        shmipc__waiter w = waiter_of(life);
        shmipc__wait_item it = item_of(source);
        w.spin_ns = 0;
        _exit(shmipc__wait(&w, &it, 1, -1) == 1 && it.result == 1 ? 0 : 1);
    }
    return pid;
}

static void put(int source)
{
    shmipc__store_release_u64(&m->data[source], 1);
}

static int exit_of(pid_t pid)
{
    int status = 0;
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* A sleeper without a process: armed and declared. */
static void declare(uint32_t id, int source)
{
    uint32_t word = shmipc__load_relaxed_u32(&m->bell[id].word);
    if (!(word & 1)) shmipc__store_relaxed_u32(&m->bell[id].word, word + 1);
    shmipc__gate_declare(&m->gate[source], id);
}

static int armed(uint32_t id) { return (int)(m->bell[id].word & 1); }

TEST(I1_bells_are_claimed_freed_and_swept)
{
    uint32_t id = 0, i;
    make_world();
    for (i = 0; i < BELLS; i++) {
        REQUIRE(shmipc__bell_claim(bells, 5 + i % 2, &id) == 0);
        CHECK_EQ(id, i);
    }
    CHECK_EQ(shmipc__bell_claim(bells, 7, &id), SHMIPC_ETABLE);
    shmipc__bell_free(bells, 17, 5); /* not its owner */
    CHECK_EQ(m->bell[17].owner, 6);
    shmipc__bell_free(bells, 17, 6);
    CHECK_EQ(shmipc__bell_claim(bells, 7, &id), 0);
    CHECK_EQ(id, 17);
    m->dead = 5;
    CHECK_EQ(shmipc__bells_sweep(bells, alive, NULL), BELLS / 2);
    CHECK_EQ(shmipc__bells_sweep(bells, alive, NULL), 0);
    CHECK_EQ(shmipc__bell_claim(bells, 8, &id), 0);
    CHECK_EQ(id, 0);
}

TEST(S46_declaring_and_withdrawing_leave_no_trace)
{
    uint32_t ids[4] = {0, 1, 64, 199}, i;
    make_world();
    for (i = 0; i < 4; i++) declare(ids[i], 0);
    CHECK_EQ(sleepers_of(0), 1 | 1 << 1 | 1 << 3);
    CHECK_EQ(m->gate[0].sleepers[0], 3);
    CHECK(shmipc__gate_withdraw(&m->gate[0], 0));
    CHECK(!shmipc__gate_withdraw(&m->gate[0], 0));
    CHECK_EQ(sleepers_of(0), 1 | 1 << 1 | 1 << 3);
    for (i = 1; i < 4; i++) CHECK(shmipc__gate_withdraw(&m->gate[0], ids[i]));
    CHECK_EQ(sleepers_of(0), 0);
    for (i = 0; i < 32; i++) CHECK_EQ(m->gate[0].sleepers[i], 0);
}

TEST(I2_a_wake_for_one_serves_sleepers_in_turn)
{
    uint32_t ids[5] = {3, 63, 64, 130, 199}, i, round, served[BELLS] = {0};
    make_world();
    for (i = 0; i < 5; i++) declare(ids[i], 0);
    for (round = 0; round < 50; round++) {
        CHECK_EQ(shmipc__gate_ring(&m->gate[0], bells, 1), 1);
        for (i = 0; i < 5; i++) {
            if (armed(ids[i])) continue;
            served[ids[i]]++;
            CHECK_EQ(i, round % 5);
            declare(ids[i], 0);
        }
    }
    for (i = 0; i < 5; i++) CHECK_EQ(served[ids[i]], 10);
    CHECK_EQ(syscalls[1], 50);
}

/* The stated bound: whoever stays declared is woken after at most n - 1 others, whoever else comes and goes. */
TEST(I2_a_sleeper_waits_for_at_most_all_others)
{
    uint32_t i, id, round, since[BELLS];
    make_world();
    for (i = 0; i < BELLS; i++) since[i] = 0;
    for (round = 0; round < 20000; round++) {
        id = (uint32_t)(check_random() % BELLS);
        if (!armed(id)) {
            declare(id, 0);
            since[id] = 0;
        }
        if (check_random() % 3) continue;
        CHECK_EQ(shmipc__gate_ring(&m->gate[0], bells, 1), 1);
        for (i = 0; i < BELLS; i++)
            if (armed(i) && ++since[i] > BELLS - 1) CHECK(!"passed over");
    }
}

TEST(I5_a_wake_for_all_rings_each_bell_once)
{
    uint32_t i;
    make_world();
    for (i = 0; i < BELLS; i++) declare(i, 0), declare(i, 1);
    CHECK_EQ(shmipc__gate_ring(&m->gate[0], bells, SHMIPC__WAKE_ALL), BELLS);
    CHECK_EQ(syscalls[1], BELLS);
    CHECK_EQ(shmipc__gate_ring(&m->gate[0], bells, SHMIPC__WAKE_ALL), 0);
    CHECK_EQ(sleepers_of(0), 0);
    CHECK_EQ(shmipc__gate_ring(&m->gate[1], bells, SHMIPC__WAKE_ALL), 0); /* all awake: bits go, no call */
    CHECK_EQ(sleepers_of(1), 0);
    CHECK_EQ(syscalls[1], BELLS);
}

TEST(I2_a_stopped_or_dead_sleeper_costs_one_wake)
{
    pid_t pid;
    int i;
    make_world();
    pid = fork_waiter(9, 0);
    REQUIRE(await_state(pid, "S") && sleepers_of(0));
    kill(pid, SIGSTOP);
    REQUIRE(await_state(pid, "T"));
    put(0);
    for (i = 0; i < 100; i++) shmipc__gate_ring(&m->gate[0], bells, 1);
    CHECK_EQ(syscalls[1], 1);
    kill(pid, SIGCONT);
    CHECK_EQ(exit_of(pid), 0);
    m->data[0] = 0;
    pid = fork_waiter(10, 0);
    REQUIRE(await_state(pid, "S") && sleepers_of(0));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    for (i = 0; i < 100; i++) shmipc__gate_ring(&m->gate[0], bells, 1);
    CHECK_EQ(syscalls[1], 2);
}

TEST(S46_a_sleeper_is_woken_by_the_next_message)
{
    pid_t pid;
    make_world();
    pid = fork_waiter(9, 1);
    REQUIRE(await_state(pid, "S"));
    put(1);
    shmipc__gate_ring(&m->gate[1], bells, SHMIPC__WAKE_ALL);
    CHECK_EQ(exit_of(pid), 0);
    CHECK_EQ(sleepers_of(1), 0);
    CHECK_EQ(m->gate[1].sleepers[0], 0);
}

TEST(I1_a_sender_killed_before_its_wake_strands_nobody)
{
    pid_t pid;
    COVERS("C13");
    make_world();
    pid = fork_waiter(9, 0);
    REQUIRE(await_state(pid, "S"));
    put(0); /* and no ring */
    CHECK_EQ(exit_of(pid), 0);
}

TEST(I1_a_sender_killed_with_a_bit_in_its_hand_strands_nobody)
{
    pid_t pid;
    make_world();
    pid = fork_waiter(9, 0);
    REQUIRE(await_state(pid, "S") && m->gate[0].sleepers[0] == 1);
    shmipc__and_acqrel_u64(&m->gate[0].sleepers[0], 0);
    shmipc__and_acqrel_u64(&m->gate[0].summary, 0);
    while (!sleepers_of(0)) sched_yield(); /* set again at the next slice */
    CHECK_EQ(m->gate[0].sleepers[0], 1);
    put(0);
    CHECK_EQ(shmipc__gate_ring(&m->gate[0], bells, 1), 1);
    CHECK_EQ(exit_of(pid), 0);
}

/* Wake for one, and the one dies of it: the other takes the item at the end of its slice. */
TEST(I1_a_wake_that_died_with_its_sleeper_reaches_the_next)
{
    pid_t a, b;
    make_world();
    a = fork_waiter(9, 0);
    REQUIRE(await_state(a, "S") && m->bell[0].owner == 9);
    b = fork_waiter(10, 0);
    REQUIRE(await_state(b, "S") && m->gate[0].sleepers[0] == 3);
    kill(a, SIGSTOP);
    REQUIRE(await_state(a, "T"));
    put(0);
    CHECK_EQ(shmipc__gate_ring(&m->gate[0], bells, 1), 1);
    CHECK_EQ(m->gate[0].sleepers[0], 2); /* the wake went to a */
    kill(a, SIGKILL);
    CHECK_EQ(exit_of(b), 0);
    waitpid(a, NULL, 0);
    CHECK_EQ(syscalls[1], 1);
}

TEST(I3_a_hostile_gate_is_survived)
{
    int i;
    uint32_t k;
    make_world();
    bells.count = 3;
    for (i = 0; i < 2000; i++) {
        uint64_t *p = (uint64_t *)&m->gate[0];
        for (k = 0; k < sizeof m->gate[0] / 8; k++) p[k] = check_random() & check_random();
        for (k = 0; k < BELLS; k++) m->bell[k].word = (uint32_t)check_random();
        CHECK(shmipc__gate_ring(&m->gate[0], bells, i & 1 ? 1 : SHMIPC__WAKE_ALL) <= 3);
        shmipc__gate_declare(&m->gate[0], 2);
        shmipc__gate_withdraw(&m->gate[0], 2);
    }
    memset(&m->gate[0], 0xff, sizeof m->gate[0]);
    shmipc__gate_ring(&m->gate[0], bells, SHMIPC__WAKE_ALL);
    CHECK_EQ(sleepers_of(0), 0);
}

TEST(S46_bad_arguments_are_refused)
{
    shmipc__waiter w;
    shmipc__wait_item it;
    shmipc__bells none = {NULL, 0, NULL, NULL};
    make_world();
    it = item_of(0);
    CHECK_EQ(shmipc__waiter_open(&w, none, 1, NULL, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc__waiter_open(&w, bells, 0, NULL, NULL), SHMIPC_EINVAL);
    w = waiter_of(1);
    CHECK_EQ(shmipc__wait(NULL, &it, 1, 0), SHMIPC_EINVAL);
    CHECK_EQ(shmipc__wait(&w, NULL, 1, 0), SHMIPC_EINVAL);
    w.id = BELLS;
    CHECK_EQ(shmipc__wait(&w, &it, 1, 0), SHMIPC_EINVAL);
}

TEST(S46_timeouts_use_the_monotonic_clock)
{
    shmipc__waiter w;
    shmipc__wait_item it;
    int64_t start;
    make_world();
    w = waiter_of(1);
    it = item_of(0);
    CHECK_EQ(shmipc__wait(&w, &it, 1, 0), SHMIPC_ETIMEDOUT);
    CHECK_EQ(syscalls[0], 0);
    start = shmipc__os_now_ns();
    CHECK_EQ(shmipc__wait(&w, &it, 1, 90 * 1000000), SHMIPC_ETIMEDOUT);
    CHECK(shmipc__os_now_ns() - start >= 90 * 1000000);
    CHECK_EQ(sleepers_of(0), 0); /* declarations are taken back */
    CHECK(!armed(w.id));
    CHECK_EQ(shmipc__wait(&w, NULL, 0, 1000), SHMIPC_ETIMEDOUT);
    put(0);
    CHECK_EQ(shmipc__wait(&w, &it, 1, INT64_MAX), 1);
    CHECK_EQ(shmipc__wait(&w, &it, 1, 0), 1);
    shmipc__waiter_close(&w);
    CHECK_EQ(m->bell[0].owner, 0);
}

static void nothing(int signo) { (void)signo; }

TEST(S46_a_signal_ends_the_wait_unless_told_otherwise)
{
    int through;
    make_world();
    for (through = 0; through < 2; through++) {
        pid_t pid = fork();
        if (pid == 0) {
            shmipc__waiter w = waiter_of(1);
            shmipc__wait_item it = item_of(0);
            struct sigaction sa;
            memset(&sa, 0, sizeof sa);
            sa.sa_handler = nothing; /* no SA_RESTART */
            sigaction(SIGUSR1, &sa, NULL);
            w.through_signals = through;
            w.spin_ns = 0;
            shmipc__store_release_u64(&m->data[1], 1);
            _exit(shmipc__wait(&w, &it, 1, -1) & 0xff);
        }
        while (!shmipc__load_acquire_u64(&m->data[1])) sched_yield();
        REQUIRE(await_state(pid, "S"));
        kill(pid, SIGUSR1);
        if (through) {
            REQUIRE(await_state(pid, "S"));
            put(0);
        }
        CHECK_EQ(exit_of(pid), through ? 1 : SHMIPC_EINTR & 0xff);
        m->data[1] = 0;
    }
}

TEST(C13_the_death_of_a_needed_peer_ends_the_wait)
{
    uint64_t lives[3] = {0, 33, 44};
    shmipc__waiter w;
    shmipc__wait_item it[2];
    pid_t pid;
    COVERS("I2");
    make_world();
    pid = fork();
    if (pid == 0) {
        w = waiter_of(1);
        it[0] = item_of(0);
        it[1] = item_of(1);
        it[1].lives = lives;
        it[1].lives_count = 3;
        CHECK_EQ(shmipc__wait(&w, it, 2, -1), 1);
        CHECK_EQ(it[0].result, 0);
        _exit(it[1].result == SHMIPC_EPEERDEAD ? 0 : 1);
    }
    REQUIRE(await_state(pid, "S"));
    shmipc__store_release_u64(&m->dead, 44);
    CHECK_EQ(exit_of(pid), 0);
    w = waiter_of(2); /* not waiting: found by the next call, be it only a look */
    it[0] = item_of(0);
    it[0].lives = lives;
    it[0].lives_count = 3;
    CHECK_EQ(shmipc__wait(&w, it, 1, 0), 1);
    CHECK_EQ(it[0].result, SHMIPC_EPEERDEAD);
    put(0); /* what the dead published comes first */
    w.probed_ns = 0;
    CHECK_EQ(shmipc__wait(&w, it, 1, 0), 1);
    CHECK_EQ(it[0].result, 1);
}

/* The wake of one source must not be lost with a wait that ends for another. */
static int ready_and_steal(void *arg)
{
    if (looks++ < 2) return 0;
    if (m->data[1] == 0) {
        put(1);
        shmipc__gate_ring(&m->gate[1], bells, 1); /* takes our bit */
    }
    return ready(arg);
}

TEST(I1_a_wake_is_not_lost_with_a_wait_that_ends_otherwise)
{
    shmipc__waiter w;
    shmipc__wait_item it[2];
    make_world();
    w = waiter_of(1);
    w.spin_ns = 0;
    put(0);
    it[0] = item_of(1);
    it[1] = item_of(0);
    it[1].ready = ready_and_steal; /* it[0] was looked at before it became ready */
    CHECK_EQ(shmipc__wait(&w, it, 2, -1), 2);
    CHECK_EQ(it[0].result, 1);
    CHECK_EQ(it[1].result, 1);
}

/* Found before anybody rang: the wake that was meant for us goes to the next sleeper. */
static int ready_then_ring(void *arg)
{
    if (looks++ < 2) return 0;
    put(0);
    if (looks == 3) {
        shmipc__gate_ring(&m->gate[0], bells, 1);
        CHECK(!armed(0) && armed(7));
    }
    return ready(arg);
}

TEST(I1_a_wake_that_was_not_needed_is_passed_on)
{
    shmipc__waiter w;
    shmipc__wait_item it;
    make_world();
    w = waiter_of(1);
    w.spin_ns = 0;
    it = item_of(0);
    it.ready = ready_then_ring;
    looks = 1; /* the second look is the one after the declaration */
    declare(7, 0);
    CHECK_EQ(shmipc__wait(&w, &it, 1, -1), 1);
    CHECK(!armed(7));
}

TEST(S46_an_idle_wait_burns_no_cpu)
{
    struct rusage before, after;
    shmipc__waiter w;
    shmipc__wait_item it;
    int64_t used;
    make_world();
    w = waiter_of(1);
    it = item_of(0);
    w.spin_ns = 0;
    getrusage(RUSAGE_SELF, &before);
    CHECK_EQ(shmipc__wait(&w, &it, 1, 2000000000), SHMIPC_ETIMEDOUT);
    getrusage(RUSAGE_SELF, &after);
    used = (after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000000 +
           after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_stime.tv_usec;
    printf("2 s idle: %lld us of CPU, %u sleeps\n", (long long)used, syscalls[0]);
    CHECK(syscalls[0] <= 51); /* one per slice: the cost of being idle, without a clock */
    CHECK(looks <= 51 * 2 + 2);
}

TEST(S46_spinning_adapts_and_never_beside_the_peer_on_one_cpu)
{
    shmipc__waiter w;
    shmipc__wait_item it;
    cpu_set_t one;
    int cpu = sched_getcpu();
    make_world();
    CPU_ZERO(&one);
    CPU_SET((size_t)cpu, &one);
    REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
    w = waiter_of(1);
    it = item_of(0);
    m->gate[0].cpu = (uint32_t)cpu + 1;
    CHECK_EQ(shmipc__wait(&w, &it, 1, 1000000), SHMIPC_ETIMEDOUT);
    CHECK(looks <= 5);
    m->gate[0].cpu = (uint32_t)cpu + 2;
    looks = 0;
    w.spin_ns = 100000000;
    CHECK_EQ(shmipc__wait(&w, &it, 1, 1000000), SHMIPC_ETIMEDOUT);
    CHECK(looks >= 8);
    w.spin_ns = SHMIPC__SPIN_NS;
    while (w.spin_ns) { /* no luck: less each time */
        int64_t was = w.spin_ns;
        CHECK_EQ(shmipc__wait(&w, &it, 1, 1), SHMIPC_ETIMEDOUT);
        CHECK(w.spin_ns < was);
    }
    shmipc__wait_learn(&w, SHMIPC__SPIN_NS, 1); /* it would have helped */
    CHECK_EQ(w.spin_ns, SHMIPC__SPIN_NS);
    declare(5, 0);
    shmipc__gate_ring(&m->gate[0], bells, 1);
    CHECK_EQ(m->gate[0].cpu, (uint32_t)cpu + 1);
}

static void send_many(void *arg)
{
    int i;
    (void)arg;
    for (i = 0; i < 1000; i++) {
        put(i & 1);
        shmipc__gate_ring(&m->gate[i & 1], bells, 1);
    }
}

TEST(I5_a_send_with_nobody_asleep_makes_no_system_call)
{
    int rc;
    make_world();
    rc = strict_run(send_many, NULL);
    if (rc < 0) SKIP("the kernel has no strict seccomp");
    CHECK_EQ(rc, 0);
    declare(1, 0);
    CHECK_EQ(strict_run(send_many, NULL), 1); /* the instrument sees one when there is one */
}
