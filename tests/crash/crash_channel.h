/* crash_channel.h - what the sweeps of the three patterns share: a scope of its own, messages that say what they are,
 * and a ledger of who was told what.
 *
 * The harness lives on the channel all the time (`keeper` and others) and is the survivor, so its sockets find out what
 * a death does to those who were there before; roles that say so open new ones. Every message has a number. Its length
 * follows from the number (odd ones go through a block) and so does every byte of it.
 */
#ifndef CRASH_CHANNEL_H
#define CRASH_CHANNEL_H

#include "crashstep.h"

#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../../shmipc_socket.h"
#include "../channel_audit.h"

#include <dirent.h>
#include <sys/stat.h>

enum { SMALL = 40, LARGE = 900, IDS = 256 };

/* Survives the victim. `sent`: it was told that the message is out. `got`: deliveries; `again`: those that said so. */
typedef struct ledger {
    uint8_t sent[IDS], got[IDS], again[IDS], done[IDS];
    uint32_t consuming; /* messages that the victim may have used up without being told */
} ledger;

static char dir[64];
static ledger *book;
static shmipc_ctx *ctx, *own; /* the harness's; the victim's */
static shmipc_socket *mine;   /* the victim's */

static inline shmipc_ctx *scope(void)
{
    shmipc_ctx_config cfg;
    shmipc_ctx *c = NULL;
    shmipc_ctx_config_init(&cfg);
    cfg.dir = dir;
    return shmipc_ctx_open(&c, &cfg) ? NULL : c;
}

static inline shmipc_socket *join(shmipc_ctx *c, int role)
{
    static int (*const opens[])(shmipc_socket **, shmipc_ctx *, const char *, const shmipc_socket_config *) = {
        NULL, shmipc_pub_open, shmipc_sub_open, shmipc_push_open, shmipc_pull_open, shmipc_req_open, shmipc_rep_open};
    shmipc_socket_config cfg;
    shmipc_socket *s = NULL;
    shmipc_socket_config_init(&cfg);
    cfg.depth = role == SHMIPC_SUB ? 0 : 4;
    cfg.capacity = 8;
    cfg.max_memory = 256 << 20;
    cfg.linger_ns = -1;
    cfg.wait = SHMIPC_WAIT_SLEEP; /* a window must not depend on time */
    cfg.history = 4;
    return c && opens[role](&s, c, "c", &cfg) == SHMIPC_OK ? s : NULL;
}

/* In setup and enter, what has to work. */
static inline shmipc_socket *joined(shmipc_ctx *c, int role)
{
    shmipc_socket *s = join(c, role);
    if (!s) fprintf(stderr, "cannot join as %d: %s\n", role, c ? shmipc_ctx_detail(c) : "no scope"), _exit(1);
    return s;
}
static inline void must(int rc, int line, const char *call)
{
    if (rc < 0) fprintf(stderr, "line %d: %s: %s\n", line, call, shmipc_strerror(rc)), _exit(1);
}
#define MUST(call) must((call), __LINE__, #call)

static inline size_t size_of(uint32_t id) { return id & 1 ? LARGE : SMALL; }
static inline void fill(unsigned char *to, uint32_t id, size_t n)
{
    size_t i;
    for (i = 0; i < n; i += 4) memcpy(to + i, &id, 4);
}
/* The number of a message, IDS if it is none of ours. */
static inline uint32_t number_of(const void *data, uint64_t n)
{
    const unsigned char *p = (const unsigned char *)data;
    uint32_t id, word;
    size_t i;
    if (n < 4) return IDS;
    memcpy(&id, p, 4);
    if (id >= IDS || n != size_of(id)) return IDS;
    for (i = 0; i < n; i += 4) {
        memcpy(&word, p + i, 4);
        if (word != id) return IDS;
    }
    return id;
}

static unsigned char message[1024]; /* the one being sent */
static inline int sends(shmipc_socket *s, uint32_t id)
{
    int rc;
    fill(message, id, size_of(id));
    rc = shmipc_send_tag(s, message, size_of(id), id, 0);
    if (rc == SHMIPC_OK) book->sent[id] = 1;
    return rc;
}

/* Counts a delivery; which one it was. */
static inline uint32_t receipt(crash_run *r, const shmipc_msg *m)
{
    uint32_t id = number_of(m->data, m->len);
    CRASH_EXPECT(r, torn, id < IDS && (m->tag == id || m->tag == 0));
    if (id >= IDS) return IDS;
    if (book->done[id]) CRASH_EXPECT(r, twice, !book->done[id]);
    book->got[id]++;
    if (m->redelivered) book->again[id]++;
    return id;
}

