/* Killing, and stopping, at every instruction of waiting: sleepers, senders that ring, who claims a bell and gives it
 * back, who sweeps the bells of the dead. Statements I1, I2, S46, S60, C13.
 *
 * Up to two real processes sleep at gate 0 before the victim begins; each wants one token. What is there has to reach
 * them without anybody ringing again: by their wake, or by the end of their slices where a death ate it. A token says
 * who took it. The victim's own slice never ends, so when it was only stopped, a wake that it loses is seen. */
#include "crashstep.h"
#include <stdint.h>
static int64_t slice_ns = 40000000; /* a process's own */
static uint32_t wakes;              /* futex_wake calls of this process */
static struct timespec *stopped_clock; /* the victim's: reading a real one takes a path that depends on the time */
static int read_clock(clockid_t id, struct timespec *t)
{
    if (!stopped_clock) return clock_gettime(id, t);
    *t = *stopped_clock;
    return 0;
}
#define clock_gettime read_clock
static int count_call(const char *name);
#define SHMIPC__OS_FAULT(name) count_call(name)
#define SHMIPC__SLICE_NS slice_ns
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../../shmipc.h"
#undef clock_gettime

#define BELLS 4u
#define SLEEPERS 2u
#define TOKENS 12u
#define NEVER (INT64_MAX / 4)

enum { VICTIM = 1, SURVIVOR = 2, SLEEPER = 3, OTHER = 6, GHOST = 8 }; /* lives; ghosts are dead from the beginning */
enum { NOT_YET, THERE, TAKEN };                                       /* a token; TAKEN + the life that took it    */

static struct world {
    shmipc__bell bell[BELLS];
    shmipc__gate gate[2];
    uint64_t token[TOKENS], flag; /* gate 0 stands beside the tokens, gate 1 beside the flag */
    uint64_t next;                /* token */
    uint32_t gone[SLEEPERS];      /* served, bell given back */
    uint32_t open;                /* until then the tokens are meant for the victim */
} *world;
static shmipc__bells bells;
static crash_run *now;
static pid_t sleeping[SLEEPERS];
static uint32_t sleepers;
static shmipc__waiter mine;

static int count_call(const char *name)
{
    wakes += name[0] == 'f' && name[8] == 'k'; /* futex_wake */
    return 0;
}

static int alive(void *arg, uint64_t life)
{
    (void)arg;
    return life >= GHOST ? 0 : life == VICTIM ? !crash_dead(now) : 1;
}

/* ---- tokens ---- */

static void put(void)
{
    shmipc__store_release_u64(&world->token[shmipc__add_acqrel_u64(&world->next, 1) % TOKENS], THERE);
}
static int there(void *arg)
{
    uint32_t i;
    (void)arg;
    for (i = 0; i < TOKENS; i++)
        if (shmipc__load_acquire_u64(&world->token[i]) == THERE) return 1;
    return 0;
}
static int there_for_all(void *arg) { return shmipc__load_acquire_u32(&world->open) && there(arg); }
static int take(uint64_t life)
{
    uint32_t i;
    for (i = 0; i < TOKENS; i++) {
        uint64_t is = THERE;
        if (shmipc__load_relaxed_u64(&world->token[i]) != THERE) continue;
        if (shmipc__cas_acqrel_u64(&world->token[i], &is, TAKEN + life)) return 1;
    }
    return 0;
}
static void ring(uint32_t most) { shmipc__gate_ring(&world->gate[0], bells, most); }
static void send(void)
{
    put();
    ring(1);
}
static int flag_is_set(void *arg)
{
    (void)arg;
    return shmipc__load_acquire_u64(&world->flag) != 0;
}

static shmipc__wait_item item_of(int gate, int (*ready)(void *))
{
    shmipc__wait_item it;
    memset(&it, 0, sizeof it);
    it.gate = &world->gate[gate];
    it.ready = ready;
    return it;
}

/* ---- the beginning ---- */

static void sleeper(uint32_t i)
{
    shmipc__waiter w;
    shmipc__wait_item it = item_of(0, there_for_all);
    if (shmipc__waiter_open(&w, bells, SLEEPER + i, alive, NULL)) _exit(1);
    w.spin_ns = 0;
    while (shmipc__wait(&w, &it, 1, -1) != 1 || !take(SLEEPER + i)) continue;
    shmipc__waiter_close(&w);
    shmipc__store_release_u32(&world->gone[i], 1);
    _exit(0);
}
static void lay_down(uint32_t i)
{
    pid_t p = fork();
    if (p == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        sleeper(i);
    }
    if (p < 0) abort();
    while (!(shmipc__load_acquire_u64(&world->gate[0].sleepers[0]) >> i & 1)) crash__nap();
    while (crash__proc_state(p) != 'S') crash__nap();
    sleeping[i] = p;
}
static void teardown(crash_run *r)
{
    (void)r;
    for (; sleepers; sleepers--) crash__kill(sleeping[sleepers - 1], 1);
}

