/* shmipc.h - v0.1.0 - crash-safe, lock-free inter-process communication on one machine.
 *
 * >>manual
 *
 * Do this
 *     #define SHMIPC_IMPLEMENTATION
 * before you include this file in *one* C or C++ file to create the implementation.
 * MIT licence, see the end of the file.
 */

/* Feature macros come first: without them the C library hides what the OS layer needs. */
#if !defined(SHMIPC_RINGS_ONLY) && defined(__linux__)
#if !defined(_GNU_SOURCE)
#if defined(_FEATURES_H) || defined(__BIONIC__)
#error "shmipc.h needs _GNU_SOURCE: include it before any system header, or compile with -D_GNU_SOURCE"
#endif
#define _GNU_SOURCE 1
#endif
#endif
#if !defined(SHMIPC_RINGS_ONLY) && defined(__linux__) && !defined(_FILE_OFFSET_BITS)
#define _FILE_OFFSET_BITS 64
#endif

#ifndef SHMIPC_H
#define SHMIPC_H

#include <stddef.h>
#include <stdint.h>

/* ---------------------------------------------------------------------------------------------
 * >>config  Options, each with where it must be defined and what breaks if processes differ
 * ------------------------------------------------------------------------------------------- */

#ifndef SHMIPC_API
#ifdef SHMIPC_STATIC
#if defined(__GNUC__) || defined(__clang__)
#define SHMIPC_API static __attribute__((unused))
#else
#define SHMIPC_API static
#endif
#else
#define SHMIPC_API extern
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* SHMIPC_CDEF_BEGIN */

/* ---------------------------------------------------------------------------------------------
 * >>errors  Result codes: 0 or positive is success, negative is one of these
 * ------------------------------------------------------------------------------------------- */

#define SHMIPC_VERSION_MAJOR 0
#define SHMIPC_VERSION_MINOR 1
#define SHMIPC_VERSION_PATCH 0

enum {
    SHMIPC_OK = 0,
    SHMIPC_EINVAL = -1,      /* an argument is out of its range; the detail message names it    */
    SHMIPC_ENOMEM = -2,      /* the process has no private memory left                          */
    SHMIPC_ENOSPC = -3,      /* the file system of the shared memory is full                    */
    SHMIPC_EFULL = -4,       /* the ring or queue holds all that it can                         */
    SHMIPC_EAGAIN = -5,      /* nothing there now                                               */
    SHMIPC_ETIMEDOUT = -6,   /* the time given has passed                                       */
    SHMIPC_EINTR = -7,       /* a signal arrived while waiting                                  */
    SHMIPC_EMSGSIZE = -8,    /* the message is larger than the limit, or than the buffer given  */
    SHMIPC_ELAYOUT = -9,     /* the memory has another layout version or feature stamp          */
    SHMIPC_ECORRUPT = -10,   /* shared memory holds a value that no correct peer writes         */
    SHMIPC_ENOENT = -11,     /* no such name                                                    */
    SHMIPC_EEXIST = -12,     /* the name exists already                                         */
    SHMIPC_EACCES = -13,     /* the operating system refused access                             */
    SHMIPC_EOWNER = -14,     /* a file or directory belongs to another user                     */
    SHMIPC_EMODE = -15,      /* a file or directory has a mode that lets others in              */
    SHMIPC_ESYMLINK = -16,   /* a symbolic link stands where a file or directory should         */
    SHMIPC_EFOREIGN = -17,   /* the file or memory was not made by shmipc                       */
    SHMIPC_EOWNERDEAD = -18, /* this process no longer holds the lock that proves it alive      */
    SHMIPC_EPEERDEAD = -19,  /* the peer that this operation needs has died                     */
    SHMIPC_EFORKED = -20,    /* the handle was opened by the parent of this process             */
    SHMIPC_ECLOSED = -21,    /* the handle or the segment was closed                            */
    SHMIPC_ESTATE = -22,     /* the call does not fit the state of the handle                   */
    SHMIPC_EBUSY = -23,      /* something is in use: a role, a pin budget, a lock               */
    SHMIPC_EKIND = -24,      /* the segment is of another kind                                  */
    SHMIPC_EMISMATCH = -25,  /* an option differs from the one the segment was made with        */
    SHMIPC_ENFILE = -26,     /* no file descriptor left                                         */
    SHMIPC_ETABLE = -27,     /* a table in shared memory is full: lives, attachments, names     */
    SHMIPC_ENOTSUP = -28,    /* this machine or operating system cannot do it                   */
    SHMIPC_EOS = -29         /* the operating system failed in an unexpected way                */
};

