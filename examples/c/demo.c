/* Ten seconds of shmipc: a work queue whose worker is killed on stage, and a broadcast lane whose reader falls asleep.
 *
 * Every process below is a real one. Nothing they share can be broken by killing any of them: the job that the dead
 * worker held goes to another one, and the reader that slept learns exactly how many messages it missed. */
#define SHMIPC_IMPLEMENTATION
#include "shmipc.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 3, READERS = 2, SECONDS = 9, MAX_JOBS = 4000000 };
enum { DONE_JOB, DONE_PUSHING, DONE_READING }; /* what a report is about */

typedef struct report {
    uint64_t kind, who, number, missed;
} report;

typedef struct pose {
    double x, y, heading;
} pose;

static const shmipc_queue_config jobs_config = {1024, 1024 + 64, sizeof(uint64_t), SHMIPC_QUEUE_REDELIVER};
static const shmipc_queue_config reports_config = {4096, 4096 + 64, sizeof(report), SHMIPC_QUEUE_REDELIVER};

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void rest(long ns)
{
    struct timespec t = {0, ns};
    nanosleep(&t, NULL);
}

static void must(int rc, const char *what)
{
    if (rc >= 0) return;
    fprintf(stderr, "demo: %s: %s\n", what, shmipc_strerror(rc));
    _exit(1);
}

/* ---- one process's way to the rings: a context, a segment for each ring --------------------------------------- */

static int is_alive(void *segment, uint32_t owner)
{
    return shmipc_segment_alive((shmipc_segment *)segment, owner);
}

static int queue_init(shmipc_segment *s, void *config)
{
    void *mem;
    int rc = shmipc_segment_at(s, 0, shmipc_segment_size(s), &mem);
    return rc ? rc : shmipc_queue_init(mem, shmipc_segment_size(s), (const shmipc_queue_config *)config);
}

static void queue_open(shmipc_ctx *ctx, const char *name, const shmipc_queue_config *config, const shmipc_kind *kind,
                       shmipc_segment **s, shmipc_queue *q)
{
    shmipc_segment_config cfg;
    shmipc_queue_config copy = *config;
    void *mem;
    shmipc_segment_config_init(&cfg);
    cfg.mode = SHMIPC_OPEN_OR_CREATE;
    cfg.kind = kind;
    cfg.init = queue_init;
    cfg.init_arg = &copy;
    must(shmipc_queue_size(config, &cfg.size), "measuring a queue");
    must(shmipc_segment_open(ctx, name, &cfg, s), shmipc_ctx_detail(ctx));
    must(shmipc_segment_at(*s, 0, cfg.size, &mem), "finding the queue");
    must(shmipc_queue_attach(q, mem, cfg.size, shmipc_segment_index(*s), is_alive, *s), "attaching a queue");
}

/* What a dead process held in a queue goes back to it. */
static int queue_sweep(shmipc_segment *s, uint32_t index, uint64_t life)
{
    shmipc_queue q;
    void *mem;
    int rc = shmipc_segment_at(s, 0, shmipc_segment_size(s), &mem);
    if (!rc) rc = shmipc_queue_attach(&q, mem, shmipc_segment_size(s), shmipc_segment_index(s), is_alive, s);
    if (!rc && shmipc_segment_holds(s, index, life)) rc = shmipc_queue_sweep(&q, index, NULL, NULL);
    return rc > 0 ? 0 : rc;
}

static const shmipc_kind queue_kind = {1000, 1, "demo queue", NULL, queue_sweep, NULL, NULL};

static int lane_init(shmipc_segment *s, void *config)
{
    void *mem;
    int rc = shmipc_segment_at(s, 0, shmipc_segment_size(s), &mem);
    return rc ? rc : shmipc_lane_init(mem, (size_t)shmipc_segment_size(s), (const shmipc_lane_config *)config);
}

static void lane_open(shmipc_ctx *ctx, shmipc_lane_env *env)
{
    shmipc_segment_config cfg;
    shmipc_lane_config lane;
    shmipc_lane_sizes sizes;
    shmipc_segment *s;
    shmipc_lane_config_init(&lane);
    lane.depth = 1024;
    must(shmipc_lane_measure(&lane, &sizes), "measuring a lane");
    shmipc_segment_config_init(&cfg);
    cfg.mode = SHMIPC_OPEN_OR_CREATE;
    cfg.size = sizes.bytes;
    cfg.init = lane_init;
    cfg.init_arg = &lane;
    must(shmipc_segment_open(ctx, "demo/pose", &cfg, &s), shmipc_ctx_detail(ctx));
    memset(env, 0, sizeof *env);
    must(shmipc_segment_at(s, 0, sizes.bytes, &env->mem), "finding the lane");
    env->bytes = (size_t)sizes.bytes;
    env->alive = is_alive;
    env->arg = s;
    env->owner = shmipc_segment_index(s);
}

