/* Two processes and a ring over memory that they share anyway: no name, no registry, no system call per message. */
#define SHMIPC_IMPLEMENTATION
#include "shmipc.h"
#include <sys/wait.h>

enum { CAPACITY = 1 << 16, COUNT = 1000000 };

static int write_all(void *memory, size_t size)
{
    shmipc_spsc_writer w;
    uint32_t i;
    if (shmipc_spsc_writer_attach(&w, memory, size)) return 1;
    for (i = 0; i < COUNT; i++)
        while (shmipc_spsc_send(&w, &i, sizeof i, 0) == SHMIPC_EFULL) sched_yield();
    return 0;
}

static int read_all(void *memory, size_t size)
{
    shmipc_spsc_reader r;
    uint32_t i, got, len, tag;
    if (shmipc_spsc_reader_attach(&r, memory, size)) return 1;
    for (i = 0; i < COUNT; i++) {
        while (shmipc_spsc_recv(&r, &got, sizeof got, &len, &tag) == SHMIPC_EAGAIN) sched_yield();
        if (got != i) return printf("message %u came as %u\n", i, got), 1;
    }
    printf("%d messages arrived, in order, each once\n", COUNT);
    return 0;
}

int main(void)
{
    size_t size = shmipc_spsc_size(CAPACITY);
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status = 1;
    pid_t child;
    if (memory == MAP_FAILED || shmipc_spsc_init(memory, size, CAPACITY)) return 1;
    child = fork();
    if (child == 0) _exit(write_all(memory, size));
    if (child < 0 || read_all(memory, size)) return 1;
    waitpid(child, &status, 0);
    return status;
}
