/* test_channel.c - what a channel must withstand beside deaths in the middle of a call, which tests/crash tries. */
#include "socket_world.h"
#include "channel_audit.h"

/* A publisher that finds no lane leaves the others' lanes alone. */
TEST(S1_I2_publisher_without_lane_leaves_the_others_alone)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *pub[8], *more = NULL, *sub;
    shmipc_socket_config cfg;
    uint32_t n, i;
    int rc = 0;
    shmipc_socket_config_init(&cfg);
    cfg.depth = 32768; /* lanes so large that few fit */
    cfg.max_memory = 1;
    sub = opened(ctx, SHMIPC_SUB, "lanes", &cfg);
    for (n = 0; n < 8 && !(rc = shmipc_pub_open(&pub[n], ctx, "lanes", &cfg)); n++) continue;
    CHECK_EQ(rc, SHMIPC_ENOSPC);
    CHECK(n > 0);
    for (i = 0; i < 2; i++) CHECK_EQ(shmipc_pub_open(&more, ctx, "lanes", &cfg), SHMIPC_ENOSPC);
    CHECK(channel_audit(sub, AUDIT_BUSY) == NULL);
    for (i = 0; i < n; i++) CHECK_EQ(pub[i]->writer.word, shmipc__lane_mem_of(&pub[i]->writer.map)->wr);
    while (n) shmipc_close(&pub[--n]);
    shmipc_close(&sub);
    world_end(ctx);
}

static void hold_and_die(shmipc_ctx *ctx, int arg)
{
    shmipc_socket_config cfg;
    shmipc_socket *s;
    (void)arg;
    shmipc_socket_config_init(&cfg);
    cfg.capacity = 2;
    s = opened(ctx, arg, "full", &cfg);
    (void)s;
    raise_event(READY);
    for (;;) pause();
}

/* The first user, dead, has index 0, and a living one the last entry: a third finds room all the same. */
static void full_of_the_dead(int role)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *living, *next = NULL;
    pid_t pid = child(hold_and_die, role);
    await(READY, 1);
    living = opened(ctx, role, "full", NULL);
    scope_kill(pid);
    if (role == SHMIPC_PUSH) CHECK_EQ(shmipc_pull_open(&next, ctx, "full", NULL), SHMIPC_OK);
    if (role == SHMIPC_REP) CHECK_EQ(shmipc_req_open(&next, ctx, "full", NULL), SHMIPC_OK);
    if (role == SHMIPC_SUB) CHECK_EQ(shmipc_pub_open(&next, ctx, "full", NULL), SHMIPC_OK);
    shmipc_close(&next);
    CHECK(channel_audit(living, AUDIT_QUIET) == NULL);
    shmipc_close(&living);
    world_end(ctx);
}
TEST(S44_C13_full_of_the_dead_push) { full_of_the_dead(SHMIPC_PUSH); }
TEST(S44_C13_full_of_the_dead_sub) { full_of_the_dead(SHMIPC_SUB); }
TEST(S44_C13_full_of_the_dead_rep) { full_of_the_dead(SHMIPC_REP); }

/* What a discarded loan would have used is given up with it, not left in chunk after chunk. */
TEST(S44_discarded_loans_keep_no_memory)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *push = opened(ctx, SHMIPC_PUSH, "loans", NULL), *pull = opened(ctx, SHMIPC_PULL, "loans", NULL);
    shmipc_socket_stats st = {0};
    shmipc_loan loan = {NULL, 0, 0, 0, 0, 0, 0, 0, NULL};
    char byte;
    size_t len;
    int i;
    for (i = 0; i < 200; i++) {
        REQUIRE(shmipc_loan_open(push, 1 << 20, &loan) == SHMIPC_OK);
        CHECK_EQ(shmipc_loan_discard(&loan), SHMIPC_OK);
        CHECK_EQ(shmipc_send(push, "x", 1, 0), SHMIPC_OK);
        CHECK_EQ(shmipc_recv(pull, &byte, 1, &len, 0), SHMIPC_OK);
    }
    CHECK_EQ(shmipc_socket_get_stats(pull, &st), SHMIPC_OK);
    CHECK(st.memory < 40 << 20);
    shmipc_close(&push);
    shmipc_close(&pull);
    world_end(ctx);
}