/* Whoever had bell `id` died asleep at gate 0; owner 0: swept since. */
static void declare(uint32_t id, uint64_t owner)
{
    world->bell[id].owner = owner;
    world->bell[id].word += world->bell[id].word & 1 ? 0 : 1;
    shmipc__gate_declare(&world->gate[0], id);
}

static int state_is(const crash_run *r, const char *part) { return strstr(crash_state(r), part) != NULL; }

static void setup(crash_run *r)
{
    uint32_t i, n = state_is(r, "two asleep") ? 2u : state_is(r, "one asleep") ? 1u : 0u;
    teardown(r);
    memset(world, 0, sizeof *world);
    now = r;
    bells.at = world->bell;
    bells.count = BELLS;
    for (i = 0; i < n; i++, sleepers++) lay_down(i);
    if (state_is(r, "ghost")) declare(n, GHOST);
    if (state_is(r, "inherited")) declare(n, 0);
    crash_watch(r, world, offsetof(struct world, gone));
}

static void enter(crash_run *r)
{
    static struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    stopped_clock = &t;
    slice_ns = NEVER;
    now = r;
}
static void enter_waiter(crash_run *r)
{
    enter(r);
    if (shmipc__waiter_open(&mine, bells, VICTIM, alive, NULL)) _exit(1);
    mine.spin_ns = 0;
}

/* ---- the windows ---- */

static void victim_ring_one(crash_run *r)
{
    send();
    crash_note(r, 0, 1);
}
static void victim_ring_all(crash_run *r)
{
    put();
    put();
    ring(SHMIPC__WAKE_ALL);
    crash_note(r, 0, 2);
}
static void sleep_at(uint32_t gates)
{
    shmipc__wait_item it[2];
    it[0] = item_of(0, there);
    it[1] = item_of(1, flag_is_set);
    do shmipc__wait(&mine, it, gates, -1);
    while (!take(VICTIM));
    shmipc__waiter_close(&mine);
}
static void victim_sleep(crash_run *r)
{
    (void)r;
    sleep_at(1);
}
static void victim_poll(crash_run *r)
{
    (void)r;
    sleep_at(2);
}
/* Declares, sleeps, is not woken in time and withdraws. */
static void victim_timeout(crash_run *r)
{
    shmipc__wait_item it = item_of(0, there);
    int rc = shmipc__wait_sleep(&mine, &it, 1, 0, 2000000);
    (void)r;
    rc = shmipc__wait_end(&mine, &it, 1, rc ? rc : SHMIPC_ETIMEDOUT);
    if (rc > 0) take(VICTIM);
    shmipc__waiter_close(&mine);
}

/* The next wake for one goes to the victim, if it sleeps. */
static void victims_turn(void)
{
    uint32_t i;
    for (i = 0; i < BELLS && shmipc__load_relaxed_u64(&world->bell[i].owner) != VICTIM; i++) {}
    if (i < BELLS) shmipc__store_relaxed_u64(&world->gate[0].turn, i);
}
static void wake_victim(crash_run *r)
{
    if (!crash_noted(r, 5)) {
        victims_turn();
        send();
        return;
    }
    CRASH_EXPECT(r, lost, !there(NULL)); /* it was stopped, and now sleeps beside what a living sender told it of */
    put();
    put();
    ring(SHMIPC__WAKE_ALL);
}

/* ---- the survivors ---- */

/* Tokens that the sleepers have or can have. */
static uint32_t for_sleepers(void)
{
    uint32_t i, n = 0;
    for (i = 0; i < TOKENS; i++) {
        uint64_t is = shmipc__load_acquire_u64(&world->token[i]);
        n += is == THERE || (is >= TAKEN + SLEEPER && is < TAKEN + OTHER);
    }
    return n;
}

/* Everybody who sleeps gets a token: those that are there already find their way without another ring. */
static void all_are_served(crash_run *r)
{
    uint32_t i;
    while (for_sleepers() < sleepers) send();
    for (i = 0; i < sleepers; i++)
        while (!shmipc__load_acquire_u32(&world->gone[i])) crash__nap();
    crash_recovered(r);
}

/* Nobody is left: no bell, no declaration. A bit that its owner set and did not live to announce is taken with the next
 * one of its word; each bell that died armed costs a wake, and then there are no more system calls. */
