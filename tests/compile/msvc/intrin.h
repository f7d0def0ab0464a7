/* Stand-ins for the Microsoft intrinsics in shmipc.h, so that gcc can read and run that branch of its atomics. */
#ifndef STAND_IN_INTRIN_H
#define STAND_IN_INTRIN_H

#define _ReadWriteBarrier() __atomic_signal_fence(5)
#define _mm_mfence() __atomic_thread_fence(5)
#define _mm_pause() ((void)0)

static inline long _InterlockedCompareExchange(volatile long *p, long desired, long expected)
{
    int e = (int)expected; /* a Microsoft long has 32 bits */
    __atomic_compare_exchange_n((volatile int *)p, &e, (int)desired, 0, 5, 5);
    return e;
}

static inline long long _InterlockedCompareExchange64(volatile long long *p, long long desired, long long expected)
{
    __atomic_compare_exchange_n(p, &expected, desired, 0, 5, 5);
    return expected;
}

#endif
