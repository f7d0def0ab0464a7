/* Sockets between processes that have nothing in common but the directory: this program, executed again.
 * (not under emulation: it executes itself, which the emulator would run natively) */
#define CHECK_NO_MAIN
#include "socket_world.h"

static int spawned(const char *dir, int role)
{
    shmipc_ctx_config cfg;
    shmipc_ctx *ctx;
    shmipc_socket *s;
    uint64_t i, id = 0;
    size_t len = 0;
    shmipc_ctx_config_init(&cfg);
    cfg.dir = dir;
    if (shmipc_ctx_open(&ctx, &cfg) || open_as(ctx, role, "spawned", NULL, &s)) return 1;
    for (i = 0; i < 1000; i++) {
        if (shmipc_recv(s, &id, sizeof id, &len, SOON) || len != 8) return 2;
        if (id != i) return 3;
        if (role == SHMIPC_REP && shmipc_send(s, &id, 8, 0)) return 4;
    }
    shmipc_close(&s);
    shmipc_ctx_close(ctx);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--spawned") == 0) return spawned(argv[2], atoi(argv[3]));
    return check_main(argc, argv);
}

static pid_t spawn(int role)
{
    char number[16];
    pid_t pid;
    snprintf(number, sizeof number, "%d", role);
    pid = fork();
    if (pid == 0) {
        execl("/proc/self/exe", "spawned", "--spawned", scope_dir(), number, (char *)NULL);
        _exit(127);
    }
    return pid;
}

TEST(S25_S31_S63_spawned_processes)
{
    shmipc_ctx *ctx = world_begin();
    int p;
    for (p = 0; p < PAIRS; p++) {
        shmipc_socket_config cfg = options();
        shmipc_socket *s;
        pid_t pid = spawn(pairs[p][1]);
        uint64_t i;
        cfg.connect_ns = SOON; /* event-driven: until the other is there */
        cfg.depth = 1024;
        s = opened(ctx, pairs[p][0], "spawned", p == 2 ? NULL : &cfg);
        for (i = 0; i < 1000; i++) {
            CHECK_EQ(send_id(s, i, SOON), SHMIPC_OK);
            if (p == 2) CHECK_EQ(recv_id(s, SOON), (int64_t)i);
        }
        child_done(pid);
        shmipc_close(&s);
    }
    world_end(ctx);
}
