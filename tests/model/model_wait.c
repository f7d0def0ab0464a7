/* Waiting, every schedule: no wake-up is lost, and killed or stopped processes strand nobody.
 * A sleep in these models ends by a wake only, unless ex_idle_timeouts lets a slice run out when nothing else can run:
 * so a lost wake-up is "stuck". Checks I1, I2, S46, C13. */
#include "explore.h"
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#define SHMIPC_ATOMICS_HEADER "explore_atomics.h"
#define SHMIPC_OS_HEADER "explore_os.h"
#include "../../shmipc.h"

#define GATES 2

static shmipc__bell bell[3];
static shmipc__gate gate[GATES];
static uint64_t flag[3], tokens, payload[2], over;
static uint64_t got[3], rings;
static int result[3];
static shmipc__bells bells = {bell, 3, NULL, NULL};

static void setup(void)
{
    memset(bell, 0, sizeof bell);
    memset(gate, 0, sizeof gate);
    memset(flag, 0, sizeof flag);
    memset(got, 0, sizeof got);
    memset(result, 0, sizeof result);
    memset(payload, 0, sizeof payload);
    tokens = over = rings = 0;
    ex_name(bell, sizeof bell, "bell");
    ex_name(&gate[0], sizeof gate[0], "gate0");
    ex_name(&gate[1], sizeof gate[1], "gate1");
    ex_name(flag, sizeof flag, "flag");
    ex_name(&tokens, 8, "tokens");
    ex_name(payload, sizeof payload, "payload");
    ex_name(&over, 8, "over");
}

static int is_set(void *arg) { return shmipc__load_acquire_u64((uint64_t *)arg) != 0; }

static int alive(void *arg, uint64_t life)
{
    (void)arg;
    return !ex_is_dead((int)life - 1);
}

static shmipc__waiter waiter_of(uint32_t id)
{
    shmipc__waiter w;
    memset(&w, 0, sizeof w);
    w.bells = bells;
    w.id = id;
    w.life = id + 1; /* spin_ns 0: a spin changes nothing that a model could see */
    return w;
}

static shmipc__wait_item item_of(int g, int (*ready)(void *), void *arg)
{
    shmipc__wait_item it;
    memset(&it, 0, sizeof it);
    it.gate = &gate[g];
    it.ready = ready;
    it.arg = arg;
    return it;
}

static int index_of(void *arg) { return (int)(intptr_t)arg; }

/* ---- one sender, one sleeper; the bell already had another owner who died armed and declared ---- */

static void send_flag(void *arg)
{
    uint64_t v = 7;
    shmipc__copy_in(&payload[index_of(arg)], &v, 8);
    shmipc__store_release_u64(&flag[index_of(arg)], 1);
    shmipc__gate_ring(&gate[0], bells, SHMIPC__WAKE_ALL);
}
static void wait_flag(void *arg)
{
    shmipc__waiter w = waiter_of((uint32_t)index_of(arg));
    shmipc__wait_item it = item_of(0, is_set, &flag[0]);
    result[index_of(arg)] = shmipc__wait(&w, &it, 1, -1);
    ex_assert(result[index_of(arg)] == 1 && it.result == 1);
    shmipc__copy_out(&got[index_of(arg)], &payload[0], 8);
}
static void final_flag(void)
{
    ex_assert(got[0] == 7);
    ex_assert(gate[0].sleepers[0] == 0 && (bell[0].word & 1) == 0);
}
static void setup_used(void)
{
    setup();
    bell[0].word = 3;
    gate[0].sleepers[0] = 1;
    gate[0].summary = 1;
}

/* Bell 1 has lain down before the others begin: that keeps a model small enough for all schedules. */
static void setup_asleep(void)
{
    setup();
    bell[1].word = 1;
    gate[0].sleepers[0] = 2;
    gate[0].summary = SHMIPC__DECLARED | 1;
}
static void setup_both_asleep(void)
{
    setup_asleep();
    bell[0].word = 1;
    gate[0].sleepers[0] = 3;
    gate[0].summary = 2 * SHMIPC__DECLARED | 1;
}

