/* explore_os.h - what shmipc.h wants of the operating system, as events of explore.h. Define SHMIPC_OS_HEADER to it.
 *
 * Each thread of the model is a process here. There is one directory; files are pieces of static memory that everybody
 * sees at the same address, empty at the start of every schedule. Locks are freed by a kill, in the same step.
 * Events (ordered with each other, choices of the search): link, unlink, open, list, locks, probes, futexes, and
 * reserving or looking at the size of a file that has a name. Everything else is private to a process and immediate.
 * Opening a file that somebody linked makes visible what he had written: the kernel orders the two, and so do locks.
 * Time stands still but for timed waits that run out, and ex_os_step ns with each look at the clock (per process).
 * Not modelled: EINTR, fork, full file systems, files removed by strangers, waiting for a lock other than in a loop.
 *
 * Private memory comes from an arena of each process that is empty at the start of every schedule, so killed processes
 * leak nothing. */
#ifndef EXPLORE_OS_H
#define EXPLORE_OS_H
#include "explore.h"

#define EX_OS_FILES 32
#ifndef EX_OS_FILE_BYTES
#define EX_OS_FILE_BYTES 32768
#endif
#ifndef EX_OS_ARENA
#define EX_OS_ARENA 65536
#endif

static struct {
    int run, opened[EX_THREADS], made[EX_THREADS];
    size_t used[EX_THREADS];
    int64_t clock[EX_THREADS + 1];
    struct { uint64_t size, dirty; int linked; char name[256]; } file[EX_OS_FILES];
    struct { int file, open; uint64_t locks; } fd[EX_THREADS + 1][64];
} ex_os;
static int64_t ex_os_step = 1000000;
static int ex_os_as = -1; /* setup acts for this thread: locks that it takes are his */
static unsigned char ex_os_memory[EX_OS_FILES][EX_OS_FILE_BYTES] __attribute__((aligned(4096)));
static unsigned char ex_os_arena[EX_THREADS][EX_OS_ARENA] __attribute__((aligned(64)));
static int ex_os_directory, ex_os_locks[EX_OS_FILES][64]; /* addresses that stand for objects of the kernel */

static void ex_os_fresh(void)
{
    int i;
    if (ex_os.run == ex.run) return;
    for (i = 0; i < EX_OS_FILES; i++) {
        if (ex_os.file[i].size) memset(ex_os_memory[i], 0, ex_os.file[i].size);
        ex_os.file[i].size = 0;
        ex_os.file[i].linked = 0;
    }
    memset(ex_os.opened, 0, sizeof ex_os.opened);
    memset(ex_os.made, 0, sizeof ex_os.made);
    memset(ex_os.clock, 0, sizeof ex_os.clock);
    memset(ex_os.used, 0, sizeof ex_os.used);
    ex.private_from = (const char *)ex_os_arena;
    ex.private_to = ex.private_from + sizeof ex_os_arena;
    ex_os.run = ex.run;
}
static int ex_os_me(void)
{
    int me = ex.self >= 0 ? ex.self : ex_os_as >= 0 ? ex_os_as : 0;
    ex_os_fresh();
    return me;
}
EX_UNUSED static void *ex_os_alloc(size_t n)
{
    int me = ex_os_me();
    void *p;
    n = (n + 63) & ~(size_t)63;
    if (ex_os.used[me] + n > EX_OS_ARENA) ex_die("the arena of private memory is full: EX_OS_ARENA");
    p = ex_os_arena[me] + ex_os.used[me];
    ex_os.used[me] += n;
    memset(p, 0, n);
    return p;
}
#undef malloc
#undef calloc
#undef free
#define malloc(n) ex_os_alloc(n)
#define calloc(n, size) ex_os_alloc((n) * (size))
#define free(p) ((void)(p))

/* ---- futexes, time and what identifies a process ---- */