SHMIPC_API const char *shmipc_strerror(int code);

/* ---------------------------------------------------------------------------------------------
 * >>spsc
 * ------------------------------------------------------------------------------------------- */

/* ---------------------------------------------------------------------------------------------
 * >>lane
 * ------------------------------------------------------------------------------------------- */

/* ---------------------------------------------------------------------------------------------
 * >>queue
 * ------------------------------------------------------------------------------------------- */

/* SHMIPC_CDEF_END */

#ifndef SHMIPC_RINGS_ONLY
/* SHMIPC_CDEF_BEGIN */

/* ---------------------------------------------------------------------------------------------
 * >>ctx
 * ------------------------------------------------------------------------------------------- */

/* ---------------------------------------------------------------------------------------------
 * >>segment
 * ------------------------------------------------------------------------------------------- */

/* ---------------------------------------------------------------------------------------------
 * >>block
 * ------------------------------------------------------------------------------------------- */

/* ---------------------------------------------------------------------------------------------
 * >>wait
 * ------------------------------------------------------------------------------------------- */

/* SHMIPC_CDEF_END */
#endif /* SHMIPC_RINGS_ONLY */

#ifdef __cplusplus
}
#endif

#endif /* SHMIPC_H */

/* ============================================================================================= */
#if defined(SHMIPC_IMPLEMENTATION) && !defined(SHMIPC__CORE_IMPLEMENTED)
#define SHMIPC__CORE_IMPLEMENTED

#ifndef SHMIPC_RINGS_ONLY
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------------------------------
 * >>compiler
 * ------------------------------------------------------------------------------------------- */

/* Test __clang__ before _MSC_VER: clang-cl defines both and has the GCC builtins. */
#if defined(__GNUC__) || defined(__clang__)
#define SHMIPC__GNU 1
#define SHMIPC__INLINE static inline __attribute__((unused))
#define SHMIPC__UNUSED __attribute__((unused))
#define SHMIPC__LIKELY(x) __builtin_expect(!!(x), 1)
#define SHMIPC__UNLIKELY(x) __builtin_expect(!!(x), 0)
#else
#define SHMIPC__GNU 0
#define SHMIPC__INLINE static inline
#define SHMIPC__UNUSED
#define SHMIPC__LIKELY(x) (x)
#define SHMIPC__UNLIKELY(x) (x)
#endif

#ifdef __cplusplus
#define SHMIPC__STATIC_ASSERT(cond, text) static_assert(cond, text)
#define SHMIPC__ALIGNED(n) alignas(n)
#else
#define SHMIPC__STATIC_ASSERT(cond, text) _Static_assert(cond, text)
#define SHMIPC__ALIGNED(n) _Alignas(n)
#endif

/* Where two CPUs must not disturb each other. 64 everywhere, so that the layout is one; machines
 * with larger lines lose a little speed and nothing else. */
#define SHMIPC__LINE 64

/* The width of a lane's sequence words, part of the layout stamp. Without lock-free 64-bit atomics the rings that need
 * only 32-bit loads and stores remain; a lock hidden in a library would be private to each process and silently wrong. */