/* ---- the sender, and the sleeper of another gate, may die at any step ---- */

/* Ends with the data or with the news of the death; of two waits the second cannot be stranded by what the first
 * left. */
static void wait_mortal(void *arg)
{
    int me = index_of(arg);
    shmipc__waiter w = waiter_of((uint32_t)me);
    shmipc__wait_item it = item_of(0, is_set, &flag[0]);
    uint64_t life = 1;
    w.alive = alive;
    it.lives = &life;
    it.lives_count = 1;
    ex_assert(shmipc__wait(&w, &it, 1, -1) == 1);
    result[me] = it.result;
    ex_assert(it.result == 1 || it.result == SHMIPC_EPEERDEAD);
    if (it.result == 1) shmipc__copy_out(&got[me], &payload[0], 8);
}
static void final_mortal(void)
{
    ex_assert(result[0] == (flag[0] ? 1 : SHMIPC_EPEERDEAD));
    ex_assert(got[0] == (flag[0] ? 7 : 0));
    ex_outcome((uint64_t)(result[0] == 1));
}

/* ---- a stopped sender is waited for by nobody: the data of another one comes through ---- */

static int any_is_set(void *arg)
{
    uint64_t *f = (uint64_t *)arg;
    return is_set(&f[0]) ? 1 : is_set(&f[1]) ? 2 : 0;
}
static void wait_any(void *arg)
{
    shmipc__waiter w = waiter_of(0);
    shmipc__wait_item it = item_of(0, any_is_set, flag);
    (void)arg;
    while (it.result == 0) shmipc__wait_sleep(&w, &it, 1, 0, INT64_MAX);
    shmipc__copy_out(&got[0], &payload[it.result - 1], 8);
}
static void final_any(void) { ex_assert(got[0] == 7); }

/* ---- a sleeper that stops or dies costs one wake; the sender is never held up ---- */

static void ring_often(void *arg)
{
    int i;
    (void)arg;
    shmipc__store_release_u64(&flag[0], 1);
    for (i = 0; i < 4; i++) rings += shmipc__gate_ring(&gate[0], bells, 1);
    over = 1;
}
static void wait_once(void *arg)
{
    shmipc__waiter w = waiter_of((uint32_t)index_of(arg));
    shmipc__wait_item it = item_of(0, is_set, &flag[0]);
    ex_assert(shmipc__wait(&w, &it, 1, -1) == 1);
}
static void final_once(void)
{
    ex_assert(over == 1 && rings <= 2); /* 2: it woke up, did not see the news yet, and lay down again */
    ex_outcome(rings);
}

/* ---- tokens: as many receivers as tokens, each wake is meant for one. Only the core of a wait ---- */

static int take(uint64_t *from)
{
    uint64_t n = shmipc__load_relaxed_u64(from);
    while (n)
        if (shmipc__cas_acqrel_u64(from, &n, n - 1)) return 1;
    return 0;
}
static void send_token(void *arg)
{
    (void)arg;
    shmipc__add_acqrel_u64(&tokens, 1);
    shmipc__gate_ring(&gate[0], bells, 1);
}
static void send_two(void *arg)
{
    send_token(arg);
    send_token(arg);
}
static void receive(void *arg)
{
    int me = index_of(arg);
    shmipc__waiter w = waiter_of((uint32_t)me);
    shmipc__wait_item it = item_of(0, is_set, &tokens);
    do {
        for (it.result = 0; it.result == 0;) shmipc__wait_sleep(&w, &it, 1, 0, INT64_MAX);
        shmipc__wait_end(&w, &it, 1, 1);
    } while (!take(&tokens));
    got[me] = 1;
}
static void final_tokens(void) { ex_assert(tokens == 0 && got[0] && got[1]); }
static void receive_asleep(void *arg) /* lay down before */
{
    int me = index_of(arg);
    shmipc__waiter w = waiter_of((uint32_t)me);
    shmipc__wait_item it = item_of(0, is_set, &tokens);
    w.rung = shmipc__os_futex_wait(&bell[me].word, 1, SHMIPC__SLICE_NS) != SHMIPC_ETIMEDOUT;
    shmipc__wait_look(&it, 1);
    while (it.result == 0) shmipc__wait_sleep(&w, &it, 1, 0, INT64_MAX);
    shmipc__wait_end(&w, &it, 1, 1);
    if (take(&tokens)) got[me] = 1;
    else receive(arg);
}

