/* crash_lane.c - the broadcast lane: its writer, a reader or a sweeper dies, or stops, after any instruction
 * (K1, S20, S21, S22, invariants 1, 2, 5 and 8).
 *
 * A message says who sent it and as which, and the lane numbers it, so a reader can tell lost from missed: what it
 * received and what it was told that it missed must add up to what was published. One view is held all the time and
 * must not change.
 */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../../shmipc.h"

#include "crashstep.h"

enum { DEPTH = 4, INLINE = 48, LARGE = 100, RECORDS = 4, BUDGET = 1, ROOM = 1 << 16, TURNS = 48 };
enum { BEFORE, VICTIM, AFTER, SENDERS };                               /* who sent it */
enum { WRITER_ID = 1, VICTIM_ID, READER_ID, HOLDER_ID, GHOST_ID, NEW_ID }; /* owners */
enum { BEGUN, ACKED, GOT };                                            /* notes of the victim */

typedef struct {
    uint32_t len, tag;
    uint64_t number;
    unsigned char text[LARGE];
} message;

static unsigned char *memory;
static shmipc_lane_sizes sizes;
static shmipc_lane_writer writer, victim_writer;
static shmipc_lane_reader reader, holder, victim_reader;
static shmipc_lane_msg held; /* the holder's view */
static message held_copy;
static message *received;    /* shared: what the victim got */
static message outgoing[2];
static crash_run *now;
static int seen; /* how many of the victim's messages the surviving reader received */
static int over, sent[SENDERS], victims; /* victims: how many of his messages are known to be there; -1: not yet */
static uint64_t taken, last_number;      /* by the surviving reader, since it attached at number 0 */
static char buffer[LARGE];

/* ---- messages ---------------------------------------------------------------------------------------------------- */

static void make(message *m, uint32_t tag)
{
    static const uint32_t lens[4] = { 8, LARGE, 24, 60 };
    uint32_t i;
    m->len = lens[(tag + (tag >> 24)) & 3];
    m->tag = tag;
    for (i = 0; i < m->len; i++) m->text[i] = (unsigned char)((tag >> 24) * 31 + (tag & 0xff) * 7 + i + 1);
}

static uint32_t tag_of(int who, int seq) { return (uint32_t)who << 24 | (uint32_t)seq; }

static int same_message(const void *data, uint32_t len, uint32_t tag)
{
    message want;
    make(&want, tag);
    return tag >> 24 < SENDERS && len == want.len && !memcmp(data, want.text, len);
}

static int alive(void *arg, uint32_t owner)
{
    (void)arg;
    if (owner == VICTIM_ID) return !over && !crash_dead(now);
    return owner != GHOST_ID;
}

static shmipc_lane_env env_of(uint32_t owner)
{
    shmipc_lane_env e;
    memset(&e, 0, sizeof e);
    e.mem = memory;
    e.bytes = (size_t)sizes.bytes;
    e.chunks = memory + ROOM / 2;
    e.chunk_bytes = (size_t)sizes.chunk_bytes;
    e.alive = alive;
    e.owner = owner;
    return e;
}

static int attach_writer(shmipc_lane_writer *w, uint32_t owner)
{
    shmipc_lane_env e = env_of(owner);
    return shmipc_lane_writer_attach(w, &e);
}
static int attach_reader(shmipc_lane_reader *rd, uint32_t owner, uint32_t history)
{
    shmipc_lane_env e = env_of(owner);
    return shmipc_lane_reader_attach(rd, &e, history);
}
static int sweep(uint32_t owner)
{
    shmipc_lane_env e = env_of(NEW_ID);
    return shmipc_lane_sweep(&e, owner);
}

static int send(shmipc_lane_writer *w, int who)
{
    message m;
    int rc;
    make(&m, tag_of(who, sent[who]));
    rc = shmipc_lane_send(w, m.text, m.len, m.tag);
    if (rc == SHMIPC_OK) sent[who]++;
    return rc;
}

/* ---- states ------------------------------------------------------------------------------------------------------ */

static int has(const crash_run *r, const char *part) { return strstr(crash_state(r), part) != NULL; }

