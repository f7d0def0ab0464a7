/* The MPMC queue in the explorer while everybody lives, or stops for ever: full, empty, wrapping, every order.
 * Statements K1, I1, S44. */
#define OTHER_PROGRAM HINT
#include "queue_world.h"

/* The only consumer has pushed before it takes: the queue is not empty. */
THREAD(push_take_sure, put(q, me, 4 + me); if (acknowledged[4 + me]) ex_assert(get(q, me));)
/* The only producer has taken before it pushes: the queue is not full. */
THREAD(take_push_sure, if (get(q, me)) { put(q, me, 4 + me); ex_assert(acknowledged[4 + me]); })
/* The same in batches. */
THREAD(push_both, {
    shmipc_queue_item item[2];
    uint32_t id[2], i;
    int n;
    for (i = 0; i < 2; i++) {
        id[i] = 9 + 2 * me + i;
        item[i].data = &id[i];
        item[i].len_bytes = sizeof id[i];
        item[i].tag = id[i] + 100u;
    }
    n = shmipc_queue_push_many(q, item, 2);
    for (i = 0; n > 0 && i < (uint32_t)n; i++) acknowledged[id[i]] = 1;
})
THREAD(take_both, {
    shmipc_queue_msg m[2];
    int i, n = shmipc_queue_take_many(q, m, 2);
    for (i = 0; i < n; i++) {
        book(received[me], &m[i]);
        shmipc_queue_release(q, &m[i]);
    }
})

int main(int argc, char **argv)
{
    static const char *const one_pusher[] = {HINT, PLACE, TAIL, NULL};
    static const char *const one_taker[] = {HINT, SLOT, WORD, HEAD, NULL};
    ex_model m;
    double seconds = getenv("FULL") ? 300 : getenv("MUTANT") ? 1 : 4; /* what does not end by then is reported as cut */
    ex_begin(argc, argv);

    world(&m, "queue: 1+2, full and wrapping", 1, 5, 1);
    run_thread(&m, "P0", push1);
    run_thread(&m, "C1", take1);
    run_thread(&m, "C2", take1);
    unneeded(&m, one_pusher);
    run_orders(&m);

    world(&m, "queue: 2+1, full and wrapping", 1, 5, 1);
    run_thread(&m, "P0", push1);
    run_thread(&m, "P1", push1);
    run_thread(&m, "C2", take1);
    unneeded(&m, one_taker);
    run_orders(&m);

    world(&m, "queue: the same producer fills the same chunk", 1, 2, 0);
    run_thread(&m, "P0", push2);
    run_thread(&m, "C1", take1);
    run_thread(&m, "C2", take1);
    m.max_seconds = seconds;
    ex_run(&m);

    world(&m, "queue: 2+1 by loans", 1, 5, 1);
    run_thread(&m, "P0", loan_commit);
    run_thread(&m, "P1", loan_commit);
    run_thread(&m, "C2", take1);
    ex_run(&m);

    world(&m, "queue: 1+1 in batches, 2 slots", 2, 5, 2);
    run_thread(&m, "P0", push_both);
    run_thread(&m, "C1", take_both);
    ex_run(&m);

    world(&m, "queue: not empty after a push", 2, 6, 0);
    run_thread(&m, "PC0", push_take_sure);
    run_thread(&m, "P1", push1);
    run_thread(&m, "P2", push1);
    m.max_seconds = seconds;
    ex_run(&m);

    world(&m, "queue: not full after a take", 1, 6, 1);
    run_thread(&m, "PC0", take_push_sure);
    run_thread(&m, "C1", take1);
    run_thread(&m, "C2", take1);
    ex_run(&m);

    world(&m, "queue: a consumer stops anywhere", 1, 5, 1);
    run_thread(&m, "C0", take1);
    run_thread(&m, "C1", take2);
    run_thread(&m, "P2", push2);
    ex_stoppable(&m, 0, 1);
    m.max_seconds = seconds;
    ex_run(&m);

    world(&m, "queue: a producer stops anywhere", 1, 5, 0);
    run_thread(&m, "P0", push1);
    run_thread(&m, "C1", take2);
    run_thread(&m, "P2", push2);
    ex_stoppable(&m, 0, 1);
    m.max_seconds = seconds;
    ex_run(&m);

    world(&m, "queue: 2+2, 1 slot", 1, 6, 1);
    run_thread(&m, "P0", push1);
    run_thread(&m, "P1", push1);
    run_thread(&m, "C2", take1);
    run_thread(&m, "C3", take1);
    m.max_seconds = seconds;
    ex_run(&m);

    world(&m, "queue: 3+1, 2 slots", 2, 7, 1);
    run_thread(&m, "P0", push1);
    run_thread(&m, "P1", push1);
    run_thread(&m, "P2", push1);
    run_thread(&m, "C3", take2);
    m.max_seconds = seconds;
    ex_run(&m);

    world(&m, "queue: push and take in turn, 3 of them", 1, 6, 1);
    run_thread(&m, "0", push_take);
    run_thread(&m, "1", push_take);
    run_thread(&m, "2", take1);
    m.max_seconds = seconds;
    ex_run(&m);
    return ex_end();
}