static void nothing_is_left(crash_run *r)
{
    uint32_t i, w;
    shmipc__bells_sweep(bells, alive, NULL);
    for (i = 0; i < BELLS; i++) CRASH_EXPECT(r, leaked, world->bell[i].owner == 0);
    for (i = 0; i < 2; i++) {
        shmipc__gate_declare(&world->gate[i], 0);
        shmipc__gate_ring(&world->gate[i], bells, SHMIPC__WAKE_ALL);
        wakes = 0;
        shmipc__gate_ring(&world->gate[i], bells, SHMIPC__WAKE_ALL);
        CRASH_EXPECT(r, leaked, wakes == 0 && (uint32_t)world->gate[i].summary == 0);
        for (w = 0; w < SHMIPC__BELLS_MAX / 64; w++) CRASH_EXPECT(r, leaked, world->gate[i].sleepers[w] == 0);
    }
}

static int gone(const crash_run *r) { return r->mode != CRASH_FREEZE && r->mode != CRASH_LATE; }

/* Waits for a token of anybody, or for the news that the victim is dead; what was there comes before that news. */
static void receive(crash_run *r)
{
    uint64_t life = VICTIM;
    shmipc__wait_item it = item_of(0, there);
    shmipc__waiter w;
    int rc = shmipc__waiter_open(&w, bells, SURVIVOR, alive, NULL);
    CRASH_EXPECT(r, other, rc == SHMIPC_OK);
    if (rc) return;
    w.spin_ns = 0;
    it.lives = &life;
    it.lives_count = 1;
    if (!gone(r)) put(); /* the victim lives and may be stopped for ever: it is not waited for */
    crash_ready(r);
    do rc = shmipc__wait(&w, &it, 1, -1);
    while (rc == 1 && it.result == 1 && !take(SURVIVOR));
    CRASH_EXPECT(r, other, rc == 1 && (it.result == 1 || (it.result == SHMIPC_EPEERDEAD && crash_dead(r))));
    crash_saw(r, it.result == 1);
    crash_recovered(r);
    shmipc__waiter_close(&w);
}

/* The wake of a sender goes to the victim, dead or stopped as it may be; then the others see at the end of their slices
 * what is there. */
static void check(crash_run *r)
{
    shmipc__store_release_u32(&world->open, 1);
    crash_note(r, 5, 1);
    if (strcmp(crash_role(r), "receiver") == 0) {
        receive(r);
    } else {
        victims_turn();
        send();
        wakes = 0;
        if (!sleepers) ring(1), ring(1);
        CRASH_EXPECT(r, other, wakes <= 1); /* the ghost's; the victim's was the one before */
    }
    if (crash_noted(r, 0)) CRASH_EXPECT(r, lost, world->next >= crash_noted(r, 0));
    all_are_served(r);
    if (gone(r)) nothing_is_left(r);
}
static void done(crash_run *r)
{
    CRASH_EXPECT(r, lost, !sleepers || (world->gone[0] && world->gone[sleepers - 1]));
    nothing_is_left(r);
}

/* ---- bells: claimed, given back, swept. Bell 0 is another living one's ---- */

static uint32_t claimed; /* by the survivor */

static void setup_bells(crash_run *r)
{
    uint32_t i;
    setup(r);
    memset(world, 0, sizeof *world);
    world->bell[0].owner = OTHER;
    world->bell[0].word = 5;
    for (i = 1; i < BELLS; i++) {
        if (state_is(r, "last") && i != 2) world->bell[i].owner = OTHER;
        if (state_is(r, "dead") && i != 2) world->bell[i].owner = GHOST + i, world->bell[i].word = 1;
        if (state_is(r, "armed")) world->bell[i].word = 7;
    }
}
static void victim_claim(crash_run *r)
{
    if (shmipc__waiter_open(&mine, bells, VICTIM, alive, NULL) == SHMIPC_OK) {
        crash_note(r, 0, mine.id + 1);
        shmipc__store_relaxed_u32(&world->bell[mine.id].word, world->bell[mine.id].word | 1);
        shmipc__waiter_close(&mine);
    }
    crash_note(r, 1, 1);
}
static void victim_sweep(crash_run *r) { crash_note(r, 0, 1 + (uint64_t)shmipc__bells_sweep(bells, alive, NULL)); }