static void must(int ok)
{
    if (!ok) abort();
}

static int receive(shmipc_lane_reader *rd, shmipc_lane_msg *m) { return shmipc_lane_take(rd, buffer, LARGE, m); }

static void fill(int n)
{
    shmipc_lane_msg m;
    while (n--) {
        must(send(&writer, BEFORE) == SHMIPC_OK);
        if (sent[BEFORE] != 2) continue; /* the first large one: held from here on */
        must(receive(&holder, &held) == SHMIPC_OK && receive(&holder, &held) == SHMIPC_OK && held.pin);
        held_copy.len = held.len;
        memcpy(held_copy.text, held.data, held.len);
    }
    while (taken + 1 < (uint64_t)sent[BEFORE] && receive(&reader, &m) == SHMIPC_OK) {
        must(shmipc_lane_release(&reader, &m) == SHMIPC_OK);
        taken++;
    }
}

/* A reader that died with a view, and half way in a copy; a writer that died, perhaps in the middle of a message. */
static void leave_ghost(crash_run *r)
{
    shmipc_lane_reader ghost;
    shmipc_lane_msg m;
    uint64_t *slot;
    if (has(r, "ghost reader")) {
        must(attach_reader(&ghost, GHOST_ID, 2) == SHMIPC_OK);
        while (receive(&ghost, &m) == SHMIPC_OK) continue;
        *SHMIPC__RECORD_HAZARD(ghost.record, 0) = *SHMIPC__RECORD_HAZARD(ghost.record, 1);
    }
    if (!has(r, "ghost writer")) return;
    must(attach_writer(&writer, GHOST_ID) == SHMIPC_OK && send(&writer, BEFORE) == SHMIPC_OK);
    slot = shmipc__lane_slot(&writer.map, writer.next);
    if (has(r, "busy")) *slot = shmipc__lane_word(&writer.map, writer.next, SHMIPC__LANE_BUSY);
}

static void setup(crash_run *r)
{
    shmipc_lane_config c;
    now = r;
    over = seen = 0;
    victims = -1;
    taken = 0;
    last_number = UINT64_MAX;
    memset(sent, 0, sizeof sent);
    shmipc_lane_config_init(&c);
    c.depth = DEPTH;
    c.inline_max = INLINE;
    c.chunk_max = LARGE;
    c.records = RECORDS;
    c.budget = BUDGET;
    memset(memory, 0xee, ROOM);
    must(shmipc_lane_measure(&c, &sizes) == SHMIPC_OK && sizes.bytes <= ROOM / 2 && sizes.chunk_bytes <= ROOM / 2);
    must(shmipc_lane_init(memory, (size_t)sizes.bytes, &c) == SHMIPC_OK);
    must(attach_writer(&writer, WRITER_ID) == SHMIPC_OK);
    must(attach_reader(&reader, READER_ID, 0) == SHMIPC_OK && attach_reader(&holder, HOLDER_ID, 0) == SHMIPC_OK);
    make(&outgoing[0], tag_of(VICTIM, 0));
    make(&outgoing[1], tag_of(VICTIM, 1));
    fill(has(r, "far") ? 14 : 3);
    if (has(r, "behind")) while (sent[BEFORE] < 5) must(send(&writer, BEFORE) == SHMIPC_OK); /* about to be overtaken */
    if (has(r, "overtaken")) while (sent[BEFORE] < 20) must(send(&writer, BEFORE) == SHMIPC_OK);
    must(shmipc_lane_writer_detach(&writer) == SHMIPC_OK);
    leave_ghost(r);
    crash_watch(r, memory, (size_t)sizes.bytes);
    crash_watch(r, memory + ROOM / 2, (size_t)sizes.chunk_bytes);
}

/* ---- what the victim does ---------------------------------------------------------------------------------------- */

static void enter_writer(crash_run *r)
{
    (void)r;
    must(attach_writer(&victim_writer, VICTIM_ID) == SHMIPC_OK);
}
static void enter_reader(crash_run *r)
{
    (void)r;
    must(attach_reader(&victim_reader, VICTIM_ID, 2) == SHMIPC_OK);
}