#define EX_OS_AT(n, name, call) (__extension__({ EX_SITE_HERE(n, name, 0); call; }))
static inline int ex_os_wait(ex_site *s, uint32_t *word, uint32_t expected, int64_t timeout_ns)
{
    int r = ex_futex_wait(s, word, expected, timeout_ns);
    if (r == 2) ex_os.clock[ex_os_me()] += timeout_ns;
    return r == 0 ? SHMIPC_OK : r == 1 ? SHMIPC_EAGAIN : SHMIPC_ETIMEDOUT;
}
#define shmipc__os_futex_wait(word, expected, timeout_ns) \
    EX_OS_AT(ex_here, "futex wait", ex_os_wait(&ex_here, (word), (expected), (timeout_ns)))
#define shmipc__os_futex_wake(word, count) EX_OS_AT(ex_here, "futex wake", ex_futex_wake(&ex_here, (word), (count)))
static inline int64_t shmipc__os_now_ns(void) { return 1000000000 + (ex_os.clock[ex_os_me()] += ex_os_step); }
static inline int64_t shmipc__os_wall_ns(void) { return 1000000000; }
static inline int shmipc__os_pid(void) { return ex_os_me() + 1; }
static inline int shmipc__os_cpu(void) { return ex_os_me(); }
static inline uint32_t shmipc__os_user(void) { return 0; }
static inline const char *shmipc__os_env(const char *name) { return name ? NULL : name; }
static inline int shmipc__os_random(void *out, size_t n) { return memset(out, 0x5a, n), 0; }
static inline uint32_t *shmipc__os_wipe_page(void) { return NULL; }
static inline int shmipc__os_atfork(void (*a)(void), void (*b)(void), void (*c)(void)) { return a && b && c ? 0 : -1; }
typedef int shmipc__os_mutex; /* one thread to a process */
#define SHMIPC__OS_MUTEX_INIT 0
static inline void shmipc__os_mutex_init(shmipc__os_mutex *m) { *m = 0; }
static inline void shmipc__os_mutex_free(shmipc__os_mutex *m) { *m = 0; }
static inline void shmipc__os_mutex_lock(shmipc__os_mutex *m) { (void)m; }
static inline void shmipc__os_mutex_unlock(shmipc__os_mutex *m) { (void)m; }

/* ---- files: a handle is 64 * (1 + process) + descriptor; 0 of each process is the directory ---- */

typedef intptr_t shmipc__os_file;
#define SHMIPC__OS_NONE ((shmipc__os_file)-1)
#define SHMIPC__OS_DRAFT_PREFIX ".draft-"
typedef struct shmipc__os_info { uint64_t size, id[2]; uint32_t owner, mode; } shmipc__os_info;
typedef struct shmipc__os_draft { shmipc__os_file file; char temp[32]; } shmipc__os_draft;

