/* faults.h - makes calls of the system and allocations fail. Include it before ../shmipc.h with SHMIPC_IMPLEMENTATION.
 *
 *     fault_nth(3, ENOSPC)          the third call from now fails, and only that
 *     fault_all("fallocate", EIO)   every call of that name fails
 *     fault_off()                   none; says whether the one asked for was reached
 */
#ifndef SHMIPC_FAULTS_H
#define SHMIPC_FAULTS_H

static int fault_at, fault_seen, fault_errno;
static int fault_unnamed; /* 1: no file can be made without a name, beside what is asked for otherwise */
static const char *fault_name, *fault_hit = "none"; /* asked for; failed last */

static inline int fault_here(const char *name)
{
    int hit = fault_name ? strcmp(name, fault_name) == 0 : fault_at && ++fault_seen == fault_at;
    if (hit) {
        errno = fault_errno;
        fault_hit = name;
    } else if (fault_unnamed && strcmp(name, "open_unnamed") == 0) {
        hit = 1;
        errno = EOPNOTSUPP;
    }
    return hit;
}
static inline void fault_nth(int nth, int error)
{
    fault_name = NULL;
    fault_at = nth;
    fault_seen = 0;
    fault_errno = error;
}
static inline void fault_all(const char *name, int error)
{
    fault_name = name;
    fault_errno = error;
}
static inline int fault_off(void)
{
    int reached = fault_at && fault_seen >= fault_at;
    fault_name = NULL;
    fault_at = 0;
    return reached;
}

static inline void *faulty_calloc(size_t n, size_t size) { return fault_here("calloc") ? NULL : (calloc)(n, size); }
static inline void *faulty_malloc(size_t n) { return fault_here("malloc") ? NULL : (malloc)(n); }
#define SHMIPC__OS_FAULT(name) fault_here(name)
#define calloc(n, size) faulty_calloc(n, size)
#define malloc(n) faulty_malloc(n)

#endif /* SHMIPC_FAULTS_H */