/* Once a slice a waiting socket looks after the next few attachments, and comes round to all of them. */
TEST(C13_waiting_comes_round_to_all)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *s[9];
    uint32_t i, k;
    int64_t now = 0;
    for (i = 0; i < 9; i++) s[i] = opened(ctx, SHMIPC_PULL, "round", NULL);
    for (i = 0; i < 9; i++) { /* as if the process that had entry i had died: with a life that nobody holds */
        uint64_t *life = &shmipc__entry_at(s[0]->segment, i)->life;
        if (i == s[0]->index) continue;
        shmipc__store_release_u64(life, shmipc_ctx_life(ctx) + 1000);
        for (k = 0; k < 4 && shmipc__load_acquire_u64(life); k++) {
            now += SHMIPC__SLICE_NS;
            (void)shmipc__socket_tend(s[0], now);
        }
        CHECK_EQ(shmipc__load_acquire_u64(life), 0);
        shmipc__store_release_u64(life, shmipc_ctx_life(ctx));
    }
    for (i = 0; i < 9; i++) shmipc_close(&s[i]);
    world_end(ctx);
}

/* A sweep judges the parameters it finds like everybody else. */
TEST(I3_sweep_of_damaged_parameters_ends)
{
    static const uint64_t bad[] = {0, 1, UINT64_C(1) << 63 | 31, UINT64_C(1) << 63 | UINT64_C(31) << 56 | 4096,
                                   UINT64_C(1) << 63 | UINT64_C(16) << 56 | 4096, ~UINT64_C(0)};
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *pub = opened(ctx, SHMIPC_PUB, "odd", NULL);
    uint64_t good = pub->channel->params;
    uint32_t i;
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        shmipc__entry_at(pub->segment, 5)->life = shmipc_ctx_life(ctx) + 1000;
        pub->channel->params = bad[i];
        (void)shmipc_segment_sweep(pub->segment);
        CHECK(pub->channel->params == bad[i]);
    }
    pub->channel->params = good;
    CHECK(shmipc_segment_sweep(pub->segment) >= 0);
    CHECK_EQ(shmipc__entry_at(pub->segment, 5)->life, 0);
    shmipc_close(&pub);
    world_end(ctx);
}

/* Whatever the root and the descriptors of extents say, nothing behind the end of the file is touched. */
TEST(I3_extents_that_were_never_reserved)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *sub = opened(ctx, SHMIPC_SUB, "bare", NULL), *pub = NULL;
    uint32_t i;
    for (i = 0; i < 24; i++) shmipc__blocks_extent(&sub->blocks, i)->place = UINT64_C(1) << 63 | i;
    for (i = 0; i < 24; i++) {
        shmipc__extent *e = shmipc__blocks_extent(&sub->blocks, i);
        e->word = shmipc__extent_word(1, 3, SHMIPC__OPEN, 0); /* of many small blocks, with words in the tables */
    }
    for (i = 0; i < 3; i++) {
        CHECK(shmipc_pub_open(&pub, ctx, "bare", NULL) != SHMIPC_OK || pub != NULL);
        if (pub) shmipc_close(&pub);
        sub->channel->spare[i] = UINT64_C(1) << 30 | (uint64_t)(9 + i) << 20 | (3 + i);
    }
    shmipc_close(&sub);
    world_end(ctx);
}

TEST(I3_root_that_changes_its_mind)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *sub = opened(ctx, SHMIPC_SUB, "mind", NULL);
    shmipc__region *region = (shmipc__region *)(void *)sub->blocks.base;
    shmipc__blocks b;
    uint64_t size = sub->channel->blocks_size;
    sub->channel->blocks_size = region->size = UINT64_C(1) << 46; /* more than there is, and they agree on it */
    CHECK(shmipc__channel_region(sub->segment, sub->channel, &b, 0) != SHMIPC_OK || b.size == size);
    sub->channel->blocks_size = region->size = size;
    sub->channel->extents = region->extents = 1 << 19;
    region->data = 1024 + (UINT64_C(1) << 19) * 8320;
    CHECK(shmipc__channel_region(sub->segment, sub->channel, &b, 0) != SHMIPC_OK);
    shmipc_close(&sub);
    world_end(ctx);
}

