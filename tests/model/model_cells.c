/* Reply cells, every schedule: a requester gets the reply to its own question, whole, or the news that nobody will
 * answer; whoever dies where he likes, no cell is lost when the dead are swept. Checks I1, I2, S48, S49. */
#define SOCKET_QUEUE "socket_queue.h"
#include "socket_world.h"

#define CELLS 2
#define GHOST 5         /* an attachment whose process is dead from the beginning */
#define LAST EX_THREADS /* the index of who checks at the end                     */

enum { NOTHING, REPLIED, FAILED, ABANDONED };
static shmipc__cell cell[CELLS] __attribute__((aligned(128)));
static uint64_t entry[EX_THREADS];            /* whose attachment: its first life is 1 */
static uint8_t executed[64], answered[64];    /* by question */
static uint8_t got[EX_THREADS][2];            /* what became of each question of a thread */
static uint32_t roles[EX_THREADS];
static uint32_t cells;                        /* how many the model has */
static uint8_t swept[EX_THREADS];             /* a sweep that ended: then nobody looks after that life again */

static int world_alive(uint32_t index) { return index == LAST || (index != GHOST && !ex_is_dead((int)index)); }
static int world_holds(uint32_t index, uint64_t life) { return shmipc__load_relaxed_u64(&entry[index]) == life; }

static void sweep_of(uint32_t me, uint32_t dead)
{
    shmipc__dead d;
    memset(&d, 0, sizeof d);
    d.segment = &world_segment[me];
    d.channel = channel_of();
    d.index = dead;
    d.life = 1;
    d.has_queue = 1;
    d.queue.owner = me;
    d.cells = cell;
    d.cell_count = cells;
    shmipc__dead_cells(&d); /* as shmipc__channel_sweep does, behind the blocks */
    ex_assert(shmipc_queue_sweep(&d.queue, dead, shmipc__dead_report, &d) == SHMIPC_OK);
    swept[dead] = 1;
}
static int world_sweep(uint32_t index)
{
    if ((int)index < ex.m->threads && ex.m->killable[index] && ex_is_dead((int)index)) {
        sweep_of((uint32_t)ex.self, index);
    }
    return 0;
}

static void setup(void)
{
    uint32_t i;
    channel_make();
    world_ctx.life = 1;
    box_owners = (uint32_t)ex.m->threads;
    memset(cell, 0, sizeof cell);
    memset(box, 0, sizeof box);
    memset(room, 0, sizeof room);
    memset(box_next, 0, sizeof box_next);
    memset(executed, 0, sizeof executed);
    memset(answered, 0, sizeof answered);
    memset(got, 0, sizeof got);
    memset(swept, 0, sizeof swept);
    for (i = 0; i < EX_THREADS; i++) entry[i] = 1;
    for (i = 0; i <= LAST; i++) {
        socket_make(i, i < EX_THREADS ? roles[i] : SHMIPC_REP, EX_THREADS);
        sock[i].has_queue = 1;
        sock[i].queue.owner = i;
        sock[i].cells = cell;
        sock[i].cell_count = cells;
    }
    ex_name(&cell[0], 128, "cell0");
    ex_name(&cell[1], 128, "cell1");
    ex_name(box, sizeof box, "box");
    ex_name(room, sizeof room, "request");
    ex_name(entry, sizeof entry, "entry");
}

/* ---- the two sides; question q is answered by 1000 + q ---- */

static uint64_t question(uint32_t me, uint32_t n) { return me * 8 + n + 1; }