/* Claims whatever there is, and lies down on it. */
static void claim_all(crash_run *r)
{
    uint32_t id;
    for (claimed = 0; shmipc__bell_claim(bells, SURVIVOR, &id) == SHMIPC_OK; claimed++) {
        CRASH_EXPECT(r, twice, id < BELLS && world->bell[id].owner == SURVIVOR);
        shmipc__store_relaxed_u32(&world->bell[id].word, world->bell[id].word + 1 + (world->bell[id].word & 1));
    }
}
/* The bells of the living are theirs, and nobody ends their sleep. */
static void the_living_sleep(crash_run *r)
{
    uint32_t i, n = 0;
    for (i = 0; i < BELLS; i++) {
        n += world->bell[i].owner == SURVIVOR;
        if (world->bell[i].owner == SURVIVOR) CRASH_EXPECT(r, lost, world->bell[i].word & 1);
    }
    CRASH_EXPECT(r, lost, n == claimed);
    CRASH_EXPECT(r, lost, world->bell[0].owner == OTHER && world->bell[0].word == 5);
}
static void every_bell_is_used(crash_run *r)
{
    uint32_t i;
    shmipc__bells_sweep(bells, alive, NULL);
    CRASH_EXPECT(r, leaked, shmipc__bells_sweep(bells, alive, NULL) == 0);
    for (i = 0; i < BELLS; i++) {
        uint64_t owner = world->bell[i].owner;
        CRASH_EXPECT(r, leaked, owner == 0 || owner == OTHER || owner == SURVIVOR);
    }
}
static void check_bells(crash_run *r)
{
    uint32_t i;
    int freed = 0, his = 0;
    for (i = 0; i < BELLS; i++) his += world->bell[i].owner == VICTIM;
    crash_saw(r, his);
    CRASH_EXPECT(r, twice, his <= 1);
    if (strcmp(crash_role(r), "sweeps") == 0) freed = shmipc__bells_sweep(bells, alive, NULL);
    CRASH_EXPECT(r, twice, freed <= 3);
    claim_all(r);
    if (gone(r)) {
        the_living_sleep(r);
        every_bell_is_used(r);
        freed = (int)claimed;
        claim_all(r);
        claimed += (uint32_t)freed;
        CRASH_EXPECT(r, leaked, claimed == (state_is(r, "last") ? 1u : BELLS - 1));
    }
    crash_recovered(r);
    the_living_sleep(r);
}
static void done_bells(crash_run *r)
{
    the_living_sleep(r);
    every_bell_is_used(r);
}

static const char *const s_ring[] = {"one asleep", "two asleep", "one asleep, ghost", "ghost", NULL};
static const char *const s_sleep[] = {"alone", "ghost", "one asleep", "one asleep, inherited", NULL};
static const char *const s_few[] = {"alone", "one asleep", NULL};
static const char *const s_claim[] = {"free", "last", "armed", "dead", NULL};
static const char *const s_dead[] = {"dead", NULL};
static const char *const roles[] = {"sender", "receiver", NULL};
static const char *const receiver[] = {"receiver", NULL};
static const char *const r_bells[] = {"claims", "sweeps", NULL};

#define KILL CRASH_KILL
#define FREEZE CRASH_FREEZE
#define LATE CRASH_LATE
#define BLOCKED CRASH_BLOCKED
#define WAITING CRASH_WAITING
#define ALL (CRASH_KILL | CRASH_ZOMBIE | CRASH_FREEZE | CRASH_LATE)
#define INPROC CRASH_INPROC
#define LIMIT 2000 /* C13: what takes longer hangs */
static const crash_op ops[] = {
    {"bell_claim", s_claim, r_bells, ALL, INPROC, 3, setup_bells, enter, victim_claim, check_bells, done_bells, NULL,
     NULL, LIMIT},
    {"bell_sweep", s_dead, r_bells, ALL, INPROC, 0, setup_bells, enter, victim_sweep, check_bells, done_bells, NULL,
     NULL, LIMIT},
    {"wait_sees_death", s_few, receiver, WAITING, 0, 3, setup, enter, victim_ring_one, check, NULL, NULL, teardown,
     LIMIT},
    {"wait_ring_one", s_ring, roles, KILL | FREEZE, 0, 0, setup, enter, victim_ring_one, check, done, NULL, teardown,
     LIMIT},
    {"wait_ring_all", s_ring, roles, KILL | FREEZE, 0, 0, setup, enter, victim_ring_all, check, done, NULL, teardown,
     LIMIT},
    {"wait_sleep", s_sleep, roles, KILL | FREEZE | LATE | BLOCKED, 0, 0, setup, enter_waiter, victim_sleep, check, done,
     wake_victim, teardown, LIMIT},
    {"wait_poll", s_few, roles, KILL | FREEZE, 0, 0, setup, enter_waiter, victim_poll, check, done, wake_victim,
     teardown, LIMIT},
    {"wait_timeout", s_few, roles, KILL | FREEZE, 0, 0, setup, enter_waiter, victim_timeout, check, done, NULL,
     teardown, LIMIT},
};

int main(int argc, char **argv)
{
    world = (struct world *)crash_shared(sizeof *world);
    return crash_main("wait", ops, CRASH_COUNT(ops), argc, argv);
}