static void send_two(crash_run *r)
{
    int i;
    for (i = 0; i < 2; i++) {
        crash_note(r, BEGUN, (uint64_t)i + 1);
        if (shmipc_lane_send(&victim_writer, outgoing[i].text, outgoing[i].len, outgoing[i].tag)) return;
        crash_note(r, ACKED, (uint64_t)i + 1);
    }
}

static void commit_two(crash_run *r)
{
    void *at;
    int i;
    for (i = 0; i < 2; i++) {
        if (shmipc_lane_loan(&victim_writer, outgoing[i].len, &at)) return;
        memcpy(at, outgoing[i].text, outgoing[i].len);
        crash_note(r, BEGUN, (uint64_t)i + 1);
        if (shmipc_lane_commit(&victim_writer, outgoing[i].len, outgoing[i].tag)) return;
        crash_note(r, ACKED, (uint64_t)i + 1);
    }
}

static void take_over(crash_run *r)
{
    (void)r;
    if (attach_writer(&victim_writer, VICTIM_ID) == SHMIPC_OK) shmipc_lane_writer_detach(&victim_writer);
}

static void recv_two(crash_run *r)
{
    message *m;
    for (m = received; m < received + 2; m++) {
        if (shmipc_lane_recv(&victim_reader, m->text, LARGE, &m->len, &m->tag)) return;
        m->number = victim_reader.next - DEPTH - 1;
        crash_note(r, GOT, (uint64_t)(m - received) + 1);
    }
}

/* The text of a view is read late: it may not have changed. */
static void take_two(crash_run *r)
{
    shmipc_lane_msg m;
    int i;
    for (i = 0; i < 2; i++) {
        if (shmipc_lane_take(&victim_reader, received[i].text, LARGE, &m)) return;
        received[i].len = m.len;
        received[i].tag = m.tag;
        received[i].number = m.number;
        if (m.pin) memcpy(received[i].text, m.data, m.len <= LARGE ? m.len : 0);
        crash_note(r, GOT, (uint64_t)i + 1);
        shmipc_lane_release(&victim_reader, &m);
    }
}

static void come_and_go(crash_run *r)
{
    (void)r;
    if (attach_reader(&victim_reader, VICTIM_ID, 2) == SHMIPC_OK) shmipc_lane_reader_detach(&victim_reader);
}

static void sweep_ghost(crash_run *r)
{
    shmipc_lane_env e = env_of(VICTIM_ID);
    (void)r;
    shmipc_lane_sweep(&e, GHOST_ID);
}

/* ---- the survivors ----------------------------------------------------------------------------------------------- */

static void check_view(crash_run *r)
{
    CRASH_EXPECT(r, torn, !memcmp(held.data, held_copy.text, held_copy.len));
}

/* One message at the surviving reader: whole, in order, and the books balance. */
static void account(crash_run *r, const shmipc_lane_msg *m)
{
    int who = (int)(m->tag >> 24), seq = (int)(m->tag & 0xffffff);
    CRASH_EXPECT(r, torn, same_message(m->data, m->len, m->tag));
    CRASH_EXPECT(r, twice, last_number == UINT64_MAX || m->number > last_number);
    CRASH_EXPECT(r, lost, m->number == taken + shmipc_lane_missed(&reader));
    last_number = m->number;
    taken++;
    if (who == BEFORE) CRASH_EXPECT(r, other, m->number == (uint64_t)seq);
    if (who == VICTIM) CRASH_EXPECT(r, other, m->number == (uint64_t)(sent[BEFORE] + seq));
    if (who == VICTIM) crash_saw(r, 1), seen = seq + 1;
    if (who == AFTER && victims < 0) victims = (int)m->number - sent[BEFORE] - seq;
    if (who == AFTER) CRASH_EXPECT(r, lost, m->number == (uint64_t)(sent[BEFORE] + victims + seq));
}

static void drain(crash_run *r)
{
    shmipc_lane_msg m;
    int rc, guard = 100;
    while ((rc = receive(&reader, &m)) == SHMIPC_OK && guard--) {
        account(r, &m);
        shmipc_lane_release(&reader, &m);
    }
    CRASH_EXPECT(r, other, rc == SHMIPC_EAGAIN);
}

