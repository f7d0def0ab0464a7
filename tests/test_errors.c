/* Result codes: every one has a text of its own. */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../shmipc.h"
#include "check.h"

static int known(int code) { return strcmp(shmipc_strerror(code), "unknown code") != 0; }

/* That no code of the enum is left out is seen by the compile tests, which read the enum. */
TEST(every_code_has_its_own_text)
{
    int a, b;
    CHECK_STR(shmipc_strerror(SHMIPC_OK), "success");
    for (a = SHMIPC_OK; known(a); a--)
        for (b = SHMIPC_OK; b > a; b--) CHECK(strcmp(shmipc_strerror(a), shmipc_strerror(b)) != 0);
    CHECK(a < SHMIPC_EOS);
}

TEST(an_unknown_code_is_named_so)
{
    CHECK(!known(1));
    CHECK(!known(-1000));
}
