/* Result codes: every one has a text of its own. */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../shmipc.h"
#include "check.h"

TEST(every_code_has_its_own_text)
{
    int a, b;
    CHECK_STR(shmipc_strerror(SHMIPC_OK), "success");
    for (a = SHMIPC_OK; a >= SHMIPC_EOS; a--) {
        CHECK(strcmp(shmipc_strerror(a), "unknown code") != 0);
        for (b = SHMIPC_OK; b > a; b--) CHECK(strcmp(shmipc_strerror(a), shmipc_strerror(b)) != 0);
    }
}

TEST(an_unknown_code_is_named_so)
{
    CHECK_STR(shmipc_strerror(SHMIPC_EOS - 1), "unknown code");
    CHECK_STR(shmipc_strerror(1), "unknown code");
}