#ifndef SHMIPC_WORD_BITS
#if SHMIPC__GNU && defined(__GCC_ATOMIC_LLONG_LOCK_FREE) && __GCC_ATOMIC_LLONG_LOCK_FREE < 2
#define SHMIPC_WORD_BITS 32
#else
#define SHMIPC_WORD_BITS 64
#endif
#endif
#if SHMIPC_WORD_BITS == 32 && !defined(SHMIPC_RINGS_ONLY)
#error "shmipc.h: 64-bit atomics are not lock-free on this machine; define SHMIPC_RINGS_ONLY to get the SPSC ring and the inline lane"
#endif

/* ---------------------------------------------------------------------------------------------
 * >>atomic  Every access to shared memory goes through these wrappers, named by order and width
 *
 * Define SHMIPC_ATOMICS_HEADER to a quoted file name to replace all of them (a model checker
 * runs the real code this way); the file may define them as macros, one call site at a time.
 *
 *   load_relaxed load_acquire store_relaxed store_release    u32 and u64
 *   cas_relaxed cas_acqrel    1 and *expected untouched, or 0 and *expected = what is there
 *   xchg_acqrel add_acqrel or_acqrel and_acqrel              the value before
 *   fence_seq_cst             the only stand-alone fence: where a store must be seen before a later load is made
 *   pause                     in spin loops
 *   copy_in copy_out          payload to and from shared memory, ordinary accesses ordered by what surrounds them
 * ------------------------------------------------------------------------------------------- */

#if defined(SHMIPC_ATOMICS_HEADER)
#include SHMIPC_ATOMICS_HEADER
#elif SHMIPC__GNU && !defined(SHMIPC_USE_STDATOMIC)

#define SHMIPC__ATOMIC_WRAPPERS(U, T)                                                                             \
    SHMIPC__INLINE T shmipc__load_relaxed_##U(const T *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }        \
    SHMIPC__INLINE T shmipc__load_acquire_##U(const T *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }        \
    SHMIPC__INLINE void shmipc__store_relaxed_##U(T *p, T v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }        \
    SHMIPC__INLINE void shmipc__store_release_##U(T *p, T v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
#define SHMIPC__ATOMIC_RMW_WRAPPERS(U, T)                                                                         \
    SHMIPC__INLINE int shmipc__cas_relaxed_##U(T *p, T *expected, T desired)                                      \
    {                                                                                                             \
        return __atomic_compare_exchange_n(p, expected, desired, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);          \
    }                                                                                                             \
    SHMIPC__INLINE int shmipc__cas_acqrel_##U(T *p, T *expected, T desired)                                       \
    {                                                                                                             \
        return __atomic_compare_exchange_n(p, expected, desired, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);          \
    }                                                                                                             \
    SHMIPC__INLINE T shmipc__xchg_acqrel_##U(T *p, T v) { return __atomic_exchange_n(p, v, __ATOMIC_ACQ_REL); }   \
    SHMIPC__INLINE T shmipc__add_acqrel_##U(T *p, T v) { return __atomic_fetch_add(p, v, __ATOMIC_ACQ_REL); }     \
    SHMIPC__INLINE T shmipc__or_acqrel_##U(T *p, T v) { return __atomic_fetch_or(p, v, __ATOMIC_ACQ_REL); }       \
    SHMIPC__INLINE T shmipc__and_acqrel_##U(T *p, T v) { return __atomic_fetch_and(p, v, __ATOMIC_ACQ_REL); }
