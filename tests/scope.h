/* scope.h - a scope of its own for one test: a directory under /dev/shm that goes when the test is over. */
#ifndef SHMIPC_SCOPE_H
#define SHMIPC_SCOPE_H

#include <dirent.h>
#include <sys/stat.h>

static char scope__dir[64];

/* The directory, with the mode that a user's scope has. */
static inline const char *scope_dir(void)
{
    if (!scope__dir[0]) {
        strcpy(scope__dir, "/dev/shm/shmipc-test-XXXXXX");
        REQUIRE(mkdtemp(scope__dir) != NULL);
    }
    return scope__dir;
}

static inline shmipc_ctx *scope_open(void)
{
    shmipc_ctx_config cfg;
    shmipc_ctx *ctx = NULL;
    char why[512] = "";
    int rc;
    shmipc_ctx_config_init(&cfg);
    cfg.dir = scope_dir();
    cfg.error_text = why;
    cfg.error_len = sizeof why;
    rc = shmipc_ctx_open(&ctx, &cfg);
    if (rc) fprintf(stderr, "scope_open: %s (%s)\n", shmipc_strerror(rc), why);
    REQUIRE(rc == 0);
    return ctx;
}

/* How many files of the scope have names that contain `part`. */
static inline int scope_files(const char *part)
{
    DIR *d = opendir(scope_dir());
    struct dirent *e;
    int n = 0;
    if (!d) return -1;
    while ((e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && strstr(e->d_name, part)) n++;
    }
    closedir(d);
    return n;
}

/* Removes the directory and all in it. */
static inline void scope_end(void)
{
    DIR *d = opendir(scope_dir());
    struct dirent *e;
    while (d && (e = readdir(d)) != NULL) {
        if (e->d_name[0] != '.' || strlen(e->d_name) > 2) (void)unlinkat(dirfd(d), e->d_name, 0);
    }
    if (d) closedir(d);
    (void)rmdir(scope__dir);
    scope__dir[0] = 0;
}

/* Forks a process that runs fn(arg), tells that it is done, and stays as it is until it is killed. */
static inline pid_t scope_stay(void (*fn)(void *arg), void *arg)
{
    int p[2];
    char byte = 0;
    pid_t pid;
    REQUIRE(pipe(p) == 0);
    pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        close(p[0]);
        fn(arg);
        if (write(p[1], "r", 1) != 1) _exit(1);
        close(p[1]);
        for (;;) pause();
    }
    close(p[1]);
    CHECK_EQ(read(p[0], &byte, 1), 1);
    close(p[0]);
    return pid;
}

/* Kills it; when this returns the kernel has let go of its locks. */
static inline void scope_kill(pid_t pid)
{
    int st;
    kill(pid, SIGKILL);
    CHECK_EQ(waitpid(pid, &st, 0), pid);
}

/* Runs fn(arg) in a process that dies by SIGKILL right after, holding whatever it then holds. */
static inline void scope_leave_dead(void (*fn)(void *arg), void *arg) { scope_kill(scope_stay(fn, arg)); }

/* Descriptors and mappings of this process: what a call must not leak. */
static inline int scope_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;
    if (!d) return -1;
    while (readdir(d)) n++;
    closedir(d);
    return n;
}
static inline int scope_mappings(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512];
    int n = 0;
    if (!f) return -1;
    while (fgets(line, sizeof line, f)) n += strstr(line, "/dev/shm/") != NULL; /* our own folder may be named shmipc */
    fclose(f);
    return n;
}

#endif /* SHMIPC_SCOPE_H */
