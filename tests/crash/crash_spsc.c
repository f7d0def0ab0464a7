/* crash_spsc.c - the SPSC byte ring: its writer or its reader dies, or stops, after any instruction (K1, invariant 1).
 *
 * Every message says who sent it and as which, so that a lost, repeated, torn or reordered one is told apart. The dead
 * writer's message may be there or not, but not in part, and must be there once the call has returned; what a dead
 * reader took and did not release comes again, and nothing else does.
 */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../../shmipc.h"

#include "crashstep.h"

#define CAPACITY 256u
#define BYTES (sizeof(shmipc__spsc_mem) + CAPACITY)

enum { BEFORE, VICTIM, AFTER, SENDERS }; /* who: the harness in setup(), the victim, the survivor */
enum { ACKED, STAGED };                  /* notes of the victim */

static unsigned char *ring;
static shmipc_spsc_writer writer, successor; /* the surviving writer and its successor */
static shmipc_spsc_reader reader;
static shmipc_spsc_writer victim_writer;
static shmipc_spsc_reader victim_reader;
static int sent[SENDERS], taken; /* by setup() and check() */

/* ---- messages ---------------------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t len, tag;
    unsigned char text[112];
} message;

static void make(message *m, int who, int seq)
{
    static const uint32_t lens[5] = { 24, 8, 56, 0, 100 };
    uint32_t i;
    m->len = lens[(who * 2 + seq) % 5];
    m->tag = (uint32_t)who << 24 | (uint32_t)seq;
    for (i = 0; i < m->len; i++) m->text[i] = (unsigned char)(who * 31 + seq * 7 + (int)i + 1);
}

static int send(shmipc_spsc_writer *w, int who, int seq)
{
    message m;
    make(&m, who, seq);
    return shmipc_spsc_send(w, m.text, m.len, m.tag);
}

static message *received;       /* shared: what the victim received */
static message victims[3]; /* made beforehand: the window holds little but the library's own instructions */

/* What a reader has seen: the next message of each sender, and who sent the last one. */
typedef struct {
    int next[SENDERS], first[SENDERS], last;
} seen;

static void see(crash_run *r, seen *s, const message *m)
{
    int who = (int)(m->tag >> 24), seq = (int)(m->tag & 0xffffff);
    message want;
    CRASH_EXPECT(r, torn, who < SENDERS);
    if (who >= SENDERS) return;
    make(&want, who, seq);
    CRASH_EXPECT(r, torn, m->len == want.len && !memcmp(m->text, want.text, want.len));
    CRASH_EXPECT(r, other, who >= s->last); /* senders follow one another */
    if (s->first[who] < 0) s->first[who] = s->next[who] = seq;
    CRASH_EXPECT(r, lost, seq <= s->next[who]);
    CRASH_EXPECT(r, twice, seq >= s->next[who]);
    s->next[who] = seq + 1;
    s->last = who;
}

/* Takes everything there is. */
static void drain(crash_run *r, shmipc_spsc_reader *from, seen *s)
{
    message m;
    int rc, guard = 100;
    while ((rc = shmipc_spsc_recv(from, m.text, sizeof m.text, &m.len, &m.tag)) == SHMIPC_OK && guard--) see(r, s, &m);
    CRASH_EXPECT(r, other, rc == SHMIPC_EAGAIN);
}

static void saw_nothing(seen *s)
{
    int i;
    s->last = 0;
    for (i = 0; i < SENDERS; i++) s->first[i] = -1, s->next[i] = 0;
}

/* An empty ring takes 14 or 15 small records, wherever it stands: less, and some bytes are gone for good. */
static void check_capacity(crash_run *r, shmipc_spsc_writer *w, shmipc_spsc_reader *from)
{
    char text[8] = { 0 };
    uint32_t len, n = 0, back = 0;
    while (n < 100 && shmipc_spsc_send(w, text, sizeof text, 0) == SHMIPC_OK) n++;
    while (back < 100 && shmipc_spsc_recv(from, text, sizeof text, &len, NULL) == SHMIPC_OK) back++;
    CRASH_EXPECT(r, leaked, n >= 14 && n <= 15);
    CRASH_EXPECT(r, lost, back == n);
}

