/* bench/sockets/exchange.cc - the one exchange that every peer is put through, in two processes of its own for each run
 *
 * The first word of a message names it: 0 for the ones before the measurement begins, all ones for the last.
 * All that the two sides tell each other beside the peer goes through run_memory and lies outside of what is timed.
 */
#include "sockets.h"

#include <sys/resource.h>

namespace {

const size_t most_samples = 1 << 17, sent_slots = 1 << 10;
const uint64_t last_word = ~(uint64_t)0;

} // namespace

struct run_memory {
    spec s;
    sem_t opened[2];
    alignas(64) uint64_t primed; /* far: something arrived */
    alignas(64) uint64_t seen;   /* far: arrived, and the clock was read */
    alignas(64) uint32_t stop;   /* far: enough */
    alignas(64) uint32_t done;   /* far: the last message arrived */
    result r;
    uint64_t wrong;
    alignas(64) uint64_t sent[sent_slots]; /* near: when */
    alignas(64) uint32_t samples[most_samples];
};

namespace {

run_memory *m;
double run_ms;
size_t words;
int how_stamped; /* every word, one a page, the first and the last */
enum { EVERY, PAGES, ENDS };

/* ---------------------------------------------------------------------------------------------
 * Stamps: like the harness's, but the sequence number can be read back from the first word
 * ------------------------------------------------------------------------------------------- */

uint64_t key_inverse()
{
    uint64_t x = BENCH_STAMP_KEY;
    for (int i = 0; i < 6; i++) x *= 2 - BENCH_STAMP_KEY * x;
    return x;
}

uint64_t number_of(const uint64_t *w)
{
    static const uint64_t inverse = key_inverse();
    return w[0] * inverse;
}

size_t stride() { return how_stamped == PAGES ? 512 : words > 1 ? words - 1 : 1; }

void put(uint64_t *w, uint64_t seq)
{
    if (how_stamped == EVERY) {
        bench_stamp(w, words, seq);
        return;
    }
    for (size_t i = 0; i < words; i += stride()) w[i] = seq * BENCH_STAMP_KEY + i;
    bench_escape(w);
}

bool right(const uint64_t *w, uint64_t seq)
{
    uint64_t wrong = 0, *v = const_cast<uint64_t *>(w);
    if (how_stamped == EVERY) return bench_check(v, words, seq);
    bench_escape(v);
    for (size_t i = 0; i < words; i += stride()) wrong |= w[i] ^ (seq * BENCH_STAMP_KEY + i);
    return wrong == 0;
}

uint64_t *buffer(size_t messages)
{
    void *p = aligned_alloc(4096, (words * 8 * messages + 4095) & ~(size_t)4095);
    demand(p != NULL, "memory");
    memset(p, 1, words * 8 * messages);
    return static_cast<uint64_t *>(p);
}

void wrong_if(bool bad)
{
    if (bad) m->wrong++;
}

uint64_t load(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
void store(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
bool raised(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE) != 0; }
void raise_flag(uint32_t *p) { __atomic_store_n(p, 1, __ATOMIC_RELEASE); }

/* Takes samples for `ms`, after a time to warm up: an eighth of that, and as many messages as the queue holds, so that
 * all of its memory was touched once (that may take a while where messages are large, and is not waited for where a
 * peer is slow with small ones). */
uint64_t filling() { return m->s.depth + m->s.depth / 8 + 8; } /* queues hold some more than asked for */

struct sampler {
    uint64_t start, least, length, most, end;
    size_t n, seen;
    bool warm;
    explicit sampler(double ms)
        : start(bench_ticks()), least(bench_ticks_of_ms(ms / 8)), length(bench_ticks_of_ms(ms)), most(length),
          end(UINT64_MAX), n(0), seen(0), warm(false)
    {
        if (words > 128) most = bench_ticks_of_ms(ms > 1500 ? ms : 1500);
    }
    void add(uint64_t now, uint64_t ticks, uint64_t messages = 1)
    {
        seen += messages;
        if (!warm) {
            uint64_t passed = now > start ? now - start : 0;
            warm = passed >= most || (passed >= least && seen > filling());
            if (warm) end = now + length;
            return;
        }
        if (n < most_samples) m->samples[n++] = static_cast<uint32_t>(ticks > UINT32_MAX ? UINT32_MAX : ticks);
    }
    void close(double unit)
    {
        double ns = bench_tick_ns() * unit;
        result &r = m->r;
        qsort(m->samples, n, sizeof m->samples[0], bench_order_u32);
        r.samples = n;
        if (n == 0) return;
        r.p50 = bench_quantile(m->samples, n, 0.5) * ns;
        r.p99 = bench_quantile(m->samples, n, 0.99) * ns;
        r.p999 = bench_quantile(m->samples, n, 0.999) * ns;
        r.most = m->samples[n - 1] * ns;
    }
};

/* A pause whose length differs each time, so that nobody falls into step. Spins: sleep would cost the CPU its state. */
void pause_about(double ns)
{
    static uint64_t x = 88172645463325252u;
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    uint64_t until =
        bench_ticks() + static_cast<uint64_t>(ns * (0.5 + static_cast<double>(x % 1024) / 1024) / bench_tick_ns());
    while (bench_ticks() < until) {}
}

/* Sends the last message until it arrived: a broadcast may lose it. */
void send_last(end *e)
{
    uint64_t *w = buffer(1);
    w[0] = last_word;
    while (!raised(&m->done)) {
        e->send(w, words * 8);
        for (int i = 0; i < 100 && !raised(&m->done); i++) usleep(200);
    }
}

/* Sends messages before the first until every receiver has got one, so that none of those that count finds nobody. */
void prime(end *e)
{
    uint64_t *w = buffer(1);
    put(w, 0);
    while (!load(&m->primed)) {
        e->send(w, words * 8);
        for (int i = 0; i < 20 && !load(&m->primed); i++) usleep(100);
    }
}

/* ---------------------------------------------------------------------------------------------
 * Round trip: one sample is one, from before the question is written to after the answer is read
 * ------------------------------------------------------------------------------------------- */

void ask(end *e)
{
    uint64_t *in = buffer(1), *out = buffer(1), last = 0;
    sampler s(0);
    for (uint64_t seq = 1; seq == 1 || last < s.end; seq++) {
        put(out, seq);
        e->send(out, words * 8);
        size_t got = e->recv(in, words * 8);
        wrong_if(got != words * 8 || !right(in, ~seq));
        uint64_t now = bench_ticks();
        if (seq == 1)
            s = sampler(run_ms); /* both are there and running */
        else
            s.add(now, now - last);
        last = now;
    }
    out[0] = last_word;
    e->send(out, words * 8);
    e->recv(in, words * 8);
    s.close(1);
}

void answer(end *e)
{
    uint64_t *in = buffer(1), *out = buffer(1);
    for (uint64_t seq = 1;; seq++) {
        size_t got = e->recv(in, words * 8);
        bool over = in[0] == last_word;
        if (!over) wrong_if(got != words * 8 || !right(in, seq));
        put(out, ~seq);
        e->send(out, words * 8);
        if (over) return;
    }
}

void ask_in_place(end *e)
{
    uint64_t last = 0;
    size_t got = 0;
    sampler s(0);
    for (uint64_t seq = 1;; seq++) {
        bool over = seq > 1 && last >= s.end;
        uint64_t *out = e->loan(words * 8);
        put(out, seq);
        if (over) out[0] = last_word;
        e->commit();
        const uint64_t *in = e->take(&got);
        wrong_if(got != words * 8 || !right(in, ~seq));
        e->release();
        if (over) break;
        uint64_t now = bench_ticks();
        if (seq == 1)
            s = sampler(run_ms);
        else
            s.add(now, now - last);
        last = now;
    }
    s.close(1);
}

void answer_in_place(end *e)
{
    size_t got = 0;
    for (uint64_t seq = 1;; seq++) {
        const uint64_t *in = e->take(&got);
        bool over = in[0] == last_word;
        if (!over) wrong_if(got != words * 8 || !right(in, seq));
        e->release();
        uint64_t *out = e->loan(words * 8);
        put(out, ~seq);
        e->commit();
        if (over) return;
    }
}

/* ---------------------------------------------------------------------------------------------
 * One way: from before the send to after the receive, one message at a time
 * ------------------------------------------------------------------------------------------- */

void tell(end *e)
{
    uint64_t *out = buffer(1);
    double gap = m->s.form == BLOCK ? 120e3 : 300; /* BLOCK: long enough for the other side to fall asleep */
    prime(e);
    for (uint64_t seq = 1; !raised(&m->stop); seq++) {
        put(out, seq);
        pause_about(gap);
        m->sent[seq % sent_slots] = bench_ticks();
        e->send(out, words * 8);
        while (load(&m->seen) != seq) {}
    }
    send_last(e);
}

void hear(end *e)
{
    uint64_t *in = buffer(1);
    sampler s(0);
    bool begun = false;
    for (;;) {
        size_t got = e->recv(in, words * 8);
        uint64_t now = bench_ticks(), seq = number_of(in);
        if (in[0] == last_word) break;
        if (seq == 0) {
            store(&m->primed, 1);
            continue;
        }
        if (!begun) begun = true, s = sampler(run_ms);
        wrong_if(got != words * 8 || !right(in, seq));
        s.add(now, now - m->sent[seq % sent_slots]);
        if (now > s.end && s.n > 0) raise_flag(&m->stop);
        store(&m->seen, seq);
    }
    s.close(1);
    raise_flag(&m->done);
}

/* ---------------------------------------------------------------------------------------------
 * Rate: the receiver takes the time of every window; half of the windows were at least as fast as what is told
 * ------------------------------------------------------------------------------------------- */

uint64_t window()
{
    size_t size = words * 8;
    return size <= 1024 ? 4096 : size <= 65536 ? 64 : size <= 1 << 20 ? 8 : 2;
}

void pour(end *e)
{
    bool many = m->s.pattern == BATCH;
    unsigned n = many ? batch : 1;
    uint64_t *out = buffer(n), seq = 1;
    prime(e);
    while (!raised(&m->stop)) {
        for (int k = 0; k < (words <= 128 && !many ? 64 : 1); k++) {
            for (unsigned i = 0; i < n; i++) put(out + i * words, seq++);
            if (many)
                e->send_many(out, words * 8, n);
            else
                e->send(out, words * 8);
        }
    }
    send_last(e);
}

struct drain {
    sampler s;
    uint64_t every, n, expect, last, lost, lost_before;
    drain() : s(run_ms), every(window()), n(0), expect(0), last(0), lost(0), lost_before(0) {}
    void one(const uint64_t *in)
    {
        uint64_t seq = number_of(in);
        wrong_if(seq < expect || !right(in, seq));
        if (expect) lost += seq - expect;
        expect = seq + 1;
        if (++n % every) return;
        uint64_t now = bench_ticks();
        if (last) s.add(now, now - last, every);
        if (!s.warm) lost_before = lost;
        last = now;
        if (now > s.end && s.n > 1) raise_flag(&m->stop);
    }
    void close()
    {
        s.close(1);
        double of = static_cast<double>(s.n) * static_cast<double>(every),
               missed = static_cast<double>(lost - lost_before);
        m->r.per_s = m->r.p50 > 0 ? static_cast<double>(every) * 1e9 / m->r.p50 : 0;
        m->r.lost = missed / (of + missed);
    }
};

void gather(end *e)
{
    bool many = m->s.pattern == BATCH, begun = false;
    uint64_t *in = buffer(many ? batch : 1);
    drain d;
    for (;;) {
        unsigned n = 1;
        if (many)
            n = e->recv_many(in, words * 8);
        else
            e->recv(in, words * 8);
        for (unsigned i = 0; i < n; i++) {
            const uint64_t *w = in + i * words;
            if (w[0] == last_word) {
                d.close();
                raise_flag(&m->done);
                return;
            }
            if (w[0] == 0) {
                store(&m->primed, 1);
                continue;
            }
            if (!begun) begun = true, d = drain();
            d.one(w);
        }
    }
}

/* What one process alone copies, with nobody at the other end. */
void copy_alone(end *e)
{
    uint64_t *out = buffer(1), seq = 1, last = bench_ticks();
    sampler s(run_ms);
    while (last < s.end || s.n < 2) {
        for (uint64_t i = 0; i < window(); i++) {
            put(out, seq++);
            e->send(out, words * 8);
        }
        uint64_t now = bench_ticks();
        s.add(now, now - last, window());
        last = now;
    }
    s.close(1);
    m->r.per_s = static_cast<double>(window()) * 1e9 / m->r.p50;
}

/* ---------------------------------------------------------------------------------------------
 * Many subscribers: bursts, each of which all of them must have got before the next
 * ------------------------------------------------------------------------------------------- */

void publish(end *e, bool until_delivered)
{
    uint64_t *out = buffer(1), seq = 0;
    prime(e);
    sampler s(run_ms);
    for (uint64_t first = bench_ticks(), then; first < s.end;) {
        pause_about(500);
        first = bench_ticks();
        for (unsigned i = 0; i < burst; i++) {
            put(out, ++seq);
            e->send(out, words * 8);
        }
        then = bench_ticks();
        while (load(&m->seen) < seq) {}
        s.add(first, (until_delivered ? bench_ticks() : then) - first, burst);
    }
    s.close(1.0 / burst);
    send_last(e);
}

void subscribe(end *e)
{
    uint64_t *in = buffer(1), newest[most_subscribers] = {0};
    bool heard[most_subscribers] = {false}, over = false;
    while (!over) {
        uint64_t least = ~(uint64_t)0;
        bool all = true;
        for (unsigned i = 0; i < m->s.subscribers; i++) {
            while (e->try_recv(i, in, words * 8)) {
                heard[i] = true;
                if (in[0] == last_word) {
                    over = true;
                    break;
                }
                wrong_if(number_of(in) < newest[i] || !right(in, number_of(in)));
                newest[i] = number_of(in);
            }
            all = all && heard[i];
            if (newest[i] < least) least = newest[i];
        }
        if (all && !m->primed) store(&m->primed, 1);
        if (least > m->seen) store(&m->seen, least);
    }
    raise_flag(&m->done);
}

/* ---------------------------------------------------------------------------------------------
 * Idle: what a side uses that waits for a message which does not come
 * ------------------------------------------------------------------------------------------- */

double seconds(clockid_t c)
{
    struct timespec t;
    clock_gettime(c, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

void say_nothing(end *e)
{
    prime(e);
    usleep(static_cast<useconds_t>(run_ms * 1000));
    send_last(e);
}

void wait_idly(end *e)
{
    uint64_t *in = buffer(1);
    double cpu = 0, at = 0;
    do {
        cpu = seconds(CLOCK_PROCESS_CPUTIME_ID), at = seconds(CLOCK_MONOTONIC);
        e->recv(in, words * 8);
        store(&m->primed, 1);
    } while (in[0] != last_word);
    m->r.cpu = (seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu) / (seconds(CLOCK_MONOTONIC) - at);
    m->r.samples = 1;
    raise_flag(&m->done);
}

/* ---------------------------------------------------------------------------------------------
 * The two processes
 * ------------------------------------------------------------------------------------------- */

void play(end *e, int side, int kind)
{
    bool near_side = side == NEAR;
    if (!near_side && m->s.pattern == ALONE) return;
    switch (kind) {
    case ROUND_TRIP: near_side ? ask(e) : answer(e); break;
    case IN_PLACE: near_side ? ask_in_place(e) : answer_in_place(e); break;
    case ONE_WAY: near_side ? tell(e) : hear(e); break;
    case RATE: near_side ? pour(e) : gather(e); break;
    case COPY: near_side ? m->s.pattern == ALONE ? copy_alone(e) : pour(e) : gather(e); break;
    case PUBLISH:
    case DELIVER: near_side ? publish(e, kind == DELIVER) : subscribe(e); break;
    default: near_side ? say_nothing(e) : wait_idly(e); break;
    }
}

/* The subscribers of a FANOUT come to the publisher, all else comes to the far end. Threads of a library may run
 * everywhere; what talks is pinned. On one CPU everything is. */
void side_main(const peer &p, int side, int kind, const unsigned cpus[2])
{
    bool first = (side == NEAR) == (m->s.pattern == FANOUT);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    if (m->s.cpus == 1) bench_pin(cpus[0]);
    if (!first)
        while (sem_wait(&m->opened[!side])) {}
    end *e = p.open(m->s, side);
    sem_post(&m->opened[side]);
    if (first)
        while (sem_wait(&m->opened[!side])) {}
    if (m->s.cpus == 2) bench_pin(cpus[side]);
    play(e, side, kind);
    delete e;
}

pid_t start(const peer &p, int side, int kind, const unsigned cpus[2])
{
    pid_t pid = fork();
    if (pid < 0) {
        perror("bench: fork");
        exit(1);
    }
    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        side_main(p, side, kind, cpus);
        fflush(stdout);
        _exit(0);
    }
    return pid;
}

const double after_done_ns = 0.5e9;

void end_both(const pid_t pid[2], const bool gone[2])
{
    for (int i = 0; i < 2; i++) {
        if (gone[i]) continue;
        kill(pid[i], SIGKILL);
        waitpid(pid[i], NULL, 0);
    }
}

/* Sleeps until both have ended, or one of them failed, or it took too long; whether all went well. A side that goes on
 * when the last message has arrived (a sender that nobody reads, a library that lingers) is ended a little later. */
bool both_ended(const pid_t pid[2], double limit_ms)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    double until = bench_monotonic_ns() + limit_ms * 1e6;
    bool gone[2] = {false, false}, finishing = false;
    for (;;) {
        bool ok = true;
        for (int i = 0; i < 2; i++) {
            int status = 0;
            if (gone[i] || waitpid(pid[i], &status, WNOHANG) != pid[i]) continue;
            gone[i] = true;
            if (!WIFEXITED(status) || WEXITSTATUS(status)) ok = false;
        }
        if (gone[0] && gone[1]) return ok;
        double now = bench_monotonic_ns();
        if (!finishing && (raised(&m->done) || gone[0] || gone[1])) finishing = true, until = now + after_done_ns;
        if (!ok || now >= until) {
            end_both(pid, gone);
            return ok && finishing;
        }
        struct timespec t = {0, 200000000};
        sigtimedwait(&child, NULL, &t);
    }
}

} // namespace

void cannot(const char *what, const char *why)
{
    fprintf(stderr, "bench: %s: %s\n", what, why);
    _exit(1);
}

run_memory *run_memory_new(char *memory)
{
    m = static_cast<run_memory *>(bench_map_shared(sizeof *m));
    m->s.memory = memory;
    bench_tick_ns(); /* once, not in every process forked from here */
    return m;
}

spec &run_spec(run_memory *of) { return of->s; }

result run_pair(run_memory *of, const peer &p, int kind, const unsigned cpus[2], double ms, uint64_t *wrong)
{
    m = of;
    run_ms = ms;
    words = m->s.size / 8;
    how_stamped = kind == IN_PLACE ? ENDS : kind == COPY ? PAGES : EVERY;
    m->primed = m->seen = m->stop = m->done = 0;
    m->wrong = 0;
    memset(&m->r, 0, sizeof m->r);
    memset(m->s.address, 0, sizeof m->s.address);
    for (int i = 0; i < 2; i++) sem_init(&m->opened[i], 1, 0);
    if (p.prepare) p.prepare(m->s);
    pid_t pid[2];
    pid[FAR] = start(p, FAR, kind, cpus);
    pid[NEAR] = start(p, NEAR, kind, cpus);
    m->r.good = both_ended(pid, ms * 1.5 + 8000);
    if (p.unprepare) p.unprepare(m->s);
    *wrong += m->wrong;
    return m->r;
}
