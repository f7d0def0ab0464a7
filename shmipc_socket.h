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
 * A killed publisher: its lane keeps what it had published; the next publisher takes the lane over. A killed
 * subscriber: its views are given back. A killed pusher: what it pushed stays. A killed puller: what it had taken and
 * not released is delivered again, `redelivered` says how often. A killed replier: its request is not executed again,
 * the requester gets SHMIPC_EPEERDEAD. A killed requester: its requests are dropped. All within a tenth of a second,
 * as long as somebody waits on the channel; else at the next call that waits, opens or closes. A stopped process is
 * never robbed.
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
    uint32_t depth; /* messages kept, rounded up to a power of two, 4 .. 2^15; PUB 64, PUSH 1024, REQ 256 */
    uint32_t history;          /* SUB: begin with the last N messages of each living publisher                       */
    uint64_t max_message;      /* bytes; 16 MiB, at most 2^31 - 4097; memory only for what is sent                    */
    uint64_t max_memory;       /* what a new channel may ever use; 8 GiB (128 MiB in 32-bit processes)              */
    int64_t connect_ns;        /* wait so long for a living peer, then SHMIPC_ENOENT; 0: do not ask for one           */
    int64_t linger_ns;         /* PUSH: how long unread messages outlive everybody; 0: 30 s, negative: not at all     */
    uint32_t capacity;         /* sockets that a new channel may have at once; 256, at most 4095                      */
    uint32_t latest;           /* SUB: 1: always the newest message only                                             */
    uint32_t wait;             /* SHMIPC_WAIT_...                                                                    */
    uint32_t interruptible;    /* 1: a signal ends a wait with SHMIPC_EINTR                                          */
    const char *const *topics; /* SUB: receive only messages whose topic begins with one of these                    */
    uint32_t topic_count;      /* 0: everything                                                                      */
    uint32_t name_len;         /* 0: the name ends with its NUL                                                      */
    int (*stop)(void *arg);    /* asked every 40 ms of a wait, and after a signal: not 0 ends it with SHMIPC_EINTR */
    void *stop_arg;
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
    uint32_t kind;            /* private from here on                                                                */
    uint32_t chunk, flags;
    uint64_t room, word;
    shmipc_socket *socket;
} shmipc_loan;

typedef struct shmipc_item {
    const void *data;
    uint64_t len;
    uint32_t tag, pad;
} shmipc_item;

typedef struct shmipc_socket_stats {
    uint64_t sent, received, bytes_sent, bytes_received;
    uint64_t dropped;         /* SUB: missed; PUSH, REQ: refused because full, where the caller did not wait */
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

/* Joins the channel of that name, or makes it. cfg may be NULL. Never waits unless connect_ns says so. SHMIPC_EKIND:
 * the name is in use for another pattern. SHMIPC_EMISMATCH: an option differs. SHMIPC_ETABLE: capacity is used up. */
SHMIPC_API int shmipc_pub_open(shmipc_socket **out, shmipc_ctx *ctx, const char *name, const shmipc_socket_config *cfg);
SHMIPC_API int shmipc_sub_open(shmipc_socket **out, shmipc_ctx *ctx, const char *name, const shmipc_socket_config *cfg);
SHMIPC_API int shmipc_push_open(shmipc_socket **out, shmipc_ctx *ctx, const char *name,
                                const shmipc_socket_config *cfg);
SHMIPC_API int shmipc_pull_open(shmipc_socket **out, shmipc_ctx *ctx, const char *name,
                                const shmipc_socket_config *cfg);
SHMIPC_API int shmipc_req_open(shmipc_socket **out, shmipc_ctx *ctx, const char *name, const shmipc_socket_config *cfg);
SHMIPC_API int shmipc_rep_open(shmipc_socket **out, shmipc_ctx *ctx, const char *name, const shmipc_socket_config *cfg);

/* Gives up the socket and sets *s to NULL. Never waits. What was sent stays for those who are there; what a PULL took
 * and a REP received and did not answer is as if this process had died. Views stay valid until they are released, or
 * the context is closed; what a PULL has in view is over, and redelivered, only then. */
SHMIPC_API void shmipc_close(shmipc_socket **s);

/* PUB: never waits, never fails for its subscribers' sake; where memory is short, old large messages go first. PUSH and
 * REQ: SHMIPC_EFULL when the queue is full, after timeout_ns. REP: answers the request received last; SHMIPC_ESTATE if
 * there is none, SHMIPC_OK also if the requester no longer wants it. REQ: abandons the request before. SHMIPC_EMSGSIZE
 * above max_message. SHMIPC_ENOSPC: no memory. */
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
 * REQ: the reply; SHMIPC_ESTATE without a request, SHMIPC_EPEERDEAD if the replier died over it, SHMIPC_ETIMEDOUT
 * leaves the request pending. REP: the request, which is to be answered; SHMIPC_ESTATE until it is. */
SHMIPC_API int shmipc_recv(shmipc_socket *s, void *buf, size_t cap, size_t *len, int64_t timeout_ns);
/* The same, with all that is known of the message; msg->data points to buf. */
SHMIPC_API int shmipc_recv_msg(shmipc_socket *s, void *buf, size_t cap, shmipc_msg *msg, int64_t timeout_ns);
/* The next message in place. SUB: SHMIPC_EBUSY when 4 large ones are out. PULL: until release it is redelivered if this
 * process dies. REP: valid until the answer is sent. A sealed channel opens it into private memory. */
SHMIPC_API int shmipc_take(shmipc_socket *s, shmipc_msg *msg, int64_t timeout_ns);
SHMIPC_API int shmipc_release(shmipc_msg *msg);
/* PULL: hands it on to another; counted. */
SHMIPC_API int shmipc_reject(shmipc_msg *msg);
/* SUB and PULL: up to `count` messages one after the other into buf, each at a multiple of 8; msgs[i].data points
 * there. Waits for the first only; how many. */
SHMIPC_API int shmipc_recv_many(shmipc_socket *s, void *buf, size_t cap, shmipc_msg *msgs, uint32_t count,
                                int64_t timeout_ns);

/* REQ: send, then receive; gives up the request when it is not answered in time. */
SHMIPC_API int shmipc_request(shmipc_socket *s, const void *data, size_t len, void *buf, size_t cap, size_t *reply_len,
                              int64_t timeout_ns);

/* REQ: gives up the request in progress: its reply will reach nobody. */
SHMIPC_API int shmipc_abandon(shmipc_socket *s);

SHMIPC_API int shmipc_socket_get_stats(shmipc_socket *s, shmipc_socket_stats *stats);
SHMIPC_API const char *shmipc_socket_name(const shmipc_socket *s);
SHMIPC_API int shmipc_socket_role(const shmipc_socket *s);
/* Who is on the channel, ourselves too: fills up to `capacity`, answers how many there are. */
SHMIPC_API int shmipc_socket_peers(shmipc_socket *s, shmipc_peer *peers, uint32_t capacity);

enum { SHMIPC_POLL_IN = 1, SHMIPC_POLL_OUT = 2 };

typedef struct shmipc_poll_item {
    shmipc_socket *socket;
    uint32_t events;          /* POLL_IN: something to receive, which may turn out to be unwanted (a topic, a request
                                 given up): receive with timeout 0. POLL_OUT: send would not find it full             */
    uint32_t ready;           /* those of them that hold                                                             */
} shmipc_poll_item;

/* Sleeps once for all of them. How many items are ready; SHMIPC_ETIMEDOUT. Up to 1024 items. */
SHMIPC_API int shmipc_poll(shmipc_poll_item *items, uint32_t count, int64_t timeout_ns);

/* A descriptor that is readable while recv would give something, for epoll, select and the like; it belongs to the
 * socket. Before sleeping on it call shmipc_fd_arm: 1 when there is something already (do not sleep), 0 armed. A peer
 * that is killed at the wrong moment can lose one notice: use a timeout of 50 ms or so, and arm again. */
SHMIPC_API int shmipc_fd(shmipc_socket *s);
SHMIPC_API int shmipc_fd_arm(shmipc_socket *s);

/* For shmipc_ctx_config.kinds, so that a sweep of the whole directory understands channels that nobody is attached
 * to. */
SHMIPC_API const shmipc_kind *const *shmipc_socket_kinds(uint32_t *count);

/* SHMIPC_CDEF_END */

#ifdef __cplusplus
}
#endif

#endif /* SHMIPC_SOCKET_H */

/* ============================================================================================= */
#if (defined(SHMIPC_IMPLEMENTATION) || defined(SHMIPC_SOCKET_IMPLEMENTATION)) && !defined(SHMIPC__SOCKET_IMPLEMENTED)
#define SHMIPC__SOCKET_IMPLEMENTED

/* Sockets work with private parts of the core, so both are instantiated in the same file. */
#ifndef SHMIPC__CORE_IMPLEMENTED
#ifndef SHMIPC_IMPLEMENTATION
#define SHMIPC_IMPLEMENTATION
#endif
#include "shmipc.h"
#endif

#if defined(__linux__) && !defined(SHMIPC_OS_HEADER)
#include <sys/socket.h>
#include <sys/un.h>
#endif

#if SHMIPC_WORD_BITS != 64 || defined(SHMIPC_RINGS_ONLY)
#error "shmipc_socket.h needs an operating system and lock-free 64-bit atomics"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------------------------------
 * >>channel  One segment for each channel: a root, and a region of blocks in which all else lies
 *
 * Byte map of the segment's area                                        written by
 *    0  stamp u64, blocks_at u64, blocks_size u64, extents u32, -       init
 *   64  params u64: set 1 | sealed 1 | depth's shift 5 | max_message 40   the first owner, once: CAS from 0
 *   72  queue u64, cells u64: handles of their blocks                     the first who needs them, once: CAS from 0
 *   88  spare u64[16]: blocks kept for the next large message             CAS: who puts in, who takes out
 *  256  gate of those who receive; 640: gate of those who wait for room   >>wait
 * 1024  lanes u64[256]: handles of the publishers' lanes, in order        publishers, once each: CAS from 0
 * 3072  a place of 128 bytes for each attachment                          its owner; read by anybody
 *         0  sent, received, bytes_sent, bytes_received, dropped, errors, waits, high_water: u64 each
 *        64  role u32, pid u32, life u64
 *   ..  blocks_at, at a multiple of 64 KiB: the region of >>block
 *
 * Who sees a handle finds the block behind it complete: it is put there by CAS acq_rel after the block was filled, and
 * loaded with acquire [C1]. So are the params, which one word holds. Everything a large message needs is named by a
 * *nook*: a word in a chunk of a queue or lane, or in a cell, that only the owner of that chunk or cell changes.
 *
 * The process dies (or stops for good) between
 *   the claim of a block and its naming in root, spare or nook: a sweep finds nobody who names it, and frees it.
 *   the naming and the passing of the block to nobody: the sweep finds the name, and passes it.
 *   taking it over from a nook and freeing it: while the nook names it, it stays there; then it is freed.
 * ------------------------------------------------------------------------------------------- */

#define SHMIPC__CHANNEL_STAMP UINT64_C(0x3130686363706d73) /* "smpcch01" */
#define SHMIPC__CHANNEL_LAYOUT 1u
#define SHMIPC__MAX_MESSAGE (UINT64_C(0x7fffffff) - 4096)
#define SHMIPC__MAX_DEPTH 32768u
#define SHMIPC__EXTENTS (sizeof(void *) > 4 ? 16384u : 2048u)
enum { SHMIPC__LANES = 256, SHMIPC__SPARES = 16, SHMIPC__OWNER_SPARE = 0xfffffe };
enum { SHMIPC__KIND_PUBSUB = 1, SHMIPC__KIND_PUSHPULL = 2, SHMIPC__KIND_REQREP = 3 };

#define SHMIPC__PIN_PRIVATE 0xffffffffu /* a view of private memory */
enum { SHMIPC__LOAN_PRIVATE = 1, SHMIPC__LOAN_SLOT, SHMIPC__LOAN_CHUNK, SHMIPC__LOAN_CELL }; /* where a loan lies */

/* What a lane and a queue carry beside the sender's 24 bits. */
#define SHMIPC__TAG_USER 0xffffffu
#define SHMIPC__TAG_LARGE 0x80000000u  /* in a block, named by the nook  */
#define SHMIPC__TAG_TOPIC 0x40000000u  /* followed by topic and its length */
#define SHMIPC__TAG_SEALED 0x20000000u /* nonce, ciphertext, tag of the cipher */
#define SHMIPC__SEAL_NONCE 24u
#define SHMIPC__SEAL_BYTES 40u

typedef struct shmipc__place {
    uint64_t sent, received, bytes_sent, bytes_received, dropped, errors, waits, high_water;
    uint32_t role, pid;
    uint64_t life, reserved[6];
} shmipc__place;

typedef struct shmipc__channel {
    uint64_t stamp, blocks_at, blocks_size;
    uint32_t extents, reserved0;
    uint64_t reserved1[4];
    uint64_t params, queue, cells, spare[SHMIPC__SPARES], reserved2[5];
    shmipc__gate in, out;
    uint64_t lanes[SHMIPC__LANES];
    shmipc__place places[1]; /* as many as the segment has attachments */
} shmipc__channel;
SHMIPC__STATIC_ASSERT(sizeof(shmipc__place) == 128 && offsetof(shmipc__channel, params) == 64 &&
                          offsetof(shmipc__channel, in) == 256 && offsetof(shmipc__channel, out) == 640 &&
                          offsetof(shmipc__channel, lanes) == 1024 && offsetof(shmipc__channel, places) == 3072,
                      "layout of a channel");

/* ---- reply cells ---- */

/* Cell, 128 bytes: word u64, length u32, tag u32, nook u64 and length u64, bell u32 (1 + the requester's, 0 none), -,
 * then 88 bytes of payload. word: id 36 | abandoned 1 | state 3 | requester 12 | replier 12. See >>reqrep. */
enum { SHMIPC__CELL_FREE, SHMIPC__CELL_WAITING, SHMIPC__CELL_WRITING, SHMIPC__CELL_DONE, SHMIPC__CELL_FAILED };
enum { SHMIPC__CELL_INLINE = 88 };
#define SHMIPC__CELL_ABANDONED ((uint64_t)1 << 27)

typedef struct shmipc__cell {
    uint64_t word;
    uint32_t len, tag;
    uint64_t nook[2];
    uint32_t bell, reserved;
    unsigned char data[SHMIPC__CELL_INLINE];
} shmipc__cell;
SHMIPC__STATIC_ASSERT(sizeof(shmipc__cell) == 128 && offsetof(shmipc__cell, data) == 40, "layout of a cell");

SHMIPC__INLINE uint64_t shmipc__cell_word(uint64_t id, uint32_t state, uint32_t requester, uint32_t replier)
{
    return id << 28 | (uint64_t)state << 24 | (uint64_t)requester << 12 | replier;
}
SHMIPC__INLINE uint64_t shmipc__cell_id(uint64_t w) { return w >> 28; }
SHMIPC__INLINE uint32_t shmipc__cell_state(uint64_t w) { return (uint32_t)(w >> 24 & 7); }
SHMIPC__INLINE uint32_t shmipc__cell_requester(uint64_t w) { return (uint32_t)(w >> 12 & 4095); }
SHMIPC__INLINE uint32_t shmipc__cell_replier(uint64_t w) { return (uint32_t)(w & 4095); }
/* The same request in another state. */
SHMIPC__INLINE uint64_t shmipc__cell_become(uint64_t w, uint32_t state)
{
    return shmipc__cell_word(shmipc__cell_id(w), state, state == SHMIPC__CELL_FREE ? 0 : shmipc__cell_requester(w), 0);
}
SHMIPC__INLINE uint32_t shmipc__cells_for(uint32_t capacity) { return 2 * capacity; }

/* A subscriber's reader of one lane. */
typedef struct shmipc__feed {
    shmipc_lane_reader reader;
    uint64_t skipped; /* by `latest` and topics */
} shmipc__feed;

struct shmipc_socket {
    shmipc__dependent dependent; /* first, so that the context finds the socket */
    shmipc_ctx *ctx;
    shmipc_segment *segment;
    shmipc__channel *channel;
    shmipc__place *place;
    shmipc__place stats; /* what we wrote there last */
    uint32_t role, index, views, closing;
    uint64_t params, max_message;
    uint32_t depth, history, latest, wait, interruptible, name_len;
    shmipc__blocks blocks;
    shmipc__bells bells;
    shmipc__waiter waiter;
    int has_waiter, probes;
    int post; /* the descriptor of shmipc_fd, or -1 */
    uint32_t post_bell;
    uint32_t row;   /* messages received without an empty look between them */
    uint32_t idle;  /* slices in a row that brought nothing */
    uint32_t swept; /* where the next sweep of a few begins */
    int64_t swept_ns;
    shmipc_aead aead;
    int sealed;
    unsigned char nonce[SHMIPC__SEAL_NONCE]; /* 16 bytes drawn at open, then a counter */
    unsigned char *scratch;                  /* private memory for sealed loans and views */
    size_t scratch_len;
    int (*stop)(void *arg);
    void *stop_arg;
    unsigned char *topics; /* length, bytes, length, bytes ... */
    uint32_t topic_count;
    uint32_t loaned, loan_chunk;
    uint64_t loan_word; /* PUSH, REQ: the chunk that is out on loan; REP: the cell's word, when its block is */
    shmipc_lane_writer writer; /* PUB */
    shmipc__feed **feeds;      /* SUB */
    uint32_t feed_count, feed_at, feed_burst, joined; /* joined: lanes that were there when we came */
    shmipc_queue queue;        /* PUSH, PULL, REQ, REP */
    int has_queue;
    shmipc__cell *cells;  /* REQ, REP */
    uint32_t cell_count, cell;
    uint64_t cell_word;       /* REQ: of the request in progress, 0 without */
    shmipc_queue_msg pending; /* REP: data NULL without */
    uint64_t pending_id;
    uint32_t pending_cell, looked;
};

static int shmipc__socket_fail(shmipc_socket *s, int rc, const char *what)
{
    return shmipc__fail(s->ctx, rc, "%s on \"%s\": %s", what, s->segment ? s->segment->name : "?", shmipc_strerror(rc));
}

/* ---- the root ---- */

static uint64_t shmipc__channel_blocks_at(uint32_t capacity)
{
    return (offsetof(shmipc__channel, places) + (uint64_t)capacity * sizeof(shmipc__place) + 65535) / 65536 * 65536;
}

static int shmipc__channel_reserve(void *arg, uint64_t offset, uint64_t len)
{
    shmipc_segment *s = (shmipc_segment *)arg;
    return shmipc_segment_reserve(s, shmipc__channel_blocks_at(s->head.capacity) + offset, len);
}
static int shmipc__channel_punch(void *arg, uint64_t offset, uint64_t len)
{
    shmipc_segment *s = (shmipc_segment *)arg;
    return shmipc_segment_punch(s, shmipc__channel_blocks_at(s->head.capacity) + offset, len);
}

/* The region of a validated segment, for one thread. Blocks are owned by attachments, counted from 1. What the root
 * says may change at any time: the size follows from our own copy of the segment's head, and the file must reach to
 * where the extents begin, so that no descriptor or block word lies behind its end. */
static int shmipc__channel_region(shmipc_segment *s, shmipc__channel *c, shmipc__blocks *b, int make)
{
    void *last;
    int rc;
    memset(b, 0, sizeof *b);
    b->base = (unsigned char *)c + shmipc__channel_blocks_at(s->head.capacity);
    b->size = s->head.max_bytes - s->head.area - shmipc__channel_blocks_at(s->head.capacity);
    b->extents = shmipc__load_relaxed_u32(&c->extents);
    b->owner = s->index + 1;
    b->reserve = shmipc__channel_reserve;
    b->punch = shmipc__channel_punch;
    b->arg = s;
    rc = shmipc__blocks_open(b, make);
    if (rc || make) return rc;
    return shmipc_segment_at(s, shmipc__channel_blocks_at(s->head.capacity) + b->data - 1, 1, &last);
}

static int shmipc__channel_at(shmipc_segment *s, shmipc__channel **c)
{
    void *at;
    int rc = shmipc_segment_at(s, 0, shmipc__channel_blocks_at(s->head.capacity) + sizeof(shmipc__region), &at);
    if (!rc) *c = (shmipc__channel *)at;
    return rc;
}

