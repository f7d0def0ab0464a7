/* A queue in a named segment. A worker takes a job and is killed with SIGKILL; another worker gets the same job,
 * because the kernel says that the first one is dead. Nobody waits for a timeout and nothing has to be cleaned up by
 * hand. */
#define SHMIPC_IMPLEMENTATION
#include "shmipc.h"
#include <signal.h>
#include <sys/wait.h>

static const shmipc_queue_config shape = {64, 64 + 8, 256, SHMIPC_QUEUE_REDELIVER};

static int is_alive(void *segment, uint32_t owner) { return shmipc_segment_alive((shmipc_segment *)segment, owner); }

static int attach(shmipc_segment *segment, shmipc_queue *queue)
{
    uint64_t size = shmipc_segment_size(segment);
    void *memory;
    int rc = shmipc_segment_at(segment, 0, size, &memory);
    return rc ? rc : shmipc_queue_attach(queue, memory, size, shmipc_segment_index(segment), is_alive, segment);
}

/* What the registry must know of our kind of segment: how it begins, and how to give back what a dead user had. */
static int lay_out(shmipc_segment *segment, void *arg)
{
    void *memory;
    int rc = shmipc_segment_at(segment, 0, shmipc_segment_size(segment), &memory);
    (void)arg;
    return rc ? rc : shmipc_queue_init(memory, shmipc_segment_size(segment), &shape);
}

static int give_back(shmipc_segment *segment, uint32_t index, uint64_t life)
{
    shmipc_queue queue;
    int rc = attach(segment, &queue);
    (void)life;
    if (!rc) rc = shmipc_queue_sweep(&queue, index, NULL, NULL);
    return rc < 0 ? rc : 0;
}

static const shmipc_kind jobs = {1000, 1, "jobs", NULL, give_back, NULL, NULL};

static int open_jobs(shmipc_ctx **ctx, shmipc_segment **segment, shmipc_queue *queue)
{
    shmipc_segment_config config;
    int rc = shmipc_ctx_open(ctx, NULL);
    shmipc_segment_config_init(&config);
    config.mode = SHMIPC_OPEN_OR_CREATE;
    config.kind = &jobs;
    config.init = lay_out;
    if (!rc) rc = shmipc_queue_size(&shape, &config.size);
    if (!rc) rc = shmipc_segment_open(*ctx, "example/jobs", &config, segment);
    if (!rc) rc = attach(*segment, queue);
    if (rc) printf("cannot open: %s, %s\n", shmipc_strerror(rc), shmipc_ctx_detail(*ctx));
    return rc;
}

static void first_worker(int ready)
{
    shmipc_ctx *ctx;
    shmipc_segment *segment;
    shmipc_queue queue;
    shmipc_queue_msg job;
    if (open_jobs(&ctx, &segment, &queue) || shmipc_queue_take(&queue, &job)) _exit(1);
    printf("worker 1 has taken \"%s\"\n", (char *)job.data);
    fflush(stdout);
    if (write(ready, "x", 1) != 1) _exit(1);
    for (;;) pause();
}

int main(void)
{
    shmipc_ctx *ctx;
    shmipc_segment *segment;
    shmipc_queue queue;
    shmipc_queue_msg job;
    int ready[2], rc;
    char byte;
    pid_t worker;
    if (open_jobs(&ctx, &segment, &queue) || pipe(ready)) return 1;
    if (shmipc_queue_push(&queue, "paint the fence", 16, 0)) return 1;
    worker = fork();
    if (worker == 0) first_worker(ready[1]);
    if (worker < 0 || read(ready[0], &byte, 1) != 1) return 1;
    kill(worker, SIGKILL);
    waitpid(worker, NULL, 0);
    puts("worker 1 was killed");

    shmipc_segment_sweep(segment); /* what opening, closing and waiting do anyway */
    rc = shmipc_queue_take(&queue, &job);
    if (rc) return printf("the job is lost: %s\n", shmipc_strerror(rc)), 1;
    printf("worker 2 has taken \"%s\", handed out before: %u\n", (char *)job.data, job.redelivered);
    shmipc_queue_release(&queue, &job);
    shmipc_ctx_close(ctx);
    return 0;
}
