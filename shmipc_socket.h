/* shmipc_socket.h - PUB/SUB, PUSH/PULL and REQ/REP between the processes of one machine, over shmipc.h.
 *
 * >>manual
 *
 * Sockets with names instead of addresses. Any number of processes join a channel, in any order, are killed and started
 * again, and the others neither wait nor notice. A small message costs what its cache lines need to travel between two
 * cores; system calls are made only to sleep and to wake a sleeper.
 *
 *     PUB/SUB     every subscriber gets every message it is fast enough for, and learns exactly how many it missed
 *     PUSH/PULL   each message goes to exactly one puller; one whose puller died goes to another, counted
 *     REQ/REP     each request is answered by one replier, at most once; the reply reaches nobody else
 *
 * USE
 *
 * Copy shmipc.h and this file into your project. In *one* C or C++ file define SHMIPC_IMPLEMENTATION before you include
 * this file, which includes shmipc.h; everywhere else just include it.
 *
 * >>example socket-hello
 * #define SHMIPC_IMPLEMENTATION
 * #include "shmipc_socket.h"
 * #include <stdio.h>
 *
 * int main(void)                          // both sides in one program, so that it can be tried; they are independent
 * {
 *     shmipc_ctx *ctx;
 *     shmipc_socket *pub, *sub;
 *     char text[64];
 *     size_t len;
 *     if (shmipc_ctx_open(&ctx, NULL) || shmipc_sub_open(&sub, ctx, "robot/pose", NULL)) return 1;
 *     if (shmipc_pub_open(&pub, ctx, "robot/pose", NULL) || shmipc_send(pub, "hello", 6, 0)) return 1;
 *     if (shmipc_recv(sub, text, sizeof text, &len, -1) == SHMIPC_OK) puts(text);
 *     shmipc_close(&pub);
 *     shmipc_close(&sub);
 *     shmipc_ctx_close(ctx);
 *     return 0;
 * }
 * >>end
 *
 * CONTENTS: search for the tag.
 *
 *     >>socket    the public interface, with its reference
 *     >>channel   what a channel is in memory; opening and closing; what a sweep gives back
 *     >>sleep     bells, and one loop for all that waits
 *     >>payload   memory of large messages
 *     >>pubsub    >>pushpull   >>reqrep     the three patterns
 *     >>calls     the public functions
 *
 * RULES FOR ALL FUNCTIONS
 *
 * As in shmipc.h: SHMIPC_OK or a positive count, or a negative code; outputs are written only on success;
 * shmipc_ctx_detail names what was found, what was expected and what to do. timeout_ns: 0 does not wait, negative waits
 * for ever; a wait ends early only with SHMIPC_EINTR, if the socket was opened so. A socket belongs to one thread at a
 * time; different sockets, also of one channel, may be used by different threads. Close sockets before their context,
 * or let shmipc_ctx_close do it: afterwards the handles must not be used. After fork the child's sockets answer
 * SHMIPC_EFORKED, and may be closed. Nothing here is safe in a signal handler.
 *
 * WHAT A DEATH DOES
 *
 * A killed publisher: its lane keeps what it had published; the next publisher takes the lane over. A killed subscriber:
 * its views are given back. A killed pusher: what it pushed stays. A killed puller: what it had taken and not released
 * is delivered again, `redelivered` says how often. A killed replier: its request is not executed again, the requester
 * gets SHMIPC_EPEERDEAD. A killed requester: its requests are dropped. All within a tenth of a second, as long as
 * somebody waits on the channel; else at the next call that waits, opens or closes. A stopped process is never robbed.
 *
 * Licence: MIT, at the end of shmipc.h.
 */

#ifndef SHMIPC_SOCKET_H
#define SHMIPC_SOCKET_H

#include "shmipc.h"

