/* The MPMC queue alone in one process: what each call promises, its edges, bad arguments, corrupt memory. */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../shmipc.h"

#include "check.h"

#define DEAD_MAX 16u

/* A queue in aligned memory of exactly its size, and owners that can be declared dead. */
typedef struct fixture {
    unsigned char *memory;
    uint64_t size;
    unsigned dead;
    shmipc_queue q[4];
} fixture;

static int fixture_alive(void *arg, uint32_t owner)
{
    const fixture *f = (const fixture *)arg;
    return owner >= DEAD_MAX || !(f->dead >> owner & 1u);
}

static shmipc_queue_config config_of(uint32_t slots, uint32_t chunks, uint32_t max_message, uint32_t policy)
{
    shmipc_queue_config c;
    c.slots = slots;
    c.chunks = chunks;
    c.max_message = max_message;
    c.policy = policy;
    return c;
}

static void fixture_open(fixture *f, uint32_t slots, uint32_t chunks, uint32_t max_message, uint32_t policy)
{
    shmipc_queue_config c = config_of(slots, chunks, max_message, policy);
    uint32_t i;
    memset(f, 0, sizeof *f);
    REQUIRE(shmipc_queue_size(&c, &f->size) == SHMIPC_OK);
    f->memory = (unsigned char *)aligned_alloc(64, (size_t)f->size);
    REQUIRE(f->memory != NULL);
    memset(f->memory, 0xa5, (size_t)f->size);
    REQUIRE(shmipc_queue_init(f->memory, f->size, &c) == SHMIPC_OK);
    for (i = 0; i < 4; i++)
        REQUIRE(shmipc_queue_attach(&f->q[i], f->memory, f->size, i, fixture_alive, f) == SHMIPC_OK);
}

static void fixture_close(fixture *f) { free(f->memory); }

/* Every chunk is in the state that the caller expects: nothing leaked, nothing counted twice. */
static void check_chunks(const fixture *f, uint32_t filling, uint32_t held, uint32_t returned)
{
    shmipc_queue_stats st;
    REQUIRE(shmipc_queue_get_stats(&f->q[0], &st) == SHMIPC_OK);
    CHECK_EQ(st.filling, filling);
    CHECK_EQ(st.held, held);
    CHECK_EQ(st.returned, returned);
    CHECK_EQ(st.free_chunks, f->q[0].config.chunks - filling - held - returned);
}

static void push_number(shmipc_queue *q, uint32_t v) { CHECK_EQ(shmipc_queue_push(q, &v, sizeof v, ~v), SHMIPC_OK); }

static void recv_number(shmipc_queue *q, uint32_t v)
{
    uint32_t got = 0, tag = 0;
    CHECK_EQ(shmipc_queue_recv(q, &got, sizeof got, &tag), sizeof got);
    CHECK_EQ(got, v);
    CHECK_EQ(tag, ~v);
}

static void recv_nothing(shmipc_queue *q)
{
    uint32_t got;
    CHECK_EQ(shmipc_queue_recv(q, &got, sizeof got, NULL), SHMIPC_EAGAIN);
}

TEST(K1_queue_keeps_order_at_every_depth_and_wrap)
{
    uint32_t slots, i, next_in = 0, next_out = 0, round;
    for (slots = 1; slots <= 64; slots *= 4) {
        fixture f;
        fixture_open(&f, slots, slots + 4, 40, SHMIPC_QUEUE_REDELIVER);
        for (round = 0; round < 200; round++) {
            uint32_t fill = 1u + (uint32_t)(check_random() % slots);
            for (i = 0; i < fill; i++) push_number(&f.q[i & 1], next_in++);
            for (i = 0; i < fill; i++) recv_number(&f.q[2 + (i & 1)], next_out++);
            recv_nothing(&f.q[2]);
        }
        for (i = 0; i < 2; i++) shmipc_queue_detach(&f.q[i]);
        check_chunks(&f, 0, 0, 0);
        fixture_close(&f);
    }
}