/* ---- one token, two receivers; the one that is woken may die: the other takes it at the end of its slice ---- */

static void send_one(void *arg)
{
    (void)arg;
    shmipc__store_release_u64(&tokens, 1);
    shmipc__gate_ring(&gate[0], bells, 1);
}
/* tokens: 0 nothing, 1 there, 2 taken; who takes it tells the other that there is nothing. */
static void race_for_it(void *arg)
{
    int me = index_of(arg);
    uint64_t there = 1;
    shmipc__waiter w = waiter_of((uint32_t)me);
    shmipc__wait_item it = item_of(0, is_set, &tokens);
    while (it.result == 0) shmipc__wait_sleep(&w, &it, 1, 0, INT64_MAX);
    got[me] = (uint64_t)shmipc__cas_acqrel_u64(&tokens, &there, 2);
    if (got[me]) shmipc__gate_ring(&gate[0], bells, SHMIPC__WAKE_ALL);
}
static void race_asleep(void *arg) /* lay down before */
{
    int me = index_of(arg);
    shmipc__os_futex_wait(&bell[me].word, 1, SHMIPC__SLICE_NS);
    race_for_it(arg);
}
static void final_race(void)
{
    ex_assert(tokens == 2);
    ex_outcome(got[0] | got[1] << 1);
}

/* ---- a wait on two gates that ends for the one must not eat the wake of the other ---- */

static void poll_both(void *arg)
{
    shmipc__waiter w = waiter_of((uint32_t)index_of(arg));
    shmipc__wait_item it[2];
    int ended = 0;
    it[0] = item_of(0, is_set, &tokens);
    it[1] = item_of(1, is_set, &flag[1]);
    while (!ended && got[0] == 0) {
        ex_assert(shmipc__wait(&w, it, 2, -1) > 0);
        ended = it[1].result;
        if (it[0].result && take(&tokens)) got[0]++;
    }
    if (got[0]) send_token(NULL); /* given back, so that the other does not starve honestly */
}
static void send_token_and_end(void *arg)
{
    send_token(arg);
    shmipc__store_release_u64(&flag[1], 1);
    shmipc__gate_ring(&gate[1], bells, SHMIPC__WAKE_ALL);
}
static void final_poll(void)
{
    ex_assert(got[1] == 1 && tokens == 0);
    ex_outcome(got[0]);
}

/* ---- the same with a receiver that sleeps from the beginning: small enough for all schedules and weakenings ---- */

static void send_end_and_token(void *arg)
{
    shmipc__store_release_u64(&flag[1], 1);
    shmipc__gate_ring(&gate[1], bells, SHMIPC__WAKE_ALL);
    send_token(arg);
}
static void poll_once(void *arg)
{
    shmipc__waiter w = waiter_of((uint32_t)index_of(arg));
    shmipc__wait_item it[2];
    it[0] = item_of(0, is_set, &tokens);
    it[1] = item_of(1, is_set, &flag[1]);
    ex_assert(shmipc__wait(&w, it, 2, -1) > 0);
    if (it[0].result) got[0] = (uint64_t)take(&tokens);
}
static void wait_and_take(void *arg)
{
    shmipc__waiter w = waiter_of((uint32_t)index_of(arg));
    shmipc__wait_item it = item_of(0, is_set, &tokens);
    ex_assert(shmipc__wait(&w, &it, 1, -1) == 1);
    got[0] = (uint64_t)take(&tokens);
}
/* Whatever is left, the sleeper has been told of it. */
static void final_asleep(void)
{
    ex_assert(tokens == 0 || !(bell[1].word & 1));
    ex_outcome(tokens | got[0] << 2);
}