/* Runs before anybody else can see the segment; its size so far is that of the root. */
static int shmipc__channel_init(shmipc_segment *s, void *arg)
{
    shmipc__channel *c = (shmipc__channel *)(void *)(s->base + s->head.area);
    shmipc__blocks b;
    int rc;
    (void)arg;
    shmipc__store_relaxed_u64(&c->blocks_at, shmipc__channel_blocks_at(s->head.capacity));
    shmipc__store_relaxed_u64(&c->blocks_size,
                              s->head.max_bytes - s->head.area - shmipc__channel_blocks_at(s->head.capacity));
    shmipc__store_relaxed_u32(&c->extents, SHMIPC__EXTENTS);
    shmipc__store_release_u64(&c->stamp, SHMIPC__CHANNEL_STAMP);
    rc = shmipc__channel_region(s, c, &b, 1);
    return rc ? rc : shmipc__channel_reserve(s, b.data - 4096, 4096); /* the file reaches to the extents: a hole */
}

static int shmipc__channel_validate(shmipc_segment *s)
{
    uint64_t at = shmipc__channel_blocks_at(s->head.capacity), size;
    shmipc__channel *c;
    if (shmipc__channel_at(s, &c)) return SHMIPC_ECORRUPT;
    size = shmipc__load_relaxed_u64(&c->blocks_size);
    if (shmipc__load_acquire_u64(&c->stamp) != SHMIPC__CHANNEL_STAMP || shmipc__load_relaxed_u64(&c->blocks_at) != at ||
        size > s->head.max_bytes || size != s->head.max_bytes - s->head.area - at) return SHMIPC_ECORRUPT;
    return shmipc__load_relaxed_u32(&c->extents) < 1u << 20 ? SHMIPC_OK : SHMIPC_ECORRUPT;
}

/* ---- parameters: one word, decided once ---- */

#define SHMIPC__PARAMS_SET ((uint64_t)1 << 63)
#define SHMIPC__PARAMS_SEALED ((uint64_t)1 << 62)
#define SHMIPC__PARAMS_MESSAGE (((uint64_t)1 << 40) - 1)

static uint32_t shmipc__depth_shift(uint32_t depth)
{
    uint32_t shift = 0;
    while ((1u << shift) < depth) shift++;
    return shift < 2 ? 2 : shift;
}

static uint64_t shmipc__params_make(const shmipc_socket *s, uint32_t depth, uint64_t max_message)
{
    uint32_t usual = s->role <= SHMIPC_SUB ? 64u : s->role <= SHMIPC_PULL ? 1024u : 256u;
    return SHMIPC__PARAMS_SET | (s->sealed ? SHMIPC__PARAMS_SEALED : 0) |
           (uint64_t)shmipc__depth_shift(depth ? depth : usual) << 56 | (max_message ? max_message : (uint64_t)1 << 24);
}

static int shmipc__params_differ(shmipc_socket *s, const char *what, uint64_t theirs, uint64_t ours)
{
    return shmipc__fail(s->ctx, SHMIPC_EMISMATCH,
                        "channel \"%s\" has %s %llu, this socket asks for %llu: give the same, or 0 "
                        "to adopt the channel's",
                        s->segment->name, what, (unsigned long long)theirs, (unsigned long long)ours);
}

SHMIPC__INLINE uint32_t shmipc__params_depth(uint64_t word) { return 1u << (word >> 56 & 31); }
static int shmipc__params_sound(uint64_t word)
{
    uint32_t depth = shmipc__params_depth(word);
    uint64_t max_message = word & SHMIPC__PARAMS_MESSAGE;
    return (word & SHMIPC__PARAMS_SET) && depth >= 4 && depth <= SHMIPC__MAX_DEPTH && max_message &&
           max_message <= SHMIPC__MAX_MESSAGE;
}

/* Compares what this socket asked for with what the channel has, and adopts it. */
static int shmipc__params_adopt(shmipc_socket *s, uint64_t word)
{
    uint32_t depth = shmipc__params_depth(word);
    uint64_t max_message = word & SHMIPC__PARAMS_MESSAGE;
    if (!shmipc__params_sound(word)) return shmipc__socket_fail(s, SHMIPC_ECORRUPT, "reading the parameters");
    if (s->depth && 1u << shmipc__depth_shift(s->depth) != depth)
        return shmipc__params_differ(s, "depth", depth, s->depth);
    if (s->max_message && s->max_message != max_message) {
        return shmipc__params_differ(s, "max_message", max_message, s->max_message);
    }
    if (s->sealed != !!(word & SHMIPC__PARAMS_SEALED)) {
        return shmipc__fail(s->ctx, SHMIPC_EMISMATCH, "channel \"%s\" is %s, this socket is %s", s->segment->name,
                            s->sealed ? "in clear" : "sealed", s->sealed ? "opened with an aead" : "opened without");
    }
    s->depth = depth;
    s->max_message = max_message;
    s->params = word;
    return SHMIPC_OK;
}

/* Adopts the channel's parameters; decides them if nobody has and `decide` says so. SHMIPC_EAGAIN: still undecided. */
static int shmipc__params_agree(shmipc_socket *s, int decide)
{
    uint64_t *word = &s->channel->params, seen = shmipc__load_acquire_u64(word); /* [C1] */
    if (s->params) return SHMIPC_OK;
    if (!seen) {
        uint64_t ours = shmipc__params_make(s, s->depth, s->max_message);
        if (!decide) return SHMIPC_EAGAIN;
        if (shmipc__cas_acqrel_u64(word, &seen, ours)) seen = ours; /* [C1] */
    }
    return shmipc__params_adopt(s, seen);
}

/* ---- memory that the root names ---- */

static int shmipc__alive_index(void *segment, uint32_t index)
{
    return shmipc_segment_alive((shmipc_segment *)segment, index) != 0; /* not found out: alive */
}

/* A block that a peer named, bounds checked against the file. */
static int shmipc__block_reach(shmipc_segment *s, shmipc__blocks *b, uint64_t handle, uint64_t least, void **at,
                               uint64_t *size)
{
    uint64_t offset;
    void *seen;
    int rc = shmipc__block_at(b, handle, at, size);
    if (rc) return SHMIPC_ECORRUPT;
    offset = (uint64_t)((unsigned char *)*at - b->base) + shmipc__channel_blocks_at(s->head.capacity);
    if (*size < least || shmipc_segment_at(s, offset, least ? least : 1, &seen)) return SHMIPC_ECORRUPT;
    return SHMIPC_OK;
}

/* Puts a block of ours under a name, unless another was faster: then it is freed. The handle that is there now. */
static int shmipc__block_publish(shmipc_socket *s, uint64_t *name, uint64_t *handle)
{
    uint64_t seen = 0;
    if (shmipc__cas_acqrel_u64(name, &seen, *handle)) { /* [C1] */
        (void)shmipc__block_pass(&s->blocks, *handle, s->blocks.owner, 0);
        return 1;
    }
    (void)shmipc__block_free(&s->blocks, *handle, s->blocks.owner);
    *handle = seen;
    return 0;
}

/* ---- lanes and queues in blocks ---- */

enum { SHMIPC__LANE_INLINE_MAX = 304, SHMIPC__QUEUE_MAX = 304, SHMIPC__QUEUE_NOOK = 288, SHMIPC__BUDGET = 4 };

static int shmipc__lane_plan(uint32_t depth, uint32_t capacity, shmipc_lane_config *c, shmipc_lane_sizes *sizes)
{
    shmipc_lane_config_init(c);
    c->depth = depth;
    c->inline_max = SHMIPC__LANE_INLINE_MAX;
    c->chunk_max = SHMIPC__LANE_INLINE_MAX + 16; /* a chunk holds a nook and a length */
    c->records = (capacity + 1) / 2;
    c->budget = SHMIPC__BUDGET;
    while (depth + c->spare + c->records * (SHMIPC__BUDGET + 1) > 65534) c->records /= 2;
    return shmipc_lane_measure(c, sizes);
}

static int shmipc__lane_place(shmipc_segment *s, shmipc__blocks *b, uint32_t depth, uint64_t handle,
                              shmipc_lane_env *env)
{
    shmipc_lane_config c;
    shmipc_lane_sizes sizes;
    uint64_t got;
    void *at;
    int rc = shmipc__lane_plan(depth, s->head.capacity, &c, &sizes);
    if (!rc) rc = shmipc__block_reach(s, b, handle, sizes.bytes + sizes.chunk_bytes, &at, &got);
    if (rc) return rc;
    env->mem = at;
    env->bytes = (size_t)sizes.bytes;
    env->chunks = (unsigned char *)at + sizes.bytes;
    env->chunk_bytes = (size_t)sizes.chunk_bytes;
    env->alive = shmipc__alive_index;
    env->reserve = NULL; /* the chunks are there from the start: the block holds them */
    env->arg = s;
    env->owner = s->index;
    env->pad = 0;
    return SHMIPC_OK;
}

static void shmipc__queue_plan(uint32_t depth, uint32_t capacity, uint32_t policy, shmipc_queue_config *c)
{
    c->slots = depth;
    c->chunks = depth + 2 * capacity + 64;
    c->max_message = SHMIPC__QUEUE_MAX;
    c->policy = policy;
}

/* In a chunk: the word that names its block; in a lane's it lies in the line of the head, with the length beside it. */
SHMIPC__INLINE uint64_t *shmipc__queue_nook(const shmipc_queue *q, uint32_t c)
{
    return shmipc__queue_chunk(q, c) + 2 + SHMIPC__QUEUE_NOOK / 8;
}
SHMIPC__INLINE uint64_t *shmipc__lane_nook(const shmipc_lane_map *g, uint32_t c)
{
    return (uint64_t *)(void *)shmipc__lane_chunk(g, c) + 1;
}

/* ---- notices: a datagram for who sleeps in poll, epoll, select or an event loop ----
 *
 * A socket file in the scope's directory, named by life and bell; reached through the directory's descriptor, because a
 * path may be too long for a socket address. Removed at close, or by a sweep of the directory. */

#if defined(__linux__) && !defined(SHMIPC_OS_HEADER)

static void shmipc__post_address(shmipc_ctx *ctx, uint64_t life, uint32_t bell, struct sockaddr_un *a)
{
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    snprintf(a->sun_path, sizeof a->sun_path, "/proc/self/fd/%ld/" SHMIPC__POST_PREFIX "%016llx-%08lx",
             (long)ctx->dir.file, (unsigned long long)life, (unsigned long)bell);
}

static int shmipc__post_socket(void) { return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); }

/* A full buffer is as good as a notice: one is there. */
static void shmipc__post_send(void *arg, uint32_t bell, uint64_t owner)
{
    struct sockaddr_un a;
    int fd = shmipc__post_socket();
    if (fd < 0) return;
    shmipc__post_address((shmipc_ctx *)arg, owner, bell, &a);
    (void)!sendto(fd, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT, (const struct sockaddr *)(const void *)&a, sizeof a);
    close(fd);
}

static int shmipc__post_open(shmipc_ctx *ctx, uint32_t bell, int *out)
{
    struct sockaddr_un a;
    int fd = shmipc__post_socket(), rc;
    if (fd < 0) return shmipc__os_error(errno);
    shmipc__post_address(ctx, ctx->life, bell, &a);
    (void)unlink(a.sun_path); /* of an earlier socket of ours that had this bell */
    rc = bind(fd, (const struct sockaddr *)(const void *)&a, sizeof a) ? shmipc__os_error(errno) : SHMIPC_OK;
    if (!rc && ctx->shared && chmod(a.sun_path, 0660)) rc = shmipc__os_error(errno); /* the group sends, too */
    if (rc) close(fd);
    else *out = fd;
    return rc;
}

static void shmipc__post_drain(int fd)
{
    char byte;
    int i;
    for (i = 0; i < 1024 && recv(fd, &byte, 1, MSG_DONTWAIT) >= 0; i++) continue;
}

static void shmipc__post_close(shmipc_ctx *ctx, uint32_t bell, int fd)
{
    struct sockaddr_un a;
    shmipc__post_address(ctx, ctx->life, bell, &a);
    (void)unlink(a.sun_path);
    close(fd);
}

static void shmipc__post_forget(int fd) { close(fd); }

#else

static void shmipc__post_send(void *arg, uint32_t bell, uint64_t owner) { (void)arg, (void)bell, (void)owner; }
static int shmipc__post_open(shmipc_ctx *ctx, uint32_t bell, int *out)
{
    return (void)ctx, (void)bell, (void)out, SHMIPC_ENOTSUP;
}
static void shmipc__post_drain(int fd) { (void)fd; }
static void shmipc__post_close(shmipc_ctx *ctx, uint32_t bell, int fd) { (void)ctx, (void)bell, (void)fd; }
static void shmipc__post_forget(int fd) { (void)fd; }

#endif

static int shmipc__bells_of(shmipc_ctx *ctx, shmipc__bells *bells)
{
    int rc = shmipc__ctx_bells(ctx, bells);
    bells->post = shmipc__post_send;
    return rc;
}

/* ---- what a sweep gives back ---- */

typedef struct shmipc__dead {
    shmipc_segment *segment;
    shmipc__channel *channel;
    shmipc__blocks blocks;
    uint32_t index, depth;
    uint64_t life;
    shmipc_queue queue;
    int has_queue;
    shmipc__cell *cells;
    uint32_t cell_count;
    int changed;
} shmipc__dead;

static int shmipc__dead_still(void *arg)
{
    shmipc__dead *d = (shmipc__dead *)arg;
    return shmipc_segment_holds(d->segment, d->index, d->life);
}

/* For rings, which ask about owners: the dead one is dead as long as the attachment is his, and all others live. */
static int shmipc__dead_alive(void *arg, uint32_t owner)
{
    return owner != ((shmipc__dead *)arg)->index || !shmipc__dead_still(arg);
}

static int shmipc__dead_lane(shmipc__dead *d, uint32_t i, shmipc_lane_env *env)
{
    uint64_t handle = shmipc__load_acquire_u64(&d->channel->lanes[i]); /* [C1] */
    int rc;
    if (!handle) return SHMIPC_EAGAIN;
    rc = shmipc__lane_place(d->segment, &d->blocks, d->depth, handle, env);
    env->alive = shmipc__dead_alive;
    env->arg = d;
    return rc;
}

static int shmipc__dead_published_lanes(shmipc__dead *d, uint64_t handle)
{
    shmipc_lane_env env;
    shmipc_lane_map g;
    uint32_t i, c;
    int rc;
    for (i = 0; i < SHMIPC__LANES && (rc = shmipc__dead_lane(d, i, &env)) != SHMIPC_EAGAIN; i++) {
        if (rc || shmipc__lane_open(&env, &g)) continue;
        for (c = 0; c < g.n_chunks; c++) {
            if (shmipc__load_relaxed_u64(shmipc__lane_nook(&g, c)) == handle) return 1;
        }
    }
    return 0;
}

/* Is the block named by root, spare or nook? */
static int shmipc__dead_published(void *arg, uint64_t handle)
{
    shmipc__dead *d = (shmipc__dead *)arg;
    uint32_t i;
    if (shmipc__load_acquire_u64(&d->channel->queue) == handle) return 1;
    if (shmipc__load_acquire_u64(&d->channel->cells) == handle) return 1;
    for (i = 0; i < SHMIPC__SPARES; i++) {
        if (shmipc__load_acquire_u64(&d->channel->spare[i]) == handle) return (int)SHMIPC__OWNER_SPARE;
    }
    for (i = 0; i < SHMIPC__LANES; i++) { /* the first that is empty is the last */
        uint64_t lane = shmipc__load_acquire_u64(&d->channel->lanes[i]);
        if (lane == handle) return 1;
        if (!lane) break;
    }
    for (i = 0; d->has_queue && i < d->queue.config.chunks; i++) {
        if (shmipc__load_relaxed_u64(shmipc__queue_nook(&d->queue, i)) == handle) return 1;
    }
    for (i = 0; i < d->cell_count; i++) {
        if (shmipc__load_relaxed_u64(&d->cells[i].nook[0]) == handle) return 1;
    }
    return shmipc__dead_published_lanes(d, handle);
}

/* Finds the rings and cells of the channel, as far as they are there. */
static int shmipc__dead_open(shmipc__dead *d)
{
    uint64_t params, handle, size;
    shmipc_queue_config c;
    void *at;
    int rc = shmipc__channel_at(d->segment, &d->channel);
    if (!rc) rc = shmipc__channel_region(d->segment, d->channel, &d->blocks, 0);
    if (rc) return rc;
    params = shmipc__load_acquire_u64(&d->channel->params); /* [C1] */
    if (!params) return SHMIPC_OK;
    if (!shmipc__params_sound(params)) return SHMIPC_ECORRUPT;
    d->depth = shmipc__params_depth(params);
    handle = shmipc__load_acquire_u64(&d->channel->queue); /* [C1] */
    if (handle) {
        uint64_t bytes;
        shmipc__queue_plan(d->depth, d->segment->head.capacity, 0, &c);
        rc = shmipc_queue_size(&c, &bytes);
        if (!rc) rc = shmipc__block_reach(d->segment, &d->blocks, handle, bytes, &at, &size);
        if (!rc) rc = shmipc_queue_attach(&d->queue, at, bytes, d->segment->index, shmipc__dead_alive, d);
        if (!rc && d->queue.config.max_message != SHMIPC__QUEUE_MAX) rc = SHMIPC_ECORRUPT;
        if (rc) return rc;
        d->has_queue = 1;
    }
    handle = shmipc__load_acquire_u64(&d->channel->cells); /* [C1] */
    if (handle) {
        uint32_t n = shmipc__cells_for(d->segment->head.capacity);
        rc = shmipc__block_reach(d->segment, &d->blocks, handle, (uint64_t)n * sizeof(shmipc__cell), &at, &size);
        if (rc) return rc;
        d->cells = (shmipc__cell *)at;
        d->cell_count = n;
    }
    return SHMIPC_OK;
}

static void shmipc__bells_ring_one(shmipc_ctx *ctx, uint32_t bell)
{
    shmipc__bells bells;
    if (bell && shmipc__bells_of(ctx, &bells) == SHMIPC_OK) (void)shmipc__bell_ring(bells, bell - 1);
}

/* A request that its replier will not answer any more. Only the requester can come in between, to give it up. */
static void shmipc__cell_fail(shmipc_ctx *ctx, shmipc__cell *cell, uint64_t seen)
{
    uint64_t given_up = seen | SHMIPC__CELL_ABANDONED, failed = shmipc__cell_become(seen, SHMIPC__CELL_FAILED);
    if (seen != given_up && shmipc__cas_acqrel_u64(&cell->word, &seen, failed)) {
        shmipc__fence_seq_cst(); /* fence S of >>wait */
        shmipc__bells_ring_one(ctx, shmipc__load_relaxed_u32(&cell->bell));
    } else if (seen == given_up) {
        (void)shmipc__cas_acqrel_u64(&cell->word, &seen, shmipc__cell_become(seen, SHMIPC__CELL_FREE));
    }
}

/* The dead one wants no reply any more; a replier at it may change the cell a few times meanwhile. */
static void shmipc__dead_requester(shmipc__dead *d, uint64_t *word)
{
    uint64_t w = shmipc__load_acquire_u64(word), to;
    uint32_t tries;
    for (tries = 0; tries < 16; tries++) {
        uint32_t state = shmipc__cell_state(w);
        if (state == SHMIPC__CELL_FREE || shmipc__cell_requester(w) != d->index || w & SHMIPC__CELL_ABANDONED) return;
        if (!shmipc__dead_still(d)) return; /* it is the cell of his successor */
        to = state == SHMIPC__CELL_WRITING ? w | SHMIPC__CELL_ABANDONED : shmipc__cell_become(w, SHMIPC__CELL_FREE);
        if (shmipc__cas_acqrel_u64(word, &w, to)) return;
    }
}

/* The dead one's part in reply cells: as requester he wants nothing any more, as replier he will not finish. */
static void shmipc__dead_cells(shmipc__dead *d)
{
    uint32_t i;
    for (i = 0; i < d->cell_count; i++) {
        uint64_t w = shmipc__load_acquire_u64(&d->cells[i].word);
        if (shmipc__cell_state(w) == SHMIPC__CELL_WRITING && shmipc__cell_replier(w) == d->index &&
            shmipc__dead_still(d)) shmipc__cell_fail(d->segment->ctx, &d->cells[i], w);
        shmipc__dead_requester(d, &d->cells[i].word);
    }
}

/* Header of a request, before its payload. */
typedef struct shmipc__request {
    uint64_t id;
    uint32_t cell, requester;
} shmipc__request;