typedef struct rings {
    shmipc_ctx *ctx;
    shmipc_segment *jobs_segment, *reports_segment;
    shmipc_queue jobs, reports;
} rings;

static void rings_open(rings *r)
{
    shmipc_ctx_config cfg;
    char why[512] = "";
    shmipc_ctx_config_init(&cfg);
    cfg.error_text = why;
    cfg.error_len = sizeof why;
    must(shmipc_ctx_open(&r->ctx, &cfg), why);
    queue_open(r->ctx, "demo/jobs", &jobs_config, &queue_kind, &r->jobs_segment, &r->jobs);
    queue_open(r->ctx, "demo/reports", &reports_config, &queue_kind, &r->reports_segment, &r->reports);
}

static void rings_close(rings *r)
{
    shmipc_queue_detach(&r->jobs);
    shmipc_queue_detach(&r->reports);
    shmipc_ctx_close(r->ctx);
}

static void tell(rings *r, uint64_t kind, uint64_t who, uint64_t number, uint64_t missed)
{
    report say;
    int rc;
    say.kind = kind;
    say.who = who;
    say.number = number;
    say.missed = missed;
    while ((rc = shmipc_queue_push(&r->reports, &say, sizeof say, 0)) == SHMIPC_EFULL) rest(100000);
    must(rc, "reporting");
}

/* ---- the actors -------------------------------------------------------------------------------------------------- */

static void push_job(rings *r, uint64_t number)
{
    int rc;
    while ((rc = shmipc_queue_push(&r->jobs, &number, sizeof number, 0)) == SHMIPC_EFULL) rest(100000);
    must(rc, "pushing");
}

/* About 200 jobs a millisecond; as fast as it can it would be through in a second. */
static void pusher(rings *r)
{
    double end = now_s() + SECONDS;
    uint64_t n, i;
    for (n = 0; n < MAX_JOBS && now_s() < end; n++) {
        push_job(r, n);
        if (n % 200 == 199) rest(900000);
    }
    for (i = 0; i < WORKERS; i++) push_job(r, MAX_JOBS); /* go home */
    tell(r, DONE_PUSHING, 0, n, 0);
}

/* What a job costs: some microseconds. */
static uint64_t work_on(uint64_t number)
{
    int i;
    for (i = 0; i < 4000; i++) number = (number ^ number >> 7) * 0x9e3779b97f4a7c15u;
    return number;
}

static void worker(rings *r, uint64_t who)
{
    volatile uint64_t result = 0;
    shmipc_queue_msg job;
    for (;;) {
        uint64_t number;
        int rc = shmipc_queue_take(&r->jobs, &job);
        if (rc == SHMIPC_EAGAIN) {
            rest(100000);
            continue;
        }
        must(rc, "taking");
        memcpy(&number, job.data, sizeof number);
        result += work_on(number);
        if (number < MAX_JOBS) tell(r, DONE_JOB, who, number, job.redelivered);
        /* killed before this line: somebody else gets the job */
        must(shmipc_queue_release(&r->jobs, &job), "releasing");
        if (number >= MAX_JOBS) return;
    }
}

static void publisher(rings *r)
{
    shmipc_lane_env env;
    shmipc_lane_writer w;
    double start, end;
    pose p = {0, 0, 0};
    lane_open(r->ctx, &env);
    must(shmipc_lane_writer_attach(&w, &env), "becoming the lane's writer");
    for (start = now_s(), end = start + SECONDS; now_s() < end; rest(500000)) {
        p.x = now_s() - start;
        must(shmipc_lane_send(&w, &p, sizeof p, 0), "publishing");
    }
    must(shmipc_lane_send(&w, &p, sizeof p, 1), "publishing"); /* tag 1: the last one */
    must(shmipc_lane_writer_detach(&w), "leaving the lane");
}

static void reader(rings *r, uint64_t who)
{
    shmipc_lane_env env;
    shmipc_lane_reader reader;
    uint64_t received = 0;
    uint32_t len, tag = 0;
    pose p;
    lane_open(r->ctx, &env);
    must(shmipc_lane_reader_attach(&reader, &env, 1024), "becoming a reader");
    while (tag == 0) {
        int rc = shmipc_lane_recv(&reader, &p, sizeof p, &len, &tag);
        if (rc == SHMIPC_EAGAIN) rest(200000);
        else must(rc, "receiving");
        received += rc == SHMIPC_OK;
    }
    tell(r, DONE_READING, who, received, shmipc_lane_missed(&reader));
    must(shmipc_lane_reader_detach(&reader), "leaving the lane");
}

typedef void (*actor)(rings *r, uint64_t who);
static void pusher_actor(rings *r, uint64_t who) { (void)who, pusher(r); }
static void publisher_actor(rings *r, uint64_t who) { (void)who, publisher(r); }