TEST(K1_queue_full_means_slots_untaken_messages)
{
    fixture f;
    shmipc_queue_msg m[3];
    uint32_t v = 99;
    fixture_open(&f, 2, 6, 8, SHMIPC_QUEUE_REDELIVER);
    push_number(&f.q[0], 0);
    push_number(&f.q[0], 1);
    CHECK_EQ(shmipc_queue_push(&f.q[0], &v, sizeof v, 0), SHMIPC_EFULL);
    /* What is held occupies no slot. */
    CHECK_EQ(shmipc_queue_take(&f.q[1], &m[0]), SHMIPC_OK);
    push_number(&f.q[0], 2);
    CHECK_EQ(shmipc_queue_push(&f.q[0], &v, sizeof v, 0), SHMIPC_EFULL);
    CHECK_EQ(shmipc_queue_take(&f.q[1], &m[1]), SHMIPC_OK);
    CHECK_EQ(shmipc_queue_take(&f.q[1], &m[2]), SHMIPC_OK);
    recv_nothing(&f.q[1]);
    push_number(&f.q[0], 3);
    recv_number(&f.q[2], 3);
    CHECK_EQ(*(uint32_t *)m[0].data, 0);
    CHECK_EQ(*(uint32_t *)m[2].data, 2);
    CHECK_EQ(shmipc_queue_release(&f.q[1], &m[1]), SHMIPC_OK);
    CHECK_EQ(shmipc_queue_release(&f.q[1], &m[0]), SHMIPC_OK);
    CHECK_EQ(shmipc_queue_release(&f.q[1], &m[2]), SHMIPC_OK);
    CHECK_EQ(shmipc_queue_detach(&f.q[0]), SHMIPC_OK);
    check_chunks(&f, 0, 0, 0);
    fixture_close(&f);
}

/* Deep enough for the rest that a stream takes at its ends: the answers are the same. */
TEST(K1_queue_full_and_empty_in_a_stream)
{
    fixture f;
    uint32_t i, round, v = 0;
    fixture_open(&f, 64, 70, 8, SHMIPC_QUEUE_REDELIVER);
    for (round = 0; round < 3; round++) {
        for (i = 0; i < 64; i++) push_number(&f.q[0], i);
        CHECK_EQ(shmipc_queue_push(&f.q[0], &v, sizeof v, 0), SHMIPC_EFULL);
        CHECK_EQ(shmipc_queue_push(&f.q[0], &v, sizeof v, 0), SHMIPC_EFULL);
        for (i = 0; i < 64; i++) recv_number(&f.q[1], i);
        recv_nothing(&f.q[1]);
        recv_nothing(&f.q[1]);
    }
    fixture_close(&f);
}

TEST(K1_queue_says_busy_when_every_chunk_is_held)
{
    fixture f;
    shmipc_queue_msg m[3];
    uint32_t i, v = 7;
    fixture_open(&f, 2, 3, 8, SHMIPC_QUEUE_REDELIVER);
    for (i = 0; i < 3; i++) {
        push_number(&f.q[0], i);
        CHECK_EQ(shmipc_queue_take(&f.q[1], &m[i]), SHMIPC_OK);
    }
    CHECK_EQ(shmipc_queue_push(&f.q[0], &v, sizeof v, 0), SHMIPC_EBUSY);
    CHECK_EQ(shmipc_queue_release(&f.q[1], &m[1]), SHMIPC_OK);
    push_number(&f.q[0], 3);
    recv_number(&f.q[1], 3);
    fixture_close(&f);
}

TEST(K1_queue_carries_every_length_up_to_its_limit)
{
    fixture f;
    unsigned char in[1000], out[1000];
    uint32_t len, i;
    fixture_open(&f, 4, 8, 1000, SHMIPC_QUEUE_REDELIVER);
    for (i = 0; i < sizeof in; i++) in[i] = (unsigned char)check_random();
    for (len = 0; len <= sizeof in; len++) {
        CHECK_EQ(shmipc_queue_push(&f.q[0], in, len, len), SHMIPC_OK);
        CHECK_EQ(shmipc_queue_recv(&f.q[1], out, sizeof out, &i), len);
        CHECK_EQ(i, len);
        CHECK_MEM(out, in, len);
    }
    CHECK_EQ(shmipc_queue_push(&f.q[0], in, 1001, 0), SHMIPC_EMSGSIZE);
    fixture_close(&f);
}

