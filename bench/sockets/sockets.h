/* bench/sockets/sockets.h - what everything that is measured here offers, and the one exchange it is put through
 *
 * A peer is a way for two processes to talk: ours, a library's, the kernel's, or the bare machine (the floor). Each run
 * forks a near and a far process; both open their end, and main.cc never touches a peer itself. A peer that this
 * machine lacks says so in one line and is left out.
 */
#ifndef BENCH_SOCKETS_H
#define BENCH_SOCKETS_H

#include "../harness.h"

/* How an end waits: spin and never sleep; sleep at once; as the library does when nobody says anything. */
enum { POLL = 1, BLOCK = 2, DEFAULT = 4 };

/* What two ends do with one another. */
enum {
    ECHO = 1,      /* the near end asks, the far end answers                      */
    STREAM = 2,    /* near to far                                                 */
    BATCH = 4,     /* near to far, many with one call                             */
    FANOUT = 8,    /* near to many ends in the far process                        */
    ZEROCOPY = 16, /* ECHO, written and read in place                             */
    ALONE = 32     /* the floor of copying: one process, nobody else              */
};

enum { NEAR = 0, FAR = 1 };

const unsigned batch = 64, burst = 32, most_subscribers = 64;

/* What a run is about. In shared memory: an end that finds out its address writes it for the other. */
struct spec {
    int pattern, form, cpus, idle; /* idle: what is measured is waiting */
    size_t size, depth;            /* bytes of a message, messages that a queue should hold */
    unsigned subscribers;
    char dir[96]; /* an empty directory for this run's files, removed after it */
    char *memory; /* zeroed for as many bytes as the peer asked for */
    char address[2][160];
    int fd[2 * most_subscribers][2];
};

struct end {
    virtual ~end() {}
    virtual void send(const uint64_t *message, size_t size) = 0;
    /* The next message, waiting as the form says; its size. */
    virtual size_t recv(uint64_t *message, size_t size) = 0;
    virtual void send_many(const uint64_t *, size_t, unsigned) {}
    /* At least one, at most batch; how many. */
    virtual unsigned recv_many(uint64_t *, size_t) { return 0; }
    /* FANOUT, far: what that subscriber has got, 0: nothing. Never waits. */
    virtual size_t try_recv(unsigned, uint64_t *, size_t) { return 0; }
    virtual uint64_t *loan(size_t) { return NULL; }
    virtual void commit() {}
    virtual const uint64_t *take(size_t *) { return NULL; }
    virtual void release() {}
};

/* Figures of one run. Latencies in nanoseconds, of a round trip or one way. */
struct result {
    bool good;
    size_t samples;
    double p50, p99, p999, most;
    double per_s, lost; /* messages that arrived; share of those that did not */
    double cpu;         /* share of one CPU, of the side that waits */
};

struct peer {
    const char *name, *note;
    unsigned forms, can;
    size_t most;                /* the largest message that it takes */
    bool sleeps_by_default;     /* its DEFAULT is its BLOCK */
    const char *missing;        /* why it is not here, or NULL */
    size_t memory;              /* for small messages, bytes of spec.memory that must be zero; more for larger ones */
    void (*prepare)(spec &s);   /* before the fork, or NULL */
    void (*unprepare)(spec &s); /* after both ends are gone, or NULL */
    end *(*open)(spec &s, int side);
    result (*outside)(const spec &s, int kind,
                      double ms); /* measures by itself (another language's run time), or NULL */
};

enum { ROUND_TRIP, ONE_WAY, RATE, COPY, IN_PLACE, PUBLISH, DELIVER, IDLE };

/* The measurement, exchange.cc. */
struct run_memory;
run_memory *run_memory_new(char *memory);
spec &run_spec(run_memory *m);
result run_pair(run_memory *m, const peer &p, int kind, const unsigned cpus[2], double ms, uint64_t *wrong);

/* A peer's end, seen from where it stands: opening it failed. Says what and ends this process. */
__attribute__((noreturn)) void cannot(const char *what, const char *why);
inline void demand(bool ok, const char *what)
{
    if (!ok) cannot(what, strerror(errno));
}

/* Each file's peers, written to out; how many. */
size_t floor_peers(peer *out);
size_t shmipc_peers(peer *out);
size_t kernel_peers(peer *out);
size_t zmq_peers(peer *out);
size_t nng_peers(peer *out);
size_t boost_peers(peer *out);
size_t iceoryx2_peers(peer *out);
size_t aeron_peers(peer *out);
void aeron_end();              /* ends what it started */

inline peer make_peer(const char *name, const char *note, unsigned forms, unsigned can, size_t most,
                      end *(*open)(spec &, int))
{
    peer p = {name, note, forms, can,  most, (forms & POLL) != 0 && (forms & BLOCK) != 0,
              NULL, 0,    NULL,  NULL, open, NULL};
    return p;
}

inline peer absent(const char *name, const char *why)
{
    peer p = make_peer(name, "", 0, 0, 0, NULL);
    p.missing = why;
    return p;
}

const size_t any_size = (size_t)1 << 30;

#endif