static void shmipc__dead_report(void *arg, const shmipc_queue_msg *m)
{
    shmipc__dead *d = (shmipc__dead *)arg;
    shmipc__request r;
    uint64_t w;
    shmipc__copy_out(&r, m->data, sizeof r);
    if (r.cell >= d->cell_count) return;
    w = shmipc__load_acquire_u64(&d->cells[r.cell].word);
    if (shmipc__cell_id(w) == r.id && shmipc__cell_state(w) == SHMIPC__CELL_WAITING) {
        shmipc__cell_fail(d->segment->ctx, &d->cells[r.cell], w);
    }
}

static void shmipc__wake_all(shmipc_ctx *ctx, shmipc__gate *gate)
{
    shmipc__bells bells;
    shmipc__fence_seq_cst(); /* fence S */
    if ((uint32_t)shmipc__load_relaxed_u64(&gate->summary) && shmipc__bells_of(ctx, &bells) == SHMIPC_OK) {
        (void)shmipc__gate_wake(gate, bells, SHMIPC__WAKE_ALL);
    }
}

/* Who sweeps to find a place for himself has no index yet: he may change words, but own nothing on the way, for no
 * sweep would know whether he lives. What needs an owner, requests to be reported, is left to those attached. */
static int shmipc__dead_placeless(shmipc__dead *d)
{
    uint32_t c;
    d->blocks.owner = SHMIPC__PLACELESS;
    if (!d->has_queue) return SHMIPC_OK;
    d->queue.owner = d->segment->head.capacity;
    for (c = 0; d->queue.config.policy == SHMIPC_QUEUE_REPORT && c < d->queue.config.chunks; c++) {
        uint64_t w = shmipc__load_acquire_u64(shmipc__queue_chunk(&d->queue, c));
        if ((w & (SHMIPC__QUEUE_STATE | SHMIPC__QUEUE_NOBODY)) == (SHMIPC__QUEUE_HELD | d->index)) return SHMIPC_EBUSY;
    }
    return SHMIPC_OK;
}

/* Blocks first: a chunk that is given back may be filled anew, and its nook replaced, at once. */
static int shmipc__channel_sweep(shmipc_segment *s, uint32_t index, uint64_t life)
{
    shmipc__block_sweeper sweeper = {shmipc__dead_still, shmipc__dead_published, NULL};
    shmipc_lane_env env;
    shmipc__dead d;
    uint32_t i;
    int rc;
    if (index == s->index && s->attached) return SHMIPC_OK; /* closing gave all back */
    memset(&d, 0, sizeof d);
    d.segment = s;
    d.index = index;
    d.life = life;
    sweeper.arg = &d;
    rc = shmipc__dead_open(&d);
    if (!rc && !s->attached) rc = shmipc__dead_placeless(&d);
    if (!rc) rc = shmipc__blocks_sweep(&d.blocks, index + 1, &sweeper);
    if (rc) return rc;
    for (i = 0; d.depth && i < SHMIPC__LANES && (rc = shmipc__dead_lane(&d, i, &env)) != SHMIPC_EAGAIN; i++) {
        if (!rc) rc = shmipc_lane_sweep(&env, index);
        if (rc < 0 && rc != SHMIPC_EBUSY) return rc;
    }
    shmipc__dead_cells(&d);
    if (d.has_queue) {
        rc = shmipc_queue_sweep(&d.queue, index, shmipc__dead_report, &d);
        if (rc < 0 && rc != SHMIPC_EBUSY) return rc;
        shmipc__wake_all(s->ctx, &d.channel->in);
        shmipc__wake_all(s->ctx, &d.channel->out);
    }
    return SHMIPC_OK;
}

/* 1: nothing is queued that must outlive its makers. */
static int shmipc__channel_drained(shmipc_segment *s)
{
    shmipc_queue_stats st;
    shmipc__dead d;
    uint32_t i;
    memset(&d, 0, sizeof d);
    d.segment = s;
    d.index = 0xffffffffu;
    if (shmipc__dead_open(&d) || !d.has_queue || shmipc_queue_get_stats(&d.queue, &st)) return 1;
    if (st.held || st.returned) return 0;
    for (i = 0; i < d.queue.config.slots; i++) {
        uint32_t c = (uint32_t)(shmipc__load_acquire_u64(&d.queue.slot[i]) & SHMIPC__QUEUE_CHUNK) - 1u;
        if (c >= d.queue.config.chunks) continue;
        if ((shmipc__load_acquire_u64(shmipc__queue_chunk(&d.queue, c)) & SHMIPC__QUEUE_STATE) == SHMIPC__QUEUE_FILLING)
            return 0;
    }
    return 1;
}

static int shmipc__channel_dump(shmipc_segment *s, void (*line)(void *arg, const char *text), void *arg)
{
    static const char *const roles[] = {"-", "pub", "sub", "push", "pull", "req", "rep"};
    shmipc__channel *c;
    uint64_t params;
    uint32_t i;
    char text[200];
    int rc = shmipc__channel_at(s, &c);
    if (rc) return rc;
    params = shmipc__load_acquire_u64(&c->params);
    snprintf(text, sizeof text, "depth %u, max_message %llu%s", params ? 1u << (params >> 56 & 31) : 0u,
             (unsigned long long)(params & SHMIPC__PARAMS_MESSAGE), params & SHMIPC__PARAMS_SEALED ? ", sealed" : "");
    line(arg, text);
    for (i = 0; i < s->head.capacity; i++) {
        shmipc__place *p = &c->places[i];
        uint32_t role = shmipc__load_relaxed_u32(&p->role);
        uint64_t life = shmipc__load_acquire_u64(&shmipc__entry_at(s, i)->life);
        if (!life || role > SHMIPC_REP || shmipc__load_relaxed_u64(&p->life) != life) continue;
        snprintf(text, sizeof text, "%u %s pid %u sent %llu received %llu dropped %llu", (unsigned)i, roles[role],
                 (unsigned)shmipc__load_relaxed_u32(&p->pid), (unsigned long long)shmipc__load_relaxed_u64(&p->sent),
                 (unsigned long long)shmipc__load_relaxed_u64(&p->received),
                 (unsigned long long)shmipc__load_relaxed_u64(&p->dropped));
        line(arg, text);
    }
    return SHMIPC_OK;
}

static const shmipc_kind shmipc__channel_kinds[] = {
    {SHMIPC__KIND_PUBSUB, SHMIPC__CHANNEL_LAYOUT, "pub/sub", shmipc__channel_validate, shmipc__channel_sweep,
     shmipc__channel_drained, shmipc__channel_dump},
    {SHMIPC__KIND_PUSHPULL, SHMIPC__CHANNEL_LAYOUT, "push/pull", shmipc__channel_validate, shmipc__channel_sweep,
     shmipc__channel_drained, shmipc__channel_dump},
    {SHMIPC__KIND_REQREP, SHMIPC__CHANNEL_LAYOUT, "req/rep", shmipc__channel_validate, shmipc__channel_sweep,
     shmipc__channel_drained, shmipc__channel_dump},
};

SHMIPC_API const shmipc_kind *const *shmipc_socket_kinds(uint32_t *count)
{
    static const shmipc_kind *const kinds[] = {&shmipc__channel_kinds[0], &shmipc__channel_kinds[1],
                                               &shmipc__channel_kinds[2], &shmipc__bells_kind};
    if (count) *count = sizeof kinds / sizeof kinds[0];
    return kinds;
}

/* ---------------------------------------------------------------------------------------------
 * >>sleep  One loop for all that waits
 * ------------------------------------------------------------------------------------------- */

/* The slow half of ringing a gate. Without bells (no descriptor left) sleepers look by themselves, once a slice. */
static SHMIPC__NOINLINE void shmipc__socket_wake(shmipc_socket *s, shmipc__gate *gate, uint32_t most)
{
    if (!s->bells.at && shmipc__bells_of(s->ctx, &s->bells)) return;
    (void)shmipc__gate_wake(gate, s->bells, most);
}

/* After each publication. No system call when nobody sleeps. */
SHMIPC__INLINE void shmipc__socket_ring(shmipc_socket *s, shmipc__gate *gate, uint32_t most)
{
    shmipc__fence_seq_cst(); /* fence S of >>wait */
    if (SHMIPC__UNLIKELY((uint32_t)shmipc__load_relaxed_u64(&gate->summary))) shmipc__socket_wake(s, gate, most);
}

static int shmipc__life_lives(void *ctx, uint64_t life) { return shmipc__life_alive((shmipc_ctx *)ctx, life); }

/* The socket's own bell, claimed at its first wait. */
static int shmipc__socket_waiter(shmipc_socket *s)
{
    int rc;
    if (s->has_waiter) return SHMIPC_OK;
    rc = shmipc__bells_of(s->ctx, &s->bells);
    if (rc) return rc;
    rc = shmipc__waiter_open(&s->waiter, s->bells, s->ctx->life, NULL, NULL);
    if (rc == SHMIPC_ETABLE) {
        (void)shmipc__bells_sweep(s->bells, shmipc__life_lives, s->ctx);
        rc = shmipc__waiter_open(&s->waiter, s->bells, s->ctx->life, NULL, NULL);
    }
    if (rc) return shmipc__socket_fail(s, rc, "waiting");
    s->waiter.through_signals = !s->interruptible && !s->stop;
    s->has_waiter = 1;
    return SHMIPC_OK;
}

/* The next few entries that are taken; who begins there next time comes round to all, however few they are. */
static void shmipc__socket_look_after(shmipc_socket *s)
{
    uint32_t i, n = s->segment->head.capacity;
    int left = s->probes;
    for (i = 0; i < n && left; i++) {
        uint32_t at = s->swept;
        s->swept = at + 1 < n ? at + 1 : 0;
        if (!shmipc__load_relaxed_u64(&shmipc__entry_at(s->segment, at)->life)) continue;
        left--;
        (void)shmipc__entry_sweep(s->segment, at);
    }
}

/* After each slice, not before each sleep: is somebody dead, are we still who we were, and is the wait to stop? Looks
 * after a few of the channel's attachments; one that waits for an answer looks at more. A question that the system did
 * not answer ends nothing. */
static int shmipc__socket_tend(shmipc_socket *s, int64_t now)
{
    if (now - s->swept_ns >= SHMIPC__SLICE_NS) {
        int rc = s->idle & 3 ? SHMIPC_OK : shmipc_ctx_check(s->ctx);
        if (rc == SHMIPC_EFORKED || rc == SHMIPC_EOWNERDEAD || rc == SHMIPC_ESTATE) return rc;
        s->swept_ns = now;
        shmipc__socket_look_after(s);
    }
    return s->stop && s->stop(s->stop_arg) ? SHMIPC_EINTR : SHMIPC_OK;
}

/* Looks until it is over; never sleeps. */
static int shmipc__socket_spin(shmipc_socket *s, shmipc__wait_item *items, uint32_t n, int64_t until)
{
    uint32_t i;
    for (;;) {
        int64_t now;
        int rc;
        for (i = 0; i < 256; i++) {
            int found = shmipc__wait_look(items, n);
            if (found) return found;
            shmipc__pause();
        }
        now = shmipc__os_now_ns();
        rc = shmipc__socket_tend(s, now);
        if (rc) return rc;
        if (now >= until) return SHMIPC_ETIMEDOUT;
    }
}

/* Waits until one of the items has a result: SHMIPC_OK, SHMIPC_ETIMEDOUT, SHMIPC_EINTR, or that we are not alive to
 * others any more. All had a first look already. */
static int shmipc__socket_wait(shmipc_socket *s, shmipc__wait_item *items, uint32_t n, int64_t timeout_ns)
{
    int64_t start, now, until, slice;
    uint32_t i;
    int rc;
    for (i = 0; i < n; i++) items[i].result = 0;
    if (timeout_ns == 0) return SHMIPC_ETIMEDOUT;
    now = start = shmipc__os_now_ns();
    until = timeout_ns < 0 || timeout_ns > INT64_MAX - start ? INT64_MAX : start + timeout_ns;
    if (s->wait == SHMIPC_WAIT_SPIN) {
        rc = shmipc__socket_spin(s, items, n, until);
        return rc > 0 ? SHMIPC_OK : rc;
    }
    rc = shmipc__socket_waiter(s);
    if (rc) return rc;
    for (;;) {
        s->waiter.slice_ns = s->idle < 8 ? SHMIPC__SLICE_NS : 2 * SHMIPC__SLICE_NS; /* to wake up costs 30 us */
        slice = until - now < s->waiter.slice_ns ? until - now : s->waiter.slice_ns;
        if (s->wait == SHMIPC_WAIT_SLEEP) s->waiter.spin_ns = 0;
        s->waiter.probed_ns = now; /* one sleep for each slice */
        s->stats.waits++;
        rc = shmipc__wait(&s->waiter, items, n, slice);
        if (rc == SHMIPC_EINTR && !s->interruptible) rc = SHMIPC_ETIMEDOUT; /* it ended the slice, for `stop` to look */
        if (rc != SHMIPC_ETIMEDOUT) break;
        s->idle++;
        now = shmipc__os_now_ns();
        rc = shmipc__socket_tend(s, now);
        if (rc) break;
        rc = SHMIPC_ETIMEDOUT;
        if (now >= until) break;
    }
    shmipc__store_relaxed_u64(&s->place->waits, s->stats.waits);
    if (rc > 0) s->idle = 0;
    return rc > 0 ? SHMIPC_OK : rc;
}

/* Waits for one thing. `look` answers 0 for not yet; else what it answered, or the code that ended the wait. */
static int shmipc__socket_await(shmipc_socket *s, shmipc__gate *gate, int (*look)(void *arg), void *arg,
                                int64_t timeout_ns)
{
    shmipc__wait_item item;
    int rc;
    memset(&item, 0, sizeof item);
    item.gate = gate;
    item.ready = look;
    item.arg = arg;
    rc = shmipc__socket_wait(s, &item, 1, timeout_ns);
    return rc ? rc : item.result;
}

/* ---------------------------------------------------------------------------------------------
 * >>payload  What is sent: data, perhaps sealed, perhaps followed by a topic; small or in a block
 *
 *   in clear     data | topic | its length (1 byte), the last two with SHMIPC__TAG_TOPIC
 *   sealed       nonce 24 | ciphertext | tag of the cipher 16 | topic | its length
 * The cipher binds the sender's tag, the flags and the topic, which travel in clear, as associated data.
 * ------------------------------------------------------------------------------------------- */

typedef struct shmipc__parts {
    const void *data;
    size_t len;
    const void *topic;
    uint32_t topic_len, tag;
} shmipc__parts;

static uint64_t shmipc__parts_size(const shmipc_socket *s, const shmipc__parts *p)
{
    return (uint64_t)p->len + (s->sealed ? SHMIPC__SEAL_BYTES : 0) +
           (p->tag & SHMIPC__TAG_TOPIC ? p->topic_len + 1u : 0);
}

/* Associated data: what travels in clear. */
static size_t shmipc__parts_clear(unsigned char out[264], uint32_t tag, const void *topic, uint32_t topic_len)
{
    uint32_t bound = tag & (SHMIPC__TAG_USER | SHMIPC__TAG_TOPIC | SHMIPC__TAG_SEALED);
    memcpy(out, &bound, 4);
    memcpy(out + 4, &topic_len, 4);
    if (topic_len) memcpy(out + 8, topic, topic_len);
    return 8 + topic_len;
}

static int shmipc__parts_seal(shmipc_socket *s, const shmipc__parts *p, unsigned char *to)
{
    unsigned char clear[264];
    size_t n = shmipc__parts_clear(clear, p->tag, p->topic, p->tag & SHMIPC__TAG_TOPIC ? p->topic_len : 0);
    uint64_t count;
    if (shmipc__ctx_forked(s->ctx)) return SHMIPC_EFORKED; /* a child would use our nonces again */
    memcpy(&count, s->nonce + 16, 8);
    count++;
    memcpy(s->nonce + 16, &count, 8);
    memcpy(to, s->nonce, SHMIPC__SEAL_NONCE);
    return s->aead.seal(s->aead.arg, s->nonce, clear, n, p->data, p->len, to + SHMIPC__SEAL_NONCE);
}

/* Writes the parts to shared memory, parts_size bytes. `in_place`: the data lies there already. */
static int shmipc__parts_write(shmipc_socket *s, const shmipc__parts *p, void *to, int in_place)
{
    unsigned char *end = (unsigned char *)to + p->len, last = (unsigned char)p->topic_len;
    int rc = SHMIPC_OK;
    if (s->sealed) {
        rc = shmipc__parts_seal(s, p, (unsigned char *)to);
        end += SHMIPC__SEAL_BYTES;
    } else if (p->len && !in_place) {
        shmipc__copy_in(to, p->data, p->len);
    }
    if (!(p->tag & SHMIPC__TAG_TOPIC)) return rc;
    if (p->topic_len) shmipc__copy_in(end, p->topic, p->topic_len);
    shmipc__copy_in(end + p->topic_len, &last, 1);
    return rc;
}

/* Takes a message of `size` bytes at `at` apart, as far as its form goes. The topic is not copied. */
static int shmipc__parts_read(shmipc_socket *s, const void *at, uint64_t size, uint32_t tag, shmipc_msg *m)
{
    const unsigned char *bytes = (const unsigned char *)at;
    unsigned char last;
    m->data = at;
    m->len = size;
    m->topic = NULL;
    m->topic_len = 0;
    m->tag = tag & SHMIPC__TAG_USER;
    if (s->sealed != !!(tag & SHMIPC__TAG_SEALED)) return SHMIPC_ECORRUPT;
    if (tag & SHMIPC__TAG_TOPIC) {
        if (size == 0) return SHMIPC_ECORRUPT;
        shmipc__copy_out(&last, bytes + size - 1, 1);
        if (last >= size) return SHMIPC_ECORRUPT;
        m->topic_len = last;
        m->len = size - 1 - last;
        m->topic = bytes + m->len;
    }
    return s->sealed && m->len < SHMIPC__SEAL_BYTES ? SHMIPC_ECORRUPT : SHMIPC_OK;
}

/* Length in clear of a message taken apart. */
SHMIPC__INLINE uint64_t shmipc__parts_len(const shmipc_socket *s, const shmipc_msg *m)
{
    return m->len - (s->sealed ? SHMIPC__SEAL_BYTES : 0);
}

/* Puts the data of a message into buf, opening it if it is sealed. */
static int shmipc__parts_copy(shmipc_socket *s, shmipc_msg *m, uint32_t tag, void *buf)
{
    unsigned char clear[264], nonce[SHMIPC__SEAL_NONCE];
    const unsigned char *at = (const unsigned char *)m->data;
    int rc = SHMIPC_OK;
    if (s->sealed) {
        size_t n = shmipc__parts_clear(clear, tag, m->topic, m->topic_len);
        shmipc__copy_out(nonce, at, sizeof nonce);
        rc = s->aead.open(s->aead.arg, nonce, clear, n, at + SHMIPC__SEAL_NONCE, (size_t)m->len - SHMIPC__SEAL_NONCE,
                          buf);
        if (rc) rc = SHMIPC_ECORRUPT;
    } else if (m->len && buf != m->data) {
        shmipc__copy_out(buf, at, (size_t)m->len);
    }
    m->len = shmipc__parts_len(s, m);
    m->data = buf;
    return rc;
}

/* Private memory of the socket, at least n bytes. */
static int shmipc__scratch(shmipc_socket *s, size_t n)
{
    unsigned char *p;
    if (s->scratch_len >= n) return SHMIPC_OK;
    p = (unsigned char *)realloc(s->scratch, n);
    if (!p) return SHMIPC_ENOMEM;
    s->scratch = p;
    s->scratch_len = n;
    return SHMIPC_OK;
}

/* ---- nooks: who owns the chunk or cell owns what its nook names ---- */

/* Makes the block of a nook ours. Its owner word names nobody, or somebody who died between naming and passing it. */
static int shmipc__nook_seize(shmipc_socket *s, uint64_t handle)
{
    shmipc__extent_view v;
    uint32_t tries, block, owner;
    uint64_t w;
    for (tries = 0; tries < 4; tries++) {
        if (shmipc__block_find(&s->blocks, handle, &v, &block, &w)) return SHMIPC_ECORRUPT;
        owner = shmipc__word_owner(w);
        if (owner && owner != s->blocks.owner && shmipc__alive_index(s->segment, owner - 1)) return SHMIPC_ECORRUPT;
        if (owner == s->blocks.owner || shmipc__block_pass(&s->blocks, handle, owner, s->blocks.owner) == SHMIPC_OK) {
            return SHMIPC_OK;
        }
    }
    return SHMIPC_ECORRUPT;
}