TEST(I8_queue_loan_and_view_are_the_same_bytes)
{
    fixture f;
    shmipc_queue_msg loan, other, view;
    fixture_open(&f, 1, 5, 100, SHMIPC_QUEUE_REDELIVER);
    CHECK_EQ(shmipc_queue_loan(&f.q[0], 100, &loan), SHMIPC_OK);
    CHECK_EQ(shmipc_queue_loan(&f.q[0], 101, &other), SHMIPC_EMSGSIZE);
    CHECK_EQ(shmipc_queue_loan(&f.q[0], 3, &other), SHMIPC_OK);
    CHECK_EQ((uintptr_t)loan.data % 16, 0);
    memset(loan.data, 'a', 100);
    memset(other.data, 'b', 3);
    other.tag = 5;
    CHECK_EQ(shmipc_queue_commit(&f.q[0], &other), SHMIPC_OK);
    CHECK_EQ(shmipc_queue_commit(&f.q[0], &other), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_commit(&f.q[0], &loan), SHMIPC_EFULL); /* the loan stays */
    CHECK_EQ(shmipc_queue_take(&f.q[1], &view), SHMIPC_OK);
    CHECK_EQ(view.len_bytes, 3);
    CHECK_EQ(view.tag, 5);
    CHECK_EQ(view.redelivered, 0);
    CHECK_MEM(view.data, "bbb", 3);
    loan.len_bytes = 101;
    CHECK_EQ(shmipc_queue_commit(&f.q[0], &loan), SHMIPC_EMSGSIZE);
    loan.len_bytes = 50;
    CHECK_EQ(shmipc_queue_commit(&f.q[0], &loan), SHMIPC_OK);
    CHECK_MEM(view.data, "bbb", 3); /* unchanged until released */
    CHECK_EQ(shmipc_queue_release(&f.q[1], &view), SHMIPC_OK);
    CHECK_EQ(shmipc_queue_release(&f.q[1], &view), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_take(&f.q[1], &view), SHMIPC_OK);
    CHECK_EQ(view.len_bytes, 50);
    other = view;
    CHECK_EQ(shmipc_queue_release(&f.q[2], &other), SHMIPC_ESTATE); /* not that owner's */
    CHECK_EQ(shmipc_queue_discard(&f.q[1], &other), SHMIPC_ESTATE); /* not a loan */
    CHECK_EQ(shmipc_queue_release(&f.q[1], &view), SHMIPC_OK);
    CHECK_EQ(shmipc_queue_release(&f.q[1], &other), SHMIPC_ESTATE); /* a copy, released before */
    CHECK_EQ(shmipc_queue_loan(&f.q[3], 8, &loan), SHMIPC_OK);
    CHECK_EQ(shmipc_queue_discard(&f.q[3], &loan), SHMIPC_OK);
    CHECK_EQ(shmipc_queue_detach(&f.q[3]), SHMIPC_OK);
    CHECK_EQ(shmipc_queue_detach(&f.q[0]), SHMIPC_OK);
    check_chunks(&f, 0, 0, 0);
    fixture_close(&f);
}

TEST(K1_queue_many_at_once)
{
    fixture f;
    shmipc_queue_item in[6];
    shmipc_queue_msg out[6];
    uint32_t i, v[6];
    fixture_open(&f, 4, 10, 8, SHMIPC_QUEUE_REDELIVER);
    for (i = 0; i < 6; i++) {
        v[i] = 100 + i;
        in[i].data = &v[i];
        in[i].len_bytes = sizeof v[i];
        in[i].tag = i;
    }
    CHECK_EQ(shmipc_queue_push_many(&f.q[0], in, 6), 4);
    CHECK_EQ(shmipc_queue_push_many(&f.q[0], in, 6), SHMIPC_EFULL);
    CHECK_EQ(shmipc_queue_take_many(&f.q[1], out, 3), 3);
    CHECK_EQ(shmipc_queue_take_many(&f.q[1], out + 3, 3), 1);
    CHECK_EQ(shmipc_queue_take_many(&f.q[1], out + 4, 1), SHMIPC_EAGAIN);
    for (i = 0; i < 4; i++) {
        CHECK_EQ(*(uint32_t *)out[i].data, 100 + i);
        CHECK_EQ(out[i].tag, i);
        CHECK_EQ(shmipc_queue_release(&f.q[1], &out[i]), SHMIPC_OK);
    }
    in[2].len_bytes = 9;
    CHECK_EQ(shmipc_queue_push_many(&f.q[0], in, 6), 2); /* the third does not fit: the two before it are pushed */
    CHECK_EQ(shmipc_queue_push_many(&f.q[0], in + 2, 1), SHMIPC_EMSGSIZE);
    fixture_close(&f);
}