/* 0: no cell is free. */
static int ask(uint32_t me, uint32_t n)
{
    int rc;
    shmipc__parts p;
    uint64_t q = question(me, n);
    memset(&p, 0, sizeof p);
    p.data = &q;
    p.len = sizeof q;
    rc = shmipc__req_put(&sock[me], &p);
    ex_assert(rc == SHMIPC_OK || (rc == SHMIPC_EFULL && cells == 1));
    return rc == SHMIPC_OK;
}
static void heard(uint32_t me, uint32_t n, int rc, uint64_t answer, uint64_t len)
{
    ex_assert(rc == SHMIPC_OK || rc == SHMIPC_EPEERDEAD);
    ex_assert(sock[me].cell_word == 0);
    if (rc == SHMIPC_OK) ex_assert(len == 8 && answer == 1000 + question(me, n));
    got[me][n] = rc ? FAILED : REPLIED;
}
/* Looks once, and gives up what is not there. */
static void hear_or_abandon(uint32_t me, uint32_t n)
{
    shmipc_socket *s = &sock[me];
    uint64_t answer = 0;
    shmipc_msg m;
    shmipc__want w = {s, &answer, sizeof answer, 0, &m};
    int rc = shmipc__req_try(s, &w);
    if (rc != SHMIPC_EAGAIN) {
        heard(me, n, rc, answer, m.len);
        return;
    }
    shmipc__req_abandon(s);
    ex_assert(s->cell_word == 0);
    got[me][n] = ABANDONED;
}
static void ask_once(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    if (ask(me, 0)) hear_or_abandon(me, 0);
}
static void ask_after_another(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    shmipc__req_abandon(&sock[me]);
    if (ask(me, 1)) shmipc__req_abandon(&sock[me]);
}
static void hear_only(void *arg) { hear_or_abandon((uint32_t)(uintptr_t)arg, 0); }
static void ask_again_at_once(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    ask(me, 0);
    shmipc__req_abandon(&sock[me]);
    got[me][0] = ABANDONED;
    if (ask(me, 1)) hear_or_abandon(me, 1);
}
static uint64_t take_question(uint32_t me)
{
    shmipc_socket *s = &sock[me];
    uint64_t q = 0;
    shmipc_msg m;
    shmipc__want w = {s, &q, sizeof q, 0, &m};
    int rc = shmipc__rep_try(s, &w);
    ex_assert(rc == SHMIPC_OK || rc == SHMIPC_EAGAIN);
    if (rc) return 0;
    ex_assert(m.len == 8 && q && q < 64 && !executed[q]);
    executed[q] = 1;
    return q;
}
static void answer_question(uint32_t me, uint64_t q)
{
    uint64_t answer = 1000 + q;
    shmipc__parts p;
    memset(&p, 0, sizeof p);
    p.data = &answer;
    p.len = sizeof answer;
    ex_assert(shmipc__rep_put(&sock[me], &p) == SHMIPC_OK);
    answered[q] = 1;
}
static int reply_to(uint32_t me)
{
    uint64_t q = take_question(me);
    if (q) answer_question(me, q);
    return q != 0;
}
static void reply_once(void *arg) { reply_to((uint32_t)(uintptr_t)arg); }
static void reply_twice(void *arg)
{
    reply_to((uint32_t)(uintptr_t)arg);
    reply_to((uint32_t)(uintptr_t)arg);
}
static void take_and_drop(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    if (take_question(me)) shmipc__rep_drop(&sock[me]);
}

/* ---- with sleep: the requester's whole receive, a replier who is there until he has replied ---- */

static void sleep_only(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    uint64_t answer = 0;
    shmipc_msg m;
    int rc;
    m.len = 0;
    rc = shmipc__receive(&sock[me], &answer, sizeof answer, 0, &m, -1);
    heard(me, 0, rc, answer, m.len);
}
static void ask_and_sleep(void *arg)
{
    ask((uint32_t)(uintptr_t)arg, 0);
    sleep_only(arg);
}
static void reply_sometime(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    while (!reply_to(me)) shmipc__pause();
}
/* Thread 0 has asked, and the replier has the question. */
static void setup_taken(void)
{
    setup();
    ask(0, 0);
    ex_assert(take_question(1) == question(0, 0));
}
static void setup_answered(void)
{
    setup_taken();
    answer_question(1, question(0, 0));
}
static void answer_only(void *arg) { answer_question((uint32_t)(uintptr_t)arg, question(0, 0)); }
/* Thread 0 has asked, and the ghost took the question before he died; or he was writing the reply. */
static void setup_ghost_holds(void)
{
    shmipc_queue_msg q;
    setup();
    ask(0, 0);
    ex_assert(box_take(&sock[GHOST].queue, &q) == SHMIPC_OK);
}
static void setup_ghost_writes(void)
{
    uint64_t mine;
    setup_ghost_holds();
    sock[GHOST].pending_id = shmipc__cell_id(sock[0].cell_word);
    ex_assert(shmipc__rep_claim(&sock[GHOST], &cell[0], &mine));
}

/* ---- the index of a dead requester has a successor, who uses the cell that is swept ---- */