/* How many spare blocks of that size the channel keeps: they spare the page faults of fresh memory. */
SHMIPC__INLINE uint32_t shmipc__spares_for(uint64_t size)
{
    return size <= 65536 ? 16u : size <= UINT64_C(1) << 20 ? 8u : 3u;
}

/* A block of ours that nothing names: kept as a spare, or freed. */
static void shmipc__block_spare(shmipc_socket *s, uint64_t handle, uint64_t size)
{
    uint32_t i;
    for (i = 0; i < shmipc__spares_for(size); i++) {
        uint64_t nothing = 0;
        if (shmipc__load_relaxed_u64(&s->channel->spare[i])) continue;
        if (!shmipc__cas_acqrel_u64(&s->channel->spare[i], &nothing, handle)) continue; /* [C1] */
        (void)shmipc__block_pass(&s->blocks, handle, s->blocks.owner, SHMIPC__OWNER_SPARE);
        return;
    }
    (void)shmipc__block_free(&s->blocks, handle, s->blocks.owner);
}

/* A spare that fits, made ours: first the block, then the word that named it. Spares have an owner word of their own,
 * so that one that meanwhile came under a nook is not mistaken for a spare; it may be a spare in another place by
 * now. */
static int shmipc__spare_take(shmipc_socket *s, uint64_t size, uint64_t *handle)
{
    uint32_t i;
    for (i = 0; i < SHMIPC__SPARES; i++) {
        uint64_t h = shmipc__load_acquire_u64(&s->channel->spare[i]), got; /* [C1] */
        void *at;
        if (!h || shmipc__block_at(&s->blocks, h, &at, &got) || got < size || got / 2 > size) continue;
        if (shmipc__block_pass(&s->blocks, h, SHMIPC__OWNER_SPARE, s->blocks.owner)) continue; /* another's by now */
        *handle = h;
        if (shmipc__cas_acqrel_u64(&s->channel->spare[i], &h, 0)) return 1;
        (void)shmipc__block_pass(&s->blocks, *handle, s->blocks.owner, SHMIPC__OWNER_SPARE);
    }
    return 0;
}

/* Gives all spare blocks back; how many. */
static uint32_t shmipc__spares_drop(shmipc_socket *s)
{
    uint32_t i, n = 0;
    for (i = 0; i < SHMIPC__SPARES; i++) {
        uint64_t h = shmipc__load_acquire_u64(&s->channel->spare[i]), seen = h; /* [C1] */
        if (!h || shmipc__block_pass(&s->blocks, h, SHMIPC__OWNER_SPARE, s->blocks.owner)) continue;
        if (shmipc__cas_acqrel_u64(&s->channel->spare[i], &seen, 0)) {
            (void)shmipc__block_free(&s->blocks, h, s->blocks.owner);
            n++;
        } else { /* a spare in another place by now */
            (void)shmipc__block_pass(&s->blocks, h, s->blocks.owner, SHMIPC__OWNER_SPARE);
        }
    }
    shmipc__blocks_trim(&s->blocks);
    return n;
}

/* Gives up what the nook names. */
static void shmipc__nook_drop(shmipc_socket *s, uint64_t *nook)
{
    uint64_t h = shmipc__load_relaxed_u64(nook), size;
    void *at;
    if (!h) return;
    if (shmipc__nook_seize(s, h) || shmipc__block_at(&s->blocks, h, &at, &size)) {
        shmipc__store_release_u64(nook, 0);
        return;
    }
    shmipc__store_release_u64(nook, 0);
    shmipc__block_spare(s, h, size);
}

static int shmipc__no_memory(shmipc_socket *s, uint64_t size)
{
    return shmipc__fail(s->ctx, SHMIPC_ENOSPC, "no memory for %llu bytes on \"%s\" in %s: read faster, make the file "
                        "system larger (mount -o remount,size=..., docker --shm-size), or open the channel with more "
                        "max_memory",
                        (unsigned long long)size, s->segment->name, s->ctx->path);
}

/* Room for `size` bytes under the nook: the block that is there, if it fits, or another. */
static int shmipc__nook_fit(shmipc_socket *s, uint64_t *nook, uint64_t size, void **at)
{
    uint64_t h = shmipc__load_relaxed_u64(nook), got;
    int rc;
    if (h && shmipc__block_reach(s->segment, &s->blocks, h, size, at, &got) == SHMIPC_OK && got / 4 <= size)
        return SHMIPC_OK;
    if (h) shmipc__nook_drop(s, nook);
    if (!shmipc__spare_take(s, size, &h)) {
        rc = shmipc__block_alloc(&s->blocks, size, &h);
        if (rc == SHMIPC_ENOSPC && shmipc__spares_drop(s)) rc = shmipc__block_alloc(&s->blocks, size, &h);
        if (rc == SHMIPC_ENOSPC || rc == SHMIPC_EMSGSIZE) return shmipc__no_memory(s, size);
        if (rc) return rc;
    }
    shmipc__store_release_u64(nook, h);
    (void)shmipc__block_pass(&s->blocks, h, s->blocks.owner, 0);
    return shmipc__block_reach(s->segment, &s->blocks, h, size, at, &got);
}

/* What a message in a block is: nook, and beside it the length. */
static int shmipc__nook_read(shmipc_socket *s, const uint64_t *nook, void **at, uint64_t *len)
{
    uint64_t h = shmipc__load_relaxed_u64(nook), got;
    *len = shmipc__load_relaxed_u64(nook + 1);
    if (*len > s->max_message + SHMIPC__SEAL_BYTES + 256) return SHMIPC_ECORRUPT;
    return shmipc__block_reach(s->segment, &s->blocks, h, *len, at, &got);
}

/* ---- counting ---- */

SHMIPC__INLINE void shmipc__count_sent(shmipc_socket *s, uint64_t n, uint64_t bytes)
{
    s->stats.sent += n;
    s->stats.bytes_sent += bytes;
    shmipc__store_relaxed_u64(&s->place->sent, s->stats.sent);
    shmipc__store_relaxed_u64(&s->place->bytes_sent, s->stats.bytes_sent);
}
SHMIPC__INLINE void shmipc__count_received(shmipc_socket *s, uint64_t bytes)
{
    s->stats.received++;
    s->stats.bytes_received += bytes;
    shmipc__store_relaxed_u64(&s->place->received, s->stats.received);
    shmipc__store_relaxed_u64(&s->place->bytes_received, s->stats.bytes_received);
}
static void shmipc__count_dropped(shmipc_socket *s, uint64_t total)
{
    s->stats.dropped = total;
    shmipc__store_relaxed_u64(&s->place->dropped, total);
}

/* ---------------------------------------------------------------------------------------------
 * >>pubsub  A lane for each publisher; a subscriber reads all lanes in turn
 *
 * The root's directory of lanes only grows. A publisher takes over a lane that nobody writes, or adds one; numbers go
 * on, so subscribers see no seam. A subscriber joins the lanes that are there when it opens, from now on or with
 * history, and later ones from their first message. Looking at a lane without news costs one load of a line that does
 * not move. A large message lies in a block named by the chunk that the lane publishes: whoever pins the chunk pins
 * the block.
 * ------------------------------------------------------------------------------------------- */

/* Adds a lane to the directory, or finds that the next entry is taken. */
static int shmipc__lane_add(shmipc_socket *s, uint32_t at)
{
    shmipc_lane_config c;
    shmipc_lane_sizes sizes;
    uint64_t handle, got;
    void *mem;
    int rc = shmipc__lane_plan(s->depth, s->segment->head.capacity, &c, &sizes);
    uint64_t all = sizes.bytes + sizes.chunk_bytes, i;
    if (!rc) rc = shmipc__block_alloc(&s->blocks, all, &handle);
    if (rc) return rc;
    rc = shmipc__block_reach(s->segment, &s->blocks, handle, all, &mem, &got);
    if (!rc) rc = shmipc_lane_init(mem, (size_t)sizes.bytes, &c);
    if (rc) {
        (void)shmipc__block_free(&s->blocks, handle, s->blocks.owner);
        return rc;
    }
    for (i = sizes.bytes; i < all; i += 8) shmipc__store_relaxed_u64((uint64_t *)(void *)((unsigned char *)mem + i), 0);
    (void)shmipc__block_publish(s, &s->channel->lanes[at], &handle);
    return SHMIPC_OK;
}

static int shmipc__pub_start(shmipc_socket *s)
{
    shmipc_lane_env env;
    uint32_t i;
    int rc = shmipc__params_agree(s, 1);
    for (i = 0; !rc && i < SHMIPC__LANES; i++) {
        uint64_t handle = shmipc__load_acquire_u64(&s->channel->lanes[i]); /* [C1] */
        if (!handle) rc = shmipc__lane_add(s, i);
        if (rc) return shmipc__socket_fail(s, rc, "making a lane");
        handle = shmipc__load_acquire_u64(&s->channel->lanes[i]);
        rc = shmipc__lane_place(s->segment, &s->blocks, s->depth, handle, &env);
        if (!rc) rc = shmipc_lane_writer_attach(&s->writer, &env);
        if (rc) s->writer.word = 0;
        if (rc != SHMIPC_EBUSY) return rc ? shmipc__socket_fail(s, rc, "joining a lane") : SHMIPC_OK;
        rc = SHMIPC_OK; /* it has a living writer */
    }
    return rc ? rc : shmipc__socket_fail(s, SHMIPC_ETABLE, "finding a lane");
}

/* Gives up the memory of chunks that nobody can see any more. What is published stays. */
static void shmipc__pub_trim(shmipc_socket *s)
{
    uint32_t i;
    shmipc__lane_scan(&s->writer);
    for (i = 0; i < s->writer.n_free && i < s->writer.map.n_chunks; i++) {
        uint32_t c = shmipc__load_relaxed_u32(shmipc__lane_free(&s->writer.map, i));
        if (c < s->writer.map.n_chunks) shmipc__nook_drop(s, shmipc__lane_nook(&s->writer.map, c));
    }
}

/* Do the published messages but the newest hold so much memory, that giving them up could help? */
static int shmipc__pub_could_shed(shmipc_socket *s, uint64_t size)
{
    const shmipc_lane_map *g = &s->writer.map;
    uint64_t held = 0, got;
    uint32_t i;
    void *at;
    for (i = 0; i + 1 < g->depth && held < size; i++) {
        uint64_t pos = s->writer.next - g->depth + i, word = shmipc__load_relaxed_u64(shmipc__lane_slot(g, pos)), h;
        if (shmipc__lane_state(word) != SHMIPC__LANE_CHUNK || shmipc__lane_pos(g, word, pos) != pos) continue;
        h = shmipc__load_relaxed_u64(shmipc__lane_nook(g, (uint32_t)(word & 0xffffu) - 1));
        if (h && shmipc__block_at(&s->blocks, h, &at, &got) == SHMIPC_OK) held += got;
    }
    return held >= size;
}

/* Opens room for `size` bytes: small, in the writer's own; large, in a block that a chunk names. Where memory is full
 * the lane becomes shorter than its depth: its oldest large messages are given up, as if they had been overwritten. */
static int shmipc__pub_room(shmipc_socket *s, uint64_t size, void **at)
{
    uint64_t *nook;
    void *payload;
    int rc = shmipc_lane_loan(
        &s->writer, size <= s->writer.map.inline_max ? (uint32_t)size : s->writer.map.inline_max + 1u, &payload);
    if (rc || size <= s->writer.map.inline_max) {
        if (!rc) *at = payload;
        return rc;
    }
    nook = shmipc__lane_nook(&s->writer.map, s->writer.loan - 1);
    rc = shmipc__nook_fit(s, nook, size, at);
    if (rc == SHMIPC_ENOSPC) {
        shmipc__pub_trim(s);
        rc = shmipc__nook_fit(s, nook, size, at);
    }
    while (rc == SHMIPC_ENOSPC && shmipc__pub_could_shed(s, size) && shmipc__lane_shed(&s->writer)) {
        shmipc__pub_trim(s);
        rc = shmipc__nook_fit(s, nook, size, at);
    }
    if (rc) (void)shmipc_lane_discard(&s->writer);
    return rc;
}

static int shmipc__pub_commit(shmipc_socket *s, uint64_t size, uint32_t tag)
{
    if (s->writer.loan != 0xffffffffu && s->writer.loan) { /* in a block */
        uint64_t *nook = shmipc__lane_nook(&s->writer.map, s->writer.loan - 1);
        shmipc__store_relaxed_u64(nook + 1, size);
        return shmipc_lane_commit(&s->writer, 16, tag | SHMIPC__TAG_LARGE);
    }
    return shmipc_lane_commit(&s->writer, (uint32_t)size, tag);
}

/* Publishes without ringing. */
static int shmipc__pub_put(shmipc_socket *s, const shmipc__parts *p)
{
    uint64_t size = shmipc__parts_size(s, p);
    void *at;
    int rc;
    if (SHMIPC__LIKELY(size == p->len && size <= s->writer.map.inline_max)) {
        return shmipc_lane_send(&s->writer, p->data, (uint32_t)size, p->tag);
    }
    rc = shmipc__pub_room(s, size, &at);
    if (rc) return rc;
    rc = shmipc__parts_write(s, p, at, 0);
    if (!rc) rc = shmipc__pub_commit(s, size, p->tag);
    if (rc) (void)shmipc_lane_discard(&s->writer);
    return rc;
}

/* ---- subscribers ---- */

static int shmipc__lane_written(shmipc_socket *s, const shmipc_lane_map *g)
{
    uint32_t who = (uint32_t)(shmipc__load_acquire_u64(&shmipc__lane_mem_of(g)->wr) & SHMIPC__REC_OWNER);
    return who && shmipc__alive_index(s->segment, who - 1);
}

/* Joins lane i, which is there. `fresh`: it appeared after us, so its first message is meant for us. */
static int shmipc__feed_join(shmipc_socket *s, uint32_t i, int fresh)
{
    uint64_t handle = shmipc__load_acquire_u64(&s->channel->lanes[i]); /* [C1] */
    shmipc_lane_env env;
    shmipc__feed *f, **more;
    uint32_t history;
    int rc = shmipc__lane_place(s->segment, &s->blocks, s->depth, handle, &env);
    if (rc) return rc;
    more = (shmipc__feed **)realloc(s->feeds, (s->feed_count + 1) * sizeof *more);
    if (!more) return SHMIPC_ENOMEM;
    s->feeds = more;
    f = (shmipc__feed *)calloc(1, sizeof *f);
    if (!f) return SHMIPC_ENOMEM;
    rc = shmipc__lane_open(&env, &f->reader.map);
    history = fresh ? s->depth - 1 : !rc && shmipc__lane_written(s, &f->reader.map) ? s->history : 0;
    if (!rc) rc = shmipc_lane_reader_attach(&f->reader, &env, history);
    if (rc == SHMIPC_ETABLE) { /* records of dead subscribers */
        (void)shmipc_segment_sweep(s->segment);
        rc = shmipc_lane_reader_attach(&f->reader, &env, history);
    }
    if (rc) return free(f), rc;
    if (fresh) f->reader.missed = f->reader.next - f->reader.map.depth;
    s->feeds[s->feed_count++] = f;
    return SHMIPC_OK;
}

/* Joins the lanes that appeared. */
static int shmipc__sub_join(shmipc_socket *s, int fresh)
{
    int rc = shmipc__params_agree(s, 0);
    while (!rc && s->feed_count < SHMIPC__LANES && shmipc__load_acquire_u64(&s->channel->lanes[s->feed_count])) {
        rc = shmipc__feed_join(s, s->feed_count, fresh);
    }
    return rc == SHMIPC_EAGAIN ? SHMIPC_OK : rc;
}

/* Views end with the context at the latest. */
static void shmipc__feed_end_views(shmipc__feed *f)
{
    uint32_t i;
    for (i = 1; i <= f->reader.map.budget; i++) {
        /* L8 */
        if (f->reader.pins >> (i - 1) & 1u) shmipc__store_release_u64(SHMIPC__RECORD_HAZARD(f->reader.record, i), 0);
    }
    f->reader.pins = 0;
}

static void shmipc__sub_stop(shmipc_socket *s)
{
    uint32_t i;
    for (i = 0; i < s->feed_count; i++) {
        shmipc__feed_end_views(s->feeds[i]);
        (void)shmipc_lane_reader_detach(&s->feeds[i]->reader);
        free(s->feeds[i]);
    }
    free(s->feeds);
    s->feeds = NULL;
    s->feed_count = 0;
}

static uint64_t shmipc__sub_missed(const shmipc_socket *s)
{
    uint64_t n = 0;
    uint32_t i;
    for (i = 0; i < s->feed_count; i++) n += s->feeds[i]->reader.missed;
    return n;
}

static int shmipc__topic_wanted(const shmipc_socket *s, const void *topic, uint32_t topic_len)
{
    const unsigned char *t = s->topics;
    uint32_t i;
    if (!s->topic_count) return 1;
    for (i = 0; i < s->topic_count; t += 1 + t[0], i++) {
        if (t[0] <= topic_len && memcmp(t + 1, topic ? topic : "", t[0]) == 0) return 1;
    }
    return 0;
}

/* The message was seen and not taken: it comes again. */
static void shmipc__feed_unread(shmipc__feed *f)
{
    f->reader.next--;
    f->reader.received--;
}

static void shmipc__feed_unpin(shmipc__feed *f, shmipc_lane_msg *lm)
{
    if (lm->pin) (void)shmipc_lane_release(&f->reader, lm);
    else shmipc__store_release_u64(SHMIPC__RECORD_HAZARD(f->reader.record, 0), 0); /* L8 */
}

/* How a message is to be delivered: into buf (cap bytes), or in place. */
typedef struct shmipc__want {
    shmipc_socket *socket;
    void *buf;
    size_t cap;
    int view;
    shmipc_msg *msg;
} shmipc__want;

/* The topic, kept in the message: where it lies now will be gone. */
static void shmipc__topic_keep(shmipc_msg *m)
{
    if (!m->topic_len) return;
    shmipc__copy_out(m->room, m->topic, m->topic_len);
    m->topic = m->room;
}

/* Private memory for a sealed message that is wanted in place; release frees it. */
static int shmipc__view_private(shmipc_socket *s, shmipc_msg *m, uint32_t tag)
{
    void *mine = malloc((size_t)m->len + 1);
    int rc = mine ? shmipc__parts_copy(s, m, tag, mine) : SHMIPC_ENOMEM;
    if (rc) return free(mine), rc;
    m->word = (uint64_t)(uintptr_t)mine;
    m->pin = SHMIPC__PIN_PRIVATE;
    return SHMIPC_OK;
}

/* A message that lies in private memory already, from a slot. */
static int shmipc__feed_small(shmipc_socket *s, shmipc__feed *f, const shmipc_lane_msg *lm, const shmipc__want *w)
{
    shmipc_msg *m = w->msg;
    void *buf = w->view ? (void *)m->room : w->buf;
    int rc = shmipc__parts_read(s, lm->data, lm->len, lm->tag, m);
    if (rc) return rc;
    if (!shmipc__topic_wanted(s, m->topic, m->topic_len)) return f->skipped++, SHMIPC_EAGAIN;
    if (!w->view && shmipc__parts_len(s, m) > w->cap) return shmipc__feed_unread(f), SHMIPC_EMSGSIZE;
    if (buf != lm->data) rc = shmipc__parts_copy(s, m, lm->tag, buf);
    if (!w->view) shmipc__topic_keep(m);
    else if (m->topic_len) { /* behind the data, as it came; opened data are shorter than what lay before the topic */
        memmove((unsigned char *)m->room + m->len, m->topic, m->topic_len);
        m->topic = (unsigned char *)m->room + m->len;
    }
    return rc;
}