/* ---- states ------------------------------------------------------------------------------------------------------ */

static int is(const crash_run *r, const char *state) { return !strcmp(crash_state(r), state); }

static void put(int n)
{
    while (n-- && send(&writer, BEFORE, sent[BEFORE]) == SHMIPC_OK) sent[BEFORE]++;
}
static void take(int n)
{
    message m;
    while (n-- && shmipc_spsc_recv(&reader, m.text, sizeof m.text, &m.len, &m.tag) == SHMIPC_OK) taken++;
}

/* As if the ring had been used for so long that its byte counters stand here. */
static void start_at(uint32_t position)
{
    shmipc__store_relaxed_u32(&((shmipc__spsc_mem *)(void *)ring)->head, position);
    shmipc__store_relaxed_u32(shmipc__spsc_word(ring + sizeof(shmipc__spsc_mem), position, CAPACITY), 0);
}

static void setup(crash_run *r)
{
    int i;
    memset(ring, 0xee, BYTES); /* dirt: nothing may rest on zeroed memory */
    shmipc_spsc_init(ring, BYTES, CAPACITY);
    if (is(r, "counter wrap") || is(r, "counter wrap, half")) start_at(0u - 48u);
    if (is(r, "wrap") || is(r, "wrap, half")) start_at(CAPACITY - 24u);
    shmipc_spsc_writer_attach(&writer, ring, BYTES);
    shmipc_spsc_reader_attach(&reader, ring, BYTES);
    memset(sent, 0, sizeof sent);
    taken = 0;
    for (i = 0; i < 3; i++) make(&victims[i], VICTIM, i);
    if (is(r, "half")) put(4), take(2);
    if (is(r, "wrap, half") || is(r, "counter wrap, half")) put(3);
    if (is(r, "full") || is(r, "tight")) put(100);
    if (is(r, "tight")) take(3);
    crash_watch(r, ring, BYTES);
}

/* ---- the writer dies --------------------------------------------------------------------------------------------- */

static void enter_writer(crash_run *r)
{
    (void)r;
    if (shmipc_spsc_writer_attach(&victim_writer, ring, BYTES)) _exit(3);
}

static void send_three(crash_run *r)
{
    const message *m;
    for (m = victims; m < victims + 3; m++) {
        if (shmipc_spsc_send(&victim_writer, m->text, m->len, m->tag)) return;
        crash_note(r, ACKED, (m->tag & 0xff) + 1);
    }
}

static void commit_one(crash_run *r)
{
    const message *m = victims;
    void *at;
    if (shmipc_spsc_reserve(&victim_writer, m->len + 9, &at)) return;
    memcpy(at, m->text, m->len);
    if (shmipc_spsc_commit(&victim_writer, m->len, m->tag) == SHMIPC_OK) crash_note(r, ACKED, 1);
}

static void flush_three(crash_run *r)
{
    const message *m;
    void *at;
    int i;
    for (i = 0; i < 3; i++) {
        m = &victims[i];
        if (shmipc_spsc_reserve(&victim_writer, m->len, &at)) break;
        memcpy(at, m->text, m->len);
        if (shmipc_spsc_stage(&victim_writer, m->len, m->tag)) break;
        crash_note(r, STAGED, (uint64_t)i + 1);
    }
    if (shmipc_spsc_flush(&victim_writer) == SHMIPC_OK) crash_note(r, ACKED, (uint64_t)i);
}

static void attach_writer(crash_run *r)
{
    (void)r;
    shmipc_spsc_writer_attach(&victim_writer, ring, BYTES);
}

/* How many of the victim's messages are there: all that it was told of, at most one call more, a batch whole. */
static void count_victims(crash_run *r, const seen *s)
{
    int n = s->next[VICTIM], acked = (int)crash_noted(r, ACKED), staged = (int)crash_noted(r, STAGED);
    crash_saw(r, n != 0);
    CRASH_EXPECT(r, lost, n >= acked);
    if (staged) CRASH_EXPECT(r, torn, n == 0 || n == staged);
    if (!staged) CRASH_EXPECT(r, other, n <= acked + 1);
    if (n) CRASH_EXPECT(r, lost, s->first[VICTIM] == 0);
}

