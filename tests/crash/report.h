/* report.h - the main program of a crash test: runs its table of operations, prints a row for each and appends it to
 * build/report/crash.jsonl. Included by crashstep.h.
 *
 * Arguments: parts of names ("send/full", "/zombie"); a case runs when OPERATION/STATE/ROLE/MODE contains one of them.
 * Environment: the cases share 150 s, 8 s with SHORT=1, CRASH_TOTAL_MS if given, and all the time they need with
 * FULL=1; CRASH_BUDGET_MS and CRASH_STRIDE thin out each case (see README.md); CRASH_REPORT names another file.
 */
#ifndef CRASH_REPORT_H
#define CRASH_REPORT_H

#include <sys/file.h>
#include <sys/stat.h>

/* Recovery times as a histogram: bucket b holds what is below crash_bucket_ns(b) (eight buckets to a doubling), so that
 * percentiles over many cases can be had from their rows. */
#define CRASH_BUCKETS 320

static inline uint64_t crash_bucket_ns(int b)
{
    int shift = b / 8;
    return ((UINT64_C(8) + (uint64_t)(b % 8) + 1) << shift) * 16;
}

static inline int crash_bucket(uint64_t ns)
{
    int b = 0;
    while (b < CRASH_BUCKETS - 1 && ns >= crash_bucket_ns(b)) b++;
    return b;
}

/* Opens the report and takes out the rows that this program wrote before. */
static inline int crash_report_open(const char *path, const char *topic)
{
    char key[96], *text, *line, *next;
    struct stat st;
    ssize_t n;
    size_t keep = 0;
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0 || flock(fd, LOCK_EX) || fstat(fd, &st)) return fd;
    text = (char *)calloc(1, (size_t)st.st_size + 1);
    n = text ? read(fd, text, (size_t)st.st_size) : -1;
    snprintf(key, sizeof key, "{\"topic\":\"%s\",", topic);
    for (line = text; n > 0 && line && *line; line = next) {
        next = strchr(line, '\n');
        next = next ? next + 1 : line + strlen(line);
        if (!strncmp(line, key, strlen(key))) continue;
        memmove(text + keep, line, (size_t)(next - line));
        keep += (size_t)(next - line);
    }
    if (n >= 0 && ftruncate(fd, 0) == 0 && write(fd, text, keep) != (ssize_t)keep) perror(path);
    free(text);
    flock(fd, LOCK_UN);
    return fd;
}

static inline size_t crash__histogram(const crash_result *res, char *out, size_t size)
{
    size_t at = 0;
    long i = 0, n;
    while (i < res->recoveries && at + 48 < size) {
        int b = crash_bucket(res->recovery[i]);
        for (n = 0; i < res->recoveries && crash_bucket(res->recovery[i]) == b; i++) n++;
        at += (size_t)snprintf(out + at, size - at, "%s[%llu,%ld]", at ? "," : "",
                               (unsigned long long)crash_bucket_ns(b), n);
    }
    out[at] = 0;
    return at;
}

/* One line, one write: programs may append at the same time. */
static inline void crash_report_row(int fd, const char *topic, const crash_run *c, const crash_result *res)
{
    char hist[8192], row[10240];
    int n;
    crash__histogram(res, hist, sizeof hist);
    n = snprintf(
        row, sizeof row,
        "{\"topic\":\"%s\",\"op\":\"%s\",\"state\":\"%s\",\"role\":\"%s\",\"mode\":\"%s\",\"steps\":%ld,"
        "\"kills\":%ld,\"hang\":%llu,\"lost\":%llu,\"torn\":%llu,\"twice\":%llu,\"leaked\":%llu,\"other\":%llu,"
        "\"broken\":%d,\"worst_ms\":%.3f,\"p999_ms\":%.3f,\"fallbacks\":%ld,\"seconds\":%.2f,\"recovery_ns\":[%s]}\n",
        topic, c->op->name, crash_state(c), crash_role(c), crash_mode_name(c->mode), res->steps, res->kills,
        (unsigned long long)res->hang, (unsigned long long)res->lost, (unsigned long long)res->torn,
        (unsigned long long)res->twice, (unsigned long long)res->leaked, (unsigned long long)res->other, res->broken,
        (double)res->worst_ns * 1e-6, (double)res->p999_ns * 1e-6, res->fallbacks, res->seconds, hist);
    if (fd >= 0 && write(fd, row, (size_t)n) != (ssize_t)n) perror("crash report");
}