/* An event of the directory or of a file; in setup there are none. */
static void ex_os_event(const void *key, const char *name, int fn)
{
    static ex_site sites[64];
    int i;
    if (ex.self < 0) return;
    for (i = 0; sites[i].op && strcmp(sites[i].op, name) != 0; i++) continue;
    sites[i].op = name;
    sites[i].file = "";
    ex_kernel(&sites[i], ex_futex_object(key), fn, fn == 'w');
}
static int ex_os_file(shmipc__os_file f)
{
    int who = (int)(f / 64) - 1, n = (int)(f % 64);
    ex_os_fresh();
    return f >= 64 && n && ex_os.fd[who][n].open ? ex_os.fd[who][n].file : -1;
}
static shmipc__os_file ex_os_descriptor(int file)
{
    int me = ex_os_me(), n = ++ex_os.opened[me];
    if (n >= 64) ex_die("too many descriptors");
    ex_os.fd[me][n].file = file;
    ex_os.fd[me][n].open = 1;
    ex_os.fd[me][n].locks = 0;
    return (me + 1) * 64 + n;
}
static inline int shmipc__os_dir_open(const char *path, int shared, shmipc__os_file *out)
{
    (void)path, (void)shared;
    *out = (ex_os_me() + 1) * 64;
    return 0;
}
static inline int shmipc__os_stat(shmipc__os_file f, shmipc__os_info *info)
{
    int i = ex_os_file(f);
    memset(info, 0, sizeof *info);
    info->id[0] = 1;
    info->id[1] = (uint64_t)(i + 2);
    if (i < 0) return 0;
    if (ex_os.file[i].linked) ex_os_event(&ex_os.file[i], "stat", 'r');
    info->size = ex_os.file[i].size;
    return 0;
}
/* Only the registry is asked for its links, and nobody removes that. */
static inline int shmipc__os_is(shmipc__os_file f, const uint64_t id[2], uint64_t *links)
{
    if (links) *links = 1;
    return id[1] == (uint64_t)(ex_os_file(f) + 2);
}
static inline int shmipc__os_read(shmipc__os_file f, uint64_t offset, void *out, size_t n)
{
    int i = ex_os_file(f);
    if (i < 0) return SHMIPC_EOS;
    if (offset < ex_os.file[i].size) {
        memcpy(out, ex_os_memory[i] + offset, n < ex_os.file[i].size - offset ? n : ex_os.file[i].size - offset);
    }
    return 0;
}
static int ex_os_find(const char *name)
{
    int i;
    ex_os_fresh();
    for (i = 0; i < EX_OS_FILES; i++)
        if (ex_os.file[i].linked && strcmp(ex_os.file[i].name, name) == 0) return i;
    return -1;
}
static inline int shmipc__os_open(shmipc__os_file dir, const char *name, shmipc__os_file *out)
{
    int i;
    (void)dir;
    ex_os_event(&ex_os_directory, "open", 'r');
    i = ex_os_find(name);
    if (i < 0) return SHMIPC_ENOENT;
    *out = ex_os_descriptor(i);
    return 0;
}
/* Each process has files of its own to make, so that making one is not an event. */
static inline int shmipc__os_draft_make(shmipc__os_file dir, int shared, shmipc__os_draft *d)
{
    int me = ex_os_me(), each = EX_OS_FILES / EX_THREADS;
    (void)dir, (void)shared;
    if (ex_os.made[me] == each) ex_die("too many files made by one process");
    d->temp[0] = 0;
    d->file = ex_os_descriptor(me * each + ex_os.made[me]++);
    return 0;
}
static inline int shmipc__os_draft_link(shmipc__os_file dir, shmipc__os_draft *d, const char *name)
{
    int i = ex_os_file(d->file);
    (void)dir;
    ex_os_event(&ex_os_directory, "link", 'w');
    if (ex_os_find(name) >= 0) return SHMIPC_EEXIST;
    snprintf(ex_os.file[i].name, sizeof ex_os.file[i].name, "%s", name);
    ex_os.file[i].linked = 1;
    return 0;
}
static inline int shmipc__os_unlink(shmipc__os_file dir, const char *name)
{
    int i;
    (void)dir;
    ex_os_event(&ex_os_directory, "unlink", 'w');
    i = ex_os_find(name);
    if (i < 0) return SHMIPC_ENOENT;
    ex_os.file[i].linked = 0;
    return 0;
}
static inline int shmipc__os_list(shmipc__os_file dir, int (*each)(void *arg, const char *name), void *arg)
{
    char names[EX_OS_FILES][256];
    int i, n = 0, rc = 0;
    (void)dir;
    ex_os_event(&ex_os_directory, "list", 'r');
    for (i = 0; i < EX_OS_FILES; i++)
        if (ex_os.file[i].linked) memcpy(names[n++], ex_os.file[i].name, 256);
    for (i = 0; i < n && rc == 0; i++) rc = each(arg, names[i]);
    return rc;
}
static inline int shmipc__os_map(shmipc__os_file f, uint64_t bytes, int writable, void **out)
{
    (void)bytes, (void)writable;
    *out = ex_os_memory[ex_os_file(f)];
    return 0;
}
static inline void shmipc__os_unmap(void *p, uint64_t bytes) { (void)p, (void)bytes; }
static inline int shmipc__os_reserve(shmipc__os_file f, uint64_t offset, uint64_t bytes)
{
    int i = ex_os_file(f);
    if (offset + bytes > EX_OS_FILE_BYTES) return SHMIPC_ENOSPC;
    if (ex_os.file[i].linked) ex_os_event(&ex_os.file[i], "reserve", 'w');
    if (ex_os.file[i].size < offset + bytes) ex_os.file[i].size = offset + bytes;
    return 0;
}
static inline int shmipc__os_punch(shmipc__os_file f, uint64_t offset, uint64_t bytes)
{
    return (void)f, (void)offset, (void)bytes, 0;
}
static inline uint64_t shmipc__os_backed(shmipc__os_file f) { return ex_os.file[ex_os_file(f)].size; }