/* A message in a block; its chunk is pinned. */
static int shmipc__feed_large(shmipc_socket *s, shmipc__feed *f, shmipc_lane_msg *lm, const shmipc__want *w)
{
    const uint64_t *nook = (const uint64_t *)lm->data - (SHMIPC__LINE - 8) / 8; /* before the chunk's payload */
    shmipc_msg *m = w->msg;
    uint64_t len;
    void *at;
    int rc = lm->len == 16 ? shmipc__nook_read(s, nook, &at, &len) : SHMIPC_ECORRUPT;
    if (!rc) rc = shmipc__parts_read(s, at, len, lm->tag, m);
    if (!rc && !shmipc__topic_wanted(s, m->topic, m->topic_len)) {
        f->skipped++;
        rc = SHMIPC_EAGAIN;
    }
    if (!rc && !w->view && shmipc__parts_len(s, m) > w->cap) {
        shmipc__feed_unread(f);
        rc = SHMIPC_EMSGSIZE;
    }
    m->pin = lm->pin;
    if (!rc && w->view && !s->sealed) return SHMIPC_OK; /* stays pinned, and with it the block */
    if (!rc) {
        rc = w->view ? shmipc__view_private(s, m, lm->tag) : shmipc__parts_copy(s, m, lm->tag, w->buf);
        shmipc__topic_keep(m);
    }
    shmipc__feed_unpin(f, lm);
    return rc;
}

/* The next message of one lane: SHMIPC_EAGAIN without, also when it was not wanted. */
static int shmipc__feed_next(shmipc_socket *s, uint32_t i, const shmipc__want *w)
{
    shmipc__feed *f = s->feeds[i];
    uint64_t small[(SHMIPC__LANE_INLINE_MAX + 7) / 8], skipped;
    shmipc_lane_msg lm;
    shmipc_msg *m = w->msg;
    void *to = s->sealed ? (void *)small : w->view ? (void *)m->room : w->cap >= sizeof small ? w->buf : (void *)small;
    int rc;
    if (s->latest && shmipc_lane_skip(&f->reader, 1, &skipped) == SHMIPC_OK) f->skipped += skipped;
    rc = shmipc__lane_next(&f->reader, to, sizeof small, w->view ? 1 : 2, &lm);
    if (rc) return rc;
    m->number = lm.number;
    m->sender = i;
    m->redelivered = 0;
    m->pin = 0;
    if (lm.tag & SHMIPC__TAG_LARGE) {
        if (lm.data == to) return SHMIPC_ECORRUPT; /* no chunk */
        return shmipc__feed_large(s, f, &lm, w);
    }
    if (lm.data != to) return shmipc__feed_unpin(f, &lm), SHMIPC_ECORRUPT;
    return shmipc__feed_small(s, f, &lm, w);
}

/* One round over the lanes, beginning where it ended last; a lane with much news gives way after some messages. */
static int shmipc__sub_round(shmipc_socket *s, const shmipc__want *w)
{
    uint32_t k, i = s->feed_at, left;
    for (k = 0; k < s->feed_count; k++) {
        int rc = SHMIPC_EAGAIN;
        uint64_t before = s->feeds[i]->skipped;
        for (left = 64; left && rc == SHMIPC_EAGAIN; left--) { /* pass over what is not wanted */
            rc = shmipc__feed_next(s, i, w);
            if (s->feeds[i]->skipped == before) break;
            before = s->feeds[i]->skipped;
        }
        if (rc != SHMIPC_EAGAIN) {
            if (s->feed_count > 1 && ++s->feed_burst >= 16) s->feed_burst = 0, i = i + 1 == s->feed_count ? 0 : i + 1;
            s->feed_at = i;
            return rc;
        }
        i = i + 1 == s->feed_count ? 0 : i + 1;
    }
    return SHMIPC_EAGAIN;
}

/* Has a publisher come? A line that hardly ever changes. */
SHMIPC__INLINE int shmipc__sub_new_lane(const shmipc_socket *s)
{
    return s->feed_count < SHMIPC__LANES && shmipc__load_relaxed_u64(&s->channel->lanes[s->feed_count]) != 0;
}

static int shmipc__sub_try(shmipc_socket *s, const shmipc__want *w)
{
    uint64_t missed;
    int rc = shmipc__sub_new_lane(s) ? shmipc__sub_join(s, 1) : SHMIPC_OK;
    if (!rc) rc = shmipc__sub_round(s, w);
    if (rc) return rc;
    missed = s->feeds[w->msg->sender]->reader.missed;
    if (SHMIPC__UNLIKELY(missed)) shmipc__count_dropped(s, shmipc__sub_missed(s));
    return SHMIPC_OK;
}

/* Is there a message, wanted or not? Without taking it. */
static int shmipc__sub_news(shmipc_socket *s)
{
    uint32_t i;
    if (shmipc__sub_new_lane(s) && shmipc__sub_join(s, 1)) return 1; /* the receive will say why */
    for (i = 0; i < s->feed_count; i++) {
        const shmipc_lane_reader *r = &s->feeds[i]->reader;
        uint64_t word = shmipc__load_acquire_u64(shmipc__lane_slot(&r->map, r->next));
        uint64_t pos = shmipc__lane_pos(&r->map, word, r->next);
        if ((int64_t)(pos - r->next) > 0 || (pos == r->next && shmipc__lane_state(word) >= SHMIPC__LANE_INLINE))
            return 1;
    }
    return 0;
}

static uint64_t shmipc__sub_unread(shmipc_socket *s)
{
    uint64_t n = 0;
    uint32_t i;
    for (i = 0; i < s->feed_count; i++) {
        const shmipc_lane_reader *r = &s->feeds[i]->reader;
        int64_t d = (int64_t)(shmipc__lane_newest(&r->map) + 1 - r->next);
        if (d > 0) n += (uint64_t)d < r->map.depth ? (uint64_t)d : r->map.depth;
    }
    return n;
}

/* ---------------------------------------------------------------------------------------------
 * >>pushpull  One queue for the channel; small messages in its chunks, large ones in blocks that chunks name
 *
 * The queue is made by whoever needs it first and knows its parameters: a pusher or requester, or a socket that was
 * told a depth. The others wait for it like for a message. Who takes a large message gives its block back when it
 * releases the chunk, so memory follows what is queued and held, not what ever was.
 * ------------------------------------------------------------------------------------------- */

static int shmipc__queue_make(shmipc_socket *s)
{
    shmipc_queue_config c;
    uint64_t bytes, handle, got;
    void *mem;
    uint32_t i;
    shmipc_queue q;
    int rc;
    shmipc__queue_plan(s->depth, s->segment->head.capacity,
                       s->role <= SHMIPC_PULL ? SHMIPC_QUEUE_REDELIVER : SHMIPC_QUEUE_REPORT, &c);
    rc = shmipc_queue_size(&c, &bytes);
    if (!rc) rc = shmipc__block_alloc(&s->blocks, bytes, &handle);
    if (rc) return rc;
    rc = shmipc__block_reach(s->segment, &s->blocks, handle, bytes, &mem, &got);
    if (!rc) rc = shmipc_queue_init(mem, bytes, &c);
    if (!rc) rc = shmipc_queue_attach(&q, mem, bytes, s->index, NULL, NULL);
    if (rc) {
        (void)shmipc__block_free(&s->blocks, handle, s->blocks.owner);
        return rc;
    }
    for (i = 0; i < c.chunks; i++) shmipc__store_relaxed_u64(shmipc__queue_nook(&q, i), 0);
    (void)shmipc__block_publish(s, &s->channel->queue, &handle);
    return SHMIPC_OK;
}

/* Connects to the queue; `make` it if it is not there. SHMIPC_EAGAIN: not there. */
static int shmipc__queue_join(shmipc_socket *s, int make)
{
    shmipc_queue_config c;
    uint64_t handle, bytes, got;
    void *mem;
    int rc;
    if (s->has_queue) return SHMIPC_OK;
    rc = shmipc__params_agree(s, make || s->depth || s->max_message);
    if (rc) return rc;
    handle = shmipc__load_acquire_u64(&s->channel->queue); /* [C1] */
    if (!handle && !make) return SHMIPC_EAGAIN;
    if (!handle) rc = shmipc__queue_make(s);
    if (rc) return shmipc__socket_fail(s, rc, "making the queue");
    handle = shmipc__load_acquire_u64(&s->channel->queue); /* [C1] */
    shmipc__queue_plan(s->depth, s->segment->head.capacity, 0, &c);
    rc = shmipc_queue_size(&c, &bytes);
    if (!rc) rc = shmipc__block_reach(s->segment, &s->blocks, handle, bytes, &mem, &got);
    if (!rc) rc = shmipc_queue_attach(&s->queue, mem, bytes, s->index, shmipc__alive_index, s->segment);
    if (!rc && s->queue.config.max_message != SHMIPC__QUEUE_MAX) rc = SHMIPC_ECORRUPT;
    if (rc) return shmipc__socket_fail(s, rc, "joining the queue");
    s->has_queue = 1;
    return SHMIPC_OK;
}

/* Says where a large message lies at the begin of the chunk too, in the line that its reader has already. */
static void shmipc__queue_describe(shmipc_socket *s, const shmipc_queue_msg *m, uint64_t head, uint64_t size)
{
    uint64_t *words = shmipc__queue_chunk(&s->queue, m->chunk) + 2 + head / 8;
    shmipc__store_relaxed_u64(words, shmipc__load_relaxed_u64(shmipc__queue_nook(&s->queue, m->chunk)));
    shmipc__store_relaxed_u64(words + 1, size);
}

/* Opens room in a chunk for `head` bytes and a payload of `size`. */
static int shmipc__queue_room_open(shmipc_socket *s, uint64_t head, uint64_t size, shmipc_queue_msg *m, void **at)
{
    int small = head + size <= SHMIPC__QUEUE_NOOK;
    int rc = shmipc_queue_loan(&s->queue, SHMIPC__QUEUE_MAX, m);
    if (rc) return rc;
    m->tag = small ? 0 : SHMIPC__TAG_LARGE;
    m->len_bytes = small ? (uint32_t)(head + size) : (uint32_t)SHMIPC__QUEUE_MAX;
    *at = (unsigned char *)m->data + head;
    if (small) return SHMIPC_OK;
    rc = shmipc__nook_fit(s, shmipc__queue_nook(&s->queue, m->chunk), size, at);
    if (rc) return shmipc_queue_discard(&s->queue, m), rc;
    shmipc__queue_describe(s, m, head, size);
    return SHMIPC_OK;
}

/* Gives up a room that was opened and not published, block first: left in the chunk, it would travel with a small
 * message, and nobody would look for it there. */
static void shmipc__queue_room_close(shmipc_socket *s, shmipc_queue_msg *m)
{
    if (shmipc__queue_owns(&s->queue, m, SHMIPC__QUEUE_FILLING)) return;
    shmipc__nook_drop(s, shmipc__queue_nook(&s->queue, m->chunk));
    (void)shmipc_queue_discard(&s->queue, m);
}

/* What is in a taken chunk, behind `head` bytes. */
static int shmipc__queue_open(shmipc_socket *s, const shmipc_queue_msg *q, uint64_t head, shmipc_msg *m)
{
    uint64_t len = q->len_bytes - head;
    void *at = (unsigned char *)q->data + head;
    int rc = q->len_bytes >= head ? SHMIPC_OK : SHMIPC_ECORRUPT;
    if (!rc && (q->tag & SHMIPC__TAG_LARGE)) rc = shmipc__nook_read(s, (const uint64_t *)at, &at, &len);
    if (!rc) rc = shmipc__parts_read(s, at, len, q->tag, m);
    m->redelivered = q->redelivered;
    m->sender = 0;
    m->number = 0;
    m->pin = 0;
    return rc;
}

/* Gives back a taken chunk and the block it names. */
static void shmipc__queue_done(shmipc_socket *s, shmipc_queue_msg *q)
{
    if (SHMIPC__UNLIKELY(q->tag & SHMIPC__TAG_LARGE)) shmipc__nook_drop(s, shmipc__queue_nook(&s->queue, q->chunk));
    (void)shmipc_queue_release(&s->queue, q);
}

static uint64_t shmipc__queue_untaken(shmipc_socket *s)
{
    shmipc_queue_stats st;
    if (!s->has_queue || shmipc_queue_get_stats(&s->queue, &st)) return 0;
    return (st.pushed > st.taken ? st.pushed - st.taken : 0) + st.returned;
}

/* Is there something to take? */
static int shmipc__queue_news(shmipc_socket *s)
{
    uint64_t p, word;
    int64_t ahead;
    uint32_t i;
    if (shmipc__queue_join(s, 0)) return 0;
    if (shmipc__queue_hint(&s->queue) & 1) return 1;
    p = shmipc__load_acquire_u64(&shmipc__queue_of(&s->queue)->head);
    for (i = 0; i < s->queue.config.slots; i++) {
        word = shmipc__load_acquire_u64(shmipc__queue_slot(&s->queue, p));
        ahead = shmipc__queue_ahead(&s->queue, word, p);
        if (ahead <= 0) return ahead == 0 && (word & SHMIPC__QUEUE_CHUNK);
        p += ((uint64_t)(ahead - 1) << s->queue.shift) + 1u;
    }
    return 1;
}

/* Would a push find room? A hint: others push too. */
static int shmipc__queue_vacancy(shmipc_socket *s)
{
    uint64_t p, word;
    if (shmipc__queue_join(s, 1)) return 1; /* the send will say why */
    p = shmipc__queue_tail(&s->queue);
    return shmipc__queue_place(&s->queue, &p, &word) != SHMIPC_EFULL;
}

/* One attempt to queue: SHMIPC_EFULL. */
static int shmipc__push_put(shmipc_socket *s, const shmipc__parts *p)
{
    uint64_t size = shmipc__parts_size(s, p);
    shmipc_queue_msg m;
    void *at;
    int rc;
    if (SHMIPC__LIKELY(size == p->len && size <= SHMIPC__QUEUE_NOOK)) {
        rc = shmipc_queue_push(&s->queue, p->data, (uint32_t)size, p->tag);
        return rc == SHMIPC_EBUSY ? SHMIPC_EFULL : rc;
    }
    if (!shmipc__queue_vacancy(s)) return SHMIPC_EFULL; /* before anything is copied */
    rc = shmipc__queue_room_open(s, 0, size, &m, &at);
    if (rc) return rc == SHMIPC_EBUSY ? SHMIPC_EFULL : rc;
    rc = shmipc__parts_write(s, p, at, 0);
    m.tag |= p->tag;
    if (!rc) rc = shmipc_queue_commit(&s->queue, &m);
    if (rc) shmipc__queue_room_close(s, &m);
    return rc;
}

/* A large message whose reader died in its release, the block given up and the chunk not yet: it is done. */
static int shmipc__pull_spent(shmipc_socket *s, shmipc_queue_msg *q)
{
    if (SHMIPC__LIKELY(!(q->tag & SHMIPC__TAG_LARGE)) || !q->redelivered) return 0;
    if (shmipc__load_relaxed_u64(shmipc__queue_nook(&s->queue, q->chunk))) return 0;
    shmipc__queue_done(s, q);
    shmipc__socket_ring(s, &s->channel->out, 1);
    return 1;
}

static int shmipc__pull_try(shmipc_socket *s, const shmipc__want *w)
{
    shmipc_queue_msg q;
    int rc = s->has_queue ? SHMIPC_OK : shmipc__queue_join(s, 0);
    do {
        if (!rc) rc = shmipc_queue_take(&s->queue, &q);
    } while (!rc && shmipc__pull_spent(s, &q));
    if (rc) return rc;
    rc = shmipc__queue_open(s, &q, 0, w->msg);
    if (!rc && !w->view && shmipc__parts_len(s, w->msg) > w->cap) {
        (void)shmipc_queue_reject(&s->queue, &q);
        return SHMIPC_EMSGSIZE;
    }
    if (!rc && w->view && !s->sealed) {
        w->msg->word = q.word;
        w->msg->chunk = q.chunk;
        w->msg->pin = q.tag & SHMIPC__TAG_LARGE ? 2 : 1;
        return SHMIPC_OK;
    }
    if (!rc) rc = w->view ? shmipc__view_private(s, w->msg, q.tag) : shmipc__parts_copy(s, w->msg, q.tag, w->buf);
    shmipc__queue_done(s, &q);
    shmipc__socket_ring(s, &s->channel->out, 1);
    return rc;
}

/* The queue's view of a message that we hold. */
static shmipc_queue_msg shmipc__pull_held(const shmipc_msg *m)
{
    shmipc_queue_msg q;
    memset(&q, 0, sizeof q);
    q.data = (void *)(uintptr_t)1; /* the queue looks only whether it was released */
    q.word = m->word;
    q.chunk = m->chunk;
    q.tag = m->pin == 2 ? SHMIPC__TAG_LARGE : 0;
    return q;
}

/* ---------------------------------------------------------------------------------------------
 * >>reqrep  Requests through one queue, so in one order for all; replies into cells of the requesters
 *
 *   cell word: id 36 | abandoned 1 | state 3 | requester 12 | replier 12
 *
 *   FREE -> WAITING(requester), next id      a requester claims the cell, then queues a request that names it
 *   WAITING -> WRITING(requester, replier)   the replier that took the request; any other id or state: nobody wants it
 *   WRITING -> DONE                          the replier, when the reply is in the cell. [R1] If abandoned: -> FREE
 *   WAITING, DONE, FAILED -> FREE            the requester, who has it or gave it up [R2]; a sweep of the dead one
 *   WRITING -> WRITING abandoned             the same, while a replier is at it, perhaps stopped: another cell is taken
 *   WAITING, WRITING -> FAILED               a sweep of the dead replier that held the request, or wrote
 *
 * All by CAS from the exact word (DONE and FAILED -> FREE may be a store: nobody else changes them while the requester
 * lives), and an id is never used twice in a cell, so what comes late fails. There are two cells for each attachment
 * the channel can have: one for its request, one that it keeps from its user while it is stopped as a replier.
 *
 *   label  release                           acquire
 *   [R1]   DONE                              the requester's look: the reply is complete
 *   [R2]   FREE                              the next claim: the reply was read, and its block given up
 *
 * The requester sleeps on its own bell, which the cell names. It looks at the cell after it armed the bell and a fence;
 * the replier looks at the bell after DONE and a fence.
 *
 * The process dies (or stops for good): the replier, holding the request, before DONE: FAILED. After DONE, before it
 * gave the request back: a sweep does, and finds an id that is not waited for. The requester: its cells become FREE,
 * its requests are executed and their replies dropped, or not even taken.
 * ------------------------------------------------------------------------------------------- */

static int shmipc__cells_join(shmipc_socket *s)
{
    uint32_t n = shmipc__cells_for(s->segment->head.capacity), i;
    uint64_t handle = shmipc__load_acquire_u64(&s->channel->cells), got; /* [C1] */
    void *at;
    int rc;
    if (s->cells) return SHMIPC_OK;
    if (!handle) {
        rc = shmipc__block_alloc(&s->blocks, n * sizeof(shmipc__cell), &handle);
        if (!rc) rc = shmipc__block_reach(s->segment, &s->blocks, handle, n * sizeof(shmipc__cell), &at, &got);
        if (rc) return shmipc__socket_fail(s, rc, "making reply cells");
        for (i = 0; i < n * sizeof(shmipc__cell) / 8; i++) shmipc__store_relaxed_u64((uint64_t *)at + i, 0);
        (void)shmipc__block_publish(s, &s->channel->cells, &handle);
    }
    rc = shmipc__block_reach(s->segment, &s->blocks, handle, n * sizeof(shmipc__cell), &at, &got);
    if (rc) return shmipc__socket_fail(s, rc, "joining reply cells");
    s->cells = (shmipc__cell *)at;
    s->cell_count = n;
    s->cell = 2 * s->index; /* so that all begin apart */
    return SHMIPC_OK;
}

/* ---- requester ---- */

/* Gives up the request in progress, in whatever state it is. */
static void shmipc__req_abandon(shmipc_socket *s)
{
    shmipc__cell *cell = &s->cells[s->cell];
    uint64_t w, to;
    uint32_t tries;
    if (!s->cell_word) return;
    w = shmipc__load_acquire_u64(&cell->word);
    for (tries = 0; tries < 8; tries++) { /* its state changes three times at most */
        uint32_t state = shmipc__cell_state(w);
        if (shmipc__cell_id(w) != shmipc__cell_id(s->cell_word) || state == SHMIPC__CELL_FREE) break;
        to = state == SHMIPC__CELL_WRITING ? w | SHMIPC__CELL_ABANDONED : shmipc__cell_become(w, SHMIPC__CELL_FREE);
        if (shmipc__cas_acqrel_u64(&cell->word, &w, to)) break; /* [R2] */
    }
    s->cell_word = 0;
}

