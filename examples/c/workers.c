/* A queue of jobs and three workers, one of which is killed while it holds a job: another one gets it, and
 * `redelivered` tells that it is not the first. The producer has left long before the last job is done. */
#define SHMIPC_IMPLEMENTATION
#include "shmipc_socket.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

enum { JOBS = 3000, WORKERS = 3 };

static int work(int dies)
{
    shmipc_ctx *ctx;
    shmipc_socket *jobs, *results;
    shmipc_msg job;
    uint32_t done[2];
    if (shmipc_ctx_open(&ctx, NULL) || shmipc_pull_open(&jobs, ctx, "example/jobs", NULL)) return 1;
    if (shmipc_push_open(&results, ctx, "example/results", NULL)) return 1;
    for (;;) {
        if (shmipc_take(jobs, &job, -1)) return 1;
        if (dies) raise(SIGKILL);
        memcpy(done, job.data, 4);
        done[1] = job.redelivered;
        if (shmipc_send(results, done, sizeof done, -1) || shmipc_release(&job)) return 1;
    }
}

static int produce(void)
{
    shmipc_ctx *ctx;
    shmipc_socket *jobs;
    uint32_t i;
    if (shmipc_ctx_open(&ctx, NULL) || shmipc_push_open(&jobs, ctx, "example/jobs", NULL)) return 1;
    for (i = 0; i < JOBS; i++) {
        if (shmipc_send(jobs, &i, sizeof i, -1)) return 1; /* waits while the queue is full */
    }
    shmipc_close(&jobs);
    shmipc_ctx_close(ctx);
    return 0;
}

int main(void)
{
    static unsigned char seen[JOBS];
    shmipc_ctx *ctx;
    shmipc_socket *results;
    uint32_t done[2], count = 0, again = 0, twice = 0;
    pid_t worker[WORKERS], producer;
    size_t len;
    int i;
    if (shmipc_ctx_open(&ctx, NULL) || shmipc_pull_open(&results, ctx, "example/results", NULL)) return 1;
    for (i = 0; i < WORKERS; i++) {
        worker[i] = fork();
        if (worker[i] == 0) _exit(work(i == 0));
    }
    producer = fork();
    if (producer == 0) _exit(produce());
    while (count < JOBS && shmipc_recv(results, done, sizeof done, &len, 5000000000) == SHMIPC_OK) {
        twice += seen[done[0] % JOBS]++;
        again += done[1] != 0;
        count++;
    }
    printf("workers: %u jobs done, %u of them after a worker was killed over it, %u twice\n", count, again, twice);
    for (i = 0; i < WORKERS; i++) kill(worker[i], SIGTERM), waitpid(worker[i], NULL, 0);
    waitpid(producer, NULL, 0);
    shmipc_close(&results);
    shmipc_ctx_close(ctx);
    return count != JOBS || twice;
}
