/* The life of named segments: names, sizes, options, leftovers, hostile files, faults. */
#include "check.h"
#include "faults.h"
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../shmipc.h"
#include "scope.h"
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>

static shmipc_segment_config of_size(int mode, uint64_t size)
{
    shmipc_segment_config cfg;
    shmipc_segment_config_init(&cfg);
    cfg.mode = mode;
    cfg.size = size;
    return cfg;
}

static int get(shmipc_ctx *ctx, const char *name, int mode, shmipc_segment **s)
{
    shmipc_segment_config cfg = of_size(mode, 100);
    *s = NULL;
    return shmipc_segment_open(ctx, name, &cfg, s);
}

static char *text(shmipc_segment *s)
{
    void *p = NULL;
    CHECK_EQ(shmipc_segment_at(s, 0, 100, &p), 0);
    return (char *)p;
}

/* ---- names and arguments ---- */

TEST(K2_create_open_close)
{
    shmipc_ctx *a = scope_open(), *b = scope_open();
    shmipc_segment *s, *t, *u;
    CHECK_EQ(get(b, "x", SHMIPC_OPEN, &t), SHMIPC_ENOENT);
    REQUIRE(get(a, "x", SHMIPC_CREATE, &s) == 0);
    CHECK_EQ(get(b, "x", SHMIPC_CREATE, &t), SHMIPC_EEXIST);
    REQUIRE(get(b, "x", SHMIPC_OPEN, &t) == 0);
    REQUIRE(get(b, "x", SHMIPC_OPEN_OR_CREATE, &u) == 0); /* twice in one process: two attachments */
    CHECK_EQ(shmipc_segment_index(s), 0);
    CHECK_EQ(shmipc_segment_index(t), 1);
    CHECK_EQ(shmipc_segment_index(u), 2);
    strcpy(text(s), "hello");
    CHECK_STR(text(t), "hello");
    CHECK_STR(text(u), "hello");
    CHECK_EQ(shmipc_segment_size(t), 100);
    CHECK_EQ(shmipc_segment_generation(t), shmipc_segment_generation(s));
    CHECK_EQ(scope_files(".seg"), 1);
    shmipc_segment_close(s);
    CHECK_EQ(shmipc_segment_alive(t, 0), 0);
    CHECK_EQ(shmipc_segment_alive(t, 1), 1);
    CHECK_EQ(shmipc_segment_alive(t, 9999), 0);
    shmipc_segment_close(u);
    CHECK_EQ(scope_files(".seg"), 1);
    shmipc_segment_close(t);
    CHECK_EQ(scope_files(".seg"), 0);
    CHECK_EQ(get(b, "x", SHMIPC_OPEN, &u), SHMIPC_ENOENT);
    shmipc_ctx_close(a);
    shmipc_ctx_close(b);
    CHECK_EQ(scope_files(""), 1);
    CHECK_EQ(scope_mappings(), 0);
    scope_end();
}

static char long_name[300], cut_name[300];
static const char *const legal[] = {
    "a", "robot/pose", "with space", ".", "..", ".hidden", "../../etc/passwd", "a.b.seg",
    "-", "%41", "A", "line\nbreak", "\x01", "\xc3\xa4\xc3\xb6", "\xe2\x82\xac", "\xf0\x9f\xa4\x96",
    "\xf4\x8f\xbf\xbf", "\xed\x9f\xbf", long_name, cut_name, "con", "~", "registry",
};

TEST(K2_any_utf8_name_works)
{
    enum { N = sizeof legal / sizeof *legal };
    shmipc_ctx *ctx = scope_open();
    shmipc_segment *s[N], *t;
    shmipc_segment_info infos[N + 1];
    int i, j, found;
    COVERS("S6");
    memset(long_name, 'x', 255);
    memset(cut_name, 'x', 254); /* the same after cutting, but for the hash */
    for (i = 0; i < N; i++) REQUIRE(get(ctx, legal[i], SHMIPC_CREATE, &s[i]) == 0);
    for (i = 0; i < N; i++) {
        snprintf(text(s[i]), 100, "%d", i);
        REQUIRE(get(ctx, legal[i], SHMIPC_OPEN, &t) == 0);
        CHECK_EQ(atoi(text(t)), i);
        shmipc_segment_close(t);
    }
    CHECK_EQ(shmipc_segment_list(ctx, infos, N + 1), N);
    for (i = 0; i < N; i++) {
        for (j = 0, found = 0; j < N; j++) found += strcmp(infos[j].name, legal[i]) == 0 && infos[j].current;
        CHECK_EQ(found, 1);
        CHECK(strlen(infos[i].file) <= 255 && infos[i].file[0] != '.' && !strchr(infos[i].file, '/'));
    }
    for (i = 0; i < N; i++) shmipc_segment_close(s[i]);
    CHECK_EQ(scope_files(".seg"), 0);
    shmipc_ctx_close(ctx);
    scope_end();
}

static const char *const illegal[] = {
    "", "\xff", "\x80", "a\xc3", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
    "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "\xe2\x28\xa1", "ok\xfe",
};

