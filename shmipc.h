/* shmipc.h - v0.1.0 - crash-safe, lock-free inter-process communication on one machine.
 *
 * >>manual
 *
 * Rings and named segments in shared memory for processes, threads and cores that may be killed or stopped at any
 * instruction. Whoever survives goes on: nothing that was acknowledged is lost, nothing is delivered twice unless its
 * description says so, nothing stays occupied by the dead, and a name is free again without anybody deleting a file.
 *
 * USE
 *
 * Copy this file into your project. In *one* C or C++ file define SHMIPC_IMPLEMENTATION before you include it (or
 * compile shmipc.c); everywhere else just include it. C11 or C++11 and later. On Linux link with -pthread (glibc 2.34
 * and musl need nothing).
 *
 * >>example hello
 * #define SHMIPC_IMPLEMENTATION
 * #include "shmipc.h"
 *
 * enum { CAPACITY = 4096 };
 *
 * static int lay_out(shmipc_segment *s, void *arg)  // runs once, before anybody else can see the segment
 * {
 *     void *mem;
 *     int rc = shmipc_segment_at(s, 0, shmipc_spsc_size(CAPACITY), &mem);
 *     return (void)arg, rc ? rc : shmipc_spsc_init(mem, shmipc_spsc_size(CAPACITY), CAPACITY);
 * }
 *
 * int main(void)                                    // another process does the same, with shmipc_spsc_reader
 * {
 *     shmipc_ctx *ctx;
 *     shmipc_segment *s;
 *     shmipc_segment_config cfg;
 *     shmipc_spsc_writer w;
 *     void *mem;
 *     shmipc_segment_config_init(&cfg);
 *     cfg.mode = SHMIPC_OPEN_OR_CREATE;
 *     cfg.size = shmipc_spsc_size(CAPACITY);
 *     cfg.init = lay_out;
 *     if (shmipc_ctx_open(&ctx, NULL)) return 1;
 *     if (shmipc_segment_open(ctx, "robot/pose", &cfg, &s)) return 1;
 *     if (shmipc_segment_at(s, 0, cfg.size, &mem) || shmipc_spsc_writer_attach(&w, mem, cfg.size)) return 1;
 *     if (shmipc_spsc_send(&w, "hello", 5, 0)) return 1;
 *     shmipc_ctx_close(ctx);
 *     return 0;
 * }
 * >>end
 *
 * CONTENTS: search for the tag. Declarations with their reference first, then the implementation, where each section
 * begins with its byte map, who writes what, its release/acquire pairs, and what a death between two lines leaves.
 *
 *     >>config   options                                 >>errors   result codes
 *     >>spsc     byte ring, one writer, one reader       >>lane     broadcast, one writer, any number of readers
 *     >>queue    many producers, many consumers          >>ctx      a process's life in one scope
 *     >>segment  named memory, found by all              >>os       the operating system, one small interface
 *     >>block    size-class blocks inside a segment      >>wait     sleeping until there is something to do
 *     >>compiler >>atomic                                what the compilers differ in
 *
 * Blocks and waiting have no public functions yet; they are there for the headers above this one.
 *
 * CONCEPTS
 *
 * scope    A directory of segment files with one registry: by default the user's own, /dev/shm/shmipc-<uid>. Another
 *          directory: the config or $SHMIPC_DIR. Containers share a scope by sharing the directory.
 * life     What a context holds: a number never used again, and a lock of the kernel's that proves this process alive.
 *          Never a process id, a heartbeat or a timeout: a stopped process is alive, and nobody waits for it.
 * segment  A file that lasts exactly as long as somebody living is attached. Each attachment has an index in it, which
 *          rings take as owner; sweeping gives back what a dead attachment held, then its index is used again.
 * ring     Works over any memory that you bring, in a segment or not; attaching makes a private handle.
 *
 * RULES FOR ALL FUNCTIONS
 *
 * Results are SHMIPC_OK or a positive count, or a negative SHMIPC_E... code; outputs are written only on success.
 * shmipc_ctx_detail says what was found and what to do about it. A ring handle belongs to one thread at a time; a
 * context and a segment may be used by several. Nothing blocks unless its entry says so, and rings never make a system
 * call, allocate or take a lock. Nothing prints, exits, starts a thread or installs a signal handler; no function but
 * the ring operations may be called from one. After fork the child's handles of contexts and segments answer
 * SHMIPC_EFORKED; rings over plain memory go on working, but one handle must not be used on both sides.
 *
 * LIMITS
 *
 * - Memory is trusted with nothing (every index and length is checked in a local copy), except that a process with
 *   write access may truncate a file under the others, which ends them with SIGBUS.
 * - Processes that share memory must agree on the layout: versions are stamped and refused politely when they differ.
 *   32- and 64-bit processes agree.
 * - A registry holds about a million different names, over time; then new ones are refused (SHMIPC_ETABLE) until its
 *   file is removed while nobody uses the directory. Segments that are left then are swept by the next who open it.
 * - Contexts and segments: Linux. Rings: everywhere. Without lock-free 64-bit atomics: the SPSC ring and inline lanes.
 *
 * Licence: MIT, at the end of this file.
 */

/* Feature macros come first: without them the C library hides what the OS layer needs. */
#if !defined(SHMIPC_RINGS_ONLY) && defined(__linux__)
#if !defined(_GNU_SOURCE)
#if defined(_FEATURES_H) || defined(__BIONIC__)
#error "shmipc.h needs _GNU_SOURCE: include it before any system header, or compile with -D_GNU_SOURCE"
#endif
#define _GNU_SOURCE 1
#endif
#endif
#if !defined(SHMIPC_RINGS_ONLY) && defined(__linux__) && !defined(_FILE_OFFSET_BITS)
#define _FILE_OFFSET_BITS 64
#endif

#ifndef SHMIPC_H
#define SHMIPC_H

#include <stddef.h>
#include <stdint.h>

/* ---------------------------------------------------------------------------------------------
 * >>config  Options: define them before the include
 *
 *   in one file        SHMIPC_IMPLEMENTATION    creates the implementation there
 *   everywhere alike   SHMIPC_STATIC            every function is static; then each file that includes needs the
 *                                               implementation, and unused ones cost nothing
 *                      SHMIPC_API               how public functions are declared (dllexport, visibility); `extern`
 *                      SHMIPC_RINGS_ONLY        leaves out all that needs an operating system or a C library
 *   in all programs    SHMIPC_WORD_BITS         64; 32 chooses the lane without 64-bit atomics, which only programs
 *   that share memory                           with the same choice can read (the stamp refuses others)
 *   with the implementation, as each program likes
 *                      SHMIPC_USE_STDATOMIC     C11 <stdatomic.h> in place of the compiler's built-ins
 *                      SHMIPC_ATOMICS_HEADER    file in place of all atomic accesses (model checkers)
 *                      SHMIPC_OS_HEADER         file in place of the section >>os (models, other systems)
 * ------------------------------------------------------------------------------------------- */

#ifndef SHMIPC_API
#ifdef SHMIPC_STATIC
#if defined(__GNUC__) || defined(__clang__)
#define SHMIPC_API static __attribute__((unused))
#else
#define SHMIPC_API static
#endif
#else
#define SHMIPC_API extern
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* SHMIPC_CDEF_BEGIN */

/* ---------------------------------------------------------------------------------------------
 * >>errors  Result codes: 0 or positive is success, negative is one of these
 * ------------------------------------------------------------------------------------------- */

#define SHMIPC_VERSION_MAJOR 0
#define SHMIPC_VERSION_MINOR 1
#define SHMIPC_VERSION_PATCH 0

enum {
    SHMIPC_OK = 0,
    SHMIPC_EINVAL = -1,      /* an argument is out of its range; the detail message names it    */
    SHMIPC_ENOMEM = -2,      /* the process has no private memory left                          */
    SHMIPC_ENOSPC = -3,      /* the file system of the shared memory is full                    */
    SHMIPC_EFULL = -4,       /* the ring or queue holds all that it can                         */
    SHMIPC_EAGAIN = -5,      /* nothing there now                                               */
    SHMIPC_ETIMEDOUT = -6,   /* the time given has passed                                       */
    SHMIPC_EINTR = -7,       /* a signal arrived while waiting                                  */
    SHMIPC_EMSGSIZE = -8,    /* the message is larger than the limit, or than the buffer given  */
    SHMIPC_ELAYOUT = -9,     /* the memory has another layout version or feature stamp          */
    SHMIPC_ECORRUPT = -10,   /* shared memory holds a value that no correct peer writes         */
    SHMIPC_ENOENT = -11,     /* no such name                                                    */
    SHMIPC_EEXIST = -12,     /* the name exists already                                         */
    SHMIPC_EACCES = -13,     /* the operating system refused access                             */
    SHMIPC_EOWNER = -14,     /* a file or directory belongs to another user                     */
    SHMIPC_EMODE = -15,      /* a file or directory has a mode that lets others in              */
    SHMIPC_ESYMLINK = -16,   /* a symbolic link stands where a file or directory should         */
    SHMIPC_EFOREIGN = -17,   /* the file or memory was not made by shmipc                       */
    SHMIPC_EOWNERDEAD = -18, /* this process no longer holds the lock that proves it alive      */
    SHMIPC_EPEERDEAD = -19,  /* the peer that this operation needs has died                     */
    SHMIPC_EFORKED = -20,    /* the handle was opened by the parent of this process             */
    SHMIPC_ECLOSED = -21,    /* the handle or the segment was closed                            */
    SHMIPC_ESTATE = -22,     /* the call does not fit the state of the handle                   */
    SHMIPC_EBUSY = -23,      /* something is in use: a role, a pin budget, a lock               */
    SHMIPC_EKIND = -24,      /* the segment is of another kind                                  */
    SHMIPC_EMISMATCH = -25,  /* an option differs from the one the segment was made with        */
    SHMIPC_ENFILE = -26,     /* no file descriptor left                                         */
    SHMIPC_ETABLE = -27,     /* a table in shared memory is full: lives, attachments, names     */
    SHMIPC_ENOTSUP = -28,    /* this machine or operating system cannot do it                   */
    SHMIPC_EOS = -29,        /* the operating system failed in an unexpected way                */
    SHMIPC_ECOLLISION = -30  /* another name with the same hash is in use                       */
};

SHMIPC_API const char *shmipc_strerror(int code);

/* ---------------------------------------------------------------------------------------------
 * >>spsc  Byte ring between one writer and one reader: records of any size, in order, each exactly once
 *
 * Works over memory that the caller brings (64-byte aligned), between processes, threads or the cores of one chip; only
 * 32-bit loads and stores, so the layout is the same on every machine. One writer and one reader at a time are the
 * caller's duty. No call blocks or makes a system call; every call ends within a bounded number of steps. The handles
 * belong to the caller, one thread each, and their fields to the library.
 *
 * init      lays out `bytes` of memory (at least size(capacity)); nobody may be attached. capacity: a power of two,
 *           256 .. 2^30; the largest record is max_len(capacity), a little less than half of it.
 * attach    also after the predecessor died at any instruction. Nothing published is lost. What was reserved or staged
 *           is gone; what was read and not released comes again, to the next reader.
 * send      copies one record in and publishes it, with all that is staged. EFULL, EMSGSIZE.
 * reserve   gives room for at most len bytes, 8-byte aligned; commit publishes the first len of them. A second reserve
 *           replaces the first. tag: 32 bits of the caller's that travel along.
 * stage     is commit without publication; flush publishes all that is staged at once, with one store. After EFULL
 *           flush, or the reader never sees the records that fill the ring.
 * peek      gives the next record in place, valid until release, which gives back all that was peeked. EAGAIN: empty.
 * recv      copies one record out and releases it. EMSGSIZE: the buffer is too small, the record stays (peek tells its
 *           length). ESTATE: peeked records are not released.
 * ECORRUPT  the memory holds what no writer or reader puts there; the handle stays usable.
 * After 16 records in a row, full or empty is answered after a rest of a microsecond or two and a second look.
 * ------------------------------------------------------------------------------------------- */

typedef struct shmipc_spsc_writer {
    unsigned char *data; /* private, all of them */
    uint32_t *head;
    uint32_t capacity;
    uint32_t tail;
    uint32_t limit;
    uint32_t edge;
    uint32_t first;
    uint32_t first_word;
    uint32_t reserved;
    uint32_t in_a_row;
} shmipc_spsc_writer;

typedef struct shmipc_spsc_reader {
    unsigned char *data; /* private, all of them */
    uint32_t *head;
    uint32_t capacity;
    uint32_t pos;
    uint32_t released;
    uint32_t in_a_row;
} shmipc_spsc_reader;

SHMIPC_API size_t shmipc_spsc_size(uint32_t capacity); /* 0: not a legal capacity */
SHMIPC_API int shmipc_spsc_init(void *mem, size_t bytes, uint32_t capacity);
SHMIPC_API uint32_t shmipc_spsc_max_len(uint32_t capacity);

SHMIPC_API int shmipc_spsc_writer_attach(shmipc_spsc_writer *w, void *mem, size_t bytes);
SHMIPC_API int shmipc_spsc_send(shmipc_spsc_writer *w, const void *data, uint32_t len, uint32_t tag);
SHMIPC_API int shmipc_spsc_reserve(shmipc_spsc_writer *w, uint32_t len, void **payload);
SHMIPC_API int shmipc_spsc_commit(shmipc_spsc_writer *w, uint32_t len, uint32_t tag);
SHMIPC_API int shmipc_spsc_stage(shmipc_spsc_writer *w, uint32_t len, uint32_t tag);
SHMIPC_API int shmipc_spsc_flush(shmipc_spsc_writer *w);

SHMIPC_API int shmipc_spsc_reader_attach(shmipc_spsc_reader *r, void *mem, size_t bytes);
SHMIPC_API int shmipc_spsc_peek(shmipc_spsc_reader *r, const void **payload, uint32_t *len, uint32_t *tag);
SHMIPC_API int shmipc_spsc_release(shmipc_spsc_reader *r);
SHMIPC_API int shmipc_spsc_recv(shmipc_spsc_reader *r, void *buf, uint32_t cap, uint32_t *len, uint32_t *tag);

/* ---------------------------------------------------------------------------------------------
 * >>lane  Broadcast lane: one writer, any number of readers, each sees every message or learns how many it missed
 *
 * Works over memory that the caller brings. The writer is wait-free and never looks at its readers, except for an
 * occasional scan when it has used up its free chunks; a slow, stopped or dead reader delays nobody. Payload up to
 * inline_max lies in the slot, beside its sequence word, and is copied; larger payload lies in a chunk, which a reader
 * copies or views in place. A handle belongs to one thread at a time. No call blocks or makes a system call; reader
 * attach calls env.reserve, and alive is asked only by writer attach and sweep.
 *
 * config    init gives depth 64, 48 inline bytes, no chunks, 16 reader records, 4 views each, 2 spare chunks.
 * measure   how much memory that takes; chunks may lie elsewhere. The memory of the first base_chunks chunks must be
 *           there; that of the others is asked for through env.reserve when a reader attaches.
 * attach    writer: EBUSY while a living one has the lane; a dead one's is taken over, all messages stay. Reader: it
 *           gets the last `history` messages still there and then all new ones. ETABLE: no record free.
 * send      EMSGSIZE above the limit. loan gives room to write in place, one loan at a time, at least 16-byte aligned;
 *           commit publishes its first len bytes; discard gives it back.
 * recv      copies the next message out. EAGAIN: no news. EMSGSIZE: it stays.
 * take      large messages in place, valid and unchanged until release, whatever anyone does; inline ones are copied to
 *           buf. EBUSY: `budget` views are out; recv goes on working.
 * skip      forgets all but the newest `keep` unread messages (1: only the latest) and says how many that were.
 * missed    how many messages were overwritten before this reader came to them, exactly.
 * sweep     gives back what the dead owner `dead` had here, asking env.alive before every step. Any number at once.
 * With SHMIPC_WORD_BITS 32: no chunks, no records, no writer word (writer attach is for the caller to guard).
 * ------------------------------------------------------------------------------------------- */

typedef struct shmipc_lane_config {
    uint32_t depth;      /* messages kept; a power of two, 4 .. 2^20, 2^15 with chunks                */
    uint32_t inline_max; /* rounded up to 48 + a multiple of 64; at most 65520                        */
    uint32_t chunk_max;  /* largest payload if above inline_max; 0: no chunks                         */
    uint32_t records;    /* readers at a time, at most 4096; 0: any number, unregistered, inline only */
    uint32_t budget;     /* views of large messages that one reader may hold, at most 32              */
    uint32_t spare;      /* chunks beyond depth, 1 .. 1024: more of them, fewer scans                 */
} shmipc_lane_config;

typedef struct shmipc_lane_sizes {
    uint64_t bytes;
    uint64_t chunk_bytes; /* of all chunks */
    uint64_t chunk_stride;
    uint32_t base_chunks;
    uint32_t chunks;
} shmipc_lane_sizes;

typedef struct shmipc_lane_env {
    void *mem; /* 64-byte aligned, as are the chunks */
    size_t bytes;
    void *chunks; /* NULL without chunks */
    size_t chunk_bytes;
    int (*alive)(void *arg, uint32_t owner);                  /* NULL: everybody lives     */
    int (*reserve)(void *arg, uint32_t first, uint32_t count); /* chunks; 0 or SHMIPC_E...  */
    void *arg;
    uint32_t owner; /* who attaches: below 2^24 - 1 */
    uint32_t pad;
} shmipc_lane_env;

typedef struct shmipc_lane_map {
    unsigned char *mem; /* private, all of them */
    unsigned char *records;
    unsigned char *lists;
    unsigned char *slots;
    unsigned char *chunks;
    uint64_t chunk_stride;
    uint32_t depth;
    uint32_t shift;
    uint32_t stride;
    uint32_t inline_max;
    uint32_t chunk_max;
    uint32_t n_records;
    uint32_t record_stride;
    uint32_t budget;
    uint32_t base_chunks;
    uint32_t n_chunks;
} shmipc_lane_map;

typedef struct shmipc_lane_writer {
    shmipc_lane_map map; /* private, all of them */
    uint64_t next;
    uint64_t word;
    uint32_t n_free;
    uint32_t n_retired;
    uint32_t scan;
    uint32_t loan;
    uint32_t loan_len;
    uint32_t pad;
} shmipc_lane_writer;

typedef struct shmipc_lane_reader {
    shmipc_lane_map map; /* private, all of them */
    uint64_t next;
    uint64_t missed;
    uint64_t received;
    uint64_t generation;
    uint64_t *record;
    uint32_t pins;
    uint32_t pad;
} shmipc_lane_reader;

typedef struct shmipc_lane_msg {
    const void *data;
    uint64_t number; /* counts the messages of the lane from 0 */
    uint32_t len;
    uint32_t tag;
    uint32_t pin; /* private */
    uint32_t pad;
} shmipc_lane_msg;

SHMIPC_API void shmipc_lane_config_init(shmipc_lane_config *config);
SHMIPC_API int shmipc_lane_measure(const shmipc_lane_config *config, shmipc_lane_sizes *sizes);
SHMIPC_API int shmipc_lane_init(void *mem, size_t bytes, const shmipc_lane_config *config);
SHMIPC_API int shmipc_lane_sweep(const shmipc_lane_env *env, uint32_t dead);

SHMIPC_API int shmipc_lane_writer_attach(shmipc_lane_writer *w, const shmipc_lane_env *env);
SHMIPC_API int shmipc_lane_writer_detach(shmipc_lane_writer *w);
SHMIPC_API int shmipc_lane_send(shmipc_lane_writer *w, const void *data, uint32_t len, uint32_t tag);
SHMIPC_API int shmipc_lane_loan(shmipc_lane_writer *w, uint32_t len, void **payload);
SHMIPC_API int shmipc_lane_commit(shmipc_lane_writer *w, uint32_t len, uint32_t tag);
SHMIPC_API int shmipc_lane_discard(shmipc_lane_writer *w);

SHMIPC_API int shmipc_lane_reader_attach(shmipc_lane_reader *r, const shmipc_lane_env *env, uint32_t history);
SHMIPC_API int shmipc_lane_reader_detach(shmipc_lane_reader *r); /* EBUSY: views are out */
SHMIPC_API int shmipc_lane_recv(shmipc_lane_reader *r, void *buf, uint32_t cap, uint32_t *len, uint32_t *tag);
SHMIPC_API int shmipc_lane_take(shmipc_lane_reader *r, void *buf, uint32_t cap, shmipc_lane_msg *msg);
SHMIPC_API int shmipc_lane_release(shmipc_lane_reader *r, shmipc_lane_msg *msg);
SHMIPC_API int shmipc_lane_skip(shmipc_lane_reader *r, uint32_t keep, uint64_t *skipped);
SHMIPC_API uint64_t shmipc_lane_missed(const shmipc_lane_reader *r);

/* ---------------------------------------------------------------------------------------------
 * >>queue  Many producers, many consumers, each message once; over memory that the caller brings
 *
 * shmipc_queue_size says how much memory, aligned to 64 bytes; one process calls _init, everybody _attach with an
 * owner index of his own (below 0xfffff). Calls never block. A handle belongs to one thread at a time; different
 * handles may do anything at once. Any process may be killed or stopped at any instruction: the others go on.
 * alive(arg, owner) says whether an owner lives. An answer "dead" must be final until that owner's sweep has returned,
 * and come after everything that the dead one did (the kernel's locks give both). Without it everybody lives for ever.
 * A slot's 40-bit round must not come round again while one process is stopped: 30 hours for 1 slot at 10 M/s.
 * ------------------------------------------------------------------------------------------- */

enum {
    SHMIPC_QUEUE_REDELIVER = 0, /* what a dead consumer held goes to another, out of order, counted in the message  */
    SHMIPC_QUEUE_REPORT = 1     /* it goes to the callback of a sweep (again, if that dies in it), and is freed      */
};

typedef struct shmipc_queue_config {
    uint32_t slots;       /* messages it holds untaken: a power of two up to 2^22                             */
    uint32_t chunks;      /* slots + 1 per producer + 1 per consumer + 1 per further loan or message held     */
    uint32_t max_message; /* bytes, up to 2^30; the first 48 travel in the chunk's first cache line           */
    uint32_t policy;      /* SHMIPC_QUEUE_...                                                                 */
} shmipc_queue_config;

/* A message being written (loan) or read (take): data points into the shared memory until commit, discard, release. */
typedef struct shmipc_queue_msg {
    void *data;
    uint64_t word; /* private */
    uint32_t len_bytes, tag;
    uint32_t chunk;       /* private */
    uint32_t redelivered; /* how often it was handed out before and came back, at most 15 */
} shmipc_queue_msg;

typedef struct shmipc_queue_item {
    const void *data;
    uint32_t len_bytes, tag;
} shmipc_queue_item;

/* Positions may lag behind calls in progress. filling: being written, kept in advance, or pushed and untaken. */
typedef struct shmipc_queue_stats {
    uint64_t pushed, taken;
    uint32_t filling, returned, held, free_chunks;
} shmipc_queue_stats;

typedef int (*shmipc_queue_alive_fn)(void *arg, uint32_t owner);
typedef void (*shmipc_queue_report_fn)(void *arg, const shmipc_queue_msg *msg);

/* One process's handle, outside the shared memory. The fields are private. */
typedef struct shmipc_queue {
    uint64_t *slot;
    unsigned char *chunk;
    void *shared;
    shmipc_queue_alive_fn alive;
    void *alive_arg;
    shmipc_queue_config config;
    uint32_t shift, stride, owner;
    uint32_t cursor; /* where to look for a free chunk */
    uint32_t spare;  /* a chunk claimed in advance, plus 1 */
    uint32_t pushes, takes, padding; /* that succeeded in a row */
} shmipc_queue;

SHMIPC_API int shmipc_queue_size(const shmipc_queue_config *config, uint64_t *size_bytes);
SHMIPC_API int shmipc_queue_init(void *memory, uint64_t size_bytes, const shmipc_queue_config *config);
SHMIPC_API int shmipc_queue_attach(shmipc_queue *queue, void *memory, uint64_t size_bytes, uint32_t owner,
                                   shmipc_queue_alive_fn alive, void *alive_arg);
/* Gives back what the handle keeps by itself; loans and messages are the caller's to give back. */
SHMIPC_API int shmipc_queue_detach(shmipc_queue *queue);
/* SHMIPC_EFULL: all slots untaken. SHMIPC_EBUSY: every chunk is being written, held, or waits for a sweep. */
SHMIPC_API int shmipc_queue_push(shmipc_queue *queue, const void *data, uint32_t len_bytes, uint32_t tag);
/* How many of count were pushed; if none was, why. */
SHMIPC_API int shmipc_queue_push_many(shmipc_queue *queue, const shmipc_queue_item *items, uint32_t count);
/* Write msg->data, set msg->len_bytes and tag, then commit (SHMIPC_EFULL: the loan stays) or discard. */
SHMIPC_API int shmipc_queue_loan(shmipc_queue *queue, uint32_t len_bytes, shmipc_queue_msg *msg);
SHMIPC_API int shmipc_queue_commit(shmipc_queue *queue, shmipc_queue_msg *msg);
SHMIPC_API int shmipc_queue_discard(shmipc_queue *queue, shmipc_queue_msg *msg);
/* SHMIPC_EAGAIN: nothing untaken, nothing returned. What it gave stays until release, or reject: hand it on. */
SHMIPC_API int shmipc_queue_take(shmipc_queue *queue, shmipc_queue_msg *msg);
SHMIPC_API int shmipc_queue_take_many(shmipc_queue *queue, shmipc_queue_msg *msgs, uint32_t count);
SHMIPC_API int shmipc_queue_release(shmipc_queue *queue, shmipc_queue_msg *msg);
SHMIPC_API int shmipc_queue_reject(shmipc_queue *queue, shmipc_queue_msg *msg);
/* Take, copy, release: the length. SHMIPC_EMSGSIZE: longer than the buffer, and rejected, so it comes first again. */
SHMIPC_API int shmipc_queue_recv(shmipc_queue *queue, void *buffer, uint32_t size_bytes, uint32_t *tag);
/* Gives back what a dead owner had: the count of chunks changed. Then nothing names it, its index may be used again.
 * Any number of sweeps may run, die, start again. SHMIPC_EBUSY: the owner lives. */
SHMIPC_API int shmipc_queue_sweep(shmipc_queue *queue, uint32_t owner, shmipc_queue_report_fn report, void *report_arg);
SHMIPC_API int shmipc_queue_get_stats(const shmipc_queue *queue, shmipc_queue_stats *stats);

/* SHMIPC_CDEF_END */

#ifndef SHMIPC_RINGS_ONLY
/* SHMIPC_CDEF_BEGIN */

/* ---------------------------------------------------------------------------------------------
 * >>ctx  What a process holds in one scope: a directory, its registry, and a life
 *
 * A context proves to all others that this process is alive, by a lock that the kernel drops on any death. All calls
 * may be made from several threads at once, except closing what another thread still uses. None blocks but
 * shmipc_guard_run. After fork the child's handles answer SHMIPC_EFORKED: it may close them, and opens a context of its
 * own. Descriptors taken away by close_range and the like are noticed by the next slow call: SHMIPC_EOWNERDEAD.
 * ------------------------------------------------------------------------------------------- */

enum {
    SHMIPC_SCOPE_USER = 0,   /* /dev/shm/shmipc-<uid>, mode 0700                            */
    SHMIPC_SCOPE_MACHINE = 1 /* /dev/shm/shmipc, mode 2770, made by the administrator       */
};

enum { SHMIPC_LOG_ERROR = 0, SHMIPC_LOG_WARN = 1, SHMIPC_LOG_INFO = 2, SHMIPC_LOG_DEBUG = 3 };

typedef struct shmipc_ctx shmipc_ctx;
typedef struct shmipc_segment shmipc_segment;
typedef struct shmipc_kind shmipc_kind;

typedef struct shmipc_ctx_config {
    int scope;                                             /* SHMIPC_SCOPE_...                                     */
    uint32_t kind_count;                                   /* how many of `kinds`                                  */
    const char *dir;                                       /* NULL: $SHMIPC_DIR, else by scope. Its parent exists. */
    const shmipc_kind *const *kinds;                       /* kinds that a sweep should understand; must outlive   */
    void (*log)(void *arg, int level, const char *text);   /* NULL: silent. Called by the thread that does it      */
    void *log_arg;
    char *error_text;                                      /* where a failed shmipc_ctx_open says why; NULL: nowhere */
    size_t error_len;
} shmipc_ctx_config;

SHMIPC_API void shmipc_ctx_config_init(shmipc_ctx_config *cfg);

/* Opens the scope, making its directory and registry if they are missing. `cfg` may be NULL. */
SHMIPC_API int shmipc_ctx_open(shmipc_ctx **out, const shmipc_ctx_config *cfg);

/* Closes all that hangs off it, then gives up the life. NULL is allowed. */
SHMIPC_API void shmipc_ctx_close(shmipc_ctx *ctx);

/* 0 while this process still holds its life, else SHMIPC_EFORKED, SHMIPC_EOWNERDEAD or SHMIPC_ESTATE. */
SHMIPC_API int shmipc_ctx_check(shmipc_ctx *ctx);

/* What the last failed call on this context found, and the cure. Valid until the next call that fails. */
SHMIPC_API const char *shmipc_ctx_detail(shmipc_ctx *ctx);

/* The number of this life, never used again in this scope; and the directory. */
SHMIPC_API uint64_t shmipc_ctx_life(const shmipc_ctx *ctx);
SHMIPC_API const char *shmipc_ctx_dir(const shmipc_ctx *ctx);

/* Removes what nobody living holds, looking at `max_files` files at most (0: all). How many it removed, or a code. */
SHMIPC_API int shmipc_ctx_sweep(shmipc_ctx *ctx, uint32_t max_files);

/* Sleeps in the kernel and removes each segment when its last user is gone, whoever that was and however he ended, or
 * when its time to linger is over; 0 when nothing is left to guard. For a process of its own, with a context that has
 * no segments. SHMIPC_EINTR after a signal, SHMIPC_EBUSY if the scope has a guard already. */
SHMIPC_API int shmipc_guard_run(shmipc_ctx *ctx);

/* ---------------------------------------------------------------------------------------------
 * >>segment  Named pieces of shared memory that last exactly as long as somebody living uses them
 *
 * A name is any UTF-8 text of 1 to 255 bytes. A segment is complete before anybody can see it, is gone with its last
 * user however that one ended, and its name is free again at once. Offsets from its start never change; it grows up to
 * the maximum it was made with.
 * ------------------------------------------------------------------------------------------- */

enum { SHMIPC_OPEN = 0, SHMIPC_CREATE = 1, SHMIPC_OPEN_OR_CREATE = 2 };

/* What the core must know of one kind of segment. Every function treats the segment as untrusted memory. `sweep` gives
 * back what words naming `index` hold: it reads a word, asks shmipc_segment_holds(segment, index, life), and only then
 * changes the word by CAS from what it read. Functions may be NULL. */
struct shmipc_kind {
    uint32_t kind;   /* a number of its own; 0 is plain memory */
    uint32_t layout; /* of the kind's area                     */
    const char *name;
    int (*validate)(shmipc_segment *segment);                               /* 0 or a code, before anything else */
    int (*sweep)(shmipc_segment *segment, uint32_t index, uint64_t life);   /* 0 when all is given back */
    int (*drained)(shmipc_segment *segment);                                /* 1: nothing left that must stay    */
    int (*dump)(shmipc_segment *segment, void (*line)(void *arg, const char *text), void *arg);
};

typedef struct shmipc_segment_config {
    int mode;                 /* SHMIPC_OPEN ...                                                              */
    uint32_t capacity;        /* how many may be attached at once: 1 to 4096, 0 means 256                     */
    uint64_t size;            /* bytes of the kind's area, reserved at once                                   */
    uint64_t max_size;        /* what the area may grow to: address space, no memory; 0 means `size`          */
    const shmipc_kind *kind;  /* NULL: plain memory                                                           */
    const void *params;       /* kept beside the segment, for comparing options                               */
    uint32_t params_len;      /* up to 4096                                                                   */
    uint32_t match_params;    /* 1: opening one that has other params is SHMIPC_EMISMATCH                     */
    uint32_t linger_ms;       /* how long one that is not drained outlives its last user; 0: not at all       */
    uint32_t name_len;        /* 0: the name ends with its NUL; else its length, so that a NUL inside is seen */
    int (*init)(shmipc_segment *segment, void *arg); /* fills the zeroed area before anybody else can see it  */
    void *init_arg;
} shmipc_segment_config;

typedef struct shmipc_segment_info {
    char name[256];
    char file[256];
    int status;               /* 0, or what is wrong with the file (SHMIPC_ESTATE: left from a registry that was
                               * deleted, and in use); then only file, generation, size are known */
    uint32_t kind;
    uint32_t current;         /* 1: the one that its name leads to                                   */
    uint32_t capacity;
    uint32_t users;           /* living attachments                                                  */
    uint32_t dead;            /* attachments of the dead, not yet swept                              */
    uint64_t generation;
    uint64_t size;
    uint64_t max_size;
    int64_t created_ns;       /* wall clock                                                          */
    uint64_t creator;         /* its life                                                            */
} shmipc_segment_info;

SHMIPC_API void shmipc_segment_config_init(shmipc_segment_config *cfg);

/* Attaches to the segment of that name or makes it, as `mode` says. SHMIPC_ENOENT, SHMIPC_EEXIST, SHMIPC_EKIND,
 * SHMIPC_EMISMATCH, SHMIPC_ELAYOUT, SHMIPC_ECORRUPT, SHMIPC_ENOSPC (before anything is touched), SHMIPC_ETABLE. */
SHMIPC_API int shmipc_segment_open(shmipc_ctx *ctx, const char *name, const shmipc_segment_config *cfg,
                                   shmipc_segment **out);

/* Gives back what this attachment holds and leaves; the last one removes the segment. NULL is allowed. */
SHMIPC_API void shmipc_segment_close(shmipc_segment *segment);

/* Frees the name at once; who is attached keeps the memory. */
SHMIPC_API int shmipc_segment_unlink(shmipc_ctx *ctx, const char *name);

/* Looks without attaching. The list fills up to `capacity` entries and answers how many there are. */
SHMIPC_API int shmipc_segment_inspect(shmipc_ctx *ctx, const char *name, shmipc_segment_info *info);
SHMIPC_API int shmipc_segment_list(shmipc_ctx *ctx, shmipc_segment_info *infos, uint32_t capacity);

/* Gives back what dead attachments held; how many there were, or a code. */
SHMIPC_API int shmipc_segment_sweep(shmipc_segment *segment);

/* A pointer to `len` bytes of the area; SHMIPC_ECORRUPT if they do not lie in what is reserved. */
SHMIPC_API int shmipc_segment_at(shmipc_segment *segment, uint64_t offset, uint64_t len, void **out);
SHMIPC_API uint64_t shmipc_segment_size(shmipc_segment *segment); /* of the area, now */
SHMIPC_API int shmipc_segment_params(shmipc_segment *segment, const void **params, uint32_t *len);

/* Makes the area at least `size` bytes. SHMIPC_ENOSPC, SHMIPC_EINVAL beyond max_size. */
SHMIPC_API int shmipc_segment_grow(shmipc_segment *segment, uint64_t size);

/* Gives the whole pages inside back to the system. Reserve makes all pages that the range touches usable, punched ones
 * (zero again) and new ones beyond the end, up to max_size; what lies between stays without memory. Nobody may touch
 * pages that are not reserved. */
SHMIPC_API int shmipc_segment_punch(shmipc_segment *segment, uint64_t offset, uint64_t len);
SHMIPC_API int shmipc_segment_reserve(shmipc_segment *segment, uint64_t offset, uint64_t len);

/* Who we are in it; whether an attachment is there and living: 1 or 0, or a code; whether exactly that life has it. */
SHMIPC_API uint32_t shmipc_segment_index(const shmipc_segment *segment);
SHMIPC_API uint64_t shmipc_segment_generation(const shmipc_segment *segment);
SHMIPC_API int shmipc_segment_alive(shmipc_segment *segment, uint32_t index);
SHMIPC_API int shmipc_segment_holds(shmipc_segment *segment, uint32_t index, uint64_t life);

/* SHMIPC_CDEF_END */
#endif /* SHMIPC_RINGS_ONLY */

#ifdef __cplusplus
}
#endif

#endif /* SHMIPC_H */

/* ============================================================================================= */
#if defined(SHMIPC_IMPLEMENTATION) && !defined(SHMIPC__CORE_IMPLEMENTED)
#define SHMIPC__CORE_IMPLEMENTED

#ifndef SHMIPC_RINGS_ONLY
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__) && !defined(SHMIPC_OS_HEADER)
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#endif
#elif !defined(__GNUC__) && !defined(__clang__)
#include <string.h> /* memcpy, which is built into the others */
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------------------------------
 * >>compiler
 * ------------------------------------------------------------------------------------------- */

/* Test __clang__ before _MSC_VER: clang-cl defines both and has the GCC builtins. */
#if defined(__GNUC__) || defined(__clang__)
#define SHMIPC__GNU 1
#define SHMIPC__INLINE static inline __attribute__((unused))
#define SHMIPC__UNUSED __attribute__((unused))
#define SHMIPC__NOINLINE __attribute__((noinline, unused))
#define SHMIPC__LIKELY(x) __builtin_expect(!!(x), 1)
#define SHMIPC__UNLIKELY(x) __builtin_expect(!!(x), 0)
#else
#define SHMIPC__GNU 0
#define SHMIPC__INLINE static inline
#define SHMIPC__UNUSED
#define SHMIPC__NOINLINE
#define SHMIPC__LIKELY(x) (x)
#define SHMIPC__UNLIKELY(x) (x)
#endif

/* What runs once, or waits for the system, gets less of the compiler's effort: gcc -O2 is done a quarter sooner. Not
 * where hot functions are defined: gcc inlines no function of less effort into one of more. */
#if SHMIPC__GNU && !defined(__clang__) && defined(__OPTIMIZE__) && !defined(__OPTIMIZE_SIZE__)
#define SHMIPC__COLD_BEGIN _Pragma("GCC push_options") _Pragma("GCC optimize(\"O1\")")
#define SHMIPC__COLD_END _Pragma("GCC pop_options")
#else
#define SHMIPC__COLD_BEGIN
#define SHMIPC__COLD_END
#endif

#ifdef __cplusplus
#define SHMIPC__STATIC_ASSERT(cond, text) static_assert(cond, text)
#define SHMIPC__ALIGNED(n) alignas(n)
#else
#define SHMIPC__STATIC_ASSERT(cond, text) _Static_assert(cond, text)
#define SHMIPC__ALIGNED(n) _Alignas(n)
#endif

/* Asks for a cache line that will be written soon; without prefetchw gcc would only ask for reading. */
#if SHMIPC__GNU && defined(__x86_64__) && !defined(SHMIPC_ATOMICS_HEADER)
#define SHMIPC__PREFETCH_WRITE(p) __asm__ volatile("prefetchw %0" : : "m"(*(const char *)(const void *)(p)))
#elif SHMIPC__GNU
#define SHMIPC__PREFETCH_WRITE(p) __builtin_prefetch((p), 1)
#else
#define SHMIPC__PREFETCH_WRITE(p) ((void)(p))
#endif

/* Where two CPUs must not disturb each other. 64 everywhere, so that the layout is one; machines
 * with larger lines lose a little speed and nothing else. */
#define SHMIPC__LINE 64

/* The width of a lane's sequence words, part of the layout stamp. Without lock-free 64-bit atomics the rings that need
 * only 32-bit loads and stores remain; a lock hidden in a library would be private to each process, silently wrong. */
#ifndef SHMIPC_WORD_BITS
#if SHMIPC__GNU && defined(__GCC_ATOMIC_LLONG_LOCK_FREE) && __GCC_ATOMIC_LLONG_LOCK_FREE < 2
#define SHMIPC_WORD_BITS 32
#else
#define SHMIPC_WORD_BITS 64
#endif
#endif
#if SHMIPC_WORD_BITS == 32 && !defined(SHMIPC_RINGS_ONLY)
#error "shmipc.h: no lock-free 64-bit atomics here; define SHMIPC_RINGS_ONLY: the SPSC ring and the inline lane remain"
#endif

/* ---------------------------------------------------------------------------------------------
 * >>atomic  Every access to shared memory goes through these wrappers, named by order and width
 *
 * Define SHMIPC_ATOMICS_HEADER to a quoted file name to replace all of them (a model checker
 * runs the real code this way); the file may define them as macros, one call site at a time.
 *
 *   load_relaxed load_acquire store_relaxed store_release    u32 and u64
 *   cas_relaxed cas_acqrel    1 and *expected untouched, or 0 and *expected = what is there
 *   xchg_acqrel add_acqrel or_acqrel and_acqrel              the value before
 *   fence_seq_cst             the only stand-alone fence: where a store must be seen before a later load is made
 *   pause                     in spin loops
 *   copy_in copy_out          payload to and from shared memory, ordinary accesses ordered by what surrounds them
 * ------------------------------------------------------------------------------------------- */

#if defined(SHMIPC_ATOMICS_HEADER)
#include SHMIPC_ATOMICS_HEADER
#elif SHMIPC__GNU && !defined(SHMIPC_USE_STDATOMIC)

#define SHMIPC__ATOMIC_WRAPPERS(U, T)                                                                             \
    SHMIPC__INLINE T shmipc__load_relaxed_##U(const T *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }        \
    SHMIPC__INLINE T shmipc__load_acquire_##U(const T *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }        \
    SHMIPC__INLINE void shmipc__store_relaxed_##U(T *p, T v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }        \
    SHMIPC__INLINE void shmipc__store_release_##U(T *p, T v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
#define SHMIPC__ATOMIC_RMW_WRAPPERS(U, T)                                                                         \
    SHMIPC__INLINE int shmipc__cas_relaxed_##U(T *p, T *expected, T desired)                                      \
    {                                                                                                             \
        return __atomic_compare_exchange_n(p, expected, desired, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);          \
    }                                                                                                             \
    SHMIPC__INLINE int shmipc__cas_acqrel_##U(T *p, T *expected, T desired)                                       \
    {                                                                                                             \
        return __atomic_compare_exchange_n(p, expected, desired, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);          \
    }                                                                                                             \
    SHMIPC__INLINE T shmipc__xchg_acqrel_##U(T *p, T v) { return __atomic_exchange_n(p, v, __ATOMIC_ACQ_REL); }   \
    SHMIPC__INLINE T shmipc__add_acqrel_##U(T *p, T v) { return __atomic_fetch_add(p, v, __ATOMIC_ACQ_REL); }     \
    SHMIPC__INLINE T shmipc__or_acqrel_##U(T *p, T v) { return __atomic_fetch_or(p, v, __ATOMIC_ACQ_REL); }       \
    SHMIPC__INLINE T shmipc__and_acqrel_##U(T *p, T v) { return __atomic_fetch_and(p, v, __ATOMIC_ACQ_REL); }
SHMIPC__INLINE void shmipc__fence_seq_cst(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

#elif defined(_MSC_VER) && !defined(__clang__) && !defined(SHMIPC_USE_STDATOMIC)

/* Volatile accesses under /volatile:iso order nothing, so acquire and release take a barrier on ARM64; on x64 the
 * machine gives both and only the compiler must be held back. */
#include <intrin.h>
#if defined(_M_ARM64)
#define SHMIPC__MSVC_FENCE() __dmb(_ARM64_BARRIER_ISH)
#else
#define SHMIPC__MSVC_FENCE() _ReadWriteBarrier()
#endif
SHMIPC__INLINE uint32_t shmipc__msvc_cas_u32(uint32_t *p, uint32_t e, uint32_t d)
{
    return (uint32_t)_InterlockedCompareExchange((volatile long *)p, (long)d, (long)e);
}
SHMIPC__INLINE uint64_t shmipc__msvc_cas_u64(uint64_t *p, uint64_t e, uint64_t d)
{
    return (uint64_t)_InterlockedCompareExchange64((volatile __int64 *)p, (__int64)d, (__int64)e);
}
#define SHMIPC__ATOMIC_WRAPPERS(U, T)                                                                             \
    SHMIPC__INLINE T shmipc__load_relaxed_##U(const T *p) { return *(const volatile T *)p; }                      \
    SHMIPC__INLINE T shmipc__load_acquire_##U(const T *p)                                                         \
    {                                                                                                             \
        T v = *(const volatile T *)p;                                                                             \
        SHMIPC__MSVC_FENCE();                                                                                     \
        return v;                                                                                                 \
    }                                                                                                             \
    SHMIPC__INLINE void shmipc__store_relaxed_##U(T *p, T v) { *(volatile T *)p = v; }                            \
    SHMIPC__INLINE void shmipc__store_release_##U(T *p, T v)                                                      \
    {                                                                                                             \
        SHMIPC__MSVC_FENCE();                                                                                     \
        *(volatile T *)p = v;                                                                                     \
    }
#define SHMIPC__MSVC_LOOP(U, T, EXPR)                                                                             \
    T old = shmipc__load_relaxed_##U(p), seen;                                                                    \
    for (;;) {                                                                                                    \
        seen = shmipc__msvc_cas_##U(p, old, (EXPR));                                                              \
        if (seen == old) return old;                                                                              \
        old = seen;                                                                                               \
    }
#define SHMIPC__ATOMIC_RMW_WRAPPERS(U, T)                                                                         \
    SHMIPC__INLINE int shmipc__cas_acqrel_##U(T *p, T *expected, T desired)                                       \
    {                                                                                                             \
        T seen = shmipc__msvc_cas_##U(p, *expected, desired);                                                     \
        if (seen == *expected) return 1;                                                                          \
        *expected = seen;                                                                                         \
        return 0;                                                                                                 \
    }                                                                                                             \
    SHMIPC__INLINE int shmipc__cas_relaxed_##U(T *p, T *e, T d) { return shmipc__cas_acqrel_##U(p, e, d); }       \
    SHMIPC__INLINE T shmipc__xchg_acqrel_##U(T *p, T v) { SHMIPC__MSVC_LOOP(U, T, v) }                            \
    SHMIPC__INLINE T shmipc__add_acqrel_##U(T *p, T v) { SHMIPC__MSVC_LOOP(U, T, old + v) }                       \
    SHMIPC__INLINE T shmipc__or_acqrel_##U(T *p, T v) { SHMIPC__MSVC_LOOP(U, T, old | v) }                        \
    SHMIPC__INLINE T shmipc__and_acqrel_##U(T *p, T v) { SHMIPC__MSVC_LOOP(U, T, old & v) }
SHMIPC__INLINE void shmipc__fence_seq_cst(void)
{
#if defined(_M_ARM64)
    __dmb(_ARM64_BARRIER_ISH);
#else
    _mm_mfence();
#endif
}

#elif !defined(__cplusplus) && !defined(__STDC_NO_ATOMICS__)

/* Any other C11 compiler. The fields stay plain integers (C++ and cffi read the declarations), so the pointer is cast;
 * the asserts say what that relies on. */
#include <stdatomic.h>
SHMIPC__STATIC_ASSERT(sizeof(_Atomic uint32_t) == 4 && ATOMIC_INT_LOCK_FREE == 2, "32-bit atomics must be lock-free");
#if SHMIPC_WORD_BITS == 64
SHMIPC__STATIC_ASSERT(sizeof(_Atomic uint64_t) == 8 && ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics must be lock-free");
#endif
#define SHMIPC__ATOMIC_WRAPPERS(U, T)                                                                             \
    SHMIPC__INLINE T shmipc__load_relaxed_##U(const T *p)                                                         \
    {                                                                                                             \
        return atomic_load_explicit((const _Atomic T *)p, memory_order_relaxed);                                  \
    }                                                                                                             \
    SHMIPC__INLINE T shmipc__load_acquire_##U(const T *p)                                                         \
    {                                                                                                             \
        return atomic_load_explicit((const _Atomic T *)p, memory_order_acquire);                                  \
    }                                                                                                             \
    SHMIPC__INLINE void shmipc__store_relaxed_##U(T *p, T v)                                                      \
    {                                                                                                             \
        atomic_store_explicit((_Atomic T *)p, v, memory_order_relaxed);                                           \
    }                                                                                                             \
    SHMIPC__INLINE void shmipc__store_release_##U(T *p, T v)                                                      \
    {                                                                                                             \
        atomic_store_explicit((_Atomic T *)p, v, memory_order_release);                                           \
    }
#define SHMIPC__ATOMIC_RMW_WRAPPERS(U, T)                                                                         \
    SHMIPC__INLINE int shmipc__cas_relaxed_##U(T *p, T *expected, T desired)                                      \
    {                                                                                                             \
        return atomic_compare_exchange_strong_explicit((_Atomic T *)p, expected, desired, memory_order_relaxed,   \
                                                       memory_order_relaxed);                                     \
    }                                                                                                             \
    SHMIPC__INLINE int shmipc__cas_acqrel_##U(T *p, T *expected, T desired)                                       \
    {                                                                                                             \
        return atomic_compare_exchange_strong_explicit((_Atomic T *)p, expected, desired, memory_order_acq_rel,   \
                                                       memory_order_acquire);                                     \
    }                                                                                                             \
    SHMIPC__INLINE T shmipc__xchg_acqrel_##U(T *p, T v)                                                           \
    {                                                                                                             \
        return atomic_exchange_explicit((_Atomic T *)p, v, memory_order_acq_rel);                                 \
    }                                                                                                             \
    SHMIPC__INLINE T shmipc__add_acqrel_##U(T *p, T v)                                                            \
    {                                                                                                             \
        return atomic_fetch_add_explicit((_Atomic T *)p, v, memory_order_acq_rel);                                \
    }                                                                                                             \
    SHMIPC__INLINE T shmipc__or_acqrel_##U(T *p, T v)                                                             \
    {                                                                                                             \
        return atomic_fetch_or_explicit((_Atomic T *)p, v, memory_order_acq_rel);                                 \
    }                                                                                                             \
    SHMIPC__INLINE T shmipc__and_acqrel_##U(T *p, T v)                                                            \
    {                                                                                                             \
        return atomic_fetch_and_explicit((_Atomic T *)p, v, memory_order_acq_rel);                                \
    }
SHMIPC__INLINE void shmipc__fence_seq_cst(void) { atomic_thread_fence(memory_order_seq_cst); }

#else
#error "shmipc.h: this compiler has neither the GCC builtins, nor MSVC intrinsics, nor C11 <stdatomic.h>"
#endif

#ifndef SHMIPC_ATOMICS_HEADER
SHMIPC__ATOMIC_WRAPPERS(u32, uint32_t)
#if SHMIPC_WORD_BITS == 64
SHMIPC__ATOMIC_WRAPPERS(u64, uint64_t)
SHMIPC__ATOMIC_RMW_WRAPPERS(u32, uint32_t)
SHMIPC__ATOMIC_RMW_WRAPPERS(u64, uint64_t)
#endif

SHMIPC__INLINE void shmipc__pause(void)
{
#if defined(_MSC_VER) && !defined(__clang__) && (defined(_M_X64) || defined(_M_IX86))
    _mm_pause();
#elif defined(_MSC_VER) && !defined(__clang__) && defined(_M_ARM64)
    __yield();
#elif defined(__x86_64__) || defined(__i386__)
    __asm__ volatile("pause" ::: "memory");
#elif defined(__aarch64__) || (defined(__ARM_ARCH) && __ARM_ARCH >= 7)
    __asm__ volatile("yield" ::: "memory");
#elif SHMIPC__GNU
    __asm__ volatile("" ::: "memory");
#endif
}

/* Short payloads by overlapping pieces of fixed size: gcc turns a memcpy of unknown length into "rep movs", which takes
 * longer to start than a line to travel. Long ones by the library. */
SHMIPC__INLINE void shmipc__copy(void *to, const void *from, size_t n)
{
#if SHMIPC__GNU && (defined(__x86_64__) || defined(__aarch64__))
    unsigned char *t = (unsigned char *)to;
    const unsigned char *f = (const unsigned char *)from;
    if (n > 128) {
        __asm__("" : "+r"(n)); /* of no known range: a call */
        __builtin_memcpy(t, f, n);
    } else if (n >= 16) {
        size_t i;
        for (i = 0; i + 16 < n; i += 16) __builtin_memcpy(t + i, f + i, 16);
        __builtin_memcpy(t + n - 16, f + n - 16, 16);
    } else if (n >= 8) {
        __builtin_memcpy(t, f, 8);
        if (n > 8) __builtin_memcpy(t + n - 8, f + n - 8, 8);
    } else if (n >= 4) {
        __builtin_memcpy(t, f, 4);
        __builtin_memcpy(t + n - 4, f + n - 4, 4);
    } else if (n) {
        t[0] = f[0];
        t[n / 2] = f[n / 2];
        t[n - 1] = f[n - 1];
    }
#elif SHMIPC__GNU
    __builtin_memcpy(to, from, n);
#else
    memcpy(to, from, n);
#endif
}
SHMIPC__INLINE void shmipc__copy_in(void *shared, const void *from, size_t n) { shmipc__copy(shared, from, n); }
SHMIPC__INLINE void shmipc__copy_out(void *to, const void *shared, size_t n) { shmipc__copy(to, shared, n); }
#endif /* SHMIPC_ATOMICS_HEADER */

/* ---------------------------------------------------------------------------------------------
 * >>errors
 * ------------------------------------------------------------------------------------------- */

SHMIPC_API const char *shmipc_strerror(int code)
{
    switch (code) {
    case SHMIPC_OK: return "success";
    case SHMIPC_EINVAL: return "invalid argument";
    case SHMIPC_ENOMEM: return "out of private memory";
    case SHMIPC_ENOSPC: return "the shared-memory file system is full";
    case SHMIPC_EFULL: return "full";
    case SHMIPC_EAGAIN: return "nothing there";
    case SHMIPC_ETIMEDOUT: return "timed out";
    case SHMIPC_EINTR: return "interrupted by a signal";
    case SHMIPC_EMSGSIZE: return "message too large";
    case SHMIPC_ELAYOUT: return "another memory layout";
    case SHMIPC_ECORRUPT: return "shared memory is corrupt";
    case SHMIPC_ENOENT: return "no such name";
    case SHMIPC_EEXIST: return "the name exists";
    case SHMIPC_EACCES: return "access refused by the system";
    case SHMIPC_EOWNER: return "owned by another user";
    case SHMIPC_EMODE: return "unsafe file mode";
    case SHMIPC_ESYMLINK: return "a symbolic link is in the way";
    case SHMIPC_EFOREIGN: return "not made by shmipc";
    case SHMIPC_EOWNERDEAD: return "this process lost its liveness lock";
    case SHMIPC_EPEERDEAD: return "the peer died";
    case SHMIPC_EFORKED: return "handle belongs to the parent process";
    case SHMIPC_ECLOSED: return "closed";
    case SHMIPC_ESTATE: return "wrong state for this call";
    case SHMIPC_EBUSY: return "in use";
    case SHMIPC_EKIND: return "segment of another kind";
    case SHMIPC_EMISMATCH: return "options differ from the existing ones";
    case SHMIPC_ENFILE: return "no file descriptor left";
    case SHMIPC_ETABLE: return "a shared table is full";
    case SHMIPC_ENOTSUP: return "not supported here";
    case SHMIPC_EOS: return "unexpected failure of the operating system";
    case SHMIPC_ECOLLISION: return "another name has the same hash";
    default: return "unknown code";
    }
}

/* ---------------------------------------------------------------------------------------------
 * >>spsc
 *
 * Byte map                                     written by    read by
 *    0  u32 magic, u32 layout, u32 capacity    init          attach
 *   64  u32 head                               reader        writer when its cached value says full, both at attach
 *  128  records, `capacity` bytes              writer        reader
 *
 * A record starts at a multiple of 8: u32 word, u32 tag, payload; 16, 32 or 64 bytes in all, above that a multiple of
 * 8. So records of one small size never straddle a cache line, and index and payload travel in one line.
 *   word: 0 not published; VALID | payload length; VALID | PAD | bytes left to the end of the data (skip them).
 * Positions are byte counters that wrap at 2^32; the offset is position mod capacity. At least 8 bytes stay free, so
 * that one invariant always has room: THE WORD BEHIND THE LAST PUBLISHED RECORD IS 0. The writer stores that 0 before
 * it publishes the record in front of it; its line was fetched for writing after the message before (prefetch), so that
 * the store costs nothing then. Nothing is ever stored that is raised on entry and lowered on exit.
 *
 * Orders
 *   P1 publish  store_release word(writer)   -> P2 load_acquire word(reader): tag, payload, following 0, staged records
 *   H1 give back store_release head(reader)  -> H2 load_acquire head(writer): the reader's loads are done before reuse
 *
 * The process dies between two lines of
 *   send, reserve, commit, stage: before P1 the word at tail is still 0: the record does not exist; bytes behind it are
 *     dirt that the next writer overwrites, and it stores its own 0 before it publishes. After P1 the record is there.
 *   the wrap: a PAD alone is a consistent ring.
 *   flush: the first staged word is published last, so all of the batch appears or nothing.
 *   release, recv: before H1 the records come again; after it they are done.
 *   attach: it stores nothing. init: the magic is stored last.
 * A successor finds tail by walking from head to the first 0; all it reads is bounds-checked.
 * ------------------------------------------------------------------------------------------- */

#define SHMIPC__SPSC_MAGIC 0x43535053u
#define SHMIPC__SPSC_LAYOUT 0x00010040u /* version 1, lines of 64 */
#define SHMIPC__SPSC_VALID 0x80000000u
#define SHMIPC__SPSC_PAD 0x40000000u
#define SHMIPC__SPSC_LEN 0x3fffffffu
#define SHMIPC__SPSC_SHORT 112u /* what even the smallest ring takes */

typedef struct shmipc__spsc_mem {
    uint32_t magic;
    uint32_t layout;
    uint32_t capacity;
    uint32_t pad0[13];
    uint32_t head;
    uint32_t pad1[15];
} shmipc__spsc_mem;
SHMIPC__STATIC_ASSERT(offsetof(shmipc__spsc_mem, head) == 64 && sizeof(shmipc__spsc_mem) == 128, "SPSC layout");

SHMIPC__INLINE uint32_t *shmipc__spsc_word(unsigned char *data, uint32_t pos, uint32_t capacity)
{
    return (uint32_t *)(void *)(data + (pos & (capacity - 1)));
}

SHMIPC_API uint32_t shmipc_spsc_max_len(uint32_t capacity)
{
    return capacity / 2 - 16; /* then PAD + record + the free 8 bytes fit from any position of an empty ring */
}

/* Bytes of a record with that payload; 0: too large. */
SHMIPC__INLINE uint32_t shmipc__spsc_record(uint32_t len, uint32_t capacity)
{
    if (len <= 8) return 16;
    if (len <= 24) return 32;
    if (len <= 56) return 64;
    if (len <= SHMIPC__SPSC_SHORT) return (len + 15) & ~(uint32_t)7;
    return len <= shmipc_spsc_max_len(capacity) ? (len + 15) & ~(uint32_t)7 : 0;
}

SHMIPC_API size_t shmipc_spsc_size(uint32_t capacity)
{
    if (capacity < 256 || capacity > 0x40000000u || (capacity & (capacity - 1))) return 0;
    return sizeof(shmipc__spsc_mem) + (size_t)capacity;
}

/* Bytes of the record that starts at `at` bytes into the data, or 0 if no writer writes such a word. */
SHMIPC__INLINE uint32_t shmipc__spsc_span(uint32_t word, uint32_t at, uint32_t capacity)
{
    uint32_t len = word & SHMIPC__SPSC_LEN, size;
    if (!(word & SHMIPC__SPSC_VALID)) return 0;
    if (SHMIPC__UNLIKELY(word & SHMIPC__SPSC_PAD)) return at && len == capacity - at ? len : 0;
    size = shmipc__spsc_record(len, capacity);
    return size <= capacity - at ? size : 0;
}

SHMIPC__COLD_BEGIN

SHMIPC_API int shmipc_spsc_init(void *mem, size_t bytes, uint32_t capacity)
{
    shmipc__spsc_mem *m = (shmipc__spsc_mem *)mem;
    size_t size = shmipc_spsc_size(capacity);
    if (!mem || ((uintptr_t)mem & (SHMIPC__LINE - 1)) || !size || bytes < size) return SHMIPC_EINVAL;
    shmipc__store_relaxed_u32(&m->magic, 0);
    shmipc__store_relaxed_u32(&m->layout, SHMIPC__SPSC_LAYOUT);
    shmipc__store_relaxed_u32(&m->capacity, capacity);
    shmipc__store_relaxed_u32(&m->head, 0);
    shmipc__store_relaxed_u32((uint32_t *)(void *)(m + 1), 0);
    shmipc__store_release_u32(&m->magic, SHMIPC__SPSC_MAGIC);
    return SHMIPC_OK;
}

static int shmipc__spsc_check(void *mem, size_t bytes, uint32_t *capacity)
{
    shmipc__spsc_mem *m = (shmipc__spsc_mem *)mem;
    uint32_t cap;
    if (!mem || ((uintptr_t)mem & (SHMIPC__LINE - 1)) || bytes < sizeof *m) return SHMIPC_EINVAL;
    if (shmipc__load_acquire_u32(&m->magic) != SHMIPC__SPSC_MAGIC) return SHMIPC_EFOREIGN;
    if (shmipc__load_relaxed_u32(&m->layout) != SHMIPC__SPSC_LAYOUT) return SHMIPC_ELAYOUT;
    cap = shmipc__load_relaxed_u32(&m->capacity);
    if (!shmipc_spsc_size(cap) || shmipc_spsc_size(cap) > bytes) return SHMIPC_ECORRUPT;
    *capacity = cap;
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_spsc_writer_attach(shmipc_spsc_writer *w, void *mem, size_t bytes)
{
    shmipc__spsc_mem *m = (shmipc__spsc_mem *)mem;
    uint32_t capacity, head, pos, word, span;
    int rc;
    if (!w) return SHMIPC_EINVAL;
    rc = shmipc__spsc_check(mem, bytes, &capacity);
    if (rc) return rc;
    head = pos = shmipc__load_acquire_u32(&m->head); /* H2 */
    if (head & 7) return SHMIPC_ECORRUPT;
    for (;;) {
        word = shmipc__load_relaxed_u32(shmipc__spsc_word((unsigned char *)(m + 1), pos, capacity));
        if (!word) break; /* relaxed: whoever knows that the predecessor is gone sees all that it stored */
        span = shmipc__spsc_span(word, pos & (capacity - 1), capacity);
        pos += span;
        if (!span || pos - head > capacity - 8) return SHMIPC_ECORRUPT;
    }
    w->data = (unsigned char *)(m + 1);
    w->head = &m->head;
    w->capacity = capacity;
    w->tail = w->first = pos;
    w->limit = head + capacity;
    w->edge = pos;
    w->first_word = w->reserved = w->in_a_row = 0;
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_spsc_reader_attach(shmipc_spsc_reader *r, void *mem, size_t bytes)
{
    shmipc__spsc_mem *m = (shmipc__spsc_mem *)mem;
    uint32_t capacity, head;
    int rc;
    if (!r) return SHMIPC_EINVAL;
    rc = shmipc__spsc_check(mem, bytes, &capacity);
    if (rc) return rc;
    head = shmipc__load_relaxed_u32(&m->head);
    if (head & 7) return SHMIPC_ECORRUPT;
    r->data = (unsigned char *)(m + 1);
    r->head = &m->head;
    r->capacity = capacity;
    r->pos = r->released = head;
    r->in_a_row = 0;
    return SHMIPC_OK;
}

SHMIPC__COLD_END

/* In the middle of a stream, full or empty means that both sides fight over each line, once per record. A rest of a
 * microsecond or two lets the other side get ahead, and then a line carries many. 1: rested, look again. A record
 * that is answered never meets it. */
static SHMIPC__NOINLINE int shmipc__spsc_rest(uint32_t capacity, uint32_t *in_a_row, uint32_t least, uint32_t most)
{
    uint32_t i, n = *in_a_row < least ? 0 : capacity / 256;
    *in_a_row = 0;
    for (i = 0; i < n && i < most; i++) shmipc__pause();
    return n != 0;
}

/* The cached head says that `need` bytes do not fit: look at the real one. */
static SHMIPC__NOINLINE int shmipc__spsc_refresh(shmipc_spsc_writer *w, uint32_t need)
{
    do {
        uint32_t limit = shmipc__load_acquire_u32(w->head) + w->capacity; /* H2 */
        if ((limit & 7) || limit - w->tail > w->capacity) return SHMIPC_ECORRUPT;
        w->limit = limit;
        if (limit - w->tail >= need) return SHMIPC_OK;
    } while (shmipc__spsc_rest(w->capacity, &w->in_a_row, 16, 128));
    return SHMIPC_EFULL;
}

/* Adds a record at tail. The first one of a batch keeps its 0 until shmipc_spsc_flush. */
SHMIPC__INLINE void shmipc__spsc_append(shmipc_spsc_writer *w, uint32_t word, uint32_t span)
{
    if (w->first == w->tail) w->first_word = word;
    else shmipc__store_relaxed_u32(shmipc__spsc_word(w->data, w->tail, w->capacity), word);
    w->tail += span;
    w->in_a_row++;
    SHMIPC__PREFETCH_WRITE(shmipc__spsc_word(w->data, w->tail + 2 * SHMIPC__LINE, w->capacity));
}

/* Publishes [first, tail): the 0 behind it, then the word that reveals it all. */
SHMIPC__INLINE void shmipc__spsc_publish(shmipc_spsc_writer *w)
{
    shmipc__store_relaxed_u32(shmipc__spsc_word(w->data, w->tail, w->capacity), 0);
    shmipc__store_release_u32(shmipc__spsc_word(w->data, w->first, w->capacity), w->first_word); /* P1 */
    w->first = w->tail;
}

/* A record of `size` does not fit before the end of the data: fill that up. */
static SHMIPC__NOINLINE void shmipc__spsc_wrap(shmipc_spsc_writer *w)
{
    uint32_t room = w->capacity - (w->tail & (w->capacity - 1));
    int alone = w->first == w->tail;
    shmipc__spsc_append(w, SHMIPC__SPSC_VALID | SHMIPC__SPSC_PAD | room, room);
    if (alone) shmipc__spsc_publish(w);
}

/* The edge is reached: of what is known to be free, or of the data. */
static SHMIPC__NOINLINE int shmipc__spsc_move_edge(shmipc_spsc_writer *w, uint32_t size)
{
    uint32_t room = w->capacity - (w->tail & (w->capacity - 1));
    uint32_t need = size + 8 + (size > room ? room : 0);
    if (w->limit - w->tail < need) {
        int rc = shmipc__spsc_refresh(w, need);
        if (rc) return rc;
    }
    if (size > room) {
        shmipc__spsc_wrap(w);
        room = w->capacity;
    }
    w->edge = w->limit - 8 - w->tail < room ? w->limit - 8 : w->tail + room;
    return SHMIPC_OK;
}

/* Makes sure that `size` contiguous bytes and the 0 behind them are free at tail. Up to edge they are. */
SHMIPC__INLINE int shmipc__spsc_space(shmipc_spsc_writer *w, uint32_t size)
{
    return SHMIPC__LIKELY(w->edge - w->tail >= size) ? SHMIPC_OK : shmipc__spsc_move_edge(w, size);
}

/* Copies a record to tail, where there is space, and publishes [first, tail): what append and publish do, in one.
 * Locals, because the compiler must think that the payload may overwrite the handle. */
SHMIPC__INLINE void shmipc__spsc_put(shmipc_spsc_writer *w, const void *data, uint32_t len, uint32_t tag, uint32_t size)
{
    unsigned char *base = w->data;
    uint32_t capacity = w->capacity, tail = w->tail, end = tail + size, first = w->first;
    uint32_t *word = shmipc__spsc_word(base, tail, capacity), header = SHMIPC__SPSC_VALID | len;
    w->reserved = 0;
    w->tail = w->first = end;
    w->in_a_row++;
    if (SHMIPC__LIKELY(len)) shmipc__copy_in(word + 2, data, len);
    shmipc__store_relaxed_u32(word + 1, tag);
    if (SHMIPC__UNLIKELY(first != tail)) {
        shmipc__store_relaxed_u32(word, header);
        word = shmipc__spsc_word(base, first, capacity);
        header = w->first_word;
    }
    shmipc__store_relaxed_u32(shmipc__spsc_word(base, end, capacity), 0);
    shmipc__store_release_u32(word, header); /* P1 */
    SHMIPC__PREFETCH_WRITE(shmipc__spsc_word(base, end + 2 * SHMIPC__LINE, capacity));
}

static SHMIPC__NOINLINE int shmipc__spsc_send_slow(shmipc_spsc_writer *w, const void *data, uint32_t len, uint32_t tag)
{
    uint32_t size = shmipc__spsc_record(len, w->capacity);
    int rc = size ? shmipc__spsc_space(w, size) : SHMIPC_EMSGSIZE;
    if (!rc) shmipc__spsc_put(w, data, len, tag, size);
    return rc;
}

/* What is short and has space needs no call, so no register is saved: some 15 instructions less. */
SHMIPC_API int shmipc_spsc_send(shmipc_spsc_writer *w, const void *data, uint32_t len, uint32_t tag)
{
    uint32_t size;
    if (SHMIPC__UNLIKELY(!w || (!data && len))) return SHMIPC_EINVAL;
    if (len > SHMIPC__SPSC_SHORT) return shmipc__spsc_send_slow(w, data, len, tag);
    size = shmipc__spsc_record(len, w->capacity);
    if (SHMIPC__UNLIKELY(w->edge - w->tail < size)) return shmipc__spsc_send_slow(w, data, len, tag);
    shmipc__spsc_put(w, data, len, tag, size);
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_spsc_reserve(shmipc_spsc_writer *w, uint32_t len, void **payload)
{
    uint32_t size;
    int rc;
    if (!w || !payload) return SHMIPC_EINVAL;
    size = shmipc__spsc_record(len, w->capacity);
    if (!size) return SHMIPC_EMSGSIZE;
    rc = shmipc__spsc_space(w, size);
    if (rc) return rc;
    w->reserved = len + 1;
    *payload = shmipc__spsc_word(w->data, w->tail, w->capacity) + 2;
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_spsc_stage(shmipc_spsc_writer *w, uint32_t len, uint32_t tag)
{
    if (!w) return SHMIPC_EINVAL;
    if (!w->reserved) return SHMIPC_ESTATE;
    if (len >= w->reserved) return SHMIPC_EMSGSIZE;
    w->reserved = 0;
    shmipc__store_relaxed_u32(shmipc__spsc_word(w->data, w->tail, w->capacity) + 1, tag);
    shmipc__spsc_append(w, SHMIPC__SPSC_VALID | len, shmipc__spsc_record(len, w->capacity));
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_spsc_flush(shmipc_spsc_writer *w)
{
    if (!w) return SHMIPC_EINVAL;
    if (w->first == w->tail) return SHMIPC_OK;
    shmipc__spsc_publish(w);
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_spsc_commit(shmipc_spsc_writer *w, uint32_t len, uint32_t tag)
{
    int rc = shmipc_spsc_stage(w, len, tag);
    return rc ? rc : shmipc_spsc_flush(w);
}

SHMIPC__INLINE void shmipc__spsc_give_back(uint32_t *head, uint32_t pos)
{
    shmipc__store_release_u32(head, pos); /* H1 */
}

SHMIPC__INLINE uint32_t shmipc__spsc_look(const shmipc_spsc_reader *r)
{
    return shmipc__load_acquire_u32(shmipc__spsc_word(r->data, r->pos, r->capacity)); /* P2 */
}

/* Loads and checks the word at pos, past a PAD. 0: *rc says why there is none. */
SHMIPC__INLINE uint32_t shmipc__spsc_next(shmipc_spsc_reader *r, uint32_t *span, int *rc)
{
    for (;;) {
        uint32_t word = shmipc__spsc_look(r);
        *rc = SHMIPC_EAGAIN;
        if (!word) {
            if (r->in_a_row && shmipc__spsc_rest(r->capacity, &r->in_a_row, 16, 64)) continue;
            return 0;
        }
        *span = shmipc__spsc_span(word, r->pos & (r->capacity - 1), r->capacity);
        *rc = SHMIPC_ECORRUPT;
        if (SHMIPC__UNLIKELY(!*span || r->pos + *span - r->released > r->capacity - 8)) return 0;
        if (SHMIPC__LIKELY(!(word & SHMIPC__SPSC_PAD))) return word;
        r->pos += *span;
        if (r->pos - *span == r->released) shmipc__spsc_give_back(r->head, r->released = r->pos);
    }
}

SHMIPC_API int shmipc_spsc_peek(shmipc_spsc_reader *r, const void **payload, uint32_t *len, uint32_t *tag)
{
    uint32_t word, span = 0, *at;
    int rc;
    if (!r || !payload || !len) return SHMIPC_EINVAL;
    word = shmipc__spsc_next(r, &span, &rc);
    if (!word) return rc;
    at = shmipc__spsc_word(r->data, r->pos, r->capacity);
    *payload = at + 2;
    *len = word & SHMIPC__SPSC_LEN;
    if (tag) *tag = shmipc__load_relaxed_u32(at + 1);
    r->pos += span;
    r->in_a_row++;
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_spsc_release(shmipc_spsc_reader *r)
{
    if (!r) return SHMIPC_EINVAL;
    if (r->released != r->pos) shmipc__spsc_give_back(r->head, r->released = r->pos);
    return SHMIPC_OK;
}

/* Copies out the record at pos, with n bytes of payload, and gives it back. */
SHMIPC__INLINE void shmipc__spsc_get(shmipc_spsc_reader *r, uint32_t n, uint32_t span, void *buf, uint32_t *len,
                                     uint32_t *tag)
{
    const uint32_t *at = shmipc__spsc_word(r->data, r->pos, r->capacity);
    uint32_t *head = r->head, pos = r->pos + span;
    r->pos = r->released = pos;
    r->in_a_row++;
    *len = n;
    if (SHMIPC__LIKELY(n)) shmipc__copy_out(buf, at + 2, n);
    if (tag) *tag = shmipc__load_relaxed_u32(at + 1);
    shmipc__spsc_give_back(head, pos);
}

static SHMIPC__NOINLINE int shmipc__spsc_recv_slow(shmipc_spsc_reader *r, void *buf, uint32_t cap, uint32_t *len,
                                                   uint32_t *tag)
{
    uint32_t span = 0, word;
    int rc;
    word = shmipc__spsc_next(r, &span, &rc);
    if (!word) return rc;
    if ((word & SHMIPC__SPSC_LEN) > cap) return SHMIPC_EMSGSIZE;
    shmipc__spsc_get(r, word & SHMIPC__SPSC_LEN, span, buf, len, tag);
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_spsc_recv(shmipc_spsc_reader *r, void *buf, uint32_t cap, uint32_t *len, uint32_t *tag)
{
    uint32_t word, n, span;
    if (SHMIPC__UNLIKELY(!r || !len || (!buf && cap))) return SHMIPC_EINVAL;
    if (SHMIPC__UNLIKELY(r->pos != r->released)) return SHMIPC_ESTATE;
    word = shmipc__spsc_look(r);
    if (!word && !r->in_a_row) return SHMIPC_EAGAIN;
    n = word ^ SHMIPC__SPSC_VALID; /* the length, unless there is a PAD or no VALID */
    if (n > SHMIPC__SPSC_SHORT || n > cap) return shmipc__spsc_recv_slow(r, buf, cap, len, tag);
    span = shmipc__spsc_record(n, r->capacity);
    if (SHMIPC__UNLIKELY(span > r->capacity - (r->pos & (r->capacity - 1)))) return SHMIPC_ECORRUPT;
    shmipc__spsc_get(r, n, span, buf, len, tag);
    return SHMIPC_OK;
}

/* ---------------------------------------------------------------------------------------------
 * >>lane
 *
 * Byte map (a lane word is 64 bits, or 32 with SHMIPC_WORD_BITS 32)  written by      read by
 *    0  u32 magic, layout, depth, inline_max, chunk_max, records,
 *       budget, spare                                                 init            attach
 *   64  lane words wr, head                                           writer; sweep   attach; overtaken readers
 *  128  room for one inline loan                                      writer          writer
 *       records: u64 rec, received, missed, hazard[budget + 1]        its reader      writer's scan, sweep
 *       u32 free[], retired[], mark[], one each per chunk             writer          writer (made anew by attach)
 *       slots: lane words word, length and tag (two words of 32); at 16 the payload    writer          readers
 *  elsewhere chunks: u32 length, u32 tag; at 64 the payload           writer          readers that pinned it
 *
 *  slot word: round | state | chunk + 1 (46, 2, 16 bits; with 32 bits: round | state). Message `pos` lies in slot
 *    pos mod depth with round = pos / depth; the first message has pos = depth. Positions may wrap (32 bits).
 *  rec: generation 37 (never used twice) | state 2 | FUNDED 1 | owner 24.   hazard: generation 37 | chunk + 1 (24).
 *  wr: generation 40 | owner + 1 (24).   head: the newest position, a hint; it may lag and is never relied on.
 *
 * A chunk is named by a slot, pinned by a hazard word, lent to the writer's caller, or free; only the first two are in
 * shared words, so a dead writer's chunks need no recovery: the successor calls retired whatever no slot names.
 * Chunks: depth + spare + (budget + 1) for each record that was ever funded. At most depth are named, budget + 1 pinned
 * by each funded record, one is lent: so the scan always finds one, and publishing never waits.
 *
 * Orders
 *   L1 VALID, or chunk: store_release slot(writer) -> L2 load_acquire slot(reader): payload words, chunk contents
 *   L3 payload word store_release(writer) -> L4 load_acquire(reader): whoever sees a newer word sees, in the relaxed
 *      recheck L5 after it, the BUSY that was stored before it
 *   L6 slot store, fence(writer), hazard load | L7 hazard store, fence(reader), slot reload: one sees the other's
 *      store. The scan reads the records after its fence, for the same reason: rec was FUNDED before the hazard store
 *   L8 store_release hazard(reader), unpin as well as the next pin, which may hide the unpin from the scan
 *      -> L9 load_acquire hazard(scan): the view is over before the chunk is reused
 *   L10 rec, wr: CAS acq_rel, stores release, loads acquire
 *
 * The process dies between two lines of
 *   send inline: before VALID the message does not exist; the slot is BUSY, what it held is lost to readers who had not
 *     come to it (they count it), and the successor writes the same position again. After VALID it is published.
 *   send chunk, loan, commit: before L1 nobody names the chunk; it is free for the successor. After L1 it is published.
 *   head: lags by one; attach and skip walk on from it.   scan: changes only what attach makes anew.
 *   writer attach: wr names a dead one: next.   reader attach, take, recv, release, detach: sweep (first the hazard
 *     words of that generation, then rec). Memory reserved and FUNDED not yet stored: the next one reserves it again.
 *   sweep: each step is a CAS from the exact word; another sweep does the rest. A late one meets another generation.
 * ------------------------------------------------------------------------------------------- */

#define SHMIPC__LANE_MAGIC 0x454e414cu
#define SHMIPC__LANE_LAYOUT (0x00010000u | (uint32_t)(SHMIPC_WORD_BITS << 8) | 64u) /* version 1, word, line */
#define SHMIPC__LANE_HEAD 16u /* bytes before the payload of a slot */
#define SHMIPC__LANE_TRIES 8  /* an overtaken reader starts again; then it reports no news */

#if SHMIPC_WORD_BITS == 64
typedef uint64_t shmipc__lw;
typedef int64_t shmipc__slw;
#define SHMIPC__LW_LOAD_RELAXED(p) shmipc__load_relaxed_u64(p)
#define SHMIPC__LW_LOAD_ACQUIRE(p) shmipc__load_acquire_u64(p)
#define SHMIPC__LW_STORE_RELAXED(p, v) shmipc__store_relaxed_u64(p, v)
#define SHMIPC__LW_STORE_RELEASE(p, v) shmipc__store_release_u64(p, v)
#define SHMIPC__LANE_ROUND 18 /* where the round begins */
#define SHMIPC__LANE_STATE 16
#else
typedef uint32_t shmipc__lw;
typedef int32_t shmipc__slw;
#define SHMIPC__LW_LOAD_RELAXED(p) shmipc__load_relaxed_u32(p)
#define SHMIPC__LW_LOAD_ACQUIRE(p) shmipc__load_acquire_u32(p)
#define SHMIPC__LW_STORE_RELAXED(p, v) shmipc__store_relaxed_u32(p, v)
#define SHMIPC__LW_STORE_RELEASE(p, v) shmipc__store_release_u32(p, v)
#define SHMIPC__LANE_ROUND 2
#define SHMIPC__LANE_STATE 0
#endif
#if SHMIPC__GNU
#define SHMIPC__MEMCPY(to, from, n) __builtin_memcpy((to), (from), (n)) /* private memory, constant n: no call */
#else
#define SHMIPC__MEMCPY(to, from, n) memcpy((to), (from), (n))
#endif
#define SHMIPC__LANE_BUSY 1u
#define SHMIPC__LANE_INLINE 2u
#define SHMIPC__LANE_CHUNK 3u

typedef struct shmipc__lane_mem {
    uint32_t magic;
    uint32_t layout;
    uint32_t depth;
    uint32_t inline_max;
    uint32_t chunk_max;
    uint32_t records;
    uint32_t budget;
    uint32_t spare;
    uint32_t pad0[8];
    shmipc__lw wr;
    shmipc__lw head;
    shmipc__lw pad1[64 / sizeof(shmipc__lw) - 2];
} shmipc__lane_mem;
SHMIPC__STATIC_ASSERT(offsetof(shmipc__lane_mem, wr) == 64 && sizeof(shmipc__lane_mem) == 128, "lane layout");

SHMIPC__COLD_BEGIN

SHMIPC_API void shmipc_lane_config_init(shmipc_lane_config *config)
{
    if (!config) return;
    config->depth = 64;
    config->inline_max = 48;
    config->chunk_max = 0;
    config->records = SHMIPC_WORD_BITS == 64 ? 16 : 0;
    config->budget = 4;
    config->spare = 2;
}

static int shmipc__lane_check(const shmipc_lane_config *c)
{
    if (c->depth < 4 || c->depth > (1u << 20) || (c->depth & (c->depth - 1))) return SHMIPC_EINVAL;
    if (c->inline_max > 65520 || c->records > 4096 || c->budget > 32) return SHMIPC_EINVAL;
    if (c->chunk_max > 0x7fffffffu || (c->chunk_max && (!c->records || c->depth > 32768))) return SHMIPC_EINVAL;
    if (c->chunk_max && (c->spare < 1 || c->spare > 1024)) return SHMIPC_EINVAL;
    if (SHMIPC_WORD_BITS == 32 && (c->chunk_max || c->records)) return SHMIPC_ENOTSUP;
    return SHMIPC_OK;
}

/* The map of a configuration, as offsets from NULL in `at`; the caller adds the addresses. */
static int shmipc__lane_geometry(const shmipc_lane_config *c, shmipc_lane_map *g, uint64_t at[3], shmipc_lane_sizes *s)
{
    int rc = shmipc__lane_check(c);
    if (rc) return rc;
    g->depth = c->depth;
    for (g->shift = 0; (1u << g->shift) < c->depth; g->shift++) {}
    g->stride = (SHMIPC__LANE_HEAD + c->inline_max + 63u) & ~63u;
    g->inline_max = g->stride - SHMIPC__LANE_HEAD;
    g->chunk_max = c->chunk_max;
    g->n_records = c->records;
    g->budget = c->budget;
    g->record_stride = ((4u + c->budget) * 8u + 63u) & ~63u;
    g->base_chunks = c->chunk_max ? c->depth + c->spare : 0;
    g->n_chunks = c->chunk_max ? g->base_chunks + c->records * (c->budget + 1) : 0;
    /* odd lines: no set conflicts */
    g->chunk_stride = c->chunk_max ? (((uint64_t)c->chunk_max + 127u) >> 6 | 1u) << 6 : 0;
    if (g->n_chunks > 65534) return SHMIPC_EINVAL;
    at[0] = sizeof(shmipc__lane_mem) + g->stride;
    at[1] = at[0] + (uint64_t)g->n_records * g->record_stride;
    at[2] = at[1] + (((uint64_t)g->n_chunks * 12u + 63u) & ~(uint64_t)63);
    s->bytes = at[2] + (uint64_t)g->depth * g->stride;
    s->chunk_stride = g->chunk_stride;
    s->chunk_bytes = g->n_chunks * g->chunk_stride;
    s->base_chunks = g->base_chunks;
    s->chunks = g->n_chunks;
    return s->bytes > SIZE_MAX || s->chunk_bytes > SIZE_MAX ? SHMIPC_EINVAL : SHMIPC_OK;
}

SHMIPC_API int shmipc_lane_measure(const shmipc_lane_config *config, shmipc_lane_sizes *sizes)
{
    shmipc_lane_map g;
    shmipc_lane_sizes s;
    uint64_t at[3];
    int rc;
    if (!config || !sizes) return SHMIPC_EINVAL;
    rc = shmipc__lane_geometry(config, &g, at, &s);
    if (!rc) *sizes = s;
    return rc;
}

SHMIPC_API int shmipc_lane_init(void *mem, size_t bytes, const shmipc_lane_config *config)
{
    shmipc__lane_mem *m = (shmipc__lane_mem *)mem;
    shmipc_lane_map g;
    shmipc_lane_sizes s;
    uint64_t at[3], i;
    int rc;
    if (!mem || ((uintptr_t)mem & (SHMIPC__LINE - 1)) || !config) return SHMIPC_EINVAL;
    rc = shmipc__lane_geometry(config, &g, at, &s);
    if (rc) return rc;
    if (s.bytes > bytes) return SHMIPC_EINVAL;
    shmipc__store_relaxed_u32(&m->magic, 0);
    for (i = 4; i < s.bytes; i += 4) shmipc__store_relaxed_u32((uint32_t *)(void *)((unsigned char *)mem + i), 0);
    shmipc__store_relaxed_u32(&m->layout, SHMIPC__LANE_LAYOUT);
    shmipc__store_relaxed_u32(&m->depth, config->depth);
    shmipc__store_relaxed_u32(&m->inline_max, config->inline_max);
    shmipc__store_relaxed_u32(&m->chunk_max, config->chunk_max);
    shmipc__store_relaxed_u32(&m->records, config->records);
    shmipc__store_relaxed_u32(&m->budget, config->budget);
    shmipc__store_relaxed_u32(&m->spare, config->spare);
    SHMIPC__LW_STORE_RELAXED(&m->head, (shmipc__lw)(config->depth - 1));
    shmipc__store_release_u32(&m->magic, SHMIPC__LANE_MAGIC);
    return SHMIPC_OK;
}

static int shmipc__lane_open(const shmipc_lane_env *env, shmipc_lane_map *g)
{
    shmipc__lane_mem *m;
    shmipc_lane_config c;
    shmipc_lane_sizes s;
    uint64_t at[3];
    if (!env || !env->mem || env->bytes < sizeof *m || env->owner >= 0xffffffu) return SHMIPC_EINVAL;
    if (((uintptr_t)env->mem | (uintptr_t)env->chunks) & (SHMIPC__LINE - 1)) return SHMIPC_EINVAL;
    m = (shmipc__lane_mem *)env->mem;
    if (shmipc__load_acquire_u32(&m->magic) != SHMIPC__LANE_MAGIC) return SHMIPC_EFOREIGN;
    if (shmipc__load_relaxed_u32(&m->layout) != SHMIPC__LANE_LAYOUT) return SHMIPC_ELAYOUT;
    c.depth = shmipc__load_relaxed_u32(&m->depth);
    c.inline_max = shmipc__load_relaxed_u32(&m->inline_max);
    c.chunk_max = shmipc__load_relaxed_u32(&m->chunk_max);
    c.records = shmipc__load_relaxed_u32(&m->records);
    c.budget = shmipc__load_relaxed_u32(&m->budget);
    c.spare = shmipc__load_relaxed_u32(&m->spare);
    if (shmipc__lane_geometry(&c, g, at, &s) || s.bytes > env->bytes) return SHMIPC_ECORRUPT;
    if (g->n_chunks && (!env->chunks || s.chunk_bytes > env->chunk_bytes)) return SHMIPC_EINVAL;
    g->mem = (unsigned char *)env->mem;
    g->records = g->mem + at[0];
    g->lists = g->mem + at[1];
    g->slots = g->mem + at[2];
    g->chunks = (unsigned char *)env->chunks;
    return SHMIPC_OK;
}

SHMIPC__COLD_END

SHMIPC__INLINE shmipc__lane_mem *shmipc__lane_mem_of(const shmipc_lane_map *g)
{
    return (shmipc__lane_mem *)(void *)g->mem;
}
SHMIPC__INLINE shmipc__lw *shmipc__lane_slot(const shmipc_lane_map *g, shmipc__lw pos)
{
    return (shmipc__lw *)(void *)(g->slots + (size_t)(pos & (g->depth - 1)) * g->stride);
}
SHMIPC__INLINE shmipc__lw shmipc__lane_word(const shmipc_lane_map *g, shmipc__lw pos, shmipc__lw state)
{
    return (pos >> g->shift) << SHMIPC__LANE_ROUND | state << SHMIPC__LANE_STATE;
}
SHMIPC__INLINE uint32_t shmipc__lane_state(shmipc__lw word)
{
    return (uint32_t)(word >> SHMIPC__LANE_STATE) & 3u;
}
/* The position that a slot word stands for; `like` gives the slot. */
SHMIPC__INLINE shmipc__lw shmipc__lane_pos(const shmipc_lane_map *g, shmipc__lw word, shmipc__lw like)
{
    return (word >> SHMIPC__LANE_ROUND) << g->shift | (like & (g->depth - 1));
}

#if SHMIPC_WORD_BITS == 64 /* chunks, records and ownership need 64-bit words and read-modify-write */

#define SHMIPC__REC_OWNER 0xffffffu
#define SHMIPC__REC_FUNDED 0x1000000u
#define SHMIPC__REC_STATE 0x6000000u
#define SHMIPC__REC_ATTACHING 0x2000000u
#define SHMIPC__REC_ACTIVE 0x4000000u
#define SHMIPC__REC_GENERATION 27
#define SHMIPC__HZ_CHUNK 0xffffffu
#define SHMIPC__HZ_GENERATION 24
#define SHMIPC__MARK_ADOPTED 0x80000000u

SHMIPC__INLINE uint64_t *shmipc__lane_record(const shmipc_lane_map *g, uint32_t r)
{
    return (uint64_t *)(void *)(g->records + (size_t)r * g->record_stride);
}
#define SHMIPC__RECORD_RECEIVED(rec) ((rec) + 1)
#define SHMIPC__RECORD_MISSED(rec) ((rec) + 2)
#define SHMIPC__RECORD_HAZARD(rec, i) ((rec) + 3 + (i))

SHMIPC__INLINE uint32_t *shmipc__lane_free(const shmipc_lane_map *g, uint32_t i)
{
    return (uint32_t *)(void *)g->lists + i;
}
SHMIPC__INLINE uint32_t *shmipc__lane_retired(const shmipc_lane_map *g, uint32_t i)
{
    return (uint32_t *)(void *)g->lists + g->n_chunks + i;
}
SHMIPC__INLINE uint32_t *shmipc__lane_mark(const shmipc_lane_map *g, uint32_t chunk)
{
    return (uint32_t *)(void *)g->lists + 2 * g->n_chunks + chunk;
}
SHMIPC__INLINE uint32_t *shmipc__lane_chunk(const shmipc_lane_map *g, uint32_t chunk)
{
    return (uint32_t *)(void *)(g->chunks + (size_t)chunk * (size_t)g->chunk_stride);
}
SHMIPC__INLINE int shmipc__lane_alive(const shmipc_lane_env *env, uint32_t owner)
{
    return !env->alive || env->alive(env->arg, owner);
}

/* The slot no longer names the chunk; a reader may still have it pinned. Only corrupt memory retires more than there
 * is. */
SHMIPC__INLINE void shmipc__lane_retire(shmipc_lane_writer *w, uint32_t chunk)
{
    if (w->n_retired < w->map.n_chunks) shmipc__store_relaxed_u32(shmipc__lane_retired(&w->map, w->n_retired++), chunk);
}

SHMIPC__COLD_BEGIN

/* The chunks that a funded record brings enter the ring, once; those already there (skip) are named by a slot. */
static void shmipc__lane_adopt(shmipc_lane_writer *w, uint32_t r, uint32_t skip)
{
    uint32_t share = w->map.budget + 1, first = w->map.base_chunks + r * share, c;
    for (c = first; c < first + share; c++) {
        if (!skip || shmipc__load_relaxed_u32(shmipc__lane_mark(&w->map, c)) != skip) shmipc__lane_retire(w, c);
    }
    shmipc__store_relaxed_u32(shmipc__lane_mark(&w->map, first), SHMIPC__MARK_ADOPTED);
}

/* Marks what the readers pin, adopts what new ones brought. Runs only when no chunk is free. */
static void shmipc__lane_scan_records(shmipc_lane_writer *w)
{
    uint32_t r, i, share = w->map.budget + 1;
    for (r = 0; r < w->map.n_records; r++) {
        uint64_t *rec = shmipc__lane_record(&w->map, r);
        uint32_t first = w->map.base_chunks + r * share;
        if (!(shmipc__load_acquire_u64(rec) & SHMIPC__REC_FUNDED)) continue; /* L10 */
        if (!(shmipc__load_relaxed_u32(shmipc__lane_mark(&w->map, first)) & SHMIPC__MARK_ADOPTED))
            shmipc__lane_adopt(w, r, 0);
        for (i = 0; i < share; i++) {
            uint64_t h = shmipc__load_acquire_u64(SHMIPC__RECORD_HAZARD(rec, i)) & SHMIPC__HZ_CHUNK; /* L9 */
            uint32_t *mark;
            if (!h || h > w->map.n_chunks) continue;
            mark = shmipc__lane_mark(&w->map, (uint32_t)h - 1);
            shmipc__store_relaxed_u32(mark, (shmipc__load_relaxed_u32(mark) & SHMIPC__MARK_ADOPTED) | w->scan);
        }
    }
}

static SHMIPC__NOINLINE void shmipc__lane_scan(shmipc_lane_writer *w)
{
    uint32_t i, kept = 0;
    w->scan = (w->scan + 1) & ~SHMIPC__MARK_ADOPTED;
    shmipc__fence_seq_cst(); /* L6 */
    shmipc__lane_scan_records(w);
    for (i = 0; i < w->n_retired; i++) {
        uint32_t c = shmipc__load_relaxed_u32(shmipc__lane_retired(&w->map, i));
        if (c >= w->map.n_chunks) continue;
        if ((shmipc__load_relaxed_u32(shmipc__lane_mark(&w->map, c)) & ~SHMIPC__MARK_ADOPTED) == w->scan)
            shmipc__store_relaxed_u32(shmipc__lane_retired(&w->map, kept++), c);
        else if (w->n_free < w->map.n_chunks)
            shmipc__store_relaxed_u32(shmipc__lane_free(&w->map, w->n_free++), c);
    }
    w->n_retired = kept;
}

SHMIPC__COLD_END

static int shmipc__lane_chunk_get(shmipc_lane_writer *w, uint32_t *chunk)
{
    if (SHMIPC__UNLIKELY(!w->n_free)) shmipc__lane_scan(w);
    if (!w->n_free) return SHMIPC_ECORRUPT;
    *chunk = shmipc__load_relaxed_u32(shmipc__lane_free(&w->map, --w->n_free));
    return *chunk < w->map.n_chunks ? SHMIPC_OK : SHMIPC_ECORRUPT;
}

static int shmipc__lane_claim_writer(shmipc_lane_writer *w, const shmipc_lane_env *env)
{
    uint64_t *wr = &shmipc__lane_mem_of(&w->map)->wr;
    uint64_t old = shmipc__load_acquire_u64(wr); /* L10 */
    uint32_t who = (uint32_t)(old & SHMIPC__REC_OWNER);
    if (who && shmipc__lane_alive(env, who - 1)) return SHMIPC_EBUSY;
    w->word = ((old >> 24) + 1) << 24 | (env->owner + 1);
    return shmipc__cas_acqrel_u64(wr, &old, w->word) ? SHMIPC_OK : SHMIPC_EBUSY;
}

#endif /* SHMIPC_WORD_BITS == 64 */

SHMIPC__COLD_BEGIN

/* Everything that a writer knows, from the slots: the newest message, and which chunks no slot names. */
static int shmipc__lane_derive(shmipc_lane_writer *w)
{
    const shmipc_lane_map *g = &w->map;
    shmipc__lw newest = (shmipc__lw)(g->depth - 1);
    uint32_t i, any = 0;
    w->n_free = w->n_retired = w->loan = w->loan_len = 0;
    w->scan = 1;
    for (i = 0; i < g->n_chunks * 3; i++) shmipc__store_relaxed_u32((uint32_t *)(void *)g->lists + i, 0);
    for (i = 0; i < g->depth; i++) {
        shmipc__lw word = SHMIPC__LW_LOAD_ACQUIRE(shmipc__lane_slot(g, i)), pos = shmipc__lane_pos(g, word, i);
        if (shmipc__lane_state(word) < SHMIPC__LANE_INLINE) continue;
        if (!any || (shmipc__slw)(pos - newest) > 0) newest = pos;
        any = 1;
#if SHMIPC_WORD_BITS == 64
        if (shmipc__lane_state(word) != SHMIPC__LANE_CHUNK) continue;
        word &= 0xffffu;
        if (!word || word > g->n_chunks) return SHMIPC_ECORRUPT;
        shmipc__store_relaxed_u32(shmipc__lane_mark(g, (uint32_t)word - 1), 1);
#endif
    }
#if SHMIPC_WORD_BITS == 64
    for (i = 0; i < g->base_chunks; i++) {
        if (!shmipc__load_relaxed_u32(shmipc__lane_mark(g, i))) shmipc__lane_retire(w, i);
    }
    for (i = 0; i < g->n_records && g->n_chunks; i++) {
        if (shmipc__load_acquire_u64(shmipc__lane_record(g, i)) & SHMIPC__REC_FUNDED) shmipc__lane_adopt(w, i, 1);
    }
#endif
    w->next = (shmipc__lw)(newest + 1);
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_lane_writer_attach(shmipc_lane_writer *w, const shmipc_lane_env *env)
{
    int rc;
    if (!w) return SHMIPC_EINVAL;
    rc = shmipc__lane_open(env, &w->map);
    w->word = 0;
#if SHMIPC_WORD_BITS == 64
    if (!rc) rc = shmipc__lane_claim_writer(w, env);
#endif
    if (rc) return rc;
    rc = shmipc__lane_derive(w);
    if (rc) shmipc_lane_writer_detach(w);
    return rc;
}

SHMIPC_API int shmipc_lane_writer_detach(shmipc_lane_writer *w)
{
    if (!w) return SHMIPC_EINVAL;
#if SHMIPC_WORD_BITS == 64
    shmipc__store_release_u64(&shmipc__lane_mem_of(&w->map)->wr, w->word & ~(uint64_t)SHMIPC__REC_OWNER); /* L10 */
#endif
    return SHMIPC_OK;
}

SHMIPC__COLD_END

/* Payload words. The last one is filled up with zeros, and may end behind the caller's bytes but not behind the
 * slot. */
SHMIPC__INLINE void shmipc__lane_put_words(shmipc__lw *to, const void *from, uint32_t len)
{
    const unsigned char *p = (const unsigned char *)from;
    for (; len >= sizeof *to; len -= (uint32_t)sizeof *to, p += sizeof *to) {
        shmipc__lw v;
        SHMIPC__MEMCPY(&v, p, sizeof v);
        SHMIPC__LW_STORE_RELEASE(to, v); /* L3 */
        to++;
    }
    if (len) {
        shmipc__lw v = 0;
        unsigned char *b = (unsigned char *)&v;
        while (len--) b[len] = p[len];
        SHMIPC__LW_STORE_RELEASE(to, v); /* L3 */
    }
}
SHMIPC__INLINE void shmipc__lane_get_words(void *to, const shmipc__lw *from, uint32_t len)
{
    unsigned char *p = (unsigned char *)to;
    for (; len >= sizeof *from; len -= (uint32_t)sizeof *from, p += sizeof *from) {
        shmipc__lw v = SHMIPC__LW_LOAD_ACQUIRE(from); /* L4 */
        SHMIPC__MEMCPY(p, &v, sizeof v);
        from++;
    }
    if (len) {
        shmipc__lw v = SHMIPC__LW_LOAD_ACQUIRE(from); /* L4 */
        const unsigned char *b = (const unsigned char *)&v;
        while (len--) p[len] = b[len];
    }
}

SHMIPC__INLINE void shmipc__lane_published(shmipc_lane_writer *w)
{
    SHMIPC__LW_STORE_RELAXED(&shmipc__lane_mem_of(&w->map)->head, (shmipc__lw)w->next);
    w->next = (shmipc__lw)(w->next + 1);
    SHMIPC__PREFETCH_WRITE(shmipc__lane_slot(&w->map, (shmipc__lw)(w->next + 2))); /* readers still have it */
}

SHMIPC__INLINE void shmipc__lane_put_inline(shmipc_lane_writer *w, const void *data, uint32_t len, uint32_t tag)
{
    shmipc__lw pos = (shmipc__lw)w->next, *slot = shmipc__lane_slot(&w->map, pos);
#if SHMIPC_WORD_BITS == 64
    shmipc__lw old = w->map.n_chunks ? SHMIPC__LW_LOAD_RELAXED(slot) : 0;
#endif
    SHMIPC__LW_STORE_RELAXED(slot, shmipc__lane_word(&w->map, pos, SHMIPC__LANE_BUSY));
#if SHMIPC_WORD_BITS == 64
    SHMIPC__LW_STORE_RELEASE(slot + 1, (uint64_t)tag << 32 | len); /* L3 */
#else
    SHMIPC__LW_STORE_RELEASE(slot + 1, len); /* L3 */
    SHMIPC__LW_STORE_RELEASE(slot + 2, tag); /* L3 */
#endif
    shmipc__lane_put_words(slot + SHMIPC__LANE_HEAD / sizeof *slot, data, len);
    SHMIPC__LW_STORE_RELEASE(slot, shmipc__lane_word(&w->map, pos, SHMIPC__LANE_INLINE)); /* L1 */
#if SHMIPC_WORD_BITS == 64
    if (SHMIPC__UNLIKELY(shmipc__lane_state(old) == SHMIPC__LANE_CHUNK))
        shmipc__lane_retire(w, (uint32_t)(old & 0xffffu) - 1);
#endif
    shmipc__lane_published(w);
}

#if SHMIPC_WORD_BITS == 64
static void shmipc__lane_put_chunk(shmipc_lane_writer *w, uint32_t chunk, uint32_t len, uint32_t tag)
{
    uint32_t *head = shmipc__lane_chunk(&w->map, chunk);
    uint64_t *slot = shmipc__lane_slot(&w->map, w->next);
    uint64_t old = shmipc__load_relaxed_u64(slot);
    shmipc__store_relaxed_u32(head, len);
    shmipc__store_relaxed_u32(head + 1, tag);
    shmipc__store_release_u64(slot, shmipc__lane_word(&w->map, w->next, SHMIPC__LANE_CHUNK) | (chunk + 1)); /* L1 */
    if (shmipc__lane_state(old) == SHMIPC__LANE_CHUNK) shmipc__lane_retire(w, (uint32_t)(old & 0xffffu) - 1);
    shmipc__lane_published(w);
}
#endif

#if SHMIPC_WORD_BITS == 64 && !defined(SHMIPC_RINGS_ONLY) /* for the sockets */
/* Gives up the oldest message that lies in a chunk, for the memory that the chunk stands for; the newest stays. 0:
 * there is none. To readers it is as if the next round had begun there. Dies after the store: as in send, before
 * VALID. */
SHMIPC__UNUSED static int shmipc__lane_shed(shmipc_lane_writer *w)
{
    uint32_t i;
    for (i = 0; i + 1 < w->map.depth; i++) {
        uint64_t pos = w->next - w->map.depth + i, *slot = shmipc__lane_slot(&w->map, pos);
        uint64_t word = shmipc__load_relaxed_u64(slot);
        if (shmipc__lane_state(word) != SHMIPC__LANE_CHUNK || shmipc__lane_pos(&w->map, word, pos) != pos) continue;
        shmipc__store_relaxed_u64(slot, shmipc__lane_word(&w->map, pos + w->map.depth, SHMIPC__LANE_BUSY));
        shmipc__lane_retire(w, (uint32_t)(word & 0xffffu) - 1);
        return 1;
    }
    return 0;
}
#endif

SHMIPC_API int shmipc_lane_loan(shmipc_lane_writer *w, uint32_t len, void **payload)
{
    if (!w || !payload) return SHMIPC_EINVAL;
    if (w->loan) return SHMIPC_ESTATE;
    if (len <= w->map.inline_max) {
        w->loan = 0xffffffffu; /* the writer's own room; commit copies it into the slot */
        *payload = w->map.mem + sizeof(shmipc__lane_mem);
    } else {
#if SHMIPC_WORD_BITS == 64
        uint32_t chunk;
        int rc;
        if (len > w->map.chunk_max) return SHMIPC_EMSGSIZE;
        rc = shmipc__lane_chunk_get(w, &chunk);
        if (rc) return rc;
        w->loan = chunk + 1;
        *payload = shmipc__lane_chunk(&w->map, chunk) + SHMIPC__LINE / 4;
#else
        return SHMIPC_EMSGSIZE;
#endif
    }
    w->loan_len = len;
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_lane_commit(shmipc_lane_writer *w, uint32_t len, uint32_t tag)
{
    uint32_t loan;
    if (!w) return SHMIPC_EINVAL;
    loan = w->loan;
    if (!loan) return SHMIPC_ESTATE;
    if (len > w->loan_len) return SHMIPC_EMSGSIZE;
    w->loan = 0;
#if SHMIPC_WORD_BITS == 64
    if (loan != 0xffffffffu) {
        shmipc__lane_put_chunk(w, loan - 1, len, tag);
        return SHMIPC_OK;
    }
#endif
    shmipc__lane_put_inline(w, w->map.mem + sizeof(shmipc__lane_mem), len, tag);
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_lane_discard(shmipc_lane_writer *w)
{
    if (!w) return SHMIPC_EINVAL;
    if (!w->loan) return SHMIPC_ESTATE;
#if SHMIPC_WORD_BITS == 64
    if (w->loan != 0xffffffffu && w->n_free < w->map.n_chunks)
        shmipc__store_relaxed_u32(shmipc__lane_free(&w->map, w->n_free++), w->loan - 1);
#endif
    w->loan = 0;
    return SHMIPC_OK;
}

static SHMIPC__NOINLINE int shmipc__lane_send_large(shmipc_lane_writer *w, const void *data, uint32_t len, uint32_t tag)
{
#if SHMIPC_WORD_BITS == 64
    uint32_t chunk;
    int rc;
    if (len > w->map.chunk_max) return SHMIPC_EMSGSIZE;
    rc = shmipc__lane_chunk_get(w, &chunk);
    if (rc) return rc;
    shmipc__copy_in(shmipc__lane_chunk(&w->map, chunk) + SHMIPC__LINE / 4, data, len);
    shmipc__lane_put_chunk(w, chunk, len, tag);
    return SHMIPC_OK;
#else
    (void)w, (void)data, (void)len, (void)tag;
    return SHMIPC_EMSGSIZE;
#endif
}

SHMIPC_API int shmipc_lane_send(shmipc_lane_writer *w, const void *data, uint32_t len, uint32_t tag)
{
    if (SHMIPC__UNLIKELY(!w || (!data && len))) return SHMIPC_EINVAL;
    if (SHMIPC__UNLIKELY(len > w->map.inline_max)) return shmipc__lane_send_large(w, data, len, tag);
    shmipc__lane_put_inline(w, data, len, tag);
    return SHMIPC_OK;
}

SHMIPC__COLD_BEGIN

#if SHMIPC_WORD_BITS == 64
static int shmipc__lane_try_record(shmipc_lane_reader *r, const shmipc_lane_env *env, uint32_t i, uint64_t wanted)
{
    uint64_t *rec = shmipc__lane_record(&r->map, i), funded, old = shmipc__load_acquire_u64(rec); /* L10 */
    uint32_t share = r->map.budget + 1;
    int rc = 0;
    if ((old & SHMIPC__REC_STATE) || (old & SHMIPC__REC_FUNDED) != wanted) return SHMIPC_EAGAIN;
    funded = r->map.n_chunks ? SHMIPC__REC_FUNDED : 0;
    r->generation = (old >> SHMIPC__REC_GENERATION) + 1;
    if (!shmipc__cas_acqrel_u64(rec, &old, r->generation << SHMIPC__REC_GENERATION | SHMIPC__REC_ATTACHING | wanted |
                                               env->owner)) return SHMIPC_EAGAIN; /* L10 */
    if (funded != wanted && env->reserve) rc = env->reserve(env->arg, r->map.base_chunks + i * share, share);
    if (rc) {
        shmipc__store_release_u64(rec, r->generation << SHMIPC__REC_GENERATION);
        return rc;
    }
    shmipc__store_relaxed_u64(SHMIPC__RECORD_RECEIVED(rec), 0);
    shmipc__store_relaxed_u64(SHMIPC__RECORD_MISSED(rec), 0);
    shmipc__store_release_u64(rec, r->generation << SHMIPC__REC_GENERATION | SHMIPC__REC_ACTIVE | funded | env->owner);
    r->record = rec;
    return SHMIPC_OK;
}

/* Records whose chunks are there already come first: memory follows the most readers at one time. */
static int shmipc__lane_claim_record(shmipc_lane_reader *r, const shmipc_lane_env *env)
{
    uint32_t i, pass;
    for (pass = 0; pass < 2; pass++) {
        for (i = 0; i < r->map.n_records; i++) {
            int rc = shmipc__lane_try_record(r, env, i, pass ? 0 : SHMIPC__REC_FUNDED);
            if (rc != SHMIPC_EAGAIN) return rc;
        }
    }
    return SHMIPC_ETABLE;
}
#endif

/* The newest position: head, or what was published behind it. */
static shmipc__lw shmipc__lane_newest(const shmipc_lane_map *g)
{
    shmipc__lw pos = SHMIPC__LW_LOAD_RELAXED(&shmipc__lane_mem_of(g)->head), word;
    uint32_t i;
    for (i = 0; i < g->depth; i++) {
        word = SHMIPC__LW_LOAD_ACQUIRE(shmipc__lane_slot(g, (shmipc__lw)(pos + 1)));
        if (shmipc__lane_state(word) < SHMIPC__LANE_INLINE) break;
        if (shmipc__lane_pos(g, word, (shmipc__lw)(pos + 1)) != (shmipc__lw)(pos + 1)) break;
        pos++;
    }
    return pos;
}

SHMIPC_API int shmipc_lane_reader_attach(shmipc_lane_reader *r, const shmipc_lane_env *env, uint32_t history)
{
    shmipc__lw newest, before;
    int rc;
    if (!r) return SHMIPC_EINVAL;
    rc = shmipc__lane_open(env, &r->map);
    r->record = NULL;
    r->missed = r->received = r->generation = 0;
    r->pins = 0;
#if SHMIPC_WORD_BITS == 64
    if (!rc && r->map.n_records) rc = shmipc__lane_claim_record(r, env);
#endif
    if (rc) return rc;
    newest = shmipc__lane_newest(&r->map);
    if (history >= r->map.depth) history = r->map.depth - 1; /* the oldest one may be going */
    before = (shmipc__lw)(newest - history + 1);
    if ((shmipc__slw)(before - r->map.depth) < 0 && (shmipc__slw)newest >= 0) before = r->map.depth;
    r->next = before;
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_lane_reader_detach(shmipc_lane_reader *r)
{
    if (!r) return SHMIPC_EINVAL;
    if (r->pins) return SHMIPC_EBUSY;
#if SHMIPC_WORD_BITS == 64
    if (r->record) {
        uint64_t funded = r->map.n_chunks ? SHMIPC__REC_FUNDED : 0;
        shmipc__store_release_u64(r->record, r->generation << SHMIPC__REC_GENERATION | funded); /* L10 */
    }
#endif
    r->record = NULL;
    return SHMIPC_OK;
}

/* Slot `pos` is seen where an older message was wanted: count what is gone and go on with the oldest plus an eighth of
 * the depth, so as not to be overtaken again at once; but not beyond the newest, which stays when others are given
 * up. */
static SHMIPC__NOINLINE void shmipc__lane_lost(shmipc_lane_reader *r, shmipc__lw pos)
{
    shmipc__lw head = SHMIPC__LW_LOAD_RELAXED(&shmipc__lane_mem_of(&r->map)->head), fresh;
    if ((shmipc__slw)(head - pos) > 0) pos = head;
    fresh = (shmipc__lw)(pos - r->map.depth + 1 + r->map.depth / 8);
    if ((shmipc__slw)(fresh - head) > 0) fresh = head;
    if ((shmipc__slw)(fresh - (shmipc__lw)r->next) < 1) fresh = (shmipc__lw)(r->next + 1);
    r->missed += (shmipc__lw)(fresh - (shmipc__lw)r->next);
    r->next = fresh;
#if SHMIPC_WORD_BITS == 64
    if (r->record) shmipc__store_relaxed_u64(SHMIPC__RECORD_MISSED(r->record), r->missed);
#endif
}

SHMIPC__COLD_END

SHMIPC__INLINE void shmipc__lane_advance(shmipc_lane_reader *r)
{
    r->next = (shmipc__lw)(r->next + 1);
#if SHMIPC_WORD_BITS == 64
    r->received++;
    if (r->record) shmipc__store_relaxed_u64(SHMIPC__RECORD_RECEIVED(r->record), r->received);
#endif
}

/* 1: overwritten meanwhile, look again. */
SHMIPC__INLINE int shmipc__lane_get_inline(shmipc_lane_reader *r, const shmipc__lw *slot, shmipc__lw word, void *buf,
                                           uint32_t cap, shmipc_lane_msg *m)
{
    shmipc__lw meta = SHMIPC__LW_LOAD_ACQUIRE(slot + 1); /* L4 */
    uint32_t len = (uint32_t)meta, tag;
#if SHMIPC_WORD_BITS == 64
    tag = (uint32_t)(meta >> 32);
#else
    tag = SHMIPC__LW_LOAD_ACQUIRE(slot + 2); /* L4 */
#endif
    if (SHMIPC__LIKELY(len <= cap && len <= r->map.inline_max))
        shmipc__lane_get_words(buf, slot + SHMIPC__LANE_HEAD / sizeof *slot, len);
    if (SHMIPC__UNLIKELY(SHMIPC__LW_LOAD_RELAXED(slot) != word)) return 1; /* L5 */
    if (SHMIPC__UNLIKELY(len > r->map.inline_max)) return SHMIPC_ECORRUPT;
    if (SHMIPC__UNLIKELY(len > cap)) return SHMIPC_EMSGSIZE;
    m->data = buf;
    m->len = len;
    m->tag = tag;
    m->pin = 0;
    return SHMIPC_OK;
}

#if SHMIPC_WORD_BITS == 64
/* Hazard word 0 is for copying, so that recv works with all views out; 1 .. budget are the views. view: 0 copies the
 * chunk to buf, 1 leaves a view, 2 leaves the chunk pinned by word 0 for a copy that the caller makes. */
static int shmipc__lane_get_chunk(shmipc_lane_reader *r, const uint64_t *slot, uint64_t word, void *buf, uint32_t cap,
                                  int view, shmipc_lane_msg *m)
{
    uint32_t c = (uint32_t)(word & 0xffffu), i = 0, *chunk;
    uint64_t *hazard;
    int rc = SHMIPC_OK;
    if (!c || c > r->map.n_chunks || !r->record) return SHMIPC_ECORRUPT;
    if (view == 1) {
        for (i = 1; i <= r->map.budget && (r->pins >> (i - 1) & 1u); i++) {}
        if (i > r->map.budget) return SHMIPC_EBUSY;
    }
    hazard = SHMIPC__RECORD_HAZARD(r->record, i);
    shmipc__store_release_u64(hazard, r->generation << SHMIPC__HZ_GENERATION | c); /* L8 */
    shmipc__fence_seq_cst(); /* L7 */
    if (shmipc__load_relaxed_u64(slot) != word) rc = 1;
    chunk = shmipc__lane_chunk(&r->map, c - 1);
    if (!rc) {
        m->len = shmipc__load_relaxed_u32(chunk);
        m->tag = shmipc__load_relaxed_u32(chunk + 1);
        m->pin = i;
        m->data = view ? (const void *)(chunk + SHMIPC__LINE / 4) : buf;
        if (m->len > r->map.chunk_max) rc = SHMIPC_ECORRUPT;
        else if (!view && m->len > cap) rc = SHMIPC_EMSGSIZE;
        else if (!view && m->len) shmipc__copy_out(buf, chunk + SHMIPC__LINE / 4, m->len);
    }
    if (!rc && view == 1) r->pins |= 1u << (i - 1);
    if (rc || !view) shmipc__store_release_u64(hazard, 0); /* L8 */
    return rc;
}
#endif

SHMIPC__INLINE int shmipc__lane_next(shmipc_lane_reader *r, void *buf, uint32_t cap, int view, shmipc_lane_msg *m)
{
    uint32_t tries;
    for (tries = 0; tries < SHMIPC__LANE_TRIES; tries++) {
        shmipc__lw next = (shmipc__lw)r->next, *slot = shmipc__lane_slot(&r->map, next), pos;
        shmipc__lw word = SHMIPC__LW_LOAD_ACQUIRE(slot); /* L2 */
        int rc = 1;
        pos = shmipc__lane_pos(&r->map, word, next);
        if (SHMIPC__LIKELY(word == shmipc__lane_word(&r->map, next, SHMIPC__LANE_INLINE))) {
            rc = shmipc__lane_get_inline(r, slot, word, buf, cap, m);
        } else if (pos == (shmipc__lw)(next - r->map.depth)) {
            return SHMIPC_EAGAIN;
        } else if (pos == next) {
            if (shmipc__lane_state(word) != SHMIPC__LANE_CHUNK) return SHMIPC_EAGAIN;
#if SHMIPC_WORD_BITS == 64
            rc = shmipc__lane_get_chunk(r, slot, word, buf, cap, view, m);
#endif
        } else if ((shmipc__slw)(pos - next) > 0) {
            shmipc__lane_lost(r, pos);
        } else {
            return SHMIPC_ECORRUPT;
        }
        if (rc > 0) continue;
        if (!rc) {
            m->number = r->next - r->map.depth;
            shmipc__lane_advance(r);
        }
        return rc;
    }
    (void)view;
    return SHMIPC_EAGAIN;
}

SHMIPC_API int shmipc_lane_recv(shmipc_lane_reader *r, void *buf, uint32_t cap, uint32_t *len, uint32_t *tag)
{
    shmipc_lane_msg m;
    int rc;
    if (SHMIPC__UNLIKELY(!r || !len || (!buf && cap))) return SHMIPC_EINVAL;
    rc = shmipc__lane_next(r, buf, cap, 0, &m);
    if (rc) return rc;
    *len = m.len;
    if (tag) *tag = m.tag;
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_lane_take(shmipc_lane_reader *r, void *buf, uint32_t cap, shmipc_lane_msg *msg)
{
    shmipc_lane_msg m;
    int rc;
    if (!r || !msg || (!buf && cap)) return SHMIPC_EINVAL;
    m.pad = 0;
    rc = shmipc__lane_next(r, buf, cap, 1, &m);
    if (!rc) *msg = m;
    return rc;
}

SHMIPC_API int shmipc_lane_release(shmipc_lane_reader *r, shmipc_lane_msg *msg)
{
    if (!r || !msg) return SHMIPC_EINVAL;
#if SHMIPC_WORD_BITS == 64
    if (msg->pin) {
        if (!r->record || msg->pin > r->map.budget || !(r->pins >> (msg->pin - 1) & 1u)) return SHMIPC_ESTATE;
        r->pins &= ~(1u << (msg->pin - 1));
        shmipc__store_release_u64(SHMIPC__RECORD_HAZARD(r->record, msg->pin), 0); /* L8 */
    }
#endif
    msg->pin = 0;
    msg->data = NULL;
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_lane_skip(shmipc_lane_reader *r, uint32_t keep, uint64_t *skipped)
{
    shmipc__lw to;
    uint64_t n = 0;
    if (!r) return SHMIPC_EINVAL;
    if (keep >= r->map.depth) keep = r->map.depth - 1;
    to = (shmipc__lw)(shmipc__lane_newest(&r->map) + 1 - keep);
    if ((shmipc__slw)(to - (shmipc__lw)r->next) > 0) {
        n = (shmipc__lw)(to - (shmipc__lw)r->next);
        r->next = to;
    }
    if (skipped) *skipped = n;
    return SHMIPC_OK;
}

SHMIPC_API uint64_t shmipc_lane_missed(const shmipc_lane_reader *r)
{
    return r ? r->missed : 0;
}

SHMIPC__COLD_BEGIN

#if SHMIPC_WORD_BITS == 64
static int shmipc__lane_sweep_record(const shmipc_lane_env *env, const shmipc_lane_map *g, uint64_t *rec, uint32_t dead)
{
    uint64_t was = shmipc__load_acquire_u64(rec), h; /* L10 */
    uint32_t i;
    if (!(was & SHMIPC__REC_STATE) || (was & SHMIPC__REC_OWNER) != dead) return SHMIPC_OK;
    for (i = 0; i <= g->budget; i++) {
        h = shmipc__load_acquire_u64(SHMIPC__RECORD_HAZARD(rec, i));
        if (!h || h >> SHMIPC__HZ_GENERATION != was >> SHMIPC__REC_GENERATION) continue;
        if (shmipc__lane_alive(env, dead)) return SHMIPC_EBUSY;
        (void)shmipc__cas_acqrel_u64(SHMIPC__RECORD_HAZARD(rec, i), &h, 0);
    }
    if (shmipc__lane_alive(env, dead)) return SHMIPC_EBUSY;
    h = was & ~(uint64_t)(SHMIPC__REC_STATE | SHMIPC__REC_OWNER);
    (void)shmipc__cas_acqrel_u64(rec, &was, h); /* L10 */
    return SHMIPC_OK;
}
#endif

SHMIPC_API int shmipc_lane_sweep(const shmipc_lane_env *env, uint32_t dead)
{
    shmipc_lane_map g;
    int rc = shmipc__lane_open(env, &g);
    if (rc) return rc;
#if SHMIPC_WORD_BITS == 64
    {
        uint64_t *wr = &shmipc__lane_mem_of(&g)->wr, w;
        uint32_t i;
        for (i = 0; i < g.n_records && !rc; i++) {
            rc = shmipc__lane_sweep_record(env, &g, shmipc__lane_record(&g, i), dead);
        }
        w = shmipc__load_acquire_u64(wr); /* L10 */
        if (rc || (w & SHMIPC__REC_OWNER) != dead + 1) return rc;
        if (shmipc__lane_alive(env, dead)) return SHMIPC_EBUSY;
        (void)shmipc__cas_acqrel_u64(wr, &w, w & ~(uint64_t)SHMIPC__REC_OWNER);
    }
#else
    (void)dead;
#endif
    return rc;
}

SHMIPC__COLD_END

/* ---------------------------------------------------------------------------------------------
 * >>queue  The chunk word is the only truth; a slot is an index. A word changes by one CAS or store at a time:
 *
 *     FREE -> FILLING(producer) -> HELD(consumer) -> FREE       HELD(dead, or nobody) -> RETURNED -> HELD(another)
 *
 * A published chunk stays FILLING: what publishes it is the slot that names it.
 *
 * Byte map                                         written by                          read by
 *   0  magic, stamp, slots, chunks, max_message,   init, once                          attach, into the handle
 *      stride, policy, 0
 *  32  hint: version << 1 | "something returned"   sweep, reject: CAS; take clears     take
 * 128  tail  all positions before it are filled    who pushed: store, only up          push, stats
 * 256  head  all positions before it are emptied   who took: store, only up            take, stats
 * 384  slot[]: round 40 | chunk + 1 (0: empty) 24  push: empty -> chunk; anybody: taken chunk -> next round's empty
 *  ..  chunk[]: word, then length, tag, payload    push, take, sweep: CAS; its owner: store FREE
 *      word: generation 38 | state 2 | count 4 | owner 20;  the rest: the FILLING owner writes, the HELD owner reads
 *
 * As a number, a word only rises (so RETURNED raises the generation and stands below HELD, and NOBODY is the largest
 * owner): no word comes twice, a CAS from an old one fails, and two sums over all words are equal only if nothing
 * changed between them. Position p lies in slot p mod slots; its round is p div slots. Head and tail are hints: one
 * that lags, or that a stopped process sets back, costs steps, never an answer; so plain stores will do.
 *
 * Orders: each release, the acquire that reads it, and what it carries
 *   Q1  slot CAS, publish           slot load in take, named         the payload; the word is FILLING
 *   Q2  word FREE (store, CAS)      loads and CAS of words           its slot is emptied, its payload read
 *   Q3  word CAS HELD, RETURNED     word load and CAS in take_back   the payload, from the dead one to the next
 *   Q4  tail, head store            their loads                      no slot looks older than the round before
 *   Q5  hint CAS, raise             hint load in take                the owner is dead, the word is HELD or later
 * Emptying a slot is relaxed: who depends on it learns of it by Q2 or Q3, for having read a value orders like having
 * written it. So is the second look at a slot (take, room): a word of a later life brings the emptying along by Q2.
 * ------------------------------------------------------------------------------------------- */

#if SHMIPC_WORD_BITS == 64

#define SHMIPC__QUEUE_MAGIC 0x51504d53u /* "SMPQ" */
#define SHMIPC__QUEUE_STAMP 1u
#define SHMIPC__QUEUE_CHUNK UINT64_C(0xffffff)
#define SHMIPC__QUEUE_NOBODY UINT64_C(0xfffff)
#define SHMIPC__QUEUE_ONCE (UINT64_C(1) << 20)
#define SHMIPC__QUEUE_COUNT (UINT64_C(15) << 20)
#define SHMIPC__QUEUE_STATE (UINT64_C(3) << 24)
#define SHMIPC__QUEUE_FILLING (UINT64_C(1) << 24) /* FREE is 0, without count and owner */
#define SHMIPC__QUEUE_RETURNED (UINT64_C(2) << 24)
#define SHMIPC__QUEUE_HELD (UINT64_C(3) << 24)
/* Corrupt or hostile memory must not hold us for ever. Others' progress never costs one call so many turns. */
#define SHMIPC__QUEUE_PATIENCE (UINT32_C(1) << 25)

typedef struct shmipc__queue_shared {
    uint32_t field[8];
    uint64_t hint, padding1[11];
    uint64_t tail, padding2[15];
    uint64_t head, padding3[15];
} shmipc__queue_shared;
SHMIPC__STATIC_ASSERT(offsetof(shmipc__queue_shared, hint) == 32 && offsetof(shmipc__queue_shared, tail) == 128 &&
                      offsetof(shmipc__queue_shared, head) == 256 && sizeof(shmipc__queue_shared) == 384, "layout");

SHMIPC__INLINE shmipc__queue_shared *shmipc__queue_of(const shmipc_queue *q)
{
    return (shmipc__queue_shared *)q->shared;
}
/* A chunk: [0] the word, [1] length and tag, [2] the payload. */
SHMIPC__INLINE uint64_t *shmipc__queue_chunk(const shmipc_queue *q, uint32_t c)
{
    return (uint64_t *)(void *)(q->chunk + (size_t)c * q->stride);
}
SHMIPC__INLINE uint64_t *shmipc__queue_slot(const shmipc_queue *q, uint64_t p)
{
    return q->slot + (p & (q->config.slots - 1u));
}
/* The slot of position p when it is empty and waits for p. */
SHMIPC__INLINE uint64_t shmipc__queue_vacant(const shmipc_queue *q, uint64_t p) { return p >> q->shift << 24; }
SHMIPC__INLINE uint64_t shmipc__queue_emptied(uint64_t s) { return (s | SHMIPC__QUEUE_CHUNK) + 1u; }
/* How many rounds slot s is ahead of position p. */
SHMIPC__INLINE int64_t shmipc__queue_ahead(const shmipc_queue *q, uint64_t s, uint64_t p)
{
    return (int64_t)((s & ~SHMIPC__QUEUE_CHUNK) - shmipc__queue_vacant(q, p)) >> 24;
}
/* FREE in the next generation. */
SHMIPC__INLINE uint64_t shmipc__queue_freed(uint64_t w) { return (w | SHMIPC__QUEUE_STATE | SHMIPC__QUEUE_CHUNK) + 1u; }
/* The next generation of a message that comes back, without state and owner. */
static uint64_t shmipc__queue_recounted(uint64_t w)
{
    uint64_t count = w & SHMIPC__QUEUE_COUNT;
    return shmipc__queue_freed(w) | (count == SHMIPC__QUEUE_COUNT ? count : count + SHMIPC__QUEUE_ONCE);
}
SHMIPC__INLINE uint64_t shmipc__queue_tail(const shmipc_queue *q)
{
    return shmipc__load_acquire_u64(&shmipc__queue_of(q)->tail); /* Q4 */
}
SHMIPC__INLINE uint64_t shmipc__queue_hint(const shmipc_queue *q)
{
    return shmipc__load_acquire_u64(&shmipc__queue_of(q)->hint); /* Q5 */
}
SHMIPC__INLINE void shmipc__queue_advance(uint64_t *position, uint64_t p)
{
    uint64_t now = shmipc__load_relaxed_u64(position);
    if ((int64_t)(p - now) > 0) shmipc__store_release_u64(position, p); /* Q4 */
}

/* ---- set-up ---- */

SHMIPC__COLD_BEGIN

static int shmipc__queue_layout(const shmipc_queue_config *c, uint32_t *field, uint64_t *chunks_at, uint64_t *size)
{
    uint64_t lines;
    if (!c || c->slots == 0 || (c->slots & (c->slots - 1u)) || c->slots > (1u << 22)) return SHMIPC_EINVAL;
    if (c->chunks <= c->slots || c->chunks > (1u << 23)) return SHMIPC_EINVAL;
    if (c->max_message == 0 || c->max_message > (1u << 30) || c->policy > SHMIPC_QUEUE_REPORT) return SHMIPC_EINVAL;
    lines = ((uint64_t)c->max_message + 16u + SHMIPC__LINE - 1u) / SHMIPC__LINE;
    if (lines % 4u == 0) lines++; /* at multiples of a large power of two, chunks would share a few cache sets */
    field[0] = SHMIPC__QUEUE_MAGIC;
    field[1] = SHMIPC__QUEUE_STAMP;
    field[2] = c->slots;
    field[3] = c->chunks;
    field[4] = c->max_message;
    field[5] = (uint32_t)(lines * SHMIPC__LINE);
    field[6] = c->policy;
    field[7] = 0;
    *chunks_at = sizeof(shmipc__queue_shared) + ((uint64_t)c->slots + 7u) / 8u * SHMIPC__LINE;
    *size = *chunks_at + (uint64_t)c->chunks * field[5];
    return *size > (uint64_t)(SIZE_MAX / 2) ? SHMIPC_EINVAL : SHMIPC_OK;
}

SHMIPC_API int shmipc_queue_size(const shmipc_queue_config *config, uint64_t *size_bytes)
{
    uint32_t field[8];
    uint64_t at, size;
    if (!size_bytes || shmipc__queue_layout(config, field, &at, &size)) return SHMIPC_EINVAL;
    *size_bytes = size;
    return SHMIPC_OK;
}

/* Nobody else uses the memory yet. Dies anywhere: no magic, attach refuses it. */
SHMIPC_API int shmipc_queue_init(void *memory, uint64_t size_bytes, const shmipc_queue_config *config)
{
    shmipc__queue_shared *h = (shmipc__queue_shared *)memory;
    unsigned char *chunk = (unsigned char *)memory;
    uint32_t field[8], i;
    uint64_t at, size;
    if (shmipc__queue_layout(config, field, &at, &size) || size_bytes < size) return SHMIPC_EINVAL;
    if (!memory || (uintptr_t)memory % SHMIPC__LINE) return SHMIPC_EINVAL;
    shmipc__store_relaxed_u32(&h->field[0], 0);
    for (i = 1; i < 8; i++) shmipc__store_relaxed_u32(&h->field[i], field[i]);
    shmipc__store_relaxed_u64(&h->hint, 0);
    shmipc__store_relaxed_u64(&h->tail, 0);
    shmipc__store_relaxed_u64(&h->head, 0);
    for (i = 0; i < config->slots; i++) shmipc__store_relaxed_u64((uint64_t *)(void *)(h + 1) + i, 0);
    for (i = 0; i < config->chunks; i++, at += field[5]) shmipc__store_relaxed_u64((uint64_t *)(void *)(chunk + at), 0);
    shmipc__store_release_u32(&h->field[0], field[0]);
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_queue_attach(shmipc_queue *q, void *memory, uint64_t size_bytes, uint32_t owner,
                                   shmipc_queue_alive_fn alive, void *alive_arg)
{
    shmipc__queue_shared *h = (shmipc__queue_shared *)memory;
    uint32_t seen[8], field[8], i;
    uint64_t at, size;
    if (!q || !memory || (uintptr_t)memory % SHMIPC__LINE || size_bytes < sizeof *h) return SHMIPC_EINVAL;
    if (owner >= SHMIPC__QUEUE_NOBODY) return SHMIPC_EINVAL;
    for (i = 0; i < 8; i++) seen[i] = shmipc__load_acquire_u32(&h->field[i]);
    if (seen[0] != SHMIPC__QUEUE_MAGIC) return SHMIPC_EFOREIGN;
    if (seen[1] != SHMIPC__QUEUE_STAMP) return SHMIPC_ELAYOUT;
    q->config.slots = seen[2];
    q->config.chunks = seen[3];
    q->config.max_message = seen[4];
    q->config.policy = seen[6];
    if (shmipc__queue_layout(&q->config, field, &at, &size) || size > size_bytes) return SHMIPC_ECORRUPT;
    if (seen[5] != field[5] || seen[7] != field[7]) return SHMIPC_ECORRUPT;
    q->shared = memory;
    q->slot = (uint64_t *)(void *)(h + 1);
    q->chunk = (unsigned char *)memory + at;
    q->alive = alive;
    q->alive_arg = alive_arg;
    q->stride = field[5];
    for (q->shift = 0; (1u << q->shift) < q->config.slots; q->shift++) continue;
    q->owner = owner;
    q->cursor = (uint32_t)((uint64_t)owner * 37u % q->config.chunks); /* producers begin apart */
    q->spare = q->pushes = q->takes = q->padding = 0;
    return SHMIPC_OK;
}

SHMIPC__COLD_END

/* ---- push ---- */

/* Dies after the CAS: a sweep finds no slot that names the chunk, and frees it. */
SHMIPC__INLINE int shmipc__queue_claim_at(shmipc_queue *q, uint32_t c, uint64_t *w)
{
    uint64_t *word = shmipc__queue_chunk(q, c);
    *w = shmipc__load_relaxed_u64(word);
    if (*w & SHMIPC__QUEUE_STATE) return 0;
    if (!shmipc__cas_acqrel_u64(word, w, *w | SHMIPC__QUEUE_FILLING | q->owner)) return 0; /* Q2 */
    q->cursor = c + 1u == q->config.chunks ? 0 : c + 1u;
    return 1;
}

/* Two equal collects: at some instant between them no chunk was free. One look does not show that. */
SHMIPC__NOINLINE static int shmipc__queue_claim_any(shmipc_queue *q, uint32_t *c)
{
    uint64_t w, sum, before = 0;
    uint32_t turns, at = q->cursor, start = at;
    for (sum = turns = 0; turns < SHMIPC__QUEUE_PATIENCE; turns++) {
        if (shmipc__queue_claim_at(q, at, &w)) return *c = at, SHMIPC_OK;
        sum += w;
        at = at + 1u == q->config.chunks ? 0 : at + 1u;
        if (at != start) continue;
        if (turns >= q->config.chunks && sum == before) return SHMIPC_EBUSY;
        before = sum;
        sum = 0;
    }
    return SHMIPC_ECORRUPT;
}

SHMIPC__INLINE int shmipc__queue_claim(shmipc_queue *q, uint32_t *c)
{
    if (SHMIPC__UNLIKELY(!q->spare)) return shmipc__queue_claim_any(q, c);
    *c = q->spare - 1u;
    q->spare = 0;
    return SHMIPC_OK;
}

/* A chunk of ours that no slot names, filled or read. Dies before: a sweep does it. */
SHMIPC__INLINE void shmipc__queue_free(shmipc_queue *q, uint32_t c)
{
    uint64_t *word = shmipc__queue_chunk(q, c);
    shmipc__store_release_u64(word, shmipc__queue_freed(shmipc__load_relaxed_u64(word))); /* Q2 */
}

/* The slot still names a chunk of the round before. Full, or taken and not yet emptied, its taker dead or stopped? */
static int shmipc__queue_room(shmipc_queue *q, uint64_t *slot, uint64_t s)
{
    uint32_t c = (uint32_t)(s & SHMIPC__QUEUE_CHUNK) - 1u;
    if (c >= q->config.chunks) return SHMIPC_ECORRUPT;
    if ((shmipc__load_relaxed_u64(shmipc__queue_chunk(q, c)) & SHMIPC__QUEUE_STATE) == SHMIPC__QUEUE_FILLING)
        return shmipc__load_relaxed_u64(slot) == s ? SHMIPC_EFULL : SHMIPC_OK;
    shmipc__cas_relaxed_u64(slot, &s, shmipc__queue_emptied(s));
    return SHMIPC_OK;
}

/* From p, before which all is filled, to the first vacant position; *s is its slot. */
SHMIPC__NOINLINE static int shmipc__queue_place_slow(shmipc_queue *q, uint64_t *p, uint64_t *s)
{
    uint32_t turns;
    for (turns = 0; turns < SHMIPC__QUEUE_PATIENCE; turns++) {
        uint64_t *slot = shmipc__queue_slot(q, *p);
        int64_t ahead;
        int filled, rc = SHMIPC_ECORRUPT;
        *s = shmipc__load_acquire_u64(slot); /* Q1, for Q4 */
        ahead = shmipc__queue_ahead(q, *s, *p);
        filled = (*s & SHMIPC__QUEUE_CHUNK) != 0;
        if (ahead == 0 && !filled) return SHMIPC_OK;
        if (ahead < 0) {
            if (ahead == -1 && filled) rc = shmipc__queue_room(q, slot, *s);
            if (rc) return rc;
        } else {
            *p += ((uint64_t)(ahead - !filled) << q->shift) + 1u; /* behind the last position it shows filled */
        }
    }
    return SHMIPC_ECORRUPT;
}

SHMIPC__INLINE int shmipc__queue_place(shmipc_queue *q, uint64_t *p, uint64_t *s)
{
    *s = shmipc__load_relaxed_u64(shmipc__queue_slot(q, *p));
    return SHMIPC__LIKELY(*s == shmipc__queue_vacant(q, *p)) ? SHMIPC_OK : shmipc__queue_place_slow(q, p, s);
}

/* Publishes chunk c at the first vacant position from *p. Dies before the CAS: a sweep frees the chunk. Dies after: the
 * message is there, and those who come next pass the tail that was not stored. */
SHMIPC__INLINE int shmipc__queue_publish(shmipc_queue *q, uint32_t c, uint32_t len, uint32_t tag, uint64_t *p,
                                          uint64_t *s)
{
    uint32_t meta[2];
    meta[0] = len;
    meta[1] = tag;
    shmipc__copy_in(shmipc__queue_chunk(q, c) + 1, meta, sizeof meta);
    while (!shmipc__cas_acqrel_u64(shmipc__queue_slot(q, *p), s, *s | (c + 1u))) { /* Q1 */
        int rc = shmipc__queue_place_slow(q, p, s);
        if (rc) return rc;
    }
    ++*p;
    return SHMIPC_OK;
}

/* After a push, while its lines travel: claim the next chunk, and ask for its second line too. */
SHMIPC__INLINE void shmipc__queue_prepare(shmipc_queue *q)
{
    uint64_t w;
    uint32_t c = q->cursor;
    if (q->spare || !shmipc__queue_claim_at(q, c, &w)) return;
    q->spare = c + 1u;
    if (q->stride > SHMIPC__LINE) SHMIPC__PREFETCH_WRITE(shmipc__queue_chunk(q, c) + 8);
}

/* In the middle of a stream, full or empty means that the two sides fight over every line, each waiting for it once per
 * message. A rest of a microsecond or two, once, lets the other side get ahead, and then lines carry many: twice the
 * rate and more. 1: it was taken, look again. A single message that is answered never meets it. */
SHMIPC__INLINE int shmipc__queue_rest(const shmipc_queue *q, uint32_t *in_a_row, uint32_t least, uint32_t most)
{
    uint32_t i, n = *in_a_row < least ? 0 : q->config.slots / 8u;
    *in_a_row = 0;
    for (i = 0; i < n && i < most; i++) shmipc__pause();
    return n != 0;
}

/* Room is looked for first: a full queue must not cost a copy. */
SHMIPC__INLINE int shmipc__queue_push_at(shmipc_queue *q, const void *data, uint32_t len, uint32_t tag, uint64_t *p)
{
    uint64_t s;
    uint32_t c;
    int rc;
    if (SHMIPC__UNLIKELY(len > q->config.max_message)) return SHMIPC_EMSGSIZE;
    if (SHMIPC__UNLIKELY(!data && len)) return SHMIPC_EINVAL;
    rc = shmipc__queue_place(q, p, &s);
    if (SHMIPC__UNLIKELY(rc == SHMIPC_EFULL) && shmipc__queue_rest(q, &q->pushes, 1, 128))
        rc = shmipc__queue_place(q, p, &s);
    if (!rc) rc = shmipc__queue_claim(q, &c);
    if (rc) return rc;
    if (len) shmipc__copy_in(shmipc__queue_chunk(q, c) + 2, data, len);
    rc = shmipc__queue_publish(q, c, len, tag, p, &s);
    if (rc) return q->spare = c + 1u, rc;
    q->pushes++;
    shmipc__queue_prepare(q);
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_queue_push(shmipc_queue *q, const void *data, uint32_t len_bytes, uint32_t tag)
{
    uint64_t p;
    int rc;
    if (SHMIPC__UNLIKELY(!q)) return SHMIPC_EINVAL;
    p = shmipc__queue_tail(q);
    rc = shmipc__queue_push_at(q, data, len_bytes, tag, &p);
    if (!rc) shmipc__queue_advance(&shmipc__queue_of(q)->tail, p);
    return rc;
}

SHMIPC_API int shmipc_queue_push_many(shmipc_queue *q, const shmipc_queue_item *items, uint32_t count)
{
    uint64_t p;
    uint32_t i;
    int rc = SHMIPC_OK;
    if (!q || !items || count == 0 || count > INT32_MAX) return SHMIPC_EINVAL;
    p = shmipc__queue_tail(q);
    for (i = 0; i < count && !rc; i += !rc)
        rc = shmipc__queue_push_at(q, items[i].data, items[i].len_bytes, items[i].tag, &p);
    if (i) shmipc__queue_advance(&shmipc__queue_of(q)->tail, p);
    return i ? (int)i : rc;
}

/* Does the caller's loan or message agree with its chunk? To release twice is an error, and does no harm. */
SHMIPC__INLINE int shmipc__queue_owns(const shmipc_queue *q, const shmipc_queue_msg *m, uint64_t state)
{
    if (!q || !m || !m->data || m->chunk >= q->config.chunks) return SHMIPC_EINVAL;
    if ((m->word & (SHMIPC__QUEUE_STATE | SHMIPC__QUEUE_NOBODY)) != (state | q->owner)) return SHMIPC_ESTATE;
    return shmipc__load_relaxed_u64(shmipc__queue_chunk(q, m->chunk)) == m->word ? SHMIPC_OK : SHMIPC_ESTATE;
}

SHMIPC_API int shmipc_queue_loan(shmipc_queue *q, uint32_t len_bytes, shmipc_queue_msg *m)
{
    uint32_t c;
    int rc;
    if (!q || !m) return SHMIPC_EINVAL;
    if (len_bytes > q->config.max_message) return SHMIPC_EMSGSIZE;
    rc = shmipc__queue_claim(q, &c);
    if (rc) return rc;
    m->data = shmipc__queue_chunk(q, c) + 2;
    m->word = shmipc__load_relaxed_u64(shmipc__queue_chunk(q, c));
    m->len_bytes = len_bytes;
    m->chunk = c;
    m->tag = m->redelivered = 0;
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_queue_commit(shmipc_queue *q, shmipc_queue_msg *m)
{
    uint64_t p, s;
    int rc = shmipc__queue_owns(q, m, SHMIPC__QUEUE_FILLING);
    if (rc) return rc;
    if (m->len_bytes > q->config.max_message) return SHMIPC_EMSGSIZE;
    p = shmipc__queue_tail(q);
    rc = shmipc__queue_place(q, &p, &s);
    if (!rc) rc = shmipc__queue_publish(q, m->chunk, m->len_bytes, m->tag, &p, &s);
    if (rc) return rc;
    m->data = NULL;
    shmipc__queue_advance(&shmipc__queue_of(q)->tail, p);
    shmipc__queue_prepare(q);
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_queue_discard(shmipc_queue *q, shmipc_queue_msg *m)
{
    int rc = shmipc__queue_owns(q, m, SHMIPC__QUEUE_FILLING);
    if (rc) return rc;
    m->data = NULL;
    if (q->spare) shmipc__queue_free(q, m->chunk);
    else q->spare = m->chunk + 1u;
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_queue_detach(shmipc_queue *q)
{
    if (!q) return SHMIPC_EINVAL;
    if (q->spare) shmipc__queue_free(q, q->spare - 1u);
    q->spare = 0;
    return SHMIPC_OK;
}

/* ---- take ---- */

SHMIPC__COLD_BEGIN

/* What nobody holds was rejected: as good as held by a dead owner, but never reported. */
static int shmipc__queue_redelivers(const shmipc_queue *q, uint64_t w)
{
    return q->config.policy == SHMIPC_QUEUE_REDELIVER || (w & SHMIPC__QUEUE_NOBODY) == SHMIPC__QUEUE_NOBODY;
}
static int shmipc__queue_dead(const shmipc_queue *q, uint64_t w)
{
    uint32_t owner = (uint32_t)(w & SHMIPC__QUEUE_NOBODY);
    if (owner == SHMIPC__QUEUE_NOBODY) return 1;
    return owner != q->owner && q->alive && !q->alive(q->alive_arg, owner);
}

/* The slot that names chunk c: its word, or 0. */
static uint64_t shmipc__queue_named(const shmipc_queue *q, uint32_t c, uint64_t **slot)
{
    uint32_t i;
    for (i = 0; i < q->config.slots; i++) {
        uint64_t s = shmipc__load_acquire_u64(*slot = q->slot + i); /* Q1 */
        if ((s & SHMIPC__QUEUE_CHUNK) == c + 1u) return s;
    }
    return 0;
}

/* The dead owner that holds c by word w may not have emptied its slot. When a slot names a later life of the chunk, Q1
 * shows that the word is no longer w: without that look a living message would be erased. */
static void shmipc__queue_unname(const shmipc_queue *q, uint32_t c, uint64_t w)
{
    uint64_t *slot, s = shmipc__queue_named(q, c, &slot);
    if (s && shmipc__load_relaxed_u64(shmipc__queue_chunk(q, c)) == w)
        shmipc__cas_relaxed_u64(slot, &s, shmipc__queue_emptied(s));
}

/* Before a chunk becomes RETURNED, always: who saw the version before, and found nothing, may be about to clear it. */
static void shmipc__queue_raise(shmipc_queue *q)
{
    uint64_t *hint = &shmipc__queue_of(q)->hint, now = shmipc__load_relaxed_u64(hint);
    while (!shmipc__cas_acqrel_u64(hint, &now, (now | 1u) + 2u)) continue; /* Q5 */
}

SHMIPC__COLD_END

/* The message in chunk c, ours by word w. */
SHMIPC__INLINE int shmipc__queue_view(shmipc_queue *q, uint32_t c, uint64_t w, shmipc_queue_msg *m)
{
    uint32_t meta[2];
    shmipc__copy_out(meta, shmipc__queue_chunk(q, c) + 1, sizeof meta);
    if (SHMIPC__UNLIKELY(meta[0] > q->config.max_message)) return SHMIPC_ECORRUPT;
    m->data = shmipc__queue_chunk(q, c) + 2;
    m->word = w;
    m->len_bytes = meta[0];
    m->tag = meta[1];
    m->chunk = c;
    m->redelivered = (uint32_t)((w & SHMIPC__QUEUE_COUNT) / SHMIPC__QUEUE_ONCE);
    return 1;
}

SHMIPC__COLD_BEGIN

/* Takes c if it was returned, or a dead owner holds it: 1, else 0. After a failed CAS look again: what the dead held
 * may be RETURNED by now, under the very version of the hint that we are about to clear. */
static int shmipc__queue_take_back(shmipc_queue *q, uint32_t c, uint64_t *w)
{
    uint64_t next, state;
    *w = shmipc__load_relaxed_u64(shmipc__queue_chunk(q, c));
    do {
        state = *w & SHMIPC__QUEUE_STATE;
        if (state == SHMIPC__QUEUE_RETURNED) {
            next = *w | SHMIPC__QUEUE_HELD | q->owner;
        } else if (state == SHMIPC__QUEUE_HELD && shmipc__queue_redelivers(q, *w) && shmipc__queue_dead(q, *w)) {
            shmipc__queue_unname(q, c, *w);
            next = shmipc__queue_recounted(*w) | SHMIPC__QUEUE_HELD | q->owner;
        } else {
            return 0;
        }
    } while (!shmipc__cas_acqrel_u64(shmipc__queue_chunk(q, c), w, next)); /* Q3 */
    *w = next;
    return 1;
}

/* The hint says that something was returned. 1: taken; 0: nothing there, and *hint is what it is now. */
SHMIPC__NOINLINE static int shmipc__queue_take_returned(shmipc_queue *q, shmipc_queue_msg *m, uint64_t *hint)
{
    uint64_t w;
    uint32_t c;
    for (c = 0; c < q->config.chunks; c++)
        if (shmipc__queue_take_back(q, c, &w)) return shmipc__queue_view(q, c, w, m);
    if (shmipc__cas_acqrel_u64(&shmipc__queue_of(q)->hint, hint, *hint - 1u)) --*hint; /* Q5 */
    return 0;
}

SHMIPC__COLD_END

/* The message at the first filled position from *p: 1; 0 if there is none. */
SHMIPC__INLINE int shmipc__queue_take_at(shmipc_queue *q, shmipc_queue_msg *m, uint64_t *p)
{
    uint32_t c, turns;
    for (turns = 0; turns < SHMIPC__QUEUE_PATIENCE; turns++) {
        uint64_t *slot = shmipc__queue_slot(q, *p), s = shmipc__load_acquire_u64(slot), w, mine = 0; /* Q1, for Q4 */
        int64_t ahead = shmipc__queue_ahead(q, s, *p);
        if (SHMIPC__UNLIKELY(ahead)) {
            if (ahead < 0) return SHMIPC_ECORRUPT;
            *p += ((uint64_t)(ahead - 1) << q->shift) + 1u; /* behind the last position it shows emptied */
            continue;
        }
        if (!(s & SHMIPC__QUEUE_CHUNK)) return 0;
        c = (uint32_t)(s & SHMIPC__QUEUE_CHUNK) - 1u;
        if (SHMIPC__UNLIKELY(c >= q->config.chunks)) return SHMIPC_ECORRUPT;
        SHMIPC__PREFETCH_WRITE(shmipc__queue_chunk(q, c)); /* once, instead of to read and then to write */
        if (q->stride > SHMIPC__LINE) SHMIPC__PREFETCH_WRITE(shmipc__queue_chunk(q, c) + 8);
        w = shmipc__load_acquire_u64(shmipc__queue_chunk(q, c)); /* Q2 */
        if ((w & SHMIPC__QUEUE_STATE) == SHMIPC__QUEUE_FILLING) {
            if (shmipc__load_relaxed_u64(slot) != s) continue; /* w may be a later life's, unpublished */
            mine = (w | SHMIPC__QUEUE_HELD | SHMIPC__QUEUE_NOBODY) - SHMIPC__QUEUE_NOBODY + q->owner;
            if (!shmipc__cas_relaxed_u64(shmipc__queue_chunk(q, c), &w, mine)) continue;
        }
        /* Taken, by us or another: empty the slot, and only then the chunk is freed. Dies before: others do both. */
        shmipc__cas_relaxed_u64(slot, &s, shmipc__queue_emptied(s));
        ++*p;
        if (mine) return shmipc__queue_view(q, c, mine, m);
    }
    return SHMIPC_ECORRUPT;
}

SHMIPC_API int shmipc_queue_take_many(shmipc_queue *q, shmipc_queue_msg *msgs, uint32_t count)
{
    uint64_t p, hint, seen;
    uint32_t turns, n = 0;
    int rc;
    if (SHMIPC__UNLIKELY(!q || !msgs || count == 0 || count > INT32_MAX)) return SHMIPC_EINVAL;
    hint = shmipc__queue_hint(q);
    for (turns = 0; turns < SHMIPC__QUEUE_PATIENCE; turns++) {
        rc = 0;
        if (SHMIPC__UNLIKELY(hint & 1u)) {
            rc = shmipc__queue_take_returned(q, &msgs[n], &hint);
            if (rc < 0) return n ? (int)n : rc;
            n += (uint32_t)rc;
            if (n == count) return (int)n;
            continue;
        }
        p = shmipc__load_acquire_u64(&shmipc__queue_of(q)->head); /* Q4 */
        while (n < count && (rc = shmipc__queue_take_at(q, &msgs[n], &p)) > 0) n++;
        if (n || rc) {
            shmipc__queue_advance(&shmipc__queue_of(q)->head, p);
            q->takes += n;
            return n ? (int)n : rc;
        }
        seen = hint;
        hint = shmipc__queue_hint(q);
        if (hint == seen && !shmipc__queue_rest(q, &q->takes, 16, 64)) return SHMIPC_EAGAIN;
    }
    return SHMIPC_ECORRUPT;
}

SHMIPC_API int shmipc_queue_take(shmipc_queue *q, shmipc_queue_msg *m)
{
    int rc = shmipc_queue_take_many(q, m, 1);
    return rc > 0 ? SHMIPC_OK : rc;
}

/* Dies before the chunk is free: redelivered or reported. After: done. */
SHMIPC_API int shmipc_queue_release(shmipc_queue *q, shmipc_queue_msg *m)
{
    int rc = shmipc__queue_owns(q, m, SHMIPC__QUEUE_HELD);
    if (SHMIPC__UNLIKELY(rc)) return rc;
    m->data = NULL;
    shmipc__queue_free(q, m->chunk);
    return SHMIPC_OK;
}

/* ---- sweep ---- */

SHMIPC__COLD_BEGIN

/* A dead owner was filling c (word w). No slot names it: free. A slot does: it is published, and nobody's from now on.
 * The slots are read after the word and the death: Q2 shows older namings emptied, and no publication is overlooked. */
static int shmipc__queue_sweep_filling(shmipc_queue *q, uint32_t c, uint64_t w)
{
    uint64_t *slot, next = shmipc__queue_named(q, c, &slot) ? w | SHMIPC__QUEUE_NOBODY : shmipc__queue_freed(w);
    return shmipc__cas_acqrel_u64(shmipc__queue_chunk(q, c), &w, next); /* Q2 */
}

/* A dead owner held c. To report it we hold it meanwhile, so that it stays unchanged. Dies then: reported once more. */
static int shmipc__queue_sweep_held(shmipc_queue *q, uint32_t c, uint64_t w, shmipc_queue_report_fn report, void *arg)
{
    uint64_t next = shmipc__queue_recounted(w);
    shmipc_queue_msg m;
    int redeliver;
    shmipc__queue_unname(q, c, w);
    redeliver = shmipc__queue_redelivers(q, w);
    if (redeliver) shmipc__queue_raise(q);
    next |= redeliver ? SHMIPC__QUEUE_RETURNED : SHMIPC__QUEUE_HELD | q->owner;
    if (!shmipc__cas_acqrel_u64(shmipc__queue_chunk(q, c), &w, next)) return 0; /* Q3 */
    if (redeliver) return 1;
    if (shmipc__queue_view(q, c, next, &m) > 0 && report) report(arg, &m);
    shmipc__queue_free(q, c);
    return 1;
}

SHMIPC_API int shmipc_queue_sweep(shmipc_queue *q, uint32_t owner, shmipc_queue_report_fn report, void *report_arg)
{
    uint32_t c;
    int changed = 0;
    if (!q || owner >= SHMIPC__QUEUE_NOBODY || !q->alive) return SHMIPC_EINVAL;
    if (!shmipc__queue_dead(q, owner)) return SHMIPC_EBUSY; /* first, so that every word read shows all it did */
    for (c = 0; c < q->config.chunks; c++) {
        uint64_t w = shmipc__load_relaxed_u64(shmipc__queue_chunk(q, c)), state = w & SHMIPC__QUEUE_STATE;
        if (!(state & SHMIPC__QUEUE_FILLING)) continue; /* neither FILLING nor HELD */
        if ((w & SHMIPC__QUEUE_NOBODY) != owner && (w | SHMIPC__QUEUE_HELD | SHMIPC__QUEUE_NOBODY) != w) continue;
        /* Still dead? If another sweep has ended, the index may have a new owner, and this may be his word. */
        if (!shmipc__queue_dead(q, owner)) return SHMIPC_EBUSY;
        changed += state == SHMIPC__QUEUE_FILLING ? shmipc__queue_sweep_filling(q, c, w)
                                                  : shmipc__queue_sweep_held(q, c, w, report, report_arg);
    }
    return changed;
}

SHMIPC__COLD_END

/* First held by nobody, then swept like that. From HELD by us, who live, straight to RETURNED would lose the message:
 * between raise and CAS a taker would find nothing and clear the hint. Dies in between: any sweep, or take, goes on. */
SHMIPC_API int shmipc_queue_reject(shmipc_queue *q, shmipc_queue_msg *m)
{
    uint64_t w;
    int rc = shmipc__queue_owns(q, m, SHMIPC__QUEUE_HELD);
    if (rc) return rc;
    m->data = NULL;
    w = m->word | SHMIPC__QUEUE_NOBODY;
    shmipc__store_release_u64(shmipc__queue_chunk(q, m->chunk), w); /* Q3 */
    shmipc__queue_sweep_held(q, m->chunk, w, NULL, NULL);
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_queue_recv(shmipc_queue *q, void *buffer, uint32_t size_bytes, uint32_t *tag)
{
    shmipc_queue_msg m;
    int rc = !q || (!buffer && size_bytes) ? SHMIPC_EINVAL : shmipc_queue_take_many(q, &m, 1);
    if (rc <= 0) return rc;
    if (SHMIPC__UNLIKELY(m.len_bytes > size_bytes)) return shmipc_queue_reject(q, &m), SHMIPC_EMSGSIZE;
    if (m.len_bytes) shmipc__copy_out(buffer, m.data, m.len_bytes);
    if (tag) *tag = m.tag;
    shmipc__queue_free(q, m.chunk);
    return (int)m.len_bytes;
}

SHMIPC_API int shmipc_queue_get_stats(const shmipc_queue *q, shmipc_queue_stats *stats)
{
    uint32_t c, states[4];
    if (!q || !stats) return SHMIPC_EINVAL;
    stats->pushed = shmipc__load_acquire_u64(&shmipc__queue_of(q)->tail);
    stats->taken = shmipc__load_acquire_u64(&shmipc__queue_of(q)->head);
    states[0] = states[1] = states[2] = states[3] = 0;
    for (c = 0; c < q->config.chunks; c++) states[shmipc__load_relaxed_u64(shmipc__queue_chunk(q, c)) >> 24 & 3u]++;
    stats->free_chunks = states[0];
    stats->filling = states[1];
    stats->returned = states[2];
    stats->held = states[3];
    return SHMIPC_OK;
}

#endif /* SHMIPC_WORD_BITS == 64 */

#ifndef SHMIPC_RINGS_ONLY

/* ---------------------------------------------------------------------------------------------
 * >>os  The operating system behind one small interface
 *
 * Everything above calls only these functions; docs/os-layer.md says what implements each on which system. Define
 * SHMIPC_OS_HEADER to a quoted file name to bring them all yourself (models and other systems). Results are 0 or
 * positive, or a SHMIPC_E code. Files are opened relative to a verified directory handle, so nobody can put another
 * directory in its place later. Define SHMIPC__OS_FAULT(name) to make a call fail in a test: it sets errno and
 * yields 1.
 *
 * How locks behave, and what relies on it:
 *   - a lock belongs to the open file description: the kernel drops it with the last descriptor *and the last mapping*
 *     of that description, on any death, in any PID namespace, zombies included. So a description that carries locks
 *     is never mapped, and a probe goes through another description (through its own a lock looks free).
 *   - bytes far beyond the end of the file can be locked: a life is an offset, up to 2^62.
 * ------------------------------------------------------------------------------------------- */

SHMIPC__COLD_BEGIN

#if defined(SHMIPC_OS_HEADER)
#include SHMIPC_OS_HEADER
#elif !defined(__linux__)
#error "shmipc.h: only the rings exist on this system yet; define SHMIPC_RINGS_ONLY to get them"
#else

#ifndef SHMIPC__OS_FAULT
#define SHMIPC__OS_FAULT(name) 0
#endif
#define SHMIPC__SYS(name, call) (SHMIPC__OS_FAULT(name) ? -1 : (call))

#ifndef F_OFD_GETLK
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#define F_OFD_SETLKW 38
#endif
#ifndef FALLOC_FL_PUNCH_HOLE
#define FALLOC_FL_KEEP_SIZE 1
#define FALLOC_FL_PUNCH_HOLE 2
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
SHMIPC__STATIC_ASSERT(sizeof(off_t) == 8, "compile with -D_FILE_OFFSET_BITS=64");

typedef intptr_t shmipc__os_file;
#define SHMIPC__OS_NONE ((shmipc__os_file)-1)

typedef pthread_mutex_t shmipc__os_mutex;
#define SHMIPC__OS_MUTEX_INIT PTHREAD_MUTEX_INITIALIZER
SHMIPC__INLINE void shmipc__os_mutex_init(shmipc__os_mutex *m) { pthread_mutex_init(m, NULL); }
SHMIPC__INLINE void shmipc__os_mutex_free(shmipc__os_mutex *m) { pthread_mutex_destroy(m); }
SHMIPC__INLINE void shmipc__os_mutex_lock(shmipc__os_mutex *m) { pthread_mutex_lock(m); }
SHMIPC__INLINE void shmipc__os_mutex_unlock(shmipc__os_mutex *m) { pthread_mutex_unlock(m); }

/* What a file is, asked from its handle. `id` tells two files apart. */
typedef struct shmipc__os_info {
    uint64_t size, id[2];
    uint32_t owner, mode;
} shmipc__os_info;

SHMIPC__UNUSED static int shmipc__os_error(int e)
{
    switch (e) {
    case ENOENT: return SHMIPC_ENOENT;
    case EEXIST: return SHMIPC_EEXIST;
    case EACCES: case EPERM: case EROFS: return SHMIPC_EACCES;
    case EMFILE: case ENFILE: return SHMIPC_ENFILE;
    case ENOMEM: case ENOLCK: return SHMIPC_ENOMEM;
    case ENOSPC: case EDQUOT: case EFBIG: return SHMIPC_ENOSPC;
    case ELOOP: return SHMIPC_ESYMLINK;
    case ENOTDIR: case EISDIR: case ENXIO: case ENODEV: return SHMIPC_EFOREIGN;
    case EINTR: return SHMIPC_EINTR;
    case EINVAL: case ENAMETOOLONG: return SHMIPC_EINVAL;
    case EOPNOTSUPP: case ENOSYS: return SHMIPC_ENOTSUP;
    default: return SHMIPC_EOS;
    }
}

SHMIPC__INLINE const char *shmipc__os_env(const char *name) { return secure_getenv(name); }
SHMIPC__INLINE int shmipc__os_pid(void) { return (int)getpid(); }
SHMIPC__INLINE uint32_t shmipc__os_user(void) { return (uint32_t)geteuid(); }
SHMIPC__INLINE int shmipc__os_cpu(void) { return sched_getcpu(); }

SHMIPC__UNUSED static int64_t shmipc__os_clock(clockid_t id)
{
    struct timespec t;
    if (clock_gettime(id, &t)) return 0;
    return (int64_t)t.tv_sec * 1000000000 + (int64_t)t.tv_nsec;
}
/* Monotonic, for timeouts; the same for all processes of the machine. */
SHMIPC__INLINE int64_t shmipc__os_now_ns(void) { return shmipc__os_clock(CLOCK_MONOTONIC); }
/* Wall clock, for people only. */
SHMIPC__INLINE int64_t shmipc__os_wall_ns(void) { return shmipc__os_clock(CLOCK_REALTIME); }

SHMIPC__UNUSED static int shmipc__os_random(void *out, size_t n)
{
    unsigned char *p = (unsigned char *)out;
    while (n) {
        long r = SHMIPC__SYS("getrandom", syscall(SYS_getrandom, p, n, 0));
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) return SHMIPC_EOS;
        p += r;
        n -= (size_t)r;
    }
    return SHMIPC_OK;
}

/* ---- waiting ---- */

/* Sleeps while *word == expected, at most timeout_ns (negative: for ever). 0: woken, or for no reason; SHMIPC_EAGAIN:
 * the word differed already; SHMIPC_ETIMEDOUT; SHMIPC_EINTR. The old system call takes two longs on every machine. */
SHMIPC__UNUSED static int shmipc__os_futex_wait(uint32_t *word, uint32_t expected, int64_t timeout_ns)
{
    struct { long sec, nsec; } rel;
    rel.sec = (long)(timeout_ns / 1000000000 > 0x7fffffff ? 0x7fffffff : timeout_ns / 1000000000);
    rel.nsec = (long)(timeout_ns % 1000000000);
    if (SHMIPC__SYS("futex_wait", syscall(SYS_futex, word, 0, expected, timeout_ns < 0 ? NULL : &rel, NULL, 0)) >= 0) {
        return SHMIPC_OK;
    }
    return errno == EAGAIN ? SHMIPC_EAGAIN : errno == ETIMEDOUT ? SHMIPC_ETIMEDOUT : shmipc__os_error(errno);
}

/* Wakes up to `count` sleepers; the number woken. */
SHMIPC__UNUSED static int shmipc__os_futex_wake(uint32_t *word, int count)
{
    long n = SHMIPC__SYS("futex_wake", syscall(SYS_futex, word, 1, count, NULL, NULL, 0));
    return n >= 0 ? (int)n : shmipc__os_error(errno);
}

/* ---- files ---- */

SHMIPC__INLINE void shmipc__os_close(shmipc__os_file *f)
{
    if (*f != SHMIPC__OS_NONE) close((int)*f);
    *f = SHMIPC__OS_NONE;
}

/* Standard streams may have been closed: a later printf must not write into a segment. */
SHMIPC__UNUSED static int shmipc__os_above_streams(int fd, shmipc__os_file *out)
{
    if (fd < 0) return shmipc__os_error(errno);
    if (fd <= 2) {
        int high = SHMIPC__SYS("dupfd", fcntl(fd, F_DUPFD_CLOEXEC, 3)), e = errno;
        close(fd);
        if (high < 0) return shmipc__os_error(e);
        fd = high;
    }
    *out = fd;
    return SHMIPC_OK;
}

SHMIPC__UNUSED static int shmipc__os_stat(shmipc__os_file f, shmipc__os_info *info)
{
    struct stat st;
    memset(info, 0, sizeof *info);
    if (SHMIPC__SYS("fstat", fstat((int)f, &st))) return shmipc__os_error(errno);
    info->size = (uint64_t)st.st_size;
    info->id[0] = (uint64_t)st.st_dev;
    info->id[1] = (uint64_t)st.st_ino;
    info->owner = (uint32_t)st.st_uid;
    info->mode = (uint32_t)st.st_mode;
    return SHMIPC_OK;
}

/* Bytes of memory behind the file; 0 if that cannot be found out. */
SHMIPC__UNUSED static uint64_t shmipc__os_backed(shmipc__os_file f)
{
    struct stat st;
    return fstat((int)f, &st) ? 0 : (uint64_t)st.st_blocks * 512;
}

/* 1 if the descriptor is open and still that file. A question that cannot fail otherwise, so tests do not make it. */
SHMIPC__UNUSED static int shmipc__os_is(shmipc__os_file f, const uint64_t id[2], uint64_t *links)
{
    struct stat st;
    if (fstat((int)f, &st) || (uint64_t)st.st_dev != id[0] || (uint64_t)st.st_ino != id[1]) return 0;
    if (links) *links = (uint64_t)st.st_nlink;
    return 1;
}

/* Reads what is there; the rest of the buffer stays. */
SHMIPC__UNUSED static int shmipc__os_read(shmipc__os_file f, uint64_t offset, void *out, size_t n)
{
    long r;
    do {
        r = (long)SHMIPC__SYS("pread", pread((int)f, out, n, (off_t)offset));
    } while (r < 0 && errno == EINTR);
    return r < 0 ? shmipc__os_error(errno) : SHMIPC_OK;
}

/* Opens the directory of a scope, made first if it is missing, and verifies it: not a symbolic link, ours (or root's
 * when a group shares it), nobody else let in. Bits that a umask took away from our own directory are given back, so
 * whoever comes second repairs what one killed between mkdir and chmod left. */
SHMIPC__UNUSED static int shmipc__os_dir_open(const char *path, int shared, shmipc__os_file *out)
{
    mode_t want = shared ? 02770 : 0700;
    uint32_t me = shmipc__os_user();
    shmipc__os_info st;
    shmipc__os_file f = SHMIPC__OS_NONE;
    struct stat link;
    int rc;
    if (SHMIPC__SYS("mkdir", mkdir(path, want)) && errno != EEXIST) return shmipc__os_error(errno);
    if (SHMIPC__SYS("lstat", lstat(path, &link))) return shmipc__os_error(errno);
    if (S_ISLNK(link.st_mode)) return SHMIPC_ESYMLINK;
    if (!S_ISDIR(link.st_mode)) return SHMIPC_EFOREIGN;
    if ((uint32_t)link.st_uid != me && !(shared && link.st_uid == 0)) return SHMIPC_EOWNER;
    if (link.st_mode & (shared ? 07u : 077u)) return SHMIPC_EMODE;
    if ((link.st_mode & want) != want) {
        if ((uint32_t)link.st_uid != me) return SHMIPC_EMODE;
        if (SHMIPC__SYS("chmod", chmod(path, want))) return shmipc__os_error(errno);
    }
    rc = shmipc__os_above_streams(
        SHMIPC__SYS("opendir", open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)), &f);
    if (rc) return rc;
    rc = shmipc__os_stat(f, &st);
    /* Somebody swapped it between the look and the open: only its owner or root can. */
    if (!rc && (st.id[0] != (uint64_t)link.st_dev || st.id[1] != (uint64_t)link.st_ino)) rc = SHMIPC_EOWNER;
    if (rc) shmipc__os_close(&f);
    else *out = f;
    return rc;
}

/* Opens a regular file for reading and writing; never follows a link, never blocks on a FIFO. */
SHMIPC__UNUSED static int shmipc__os_open(shmipc__os_file dir, const char *name, shmipc__os_file *out)
{
    shmipc__os_file f = SHMIPC__OS_NONE;
    shmipc__os_info st;
    int rc = shmipc__os_above_streams(
        SHMIPC__SYS("open", openat((int)dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)), &f);
    if (rc) return rc;
    rc = shmipc__os_stat(f, &st);
    if (!rc && !S_ISREG((mode_t)st.mode)) rc = SHMIPC_EFOREIGN;
    if (rc) shmipc__os_close(&f);
    else *out = f;
    return rc;
}

/* A file under construction: unnamed where the system can, else under a name that a sweep recognises. The named form
 * holds a lock on its byte 0 while its maker lives; a sweep may take it in the instant before that, then link fails
 * with SHMIPC_ENOENT and the maker starts again. Dies before link: nothing is visible, or a name that the sweep
 * takes. */
#define SHMIPC__OS_DRAFT_PREFIX ".draft-"
typedef struct shmipc__os_draft {
    shmipc__os_file file;
    char temp[32]; /* "" when unnamed */
} shmipc__os_draft;

SHMIPC__UNUSED static int shmipc__os_try_lock(shmipc__os_file f, uint64_t byte);

SHMIPC__UNUSED static void shmipc__os_draft_drop(shmipc__os_file dir, shmipc__os_draft *d)
{
    if (d->temp[0]) (void)unlinkat((int)dir, d->temp, 0);
    d->temp[0] = 0;
    shmipc__os_close(&d->file);
}

SHMIPC__UNUSED static int shmipc__os_draft_named(shmipc__os_file dir, mode_t mode, shmipc__os_draft *d)
{
    uint64_t r;
    int rc = shmipc__os_random(&r, sizeof r);
    if (rc) return rc;
    snprintf(d->temp, sizeof d->temp, SHMIPC__OS_DRAFT_PREFIX "%08lx%08lx", (unsigned long)(r >> 32),
             (unsigned long)(r & 0xffffffffu));
    rc = shmipc__os_above_streams(
        SHMIPC__SYS("open_draft", openat((int)dir, d->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode)),
        &d->file);
    if (rc) {
        d->temp[0] = 0;
        return rc;
    }
    return shmipc__os_try_lock(d->file, 0);
}

SHMIPC__UNUSED static int shmipc__os_draft_make(shmipc__os_file dir, int shared, shmipc__os_draft *d)
{
    mode_t mode = shared ? 0660 : 0600;
    char proc[32];
    int rc, fd;
    d->temp[0] = 0;
    d->file = SHMIPC__OS_NONE;
    fd = SHMIPC__SYS("open_unnamed", openat((int)dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode));
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOSPC)) {
        return shmipc__os_error(errno);
    }
    if (fd >= 0) {
        rc = shmipc__os_above_streams(fd, &d->file);
        if (rc) return rc;
        snprintf(proc, sizeof proc, "/proc/self/fd/%d", (int)d->file);
        if (SHMIPC__SYS("proc", access(proc, F_OK))) shmipc__os_close(&d->file); /* no /proc: it could not be linked */
    }
    rc = d->file == SHMIPC__OS_NONE ? shmipc__os_draft_named(dir, mode, d) : SHMIPC_OK;
    /* A umask may have taken bits that the group needs. */
    if (!rc && SHMIPC__SYS("fchmod", fchmod((int)d->file, mode))) rc = shmipc__os_error(errno);
    if (rc) shmipc__os_draft_drop(dir, d);
    return rc;
}

/* Gives the draft its name, all at once; SHMIPC_EEXIST if somebody was first. The handle stays open in both cases. */
SHMIPC__UNUSED static int shmipc__os_draft_link(shmipc__os_file dir, shmipc__os_draft *d, const char *name)
{
    char proc[32];
    int r;
    if (d->temp[0]) {
        r = SHMIPC__SYS("link", linkat((int)dir, d->temp, (int)dir, name, 0));
    } else {
        snprintf(proc, sizeof proc, "/proc/self/fd/%d", (int)d->file);
        r = SHMIPC__SYS("link", linkat(AT_FDCWD, proc, (int)dir, name, AT_SYMLINK_FOLLOW));
    }
    if (r) return shmipc__os_error(errno);
    if (d->temp[0]) (void)unlinkat((int)dir, d->temp, 0);
    d->temp[0] = 0;
    return SHMIPC_OK;
}

SHMIPC__UNUSED static int shmipc__os_unlink(shmipc__os_file dir, const char *name)
{
    return SHMIPC__SYS("unlink", unlinkat((int)dir, name, 0)) ? shmipc__os_error(errno) : SHMIPC_OK;
}

/* Calls `each` with every file name but "." and ".." until it answers non-zero, which is then the result. */
SHMIPC__UNUSED static int shmipc__os_list(shmipc__os_file dir, int (*each)(void *arg, const char *name), void *arg)
{
    DIR *d;
    struct dirent *e;
    int rc = SHMIPC_OK, fd = SHMIPC__SYS("open_list", openat((int)dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0) return shmipc__os_error(errno);
    d = SHMIPC__OS_FAULT("fdopendir") ? NULL : fdopendir(fd);
    if (!d) {
        rc = shmipc__os_error(errno);
        close(fd);
        return rc;
    }
    while (rc == SHMIPC_OK && (e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) rc = each(arg, e->d_name);
    }
    closedir(d);
    return rc;
}

/* ---- memory ---- */

/* Maps `bytes` of the file once and for all, also beyond its present end, so that growth moves nothing. What lies
 * beyond the reserved size must never be touched: the kernel answers that with SIGBUS. */
SHMIPC__UNUSED static int shmipc__os_map(shmipc__os_file f, uint64_t bytes, int writable, void **out)
{
    void *p = MAP_FAILED;
    if (bytes == 0 || bytes > (uint64_t)(SIZE_MAX / 2)) return SHMIPC_ENOMEM;
    if (!SHMIPC__OS_FAULT("mmap")) {
        p = mmap(NULL, (size_t)bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, (int)f, 0);
    }
    if (p == MAP_FAILED) return shmipc__os_error(errno);
    *out = p;
    return SHMIPC_OK;
}

SHMIPC__INLINE void shmipc__os_unmap(void *p, uint64_t bytes)
{
    if (p) munmap(p, (size_t)bytes);
}

/* Reserves the bytes from the file system, growing the file if they end beyond it: SHMIPC_ENOSPC now instead of SIGBUS
 * later. What is there stays. */
SHMIPC__UNUSED static int shmipc__os_reserve(shmipc__os_file f, uint64_t offset, uint64_t bytes)
{
    int r;
    if (offset > INT64_MAX || bytes > INT64_MAX - offset) return SHMIPC_ENOSPC;
    do {
        r = SHMIPC__SYS("fallocate", fallocate((int)f, 0, (off_t)offset, (off_t)bytes));
    } while (r && errno == EINTR);
    if (!r) return SHMIPC_OK;
    return errno == ENOMEM ? SHMIPC_ENOSPC : shmipc__os_error(errno);
}

/* Gives the pages wholly inside back; they read as zero if they are reserved again. Even reading one before that takes
 * memory, so the caller knows that nobody can reach them. */
SHMIPC__UNUSED static int shmipc__os_punch(shmipc__os_file f, uint64_t offset, uint64_t bytes)
{
    int r;
    do {
        r = SHMIPC__SYS("punch", fallocate((int)f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                                           (off_t)bytes));
    } while (r && errno == EINTR);
    return r ? shmipc__os_error(errno) : SHMIPC_OK;
}

/* ---- locks ---- */

SHMIPC__UNUSED static int shmipc__os_lock_call(shmipc__os_file f, int cmd, int type, uint64_t byte, short *found)
{
    struct flock l;
    memset(&l, 0, sizeof l);
    l.l_type = (short)type;
    l.l_whence = SEEK_SET;
    l.l_start = (off_t)byte;
    l.l_len = 1;
    if (fcntl((int)f, cmd, &l)) return errno == EAGAIN || errno == EACCES ? SHMIPC_EBUSY : shmipc__os_error(errno);
    if (found) *found = l.l_type;
    return SHMIPC_OK;
}

/* Takes the byte if it is free; SHMIPC_EBUSY if not. Never waits. */
SHMIPC__UNUSED static int shmipc__os_try_lock(shmipc__os_file f, uint64_t byte)
{
    if (SHMIPC__OS_FAULT("lock")) return shmipc__os_error(errno);
    return shmipc__os_lock_call(f, F_OFD_SETLK, F_WRLCK, byte, NULL);
}

/* Takes the byte beside others who take it so; SHMIPC_EBUSY if somebody has it alone. */
SHMIPC__UNUSED static int shmipc__os_share_lock(shmipc__os_file f, uint64_t byte)
{
    if (SHMIPC__OS_FAULT("share_lock")) return shmipc__os_error(errno);
    return shmipc__os_lock_call(f, F_OFD_SETLK, F_RDLCK, byte, NULL);
}

SHMIPC__INLINE void shmipc__os_unlock(shmipc__os_file f, uint64_t byte)
{
    (void)shmipc__os_lock_call(f, F_OFD_SETLK, F_UNLCK, byte, NULL);
}

/* 1 if another description holds the byte for writing, 0 if not. */
SHMIPC__UNUSED static int shmipc__os_probe(shmipc__os_file f, uint64_t byte)
{
    short found = F_UNLCK;
    int rc;
    if (SHMIPC__OS_FAULT("probe")) return shmipc__os_error(errno);
    rc = shmipc__os_lock_call(f, F_OFD_GETLK, F_RDLCK, byte, &found);
    return rc < 0 ? rc : found == F_WRLCK;
}

/* ---- watching ---- */

/* Reports each close of a description through which somebody could write to the file, deaths included, whoever and
 * wherever he is. The report comes just before the kernel drops that description's locks. */
SHMIPC__UNUSED static int shmipc__os_watch(shmipc__os_file f, shmipc__os_file *out)
{
    char proc[32];
    int rc = shmipc__os_above_streams(SHMIPC__SYS("watch", inotify_init1(IN_CLOEXEC | IN_NONBLOCK)), out);
    if (rc) return rc;
    snprintf(proc, sizeof proc, "/proc/self/fd/%d", (int)f);
    if (SHMIPC__SYS("watch_add", inotify_add_watch((int)*out, proc, IN_CLOSE_WRITE)) < 0) {
        rc = shmipc__os_error(errno);
        shmipc__os_close(out);
    }
    return rc;
}

/* Sleeps until there are reports, and takes them: 0. SHMIPC_ETIMEDOUT (negative: never), SHMIPC_EINTR. Without a watch
 * it just sleeps. */
SHMIPC__UNUSED static int shmipc__os_watch_wait(shmipc__os_file watch, int64_t timeout_ns)
{
    struct pollfd p;
    struct timespec t;
    char reports[4096];
    int n;
    p.fd = (int)watch;
    p.events = POLLIN;
    t.tv_sec = (time_t)(timeout_ns / 1000000000 > 0x7fffffff ? 0x7fffffff : timeout_ns / 1000000000);
    t.tv_nsec = (long)(timeout_ns % 1000000000);
    n = SHMIPC__SYS("watch_wait", ppoll(&p, 1, timeout_ns < 0 ? NULL : &t, NULL));
    if (n <= 0) return n ? shmipc__os_error(errno) : SHMIPC_ETIMEDOUT;
    return read((int)watch, reports, sizeof reports) < 0 && errno != EAGAIN ? shmipc__os_error(errno) : SHMIPC_OK;
}

/* ---- fork ---- */

/* A page that reads as zero in every child, also of _Fork and clone; NULL where the kernel has no such thing. */
SHMIPC__UNUSED static uint32_t *shmipc__os_wipe_page(void)
{
    void *p = MAP_FAILED;
    if (!SHMIPC__OS_FAULT("wipe_page")) {
        p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    if (p == MAP_FAILED) return NULL;
    if (SHMIPC__SYS("madvise", madvise(p, 4096, MADV_WIPEONFORK))) {
        munmap(p, 4096);
        return NULL;
    }
    return (uint32_t *)p;
}

SHMIPC__INLINE int shmipc__os_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    return SHMIPC__OS_FAULT("atfork") || pthread_atfork(prepare, parent, child) ? SHMIPC_ENOMEM : SHMIPC_OK;
}

#endif /* SHMIPC_OS_HEADER */

/* ---------------------------------------------------------------------------------------------
 * >>ctx  Lives and the registry
 *
 * Registry file, byte map
 *     0      magic, layout, stamp   written before the file gets its name, constant afterwards
 *     16     id                     random; segments repeat it, so what a deleted registry left is told apart
 *     64     next_life              add_acqrel by whoever opens a context
 *     128    next_generation        add_acqrel by whoever creates a segment
 *     4096   name table, level 0    256 entries; level k: at 4096 << k, 256 << k entries, up to level 12
 * An entry is a key (hash of a name; CAS from 0 once, then permanent) and the generation that is current, or 0 (CAS by
 * creators and removers). A name looks through one window of 8 in each level, in order, and takes the first empty key:
 * keys never go away, so all who look for a name meet at the same entry, without a lock. A level is reserved from the
 * file system before first use, and the size of the file says which levels are. The file is never removed.
 *
 * Locks lie on the registry file itself, so that there is no second file to lose: byte n is held for writing by the one
 * process whose life is n, through a description that nothing maps. Bytes below SHMIPC__LIFE_FIRST are roles.
 *
 * Orders: none for lives, the lock is the kernel's; none for keys, which say nothing of other words; [publish] of the
 * generations see >>segment.
 * Dies between two lines of shmipc_ctx_open: an unnamed file vanishes; a registry without users is a valid one; a life
 * drawn and not locked is a number wasted.
 * ------------------------------------------------------------------------------------------- */

#define SHMIPC__LAYOUT 1u
#define SHMIPC__STAMP ((uint32_t)SHMIPC_WORD_BITS | (uint32_t)SHMIPC__LINE << 8)
#define SHMIPC__REGISTRY_MAGIC 0x31474552434d4853u /* "SHMCREG1" where the low byte comes first */
#define SHMIPC__REGISTRY_FILE "registry"
#define SHMIPC__PAGE 4096u
#define SHMIPC__LEVELS 13
#define SHMIPC__REGISTRY_BYTES ((uint64_t)SHMIPC__PAGE << SHMIPC__LEVELS)
#define SHMIPC__NUMBER_MAX (((uint64_t)1 << 62) - 1)
enum { SHMIPC__ROLE_SWEEPER = 1, SHMIPC__ROLE_GUARD = 2, SHMIPC__LIFE_FIRST = 16 };

typedef struct shmipc__registry {
    uint64_t magic;
    uint32_t layout, stamp;
    uint64_t id;
    unsigned char pad0[40];
    uint64_t next_life;
    unsigned char pad1[56];
    uint64_t next_generation;
    unsigned char pad2[56];
} shmipc__registry;
SHMIPC__STATIC_ASSERT(offsetof(shmipc__registry, id) == 16 && offsetof(shmipc__registry, next_life) == 64 &&
                          offsetof(shmipc__registry, next_generation) == 128 && sizeof(shmipc__registry) == 192,
                      "registry layout");

typedef struct shmipc__name {
    uint64_t key, generation;
} shmipc__name;
SHMIPC__STATIC_ASSERT(sizeof(shmipc__name) == 16 && offsetof(shmipc__name, generation) == 8, "name table layout");

/* A descriptor that we opened and what it was then: somebody's close_range may have put another file in its place. */
typedef struct shmipc__handle {
    shmipc__os_file file;
    uint64_t id[2];
} shmipc__handle;

/* Something of a header above this one that hangs off a context: closed before the context's segments are. */
typedef struct shmipc__dependent {
    struct shmipc__dependent *prev, *next;
    void (*close)(struct shmipc__dependent *self); /* takes itself off the list */
} shmipc__dependent;

struct shmipc_ctx {
    shmipc_ctx *next;         /* all contexts of the process, for the fork handler */
    shmipc__os_mutex mutex;   /* guards `segments` to `bells`, `detail`, `sweep_at`; never held over a wait */
    shmipc_segment *segments;
    shmipc__dependent *dependents;
    shmipc_segment *bells;    /* the scope's table of bells, once somebody here has waited or woken */
    shmipc__handle dir, lock, probe; /* `lock` carries the life and is never mapped */
    unsigned char *registry;  /* mapped through `probe` */
    uint64_t known;           /* bytes of the registry that we have seen reserved */
    uint64_t id, life;
    uint32_t *wipe;           /* 1, or 0 in a child of any kind */
    int pid, shared;
    uint32_t forked, lost;
    uint32_t sweep_at;
    uint32_t kind_count;
    const shmipc_kind *const *kinds;
    void (*log)(void *arg, int level, const char *text);
    void *log_arg;
    char *path;
    char detail[512];
};

/* The only writable global: the contexts of this process, so that the fork handler finds their descriptors. */
static struct {
    shmipc__os_mutex mutex;
    shmipc_ctx *head;
    int hooked;
} shmipc__ctx_all = {SHMIPC__OS_MUTEX_INIT, NULL, 0};

#if SHMIPC__GNU
__attribute__((format(printf, 3, 4)))
#endif
SHMIPC__UNUSED static int shmipc__fail(shmipc_ctx *ctx, int rc, const char *format, ...)
{
    char text[sizeof ctx->detail];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    shmipc__os_mutex_lock(&ctx->mutex);
    memcpy(ctx->detail, text, sizeof text);
    shmipc__os_mutex_unlock(&ctx->mutex);
    if (ctx->log) ctx->log(ctx->log_arg, SHMIPC_LOG_INFO, text);
    return rc;
}

/* For failures of the system: the code says it, the text says where. */
static int shmipc__fail_os(shmipc_ctx *ctx, int rc, const char *what)
{
    return shmipc__fail(ctx, rc, "%s in %s: %s", what, ctx->path, shmipc_strerror(rc));
}

/* ---- descriptors ---- */

static int shmipc__handle_keep(shmipc__handle *h, shmipc__os_file f)
{
    shmipc__os_info st;
    int rc = shmipc__os_stat(f, &st);
    if (rc) {
        shmipc__os_close(&f);
        return rc;
    }
    h->file = f;
    h->id[0] = st.id[0];
    h->id[1] = st.id[1];
    return SHMIPC_OK;
}

/* Closes what is still ours: after a close_range the number may belong to somebody else. */
static void shmipc__handle_close(shmipc__handle *h)
{
    if (h->file != SHMIPC__OS_NONE && shmipc__os_is(h->file, h->id, NULL)) shmipc__os_close(&h->file);
    h->file = SHMIPC__OS_NONE;
}

static void shmipc__ctx_drop_handles(shmipc_ctx *ctx)
{
    shmipc__handle_close(&ctx->lock);
    shmipc__handle_close(&ctx->probe);
    shmipc__handle_close(&ctx->dir);
}

/* ---- fork ---- */

static void shmipc__fork_prepare(void) { shmipc__os_mutex_lock(&shmipc__ctx_all.mutex); }
static void shmipc__fork_parent(void) { shmipc__os_mutex_unlock(&shmipc__ctx_all.mutex); }

/* The child gives up its copies at once: while they are open the kernel takes the parent for alive. The handles remain,
 * to be closed. Another thread of the parent may hold a context's own mutex, so that is not touched. */
static void shmipc__fork_child(void)
{
    shmipc_ctx *c;
    for (c = shmipc__ctx_all.head; c; c = c->next) {
        shmipc__store_relaxed_u32(&c->forked, 1);
        shmipc__ctx_drop_handles(c);
    }
    shmipc__os_mutex_unlock(&shmipc__ctx_all.mutex);
}

static int shmipc__ctx_enlist(shmipc_ctx *ctx)
{
    int rc = SHMIPC_OK;
    shmipc__os_mutex_lock(&shmipc__ctx_all.mutex);
    if (!shmipc__ctx_all.hooked) {
        rc = shmipc__os_atfork(shmipc__fork_prepare, shmipc__fork_parent, shmipc__fork_child);
        shmipc__ctx_all.hooked = rc == SHMIPC_OK;
    }
    if (rc == SHMIPC_OK) {
        ctx->next = shmipc__ctx_all.head;
        shmipc__ctx_all.head = ctx;
    }
    shmipc__os_mutex_unlock(&shmipc__ctx_all.mutex);
    return rc;
}

static void shmipc__ctx_delist(shmipc_ctx *ctx)
{
    shmipc_ctx **p;
    shmipc__os_mutex_lock(&shmipc__ctx_all.mutex);
    for (p = &shmipc__ctx_all.head; *p; p = &(*p)->next) {
        if (*p == ctx) {
            *p = ctx->next;
            break;
        }
    }
    shmipc__os_mutex_unlock(&shmipc__ctx_all.mutex);
}

/* Without system calls where the kernel wipes pages on fork. */
static int shmipc__ctx_forked(shmipc_ctx *ctx)
{
    if (shmipc__load_relaxed_u32(&ctx->forked)) return 1;
    if (ctx->wipe ? shmipc__load_relaxed_u32(ctx->wipe) != 0 : ctx->pid == shmipc__os_pid()) return 0;
    shmipc__store_relaxed_u32(&ctx->forked, 1); /* a child of _Fork or clone: no handler ran */
    shmipc__ctx_drop_handles(ctx);
    return 1;
}

/* What every slow call asks first: are we still who the others take us for? Ours is the one lock of which the probe
 * must say that somebody holds it. */
SHMIPC_API int shmipc_ctx_check(shmipc_ctx *ctx)
{
    uint64_t links = 0;
    int rc;
    if (!ctx) return SHMIPC_EINVAL;
    if (shmipc__ctx_forked(ctx)) return SHMIPC_EFORKED;
    if (shmipc__load_relaxed_u32(&ctx->lost)) return SHMIPC_EOWNERDEAD;
    if (shmipc__os_is(ctx->dir.file, ctx->dir.id, NULL) && shmipc__os_is(ctx->lock.file, ctx->lock.id, NULL) &&
        shmipc__os_is(ctx->probe.file, ctx->probe.id, &links)) {
        rc = shmipc__os_probe(ctx->probe.file, ctx->life);
        if (rc < 0) return shmipc__fail_os(ctx, rc, "looking at our own lock");
        if (rc == 1 && links) return SHMIPC_OK;
        if (rc == 1) {
            return shmipc__fail(ctx, SHMIPC_ESTATE, "%s/" SHMIPC__REGISTRY_FILE " was deleted while in use: restart "
                                "all who use this directory", ctx->path);
        }
    }
    shmipc__store_relaxed_u32(&ctx->lost, 1);
    return shmipc__fail(ctx, SHMIPC_EOWNERDEAD, "the descriptors of the context in %s were closed behind its back, so "
                        "others take this process for dead: open the context after daemonising", ctx->path);
}

/* ---- lives ---- */

static int shmipc__life_take(shmipc_ctx *ctx)
{
    shmipc__registry *r = (shmipc__registry *)(void *)ctx->registry;
    int i, rc;
    for (i = 0; i < 64; i++) {
        uint64_t life = shmipc__add_acqrel_u64(&r->next_life, 1);
        if (life < SHMIPC__LIFE_FIRST || life > SHMIPC__NUMBER_MAX) return SHMIPC_ECORRUPT;
        rc = shmipc__os_try_lock(ctx->lock.file, life);
        if (rc != SHMIPC_EBUSY) { /* busy: somebody set the counter back */
            ctx->life = life;
            return rc;
        }
    }
    return SHMIPC_ECORRUPT;
}

/* 1 alive, 0 dead, or a code. Never asks the kernel for our own life. A number that nobody can have drawn is dead. */
static int shmipc__life_alive(shmipc_ctx *ctx, uint64_t life)
{
    if (life == ctx->life) return 1;
    if (life < SHMIPC__LIFE_FIRST || life > SHMIPC__NUMBER_MAX) return 0;
    return shmipc__os_probe(ctx->probe.file, life);
}

/* ---- name table ---- */

/* Bijective mixing, so that nearby inputs land far apart. */
SHMIPC__INLINE uint64_t shmipc__mix(uint64_t x)
{
    x = (x ^ (x >> 32)) * 0x9e6c63d0876a9a35u;
    x = (x ^ (x >> 29)) * 0xc2b2ae3d27d4eb4fu;
    return x ^ (x >> 32);
}

static uint64_t shmipc__hash(const void *data, size_t n)
{
    const unsigned char *p = (const unsigned char *)data;
    uint64_t h = (uint64_t)n;
    while (n--) h = shmipc__mix(h + *p++ + 0x9e3779b97f4a7c15u);
    h &= SHMIPC__NUMBER_MAX;
    return h ? h : 1;
}

/* Makes sure that a level's pages exist: 1 yes, 0 not yet, or a code. The file's size is the truth, nothing in it. */
static int shmipc__level_ready(shmipc_ctx *ctx, int level, int reserve)
{
    uint64_t begin = (uint64_t)SHMIPC__PAGE << level, known = shmipc__load_relaxed_u64(&ctx->known);
    shmipc__os_info st;
    int rc;
    if (known >= begin * 2) return 1;
    rc = reserve ? shmipc__os_reserve(ctx->probe.file, begin, begin) : SHMIPC_OK;
    if (!rc) rc = shmipc__os_stat(ctx->probe.file, &st);
    if (rc) return rc;
    shmipc__store_relaxed_u64(&ctx->known, st.size);
    return st.size >= begin * 2;
}

/* Finds the entry of a name, or makes it. SHMIPC_ENOENT, SHMIPC_ETABLE, SHMIPC_ENOSPC. */
static int shmipc__name_find(shmipc_ctx *ctx, uint64_t key, int insert, shmipc__name **out)
{
    int level, i, rc;
    for (level = 0; level < SHMIPC__LEVELS; level++) {
        uint64_t at = shmipc__mix(key + (uint64_t)level) & (((uint64_t)256 << level) - 1) & ~(uint64_t)7;
        shmipc__name *window = (shmipc__name *)(void *)(ctx->registry + ((uint64_t)SHMIPC__PAGE << level)) + at;
        rc = shmipc__level_ready(ctx, level, 0);
        if (rc == 0 && insert) rc = shmipc__level_ready(ctx, level, 1);
        if (rc <= 0) return rc < 0 ? rc : SHMIPC_ENOENT;
        for (i = 0; i < 8; i++) {
            uint64_t seen = shmipc__load_relaxed_u64(&window[i].key);
            if (seen == 0) {
                if (!insert) return SHMIPC_ENOENT;
                if (shmipc__cas_relaxed_u64(&window[i].key, &seen, key)) seen = key;
            }
            if (seen == key) {
                *out = &window[i];
                return SHMIPC_OK;
            }
        }
    }
    return insert ? SHMIPC_ETABLE : SHMIPC_ENOENT;
}

/* ---- opening ---- */

/* A registry image is judged by its first bytes, copied out of it. */
static int shmipc__registry_check(const shmipc__registry *r, uint64_t file_bytes)
{
    if (file_bytes < 2 * SHMIPC__PAGE || r->magic != SHMIPC__REGISTRY_MAGIC) {
        return file_bytes >= 16 && r->magic == SHMIPC__REGISTRY_MAGIC ? SHMIPC_ECORRUPT : SHMIPC_EFOREIGN;
    }
    if (r->layout != SHMIPC__LAYOUT || r->stamp != SHMIPC__STAMP) return SHMIPC_ELAYOUT;
    if (r->id == 0 || r->next_life < SHMIPC__LIFE_FIRST || r->next_life > SHMIPC__NUMBER_MAX ||
        r->next_generation == 0 || r->next_generation > SHMIPC__NUMBER_MAX) {
        return SHMIPC_ECORRUPT;
    }
    return SHMIPC_OK;
}

static int shmipc__registry_judge(shmipc_ctx *ctx)
{
    shmipc__registry r;
    shmipc__os_info st;
    int rc;
    memset(&r, 0, sizeof r);
    rc = shmipc__os_read(ctx->probe.file, 0, &r, sizeof r);
    if (!rc) rc = shmipc__os_stat(ctx->probe.file, &st);
    if (rc) return shmipc__fail_os(ctx, rc, "reading the registry");
    rc = shmipc__registry_check(&r, st.size);
    ctx->id = r.id;
    ctx->known = st.size;
    switch (rc) {
    case SHMIPC_OK: return SHMIPC_OK;
    case SHMIPC_ELAYOUT:
        return shmipc__fail(ctx, rc, "%s/" SHMIPC__REGISTRY_FILE " has layout %u with features %#x, this program has "
                            "layout %u with features %#x: use one version of shmipc, or another directory", ctx->path,
                            (unsigned)r.layout, (unsigned)r.stamp, SHMIPC__LAYOUT, (unsigned)SHMIPC__STAMP);
    case SHMIPC_EFOREIGN:
        return shmipc__fail(ctx, rc, "%s/" SHMIPC__REGISTRY_FILE " (%lu bytes) is not a registry of shmipc: remove it, "
                            "or use another directory", ctx->path, (unsigned long)st.size);
    default:
        return shmipc__fail(ctx, rc, "%s/" SHMIPC__REGISTRY_FILE " (%lu bytes) is truncated or damaged: stop all who "
                            "use this directory and remove it", ctx->path, (unsigned long)st.size);
    }
}

/* Makes the registry under no name and gives it its name when it is complete; SHMIPC_EEXIST if somebody was first. */
static int shmipc__registry_make(shmipc_ctx *ctx)
{
    shmipc__os_draft d;
    void *p = NULL;
    int rc = shmipc__os_draft_make(ctx->dir.file, ctx->shared, &d);
    if (rc) return rc;
    rc = shmipc__os_reserve(d.file, 0, 2 * SHMIPC__PAGE);
    if (!rc) rc = shmipc__os_map(d.file, 2 * SHMIPC__PAGE, 1, &p);
    if (!rc) {
        shmipc__registry r;
        memset(&r, 0, sizeof r);
        r.magic = SHMIPC__REGISTRY_MAGIC;
        r.layout = SHMIPC__LAYOUT;
        r.stamp = SHMIPC__STAMP;
        r.next_life = SHMIPC__LIFE_FIRST;
        r.next_generation = 1;
        rc = shmipc__os_random(&r.id, sizeof r.id);
        r.id |= 1;
        shmipc__copy_in(p, &r, sizeof r);
        shmipc__os_unmap(p, 2 * SHMIPC__PAGE);
    }
    if (!rc) rc = shmipc__os_draft_link(ctx->dir.file, &d, SHMIPC__REGISTRY_FILE);
    shmipc__os_draft_drop(ctx->dir.file, &d);
    return rc;
}

/* Two descriptions of one file: `probe` is mapped, `lock` is not. Both must be the same file, or we look again. */
static int shmipc__registry_open(shmipc_ctx *ctx)
{
    int i, rc = SHMIPC_EAGAIN;
    for (i = 0; i < 64; i++) {
        shmipc__os_file f = SHMIPC__OS_NONE;
        rc = shmipc__os_open(ctx->dir.file, SHMIPC__REGISTRY_FILE, &f);
        if (!rc) rc = shmipc__handle_keep(&ctx->probe, f);
        if (!rc) rc = shmipc__os_open(ctx->dir.file, SHMIPC__REGISTRY_FILE, &f);
        if (!rc) rc = shmipc__handle_keep(&ctx->lock, f);
        if (!rc && memcmp(ctx->lock.id, ctx->probe.id, sizeof ctx->lock.id) == 0) return shmipc__registry_judge(ctx);
        shmipc__handle_close(&ctx->lock);
        shmipc__handle_close(&ctx->probe);
        if (rc == SHMIPC_ENOENT) {
            rc = shmipc__registry_make(ctx);
            if (rc == SHMIPC_EEXIST || rc == SHMIPC_ENOENT) rc = SHMIPC_OK;
        }
        if (rc) break;
    }
    return shmipc__fail_os(ctx, rc ? rc : SHMIPC_EBUSY, "opening the registry");
}

static int shmipc__dir_choose(shmipc_ctx *ctx, const char *dir)
{
    char by_scope[64];
    if (!dir) dir = shmipc__os_env("SHMIPC_DIR");
    if (!dir || !*dir) {
        dir = "/dev/shm/shmipc";
        if (!ctx->shared) {
            snprintf(by_scope, sizeof by_scope, "/dev/shm/shmipc-%lu", (unsigned long)shmipc__os_user());
            dir = by_scope;
        }
    }
    ctx->path = (char *)malloc(strlen(dir) + 1);
    if (!ctx->path) return SHMIPC_ENOMEM;
    strcpy(ctx->path, dir);
    return SHMIPC_OK;
}

static int shmipc__dir_open(shmipc_ctx *ctx)
{
    shmipc__os_file f = SHMIPC__OS_NONE;
    int rc = shmipc__os_dir_open(ctx->path, ctx->shared, &f);
    const char *cure;
    if (!rc) rc = shmipc__handle_keep(&ctx->dir, f);
    switch (rc) {
    case SHMIPC_OK: return rc;
    case SHMIPC_ESYMLINK: cure = "it is a symbolic link: name the directory itself"; break;
    case SHMIPC_EFOREIGN: cure = "it is not a directory: move it away, or name another"; break;
    case SHMIPC_EOWNER: cure = "another user owns it: remove it, or set SHMIPC_DIR to a directory of yours"; break;
    case SHMIPC_EMODE:
        cure = ctx->shared ? "others may enter, or the group may not: chmod 2770" : "others may enter: chmod 700";
        break;
    case SHMIPC_ENOENT: cure = "its parent directory does not exist: set SHMIPC_DIR"; break;
    default: cure = shmipc_strerror(rc); break;
    }
    return shmipc__fail(ctx, rc, "cannot use the directory %s: %s", ctx->path, cure);
}

SHMIPC_API void shmipc_ctx_config_init(shmipc_ctx_config *cfg)
{
    if (cfg) memset(cfg, 0, sizeof *cfg);
}

static void shmipc__ctx_free(shmipc_ctx *ctx)
{
    if (ctx->registry) shmipc__os_unmap(ctx->registry, SHMIPC__REGISTRY_BYTES);
    if (ctx->wipe) shmipc__os_unmap(ctx->wipe, SHMIPC__PAGE);
    shmipc__ctx_drop_handles(ctx); /* `lock` is never mapped, so this ends the life */
    shmipc__os_mutex_free(&ctx->mutex);
    free(ctx->path);
    free(ctx);
}

static int shmipc__ctx_start(shmipc_ctx *ctx, const char *dir)
{
    void *p = NULL;
    int rc = shmipc__dir_choose(ctx, dir);
    if (rc) return rc;
    rc = shmipc__dir_open(ctx);
    if (!rc) rc = shmipc__registry_open(ctx);
    if (rc) return rc;
    rc = shmipc__os_map(ctx->probe.file, SHMIPC__REGISTRY_BYTES, 1, &p);
    if (rc) return shmipc__fail_os(ctx, rc, "mapping the registry");
    ctx->registry = (unsigned char *)p;
    ctx->wipe = shmipc__os_wipe_page();
    if (ctx->wipe) shmipc__store_relaxed_u32(ctx->wipe, 1);
    ctx->pid = shmipc__os_pid();
    rc = shmipc__life_take(ctx);
    if (!rc) rc = shmipc__ctx_enlist(ctx);
    return rc ? shmipc__fail_os(ctx, rc, "drawing a life") : SHMIPC_OK;
}

/* What is still there after a look at everything: segments with a living user, and when the first of those that linger
 * may go (0: none does). */
typedef struct shmipc__left {
    uint32_t living;
    int64_t until;
} shmipc__left;

static int shmipc__sweep_dir(shmipc_ctx *ctx, uint32_t max_files, shmipc__left *left);

SHMIPC_API int shmipc_ctx_open(shmipc_ctx **out, const shmipc_ctx_config *cfg)
{
    shmipc_ctx_config none;
    shmipc_ctx *ctx;
    int rc;
    shmipc_ctx_config_init(&none);
    if (!cfg) cfg = &none;
    if (!out || (cfg->scope != SHMIPC_SCOPE_USER && cfg->scope != SHMIPC_SCOPE_MACHINE)) return SHMIPC_EINVAL;
    ctx = (shmipc_ctx *)calloc(1, sizeof *ctx);
    if (!ctx) return SHMIPC_ENOMEM;
    ctx->dir.file = ctx->lock.file = ctx->probe.file = SHMIPC__OS_NONE;
    shmipc__os_mutex_init(&ctx->mutex);
    ctx->shared = cfg->scope == SHMIPC_SCOPE_MACHINE;
    ctx->kinds = cfg->kinds;
    ctx->kind_count = cfg->kinds ? cfg->kind_count : 0;
    ctx->log = cfg->log;
    ctx->log_arg = cfg->log_arg;
    rc = shmipc__ctx_start(ctx, cfg->dir);
    if (rc) {
        if (cfg->error_text && cfg->error_len) snprintf(cfg->error_text, cfg->error_len, "%s", ctx->detail);
        shmipc__ctx_free(ctx);
        return rc;
    }
    (void)shmipc_ctx_sweep(ctx, 8);
    *out = ctx;
    return SHMIPC_OK;
}

SHMIPC_API void shmipc_ctx_close(shmipc_ctx *ctx)
{
    if (!ctx) return;
    while (ctx->dependents) ctx->dependents->close(ctx->dependents);
    while (ctx->segments) shmipc_segment_close(ctx->segments);
    shmipc__ctx_delist(ctx);
    shmipc__ctx_free(ctx);
}

SHMIPC_API const char *shmipc_ctx_detail(shmipc_ctx *ctx) { return ctx ? ctx->detail : "no context"; }
SHMIPC_API uint64_t shmipc_ctx_life(const shmipc_ctx *ctx) { return ctx ? ctx->life : 0; }
SHMIPC_API const char *shmipc_ctx_dir(const shmipc_ctx *ctx) { return ctx ? ctx->path : ""; }

SHMIPC__UNUSED static void shmipc__depend(shmipc_ctx *ctx, shmipc__dependent *d)
{
    shmipc__os_mutex_lock(&ctx->mutex);
    d->prev = NULL;
    d->next = ctx->dependents;
    if (d->next) d->next->prev = d;
    ctx->dependents = d;
    shmipc__os_mutex_unlock(&ctx->mutex);
}

/* In a child of fork the mutex may be held for ever by a thread of the parent, and nobody else is there. */
SHMIPC__UNUSED static void shmipc__depend_no_more(shmipc_ctx *ctx, shmipc__dependent *d)
{
    int alone = shmipc__ctx_forked(ctx);
    if (!alone) shmipc__os_mutex_lock(&ctx->mutex);
    if (d->next) d->next->prev = d->prev;
    if (d->prev) d->prev->next = d->next;
    else ctx->dependents = d->next;
    if (!alone) shmipc__os_mutex_unlock(&ctx->mutex);
}

/* ---- sweeping and guarding ---- */

SHMIPC_API int shmipc_ctx_sweep(shmipc_ctx *ctx, uint32_t max_files)
{
    int rc = shmipc_ctx_check(ctx);
    if (rc) return rc;
    if (max_files == 0) return shmipc__sweep_dir(ctx, 0, NULL);
    /* Slices take turns only to save work: whoever finds the role taken, perhaps by a stopped process, leaves it. */
    rc = shmipc__os_try_lock(ctx->probe.file, SHMIPC__ROLE_SWEEPER);
    if (rc) return rc == SHMIPC_EBUSY ? 0 : shmipc__fail_os(ctx, rc, "taking the sweeper's role");
    rc = shmipc__sweep_dir(ctx, max_files, NULL);
    shmipc__os_unlock(ctx->probe.file, SHMIPC__ROLE_SWEEPER);
    return rc;
}

/* ---- guarding ----
 *
 * Whoever dies or closes his context closes a description of the registry, and a watch on that file reports it, for all
 * lives at once. Which life it was is not said; the guard looks at all segments. The report comes before the locks are
 * dropped, so a look may come too early: the guard looks again after 1, 2, 4 ... ms, for a second in all, and only then
 * sleeps without a timer. Where there is no watch it looks every 50 ms. Many deaths at once are one look: before it the
 * guard rests four times as long as a look takes, at most 25 ms. */

#define SHMIPC__GUARD_LOOK_NS 50000000
#define SHMIPC__GUARD_REST_NS 25000000
#define SHMIPC__GUARD_FIRST_NS 1000000
#define SHMIPC__GUARD_LAST_NS 512000000

typedef struct shmipc__guard {
    shmipc__os_file watch;
    int64_t again;     /* when to look again though nothing was reported; negative: not at all */
    int64_t look_took;
} shmipc__guard;

/* Sleeps until there may be something to remove: 0, or a code that ends the guard. */
static int shmipc__guard_sleep(shmipc__guard *g, int64_t until)
{
    int64_t wait = g->watch == SHMIPC__OS_NONE ? SHMIPC__GUARD_LOOK_NS : g->again, rest = 4 * g->look_took;
    int rc;
    if (until) {
        until -= shmipc__os_now_ns();
        if (until < 0) until = 0;
        if (wait < 0 || until < wait) wait = until;
    }
    rc = shmipc__os_watch_wait(g->watch, wait);
    if (rc == SHMIPC_ETIMEDOUT) {
        g->again = g->again < 0 || g->again >= SHMIPC__GUARD_LAST_NS ? -1 : 2 * g->again;
        return SHMIPC_OK;
    }
    if (rc == SHMIPC_EINTR || (rc && g->watch == SHMIPC__OS_NONE)) return rc;
    if (rc) shmipc__os_close(&g->watch);
    g->again = SHMIPC__GUARD_FIRST_NS;
    rc = shmipc__os_watch_wait(SHMIPC__OS_NONE, rest < SHMIPC__GUARD_REST_NS ? rest : SHMIPC__GUARD_REST_NS);
    return rc == SHMIPC_EINTR ? rc : SHMIPC_OK;
}

/* One look. What cannot be removed is no reason to leave the rest alone, so failures count only at the end. */
static int shmipc__guard_look(shmipc_ctx *ctx, shmipc__guard *g, shmipc__left *left)
{
    int64_t start = shmipc__os_now_ns();
    int rc = shmipc__sweep_dir(ctx, 0, left);
    g->look_took = shmipc__os_now_ns() - start;
    return rc < 0 && !left->living && !left->until ? rc : SHMIPC_OK;
}

/* The role is given up before the last look: whoever makes a segment now either finds no guard and starts one, or has
 * made it early enough to be seen. */
static int shmipc__guard_loop(shmipc_ctx *ctx, shmipc__guard *g)
{
    shmipc__left left;
    int rc;
    for (;;) {
        rc = shmipc__os_try_lock(ctx->lock.file, SHMIPC__ROLE_GUARD);
        if (rc) return rc == SHMIPC_EBUSY ? rc : shmipc__fail_os(ctx, rc, "taking the guard's role");
        do {
            rc = shmipc__guard_look(ctx, g, &left);
            if (!rc && (left.living || left.until)) rc = shmipc__guard_sleep(g, left.until);
        } while (!rc && (left.living || left.until));
        shmipc__os_unlock(ctx->lock.file, SHMIPC__ROLE_GUARD);
        if (!rc) rc = shmipc__guard_look(ctx, g, &left);
        if (rc || (!left.living && !left.until)) return rc;
    }
}

SHMIPC_API int shmipc_guard_run(shmipc_ctx *ctx)
{
    shmipc__guard g;
    int rc = shmipc_ctx_check(ctx);
    if (rc) return rc;
    if (ctx->segments) return shmipc__fail(ctx, SHMIPC_ESTATE, "a guard needs a context without segments of its own");
    g.watch = SHMIPC__OS_NONE;
    g.again = SHMIPC__GUARD_FIRST_NS;
    g.look_took = 0;
    (void)shmipc__os_watch(ctx->probe.file, &g.watch);
    rc = shmipc__guard_loop(ctx, &g);
    shmipc__os_close(&g.watch);
    return rc;
}

/* ---------------------------------------------------------------------------------------------
 * >>segment  The life of a named segment
 *
 * File `<name, made safe>.<generation>.seg`, byte map
 *     0      what it is: written before it has a name, constant afterwards
 *     128    K: version << 1 | DEAD. add_acqrel 2 by who attaches; CAS to DEAD by who removes. Counts nobody.
 *     192    size: bytes of the file that are reserved; CAS upwards by who grows, after the reservation
 *     200    linger: K's low 26 bits << 38 | deadline in 10 ms; CAS by who finds it undrained and without users
 *     256    name, padded with NUL
 *     512    attach table: life (CAS 0 -> life by its owner, life -> 0 by its owner or a sweep of the dead), doorbell
 *            and flags (written by the owner of the entry only; whoever reads them re-reads the life)
 *     then   params, then the kind's area at the next page
 * R is the generation in the registry's entry of the name, 0 for none: CAS by creators (to theirs) and removers (to 0).
 *
 *   attach   entry 0 -> life, then K += 2; DEAD: entry -> 0, not attached.
 *            dies: before K, a dead entry in a segment that was there anyway; after, swept.
 *   remove   read K, find nobody living in the table (then: drained, or past the deadline), CAS K -> DEAD, CAS R -> 0,
 *            unlink. Whoever attached after the read of K has raised it, and the CAS fails.
 *            dies: before DEAD, nothing happened; after, anybody repeats the rest. A late unlink names one generation.
 *   create   draw a generation, complete the file without a name, link it, CAS R -> it. Lost: mark DEAD, unlink, again.
 *            dies: before link, nothing; before the CAS, a file without users that a sweep removes.
 *   leave    give back what is held, entry -> 0, remove. dies: swept.
 *   use      byte 1 of the file is locked, shared, by who makes it, before it has a name, and by who joins it, before
 *            his entry, through the description that he maps. Nobody but the sweep of leftovers asks: when somebody
 *            deletes the registry, the lives in the table mean nothing to the next one. It takes the byte alone, then
 *            unlinks; who joins meanwhile is refused and makes a generation of his own.
 *            dies or stops: the file stays for the next sweep, or is gone.
 *
 * Orders: [attach] entry CAS and K's add acq_rel / remover's load K acquire: if its CAS from that K succeeds, it saw
 * every entry of those who raised K before. [publish] init, link, CAS R acq_rel / load R acquire: the generation read
 * leads to a complete file. [entry] life -> 0 acq_rel / CAS 0 -> life acq_rel: the next owner of an index comes after
 * all that was given back. [leave] fence between the own entry -> 0 and the look at the others. [size] reservation,
 * CAS acq_rel / load acquire.
 * ------------------------------------------------------------------------------------------- */

#define SHMIPC__SEGMENT_MAGIC 0x31474553434d4853u /* "SHMCSEG1" */
#define SHMIPC__SEGMENT_SUFFIX ".seg"
#define SHMIPC__POST_PREFIX ".post-"       /* files that are sockets: life, bell, each 16 and 8 hex digits */
#define SHMIPC__RESERVED ".shmipc/"        /* how names of our own segments begin */
#define SHMIPC__BELLS_KIND 0x6c6c6562u     /* "bell" */
#define SHMIPC__K_DEAD 1u
#define SHMIPC__BYTE_USED 1
enum { SHMIPC__TABLE_AT = 512, SHMIPC__CAPACITY_MAX = 4096, SHMIPC__PARAMS_MAX = 4096, SHMIPC__SAFE_MAX = 180 };
enum { SHMIPC__AGAIN = 1, SHMIPC__GONE = 2, SHMIPC__STAYS = 3 }; /* private results, positive */

/* The constant part, read once into a local copy and judged there. */
typedef struct shmipc__segment_head {
    uint64_t magic;
    uint32_t layout, stamp;
    uint64_t registry, generation, creator;
    int64_t created_ns;
    uint64_t max_bytes, area;
    uint32_t kind, kind_layout, capacity, params_len, name_len, linger_ms;
    uint32_t pid, reserved[9];
} shmipc__segment_head;

typedef struct shmipc__segment_live {
    uint64_t k;
    unsigned char pad[56];
    uint64_t size, linger;
} shmipc__segment_live;

typedef struct shmipc__entry {
    uint64_t life;
    uint32_t bell, flags;
} shmipc__entry;
SHMIPC__STATIC_ASSERT(sizeof(shmipc__segment_head) == 128 && offsetof(shmipc__segment_head, max_bytes) == 48 &&
                          offsetof(shmipc__segment_head, kind) == 64 && sizeof(shmipc__entry) == 16 &&
                          offsetof(shmipc__segment_live, size) == 64 && offsetof(shmipc__segment_live, linger) == 72,
                      "segment layout");

struct shmipc_segment {
    shmipc_segment *prev, *next;
    shmipc_ctx *ctx;
    const shmipc_kind *kind;
    shmipc__handle file;
    unsigned char *base;       /* head.max_bytes mapped, `known` of them reserved */
    uint64_t known;
    shmipc__segment_head head; /* our copy */
    shmipc__name *slot;        /* of the name, in the registry; NULL: the registry does not know it */
    uint32_t index, attached;
    int64_t until;             /* when it has lingered long enough, if it does */
    char name[256];
    char path[256];            /* of the file, in the directory */
};

SHMIPC__INLINE shmipc__segment_live *shmipc__live(shmipc_segment *s)
{
    return (shmipc__segment_live *)(void *)(s->base + 128);
}
SHMIPC__INLINE shmipc__entry *shmipc__entry_at(shmipc_segment *s, uint32_t index)
{
    return (shmipc__entry *)(void *)(s->base + SHMIPC__TABLE_AT) + index;
}

/* ---- names ---- */

/* Length of the UTF-8 sequence at p, 0 if it is none: no overlong forms, no surrogates, nothing above 10FFFF. */
static size_t shmipc__utf8(const unsigned char *p, size_t n)
{
    size_t len = p[0] < 0x80 ? 1 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2, i;
    if (len == 1) return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4 || len > n) return 0;
    for (i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
    }
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)) return 0;
    if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)) return 0;
    return len;
}

/* NULL if the name is legal, else what is wrong with it. */
static const char *shmipc__name_fault(const char *name, size_t n)
{
    size_t i = 0, step;
    if (n == 0) return "is empty";
    if (n > 255) return "is longer than 255 bytes";
    if (memchr(name, 0, n)) return "contains a NUL byte";
    for (; i < n; i += step) {
        step = shmipc__utf8((const unsigned char *)name + i, n - i);
        if (!step) return "is not valid UTF-8";
    }
    return NULL;
}

SHMIPC__INLINE uint64_t shmipc__name_key(const char *name) { return shmipc__hash(name, strlen(name)); }

/* Letters, digits, - and _ stay, all else is %XX; a long name is cut and its hash appended. 16 digits of generation. */
static void shmipc__file_name(char out[256], const char *name, uint64_t generation)
{
    static const char hex[] = "0123456789abcdef";
    size_t n = 0, i;
    for (i = 0; name[i] && n < SHMIPC__SAFE_MAX; i++) {
        unsigned char c = (unsigned char)name[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_') {
            out[n++] = (char)c;
        } else {
            out[n++] = '%';
            out[n++] = hex[c >> 4];
            out[n++] = hex[c & 15];
        }
    }
    if (name[i]) n += (size_t)snprintf(out + n, 32, "~%016llx", (unsigned long long)shmipc__name_key(name));
    snprintf(out + n, 256 - n, ".%016llx" SHMIPC__SEGMENT_SUFFIX, (unsigned long long)generation);
}

/* The generation in a file name, 0 if it is none of ours. */
static uint64_t shmipc__file_generation(const char *file)
{
    size_t n = strlen(file), i;
    uint64_t g = 0;
    if (n < 22 || strcmp(file + n - 4, SHMIPC__SEGMENT_SUFFIX) != 0 || file[n - 21] != '.') return 0;
    for (i = n - 20; i < n - 4; i++) {
        char c = file[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return 0;
        g = g << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return g;
}

/* ---- judging a file ---- */

static uint64_t shmipc__area_offset(uint32_t capacity, uint32_t params_len)
{
    uint64_t end = SHMIPC__TABLE_AT + (uint64_t)capacity * sizeof(shmipc__entry) + params_len;
    return (end + SHMIPC__PAGE - 1) & ~(uint64_t)(SHMIPC__PAGE - 1);
}

/* Judges the first 512 bytes of a segment, already copied out of it; `file_bytes` is how much there is. */
static int shmipc__segment_check(const void *image, uint64_t file_bytes, shmipc__segment_head *h, char name[256])
{
    if (file_bytes >= 8) memcpy(h, image, 8);
    if (file_bytes < 8 || h->magic != SHMIPC__SEGMENT_MAGIC) return SHMIPC_EFOREIGN;
    if (file_bytes < SHMIPC__TABLE_AT) return SHMIPC_ECORRUPT;
    memcpy(h, image, sizeof *h);
    if (h->layout != SHMIPC__LAYOUT || h->stamp != SHMIPC__STAMP) return SHMIPC_ELAYOUT;
    memcpy(name, (const char *)image + 256, 256);
    if (h->name_len == 0 || h->name_len > 255 || name[h->name_len] != 0 || shmipc__name_fault(name, h->name_len) ||
        h->generation == 0 || h->generation > SHMIPC__NUMBER_MAX || h->capacity == 0 ||
        h->capacity > SHMIPC__CAPACITY_MAX || h->params_len > SHMIPC__PARAMS_MAX ||
        h->area != shmipc__area_offset(h->capacity, h->params_len) || h->area > file_bytes ||
        h->max_bytes < file_bytes || h->max_bytes > (uint64_t)INT64_MAX) {
        return SHMIPC_ECORRUPT;
    }
    return SHMIPC_OK;
}

/* Opens `s->path` and judges it; nothing is mapped yet. SHMIPC_ESTATE: of a registry that was deleted. The first bytes
 * are read by a system call, which can fail where an access to a hole would kill. */
static int shmipc__segment_peek(shmipc_segment *s)
{
    unsigned char image[SHMIPC__TABLE_AT];
    shmipc__os_file f = SHMIPC__OS_NONE;
    shmipc__os_info st;
    int rc = shmipc__os_open(s->ctx->dir.file, s->path, &f);
    if (!rc) rc = shmipc__handle_keep(&s->file, f);
    if (rc) return rc;
    memset(image, 0, sizeof image);
    rc = shmipc__os_stat(f, &st);
    if (!rc) rc = shmipc__os_read(f, 0, image, sizeof image);
    if (!rc) rc = shmipc__segment_check(image, st.size, &s->head, s->name);
    s->known = st.size;
    if (!rc && s->head.generation != shmipc__file_generation(s->path)) rc = SHMIPC_ECORRUPT;
    if (rc) shmipc__handle_close(&s->file);
    else if (s->head.registry != s->ctx->id) rc = SHMIPC_ESTATE; /* and the file stays open */
    return rc;
}

static int shmipc__segment_map(shmipc_segment *s)
{
    void *p = NULL;
    int rc = shmipc__os_map(s->file.file, s->head.max_bytes, 1, &p);
    if (!rc) s->base = (unsigned char *)p;
    return rc;
}

/* Gives back what is private to this process, and nothing else. */
static void shmipc__segment_drop(shmipc_segment *s)
{
    if (s->base) shmipc__os_unmap(s->base, s->head.max_bytes);
    s->base = NULL;
    shmipc__handle_close(&s->file);
}

static int shmipc__segment_fail(shmipc_segment *s, int rc)
{
    switch (rc) {
    case SHMIPC_ELAYOUT:
        return shmipc__fail(s->ctx, rc, "segment %s has layout %u with features %#x, this program has layout %u with "
                            "features %#x: use one version of shmipc", s->path, (unsigned)s->head.layout,
                            (unsigned)s->head.stamp, SHMIPC__LAYOUT, (unsigned)SHMIPC__STAMP);
    case SHMIPC_EFOREIGN: case SHMIPC_ECORRUPT:
        return shmipc__fail(s->ctx, rc, "segment %s in %s is damaged or was not made by shmipc: unlink it", s->path,
                            s->ctx->path);
    case SHMIPC_ESTATE:
        return shmipc__fail(s->ctx, rc, "segment %s in %s is left from a registry that was deleted: a sweep removes it "
                            "when nobody uses it", s->path, s->ctx->path);
    case SHMIPC_ENOSPC:
        return shmipc__fail(s->ctx, rc, "no memory for segment \"%s\": the file system of %s is full; enlarge it "
                            "(mount -o remount,size=..., docker --shm-size) or set SHMIPC_DIR", s->name, s->ctx->path);
    default: return shmipc__fail(s->ctx, rc, "segment \"%s\" in %s: %s", s->name, s->ctx->path, shmipc_strerror(rc));
    }
}

/* ---- removing ---- */

/* 1 if it must stay a while for what is in it. Nobody living is attached, so nobody changes the answer but somebody who
 * attaches, and he raises K: the deadline carries K, and a new one starts. */
static int shmipc__segment_lingers(shmipc_segment *s, uint64_t k)
{
    uint64_t *word = &shmipc__live(s)->linger, seen = shmipc__load_relaxed_u64(word);
    uint64_t mask = ((uint64_t)1 << 38) - 1, tag = k >> 1 << 38, now = (uint64_t)shmipc__os_now_ns() / 10000000;
    uint64_t span = (uint64_t)s->head.linger_ms / 10 + 1;
    if (!s->head.linger_ms) return 0;
    if (s->kind && s->kind->drained && (!s->kind->validate || s->kind->validate(s) == SHMIPC_OK) &&
        s->kind->drained(s) == 1) {
        return 0;
    }
    s->until = (int64_t)(now + span) * 10000000;
    if ((seen & ~mask) == tag && (seen & mask) <= now + span) {
        s->until = (int64_t)(seen & mask) * 10000000;
        return now < (seen & mask);
    }
    (void)shmipc__cas_relaxed_u64(word, &seen, tag | ((now + span) & mask));
    return 1;
}

/* The first living life in the table, 0 if there is none, or a code. */
static int shmipc__segment_living(shmipc_segment *s, uint64_t *life)
{
    uint32_t i;
    for (i = 0; i < s->head.capacity; i++) {
        uint64_t a = shmipc__load_relaxed_u64(&shmipc__entry_at(s, i)->life);
        int rc = a ? shmipc__life_alive(s->ctx, a) : 0;
        *life = a;
        if (rc) return rc;
    }
    *life = 0;
    return 0;
}

/* Removes the mapped segment if nobody living is attached: SHMIPC__GONE, or SHMIPC__STAYS with the life that keeps it
 * in `living` (0: it lingers), or a code. Any number may do this at once; whatever one leaves undone the next
 * one does. */
static int shmipc__segment_remove(shmipc_segment *s, uint64_t *living)
{
    uint64_t *word = &shmipc__live(s)->k, k = shmipc__load_acquire_u64(word), g = s->head.generation; /* [attach] */
    int rc;
    *living = 0;
    while (!(k & SHMIPC__K_DEAD)) {
        rc = shmipc__segment_living(s, living);
        if (rc) return rc < 0 ? rc : SHMIPC__STAYS;
        if (s->slot && shmipc__load_relaxed_u64(&s->slot->generation) == g && shmipc__segment_lingers(s, k)) {
            return SHMIPC__STAYS;
        }
        if (shmipc__cas_acqrel_u64(word, &k, k | SHMIPC__K_DEAD)) break; /* [attach] */
    }
    if (s->slot) {
        uint64_t seen = g;
        (void)shmipc__cas_relaxed_u64(&s->slot->generation, &seen, 0);
    }
    rc = shmipc__os_unlink(s->ctx->dir.file, s->path);
    return rc && rc != SHMIPC_ENOENT ? rc : SHMIPC__GONE;
}

/* ---- the attach table ---- */

SHMIPC_API int shmipc_segment_holds(shmipc_segment *s, uint32_t index, uint64_t life)
{
    if (!s || index >= s->head.capacity) return 0;
    return shmipc__load_acquire_u64(&shmipc__entry_at(s, index)->life) == life;
}

SHMIPC_API int shmipc_segment_alive(shmipc_segment *s, uint32_t index)
{
    uint64_t life;
    if (!s || index >= s->head.capacity) return 0;
    if (shmipc__ctx_forked(s->ctx)) return SHMIPC_EFORKED;
    life = shmipc__load_acquire_u64(&shmipc__entry_at(s, index)->life);
    return life ? shmipc__life_alive(s->ctx, life) : 0;
}

/* The index is free for the next one only when all that its dead owner held is given back: the last step is one CAS
 * from exactly that life. Dies or stops before: any other sweep does it all again. 1 swept, 0 nothing to do, or a
 * code. */
static int shmipc__entry_sweep(shmipc_segment *s, uint32_t index)
{
    uint64_t life = shmipc__load_relaxed_u64(&shmipc__entry_at(s, index)->life);
    int rc;
    if (life == 0) return 0;
    rc = shmipc__life_alive(s->ctx, life);
    if (rc) return rc < 0 ? rc : 0;
    if (s->head.kind && !s->kind) return 0;
    rc = s->kind && s->kind->sweep ? s->kind->sweep(s, index, life) : SHMIPC_OK;
    if (rc < 0) return rc;
    return shmipc__cas_acqrel_u64(&shmipc__entry_at(s, index)->life, &life, 0); /* [entry] */
}

/* At most `probes` entries, from `start`; how many it freed. One that cannot be freed keeps no other. */
static int shmipc__segment_sweep_some(shmipc_segment *s, uint32_t start, uint32_t probes)
{
    uint32_t i;
    int n = 0, bad = SHMIPC_OK;
    for (i = 0; i < s->head.capacity && probes; i++) {
        uint32_t at = (start + i) % s->head.capacity;
        int rc;
        if (shmipc__load_relaxed_u64(&shmipc__entry_at(s, at)->life) == 0) continue;
        probes--;
        rc = shmipc__entry_sweep(s, at);
        if (rc < 0) bad = rc;
        else n += rc;
    }
    return bad ? bad : n;
}

SHMIPC_API int shmipc_segment_sweep(shmipc_segment *s)
{
    int rc = s ? shmipc_ctx_check(s->ctx) : SHMIPC_EINVAL;
    return rc ? rc : shmipc__segment_sweep_some(s, 0, s->head.capacity);
}

static int shmipc__entry_claim(shmipc_segment *s)
{
    uint32_t i;
    for (i = 0; i < s->head.capacity; i++) {
        shmipc__entry *e = shmipc__entry_at(s, i);
        uint64_t seen = shmipc__load_relaxed_u64(&e->life);
        if (seen == 0 && shmipc__cas_acqrel_u64(&e->life, &seen, s->ctx->life)) { /* [entry] [attach] */
            shmipc__store_relaxed_u32(&e->bell, 0);
            shmipc__store_relaxed_u32(&e->flags, 0);
            s->index = i;
            return SHMIPC_OK;
        }
    }
    return SHMIPC_ETABLE;
}

/* Two who leave at once must not each take the other for still there, or neither removes the segment: what each reads
 * of the table afterwards comes after his own leaving, hence the fence [leave]. */
static void shmipc__entry_leave(shmipc_segment *s)
{
    uint64_t life = s->ctx->life;
    (void)shmipc__cas_acqrel_u64(&shmipc__entry_at(s, s->index)->life, &life, 0); /* [entry] */
    shmipc__fence_seq_cst();                                                      /* [leave] */
}

/* SHMIPC_OK attached; SHMIPC__GONE it is dead. */
static int shmipc__segment_attach(shmipc_segment *s)
{
    int rc = shmipc__entry_claim(s);
    if (rc == SHMIPC_ETABLE) { /* again in any case: another sweep may have been faster */
        (void)shmipc__segment_sweep_some(s, 0, s->head.capacity);
        rc = shmipc__entry_claim(s);
    }
    if (rc) return rc;
    if (shmipc__add_acqrel_u64(&shmipc__live(s)->k, 2) & SHMIPC__K_DEAD) { /* [attach] */
        shmipc__entry_leave(s);
        return SHMIPC__GONE;
    }
    s->attached = 1;
    return SHMIPC_OK;
}

/* ---- opening ---- */

static int shmipc__segment_fits(shmipc_segment *s, const shmipc_segment_config *cfg)
{
    uint32_t kind = cfg->kind ? cfg->kind->kind : 0, layout = cfg->kind ? cfg->kind->layout : 0;
    if (cfg->mode == SHMIPC_CREATE) return shmipc__segment_fail(s, SHMIPC_EEXIST);
    if (s->head.kind != kind) {
        return shmipc__fail(s->ctx, SHMIPC_EKIND, "segment \"%s\" is of kind %u, not %u", s->name,
                            (unsigned)s->head.kind, (unsigned)kind);
    }
    if (s->head.kind_layout != layout) {
        return shmipc__fail(s->ctx, SHMIPC_ELAYOUT, "segment \"%s\" has layout %u of its kind, this program has %u",
                            s->name, (unsigned)s->head.kind_layout, (unsigned)layout);
    }
    if (cfg->match_params &&
        (s->head.params_len != cfg->params_len ||
         (cfg->params_len && memcmp(s->base + SHMIPC__TABLE_AT + s->head.capacity * sizeof(shmipc__entry), cfg->params,
                                    cfg->params_len) != 0))) {
        return shmipc__segment_fail(s, SHMIPC_EMISMATCH);
    }
    return cfg->kind && cfg->kind->validate ? cfg->kind->validate(s) : SHMIPC_OK;
}

static int shmipc__collides(void *arg, const char *file)
{
    return shmipc__file_generation(file) == *(const uint64_t *)arg;
}

/* R leads to a file that is not there: removed by hand, or by another name with the same hash, which must not be
 * robbed. */
static int shmipc__segment_missing(shmipc_segment *s, uint64_t g)
{
    int rc;
    if (shmipc__load_relaxed_u64(&s->slot->generation) != g) return SHMIPC__AGAIN;
    rc = shmipc__os_list(s->ctx->dir.file, shmipc__collides, &g);
    if (rc == 0) return SHMIPC__GONE;
    if (rc < 0) return shmipc__segment_fail(s, rc);
    return shmipc__fail(s->ctx, SHMIPC_ECOLLISION, "the name \"%s\" has the same hash as another: choose another",
                        s->name);
}

/* Joins generation g: SHMIPC_OK, SHMIPC__GONE if it is dead (and R helped on its way), SHMIPC__AGAIN, or a code. */
static int shmipc__segment_join(shmipc_segment *s, const shmipc_segment_config *cfg, uint64_t g)
{
    uint64_t living;
    char name[256];
    int rc;
    memcpy(name, s->name, sizeof name);
    shmipc__file_name(s->path, name, g);
    rc = shmipc__segment_peek(s);
    if (rc == SHMIPC_ENOENT) return shmipc__segment_missing(s, g);
    if (!rc && strcmp(s->name, name) != 0) rc = SHMIPC_ECORRUPT;
    memcpy(s->name, name, sizeof name);
    if (!rc) rc = shmipc__os_share_lock(s->file.file, SHMIPC__BYTE_USED);
    if (rc == SHMIPC_EBUSY) return SHMIPC__GONE; /* taken for a leftover: somebody deleted the registry */
    if (!rc) rc = shmipc__segment_map(s);
    if (rc) return shmipc__segment_fail(s, rc);
    rc = shmipc__segment_remove(s, &living);
    if (rc < 0) return shmipc__segment_fail(s, rc);
    if (rc == SHMIPC__GONE) return rc;
    rc = shmipc__segment_fits(s, cfg);
    if (!rc) rc = shmipc__segment_attach(s);
    if (rc < 0) return rc == SHMIPC_ETABLE ? shmipc__segment_fail(s, rc) : rc;
    if (rc == SHMIPC__GONE) {
        (void)shmipc__segment_remove(s, &living);
        return rc;
    }
    /* Unlinked by name meanwhile: it has a successor, or none. */
    if (shmipc__load_relaxed_u64(&s->slot->generation) != g) {
        s->attached = 0;
        shmipc__entry_leave(s);
        (void)shmipc__segment_remove(s, &living);
        return SHMIPC__AGAIN;
    }
    (void)shmipc__segment_sweep_some(s, s->index, 64);
    return SHMIPC_OK;
}

static void shmipc__segment_describe(shmipc_segment *s, const shmipc_segment_config *cfg, uint64_t g)
{
    shmipc__segment_head *h = &s->head;
    memset(h, 0, sizeof *h);
    h->magic = SHMIPC__SEGMENT_MAGIC;
    h->layout = SHMIPC__LAYOUT;
    h->stamp = SHMIPC__STAMP;
    h->registry = s->ctx->id;
    h->generation = g;
    h->creator = s->ctx->life;
    h->created_ns = shmipc__os_wall_ns();
    h->capacity = cfg->capacity ? cfg->capacity : 256;
    h->params_len = cfg->params ? cfg->params_len : 0;
    h->area = shmipc__area_offset(h->capacity, h->params_len);
    h->max_bytes = h->area + (cfg->max_size ? cfg->max_size : cfg->size);
    h->kind = cfg->kind ? cfg->kind->kind : 0;
    h->kind_layout = cfg->kind ? cfg->kind->layout : 0;
    h->name_len = (uint32_t)strlen(s->name);
    h->linger_ms = cfg->linger_ms;
    h->pid = (uint32_t)shmipc__os_pid();
}

/* Fills a file that nobody else can see, with ourselves attached at index 0. */
static int shmipc__segment_fill(shmipc_segment *s, const shmipc_segment_config *cfg)
{
    int rc = shmipc__os_reserve(s->file.file, 0, s->head.area + cfg->size);
    if (!rc) rc = shmipc__os_share_lock(s->file.file, SHMIPC__BYTE_USED);
    if (!rc) rc = shmipc__segment_map(s);
    if (rc) return rc;
    s->known = s->head.area + cfg->size;
    shmipc__copy_in(s->base, &s->head, sizeof s->head);
    shmipc__copy_in(s->base + 256, s->name, s->head.name_len);
    if (s->head.params_len) {
        shmipc__copy_in(s->base + SHMIPC__TABLE_AT + s->head.capacity * sizeof(shmipc__entry), cfg->params,
                        s->head.params_len);
    }
    shmipc__store_relaxed_u64(&shmipc__live(s)->k, 2);
    shmipc__store_relaxed_u64(&shmipc__live(s)->size, s->known);
    shmipc__store_relaxed_u64(&shmipc__entry_at(s, 0)->life, s->ctx->life);
    s->index = 0;
    return cfg->init ? cfg->init(s, cfg->init_arg) : SHMIPC_OK;
}

/* Publishes a new generation in place of `old`, which is 0 or dead. */
static int shmipc__segment_make(shmipc_segment *s, const shmipc_segment_config *cfg, uint64_t old)
{
    shmipc_ctx *ctx = s->ctx;
    shmipc__os_draft d;
    uint64_t g = shmipc__add_acqrel_u64(&((shmipc__registry *)(void *)ctx->registry)->next_generation, 1), seen;
    int rc;
    if (g == 0 || g > SHMIPC__NUMBER_MAX) return shmipc__segment_fail(s, SHMIPC_ECORRUPT);
    shmipc__segment_describe(s, cfg, g);
    shmipc__file_name(s->path, s->name, g);
    rc = shmipc__os_draft_make(ctx->dir.file, ctx->shared, &d);
    if (rc) return shmipc__segment_fail(s, rc);
    rc = shmipc__handle_keep(&s->file, d.file);
    if (!rc) rc = shmipc__segment_fill(s, cfg);
    if (!rc) {
        rc = shmipc__os_draft_link(ctx->dir.file, &d, s->path);
        if (rc == SHMIPC_ENOENT || rc == SHMIPC_EEXIST) rc = SHMIPC__AGAIN;
    }
    d.file = SHMIPC__OS_NONE; /* the segment's now */
    shmipc__os_draft_drop(ctx->dir.file, &d);
    if (rc) return rc < 0 ? shmipc__segment_fail(s, rc) : rc;
    seen = shmipc__load_relaxed_u64(&s->slot->generation);
    if ((seen == 0 || seen == old) && shmipc__cas_acqrel_u64(&s->slot->generation, &seen, g)) { /* [publish] */
        s->attached = 1;
        if (old) {
            char file[256];
            shmipc__file_name(file, s->name, old);
            (void)shmipc__os_unlink(ctx->dir.file, file);
        }
        return SHMIPC_OK;
    }
    (void)shmipc__or_acqrel_u64(&shmipc__live(s)->k, SHMIPC__K_DEAD);
    (void)shmipc__os_unlink(ctx->dir.file, s->path);
    return SHMIPC__AGAIN;
}

static int shmipc__segment_try(shmipc_segment *s, const shmipc_segment_config *cfg)
{
    uint64_t g;
    int rc = shmipc__name_find(s->ctx, shmipc__name_key(s->name), cfg->mode != SHMIPC_OPEN, &s->slot);
    if (rc == SHMIPC_ETABLE) {
        return shmipc__fail(s->ctx, rc, "the registry in %s has no room for the name \"%s\": it keeps each name for "
                            "good, about a million different ones; stop all who use the directory and remove its file "
                            SHMIPC__REGISTRY_FILE, s->ctx->path, s->name);
    }
    if (rc) return shmipc__segment_fail(s, rc);
    g = shmipc__load_acquire_u64(&s->slot->generation); /* [publish] */
    if (g > SHMIPC__NUMBER_MAX) return shmipc__segment_fail(s, SHMIPC_ECORRUPT);
    if (g) {
        rc = shmipc__segment_join(s, cfg, g);
        if (rc != SHMIPC__GONE) return rc;
        shmipc__segment_drop(s);
    }
    return cfg->mode == SHMIPC_OPEN ? shmipc__segment_fail(s, SHMIPC_ENOENT) : shmipc__segment_make(s, cfg, g);
}

SHMIPC_API void shmipc_segment_config_init(shmipc_segment_config *cfg)
{
    if (cfg) memset(cfg, 0, sizeof *cfg);
}

static int shmipc__segment_arguments(shmipc_ctx *ctx, const char *name, const shmipc_segment_config *cfg)
{
    const char *fault = name ? shmipc__name_fault(name, cfg->name_len ? cfg->name_len : strlen(name)) : "is NULL";
    int ours = cfg->kind && cfg->kind->kind == SHMIPC__BELLS_KIND;
    uint64_t max = cfg->max_size ? cfg->max_size : cfg->size;
    if (fault) return shmipc__fail(ctx, SHMIPC_EINVAL, "name %s", fault);
    if (!ours && strncmp(name, SHMIPC__RESERVED, sizeof SHMIPC__RESERVED - 1) == 0) {
        return shmipc__fail(ctx, SHMIPC_EINVAL, "names that begin with \"" SHMIPC__RESERVED "\" are the library's own");
    }
    if (cfg->mode < SHMIPC_OPEN || cfg->mode > SHMIPC_OPEN_OR_CREATE) {
        return shmipc__fail(ctx, SHMIPC_EINVAL, "mode is unknown");
    }
    if (cfg->capacity > SHMIPC__CAPACITY_MAX) return shmipc__fail(ctx, SHMIPC_EINVAL, "capacity is above 4096");
    if (cfg->params_len > SHMIPC__PARAMS_MAX || (cfg->params_len && !cfg->params)) {
        return shmipc__fail(ctx, SHMIPC_EINVAL, "params_len is above 4096, or params is NULL");
    }
    if (max < cfg->size || max > (uint64_t)INT64_MAX / 2) {
        return shmipc__fail(ctx, SHMIPC_EINVAL, "max_size is below size or too large");
    }
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_segment_open(shmipc_ctx *ctx, const char *name, const shmipc_segment_config *cfg,
                                   shmipc_segment **out)
{
    shmipc_segment_config none;
    shmipc_segment *s;
    int i, rc = out ? shmipc_ctx_check(ctx) : SHMIPC_EINVAL;
    shmipc_segment_config_init(&none);
    if (!cfg) cfg = &none;
    if (!rc) rc = shmipc__segment_arguments(ctx, name, cfg);
    if (rc) return rc;
    s = (shmipc_segment *)calloc(1, sizeof *s);
    if (!s) return SHMIPC_ENOMEM;
    s->ctx = ctx;
    s->kind = cfg->kind;
    s->file.file = SHMIPC__OS_NONE;
    memcpy(s->name, name, cfg->name_len ? cfg->name_len : strlen(name));
    /* Each new attempt follows a step that another process completed. */
    for (i = 0, rc = SHMIPC__AGAIN; rc == SHMIPC__AGAIN && i < 1000; i++) {
        rc = shmipc__segment_try(s, cfg);
        if (rc) shmipc__segment_drop(s);
    }
    if (rc) {
        free(s);
        return rc > 0 ? SHMIPC_EBUSY : rc;
    }
    shmipc__os_mutex_lock(&ctx->mutex);
    s->next = ctx->segments;
    if (s->next) s->next->prev = s;
    ctx->segments = s;
    shmipc__os_mutex_unlock(&ctx->mutex);
    *out = s;
    return SHMIPC_OK;
}

/* May still give back what it holds. When the system does not say, its exact life is proof enough. */
static int shmipc__ctx_ours(shmipc_ctx *ctx)
{
    int rc = shmipc_ctx_check(ctx);
    return rc != SHMIPC_EFORKED && rc != SHMIPC_EOWNERDEAD && rc != SHMIPC_ESTATE;
}

SHMIPC_API void shmipc_segment_close(shmipc_segment *s)
{
    shmipc_ctx *ctx;
    uint64_t living;
    int ours;
    if (!s) return;
    ctx = s->ctx;
    ours = shmipc__ctx_ours(ctx);
    if (!shmipc__ctx_forked(ctx)) shmipc__os_mutex_lock(&ctx->mutex);
    if (s->next) s->next->prev = s->prev;
    if (s->prev) s->prev->next = s->next;
    else ctx->segments = s->next;
    if (!shmipc__ctx_forked(ctx)) shmipc__os_mutex_unlock(&ctx->mutex);
    if (ours) { /* otherwise others have taken us for dead, and may be at it */
        (void)shmipc__segment_sweep_some(s, s->index + 1, 16);
        if (s->kind && s->kind->sweep) (void)s->kind->sweep(s, s->index, ctx->life);
        shmipc__entry_leave(s);
        (void)shmipc__segment_remove(s, &living);
    }
    shmipc__segment_drop(s);
    free(s);
}

/* Works without looking into the file, so that a damaged one can be removed. Dies after the CAS: an orphan. */
SHMIPC_API int shmipc_segment_unlink(shmipc_ctx *ctx, const char *name)
{
    shmipc__name *slot;
    char file[256];
    const char *fault;
    int rc = shmipc_ctx_check(ctx);
    if (rc) return rc;
    fault = name ? shmipc__name_fault(name, strlen(name)) : "is NULL";
    if (fault) return shmipc__fail(ctx, SHMIPC_EINVAL, "name %s", fault);
    rc = shmipc__name_find(ctx, shmipc__name_key(name), 0, &slot);
    while (rc == SHMIPC_OK) {
        uint64_t g = shmipc__load_acquire_u64(&slot->generation);
        if (g == 0) rc = SHMIPC_ENOENT;
        else if (shmipc__cas_acqrel_u64(&slot->generation, &g, 0)) {
            shmipc__file_name(file, name, g);
            rc = shmipc__os_unlink(ctx->dir.file, file);
            break;
        }
    }
    return rc ? shmipc__fail(ctx, rc, "unlinking \"%s\": %s", name, shmipc_strerror(rc)) : SHMIPC_OK;
}

/* ---- memory ---- */

/* How much of the file is reserved: what the segment says, once the file itself bears it out. */
static uint64_t shmipc__segment_known(shmipc_segment *s, uint64_t need)
{
    uint64_t known = shmipc__load_relaxed_u64(&s->known), said;
    shmipc__os_info st;
    if (need <= known || need > s->head.max_bytes) return known;
    said = shmipc__load_acquire_u64(&shmipc__live(s)->size); /* [size] */
    if (said <= known || said > s->head.max_bytes || shmipc__os_stat(s->file.file, &st)) return known;
    if (st.size < said) said = st.size;
    if (said <= known) return known;
    shmipc__store_relaxed_u64(&s->known, said);
    return said;
}

SHMIPC_API int shmipc_segment_at(shmipc_segment *s, uint64_t offset, uint64_t len, void **out)
{
    uint64_t max;
    if (!s || !out) return SHMIPC_EINVAL;
    if (shmipc__load_relaxed_u32(&s->ctx->forked)) return SHMIPC_EFORKED;
    max = s->head.max_bytes - s->head.area;
    if (offset > max || len > max - offset) return SHMIPC_ECORRUPT;
    if (shmipc__segment_known(s, s->head.area + offset + len) < s->head.area + offset + len) return SHMIPC_ECORRUPT;
    *out = s->base + s->head.area + offset;
    return SHMIPC_OK;
}

SHMIPC_API uint64_t shmipc_segment_size(shmipc_segment *s)
{
    return s ? shmipc__segment_known(s, s->head.max_bytes) - s->head.area : 0;
}

SHMIPC_API int shmipc_segment_params(shmipc_segment *s, const void **params, uint32_t *len)
{
    if (!s || !params || !len) return SHMIPC_EINVAL;
    *params = s->base + SHMIPC__TABLE_AT + s->head.capacity * sizeof(shmipc__entry);
    *len = s->head.params_len;
    return SHMIPC_OK;
}

/* Backs these bytes of the file with memory and says so. What lies between them and the old end stays a hole: its pages
 * were never given out. Dies before the CAS: memory that the next one takes over. */
static int shmipc__segment_back(shmipc_segment *s, uint64_t begin, uint64_t end)
{
    uint64_t seen;
    int rc = shmipc__os_reserve(s->file.file, begin, end - begin);
    if (rc) return shmipc__segment_fail(s, rc);
    seen = shmipc__load_relaxed_u64(&shmipc__live(s)->size);
    while (seen < end && !shmipc__cas_acqrel_u64(&shmipc__live(s)->size, &seen, end)) {} /* [size] */
    return shmipc__segment_known(s, end) >= end ? SHMIPC_OK : shmipc__segment_fail(s, SHMIPC_ECORRUPT);
}

SHMIPC_API int shmipc_segment_grow(shmipc_segment *s, uint64_t size)
{
    uint64_t want, known;
    int rc = s ? shmipc_ctx_check(s->ctx) : SHMIPC_EINVAL;
    if (rc) return rc;
    if (size > s->head.max_bytes - s->head.area) {
        return shmipc__fail(s->ctx, SHMIPC_EINVAL, "size is above the max_size of segment \"%s\"", s->name);
    }
    want = s->head.area + size;
    known = shmipc__segment_known(s, want);
    return known >= want ? SHMIPC_OK : shmipc__segment_back(s, known, want); /* what is below may have been punched */
}

SHMIPC_API int shmipc_segment_punch(shmipc_segment *s, uint64_t offset, uint64_t len)
{
    uint64_t page = SHMIPC__PAGE - 1, begin, end;
    void *p;
    int rc = s ? shmipc_ctx_check(s->ctx) : SHMIPC_EINVAL;
    if (rc) return rc;
    if (shmipc_segment_at(s, offset, len, &p)) return shmipc__fail(s->ctx, SHMIPC_EINVAL, "offset or len lies outside");
    begin = s->head.area + ((offset + page) & ~page);
    end = s->head.area + ((offset + len) & ~page);
    rc = begin < end ? shmipc__os_punch(s->file.file, begin, end - begin) : SHMIPC_OK;
    return rc ? shmipc__segment_fail(s, rc) : SHMIPC_OK;
}

SHMIPC_API int shmipc_segment_reserve(shmipc_segment *s, uint64_t offset, uint64_t len)
{
    uint64_t page = SHMIPC__PAGE - 1, max, end;
    int rc = s ? shmipc_ctx_check(s->ctx) : SHMIPC_EINVAL;
    if (rc) return rc;
    max = s->head.max_bytes - s->head.area;
    if (offset > max || len > max - offset) return shmipc__fail(s->ctx, SHMIPC_EINVAL, "offset or len lies outside");
    end = s->head.area + ((offset + len + page) & ~page);
    if (end > s->head.max_bytes) end = s->head.max_bytes;
    return len ? shmipc__segment_back(s, s->head.area + (offset & ~page), end) : SHMIPC_OK;
}

SHMIPC_API uint32_t shmipc_segment_index(const shmipc_segment *s) { return s ? s->index : 0; }
SHMIPC_API uint64_t shmipc_segment_generation(const shmipc_segment *s) { return s ? s->head.generation : 0; }

/* ---- looking and sweeping without attaching ---- */

static void shmipc__segment_blank(shmipc_segment *s, shmipc_ctx *ctx, const char *file)
{
    memset(s, 0, sizeof *s);
    s->ctx = ctx;
    s->file.file = SHMIPC__OS_NONE;
    snprintf(s->path, sizeof s->path, "%s", file);
}

static int shmipc__segment_table(shmipc_segment *s, shmipc_segment_info *info)
{
    uint32_t i;
    int rc = shmipc__segment_map(s);
    for (i = 0; rc >= 0 && i < s->head.capacity; i++) {
        uint64_t life = shmipc__load_acquire_u64(&shmipc__entry_at(s, i)->life);
        rc = life ? shmipc__life_alive(s->ctx, life) : 0;
        info->users += life && rc == 1;
        info->dead += life && rc == 0;
    }
    return rc < 0 ? rc : SHMIPC_OK;
}

/* Looks at one file. What is wrong with the file goes into `status`; what is wrong with us is the result. */
static int shmipc__segment_look(shmipc_ctx *ctx, const char *file, shmipc_segment_info *info)
{
    shmipc_segment s;
    int rc;
    shmipc__segment_blank(&s, ctx, file);
    memset(info, 0, sizeof *info);
    snprintf(info->file, sizeof info->file, "%s", file);
    info->generation = shmipc__file_generation(file);
    rc = shmipc__segment_peek(&s);
    info->size = s.known;
    info->status = rc;
    if (rc) {
        shmipc__segment_drop(&s);
        return rc == SHMIPC_ENFILE || rc == SHMIPC_ENOENT ? rc : SHMIPC_OK;
    }
    memcpy(info->name, s.name, sizeof info->name);
    info->kind = s.head.kind;
    info->capacity = s.head.capacity;
    info->size = s.known - s.head.area;
    info->max_size = s.head.max_bytes - s.head.area;
    info->created_ns = s.head.created_ns;
    info->creator = s.head.creator;
    if (shmipc__name_find(ctx, shmipc__name_key(s.name), 0, &s.slot) == SHMIPC_OK) {
        info->current = shmipc__load_acquire_u64(&s.slot->generation) == s.head.generation;
    }
    rc = shmipc__segment_table(&s, info);
    shmipc__segment_drop(&s);
    return rc;
}

SHMIPC_API int shmipc_segment_inspect(shmipc_ctx *ctx, const char *name, shmipc_segment_info *info)
{
    shmipc__name *slot;
    char file[256];
    uint64_t g;
    const char *fault;
    int rc = info ? shmipc_ctx_check(ctx) : SHMIPC_EINVAL;
    if (rc) return rc;
    fault = name ? shmipc__name_fault(name, strlen(name)) : "is NULL";
    if (fault) return shmipc__fail(ctx, SHMIPC_EINVAL, "name %s", fault);
    rc = shmipc__name_find(ctx, shmipc__name_key(name), 0, &slot);
    g = rc ? 0 : shmipc__load_acquire_u64(&slot->generation);
    if (!rc && !g) rc = SHMIPC_ENOENT;
    if (!rc) {
        shmipc_segment_info seen;
        shmipc__file_name(file, name, g);
        rc = shmipc__segment_look(ctx, file, &seen);
        if (!rc) *info = seen;
    }
    return rc ? shmipc__fail(ctx, rc, "looking at \"%s\": %s", name, shmipc_strerror(rc)) : SHMIPC_OK;
}

typedef struct shmipc__listing {
    shmipc_ctx *ctx;
    shmipc_segment_info *infos;
    uint32_t capacity, count;
} shmipc__listing;

static int shmipc__list_each(void *arg, const char *file)
{
    shmipc__listing *l = (shmipc__listing *)arg;
    int rc = SHMIPC_OK;
    if (!shmipc__file_generation(file)) return SHMIPC_OK;
    if (l->count < l->capacity) rc = shmipc__segment_look(l->ctx, file, &l->infos[l->count]);
    if (rc) return rc == SHMIPC_ENOENT ? SHMIPC_OK : rc;
    l->count++;
    return SHMIPC_OK;
}

SHMIPC_API int shmipc_segment_list(shmipc_ctx *ctx, shmipc_segment_info *infos, uint32_t capacity)
{
    shmipc__listing l;
    int rc = infos || !capacity ? shmipc_ctx_check(ctx) : SHMIPC_EINVAL;
    if (rc) return rc;
    l.ctx = ctx;
    l.infos = infos;
    l.capacity = capacity;
    l.count = 0;
    rc = shmipc__os_list(ctx->dir.file, shmipc__list_each, &l);
    return rc ? shmipc__fail_os(ctx, rc, "listing") : (int)l.count;
}

typedef struct shmipc__sweeping {
    shmipc_ctx *ctx;
    uint32_t at, skip, more; /* more 0xffffffff: all */
    shmipc__left left;
    int removed, failed;
} shmipc__sweeping;

static const shmipc_kind *shmipc__kind_find(shmipc_ctx *ctx, uint32_t kind)
{
    uint32_t i;
    for (i = 0; i < ctx->kind_count; i++) {
        if (ctx->kinds[i] && ctx->kinds[i]->kind == kind) return ctx->kinds[i];
    }
    return NULL;
}

/* A draft under a name whose maker does not hold its lock; see shmipc__os_draft. */
static int shmipc__sweep_draft(shmipc_ctx *ctx, const char *file)
{
    shmipc__os_file f = SHMIPC__OS_NONE;
    int rc = shmipc__os_open(ctx->dir.file, file, &f);
    if (rc) return rc;
    rc = shmipc__os_probe(f, 0);
    shmipc__os_close(&f);
    if (rc == 0) rc = shmipc__os_unlink(ctx->dir.file, file);
    return rc == 0 ? 1 : rc < 0 ? rc : 0;
}

/* Where a process receives notices; its life stands in the name. */
static int shmipc__sweep_post(shmipc_ctx *ctx, const char *file)
{
    int rc = shmipc__life_alive(ctx, strtoull(file + sizeof SHMIPC__POST_PREFIX - 1, NULL, 16));
    if (rc) return rc < 0 ? rc : 0;
    return shmipc__os_unlink(ctx->dir.file, file) == SHMIPC_OK;
}

/* A segment of a registry that was deleted, when nobody uses it: neither can its name be found nor does anybody know
 * who its lives are. Whose own registry was deleted removes nothing that way: the next one's users are none of his. */
static int shmipc__sweep_leftover(shmipc_segment *s)
{
    uint64_t links = 0;
    int rc = shmipc__os_try_lock(s->file.file, SHMIPC__BYTE_USED);
    if (rc) return rc == SHMIPC_EBUSY ? 0 : rc;
    if (!shmipc__os_is(s->ctx->probe.file, s->ctx->probe.id, &links) || !links) return 0;
    if (!shmipc__os_is(s->file.file, s->file.id, &links) || !links) return 0;
    rc = shmipc__os_unlink(s->ctx->dir.file, s->path);
    return rc ? rc : 1;
}

/* 1 removed, 0 left, or a code. What is damaged stays for people to look at: shmipc_segment_unlink removes it. */
static int shmipc__sweep_file(shmipc_ctx *ctx, const char *file, shmipc__left *left)
{
    shmipc_segment s;
    uint64_t living = 0;
    int rc;
    if (strncmp(file, SHMIPC__OS_DRAFT_PREFIX, sizeof SHMIPC__OS_DRAFT_PREFIX - 1) == 0) {
        return shmipc__sweep_draft(ctx, file);
    }
    if (strncmp(file, SHMIPC__POST_PREFIX, sizeof SHMIPC__POST_PREFIX - 1) == 0) return shmipc__sweep_post(ctx, file);
    if (!shmipc__file_generation(file)) return 0;
    shmipc__segment_blank(&s, ctx, file);
    rc = shmipc__segment_peek(&s);
    if (rc == SHMIPC_ESTATE) {
        rc = shmipc__sweep_leftover(&s);
        shmipc__segment_drop(&s);
        return rc;
    }
    if (rc) return rc == SHMIPC_ENFILE ? rc : 0;
    rc = shmipc__name_find(ctx, shmipc__name_key(s.name), 0, &s.slot);
    if (rc == SHMIPC_ENOENT) rc = SHMIPC_OK;
    if (!rc) rc = shmipc__segment_map(&s);
    s.kind = shmipc__kind_find(ctx, s.head.kind);
    if (!rc) rc = shmipc__segment_remove(&s, &living);
    shmipc__segment_drop(&s);
    if (living && living != ctx->life) left->living++;
    if (rc == SHMIPC__STAYS && !living && (!left->until || s.until < left->until)) left->until = s.until;
    return rc == SHMIPC__GONE ? 1 : rc < 0 ? rc : 0;
}

static int shmipc__sweep_each(void *arg, const char *file)
{
    shmipc__sweeping *w = (shmipc__sweeping *)arg;
    int rc;
    if (w->at++ < w->skip) return SHMIPC_OK;
    rc = shmipc__sweep_file(w->ctx, file, &w->left);
    if (rc > 0) w->removed++;
    if (rc < 0 && rc != SHMIPC_ENOENT) w->failed = rc;
    return w->more != 0xffffffffu && --w->more == 0 ? 1 : SHMIPC_OK;
}

/* Goes through the directory, or on from where the last slice ended. A file that cannot be handled stops nothing. */
static int shmipc__sweep_dir(shmipc_ctx *ctx, uint32_t max_files, shmipc__left *left)
{
    shmipc__sweeping w;
    int rc;
    memset(&w, 0, sizeof w);
    w.ctx = ctx;
    w.more = max_files ? max_files : 0xffffffffu;
    w.skip = max_files ? shmipc__load_relaxed_u32(&ctx->sweep_at) : 0;
    rc = shmipc__os_list(ctx->dir.file, shmipc__sweep_each, &w);
    if (max_files) shmipc__store_relaxed_u32(&ctx->sweep_at, rc == 1 ? w.at - (uint32_t)w.removed : 0);
    if (left) *left = w.left;
    if (rc < 0) return shmipc__fail_os(ctx, rc, "sweeping");
    return w.removed == 0 && w.failed ? shmipc__fail_os(ctx, w.failed, "sweeping") : w.removed;
}

SHMIPC__COLD_END

/* ---------------------------------------------------------------------------------------------
 * >>block  Size-class blocks in extents: no splitting, no merging, memory given back
 *
 * A region grows by extents, powers of two from 64 KiB up; each is open for one size class, or closed and without
 * memory. Four classes per doubling waste at most a fifth of a block. Blocks of up to 64 KiB share a 64 KiB extent; a
 * larger one has an extent of its own, of which only the block is backed by memory. A word per block is the only truth
 * about it. These words outlive the memory of their extent, so that a value never comes back to mislead a late CAS.
 *
 *   region  0     stamp u64, extents u32, -, size u64, data u64     written once by the maker, stamp last
 *           64    current u32[160]: 1 + the youngest extent of each class, kept open though empty; a hint
 *           1024  a descriptor of 128 bytes for each extent
 *                   0  place  u64  used 1 | order 7 | - 24 | offset from data in 64 KiB 32; 0 = from here on unused
 *                   8  word   u64  generation 30 | class 8 | CLOSED OPENING OPEN CLOSING 2 | owner 24
 *                  64  blocks u64[8], the words of the first blocks
 *           ...   tables, 8 KiB for each extent: the words of blocks 8 to 1023, touched only where used
 *           data  the extents, one after the other
 *   block word      generation 38 | SEALED FREE OWNED 2 | owner 24 (0: the structure that names the block owns it)
 *   handle          generation 34 | block 10 | 1 + extent 20; never 0
 *
 *   field     written by, always by CAS from the exact value seen unless said otherwise
 *   place     whoever appends, once: 0 -> place
 *   word      CLOSED -> OPENING(me) -> OPEN -> CLOSING(me) -> CLOSED, next generation, or back to OPEN; a sweep takes
 *             OPENING and CLOSING over from the dead
 *   blocks    FREE -> OWNED: anybody. OWNED -> OWNED(other), -> FREE next generation: the owner, or a sweep if he is
 *             dead. FREE -> SEALED, SEALED -> FREE next generation (a store): who has the extent OPENING or CLOSING
 *
 * A closer seals one free block after the other. One that is taken first ends it, and all are unsealed; when all are
 * sealed nobody can take any, and the memory is punched. Memory is reserved before any block is unsealed.
 *
 *   label  release                             acquire
 *   [K1]   block FREE (free, unseal)           the look before a claim, which takes exactly what it saw: the last
 *                                              owner's accesses are over
 *   [K2]   block FREE (unseal)                 the same look, so that the extent word read next is not older: it is
 *                                              still the one whose class we believe in
 *   [K3]   block FREE (free)                   the seal: accesses are over before memory is punched
 *   [K4]   extent CLOSED, OPEN                 the OPENING of the next: punched before it is reserved again; whoever
 *                                              sees it open: its memory and its words are reserved
 *   [K5]   place                               whoever sees it: the descriptor behind it is reserved
 *   [K6]   block OWNED(other)                  the next change of owner: what was written before the hand-over is there
 *   [K7]   block OWNED (claim), extent word    a sweep's look, so that the attach entry read next is not older: had the
 *          OPENING                             index changed hands before the claim, it would show
 *
 * The process dies (or stops for good) ...
 *   between append and open: a closed extent, for anybody. (Or a reserved descriptor: for the next append.)
 *   while OPENING or CLOSING: the extent is passed over until a sweep closes it, or opens it again if blocks are owned.
 *   after a claim: a sweep frees the block, unless `published` says that some structure names it; then owner 0.
 *   between freeing and closing: an open empty extent, for its class, for the next free in it, or for a trim.
 * ------------------------------------------------------------------------------------------- */

#define SHMIPC__BLOCKS_STAMP 0x31306b6c62696d73u /* "smiblk01" */
#define SHMIPC__CLASSES 137                      /* 64 bytes to 1 TiB */
#define SHMIPC__UNIT ((uint64_t)65536)
#define SHMIPC__NO_EXTENT 0xffffffffu
#define SHMIPC__NOBODY 0xffffffffu
#define SHMIPC__PLACELESS 0xffffffu /* an owner that nobody is: sweeps blocks, but takes no extent */

enum { SHMIPC__CLOSED, SHMIPC__OPENING, SHMIPC__OPEN, SHMIPC__CLOSING };
enum { SHMIPC__SEALED, SHMIPC__FREE, SHMIPC__OWNED };

typedef struct shmipc__extent {
    uint64_t place, word, reserved[6], blocks[8];
} shmipc__extent;
typedef struct shmipc__region {
    uint64_t stamp;
    uint32_t extents, reserved0;
    uint64_t size, data, reserved1[4];
    uint32_t current[160], reserved2[80];
} shmipc__region;
SHMIPC__STATIC_ASSERT(sizeof(shmipc__extent) == 128 && offsetof(shmipc__extent, blocks) == 64, "layout of an extent");
SHMIPC__STATIC_ASSERT(sizeof(shmipc__region) == 1024 && offsetof(shmipc__region, current) == 64, "layout of a region");

/* A region as one thread sees it; the owner is the small index (not 0) of its attachment. The region lies at a multiple
 * of the page size. reserve: memory for these bytes now, or an error; punch: give whole pages back. */
typedef struct shmipc__blocks {
    unsigned char *base;
    uint64_t size, data;
    uint32_t extents, owner, known, next;
    int (*reserve)(void *arg, uint64_t offset, uint64_t len);
    int (*punch)(void *arg, uint64_t offset, uint64_t len);
    void *arg;
    uint32_t cursor[SHMIPC__CLASSES];
} shmipc__blocks;

/* An extent and what its words said, validated. */
typedef struct shmipc__extent_view {
    shmipc__extent *at;
    uint64_t word, offset, block_size;
    uint32_t index, order, cls, state, owner, count;
} shmipc__extent_view;

/* ---- words ---- */

SHMIPC__INLINE uint64_t shmipc__extent_word(uint64_t generation, uint32_t cls, uint32_t state, uint32_t owner)
{
    return generation << 34 | (uint64_t)cls << 26 | (uint64_t)state << 24 | owner;
}
SHMIPC__INLINE uint64_t shmipc__block_word(uint64_t generation, uint32_t state, uint32_t owner)
{
    return generation << 26 | (uint64_t)state << 24 | owner;
}
SHMIPC__INLINE uint32_t shmipc__word_state(uint64_t w) { return (uint32_t)(w >> 24 & 3); }
SHMIPC__INLINE uint32_t shmipc__word_owner(uint64_t w) { return (uint32_t)(w & 0xffffff); }
SHMIPC__INLINE uint64_t shmipc__block_freed(uint64_t w) { return shmipc__block_word((w >> 26) + 1, SHMIPC__FREE, 0); }

SHMIPC__INLINE uint64_t shmipc__class_size(uint32_t cls)
{
    return cls ? (uint64_t)(5 + (cls - 1) % 4) << (4 + (cls - 1) / 4) : 64;
}

/* The class of a size, SHMIPC__CLASSES when there is none. */
static uint32_t shmipc__class_of(uint64_t size)
{
    uint32_t k = 6;
    if (size <= 64) return 0;
    if (size > shmipc__class_size(SHMIPC__CLASSES - 1)) return SHMIPC__CLASSES;
    while ((size - 1) >> (k + 1)) k++;
    return 4 * (k - 6) + (uint32_t)((size - 1) >> (k - 2)) - 3;
}

static uint32_t shmipc__class_order(uint32_t cls)
{
    uint32_t order = 0;
    while (SHMIPC__UNIT << order < shmipc__class_size(cls)) order++;
    return order;
}

/* ---- the region ---- */

static uint64_t shmipc__blocks_table(const shmipc__blocks *b, uint32_t extent)
{
    uint64_t tables = (sizeof(shmipc__region) + (uint64_t)b->extents * sizeof(shmipc__extent) + 65535) / 65536 * 65536;
    return tables + (uint64_t)extent * 8192;
}

static shmipc__extent *shmipc__blocks_extent(const shmipc__blocks *b, uint32_t i)
{
    return (shmipc__extent *)(void *)(b->base + sizeof(shmipc__region)) + i;
}

static uint64_t *shmipc__blocks_word(const shmipc__blocks *b, uint32_t extent, uint32_t block)
{
    if (block < 8) return &shmipc__blocks_extent(b, extent)->blocks[block];
    return (uint64_t *)(void *)(b->base + shmipc__blocks_table(b, extent)) + block;
}

/* Connects to a region, which `make` says to make first: then nobody else may know it yet. `extents` bounds how many
 * there ever are; small ones cost 128 bytes each and up to 8 KiB for their words. */
SHMIPC__UNUSED static int shmipc__blocks_open(shmipc__blocks *b, int make)
{
    shmipc__region *r = (shmipc__region *)(void *)b->base;
    uint32_t i;
    int rc;
    if (!r || (uintptr_t)r % 4096 || !b->reserve || !b->punch || !b->owner || b->owner > 0xffffff) return SHMIPC_EINVAL;
    if (b->extents == 0 || b->extents >= 1 << 20 || b->size > (uint64_t)1 << 47) return SHMIPC_EINVAL;
    b->data = (shmipc__blocks_table(b, b->extents) + 65535) / 65536 * 65536;
    if (b->size < b->data + SHMIPC__UNIT) return SHMIPC_EINVAL;
    b->known = 0;
    b->next = b->owner * 61; /* so that we do not all begin at one place */
    for (i = 0; i < SHMIPC__CLASSES; i++) b->cursor[i] = 0;
    if (make) {
        rc = b->reserve(b->arg, 0, sizeof *r + sizeof(shmipc__extent));
        if (rc) return rc;
        shmipc__store_relaxed_u32(&r->extents, b->extents);
        shmipc__store_relaxed_u64(&r->size, b->size);
        shmipc__store_relaxed_u64(&r->data, b->data);
        shmipc__store_release_u64(&r->stamp, SHMIPC__BLOCKS_STAMP);
    }
    if (shmipc__load_acquire_u64(&r->stamp) != SHMIPC__BLOCKS_STAMP) return SHMIPC_EFOREIGN;
    if (shmipc__load_relaxed_u32(&r->extents) != b->extents || shmipc__load_relaxed_u64(&r->size) != b->size ||
        shmipc__load_relaxed_u64(&r->data) != b->data) return SHMIPC_EMISMATCH;
    return SHMIPC_OK;
}

/* Reads extent i. SHMIPC_EAGAIN: not there (yet). A descriptor is touched only when the one before it is in use, for
 * then it has been reserved. [K5] */
static int shmipc__extent_read(shmipc__blocks *b, uint32_t i, shmipc__extent_view *v)
{
    uint64_t place;
    while (b->known <= i && b->known < b->extents) {
        if (!shmipc__load_acquire_u64(&shmipc__blocks_extent(b, b->known)->place)) return SHMIPC_EAGAIN;
        b->known++;
    }
    if (i >= b->known) return SHMIPC_EAGAIN;
    v->at = shmipc__blocks_extent(b, i);
    v->index = i;
    place = shmipc__load_relaxed_u64(&v->at->place);
    v->order = (uint32_t)(place >> 56 & 127);
    v->offset = b->data + (place & 0xffffffff) * SHMIPC__UNIT;
    if (!(place >> 63) || v->order > 31 || v->offset > b->size || SHMIPC__UNIT << v->order > b->size - v->offset) {
        return SHMIPC_ECORRUPT;
    }
    v->word = shmipc__load_acquire_u64(&v->at->word); /* [K4] */
    v->state = shmipc__word_state(v->word);
    v->owner = shmipc__word_owner(v->word);
    v->cls = (uint32_t)(v->word >> 26 & 255);
    if (v->state == SHMIPC__CLOSED) return SHMIPC_OK;
    if (v->cls >= SHMIPC__CLASSES || shmipc__class_order(v->cls) != v->order) return SHMIPC_ECORRUPT;
    v->block_size = shmipc__class_size(v->cls);
    v->count = (uint32_t)((SHMIPC__UNIT << v->order) / v->block_size);
    return SHMIPC_OK;
}

/* One step of an extent word, and of our view of it. */
static int shmipc__extent_step(shmipc__extent_view *v, uint32_t cls, uint32_t state, uint32_t owner)
{
    uint64_t seen = v->word, next = shmipc__extent_word((v->word >> 34) + (state == SHMIPC__CLOSED), cls, state, owner);
    if (!shmipc__cas_acqrel_u64(&v->at->word, &seen, next)) return 0; /* [K4] */
    v->word = next;
    v->cls = cls;
    v->state = state;
    v->owner = owner;
    return 1;
}

/* ---- closing ---- */

/* The extent is CLOSING by us: seals and gives back, or opens again when a block is owned. Run again by a sweep after
 * a death anywhere in it, so that nothing is assumed about which blocks are sealed. */
static void shmipc__extent_close(shmipc__blocks *b, shmipc__extent_view *v)
{
    uint32_t j;
    for (j = 0; j < v->count; j++) {
        uint64_t *word = shmipc__blocks_word(b, v->index, j), w = shmipc__load_relaxed_u64(word);
        if (shmipc__word_state(w) == SHMIPC__SEALED) continue;
        if (shmipc__word_state(w) != SHMIPC__FREE) break;
        if (!shmipc__cas_acqrel_u64(word, &w, shmipc__block_word(w >> 26, SHMIPC__SEALED, 0))) break; /* [K3] */
    }
    if (j == v->count) {
        /* Failing, it costs memory only. */
        b->punch(b->arg, v->offset, (v->count * v->block_size + 4095) / 4096 * 4096);
        shmipc__extent_step(v, v->cls, SHMIPC__CLOSED, 0);
        return;
    }
    for (j = 0; j < v->count; j++) {
        uint64_t *word = shmipc__blocks_word(b, v->index, j), w = shmipc__load_relaxed_u64(word);
        if (shmipc__word_state(w) == SHMIPC__SEALED) shmipc__store_release_u64(word, shmipc__block_freed(w));
    }
    shmipc__extent_step(v, v->cls, SHMIPC__OPEN, 0);
}

/* Closes an extent if it is open and all free; the youngest of a class is kept unless `all`. Of several processes that
 * free the last blocks, or open the extent again, the fence lets one see what all did. */
static void shmipc__extent_try_close(shmipc__blocks *b, uint32_t extent, uint32_t from, int all)
{
    const shmipc__region *r = (const shmipc__region *)(const void *)b->base;
    shmipc__extent_view v;
    uint32_t j, tries;
    for (tries = 0; tries < 4; tries++) {
        shmipc__fence_seq_cst();
        if (shmipc__extent_read(b, extent, &v) || v.state != SHMIPC__OPEN) return;
        if (!all && shmipc__load_relaxed_u32(&r->current[v.cls]) == extent + 1) return;
        for (j = 0; j < v.count; j++) {
            uint64_t *word = shmipc__blocks_word(b, extent, (from + j) % v.count);
            if (shmipc__word_state(shmipc__load_relaxed_u64(word)) != SHMIPC__FREE) return;
        }
        if (!shmipc__extent_step(&v, v.cls, SHMIPC__CLOSING, b->owner)) return;
        shmipc__extent_close(b, &v);
    }
}

/* Gives back all empty extents. */
SHMIPC__UNUSED static void shmipc__blocks_trim(shmipc__blocks *b)
{
    shmipc__extent_view v;
    uint32_t i;
    for (i = 0; shmipc__extent_read(b, i, &v) != SHMIPC_EAGAIN; i++) shmipc__extent_try_close(b, i, 0, 1);
}

/* ---- taking ---- */

static uint64_t shmipc__block_handle(uint32_t extent, uint32_t block, uint64_t word)
{
    return (word >> 26) << 30 | (uint64_t)block << 20 | (extent + 1);
}

/* Claims a block of an open extent. The extent word is read again between the look at a block and its claim: had the
 * extent been closed and opened for another class before the look, it would differ; and since, the block would. [K2] */
static int shmipc__extent_claim(shmipc__blocks *b, const shmipc__extent_view *v, uint64_t *handle)
{
    uint32_t k, j;
    for (k = 0; k < v->count; k++) {
        uint64_t *word, w, mine;
        j = (b->next + k) % v->count;
        word = shmipc__blocks_word(b, v->index, j);
        w = shmipc__load_acquire_u64(word); /* [K1] [K2] */
        if (shmipc__word_state(w) != SHMIPC__FREE) continue;
        if (shmipc__load_relaxed_u64(&v->at->word) != v->word) return SHMIPC_EAGAIN;
        mine = shmipc__block_word(w >> 26, SHMIPC__OWNED, b->owner);
        if (!shmipc__cas_acqrel_u64(word, &w, mine)) continue; /* [K7] */
        b->next = j + 1;
        *handle = shmipc__block_handle(v->index, j, w);
        return SHMIPC_OK;
    }
    return SHMIPC_EAGAIN;
}

/* Opens a closed extent and keeps its first block, so that no crowd can snatch all of it from the opener. */
static int shmipc__extent_open(shmipc__blocks *b, shmipc__extent_view *v, uint32_t cls, uint64_t *handle)
{
    uint32_t j;
    int rc;
    if (!shmipc__extent_step(v, cls, SHMIPC__OPENING, b->owner)) return SHMIPC_EAGAIN;
    v->block_size = shmipc__class_size(cls);
    v->count = (uint32_t)((SHMIPC__UNIT << v->order) / v->block_size);
    rc = v->count > 8 ? b->reserve(b->arg, shmipc__blocks_table(b, v->index), v->count * 8) : SHMIPC_OK;
    if (!rc) rc = b->reserve(b->arg, v->offset, v->count * v->block_size);
    if (rc) {
        b->punch(b->arg, v->offset, (v->count * v->block_size + 4095) / 4096 * 4096);
        shmipc__extent_step(v, cls, SHMIPC__CLOSED, 0);
        return rc;
    }
    for (j = 0; j < v->count; j++) {
        uint64_t *word = shmipc__blocks_word(b, v->index, j), w = shmipc__block_freed(shmipc__load_relaxed_u64(word));
        if (j == 0) *handle = shmipc__block_handle(v->index, 0, w);
        if (j == 0) w = shmipc__block_word(w >> 26, SHMIPC__OWNED, b->owner);
        shmipc__store_release_u64(word, w); /* [K1] [K2] */
    }
    shmipc__extent_step(v, cls, SHMIPC__OPEN, 0);
    shmipc__store_relaxed_u32(&((shmipc__region *)(void *)b->base)->current[cls], v->index + 1);
    return SHMIPC_OK;
}

/* Adds an extent of this order behind the last one. [K5] */
static int shmipc__extent_append(shmipc__blocks *b, uint32_t order, shmipc__extent_view *v)
{
    uint64_t units = 0, nothing;
    uint32_t i = b->known;
    int rc;
    for (; i < b->extents; i++) {
        rc = i ? shmipc__extent_read(b, i - 1, v) : SHMIPC_OK;
        if (rc) return rc;
        if (i) units = (v->offset - b->data) / SHMIPC__UNIT + ((uint64_t)1 << v->order);
        if (order > 31 || units + ((uint64_t)1 << order) > (b->size - b->data) / SHMIPC__UNIT) return SHMIPC_ENOSPC;
        if (i + 1 < b->extents) {
            rc = b->reserve(b->arg, sizeof(shmipc__region) + (i + 1) * sizeof(shmipc__extent), sizeof(shmipc__extent));
            if (rc) return rc;
        }
        nothing = 0;
        if (shmipc__cas_acqrel_u64(&shmipc__blocks_extent(b, i)->place, &nothing,
                                   (uint64_t)1 << 63 | (uint64_t)order << 56 | units)) {
            return shmipc__extent_read(b, i, v);
        }
    }
    return SHMIPC_ENOSPC;
}

/* Looks for a free block of the class in the youngest extent, then in up to `limit` others; *spare is a closed extent
 * that would do. */
static int shmipc__blocks_search(shmipc__blocks *b, uint32_t cls, uint32_t limit, uint64_t *handle, uint32_t *spare)
{
    uint32_t k, i = b->cursor[cls], order = shmipc__class_order(cls);
    uint32_t young = shmipc__load_relaxed_u32(&((const shmipc__region *)(const void *)b->base)->current[cls]);
    shmipc__extent_view v;
    int rc;
    *spare = SHMIPC__NO_EXTENT;
    for (k = 0; k < limit && k <= b->known; k++) {
        uint32_t at = k == 0 && young ? young - 1 : i++;
        rc = shmipc__extent_read(b, at, &v);
        if (rc == SHMIPC_EAGAIN && at != 0) rc = shmipc__extent_read(b, at = 0, &v), i = 1;
        if (rc) return rc;
        if (v.state == SHMIPC__CLOSED && v.order == order && *spare == SHMIPC__NO_EXTENT) *spare = at;
        if (v.state == SHMIPC__OPEN && v.cls == cls) {
            if (shmipc__extent_claim(b, &v, handle) == SHMIPC_OK) return SHMIPC_OK;
        }
        b->cursor[cls] = i;
    }
    return SHMIPC_EAGAIN;
}

/* A block of at least `size` bytes, owned by us. SHMIPC_EMSGSIZE, SHMIPC_ENOSPC, SHMIPC_ECORRUPT. Few extents are
 * looked at before another is opened; all of them, and the empty ones of other classes, before it is said that there is
 * no space. Every round but these two is repeated only because others got on. */
SHMIPC__UNUSED static int shmipc__block_alloc(shmipc__blocks *b, uint64_t size, uint64_t *handle)
{
    uint32_t cls = shmipc__class_of(size), limit = 64, spare, tries;
    shmipc__extent_view v;
    int rc, trimmed = 0;
    if (cls >= SHMIPC__CLASSES || shmipc__class_size(cls) > b->size - b->data) return SHMIPC_EMSGSIZE;
    for (tries = 0; tries < 1000; tries++) {
        rc = shmipc__blocks_search(b, cls, limit, handle, &spare);
        if (rc != SHMIPC_EAGAIN) return rc;
        if (spare != SHMIPC__NO_EXTENT) rc = shmipc__extent_read(b, spare, &v);
        else rc = shmipc__extent_append(b, shmipc__class_order(cls), &v);
        if (rc == SHMIPC_OK) rc = v.state == SHMIPC__CLOSED ? shmipc__extent_open(b, &v, cls, handle) : SHMIPC_EAGAIN;
        if (rc == SHMIPC_OK || (rc != SHMIPC_EAGAIN && rc != SHMIPC_ENOSPC)) return rc;
        if (rc == SHMIPC_EAGAIN) continue;
        if (limit > b->extents && trimmed++) return rc;
        if (limit > b->extents) shmipc__blocks_trim(b);
        limit = b->extents + 1;
    }
    return SHMIPC_EBUSY;
}

/* ---- using and giving back ---- */

/* Finds what a handle means: extent, word and its value. SHMIPC_ECORRUPT: no handle at all; SHMIPC_ESTATE: the block
 * was freed since. */
static int shmipc__block_find(shmipc__blocks *b, uint64_t handle, shmipc__extent_view *v, uint32_t *block, uint64_t *w)
{
    uint32_t extent = (uint32_t)(handle & 0xfffff);
    int rc = extent ? shmipc__extent_read(b, extent - 1, v) : SHMIPC_ECORRUPT;
    *block = (uint32_t)(handle >> 20 & 1023);
    if (rc) return SHMIPC_ECORRUPT;
    if (v->state == SHMIPC__CLOSED || v->state == SHMIPC__OPENING || *block >= v->count) return SHMIPC_ESTATE;
    *w = shmipc__load_relaxed_u64(shmipc__blocks_word(b, v->index, *block));
    if (shmipc__word_state(*w) != SHMIPC__OWNED) return SHMIPC_ESTATE;
    return shmipc__block_handle(v->index, *block, *w) == handle ? SHMIPC_OK : SHMIPC_ESTATE;
}

/* Where the block is and how large. The caller owns it, or keeps its owner from freeing it. */
SHMIPC__UNUSED static int shmipc__block_at(shmipc__blocks *b, uint64_t handle, void **at, uint64_t *size)
{
    shmipc__extent_view v;
    uint32_t block;
    uint64_t w;
    int rc = shmipc__block_find(b, handle, &v, &block, &w);
    if (rc) return rc;
    *at = b->base + v.offset + block * v.block_size;
    *size = v.block_size;
    return SHMIPC_OK;
}

/* Changes the owner, 0 being the structure that names the block, SHMIPC__NOBODY freeing it; SHMIPC_ESTATE unless it is
 * `from`. Whoever removes a block from a structure takes it over first: a sweep frees what its dead owner no longer has
 * published. */
SHMIPC__UNUSED static int shmipc__block_pass(shmipc__blocks *b, uint64_t handle, uint32_t from, uint32_t to)
{
    shmipc__extent_view v;
    uint32_t block;
    uint64_t w, next;
    int rc = shmipc__block_find(b, handle, &v, &block, &w);
    if (rc) return rc;
    if (shmipc__word_owner(w) != from) return SHMIPC_ESTATE;
    next = to == SHMIPC__NOBODY ? shmipc__block_freed(w) : shmipc__block_word(w >> 26, SHMIPC__OWNED, to & 0xffffff);
    if (!shmipc__cas_acqrel_u64(shmipc__blocks_word(b, v.index, block), &w, next)) return SHMIPC_ESTATE; /* [K1] [K6] */
    if (to == SHMIPC__NOBODY) shmipc__extent_try_close(b, v.index, block + 1, 0);
    return SHMIPC_OK;
}

SHMIPC__INLINE int shmipc__block_free(shmipc__blocks *b, uint64_t handle, uint32_t owner)
{
    return shmipc__block_pass(b, handle, owner, SHMIPC__NOBODY);
}

/* ---- sweeping ---- */

/* What a sweep asks. still_dead: is the attach entry of the index still the one of the dead life? It is asked after a
 * word was read and before it is changed: an index that was given to another life since is left alone. published: does
 * any structure name this block? 0, 1, or the owner that stands for that structure, if that is not 0. Only a dead owner
 * could have published it, so the answer can only change to no. */
typedef struct shmipc__block_sweeper {
    int (*still_dead)(void *arg);
    int (*published)(void *arg, uint64_t handle);
    void *arg;
} shmipc__block_sweeper;

static void shmipc__extent_sweep(shmipc__blocks *b, shmipc__extent_view *v, uint32_t dead,
                                 const shmipc__block_sweeper *s)
{
    uint32_t j;
    int named;
    for (j = 0; j < v->count; j++) {
        uint64_t *word = shmipc__blocks_word(b, v->index, j), w = shmipc__load_acquire_u64(word), to; /* [K7] */
        if (shmipc__word_state(w) != SHMIPC__OWNED || shmipc__word_owner(w) != dead || !s->still_dead(s->arg)) continue;
        named = s->published(s->arg, shmipc__block_handle(v->index, j, w));
        to = shmipc__block_freed(w);
        if (named) to = shmipc__block_word(w >> 26, SHMIPC__OWNED, named == 1 ? 0 : (uint32_t)named);
        shmipc__cas_acqrel_u64(word, &w, to);
    }
}

/* Gives back what the dead owner held. Any number may sweep at once, die, and start again; the index is free for
 * another when one of them returned SHMIPC_OK. An extent that he was opening or closing is taken over and closed;
 * another sweeper may have done that and be stopped in it, so blocks are swept in any case. */
SHMIPC__UNUSED static int shmipc__blocks_sweep(shmipc__blocks *b, uint32_t dead, const shmipc__block_sweeper *s)
{
    shmipc__extent_view v;
    uint32_t i;
    int rc, bad = SHMIPC_OK;
    if (!dead || dead == b->owner) return SHMIPC_EINVAL;
    for (i = 0; (rc = shmipc__extent_read(b, i, &v)) != SHMIPC_EAGAIN; i++) {
        int his = rc == SHMIPC_OK && v.owner == dead && v.state != SHMIPC__OPEN && v.state != SHMIPC__CLOSED;
        if (his && v.state == SHMIPC__OPENING && v.count > 8) /* perhaps he did not get that far */
            rc = b->reserve(b->arg, shmipc__blocks_table(b, i), v.count * 8);
        if (his && b->owner == SHMIPC__PLACELESS) rc = SHMIPC_EBUSY;
        if (rc) bad = rc;
        if (rc || v.state == SHMIPC__CLOSED || (v.state == SHMIPC__OPENING && !his)) continue;
        if (his && !s->still_dead(s->arg)) return SHMIPC_OK;
        if (his && !shmipc__extent_step(&v, v.cls, SHMIPC__CLOSING, b->owner)) {
            i--; /* it names him no more: look again */
            continue;
        }
        shmipc__extent_sweep(b, &v, dead, s);
        if (his) shmipc__extent_close(b, &v);
        if (b->owner != SHMIPC__PLACELESS) shmipc__extent_try_close(b, i, 0, 0);
    }
    return bad;
}

/* ---------------------------------------------------------------------------------------------
 * >>wait  Spin a little, then sleep; a sender makes a system call only when somebody sleeps
 *
 * A *bell* is where one thread sleeps: a futex word in a table that the whole scope shares, so that one sleep covers
 * sources in many segments. A *gate* stands beside each source (ring, queue, lane) and says which bells to ring: bit b
 * of word w is bell 64 * w + b. Bits name bells and not attachments, because two threads of one process may wait at one
 * gate with one attachment, and then the second would silence the first.
 *
 *   bell    0  owner   u64   0, or the life whose thread sleeps here
 *           8  word    u32   even: awake; odd: armed. Each step adds one, so no value returns (in 2^31 sleeps)
 *          12  post    u32   1: whoever rings sends a datagram, for one who sleeps in poll and the like; to 64
 *   gate    0  summary u64   declarations so far 32 | bit w: word w may have bits. Alone in its line, all a sender
 *                            reads
 *          64  turn    u64   version 53 | bell that is looked at first 11
 *          72  cpu     u32   1 + the CPU of the last sender that found sleepers, 0 unknown
 *         128  sleepers      32 words of u64
 *
 *   field      written by                                                  read by
 *   owner      claimer (0 -> life), its owner or a sweep (life -> 0)       sweeps
 *   post       its owner, before it first arms                             ringers
 *   word       owner even -> odd; anybody odd -> even, by CAS              ringers, the kernel
 *   sleepers   owner of the bell sets its bit; sender or owner takes it    senders
 *   summary    owner of a bell sets and counts; who finds a word empty     senders, on each publish
 *              clears, by CAS from what it was before the look
 *   turn, cpu  senders that found sleepers                                 such senders; waiters (hints only)
 *
 * Waiter: arm the bell, set the bits, *fence W*, look at the data, sleep on the armed value at most a slice, look
 * again. Sender: publish, *fence S*, look at the summary; if set, take bits and ring their bells. Of two fences one is
 * first: S before W, and the waiter sees the data; W before S, and the sender sees summary, bit and armed word. So no
 * wake-up is lost, with no more than these two fences; what else is ordered:
 *
 *   label  release                          acquire
 *   [G1]   summary, by a declaration        the look of who wants to clear it, who then reads the word
 *   [G2]   fence S, sleepers &= ~bit        the owner that finds its bit gone, who then looks at the data again
 *   [B1]   owner = 0, after the last        the next claim; else it could lie down on a value of `word` that has
 *          change of the word               passed, and that nobody rings
 *   [B2]   word odd                         who ends this sleep, then looks at `post` and `owner`: also a sender who
 *                                           comes late, for an earlier owner
 *
 * The process dies (or stops for good) ...
 *   sender, after publishing, before it has rung: the sleeper looks at the data at the end of its slice.
 *   sender, after taking a bit or clearing the summary: the same; a sleeper sets again what is missing each slice.
 *   waiter, armed, bits set: each gate loses its bit to one wake, which is wasted; then nobody pays any more.
 *   waiter, after a wake that was meant for one: the item lies there; the others see it at the end of their slices, or
 *     the next sender wakes the next one. So an item that somebody waits for lies at most one slice unseen.
 * ------------------------------------------------------------------------------------------- */

#ifndef SHMIPC__SLICE_NS
#define SHMIPC__SLICE_NS 40000000 /* bounds what a killed sender can cost, and how late a death is noticed */
#endif
#define SHMIPC__SPIN_NS 50000     /* about what a wake-up of an idle CPU costs both sides */
#define SHMIPC__BELLS_MAX 2048
#define SHMIPC__DECLARED ((uint64_t)1 << 32) /* one declaration, in a summary */
#define SHMIPC__WAKE_ALL 0xffffffffu

typedef struct shmipc__bell {
    uint64_t owner;
    uint32_t word, post;
    uint32_t reserved[12];
} shmipc__bell;
SHMIPC__STATIC_ASSERT(sizeof(shmipc__bell) == 64 && offsetof(shmipc__bell, word) == 8, "layout of a bell");

typedef struct shmipc__gate {
    uint64_t summary;
    uint64_t reserved0[7];
    uint64_t turn;
    uint32_t cpu;
    uint32_t reserved1[13];
    uint64_t sleepers[SHMIPC__BELLS_MAX / 64];
} shmipc__gate;
SHMIPC__STATIC_ASSERT(sizeof(shmipc__gate) == 384 && offsetof(shmipc__gate, turn) == 64 &&
                      offsetof(shmipc__gate, cpu) == 72 && offsetof(shmipc__gate, sleepers) == 128, "layout of a gate");

/* The table of bells as one process sees it. */
typedef struct shmipc__bells {
    shmipc__bell *at;
    uint32_t count;
    void (*post)(void *arg, uint32_t id, uint64_t owner); /* rings the bells that want a datagram; may be NULL */
    void *arg;
} shmipc__bells;

/* 1 while the kernel holds the life's lock, 0 when it is gone, negative when that could not be found out. */
typedef int (*shmipc__alive_fn)(void *arg, uint64_t life);

/* ---- bells ---- */

/* Ends the sleep that `word` stands for; the exact value, so that a late call cannot end a later one. */
static int shmipc__bell_disarm(shmipc__bell *bell)
{
    uint32_t word = shmipc__load_relaxed_u32(&bell->word);
    return (word & 1) && shmipc__cas_acqrel_u32(&bell->word, &word, word + 1); /* [B2] */
}

SHMIPC__UNUSED static int shmipc__bell_claim(shmipc__bells bells, uint64_t life, uint32_t *id)
{
    uint32_t i, n = bells.count < SHMIPC__BELLS_MAX ? bells.count : SHMIPC__BELLS_MAX;
    for (i = 0; i < n; i++) {
        uint64_t nobody = 0;
        if (shmipc__load_relaxed_u64(&bells.at[i].owner)) continue;
        if (!shmipc__cas_acqrel_u64(&bells.at[i].owner, &nobody, life)) continue; /* [B1] */
        shmipc__store_relaxed_u32(&bells.at[i].post, 0);
        shmipc__bell_disarm(&bells.at[i]); /* so that each sleep is one that the new owner has armed */
        *id = i;
        return SHMIPC_OK;
    }
    return SHMIPC_ETABLE;
}

SHMIPC__UNUSED static void shmipc__bell_free(shmipc__bells bells, uint32_t id, uint64_t life)
{
    shmipc__bell_disarm(&bells.at[id]);
    shmipc__cas_acqrel_u64(&bells.at[id].owner, &life, 0); /* [B1] */
}

/* Frees the bells of the dead; how many. A life never returns, so the exact owner word is proof enough. The futex word
 * is left as it is: by now it may be the next owner's. */
SHMIPC__UNUSED static int shmipc__bells_sweep(shmipc__bells bells, shmipc__alive_fn alive, void *arg)
{
    uint32_t i, freed = 0;
    for (i = 0; i < bells.count; i++) {
        uint64_t life = shmipc__load_relaxed_u64(&bells.at[i].owner); /* the probe orders what the dead did */
        if (!life || alive(arg, life) != 0) continue;
        freed += (uint32_t)shmipc__cas_acqrel_u64(&bells.at[i].owner, &life, 0); /* [B1] */
    }
    return (int)freed;
}

/* 1 when this call ended a sleep. One try is enough: if the CAS fails somebody else rang, or the owner has armed the
 * bell again after our fence and looks at the data after its own. */
static int shmipc__bell_ring(shmipc__bells bells, uint32_t id)
{
    if (id >= bells.count || !shmipc__bell_disarm(&bells.at[id])) return 0;
    if (!shmipc__load_relaxed_u32(&bells.at[id].post)) shmipc__os_futex_wake(&bells.at[id].word, 1);
    else if (bells.post) bells.post(bells.arg, id, shmipc__load_relaxed_u64(&bells.at[id].owner));
    return 1;
}

/* ---- gates ---- */

/* Clears the summary bit of an empty word. Whoever declares himself changes the summary after his word, so it is still
 * the one read here only if nobody has come to the word since. (Clearing first and putting back what was hasty would
 * hide sleepers from another sender for a moment.) One try: a bit too many costs the next sender a look. */
static void shmipc__gate_settle(shmipc__gate *gate, uint32_t at)
{
    uint64_t bit = (uint64_t)1 << at, was = shmipc__load_acquire_u64(&gate->summary); /* [G1] */
    if (!(was & bit) || shmipc__load_relaxed_u64(&gate->sleepers[at])) return;
    shmipc__cas_relaxed_u64(&gate->summary, &was, was & ~bit);
}

/* Says that bell `id` sleeps here. Also run at each slice: somebody may have died with the bit in his hand. */
static void shmipc__gate_declare(shmipc__gate *gate, uint32_t id)
{
    uint64_t sum = (uint64_t)1 << (id >> 6), was = shmipc__load_relaxed_u64(&gate->summary);
    shmipc__or_acqrel_u64(&gate->sleepers[id >> 6], (uint64_t)1 << (id & 63));
    while (!shmipc__cas_acqrel_u64(&gate->summary, &was, (was | sum) + SHMIPC__DECLARED)) continue; /* [G1] */
}

/* Takes the own bit back; 0 when a sender had taken it. [G2] */
static int shmipc__gate_withdraw(shmipc__gate *gate, uint32_t id)
{
    uint64_t bit = (uint64_t)1 << (id & 63), *word = &gate->sleepers[id >> 6];
    if (!(shmipc__load_acquire_u64(word) & bit)) return 0;
    if (!(shmipc__and_acqrel_u64(word, ~bit) & bit)) return 0;
    shmipc__gate_settle(gate, id >> 6);
    return 1;
}

/* Takes the bits of `mask` from word `at` and rings, until `most` sleeps have ended; how many, and the last bell. */
static uint32_t shmipc__gate_wake_word(shmipc__gate *gate, shmipc__bells bells, uint32_t at, uint64_t mask,
                                       uint32_t most, uint32_t *last)
{
    uint64_t bits = shmipc__load_relaxed_u64(&gate->sleepers[at]) & mask;
    uint32_t b, n = 0;
    for (b = 0; b < 64 && n < most; b++) {
        uint64_t bit = (uint64_t)1 << b;
        if (!(bits & bit) || !(shmipc__and_acqrel_u64(&gate->sleepers[at], ~bit) & bit)) continue; /* [G2] */
        if (!shmipc__bell_ring(bells, at * 64 + b)) continue; /* awake already, or nobody's: the next one */
        *last = at * 64 + b;
        n++;
    }
    shmipc__gate_settle(gate, at);
    return n;
}

/* The slow half of a send: ends at most `most` sleeps. The search starts behind the bell that was woken last, and this
 * place only moves forward: with n bells at a gate, one that stays there is woken after at most n - 1 others and one
 * for each sender that was already searching when it came. */
SHMIPC__NOINLINE static uint32_t shmipc__gate_wake(shmipc__gate *gate, shmipc__bells bells, uint32_t most)
{
    uint64_t turn = shmipc__load_relaxed_u64(&gate->turn), summary = shmipc__load_relaxed_u64(&gate->summary);
    uint32_t i, n = 0, last = 0, first = (uint32_t)(turn % SHMIPC__BELLS_MAX);
    uint64_t upper = ~(uint64_t)0 << (first & 63);
    shmipc__store_relaxed_u32(&gate->cpu, (uint32_t)shmipc__os_cpu() + 1);
    for (i = 0; i <= 32 && n < most; i++) {
        uint32_t at = ((first >> 6) + i) & 31;
        uint64_t mask = i == 0 ? upper : i == 32 ? ~upper : ~(uint64_t)0;
        if (summary >> at & 1) n += shmipc__gate_wake_word(gate, bells, at, mask, most - n, &last);
    }
    if (n && most != SHMIPC__WAKE_ALL) {
        uint64_t next = (turn / SHMIPC__BELLS_MAX + 1) * SHMIPC__BELLS_MAX + (last + 1) % SHMIPC__BELLS_MAX;
        shmipc__cas_relaxed_u64(&gate->turn, &turn, next);
    }
    return n;
}

/* To be called after each publish, or once after a batch: `most` is 1 where one receiver can take what was sent, and
 * SHMIPC__WAKE_ALL where all want it. No system call when nobody sleeps. */
SHMIPC__INLINE uint32_t shmipc__gate_ring(shmipc__gate *gate, shmipc__bells bells, uint32_t most)
{
    shmipc__fence_seq_cst(); /* fence S */
    if (SHMIPC__LIKELY(!(uint32_t)shmipc__load_relaxed_u64(&gate->summary))) return 0;
    return shmipc__gate_wake(gate, bells, most);
}

/* ---- waiting ---- */

/* One thing to wait for. `ready` looks at the data: 0 not yet, anything else ends the wait and is left in `result`.
 * A gate may be missing: then the data is looked at once a slice. */
typedef struct shmipc__wait_item {
    shmipc__gate *gate;
    int (*ready)(void *arg);
    void *arg;
    const uint64_t *lives; /* whose death ends the wait with SHMIPC_EPEERDEAD, unless there is still data; 0: nobody */
    uint32_t lives_count;
    int result;
} shmipc__wait_item;

/* What one thread brings to its waits, in private memory. */
typedef struct shmipc__waiter {
    shmipc__bells bells;
    uint32_t id;
    int through_signals; /* 0: a signal ends the wait with SHMIPC_EINTR */
    int rung;            /* the last sleep was ended by somebody */
    uint64_t life;
    shmipc__alive_fn alive; /* may be NULL */
    void *alive_arg;
    int64_t spin_ns, probed_ns;
    int64_t slice_ns; /* how long it sleeps at most without looking; who has waited long may take more */
} shmipc__waiter;

SHMIPC__UNUSED static int shmipc__waiter_open(shmipc__waiter *w, shmipc__bells bells, uint64_t life,
                                              shmipc__alive_fn alive, void *alive_arg)
{
    if (!bells.at || !life) return SHMIPC_EINVAL;
    w->bells = bells;
    w->through_signals = w->rung = 0;
    w->life = life;
    w->alive = alive;
    w->alive_arg = alive_arg;
    w->spin_ns = SHMIPC__SPIN_NS;
    w->probed_ns = 0;
    w->slice_ns = SHMIPC__SLICE_NS;
    return shmipc__bell_claim(bells, life, &w->id);
}

SHMIPC__UNUSED static void shmipc__waiter_close(shmipc__waiter *w) { shmipc__bell_free(w->bells, w->id, w->life); }

/* Looks at all data that has no result yet; how many got one. */
static int shmipc__wait_look(shmipc__wait_item *items, uint32_t n)
{
    uint32_t i;
    int found = 0;
    for (i = 0; i < n; i++) {
        if (items[i].result) continue;
        items[i].result = items[i].ready(items[i].arg);
        found += items[i].result != 0;
    }
    return found;
}

/* Once a slice: is anybody dead that we depend on? What he published before is still delivered first. */
static int shmipc__wait_probe(shmipc__waiter *w, shmipc__wait_item *items, uint32_t n, int64_t now)
{
    uint32_t i, k;
    int found = 0;
    if (now - w->probed_ns < w->slice_ns) return 0;
    w->probed_ns = now;
    for (i = 0; w->alive && i < n; i++) {
        shmipc__wait_item *it = &items[i];
        for (k = 0; k < it->lives_count && !it->result; k++) {
            if (!it->lives[k] || w->alive(w->alive_arg, it->lives[k]) != 0) continue;
            it->result = it->ready(it->arg);
            if (!it->result) it->result = SHMIPC_EPEERDEAD;
            found++;
        }
    }
    return found;
}

/* Spinning pays only while the peer runs: not when it was last seen on this CPU. */
static int shmipc__wait_spin(shmipc__waiter *w, shmipc__wait_item *items, uint32_t n, int64_t start, int64_t until)
{
    uint32_t i, here;
    int found;
    if (w->spin_ns == 0) return 0;
    here = (uint32_t)shmipc__os_cpu() + 1;
    for (i = 0; i < n; i++)
        if (items[i].gate && shmipc__load_relaxed_u32(&items[i].gate->cpu) == here) return 0;
    if (until - start > w->spin_ns) until = start + w->spin_ns;
    do {
        for (i = 0; i < 8; i++) {
            found = shmipc__wait_look(items, n);
            if (found) return found;
            shmipc__pause();
        }
    } while (shmipc__os_now_ns() < until);
    return 0;
}

/* Spinning would have helped, or did: the full budget next time. Else half of it, down to none. */
static void shmipc__wait_learn(shmipc__waiter *w, int64_t took, int found)
{
    if (found > 0 && took < 2 * SHMIPC__SPIN_NS) w->spin_ns = SHMIPC__SPIN_NS;
    else w->spin_ns = w->spin_ns > 1000 ? w->spin_ns / 2 : 0;
}

/* Declares, looks once more and sleeps to the end of the slice. Results found, 0 or SHMIPC_EINTR. */
static int shmipc__wait_sleep(shmipc__waiter *w, shmipc__wait_item *items, uint32_t n, int64_t now, int64_t until)
{
    shmipc__bell *bell = &w->bells.at[w->id];
    uint32_t i, armed = shmipc__load_relaxed_u32(&bell->word);
    int64_t left = w->probed_ns + w->slice_ns - now;
    int rc, found;
    w->rung = 0;
    if (!(armed & 1)) shmipc__store_release_u32(&bell->word, ++armed); /* [B2] */
    for (i = 0; i < n; i++)
        if (items[i].gate) shmipc__gate_declare(items[i].gate, w->id);
    shmipc__fence_seq_cst(); /* fence W */
    found = shmipc__wait_look(items, n);
    if (found) return found;
    rc = shmipc__os_futex_wait(&bell->word, armed, left < until - now ? left : until - now);
    w->rung = rc == SHMIPC_OK || rc == SHMIPC_EAGAIN;
    found = shmipc__wait_look(items, n);
    return found ? found : rc == SHMIPC_EINTR && !w->through_signals ? rc : 0;
}

/* Takes all declarations back. A bit that is gone was taken by a sender who counts on us, and a wake meant for one must
 * not be lost with us: we look again at what had no result, and what we found before anybody rang we take without using
 * up that wake, so it goes to another. Whoever leaves a result unused must ring the gate. */
static int shmipc__wait_end(shmipc__waiter *w, shmipc__wait_item *items, uint32_t n, int found)
{
    uint32_t i;
    int more, taken = 0;
    shmipc__bell_disarm(&w->bells.at[w->id]);
    for (i = 0; i < n; i++) {
        if (!items[i].gate || shmipc__gate_withdraw(items[i].gate, w->id)) continue;
        taken = 1;
        if (items[i].result && !w->rung) shmipc__gate_wake(items[i].gate, w->bells, 1);
    }
    more = taken ? shmipc__wait_look(items, n) : 0;
    return more ? (found > 0 ? found : 0) + more : found;
}

/* Waits until an item has a result; how many have. SHMIPC_ETIMEDOUT, SHMIPC_EINTR, SHMIPC_EINVAL.
 * timeout_ns: 0 = only look, negative = for ever. */
SHMIPC__UNUSED static int shmipc__wait(shmipc__waiter *w, shmipc__wait_item *items, uint32_t n, int64_t timeout_ns)
{
    int64_t start, now, until;
    uint32_t i;
    int found;
    if (!w || (!items && n) || w->id >= w->bells.count) return SHMIPC_EINVAL;
    for (i = 0; i < n; i++) items[i].result = 0;
    found = shmipc__wait_look(items, n);
    if (found) return found;
    now = start = shmipc__os_now_ns();
    until = timeout_ns < 0 || timeout_ns > INT64_MAX - start ? INT64_MAX : start + timeout_ns;
    if (timeout_ns == 0) {
        found = shmipc__wait_probe(w, items, n, now);
        return found ? found : SHMIPC_ETIMEDOUT;
    }
    found = shmipc__wait_spin(w, items, n, start, until);
    if (found) return w->spin_ns = SHMIPC__SPIN_NS, found;
    for (;;) {
        now = shmipc__os_now_ns();
        found = shmipc__wait_probe(w, items, n, now);
        if (!found && now >= until) found = SHMIPC_ETIMEDOUT;
        if (!found) found = shmipc__wait_sleep(w, items, n, now, until);
        if (found) break;
    }
    shmipc__wait_learn(w, shmipc__os_now_ns() - start, found);
    return shmipc__wait_end(w, items, n, found);
}

/* ---- the scope's bells: a segment of their own, which lives while anybody has it open ---- */

#define SHMIPC__BELLS_NAME SHMIPC__RESERVED "bells"

static int shmipc__bells_give_back(shmipc_segment *s, uint32_t index, uint64_t life)
{
    void *at;
    uint32_t i;
    int rc = shmipc_segment_at(s, 0, SHMIPC__BELLS_MAX * sizeof(shmipc__bell), &at);
    for (i = 0; !rc && i < SHMIPC__BELLS_MAX; i++) {
        uint64_t seen = life;
        if (shmipc__load_relaxed_u64(&((shmipc__bell *)at)[i].owner) != life) continue;
        (void)shmipc__cas_acqrel_u64(&((shmipc__bell *)at)[i].owner, &seen, 0); /* [B1] */
    }
    (void)index;
    return rc;
}

static int shmipc__bells_validate(shmipc_segment *s)
{
    void *at;
    return shmipc_segment_at(s, 0, SHMIPC__BELLS_MAX * sizeof(shmipc__bell), &at);
}

static const shmipc_kind shmipc__bells_kind = {
    SHMIPC__BELLS_KIND, 1, "bells", shmipc__bells_validate, shmipc__bells_give_back, NULL, NULL};

/* Two threads may come here at once: the first to store wins. */
SHMIPC__UNUSED static int shmipc__ctx_bells(shmipc_ctx *ctx, shmipc__bells *out)
{
    shmipc_segment_config cfg;
    shmipc_segment *s, *surplus = NULL;
    void *at;
    int rc = SHMIPC_OK;
    shmipc__os_mutex_lock(&ctx->mutex);
    s = ctx->bells;
    shmipc__os_mutex_unlock(&ctx->mutex);
    if (!s) {
        shmipc_segment_config_init(&cfg);
        cfg.mode = SHMIPC_OPEN_OR_CREATE;
        cfg.capacity = SHMIPC__CAPACITY_MAX;
        cfg.size = SHMIPC__BELLS_MAX * sizeof(shmipc__bell);
        cfg.kind = &shmipc__bells_kind;
        rc = shmipc_segment_open(ctx, SHMIPC__BELLS_NAME, &cfg, &s);
        if (rc) return rc;
        shmipc__os_mutex_lock(&ctx->mutex);
        if (ctx->bells) surplus = s;
        else ctx->bells = s;
        s = ctx->bells;
        shmipc__os_mutex_unlock(&ctx->mutex);
        shmipc_segment_close(surplus);
    }
    rc = shmipc_segment_at(s, 0, SHMIPC__BELLS_MAX * sizeof(shmipc__bell), &at);
    if (rc) return rc;
    out->at = (shmipc__bell *)at;
    out->count = SHMIPC__BELLS_MAX;
    out->post = NULL;
    out->arg = ctx;
    return SHMIPC_OK;
}

#endif /* SHMIPC_RINGS_ONLY */

#ifdef __cplusplus
}
#endif

#endif /* SHMIPC_IMPLEMENTATION */

/*
 * MIT License
 *
 * Copyright (c) 2026 shmipc contributors
 *
 * Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
 * documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
 * rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to
 * permit persons to whom the Software is furnished to do so, subject to the following conditions:
 *
 * The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
 * Software.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
 * WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
 * COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
 * OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
 */
