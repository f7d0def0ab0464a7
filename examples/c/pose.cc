// The same header in C++: one process broadcasts a pose, another always reads the newest.
#define SHMIPC_IMPLEMENTATION
#include "shmipc.h"
#include <cstdio>
#include <sys/wait.h>

struct pose {
    double x, y, angle;
};

// One process writes, so who lives need not be asked; memory comes from the kernel and is aligned to pages.
static shmipc_lane_env environment(void *memory, size_t bytes)
{
    shmipc_lane_env env = shmipc_lane_env();
    env.mem = memory;
    env.bytes = bytes;
    return env;
}

static int broadcast(const shmipc_lane_env &env)
{
    shmipc_lane_writer writer;
    if (shmipc_lane_writer_attach(&writer, &env)) return 1;
    for (int i = 1; i <= 1000; i++) {
        pose p = {i * 0.1, i * 0.2, i * 0.001};
        if (shmipc_lane_send(&writer, &p, sizeof p, 0)) return 1;
    }
    return shmipc_lane_writer_detach(&writer) != 0;
}

int main()
{
    shmipc_lane_config config;
    shmipc_lane_sizes sizes;
    shmipc_lane_reader reader;
    shmipc_lane_config_init(&config);
    if (shmipc_lane_measure(&config, &sizes)) return 1;
    void *memory = mmap(nullptr, sizes.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || shmipc_lane_init(memory, sizes.bytes, &config)) return 1;
    shmipc_lane_env env = environment(memory, sizes.bytes);
    if (shmipc_lane_reader_attach(&reader, &env, 0)) return 1;

    pid_t child = fork();
    env.owner = 1;
    if (child == 0) _exit(broadcast(env));
    int status = 1;
    waitpid(child, &status, 0);

    pose newest;
    uint32_t len, tag;
    uint64_t skipped;
    if (shmipc_lane_skip(&reader, 1, &skipped)) return 1;
    if (shmipc_lane_recv(&reader, &newest, sizeof newest, &len, &tag)) return 1;
    std::printf("newest pose: %.1f %.1f %.3f; %u of 1000 messages were overwritten or skipped\n", newest.x, newest.y,
                newest.angle, static_cast<unsigned>(shmipc_lane_missed(&reader) + skipped));
    return status;
}