#ifdef __cplusplus
extern "C" {
#endif

/* SHMIPC_CDEF_BEGIN */

/* ---------------------------------------------------------------------------------------------
 * >>socket
 * ------------------------------------------------------------------------------------------- */

typedef struct shmipc_socket shmipc_socket;

enum { SHMIPC_PUB = 1, SHMIPC_SUB = 2, SHMIPC_PUSH = 3, SHMIPC_PULL = 4, SHMIPC_REQ = 5, SHMIPC_REP = 6 };

enum {
    SHMIPC_WAIT_ADAPTIVE = 0, /* spin as long as it paid lately, then sleep */
    SHMIPC_WAIT_SPIN = 1,     /* spin for ever: the least latency, a CPU of its own */
    SHMIPC_WAIT_SLEEP = 2     /* never spin */
};

/* How a payload is sealed: any cipher plugs in here. Both functions return 0 or a code; seal writes len + 16 bytes (the
 * tag last) and open len - 16; `out` never overlaps `in`. A nonce is used once per key. */
typedef struct shmipc_aead {
    int (*seal)(void *arg, const unsigned char nonce[24], const void *aad, size_t aad_len, const void *in, size_t len,
                void *out);
    int (*open)(void *arg, const unsigned char nonce[24], const void *aad, size_t aad_len, const void *in, size_t len,
                void *out);
    void *arg;
} shmipc_aead;

/* What the channel fixes (its first owner decides; 0 adopts the channel's or the default; another value than the
 * channel's is SHMIPC_EMISMATCH): depth, max_message, sealed or not. All else is this socket's own. */
typedef struct shmipc_socket_config {
    uint32_t depth;            /* messages kept, rounded up to a power of two; PUB 64, PUSH 1024, REQ 256, at most 2^15 */
    uint32_t history;          /* SUB: begin with the last N messages of each living publisher                       */
    uint64_t max_message;      /* bytes; 16 MiB, at most 2^31 - 4096; memory only for what is sent                    */
    uint64_t max_memory;       /* SHMIPC: address space of a new channel; 64 GiB (1 GiB in 32-bit processes)          */
    int64_t connect_ns;        /* wait so long for a living peer, then SHMIPC_ENOENT; 0: do not ask for one           */
    int64_t linger_ns;         /* PUSH: how long unread messages outlive everybody; 0: 30 s, negative: not at all     */
    uint32_t capacity;         /* sockets that a new channel may have at once; 256, at most 4096                      */
    uint32_t latest;           /* SUB: 1: always the newest message only                                             */
    uint32_t wait;             /* SHMIPC_WAIT_...                                                                    */
    uint32_t interruptible;    /* 1: a signal ends a wait with SHMIPC_EINTR                                          */
    const char *const *topics; /* SUB: receive only messages whose topic begins with one of these                    */
    uint32_t topic_count;      /* 0: everything                                                                      */
    uint32_t name_len;         /* 0: the name ends with its NUL                                                      */
    const shmipc_aead *aead;   /* NULL: not sealed                                                                   */
} shmipc_socket_config;

/* A message received. `data` points into shared memory after shmipc_take, until shmipc_release; it stays valid when the
 * socket is closed before. */
typedef struct shmipc_msg {
    const void *data;
    uint64_t len;
    const void *topic;        /* SUB: topic_len bytes, NULL without                                                  */
    uint32_t topic_len;
    uint32_t tag;             /* 24 bits of the sender's that travel along                                           */
    uint32_t redelivered;     /* PULL: how often it was handed out before                                            */
    uint32_t sender;          /* SUB: which lane; with one publisher at a time per lane, which publisher              */
    uint64_t number;          /* SUB: counts the messages of the lane from 0                                         */
    shmipc_socket *socket;    /* private from here on                                                                */
    uint64_t word;
    uint32_t chunk, pin;
    uint64_t room[40];        /* small messages of lanes, copied here by shmipc_take                                 */
} shmipc_msg;

/* Room for a message being written: write at most `len` bytes to data, set len and tag, then commit or discard. */
typedef struct shmipc_loan {
    void *data;
    uint64_t len;
    uint32_t tag;
    uint32_t chunk;           /* private from here on                                                                */
    uint64_t room, word, handle;
    shmipc_socket *socket;
} shmipc_loan;

typedef struct shmipc_item {
    const void *data;
    uint64_t len;
    uint32_t tag, pad;
} shmipc_item;

typedef struct shmipc_socket_stats {
    uint64_t sent, received, bytes_sent, bytes_received;
    uint64_t dropped;         /* SUB: missed; PUSH, REQ: refused because full                                         */
    uint64_t errors;
    uint64_t waits;           /* how often it slept                                                                  */
    uint64_t queued;          /* PUSH, PULL, REQ, REP: messages untaken now; SUB: the unread ones                    */
    uint64_t high_water;      /* the most that `queued` was, seen by this socket                                     */
    uint64_t depth, max_message;
    uint64_t memory;          /* bytes of the channel that are backed by memory                                      */
    uint32_t peers, role;     /* living sockets of the other side                                                    */
} shmipc_socket_stats;

typedef struct shmipc_peer {
    uint64_t life;
    uint32_t index, role;     /* SHMIPC_PUB ...                                                                      */
    uint32_t pid, alive;      /* pid as the peer itself knows it                                                     */
    uint64_t sent, received;
} shmipc_peer;

SHMIPC_API void shmipc_socket_config_init(shmipc_socket_config *cfg);

/* Joins the channel of that name, or makes it. cfg may be NULL. Never waits unless connect_ns says so. SHMIPC_EKIND: the
 * name is in use for another pattern. SHMIPC_EMISMATCH: an option differs. SHMIPC_ETABLE: capacity is used up. */
SHMIPC_API int shmipc_pub_open(shmipc_socket **out, shmipc_ctx *ctx, const char *name, const shmipc_socket_config *cfg);
SHMIPC_API int shmipc_sub_open(shmipc_socket **out, shmipc_ctx *ctx, const char *name, const shmipc_socket_config *cfg);
SHMIPC_API int shmipc_push_open(shmipc_socket **out, shmipc_ctx *ctx, const char *name, const shmipc_socket_config *cfg);
SHMIPC_API int shmipc_pull_open(shmipc_socket **out, shmipc_ctx *ctx, const char *name, const shmipc_socket_config *cfg);
SHMIPC_API int shmipc_req_open(shmipc_socket **out, shmipc_ctx *ctx, const char *name, const shmipc_socket_config *cfg);
SHMIPC_API int shmipc_rep_open(shmipc_socket **out, shmipc_ctx *ctx, const char *name, const shmipc_socket_config *cfg);

/* Gives up the socket and sets *s to NULL. Never waits. What was sent stays for those who are there; what a PULL took and
 * a REP received and did not answer is as if this process had died. Views stay valid until they are released. */
SHMIPC_API void shmipc_close(shmipc_socket **s);

/* PUB: never waits, never fails for its subscribers' sake. PUSH and REQ: SHMIPC_EFULL when the queue is full, after
 * timeout_ns. REP: answers the request received last; SHMIPC_ESTATE if there is none, SHMIPC_OK also if the requester no
 * longer wants it. REQ: abandons the request before. SHMIPC_EMSGSIZE above max_message. SHMIPC_ENOSPC: no memory. */
SHMIPC_API int shmipc_send(shmipc_socket *s, const void *data, size_t len, int64_t timeout_ns);
SHMIPC_API int shmipc_send_tag(shmipc_socket *s, const void *data, size_t len, uint32_t tag, int64_t timeout_ns);
/* PUB only: up to 255 bytes of any value, which subscribers filter by. */
SHMIPC_API int shmipc_send_topic(shmipc_socket *s, const void *topic, size_t topic_len, const void *data, size_t len,
                                 uint32_t tag);
/* PUB and PUSH: how many of count were sent, all with one publication; if none was, why. */
SHMIPC_API int shmipc_send_many(shmipc_socket *s, const shmipc_item *items, uint32_t count, int64_t timeout_ns);

/* Room in shared memory for `len` bytes, to be written in place. One loan at a time per socket. Commit sends the first
 * loan->len bytes; SHMIPC_EFULL leaves the loan. A sealed channel lends private memory. */
SHMIPC_API int shmipc_loan_open(shmipc_socket *s, size_t len, shmipc_loan *loan);
SHMIPC_API int shmipc_loan_commit(shmipc_loan *loan, int64_t timeout_ns);
SHMIPC_API int shmipc_loan_discard(shmipc_loan *loan);

/* Copies the next message to buf. SHMIPC_ETIMEDOUT. SHMIPC_EMSGSIZE: longer than cap; it stays (shmipc_take shows it).
 * REQ: the reply; SHMIPC_ESTATE without a request, SHMIPC_EPEERDEAD if the replier died over it, SHMIPC_ETIMEDOUT leaves
 * the request pending. REP: the request, which is to be answered. */
SHMIPC_API int shmipc_recv(shmipc_socket *s, void *buf, size_t cap, size_t *len, int64_t timeout_ns);
/* The same, with all that is known of the message; msg->data points to buf. */
SHMIPC_API int shmipc_recv_msg(shmipc_socket *s, void *buf, size_t cap, shmipc_msg *msg, int64_t timeout_ns);
/* The next message in place. SUB: SHMIPC_EBUSY when 4 large ones are out. PULL: until release it is redelivered if this
 * process dies. REP: valid until the answer is sent. A sealed channel opens it into private memory. */
SHMIPC_API int shmipc_take(shmipc_socket *s, shmipc_msg *msg, int64_t timeout_ns);
SHMIPC_API int shmipc_release(shmipc_msg *msg);
/* PULL: hands it on to another; counted. */
SHMIPC_API int shmipc_reject(shmipc_msg *msg);
/* SUB and PULL: up to `count` messages one after the other into buf, each at a multiple of 8; msgs[i].data points there.
 * Waits for the first only; how many. */
SHMIPC_API int shmipc_recv_many(shmipc_socket *s, void *buf, size_t cap, shmipc_msg *msgs, uint32_t count,
                                int64_t timeout_ns);

/* REQ: send, then receive; gives up the request when it is not answered in time. */
SHMIPC_API int shmipc_request(shmipc_socket *s, const void *data, size_t len, void *buf, size_t cap, size_t *reply_len,
                              int64_t timeout_ns);

SHMIPC_API int shmipc_socket_get_stats(shmipc_socket *s, shmipc_socket_stats *stats);
SHMIPC_API const char *shmipc_socket_name(const shmipc_socket *s);
SHMIPC_API int shmipc_socket_role(const shmipc_socket *s);
/* Who is on the channel, ourselves too: fills up to `capacity`, answers how many there are. */
SHMIPC_API int shmipc_socket_peers(shmipc_socket *s, shmipc_peer *peers, uint32_t capacity);

enum { SHMIPC_POLL_IN = 1, SHMIPC_POLL_OUT = 2 };

typedef struct shmipc_poll_item {
    shmipc_socket *socket;
    uint32_t events;          /* POLL_IN: recv would give something; POLL_OUT: send would not find it full            */
    uint32_t ready;           /* those of them that hold                                                             */
} shmipc_poll_item;

/* Sleeps once for all of them. How many items are ready; SHMIPC_ETIMEDOUT. Up to 1024 items. */
SHMIPC_API int shmipc_poll(shmipc_poll_item *items, uint32_t count, int64_t timeout_ns);

/* A descriptor that is readable while recv would give something, for epoll, select and the like; it belongs to the
 * socket. Before sleeping on it call shmipc_fd_arm: 1 when there is something already (do not sleep), 0 armed. A peer
 * that is killed at the wrong moment can lose one notice: use a timeout of 50 ms or so, and arm again. */
SHMIPC_API int shmipc_fd(shmipc_socket *s);
SHMIPC_API int shmipc_fd_arm(shmipc_socket *s);

/* SHMIPC_CDEF_END */

/* For shmipc_ctx_config.kinds, so that a sweep of the whole directory understands channels that nobody is attached to. */
SHMIPC_API const shmipc_kind *const *shmipc_socket_kinds(uint32_t *count);

#ifdef __cplusplus
}
#endif

#endif /* SHMIPC_SOCKET_H */
