/* The life of named segments in one process and between a few: names, sizes, options, hostile files, faults. */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "check.h"
#include "../shmipc.h"
#include "scope.h"

static shmipc_segment_config of_size(int mode, uint64_t size)
{
    shmipc_segment_config cfg;
    shmipc_segment_config_init(&cfg);
    cfg.mode = mode;
    cfg.size = size;
    return cfg;
}

TEST(K2_create_open_close)
{
    shmipc_ctx *a = scope_open(), *b = scope_open();
    shmipc_segment_config cfg = of_size(SHMIPC_CREATE, 100), open = of_size(SHMIPC_OPEN, 0);
    shmipc_segment *s, *t, *u;
    void *p, *q;
    CHECK_EQ(shmipc_segment_open(b, "x", &open, &t), SHMIPC_ENOENT);
    REQUIRE(shmipc_segment_open(a, "x", &cfg, &s) == 0);
    CHECK_EQ(shmipc_segment_open(b, "x", &cfg, &t), SHMIPC_EEXIST);
    REQUIRE(shmipc_segment_open(b, "x", &open, &t) == 0);
    CHECK_EQ(shmipc_segment_at(s, 0, 100, &p), 0);
    CHECK_EQ(shmipc_segment_at(t, 0, 100, &q), 0);
    strcpy((char *)p, "hello");
    CHECK_STR((char *)q, "hello");
    CHECK_EQ(shmipc_segment_size(t), 100);
    CHECK_EQ(scope_files(".seg"), 1);
    shmipc_segment_close(s);
    CHECK_EQ(scope_files(".seg"), 1);
    shmipc_segment_close(t);
    CHECK_EQ(scope_files(".seg"), 0);
    CHECK_EQ(shmipc_segment_open(b, "x", &open, &u), SHMIPC_ENOENT);
    shmipc_ctx_close(a);
    shmipc_ctx_close(b);
    CHECK_EQ(scope_files(""), 1);
    scope_end();
}