TEST(K1_queue_recv_into_a_small_buffer_loses_nothing)
{
    fixture f;
    char out[8];
    shmipc_queue_msg m;
    fixture_open(&f, 4, 8, 8, SHMIPC_QUEUE_REDELIVER);
    CHECK_EQ(shmipc_queue_push(&f.q[0], "12345678", 8, 1), SHMIPC_OK);
    CHECK_EQ(shmipc_queue_push(&f.q[0], "abc", 3, 2), SHMIPC_OK);
    CHECK_EQ(shmipc_queue_recv(&f.q[1], out, 7, NULL), SHMIPC_EMSGSIZE);
    CHECK_EQ(shmipc_queue_recv(&f.q[1], out, 7, NULL), SHMIPC_EMSGSIZE);
    CHECK_EQ(shmipc_queue_take(&f.q[1], &m), SHMIPC_OK);
    CHECK_MEM(m.data, "12345678", 8);
    CHECK_EQ(shmipc_queue_release(&f.q[1], &m), SHMIPC_OK);
    CHECK_EQ(m.redelivered, 2);
    CHECK_EQ(shmipc_queue_recv(&f.q[2], out, 8, NULL), 3);
    CHECK_MEM(out, "abc", 3);
    fixture_close(&f);
}

TEST(S44_queue_rejected_message_goes_to_another_and_counts)
{
    fixture f;
    shmipc_queue_msg m;
    uint32_t i;
    fixture_open(&f, 2, 6, 8, SHMIPC_QUEUE_REDELIVER);
    push_number(&f.q[0], 1);
    push_number(&f.q[0], 2);
    for (i = 0; i < 20; i++) {
        CHECK_EQ(shmipc_queue_take(&f.q[1 + i % 2], &m), SHMIPC_OK);
        CHECK_EQ(*(uint32_t *)m.data, 1);
        CHECK_EQ(m.redelivered, i < 15 ? i : 15);
        CHECK_EQ(shmipc_queue_reject(&f.q[1 + i % 2], &m), SHMIPC_OK);
        check_chunks(&f, 2 /* with a spare */, 0, 1);
    }
    recv_number(&f.q[2], 1);
    recv_number(&f.q[2], 2);
    recv_nothing(&f.q[2]);
    fixture_close(&f);
}

TEST(S44_I1_queue_sweep_returns_what_the_dead_held)
{
    fixture f;
    shmipc_queue_msg m[2], loan;
    fixture_open(&f, 2, 8, 8, SHMIPC_QUEUE_REDELIVER);
    push_number(&f.q[0], 1);
    push_number(&f.q[0], 2);
    CHECK_EQ(shmipc_queue_take(&f.q[1], &m[0]), SHMIPC_OK);
    CHECK_EQ(shmipc_queue_sweep(&f.q[2], 1, NULL, NULL), SHMIPC_EBUSY); /* alive: not robbed */
    f.dead = 1u << 1;
    CHECK_EQ(shmipc_queue_sweep(&f.q[2], 1, NULL, NULL), 1);
    CHECK_EQ(shmipc_queue_sweep(&f.q[2], 1, NULL, NULL), 0);
    check_chunks(&f, 2, 0, 1);
    CHECK_EQ(shmipc_queue_take(&f.q[2], &m[0]), SHMIPC_OK);
    CHECK_EQ(*(uint32_t *)m[0].data, 1);
    CHECK_EQ(m[0].redelivered, 1);
    CHECK_EQ(shmipc_queue_release(&f.q[2], &m[0]), SHMIPC_OK);
    /* A dead producer: its loan and spare are freed, what it pushed stays and names it no more. */
    CHECK_EQ(shmipc_queue_loan(&f.q[0], 8, &loan), SHMIPC_OK);
    push_number(&f.q[0], 3);
    f.dead |= 1u;
    CHECK(shmipc_queue_sweep(&f.q[2], 0, NULL, NULL) > 0);
    check_chunks(&f, 2, 0, 0);
    CHECK_EQ(shmipc_queue_sweep(&f.q[2], 0, NULL, NULL), 0);
    recv_number(&f.q[2], 2);
    recv_number(&f.q[2], 3);
    recv_nothing(&f.q[2]);
    check_chunks(&f, 0, 0, 0);
    fixture_close(&f);
}