/* ---- locks: the bytes below 64 of each file; freed by a close of the handle that holds them, or a death ---- */

static const void *ex_os_byte(shmipc__os_file f, uint64_t byte)
{
    int i = ex_os_file(f);
    if (i < 0 || byte >= 64) ex_die("a lock beyond what is modelled");
    return &ex_os_locks[i][byte];
}
static uint64_t *ex_os_held(shmipc__os_file f) { return &ex_os.fd[f / 64 - 1][f % 64].locks; }
static inline int ex_os_try_lock(ex_site *s, shmipc__os_file f, uint64_t byte)
{
    const void *key = ex_os_byte(f, byte);
    ex_sync *o = ex_object(ex_futex_object(key));
    if (ex.self < 0 && o->state < 0) o->state = ex_os_me();
    else if (ex.self < 0 || !ex_trylock(s, key)) return SHMIPC_EBUSY;
    *ex_os_held(f) |= (uint64_t)1 << byte;
    return 0;
}
/* In setup, and for the final check, nothing is an event. */
static inline int ex_os_probe(ex_site *s, shmipc__os_file f, uint64_t byte)
{
    const void *key = ex_os_byte(f, byte);
    return ex.self < 0 ? ex_object(ex_futex_object(key))->state >= 0 : ex_holder(s, key) != 0;
}
static inline int shmipc__os_share_lock(shmipc__os_file f, uint64_t byte) { return (void)f, (void)byte, 0; }
static inline void ex_os_unlock(ex_site *s, shmipc__os_file f, uint64_t byte)
{
    const void *key = ex_os_byte(f, byte);
    if (ex.self < 0) ex_object(ex_futex_object(key))->state = -1;
    else ex_unlock(s, key);
    *ex_os_held(f) &= ~((uint64_t)1 << byte);
}
#define shmipc__os_try_lock(f, byte) EX_OS_AT(ex_here, "lock", ex_os_try_lock(&ex_here, (f), (byte)))
#define shmipc__os_probe(f, byte) EX_OS_AT(ex_here, "probe lock", ex_os_probe(&ex_here, (f), (byte)))
#define shmipc__os_unlock(f, byte) EX_OS_AT(ex_here, "unlock", ex_os_unlock(&ex_here, (f), (byte)))
static inline int shmipc__os_watch(shmipc__os_file f, shmipc__os_file *out)
{
    return (void)f, (void)out, SHMIPC_ENOTSUP;
}
static inline int shmipc__os_watch_wait(shmipc__os_file watch, int64_t timeout_ns)
{
    (void)watch, (void)timeout_ns;
    shmipc__pause();
    return SHMIPC_ETIMEDOUT;
}
static inline void shmipc__os_close(shmipc__os_file *f)
{
    uint64_t byte;
    if (ex_os_file(*f) >= 0) {
        while (*ex_os_held(*f)) {
            byte = (uint64_t)__builtin_ctzll(*ex_os_held(*f));
            shmipc__os_unlock(*f, byte);
        }
        ex_os.fd[*f / 64 - 1][*f % 64].open = 0;
    }
    *f = SHMIPC__OS_NONE;
}
static inline void shmipc__os_draft_drop(shmipc__os_file dir, shmipc__os_draft *d)
{
    (void)dir;
    shmipc__os_close(&d->file);
}

#endif
