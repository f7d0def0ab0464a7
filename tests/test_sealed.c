/* Sealed channels: what lies in shared memory tells nothing, what was changed is refused, no nonce comes twice. */
#include "socket_world.h"

/* A cipher for tests, not for secrets: it has the form of a real one, and shows every byte that is changed. It notes
 * the nonces of all processes. */
enum { NONCES = 20000 };
typedef struct toy {
    uint64_t key;
    uint32_t *count;
    unsigned char (*nonces)[24];
    int broken; /* seal fails */
} toy;

static uint64_t mix(uint64_t h, const void *from, size_t len)
{
    size_t i;
    for (i = 0; i < len; i++) h = (h ^ ((const unsigned char *)from)[i]) * 0x100000001b3u + (h >> 29);
    return h;
}

static void stream(uint64_t seed, const unsigned char *in, size_t len, unsigned char *out)
{
    size_t i;
    for (i = 0; i < len; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        out[i] = (unsigned char)(in[i] ^ (seed >> 56));
    }
}

static void tag_of(uint64_t key, const unsigned char nonce[24], const void *aad, size_t aad_len, const void *sealed,
                   size_t len, unsigned char tag[16])
{
    uint64_t h[2];
    h[0] = mix(mix(mix(mix(key, nonce, 24), aad, aad_len), sealed, len), &len, sizeof len);
    h[1] = mix(h[0], &h[0], 8);
    memcpy(tag, h, 16);
}

static int toy_seal(void *arg, const unsigned char nonce[24], const void *aad, size_t aad_len, const void *in,
                    size_t len, void *out)
{
    toy *t = (toy *)arg;
    uint32_t n = __atomic_fetch_add(t->count, 1, __ATOMIC_RELAXED);
    if (t->broken) return -1;
    if (n < NONCES) memcpy(t->nonces[n], nonce, 24);
    stream(mix(t->key, nonce, 24), (const unsigned char *)in, len, (unsigned char *)out);
    tag_of(t->key, nonce, aad, aad_len, out, len, (unsigned char *)out + len);
    return 0;
}

static int toy_open(void *arg, const unsigned char nonce[24], const void *aad, size_t aad_len, const void *in,
                    size_t len, void *out)
{
    toy *t = (toy *)arg;
    unsigned char tag[16];
    if (len < 16) return -1;
    tag_of(t->key, nonce, aad, aad_len, in, len - 16, tag);
    if (memcmp(tag, (const unsigned char *)in + len - 16, 16) != 0) return -1;
    stream(mix(t->key, nonce, 24), (const unsigned char *)in, len - 16, (unsigned char *)out);
    return 0;
}

static toy cipher;
static shmipc_aead aead;

static shmipc_ctx *sealed_world(void)
{
    cipher.key = 0x1234567890abcdefu;
    cipher.count = (uint32_t *)shared_memory(4096);
    cipher.nonces = (unsigned char (*)[24])shared_memory(NONCES * 24);
    aead.seal = toy_seal;
    aead.open = toy_open;
    aead.arg = &cipher;
    return world_begin();
}

static shmipc_socket_config sealed(void)
{
    shmipc_socket_config cfg = options();
    cfg.aead = &aead;
    return cfg;
}

/* Is the text anywhere in the files of the scope? Holes are left alone: to read them would fill them. */
static int found_in_file(int fd, const char *text)
{
    off_t from = 0, to;
    int found = 0;
    while (!found && (from = lseek(fd, from, SEEK_DATA)) >= 0 && (to = lseek(fd, from, SEEK_HOLE)) > from) {
        size_t len = (size_t)(to - from);
        char *data = (char *)malloc(len);
        REQUIRE(data != NULL && pread(fd, data, len, from) == (ssize_t)len);
        found = memmem(data, len, text, strlen(text)) != NULL;
        free(data);
        from = to;
    }
    return found;
}