static int shmipc__req_claim(shmipc_socket *s)
{
    uint32_t i, at;
    for (i = 0; i < s->cell_count; i++) {
        uint64_t w, mine;
        at = (s->cell + i) % s->cell_count;
        w = shmipc__load_relaxed_u64(&s->cells[at].word);
        if (shmipc__cell_state(w) != SHMIPC__CELL_FREE) continue;
        mine = shmipc__cell_word(shmipc__cell_id(w) + 1, SHMIPC__CELL_WAITING, s->index, 0);
        if (!shmipc__cas_acqrel_u64(&s->cells[at].word, &w, mine)) continue; /* [R2] */
        s->cell = at;
        s->cell_word = mine;
        shmipc__store_relaxed_u32(&s->cells[at].bell, s->has_waiter ? s->waiter.id + 1 : 0);
        return SHMIPC_OK;
    }
    return SHMIPC_EBUSY;
}

/* The header of a request, into its chunk. */
static void shmipc__req_head(shmipc_socket *s, uint32_t chunk)
{
    shmipc__request r;
    r.id = shmipc__cell_id(s->cell_word);
    r.cell = s->cell;
    r.requester = s->index;
    shmipc__copy_in(shmipc__queue_chunk(&s->queue, chunk) + 2, &r, sizeof r);
}

/* One attempt to queue a request, whose cell is claimed at the first. SHMIPC_EFULL. */
static int shmipc__req_put(shmipc_socket *s, const shmipc__parts *p)
{
    shmipc_queue_msg m;
    void *at;
    int rc = s->cell_word ? SHMIPC_OK : shmipc__req_claim(s);
    if (!rc) rc = shmipc__queue_room_open(s, sizeof(shmipc__request), shmipc__parts_size(s, p), &m, &at);
    if (rc) return rc == SHMIPC_EBUSY ? SHMIPC_EFULL : rc;
    shmipc__req_head(s, m.chunk);
    rc = shmipc__parts_write(s, p, at, 0);
    m.tag |= p->tag;
    if (!rc) rc = shmipc_queue_commit(&s->queue, &m);
    if (rc) shmipc__queue_room_close(s, &m);
    return rc;
}

/* The cell is DONE and we have what we wanted. */
static void shmipc__cell_leave(shmipc_socket *s, shmipc__cell *cell, uint64_t w)
{
    if (shmipc__load_relaxed_u32(&cell->tag) & SHMIPC__TAG_LARGE) shmipc__nook_drop(s, cell->nook);
    shmipc__store_release_u64(&cell->word, shmipc__cell_become(w, SHMIPC__CELL_FREE)); /* [R2] */
}

/* Nothing is wanted any more, and no view of a reply stays. */
static void shmipc__req_end(shmipc_socket *s)
{
    uint32_t i;
    shmipc__req_abandon(s);
    for (i = 0; s->views && i < s->cell_count; i++) {
        uint64_t w = shmipc__load_acquire_u64(&s->cells[i].word);
        if (shmipc__cell_state(w) != SHMIPC__CELL_DONE || shmipc__cell_requester(w) != s->index) continue;
        shmipc__cell_leave(s, &s->cells[i], w);
    }
}

static int shmipc__req_try(shmipc_socket *s, const shmipc__want *want)
{
    shmipc__cell *cell = &s->cells[s->cell];
    uint64_t w = shmipc__load_acquire_u64(&cell->word), len; /* [R1] */
    uint32_t state = shmipc__cell_state(w), tag;
    void *at = cell->data;
    int rc = SHMIPC_OK;
    if (shmipc__cell_id(w) != shmipc__cell_id(s->cell_word) || state == SHMIPC__CELL_FREE ||
        state > SHMIPC__CELL_FAILED) {
        s->cell_word = 0;
        return SHMIPC_ECORRUPT;
    }
    if (state == SHMIPC__CELL_WAITING || state == SHMIPC__CELL_WRITING) return SHMIPC_EAGAIN;
    if (state == SHMIPC__CELL_FAILED) {
        shmipc__req_abandon(s);
        return shmipc__fail(s->ctx, SHMIPC_EPEERDEAD,
                            "the replier on \"%s\" died over the request, which is not executed "
                            "again: send it again if that is right",
                            s->segment->name);
    }
    len = shmipc__load_relaxed_u32(&cell->len);
    tag = shmipc__load_relaxed_u32(&cell->tag);
    if (tag & SHMIPC__TAG_LARGE) rc = shmipc__nook_read(s, cell->nook, &at, &len);
    else if (len > SHMIPC__CELL_INLINE) rc = SHMIPC_ECORRUPT;
    if (!rc) rc = shmipc__parts_read(s, at, len, tag, want->msg);
    if (!rc && !want->view && shmipc__parts_len(s, want->msg) > want->cap) return SHMIPC_EMSGSIZE;
    want->msg->number = want->msg->redelivered = want->msg->sender = want->msg->pin = 0;
    s->cell_word = 0;
    if (!rc && want->view && !s->sealed) {
        want->msg->word = w;
        want->msg->chunk = s->cell;
        want->msg->pin = 1;
        return SHMIPC_OK;
    }
    if (!rc)
        rc = want->view ? shmipc__view_private(s, want->msg, tag) : shmipc__parts_copy(s, want->msg, tag, want->buf);
    shmipc__cell_leave(s, cell, w);
    return rc;
}

/* ---- replier ---- */

static void shmipc__cell_ring(shmipc_socket *s, shmipc__cell *cell)
{
    uint32_t bell;
    shmipc__fence_seq_cst(); /* fence S of >>wait */
    bell = shmipc__load_relaxed_u32(&cell->bell);
    if (!bell || (!s->bells.at && shmipc__bells_of(s->ctx, &s->bells))) return;
    (void)shmipc__bell_ring(s->bells, bell - 1);
}

/* Is the request still wanted? */
static int shmipc__rep_wanted(shmipc_socket *s, uint32_t cell, uint64_t id)
{
    uint64_t w = shmipc__load_relaxed_u64(&s->cells[cell].word);
    return shmipc__cell_id(w) == id && shmipc__cell_state(w) == SHMIPC__CELL_WAITING;
}

/* A request that lay in the queue for a while may have been given up: the cell says so. One that we waited for was not,
 * and looking would only draw the requester's line back and forth. */
static int shmipc__rep_take(shmipc_socket *s, shmipc_queue_msg *q, shmipc__request *r)
{
    uint32_t tries;
    int rc = shmipc__queue_join(s, 0);
    for (tries = 0; !rc && tries < 1000; tries++) {
        rc = shmipc_queue_take(&s->queue, q);
        if (!rc) rc = shmipc__cells_join(s);
        if (rc) return rc;
        shmipc__copy_out(r, q->data, sizeof *r);
        if (q->len_bytes >= sizeof *r && r->cell < s->cell_count &&
            (s->looked || shmipc__rep_wanted(s, r->cell, r->id)))
            return SHMIPC_OK;
        shmipc__queue_done(s, q);
        shmipc__socket_ring(s, &s->channel->out, 1);
    }
    return rc ? rc : SHMIPC_EAGAIN;
}

static int shmipc__rep_try(shmipc_socket *s, const shmipc__want *w)
{
    shmipc_queue_msg q;
    shmipc__request r;
    int rc = shmipc__rep_take(s, &q, &r);
    if (rc) {
        s->looked = 1;
        return rc;
    }
    rc = shmipc__queue_open(s, &q, sizeof r, w->msg);
    if (!rc && !w->view && shmipc__parts_len(s, w->msg) > w->cap) {
        (void)shmipc_queue_reject(&s->queue, &q);
        return SHMIPC_EMSGSIZE;
    }
    if (!rc && !w->view) rc = shmipc__parts_copy(s, w->msg, q.tag, w->buf);
    else if (!rc && s->sealed) rc = shmipc__view_private(s, w->msg, q.tag);
    s->pending = q;
    s->pending_id = r.id;
    s->pending_cell = r.cell;
    s->looked = 0;
    if (!rc) return SHMIPC_OK;
    shmipc__cell_fail(s->ctx, &s->cells[r.cell], shmipc__cell_word(r.id, SHMIPC__CELL_WAITING, r.requester & 4095, 0));
    shmipc__queue_done(s, &s->pending); /* damaged: nobody can answer it */
    return rc;
}

/* The request in hand is over. */
static void shmipc__rep_finish(shmipc_socket *s)
{
    shmipc__queue_done(s, &s->pending);
    s->pending.data = NULL;
    shmipc__socket_ring(s, &s->channel->out, 1);
}

/* WAITING -> WRITING by us: 1. 0: nobody wants the reply any more. */
static int shmipc__rep_claim(shmipc_socket *s, shmipc__cell *cell, uint64_t *mine)
{
    uint64_t w = shmipc__load_relaxed_u64(&cell->word);
    if (shmipc__cell_id(w) != s->pending_id || shmipc__cell_state(w) != SHMIPC__CELL_WAITING) return 0;
    *mine = shmipc__cell_word(s->pending_id, SHMIPC__CELL_WRITING, shmipc__cell_requester(w), s->index);
    return shmipc__cas_acqrel_u64(&cell->word, &w, *mine); /* [R2] */
}

/* From WRITING to another state, or FREE if it was abandoned meanwhile. */
static void shmipc__rep_end(shmipc__cell *cell, uint64_t mine, uint32_t state)
{
    uint64_t w = mine;
    if (shmipc__cas_acqrel_u64(&cell->word, &w, shmipc__cell_become(mine, state))) return; /* [R1] */
    if (w == (mine | SHMIPC__CELL_ABANDONED))
        (void)shmipc__cas_acqrel_u64(&cell->word, &w, shmipc__cell_become(mine, SHMIPC__CELL_FREE));
}

/* Room for a reply of `size` bytes in the cell, which is WRITING by us. */
static int shmipc__cell_room(shmipc_socket *s, shmipc__cell *cell, uint64_t size, uint32_t *tag, void **at)
{
    *at = cell->data;
    shmipc__store_relaxed_u32(&cell->len, (uint32_t)size);
    if (size <= SHMIPC__CELL_INLINE) return SHMIPC_OK;
    *tag |= SHMIPC__TAG_LARGE;
    shmipc__store_relaxed_u64(&cell->nook[1], size);
    return shmipc__nook_fit(s, cell->nook, size, at);
}

static int shmipc__rep_put(shmipc_socket *s, const shmipc__parts *p)
{
    shmipc__cell *cell = &s->cells[s->pending_cell];
    uint64_t mine, size = shmipc__parts_size(s, p);
    uint32_t tag = p->tag;
    void *at;
    int rc;
    if (shmipc__rep_claim(s, cell, &mine)) {
        rc = shmipc__cell_room(s, cell, size, &tag, &at);
        if (!rc) rc = shmipc__parts_write(s, p, at, 0);
        if (rc) { /* a shorter answer may still go through */
            shmipc__rep_end(cell, mine, SHMIPC__CELL_WAITING);
            return rc;
        }
        shmipc__store_relaxed_u32(&cell->tag, tag);
        shmipc__rep_end(cell, mine, SHMIPC__CELL_DONE);
        shmipc__cell_ring(s, cell);
    }
    shmipc__rep_finish(s);
    return SHMIPC_OK;
}

/* The replier leaves without an answer. */
static void shmipc__rep_drop(shmipc_socket *s)
{
    uint64_t w;
    if (!s->pending.data) return;
    if (s->loaned == SHMIPC__LOAN_CELL) shmipc__rep_end(&s->cells[s->pending_cell], s->loan_word, SHMIPC__CELL_WAITING);
    w = shmipc__load_acquire_u64(&s->cells[s->pending_cell].word);
    if (shmipc__cell_id(w) == s->pending_id && shmipc__cell_state(w) == SHMIPC__CELL_WAITING) {
        shmipc__cell_fail(s->ctx, &s->cells[s->pending_cell], w);
    }
    shmipc__rep_finish(s);
}

/* ---------------------------------------------------------------------------------------------
 * >>calls
 * ------------------------------------------------------------------------------------------- */

static const char *shmipc__role_name(uint32_t role)
{
    static const char *const names[] = {"none", "PUB", "SUB", "PUSH", "PULL", "REQ", "REP"};
    return names[role <= SHMIPC_REP ? role : 0];
}

/* What every call asks first. */
SHMIPC__INLINE int shmipc__socket_usable(const shmipc_socket *s)
{
    if (SHMIPC__UNLIKELY(!s)) return SHMIPC_EINVAL;
    if (SHMIPC__UNLIKELY(shmipc__load_relaxed_u32(&s->ctx->forked))) return SHMIPC_EFORKED;
    return SHMIPC_OK;
}

static int shmipc__wrong_role(shmipc_socket *s, const char *call)
{
    return shmipc__fail(s->ctx, SHMIPC_ESTATE, "%s is not for a %s socket (\"%s\")", call, shmipc__role_name(s->role),
                        s->segment->name);
}

static int shmipc__too_long(shmipc_socket *s, uint64_t len)
{
    s->stats.errors++;
    shmipc__store_relaxed_u64(&s->place->errors, s->stats.errors);
    return shmipc__fail(s->ctx, SHMIPC_EMSGSIZE,
                        "a message of %llu bytes on \"%s\" is above the channel's max_message of "
                        "%llu: its first owner sets that",
                        (unsigned long long)len, s->segment->name, (unsigned long long)s->max_message);
}

/* ---- opening ---- */

SHMIPC_API void shmipc_socket_config_init(shmipc_socket_config *cfg)
{
    if (cfg) memset(cfg, 0, sizeof *cfg);
}

static int shmipc__socket_arguments(shmipc_ctx *ctx, const shmipc_socket_config *cfg)
{
    uint32_t i;
    if (cfg->depth > SHMIPC__MAX_DEPTH)
        return shmipc__fail(ctx, SHMIPC_EINVAL, "depth %u is above %u", (unsigned)cfg->depth,
                            (unsigned)SHMIPC__MAX_DEPTH);
    if (cfg->max_message > SHMIPC__MAX_MESSAGE)
        return shmipc__fail(ctx, SHMIPC_EINVAL, "max_message is above 2^31 - 4097");
    if (cfg->capacity > SHMIPC__CAPACITY_MAX - 1) return shmipc__fail(ctx, SHMIPC_EINVAL, "capacity is above 4095");
    if (cfg->wait > SHMIPC_WAIT_SLEEP)
        return shmipc__fail(ctx, SHMIPC_EINVAL, "wait %u is none of SHMIPC_WAIT_...", (unsigned)cfg->wait);
    if (cfg->topic_count && !cfg->topics)
        return shmipc__fail(ctx, SHMIPC_EINVAL, "topics is NULL, topic_count is not 0");
    for (i = 0; i < cfg->topic_count; i++) {
        if (!cfg->topics[i]) return shmipc__fail(ctx, SHMIPC_EINVAL, "topics[%u] is NULL", (unsigned)i);
        if (strlen(cfg->topics[i]) > 255)
            return shmipc__fail(ctx, SHMIPC_EINVAL, "topics[%u] is longer than 255 bytes", (unsigned)i);
    }
    if (cfg->aead && (!cfg->aead->seal || !cfg->aead->open))
        return shmipc__fail(ctx, SHMIPC_EINVAL, "aead lacks seal or open");
    return SHMIPC_OK;
}

/* Says in the user's words why the segment could not be joined. */
static int shmipc__socket_refused(shmipc_socket *s, const char *name, uint32_t name_len, int rc)
{
    shmipc_segment_info info;
    char text[256];
    size_t len = name_len ? name_len : strlen(name);
    if (len > 255) len = 255;
    memcpy(text, name, len);
    text[len] = 0;
    if (rc == SHMIPC_ETABLE) {
        return shmipc__fail(s->ctx, rc,
                            "channel \"%s\" has as many sockets as its capacity allows: its first owner sets it",
                            text);
    }
    memset(&info, 0, sizeof info);
    memset(&info, 0, sizeof info);
    if (shmipc_segment_inspect(s->ctx, text, &info)) return rc;
    return shmipc__fail(s->ctx, rc, "\"%s\" is %s, a %s socket needs %s: choose another name", text,
                        info.kind - 1 < 3 ? shmipc__channel_kinds[info.kind - 1].name : "no channel",
                        shmipc__role_name(s->role), shmipc__channel_kinds[(s->role - 1) / 2].name);
}

static int shmipc__socket_segment(shmipc_socket *s, const char *name, const shmipc_socket_config *cfg)
{
    shmipc_segment_config seg;
    uint32_t capacity = cfg->capacity ? cfg->capacity : 256;
    uint64_t memory = cfg->max_memory ? cfg->max_memory : sizeof(void *) > 4 ? UINT64_C(8) << 30 : UINT64_C(128) << 20;
    int64_t linger = cfg->linger_ns ? cfg->linger_ns / 1000000 : 30000;
    int rc;
    uint64_t at = shmipc__channel_blocks_at(capacity),
             least = at + ((uint64_t)SHMIPC__EXTENTS * 8448 + (UINT64_C(64) << 20));
    shmipc_segment_config_init(&seg);
    seg.mode = SHMIPC_OPEN_OR_CREATE;
    seg.kind = &shmipc__channel_kinds[(s->role - 1) / 2];
    seg.capacity = capacity;
    seg.size = at;
    seg.max_size = (memory < least ? least : memory) / 65536 * 65536;
    seg.name_len = cfg->name_len;
    seg.init = shmipc__channel_init;
    if (s->role == SHMIPC_PUSH || s->role == SHMIPC_PULL)
        seg.linger_ms = linger < 0 ? 0 : linger > 0x7fffffff ? 0x7fffffffu : (uint32_t)linger;
    rc = shmipc_segment_open(s->ctx, name, &seg, &s->segment);
    return rc == SHMIPC_EKIND || rc == SHMIPC_ETABLE ? shmipc__socket_refused(s, name, cfg->name_len, rc) : rc;
}

static int shmipc__socket_topics(shmipc_socket *s, const shmipc_socket_config *cfg)
{
    size_t n = 0;
    uint32_t i;
    for (i = 0; i < cfg->topic_count; i++) n += 1 + strlen(cfg->topics[i]);
    if (!n) return SHMIPC_OK;
    s->topics = (unsigned char *)malloc(n);
    if (!s->topics) return SHMIPC_ENOMEM;
    for (i = 0, n = 0; i < cfg->topic_count; i++) {
        size_t len = strlen(cfg->topics[i]);
        s->topics[n] = (unsigned char)len;
        memcpy(s->topics + n + 1, cfg->topics[i], len);
        n += 1 + len;
    }
    s->topic_count = cfg->topic_count;
    return SHMIPC_OK;
}

/* Tells the others who we are: role last. */
static void shmipc__place_fill(shmipc_socket *s)
{
    shmipc__place *p = s->place;
    uint64_t *count = &p->sent;
    uint32_t i;
    shmipc__store_relaxed_u32(&p->role, 0);
    for (i = 0; i < 8; i++) shmipc__store_relaxed_u64(count + i, 0);
    shmipc__store_relaxed_u32(&p->pid, (uint32_t)shmipc__os_pid());
    shmipc__store_relaxed_u64(&p->life, s->ctx->life);
    shmipc__store_release_u32(&p->role, s->role);
}

static int shmipc__socket_start(shmipc_socket *s)
{
    int rc;
    switch (s->role) {
    case SHMIPC_PUB: return shmipc__pub_start(s);
    case SHMIPC_SUB: rc = shmipc__sub_join(s, 0); break;
    case SHMIPC_PULL:
    case SHMIPC_REP: rc = shmipc__queue_join(s, 0); break;
    case SHMIPC_PUSH: rc = shmipc__queue_join(s, 1); break;
    default: rc = shmipc__queue_join(s, 1); if (!rc) rc = shmipc__cells_join(s);
    }
    return rc == SHMIPC_EAGAIN ? SHMIPC_OK : rc;
}

static uint32_t shmipc__other_side(uint32_t role) { return role & 1 ? role + 1 : role - 1; }

/* How many living sockets of a role there are; stops at `most`. */
static uint32_t shmipc__peers_count(shmipc_socket *s, uint32_t role, uint32_t most)
{
    uint32_t i, n = 0;
    for (i = 0; i < s->segment->head.capacity && n < most; i++) {
        shmipc__place *p = &s->channel->places[i];
        if (shmipc__load_acquire_u32(&p->role) != role) continue;
        if (!shmipc_segment_holds(s->segment, i, shmipc__load_relaxed_u64(&p->life))) continue;
        n += shmipc_segment_alive(s->segment, i) == 1;
    }
    return n;
}

