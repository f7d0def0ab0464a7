/* Contexts: the directory, the registry, lives, fork and lost descriptors, faults of the system. */
#include "check.h"
#include "faults.h"
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../shmipc.h"
#include "scope.h"
#include <grp.h>
#include <sched.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/syscall.h>

extern char **environ;

static int open_dir(const char *dir, int scope, shmipc_ctx **ctx, char why[512])
{
    shmipc_ctx_config cfg;
    shmipc_ctx_config_init(&cfg);
    cfg.dir = dir;
    cfg.scope = scope;
    cfg.error_text = why;
    cfg.error_len = 512;
    why[0] = 0;
    *ctx = NULL;
    return shmipc_ctx_open(ctx, &cfg);
}

/* Expects a refusal that names the directory and contains `cure`. */
static void refuses(const char *dir, int scope, int code, const char *cure)
{
    shmipc_ctx *ctx;
    char why[512];
    CHECK_EQ(open_dir(dir, scope, &ctx, why), code);
    CHECK(ctx == NULL);
    CHECK(strstr(why, dir) != NULL);
    if (!CHECK(strstr(why, cure) != NULL)) printf("said: %s\n", why);
}

/* ---- directory ---- */

TEST(K2_directory_is_made_and_verified)
{
    char dir[80], other[100], why[512];
    struct stat st;
    shmipc_ctx *ctx;
    int fd;
    snprintf(dir, sizeof dir, "%s/new", scope_dir());
    snprintf(other, sizeof other, "%s/other", scope_dir());
    umask(0777);
    REQUIRE(open_dir(dir, SHMIPC_SCOPE_USER, &ctx, why) == 0);
    umask(022);
    CHECK_STR(shmipc_ctx_dir(ctx), dir);
    shmipc_ctx_close(ctx);
    CHECK(stat(dir, &st) == 0 && (st.st_mode & 07777) == 0700);
    CHECK(chmod(dir, 0500) == 0); /* what a process killed between mkdir and chmod may leave */
    REQUIRE(open_dir(dir, SHMIPC_SCOPE_USER, &ctx, why) == 0);
    shmipc_ctx_close(ctx);
    CHECK(stat(dir, &st) == 0 && (st.st_mode & 07777) == 0700);
    CHECK(chmod(dir, 0750) == 0);
    refuses(dir, SHMIPC_SCOPE_USER, SHMIPC_EMODE, "chmod 700");
    CHECK(chmod(dir, 0701) == 0);
    refuses(dir, SHMIPC_SCOPE_USER, SHMIPC_EMODE, "chmod 700");
    CHECK(chmod(dir, 0700) == 0);
    CHECK(symlink(dir, other) == 0);
    refuses(other, SHMIPC_SCOPE_USER, SHMIPC_ESYMLINK, "symbolic link");
    CHECK(unlink(other) == 0);
    fd = open(other, O_CREAT | O_RDWR, 0700);
    CHECK(fd >= 0);
    close(fd);
    refuses(other, SHMIPC_SCOPE_USER, SHMIPC_EFOREIGN, "not a directory");
    CHECK(unlink(other) == 0);
    snprintf(other, sizeof other, "%s/no/such", scope_dir());
    refuses(other, SHMIPC_SCOPE_USER, SHMIPC_ENOENT, "SHMIPC_DIR");
    snprintf(other, sizeof other, "%s/registry", dir);
    unlink(other);
    CHECK(rmdir(dir) == 0);
    scope_end();
}

TEST(K2_directory_of_another_user)
{
    char dir[80];
    if (geteuid() != 0) SKIP("needs root, to give a directory to another user");
    snprintf(dir, sizeof dir, "%s/foreign", scope_dir());
    REQUIRE(mkdir(dir, 0700) == 0 && chown(dir, 12345, 12345) == 0);
    refuses(dir, SHMIPC_SCOPE_USER, SHMIPC_EOWNER, "another user");
    CHECK(chmod(dir, 02770) == 0);
    refuses(dir, SHMIPC_SCOPE_MACHINE, SHMIPC_EOWNER, "another user");
    CHECK(rmdir(dir) == 0);
    scope_end();
}

/* Becomes a plain user, in the group or not. */
static int as_user(const char *dir, int in_group, int code)
{
    gid_t group = 4242;
    pid_t pid = fork();
    int st;
    if (pid == 0) {
        shmipc_ctx *ctx;
        char why[512];
        if (setgroups(in_group ? 1 : 0, &group) || setgid(12345) || setuid(12345)) _exit(2);
        umask(077);
        _exit(open_dir(dir, SHMIPC_SCOPE_MACHINE, &ctx, why) == code ? 0 : 1);
    }
    waitpid(pid, &st, 0);
    return WIFEXITED(st) ? WEXITSTATUS(st) : -1;
}

