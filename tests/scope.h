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

#endif /* SHMIPC_SCOPE_H */
