/* socket_world.h - shmipc_socket.h for models: sockets over static memory, made by hand, whose system below is the
 * explorer's. An attachment of the channel is a thread of the model, and dead when that is. */
#ifndef SOCKET_WORLD_H
#define SOCKET_WORLD_H

#include "explore.h"
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#define SHMIPC_ATOMICS_HEADER "explore_atomics.h"
#define SHMIPC_OS_HEADER "explore_os.h"
#include "../../shmipc.h"

/* What sockets ask of contexts and segments, answered by the model. */
static int world_alive(uint32_t index);               /* does attachment `index` live?                    */
static int world_holds(uint32_t index, uint64_t life); /* is it still that one's?                          */
static int world_sweep(uint32_t index);               /* a waiter looks after it                          */
static shmipc__bell world_bell[EX_THREADS];
static shmipc__entry world_entry = {1, 0, 0}; /* all are taken */

#define shmipc_segment_alive(s, index) ((void)(s), world_alive(index))
#define shmipc_segment_holds(s, index, life) ((void)(s), world_holds((index), (life)))
#define shmipc__entry_at(s, index) ((void)(s), (void)(index), &world_entry)
#define shmipc__entry_sweep(s, index) ((void)(s), world_sweep(index))
#define shmipc_segment_at(s, offset, len, at) ((void)(s), (void)(offset), (void)(len), (void)(at), SHMIPC_OK)
#define shmipc_ctx_check(ctx) ((void)(ctx), SHMIPC_OK)
#define shmipc__ctx_forked(ctx) ((void)(ctx), 0)
#define shmipc__fail(ctx, rc, ...) ((void)(ctx), (rc))
#define shmipc__ctx_bells(ctx, out) ((void)(ctx), (out)->at = world_bell, (out)->count = EX_THREADS, SHMIPC_OK)
#ifdef SOCKET_QUEUE
#include SOCKET_QUEUE
#endif
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter" /* what only shmipc__fail would say */
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../../shmipc_socket.h"
#pragma GCC diagnostic pop

#define CHANNEL_WORDS ((sizeof(shmipc__channel) + EX_THREADS * sizeof(shmipc__place)) / 8)
static uint64_t channel_memory[CHANNEL_WORDS] __attribute__((aligned(4096)));
static shmipc_ctx world_ctx;
static shmipc_segment world_segment[EX_THREADS + 1];
static shmipc_socket sock[EX_THREADS + 1]; /* of each thread, and one of the final check */

static shmipc__channel *channel_of(void) { return (shmipc__channel *)(void *)channel_memory; }

/* What a socket counts is read by nobody here, so it lies in private memory: no steps. */
static void socket_make(uint32_t i, uint32_t role, uint32_t capacity)
{
    shmipc_socket *s = &sock[i];
    memset(s, 0, sizeof *s);
    memset(&world_segment[i], 0, sizeof world_segment[i]);
    world_segment[i].ctx = &world_ctx;
    world_segment[i].index = i;
    world_segment[i].head.capacity = capacity;
    s->ctx = &world_ctx;
    s->segment = &world_segment[i];
    s->channel = channel_of();
    ex_os_as = (int)(i % EX_THREADS);
    s->place = (shmipc__place *)calloc(1, sizeof *s->place);
    ex_os_as = -1;
    s->role = role;
    s->index = i;
    s->params = 1;
    s->max_message = 1024;
    s->post = -1;
    s->probes = EX_THREADS;
    s->wait = SHMIPC_WAIT_SLEEP;
}
static void channel_make(void)
{
    memset(channel_memory, 0, sizeof channel_memory);
    memset(world_bell, 0, sizeof world_bell);
    ex_name(channel_memory, sizeof channel_memory, "channel");
    ex_name(channel_of()->spare, sizeof channel_of()->spare, "spare");
    ex_name(&channel_of()->in, sizeof channel_of()->in, "gate_in");
    ex_name(&channel_of()->out, sizeof channel_of()->out, "gate_out");
    ex_name(world_bell, sizeof world_bell, "bell");
}

#endif