/* ---- two senders of two gates ring one bell ---- */

static void send_to(void *arg)
{
    shmipc__store_release_u64(&flag[index_of(arg)], 1);
    shmipc__gate_ring(&gate[index_of(arg)], bells, SHMIPC__WAKE_ALL);
}
static void wait_for_both(void *arg)
{
    shmipc__waiter w = waiter_of((uint32_t)index_of(arg));
    shmipc__wait_item it[2];
    it[0] = item_of(0, is_set, &flag[0]);
    it[1] = item_of(1, is_set, &flag[1]);
    while (!it[0].result || !it[1].result) shmipc__wait_sleep(&w, it, 2, 0, INT64_MAX);
    over = 1;
}
static void final_both(void) { ex_assert(over == 1); }

/* ---- bells: two sweeps of a dead owner, and the next owner ---- */

static void die_owning(void *arg)
{
    uint32_t id;
    (void)arg;
    if (shmipc__bell_claim(bells, 1, &id)) return;
    shmipc__store_relaxed_u32(&bell[id].word, 1);
    shmipc__bell_free(bells, id, 1);
}
static void sweep_and_claim(void *arg)
{
    uint64_t life = (uint64_t)index_of(arg);
    uint32_t id;
    shmipc__bells_sweep(bells, alive, NULL);
    ex_assert(shmipc__bell_claim(bells, life, &id) == 0);
    shmipc__store_relaxed_u32(&bell[id].word, 2 * shmipc__load_relaxed_u32(&bell[id].word) + 1);
    ex_assert(shmipc__load_relaxed_u64(&bell[id].owner) == life);
    ex_assert(shmipc__load_relaxed_u32(&bell[id].word) & 1); /* nobody disarms what is not the dead one's */
    got[life - 2] = id + 1;
}
static void final_bells(void)
{
    ex_assert(got[0] && got[1] && got[0] != got[1]);
    ex_assert(bell[0].owner != 1 || got[0] != 1);
}

/* ---- a bell changes hands: its owner returns it armed, a sender of his is late, the next one lies down on it ---- */

static void setup_hands(void)
{
    setup();
    bell[0].owner = 1;
    bell[0].post = 1; /* he slept otherwise: a ring that still thinks so does not reach the next owner */
}
static void give_back(void *arg)
{
    (void)arg;
    shmipc__store_relaxed_u32(&bell[0].word, 1);
    shmipc__bell_free(bells, 0, 1);
}
static void ring_late(void *arg)
{
    (void)arg;
    shmipc__bell_ring(bells, 0);
}
static void sweep(void *arg)
{
    (void)arg;
    shmipc__bells_sweep(bells, alive, NULL);
}
static void take_over(void *arg)
{
    shmipc__bells first = bells;
    uint32_t id;
    first.count = 1;
    if (shmipc__bell_claim(first, 2, &id)) return;
    got[1] = 1;
    wait_flag(arg);
}
static void final_hands(void)
{
    ex_assert(!got[1] || (result[0] == 1 && got[0] == 7));
    ex_assert(bell[0].owner == (got[1] ? 2u : 0u));
    ex_outcome(got[1]);
}

static void final_swept(void)
{
    ex_assert(!got[1] || (result[0] == 1 && got[0] == 7));
    ex_assert(bell[0].owner == (got[1] ? 2u : 0u) || ex_is_dead(0));
    ex_outcome(got[1] << 1 | (uint64_t)ex_is_dead(0));
}

