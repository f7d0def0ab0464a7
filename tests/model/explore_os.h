/* explore_os.h - what shmipc.h wants of the operating system, as events of explore.h: define SHMIPC_OS_HEADER to this file. */
#ifndef EXPLORE_OS_H
#define EXPLORE_OS_H
#include "explore.h"

#define EX_OS_AT(n, name, call) (__extension__({ EX_SITE_HERE(n, name, 0); call; }))
static inline int ex_os_wait(ex_site *s, uint32_t *word, uint32_t expected, int64_t timeout_ns)
{
    int r = ex_futex_wait(s, word, expected, timeout_ns);
    return r == 0 ? SHMIPC_OK : r == 1 ? SHMIPC_EAGAIN : SHMIPC_ETIMEDOUT;
}
#define shmipc__os_futex_wait(word, expected, timeout_ns) EX_OS_AT(ex_here, "futex wait", ex_os_wait(&ex_here, (word), (expected), (timeout_ns)))
#define shmipc__os_futex_wake(word, count) EX_OS_AT(ex_here, "futex wake", ex_futex_wake(&ex_here, (word), (count)))

#endif