static void setup_ghost_asked(void)
{
    setup();
    box_owners = GHOST + 1;
    ask(GHOST, 0);
    sock[GHOST].cell_word = 0; /* of another process now */
}
static void succeed(void *arg)
{
    uint64_t first = 1;
    sweep_of((uint32_t)(uintptr_t)arg, GHOST);
    if (!shmipc__cas_relaxed_u64(&entry[GHOST], &first, 2)) return;
    if (ask(GHOST, 1)) hear_or_abandon(GHOST, 1);
}
/* The same for a replier. */
static void succeed_replier(void *arg)
{
    uint64_t first = 1;
    sweep_of((uint32_t)(uintptr_t)arg, GHOST);
    if (shmipc__cas_relaxed_u64(&entry[GHOST], &first, 2)) reply_to(GHOST);
}
static void sweep_ghost(void *arg) { sweep_of((uint32_t)(uintptr_t)arg, GHOST); }

/* ---- sweeps ---- */

static void sweep0(void *arg)
{
    if (ex_is_dead(0)) sweep_of((uint32_t)(uintptr_t)arg, 0);
}
static void sweep1(void *arg)
{
    if (ex_is_dead(1)) sweep_of((uint32_t)(uintptr_t)arg, 1);
}

static void sweep_both(void *arg)
{
    sweep0(arg);
    sweep1(arg);
}
/* Everybody has ended or died; the dead are swept: all cells are free. Who got what was asked fits what was done. */
static void final(void)
{
    uint32_t i, n;
    uint64_t seen = 0;
    int dead_replier = 0;
    for (i = 0; i < (uint32_t)ex.m->threads; i++) {
        if (!ex_is_dead((int)i)) continue;
        dead_replier |= roles[i] == SHMIPC_REP;
        if (!swept[i]) sweep_of(LAST, i);
    }
    for (i = 0; i < CELLS; i++) ex_assert(shmipc__cell_state(cell[i].word) == SHMIPC__CELL_FREE);
    for (i = 0; i <= GHOST; i++) {
        for (n = 0; n < 2; n++) {
            uint64_t q = question(i, n);
            seen = seen * 4 + got[i][n];
            if (got[i][n] == REPLIED) ex_assert(executed[q]);
            if (got[i][n] == FAILED) ex_assert(!answered[q]);
        }
    }
    ex_outcome(seen * 2 + (uint64_t)dead_replier);
}

#define MODELS 16
static ex_model model[MODELS];
static int models;
static void (*model_setup[MODELS])(void);
static uint32_t model_cells[MODELS];
static uint32_t model_roles[MODELS][EX_THREADS];

static void setup_any(void)
{
    int i = 0;
    while (strcmp(model[i].name, ex.m->name) != 0) i++;
    memcpy(roles, model_roles[i], sizeof roles);
    cells = model_cells[i] ? model_cells[i] : CELLS;
    (model_setup[i] ? model_setup[i] : setup)();
}
static ex_model *begin(const char *name)
{
    ex_model *m = &model[models++];
    ex_new(m, name, setup_any, final);
    return m;
}
static int thread(ex_model *m, const char *name, uint32_t role, ex_fn fn)
{
    model_roles[m - model][m->threads] = role;
    return ex_thread(m, name, fn, (void *)(uintptr_t)m->threads);
}

/* What is left in order is left so because it costs nothing where it is. */
static void expect(ex_model *m)
{
    ex_expect_not_caught(m, "&nobody, life)) continue; /* [B1]", "nobody else has a bell here: model_wait");
    ex_expect_not_caught(m, "[B2] */", "no bell changes hands here: model_wait");
    ex_expect_not_caught(m, "w = shmipc__load_acquire_u64(&d->cells[r.cell].word)", "the CAS asks for the exact word");
    ex_expect_not_caught(m, "w = shmipc__load_acquire_u64(&cell->word);", "the CAS asks for the exact word");
    ex_expect_not_caught(m, "&s->cells[s->pending_cell].word);", "the CAS asks for the exact word");
    ex_expect_not_caught(m, "fence S of >>wait */", "nobody waits for room in the queue");
    ex_expect_not_caught(m, "&s->channel->cells), got; /* [C1] */", "the cells were joined before");
    ex_expect_not_caught(m, "&cell->word, &w, to)) break; /* [R2] */", "who gives up has read nothing");
}

