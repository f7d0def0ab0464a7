/* The MPMC queue in the explorer: deaths, sweeps, redelivery, reports. Statements I1, I2, S44. */
#define OTHER_PROGRAM WORD
#include "queue_world.h"

THREAD(sweep0_take_all, if (sweep(q, me, 0) > 0) ex_assert(get(q, me)); else get(q, me);)
THREAD(sweep0_take, sweep(q, me, 0); get(q, me);)
THREAD(take_reject, { shmipc_queue_msg m; if (shmipc_queue_take(q, &m) == SHMIPC_OK) shmipc_queue_reject(q, &m); })

/* What a model's story does not need is caught by another one. Each order is caught by at least one:
 *   free, claim, publish, take's slot and word, tail, head        model_queue.c
 *   raise, hint                "consumer killed, sweep against take"
 *   clear                      "the same with the hint up"
 *   take_back, RETURNED        "payload by way of a dead consumer"       HELD by nobody    "by way of a rejection"
 *   sweep of FILLING           "producer killed, chunk used again"
 *   named                      "two sweepers, one killed, slot emptied", "two reporting sweepers" */
int main(int argc, char **argv)
{
    static const char *const sweep_take[] = {FREE_, NAMED, TAKE_BACK, SLOT, WORD, RETURNED, NULL};
    static const char *const dead_payload[] = {TAIL, CLAIM, FREE_, NAMED, WORD, SWEPT, NULL};
    static const char *const rejected[] = {TAIL, CLAIM, FREE_, NAMED, WORD, RETURNED, NULL};
    static const char *const used_again[] = {NAMED, NULL};
    static const char *const emptied[] = {TAIL, HINT, ADVANCE, RAISE, TAKE_BACK, WORD, HEAD, RETURNED, NULL};
    static const char *const reporting[] = {TAIL, ADVANCE, PLACE, RETURNED, NULL};
    ex_model m;
    ex_begin(argc, argv);

    world(&m, "queue: consumer killed, swept, refilled", 1, 4, 1);
    run_thread(&m, "C0", take1);
    run_thread(&m, "S1", sweep0_take_all);
    run_thread(&m, "P2", push1);
    ex_killable(&m, 0, 1);
    ex_run(&m);

    world(&m, "queue: consumer killed, sweep against take", 1, 3, 1);
    run_thread(&m, "C0", take1);
    run_thread(&m, "S1", sweep0);
    run_thread(&m, "C2", take1);
    ex_killable(&m, 0, 1);
    unneeded(&m, sweep_take);
    run_orders(&m);

    world(&m, "queue: the same with the hint up", 1, 3, 1);
    first_hint = 3;
    run_thread(&m, "C0", take1);
    run_thread(&m, "S1", sweep0);
    run_thread(&m, "C2", take1);
    ex_killable(&m, 0, 1);
    unneeded(&m, sweep_take);
    run_orders(&m);

    world(&m, "queue: payload by way of a dead consumer", 1, 3, 0);
    first_hint = 3;
    run_thread(&m, "PC0", push_take);
    run_thread(&m, "S1", sweep0);
    run_thread(&m, "C2", take1);
    ex_killable(&m, 0, 1);
    unneeded(&m, dead_payload);
    run_orders(&m);

    world(&m, "queue: payload by way of a rejection", 1, 3, 0);
    first_hint = 3;
    run_thread(&m, "P0", push1);
    run_thread(&m, "C1", take_reject);
    run_thread(&m, "C2", take1);
    unneeded(&m, rejected);
    run_orders(&m);

    world(&m, "queue: rejecter killed, sweep against take", 1, 3, 1);
    run_thread(&m, "C0", take_reject);
    run_thread(&m, "S1", sweep0);
    run_thread(&m, "C2", take1);
    ex_killable(&m, 0, 1);
    ex_run(&m);

    world(&m, "queue: producer killed, chunk used again", 1, 2, 0);
    run_thread(&m, "P0", push1);
    run_thread(&m, "S1", sweep0);
    run_thread(&m, "P2", push1);
    ex_killable(&m, 0, 1);
    unneeded(&m, used_again);
    run_orders(&m);

    world(&m, "queue: producer killed, sweep against take", 1, 4, 1);
    run_thread(&m, "P0", push1);
    run_thread(&m, "S1", sweep0_take);
    run_thread(&m, "C2", take1);
    ex_killable(&m, 0, 1);
    ex_run(&m);

    world(&m, "queue: two sweepers, one killed, slot still named", 1, 3, 1);
    ghost_holds = 1;
    run_thread(&m, "S0", sweep_ghost);
    run_thread(&m, "S1", sweep_ghost_take);
    run_thread(&m, "P2", push1);
    ex_killable(&m, 0, 1);
    ex_run(&m);

    world(&m, "queue: swept chunk returned, freed, filled again", 1, 2, 1);
    ghost_holds = 1;
    run_thread(&m, "S0", sweep_ghost);
    run_thread(&m, "P1", loan_commit);
    run_thread(&m, "C2", take2);
    ex_run(&m);

    world(&m, "queue: two sweepers, one killed, slot emptied", 1, 3, 1);
    ghost_holds = 2;
    run_thread(&m, "S0", sweep_ghost);
    run_thread(&m, "S1", sweep_ghost_take);
    run_thread(&m, "P2", push1);
    ex_killable(&m, 0, 1);
    unneeded(&m, emptied);
    run_orders(&m);

    world(&m, "queue: two reporting sweepers, one killed", 1, 3, 1);
    policy = SHMIPC_QUEUE_REPORT;
    ghost_holds = 1;
    run_thread(&m, "S0", sweep_ghost);
    run_thread(&m, "S1", sweep_ghost);
    run_thread(&m, "P2", push1);
    ex_killable(&m, 0, 1);
    unneeded(&m, reporting);
    run_orders(&m);

    world(&m, "queue: two sweepers of a producer, take", 1, 4, 1);
    ghost_fills = 1;
    run_thread(&m, "S0", sweep_ghost);
    run_thread(&m, "S1", sweep_ghost);
    run_thread(&m, "C2", take1);
    ex_killable(&m, 0, 1);
    ex_run(&m);
    return ex_end();
}