/* Publishing never waits and never fails, whoever died with whatever view; all chunks go round. */
static void publish(crash_run *r, shmipc_lane_writer *w, int n)
{
    while (n--) {
        CRASH_EXPECT(r, other, send(w, AFTER) == SHMIPC_OK);
        crash_recovered(r);
        drain(r);
        check_view(r);
    }
}

/* Every record can be had again, and each its views. */
static void check_records(crash_run *r)
{
    shmipc_lane_reader fresh[RECORDS];
    shmipc_lane_msg m;
    int i, n = 0;
    CRASH_EXPECT(r, other, shmipc_lane_reader_detach(&reader) == SHMIPC_OK);
    while (n < RECORDS - 1 && attach_reader(&fresh[n], NEW_ID, 3) == SHMIPC_OK) n++;
    CRASH_EXPECT(r, leaked, n == RECORDS - 1); /* one is the holder's */
    for (i = 0; i < n; i++) {
        for (m.pin = 0; !m.pin && receive(&fresh[i], &m) == SHMIPC_OK;) continue;
        CRASH_EXPECT(r, leaked, m.pin);
    }
    for (i = 0; i < TURNS; i++) CRASH_EXPECT(r, leaked, send(&writer, AFTER) == SHMIPC_OK);
    check_view(r);
}

/* Each chunk that is paid for is named by a slot, free, or retired: the writer's view, made anew by its attaching. */
static void check_chunks(crash_run *r)
{
    uint32_t i, named = 0, there = sizes.base_chunks;
    for (i = 0; i < DEPTH; i++) named += shmipc__lane_state(*shmipc__lane_slot(&writer.map, i)) == SHMIPC__LANE_CHUNK;
    for (i = 0; i < RECORDS; i++)
        if (*shmipc__lane_record(&writer.map, i) & SHMIPC__REC_FUNDED) there += BUDGET + 1;
    CRASH_EXPECT(r, leaked, named + writer.n_free + writer.n_retired == there);
}

static void close_books(crash_run *r)
{
    int i, acked = (int)crash_noted(r, ACKED), begun = (int)crash_noted(r, BEGUN);
    over = 1;
    CRASH_EXPECT(r, other, sweep(VICTIM_ID) == SHMIPC_OK && sweep(GHOST_ID) == SHMIPC_OK);
    drain(r);
    CRASH_EXPECT(r, other, attach_writer(&writer, WRITER_ID) == SHMIPC_OK);
    publish(r, &writer, TURNS);
    CRASH_EXPECT(r, lost, victims >= acked && victims >= seen);
    CRASH_EXPECT(r, other, victims <= begun);
    if (!victims) crash_saw(r, 0);
    for (i = 0; i < (int)crash_noted(r, GOT); i++) {
        uint64_t n = received[i].number, b = (uint64_t)sent[BEFORE];
        CRASH_EXPECT(r, torn, same_message(received[i].text, received[i].len, received[i].tag));
        CRASH_EXPECT(r, other, received[i].tag == (n < b ? tag_of(BEFORE, (int)n) : tag_of(AFTER, (int)(n - b))));
    }
    check_chunks(r);
    if (has(r, "overtaken")) CRASH_EXPECT(r, lost, shmipc_lane_missed(&reader) > 0);
    if (crash_noted(r, GOT)) crash_saw(r, 1);
    check_records(r);
}

/* A sweep of somebody who lives takes nothing from him. */
static void sweep_beside(crash_run *r)
{
    uint64_t before = shmipc__lane_mem_of(&reader.map)->wr;
    int rc = sweep(VICTIM_ID);
    if (crash_dead(r)) CRASH_EXPECT(r, other, rc == SHMIPC_OK);
    if (!crash_dead(r)) CRASH_EXPECT(r, other, rc == SHMIPC_EBUSY || rc == SHMIPC_OK);
    if (!crash_dead(r)) CRASH_EXPECT(r, other, shmipc__lane_mem_of(&reader.map)->wr == before);
    crash_recovered(r);
}

