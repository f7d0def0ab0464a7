/* hot.c - the hot operations, each run N times for two values of N. tools/callgrind-counts runs this under valgrind,
 * which writes the instructions of each run to a file of its own, labelled "operation N"; the difference is what one
 * operation costs. So whatever is done before a run must not depend on N.
 */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../../shmipc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <valgrind/callgrind.h>

#define MOST 4096 /* operations in one run: nothing fills up, nothing runs empty */
#define RING_BYTES (1u << 23)
#define MUST(x)                                                                                                        \
    do {                                                                                                               \
        if (!(x)) abort();                                                                                             \
    } while (0)
#define OK(x) MUST((x) == SHMIPC_OK)

static void *memory;
static char buffer[1024];
static uint32_t len;
static volatile uint32_t room = sizeof buffer; /* as a caller in another file: the compiler does not know it */

static void nothing(void) { __asm__ volatile("" ::: "memory"); }

/* ---- spsc ---- */

static shmipc_spsc_writer writer;
static shmipc_spsc_reader reader;

static void spsc_open(uint32_t n)
{
    len = n;
    OK(shmipc_spsc_init(memory, shmipc_spsc_size(RING_BYTES), RING_BYTES));
    OK(shmipc_spsc_writer_attach(&writer, memory, shmipc_spsc_size(RING_BYTES)));
    OK(shmipc_spsc_reader_attach(&reader, memory, shmipc_spsc_size(RING_BYTES)));
}
static void spsc_send(void) { OK(shmipc_spsc_send(&writer, buffer, len, 1)); }
static void spsc_fill(uint32_t n)
{
    uint32_t i;
    spsc_open(n);
    for (i = 0; i < MOST; i++) spsc_send();
}
static void spsc_recv(void)
{
    uint32_t got, tag;
    OK(shmipc_spsc_recv(&reader, buffer, room, &got, &tag));
}
static void spsc_peek_release(void)
{
    const void *at;
    uint32_t got, tag;
    OK(shmipc_spsc_peek(&reader, &at, &got, &tag));
    OK(shmipc_spsc_release(&reader));
}
static void spsc_reserve_commit(void)
{
    void *at;
    OK(shmipc_spsc_reserve(&writer, len, &at));
    OK(shmipc_spsc_commit(&writer, len, 1));
}
static void spsc_recv_empty(void)
{
    uint32_t got, tag;
    MUST(shmipc_spsc_recv(&reader, buffer, room, &got, &tag) == SHMIPC_EAGAIN);
}

/* ---- queue ---- */

static shmipc_queue queue;
static shmipc_queue_msg held[MOST];
static uint32_t helds;

static void queue_open(uint32_t n)
{
    shmipc_queue_config c;
    uint64_t size;
    len = n;
    memset(&c, 0, sizeof c);
    c.slots = MOST;
    c.chunks = MOST + 16;
    c.max_message = n;
    c.policy = SHMIPC_QUEUE_REDELIVER;
    OK(shmipc_queue_size(&c, &size));
    if (size > 2 * RING_BYTES) abort();
    OK(shmipc_queue_init(memory, size, &c));
    OK(shmipc_queue_attach(&queue, memory, size, 1, NULL, NULL));
}
static void queue_push(void) { OK(shmipc_queue_push(&queue, buffer, len, 1)); }
static void queue_fill(uint32_t n)
{
    uint32_t i;
    queue_open(n);
    for (i = 0; i < MOST; i++) queue_push();
}
static void queue_recv(void) { MUST(shmipc_queue_recv(&queue, buffer, room, NULL) >= 0); }
static void queue_recv_empty(void)
{
    MUST(shmipc_queue_recv(&queue, buffer, room, NULL) == SHMIPC_EAGAIN);
}
static void queue_take(void) { OK(shmipc_queue_take(&queue, &held[helds++])); }
static void queue_take_release(void)
{
    shmipc_queue_msg m;
    OK(shmipc_queue_take(&queue, &m));
    OK(shmipc_queue_release(&queue, &m));
}
static void queue_loan_commit(void)
{
    shmipc_queue_msg m;
    OK(shmipc_queue_loan(&queue, len, &m));
    OK(shmipc_queue_commit(&queue, &m));
}

/* ---- lane ---- */

static shmipc_lane_writer lane_writer;
static shmipc_lane_reader lane_reader;