TEST(K2_illegal_names_and_arguments)
{
    shmipc_ctx *ctx = scope_open();
    shmipc_segment *s = NULL;
    shmipc_segment_info info;
    shmipc_segment_config cfg = of_size(SHMIPC_CREATE, 10);
    char huge[257];
    size_t i;
    void *p;
    for (i = 0; i < sizeof illegal / sizeof *illegal; i++) {
        CHECK_EQ(get(ctx, illegal[i], SHMIPC_CREATE, &s), SHMIPC_EINVAL);
        CHECK(strncmp(shmipc_ctx_detail(ctx), "name ", 5) == 0);
        CHECK_EQ(shmipc_segment_unlink(ctx, illegal[i]), SHMIPC_EINVAL);
        CHECK_EQ(shmipc_segment_inspect(ctx, illegal[i], &info), SHMIPC_EINVAL);
    }
    memset(huge, 'y', 256);
    huge[256] = 0;
    CHECK_EQ(get(ctx, huge, SHMIPC_CREATE, &s), SHMIPC_EINVAL);
    CHECK_EQ(get(ctx, NULL, SHMIPC_CREATE, &s), SHMIPC_EINVAL);
    CHECK_EQ(get(ctx, ".shmipc/bells", SHMIPC_CREATE, &s), SHMIPC_EINVAL);
    CHECK(strstr(shmipc_ctx_detail(ctx), "library's own") != NULL);
    CHECK_EQ(shmipc_segment_open(NULL, "a", &cfg, &s), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_segment_open(ctx, "a", &cfg, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_segment_open(ctx, "a", NULL, &s), SHMIPC_ENOENT);
    cfg.name_len = 3;
    CHECK_EQ(shmipc_segment_open(ctx, "a\0b", &cfg, &s), SHMIPC_EINVAL);
    CHECK_STR(shmipc_ctx_detail(ctx), "name contains a NUL byte");
    cfg.name_len = 0;
    cfg.mode = 3;
    CHECK_EQ(shmipc_segment_open(ctx, "a", &cfg, &s), SHMIPC_EINVAL);
    CHECK_STR(shmipc_ctx_detail(ctx), "mode is unknown");
    cfg.mode = SHMIPC_CREATE;
    cfg.capacity = 4097;
    CHECK_EQ(shmipc_segment_open(ctx, "a", &cfg, &s), SHMIPC_EINVAL);
    cfg.capacity = 0;
    cfg.params_len = 4;
    CHECK_EQ(shmipc_segment_open(ctx, "a", &cfg, &s), SHMIPC_EINVAL);
    cfg.params = huge;
    cfg.params_len = 4097;
    CHECK_EQ(shmipc_segment_open(ctx, "a", &cfg, &s), SHMIPC_EINVAL);
    cfg.params_len = 0;
    cfg.max_size = 9;
    CHECK_EQ(shmipc_segment_open(ctx, "a", &cfg, &s), SHMIPC_EINVAL);
    cfg.max_size = 0;
    cfg.size = UINT64_MAX;
    CHECK_EQ(shmipc_segment_open(ctx, "a", &cfg, &s), SHMIPC_EINVAL);
    cfg.size = (uint64_t)1 << 61;
    CHECK_EQ(shmipc_segment_open(ctx, "a", &cfg, &s), SHMIPC_ENOSPC);
    cfg.size = 0;
    CHECK(s == NULL);
    CHECK_EQ(scope_files(".seg"), 0);
    REQUIRE(shmipc_segment_open(ctx, "a", &cfg, &s) == 0); /* nothing but a name and users */
    CHECK_EQ(shmipc_segment_size(s), 0);
    CHECK_EQ(shmipc_segment_at(s, 0, 0, &p), 0);
    CHECK_EQ(shmipc_segment_at(s, 0, 1, &p), SHMIPC_ECORRUPT);
    CHECK_EQ(shmipc_segment_at(NULL, 0, 1, &p), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_segment_at(s, 0, 0, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_segment_params(s, NULL, NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_segment_list(ctx, NULL, 1), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_segment_list(ctx, NULL, 0), 1);
    CHECK_EQ(shmipc_segment_inspect(ctx, "a", NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_segment_inspect(ctx, "b", &info), SHMIPC_ENOENT);
    CHECK_EQ(shmipc_segment_unlink(ctx, "b"), SHMIPC_ENOENT);
    CHECK_EQ(shmipc_segment_sweep(NULL), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_segment_grow(NULL, 1), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_segment_punch(NULL, 0, 1), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_segment_size(NULL), 0);
    CHECK_EQ(shmipc_segment_index(NULL), 0);
    CHECK_EQ(shmipc_segment_generation(NULL), 0);
    CHECK_EQ(shmipc_segment_alive(NULL, 0), 0);
    CHECK_EQ(shmipc_segment_holds(NULL, 0, 0), 0);
    shmipc_segment_close(NULL);
    shmipc_ctx_close(ctx); /* closes the segment too */
    CHECK_EQ(scope_files(".seg"), 0);
    CHECK_EQ(scope_mappings(), 0);
    scope_end();
}

/* ---- options ---- */

static int validated, validate_says;
static int kind_validate(shmipc_segment *s)
{
    CHECK(shmipc_segment_size(s) >= 100);
    validated++;
    return validate_says;
}
static int swept_index = -1, sweep_says;
static uint64_t swept_life;
static int kind_sweep(shmipc_segment *s, uint32_t index, uint64_t life)
{
    CHECK_EQ(shmipc_segment_holds(s, index, life), 1); /* the entry stands until all is given back */
    swept_index = (int)index;
    swept_life = life;
    return sweep_says;
}
static int drained_says;
static int kind_drained(shmipc_segment *s)
{
    (void)s;
    return drained_says;
}
static const shmipc_kind kind_of_7 = {7, 3, "seven", kind_validate, kind_sweep, kind_drained, NULL};
static const shmipc_kind kind_of_8 = {8, 3, "eight", NULL, NULL, NULL, NULL};
static const shmipc_kind newer_7 = {7, 4, "seven", NULL, NULL, NULL, NULL};

/* What others do between our look at a segment and our attaching: its kind's validation runs just there. */
static void (*between)(shmipc_ctx *ctx);
static shmipc_ctx *stranger;
static int kind_between(shmipc_segment *s)
{
    void (*act)(shmipc_ctx *) = between;
    between = NULL;
    if (act) act(stranger);
    return s ? SHMIPC_OK : SHMIPC_EINVAL;
}
static const shmipc_kind kind_of_9 = {9, 1, "nine", kind_between, NULL, NULL, NULL};
static void last_user_leaves(shmipc_ctx *ctx) { shmipc_segment_close(ctx->segments); }
static void name_is_unlinked(shmipc_ctx *ctx) { CHECK_EQ(shmipc_segment_unlink(ctx, "nine"), 0); }
static void name_is_made_anew(shmipc_ctx *ctx)
{
    shmipc_segment_config cfg = of_size(SHMIPC_CREATE, 100);
    shmipc_segment *s;
    cfg.kind = &kind_of_9;
    CHECK_EQ(shmipc_segment_unlink(ctx, "nine"), 0);
    CHECK_EQ(shmipc_segment_open(ctx, "nine", &cfg, &s), 0);
}

TEST(I7_what_happens_between_looking_and_attaching)
{
    static void (*const acts[])(shmipc_ctx *) = {last_user_leaves, name_is_unlinked, name_is_made_anew};
    shmipc_ctx *ctx = scope_open();
    shmipc_segment_config cfg = of_size(SHMIPC_CREATE, 100);
    shmipc_segment *s, *t;
    size_t i;
    int mode;
    COVERS("I1");
    cfg.kind = &kind_of_9;
    for (i = 0; i < 3; i++) {
        for (mode = SHMIPC_OPEN; mode <= SHMIPC_OPEN_OR_CREATE; mode += 2) {
            uint64_t first;
            int rc;
            stranger = scope_open();
            cfg.mode = SHMIPC_CREATE;
            REQUIRE(shmipc_segment_open(stranger, "nine", &cfg, &s) == 0);
            first = shmipc_segment_generation(s);
            cfg.mode = mode;
            between = acts[i];
            t = NULL;
            rc = shmipc_segment_open(ctx, "nine", &cfg, &t);
            CHECK(between == NULL);
            CHECK_EQ(rc, mode == SHMIPC_OPEN && i < 2 ? SHMIPC_ENOENT : 0);
            if (!rc) CHECK(shmipc_segment_generation(t) > first); /* never attached to what is dead or has no name */
            if (!rc) CHECK_EQ(shmipc_segment_alive(t, shmipc_segment_index(t)), 1);
            shmipc_segment_close(t);
            shmipc_ctx_close(stranger);
            CHECK_EQ(scope_files(".seg"), 0);
        }
    }
    shmipc_ctx_close(ctx);
    CHECK_EQ(scope_mappings(), 0);
    scope_end();
}

TEST(K2_kind_and_params_must_fit)
{
    shmipc_ctx *ctx = scope_open();
    shmipc_segment_config cfg = of_size(SHMIPC_CREATE, 100);
    shmipc_segment *s, *t = NULL;
    const void *params = NULL;
    uint32_t len = 0;
    COVERS("I9");
    cfg.kind = &kind_of_7;
    cfg.params = "depth=8";
    cfg.params_len = 7;
    REQUIRE(shmipc_segment_open(ctx, "k", &cfg, &s) == 0);
    CHECK_EQ(shmipc_segment_params(s, &params, &len), 0);
    CHECK_EQ(len, 7);
    CHECK_MEM(params, "depth=8", 7);
    cfg.mode = SHMIPC_OPEN;
    REQUIRE(shmipc_segment_open(ctx, "k", &cfg, &t) == 0);
    CHECK_EQ(validated, 1);
    CHECK_EQ(shmipc_segment_params(t, &params, &len), 0);
    CHECK_MEM(params, "depth=8", 7);
    shmipc_segment_close(t);
    t = NULL;
    cfg.match_params = 1;
    cfg.params = "depth=9";
    CHECK_EQ(shmipc_segment_open(ctx, "k", &cfg, &t), SHMIPC_EMISMATCH);
    cfg.params_len = 6;
    CHECK_EQ(shmipc_segment_open(ctx, "k", &cfg, &t), SHMIPC_EMISMATCH);
    cfg.match_params = 0;
    cfg.kind = &kind_of_8;
    CHECK_EQ(shmipc_segment_open(ctx, "k", &cfg, &t), SHMIPC_EKIND);
    CHECK(strstr(shmipc_ctx_detail(ctx), "kind 7, not 8") != NULL);
    cfg.kind = NULL;
    CHECK_EQ(shmipc_segment_open(ctx, "k", &cfg, &t), SHMIPC_EKIND);
    cfg.kind = &newer_7;
    CHECK_EQ(shmipc_segment_open(ctx, "k", &cfg, &t), SHMIPC_ELAYOUT);
    CHECK(strstr(shmipc_ctx_detail(ctx), "layout 3 of its kind, this program has 4") != NULL);
    cfg.kind = &kind_of_7;
    validate_says = SHMIPC_ECORRUPT;
    CHECK_EQ(shmipc_segment_open(ctx, "k", &cfg, &t), SHMIPC_ECORRUPT);
    CHECK(t == NULL);
    CHECK_EQ(scope_mappings(), 2); /* the registry, and s: what was refused left nothing */
    shmipc_ctx_close(ctx);
    CHECK_EQ(scope_files(".seg"), 0);
    scope_end();
}

static int init_says;
static int init_here(shmipc_segment *s, void *arg)
{
    int i;
    char *p = text(s);
    for (i = 0; i < 100; i++) CHECK_EQ(p[i], 0);
    CHECK_EQ(scope_files(".seg"), 0); /* nobody can see it yet */
    strcpy(p, (const char *)arg);
    return init_says;
}

TEST(I1_never_half_made)
{
    shmipc_ctx *ctx = scope_open();
    shmipc_segment_config cfg = of_size(SHMIPC_OPEN_OR_CREATE, 100);
    shmipc_segment *s = NULL;
    char hello[] = "hello";
    COVERS("K2");
    cfg.init = init_here;
    cfg.init_arg = hello;
    init_says = SHMIPC_ENOTSUP;
    CHECK_EQ(shmipc_segment_open(ctx, "i", &cfg, &s), SHMIPC_ENOTSUP);
    CHECK(s == NULL);
    CHECK_EQ(scope_files(".seg"), 0);
    init_says = 0;
    REQUIRE(shmipc_segment_open(ctx, "i", &cfg, &s) == 0);
    CHECK_STR(text(s), "hello");
    shmipc_ctx_close(ctx);
    scope_end();
}

/* ---- growth and memory ---- */

static int64_t scope_blocks(shmipc_segment *s)
{
    struct stat st;
    return fstat((int)s->file.file, &st) ? -1 : (int64_t)st.st_blocks * 512;
}

TEST(I4_growth_moves_nothing_and_is_seen_by_all)
{
    shmipc_ctx *a = scope_open(), *b = scope_open();
    shmipc_segment_config cfg = of_size(SHMIPC_CREATE, 100);
    shmipc_segment *s, *t;
    void *p, *q;
    cfg.max_size = 1 << 20;
    REQUIRE(shmipc_segment_open(a, "g", &cfg, &s) == 0 && get(b, "g", SHMIPC_OPEN, &t) == 0);
    strcpy(text(s), "stays");
    p = text(t);
    CHECK_EQ(shmipc_segment_at(t, 100, 1, &q), SHMIPC_ECORRUPT);
    CHECK_EQ(shmipc_segment_grow(s, 50), 0);
    CHECK_EQ(shmipc_segment_size(s), 100);
    CHECK_EQ(shmipc_segment_grow(s, 70000), 0);
    CHECK_EQ(shmipc_segment_size(s), 70000);
    CHECK_EQ(shmipc_segment_size(t), 70000);
    CHECK_EQ(shmipc_segment_at(t, 69999, 1, &q), 0);
    CHECK(p == (void *)text(t));
    CHECK_STR(text(t), "stays");
    CHECK_EQ(shmipc_segment_at(t, 69999, 2, &q), SHMIPC_ECORRUPT);
    CHECK_EQ(shmipc_segment_at(t, UINT64_MAX, 2, &q), SHMIPC_ECORRUPT);
    CHECK_EQ(shmipc_segment_at(t, 2, UINT64_MAX, &q), SHMIPC_ECORRUPT);
    CHECK_EQ(shmipc_segment_at(t, 1 << 20, 0, &q), SHMIPC_ECORRUPT); /* not reserved yet */
    CHECK_EQ(shmipc_segment_grow(t, (1 << 20) + 1), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_segment_grow(t, 1 << 20), 0);
    CHECK_EQ(shmipc_segment_size(s), 1 << 20);
    memset(text(s), 1, 1 << 20);
    CHECK(scope_blocks(s) >= 1 << 20);
    CHECK_EQ(shmipc_segment_punch(s, 4000, 500000), 0); /* whole pages inside only */
    CHECK(scope_blocks(s) < (1 << 20) - 490000);
    CHECK_EQ(text(s)[4095], 1);
    CHECK_EQ(shmipc_segment_reserve(s, 4000, 500000), 0);
    CHECK(scope_blocks(s) >= 1 << 20);
    CHECK_EQ(text(s)[4095], 1);
    CHECK_EQ(text(s)[4096], 0);
    CHECK_EQ(text(s)[503807], 0);
    CHECK_EQ(text(s)[503808], 1);
    CHECK_EQ(shmipc_segment_punch(s, 1, 10), 0);
    CHECK_EQ(shmipc_segment_punch(s, 1, 2 << 20), SHMIPC_EINVAL);
    shmipc_ctx_close(a);
    shmipc_ctx_close(b);
    scope_end();
}

TEST(I4_growth_leaves_holes_alone)
{
    shmipc_ctx *ctx = scope_open();
    shmipc_segment_config cfg = of_size(SHMIPC_CREATE, 4096);
    shmipc_segment *s;
    int64_t before;
    void *p;
    cfg.max_size = 4 << 20;
    REQUIRE(shmipc_segment_open(ctx, "holes", &cfg, &s) == 0);
    before = scope_blocks(s);
    CHECK_EQ(shmipc_segment_reserve(s, 1 << 20, 10000), 0); /* beyond the end: only what was asked for */
    CHECK_EQ(shmipc_segment_size(s), (1 << 20) + 12288);
    CHECK(scope_blocks(s) < before + 20000);
    REQUIRE(shmipc_segment_at(s, 1 << 20, 10000, &p) == 0);
    memset(p, 7, 10000);
    CHECK_EQ(shmipc_segment_grow(s, 2 << 20), 0); /* from the end on, not what was left out or punched before it */
    CHECK(scope_blocks(s) < before + (1 << 20) + 20000);
    CHECK_EQ(shmipc_segment_reserve(s, 4 << 20, 0), 0);
    CHECK_EQ(shmipc_segment_reserve(s, 4 << 20, 1), SHMIPC_EINVAL);
    CHECK_EQ(shmipc_segment_reserve(s, (4 << 20) - 1, 1), 0);
    CHECK_EQ(shmipc_segment_size(s), 4 << 20);
    shmipc_ctx_close(ctx);
    scope_end();
}

TEST(I3_a_size_that_lies_is_not_believed)
{
    shmipc_ctx *ctx = scope_open();
    shmipc_segment_config cfg = of_size(SHMIPC_CREATE, 100);
    shmipc_segment *s;
    void *p;
    cfg.max_size = 1 << 20;
    REQUIRE(shmipc_segment_open(ctx, "g", &cfg, &s) == 0);
    shmipc__store_release_u64(&shmipc__live(s)->size, s->head.max_bytes);
    CHECK_EQ(shmipc_segment_at(s, 50000, 1, &p), SHMIPC_ECORRUPT);
    CHECK_EQ(shmipc_segment_size(s), 100);
    shmipc__store_release_u64(&shmipc__live(s)->size, UINT64_MAX);
    CHECK_EQ(shmipc_segment_at(s, 50000, 1, &p), SHMIPC_ECORRUPT);
    CHECK_EQ(shmipc_segment_grow(s, 50000), SHMIPC_ECORRUPT);
    shmipc__store_release_u64(&shmipc__live(s)->size, 0);
    CHECK_EQ(shmipc_segment_at(s, 0, 100, &p), 0);
    shmipc_ctx_close(ctx);
    scope_end();
}

TEST(I4_full_file_system)
{
    char dir[80], why[512] = "";
    shmipc_ctx_config ccfg;
    shmipc_ctx *ctx;
    shmipc_segment_config cfg = of_size(SHMIPC_CREATE, 300000);
    shmipc_segment *s, *t = NULL;
    int n;
    COVERS("K2 S62");
    if (geteuid() != 0) SKIP("needs root, to mount a small tmpfs");
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)) SKIP("no mount namespace here");
    snprintf(dir, sizeof dir, "%s/full", scope_dir());
    REQUIRE(mkdir(dir, 0700) == 0);
    if (mount("none", dir, "tmpfs", 0, "size=1m,mode=0700")) SKIP("mounting a tmpfs is not permitted here");
    shmipc_ctx_config_init(&ccfg);
    ccfg.dir = dir;
    ccfg.error_text = why;
    ccfg.error_len = sizeof why;
    REQUIRE(shmipc_ctx_open(&ctx, &ccfg) == 0);
    cfg.max_size = 4 << 20;
    REQUIRE(shmipc_segment_open(ctx, "one", &cfg, &s) == 0);
    memset(text(s), 7, 300000);
    CHECK_EQ(shmipc_segment_grow(s, 2 << 20), SHMIPC_ENOSPC);
    CHECK(strstr(shmipc_ctx_detail(ctx), "--shm-size") != NULL);
    CHECK_EQ(shmipc_segment_size(s), 300000);
    CHECK_EQ(shmipc_segment_grow(s, 500000), 0);
    cfg.size = 1 << 20;
    CHECK_EQ(shmipc_segment_open(ctx, "two", &cfg, &t), SHMIPC_ENOSPC);
    CHECK(t == NULL);
    CHECK_EQ(shmipc_segment_grow(s, 900000), 0);
    for (n = 0; n < 300000; n++) {
        if (text(s)[n] != 7) break;
    }
    CHECK_EQ(n, 300000);
    cfg.size = 0;
    for (n = 0; n < 1000; n++) { /* until even the smallest has no room */
        int rc = shmipc_segment_open(ctx, n % 2 ? "three" : "four", &cfg, &t);
        char name[16];
        if (rc) CHECK(rc == SHMIPC_ENOSPC || rc == SHMIPC_EEXIST);
        if (rc == SHMIPC_ENOSPC) break;
        snprintf(name, sizeof name, "n%d", n);
        if (shmipc_segment_open(ctx, name, &cfg, &t) == SHMIPC_ENOSPC) break;
    }
    CHECK(n < 1000);
    CHECK_EQ(shmipc_ctx_check(ctx), 0);
    shmipc_ctx_close(ctx);
    REQUIRE(shmipc_ctx_open(&ctx, &ccfg) == 0);
    CHECK_EQ(shmipc_segment_list(ctx, NULL, 0), 0);
    shmipc_ctx_close(ctx);
    CHECK(umount2(dir, MNT_DETACH) == 0);
    if (mount("none", dir, "tmpfs", 0, "size=4k,mode=0700") == 0) { /* no room for a registry */
        CHECK_EQ(shmipc_ctx_open(&ctx, &ccfg), SHMIPC_ENOSPC);
        CHECK(umount2(dir, MNT_DETACH) == 0);
    }
    CHECK(rmdir(dir) == 0);
    scope_end();
}

/* ---- the dead and what they leave ---- */

static const char *stay_name = "left";
static const shmipc_kind *stay_kind;
static uint32_t stay_linger;
static void stay_attached(void *arg)
{
    shmipc_segment_config cfg = of_size(SHMIPC_OPEN_OR_CREATE, 100);
    shmipc_segment *s;
    cfg.kind = stay_kind;
    cfg.linger_ms = stay_linger;
    if (shmipc_segment_open(scope_open(), stay_name, &cfg, &s)) _exit(1);
    strcpy(text(s), arg ? (const char *)arg : "");
}

TEST(I7_name_is_free_again_after_a_kill)
{
    shmipc_ctx *ctx = scope_open();
    shmipc_segment *s;
    shmipc_segment_info info;
    char old[] = "old";
    COVERS("S7 K2");
    scope_leave_dead(stay_attached, old);
    CHECK_EQ(scope_files(".seg"), 1);
    REQUIRE(shmipc_segment_inspect(ctx, "left", &info) == 0);
    CHECK_EQ(info.users, 0);
    CHECK_EQ(info.dead, 1);
    CHECK_EQ(get(ctx, "left", SHMIPC_OPEN, &s), SHMIPC_ENOENT); /* which also removes it */
    CHECK_EQ(scope_files(".seg"), 0);
    scope_leave_dead(stay_attached, old);
    REQUIRE(get(ctx, "left", SHMIPC_CREATE, &s) == 0);
    CHECK_STR(text(s), ""); /* fresh and empty */
    CHECK_EQ(scope_files(".seg"), 1);
    shmipc_segment_close(s);
    scope_leave_dead(stay_attached, old);
    REQUIRE(get(ctx, "left", SHMIPC_OPEN_OR_CREATE, &s) == 0);
    CHECK_STR(text(s), "");
    shmipc_segment_close(s);
    scope_leave_dead(stay_attached, old);
    CHECK_EQ(shmipc_ctx_sweep(ctx, 0), 1);
    CHECK_EQ(scope_files(".seg"), 0);
    scope_leave_dead(stay_attached, old);
    shmipc_ctx_close(scope_open()); /* opening sweeps a slice */
    CHECK_EQ(scope_files(".seg"), 0);
    shmipc_ctx_close(ctx);
    scope_end();
}

TEST(I2_stopped_user_is_not_robbed)
{
    shmipc_ctx *ctx = scope_open();
    shmipc_segment *s;
    char mine[] = "mine";
    pid_t pid = scope_stay(stay_attached, mine);
    int st;
    COVERS("K7");
    kill(pid, SIGSTOP);
    CHECK_EQ(waitpid(pid, &st, WUNTRACED), pid);
    CHECK_EQ(shmipc_ctx_sweep(ctx, 0), 0);
    CHECK_EQ(get(ctx, "left", SHMIPC_CREATE, &s), SHMIPC_EEXIST);
    REQUIRE(get(ctx, "left", SHMIPC_OPEN_OR_CREATE, &s) == 0);
    CHECK_STR(text(s), "mine");
    CHECK_EQ(shmipc_segment_sweep(s), 0);
    CHECK_EQ(shmipc_segment_alive(s, 0), 1);
    shmipc_segment_close(s);
    CHECK_EQ(scope_files(".seg"), 1);
    scope_kill(pid);
    CHECK_EQ(shmipc_ctx_sweep(ctx, 0), 1);
    shmipc_ctx_close(ctx);
    scope_end();
}

TEST(I7_steps_of_a_remover_that_stopped)
{
    shmipc_ctx *ctx = scope_open();
    shmipc_segment *s, *t;
    shmipc__name *slot;
    char file[400];
    uint64_t g;
    COVERS("I2");
    /* It marked the segment dead and got no further. */
    scope_leave_dead(stay_attached, NULL);
    REQUIRE(shmipc__name_find(ctx, shmipc__name_key("left"), 0, &slot) == 0);
    g = slot->generation;
    {
        shmipc_segment view;
        shmipc__segment_blank(&view, ctx, "");
        shmipc__file_name(view.path, "left", g);
        REQUIRE(shmipc__segment_peek(&view) == 0 && shmipc__segment_map(&view) == 0);
        (void)shmipc__or_acqrel_u64(&shmipc__live(&view)->k, SHMIPC__K_DEAD);
        shmipc__segment_drop(&view);
    }
    REQUIRE(get(ctx, "left", SHMIPC_OPEN_OR_CREATE, &s) == 0);
    CHECK(slot->generation != g && slot->generation == shmipc_segment_generation(s));
    CHECK_EQ(scope_files(".seg"), 1);
    shmipc_segment_close(s);
    /* It took the generation away and left the file. */
    scope_leave_dead(stay_attached, NULL);
    slot->generation = 0;
    CHECK_EQ(get(ctx, "left", SHMIPC_OPEN, &s), SHMIPC_ENOENT);
    REQUIRE(get(ctx, "left", SHMIPC_CREATE, &s) == 0);
    CHECK_EQ(scope_files(".seg"), 2);
    CHECK_EQ(shmipc_ctx_sweep(ctx, 0), 1);
    CHECK_EQ(scope_files(".seg"), 1);
    /* Somebody removed the file of a name by hand. */
    snprintf(file, sizeof file, "%s/%s", scope_dir(), s->path);
    CHECK(unlink(file) == 0);
    CHECK_EQ(get(ctx, "left", SHMIPC_OPEN, &t), SHMIPC_ENOENT);
    REQUIRE(get(ctx, "left", SHMIPC_OPEN_OR_CREATE, &t) == 0);
    CHECK(shmipc_segment_generation(t) > shmipc_segment_generation(s));
    shmipc_segment_close(s); /* the late leaver hits only its own */
    CHECK_EQ(scope_files(".seg"), 1);
    CHECK_EQ(slot->generation, shmipc_segment_generation(t));
    shmipc_ctx_close(ctx);
    CHECK_EQ(scope_files(".seg"), 0);
    scope_end();
}

TEST(I7_unlinked_by_name)
{
    shmipc_ctx *a = scope_open(), *b = scope_open();
    shmipc_segment *s, *t, *u;
    REQUIRE(get(a, "u", SHMIPC_CREATE, &s) == 0 && get(b, "u", SHMIPC_OPEN, &t) == 0);
    strcpy(text(s), "old");
    CHECK_EQ(shmipc_segment_unlink(b, "u"), 0);
    CHECK_EQ(scope_files(".seg"), 0);
    CHECK_EQ(shmipc_segment_unlink(b, "u"), SHMIPC_ENOENT);
    CHECK_STR(text(t), "old"); /* who has it keeps it */
    REQUIRE(get(b, "u", SHMIPC_CREATE, &u) == 0);
    CHECK_STR(text(u), "");
    shmipc_segment_close(s);
    shmipc_segment_close(t);
    CHECK_EQ(scope_files(".seg"), 1);
    CHECK_EQ(get(a, "u", SHMIPC_OPEN, &s), 0);
    shmipc_ctx_close(a);
    shmipc_ctx_close(b);
    scope_end();
}

TEST(I1_dead_attachments_are_swept_before_reuse)
{
    shmipc_ctx *ctx = scope_open();
    shmipc_segment_config cfg = of_size(SHMIPC_CREATE, 100);
    shmipc_segment *s, *t = NULL;
    uint64_t life = shmipc_ctx_life(ctx);
    pid_t pid;
    COVERS("S62 I7");
    cfg.kind = stay_kind = &kind_of_7;
    cfg.capacity = 2;
    REQUIRE(shmipc_segment_open(ctx, "left", &cfg, &s) == 0);
    shmipc__entry_at(s, 1)->bell = 5;
    shmipc__entry_at(s, 1)->flags = 6;
    pid = scope_stay(stay_attached, NULL);
    CHECK_EQ(shmipc__entry_at(s, 1)->bell, 0);
    CHECK_EQ(shmipc__entry_at(s, 1)->flags, 0);
    cfg.mode = SHMIPC_OPEN;
    CHECK_EQ(shmipc_segment_open(ctx, "left", &cfg, &t), SHMIPC_ETABLE);
    CHECK_EQ(shmipc_segment_sweep(s), 0);
    scope_kill(pid);
    sweep_says = SHMIPC_EBUSY; /* its kind could not give everything back: the index stays taken */
    CHECK_EQ(shmipc_segment_sweep(s), SHMIPC_EBUSY);
    CHECK(shmipc__entry_at(s, 1)->life != 0);
    CHECK_EQ(shmipc_segment_alive(s, 1), 0);
    CHECK_EQ(shmipc_segment_open(ctx, "left", &cfg, &t), SHMIPC_ETABLE);
    sweep_says = 0;
    CHECK_EQ(shmipc_segment_sweep(s), 1);
    CHECK_EQ(swept_index, 1);
    CHECK_EQ(swept_life, life + 1);
    CHECK_EQ(shmipc_segment_holds(s, 1, 0), 1);
    CHECK_EQ(shmipc_segment_sweep(s), 0);
    pid = scope_stay(stay_attached, NULL);
    scope_kill(pid);
    REQUIRE(shmipc_segment_open(ctx, "left", &cfg, &t) == 0); /* a full table sweeps itself */
    CHECK_EQ(shmipc_segment_index(t), 1);
    CHECK_EQ(swept_life, life + 2);
    shmipc_segment_close(t);
    CHECK_EQ(swept_life, life); /* leaving gives back the same way */
    shmipc_ctx_close(ctx);
    scope_end();
}

TEST(I3_attach_table_full_of_nonsense)
{
    shmipc_ctx *ctx = scope_open();
    shmipc_segment *s, *t;
    uint32_t i;
    REQUIRE(get(ctx, "n", SHMIPC_CREATE, &s) == 0);
    for (i = 1; i < 256; i++) shmipc__entry_at(s, i)->life = check_random() << 32 | i; /* lives nobody has */
    REQUIRE(get(ctx, "n", SHMIPC_OPEN, &t) == 0);
    CHECK_EQ(shmipc_segment_sweep(s), 0); /* the full table was swept to make room */
    CHECK_EQ(shmipc_segment_holds(s, 2, 0) + shmipc_segment_holds(s, 255, 0), 2);
    shmipc_segment_close(t);
    shmipc_segment_close(s);
    CHECK_EQ(scope_files(".seg"), 0);
    shmipc_ctx_close(ctx);
    scope_end();
}

/* ---- lingering ---- */

static const shmipc_kind *const kinds[] = {&kind_of_8, &kind_of_7};

TEST(I7_undrained_segment_lingers)
{
    shmipc_ctx_config ccfg;
    shmipc_ctx *ctx, *plain = scope_open();
    shmipc_segment_config cfg = of_size(SHMIPC_OPEN, 100);
    shmipc_segment *s;
    char kept[] = "kept";
    int64_t t0;
    int n = 0;
    COVERS("S40");
    shmipc_ctx_config_init(&ccfg);
    ccfg.dir = scope_dir();
    ccfg.kinds = kinds;
    ccfg.kind_count = 2;
    REQUIRE(shmipc_ctx_open(&ctx, &ccfg) == 0);
    stay_kind = &kind_of_7;
    stay_linger = 600000;
    scope_leave_dead(stay_attached, kept);
    CHECK_EQ(shmipc_ctx_sweep(ctx, 0), 0);
    CHECK_EQ(shmipc_ctx_sweep(plain, 0), 0); /* one that does not know the kind waits for the deadline */
    cfg.kind = &kind_of_7;
    REQUIRE(shmipc_segment_open(ctx, "left", &cfg, &s) == 0); /* joined, not replaced */
    CHECK_STR(text(s), "kept");
    shmipc_segment_close(s);
    CHECK_EQ(scope_files(".seg"), 1);
    drained_says = 1;
    validate_says = SHMIPC_ECORRUPT; /* a damaged one is not asked */
    CHECK_EQ(shmipc_ctx_sweep(ctx, 0), 0);
    validate_says = 0;
    CHECK_EQ(shmipc_ctx_sweep(plain, 0), 0);
    CHECK_EQ(shmipc_ctx_sweep(ctx, 0), 1);
    CHECK_EQ(scope_files(".seg"), 0);
    drained_says = 0;
    stay_linger = 30;
    scope_leave_dead(stay_attached, kept);
    for (t0 = shmipc__os_now_ns(); scope_files(".seg") && shmipc__os_now_ns() - t0 < 5000000000; n++) {
        CHECK(shmipc_ctx_sweep(plain, 0) >= 0);
    }
    CHECK(n > 1);
    CHECK(shmipc__os_now_ns() - t0 >= 20000000);
    CHECK_EQ(scope_files(".seg"), 0);
    /* A deadline that no sweep can have written, and one that belongs to an older attachment, start anew. */
    stay_linger = 600000;
    REQUIRE(scope_files(".seg") == 0);
    scope_leave_dead(stay_attached, kept);
    CHECK_EQ(shmipc_ctx_sweep(plain, 0), 0);
    REQUIRE(shmipc_segment_open(ctx, "left", &cfg, &s) == 0);
    shmipc__live(s)->linger = 0;
    shmipc_segment_close(s);
    CHECK_EQ(scope_files(".seg"), 1);
    REQUIRE(shmipc_segment_open(ctx, "left", &cfg, &s) == 0);
    shmipc__live(s)->linger = UINT64_MAX;
    shmipc_segment_close(s);
    CHECK_EQ(scope_files(".seg"), 1);
    CHECK_EQ(shmipc_segment_unlink(ctx, "left"), 0);
    shmipc_ctx_close(plain);
    shmipc_ctx_close(ctx);
    scope_end();
}

/* ---- hostile files ---- */

static void put_file(const char *name, const void *bytes, size_t n)
{
    char file[400];
    int fd;
    snprintf(file, sizeof file, "%s/%s", scope_dir(), name);
    fd = open(file, O_CREAT | O_TRUNC | O_RDWR, 0600);
    REQUIRE(fd >= 0);
    CHECK_EQ(write(fd, bytes, n), (ssize_t)n);
    close(fd);
}

static void is_refused(shmipc_ctx *ctx, int code, const char *why)
{
    shmipc_segment *s = NULL;
    shmipc_segment_info info;
    CHECK_EQ(get(ctx, "h", SHMIPC_OPEN, &s), code);
    CHECK_EQ(get(ctx, "h", SHMIPC_CREATE, &s), code);
    CHECK(s == NULL);
    if (!CHECK(strstr(shmipc_ctx_detail(ctx), why) != NULL)) printf("said: %s\n", shmipc_ctx_detail(ctx));
    CHECK_EQ(shmipc_segment_inspect(ctx, "h", &info), 0);
    CHECK_EQ(info.status, code);
    CHECK_EQ(shmipc_segment_list(ctx, &info, 1), 1);
    CHECK_EQ(info.status, code);
    CHECK_EQ(shmipc_ctx_sweep(ctx, 0), 0);
    CHECK_EQ(scope_files(".seg"), 1);
}

TEST(I3_segment_files_that_are_none)
{
    static unsigned char good[8192], image[8192];
    shmipc__segment_head *h = (shmipc__segment_head *)(void *)image;
    shmipc_ctx *ctx = scope_open();
    shmipc_segment *s;
    shmipc__name *slot;
    char file[256];
    size_t i;
    COVERS("I9 S51 K2");
    REQUIRE(get(ctx, "h", SHMIPC_CREATE, &s) == 0);
    memcpy(good, s->base, sizeof good - 4096 + 100);
    strcpy(file, s->path);
    REQUIRE(shmipc__name_find(ctx, shmipc__name_key("h"), 0, &slot) == 0);
    CHECK_EQ(shmipc_segment_unlink(ctx, "h"), 0);
    slot->generation = s->head.generation;
    put_file(file, "", 0);
    is_refused(ctx, SHMIPC_EFOREIGN, "not made by shmipc");
    put_file(file, good, 7);
    is_refused(ctx, SHMIPC_EFOREIGN, "not made by shmipc");
    put_file(file, good, 8);
    is_refused(ctx, SHMIPC_ECORRUPT, "damaged");
    put_file(file, good, 511);
    is_refused(ctx, SHMIPC_ECORRUPT, "damaged");
    put_file(file, good, 4000); /* the attach table is cut off */
    is_refused(ctx, SHMIPC_ECORRUPT, "damaged");
    put_file(file, image, sizeof image);
    is_refused(ctx, SHMIPC_EFOREIGN, "unlink it");
    for (i = 0; i < sizeof image; i++) image[i] = (unsigned char)check_random();
    put_file(file, image, sizeof image);
    is_refused(ctx, SHMIPC_EFOREIGN, "unlink it");
#define BROKEN(change, code, why)                 \
    do {                                          \
        memcpy(image, good, sizeof image);        \
        change;                                   \
        put_file(file, image, sizeof image);      \
        is_refused(ctx, code, why);               \
    } while (0)
    BROKEN(h->layout = 9, SHMIPC_ELAYOUT, "has layout 9");
    BROKEN(h->stamp ^= 4, SHMIPC_ELAYOUT, "features");
    BROKEN(h->generation++, SHMIPC_ECORRUPT, "damaged");
    BROKEN(h->capacity = 0, SHMIPC_ECORRUPT, "damaged");
    BROKEN(h->capacity = 0xffffffff, SHMIPC_ECORRUPT, "damaged");
    BROKEN(h->params_len = 0xffffffff, SHMIPC_ECORRUPT, "damaged");
    BROKEN(h->area += 4096, SHMIPC_ECORRUPT, "damaged");
    BROKEN(h->max_bytes = 1, SHMIPC_ECORRUPT, "damaged");
    BROKEN(h->max_bytes = UINT64_MAX, SHMIPC_ECORRUPT, "damaged");
    BROKEN(h->name_len = 0, SHMIPC_ECORRUPT, "damaged");
    BROKEN(h->name_len = 256, SHMIPC_ECORRUPT, "damaged");
    BROKEN(memset(image + 256, 'h', 256), SHMIPC_ECORRUPT, "damaged");
    memcpy(image, good, sizeof image);
    h->registry++; /* as if of another registry; no name leads to such a one by itself */
    put_file(file, image, sizeof image);
    CHECK_EQ(get(ctx, "h", SHMIPC_OPEN, &s), SHMIPC_ESTATE);
    CHECK(strstr(shmipc_ctx_detail(ctx), "registry that was deleted") != NULL);
    CHECK_EQ(shmipc_ctx_sweep(ctx, 0), 1);
    memcpy(image, good, sizeof image);
    h->max_bytes = INT64_MAX; /* more than this machine can map */
    put_file(file, image, sizeof image);
    CHECK(get(ctx, "h", SHMIPC_OPEN, &s) == SHMIPC_ENOMEM);
    CHECK_EQ(shmipc_segment_unlink(ctx, "h"), 0); /* the cure that the message names */
    REQUIRE(get(ctx, "h", SHMIPC_CREATE, &s) == 0);
    slot->generation = UINT64_MAX;
    CHECK_EQ(get(ctx, "h", SHMIPC_OPEN, &s), SHMIPC_ECORRUPT);
    shmipc_ctx_close(ctx);
    scope_end();
}

static void leave_lingering(void *arg)
{
    stay_linger = 600000;
    stay_attached(arg);
}

/* Somebody removed the registry's file. Its users go on with what they have; what nobody uses is swept by the next. */
TEST(K2_leftovers_of_a_deleted_registry)
{
    shmipc_ctx *old = scope_open(), *ctx;
    shmipc_segment *s, *t;
    shmipc_segment_info infos[3];
    char file[96];
    pid_t user;
    int i, left = 0;
    COVERS("I2 K8");
    REQUIRE(get(old, "mine", SHMIPC_CREATE, &s) == 0);
    stay_name = "used";
    user = scope_stay(stay_attached, NULL);
    stay_name = "dead";
    scope_leave_dead(stay_attached, NULL);
    stay_name = "lingers";
    scope_leave_dead(leave_lingering, NULL);
    snprintf(file, sizeof file, "%s/registry", scope_dir());
    REQUIRE(unlink(file) == 0);
    CHECK_EQ(shmipc_ctx_sweep(old, 0), SHMIPC_ESTATE);
    ctx = scope_open(); /* looks at a few files */
    CHECK(shmipc_ctx_sweep(ctx, 0) >= 0);
    CHECK_EQ(scope_files(".seg"), 2);
    CHECK_EQ(shmipc_segment_list(ctx, infos, 3), 2);
    for (i = 0; i < 2; i++) left += infos[i].status == SHMIPC_ESTATE && infos[i].name[0] == 0;
    CHECK_EQ(left, 2);
    REQUIRE(get(ctx, "used", SHMIPC_CREATE, &t) == 0); /* the name is free; who has the old one keeps it */
    strcpy(text(s), "still there");
    scope_kill(user);
    CHECK_EQ(shmipc_ctx_sweep(ctx, 0), 1);
    /* The old ones must not take the new one's segments for leftovers, above all not those that linger. */
    stay_name = "lingers";
    scope_leave_dead(leave_lingering, NULL);
    CHECK_EQ(shmipc__sweep_dir(old, 0, NULL), 0);
    CHECK_EQ(scope_files("lingers"), 1);
    CHECK_STR(text(s), "still there");
    shmipc_ctx_close(old); /* in error, so it leaves its segment to the others */
    CHECK_EQ(shmipc_ctx_sweep(ctx, 0), 1);
    CHECK_EQ(scope_files("mine"), 0);
    CHECK_EQ(shmipc_segment_unlink(ctx, "lingers"), 0);
    shmipc_ctx_close(ctx);
    CHECK_EQ(scope_files(""), 1);
    CHECK_EQ(scope_mappings(), 0);
    scope_end();
}

/* The two sides of taking a leftover: who takes it finds it joined, who joins finds it taken. */
TEST(K2_a_leftover_is_taken_or_joined)
{
    shmipc_ctx *ctx = scope_open();
    shmipc_segment *s, *t;
    shmipc__os_file f;
    uint64_t first;
    pid_t user;
    stay_name = "x";
    user = scope_stay(stay_attached, NULL);
    REQUIRE(get(ctx, "x", SHMIPC_OPEN, &s) == 0);
    REQUIRE(shmipc__os_open(ctx->dir.file, s->path, &f) == 0);
    scope_kill(user); /* now he who joined is alone */
    CHECK_EQ(shmipc__os_try_lock(f, SHMIPC__BYTE_USED), SHMIPC_EBUSY);
    shmipc_segment_close(s);
    CHECK_EQ(shmipc__os_try_lock(f, SHMIPC__BYTE_USED), 0);
    shmipc__os_close(&f);
    REQUIRE(get(ctx, "x", SHMIPC_CREATE, &s) == 0);
    first = shmipc_segment_generation(s);
    REQUIRE(shmipc__os_open(ctx->dir.file, s->path, &f) == 0);
    CHECK_EQ(shmipc__os_try_lock(f, SHMIPC__BYTE_USED), SHMIPC_EBUSY);
    shmipc__segment_drop(s); /* as if killed, while this life goes on */
    CHECK_EQ(shmipc__os_try_lock(f, SHMIPC__BYTE_USED), 0);
    REQUIRE(get(ctx, "x", SHMIPC_OPEN_OR_CREATE, &t) == 0);
    CHECK(shmipc_segment_generation(t) != first);
    CHECK_EQ(get(ctx, "x", SHMIPC_CREATE, &s), SHMIPC_EEXIST);
    shmipc__os_close(&f);
    scope_end();
}

/* A registry refuses what it has no room for, says why, and knows all that it had. */
TEST_LIMIT(K2_names_beyond_what_a_registry_holds, 60)
{
    shmipc_ctx *ctx = scope_open();
    shmipc_segment *s, *t = NULL;
    shmipc__name *slot;
    char name[32], file[96];
    long n, i;
    int rc = 0;
    REQUIRE(get(ctx, "first", SHMIPC_CREATE, &s) == 0);
    for (n = 0; rc == 0; n++) {
        snprintf(name, sizeof name, "job-%ld", n);
        rc = shmipc__name_find(ctx, shmipc__name_key(name), 1, &slot);
    }
    CHECK_EQ(rc, SHMIPC_ETABLE);
    CHECK(n > 1000000);
    printf("%ld names fit\n", n);
    CHECK_EQ(get(ctx, name, SHMIPC_CREATE, &t), SHMIPC_ETABLE);
    CHECK(strstr(shmipc_ctx_detail(ctx), "remove its file registry") != NULL);
    CHECK_EQ(get(ctx, name, SHMIPC_OPEN, &t), SHMIPC_ENOENT);
    CHECK_EQ(shmipc_segment_unlink(ctx, name), SHMIPC_ENOENT);
    REQUIRE(get(ctx, "first", SHMIPC_OPEN, &t) == 0);
    for (i = 0; i < n - 1; i += 1 + (long)(check_random() % 1000)) { /* a name that it had once can be used again */
        snprintf(name, sizeof name, "job-%ld", i);
        REQUIRE(shmipc__name_find(ctx, shmipc__name_key(name), 0, &slot) == 0);
    }
    REQUIRE(get(ctx, name, SHMIPC_CREATE, &t) == 0);
    shmipc_ctx_close(ctx);
    snprintf(file, sizeof file, "%s/registry", scope_dir());
    REQUIRE(unlink(file) == 0); /* the cure */
    ctx = scope_open();
    REQUIRE(get(ctx, "another", SHMIPC_CREATE, &t) == 0);
    shmipc_ctx_close(ctx);
    scope_end();
}

TEST(K2_names_of_one_hash_do_not_rob_each_other)
{
    shmipc_ctx *ctx = scope_open();
    shmipc_segment *s, *t = NULL;
    shmipc__name *slot;
    REQUIRE(get(ctx, "one", SHMIPC_CREATE, &s) == 0);
    REQUIRE(shmipc__name_find(ctx, shmipc__name_key("other"), 1, &slot) == 0);
    slot->generation = shmipc_segment_generation(s); /* as if both had one entry */
    CHECK_EQ(get(ctx, "other", SHMIPC_OPEN_OR_CREATE, &t), SHMIPC_ECOLLISION);
    CHECK(strstr(shmipc_ctx_detail(ctx), "choose another") != NULL);
    CHECK_EQ(get(ctx, "one", SHMIPC_OPEN, &t), 0);
    shmipc_ctx_close(ctx);
    scope_end();
}

/* ---- fork and lost descriptors ---- */

TEST(I2_fork_child_cannot_use_or_end_an_attachment)
{
    shmipc_ctx *ctx = scope_open();
    shmipc_segment *s, *t;
    void *p;
    pid_t pid;
    int st;
    COVERS("K2");
    REQUIRE(get(ctx, "f", SHMIPC_CREATE, &s) == 0);
    pid = fork();
    if (pid == 0) {
        if (shmipc_segment_at(s, 0, 1, &p) != SHMIPC_EFORKED) _exit(1);
        if (shmipc_segment_grow(s, 200) != SHMIPC_EFORKED || shmipc_segment_sweep(s) != SHMIPC_EFORKED) _exit(2);
        if (get(ctx, "f", SHMIPC_OPEN, &t) != SHMIPC_EFORKED || shmipc_segment_alive(s, 0) != SHMIPC_EFORKED) _exit(3);
        if (shmipc_segment_unlink(ctx, "f") != SHMIPC_EFORKED) _exit(4);
        shmipc_segment_close(s);
        shmipc_ctx_close(ctx);
        ctx = scope_open();
        if (get(ctx, "f", SHMIPC_OPEN, &t)) _exit(5);
        shmipc_ctx_close(ctx);
        _exit(scope_mappings() ? 6 : 0);
    }
    CHECK_EQ(waitpid(pid, &st, 0), pid);
    CHECK_EQ(st, 0);
    CHECK_EQ(shmipc_segment_holds(s, 0, shmipc_ctx_life(ctx)), 1);
    CHECK_EQ(scope_files(".seg"), 1);
    shmipc_ctx_close(ctx);
    CHECK_EQ(scope_files(".seg"), 0);
    scope_end();
}

TEST(I2_segment_of_a_context_that_lost_its_life)
{
    shmipc_ctx *ctx = scope_open(), *other;
    shmipc_segment *s, *t;
    int i, fd;
    REQUIRE(get(ctx, "l", SHMIPC_CREATE, &s) == 0);
    for (i = 3; i < 60; i++) close(i);
    fd = open("/dev/null", O_RDONLY);
    CHECK_EQ(shmipc_segment_grow(s, 1), SHMIPC_EOWNERDEAD);
    other = scope_open();
    REQUIRE(get(other, "l", SHMIPC_OPEN_OR_CREATE, &t) == 0); /* a successor: the first is taken for dead */
    shmipc_segment_close(s);
    CHECK_EQ(shmipc_segment_holds(t, 0, shmipc_ctx_life(other)), 1);
    CHECK(fcntl(fd, F_GETFD) >= 0);
    shmipc_ctx_close(ctx);
    shmipc_ctx_close(other);
    scope_end();
}

/* ---- faults of the system ---- */

static int is_code(int rc) { return rc < 0 && strcmp(shmipc_strerror(rc), "unknown code") != 0; }

/* Opens, grows, lists, sweeps, unlinks and closes; the first error ends it. */
static int whole_life(shmipc_ctx *ctx)
{
    shmipc_segment_config cfg = of_size(SHMIPC_OPEN_OR_CREATE, 100);
    shmipc_segment *s = NULL, *t = NULL;
    shmipc_segment_info infos[4];
    int rc;
    cfg.max_size = 1 << 20;
    rc = shmipc_segment_open(ctx, "e", &cfg, &s);
    if (rc == 0) rc = shmipc_segment_grow(s, 50000);
    if (rc == 0) rc = get(ctx, "e", SHMIPC_OPEN, &t);
    if (rc >= 0) rc = shmipc_segment_list(ctx, infos, 4);
    if (rc >= 0) rc = shmipc_segment_inspect(ctx, "e", infos);
    if (rc >= 0) rc = shmipc_segment_punch(s, 0, 50000);
    if (rc >= 0) rc = shmipc_segment_reserve(s, 0, 50000);
    if (rc >= 0) rc = shmipc_segment_sweep(s);
    if (rc >= 0) rc = shmipc_ctx_sweep(ctx, 0);
    if (rc >= 0) rc = shmipc_segment_unlink(ctx, "e");
    shmipc_segment_close(s);
    shmipc_segment_close(t);
    return rc;
}

TEST(I4_every_system_call_of_a_segment_may_fail)
{
    static const int errors[] = {EMFILE, ENOMEM, ENOSPC, EACCES, EIO, ENOENT, EINVAL};
    shmipc_ctx *ctx = scope_open();
    size_t e;
    COVERS("I6 K2 S62");
    for (e = 0; e < sizeof errors / sizeof *errors; e++) {
        int before = scope_descriptors(), maps = scope_mappings(), n, failed = 0, reached = 1;
        for (n = 1; reached && n < 200; n++) {
            int rc;
            fault_nth(n, errors[e]);
            rc = whole_life(ctx);
            reached = fault_off();
            if (rc < 0) {
                failed++;
                CHECK(is_code(rc));
            }
            CHECK_EQ(scope_descriptors(), before);
            CHECK_EQ(scope_mappings(), maps);
            CHECK_EQ(whole_life(ctx), 0); /* the next call works */
            CHECK(shmipc_ctx_sweep(ctx, 0) >= 0);
            if (!CHECK_EQ(scope_files(".seg") + scope_files(".draft"), 0)) printf("call %d, errno %d\n", n, errors[e]);
            CHECK_EQ(shmipc_ctx_check(ctx), 0);
        }
        CHECK(failed > 20 && n < 200);
    }
    shmipc_ctx_close(ctx);
    scope_end();
}

/* Where files without names cannot be made, or not be linked, drafts have names; each call that makes one may fail. */
TEST(I4_every_system_call_of_a_named_draft_may_fail)
{
    shmipc_ctx *ctx = scope_open();
    shmipc_segment *s;
    int n, rc, reached = 1, before = scope_descriptors();
    for (n = 2; reached; n++) {
        fault_unnamed = 1;
        fault_nth(n, EACCES);
        rc = get(ctx, "d", SHMIPC_CREATE, &s);
        reached = fault_off();
        fault_unnamed = 0;
        if (rc == 0) shmipc_segment_close(s);
        else CHECK(s == NULL);
        CHECK_EQ(scope_files(".seg") + scope_files(".draft"), 0);
        CHECK_EQ(scope_descriptors(), before);
    }
    CHECK(n > 8);
    shmipc_ctx_close(ctx);
    scope_end();
}

TEST(I1_drafts_with_names)
{
    shmipc_ctx *ctx;
    shmipc_segment *s;
    fault_all("open_unnamed", EOPNOTSUPP);
    ctx = scope_open();
    REQUIRE(get(ctx, "d", SHMIPC_CREATE, &s) == 0);
    CHECK_EQ(scope_files(".draft"), 0);
    CHECK_EQ(scope_files(""), 2);
    shmipc_segment_close(s);
    CHECK_EQ(scope_files(""), 1);
    shmipc_ctx_close(ctx);
    scope_end();
}

/* ---- list, sweep ---- */

TEST(K2_list_and_inspect_tell_what_is_there)
{
    shmipc_ctx *ctx = scope_open();
    shmipc_segment_config cfg = of_size(SHMIPC_CREATE, 5000);
    shmipc_segment *s, *t;
    shmipc_segment_info info, infos[3];
    COVERS("K8");
    cfg.max_size = 9000;
    cfg.capacity = 10;
    stay_kind = cfg.kind = &kind_of_7;
    REQUIRE(shmipc_segment_open(ctx, "left", &cfg, &s) == 0);
    scope_leave_dead(stay_attached, NULL);
    REQUIRE(shmipc_segment_inspect(ctx, "left", &info) == 0);
    CHECK_STR(info.name, "left");
    CHECK_EQ(info.status, 0);
    CHECK_EQ(info.kind, 7);
    CHECK_EQ(info.current, 1);
    CHECK_EQ(info.capacity, 10);
    CHECK_EQ(info.users, 1);
    CHECK_EQ(info.dead, 1);
    CHECK_EQ(info.generation, shmipc_segment_generation(s));
    CHECK_EQ(info.size, 5000);
    CHECK_EQ(info.max_size, 9000);
    CHECK_EQ(info.creator, shmipc_ctx_life(ctx));
    CHECK(info.created_ns > 1000000000 && info.created_ns <= shmipc__os_wall_ns());
    REQUIRE(get(ctx, "b", SHMIPC_CREATE, &t) == 0);
    CHECK_EQ(shmipc_segment_list(ctx, infos, 3), 2);
    CHECK_EQ(shmipc_segment_list(ctx, infos, 1), 2);
    CHECK_EQ(shmipc_segment_list(ctx, NULL, 0), 2);
    put_file("notes.txt", "x", 1); /* what is not ours is left alone */
    put_file(".0000000000000001.sog", "x", 1);
    put_file("x.000000000000000g.seg", "x", 1);
    CHECK_EQ(shmipc_segment_list(ctx, infos, 3), 2);
    CHECK_EQ(shmipc_ctx_sweep(ctx, 0), 0);
    CHECK_EQ(scope_files(""), 6);
    shmipc_ctx_close(ctx);
    scope_end();
}

static void leave_many(void *arg)
{
    shmipc_ctx *ctx = scope_open();
    char name[16];
    int i;
    shmipc_segment *s;
    (void)arg;
    for (i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "m%d", i);
        if (get(ctx, name, SHMIPC_CREATE, &s)) _exit(1);
    }
}

TEST(I7_slices_of_the_sweep_reach_everything)
{
    shmipc_ctx *ctx = scope_open();
    shmipc_segment *s;
    int i, n, sum = 0;
    REQUIRE(get(ctx, "mine", SHMIPC_CREATE, &s) == 0);
    scope_leave_dead(leave_many, NULL);
    CHECK_EQ(scope_files(".seg"), 41);
    for (i = 0; i < 20; i++) {
        n = shmipc_ctx_sweep(ctx, 5);
        CHECK(n >= 0 && n <= 5);
        sum += n;
    }
    CHECK_EQ(sum, 40);
    CHECK_EQ(scope_files(".seg"), 1);
    shmipc_ctx_close(ctx);
    scope_end();
}

static void hold_sweeper(void *arg)
{
    (void)arg;
    if (shmipc__os_try_lock(scope_open()->lock.file, SHMIPC__ROLE_SWEEPER)) _exit(1);
}

TEST(I2_stopped_sweeper_stops_nobody)
{
    shmipc_ctx *ctx = scope_open();
    pid_t pid = scope_stay(hold_sweeper, NULL);
    scope_leave_dead(stay_attached, NULL);
    CHECK_EQ(shmipc_ctx_sweep(ctx, 8), 0);
    CHECK_EQ(shmipc_ctx_sweep(ctx, 0), 1);
    scope_kill(pid);
    shmipc_ctx_close(ctx);
    scope_end();
}
