/* bench/rings/ours.cc - the rings of shmipc.h, over the same shared memory as everybody's */
#include "exchange.h"

size_t our_transports(transport *out)
{
    (void)out;
    return 0;
}