/* Receives one if there is one: its number, IDS without. */
static inline uint32_t receives(crash_run *r, shmipc_socket *s)
{
    unsigned char to[1024];
    shmipc_msg m;
    int rc = shmipc_recv_msg(s, to, sizeof to, &m, 0);
    CRASH_EXPECT(r, other, rc == SHMIPC_OK || rc == SHMIPC_ETIMEDOUT);
    return rc ? (uint32_t)IDS : receipt(r, &m);
}

static inline void empty_dir(void)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    while (d && (e = readdir(d)) != NULL) {
        if (e->d_name[0] != '.') (void)unlinkat(dirfd(d), e->d_name, 0);
    }
    if (d) closedir(d);
}
static inline int segments(void)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    int n = 0;
    while (d && (e = readdir(d)) != NULL) n += strncmp(e->d_name, "c.", 2) == 0;
    if (d) closedir(d);
    return n;
}

static inline void begin(crash_run *r)
{
    (void)r;
    memset(book, 0, sizeof *book);
    ctx = scope();
    if (!ctx) fprintf(stderr, "no scope in %s\n", dir), _exit(1);
}

/* The shared words whose changes mark steps: root, first extents, and what the handle names. */
static inline void watch_block(crash_run *r, shmipc_socket *s, uint64_t handle, size_t most)
{
    void *at;
    uint64_t size;
    if (!handle || shmipc__block_at(&s->blocks, handle, &at, &size)) return;
    crash_watch(r, at, size < most ? (size_t)size : most);
}
static inline void watch(crash_run *r, shmipc_socket *s)
{
    crash_watch(r, s->channel, 3072 + 8 * sizeof(shmipc__place));
    crash_watch(r, s->blocks.base, sizeof(shmipc__region) + 12 * sizeof(shmipc__extent));
    crash_watch(r, s->segment->base, 1024);
    watch_block(r, s, s->channel->queue, 34000);
    watch_block(r, s, s->channel->cells, 2048);
    watch_block(r, s, s->channel->lanes[0], 6000);
    watch_block(r, s, s->channel->lanes[1], 6000);
}

static inline void enter_scope(crash_run *r)
{
    (void)r;
    own = scope();
    if (!own) _exit(1);
}

static inline int state_is(const crash_run *r, const char *name) { return strcmp(crash_state(r), name) == 0; }
static inline int role_is(const crash_run *r, const char *name) { return strcmp(crash_role(r), name) == 0; }

static inline void audited(crash_run *r, shmipc_socket *s, int flags)
{
    const char *wrong;
    CRASH_EXPECT(r, other, shmipc_segment_sweep(s->segment) >= 0);
    wrong = channel_audit(s, flags);
    if (wrong) crash_complain(r, &r->page->leaked, wrong, __LINE__);
}

static inline void teardown(crash_run *r)
{
    (void)r;
    shmipc_ctx_close(ctx);
    ctx = NULL;
    empty_dir();
}

/* With everybody else gone: nothing is held, and the last one takes the channel along. */
static inline void last_one(crash_run *r, shmipc_socket **s)
{
    audited(r, *s, AUDIT_QUIET);
    shmipc_close(s);
    CRASH_EXPECT(r, leaked, segments() == 0);
}

/* In the short form only kills and stops, and one role. */
static inline void shorten(crash_op *op)
{
    static const char *const one[] = {"goes on", NULL};
    op->modes &= CRASH_KILL | CRASH_FREEZE | CRASH_BLOCKED;
    op->roles = one;
}

static inline int run(const char *topic, const crash_op *ops, size_t count, int argc, char **argv)
{
    static crash_op mine_too[64];
    size_t i;
    int rc;
    strcpy(dir, "/dev/shm/shmipc-crash-XXXXXX");
    if (!mkdtemp(dir) || count > 64) return 2;
    book = (ledger *)crash_shared(sizeof *book);
    memcpy(mine_too, ops, count * sizeof *ops);
    for (i = 0; i < count && getenv("SHORT"); i++) shorten(&mine_too[i]);
    rc = crash_main(topic, mine_too, count, argc, argv);
    empty_dir();
    (void)rmdir(dir);
    return rc;
}

#endif /* CRASH_CHANNEL_H */
