/* A robot's pose, published a thousand times a second, to whoever wants it.
 *
 * The publisher never waits and never knows who listens; a subscriber that is too slow learns what it missed. */
#define SHMIPC_IMPLEMENTATION
#include "shmipc_socket.h"

#include <stdio.h>
#include <sys/wait.h>
#include <time.h>

typedef struct pose {
    uint64_t number;
    double x, y, heading;
} pose;

enum { POSES = 1000 };

static int controller(shmipc_ctx *ctx)
{
    shmipc_socket *pub;
    shmipc_socket_config cfg;
    pose p = {0, 0.0, 0.0, 0.0};
    struct timespec next;
    shmipc_socket_config_init(&cfg);
    cfg.connect_ns = -1; /* only so that this example loses nothing: a robot would not wait for listeners */
    if (shmipc_pub_open(&pub, ctx, "example/pose", &cfg)) return 1;
    clock_gettime(CLOCK_MONOTONIC, &next);
    while (p.number < POSES) {
        if (shmipc_send(pub, &p, sizeof p, 0)) return 1;
        p.number++;
        p.x += 0.001;
        next.tv_nsec += 1000000;
        if (next.tv_nsec >= 1000000000) next.tv_nsec -= 1000000000, next.tv_sec++;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
    shmipc_close(&pub);
    return 0;
}

static int listener(shmipc_ctx *ctx)
{
    shmipc_socket *sub;
    shmipc_socket_stats stats;
    pose p;
    size_t len;
    int rc = shmipc_sub_open(&sub, ctx, "example/pose", NULL);
    while (!rc) {
        rc = shmipc_recv(sub, &p, sizeof p, &len, 2000000000);
        if (!rc && p.number + 1 == POSES) break;
    }
    if (rc || shmipc_socket_get_stats(sub, &stats)) return 1;
    printf("pose: %llu received, %llu missed, the last at x = %.3f\n", (unsigned long long)stats.received,
           (unsigned long long)stats.dropped, p.x);
    shmipc_close(&sub);
    return stats.received + stats.dropped != POSES;
}

int main(void)
{
    shmipc_ctx *ctx;
    int status, rc;
    pid_t child = fork();
    if (shmipc_ctx_open(&ctx, NULL)) return 1;
    rc = child ? listener(ctx) : controller(ctx);
    shmipc_ctx_close(ctx);
    if (child && (waitpid(child, &status, 0) != child || status)) rc = 1;
    return rc;
}
