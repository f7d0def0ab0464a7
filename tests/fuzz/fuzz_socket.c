/* fuzz_socket.c - a peer that writes anything anywhere into a channel: error codes, never an access outside, a hang or
 * an abort of ours.
 *
 *     fuzz_socket [images [seed [first]]]    default 20000 images; `first` repeats from a certain one
 *
 * Each image is a channel with some traffic. Between calls of all kinds words of it are changed, mostly those that lead
 * somewhere; sometimes a thread changes them during the calls; sometimes all users are made dead, or the channel is
 * closed, damaged, and opened again. What messages say may be wrong then, their bytes must be there to be read.
 * Under AddressSanitizer and UndefinedBehaviorSanitizer; an access behind the end of the file is SIGBUS. Statement: I3.
 */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../../shmipc_socket.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

enum { SOCKETS = 5, VIEWS = 6, LARGE = 3000 };

static char dir[64];
static unsigned long image;
static uint64_t state, seed, codes[64], sum;
static shmipc_ctx *ctx;
static shmipc_socket *socks[SOCKETS];
static shmipc_msg views[VIEWS];
static shmipc_loan loan;
static int kind, sealed, viewing[VIEWS], lent;
static uint32_t depth;
static const char *doing = "nothing";

static uint64_t mixed(uint64_t *at)
{
    uint64_t z = (*at += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
static uint64_t rnd(void) { return mixed(&state); }

static void where(void)
{
    fprintf(stderr, "fuzz_socket: image %lu of seed %llu, while %s: fuzz_socket %lu %llu %lu repeats it\n", image,
            (unsigned long long)seed, doing, image + 1, (unsigned long long)seed, image);
}
static void fail(const char *what)
{
    fprintf(stderr, "fuzz_socket: %s\n", what);
    where();
    _exit(1);
}
static void on_alarm(int s)
{
    (void)s;
    fprintf(stderr, "fuzz_socket: hangs\n");
    where();
    abort();
}

static int told(int rc)
{
    if (rc < 0 && (rc < -63 || strcmp(shmipc_strerror(rc), "unknown code") == 0)) fail("a result that is no code");
    if (rc <= 0) codes[-rc]++;
    return rc;
}

/* Reads every byte that a message claims to have. */
static void touch(const void *data, uint64_t len)
{
    const volatile unsigned char *p = (const volatile unsigned char *)data;
    uint64_t i;
    for (i = 0; i < len; i += i + 64 < len ? 64 : 1) sum += p[i];
}
static void touch_msg(const shmipc_msg *m)
{
    touch(m->data, m->len);
    touch(m->topic, m->topic_len);
}

/* A cipher that only adds up; what was changed does not open. */
static int seal(void *arg, const unsigned char nonce[24], const void *aad, size_t aad_len, const void *in, size_t len,
                void *out)
{
    (void)arg, (void)nonce, (void)aad, (void)aad_len;
    if (len) memcpy(out, in, len);
    memset((unsigned char *)out + len, (int)(len & 127), 16);
    return 0;
}
static int unseal(void *arg, const unsigned char nonce[24], const void *aad, size_t aad_len, const void *in, size_t len,
                  void *out)
{
    (void)arg, (void)nonce;
    touch(aad, aad_len);
    if (len < 16) fail("a sealed message without room for its tag");
    if (len > 16) shmipc__copy_out(out, in, len - 16);
    return ((const unsigned char *)in)[len - 1] != ((len - 16) & 127);
}
static const shmipc_aead cipher = {seal, unseal, NULL};

static shmipc_ctx *scope(void)
{
    shmipc_ctx_config cfg;
    shmipc_ctx *c = NULL;
    shmipc_ctx_config_init(&cfg);
    cfg.dir = dir;
    if (shmipc_ctx_open(&c, &cfg)) fail("cannot open the scope");
    return c;
}
static void wipe(void)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    while (d && (e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) (void)unlinkat(dirfd(d), e->d_name, 0);
    }
    if (d) closedir(d);
}

static int join(int role, shmipc_socket **s)
{
    static int (*const opens[])(shmipc_socket **, shmipc_ctx *, const char *, const shmipc_socket_config *) = {
        NULL, shmipc_pub_open, shmipc_sub_open, shmipc_push_open, shmipc_pull_open, shmipc_req_open, shmipc_rep_open};
    static const char *const topics[] = {"a", "left"};
    shmipc_socket_config cfg;
    shmipc_socket_config_init(&cfg);
    cfg.capacity = 8;
    cfg.max_memory = 1;
    cfg.linger_ns = 1000000000;
    cfg.depth = role == SHMIPC_SUB ? 0 : depth;
    cfg.history = (uint32_t)(rnd() % 4);
    cfg.latest = rnd() % 8 == 0;
    cfg.wait = (uint32_t)(rnd() % 3);
    cfg.aead = sealed ? &cipher : NULL;
    if (role == SHMIPC_SUB && rnd() % 4 == 0) cfg.topics = topics, cfg.topic_count = 2;
    return told(opens[role](s, ctx, "fuzz", &cfg));
}

/* ---- damage ---- */

/* A word that leads somewhere: of a slot, chunk, nook, record, cell or list. */
static uint64_t *pointer(const shmipc_socket *s, uint64_t *r)
{
    const shmipc_lane_map *g = s->role == SHMIPC_PUB ? &s->writer.map : s->feed_count ? &s->feeds[0]->reader.map : NULL;
    uint64_t k = mixed(r);
    if (s->cells && mixed(r) % 2) return (uint64_t *)(void *)&s->cells[k % s->cell_count] + mixed(r) % 6;
    if (s->has_queue) {
        uint64_t *chunk = shmipc__queue_chunk(&s->queue, (uint32_t)(k % s->queue.config.chunks));
        switch (mixed(r) % 4) {
        case 0: return shmipc__queue_slot(&s->queue, k);
        case 1: return chunk + mixed(r) % 4;
        case 2: return chunk + 2 + SHMIPC__QUEUE_NOOK / 8 + mixed(r) % 2;
        default: return (uint64_t *)s->queue.shared + mixed(r) % 48;
        }
    }
    if (!g || !g->mem || !g->n_chunks) return NULL;
    switch (mixed(r) % 5) {
    case 0: return shmipc__lane_slot(g, k) + mixed(r) % 3;
    case 1: return shmipc__lane_nook(g, (uint32_t)(k % g->n_chunks)) + mixed(r) % 2;
    case 2: return shmipc__lane_record(g, (uint32_t)(k % g->n_records)) + mixed(r) % 8;
    case 3: return (uint64_t *)(void *)g->lists + k % (g->n_chunks * 12 / 8);
    default: return (uint64_t *)(void *)g->mem + mixed(r) % 16;
    }
}

/* The next word to change in a segment: heads, root, extents, words of blocks, rings, or anywhere in the file. */
static uint64_t *target(shmipc_segment *g, uint64_t *r)
{
    uint64_t at, root = g->head.area, region = root + shmipc__channel_blocks_at(g->head.capacity), size = g->known;
    shmipc__blocks *b = socks[0] ? &socks[0]->blocks : NULL;
    uint64_t data = b && b->data ? region + b->data : region + 4096;
    switch (mixed(r) % 10) {
    case 0: at = 128 + mixed(r) % 512; break;
    case 1: at = root + mixed(r) % 256; break;
    case 2: at = root + mixed(r) % (3072 + 8 * 128); break;
    case 3: at = region + mixed(r) % 1024; break;
    case 4: at = region + 1024 + mixed(r) % (12 * 128); break;
    case 5: at = region + 1024 + 128 * (mixed(r) % 8) + 8 * (mixed(r) % 16); break;
    case 6: at = data + mixed(r) % 1024; break;
    case 7: case 8: at = data + mixed(r) % (6 * 65536); break;
    default: at = mixed(r) % size;
    }
    return at + 8 <= size ? (uint64_t *)(void *)(g->base + (at & ~(uint64_t)7)) : NULL;
}

static const shmipc_socket *guide; /* whose view of the rings leads to words */
static void damage(shmipc_segment *g, uint64_t *r)
{
    static const uint64_t edges[] = {0, 1, 2, 3, 255, 256, 4095, 4096, 65535, 65536, 0x7fffffff, 0xffffffff, 1u << 24,
                                     (uint64_t)3 << 24, (uint64_t)1 << 40, INT64_MAX, UINT64_MAX, (uint64_t)1 << 63};
    uint64_t *word = target(g, r), *other = target(g, r), v, was;
    unsigned shift;
    if (guide && guide->segment == g && mixed(r) % 2) word = pointer(guide, r);
    if (guide && guide->segment == g && mixed(r) % 2) other = pointer(guide, r);
    if (!word || !other) return;
    was = v = __atomic_load_n(word, __ATOMIC_RELAXED);
    shift = 8 * (unsigned)(mixed(r) % 8);
    switch (mixed(r) % 8) {
    case 0: v = edges[mixed(r) % (sizeof edges / sizeof *edges)]; break;
    case 1: v = mixed(r); break;
    case 2: v ^= (uint64_t)1 << mixed(r) % 64; break;
    case 3: v = (v & ~((uint64_t)255 << shift)) | (mixed(r) & 255) << shift; break;
    case 4: v = __atomic_load_n(other, __ATOMIC_RELAXED); break; /* something plausible in another place */
    case 5: v += mixed(r) % 2 ? 1 : (uint64_t)-1; break;
    case 6: v = (v & 0xffffffff00000000u) | edges[mixed(r) % (sizeof edges / sizeof *edges)] % 0xffffffff; break;
    default: v = (v & 0xffffffff) | edges[mixed(r) % (sizeof edges / sizeof *edges)] << 32; break;
    }
    (void)__atomic_compare_exchange_n(word, &was, v, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

static shmipc_segment *victim(void)
{
    int i;
    guide = NULL;
    for (i = 0; i < SOCKETS; i++) {
        if (!socks[i]) continue;
        if (!guide || rnd() % 2) guide = socks[i];
    }
    return guide && rnd() % 16 == 0 && ctx->bells ? ctx->bells : guide ? guide->segment : NULL;
}

static int stop;
static void *vandal(void *arg)
{
    uint64_t r = image;
    shmipc_segment *g = (shmipc_segment *)arg;
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) damage(g, &r);
    return NULL;
}

/* Everybody but the first socket becomes somebody who is dead: what he holds is swept, damaged as it is. */
static void bury(shmipc_segment *g)
{
    uint32_t i;
    for (i = 0; i < 8; i++) {
        uint64_t *life = &shmipc__entry_at(g, i)->life;
        if (i != g->index && __atomic_load_n(life, __ATOMIC_RELAXED) && rnd() % 2) {
            __atomic_store_n(life, shmipc_ctx_life(ctx) + 100000 + i, __ATOMIC_RELAXED);
        }
    }
}

/* ---- calls ---- */

static unsigned char text[LARGE + 8], got[LARGE + 512];

static size_t some_size(void)
{
    static const size_t sizes[] = {0, 1, 8, 40, 88, 89, 288, 304, 305, 900, LARGE};
    return sizes[rnd() % (sizeof sizes / sizeof *sizes)];
}
static int64_t some_time(void) { return rnd() % 32 == 0 ? 100000 : 0; }

static void send_one(shmipc_socket *s)
{
    shmipc_item items[3];
    uint32_t i;
    doing = "sending";
    switch (rnd() % 4) {
    case 0: (void)told(shmipc_send_topic(s, "left/x", rnd() % 7, text, some_size(), 7)); break;
    case 1:
        for (i = 0; i < 3; i++) {
            items[i].data = text;
            items[i].len = some_size();
            items[i].tag = i;
            items[i].pad = 0;
        }
        (void)told(shmipc_send_many(s, items, 3, some_time()));
        break;
    default: (void)told(shmipc_send_tag(s, text, some_size(), 5, some_time()));
    }
}

static void lend(shmipc_socket *s)
{
    doing = "lending";
    if (lent) {
        lent = told(rnd() % 2 ? shmipc_loan_commit(&loan, 0) : shmipc_loan_discard(&loan)) == SHMIPC_EFULL;
        if (loan.socket && !loan.socket->loaned) lent = 0;
        return;
    }
    memset(&loan, 0, sizeof loan);
    if (told(shmipc_loan_open(s, some_size(), &loan))) return;
    memset(loan.data, 'l', (size_t)loan.len);
    lent = 1;
}

static void receive_one(shmipc_socket *s)
{
    shmipc_msg m, many[3];
    size_t cap = rnd() % 3 ? sizeof got : some_size();
    int i, n;
    doing = "receiving";
    memset(&m, 0, sizeof m);
    if (rnd() % 4 == 0) {
        n = told(shmipc_recv_many(s, got, cap, many, 3, some_time()));
        for (i = 0; i < n; i++) touch_msg(&many[i]);
        return;
    }
    if (told(shmipc_recv_msg(s, got, cap, &m, some_time()))) return;
    if (m.len > cap) fail("a message longer than its buffer");
    touch_msg(&m);
}

static void view_one(shmipc_socket *s)
{
    int i = (int)(rnd() % VIEWS);
    doing = "viewing";
    if (!viewing[i]) {
        viewing[i] = told(shmipc_take(s, &views[i], 0)) == SHMIPC_OK;
        if (viewing[i]) touch_msg(&views[i]);
        return;
    }
    if (views[i].socket->role != SHMIPC_REP) touch_msg(&views[i]);
    viewing[i] = told(rnd() % 2 ? shmipc_release(&views[i]) : shmipc_reject(&views[i])) != SHMIPC_OK;
    if (viewing[i]) viewing[i] = told(shmipc_release(&views[i])) != SHMIPC_OK;
}

static void look(shmipc_socket *s)
{
    shmipc_socket_stats st;
    shmipc_peer peers[8];
    shmipc_poll_item it;
    doing = "looking";
    it.socket = s;
    it.events = (uint32_t)(1 + rnd() % 3);
    (void)told(shmipc_socket_get_stats(s, &st));
    (void)told(shmipc_socket_peers(s, peers, 8));
    (void)told(shmipc_poll(&it, 1, some_time()));
    if (rnd() % 8 == 0) (void)shmipc_fd_arm(s);
}

static void print(void *arg, const char *line)
{
    (void)arg;
    sum += strlen(line);
}

static void tend(shmipc_socket *s)
{
    shmipc_segment_info infos[4];
    doing = "sweeping";
    if (rnd() % 2) bury(s->segment);
    (void)told(shmipc_segment_sweep(s->segment));
    if (rnd() % 4 == 0) (void)told(s->segment->kind->dump(s->segment, print, NULL));
    if (rnd() % 4 == 0) (void)told(shmipc__channel_drained(s->segment));
    if (rnd() % 16 == 0) (void)told(shmipc_segment_list(ctx, infos, 4));
}

static int has_view_of(const shmipc_socket *s)
{
    int i;
    for (i = 0; i < VIEWS; i++) {
        if (viewing[i] && views[i].socket == s) return 1;
    }
    return 0;
}

static void come_or_go(int i)
{
    doing = socks[i] ? "closing" : "opening";
    if (!socks[i]) (void)join(2 * kind + 1 + (int)(rnd() % 2), &socks[i]);
    else if (!has_view_of(socks[i]) && !(lent && loan.socket == socks[i])) shmipc_close(&socks[i]);
}

static void call(void)
{
    int i = (int)(rnd() % SOCKETS);
    shmipc_socket *s = socks[i];
    if (!s || rnd() % 24 == 0) {
        come_or_go(i);
        return;
    }
    switch (rnd() % 10) {
    case 0: case 1: case 2: case 3:
        if (s->role == SHMIPC_SUB || s->role == SHMIPC_PULL || (s->role == SHMIPC_REP && !s->pending.data)) {
            receive_one(s);
        }
        else send_one(s);
        break;
    case 4: receive_one(s); break;
    case 5: view_one(s); break;
    case 6: lend(s); break;
    case 7: if (s->role == SHMIPC_REQ) receive_one(s); else view_one(s); break;
    case 8: look(s); break;
    default: tend(s);
    }
}

/* ---- one image ---- */

static void leave(void)
{
    int i;
    doing = "leaving";
    if (rnd() % 2) { /* in order, or all at once with the context */
        for (i = 0; i < VIEWS; i++) {
            if (viewing[i]) (void)told(shmipc_release(&views[i]));
        }
        for (i = 0; i < SOCKETS; i++) shmipc_close(&socks[i]);
    }
    for (i = 0; i < VIEWS; i++) {
        if (viewing[i] && views[i].pin == SHMIPC__PIN_PRIVATE) free((void *)(uintptr_t)views[i].word);
    }
    memset(viewing, 0, sizeof viewing);
    memset(socks, 0, sizeof socks);
    lent = 0;
    shmipc_ctx_close(ctx);
}

static void run_image(void)
{
    int i, n, bad = (int)(rnd() % 6), threaded = rnd() % 8 == 0;
    shmipc_segment *g;
    pthread_t t;
    kind = (int)(rnd() % 3);
    sealed = rnd() % 4 == 0;
    depth = rnd() % 4 ? 4 : 16;
    ctx = scope();
    doing = "opening";
    for (i = 0; i < 3; i++) (void)join(2 * kind + 1 + i % 2, &socks[i]);
    for (n = (int)(rnd() % 24); n; n--) call(); /* honest traffic first */
    g = victim();
    if (threaded && g && socks[0]) {
        __atomic_store_n(&stop, 0, __ATOMIC_RELEASE);
        guide = socks[0]; /* he stays while the thread runs, and so do his rings */
        if (pthread_create(&t, NULL, vandal, socks[0]->segment)) fail("no thread");
        for (n = 8; n; n--) {
            i = (int)(rnd() % SOCKETS);
            if (!socks[i] || socks[i] == socks[0]) continue;
            switch (rnd() % 4) {
            case 0: send_one(socks[0]); break;
            case 1: receive_one(socks[i]); break;
            case 2: view_one(socks[i]); break;
            default: tend(socks[i]);
            }
        }
        __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
        pthread_join(t, NULL);
    }
    for (n = 12 + (int)(rnd() % 12); n; n--) {
        for (i = 0; i < bad && (g = victim()) != NULL; i++) damage(g, &state);
        if (n % 4 == 0) bad = (int)(rnd() % 6);
        call();
    }
    if ((g = victim()) != NULL) damage(g, &state);
    leave();
    if (rnd() % 4 == 0) { /* what lingers is opened again, dead and damaged */
        ctx = scope();
        for (i = 0; i < 3; i++) (void)join(2 * kind + 1 + i % 2, &socks[i]);
        for (n = 6; n; n--) call();
        leave();
    }
    wipe();
}

int main(int argc, char **argv)
{
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 0) : 20000;
    unsigned long first = argc > 3 ? strtoul(argv[3], NULL, 0) : 0;
    int code;
    seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    if (count > 200000) count = 200000; /* each is a whole channel: a million would take hours */
    strcpy(dir, "/dev/shm/shmipc-fuzz-XXXXXX");
    if (!mkdtemp(dir)) return 2;
    signal(SIGALRM, on_alarm);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_set_death_callback(where);
#endif
    for (image = first; image < count; image++) {
        state = seed * UINT64_C(0x100000001b3) + image * UINT64_C(0x9e3779b97f4a7c15);
        alarm(20);
        run_image();
    }
    alarm(0);
    wipe();
    (void)rmdir(dir);
    for (code = 0; code < 64; code++) {
        if (codes[code]) printf("%12lu %s\n", (unsigned long)codes[code], shmipc_strerror(-code));
    }
    printf("fuzz_socket: %lu images, seed %llu\n1 passed, 0 failed\n", count - first, (unsigned long long)seed);
    return 0;
}