TEST(K2_machine_scope_is_shared_by_a_group)
{
    char dir[80], file[96], why[512];
    struct stat st;
    shmipc_ctx *ctx;
    if (geteuid() != 0) SKIP("needs root, to become two users");
    snprintf(dir, sizeof dir, "%s/machine", scope_dir());
    snprintf(file, sizeof file, "%s/registry", dir);
    REQUIRE(chmod(scope_dir(), 0755) == 0);
    umask(077);
    REQUIRE(open_dir(dir, SHMIPC_SCOPE_MACHINE, &ctx, why) == 0);
    CHECK(stat(dir, &st) == 0 && (st.st_mode & 07777) == 02770);
    CHECK(stat(file, &st) == 0 && (st.st_mode & 07777) == 0660);
    shmipc_ctx_close(ctx);
    CHECK(chown(dir, 0, 4242) == 0 && chmod(dir, 02770) == 0 && chown(file, 0, 4242) == 0);
    CHECK_EQ(as_user(dir, 1, 0), 0);
    CHECK_EQ(as_user(dir, 0, SHMIPC_EACCES), 0);
    CHECK(chmod(dir, 02775) == 0);
    refuses(dir, SHMIPC_SCOPE_MACHINE, SHMIPC_EMODE, "chmod 2770");
    CHECK(chmod(dir, 02700) == 0);
    CHECK_EQ(as_user(dir, 1, SHMIPC_EMODE), 0);
    CHECK(unlink(file) == 0 && rmdir(dir) == 0);
    scope_end();
}

TEST(K2_directory_comes_from_config_or_environment)
{
    shmipc_ctx *ctx;
    shmipc_ctx c;
    char env[80], user[100];
    memset(&c, 0, sizeof c);
    snprintf(env, sizeof env, "%s/env", scope_dir());
    setenv("SHMIPC_DIR", env, 1);
    REQUIRE(shmipc_ctx_open(&ctx, NULL) == 0);
    CHECK_STR(shmipc_ctx_dir(ctx), env);
    shmipc_ctx_close(ctx);
    ctx = scope_open();
    CHECK_STR(shmipc_ctx_dir(ctx), scope_dir()); /* the configuration goes before the environment */
    shmipc_ctx_close(ctx);
    unsetenv("SHMIPC_DIR");
    snprintf(user, sizeof user, "/dev/shm/shmipc-%u", (unsigned)geteuid());
    CHECK_EQ(shmipc__dir_choose(&c, NULL), 0);
    CHECK_STR(c.path, user);
    free(c.path);
    c.shared = 1;
    CHECK_EQ(shmipc__dir_choose(&c, NULL), 0);
    CHECK_STR(c.path, "/dev/shm/shmipc");
    free(c.path);
    snprintf(user, sizeof user, "%s/registry", env);
    CHECK(unlink(user) == 0 && rmdir(env) == 0);
    scope_end();
}