/* The writer died, or stands still: readers go on; a successor takes the lane over, but only from the dead. */
static void check_beside_writer(crash_run *r)
{
    int rc;
    if (!strcmp(crash_role(r), "reader")) {
        drain(r);
        crash_recovered(r);
    }
    if (!strcmp(crash_role(r), "sweeper")) sweep_beside(r);
    rc = attach_writer(&writer, WRITER_ID);
    if (crash_dead(r)) CRASH_EXPECT(r, other, rc == SHMIPC_OK);
    if (!crash_dead(r) && rc) CRASH_EXPECT(r, other, rc == SHMIPC_EBUSY);
    if (!crash_dead(r) && crash_noted(r, BEGUN)) CRASH_EXPECT(r, other, rc == SHMIPC_EBUSY); /* it stands in a send */
    if (rc == SHMIPC_OK) {
        publish(r, &writer, 2);
        CRASH_EXPECT(r, other, shmipc_lane_writer_detach(&writer) == SHMIPC_OK);
    }
    drain(r);
    crash_recovered(r);
    check_view(r);
    if (r->mode == CRASH_KILL || r->mode == CRASH_ZOMBIE) close_books(r);
}

/* A reader or a sweeper died, or stands still: the writer goes on, and so do the others. */
static void check_beside_reader(crash_run *r)
{
    shmipc_lane_reader fresh;
    int rc;
    if (!strcmp(crash_role(r), "sweeper")) {
        sweep_beside(r);
        CRASH_EXPECT(r, other, sweep(GHOST_ID) == SHMIPC_OK);
    }
    if (!strcmp(crash_role(r), "reader")) {
        rc = attach_reader(&fresh, NEW_ID, 1);
        CRASH_EXPECT(r, other, rc == SHMIPC_OK || rc == SHMIPC_ETABLE);
        if (rc == SHMIPC_OK) CRASH_EXPECT(r, other, shmipc_lane_reader_detach(&fresh) == SHMIPC_OK);
        drain(r);
        crash_recovered(r);
    }
    CRASH_EXPECT(r, other, attach_writer(&writer, WRITER_ID) == SHMIPC_OK);
    publish(r, &writer, TURNS);
    CRASH_EXPECT(r, other, shmipc_lane_writer_detach(&writer) == SHMIPC_OK);
    if (r->mode == CRASH_KILL || r->mode == CRASH_ZOMBIE) close_books(r);
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

static const char *const writing[] = { "near", "far", "far ghost reader", "behind", "overtaken", NULL };
static const char *const taking_over[] = { "near", "far ghost writer", "near ghost writer busy",
                                           "far ghost reader ghost writer busy", NULL };
static const char *const reading[] = { "near", "far", "far ghost reader", NULL };
static const char *const ghosts[] = { "near ghost reader", "far ghost reader", "far ghost reader ghost writer", NULL };
static const char *const roles[] = { "writer", "reader", "sweeper", NULL };

#define ALL (CRASH_KILL | CRASH_ZOMBIE | CRASH_FREEZE | CRASH_LATE)
#define ROW(name, states, see, enter, fn, check)                                                                       \
    {                                                                                                                  \
        name, states, roles, ALL, CRASH_INPROC, see, setup, enter, fn, check, close_books, NULL, NULL, 0               \
    }

static const crash_op ops[] = {
    ROW("send", writing, 3, enter_writer, send_two, check_beside_writer),
    ROW("loan and commit", writing, 3, enter_writer, commit_two, check_beside_writer),
    ROW("take over", taking_over, 1, NULL, take_over, check_beside_writer),
    ROW("recv", reading, 1, enter_reader, recv_two, check_beside_reader),
    ROW("take and release", reading, 1, enter_reader, take_two, check_beside_reader),
    ROW("attach and detach", reading, 1, NULL, come_and_go, check_beside_reader),
    ROW("sweep", ghosts, 1, NULL, sweep_ghost, check_beside_reader),
};

int main(int argc, char **argv)
{
    memory = (unsigned char *)crash_shared(ROOM);
    received = (message *)crash_shared(4096);
    return crash_main("lane", ops, CRASH_COUNT(ops), argc, argv);
}