/* A cipher that only adds its tag: what counts is where the topic of a sealed message lies. */
static int plain_seal(void *arg, const unsigned char nonce[24], const void *aad, size_t aad_len, const void *in,
                      size_t len, void *out)
{
    (void)arg, (void)nonce, (void)aad, (void)aad_len;
    memcpy(out, in, len);
    memset((unsigned char *)out + len, 7, 16);
    return 0;
}
static int plain_open(void *arg, const unsigned char nonce[24], const void *aad, size_t aad_len, const void *in,
                      size_t len, void *out)
{
    (void)arg, (void)nonce, (void)aad, (void)aad_len;
    memcpy(out, in, len - 16);
    return ((const unsigned char *)in)[len - 1] != 7;
}
TEST(S5_topic_of_a_sealed_view)
{
    static const shmipc_aead cipher = {plain_seal, plain_open, NULL};
    shmipc_ctx *ctx = world_begin();
    shmipc_socket_config cfg;
    shmipc_socket *pub, *sub;
    shmipc_msg m;
    size_t len;
    memset(&m, 0, sizeof m);
    shmipc_socket_config_init(&cfg);
    cfg.aead = &cipher;
    pub = opened(ctx, SHMIPC_PUB, "sealed", &cfg);
    sub = opened(ctx, SHMIPC_SUB, "sealed", &cfg);
    for (len = 1; len < 1000; len += 77) {
        static const char text[1000] = "text";
        REQUIRE(shmipc_send_topic(pub, "left/front", 10, text, len, 3) == SHMIPC_OK);
        REQUIRE(shmipc_take(sub, &m, 0) == SHMIPC_OK);
        CHECK_EQ(m.len, len);
        CHECK_EQ(m.topic_len, 10);
        CHECK_MEM(m.topic, "left/front", 10);
        CHECK_MEM(m.data, text, len);
        CHECK_EQ(shmipc_release(&m), SHMIPC_OK);
    }
    shmipc_close(&pub);
    shmipc_close(&sub);
    world_end(ctx);
}

/* A reply on loan is the answer: another one meanwhile is refused, and closing gives the request up. */
TEST(S37_reply_on_loan_is_the_answer)
{
    shmipc_ctx *ctx = world_begin();
    shmipc_socket *req = opened(ctx, SHMIPC_REQ, "lent", NULL), *rep = opened(ctx, SHMIPC_REP, "lent", NULL);
    static char text[4000];
    shmipc_loan loan;
    size_t len = 0;
    memset(&loan, 0, sizeof loan);
    CHECK_EQ(shmipc_send(req, text, sizeof text, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_recv(rep, text, sizeof text, &len, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_loan_open(rep, 3000, &loan), SHMIPC_OK);
    CHECK_EQ(shmipc_send(rep, "no", 2, 0), SHMIPC_ESTATE);
    CHECK_EQ(shmipc_loan_commit(&loan, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_recv(req, text, sizeof text, &len, 0), SHMIPC_OK);
    CHECK_EQ(len, 3000);
    CHECK_EQ(shmipc_send(req, text, sizeof text, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_recv(rep, text, sizeof text, &len, 0), SHMIPC_OK);
    CHECK_EQ(shmipc_loan_open(rep, 3000, &loan), SHMIPC_OK);
    shmipc_close(&rep);
    CHECK_EQ(shmipc_recv(req, text, sizeof text, &len, SOON), SHMIPC_EPEERDEAD);
    CHECK(channel_audit(req, AUDIT_BUSY) == NULL);
    shmipc_close(&req);
    world_end(ctx);
}