static int shmipc__peer_there(void *arg)
{
    shmipc_socket *s = (shmipc_socket *)arg;
    return (int)shmipc__peers_count(s, shmipc__other_side(s->role), 1);
}

static int shmipc__socket_connect(shmipc_socket *s, int64_t timeout_ns)
{
    int rc;
    if (!timeout_ns || shmipc__peer_there(s)) return SHMIPC_OK;
    rc = shmipc__socket_await(s, &s->channel->in, shmipc__peer_there, s, timeout_ns);
    if (rc > 0) return SHMIPC_OK;
    if (rc != SHMIPC_ETIMEDOUT) return rc;
    return shmipc__fail(s->ctx, SHMIPC_ENOENT, "no %s socket on \"%s\" within connect_ns",
                        shmipc__role_name(shmipc__other_side(s->role)), s->segment->name);
}

static void shmipc__socket_closed(shmipc__dependent *d);

static int shmipc__socket_open(shmipc_socket **out, shmipc_ctx *ctx, const char *name, const shmipc_socket_config *cfg,
                               uint32_t role)
{
    shmipc_socket_config none;
    shmipc_socket *s;
    int rc = out ? shmipc_ctx_check(ctx) : SHMIPC_EINVAL;
    shmipc_socket_config_init(&none);
    if (!cfg) cfg = &none;
    if (!rc) rc = shmipc__socket_arguments(ctx, cfg);
    if (rc) return rc;
    s = (shmipc_socket *)calloc(1, sizeof *s);
    if (!s) return SHMIPC_ENOMEM;
    s->ctx = ctx;
    s->role = role;
    s->depth = cfg->depth;
    s->max_message = cfg->max_message;
    s->history = cfg->history;
    s->latest = cfg->latest;
    s->wait = cfg->wait;
    s->interruptible = cfg->interruptible;
    s->stop = cfg->stop;
    s->stop_arg = cfg->stop_arg;
    s->probes = role == SHMIPC_REQ ? 64 : 16; /* about a microsecond each */
    s->post = -1;
    s->dependent.close = shmipc__socket_closed;
    if (cfg->aead) s->aead = *cfg->aead;
    s->sealed = cfg->aead != NULL;
    rc = shmipc__os_random(s->nonce, 16);
    if (!rc) rc = shmipc__socket_topics(s, cfg);
    if (!rc) rc = shmipc__socket_segment(s, name, cfg);
    if (!rc) rc = shmipc__channel_at(s->segment, &s->channel);
    if (!rc) rc = shmipc__channel_region(s->segment, s->channel, &s->blocks, 0);
    shmipc__depend(ctx, &s->dependent);
    if (!rc) {
        s->index = s->segment->index;
        s->swept = s->index;
        s->place = &s->channel->places[s->index];
        shmipc__place_fill(s);
        rc = shmipc__socket_start(s);
    }
    if (!rc) {
        shmipc__wake_all(ctx, &s->channel->in);
        rc = shmipc__socket_connect(s, cfg->connect_ns);
    }
    if (rc) return shmipc__socket_closed(&s->dependent), rc;
    *out = s;
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_pub_open(shmipc_socket **out, shmipc_ctx *ctx, const char *name, const shmipc_socket_config *cfg)
{
    return shmipc__socket_open(out, ctx, name, cfg, SHMIPC_PUB);
}
SHMIPC_API int shmipc_sub_open(shmipc_socket **out, shmipc_ctx *ctx, const char *name, const shmipc_socket_config *cfg)
{
    return shmipc__socket_open(out, ctx, name, cfg, SHMIPC_SUB);
}
SHMIPC_API int shmipc_push_open(shmipc_socket **out, shmipc_ctx *ctx, const char *name, const shmipc_socket_config *cfg)
{
    return shmipc__socket_open(out, ctx, name, cfg, SHMIPC_PUSH);
}
SHMIPC_API int shmipc_pull_open(shmipc_socket **out, shmipc_ctx *ctx, const char *name, const shmipc_socket_config *cfg)
{
    return shmipc__socket_open(out, ctx, name, cfg, SHMIPC_PULL);
}
SHMIPC_API int shmipc_req_open(shmipc_socket **out, shmipc_ctx *ctx, const char *name, const shmipc_socket_config *cfg)
{
    return shmipc__socket_open(out, ctx, name, cfg, SHMIPC_REQ);
}
SHMIPC_API int shmipc_rep_open(shmipc_socket **out, shmipc_ctx *ctx, const char *name, const shmipc_socket_config *cfg)
{
    return shmipc__socket_open(out, ctx, name, cfg, SHMIPC_REP);
}

/* ---- closing ---- */

/* A loan is discarded; what was taken and never released goes to others, as if this process had died. */
static void shmipc__queue_leave(shmipc_socket *s)
{
    shmipc_queue_msg q;
    uint32_t c;
    int back = 0;
    memset(&q, 0, sizeof q);
    q.data = (void *)(uintptr_t)1; /* the queue looks only whether it was released */
    q.word = s->loan_word;
    q.chunk = s->loan_chunk;
    if (s->loaned == SHMIPC__LOAN_CHUNK) shmipc__queue_room_close(s, &q);
    (void)shmipc_queue_detach(&s->queue);
    for (c = 0; c < s->queue.config.chunks; c++) {
        q.data = (void *)(uintptr_t)1;
        q.word = shmipc__load_relaxed_u64(shmipc__queue_chunk(&s->queue, c));
        q.chunk = c;
        back |= shmipc_queue_reject(&s->queue, &q) == SHMIPC_OK;
    }
    if (back) shmipc__wake_all(s->ctx, &s->channel->in);
}

/* Gives back what this process holds on the channel, while it still holds its life. */
static void shmipc__socket_give_back(shmipc_socket *s)
{
    if (s->role == SHMIPC_PUB && s->writer.word) { /* the lane is ours */
        shmipc__pub_trim(s);
        (void)shmipc_lane_writer_detach(&s->writer);
    }
    if (s->role == SHMIPC_SUB) shmipc__sub_stop(s);
    if (s->role == SHMIPC_REQ && s->cells) shmipc__req_end(s);
    if (s->role == SHMIPC_REP && s->cells) shmipc__rep_drop(s);
    if (s->has_queue) shmipc__queue_leave(s);
    if (s->has_waiter) shmipc__waiter_close(&s->waiter);
    if (s->post >= 0) {
        (void)shmipc__gate_withdraw(&s->channel->in, s->post_bell);
        shmipc__post_close(s->ctx, s->post_bell, s->post);
        shmipc__bell_free(s->bells, s->post_bell, s->ctx->life);
        s->post = -1;
    }
    if (s->place) shmipc__store_release_u32(&s->place->role, 0);
}

static void shmipc__socket_free(shmipc_socket *s)
{
    uint32_t i;
    if (s->segment && shmipc__ctx_ours(s->ctx)) shmipc__socket_give_back(s);
    if (s->post >= 0) shmipc__post_forget(s->post); /* of the parent, or not ours any more to others */
    for (i = 0; i < s->feed_count; i++) free(s->feeds[i]);
    free(s->feeds);
    shmipc_segment_close(s->segment);
    free(s->topics);
    free(s->scratch);
    free(s);
}

/* Once it hangs off nothing. With views out it lives on until they are released. */
static void shmipc__socket_closed(shmipc__dependent *d)
{
    shmipc_socket *s = (shmipc_socket *)(void *)d;
    shmipc__depend_no_more(s->ctx, d);
    shmipc__socket_free(s);
}

SHMIPC_API void shmipc_close(shmipc_socket **s)
{
    shmipc_socket *mine = s ? *s : NULL;
    if (!mine) return;
    *s = NULL;
    if (mine->views) mine->closing = 1;
    else shmipc__socket_closed(&mine->dependent);
}

/* ---- sending ---- */

/* What a full queue makes a sender wait for. */
typedef struct shmipc__offer {
    shmipc_socket *socket;
    const shmipc__parts *parts;
    shmipc_queue_msg *loan;
} shmipc__offer;

static int shmipc__offer_try(void *arg)
{
    shmipc__offer *o = (shmipc__offer *)arg;
    shmipc_socket *s = o->socket;
    int rc;
    if (o->loan) rc = shmipc_queue_commit(&s->queue, o->loan);
    else rc = s->role == SHMIPC_PUSH ? shmipc__push_put(s, o->parts) : shmipc__req_put(s, o->parts);
    return rc == SHMIPC_EFULL ? 0 : rc ? rc : 1;
}

/* Queues, waiting for room if need be. Then wakes one who waits for messages. */
static int shmipc__offer_make(shmipc__offer *o, int64_t timeout_ns)
{
    shmipc_socket *s = o->socket;
    int rc = shmipc__offer_try(o);
    if (SHMIPC__UNLIKELY(rc == 0)) {
        rc = shmipc__socket_await(s, &s->channel->out, shmipc__offer_try, o, timeout_ns);
        if (rc == SHMIPC_ETIMEDOUT) {
            if (timeout_ns == 0) shmipc__count_dropped(s, s->stats.dropped + 1);
            rc = shmipc__fail(s->ctx, SHMIPC_EFULL,
                              "the queue of \"%s\" holds %u messages: wait longer, read faster, or "
                              "open it with more depth",
                              s->segment->name, (unsigned)s->depth);
        }
    }
    if (rc < 0) return rc;
    shmipc__socket_ring(s, &s->channel->in, 1);
    return SHMIPC_OK;
}

static int shmipc__send_parts(shmipc_socket *s, const shmipc__parts *p, int64_t timeout_ns)
{
    shmipc__offer o;
    int rc;
    o.socket = s;
    o.parts = p;
    o.loan = NULL;
    switch (s->role) {
    case SHMIPC_PUB:
        rc = shmipc__pub_put(s, p);
        if (!rc) shmipc__socket_ring(s, &s->channel->in, SHMIPC__WAKE_ALL);
        break;
    case SHMIPC_PUSH: rc = shmipc__offer_make(&o, timeout_ns); break;
    case SHMIPC_REQ:
        shmipc__req_abandon(s);
        rc = shmipc__offer_make(&o, timeout_ns);
        if (rc) shmipc__req_abandon(s);
        break;
    case SHMIPC_REP:
        if (!s->pending.data)
            return shmipc__fail(s->ctx, SHMIPC_ESTATE, "no request on \"%s\" to answer: receive one first",
                                s->segment->name);
        if (s->loaned == SHMIPC__LOAN_CELL)
            return shmipc__fail(s->ctx, SHMIPC_ESTATE, "the answer on \"%s\" is out on loan: commit or discard it",
                                s->segment->name);
        rc = shmipc__rep_put(s, p);
        break;
    default: return shmipc__wrong_role(s, "sending");
    }
    if (SHMIPC__LIKELY(rc == SHMIPC_OK)) return shmipc__count_sent(s, 1, p->len), SHMIPC_OK;
    if (rc == SHMIPC_EFULL) return rc;
    s->stats.errors++;
    shmipc__store_relaxed_u64(&s->place->errors, s->stats.errors);
    return rc;
}

SHMIPC_API int shmipc_send_tag(shmipc_socket *s, const void *data, size_t len, uint32_t tag, int64_t timeout_ns)
{
    shmipc__parts p;
    int rc = shmipc__socket_usable(s);
    if (SHMIPC__UNLIKELY(rc || (!data && len) || tag > SHMIPC__TAG_USER)) return rc ? rc : SHMIPC_EINVAL;
    if (SHMIPC__UNLIKELY(len > s->max_message) && (s->role != SHMIPC_REP || s->pending.data))
        return s->role == SHMIPC_SUB || s->role == SHMIPC_PULL ? shmipc__wrong_role(s, "sending")
                                                               : shmipc__too_long(s, len);
    p.data = data;
    p.len = len;
    p.topic = NULL;
    p.topic_len = 0;
    p.tag = tag | (s->sealed ? SHMIPC__TAG_SEALED : 0);
    return shmipc__send_parts(s, &p, timeout_ns);
}

SHMIPC_API int shmipc_send(shmipc_socket *s, const void *data, size_t len, int64_t timeout_ns)
{
    return shmipc_send_tag(s, data, len, 0, timeout_ns);
}

SHMIPC_API int shmipc_send_topic(shmipc_socket *s, const void *topic, size_t topic_len, const void *data, size_t len,
                                 uint32_t tag)
{
    shmipc__parts p;
    int rc = shmipc__socket_usable(s);
    if (rc || (!data && len) || (!topic && topic_len) || topic_len > 255 || tag > SHMIPC__TAG_USER)
        return rc ? rc : SHMIPC_EINVAL;
    if (s->role != SHMIPC_PUB) return shmipc__wrong_role(s, "a topic");
    if (len > s->max_message) return shmipc__too_long(s, len);
    p.data = data;
    p.len = len;
    p.topic = topic;
    p.topic_len = (uint32_t)topic_len;
    p.tag = tag | SHMIPC__TAG_TOPIC | (s->sealed ? SHMIPC__TAG_SEALED : 0);
    return shmipc__send_parts(s, &p, 0);
}

/* All are there before anybody is woken. The first may wait for room. */
SHMIPC_API int shmipc_send_many(shmipc_socket *s, const shmipc_item *items, uint32_t count, int64_t timeout_ns)
{
    uint64_t bytes = 0;
    uint32_t i = 0;
    int rc = shmipc__socket_usable(s);
    if (rc || (!items && count) || count > 0x7fffffff) return rc ? rc : SHMIPC_EINVAL;
    if (s->role != SHMIPC_PUB && s->role != SHMIPC_PUSH) return shmipc__wrong_role(s, "a batch");
    for (i = 0; i < count && !rc; i++) {
        shmipc__parts p;
        p.data = items[i].data;
        p.len = (size_t)items[i].len;
        p.topic = NULL;
        p.topic_len = 0;
        p.tag = items[i].tag | (s->sealed ? SHMIPC__TAG_SEALED : 0);
        if ((!p.data && p.len) || items[i].tag > SHMIPC__TAG_USER) rc = SHMIPC_EINVAL;
        else if (items[i].len > s->max_message) rc = shmipc__too_long(s, items[i].len);
        else rc = s->role == SHMIPC_PUB ? shmipc__pub_put(s, &p) : shmipc__push_put(s, &p);
        if (rc == SHMIPC_EFULL && i == 0) {
            rc = shmipc__send_parts(s, &p, timeout_ns);
            if (!rc) shmipc__count_sent(s, (uint64_t)-1, (uint64_t)-items[0].len); /* counted below, with the others */
        }
        if (rc) break;
        bytes += items[i].len;
    }
    if (!i) return rc; /* 0 of 0 */
    shmipc__count_sent(s, i, bytes);
    shmipc__socket_ring(s, &s->channel->in, s->role == SHMIPC_PUB ? SHMIPC__WAKE_ALL : i);
    return (int)i;
}

/* ---- loans ---- */

/* A reply's block: the cell is WRITING as long as the loan is out. 0: nobody wants it any more, or a code. */
static int shmipc__loan_cell(shmipc_socket *s, uint64_t len, shmipc_loan *l)
{
    shmipc__cell *cell = &s->cells[s->pending_cell];
    int rc;
    if (!shmipc__rep_claim(s, cell, &s->loan_word)) return 0;
    rc = shmipc__cell_room(s, cell, len, &l->flags, &l->data);
    if (rc) return shmipc__rep_end(cell, s->loan_word, SHMIPC__CELL_WAITING), rc;
    return SHMIPC__LOAN_CELL;
}

static int shmipc__loan_chunk(shmipc_socket *s, uint64_t len, shmipc_loan *l)
{
    shmipc_queue_msg m;
    uint64_t head = s->role == SHMIPC_REQ ? sizeof(shmipc__request) : 0;
    int rc = shmipc__queue_room_open(s, head, len, &m, &l->data);
    if (rc) return rc == SHMIPC_EBUSY ? SHMIPC_EFULL : rc;
    l->word = s->loan_word = m.word;
    l->chunk = s->loan_chunk = m.chunk;
    l->flags = m.tag;
    return SHMIPC__LOAN_CHUNK;
}

/* Where the loan lies, or a code. What is sealed, or small and goes behind a header, is written at commit. */
static int shmipc__loan_room(shmipc_socket *s, uint64_t len, shmipc_loan *l)
{
    int rc = 0, small = len <= SHMIPC__QUEUE_NOOK;
    if (s->role == SHMIPC_PUB && !s->sealed) {
        rc = shmipc__pub_room(s, len, &l->data);
        return rc ? rc : SHMIPC__LOAN_SLOT;
    }
    if (!s->sealed && (s->role == SHMIPC_PUSH || (s->role == SHMIPC_REQ && !small)))
        return shmipc__loan_chunk(s, len, l);
    if (!s->sealed && s->role == SHMIPC_REP && !small) rc = shmipc__loan_cell(s, len, l);
    if (rc) return rc;
    rc = shmipc__scratch(s, len ? (size_t)len : 1);
    l->data = s->scratch;
    return rc ? rc : SHMIPC__LOAN_PRIVATE;
}

SHMIPC_API int shmipc_loan_open(shmipc_socket *s, size_t len, shmipc_loan *loan)
{
    shmipc_loan l;
    int rc = shmipc__socket_usable(s);
    if (rc || !loan) return rc ? rc : SHMIPC_EINVAL;
    if (s->role == SHMIPC_SUB || s->role == SHMIPC_PULL) return shmipc__wrong_role(s, "a loan");
    if (s->loaned)
        return shmipc__fail(s->ctx, SHMIPC_ESTATE, "a loan of \"%s\" is open: commit or discard it first",
                            s->segment->name);
    if (s->role == SHMIPC_REP && !s->pending.data)
        return shmipc__fail(s->ctx, SHMIPC_ESTATE, "no request on \"%s\" to answer", s->segment->name);
    if (len > s->max_message) return shmipc__too_long(s, len);
    memset(&l, 0, sizeof l);
    l.socket = s;
    l.len = l.room = len;
    rc = shmipc__loan_room(s, len, &l);
    if (rc < 0) return rc;
    s->loaned = l.kind = (uint32_t)rc;
    *loan = l;
    return SHMIPC_OK;
}

static int shmipc__loan_check(const shmipc_loan *l)
{
    int rc = l ? shmipc__socket_usable(l->socket) : SHMIPC_EINVAL;
    if (rc) return rc;
    return l->socket->loaned == l->kind && l->data ? SHMIPC_OK : SHMIPC_ESTATE;
}

static shmipc_queue_msg shmipc__loan_queued(const shmipc_loan *l)
{
    shmipc_queue_msg m;
    memset(&m, 0, sizeof m);
    m.data = l->data;
    m.word = l->word;
    m.chunk = l->chunk;
    m.tag = l->flags | l->tag;
    m.len_bytes = m.tag & SHMIPC__TAG_LARGE ? (uint32_t)SHMIPC__QUEUE_MAX : (uint32_t)l->len;
    return m;
}

static int shmipc__loan_queue(shmipc_socket *s, const shmipc_loan *l, int64_t timeout_ns)
{
    shmipc_queue_msg m = shmipc__loan_queued(l);
    shmipc__offer o;
    int rc;
    o.socket = s;
    o.parts = NULL;
    o.loan = &m;
    if (s->role == SHMIPC_PUSH) {
        if (m.tag & SHMIPC__TAG_LARGE) shmipc__queue_describe(s, &m, 0, l->len);
        return shmipc__offer_make(&o, timeout_ns);
    }
    shmipc__req_abandon(s);
    rc = shmipc__req_claim(s);
    if (rc) return rc == SHMIPC_EBUSY ? SHMIPC_EFULL : rc;
    shmipc__req_head(s, m.chunk);
    shmipc__queue_describe(s, &m, sizeof(shmipc__request), l->len);
    rc = shmipc__offer_make(&o, timeout_ns);
    if (rc) shmipc__req_abandon(s);
    return rc;
}

static void shmipc__loan_reply(shmipc_socket *s, const shmipc_loan *l)
{
    shmipc__cell *cell = &s->cells[s->pending_cell];
    shmipc__store_relaxed_u64(&cell->nook[1], l->len);
    shmipc__store_relaxed_u32(&cell->tag, l->flags | l->tag);
    shmipc__rep_end(cell, s->loan_word, SHMIPC__CELL_DONE);
    shmipc__cell_ring(s, cell);
    shmipc__rep_finish(s);
}

SHMIPC_API int shmipc_loan_commit(shmipc_loan *l, int64_t timeout_ns)
{
    shmipc_socket *s;
    int rc = shmipc__loan_check(l);
    if (rc) return rc;
    s = l->socket;
    if (l->len > l->room || l->tag > SHMIPC__TAG_USER)
        return shmipc__fail(s->ctx, SHMIPC_EINVAL, "len is above what was lent, or tag above 24 bits");
    switch (l->kind) {
    case SHMIPC__LOAN_SLOT:
        rc = shmipc__pub_commit(s, l->len, l->tag);
        if (!rc) shmipc__socket_ring(s, &s->channel->in, SHMIPC__WAKE_ALL);
        break;
    case SHMIPC__LOAN_CHUNK: rc = shmipc__loan_queue(s, l, timeout_ns); break;
    case SHMIPC__LOAN_CELL: shmipc__loan_reply(s, l); break;
    default:
        rc = shmipc_send_tag(s, l->data, (size_t)l->len, l->tag, timeout_ns);
        if (rc) return rc;
        s->stats.sent--, s->stats.bytes_sent -= l->len; /* counted below */
    }
    if (rc) return rc;
    s->loaned = 0;
    l->data = NULL;
    shmipc__count_sent(s, 1, l->len);
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_loan_discard(shmipc_loan *l)
{
    int rc = shmipc__loan_check(l);
    if (rc) return rc;
    if (l->kind == SHMIPC__LOAN_SLOT) (void)shmipc_lane_discard(&l->socket->writer);
    if (l->kind == SHMIPC__LOAN_CHUNK) {
        shmipc_queue_msg m = shmipc__loan_queued(l);
        shmipc__queue_room_close(l->socket, &m);
    }
    if (l->kind == SHMIPC__LOAN_CELL) {
        shmipc_socket *s = l->socket;
        shmipc__rep_end(&s->cells[s->pending_cell], s->loan_word, SHMIPC__CELL_WAITING);
    }
    l->socket->loaned = 0;
    l->data = NULL;
    return SHMIPC_OK;
}

/* ---- receiving ---- */

static int shmipc__want_once(const shmipc__want *w)
{
    switch (w->socket->role) {
    case SHMIPC_SUB: return shmipc__sub_try(w->socket, w);
    case SHMIPC_PULL: return shmipc__pull_try(w->socket, w);
    case SHMIPC_REP: return shmipc__rep_try(w->socket, w);
    default: return shmipc__req_try(w->socket, w);
    }
}

static int shmipc__want_try(void *arg)
{
    int rc = shmipc__want_once((const shmipc__want *)arg);
    return rc == SHMIPC_EAGAIN ? 0 : rc ? rc : 1;
}

static int shmipc__want_fits(shmipc_socket *s)
{
    switch (s->role) {
    case SHMIPC_SUB:
    case SHMIPC_PULL: return SHMIPC_OK;
    case SHMIPC_REQ:
        if (s->cell_word) return SHMIPC_OK;
        return shmipc__fail(s->ctx, SHMIPC_ESTATE, "no request on \"%s\" is in progress: send one first",
                            s->segment->name);
    case SHMIPC_REP:
        if (!s->pending.data) return SHMIPC_OK;
        return shmipc__fail(s->ctx, SHMIPC_ESTATE, "the request received on \"%s\" is not answered yet",
                            s->segment->name);
    default: return shmipc__wrong_role(s, "receiving");
    }
}

/* At the end of what was there, in mid-stream, reader and writer would fight over each line from now on, as in a queue:
 * a microsecond's rest lets the writer get ahead. A single message that is answered never meets it. */
static SHMIPC__NOINLINE int shmipc__receive_rest(const shmipc__want *w)
{
    int i;
    w->socket->row = 0;
    for (i = 0; i < 64; i++) shmipc__pause();
    return shmipc__want_once(w);
}

static int shmipc__receive(shmipc_socket *s, void *buf, size_t cap, int view, shmipc_msg *m, int64_t timeout_ns)
{
    shmipc__want w;
    int rc = shmipc__want_fits(s);
    if (SHMIPC__UNLIKELY(rc)) return rc;
    w.socket = s;
    w.buf = buf;
    w.cap = cap;
    w.view = view;
    w.msg = m;
    m->socket = s;
    s->looked = 0; /* what lies there already may have been given up */
    rc = shmipc__want_once(&w);
    if (SHMIPC__UNLIKELY(rc == SHMIPC_EAGAIN && s->row >= 16)) rc = shmipc__receive_rest(&w);
    if (rc == SHMIPC_EAGAIN) {
        if (timeout_ns == 0) return SHMIPC_ETIMEDOUT;
        if (s->role == SHMIPC_REQ && s->wait != SHMIPC_WAIT_SPIN && shmipc__socket_waiter(s) == SHMIPC_OK) {
            shmipc__store_relaxed_u32(&s->cells[s->cell].bell, s->waiter.id + 1);
        }
        rc = shmipc__socket_await(s, s->role == SHMIPC_REQ ? NULL : &s->channel->in, shmipc__want_try, &w, timeout_ns);
        rc = rc == 1 ? SHMIPC_OK : rc;
    }
    if (SHMIPC__LIKELY(rc == SHMIPC_OK)) {
        s->row++;
        shmipc__count_received(s, m->len);
        s->views += m->pin != 0;
    } else if (rc != SHMIPC_ETIMEDOUT && rc != SHMIPC_EINTR) {
        s->stats.errors++;
        shmipc__store_relaxed_u64(&s->place->errors, s->stats.errors);
    }
    return rc;
}

SHMIPC_API int shmipc_recv_msg(shmipc_socket *s, void *buf, size_t cap, shmipc_msg *msg, int64_t timeout_ns)
{
    int rc = shmipc__socket_usable(s);
    if (SHMIPC__UNLIKELY(rc || !msg || (!buf && cap))) return rc ? rc : SHMIPC_EINVAL;
    return shmipc__receive(s, buf, cap, 0, msg, timeout_ns);
}

SHMIPC_API int shmipc_recv(shmipc_socket *s, void *buf, size_t cap, size_t *len, int64_t timeout_ns)
{
    shmipc_msg m;
    int rc = shmipc__socket_usable(s);
    if (SHMIPC__UNLIKELY(rc || !len || (!buf && cap))) return rc ? rc : SHMIPC_EINVAL;
    rc = shmipc__receive(s, buf, cap, 0, &m, timeout_ns);
    if (!rc) *len = (size_t)m.len;
    return rc;
}

SHMIPC_API int shmipc_take(shmipc_socket *s, shmipc_msg *msg, int64_t timeout_ns)
{
    int rc = shmipc__socket_usable(s);
    if (rc || !msg) return rc ? rc : SHMIPC_EINVAL;
    return shmipc__receive(s, NULL, 0, 1, msg, timeout_ns);
}

static int shmipc__view_end(shmipc_msg *m, int reject)
{
    shmipc_socket *s = m->socket;
    shmipc_queue_msg q;
    shmipc_lane_msg lm;
    if (m->pin == SHMIPC__PIN_PRIVATE) return free((void *)(uintptr_t)m->word), SHMIPC_OK;
    switch (s->role) {
    case SHMIPC_SUB:
        memset(&lm, 0, sizeof lm);
        lm.pin = m->pin;
        return m->sender < s->feed_count ? shmipc_lane_release(&s->feeds[m->sender]->reader, &lm) : SHMIPC_EINVAL;
    case SHMIPC_PULL:
        q = shmipc__pull_held(m);
        if (shmipc__queue_owns(&s->queue, &q, SHMIPC__QUEUE_HELD)) return SHMIPC_ESTATE;
        if (reject) (void)shmipc_queue_reject(&s->queue, &q);
        else shmipc__queue_done(s, &q);
        shmipc__socket_ring(s, reject ? &s->channel->in : &s->channel->out, 1);
        return SHMIPC_OK;
    case SHMIPC_REQ:
        if (m->chunk >= s->cell_count || shmipc__load_relaxed_u64(&s->cells[m->chunk].word) != m->word)
            return SHMIPC_ESTATE;
        shmipc__cell_leave(s, &s->cells[m->chunk], m->word);
        return SHMIPC_OK;
    default: return SHMIPC_ESTATE;
    }
}

/* Small messages of lanes and requests hold nothing, so releasing them only ends their use. */
static int shmipc__msg_end(shmipc_msg *m, int reject)
{
    shmipc_socket *s;
    int rc;
    if (!m || !m->socket) return SHMIPC_EINVAL;
    s = m->socket;
    if (shmipc__load_relaxed_u32(&s->ctx->forked)) return SHMIPC_EFORKED;
    if (reject && s->role != SHMIPC_PULL) return shmipc__wrong_role(s, "rejecting");
    rc = m->pin ? shmipc__view_end(m, reject) : SHMIPC_OK;
    if (rc) return rc;
    s->views -= m->pin != 0;
    m->pin = 0;
    m->data = NULL;
    m->socket = NULL;
    if (s->closing && !s->views) shmipc__socket_closed(&s->dependent);
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_release(shmipc_msg *msg) { return shmipc__msg_end(msg, 0); }
SHMIPC_API int shmipc_reject(shmipc_msg *msg) { return shmipc__msg_end(msg, 1); }

SHMIPC_API int shmipc_recv_many(shmipc_socket *s, void *buf, size_t cap, shmipc_msg *msgs, uint32_t count,
                                int64_t timeout_ns)
{
    size_t at = 0;
    uint32_t n = 0;
    int rc = shmipc__socket_usable(s);
    if (rc || !msgs || (!buf && cap) || count == 0 || count > 0x7fffffff) return rc ? rc : SHMIPC_EINVAL;
    if (s->role != SHMIPC_SUB && s->role != SHMIPC_PULL) return shmipc__wrong_role(s, "a batch");
    while (n < count && at <= cap) {
        rc = shmipc__receive(s, (unsigned char *)buf + at, cap - at, 0, &msgs[n], n ? 0 : timeout_ns);
        if (rc) break;
        at += ((size_t)msgs[n++].len + 7) / 8 * 8;
    }
    return n ? (int)n : rc;
}

SHMIPC_API int shmipc_request(shmipc_socket *s, const void *data, size_t len, void *buf, size_t cap, size_t *reply_len,
                              int64_t timeout_ns)
{
    int64_t start, spent;
    int rc = shmipc__socket_usable(s);
    if (rc || !reply_len || (!buf && cap)) return rc ? rc : SHMIPC_EINVAL;
    if (s->role != SHMIPC_REQ) return shmipc__wrong_role(s, "a request");
    start = timeout_ns > 0 ? shmipc__os_now_ns() : 0;
    rc = shmipc_send(s, data, len, timeout_ns);
    spent = timeout_ns > 0 ? shmipc__os_now_ns() - start : 0;
    if (!rc) rc = shmipc_recv(s, buf, cap, reply_len, timeout_ns > 0 && spent >= timeout_ns ? 0 : timeout_ns - spent);
    if (rc == SHMIPC_ETIMEDOUT || rc == SHMIPC_EINTR) shmipc__req_abandon(s);
    return rc;
}

SHMIPC_API int shmipc_abandon(shmipc_socket *s)
{
    int rc = shmipc__socket_usable(s);
    if (rc) return rc;
    if (s->role != SHMIPC_REQ) return shmipc__wrong_role(s, "abandoning");
    shmipc__req_abandon(s);
    return SHMIPC_OK;
}

/* ---- looking ---- */

SHMIPC_API int shmipc_socket_get_stats(shmipc_socket *s, shmipc_socket_stats *st)
{
    int rc = shmipc__socket_usable(s);
    if (rc || !st) return rc ? rc : SHMIPC_EINVAL;
    memset(st, 0, sizeof *st);
    st->sent = s->stats.sent;
    st->received = s->stats.received;
    st->bytes_sent = s->stats.bytes_sent;
    st->bytes_received = s->stats.bytes_received;
    st->dropped = s->role == SHMIPC_SUB ? shmipc__sub_missed(s) : s->stats.dropped;
    st->errors = s->stats.errors;
    st->waits = s->stats.waits;
    st->queued = s->role == SHMIPC_SUB ? shmipc__sub_unread(s) : shmipc__queue_untaken(s);
    if (st->queued > s->stats.high_water) s->stats.high_water = st->queued;
    st->high_water = s->stats.high_water;
    shmipc__store_relaxed_u64(&s->place->high_water, st->high_water);
    st->depth = s->params ? s->depth : 0;
    st->max_message = s->params ? s->max_message : 0;
    st->role = s->role;
    st->peers = shmipc__peers_count(s, shmipc__other_side(s->role), 0xffffffffu);
    st->memory = shmipc__os_backed(s->segment->file.file);
    return SHMIPC_OK;
}

SHMIPC_API const char *shmipc_socket_name(const shmipc_socket *s) { return s ? s->segment->name : ""; }
SHMIPC_API int shmipc_socket_role(const shmipc_socket *s) { return s ? (int)s->role : SHMIPC_EINVAL; }

SHMIPC_API int shmipc_socket_peers(shmipc_socket *s, shmipc_peer *peers, uint32_t capacity)
{
    uint32_t i, n = 0;
    int rc = shmipc__socket_usable(s);
    if (rc || (!peers && capacity)) return rc ? rc : SHMIPC_EINVAL;
    for (i = 0; i < s->segment->head.capacity; i++) {
        shmipc__place *p = &s->channel->places[i];
        uint32_t role = shmipc__load_acquire_u32(&p->role);
        uint64_t life = shmipc__load_relaxed_u64(&p->life);
        if (!role || role > SHMIPC_REP || !shmipc_segment_holds(s->segment, i, life)) continue;
        if (n++ >= capacity) continue;
        peers[n - 1].life = life;
        peers[n - 1].index = i;
        peers[n - 1].role = role;
        peers[n - 1].pid = shmipc__load_relaxed_u32(&p->pid);
        peers[n - 1].alive = shmipc_segment_alive(s->segment, i) == 1;
        peers[n - 1].sent = shmipc__load_relaxed_u64(&p->sent);
        peers[n - 1].received = shmipc__load_relaxed_u64(&p->received);
    }
    return (int)n;
}

/* ---- polling ---- */

/* Which of the events hold now. */
static uint32_t shmipc__socket_events(shmipc_socket *s, uint32_t events)
{
    uint32_t ready = 0;
    int in = 0;
    if (events & SHMIPC_POLL_IN) {
        if (s->role == SHMIPC_SUB) in = shmipc__sub_news(s);
        if (s->role == SHMIPC_PULL) in = shmipc__queue_news(s);
        if (s->role == SHMIPC_REP) in = !s->pending.data && shmipc__queue_news(s);
        if (s->role == SHMIPC_REQ && s->cell_word) {
            uint32_t state = shmipc__cell_state(shmipc__load_acquire_u64(&s->cells[s->cell].word));
            in = state != SHMIPC__CELL_WAITING && state != SHMIPC__CELL_WRITING;
        }
        if (in) ready |= SHMIPC_POLL_IN;
    }
    if (events & SHMIPC_POLL_OUT) {
        int out = s->role == SHMIPC_PUB || (s->role == SHMIPC_REP && s->pending.data);
        if (s->role == SHMIPC_PUSH || s->role == SHMIPC_REQ) out = shmipc__queue_vacancy(s);
        if (out) ready |= SHMIPC_POLL_OUT;
    }
    return ready;
}

static int shmipc__poll_ready(void *arg)
{
    shmipc_poll_item *it = (shmipc_poll_item *)arg;
    return (int)shmipc__socket_events(it->socket, it->events);
}

/* An item that waits for both kinds of event has two gates. */
static uint32_t shmipc__poll_items(shmipc_poll_item *items, uint32_t count, shmipc__wait_item *w)
{
    uint32_t i, n = 0;
    for (i = 0; i < count; i++) {
        shmipc_socket *s = items[i].socket;
        int reply = s->role == SHMIPC_REQ && s->cell_word;
        if (items[i].events & SHMIPC_POLL_IN) {
            w[n].gate = reply ? NULL : &s->channel->in;
            w[n].ready = shmipc__poll_ready;
            w[n++].arg = &items[i];
        }
        if (items[i].events & SHMIPC_POLL_OUT && (s->role == SHMIPC_PUSH || s->role == SHMIPC_REQ)) {
            w[n].gate = &s->channel->out;
            w[n].ready = shmipc__poll_ready;
            w[n++].arg = &items[i];
        }
    }
    return n;
}

static int shmipc__poll_look(shmipc_poll_item *items, uint32_t count)
{
    uint32_t i;
    int n = 0;
    for (i = 0; i < count; i++) {
        items[i].ready = shmipc__socket_events(items[i].socket, items[i].events);
        n += items[i].ready != 0;
    }
    return n;
}

SHMIPC_API int shmipc_poll(shmipc_poll_item *items, uint32_t count, int64_t timeout_ns)
{
    shmipc__wait_item *w;
    uint32_t i, n;
    int rc = SHMIPC_OK, found;
    if (!items || count == 0 || count > 1024) return SHMIPC_EINVAL;
    for (i = 0; i < count && !rc; i++) {
        rc = shmipc__socket_usable(items[i].socket);
        if (!rc && (items[i].events == 0 || items[i].events > 3)) rc = SHMIPC_EINVAL;
    }
    if (rc) return rc;
    found = shmipc__poll_look(items, count);
    if (found || timeout_ns == 0) return found ? found : SHMIPC_ETIMEDOUT;
    w = (shmipc__wait_item *)calloc(2 * (size_t)count, sizeof *w);
    if (!w) return SHMIPC_ENOMEM;
    n = shmipc__poll_items(items, count, w);
    rc = shmipc__socket_waiter(items[0].socket);
    for (i = 0; i < count; i++) {
        shmipc_socket *s = items[i].socket;
        if (!rc && s->role == SHMIPC_REQ && s->cell_word) {
            shmipc__store_relaxed_u32(&s->cells[s->cell].bell, items[0].socket->waiter.id + 1);
        }
    }
    if (!rc) rc = shmipc__socket_wait(items[0].socket, w, n, timeout_ns);
    free(w);
    found = shmipc__poll_look(items, count);
    return found ? found : rc ? rc : SHMIPC_ETIMEDOUT;
}

/* ---- a descriptor for event loops ---- */

SHMIPC_API int shmipc_fd(shmipc_socket *s)
{
    int rc = shmipc__socket_usable(s), fd = -1;
    uint32_t bell;
    if (rc) return rc;
    if (s->post >= 0) return s->post;
    if (s->role == SHMIPC_PUB || s->role == SHMIPC_PUSH) return shmipc__wrong_role(s, "a descriptor");
    rc = shmipc__bells_of(s->ctx, &s->bells);
    if (!rc) rc = shmipc__bell_claim(s->bells, s->ctx->life, &bell);
    if (rc) return shmipc__socket_fail(s, rc, "making a descriptor");
    rc = shmipc__post_open(s->ctx, bell, &fd);
    if (rc) {
        shmipc__bell_free(s->bells, bell, s->ctx->life);
        return shmipc__socket_fail(s, rc, "making a descriptor");
    }
    shmipc__store_relaxed_u32(&s->bells.at[bell].post, 1);
    s->post_bell = bell;
    s->post = fd;
    return fd;
}

/* What shmipc__wait does before it sleeps, for a sleep that somebody else does. */
SHMIPC_API int shmipc_fd_arm(shmipc_socket *s)
{
    uint32_t word;
    int rc = shmipc__socket_usable(s);
    if (rc) return rc;
    if (s->post < 0) {
        return shmipc__fail(s->ctx, SHMIPC_ESTATE, "shmipc_fd of \"%s\" was not asked for", s->segment->name);
    }
    rc = shmipc__socket_tend(s, shmipc__os_now_ns());
    if (rc) return rc;
    shmipc__post_drain(s->post);
    word = shmipc__load_relaxed_u32(&s->bells.at[s->post_bell].word);
    if (!(word & 1)) shmipc__store_release_u32(&s->bells.at[s->post_bell].word, word + 1); /* [B2] */
    if (s->role == SHMIPC_REQ && s->cell_word) shmipc__store_relaxed_u32(&s->cells[s->cell].bell, s->post_bell + 1);
    else shmipc__gate_declare(&s->channel->in, s->post_bell);
    shmipc__fence_seq_cst(); /* fence W of >>wait */
    if (!shmipc__socket_events(s, SHMIPC_POLL_IN)) return 0;
    shmipc__bell_disarm(&s->bells.at[s->post_bell]);
    (void)shmipc__gate_withdraw(&s->channel->in, s->post_bell);
    return 1;
}

#ifdef __cplusplus
}
#endif

#endif /* SHMIPC_SOCKET_IMPLEMENTATION */
