/* bench/sockets/main.cc - what is measured, in which order, and what is made of it
 *
 * Everything runs interleaved: a round is one short run of each peer with each size of each metric, starting with
 * another peer every time. Where spinning is measured, a short run of the floor stands before and after each run; where
 * the two differ, the machine changed under the run, and it is thrown away and made again, a bounded number of times.
 * Ratios are taken within a round and their median over the rounds is reported; latencies are medians over the
 * rounds, rates the best of them.
 *
 *     sockets OUT.jsonl      BENCH_QUICK=1: seconds, figures void      FULL=1: every size of every metric, more rounds
 *                            BENCH_ONLY="reqrep zmq_ipc": these peers and the floor
 *                            BENCH_METRIC="rt-poll": these metrics     BENCH_TRACE=1: tells each run
 */
#include "sockets.h"

#include <dirent.h>
#include <ftw.h>
#include <sys/stat.h>

#ifndef BENCH_FLAGS
#define BENCH_FLAGS ""
#endif

namespace {

const size_t K = 1024, M = 1024 * 1024, M10 = 10000000;

struct metric {
    const char *name;
    int kind, pattern, form, cpus;
    double ms;
    size_t sizes[7], more[5]; /* in every run; only with FULL=1 */
};

const metric metrics[] = {
    {"rt-poll", ROUND_TRIP, ECHO, POLL, 2, 25, {8, 64, K, 64 * K, M, M10}, {}},
    {"rt-default", ROUND_TRIP, ECHO, DEFAULT, 2, 25, {8, 64, K, 64 * K, M}, {M10}},
    {"rt-block", ROUND_TRIP, ECHO, BLOCK, 2, 30, {8, 64, K, 64 * K, M}, {M10}},
    {"rt-default-1cpu", ROUND_TRIP, ECHO, DEFAULT, 1, 25, {8, 64 * K}, {64, K, M, M10}},
    {"rt-block-1cpu", ROUND_TRIP, ECHO, BLOCK, 1, 25, {8, 64 * K}, {64, K, M, M10}},
    {"ow-poll", ONE_WAY, STREAM, POLL, 2, 25, {8, 64, K, 64 * K, M, M10}, {}},
    {"ow-default", ONE_WAY, STREAM, DEFAULT, 2, 25, {64}, {8, K, 64 * K, M, M10}},
    {"ow-block", ONE_WAY, STREAM, BLOCK, 2, 30, {64}, {8, K, 64 * K, M, M10}},
    {"rate-poll", RATE, STREAM, POLL, 2, 25, {8, 64, K, 64 * K, M}, {M10}},
    {"rate-default", RATE, STREAM, DEFAULT, 2, 25, {8, 64}, {K, 64 * K, M, M10}},
    {"rate-batch", RATE, BATCH, POLL, 2, 25, {8, 64}, {}},
    {"copy", COPY, STREAM, POLL, 2, 40, {64 * K, M, M10}, {}},
    {"zero-copy", IN_PLACE, ZEROCOPY, POLL, 2, 25, {64, M, M10}, {8, K, 64 * K}},
    {"publish",
     PUBLISH,
     FANOUT,
     POLL,
     2,
     20,
     {1, 4, 16, 64},
     {}}, /* of 64 bytes; the size is how many subscribers there are */
    {"deliver", DELIVER, FANOUT, POLL, 2, 15, {1, 4, 16, 64}, {}},
    {"idle-default", IDLE, STREAM, DEFAULT, 2, 1000, {64}, {}},
    {"idle-block", IDLE, STREAM, BLOCK, 2, 1000, {64}, {}},
};
const int n_metrics = sizeof metrics / sizeof metrics[0];

const int max_peers = 32, max_rounds = 32, max_rows = 1600, tries = 3;
const double moved = 1.25; /* the floor before and after a run may differ by this factor */

struct row {
    const metric *m;
    const peer *p;
    size_t size;
    bool ours, failed;
    const row *same; /* whose figures these are: where the default is to sleep */
    result r[max_rounds];
    double beside[max_rounds]; /* the floor beside the run, ns, where it was taken */
    int discarded;
    double took_ms; /* the longest run, setting up included */
};

struct plan {
    int rounds;
    double factor, probe_ms, idle_ms;
};

peer peers[max_peers];
int n_peers;
row *rows;
int n_rows;
plan how;
unsigned cpus[2];
run_memory *memory;
char *area, scratch[64], ours_dir[64];
bool full;
const size_t area_bytes = 288u << 20, at_most_used = 240u << 20;

bool is_floor(const peer *p) { return !strcmp(p->name, "floor"); }
bool is_ours(const peer *p)
{
    return !strcmp(p->name, "reqrep") || !strcmp(p->name, "pubsub") || !strcmp(p->name, "pushpull");
}
bool is_bare(const peer *p) { return is_floor(p) || !strncmp(p->note, "bare ", 5); }
bool latency(const metric *m) { return m->kind != RATE && m->kind != COPY && m->kind != IDLE; }
bool counts_subscribers(const metric *m) { return m->pattern == FANOUT; }
bool spins(const metric *m) { return m->form == POLL && m->cpus == 2; }

bool asked(const char *variable)
{
    const char *v = getenv(variable);
    return v && *v && strcmp(v, "0") != 0;
}

bool listed(const char *variable, const char *name)
{
    const char *only = getenv(variable);
    char list[512], word[64];
    if (!only || !*only) return true;
    snprintf(list, sizeof list, " %s ", only);
    snprintf(word, sizeof word, " %s ", name);
    return strstr(list, word) != 0;
}

void collect_peers()
{
    size_t (*const all[])(peer *) = {floor_peers, shmipc_peers, iceoryx2_peers, aeron_peers,
                                     zmq_peers,   nng_peers,    boost_peers,    kernel_peers};
    for (size_t (*f)(peer *) : all) {
        peer some[8];
        size_t n = f(some);
        for (size_t i = 0; i < n; i++) {
            if (!is_floor(&some[i]) && !listed("BENCH_ONLY", some[i].name)) continue;
            if (some[i].missing)
                printf("%s left out: %s\n", some[i].name, some[i].missing);
            else
                peers[n_peers++] = some[i];
        }
    }
}

row *find(const metric *m, const char *name, size_t size)
{
    for (int i = 0; i < n_rows; i++)
        if (rows[i].m == m && rows[i].size == size && !strcmp(rows[i].p->name, name)) return &rows[i];
    return NULL;
}

const metric *metric_named(const char *name)
{
    for (const metric &m : metrics)
        if (!strcmp(m.name, name)) return &m;
    return NULL;
}

void add_rows(const metric *m, size_t size)
{
    for (int i = 0; i < n_peers; i++) {
        const peer *p = &peers[i];
        size_t bytes = counts_subscribers(m) ? 64 : size;
        int pattern = m->kind == COPY && is_floor(p) ? ALONE : m->pattern;
        if (!(p->can & pattern) || !(p->forms & m->form) || bytes > p->most) continue;
        if (m->cpus == 1 && p->outside) continue;
        if (n_rows == max_rows) cannot("rows", "too many");
        row *r = &rows[n_rows++];
        r->m = m, r->p = p, r->size = size;
        r->ours = is_ours(p);
    }
}

void collect_rows()
{
    for (const metric &m : metrics) {
        if (!listed("BENCH_METRIC", m.name)) continue;
        for (size_t size : m.sizes)
            if (size) add_rows(&m, size);
        for (size_t size : m.more)
            if (size && full) add_rows(&m, size);
    }
    for (int i = 0; i < n_rows; i++) {
        row *r = &rows[i];
        char name[32];
        if (r->m->form != DEFAULT || !r->p->sleeps_by_default) continue;
        snprintf(name, sizeof name, "%s", r->m->name);
        char *at = strstr(name, "default");
        memmove(at + 5, at + 7, strlen(at + 7) + 1);
        memcpy(at, "block", 5);
        const metric *m = metric_named(name);
        if (m) r->same = find(m, r->p->name, r->size);
    }
}

/* ---------------------------------------------------------------------------------------------
 * One run
 * ------------------------------------------------------------------------------------------- */

int remove_one(const char *path, const struct stat *, int, struct FTW *)
{
    remove(path);
    return 0;
}

void empty_directory(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    demand(mkdir(path, 0700) == 0, path);
}

/* Removes what this run left in a directory, and what earlier ones did that were killed. */
void sweep(const char *dir)
{
    DIR *d = opendir(dir);
    while (struct dirent *e = d ? readdir(d) : NULL) {
        char path[400];
        int pid = 0;
        if (sscanf(e->d_name, "shmipc-bench-%d", &pid) != 1 && sscanf(e->d_name, "shmipc_bench_%d", &pid) != 1)
            continue;
        if (pid <= 0 || (pid != getpid() && (kill(pid, 0) == 0 || errno != ESRCH))) continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    }
    if (d) closedir(d);
}

void clean_up()
{
    aeron_end();
    sweep("/tmp");
    sweep("/dev/shm");
}

size_t depth_for(size_t bytes, int kind)
{
    if (kind == PUBLISH || kind == DELIVER) return 64;
    if (bytes <= K) return 1024;
    return bytes <= 64 * K ? 64 : bytes <= M ? 8 : 4;
}

double ms_for(const metric *m, size_t bytes)
{
    if (m->kind == IDLE) return how.idle_ms;
    return m->ms * how.factor * (bytes >= M10 ? 3 : bytes >= M ? 2 : 1);
}

result run_once(const row *r, double ms)
{
    spec &s = run_spec(memory);
    uint64_t wrong = 0;
    const metric *m = r->m;
    char *place = s.memory;
    memset(&s, 0, sizeof s);
    s.memory = place;
    s.size = counts_subscribers(m) ? 64 : r->size;
    s.subscribers = counts_subscribers(m) ? static_cast<unsigned>(r->size) : 1;
    s.pattern = m->kind == COPY && is_floor(r->p) ? ALONE : m->pattern;
    s.form = m->form, s.cpus = m->cpus, s.idle = m->kind == IDLE;
    s.depth = depth_for(s.size, m->kind);
    snprintf(s.dir, sizeof s.dir, "%s", r->ours ? ours_dir : scratch);
    if (r->p->outside) return r->p->outside(s, m->kind, ms);
    empty_directory(s.dir);
    if (r->p->memory) {
        for (int i = 0; i < 2; i++)
            memset(place + static_cast<size_t>(i) * (112u << 20), 0, (s.depth + 1) * (s.size + 256) + 256 * K);
    }
    result x = run_pair(memory, *r->p, m->kind, cpus, ms, &wrong);
    if (wrong) {
        fprintf(stderr, "bench: %s, %s, %zu: %llu wrong messages\n", m->name, r->p->name, r->size,
                static_cast<unsigned long long>(wrong));
        clean_up();
        exit(1);
    }
    return x;
}

/* How fast a line travels depends on its address, so every round lies elsewhere, and all of a round at one place. */
void move_on()
{
    static uint64_t seed = 88172645463325252u;
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    run_spec(memory).memory = area + seed % ((area_bytes - at_most_used) / 4096) * 4096;
}

double probe()
{
    static const metric of = {"probe", ROUND_TRIP, ECHO, POLL, 2, 0, {}, {}};
    row r;
    memset(&r, 0, sizeof r);
    r.m = &of, r.p = &peers[0], r.size = 8;
    return run_once(&r, how.probe_ms).p50;
}

bool steady(double a, double b) { return a > 0 && a < b * moved && b < a * moved; }

void fail(row *r)
{
    r->failed = true;
    fprintf(stderr, "bench: %s, %s, %zu: did not end, or failed; %s\n", r->m->name, r->p->name, r->size,
            r->ours ? "a fault" : "left out from here on");
}

void run_row(row *r, int k, double *before)
{
    double ms = ms_for(r->m, counts_subscribers(r->m) ? 64 : r->size);
    if (r->m->kind == IDLE && !r->ours) ms *= 0.4;
    for (int i = 0; i < (spins(r->m) ? tries : 1) && !r->failed; i++) {
        double begun = bench_monotonic_ns();
        result x = run_once(r, ms);
        double took = (bench_monotonic_ns() - begun) / 1e6;
        if (took > r->took_ms && !(r->p->outside && k == 0)) r->took_ms = took; /* the first one warms up, too */
        if (asked("BENCH_TRACE")) {
            fprintf(stderr, "%s %s %zu: %.0f ms, %zu samples, p50 %.0f\n", r->m->name, r->p->name, r->size, took,
                    x.samples, x.p50);
        }
        bool ok = x.good && x.samples > 0;
        if (!x.good) fail(r);
        if (spins(r->m)) {
            double after = probe();
            r->beside[k] = (*before + after) / 2;
            ok = ok && steady(*before, after);
            *before = after;
        }
        if (ok) {
            r->r[k] = x;
            return;
        }
        r->discarded++;
    }
}

/* The slowest runs would take most of the time; there are fewer rounds of them. */
bool tedious(const row *r, int k)
{
    if (full || is_floor(r->p)) return false;
    if (r->size >= M10 && k >= 3) return true;
    return !r->ours && (r->took_ms > 400 ? k >= 1 : r->took_ms > 100 && k >= 2);
}

void one_round(int k)
{
    for (const metric &m : metrics) {
        if (m.kind == IDLE && k > 0) continue;
        move_on();
        double before = spins(&m) ? probe() : 0;
        for (int i = 0; i < n_rows; i++) {
            row *r = &rows[(i + k * 7) % n_rows];
            if (r->m == &m && !r->same && !r->failed && !tedious(r, k)) run_row(r, k, &before);
        }
    }
    for (int i = 0; i < n_rows; i++)
        if (rows[i].same) rows[i].r[k] = rows[i].same->r[k];
}

/* ---------------------------------------------------------------------------------------------
 * What the rounds say
 * ------------------------------------------------------------------------------------------- */

template <class F> double median_where(F value)
{
    double v[max_rounds];
    size_t n = 0;
    for (int k = 0; k < how.rounds; k++) {
        double x = value(k);
        if (x > 0) v[n++] = x;
    }
    return bench_median(v, n);
}

/* The figure that is compared, and what is better. */
double figure(const row *r, int k)
{
    const result &x = r->r[k];
    if (!x.samples) return 0;
    if (r->m->kind == IDLE) return x.cpu > 1e-6 ? x.cpu : 1e-6;
    return latency(r->m) ? x.p50 : x.per_s;
}

double ratio_in(const row *r, const row *other, int k)
{
    double a = figure(r, k), b = figure(other, k);
    if (a <= 0 || b <= 0) return 0;
    return r->m->kind == RATE || r->m->kind == COPY ? a / b : b / a;
}

double ratio(const row *r, const row *other)
{
    return median_where([&](int k) { return ratio_in(r, other, k); });
}

double told(const row *r) /* a rate: the best of the rounds; else the median */
{
    double best = 0;
    if (latency(r->m) || r->m->kind == IDLE) return median_where([&](int k) { return figure(r, k); });
    for (int k = 0; k < how.rounds; k++)
        if (figure(r, k) > best) best = figure(r, k);
    return best;
}

void put_number(FILE *f, const char *key, double value, int digits)
{
    if (value > 0)
        fprintf(f, ", \"%s\": %.*f", key, digits, value);
    else
        fprintf(f, ", \"%s\": null", key);
}

void put_row(FILE *f, const row *r, const char *peer_name, const row *other, double x, const char *best)
{
    int kept = 0;
    for (int k = 0; k < how.rounds; k++) kept += r->r[k].samples > 0;
    bool l = latency(r->m), idle = r->m->kind == IDLE;
    fprintf(f, "{\"bench\": \"%s\", \"metric\": \"%s\", \"peer\": \"%s\", \"size\": %zu", r->p->name, r->m->name,
            peer_name, r->size);
    put_number(f, "p50_ns", l ? told(r) : 0, 1);
    put_number(f, "p99_ns", l ? median_where([&](int k) { return r->r[k].p99; }) : 0, 1);
    put_number(f, "p999_ns", l ? median_where([&](int k) { return r->r[k].p999; }) : 0, 1);
    put_number(f, "max_ns", l ? median_where([&](int k) { return r->r[k].most; }) : 0, 1);
    put_number(f, "per_s", l || idle ? 0 : told(r), 0);
    put_number(f, "cpu", idle ? told(r) : 0, 6);
    if (other) put_number(f, l ? "peer_p50_ns" : idle ? "peer_cpu" : "peer_per_s", told(other), idle ? 6 : 1);
    fprintf(f, ", \"lost\": %.3f", median_where([&](int k) { return r->r[k].lost; }));
    put_number(f, "ratio", x, 4);
    if (best) fprintf(f, ", \"best\": \"%s\"", best);
    fprintf(f, ", \"rounds\": %d, \"discarded\": %d, \"note\": ", kept, r->discarded);
    bench_put_quoted(f, r->p->note);
    fprintf(f, "}\n");
}

/* Against each peer, and against the one that does best against us. */
void put_contests(FILE *f, const row *r)
{
    const row *best = NULL;
    double worst = 0;
    for (int i = 0; i < n_rows; i++) {
        const row *p = &rows[i];
        if (p->m != r->m || p->size != r->size || p->ours || is_floor(p->p)) continue;
        double x = ratio(r, p);
        put_row(f, r, p->p->name, p, x, NULL);
        if (x > 0 && !is_bare(p->p) && (!best || x < worst)) best = p, worst = x;
    }
    if (best) put_row(f, r, "best", best, worst, best->p->name);
}

/* Against ourselves under other circumstances. */
void put_self(FILE *f, const row *r, const char *as, const char *other_metric, size_t other_size)
{
    const metric *m = metric_named(other_metric);
    const row *other = m ? find(m, r->p->name, other_size) : NULL;
    if (other && other != r) put_row(f, r, as, other, ratio(r, other), NULL);
}

void put_all(FILE *f)
{
    for (int i = 0; i < n_rows; i++) {
        const row *r = &rows[i], *fl = find(r->m, "floor", r->size);
        put_row(f, r, "floor", fl, fl == r ? 1.0 : fl ? ratio(r, fl) : 0, NULL);
        if (!r->ours) continue;
        put_contests(f, r);
        if (!strcmp(r->m->name, "rt-default")) put_self(f, r, "own polling", "rt-poll", r->size);
        if (!strcmp(r->m->name, "zero-copy")) put_self(f, r, "own 64 B", "zero-copy", 64);
        if (counts_subscribers(r->m)) put_self(f, r, "own 1", r->m->name, 1);
        if (r->m->kind == IDLE) put_row(f, r, "0.1 %", NULL, told(r) > 0 ? 0.001 / told(r) : 0, NULL);
    }
}

} // namespace

