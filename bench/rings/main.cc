/* bench/rings/main.cc - the order of the measurement, and what is made of it
 *
 * Everything runs interleaved: a round is one short run of each transport at each size, starting with another one every
 * time. Before and after each run stands a short run of the floor. Where the two differ, the machine changed under the
 * run, and it is thrown away and tried again, a bounded number of times. Ratios are taken within a round and their
 * median over the rounds is reported; latencies are medians over the rounds, rates the best of them.
 *
 *     rings OUT.jsonl        BENCH_QUICK=1: a run of seconds that shows only that it works
 *                            BENCH_ONLY="spsc boost_spsc": these rows and the floor
 */
#include "exchange.h"

#ifndef BENCH_FLAGS
#define BENCH_FLAGS ""
#endif

namespace {

const int max_rows = 64, max_rounds = 32, tries = 3;
const double moved = 1.2;        /* the floor before and after a run may differ by this factor */
const size_t enough = 100;       /* samples of a latency run: fewer, and a side was off its CPU nearly all the time */

struct plan {
    int rounds;
    double lat_ms, thr_ms, probe_ms;
};

struct row {
    transport t;
    lat_result lat[max_rounds];
    thr_result thr[max_rounds];
    double lat_floor[max_rounds]; /* the floor beside the run, ns; 0 where the run was thrown away */
    double thr_ok[max_rounds];
    int discarded;
};

row rows[max_rows];
int n_rows;
bench_link *by_process, *by_thread;
char *area, *memory; /* memory: where the rings lie in this round */
plan how;
const size_t area_bytes = 64u << 20, ring_bytes = 8u << 20;

/* Who is compared with whom: the same promise to the user. */
struct rivals {
    const char *bench, *peers[4];
};
const rivals contests[] = {
    {"spsc", {"ck_ring_spsc", "boost_spsc", "moodycamel_rwq", 0}},
    {"spsc_batch", {"ck_ring_spsc", "boost_spsc", "moodycamel_rwq", 0}},
    {"queue", {"ck_ring_mpmc", "boost_queue", "moodycamel_cq", 0}},
};

row *find(const char *name, size_t size)
{
    for (int i = 0; i < n_rows; i++)
        if (!strcmp(rows[i].t.name, name) && rows[i].t.size == size) return &rows[i];
    return 0;
}

bool is_floor(const row *r) { return !strcmp(r->t.name, "floor"); }
bool has_latency(const row *r) { return r->t.latency; }
bool has_throughput(const row *r) { return r->t.size != 48; }

bool wanted(const char *name)
{
    const char *only = getenv("BENCH_ONLY");
    char list[256], word[64];
    if (!only || !*only || !strcmp(name, "floor")) return true;
    snprintf(list, sizeof list, " %s ", only);
    snprintf(word, sizeof word, " %s ", name);
    return strstr(list, word) != 0;
}

void collect()
{
    static transport t[max_rows];
    size_t n = floor_transports(t);
    n += spsc_transports(t + n);
    n += lane_transports(t + n);
    n += queue_transports(t + n);
    n += ck_transports(t + n);
    n += boost_transports(t + n);
    n += moodycamel_transports(t + n);
    for (size_t i = 0; i < n; i++)
        if (wanted(t[i].name)) rows[n_rows++].t = t[i];
}

/* A run that hangs is a fault of what is measured: say which and end. */
const char *volatile running = "";

void too_long(int)
{
    static const char text[] = "bench: no progress for 20 s in ";
    ssize_t w = write(2, text, sizeof text - 1);
    w = write(2, running, strlen(running));
    w = write(2, "\n", 1);
    (void)w;
    _exit(1);
}

void demand_right(const row *r, uint64_t wrong)
{
    if (!wrong) return;
    fprintf(stderr, "bench: %s with %zu bytes delivered %llu wrong messages\n", r->t.name, r->t.size,
            static_cast<unsigned long long>(wrong));
    exit(1);
}

bench_link *link_of(const row *r) { return r->t.threads ? by_thread : by_process; }

lat_result run_latency(row *r, double ms)
{
    uint64_t wrong = 0;
    running = r->t.name;
    alarm(20);
    lat_result l = r->t.latency(link_of(r), memory, ms, &wrong);
    demand_right(r, wrong);
    return l;
}

thr_result run_throughput(row *r, double ms)
{
    uint64_t wrong = 0;
    running = r->t.name;
    alarm(20);
    thr_result t = r->t.throughput(link_of(r), memory, ms, &wrong);
    demand_right(r, wrong);
    return t;
}

double probe(size_t size) { return run_latency(find("floor", size), how.probe_ms).p50; }

bool steady(double a, double b) { return a > 0 && a < b * moved && b < a * moved; }

/* One bracketed run, that says itself whether it is worth keeping. *before is the floor just measured and becomes the
 * one measured now. */
template <class F> double bracketed(row *r, double *before, size_t probe_size, F run)
{
    for (int i = 0; i < tries; i++) {
        bool ok = run();
        double after = probe(probe_size), beside = (*before + after) / 2;
        ok = ok && steady(*before, after);
        *before = after;
        if (ok) return beside;
        r->discarded++;
    }
    return 0;
}

/* How fast a line travels depends on its address, so every round lies elsewhere, and all of a round at one place. */
void move_on()
{
    static uint64_t seed = 88172645463325252u;
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    memory = area + seed % ((area_bytes - ring_bytes) / 4096) * 4096;
}

void one_round(int k)
{
    const size_t sizes[] = {8, 48, 64, 1024};
    for (size_t size : sizes) {
        move_on();
        double before = probe(size);
        for (int i = 0; i < n_rows; i++) {
            row *r = &rows[(i + k * 5) % n_rows];
            if (r->t.size != size || !has_latency(r)) continue;
            r->lat_floor[k] = bracketed(r, &before, size, [&] {
                r->lat[k] = run_latency(r, how.lat_ms);
                return r->lat[k].samples > enough;
            });
        }
        before = probe(8);
        for (int i = 0; i < n_rows; i++) {
            row *r = &rows[(i + k * 5) % n_rows];
            if (r->t.size != size || !has_throughput(r)) continue;
            r->thr_ok[k] = bracketed(r, &before, 8, [&] {
                r->thr[k] = run_throughput(r, how.thr_ms);
                return true;
            });
        }
    }
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

double p50(const row *r)
{
    return median_where([&](int k) { return r->lat_floor[k] > 0 ? r->lat[k].p50 : 0; });
}

double best_rate(const row *r)
{
    double best = 0;
    for (int k = 0; k < how.rounds; k++)
        if (r->thr_ok[k] > 0 && r->thr[k].per_s > best) best = r->thr[k].per_s;
    return best;
}

/* Above 1: r is ahead. The floor measured right beside each run is its pair. */
double ratio_to_floor(const row *r)
{
    return median_where([&](int k) { return r->lat_floor[k] > 0 ? r->lat_floor[k] / r->lat[k].p50 : 0; });
}

double latency_ratio(const row *r, const row *peer)
{
    return median_where([&](int k) {
        return r->lat_floor[k] > 0 && peer->lat_floor[k] > 0 ? peer->lat[k].p50 / r->lat[k].p50 : 0;
    });
}

double rate_ratio(const row *r, const row *peer)
{
    return median_where([&](int k) {
        return r->thr_ok[k] > 0 && peer->thr_ok[k] > 0 ? r->thr[k].per_s / peer->thr[k].per_s : 0;
    });
}

/* What no round measured is null. */
void put_number(FILE *f, const char *key, double value, int digits)
{
    if (value > 0) fprintf(f, ", \"%s\": %.*f", key, digits, value);
    else fprintf(f, ", \"%s\": null", key);
}

void put_start(FILE *f, const row *r, const char *metric, const char *peer)
{
    fprintf(f, "{\"bench\": \"%s\", \"metric\": \"%s\", \"peer\": \"%s\", \"size\": %zu", r->t.name, metric, peer,
            r->t.size);
}

void put_end(FILE *f, const row *r, double ratio, int kept, const char *best)
{
    put_number(f, "ratio", ratio, 4);
    if (best) fprintf(f, ", \"best\": \"%s\"", best);
    fprintf(f, ", \"rounds\": %d, \"discarded\": %d, \"between\": \"%s\", \"note\": ", kept, r->discarded,
            r->t.threads ? "threads" : "processes");
    bench_put_quoted(f, r->t.note);
    fprintf(f, "}\n");
}

void put_latency(FILE *f, const row *r, const char *peer, double peer_p50, double ratio, const char *best)
{
    int kept = 0;
    for (int k = 0; k < how.rounds; k++) kept += r->lat_floor[k] > 0;
    put_start(f, r, "latency", peer);
    put_number(f, "p50_ns", p50(r), 1);
    put_number(f, "p99_ns", median_where([&](int k) { return r->lat_floor[k] > 0 ? r->lat[k].p99 : 0; }), 1);
    put_number(f, "p999_ns", median_where([&](int k) { return r->lat_floor[k] > 0 ? r->lat[k].p999 : 0; }), 1);
    fprintf(f, ", \"per_s\": null");
    put_number(f, "peer_p50_ns", peer_p50, 1);
    put_end(f, r, ratio, kept, best);
}

void put_throughput(FILE *f, const row *r, const char *peer, double peer_rate, double ratio, const char *best)
{
    int kept = 0;
    for (int k = 0; k < how.rounds; k++) kept += r->thr_ok[k] > 0;
    put_start(f, r, "throughput", peer);
    fprintf(f, ", \"p50_ns\": null, \"p99_ns\": null, \"p999_ns\": null");
    put_number(f, "per_s", best_rate(r), 0);
    put_number(f, "median_per_s", median_where([&](int k) { return r->thr_ok[k] > 0 ? r->thr[k].per_s : 0; }), 0);
    put_number(f, "peer_per_s", peer_rate, 0);
    fprintf(f, ", \"lost\": %.3f", median_where([&](int k) { return r->thr_ok[k] > 0 ? r->thr[k].lost : 0; }));
    put_end(f, r, ratio, kept, best);
}

/* Against each rival, and against the one that does best against us. */
void contest_latency(FILE *f, const row *r, const rivals *c)
{
    const row *best = 0;
    double worst = 0;
    for (int i = 0; c->peers[i]; i++) {
        const row *p = find(c->peers[i], r->t.size);
        if (!p) continue;
        double x = latency_ratio(r, p);
        put_latency(f, r, p->t.name, p50(p), x, 0);
        if (x > 0 && (!best || x < worst)) best = p, worst = x;
    }
    if (best) put_latency(f, r, "best", p50(best), worst, best->t.name);
}

void contest_throughput(FILE *f, const row *r, const rivals *c)
{
    const row *best = 0;
    double worst = 0;
    for (int i = 0; c->peers[i]; i++) {
        const row *p = find(c->peers[i], r->t.size);
        if (!p) continue;
        double x = rate_ratio(r, p);
        put_throughput(f, r, p->t.name, best_rate(p), x, 0);
        if (x > 0 && (!best || x < worst)) best = p, worst = x;
    }
    if (best) put_throughput(f, r, "best", best_rate(best), worst, best->t.name);
}

void put_all(FILE *f)
{
    for (int i = 0; i < n_rows; i++) {
        const row *r = &rows[i], *fl = find("floor", r->t.size);
        if (has_latency(r)) put_latency(f, r, "floor", p50(fl), is_floor(r) ? 1.0 : ratio_to_floor(r), 0);
        if (has_throughput(r)) put_throughput(f, r, "floor", best_rate(fl), is_floor(r) ? 1.0 : rate_ratio(r, fl), 0);
        for (const rivals &c : contests) {
            if (strcmp(c.bench, r->t.name)) continue;
            if (has_latency(r)) contest_latency(f, r, &c);
            if (has_throughput(r)) contest_throughput(f, r, &c);
        }
    }
}

} // namespace

int main(int argc, char **argv)
{
    unsigned cpus[2];
    const char *q = getenv("BENCH_QUICK");
    bool quick = q && *q && strcmp(q, "0");
    if (argc != 2) {
        fprintf(stderr, "usage: rings OUT.jsonl\n");
        return 2;
    }
    if (bench_two_cpus(cpus)) {
        fprintf(stderr, "bench: two CPUs are needed to measure anything between two of them\n");
        return 1;
    }
    const plan full = {15, 20, 50, 4}, brief = {3, 4, 8, 1};
    how = quick ? brief : full;
    collect();
    area = static_cast<char *>(bench_map_shared(area_bytes));
    bench_tick_ns();
    by_process = bench_far_process(cpus[1]);
    bench_pin(cpus[0]);
    by_thread = bench_far_thread(cpus[1]);
    signal(SIGALRM, too_long);
    FILE *f = fopen(argv[1], "w");
    if (!f) {
        perror(argv[1]);
        return 1;
    }
    bench_put_facts(f, "rings", BENCH_FLAGS, cpus, quick);
    for (int k = 0; k < how.rounds; k++) one_round(k);
    alarm(0);
    put_all(f);
    if (fclose(f)) {
        perror(argv[1]);
        return 1;
    }
    bench_far_quit(by_process);
    wait(NULL);
    return 0;
}