static void expect_small(ex_model *m, int one_declares, int one_source, int no_payload)
{
    if (!strstr(m->name, "a bell changes")) ex_expect_not_caught(m, "[B2]", "nobody rings late, for an earlier owner");
    ex_expect_not_caught(m, "sleepers[id >> 6], (uint64_t)1", "the CAS of the summary after it publishes it");
    ex_expect_not_caught(m, "&gate->sleepers[at], ~bit) & bit", "fence S is before it");
    if (one_declares) ex_expect_not_caught(m, "[G1]", "only one declares himself: nobody clears what another set");
    if (one_source) {
        ex_expect_not_caught(m, "load_acquire_u64(word) & bit",
                             "one source: its data was seen, or the wait would go on");
        ex_expect_not_caught(m, "and_acqrel_u64(word, ~bit) & bit",
                             "one source: its data was seen, or the wait would go on");
    }
    if (no_payload) {
        ex_expect_not_caught(m, "static int is_set", "there is no payload behind it here");
        ex_expect_not_caught(m, "_u64(from, &n, n - 1)", "there is no payload behind it here");
        ex_expect_not_caught(m, "_u64(&tokens, 1)", "there is no payload behind it here");
        ex_expect_not_caught(m, "release_u64(&flag[1], 1)", "there is no payload behind it here");
    }
}

/* The largest are cut; smaller ones beside them are complete. A planted error is found in far fewer schedules. */
static uint64_t most(void) { return getenv("MUTANT") ? 50000 : 200000; }
static void run_large(ex_model *m)
{
    if (getenv("MUTANT")) m->max_schedules = most();
    ex_run(m);
}