static void lane_open(uint32_t n)
{
    shmipc_lane_config c;
    shmipc_lane_sizes sizes;
    shmipc_lane_env env;
    len = n;
    shmipc_lane_config_init(&c);
    c.depth = 2 * MOST;
    c.chunk_max = n > c.inline_max ? n : 0;
    memset(&env, 0, sizeof env);
    OK(shmipc_lane_measure(&c, &sizes));
    MUST(sizes.bytes + 64 + sizes.chunk_bytes <= 2 * RING_BYTES);
    env.mem = memory;
    env.bytes = (size_t)sizes.bytes;
    env.chunks = (char *)memory + (sizes.bytes + 63) / 64 * 64;
    env.chunk_bytes = (size_t)sizes.chunk_bytes;
    env.owner = 1;
    OK(shmipc_lane_init(memory, env.bytes, &c));
    OK(shmipc_lane_writer_attach(&lane_writer, &env));
    OK(shmipc_lane_reader_attach(&lane_reader, &env, 0));
}
static void lane_send(void) { OK(shmipc_lane_send(&lane_writer, buffer, len, 1)); }
static void lane_fill(uint32_t n)
{
    uint32_t i;
    lane_open(n);
    for (i = 0; i < MOST; i++) lane_send();
}
static void lane_recv(void)
{
    uint32_t got, tag;
    OK(shmipc_lane_recv(&lane_reader, buffer, room, &got, &tag));
}
static void lane_recv_empty(void)
{
    uint32_t got, tag;
    MUST(shmipc_lane_recv(&lane_reader, buffer, room, &got, &tag) == SHMIPC_EAGAIN);
}
static void lane_take_release(void)
{
    shmipc_lane_msg m;
    OK(shmipc_lane_take(&lane_reader, buffer, room, &m));
    OK(shmipc_lane_release(&lane_reader, &m));
}

/* ---- a gate where nobody sleeps ---- */

static shmipc__gate *gate;
static shmipc__bells bells;

static void gate_open(uint32_t n)
{
    memset(memory, 0, sizeof *gate + n * sizeof(shmipc__bell));
    gate = (shmipc__gate *)memory;
    bells.at = (shmipc__bell *)(void *)(gate + 1);
    bells.count = n;
}
static void gate_ring(void) { OK((int)shmipc__gate_ring(gate, bells, SHMIPC__WAKE_ALL)); }

/* ---- the table ---- */

static const struct {
    const char *name;
    void (*before)(uint32_t);
    uint32_t arg;
    void (*run)(void);
} operations[] = {
    { "nothing", NULL, 0, nothing },
    { "spsc_send_8", spsc_open, 8, spsc_send },
    { "spsc_send_48", spsc_open, 48, spsc_send },
    { "spsc_send_1024", spsc_open, 1024, spsc_send },
    { "spsc_reserve_commit_48", spsc_open, 48, spsc_reserve_commit },
    { "spsc_recv_8", spsc_fill, 8, spsc_recv },
    { "spsc_recv_48", spsc_fill, 48, spsc_recv },
    { "spsc_peek_release_48", spsc_fill, 48, spsc_peek_release },
    { "spsc_recv_empty", spsc_open, 48, spsc_recv_empty },
    { "queue_push_8", queue_open, 8, queue_push },
    { "queue_push_48", queue_open, 48, queue_push },
    { "queue_push_1024", queue_open, 1024, queue_push },
    { "queue_loan_commit_48", queue_open, 48, queue_loan_commit },
    { "queue_recv_8", queue_fill, 8, queue_recv },
    { "queue_recv_48", queue_fill, 48, queue_recv },
    { "queue_recv_1024", queue_fill, 1024, queue_recv },
    { "queue_take_48", queue_fill, 48, queue_take },
    { "queue_take_release_48", queue_fill, 48, queue_take_release },
    { "queue_recv_empty", queue_open, 48, queue_recv_empty },
    { "lane_send_8", lane_open, 8, lane_send },
    { "lane_send_48", lane_open, 48, lane_send },
    { "lane_send_1024", lane_open, 1024, lane_send },
    { "lane_recv_8", lane_fill, 8, lane_recv },
    { "lane_recv_48", lane_fill, 48, lane_recv },
    { "lane_recv_1024", lane_fill, 1024, lane_recv },
    { "lane_take_release_1024", lane_fill, 1024, lane_take_release },
    { "lane_recv_empty", lane_open, 48, lane_recv_empty },
    { "gate_ring_nobody", gate_open, 64, gate_ring },
};

static void run(const char *name, void (*operation)(void), int n)
{
    char label[64];
    int i;
    snprintf(label, sizeof label, "%s %d", name, n);
    CALLGRIND_ZERO_STATS;
    for (i = 0; i < n; i++) operation();
    CALLGRIND_DUMP_STATS_AT(label);
}

int main(void)
{
    static const int times[2] = { 1000, 3000 };
    size_t i, k;
    memory = aligned_alloc(4096, 2 * RING_BYTES);
    MUST(memory);
    memset(memory, 0, 2 * RING_BYTES);
    for (k = 0; k < sizeof operations / sizeof operations[0]; k++)
        for (i = 0; i < 2; i++) {
            MUST(times[i] <= MOST);
            helds = 0;
            if (operations[k].before) operations[k].before(operations[k].arg);
            run(operations[k].name, operations[k].run, times[i]);
        }
    return 0;
}