/* The hint is up because of a sweep of 1; meanwhile 3 died too, unswept: a take finds what it held all the same. */
TEST(S44_queue_take_finds_what_an_unswept_owner_held)
{
    fixture f;
    shmipc_queue_msg m;
    fixture_open(&f, 4, 10, 8, SHMIPC_QUEUE_REDELIVER);
    push_number(&f.q[0], 1);
    push_number(&f.q[0], 2);
    CHECK_EQ(shmipc_queue_take(&f.q[1], &m), SHMIPC_OK);
    CHECK_EQ(shmipc_queue_take(&f.q[3], &m), SHMIPC_OK);
    f.dead = 1u << 1 | 1u << 3;
    recv_nothing(&f.q[2]); /* what a dead, not yet swept owner holds does not count */
    CHECK_EQ(shmipc_queue_sweep(&f.q[2], 1, NULL, NULL), 1);
    recv_number(&f.q[2], 1);
    recv_number(&f.q[2], 2);
    recv_nothing(&f.q[2]);
    CHECK_EQ(shmipc_queue_sweep(&f.q[2], 3, NULL, NULL), 0);
    fixture_close(&f);
}

typedef struct reports {
    uint32_t count, value, len, redelivered;
} reports;

static void count_report(void *arg, const shmipc_queue_msg *m)
{
    reports *r = (reports *)arg;
    r->count++;
    r->value = *(const uint32_t *)m->data;
    r->len = m->len_bytes;
    r->redelivered = m->redelivered;
}

TEST(S44_queue_reports_instead_of_redelivering)
{
    fixture f;
    shmipc_queue_msg m;
    reports r;
    memset(&r, 0, sizeof r);
    fixture_open(&f, 2, 6, 8, SHMIPC_QUEUE_REPORT);
    push_number(&f.q[0], 5);
    CHECK_EQ(shmipc_queue_take(&f.q[1], &m), SHMIPC_OK);
    f.dead = 1u << 1;
    CHECK_EQ(shmipc_queue_sweep(&f.q[2], 1, count_report, &r), 1);
    CHECK_EQ(shmipc_queue_sweep(&f.q[3], 1, count_report, &r), 0);
    CHECK_EQ(r.count, 1);
    CHECK_EQ(r.value, 5);
    CHECK_EQ(r.len, 4);
    CHECK_EQ(r.redelivered, 1);
    recv_nothing(&f.q[2]);
    shmipc_queue_detach(&f.q[0]);
    check_chunks(&f, 0, 0, 0);
    fixture_close(&f);
}