int main(int argc, char **argv)
{
    ex_model m;
    ex_begin(argc, argv);
    ex_os_step = SHMIPC__SLICE_NS; /* each round of a wait probes */
    ex_new(&m, "doorbell", setup, final_flag);
    ex_thread(&m, "sender", send_flag, (void *)0);
    ex_thread(&m, "waiter", wait_flag, (void *)0);
    expect_small(&m, 1, 1, 0);
    ex_weaken_all(&m);

    ex_new(&m, "doorbell, inherited armed and declared", setup_used, final_flag);
    ex_thread(&m, "sender", send_flag, (void *)0);
    ex_thread(&m, "waiter", wait_flag, (void *)0);
    ex_run(&m);

    ex_new(&m, "doorbell, the sender may die", setup, final_mortal);
    ex_killable(&m, ex_thread(&m, "sender", send_flag, (void *)0), 1);
    ex_thread(&m, "waiter", wait_mortal, (void *)0);
    ex_idle_timeouts(&m, 2);
    ex_run(&m);

    ex_new(&m, "the sleeper may stop", setup, final_once);
    ex_thread(&m, "sender", ring_often, NULL);
    ex_stoppable(&m, ex_thread(&m, "waiter", wait_once, (void *)0), 1);
    ex_run(&m);

    ex_new(&m, "the sleeper may die", setup, final_once);
    ex_thread(&m, "sender", ring_often, NULL);
    ex_killable(&m, ex_thread(&m, "waiter", wait_once, (void *)0), 1);
    ex_run(&m);

    ex_new(&m, "a poll eats no wake, token last", setup_asleep, final_asleep);
    ex_thread(&m, "sender", send_end_and_token, NULL);
    ex_thread(&m, "poller", poll_once, (void *)0);
    expect_small(&m, 1, 0, 1);
    ex_weaken_all(&m);

    ex_new(&m, "a poll eats no wake, token first", setup_asleep, final_asleep);
    ex_thread(&m, "sender", send_token_and_end, NULL);
    ex_thread(&m, "poller", poll_once, (void *)0);
    ex_run(&m);

    ex_new(&m, "a wake that was not needed goes on", setup_asleep, final_asleep);
    ex_thread(&m, "sender", send_two, NULL);
    ex_thread(&m, "receiver", wait_and_take, (void *)0);
    ex_run(&m);

    ex_new(&m, "a bell changes hands", setup_hands, final_hands);
    ex_thread(&m, "sender", send_flag, (void *)0);
    ex_thread(&m, "owner", give_back, NULL);
    ex_thread(&m, "late sender", ring_late, NULL);
    ex_thread(&m, "next owner", take_over, (void *)0);
    expect_small(&m, 1, 1, 0);
    ex_weaken_all(&m);

    ex_new(&m, "a dead one's bell changes hands", setup_hands, final_swept);
    ex_killable(&m, ex_thread(&m, "owner", give_back, NULL), 1);
    ex_thread(&m, "next owner", take_over, (void *)0);
    ex_thread(&m, "sender", send_flag, (void *)0);
    ex_thread(&m, "sweep", sweep, NULL);
    expect_small(&m, 1, 1, 0);
    ex_weaken_all(&m);

    ex_new(&m, "a dead one's bell changes hands, a sender is late", setup_hands, final_swept);
    ex_killable(&m, ex_thread(&m, "owner", give_back, NULL), 1);
    ex_thread(&m, "next owner", take_over, (void *)0);
    ex_thread(&m, "sender", send_flag, (void *)0);
    ex_thread(&m, "sweep", sweep, NULL);
    ex_thread(&m, "late sender", ring_late, NULL);
    ex_run(&m);

    /* the large ones */
    ex_new(&m, "doorbell, one of two senders may stop", setup, final_any);
    ex_stoppable(&m, ex_thread(&m, "sender", send_flag, (void *)0), 1);
    ex_thread(&m, "second sender", send_flag, (void *)1);
    ex_thread(&m, "waiter", wait_any, (void *)0);
    ex_idle_timeouts(&m, 1);
    m.max_schedules = most();
    ex_run(&m);

    ex_new(&m, "two gates, one bell", setup, final_both);
    ex_thread(&m, "sender 0", send_to, (void *)0);
    ex_thread(&m, "sender 1", send_to, (void *)1);
    ex_thread(&m, "waiter", wait_for_both, (void *)0);
    run_large(&m);

    ex_new(&m, "two receivers, two tokens", setup, final_tokens);
    ex_thread(&m, "sender", send_two, NULL);
    ex_thread(&m, "receiver 0", receive, (void *)0);
    ex_thread(&m, "receiver 1", receive, (void *)1);
    m.max_schedules = most();
    ex_run(&m);

    ex_new(&m, "two receivers asleep, two tokens", setup_both_asleep, final_tokens);
    ex_thread(&m, "sender", send_two, NULL);
    ex_thread(&m, "receiver 0", receive_asleep, (void *)0);
    ex_thread(&m, "receiver 1", receive_asleep, (void *)1);
    run_large(&m);

    ex_new(&m, "two receivers, one may die", setup, final_race);
    ex_thread(&m, "sender", send_one, NULL);
    ex_killable(&m, ex_thread(&m, "receiver 0", race_for_it, (void *)0), 1);
    ex_thread(&m, "receiver 1", race_for_it, (void *)1);
    ex_idle_timeouts(&m, 1);
    m.max_schedules = most();
    ex_run(&m);

    ex_new(&m, "two receivers, one asleep, the other may die", setup_asleep, final_race);
    ex_thread(&m, "sender", send_one, NULL);
    ex_killable(&m, ex_thread(&m, "receiver 0", race_for_it, (void *)0), 1);
    ex_thread(&m, "receiver 1", race_asleep, (void *)1);
    ex_idle_timeouts(&m, 1);
    run_large(&m);

    ex_new(&m, "two receivers, the one asleep may die", setup_asleep, final_race);
    ex_thread(&m, "sender", send_one, NULL);
    ex_thread(&m, "receiver 0", race_for_it, (void *)0);
    ex_killable(&m, ex_thread(&m, "receiver 1", race_asleep, (void *)1), 1);
    ex_idle_timeouts(&m, 1);
    run_large(&m);

    ex_new(&m, "a poll eats no wake", setup, final_poll);
    ex_thread(&m, "sender", send_token_and_end, NULL);
    ex_thread(&m, "poller", poll_both, (void *)0);
    ex_thread(&m, "receiver", receive, (void *)1);
    m.max_schedules = most();
    expect_small(&m, 0, 1, 1);
    ex_weaken_all(&m);

    ex_new(&m, "bells of the dead", setup, final_bells);
    ex_killable(&m, ex_thread(&m, "owner", die_owning, NULL), 1);
    ex_thread(&m, "sweep 2", sweep_and_claim, (void *)2);
    ex_thread(&m, "sweep 3", sweep_and_claim, (void *)3);
    m.max_schedules = most();
    ex_run(&m);
    return ex_end();
}
