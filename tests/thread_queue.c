/* The MPMC queue in one process for ThreadSanitizer: producers, consumers, rejections, and sweeps of owners that
 * end. */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../shmipc.h"

#include "check.h"

#include <pthread.h>

#define PRODUCERS 3u
#define CONSUMERS 3u
#define SWEEPER 20u
#define EACH 4000u

static unsigned char *memory;
static uint64_t memory_size;
static uint64_t received, sum, swept_dead;

/* Owners 30 and up are used once and then dead. */
static int alive(void *arg, uint32_t owner)
{
    (void)arg;
    return owner < 30 || owner >= 30 + __atomic_load_n(&swept_dead, __ATOMIC_ACQUIRE);
}

static void attach(shmipc_queue *q, uint32_t owner)
{
    REQUIRE(shmipc_queue_attach(q, memory, memory_size, owner, alive, NULL) == SHMIPC_OK);
}

static void *produce(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg, i;
    uint64_t word[3];
    shmipc_queue q;
    attach(&q, me);
    for (i = 1; i <= EACH; i++) {
        word[0] = i;
        word[1] = ~word[0];
        word[2] = me;
        while (shmipc_queue_push(&q, word, sizeof word, i) != SHMIPC_OK) sched_yield();
    }
    shmipc_queue_detach(&q);
    return NULL;
}

static void *consume(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg, turn;
    shmipc_queue q;
    shmipc_queue_msg m;
    attach(&q, me);
    for (turn = 0; __atomic_load_n(&received, __ATOMIC_RELAXED) < PRODUCERS * EACH; turn++) {
        uint64_t word[3];
        if (shmipc_queue_take(&q, &m) != SHMIPC_OK) {
            sched_yield();
            continue;
        }
        if (turn % 16 == 3 && m.redelivered < 3) {
            CHECK_EQ(shmipc_queue_reject(&q, &m), SHMIPC_OK);
            continue;
        }
        memcpy(word, m.data, sizeof word);
        CHECK(m.len_bytes == sizeof word && word[0] == ~word[1] && m.tag == word[0]);
        __atomic_fetch_add(&sum, word[0], __ATOMIC_RELAXED);
        __atomic_fetch_add(&received, 1, __ATOMIC_RELAXED);
        CHECK_EQ(shmipc_queue_release(&q, &m), SHMIPC_OK);
    }
    shmipc_queue_detach(&q);
    return NULL;
}

/* Owners come, take or loan something, and die with it; then they are swept. */
static void *die_and_sweep(void *arg)
{
    shmipc_queue q, broom;
    shmipc_queue_msg m;
    uint32_t owner;
    (void)arg;
    attach(&broom, SWEEPER);
    for (owner = 30; __atomic_load_n(&received, __ATOMIC_RELAXED) < PRODUCERS * EACH; owner++) {
        attach(&q, owner);
        if (owner % 2) (void)shmipc_queue_take(&q, &m);
        else (void)shmipc_queue_loan(&q, 8, &m);
        __atomic_store_n(&swept_dead, owner - 29, __ATOMIC_RELEASE);
        CHECK(shmipc_queue_sweep(&broom, owner, NULL, NULL) >= 0);
        sched_yield();
    }
    shmipc_queue_detach(&broom);
    return NULL;
}

TEST_LIMIT(K1_S44_queue_threads_deliver_each_message_once, 120)
{
    shmipc_queue_config c;
    shmipc_queue q;
    shmipc_queue_stats st;
    shmipc_queue_msg m;
    pthread_t thread[PRODUCERS + CONSUMERS + 1];
    uint32_t i;
    c.slots = 8;
    c.chunks = 8 + PRODUCERS + CONSUMERS + 4;
    c.max_message = 24;
    c.policy = SHMIPC_QUEUE_REDELIVER;
    REQUIRE(shmipc_queue_size(&c, &memory_size) == SHMIPC_OK);
    memory = (unsigned char *)aligned_alloc(64, (size_t)memory_size);
    REQUIRE(memory != NULL);
    REQUIRE(shmipc_queue_init(memory, memory_size, &c) == SHMIPC_OK);
    for (i = 0; i < PRODUCERS + CONSUMERS; i++)
        REQUIRE(pthread_create(&thread[i], NULL, i < PRODUCERS ? produce : consume, (void *)(uintptr_t)(i + 1)) == 0);
    REQUIRE(pthread_create(&thread[i], NULL, die_and_sweep, NULL) == 0);
    for (i = 0; i <= PRODUCERS + CONSUMERS; i++) pthread_join(thread[i], NULL);
    CHECK_EQ(received, PRODUCERS * EACH);
    CHECK_EQ(sum, (uint64_t)PRODUCERS * EACH * (EACH + 1) / 2);
    attach(&q, 21);
    CHECK_EQ(shmipc_queue_take(&q, &m), SHMIPC_EAGAIN);
    CHECK_EQ(shmipc_queue_get_stats(&q, &st), SHMIPC_OK);
    CHECK_EQ(st.free_chunks, c.chunks);
    free(memory);
}