SHMIPC__INLINE void shmipc__fence_seq_cst(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

#elif defined(_MSC_VER) && !defined(__clang__) && !defined(SHMIPC_USE_STDATOMIC)

/* Volatile accesses under /volatile:iso order nothing, so acquire and release take a barrier on ARM64; on x64 the
 * machine gives both and only the compiler must be held back. */
#include <intrin.h>
#if defined(_M_ARM64)
#define SHMIPC__MSVC_FENCE() __dmb(_ARM64_BARRIER_ISH)
#else
#define SHMIPC__MSVC_FENCE() _ReadWriteBarrier()
#endif
SHMIPC__INLINE uint32_t shmipc__msvc_cas_u32(uint32_t *p, uint32_t e, uint32_t d)
{
    return (uint32_t)_InterlockedCompareExchange((volatile long *)p, (long)d, (long)e);
}
SHMIPC__INLINE uint64_t shmipc__msvc_cas_u64(uint64_t *p, uint64_t e, uint64_t d)
{
    return (uint64_t)_InterlockedCompareExchange64((volatile __int64 *)p, (__int64)d, (__int64)e);
}
#define SHMIPC__ATOMIC_WRAPPERS(U, T)                                                                             \
    SHMIPC__INLINE T shmipc__load_relaxed_##U(const T *p) { return *(const volatile T *)p; }                      \
    SHMIPC__INLINE T shmipc__load_acquire_##U(const T *p)                                                         \
    {                                                                                                             \
        T v = *(const volatile T *)p;                                                                             \
        SHMIPC__MSVC_FENCE();                                                                                     \
        return v;                                                                                                 \
    }                                                                                                             \
    SHMIPC__INLINE void shmipc__store_relaxed_##U(T *p, T v) { *(volatile T *)p = v; }                            \
    SHMIPC__INLINE void shmipc__store_release_##U(T *p, T v)                                                      \
    {                                                                                                             \
        SHMIPC__MSVC_FENCE();                                                                                     \
        *(volatile T *)p = v;                                                                                     \
    }
#define SHMIPC__MSVC_LOOP(U, T, EXPR)                                                                             \
    T old = shmipc__load_relaxed_##U(p), seen;                                                                    \
    for (;;) {                                                                                                    \
        seen = shmipc__msvc_cas_##U(p, old, (EXPR));                                                              \
        if (seen == old) return old;                                                                              \
        old = seen;                                                                                               \
    }
#define SHMIPC__ATOMIC_RMW_WRAPPERS(U, T)                                                                         \
    SHMIPC__INLINE int shmipc__cas_acqrel_##U(T *p, T *expected, T desired)                                       \
    {                                                                                                             \
        T seen = shmipc__msvc_cas_##U(p, *expected, desired);                                                     \
        if (seen == *expected) return 1;                                                                          \
        *expected = seen;                                                                                         \
        return 0;                                                                                                 \
    }                                                                                                             \
    SHMIPC__INLINE int shmipc__cas_relaxed_##U(T *p, T *e, T d) { return shmipc__cas_acqrel_##U(p, e, d); }       \
    SHMIPC__INLINE T shmipc__xchg_acqrel_##U(T *p, T v) { SHMIPC__MSVC_LOOP(U, T, v) }                            \
    SHMIPC__INLINE T shmipc__add_acqrel_##U(T *p, T v) { SHMIPC__MSVC_LOOP(U, T, old + v) }                       \
    SHMIPC__INLINE T shmipc__or_acqrel_##U(T *p, T v) { SHMIPC__MSVC_LOOP(U, T, old | v) }                        \
    SHMIPC__INLINE T shmipc__and_acqrel_##U(T *p, T v) { SHMIPC__MSVC_LOOP(U, T, old & v) }
SHMIPC__INLINE void shmipc__fence_seq_cst(void)
{
#if defined(_M_ARM64)
    __dmb(_ARM64_BARRIER_ISH);
#else
    _mm_mfence();
#endif
}

#elif !defined(__cplusplus) && !defined(__STDC_NO_ATOMICS__)

/* Any other C11 compiler. The fields stay plain integers (C++ and cffi read the declarations), so the pointer is cast;
 * the asserts say what that relies on. */
#include <stdatomic.h>
SHMIPC__STATIC_ASSERT(sizeof(_Atomic uint32_t) == 4 && ATOMIC_INT_LOCK_FREE == 2, "32-bit atomics must be lock-free");
#if SHMIPC_WORD_BITS == 64
SHMIPC__STATIC_ASSERT(sizeof(_Atomic uint64_t) == 8 && ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics must be lock-free");
#endif
#define SHMIPC__ATOMIC_WRAPPERS(U, T)                                                                             \
    SHMIPC__INLINE T shmipc__load_relaxed_##U(const T *p)                                                         \
    {                                                                                                             \
        return atomic_load_explicit((const _Atomic T *)p, memory_order_relaxed);                                  \
    }                                                                                                             \
    SHMIPC__INLINE T shmipc__load_acquire_##U(const T *p)                                                         \
    {                                                                                                             \
        return atomic_load_explicit((const _Atomic T *)p, memory_order_acquire);                                  \
    }                                                                                                             \
    SHMIPC__INLINE void shmipc__store_relaxed_##U(T *p, T v)                                                      \
    {                                                                                                             \
        atomic_store_explicit((_Atomic T *)p, v, memory_order_relaxed);                                           \
    }                                                                                                             \
    SHMIPC__INLINE void shmipc__store_release_##U(T *p, T v)                                                      \
    {                                                                                                             \
        atomic_store_explicit((_Atomic T *)p, v, memory_order_release);                                           \
    }
#define SHMIPC__ATOMIC_RMW_WRAPPERS(U, T)                                                                         \
    SHMIPC__INLINE int shmipc__cas_relaxed_##U(T *p, T *expected, T desired)                                      \
    {                                                                                                             \
        return atomic_compare_exchange_strong_explicit((_Atomic T *)p, expected, desired, memory_order_relaxed,   \
                                                       memory_order_relaxed);                                     \
    }                                                                                                             \
    SHMIPC__INLINE int shmipc__cas_acqrel_##U(T *p, T *expected, T desired)                                       \
    {                                                                                                             \
        return atomic_compare_exchange_strong_explicit((_Atomic T *)p, expected, desired, memory_order_acq_rel,   \
                                                       memory_order_acquire);                                     \
    }                                                                                                             \
    SHMIPC__INLINE T shmipc__xchg_acqrel_##U(T *p, T v)                                                           \
    {                                                                                                             \
        return atomic_exchange_explicit((_Atomic T *)p, v, memory_order_acq_rel);                                 \
    }                                                                                                             \
    SHMIPC__INLINE T shmipc__add_acqrel_##U(T *p, T v)                                                            \
    {                                                                                                             \
        return atomic_fetch_add_explicit((_Atomic T *)p, v, memory_order_acq_rel);                                \
    }                                                                                                             \
    SHMIPC__INLINE T shmipc__or_acqrel_##U(T *p, T v)                                                             \
    {                                                                                                             \
        return atomic_fetch_or_explicit((_Atomic T *)p, v, memory_order_acq_rel);                                 \
    }                                                                                                             \
    SHMIPC__INLINE T shmipc__and_acqrel_##U(T *p, T v)                                                            \
    {                                                                                                             \
        return atomic_fetch_and_explicit((_Atomic T *)p, v, memory_order_acq_rel);                                \
    }
SHMIPC__INLINE void shmipc__fence_seq_cst(void) { atomic_thread_fence(memory_order_seq_cst); }

#else
#error "shmipc.h: this compiler has neither the GCC builtins, nor MSVC intrinsics, nor C11 <stdatomic.h>"
#endif

#ifndef SHMIPC_ATOMICS_HEADER
SHMIPC__ATOMIC_WRAPPERS(u32, uint32_t)
#if SHMIPC_WORD_BITS == 64
SHMIPC__ATOMIC_WRAPPERS(u64, uint64_t)
SHMIPC__ATOMIC_RMW_WRAPPERS(u32, uint32_t)
SHMIPC__ATOMIC_RMW_WRAPPERS(u64, uint64_t)
#endif

SHMIPC__INLINE void shmipc__pause(void)
{
#if defined(_MSC_VER) && !defined(__clang__) && (defined(_M_X64) || defined(_M_IX86))
    _mm_pause();
#elif defined(_MSC_VER) && !defined(__clang__) && defined(_M_ARM64)
    __yield();
#elif defined(__x86_64__) || defined(__i386__)
    __asm__ volatile("pause" ::: "memory");
#elif defined(__aarch64__) || (defined(__ARM_ARCH) && __ARM_ARCH >= 7)
    __asm__ volatile("yield" ::: "memory");
#elif SHMIPC__GNU
    __asm__ volatile("" ::: "memory");
#endif
}

SHMIPC__INLINE void shmipc__copy_in(void *shared, const void *from, size_t n)
{
#if SHMIPC__GNU
    __builtin_memcpy(shared, from, n);
#else
    memcpy(shared, from, n);
#endif
}
SHMIPC__INLINE void shmipc__copy_out(void *to, const void *shared, size_t n)
{
#if SHMIPC__GNU
    __builtin_memcpy(to, shared, n);
#else
    memcpy(to, shared, n);
#endif
}
#endif /* SHMIPC_ATOMICS_HEADER */

/* ---------------------------------------------------------------------------------------------
 * >>errors
 * ------------------------------------------------------------------------------------------- */

SHMIPC_API const char *shmipc_strerror(int code)
{
    switch (code) {
    case SHMIPC_OK: return "success";
    case SHMIPC_EINVAL: return "invalid argument";
    case SHMIPC_ENOMEM: return "out of private memory";
    case SHMIPC_ENOSPC: return "the shared-memory file system is full";
    case SHMIPC_EFULL: return "full";
    case SHMIPC_EAGAIN: return "nothing there";
    case SHMIPC_ETIMEDOUT: return "timed out";
    case SHMIPC_EINTR: return "interrupted by a signal";
    case SHMIPC_EMSGSIZE: return "message too large";
    case SHMIPC_ELAYOUT: return "another memory layout";
    case SHMIPC_ECORRUPT: return "shared memory is corrupt";
    case SHMIPC_ENOENT: return "no such name";
    case SHMIPC_EEXIST: return "the name exists";
    case SHMIPC_EACCES: return "access refused by the system";
    case SHMIPC_EOWNER: return "owned by another user";
    case SHMIPC_EMODE: return "unsafe file mode";
    case SHMIPC_ESYMLINK: return "a symbolic link is in the way";
    case SHMIPC_EFOREIGN: return "not made by shmipc";
    case SHMIPC_EOWNERDEAD: return "this process lost its liveness lock";
    case SHMIPC_EPEERDEAD: return "the peer died";
    case SHMIPC_EFORKED: return "handle belongs to the parent process";
    case SHMIPC_ECLOSED: return "closed";
    case SHMIPC_ESTATE: return "wrong state for this call";
    case SHMIPC_EBUSY: return "in use";
    case SHMIPC_EKIND: return "segment of another kind";
    case SHMIPC_EMISMATCH: return "options differ from the existing ones";
    case SHMIPC_ENFILE: return "no file descriptor left";
    case SHMIPC_ETABLE: return "a shared table is full";
    case SHMIPC_ENOTSUP: return "not supported here";
    case SHMIPC_EOS: return "unexpected failure of the operating system";
    default: return "unknown code";
    }
}

/* ---------------------------------------------------------------------------------------------
 * >>spsc
 * ------------------------------------------------------------------------------------------- */

/* ---------------------------------------------------------------------------------------------
 * >>lane
 * ------------------------------------------------------------------------------------------- */

/* ---------------------------------------------------------------------------------------------
 * >>queue
 * ------------------------------------------------------------------------------------------- */

#ifndef SHMIPC_RINGS_ONLY

/* ---------------------------------------------------------------------------------------------
 * >>os  The operating system behind one small interface
 * ------------------------------------------------------------------------------------------- */

/* ---------------------------------------------------------------------------------------------
 * >>ctx
 * ------------------------------------------------------------------------------------------- */

/* ---------------------------------------------------------------------------------------------
 * >>segment
 * ------------------------------------------------------------------------------------------- */

/* ---------------------------------------------------------------------------------------------
 * >>block
 * ------------------------------------------------------------------------------------------- */

/* ---------------------------------------------------------------------------------------------
 * >>wait
 * ------------------------------------------------------------------------------------------- */

#endif /* SHMIPC_RINGS_ONLY */

#ifdef __cplusplus
}
#endif

#endif /* SHMIPC_IMPLEMENTATION */
