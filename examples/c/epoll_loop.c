/* Two sockets in one epoll loop: shmipc_fd gives a descriptor, shmipc_fd_arm says when it may be slept on. */
#define SHMIPC_IMPLEMENTATION
#include "shmipc_socket.h"

#include <stdio.h>
#include <sys/epoll.h>
#include <sys/wait.h>

enum { MESSAGES = 1000 };

static int talk(void)
{
    shmipc_ctx *ctx;
    shmipc_socket *pub, *push;
    shmipc_socket_config cfg;
    uint32_t i;
    shmipc_socket_config_init(&cfg);
    cfg.connect_ns = -1;
    cfg.depth = 2048; /* so that nothing is lost, however slow the listener is */
    if (shmipc_ctx_open(&ctx, NULL) || shmipc_pub_open(&pub, ctx, "example/news", &cfg)) return 1;
    if (shmipc_push_open(&push, ctx, "example/orders", &cfg)) return 1;
    for (i = 0; i < MESSAGES; i++) {
        if (shmipc_send(i % 2 ? pub : push, &i, sizeof i, -1)) return 1;
    }
    shmipc_close(&pub);
    shmipc_close(&push);
    shmipc_ctx_close(ctx);
    return 0;
}

/* Takes what is there, then arms; 1 if there is something again. */
static int drain(shmipc_socket *s, uint32_t *count)
{
    uint32_t value;
    size_t len;
    while (shmipc_recv(s, &value, sizeof value, &len, 0) == SHMIPC_OK) ++*count;
    return shmipc_fd_arm(s);
}

int main(void)
{
    shmipc_ctx *ctx;
    shmipc_socket *s[2];
    struct epoll_event e;
    uint32_t count = 0, i;
    int loop = epoll_create1(EPOLL_CLOEXEC), idle = 0, more, status;
    pid_t child = fork();
    if (child == 0) _exit(talk());
    if (shmipc_ctx_open(&ctx, NULL) || shmipc_sub_open(&s[0], ctx, "example/news", NULL)) return 1;
    if (shmipc_pull_open(&s[1], ctx, "example/orders", NULL)) return 1;
    for (i = 0; i < 2; i++) {
        e.events = EPOLLIN;
        e.data.ptr = s[i];
        if (epoll_ctl(loop, EPOLL_CTL_ADD, shmipc_fd(s[i]), &e)) return 1;
    }
    while (count < MESSAGES && idle < 100) {
        more = drain(s[0], &count) | drain(s[1], &count);
        if (more < 0) return 1;
        /* 50 ms, because a sender may be killed just before its notice */
        if (!more && count < MESSAGES) idle += epoll_wait(loop, &e, 1, 50) == 0;
    }
    printf("epoll_loop: %u messages\n", count);
    close(loop);
    shmipc_close(&s[0]);
    shmipc_close(&s[1]);
    shmipc_ctx_close(ctx);
    return waitpid(child, &status, 0) != child || status || count != MESSAGES;
}