TEST(K1_queue_refuses_bad_arguments)
{
    fixture f;
    shmipc_queue_config c = config_of(2, 4, 8, 0);
    uint64_t size;
    shmipc_queue q;
    shmipc_queue_msg m;
    shmipc_queue_stats st;
    char b[8];
    fixture_open(&f, 2, 4, 8, 0);
    CHECK_EQ(shmipc_queue_size(NULL, &size), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_size(&c, NULL), SHMIPC_EINVAL);
    c = config_of(0, 4, 8, 0);
    CHECK_EQ(shmipc_queue_size(&c, &size), SHMIPC_EINVAL);
    c = config_of(3, 8, 8, 0);
    CHECK_EQ(shmipc_queue_size(&c, &size), SHMIPC_EINVAL);
    c = config_of(1u << 23, 1u << 24, 8, 0);
    CHECK_EQ(shmipc_queue_size(&c, &size), SHMIPC_EINVAL);
    c = config_of(2, 2, 8, 0);
    CHECK_EQ(shmipc_queue_size(&c, &size), SHMIPC_EINVAL);
    c = config_of(2, 1u << 24, 8, 0);
    CHECK_EQ(shmipc_queue_size(&c, &size), SHMIPC_EINVAL);
    c = config_of(2, 4, 0, 0);
    CHECK_EQ(shmipc_queue_size(&c, &size), SHMIPC_EINVAL);
    c = config_of(2, 4, UINT32_MAX, 0);
    CHECK_EQ(shmipc_queue_size(&c, &size), SHMIPC_EINVAL);
    c = config_of(2, 4, 8, 2);
    CHECK_EQ(shmipc_queue_size(&c, &size), SHMIPC_EINVAL);
    c = config_of(2, 4, 8, 0);
    CHECK_EQ(shmipc_queue_init(NULL, f.size, &c), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_init(f.memory + 8, f.size, &c), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_init(f.memory, f.size - 1, &c), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_attach(NULL, f.memory, f.size, 1, NULL, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_attach(&q, NULL, f.size, 1, NULL, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_attach(&q, f.memory + 1, f.size, 1, NULL, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_attach(&q, f.memory, 100, 1, NULL, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_attach(&q, f.memory, f.size - 1, 1, NULL, NULL), SHMIPC_ECORRUPT);
    CHECK_EQ(shmipc_queue_attach(&q, f.memory, f.size, 0xfffff, NULL, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_attach(&q, f.memory, f.size, 0xffffe, NULL, NULL), SHMIPC_OK);
    CHECK_EQ(shmipc_queue_sweep(&q, 1, NULL, NULL), SHMIPC_EINVAL); /* nobody can say who is dead */
    CHECK_EQ(shmipc_queue_sweep(&f.q[0], 0xfffff, NULL, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_sweep(&f.q[0], 0, NULL, NULL), SHMIPC_EBUSY); /* oneself is alive */
    CHECK_EQ(shmipc_queue_push(NULL, b, 1, 0), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_push(&q, NULL, 1, 0), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_push(&q, NULL, 0, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_queue_push_many(&q, NULL, 1), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_loan(&q, 1, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_take(&q, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_take_many(&q, &m, 0), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_recv(NULL, b, 8, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_recv(&q, NULL, 8, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_recv(&q, NULL, 0, NULL), 0);
    CHECK_EQ(shmipc_queue_release(&q, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_detach(NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_get_stats(&q, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_queue_get_stats(NULL, &st), SHMIPC_EINVAL);
    fixture_close(&f);
}

TEST(I9_queue_refuses_other_layouts)
{
    fixture f;
    shmipc_queue q;
    uint32_t i, was, *word;
    fixture_open(&f, 2, 4, 8, 0);
    word = (uint32_t *)(void *)f.memory;
    for (i = 0; i < 7; i++) {
        was = word[i];
        word[i] = was + 64u;
        CHECK_EQ(shmipc_queue_attach(&q, f.memory, f.size, 1, NULL, NULL),
                 i == 0 ? SHMIPC_EFOREIGN : i == 1 ? SHMIPC_ELAYOUT : SHMIPC_ECORRUPT);
        word[i] = was;
    }
    memset(f.memory, 0, (size_t)f.size);
    CHECK_EQ(shmipc_queue_attach(&q, f.memory, f.size, 1, NULL, NULL), SHMIPC_EFOREIGN);
    fixture_close(&f);
}

/* Any bytes: codes, never a wild access or an endless loop (run under the sanitizers: the memory has its exact
 * size). */
TEST_LIMIT(I3_queue_survives_random_memory, 60)
{
    fixture f;
    uint32_t i, k, round;
    char b[64];
    shmipc_queue_msg m[2];
    reports r;
    fixture_open(&f, 4, 9, 40, SHMIPC_QUEUE_REDELIVER);
    f.dead = 1u << 3;
    memset(&r, 0, sizeof r);
    for (round = 0; round < 3000; round++) {
        shmipc_queue_config c = config_of(4, 9, 40, round % 2);
        REQUIRE(shmipc_queue_init(f.memory, f.size, &c) == SHMIPC_OK);
        for (k = 0; k < 3; k++) {
            REQUIRE(shmipc_queue_attach(&f.q[k], f.memory, f.size, k, fixture_alive, &f) == SHMIPC_OK);
            push_number(&f.q[k], k);
        }
        for (i = 0; i < 1 + round % 40; i++) {
            size_t at = 32 + (size_t)(check_random() % (f.size - 32));
            f.memory[at] = (unsigned char)check_random();
        }
        for (i = 0; i < 12; i++) {
            shmipc_queue *q = &f.q[check_random() % 3];
            int rc = 0;
            switch (check_random() % 6) {
            case 0: rc = shmipc_queue_push(q, b, (uint32_t)(check_random() % 41), 0); break;
            case 1: rc = shmipc_queue_recv(q, b, sizeof b, NULL); break;
            case 2: rc = shmipc_queue_take_many(q, m, 2); break;
            case 3: rc = shmipc_queue_sweep(q, 3, round % 2 ? count_report : NULL, &r); break;
            case 4: if (shmipc_queue_loan(q, 40, m) == SHMIPC_OK) rc = shmipc_queue_commit(q, m); break;
            default: rc = shmipc_queue_detach(q); break;
            }
            CHECK(rc >= SHMIPC_EOS);
        }
    }
    fixture_close(&f);
}