static void count_before(crash_run *r, const seen *s)
{
    if (sent[BEFORE] == taken) return;
    CRASH_EXPECT(r, lost, s->first[BEFORE] == taken && s->next[BEFORE] == sent[BEFORE]);
}

/* The successor of the writer attaches and sends; the surviving reader takes all. Role "same" sends first. */
static void check_writer(crash_run *r)
{
    int first = !strcmp(crash_role(r), "same"), i, rc;
    seen s;
    saw_nothing(&s);
    if (!first) drain(r, &reader, &s);
    CRASH_EXPECT(r, other, shmipc_spsc_writer_attach(&successor, ring, BYTES) == SHMIPC_OK);
    rc = send(&successor, AFTER, 0);
    if (rc == SHMIPC_OK || rc == SHMIPC_EFULL) crash_recovered(r); /* full is an answer, at once */
    CRASH_EXPECT(r, other, rc == SHMIPC_OK || (first && rc == SHMIPC_EFULL));
    drain(r, &reader, &s);
    if (rc == SHMIPC_EFULL) CRASH_EXPECT(r, other, send(&successor, AFTER, 0) == SHMIPC_OK);
    for (i = 1; i < 3; i++) {
        drain(r, &reader, &s);
        CRASH_EXPECT(r, other, send(&successor, AFTER, i) == SHMIPC_OK);
    }
    drain(r, &reader, &s);
    count_before(r, &s);
    count_victims(r, &s);
    CRASH_EXPECT(r, lost, s.first[AFTER] == 0 && s.next[AFTER] == 3);
    check_capacity(r, &successor, &reader);
}

static seen halfway; /* what the reader saw while the writer stood still */

static void check_beside_writer(crash_run *r)
{
    saw_nothing(&halfway);
    drain(r, &reader, &halfway);
    crash_recovered(r);
    count_before(r, &halfway);
    count_victims(r, &halfway);
}

/* The stopped writer went on to its end, or died where it stood and a successor came. */
static void done_writer(crash_run *r)
{
    shmipc_spsc_writer *w = &successor;
    int i;
    drain(r, &reader, &halfway);
    count_victims(r, &halfway);
    if (!crash_dead(r)) CRASH_EXPECT(r, lost, halfway.next[VICTIM] == (int)crash_noted(r, ACKED));
    CRASH_EXPECT(r, other, shmipc_spsc_writer_attach(w, ring, BYTES) == SHMIPC_OK);
    for (i = 0; i < 3; i++) {
        CRASH_EXPECT(r, other, send(w, AFTER, i) == SHMIPC_OK);
        drain(r, &reader, &halfway);
    }
    CRASH_EXPECT(r, lost, halfway.next[AFTER] == 3);
    check_capacity(r, w, &reader);
}

/* ---- the reader dies --------------------------------------------------------------------------------------------- */

static void enter_reader(crash_run *r)
{
    (void)r;
    if (shmipc_spsc_reader_attach(&victim_reader, ring, BYTES)) _exit(3);
}

static void recv_three(crash_run *r)
{
    message *m;
    for (m = received; m < received + 3; m++) {
        if (shmipc_spsc_recv(&victim_reader, m->text, sizeof m->text, &m->len, &m->tag)) return;
        crash_note(r, ACKED, (uint64_t)(m - received) + 1);
    }
}

static void peek_two(crash_run *r)
{
    const void *at[2];
    uint32_t i;
    for (i = 0; i < 2; i++)
        if (shmipc_spsc_peek(&victim_reader, &at[i], &received[i].len, &received[i].tag)) return;
    crash_note(r, STAGED, 2);
    for (i = 0; i < 2; i++) memcpy(received[i].text, at[i], received[i].len);
    if (shmipc_spsc_release(&victim_reader) == SHMIPC_OK) crash_note(r, ACKED, 2);
}

static void attach_reader(crash_run *r)
{
    (void)r;
    shmipc_spsc_reader_attach(&victim_reader, ring, BYTES);
}