static inline void crash__print(const crash_run *c, const crash_result *res)
{
    char name[128];
    snprintf(name, sizeof name, "%s/%s/%s/%s", c->op->name, crash_state(c), crash_role(c), crash_mode_name(c->mode));
    printf("%s %-48s steps %5ld kills %5ld hang %llu lost %llu torn %llu twice %llu leaked %llu other %llu  worst %.2f "
           "ms  %.0f/s\n",
           crash_failed(res) ? "FAIL" : "ok  ", name, res->steps, res->kills, (unsigned long long)res->hang,
           (unsigned long long)res->lost, (unsigned long long)res->torn, (unsigned long long)res->twice,
           (unsigned long long)res->leaked, (unsigned long long)res->other, (double)res->worst_ns * 1e-6,
           res->seconds > 0 ? (double)res->kills / res->seconds : 0);
    fflush(stdout);
}

static inline int crash__chosen(const crash_run *c, int argc, char **argv)
{
    char name[128];
    int i;
    if (argc < 2) return 1;
    snprintf(name, sizeof name, "%s/%s/%s/%s", c->op->name, crash_state(c), crash_role(c), crash_mode_name(c->mode));
    for (i = 1; i < argc; i++)
        if (strstr(name, argv[i])) return 1;
    return 0;
}

/* A run over part of the cases does not touch the common report. */
static inline int crash__open(const char *topic, int argc)
{
    const char *path = getenv("CRASH_REPORT");
    if (!path && argc > 1) return -1;
    if (!path) {
        mkdir("build", 0755);
        mkdir("build/report", 0755);
        path = "build/report/crash.jsonl";
    }
    return crash_report_open(path, topic);
}

/* How long the program may take: 8 s with SHORT=1 and under tools/mutate, for ever with FULL=1, else 150 s. */
static inline long crash__total_ms(void)
{
    if (crash__env("CRASH_TOTAL_MS")) return crash__env("CRASH_TOTAL_MS");
    if (crash__env("SHORT") || crash__env("MUTANT")) return 8000;
    return crash__env("FULL") ? 0 : 150000;
}

/* Each case gets an equal share of the time that is left. */
static inline void crash__share(uint64_t end, int cases_left)
{
    uint64_t now = crash_now_ns(), left = now < end ? (end - now) / 1000000u : 0;
    crash__share_ms = end == UINT64_MAX ? 0 : 1 + (long)left / cases_left;
}

/* Calls fn for every chosen case of the table; the number of cases. */
static inline int crash__each(const crash_op *ops, size_t count, int argc, char **argv,
                              void (*fn)(const crash_run *, void *), void *arg)
{
    crash_run c;
    int n = 0;
    size_t i;
    memset(&c, 0, sizeof c);
    for (i = 0; i < count; i++) {
        c.op = &ops[i];
        for (c.state = 0; c.op->states[c.state]; c.state++)
            for (c.role = 0; c.op->roles[c.role]; c.role++)
                for (c.mode = CRASH_KILL; c.mode <= CRASH_WAITING; c.mode *= 2) {
                    if (!(c.op->modes & (unsigned)c.mode) || !crash__chosen(&c, argc, argv)) continue;
                    n++;
                    if (fn) fn(&c, arg);
                }
    }
    return n;
}

typedef struct crash__program {
    const char *topic;
    int fd, left, passed, failed;
    uint64_t end;
} crash__program;

static inline void crash__case(const crash_run *c, void *arg)
{
    crash__program *p = (crash__program *)arg;
    crash_result res;
    if (p->failed && crash__env("MUTANT")) return; /* tools/mutate: caught, the rest is of no interest */
    crash__share(p->end, p->left--);
    res = crash_sweep(c->op, c->state, c->role, c->mode);
    crash__print(c, &res);
    crash_report_row(p->fd, p->topic, c, &res);
    if (crash_failed(&res))
        p->failed++;
    else
        p->passed++;
    free(res.recovery);
}

static inline int crash_main(const char *topic, const crash_op *ops, size_t count, int argc, char **argv)
{
    crash__program p;
    long total = crash__total_ms();
    memset(&p, 0, sizeof p);
    p.topic = topic;
    p.fd = crash__open(topic, argc);
    p.end = total ? crash_now_ns() + (uint64_t)total * 1000000u : UINT64_MAX;
    p.left = crash__each(ops, count, argc, argv, NULL, NULL);
    crash__each(ops, count, argc, argv, crash__case, &p);
    if (p.fd >= 0) close(p.fd);
    printf("%d passed, %d failed\n", p.passed, p.failed);
    return p.failed || !p.passed;
}

#endif /* CRASH_REPORT_H */