TEST(K8_bad_arguments)
{
    shmipc_ctx_config cfg;
    shmipc_ctx *ctx = NULL;
    shmipc_ctx_config_init(&cfg);
    shmipc_ctx_config_init(NULL);
    cfg.dir = scope_dir();
    cfg.scope = 7;
    CHECK_EQ(shmipc_ctx_open(&ctx, &cfg), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_ctx_open(NULL, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_ctx_check(NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_ctx_sweep(NULL, 0), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_guard_run(NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_ctx_life(NULL), 0);
    CHECK_STR(shmipc_ctx_dir(NULL), "");
    CHECK(shmipc_ctx_detail(NULL) != NULL);
    shmipc_ctx_close(NULL);
    CHECK(ctx == NULL);
    scope_end();
}

static char logged[512];
static void log_here(void *arg, int level, const char *text)
{
    ++*(int *)arg;
    CHECK(level >= SHMIPC_LOG_ERROR && level <= SHMIPC_LOG_DEBUG);
    snprintf(logged, sizeof logged, "%s", text);
}

TEST(K8_log_callback_and_detail)
{
    shmipc_ctx_config cfg;
    shmipc_ctx *ctx;
    int lines = 0;
    shmipc_ctx_config_init(&cfg);
    cfg.dir = scope_dir();
    cfg.log = log_here;
    cfg.log_arg = &lines;
    REQUIRE(shmipc_ctx_open(&ctx, &cfg) == 0);
    CHECK_EQ(shmipc_segment_unlink(ctx, ""), SHMIPC_EINVAL);
    CHECK_EQ(lines, 1);
    CHECK_STR(logged, "name is empty");
    CHECK_STR(shmipc_ctx_detail(ctx), logged);
    shmipc_ctx_close(ctx);
    scope_end();
}

/* ---- registry ---- */

static void put_registry(const void *bytes, size_t n)
{
    char file[96];
    int fd;
    snprintf(file, sizeof file, "%s/registry", scope_dir());
    fd = open(file, O_CREAT | O_TRUNC | O_RDWR, 0600);
    REQUIRE(fd >= 0);
    CHECK_EQ(write(fd, bytes, n), (ssize_t)n);
    close(fd);
}

TEST(I9_registry_that_is_none)
{
    static unsigned char image[8192], good[8192];
    shmipc__registry *r = (shmipc__registry *)(void *)image;
    char file[96];
    size_t i;
    int fd;
    COVERS("K2 I3");
    shmipc_ctx_close(scope_open());
    snprintf(file, sizeof file, "%s/registry", scope_dir());
    fd = open(file, O_RDONLY);
    CHECK_EQ(read(fd, good, sizeof good), sizeof good);
    close(fd);
    put_registry("", 0);
    refuses(scope_dir(), 0, SHMIPC_EFOREIGN, "(0 bytes) is not a registry");
    put_registry(image, sizeof image);
    refuses(scope_dir(), 0, SHMIPC_EFOREIGN, "not a registry");
    for (i = 0; i < sizeof image; i++) image[i] = (unsigned char)check_random();
    put_registry(image, sizeof image);
    refuses(scope_dir(), 0, SHMIPC_EFOREIGN, "not a registry");
    put_registry(good, 3);
    refuses(scope_dir(), 0, SHMIPC_EFOREIGN, "(3 bytes)");
    put_registry(good, 100);
    refuses(scope_dir(), 0, SHMIPC_ECORRUPT, "truncated");
    put_registry(good, 8191);
    refuses(scope_dir(), 0, SHMIPC_ECORRUPT, "truncated");
    memcpy(image, good, sizeof image);
    r->layout = 7;
    put_registry(image, sizeof image);
    refuses(scope_dir(), 0, SHMIPC_ELAYOUT, "has layout 7");
    r->layout = SHMIPC__LAYOUT;
    r->stamp ^= 1;
    put_registry(image, sizeof image);
    refuses(scope_dir(), 0, SHMIPC_ELAYOUT, "this program has layout 1 with features 0x4040");
    r->stamp ^= 1;
    r->next_life = 3;
    put_registry(image, sizeof image);
    refuses(scope_dir(), 0, SHMIPC_ECORRUPT, "damaged");
    r->next_life = (uint64_t)1 << 62;
    put_registry(image, sizeof image);
    refuses(scope_dir(), 0, SHMIPC_ECORRUPT, "damaged");
    put_registry(good, sizeof good);
    shmipc_ctx_close(scope_open());
    CHECK(unlink(file) == 0 && symlink("/etc/passwd", file) == 0);
    refuses(scope_dir(), 0, SHMIPC_ESYMLINK, "registry");
    CHECK(unlink(file) == 0 && mkfifo(file, 0600) == 0);
    refuses(scope_dir(), 0, SHMIPC_EFOREIGN, "registry");
    CHECK(unlink(file) == 0 && mkdir(file, 0700) == 0);
    refuses(scope_dir(), 0, SHMIPC_EFOREIGN, "registry");
    CHECK(rmdir(file) == 0);
    scope_end();
}

TEST(K2_many_open_at_once_and_all_differ)
{
    uint64_t *lives = (uint64_t *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int i, j, st, gate[2];
    REQUIRE(lives != MAP_FAILED && pipe(gate) == 0);
    scope_dir();
    for (i = 0; i < 16; i++) {
        if (fork() == 0) {
            char byte;
            close(gate[1]);
            if (read(gate[0], &byte, 1) != 0) _exit(1); /* all at once, when the parent closes */
            lives[i] = shmipc_ctx_life(scope_open());
            _exit(0);
        }
    }
    close(gate[0]);
    close(gate[1]);
    while (wait(&st) > 0) CHECK_EQ(st, 0);
    for (i = 0; i < 16; i++) {
        CHECK(lives[i] >= SHMIPC__LIFE_FIRST);
        for (j = 0; j < i; j++) CHECK(lives[i] != lives[j]);
    }
    CHECK_EQ(scope_files(""), 1);
    scope_end();
}

TEST(K2_registry_deleted_while_in_use)
{
    shmipc_ctx *ctx = scope_open(), *next;
    char file[96];
    snprintf(file, sizeof file, "%s/registry", scope_dir());
    CHECK_EQ(shmipc_ctx_check(ctx), 0);
    CHECK(unlink(file) == 0);
    CHECK_EQ(shmipc_ctx_check(ctx), SHMIPC_ESTATE);
    CHECK(strstr(shmipc_ctx_detail(ctx), "deleted") != NULL);
    next = scope_open();
    CHECK_EQ(shmipc_ctx_check(next), 0);
    shmipc_ctx_close(next);
    shmipc_ctx_close(ctx);
    scope_end();
}

/* ---- lives ---- */

static uint64_t *stayed; /* the life of the process that scope_stay left */
static void stay_alive(void *arg)
{
    (void)arg;
    *stayed = shmipc_ctx_life(scope_open());
}
static void share_life(void)
{
    stayed = (uint64_t *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(stayed != MAP_FAILED);
    scope_dir(); /* before any fork, so that all mean the same one */
}

TEST(I2_alive_is_what_the_kernel_says)
{
    shmipc_ctx *ctx = scope_open(), *second = scope_open();
    siginfo_t info;
    pid_t pid;
    int st;
    COVERS("K7");
    share_life();
    CHECK_EQ(shmipc__life_alive(ctx, shmipc_ctx_life(ctx)), 1);
    CHECK_EQ(shmipc__life_alive(ctx, shmipc_ctx_life(second)), 1);
    CHECK_EQ(shmipc__life_alive(second, shmipc_ctx_life(ctx)), 1);
    CHECK(shmipc_ctx_life(second) > shmipc_ctx_life(ctx));
    CHECK_EQ(shmipc__life_alive(ctx, 0), 0);
    CHECK_EQ(shmipc__life_alive(ctx, 1), 0);
    CHECK_EQ(shmipc__life_alive(ctx, UINT64_MAX), 0);
    CHECK_EQ(shmipc__life_alive(ctx, SHMIPC__NUMBER_MAX), 0);
    CHECK_EQ(shmipc__life_alive(ctx, shmipc_ctx_life(second) + 1), 0);
    pid = scope_stay(stay_alive, NULL);
    CHECK_EQ(shmipc__life_alive(ctx, *stayed), 1);
    kill(pid, SIGSTOP); /* stopped is alive */
    CHECK_EQ(waitpid(pid, &st, WUNTRACED), pid);
    CHECK_EQ(shmipc__life_alive(ctx, *stayed), 1);
    kill(pid, SIGKILL);
    CHECK_EQ(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0); /* a zombie is dead */
    CHECK_EQ(kill(pid, 0), 0);
    CHECK_EQ(shmipc__life_alive(ctx, *stayed), 0);
    CHECK_EQ(waitpid(pid, &st, 0), pid);
    shmipc_ctx_close(second);
    CHECK_EQ(shmipc__life_alive(ctx, *stayed - 1), 0);
    shmipc_ctx_close(ctx);
    scope_end();
}

TEST(I2_largest_life_can_be_locked)
{
    shmipc_ctx *ctx = scope_open(), *last;
    shmipc__registry *r = (shmipc__registry *)(void *)ctx->registry;
    shmipc__store_release_u64(&r->next_life, SHMIPC__NUMBER_MAX);
    last = scope_open();
    CHECK_EQ((int64_t)shmipc_ctx_life(last), (int64_t)SHMIPC__NUMBER_MAX);
    CHECK_EQ(shmipc__life_alive(ctx, SHMIPC__NUMBER_MAX), 1);
    shmipc_ctx_close(last);
    CHECK_EQ(shmipc__life_alive(ctx, SHMIPC__NUMBER_MAX), 0);
    refuses(scope_dir(), 0, SHMIPC_ECORRUPT, "damaged"); /* the counter is used up */
    shmipc_ctx_close(ctx);
    scope_end();
}

TEST(I3_counter_of_lives_set_back)
{
    shmipc_ctx *ctx = scope_open(), *next;
    shmipc__registry *r = (shmipc__registry *)(void *)ctx->registry;
    shmipc__store_release_u64(&r->next_life, shmipc_ctx_life(ctx));
    next = scope_open();
    CHECK_EQ(shmipc_ctx_life(next), shmipc_ctx_life(ctx) + 1); /* never a number that somebody has */
    shmipc_ctx_close(next);
    shmipc_ctx_close(ctx);
    scope_end();
}

TEST(I3_lives_that_somebody_else_has_are_never_taken)
{
    shmipc_ctx *ctx = scope_open(), *next = NULL;
    shmipc__registry *r = (shmipc__registry *)(void *)ctx->registry;
    uint64_t life = shmipc_ctx_life(ctx) + 1;
    char why[512];
    int i;
    for (i = 0; i < 64; i++) CHECK_EQ(shmipc__os_try_lock(ctx->lock.file, life + (uint64_t)i), 0);
    CHECK_EQ(open_dir(scope_dir(), 0, &next, why), SHMIPC_ECORRUPT);
    CHECK(next == NULL);
    CHECK_EQ(open_dir(scope_dir(), 0, &next, why), 0); /* that cost 64 numbers */
    CHECK_EQ(shmipc_ctx_life(next), life + 64);
    shmipc_ctx_close(next);
    shmipc__store_relaxed_u64(&r->next_life, SHMIPC__NUMBER_MAX); /* the last one; then there are none */
    CHECK_EQ(open_dir(scope_dir(), 0, &next, why), 0);
    CHECK_EQ(shmipc_ctx_life(next), SHMIPC__NUMBER_MAX);
    shmipc_ctx_close(next);
    CHECK_EQ(open_dir(scope_dir(), 0, &next, why), SHMIPC_ECORRUPT);
    shmipc_ctx_close(ctx);
    scope_end();
}

/* A process of another PID namespace: pid 1 there, and there are no pids that both sides would agree on. */
static void in_namespace(void *arg)
{
    int p[2];
    char byte;
    (void)arg;
    if (unshare(CLONE_NEWPID) || pipe(p)) _exit(1);
    if (fork() == 0) {
        stay_alive(NULL);
        if (write(p[1], "r", 1) != 1) _exit(1);
        for (;;) pause();
    }
    if (read(p[0], &byte, 1) != 1) _exit(1);
}

TEST(K7_other_pid_namespace)
{
    shmipc_ctx *ctx = scope_open();
    pid_t pid;
    COVERS("I2");
    share_life();
    if (fork() == 0) _exit(unshare(CLONE_NEWPID) ? 1 : 0);
    else {
        int st;
        wait(&st);
        if (st) SKIP("unshare(CLONE_NEWPID) is not permitted here");
    }
    pid = scope_stay(in_namespace, NULL);
    CHECK_EQ(shmipc__life_alive(ctx, *stayed), 1);
    scope_kill(pid); /* only the parent: the life is its child's */
    CHECK_EQ(shmipc__life_alive(ctx, *stayed), 1);
    shmipc_ctx_close(ctx);
    scope_end();
}

/* The other way round: one inside looks at one outside, and sees it die. */
static void look_from_inside(void *arg)
{
    int *ask = (int *)arg;
    char byte;
    if (unshare(CLONE_NEWPID)) _exit(1);
    if (fork() == 0) {
        shmipc_ctx *ctx = scope_open();
        byte = (char)('0' + shmipc__life_alive(ctx, *stayed));
        if (write(ask[1], &byte, 1) != 1 || read(ask[2], &byte, 1) != 1) _exit(1);
        byte = (char)('0' + shmipc__life_alive(ctx, *stayed));
        if (write(ask[1], &byte, 1) != 1) _exit(1);
        _exit(0);
    }
}

TEST(K7_seen_from_another_pid_namespace)
{
    int a[2], b[2], ask[3];
    char byte = 0;
    pid_t outside, inside;
    COVERS("I2");
    share_life();
    if (fork() == 0) _exit(unshare(CLONE_NEWPID) ? 1 : 0);
    else {
        int st;
        wait(&st);
        if (st) SKIP("unshare(CLONE_NEWPID) is not permitted here");
    }
    REQUIRE(pipe(a) == 0 && pipe(b) == 0);
    ask[0] = 0;
    ask[1] = a[1];
    ask[2] = b[0];
    outside = scope_stay(stay_alive, NULL);
    inside = scope_stay(look_from_inside, ask);
    CHECK_EQ(read(a[0], &byte, 1), 1);
    CHECK_EQ(byte, '1');
    scope_kill(outside);
    CHECK_EQ(write(b[1], "g", 1), 1);
    CHECK_EQ(read(a[0], &byte, 1), 1);
    CHECK_EQ(byte, '0');
    scope_kill(inside);
    scope_end();
}

/* ---- fork, lost descriptors ---- */

static int child_status(pid_t pid)
{
    int st = -1;
    waitpid(pid, &st, 0);
    return WIFEXITED(st) ? WEXITSTATUS(st) : 1000 + WTERMSIG(st);
}

static int in_child(shmipc_ctx *ctx, int before)
{
    shmipc_ctx *own;
    if (shmipc_ctx_check(ctx) != SHMIPC_EFORKED) return 2;
    if (shmipc_ctx_sweep(ctx, 0) != SHMIPC_EFORKED) return 3;
    own = scope_open();
    if (shmipc_ctx_check(own) || shmipc_ctx_life(own) == shmipc_ctx_life(ctx)) return 4;
    if (shmipc__life_alive(own, shmipc_ctx_life(ctx)) != 1) return 5; /* the parent's, seen by the child */
    shmipc_ctx_close(ctx);
    if (shmipc_ctx_check(own)) return 6;
    shmipc_ctx_close(own);
    return scope_descriptors() == before - 3 && scope_mappings() == 0 ? 0 : 7;
}

/* An emulator may say yes to MADV_WIPEONFORK and do nothing (qemu-user 7.2): then only the pid tells a child of
 * clone. */
static int pages_are_wiped(void)
{
    uint32_t *page = shmipc__os_wipe_page();
    int st = 0;
    pid_t pid;
    if (!page) return 0;
    *page = 1;
    pid = fork();
    if (pid == 0) _exit(*page == 0);
    waitpid(pid, &st, 0);
    munmap(page, 4096);
    return WIFEXITED(st) && WEXITSTATUS(st);
}

TEST(K2_fork_leaves_the_child_without_a_life)
{
    shmipc_ctx *ctx = scope_open();
    int before = scope_descriptors();
    pid_t pid = fork();
    if (pid == 0) _exit(in_child(ctx, before));
    CHECK_EQ(child_status(pid), 0);
    CHECK_EQ(shmipc_ctx_check(ctx), 0);
    if (pages_are_wiped()) {
        pid = (pid_t)syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L); /* no handler runs in this child */
        if (pid == 0) _exit(in_child(ctx, before));
        CHECK_EQ(child_status(pid), 0);
        CHECK_EQ(shmipc_ctx_check(ctx), 0);
    }
    fault_all("wipe_page", EINVAL); /* a kernel without MADV_WIPEONFORK */
    shmipc_ctx_close(ctx);
    ctx = scope_open();
    CHECK(ctx->wipe == NULL);
    CHECK_EQ(shmipc_ctx_check(ctx), 0);
    pid = (pid_t)syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
    if (pid == 0) _exit(in_child(ctx, before));
    CHECK_EQ(child_status(pid), 0);
    shmipc_ctx_close(ctx);
    scope_end();
}

/* The parent dies while its child lives: the child must not keep it alive. */
static void fork_and_stay(void *arg)
{
    shmipc_ctx *ctx = scope_open();
    int p[2];
    char byte;
    *stayed = shmipc_ctx_life(ctx);
    if (pipe(p)) _exit(1);
    if (fork() == 0) {
        if (write(p[1], "r", 1) != 1) _exit(1);
        for (;;) pause();
    }
    if (read(p[0], &byte, 1) != 1) _exit(1);
    (void)arg;
}

TEST(I2_child_does_not_keep_its_parent_alive)
{
    shmipc_ctx *ctx = scope_open();
    share_life();
    scope_leave_dead(fork_and_stay, NULL);
    CHECK_EQ(shmipc__life_alive(ctx, *stayed), 0);
    shmipc_ctx_close(ctx);
    scope_end();
}

TEST(K2_spawn_and_exec_inherit_nothing)
{
    shmipc_ctx *ctx = scope_open();
    char script[] = "ls -l /proc/self/fd | grep -c shmipc-test; true";
    char sh[] = "sh", c[] = "-c", *args[4];
    posix_spawn_file_actions_t acts;
    int p[2], before = scope_descriptors();
    char out[16] = "";
    pid_t pid;
    args[0] = sh;
    args[1] = c;
    args[2] = script;
    args[3] = NULL;
    REQUIRE(pipe(p) == 0);
    posix_spawn_file_actions_init(&acts);
    posix_spawn_file_actions_adddup2(&acts, p[1], 1);
    CHECK_EQ(posix_spawn(&pid, "/bin/sh", &acts, NULL, args, environ), 0);
    posix_spawn_file_actions_destroy(&acts);
    close(p[1]);
    CHECK(read(p[0], out, sizeof out - 1) > 0);
    close(p[0]);
    CHECK_EQ(child_status(pid), 0);
    CHECK_STR(out, "0\n");
    CHECK_EQ(shmipc_ctx_check(ctx), 0);
    CHECK_EQ(scope_descriptors(), before);
    shmipc_ctx_close(ctx);
    scope_end();
}

TEST(I2_closed_descriptors_are_noticed)
{
    shmipc_ctx *ctx = scope_open(), *other;
    int fds[40], i, n = 0;
    share_life();
    for (i = 3; i < 60; i++) {
        if (fcntl(i, F_GETFD) >= 0) close(i); /* what a daemonising close_range does */
    }
    for (i = 0; i < 40; i++) fds[i] = open("/dev/null", O_RDONLY); /* their numbers are somebody else's now */
    CHECK_EQ(shmipc_ctx_check(ctx), SHMIPC_EOWNERDEAD);
    CHECK(strstr(shmipc_ctx_detail(ctx), "closed behind its back") != NULL);
    CHECK_EQ(shmipc_ctx_sweep(ctx, 0), SHMIPC_EOWNERDEAD);
    other = scope_open();
    CHECK_EQ(shmipc__life_alive(other, shmipc_ctx_life(ctx)), 0);
    shmipc_ctx_close(ctx);
    for (i = 0; i < 40; i++) n += fcntl(fds[i], F_GETFD) >= 0;
    CHECK_EQ(n, 40);
    CHECK_EQ(shmipc_ctx_check(other), 0);
    shmipc_ctx_close(other);
    scope_end();
}

TEST(K2_descriptors_stay_clear_of_the_standard_streams)
{
    shmipc_ctx *ctx;
    int saved = fcntl(1, F_DUPFD, 10), low;
    scope_dir();
    close(0);
    close(1);
    close(2);
    ctx = scope_open();
    low = fcntl(0, F_GETFD) >= 0 || fcntl(1, F_GETFD) >= 0 || fcntl(2, F_GETFD) >= 0;
    dup2(saved, 1);
    dup2(saved, 2);
    CHECK_EQ(low, 0);
    CHECK(fcntl((int)ctx->dir.file, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl((int)ctx->lock.file, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl((int)ctx->probe.file, F_GETFD) & FD_CLOEXEC);
    shmipc_ctx_close(ctx);
    scope_end();
}

/* ---- what the system refuses ---- */

static int is_code(int rc) { return rc < 0 && strcmp(shmipc_strerror(rc), "unknown code") != 0; }

TEST(I4_every_system_call_of_open_may_fail)
{
    static const int errors[] = {EMFILE, ENOMEM, ENOSPC, EACCES, EIO, EOPNOTSUPP};
    size_t e;
    COVERS("I6 K2");
    shmipc_ctx_close(scope_open()); /* the fork hook of the process is in place */
    for (e = 0; e < sizeof errors / sizeof *errors; e++) {
        int before = scope_descriptors(), maps = scope_mappings(), n, failed = 0;
        for (n = 1; n < 100; n++) {
            shmipc_ctx *ctx = NULL;
            char why[512], file[96];
            int rc, reached;
            snprintf(file, sizeof file, "%s/registry", scope_dir());
            if (n % 2) unlink(file); /* with and without one to find */
            fault_nth(n / 2 + 1, errors[e]);
            rc = open_dir(scope_dir(), 0, &ctx, why);
            if (!rc) shmipc_ctx_close(ctx);
            reached = fault_off();
            if (rc) {
                failed++;
                CHECK(is_code(rc));
                CHECK(rc == SHMIPC_ENOMEM || why[0]);
            }
            CHECK_EQ(scope_descriptors(), before);
            CHECK_EQ(scope_mappings(), maps);
            CHECK(scope_files("") <= 1);
            shmipc_ctx_close(scope_open()); /* the next call works */
            if (!reached && n % 2 == 0) break;
        }
        CHECK(failed > 10 && n < 100);
    }
    scope_end();
}

TEST(I4_descriptors_run_out)
{
    struct rlimit was, now;
    int limit, failed = 0;
    scope_dir();
    getrlimit(RLIMIT_NOFILE, &was);
    for (limit = 3; limit < 40; limit++) {
        shmipc_ctx *ctx;
        char why[512];
        int rc, before = scope_descriptors();
        now = was;
        now.rlim_cur = (rlim_t)limit;
        setrlimit(RLIMIT_NOFILE, &now);
        rc = open_dir(scope_dir(), 0, &ctx, why);
        setrlimit(RLIMIT_NOFILE, &was);
        if (rc) {
            CHECK_EQ(rc, SHMIPC_ENFILE);
            CHECK(strstr(why, "descriptor") != NULL);
            failed++;
        } else {
            shmipc_ctx_close(ctx);
        }
        CHECK_EQ(scope_descriptors(), before);
    }
    CHECK(failed >= 3);
    shmipc_ctx_close(scope_open());
    scope_end();
}

static void stay_with_draft(void *arg)
{
    shmipc_ctx *ctx = scope_open();
    shmipc__os_draft d;
    (void)arg;
    if (shmipc__os_draft_make(ctx->dir.file, 0, &d)) _exit(1);
}

TEST(K2_without_unnamed_files_or_proc)
{
    shmipc_ctx *ctx;
    pid_t pid;
    fault_all("open_unnamed", EOPNOTSUPP);
    ctx = scope_open();
    CHECK_EQ(scope_files(""), 1);
    pid = scope_stay(stay_with_draft, NULL);
    CHECK_EQ(scope_files(SHMIPC__OS_DRAFT_PREFIX), 1);
    CHECK_EQ(shmipc_ctx_sweep(ctx, 0), 0); /* its maker lives */
    CHECK_EQ(scope_files(SHMIPC__OS_DRAFT_PREFIX), 1);
    scope_kill(pid);
    CHECK_EQ(shmipc_ctx_sweep(ctx, 0), 1);
    CHECK_EQ(scope_files(SHMIPC__OS_DRAFT_PREFIX), 0);
    shmipc_ctx_close(ctx);
    scope_end();
    fault_all("proc", ENOENT);
    shmipc_ctx_close(scope_open());
    CHECK_EQ(scope_files(""), 1);
    scope_end();
    fault_off();
}

/* ---- name table ---- */

TEST(K2_name_table_grows_by_levels_and_says_when_it_is_full)
{
    shmipc_ctx *ctx = scope_open();
    shmipc__name *slot, *again, *first = NULL;
    struct stat st;
    char file[96];
    uint64_t n;
    int rc = 0;
    snprintf(file, sizeof file, "%s/registry", scope_dir());
    CHECK(stat(file, &st) == 0 && st.st_size == 8192);
    for (n = 1; n <= 5000; n++) {
        REQUIRE(shmipc__name_find(ctx, n * 77777777, 1, &slot) == 0);
        CHECK_EQ(shmipc__load_relaxed_u64(&slot->generation), 0);
        shmipc__store_relaxed_u64(&slot->generation, n);
    }
    for (n = 1; n <= 5000; n++) {
        REQUIRE(shmipc__name_find(ctx, n * 77777777, 0, &slot) == 0);
        CHECK_EQ(shmipc__load_relaxed_u64(&slot->generation), n);
        CHECK_EQ(shmipc__name_find(ctx, n * 77777777, 1, &again), 0);
        CHECK(slot == again);
    }
    CHECK_EQ(shmipc__name_find(ctx, 99, 0, &slot), SHMIPC_ENOENT);
    CHECK(stat(file, &st) == 0 && st.st_size <= 1024 * 1024); /* 80 kB of names */
    /* Fill the window of one key in every level. */
    for (n = 0; n < SHMIPC__LEVELS; n++) {
        uint64_t at = shmipc__mix(7 + n) & (((uint64_t)256 << n) - 1) & ~(uint64_t)7;
        int i, ready = shmipc__level_ready(ctx, (int)n, 1);
        REQUIRE(ready == 1);
        slot = (shmipc__name *)(void *)(ctx->registry + ((uint64_t)4096 << n)) + at;
        if (!first) first = slot;
        for (i = 0; i < 8; i++) shmipc__store_relaxed_u64(&slot[i].key, SHMIPC__NUMBER_MAX - n * 8 - (uint64_t)i);
    }
    rc = shmipc__name_find(ctx, 7, 1, &slot);
    CHECK_EQ(rc, SHMIPC_ETABLE);
    CHECK_EQ(shmipc__name_find(ctx, 7, 0, &slot), SHMIPC_ENOENT);
    CHECK_EQ(shmipc__name_find(ctx, 8, 1, &slot), 0);
    CHECK(stat(file, &st) == 0 && (uint64_t)st.st_size == SHMIPC__REGISTRY_BYTES);
    shmipc_ctx_close(ctx);
    scope_end();
}

TEST(I4_levels_are_reserved_first)
{
    shmipc_ctx *ctx = scope_open();
    shmipc__name *slot;
    uint64_t n;
    int rc = 0;
    fault_all("fallocate", ENOSPC);
    for (n = 1; rc == 0; n++) rc = shmipc__name_find(ctx, n, 1, &slot);
    CHECK_EQ(rc, SHMIPC_ENOSPC);
    CHECK(n > 16);
    fault_off();
    CHECK_EQ(shmipc__name_find(ctx, n - 1, 1, &slot), 0);
    shmipc_ctx_close(ctx);
    scope_end();
}

/* ---- the rest of the system layer ---- */

static uint32_t *word;
static void wait_on_word(void *arg)
{
    (void)arg;
    shmipc__store_release_u32(word + 1, 1);
    while (shmipc__load_acquire_u32(word) == 0) (void)shmipc__os_futex_wait(word, 0, -1);
    shmipc__store_release_u32(word + 1, 2);
}

TEST(K6_futex_across_processes)
{
    int64_t t0;
    pid_t pid;
    word = (uint32_t *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(word != MAP_FAILED);
    CHECK_EQ(shmipc__os_futex_wait(word, 1, -1), SHMIPC_EAGAIN);
    t0 = shmipc__os_now_ns();
    CHECK_EQ(shmipc__os_futex_wait(word, 0, 20000000), SHMIPC_ETIMEDOUT);
    CHECK(shmipc__os_now_ns() - t0 >= 20000000);
    CHECK_EQ(shmipc__os_futex_wait(word, 0, 0), SHMIPC_ETIMEDOUT);
    CHECK_EQ(shmipc__os_futex_wake(word, 1), 0);
    pid = fork();
    if (pid == 0) {
        wait_on_word(NULL);
        _exit(0);
    }
    while (shmipc__load_acquire_u32(word + 1) == 0) sched_yield();
    shmipc__store_release_u32(word, 1);
    CHECK(shmipc__os_futex_wake(word, INT32_MAX) >= 0);
    CHECK_EQ(child_status(pid), 0);
    CHECK_EQ(word[1], 2);
    CHECK(shmipc__os_cpu() >= 0);
    CHECK_EQ(shmipc__os_pid(), getpid());
    CHECK(shmipc__os_wall_ns() > 1000000000);
}