/* From where the messages come again: not one that was released, and none is left out. */
static void count_taken(crash_run *r, const seen *s)
{
    int before = s->first[BEFORE] < 0 ? sent[BEFORE] : s->first[BEFORE];
    int after = s->first[AFTER] < 0 ? sent[AFTER] : s->first[AFTER];
    int gone = before - taken + after, acked = (int)crash_noted(r, ACKED), staged = (int)crash_noted(r, STAGED);
    crash_saw(r, gone != 0);
    CRASH_EXPECT(r, twice, gone >= acked);
    CRASH_EXPECT(r, lost, gone <= (staged ? staged : acked + 1));
    if (staged) CRASH_EXPECT(r, torn, gone == 0 || gone == staged); /* released together */
}

/* What the victim got is what was sent, even if it stood still in the middle and the writer went on. */
static void check_got(crash_run *r)
{
    int i;
    for (i = 0; i < (int)crash_noted(r, ACKED); i++) {
        int seq = taken + i, who = seq < sent[BEFORE] ? BEFORE : AFTER;
        message want;
        make(&want, who, who == BEFORE ? seq : seq - sent[BEFORE]);
        CRASH_EXPECT(r, torn, received[i].tag == want.tag && received[i].len == want.len);
        CRASH_EXPECT(r, torn, !memcmp(received[i].text, want.text, want.len));
    }
}

/* The successor of the reader takes all; role "other": first the surviving writer sends until the ring is full. */
static void check_reader(crash_run *r)
{
    shmipc_spsc_reader next;
    seen s;
    int rc, first = !strcmp(crash_role(r), "same");
    saw_nothing(&s);
    if (!first) {
        while ((rc = send(&writer, AFTER, sent[AFTER])) == SHMIPC_OK) sent[AFTER]++;
        CRASH_EXPECT(r, other, rc == SHMIPC_EFULL);
        crash_recovered(r);
    }
    CRASH_EXPECT(r, other, shmipc_spsc_reader_attach(&next, ring, BYTES) == SHMIPC_OK);
    drain(r, &next, &s);
    crash_recovered(r);
    count_taken(r, &s);
    check_got(r);
    CRASH_EXPECT(r, lost, s.first[BEFORE] < 0 || s.next[BEFORE] == sent[BEFORE]);
    while (sent[AFTER] < 5 && send(&writer, AFTER, sent[AFTER]) == SHMIPC_OK) {
        sent[AFTER]++;
        drain(r, &next, &s);
    }
    CRASH_EXPECT(r, lost, sent[AFTER] >= 5 || s.next[AFTER] == sent[AFTER]);
    CRASH_EXPECT(r, lost, s.first[AFTER] <= 0 && s.next[AFTER] == sent[AFTER]);
    check_capacity(r, &writer, &next);
}

/* A stopped reader does not stop the writer, which fills the ring and is told that it is full. */
static void check_beside_reader(crash_run *r)
{
    int rc;
    while ((rc = send(&writer, AFTER, sent[AFTER])) == SHMIPC_OK) sent[AFTER]++;
    CRASH_EXPECT(r, other, rc == SHMIPC_EFULL);
    crash_recovered(r);
}

static void done_reader(crash_run *r)
{
    shmipc_spsc_reader next;
    seen s;
    saw_nothing(&s);
    CRASH_EXPECT(r, other, shmipc_spsc_reader_attach(&next, ring, BYTES) == SHMIPC_OK);
    drain(r, &next, &s);
    count_taken(r, &s);
    check_got(r);
    if (s.first[BEFORE] >= 0) CRASH_EXPECT(r, lost, s.next[BEFORE] == sent[BEFORE]);
    if (s.first[AFTER] >= 0) CRASH_EXPECT(r, lost, s.next[AFTER] == sent[AFTER]);
    check_capacity(r, &writer, &next);
}

/* ---- making the ring --------------------------------------------------------------------------------------------- */

