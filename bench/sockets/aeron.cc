#include "sockets.h"
size_t aeron_peers(peer *out)
{
    out[0] = absent("aeron", "not built");
    return 1;
}
void aeron_end() {}