int main(int argc, char **argv)
{
    bool quick = asked("BENCH_QUICK");
    full = asked("FULL");
    const plan usual = {5, 1, 3, 1000}, long_one = {15, 2, 4, 3000}, brief = {1, 0.2, 2, 100};
    if (argc != 2) {
        fprintf(stderr, "usage: %s OUT.jsonl\n", argv[0]);
        return 2;
    }
    if (bench_two_cpus(cpus)) {
        fprintf(stderr, "bench: two processes talk here, so two CPUs are needed\n");
        return 1;
    }
    how = quick ? brief : full ? long_one : usual;
    setvbuf(stdout, NULL, _IOLBF, 0); /* children must not print it again */
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL); /* both_ended waits for it */
    snprintf(scratch, sizeof scratch, "/tmp/shmipc-bench-%d", static_cast<int>(getpid()));
    snprintf(ours_dir, sizeof ours_dir, "/dev/shm/shmipc-bench-%d", static_cast<int>(getpid()));
    clean_up();
    rows = static_cast<row *>(calloc(max_rows, sizeof *rows));
    collect_peers();
    collect_rows();
    area = static_cast<char *>(bench_map_shared(area_bytes));
    memory = run_memory_new(area);
    FILE *f = fopen(argv[1], "w");
    if (!f) {
        perror(argv[1]);
        return 1;
    }
    bench_put_facts(f, "sockets", BENCH_FLAGS, cpus, quick);
    for (int k = 0; k < how.rounds; k++) one_round(k);
    clean_up();
    put_all(f);
    if (fclose(f)) {
        perror(argv[1]);
        return 1;
    }
    for (int i = 0; i < n_rows; i++)
        if (rows[i].ours && rows[i].failed) return 1;
    return 0;
}