/* Each child opens a context of its own: a life is proved by a lock that only its process holds. */
static pid_t start(actor act, uint64_t who)
{
    rings r;
    pid_t pid = fork();
    if (pid) return pid;
    rings_open(&r);
    act(&r, who);
    rings_close(&r);
    _exit(0);
}

/* ---- the stage manager ------------------------------------------------------------------------------------------- */

typedef struct score {
    unsigned char *done; /* per job: how often it was reported */
    uint64_t per_worker[WORKERS + 1], jobs, twice, again, pushed, readers;
    int pushing;
} score;

static void count(score *s, const report *say)
{
    if (say->kind == DONE_PUSHING) {
        s->pushed = say->number;
        s->pushing = 0;
    } else if (say->kind == DONE_READING) {
        printf("      reader %llu saw %llu poses and knows that it missed %llu: %llu in all\n",
               (unsigned long long)say->who, (unsigned long long)say->number, (unsigned long long)say->missed,
               (unsigned long long)(say->number + say->missed));
        s->readers++;
    } else if (say->number < MAX_JOBS && say->who <= WORKERS) {
        s->per_worker[say->who]++;
        s->again += say->missed != 0; /* handed out before, to a process that died with it */
        s->twice += s->done[say->number] && say->missed == 0;
        s->jobs += s->done[say->number] == 0;
        s->done[say->number] = 1;
    }
}

static void watch(rings *r, score *s, double until)
{
    report say;
    uint32_t tag;
    while (now_s() < until) {
        int rc = shmipc_queue_recv(&r->reports, &say, sizeof say, &tag);
        if (rc == (int)sizeof say) count(s, &say);
        else if (!s->pushing && s->jobs == s->pushed && s->readers == READERS) return;
        else rest(200000);
    }
}

int main(void)
{
    rings r;
    score s;
    pid_t workers[WORKERS + 1], readers[READERS + 1], others[2];
    double begin;
    int second, i, bad = 0;

    memset(&s, 0, sizeof s);
    s.done = (unsigned char *)calloc(MAX_JOBS, 1);
    s.pushing = 1;
    if (!s.done) return 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("shmipc %d.%d.%d: 1 pusher, %d workers, 1 publisher, %d readers, each a process of its own\n\n",
           SHMIPC_VERSION_MAJOR, SHMIPC_VERSION_MINOR, SHMIPC_VERSION_PATCH, WORKERS, READERS);
    others[0] = start(publisher_actor, 0);
    for (i = 1; i <= READERS; i++) readers[i] = start(reader, (uint64_t)i);
    for (i = 1; i <= WORKERS; i++) workers[i] = start(worker, (uint64_t)i);
    others[1] = start(pusher_actor, 0);
    rings_open(&r);

    begin = now_s();
    printf("   s      jobs/s    worker 1    worker 2    worker 3   redelivered\n");
    for (second = 1; second <= SECONDS + 3; second++) {
        uint64_t before = s.jobs;
        watch(&r, &s, begin + second);
        (void)shmipc_segment_sweep(r.jobs_segment); /* gives back what the dead held */
        if (s.jobs > before)
            printf("  %2d  %10llu  %10llu  %10llu  %10llu  %12llu\n", second, (unsigned long long)(s.jobs - before),
                   (unsigned long long)s.per_worker[1], (unsigned long long)s.per_worker[2],
                   (unsigned long long)s.per_worker[3], (unsigned long long)s.again);
        if (second == 3) {
            printf("      kill -9 worker 2\n");
            kill(workers[2], SIGKILL);
            waitpid(workers[2], NULL, 0);
        } else if (second == 5) {
            printf("      a new worker 2; reader 2 is stopped for two seconds\n");
            workers[2] = start(worker, 2);
            kill(readers[2], SIGSTOP);
        } else if (second == 7) {
            printf("      reader 2 goes on\n");
            kill(readers[2], SIGCONT);
        } else if (!s.pushing && s.jobs == s.pushed && s.readers == READERS) {
            break;
        }
    }
    for (i = 1; i <= WORKERS; i++) bad |= waitpid(workers[i], NULL, 0) < 0;
    for (i = 1; i <= READERS; i++) bad |= waitpid(readers[i], NULL, 0) < 0;
    for (i = 0; i < 2; i++) bad |= waitpid(others[i], NULL, 0) < 0;
    printf("\n%llu jobs pushed, %llu done, %llu lost, %llu of them handed out again after the kill, %llu done twice "
           "without notice\n", (unsigned long long)s.pushed, (unsigned long long)s.jobs,
           (unsigned long long)(s.pushed - s.jobs), (unsigned long long)s.again, (unsigned long long)s.twice);
    bad |= s.pushed != s.jobs || s.twice || s.readers != READERS;
    rings_close(&r);
    free(s.done);
    return bad;
}