int main(int argc, char **argv)
{
    ex_model *m, *all[MODELS];
    int i;
    ex_begin(argc, argv);
    m = begin("cells: one asks, one replies");
    thread(m, "requester", SHMIPC_REQ, ask_once);
    thread(m, "replier", SHMIPC_REP, reply_once);

    m = begin("cells: requester killed");
    ex_killable(m, thread(m, "requester", SHMIPC_REQ, ask_once), 1);
    thread(m, "replier", SHMIPC_REP, reply_once);
    thread(m, "sweeper", SHMIPC_REQ, sweep0);

    m = begin("cells: replier killed");
    thread(m, "requester", SHMIPC_REQ, ask_once);
    ex_killable(m, thread(m, "replier", SHMIPC_REP, reply_once), 1);
    thread(m, "sweeper", SHMIPC_REQ, sweep1);

    m = begin("cells: given up and asked again at once");
    thread(m, "requester", SHMIPC_REQ, ask_again_at_once);
    thread(m, "replier", SHMIPC_REP, reply_twice);

    m = begin("cells: two repliers");
    thread(m, "requester", SHMIPC_REQ, ask_again_at_once);
    thread(m, "replier 1", SHMIPC_REP, reply_once);
    thread(m, "replier 2", SHMIPC_REP, reply_once);

    model_cells[models] = 1;
    model_setup[models] = setup_answered;
    m = begin("cells: a reply is written where one was read");
    thread(m, "requester 0", SHMIPC_REQ, hear_only);
    thread(m, "replier", SHMIPC_REP, reply_once);
    thread(m, "requester 2", SHMIPC_REQ, ask_once);

    model_cells[models] = 1;
    model_setup[models] = setup_taken;
    m = begin("cells: a reply is written where another was begun");
    thread(m, "requester", SHMIPC_REQ, ask_after_another);
    ex_killable(m, thread(m, "replier 1", SHMIPC_REP, answer_only), 1);
    thread(m, "replier 2", SHMIPC_REP, reply_once);
    thread(m, "sweeper", SHMIPC_REQ, sweep1);

    m = begin("cells: a replier leaves without an answer");
    thread(m, "requester", SHMIPC_REQ, ask_once);
    thread(m, "replier", SHMIPC_REP, take_and_drop);

    m = begin("cells: the requester sleeps");
    thread(m, "requester", SHMIPC_REQ, ask_and_sleep);
    thread(m, "replier", SHMIPC_REP, reply_sometime);

    model_setup[models] = setup_taken;
    m = begin("cells: the requester sleeps, the replier is killed");
    thread(m, "requester", SHMIPC_REQ, sleep_only);
    ex_killable(m, thread(m, "replier", SHMIPC_REP, answer_only), 1);
    ex_idle_timeouts(m, 2);

    model_setup[models] = setup_ghost_holds;
    m = begin("cells: the requester sleeps, a sweep fails his request");
    thread(m, "requester", SHMIPC_REQ, sleep_only);
    thread(m, "sweeper", SHMIPC_REQ, sweep_ghost);

    model_setup[models] = setup_ghost_writes;
    m = begin("cells: the requester sleeps, a sweep fails his reply");
    thread(m, "requester", SHMIPC_REQ, sleep_only);
    thread(m, "sweeper", SHMIPC_REQ, sweep_ghost);

    m = begin("cells: both killed, a sweeper too");
    ex_killable(m, thread(m, "requester", SHMIPC_REQ, ask_once), 2);
    ex_killable(m, thread(m, "replier", SHMIPC_REP, reply_once), 2);
    ex_killable(m, thread(m, "sweeper", SHMIPC_REQ, sweep_both), 2);

    model_setup[models] = setup_ghost_asked;
    m = begin("cells: an index is used again");
    thread(m, "sweeper and successor", SHMIPC_REQ, succeed);
    thread(m, "late sweeper", SHMIPC_REQ, sweep_ghost);
    thread(m, "replier", SHMIPC_REP, reply_once);

    m = begin("cells: a replier's index is used again");
    thread(m, "requester", SHMIPC_REQ, ask_once);
    thread(m, "sweeper and successor", SHMIPC_REQ, succeed_replier);
    thread(m, "late sweeper", SHMIPC_REQ, sweep_ghost);

    expect(&model[0]);
    for (i = 0; i < models; i++) all[i] = &model[i];
    ex_weaken_these(all, models);
    return ex_end();
}