static void setup_raw(crash_run *r)
{
    memset(ring, is(r, "zeroed") ? 0 : 0xee, BYTES);
    crash_watch(r, ring, BYTES);
}
static void init_ring(crash_run *r)
{
    if (shmipc_spsc_init(ring, BYTES, CAPACITY) == SHMIPC_OK) crash_note(r, ACKED, 1);
}
static void check_init(crash_run *r)
{
    int rc = shmipc_spsc_writer_attach(&writer, ring, BYTES);
    crash_saw(r, rc == SHMIPC_OK);
    CRASH_EXPECT(r, other, rc == SHMIPC_OK || rc == SHMIPC_EFOREIGN);
    if (crash_noted(r, ACKED)) CRASH_EXPECT(r, lost, rc == SHMIPC_OK);
    if (rc) CRASH_EXPECT(r, other, shmipc_spsc_init(ring, BYTES, CAPACITY) == SHMIPC_OK);
    if (rc) CRASH_EXPECT(r, other, shmipc_spsc_writer_attach(&writer, ring, BYTES) == SHMIPC_OK);
    CRASH_EXPECT(r, other, shmipc_spsc_reader_attach(&reader, ring, BYTES) == SHMIPC_OK);
    check_capacity(r, &writer, &reader);
    crash_recovered(r);
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

static const char *const writable[] = { "empty", "half", "tight", "wrap", "counter wrap", NULL };
static const char *const readable[] = { "half", "full", "wrap, half", "counter wrap, half", NULL };
static const char *const full[] = { "full", NULL };
static const char *const empty[] = { "empty", NULL };
static const char *const all[] = { "empty", "half", "tight", "full", "wrap", "wrap, half", "counter wrap, half", NULL };
static const char *const raw[] = { "zeroed", "dirty", NULL };
static const char *const both[] = { "same", "other", NULL };
static const char *const other[] = { "other", NULL };
static const char *const same[] = { "same", NULL };

#define DEAD (CRASH_KILL | CRASH_ZOMBIE)
#define STILL (CRASH_FREEZE | CRASH_LATE)
#define IN CRASH_INPROC

static const crash_op ops[] = {
    { "send", writable, both, DEAD, IN, 3, setup, enter_writer, send_three, check_writer, 0, 0, 0, 0 },
    { "send", writable, other, STILL, IN, 3, setup, enter_writer, send_three,
      check_beside_writer, done_writer, 0, 0, 0 },
    { "send, full", full, both, DEAD, IN, 1, setup, enter_writer, send_three, check_writer, 0, 0, 0, 0 },
    { "commit", writable, both, DEAD, IN, 3, setup, enter_writer, commit_one, check_writer, 0, 0, 0, 0 },
    { "commit", writable, other, STILL, IN, 3, setup, enter_writer, commit_one,
      check_beside_writer, done_writer, 0, 0, 0 },
    { "flush", writable, both, DEAD, IN, 3, setup, enter_writer, flush_three, check_writer, 0, 0, 0, 0 },
    { "flush", writable, other, STILL, IN, 3, setup, enter_writer, flush_three,
      check_beside_writer, done_writer, 0, 0, 0 },
    { "attach writer", all, both, DEAD, IN, 1, setup, NULL, attach_writer, check_writer, 0, 0, 0, 0 },
    { "recv", readable, both, DEAD, IN, 3, setup, enter_reader, recv_three, check_reader, 0, 0, 0, 0 },
    { "recv", readable, other, STILL, IN, 3, setup, enter_reader, recv_three,
      check_beside_reader, done_reader, 0, 0, 0 },
    { "recv, empty", empty, both, DEAD, IN, 1, setup, enter_reader, recv_three, check_reader, 0, 0, 0, 0 },
    { "peek and release", readable, both, DEAD, IN, 3, setup, enter_reader, peek_two, check_reader, 0, 0, 0, 0 },
    { "peek and release", readable, other, STILL, IN, 3, setup, enter_reader, peek_two,
      check_beside_reader, done_reader, 0, 0, 0 },
    { "attach reader", all, both, DEAD, IN, 1, setup, NULL, attach_reader, check_reader, 0, 0, 0, 0 },
    { "init", raw, same, DEAD, IN, 3, setup_raw, NULL, init_ring, check_init, 0, 0, 0, 0 },
};

int main(int argc, char **argv)
{
    ring = (unsigned char *)crash_shared(4096);
    received = (message *)crash_shared(4096);
    return crash_main("spsc", ops, CRASH_COUNT(ops), argc, argv);
}