static int found_in_memory(const char *text)
{
    DIR *d = opendir(scope_dir());
    struct dirent *e;
    int found = 0;
    REQUIRE(d != NULL);
    while ((e = readdir(d)) != NULL) {
        int fd = openat(dirfd(d), e->d_name, O_RDONLY | O_NONBLOCK);
        if (fd < 0) continue; /* a socket */
        found += found_in_file(fd, text);
        close(fd);
    }
    closedir(d);
    return found;
}

static const char secret[] = "The quick brown fox jumps over the lazy dog";

static void exchange_sealed(int p, size_t len)
{
    shmipc_ctx *ctx = sealed_world();
    shmipc_socket_config cfg = sealed();
    shmipc_socket *a = opened(ctx, pairs[p][0], "s", &cfg), *b = opened(ctx, pairs[p][1], "s", &cfg);
    static unsigned char text[200000], got[200000];
    shmipc_loan loan;
    shmipc_msg m;
    size_t n = 0;
    memset(&loan, 0, sizeof loan);
    memcpy(text, secret, sizeof secret);
    CHECK_EQ(shmipc_send_tag(a, text, len, 77, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_recv_msg(b, got, sizeof got, &m, SOON), SHMIPC_OK);
    CHECK_EQ(m.len, len);
    CHECK_EQ(m.tag, 77);
    CHECK_MEM(got, text, len);
    if (p == 2) {
        CHECK_EQ(shmipc_send(b, text, len, 0), SHMIPC_OK);
        CHECK_EQ(shmipc_recv(a, got, sizeof got, &n, SOON), SHMIPC_OK);
        CHECK_EQ(n, len);
        CHECK_MEM(got, text, len);
    }
    REQUIRE(shmipc_loan_open(a, len, &loan) == SHMIPC_OK); /* private memory */
    memcpy(loan.data, text, len);
    CHECK_EQ(found_in_memory(secret), 0);
    CHECK_EQ(shmipc_loan_commit(&loan, 0), SHMIPC_OK);
    REQUIRE(shmipc_take(b, &m, SOON) == SHMIPC_OK); /* the same */
    CHECK_EQ(m.len, len);
    CHECK_MEM(m.data, text, len);
    CHECK_EQ(found_in_memory(secret), 0);
    if (p == 2) {
        CHECK_EQ(shmipc_send(b, m.data, len, 0), SHMIPC_OK);
        CHECK_EQ(shmipc_release(&m), SHMIPC_OK);
        REQUIRE(shmipc_take(a, &m, SOON) == SHMIPC_OK);
        CHECK_MEM(m.data, text, len);
    }
    CHECK_EQ(shmipc_release(&m), SHMIPC_OK);
    CHECK_EQ(shmipc_send(a, text, len, 0), SHMIPC_OK); /* also while it lies there */
    CHECK_EQ(found_in_memory(secret), 0);
    CHECK_EQ(shmipc_recv(b, got, sizeof got, &n, SOON), SHMIPC_OK);
    shmipc_close(&a);
    shmipc_close(&b);
    world_end(ctx);
}

TEST(I10_S16_published_in_secret) { exchange_sealed(0, sizeof secret); }
TEST(I10_S16_pushed_in_secret) { exchange_sealed(1, sizeof secret); }
TEST(I10_S16_asked_in_secret) { exchange_sealed(2, sizeof secret); }
TEST(I10_S17_large_published_in_secret) { exchange_sealed(0, 200000); }
TEST(I10_S17_large_pushed_in_secret) { exchange_sealed(1, 200000); }
TEST(I10_S17_large_asked_in_secret) { exchange_sealed(2, 200000); }

/* The search finds what lies there in clear: a search that finds nothing proves nothing. */
TEST(I10_control_what_is_not_sealed_is_found)
{
    shmipc_ctx *ctx = sealed_world();
    shmipc_socket *s = opened(ctx, SHMIPC_PUB, "s", NULL);
    CHECK_EQ(shmipc_send(s, secret, sizeof secret, 0), SHMIPC_OK);
    CHECK_EQ(found_in_memory(secret), 1);
    shmipc_close(&s);
    world_end(ctx);
}

TEST(C4_sealed_and_clear_do_not_mix)
{
    shmipc_ctx *ctx = sealed_world();
    shmipc_socket_config cfg = sealed();
    int p;
    for (p = 0; p < PAIRS; p++) {
        shmipc_socket *s = opened(ctx, pairs[p][0], "s", &cfg), *bad = NULL;
        CHECK_EQ(open_as(ctx, pairs[p][1], "s", NULL, &bad), SHMIPC_EMISMATCH);
        CHECK(says(ctx, "sealed"));
        shmipc_close(&s);
        s = opened(ctx, pairs[p][0], "s", NULL);
        CHECK_EQ(open_as(ctx, pairs[p][1], "s", &cfg, &bad), SHMIPC_EMISMATCH);
        CHECK(bad == NULL);
        shmipc_close(&s);
    }
    world_end(ctx);
}

TEST(S45_I10_another_key_opens_nothing)
{
    shmipc_ctx *ctx = sealed_world();
    shmipc_socket_config cfg = sealed(), other = sealed();
    toy wrong = cipher;
    shmipc_aead with_wrong = aead;
    unsigned char buf[64];
    int p;
    wrong.key++;
    with_wrong.arg = &wrong;
    other.aead = &with_wrong;
    for (p = 0; p < 2; p++) {
        shmipc_socket *a = opened(ctx, pairs[p][0], "s", &cfg), *b = opened(ctx, pairs[p][1], "s", &other);
        shmipc_msg m;
        size_t len = 7;
        CHECK_EQ(shmipc_send(a, secret, sizeof secret, 0), SHMIPC_OK);
        CHECK_EQ(shmipc_recv(b, buf, sizeof buf, &len, SOON), SHMIPC_ECORRUPT);
        CHECK_EQ(len, 7);
        CHECK_EQ(shmipc_recv(b, buf, sizeof buf, &len, 0), SHMIPC_ETIMEDOUT); /* consumed */
        CHECK_EQ(shmipc_send(a, secret, sizeof secret, 0), SHMIPC_OK);
        CHECK_EQ(shmipc_take(b, &m, SOON), SHMIPC_ECORRUPT);
        CHECK_EQ(shmipc_recv(b, buf, sizeof buf, &len, 0), SHMIPC_ETIMEDOUT);
        shmipc_close(&a);
        shmipc_close(&b);
    }
    world_end(ctx);
}

/* Every byte of a message as it lies in shared memory, changed: refused, or of no effect; never another message. */
TEST(I10_I3_changed_bytes_are_noticed)
{
    shmipc_ctx *ctx = sealed_world();
    shmipc_socket_config cfg = sealed();
    shmipc_socket *a, *b;
    const shmipc_lane_map *map;
    unsigned char *area;
    uint64_t i;
    int refused = 0, same = 0;
    cfg.depth = 4;
    a = opened(ctx, SHMIPC_PUB, "s", &cfg);
    b = opened(ctx, SHMIPC_SUB, "s", &cfg);
    CHECK_EQ(shmipc_send_topic(a, "topic", 5, secret, sizeof secret, 5), SHMIPC_OK);
    map = &b->feeds[0]->reader.map; /* its nonce shows where in the slots it lies */
    area = (unsigned char *)memmem(map->slots, (size_t)map->depth * map->stride, cipher.nonces[*cipher.count - 1], 24);
    REQUIRE(area != NULL);
    for (i = 0; i < 24 + sizeof secret + 16 + 6; i++) {
        unsigned char got[300], before = area[i];
        shmipc_msg m;
        int rc;
        area[i] = (unsigned char)(before ^ (1 + check_random() % 255));
        rc = shmipc_recv_msg(b, got, sizeof got, &m, 0);
        if (rc == SHMIPC_OK) {
            same++;
            CHECK_EQ(m.len, sizeof secret);
            CHECK_MEM(got, secret, sizeof secret);
        } else refused += CHECK_EQ(rc, SHMIPC_ECORRUPT);
        area[i] = before;
        shmipc_close(&b);
        cfg.history = 1; /* the same message again */
        b = opened(ctx, SHMIPC_SUB, "s", &cfg);
    }
    CHECK_EQ(same, 0);
    CHECK_EQ(refused, 24 + sizeof secret + 16 + 6);
    shmipc_close(&a);
    shmipc_close(&b);
    world_end(ctx);
}

TEST(S36_a_cipher_that_fails_sends_nothing)
{
    shmipc_ctx *ctx = sealed_world();
    shmipc_socket_config cfg = sealed();
    int p;
    for (p = 0; p < PAIRS; p++) {
        shmipc_socket *a = opened(ctx, pairs[p][0], "s", &cfg), *b = opened(ctx, pairs[p][1], "s", &cfg);
        cipher.broken = 1;
        CHECK(shmipc_send(a, secret, sizeof secret, 0) < 0);
        cipher.broken = 0;
        is_empty(b);
        CHECK_EQ(send_id(a, 4, 0), SHMIPC_OK);
        CHECK_EQ(recv_id(b, SOON), 4);
        shmipc_close(&a);
        shmipc_close(&b);
    }
    world_end(ctx);
}

/* ---- nonces ---- */

static void seal_some(shmipc_ctx *ctx, int n)
{
    shmipc_socket_config cfg = sealed();
    shmipc_socket *s = opened(ctx, SHMIPC_PUB, "s", &cfg);
    int i;
    for (i = 0; i < 100; i++) CHECK_EQ(send_id(s, (uint64_t)i, 0), SHMIPC_OK);
    raise_event(DONE);
    if (n % 2) stay();
    shmipc_close(&s);
}

static int by_bytes(const void *x, const void *y) { return memcmp(x, y, 24); }

TEST(I10_no_nonce_comes_twice_whoever_is_killed)
{
    shmipc_ctx *ctx = sealed_world();
    shmipc_socket_config cfg = sealed();
    shmipc_socket *keeper = opened(ctx, SHMIPC_PUB, "s", &cfg);
    uint32_t i, n, twice = 0;
    COVERS("S60");
    for (i = 0; i < 60; i++) {
        pid_t pid = child(seal_some, (int)i);
        CHECK_EQ(send_id(keeper, i, 0), SHMIPC_OK);
        await(DONE, i + 1);
        if (i % 2) scope_kill(pid);
        else child_done(pid);
    }
    n = *cipher.count;
    CHECK_EQ(n, 60 * 101);
    qsort(cipher.nonces, n, 24, by_bytes);
    for (i = 1; i < n; i++) twice += memcmp(cipher.nonces[i - 1], cipher.nonces[i], 24) == 0;
    CHECK_EQ(twice, 0);
    shmipc_close(&keeper);
    world_end(ctx);
}

TEST(I10_S63_a_forked_child_seals_nothing)
{
    shmipc_ctx *ctx = sealed_world();
    shmipc_socket_config cfg = sealed();
    shmipc_socket *s = opened(ctx, SHMIPC_PUB, "s", &cfg);
    uint32_t before;
    pid_t pid;
    CHECK_EQ(send_id(s, 1, 0), SHMIPC_OK);
    before = *cipher.count;
    pid = fork();
    if (pid == 0) {
        CHECK_EQ(send_id(s, 2, 0), SHMIPC_EFORKED);
        fflush(stdout);
        _exit(0);
    }
    child_done(pid);
    CHECK_EQ(*cipher.count, before);
    shmipc_close(&s);
    world_end(ctx);
}
