/* shmipc_crypto.h - authenticated encryption, hashing and key derivation for shmipc, usable alone.
 *
 * >>manual
 *
 * Do this
 *     #define SHMIPC_CRYPTO_IMPLEMENTATION        (or SHMIPC_IMPLEMENTATION, for every shmipc header at once)
 * before you include this file in *one* C or C++ file to create the implementation.
 *
 *     uint8_t key[32], nonce[12], tag[16], sealed[5];
 *     shmipc_gcm g;
 *     shmipc_crypto_random(key, sizeof key);
 *     shmipc_crypto_random(nonce, sizeof nonce);
 *     shmipc_gcm_init(&g, key);
 *     shmipc_gcm_seal(&g, nonce, "header", 6, "hello", 5, sealed, tag);
 *     if (shmipc_gcm_open(&g, nonce, "header", 6, sealed, 5, tag, sealed) != 0) return 1;
 *     shmipc_gcm_clear(&g);
 *
 * Contents (search for the tag)
 *     >>gcm      AES-256-GCM, 12-byte nonces
 *     >>xaes     XAES-256-GCM, 24-byte nonces that may be drawn at random
 *     >>sha      SHA-256, HMAC-SHA-256, HKDF-SHA-256
 *     >>scrypt   password to key, scratch memory from the caller
 *     >>util     constant-time compare, wipe, random bytes of the operating system
 *
 * Options (all are private to the file that holds the implementation; processes may differ)
 *     SHMIPC_STATIC            every function is static
 *     SHMIPC_CRYPTO_PORTABLE   leave out all processor-specific code
 *     SHMIPC_CRYPTO_RANDOM     name of an int f(void *out, size_t n) to use in place of the operating system's source
 *
 * What it promises
 *     - No allocation, no global state, no output; the only system call is the one for random bytes.
 *     - Time and memory addresses never depend on keys, plaintext or digests: the portable AES is bit-sliced and
 *       GHASH multiplies with integer arithmetic, with no table that a secret could index. (Assumes that the machine's
 *       64-bit multiply takes the same time for all values, true of x86-64 and of the 64-bit Arm cores in use.)
 *     - Input and output may lie in memory that a hostile process changes meanwhile. Each input byte is read exactly
 *       once and nothing is read back from the output, so what is authenticated is what was encrypted or decrypted.
 *     - When a tag does not match, the output is filled with zeros and the result says so.
 *     - Every function may be called from any number of threads; a shmipc_gcm is only read after its init.
 *
 * What it does not promise
 *     - A nonce used twice with one key breaks AES-GCM. Use a counter owned by one process, or the 24-byte form.
 *     - One key should seal at most 2^32 messages with random 12-byte nonces; a message holds at most 2^36 - 32 bytes.
 *     - The key schedule stays in your shmipc_gcm until shmipc_gcm_clear; registers and spilled words are not wiped.
 */

/* Feature macros come first: shmipc.h, included behind this file, needs what the C library else hides. */
#if defined(__linux__) && !defined(_GNU_SOURCE) && !defined(SHMIPC_RINGS_ONLY)
#define _GNU_SOURCE 1
#endif
#if defined(__linux__) && !defined(_FILE_OFFSET_BITS) && !defined(SHMIPC_RINGS_ONLY)
#define _FILE_OFFSET_BITS 64
#endif

#ifndef SHMIPC_CRYPTO_H
#define SHMIPC_CRYPTO_H

#include <stddef.h>
#include <stdint.h>

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

/* The values equal the codes of shmipc.h with the same meaning; this header stands alone. */
enum {
    SHMIPC_CRYPTO_OK = 0,
    SHMIPC_CRYPTO_EINVAL = -1,   /* a length or a cost parameter is out of range                  */
    SHMIPC_CRYPTO_ENOTSUP = -28, /* this processor cannot run the path asked for                  */
    SHMIPC_CRYPTO_EOS = -29,     /* the operating system gave no random bytes                     */
    SHMIPC_CRYPTO_EAUTH = -30    /* the tag does not match: wrong key, or something was changed   */
};

/* Ways to compute the same thing. AUTO takes the fastest that this processor has. */
enum {
    SHMIPC_CRYPTO_AUTO = 0,
    SHMIPC_CRYPTO_PATH_PORTABLE = 1,
    SHMIPC_CRYPTO_PATH_AESNI = 2, /* AES-NI, PCLMULQDQ, SSSE3; SHA-NI where present              */
    SHMIPC_CRYPTO_PATH_VAES = 3   /* VAES and VPCLMULQDQ on 256-bit registers                    */
};

/* ---------------------------------------------------------------------------------------------
 * >>gcm  AES-256-GCM (NIST SP 800-38D)
 * ------------------------------------------------------------------------------------------- */

/* A key, ready for use. Private fields; place it in private memory only. */
typedef struct shmipc_gcm {
    uint32_t path;
    uint32_t reserved;
    uint8_t round_keys[240];
    uint8_t powers[256]; /* H^16 ... H^1, in the form that the path multiplies by */
} shmipc_gcm;

SHMIPC_API int shmipc_gcm_init(shmipc_gcm *g, const void *key32);
SHMIPC_API int shmipc_gcm_init_path(shmipc_gcm *g, const void *key32, int path);
SHMIPC_API void shmipc_gcm_clear(shmipc_gcm *g);

/* out may be in (in place) or lie apart from it; it must not overlap it otherwise. */
SHMIPC_API int shmipc_gcm_seal(const shmipc_gcm *g, const void *nonce12, const void *aad, size_t aad_len,
                               const void *in, size_t len, void *out, void *tag16);
SHMIPC_API int shmipc_gcm_open(const shmipc_gcm *g, const void *nonce12, const void *aad, size_t aad_len,
                               const void *in, size_t len, const void *tag16, void *out);

/* ---------------------------------------------------------------------------------------------
 * >>xaes  XAES-256-GCM (C2SP): a 24-byte nonce picks a key of its own by AES-CMAC
 * ------------------------------------------------------------------------------------------- */

/* The key for all nonces that begin with these 12 bytes; the other 12 bytes are then the nonce of AES-256-GCM. */
SHMIPC_API int shmipc_xaes_derive(const void *key32, const void *nonce_first12, void *derived_key32);
SHMIPC_API int shmipc_xaes_seal(const void *key32, const void *nonce24, const void *aad, size_t aad_len,
                                const void *in, size_t len, void *out, void *tag16);
SHMIPC_API int shmipc_xaes_open(const void *key32, const void *nonce24, const void *aad, size_t aad_len,
                                const void *in, size_t len, const void *tag16, void *out);

/* ---------------------------------------------------------------------------------------------
 * >>sha  SHA-256 (FIPS 180-4), HMAC (RFC 2104), HKDF (RFC 5869)
 * ------------------------------------------------------------------------------------------- */

typedef struct shmipc_sha256 {
    uint32_t state[8];
    uint64_t length;
    uint8_t block[64];
    uint32_t fast; /* private: this processor has instructions for it */
    uint32_t reserved;
} shmipc_sha256;

SHMIPC_API void shmipc_sha256_init(shmipc_sha256 *s);
SHMIPC_API void shmipc_sha256_update(shmipc_sha256 *s, const void *data, size_t len);
SHMIPC_API void shmipc_sha256_final(shmipc_sha256 *s, void *digest32);

/* Keyed state, made once per key; each message starts from it at the cost of a copy. */
typedef struct shmipc_hmac {
    shmipc_sha256 inner;
    shmipc_sha256 outer;
} shmipc_hmac;

SHMIPC_API void shmipc_hmac_init(shmipc_hmac *keyed, const void *key, size_t key_len);
SHMIPC_API void shmipc_hmac_sum(const shmipc_hmac *keyed, const void *data, size_t len, void *digest32);
/* The streaming form: begin copies the keyed state, update any number of times, end. */
SHMIPC_API void shmipc_hmac_begin(const shmipc_hmac *keyed, shmipc_hmac *running);
SHMIPC_API void shmipc_hmac_update(shmipc_hmac *running, const void *data, size_t len);
SHMIPC_API void shmipc_hmac_end(shmipc_hmac *running, void *digest32);

/* At most 255 * 32 bytes of output. */
SHMIPC_API int shmipc_hkdf(const void *salt, size_t salt_len, const void *secret, size_t secret_len, const void *info,
                           size_t info_len, void *out, size_t out_len);

/* ---------------------------------------------------------------------------------------------
 * >>scrypt  RFC 7914
 * ------------------------------------------------------------------------------------------- */

SHMIPC_API void shmipc_pbkdf2(const void *password, size_t password_len, const void *salt, size_t salt_len,
                              uint32_t rounds, void *out, size_t out_len);
/* Bytes of scratch memory that scrypt needs, or 0 for parameters that it refuses (n is a power of two above 1). */
SHMIPC_API size_t shmipc_scrypt_scratch(uint64_t n, uint32_t r, uint32_t p);
SHMIPC_API int shmipc_scrypt(const void *password, size_t password_len, const void *salt, size_t salt_len, uint64_t n,
                             uint32_t r, uint32_t p, void *scratch, size_t scratch_len, void *out, size_t out_len);

/* ---------------------------------------------------------------------------------------------
 * >>util
 * ------------------------------------------------------------------------------------------- */

/* 1 when equal, 0 when not, in a time that depends on len alone. */
SHMIPC_API int shmipc_crypto_equal(const void *a, const void *b, size_t len);
/* Fills with zeros; never removed by the compiler. */
SHMIPC_API void shmipc_crypto_wipe(void *p, size_t len);
SHMIPC_API int shmipc_crypto_random(void *out, size_t len);
/* The best path of this processor: one of SHMIPC_CRYPTO_PATH_... */
SHMIPC_API int shmipc_crypto_best_path(void);

/* SHMIPC_CDEF_END */

#ifdef __cplusplus
}
#endif

#endif /* SHMIPC_CRYPTO_H */

/* ============================================================================================= */
#if (defined(SHMIPC_IMPLEMENTATION) || defined(SHMIPC_CRYPTO_IMPLEMENTATION)) && !defined(SHMIPC__CRYPTO_IMPLEMENTED)
#define SHMIPC__CRYPTO_IMPLEMENTED

#include <string.h>

#if !defined(SHMIPC_CRYPTO_PORTABLE) && (defined(__x86_64__) || defined(__i386__)) && \
    (defined(__GNUC__) || defined(__clang__))
#define SHMIPC__CRYPTO_X86 1
#include <cpuid.h>
#include <immintrin.h>
#else
#define SHMIPC__CRYPTO_X86 0
#endif

#if !defined(SHMIPC_CRYPTO_RANDOM)
#if defined(__linux__)
#include <errno.h>
#include <sys/random.h>
#elif defined(__APPLE__)
#include <stdlib.h>
#elif defined(_WIN32)
#include <windows.h>
#include <bcrypt.h>
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------------------------------
 * >>bytes  Loads and stores of a stated byte order
 * ------------------------------------------------------------------------------------------- */

static inline uint32_t shmipc__be32_get(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}
static inline void shmipc__be32_put(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}
static inline uint64_t shmipc__be64_get(const uint8_t *p)
{
    return (uint64_t)shmipc__be32_get(p) << 32 | shmipc__be32_get(p + 4);
}
static inline void shmipc__be64_put(uint8_t *p, uint64_t v)
{
    shmipc__be32_put(p, (uint32_t)(v >> 32));
    shmipc__be32_put(p + 4, (uint32_t)v);
}
static inline uint32_t shmipc__le32_get(const uint8_t *p)
{
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | (uint32_t)p[0];
}
static inline void shmipc__le32_put(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)(v >> 16);
    p[3] = (uint8_t)(v >> 24);
}
static inline uint64_t shmipc__le64_get(const uint8_t *p)
{
    return (uint64_t)shmipc__le32_get(p + 4) << 32 | shmipc__le32_get(p);
}
static inline void shmipc__le64_put(uint8_t *p, uint64_t v)
{
    shmipc__le32_put(p, (uint32_t)v);
    shmipc__le32_put(p + 4, (uint32_t)(v >> 32));
}

/* ---------------------------------------------------------------------------------------------
 * >>util
 * ------------------------------------------------------------------------------------------- */

SHMIPC_API int shmipc_crypto_equal(const void *a, const void *b, size_t len)
{
    const uint8_t *x = (const uint8_t *)a, *y = (const uint8_t *)b;
    uint32_t diff = 0;
    size_t i;
    for (i = 0; i < len; i++) diff |= (uint32_t)(x[i] ^ y[i]);
    return (int)((diff - 1) >> 31);
}

SHMIPC_API void shmipc_crypto_wipe(void *p, size_t len)
{
#if defined(__GNUC__) || defined(__clang__)
    memset(p, 0, len);
    __asm__ volatile("" : : "r"(p) : "memory"); /* somebody may look: the stores have to stay */
#else
    volatile uint8_t *b = (volatile uint8_t *)p;
    while (len--) *b++ = 0;
#endif
}

SHMIPC_API int shmipc_crypto_random(void *out, size_t len)
{
#if defined(SHMIPC_CRYPTO_RANDOM)
    return SHMIPC_CRYPTO_RANDOM(out, len) == 0 ? SHMIPC_CRYPTO_OK : SHMIPC_CRYPTO_EOS;
#elif defined(__linux__)
    uint8_t *p = (uint8_t *)out;
    while (len) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return SHMIPC_CRYPTO_EOS;
        p += n;
        len -= (size_t)n;
    }
    return SHMIPC_CRYPTO_OK;
#elif defined(__APPLE__)
    arc4random_buf(out, len);
    return SHMIPC_CRYPTO_OK;
#elif defined(_WIN32)
    uint8_t *p = (uint8_t *)out;
    while (len) {
        ULONG n = len > 0x10000000u ? 0x10000000u : (ULONG)len;
        if (BCryptGenRandom(NULL, p, n, BCRYPT_USE_SYSTEM_PREFERRED_RNG) != 0) return SHMIPC_CRYPTO_EOS;
        p += n;
        len -= n;
    }
    return SHMIPC_CRYPTO_OK;
#else
    (void)out;
    (void)len;
    return SHMIPC_CRYPTO_ENOTSUP;
#endif
}

/* ---------------------------------------------------------------------------------------------
 * >>aes-portable  AES-256 on bit slices: bit i of byte j of four blocks is bit j of word i
 * ------------------------------------------------------------------------------------------- */

/* 8 bytes as an 8 x 8 bit matrix, transposed: byte i of the result holds bit i of every byte. */
static uint64_t shmipc__bit_transpose(uint64_t x)
{
    uint64_t t;
    t = (x ^ x >> 7) & 0x00aa00aa00aa00aau;
    x ^= t ^ t << 7;
    t = (x ^ x >> 14) & 0x0000cccc0000ccccu;
    x ^= t ^ t << 14;
    t = (x ^ x >> 28) & 0x00000000f0f0f0f0u;
    return x ^ t ^ t << 28;
}

static void shmipc__slice(uint64_t q[8], const uint8_t bytes[64])
{
    int group, bit;
    for (bit = 0; bit < 8; bit++) q[bit] = 0;
    for (group = 0; group < 8; group++) {
        uint64_t t = shmipc__bit_transpose(shmipc__le64_get(bytes + 8 * group));
        for (bit = 0; bit < 8; bit++) q[bit] |= (t >> (8 * bit) & 0xff) << (8 * group);
    }
}

static void shmipc__unslice(uint8_t bytes[64], const uint64_t q[8])
{
    int group, bit;
    for (group = 0; group < 8; group++) {
        uint64_t t = 0;
        for (bit = 0; bit < 8; bit++) t |= (q[bit] >> (8 * group) & 0xff) << (8 * bit);
        shmipc__le64_put(bytes + 8 * group, shmipc__bit_transpose(t));
    }
}

/* The S-box as the circuit of Boyar and Peralta (A depth-16 circuit for the AES S-box, 2011), 115 gates; the names are
 * theirs, with x0 the most significant bit. */
static void shmipc__sub_bytes(uint64_t q[8])
{
    uint64_t x0 = q[7], x1 = q[6], x2 = q[5], x3 = q[4], x4 = q[3], x5 = q[2], x6 = q[1], x7 = q[0];
    uint64_t y14 = x3 ^ x5, y13 = x0 ^ x6, y9 = x0 ^ x3, y8 = x0 ^ x5, t0 = x1 ^ x2, y1 = t0 ^ x7, y4 = y1 ^ x3;
    uint64_t y12 = y13 ^ y14, y2 = y1 ^ x0, y5 = y1 ^ x6, y3 = y5 ^ y8, t1 = x4 ^ y12, y15 = t1 ^ x5, y20 = t1 ^ x1;
    uint64_t y6 = y15 ^ x7, y10 = y15 ^ t0, y11 = y20 ^ y9, y7 = x7 ^ y11, y17 = y10 ^ y11, y19 = y10 ^ y8;
    uint64_t y16 = t0 ^ y11, y21 = y13 ^ y16, y18 = x0 ^ y16;
    uint64_t t2 = y12 & y15, t4 = (y3 & y6) ^ t2, t6 = (y4 & x7) ^ t2, t7 = y13 & y16, t9 = (y5 & y1) ^ t7;
    uint64_t t11 = (y2 & y7) ^ t7, t12 = y9 & y11, t14 = (y14 & y17) ^ t12, t16 = (y8 & y10) ^ t12;
    uint64_t t21 = t4 ^ t14 ^ y20, t22 = t6 ^ t16 ^ y19, t23 = t9 ^ t14 ^ y21, t24 = t11 ^ t16 ^ y18;
    uint64_t t25 = t21 ^ t22, t26 = t21 & t23, t27 = t24 ^ t26, t29 = (t25 & t27) ^ t22, t30 = t23 ^ t24;
    uint64_t t31 = t22 ^ t26, t33 = (t31 & t30) ^ t24, t34 = t23 ^ t33, t35 = t27 ^ t33, t36 = t24 & t35;
    uint64_t t37 = t36 ^ t34, t38 = t27 ^ t36, t40 = t25 ^ (t29 & t38), t41 = t40 ^ t37, t42 = t29 ^ t33;
    uint64_t t43 = t29 ^ t40, t44 = t33 ^ t37, t45 = t42 ^ t41;
    uint64_t z0 = t44 & y15, z1 = t37 & y6, z2 = t33 & x7, z3 = t43 & y16, z4 = t40 & y1, z5 = t29 & y7;
    uint64_t z6 = t42 & y11, z7 = t45 & y17, z8 = t41 & y10, z9 = t44 & y12, z10 = t37 & y3, z11 = t33 & y4;
    uint64_t z12 = t43 & y13, z13 = t40 & y5, z14 = t29 & y2, z15 = t42 & y9, z16 = t45 & y14, z17 = t41 & y8;
    uint64_t t46 = z15 ^ z16, t48 = z5 ^ z13, t53 = z0 ^ z3, t57 = z2 ^ z12 ^ t53, t58 = z4 ^ t46;
    uint64_t t59 = z3 ^ z6 ^ z7, t60 = t46 ^ t57, t62 = z7 ^ z8 ^ t58, t63 = z9 ^ z10 ^ t58, t64 = z4 ^ t59;
    uint64_t t65 = z14 ^ t57 ^ t62, t66 = z1 ^ t63, s3 = t53 ^ t66;
    q[7] = t59 ^ t63;
    q[6] = t64 ^ ~s3;
    q[5] = z16 ^ z17 ^ ~(t64 ^ t65);
    q[4] = s3;
    q[3] = z2 ^ z5 ^ t66;
    q[2] = z10 ^ z11 ^ t65;
    q[1] = z12 ^ t48 ^ ~t62;
    q[0] = t48 ^ ~t60;
}

/* A block is 16 bits of each word, a column 4 of them: row r moves r columns to the left. */
static void shmipc__shift_rows(uint64_t q[8])
{
    int i;
    for (i = 0; i < 8; i++) {
        uint64_t a = q[i] & 0x1111111111111111u, b = q[i] & 0x2222222222222222u;
        uint64_t c = q[i] & 0x4444444444444444u, d = q[i] & 0x8888888888888888u;
        b = (b >> 4 & 0x0fff0fff0fff0fffu) | (b << 12 & 0xf000f000f000f000u);
        c = (c >> 8 & 0x00ff00ff00ff00ffu) | (c << 8 & 0xff00ff00ff00ff00u);
        d = (d >> 12 & 0x000f000f000f000fu) | (d << 4 & 0xfff0fff0fff0fff0u);
        q[i] = a | b | c | d;
    }
}

static inline uint64_t shmipc__row_down(uint64_t x)
{
    return (x >> 1 & 0x7777777777777777u) | (x << 3 & 0x8888888888888888u);
}

/* Each byte becomes 2(a + b) + b + (c + d), where b, c, d are the bytes below it in its column. */
static void shmipc__mix_columns(uint64_t q[8])
{
    uint64_t below[8], sum[8];
    int i;
    for (i = 0; i < 8; i++) {
        below[i] = shmipc__row_down(q[i]);
        sum[i] = q[i] ^ below[i];
    }
    for (i = 0; i < 8; i++) {
        uint64_t doubled = i ? sum[i - 1] : sum[7];
        if (i == 1 || i == 3 || i == 4) doubled ^= sum[7];
        q[i] = doubled ^ below[i] ^ shmipc__row_down(shmipc__row_down(sum[i]));
    }
}

static uint32_t shmipc__sub_word(uint32_t w)
{
    uint8_t bytes[64];
    uint64_t q[8];
    memset(bytes, 0, sizeof bytes);
    shmipc__be32_put(bytes, w);
    shmipc__slice(q, bytes);
    shmipc__sub_bytes(q);
    shmipc__unslice(bytes, q);
    w = shmipc__be32_get(bytes);
    shmipc_crypto_wipe(bytes, sizeof bytes);
    shmipc_crypto_wipe(q, sizeof q);
    return w;
}

static void shmipc__expand_key(uint8_t round_keys[240], const uint8_t key[32])
{
    uint32_t rcon = 0x01000000u;
    int i;
    memcpy(round_keys, key, 32);
    for (i = 8; i < 60; i++) {
        uint32_t t = shmipc__be32_get(round_keys + 4 * (i - 1));
        if (i % 8 == 0) {
            t = shmipc__sub_word(t << 8 | t >> 24) ^ rcon;
            rcon <<= 1;
        } else if (i % 8 == 4) {
            t = shmipc__sub_word(t);
        }
        shmipc__be32_put(round_keys + 4 * i, t ^ shmipc__be32_get(round_keys + 4 * (i - 8)));
    }
}

/* The sliced key schedule repeats each round key for all four blocks. */
typedef struct shmipc__sliced_key {
    uint64_t round[15][8];
} shmipc__sliced_key;

static void shmipc__slice_key(shmipc__sliced_key *k, const uint8_t round_keys[240])
{
    uint8_t four[64];
    int r, i;
    for (r = 0; r < 15; r++) {
        for (i = 0; i < 4; i++) memcpy(four + 16 * i, round_keys + 16 * r, 16);
        shmipc__slice(k->round[r], four);
    }
    shmipc_crypto_wipe(four, sizeof four);
}

static inline void shmipc__add_round_key(uint64_t q[8], const uint64_t k[8])
{
    int i;
    for (i = 0; i < 8; i++) q[i] ^= k[i];
}

static void shmipc__encrypt4(const shmipc__sliced_key *k, uint8_t blocks[64])
{
    uint64_t q[8];
    int r;
    shmipc__slice(q, blocks);
    shmipc__add_round_key(q, k->round[0]);
    for (r = 1; r < 14; r++) {
        shmipc__sub_bytes(q);
        shmipc__shift_rows(q);
        shmipc__mix_columns(q);
        shmipc__add_round_key(q, k->round[r]);
    }
    shmipc__sub_bytes(q);
    shmipc__shift_rows(q);
    shmipc__add_round_key(q, k->round[14]);
    shmipc__unslice(blocks, q);
}

/* ---------------------------------------------------------------------------------------------
 * >>ghash-portable  Multiplication in GF(2^128), lowest power in the highest bit
 * ------------------------------------------------------------------------------------------- */

/* The low 64 bits of a carry-less product. Each factor is cut into four sets of every fourth bit, so that the carries
 * of the integer products die in the three empty bits between, and are masked away. */
static inline uint64_t shmipc__clmul_low(uint64_t x, uint64_t y)
{
    const uint64_t m0 = 0x1111111111111111u, m1 = m0 << 1, m2 = m0 << 2, m3 = m0 << 3;
    uint64_t x0 = x & m0, x1 = x & m1, x2 = x & m2, x3 = x & m3;
    uint64_t y0 = y & m0, y1 = y & m1, y2 = y & m2, y3 = y & m3;
    return (((x0 * y0) ^ (x1 * y3) ^ (x2 * y2) ^ (x3 * y1)) & m0) |
           (((x0 * y1) ^ (x1 * y0) ^ (x2 * y3) ^ (x3 * y2)) & m1) |
           (((x0 * y2) ^ (x1 * y1) ^ (x2 * y0) ^ (x3 * y3)) & m2) |
           (((x0 * y3) ^ (x1 * y2) ^ (x2 * y1) ^ (x3 * y0)) & m3);
}

static inline uint64_t shmipc__bit_reverse(uint64_t x)
{
    x = (x >> 1 & 0x5555555555555555u) | (x & 0x5555555555555555u) << 1;
    x = (x >> 2 & 0x3333333333333333u) | (x & 0x3333333333333333u) << 2;
    x = (x >> 4 & 0x0f0f0f0f0f0f0f0fu) | (x & 0x0f0f0f0f0f0f0f0fu) << 4;
    x = (x >> 8 & 0x00ff00ff00ff00ffu) | (x & 0x00ff00ff00ff00ffu) << 8;
    x = (x >> 16 & 0x0000ffff0000ffffu) | (x & 0x0000ffff0000ffffu) << 16;
    return x >> 32 | x << 32;
}

static inline void shmipc__clmul(uint64_t x, uint64_t y, uint64_t *low, uint64_t *high)
{
    *low = shmipc__clmul_low(x, y);
    *high = shmipc__bit_reverse(shmipc__clmul_low(shmipc__bit_reverse(x), shmipc__bit_reverse(y))) >> 1;
}

/* acc = acc * h, both as (high, low) words of the big-endian block. */
static void shmipc__gf_mul(uint64_t acc[2], const uint64_t h[2])
{
    uint64_t v0, v1, v2, v3, mid0, mid1;
    shmipc__clmul(acc[1], h[1], &v0, &v1);
    shmipc__clmul(acc[0], h[0], &v2, &v3);
    shmipc__clmul(acc[0] ^ acc[1], h[0] ^ h[1], &mid0, &mid1);
    mid0 ^= v0 ^ v2;
    mid1 ^= v1 ^ v3;
    v1 ^= mid0;
    v2 ^= mid1;
    /* The reflected product stands one bit too low. */
    v3 = v3 << 1 | v2 >> 63;
    v2 = v2 << 1 | v1 >> 63;
    v1 = v1 << 1 | v0 >> 63;
    v0 <<= 1;
    /* Fold the two low words by x^128 = x^7 + x^2 + x + 1. */
    v2 ^= v0 ^ v0 >> 1 ^ v0 >> 2 ^ v0 >> 7;
    v1 ^= v0 << 63 ^ v0 << 62 ^ v0 << 57;
    v3 ^= v1 ^ v1 >> 1 ^ v1 >> 2 ^ v1 >> 7;
    v2 ^= v1 << 63 ^ v1 << 62 ^ v1 << 57;
    acc[0] = v3;
    acc[1] = v2;
}

static void shmipc__ghash_portable(const shmipc_gcm *g, uint8_t acc[16], const uint8_t *blocks, size_t count)
{
    uint64_t a[2], h[2];
    h[0] = shmipc__be64_get(g->powers + 240);
    h[1] = shmipc__be64_get(g->powers + 248);
    a[0] = shmipc__be64_get(acc);
    a[1] = shmipc__be64_get(acc + 8);
    for (; count; count--, blocks += 16) {
        a[0] ^= shmipc__be64_get(blocks);
        a[1] ^= shmipc__be64_get(blocks + 8);
        shmipc__gf_mul(a, h);
    }
    shmipc__be64_put(acc, a[0]);
    shmipc__be64_put(acc + 8, a[1]);
}

/* `count` blocks of key stream, at most 16, for counter values from `counter` on. */
static void shmipc__keystream_portable(const shmipc_gcm *g, const uint8_t nonce[12], uint32_t counter, uint8_t *out,
                                       size_t count)
{
    shmipc__sliced_key k;
    uint8_t four[64];
    size_t done, i, n;
    shmipc__slice_key(&k, g->round_keys);
    for (done = 0; done < count; done += 4) {
        for (i = 0; i < 4; i++) {
            memcpy(four + 16 * i, nonce, 12);
            shmipc__be32_put(four + 16 * i + 12, counter++);
        }
        shmipc__encrypt4(&k, four);
        n = count - done < 4 ? count - done : 4;
        memcpy(out + 16 * done, four, 16 * n);
    }
    shmipc_crypto_wipe(&k, sizeof k);
    shmipc_crypto_wipe(four, sizeof four);
}

static void shmipc__gcm_setup_portable(shmipc_gcm *g, const uint8_t key[32])
{
    uint8_t zero[12];
    memset(zero, 0, sizeof zero);
    shmipc__expand_key(g->round_keys, key);
    memset(g->powers, 0, sizeof g->powers);
    shmipc__keystream_portable(g, zero, 0, g->powers + 240, 1);
}

#if SHMIPC__CRYPTO_X86

/* ---------------------------------------------------------------------------------------------
 * >>aesni  The same with AES-NI and PCLMULQDQ
 *
 * A field element lies byte-reversed in a register. Powers of H are kept multiplied by x, which makes up for the bit
 * that the reflected product stands too low, so a product needs no shift. n blocks are multiplied by H^n ... H^1,
 * summed unreduced, and reduced once.
 * ------------------------------------------------------------------------------------------- */

#define SHMIPC__NI __attribute__((target("aes,pclmul,ssse3,sse4.1")))
#define SHMIPC__NI_INLINE static inline __attribute__((always_inline, target("aes,pclmul,ssse3,sse4.1")))

SHMIPC__NI_INLINE __m128i shmipc__ni_load(const void *p)
{
    return _mm_loadu_si128((const __m128i *)p);
}
SHMIPC__NI_INLINE void shmipc__ni_store(void *p, __m128i v)
{
    _mm_storeu_si128((__m128i *)p, v);
}
SHMIPC__NI_INLINE __m128i shmipc__ni_swap(__m128i v)
{
    return _mm_shuffle_epi8(v, _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}
SHMIPC__NI_INLINE __m128i shmipc__ni_poly(void)
{
    return _mm_set_epi32((int)0xc2000000u, 0, 0, 1);
}

/* low, mid and high are the parts of an unreduced 256-bit product. */
SHMIPC__NI_INLINE __m128i shmipc__ni_reduce(__m128i low, __m128i mid, __m128i high)
{
    const __m128i poly = shmipc__ni_poly();
    low = _mm_xor_si128(low, _mm_slli_si128(mid, 8));
    high = _mm_xor_si128(high, _mm_srli_si128(mid, 8));
    low = _mm_xor_si128(_mm_shuffle_epi32(low, 0x4e), _mm_clmulepi64_si128(low, poly, 0x10));
    low = _mm_xor_si128(_mm_shuffle_epi32(low, 0x4e), _mm_clmulepi64_si128(low, poly, 0x10));
    return _mm_xor_si128(low, high);
}

SHMIPC__NI_INLINE __m128i shmipc__ni_mul(__m128i a, __m128i h)
{
    __m128i mid = _mm_xor_si128(_mm_clmulepi64_si128(a, h, 0x01), _mm_clmulepi64_si128(a, h, 0x10));
    return shmipc__ni_reduce(_mm_clmulepi64_si128(a, h, 0x00), mid, _mm_clmulepi64_si128(a, h, 0x11));
}

/* acc over `count` blocks, at most 16. acc is kept byte-reversed. */
SHMIPC__NI static __m128i shmipc__ni_ghash(const shmipc_gcm *g, __m128i acc, const uint8_t *blocks, size_t count)
{
    const uint8_t *power = g->powers + 16 * (16 - count);
    __m128i low = _mm_setzero_si128(), mid = low, high = low;
    size_t i;
    for (i = 0; i < count; i++) {
        __m128i b = shmipc__ni_swap(shmipc__ni_load(blocks + 16 * i)), h = shmipc__ni_load(power + 16 * i);
        if (i == 0) b = _mm_xor_si128(b, acc);
        low = _mm_xor_si128(low, _mm_clmulepi64_si128(b, h, 0x00));
        high = _mm_xor_si128(high, _mm_clmulepi64_si128(b, h, 0x11));
        mid = _mm_xor_si128(mid, _mm_clmulepi64_si128(b, h, 0x01));
        mid = _mm_xor_si128(mid, _mm_clmulepi64_si128(b, h, 0x10));
    }
    return shmipc__ni_reduce(low, mid, high);
}

/* A counter block in little-endian form, so that counting is one 32-bit add. */
SHMIPC__NI_INLINE __m128i shmipc__ni_counter(const uint8_t nonce[12], uint32_t counter)
{
    uint8_t b[16];
    memcpy(b, nonce, 12);
    shmipc__be32_put(b + 12, counter);
    return shmipc__ni_swap(shmipc__ni_load(b));
}

#define SHMIPC__NI_EACH8(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)

/* Eight blocks of key stream from counter c on. */
SHMIPC__NI static void shmipc__ni_keystream8(const shmipc_gcm *g, __m128i c, uint8_t *out)
{
    const uint8_t *keys = g->round_keys;
    __m128i k = shmipc__ni_load(keys), s0, s1, s2, s3, s4, s5, s6, s7;
    int r;
#define SHMIPC__X(i) s##i = _mm_xor_si128(shmipc__ni_swap(_mm_add_epi32(c, _mm_set_epi32(0, 0, 0, i))), k);
    SHMIPC__NI_EACH8(SHMIPC__X)
#undef SHMIPC__X
    for (r = 1; r < 14; r++) {
        k = shmipc__ni_load(keys + 16 * r);
#define SHMIPC__X(i) s##i = _mm_aesenc_si128(s##i, k);
        SHMIPC__NI_EACH8(SHMIPC__X)
#undef SHMIPC__X
    }
    k = shmipc__ni_load(keys + 224);
#define SHMIPC__X(i) shmipc__ni_store(out + 16 * i, _mm_aesenclast_si128(s##i, k));
    SHMIPC__NI_EACH8(SHMIPC__X)
#undef SHMIPC__X
}

SHMIPC__NI_INLINE __m128i shmipc__ni_encrypt1(const shmipc_gcm *g, __m128i s)
{
    int r;
    s = _mm_xor_si128(s, shmipc__ni_load(g->round_keys));
    for (r = 1; r < 14; r++) s = _mm_aesenc_si128(s, shmipc__ni_load(g->round_keys + 16 * r));
    return _mm_aesenclast_si128(s, shmipc__ni_load(g->round_keys + 224));
}

/* `assist` is the S-box of the previous round key's last word in all four words, with or without rotation. */
SHMIPC__NI_INLINE __m128i shmipc__ni_key_step(__m128i k, __m128i assist)
{
    k = _mm_xor_si128(k, _mm_slli_si128(k, 4));
    k = _mm_xor_si128(k, _mm_slli_si128(k, 8));
    return _mm_xor_si128(k, assist);
}

SHMIPC__NI static void shmipc__ni_expand_key(uint8_t round_keys[240], const uint8_t key[32])
{
    __m128i even = shmipc__ni_load(key), odd = shmipc__ni_load(key + 16);
    shmipc__ni_store(round_keys, even);
    shmipc__ni_store(round_keys + 16, odd);
#define SHMIPC__X(i, rcon)                                                                                  \
    even = shmipc__ni_key_step(even, _mm_shuffle_epi32(_mm_aeskeygenassist_si128(odd, rcon), 0xff));        \
    shmipc__ni_store(round_keys + 32 * i, even);                                                            \
    if (i < 7) {                                                                                            \
        odd = shmipc__ni_key_step(odd, _mm_shuffle_epi32(_mm_aeskeygenassist_si128(even, 0), 0xaa));        \
        shmipc__ni_store(round_keys + 32 * i + 16, odd);                                                    \
    }
    SHMIPC__X(1, 0x01)
    SHMIPC__X(2, 0x02)
    SHMIPC__X(3, 0x04)
    SHMIPC__X(4, 0x08)
    SHMIPC__X(5, 0x10)
    SHMIPC__X(6, 0x20)
    SHMIPC__X(7, 0x40)
#undef SHMIPC__X
}

SHMIPC__NI static void shmipc__gcm_setup_ni(shmipc_gcm *g, const uint8_t key[32])
{
    __m128i h, carry, power;
    int i;
    shmipc__ni_expand_key(g->round_keys, key);
    h = shmipc__ni_swap(shmipc__ni_encrypt1(g, _mm_setzero_si128()));
    carry = _mm_shuffle_epi32(_mm_srai_epi32(h, 31), 0xff); /* all ones when the top bit falls out */
    h = _mm_or_si128(_mm_slli_epi64(h, 1), _mm_slli_si128(_mm_srli_epi64(h, 63), 8));
    h = _mm_xor_si128(h, _mm_and_si128(carry, shmipc__ni_poly()));
    power = h;
    for (i = 15; i >= 0; i--) {
        shmipc__ni_store(g->powers + 16 * i, power);
        power = shmipc__ni_mul(power, h);
    }
}

SHMIPC__NI static void shmipc__ghash_ni(const shmipc_gcm *g, uint8_t acc[16], const uint8_t *blocks, size_t count)
{
    __m128i a = shmipc__ni_swap(shmipc__ni_load(acc));
    size_t n;
    for (; count; count -= n, blocks += 16 * n) {
        n = count < 16 ? count : 16;
        a = shmipc__ni_ghash(g, a, blocks, n);
    }
    shmipc__ni_store(acc, shmipc__ni_swap(a));
}

SHMIPC__NI static void shmipc__keystream_ni(const shmipc_gcm *g, const uint8_t nonce[12], uint32_t counter,
                                            uint8_t *out, size_t count)
{
    __m128i c = shmipc__ni_counter(nonce, counter);
    uint8_t eight[128];
    size_t n;
    if (count == 1) {
        shmipc__ni_store(out, shmipc__ni_encrypt1(g, shmipc__ni_swap(c)));
        return;
    }
    for (; count >= 8; count -= 8, out += 128, c = _mm_add_epi32(c, _mm_set_epi32(0, 0, 0, 8)))
        shmipc__ni_keystream8(g, c, out);
    n = 16 * count;
    if (!n) return;
    shmipc__ni_keystream8(g, c, eight);
    memcpy(out, eight, n);
    shmipc_crypto_wipe(eight, n);
}

/* One round for all eight blocks, and one block of the hash between, so that neither unit waits for the other. */
#define SHMIPC__NI_ROUND(r)                                                     \
    k = shmipc__ni_load(keys + 16 * (r));                                       \
    s0 = _mm_aesenc_si128(s0, k); s1 = _mm_aesenc_si128(s1, k);                 \
    s2 = _mm_aesenc_si128(s2, k); s3 = _mm_aesenc_si128(s3, k);                 \
    s4 = _mm_aesenc_si128(s4, k); s5 = _mm_aesenc_si128(s5, k);                 \
    s6 = _mm_aesenc_si128(s6, k); s7 = _mm_aesenc_si128(s7, k);
#define SHMIPC__NI_HASH(i)                                                      \
    b = shmipc__ni_swap(shmipc__ni_load(hashed + 16 * (i)));                    \
    if ((i) == 0) b = _mm_xor_si128(b, acc);                                    \
    h = shmipc__ni_load(g->powers + 128 + 16 * (i));                            \
    low = _mm_xor_si128(low, _mm_clmulepi64_si128(b, h, 0x00));                 \
    high = _mm_xor_si128(high, _mm_clmulepi64_si128(b, h, 0x11));               \
    mid = _mm_xor_si128(mid, _mm_clmulepi64_si128(b, h, 0x01));                 \
    mid = _mm_xor_si128(mid, _mm_clmulepi64_si128(b, h, 0x10));

/* XOR of key stream and data, read from `in` once, for groups of 8 blocks; hashes the ciphertext from private memory.
 * Sealing hashes the group before, opening the group at hand. Returns the bytes done. */
SHMIPC__NI static size_t shmipc__bulk_ni(const shmipc_gcm *g, const uint8_t nonce[12], uint32_t counter,
                                         uint8_t acc16[16], const uint8_t *in, uint8_t *out, size_t len, int sealing)
{
    const uint8_t *keys = g->round_keys, *hashed;
    uint8_t text[128];
    size_t done = 0;
    __m128i acc = shmipc__ni_swap(shmipc__ni_load(acc16)), c = shmipc__ni_counter(nonce, counter);
    __m128i s0, s1, s2, s3, s4, s5, s6, s7, k, b, h, low, mid, high;
    if (sealing) {
        shmipc__ni_keystream8(g, c, text);
#define SHMIPC__X(i)                                                                                          \
        b = _mm_xor_si128(shmipc__ni_load(in + 16 * i), shmipc__ni_load(text + 16 * i));                      \
        shmipc__ni_store(text + 16 * i, b);                                                                   \
        shmipc__ni_store(out + 16 * i, b);
        SHMIPC__NI_EACH8(SHMIPC__X)
#undef SHMIPC__X
        done = 128;
        c = _mm_add_epi32(c, _mm_set_epi32(0, 0, 0, 8));
    }
    hashed = text;
    for (; len - done >= 128; done += 128) {
        if (!sealing) memcpy(text, in + done, 128);
        low = mid = high = _mm_setzero_si128();
        k = shmipc__ni_load(keys);
#define SHMIPC__X(i) s##i = _mm_xor_si128(shmipc__ni_swap(_mm_add_epi32(c, _mm_set_epi32(0, 0, 0, i))), k);
        SHMIPC__NI_EACH8(SHMIPC__X)
#undef SHMIPC__X
        SHMIPC__NI_ROUND(1) SHMIPC__NI_HASH(0) SHMIPC__NI_ROUND(2) SHMIPC__NI_HASH(1)
        SHMIPC__NI_ROUND(3) SHMIPC__NI_HASH(2) SHMIPC__NI_ROUND(4) SHMIPC__NI_HASH(3)
        SHMIPC__NI_ROUND(5) SHMIPC__NI_HASH(4) SHMIPC__NI_ROUND(6) SHMIPC__NI_HASH(5)
        SHMIPC__NI_ROUND(7) SHMIPC__NI_HASH(6) SHMIPC__NI_ROUND(8) SHMIPC__NI_HASH(7)
        SHMIPC__NI_ROUND(9) SHMIPC__NI_ROUND(10) SHMIPC__NI_ROUND(11) SHMIPC__NI_ROUND(12) SHMIPC__NI_ROUND(13)
        acc = shmipc__ni_reduce(low, mid, high);
        k = shmipc__ni_load(keys + 224);
#define SHMIPC__X(i)                                                                                          \
        b = sealing ? shmipc__ni_load(in + done + 16 * i) : shmipc__ni_load(text + 16 * i);                   \
        b = _mm_xor_si128(b, _mm_aesenclast_si128(s##i, k));                                                  \
        if (sealing) shmipc__ni_store(text + 16 * i, b);                                                      \
        shmipc__ni_store(out + done + 16 * i, b);
        SHMIPC__NI_EACH8(SHMIPC__X)
#undef SHMIPC__X
        c = _mm_add_epi32(c, _mm_set_epi32(0, 0, 0, 8));
    }
    if (sealing) acc = shmipc__ni_ghash(g, acc, text, 8);
    shmipc__ni_store(acc16, shmipc__ni_swap(acc));
    return done;
}
#undef SHMIPC__NI_ROUND
#undef SHMIPC__NI_HASH

/* ---------------------------------------------------------------------------------------------
 * >>vaes  Two blocks in each register, sixteen in flight
 * ------------------------------------------------------------------------------------------- */

#define SHMIPC__V __attribute__((target("avx2,aes,pclmul,vaes,vpclmulqdq")))
#define SHMIPC__V_INLINE static inline __attribute__((always_inline, target("avx2,aes,pclmul,vaes,vpclmulqdq")))

SHMIPC__V_INLINE __m256i shmipc__v_load(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}
SHMIPC__V_INLINE void shmipc__v_store(void *p, __m256i v)
{
    _mm256_storeu_si256((__m256i *)p, v);
}
SHMIPC__V_INLINE __m256i shmipc__v_twice(const void *p)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p));
}
SHMIPC__V_INLINE __m256i shmipc__v_swap(__m256i v)
{
    const __m128i order = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(order));
}
SHMIPC__V_INLINE __m128i shmipc__v_fold(__m256i v)
{
    return _mm_xor_si128(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}

#define SHMIPC__V_ROUND(r)                                                                  \
    k = shmipc__v_twice(keys + 16 * (r));                                                   \
    s0 = _mm256_aesenc_epi128(s0, k); s1 = _mm256_aesenc_epi128(s1, k);                     \
    s2 = _mm256_aesenc_epi128(s2, k); s3 = _mm256_aesenc_epi128(s3, k);                     \
    s4 = _mm256_aesenc_epi128(s4, k); s5 = _mm256_aesenc_epi128(s5, k);                     \
    s6 = _mm256_aesenc_epi128(s6, k); s7 = _mm256_aesenc_epi128(s7, k);
#define SHMIPC__V_HASH(i)                                                                   \
    b = shmipc__v_swap(shmipc__v_load(text + 32 * (i)));                                    \
    if ((i) == 0) b = _mm256_xor_si256(b, _mm256_inserti128_si256(_mm256_setzero_si256(), acc, 0)); \
    h = shmipc__v_load(g->powers + 32 * (i));                                               \
    low = _mm256_xor_si256(low, _mm256_clmulepi64_epi128(b, h, 0x00));                      \
    high = _mm256_xor_si256(high, _mm256_clmulepi64_epi128(b, h, 0x11));                    \
    mid = _mm256_xor_si256(mid, _mm256_clmulepi64_epi128(b, h, 0x01));                      \
    mid = _mm256_xor_si256(mid, _mm256_clmulepi64_epi128(b, h, 0x10));
#define SHMIPC__V_START(i) \
    s##i = _mm256_xor_si256(shmipc__v_swap(_mm256_add_epi32(c, _mm256_set_epi32(0, 0, 0, 2 * i, 0, 0, 0, 2 * i))), k);

/* As shmipc__bulk_ni, for groups of 16 blocks. */
SHMIPC__V static size_t shmipc__bulk_v(const shmipc_gcm *g, const uint8_t nonce[12], uint32_t counter,
                                       uint8_t acc16[16], const uint8_t *in, uint8_t *out, size_t len, int sealing)
{
    const uint8_t *keys = g->round_keys;
    uint8_t text[256], first[16];
    size_t done = 0;
    int hashing = !sealing;
    __m128i acc = shmipc__ni_swap(shmipc__ni_load(acc16));
    __m256i s0, s1, s2, s3, s4, s5, s6, s7, k, b, h, low, mid, high, c;
    memset(text, 0, sizeof text);
    memcpy(first, nonce, 12);
    shmipc__be32_put(first + 12, counter);
    c = _mm256_add_epi32(shmipc__v_swap(shmipc__v_twice(first)), _mm256_set_epi32(0, 0, 0, 1, 0, 0, 0, 0));
    for (; len - done >= 256; done += 256) {
        if (!sealing) memcpy(text, in + done, 256);
        low = mid = high = _mm256_setzero_si256();
        k = shmipc__v_twice(keys);
        SHMIPC__NI_EACH8(SHMIPC__V_START)
        if (hashing) {
            SHMIPC__V_ROUND(1) SHMIPC__V_HASH(0) SHMIPC__V_ROUND(2) SHMIPC__V_HASH(1)
            SHMIPC__V_ROUND(3) SHMIPC__V_HASH(2) SHMIPC__V_ROUND(4) SHMIPC__V_HASH(3)
            SHMIPC__V_ROUND(5) SHMIPC__V_HASH(4) SHMIPC__V_ROUND(6) SHMIPC__V_HASH(5)
            SHMIPC__V_ROUND(7) SHMIPC__V_HASH(6) SHMIPC__V_ROUND(8) SHMIPC__V_HASH(7)
            acc = shmipc__ni_reduce(shmipc__v_fold(low), shmipc__v_fold(mid), shmipc__v_fold(high));
        } else {
            SHMIPC__V_ROUND(1) SHMIPC__V_ROUND(2) SHMIPC__V_ROUND(3) SHMIPC__V_ROUND(4)
            SHMIPC__V_ROUND(5) SHMIPC__V_ROUND(6) SHMIPC__V_ROUND(7) SHMIPC__V_ROUND(8)
        }
        SHMIPC__V_ROUND(9) SHMIPC__V_ROUND(10) SHMIPC__V_ROUND(11) SHMIPC__V_ROUND(12) SHMIPC__V_ROUND(13)
        k = shmipc__v_twice(keys + 224);
#define SHMIPC__X(i)                                                                                          \
        b = sealing ? shmipc__v_load(in + done + 32 * i) : shmipc__v_load(text + 32 * i);                     \
        b = _mm256_xor_si256(b, _mm256_aesenclast_epi128(s##i, k));                                           \
        if (sealing) shmipc__v_store(text + 32 * i, b);                                                       \
        shmipc__v_store(out + done + 32 * i, b);
        SHMIPC__NI_EACH8(SHMIPC__X)
#undef SHMIPC__X
        c = _mm256_add_epi32(c, _mm256_set_epi32(0, 0, 0, 16, 0, 0, 0, 16));
        hashing = 1;
    }
    if (sealing && done) {
        low = mid = high = _mm256_setzero_si256();
        SHMIPC__NI_EACH8(SHMIPC__V_HASH)
        acc = shmipc__ni_reduce(shmipc__v_fold(low), shmipc__v_fold(mid), shmipc__v_fold(high));
    }
    shmipc__ni_store(acc16, shmipc__ni_swap(acc));
    return done;
}
#undef SHMIPC__V_START
#undef SHMIPC__V_ROUND
#undef SHMIPC__V_HASH

static int shmipc__x86_path(void)
{
    unsigned a, b, c, d, a7, b7, c7, d7, xcr0 = 0, xcr0_high;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return SHMIPC_CRYPTO_PATH_PORTABLE;
    if (!(c & bit_AES) || !(c & bit_PCLMUL) || !(c & bit_SSSE3) || !(c & bit_SSE4_1))
        return SHMIPC_CRYPTO_PATH_PORTABLE;
    if (!__get_cpuid_count(7, 0, &a7, &b7, &c7, &d7)) return SHMIPC_CRYPTO_PATH_AESNI;
    if (c & bit_OSXSAVE) __asm__ volatile("xgetbv" : "=a"(xcr0), "=d"(xcr0_high) : "c"(0));
    if ((xcr0 & 6) == 6 && (b7 & bit_AVX2) && (c7 & (1u << 9)) && (c7 & (1u << 10))) return SHMIPC_CRYPTO_PATH_VAES;
    return SHMIPC_CRYPTO_PATH_AESNI;
}

static int shmipc__x86_has_sha(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & (1u << 29)) != 0;
}
#endif /* SHMIPC__CRYPTO_X86 */

/* ---------------------------------------------------------------------------------------------
 * >>gcm
 * ------------------------------------------------------------------------------------------- */

SHMIPC_API int shmipc_crypto_best_path(void)
{
#if SHMIPC__CRYPTO_X86
    return shmipc__x86_path();
#else
    return SHMIPC_CRYPTO_PATH_PORTABLE;
#endif
}

static void shmipc__ghash(const shmipc_gcm *g, uint8_t acc[16], const uint8_t *blocks, size_t count)
{
#if SHMIPC__CRYPTO_X86
    if (g->path != SHMIPC_CRYPTO_PATH_PORTABLE) {
        shmipc__ghash_ni(g, acc, blocks, count);
        return;
    }
#endif
    shmipc__ghash_portable(g, acc, blocks, count);
}

static void shmipc__keystream(const shmipc_gcm *g, const uint8_t nonce[12], uint32_t counter, uint8_t *out,
                              size_t count)
{
#if SHMIPC__CRYPTO_X86
    if (g->path != SHMIPC_CRYPTO_PATH_PORTABLE) {
        shmipc__keystream_ni(g, nonce, counter, out, count);
        return;
    }
#endif
    shmipc__keystream_portable(g, nonce, counter, out, count);
}

/* The large middle of a message; returns how much of it was done, a multiple of 16 bytes. */
static size_t shmipc__bulk(const shmipc_gcm *g, const uint8_t nonce[12], uint8_t acc[16], const uint8_t *in,
                           uint8_t *out, size_t len, int sealing)
{
    size_t done = 0;
#if SHMIPC__CRYPTO_X86
    if (g->path == SHMIPC_CRYPTO_PATH_VAES && len >= 256)
        done = shmipc__bulk_v(g, nonce, 2, acc, in, out, len, sealing);
    if (g->path != SHMIPC_CRYPTO_PATH_PORTABLE && len - done >= 128)
        done += shmipc__bulk_ni(g, nonce, 2 + (uint32_t)(done / 16), acc, in + done, out + done, len - done, sealing);
#else
    (void)g; (void)nonce; (void)acc; (void)in; (void)out; (void)len; (void)sealing;
#endif
    return done;
}

/* Blocks waiting to be hashed, in private memory: a short message is multiplied and reduced in one go. */
typedef struct shmipc__hash_feed {
    uint8_t acc[16];
    uint8_t blocks[256];
    size_t count;
} shmipc__hash_feed;

static void shmipc__feed_flush(const shmipc_gcm *g, shmipc__hash_feed *f)
{
    if (f->count) shmipc__ghash(g, f->acc, f->blocks, f->count);
    f->count = 0;
}

/* Room for the next block, filled with zeros. */
static uint8_t *shmipc__feed_block(const shmipc_gcm *g, shmipc__hash_feed *f)
{
    uint8_t *b;
    if (f->count == 16) shmipc__feed_flush(g, f);
    b = f->blocks + 16 * f->count++;
    memset(b, 0, 16);
    return b;
}

static void shmipc__feed_bytes(const shmipc_gcm *g, shmipc__hash_feed *f, const uint8_t *p, size_t len)
{
    size_t n;
    for (; len; len -= n, p += n) {
        n = len < 16 ? len : 16;
        memcpy(shmipc__feed_block(g, f), p, n);
    }
}

/* Encrypts or decrypts `len` bytes, at most 256, through private memory, and feeds the ciphertext to the hash. */
static void shmipc__crypt_piece(const shmipc_gcm *g, const uint8_t nonce[12], uint32_t counter, shmipc__hash_feed *f,
                                const uint8_t *in, uint8_t *out, size_t len, int sealing)
{
    uint8_t stream[256], text[256];
    size_t i;
    shmipc__keystream(g, nonce, counter, stream, (len + 15) / 16);
    memcpy(text, in, len);
    if (!sealing) shmipc__feed_bytes(g, f, text, len);
    for (i = 0; i < len; i++) text[i] ^= stream[i];
    if (sealing) shmipc__feed_bytes(g, f, text, len);
    memcpy(out, text, len);
    shmipc_crypto_wipe(stream, len);
    if (!sealing) shmipc_crypto_wipe(text, len);
}

/* Up to 7 blocks with all that goes with them in one pass: eight counters, the first of which seals the tag, and one
 * multiplication by up to 16 powers. Most messages between processes are this short. */
static void shmipc__gcm_short(const shmipc_gcm *g, const uint8_t nonce[12], const void *aad, size_t aad_len,
                              const uint8_t *in, size_t len, uint8_t *out, uint8_t tag[16], int sealing)
{
    uint8_t stream[128], hashed[256], plain[112], acc[16];
    size_t aad_room = (aad_len + 15) / 16 * 16, room = (len + 15) / 16 * 16, i;
    uint8_t *cipher = hashed + aad_room;
    memset(acc, 0, sizeof acc);
    memset(hashed, 0, aad_room + room);
    if (aad_len) memcpy(hashed, aad, aad_len);
    if (len) memcpy(sealing ? plain : cipher, in, len);
    shmipc__keystream(g, nonce, 1, stream, 8);
    if (sealing)
        for (i = 0; i < len; i++) cipher[i] = plain[i] ^ stream[16 + i];
    else
        for (i = 0; i < len; i++) plain[i] = cipher[i] ^ stream[16 + i];
    shmipc__be64_put(cipher + room, (uint64_t)aad_len * 8);
    shmipc__be64_put(cipher + room + 8, (uint64_t)len * 8);
    shmipc__ghash(g, acc, hashed, (aad_room + room) / 16 + 1);
    if (len) memcpy(out, sealing ? cipher : plain, len);
    for (i = 0; i < 16; i++) tag[i] = stream[i] ^ acc[i];
    shmipc_crypto_wipe(stream, sizeof stream);
    shmipc_crypto_wipe(plain, sizeof plain);
}

static void shmipc__gcm_long(const shmipc_gcm *g, const uint8_t nonce[12], const void *aad, size_t aad_len,
                             const uint8_t *in, size_t len, uint8_t *out, uint8_t tag[16], int sealing)
{
    shmipc__hash_feed f;
    uint8_t *lengths;
    size_t done = 0, n, i;
    memset(f.acc, 0, sizeof f.acc);
    f.count = 0;
    shmipc__keystream(g, nonce, 1, tag, 1);
    shmipc__feed_bytes(g, &f, (const uint8_t *)aad, aad_len);
    if (len >= 128 && g->path != SHMIPC_CRYPTO_PATH_PORTABLE) {
        shmipc__feed_flush(g, &f);
        done = shmipc__bulk(g, nonce, f.acc, in, out, len, sealing);
    }
    for (; done < len; done += n) {
        n = len - done < 256 ? len - done : 256;
        shmipc__crypt_piece(g, nonce, 2 + (uint32_t)(done / 16), &f, in + done, out + done, n, sealing);
    }
    lengths = shmipc__feed_block(g, &f);
    shmipc__be64_put(lengths, (uint64_t)aad_len * 8);
    shmipc__be64_put(lengths + 8, (uint64_t)len * 8);
    shmipc__feed_flush(g, &f);
    for (i = 0; i < 16; i++) tag[i] ^= f.acc[i];
}

static void shmipc__gcm_crypt(const shmipc_gcm *g, const uint8_t nonce[12], const void *aad, size_t aad_len,
                              const uint8_t *in, size_t len, uint8_t *out, uint8_t tag[16], int sealing)
{
    if (len <= 112 && aad_len <= 128)
        shmipc__gcm_short(g, nonce, aad, aad_len, in, len, out, tag, sealing);
    else
        shmipc__gcm_long(g, nonce, aad, aad_len, in, len, out, tag, sealing);
}

static int shmipc__gcm_length_ok(size_t aad_len, size_t len)
{
    uint64_t text = len, more = aad_len; /* as variables: on 32 bits a compiler would call the comparison constant */
    return text <= ((uint64_t)1 << 36) - 32 && more < (uint64_t)1 << 61;
}

SHMIPC_API int shmipc_gcm_init_path(shmipc_gcm *g, const void *key32, int path)
{
    int best = shmipc_crypto_best_path();
    if (!g || !key32 || path < SHMIPC_CRYPTO_AUTO || path > SHMIPC_CRYPTO_PATH_VAES) return SHMIPC_CRYPTO_EINVAL;
    if (path > best) return SHMIPC_CRYPTO_ENOTSUP;
    g->path = (uint32_t)(path == SHMIPC_CRYPTO_AUTO ? best : path);
    g->reserved = 0;
#if SHMIPC__CRYPTO_X86
    if (g->path != SHMIPC_CRYPTO_PATH_PORTABLE) {
        shmipc__gcm_setup_ni(g, (const uint8_t *)key32);
        return SHMIPC_CRYPTO_OK;
    }
#endif
    shmipc__gcm_setup_portable(g, (const uint8_t *)key32);
    return SHMIPC_CRYPTO_OK;
}

SHMIPC_API int shmipc_gcm_init(shmipc_gcm *g, const void *key32)
{
    return shmipc_gcm_init_path(g, key32, SHMIPC_CRYPTO_AUTO);
}

SHMIPC_API void shmipc_gcm_clear(shmipc_gcm *g)
{
    if (g) shmipc_crypto_wipe(g, sizeof *g);
}

SHMIPC_API int shmipc_gcm_seal(const shmipc_gcm *g, const void *nonce12, const void *aad, size_t aad_len,
                               const void *in, size_t len, void *out, void *tag16)
{
    uint8_t nonce[12], tag[16];
    if (!g || !nonce12 || !tag16 || (!aad && aad_len) || ((!in || !out) && len) || !shmipc__gcm_length_ok(aad_len, len))
        return SHMIPC_CRYPTO_EINVAL;
    memcpy(nonce, nonce12, 12);
    shmipc__gcm_crypt(g, nonce, aad, aad_len, (const uint8_t *)in, len, (uint8_t *)out, tag, 1);
    memcpy(tag16, tag, 16);
    return SHMIPC_CRYPTO_OK;
}

SHMIPC_API int shmipc_gcm_open(const shmipc_gcm *g, const void *nonce12, const void *aad, size_t aad_len,
                               const void *in, size_t len, const void *tag16, void *out)
{
    uint8_t nonce[12], tag[16], given[16];
    int same;
    if (!g || !nonce12 || !tag16 || (!aad && aad_len) || ((!in || !out) && len) || !shmipc__gcm_length_ok(aad_len, len))
        return SHMIPC_CRYPTO_EINVAL;
    memcpy(nonce, nonce12, 12);
    memcpy(given, tag16, 16);
    shmipc__gcm_crypt(g, nonce, aad, aad_len, (const uint8_t *)in, len, (uint8_t *)out, tag, 0);
    same = shmipc_crypto_equal(tag, given, 16);
    shmipc_crypto_wipe(tag, sizeof tag); /* the right tag for a forged text must not be found on the stack */
    if (same) return SHMIPC_CRYPTO_OK;
    if (len) shmipc_crypto_wipe(out, len);
    return SHMIPC_CRYPTO_EAUTH;
}

/* ---------------------------------------------------------------------------------------------
 * >>xaes
 * ------------------------------------------------------------------------------------------- */

/* AES-CMAC of one full block each: the block is combined with the first subkey and encrypted. */
SHMIPC_API int shmipc_xaes_derive(const void *key32, const void *nonce_first12, void *derived_key32)
{
    shmipc_gcm g;
    shmipc__sliced_key k;
    uint8_t four[64], carry;
    int i;
    if (!key32 || !nonce_first12 || !derived_key32) return SHMIPC_CRYPTO_EINVAL;
    shmipc__expand_key(g.round_keys, (const uint8_t *)key32);
    shmipc__slice_key(&k, g.round_keys);
    memset(four, 0, sizeof four);
    shmipc__encrypt4(&k, four);
    carry = (uint8_t)(0x87 & (0 - (four[0] >> 7)));
    for (i = 0; i < 15; i++) four[i] = (uint8_t)(four[i] << 1 | four[i + 1] >> 7);
    four[15] = (uint8_t)(four[15] << 1 ^ carry);
    memcpy(four + 16, four, 16);
    four[1] ^= 1;
    four[17] ^= 2;
    four[2] ^= 'X';
    four[18] ^= 'X';
    for (i = 0; i < 12; i++) {
        four[4 + i] ^= ((const uint8_t *)nonce_first12)[i];
        four[20 + i] ^= ((const uint8_t *)nonce_first12)[i];
    }
    shmipc__encrypt4(&k, four);
    memcpy(derived_key32, four, 32);
    shmipc_crypto_wipe(four, sizeof four);
    shmipc_crypto_wipe(&k, sizeof k);
    shmipc_gcm_clear(&g);
    return SHMIPC_CRYPTO_OK;
}

static int shmipc__xaes_init(shmipc_gcm *g, const void *key32, const void *nonce24)
{
    uint8_t derived[32];
    int rc = shmipc_xaes_derive(key32, nonce24, derived);
    if (rc == SHMIPC_CRYPTO_OK) rc = shmipc_gcm_init(g, derived);
    shmipc_crypto_wipe(derived, sizeof derived);
    return rc;
}

SHMIPC_API int shmipc_xaes_seal(const void *key32, const void *nonce24, const void *aad, size_t aad_len, const void *in,
                                size_t len, void *out, void *tag16)
{
    shmipc_gcm g;
    int rc = shmipc__xaes_init(&g, key32, nonce24);
    if (rc == SHMIPC_CRYPTO_OK)
        rc = shmipc_gcm_seal(&g, (const uint8_t *)nonce24 + 12, aad, aad_len, in, len, out, tag16);
    shmipc_gcm_clear(&g);
    return rc;
}

SHMIPC_API int shmipc_xaes_open(const void *key32, const void *nonce24, const void *aad, size_t aad_len, const void *in,
                                size_t len, const void *tag16, void *out)
{
    shmipc_gcm g;
    int rc = shmipc__xaes_init(&g, key32, nonce24);
    if (rc == SHMIPC_CRYPTO_OK)
        rc = shmipc_gcm_open(&g, (const uint8_t *)nonce24 + 12, aad, aad_len, in, len, tag16, out);
    shmipc_gcm_clear(&g);
    return rc;
}

/* ---------------------------------------------------------------------------------------------
 * >>sha
 * ------------------------------------------------------------------------------------------- */

static const uint32_t shmipc__sha_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static inline uint32_t shmipc__rotr(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

static void shmipc__sha_blocks_portable(uint32_t state[8], const uint8_t *p, size_t count)
{
    uint32_t w[64], s[8], t1, t2;
    int i;
    for (; count; count--, p += 64) {
        for (i = 0; i < 16; i++) w[i] = shmipc__be32_get(p + 4 * i);
        for (; i < 64; i++) {
            uint32_t a = w[i - 15], b = w[i - 2];
            w[i] = w[i - 16] + (shmipc__rotr(a, 7) ^ shmipc__rotr(a, 18) ^ a >> 3) + w[i - 7] +
                   (shmipc__rotr(b, 17) ^ shmipc__rotr(b, 19) ^ b >> 10);
        }
        memcpy(s, state, sizeof s);
        for (i = 0; i < 64; i++) {
            t1 = s[7] + (shmipc__rotr(s[4], 6) ^ shmipc__rotr(s[4], 11) ^ shmipc__rotr(s[4], 25)) +
                 ((s[4] & s[5]) ^ (~s[4] & s[6])) + shmipc__sha_k[i] + w[i];
            t2 = (shmipc__rotr(s[0], 2) ^ shmipc__rotr(s[0], 13) ^ shmipc__rotr(s[0], 22)) +
                 ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
            memmove(s + 1, s, 7 * sizeof *s);
            s[4] += t1;
            s[0] = t1 + t2;
        }
        for (i = 0; i < 8; i++) state[i] += s[i];
    }
    shmipc_crypto_wipe(w, sizeof w);
    shmipc_crypto_wipe(s, sizeof s);
}

#if SHMIPC__CRYPTO_X86
/* SHA-NI keeps the state as (a b e f) and (c d g h) and does four rounds a step. */
__attribute__((target("sha,sse4.1,ssse3")))
static void shmipc__sha_blocks_ni(uint32_t state[8], const uint8_t *p, size_t count)
{
    const __m128i order = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    __m128i dcba = _mm_loadu_si128((const __m128i *)(const void *)state);
    __m128i hgfe = _mm_loadu_si128((const __m128i *)(const void *)(state + 4));
    __m128i cdab = _mm_shuffle_epi32(dcba, 0xb1), efgh = _mm_shuffle_epi32(hgfe, 0x1b);
    __m128i abef = _mm_alignr_epi8(cdab, efgh, 8), cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);
    __m128i w[4], before0, before1, x;
    int i;
    for (; count; count--, p += 64) {
        before0 = abef;
        before1 = cdgh;
        for (i = 0; i < 4; i++) {
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i)), order);
        }
        for (i = 0; i < 16; i++) {
            x = _mm_add_epi32(w[i & 3], _mm_loadu_si128((const __m128i *)(const void *)(shmipc__sha_k + 4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, x);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(x, 0x0e));
            if (i < 12) {
                x = _mm_sha256msg1_epu32(w[i & 3], w[(i + 1) & 3]);
                x = _mm_add_epi32(x, _mm_alignr_epi8(w[(i + 3) & 3], w[(i + 2) & 3], 4));
                w[i & 3] = _mm_sha256msg2_epu32(x, w[(i + 3) & 3]);
            }
        }
        abef = _mm_add_epi32(abef, before0);
        cdgh = _mm_add_epi32(cdgh, before1);
    }
    cdab = _mm_shuffle_epi32(abef, 0x1b);
    efgh = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)(void *)state, _mm_blend_epi16(cdab, efgh, 0xf0));
    _mm_storeu_si128((__m128i *)(void *)(state + 4), _mm_alignr_epi8(efgh, cdab, 8));
}
#endif

static void shmipc__sha_blocks(shmipc_sha256 *s, const uint8_t *p, size_t count)
{
#if SHMIPC__CRYPTO_X86
    if (s->fast) {
        shmipc__sha_blocks_ni(s->state, p, count);
        return;
    }
#endif
    shmipc__sha_blocks_portable(s->state, p, count);
}

SHMIPC_API void shmipc_sha256_init(shmipc_sha256 *s)
{
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(s->state, start, sizeof start);
    s->length = 0;
    s->reserved = 0;
#if SHMIPC__CRYPTO_X86
    s->fast = (uint32_t)shmipc__x86_has_sha(); /* once: asking costs microseconds in a virtual machine */
#else
    s->fast = 0;
#endif
}

SHMIPC_API void shmipc_sha256_update(shmipc_sha256 *s, const void *data, size_t len)
{
    const uint8_t *p = (const uint8_t *)data;
    size_t have = (size_t)(s->length & 63), n;
    if (!len) return;
    s->length += len;
    if (have) {
        n = 64 - have < len ? 64 - have : len;
        memcpy(s->block + have, p, n);
        if (have + n < 64) return;
        shmipc__sha_blocks(s, s->block, 1);
        p += n;
        len -= n;
    }
    if (len >= 64) shmipc__sha_blocks(s, p, len / 64);
    memcpy(s->block, p + (len & ~(size_t)63), len & 63);
}

SHMIPC_API void shmipc_sha256_final(shmipc_sha256 *s, void *digest32)
{
    uint8_t tail[72];
    uint64_t bits = s->length * 8;
    size_t pad = 64 - (size_t)((s->length + 8) & 63);
    int i;
    memset(tail, 0, sizeof tail);
    tail[0] = 0x80;
    shmipc__be64_put(tail + pad, bits);
    shmipc_sha256_update(s, tail, pad + 8);
    for (i = 0; i < 8; i++) shmipc__be32_put((uint8_t *)digest32 + 4 * i, s->state[i]);
    shmipc_crypto_wipe(s, sizeof *s);
}

SHMIPC_API void shmipc_hmac_init(shmipc_hmac *keyed, const void *key, size_t key_len)
{
    uint8_t pad[64];
    int i;
    memset(pad, 0, sizeof pad);
    if (key_len > 64) {
        shmipc_sha256_init(&keyed->inner);
        shmipc_sha256_update(&keyed->inner, key, key_len);
        shmipc_sha256_final(&keyed->inner, pad);
    } else if (key_len) {
        memcpy(pad, key, key_len);
    }
    for (i = 0; i < 64; i++) pad[i] ^= 0x36;
    shmipc_sha256_init(&keyed->inner);
    shmipc_sha256_update(&keyed->inner, pad, 64);
    for (i = 0; i < 64; i++) pad[i] ^= 0x36 ^ 0x5c;
    shmipc_sha256_init(&keyed->outer);
    shmipc_sha256_update(&keyed->outer, pad, 64);
    shmipc_crypto_wipe(pad, sizeof pad);
}

SHMIPC_API void shmipc_hmac_begin(const shmipc_hmac *keyed, shmipc_hmac *running)
{
    *running = *keyed;
}

SHMIPC_API void shmipc_hmac_update(shmipc_hmac *running, const void *data, size_t len)
{
    shmipc_sha256_update(&running->inner, data, len);
}

SHMIPC_API void shmipc_hmac_end(shmipc_hmac *running, void *digest32)
{
    uint8_t inner[32];
    shmipc_sha256_final(&running->inner, inner);
    shmipc_sha256_update(&running->outer, inner, 32);
    shmipc_sha256_final(&running->outer, digest32);
    shmipc_crypto_wipe(inner, sizeof inner);
}

SHMIPC_API void shmipc_hmac_sum(const shmipc_hmac *keyed, const void *data, size_t len, void *digest32)
{
    shmipc_hmac running;
    shmipc_hmac_begin(keyed, &running);
    shmipc_hmac_update(&running, data, len);
    shmipc_hmac_end(&running, digest32);
}

SHMIPC_API int shmipc_hkdf(const void *salt, size_t salt_len, const void *secret, size_t secret_len, const void *info,
                           size_t info_len, void *out, size_t out_len)
{
    shmipc_hmac keyed, running;
    uint8_t block[32], number = 0;
    size_t done, n;
    if (out_len > 255 * 32) return SHMIPC_CRYPTO_EINVAL;
    shmipc_hmac_init(&keyed, salt, salt_len);
    shmipc_hmac_sum(&keyed, secret, secret_len, block);
    shmipc_hmac_init(&keyed, block, 32);
    for (done = 0; done < out_len; done += n) {
        shmipc_hmac_begin(&keyed, &running);
        if (number) shmipc_hmac_update(&running, block, 32);
        shmipc_hmac_update(&running, info, info_len);
        number++;
        shmipc_hmac_update(&running, &number, 1);
        shmipc_hmac_end(&running, block);
        n = out_len - done < 32 ? out_len - done : 32;
        memcpy((uint8_t *)out + done, block, n);
    }
    shmipc_crypto_wipe(&keyed, sizeof keyed);
    shmipc_crypto_wipe(block, sizeof block);
    return SHMIPC_CRYPTO_OK;
}

/* ---------------------------------------------------------------------------------------------
 * >>scrypt
 * ------------------------------------------------------------------------------------------- */

SHMIPC_API void shmipc_pbkdf2(const void *password, size_t password_len, const void *salt, size_t salt_len,
                              uint32_t rounds, void *out, size_t out_len)
{
    shmipc_hmac keyed, running;
    uint8_t u[32], sum[32], number[4];
    uint32_t block, i;
    size_t done, n, j;
    shmipc_hmac_init(&keyed, password, password_len);
    for (done = 0, block = 1; done < out_len; done += n, block++) {
        shmipc__be32_put(number, block);
        shmipc_hmac_begin(&keyed, &running);
        shmipc_hmac_update(&running, salt, salt_len);
        shmipc_hmac_update(&running, number, 4);
        shmipc_hmac_end(&running, u);
        memcpy(sum, u, 32);
        for (i = 1; i < rounds; i++) {
            shmipc_hmac_sum(&keyed, u, 32, u);
            for (j = 0; j < 32; j++) sum[j] ^= u[j];
        }
        n = out_len - done < 32 ? out_len - done : 32;
        memcpy((uint8_t *)out + done, sum, n);
    }
    shmipc_crypto_wipe(&keyed, sizeof keyed);
    shmipc_crypto_wipe(u, sizeof u);
    shmipc_crypto_wipe(sum, sizeof sum);
}

static inline uint32_t shmipc__rotl(uint32_t x, int n)
{
    return x << n | x >> (32 - n);
}

#define SHMIPC__QUARTER(a, b, c, d)        \
    x[b] ^= shmipc__rotl(x[a] + x[d], 7);  \
    x[c] ^= shmipc__rotl(x[b] + x[a], 9);  \
    x[d] ^= shmipc__rotl(x[c] + x[b], 13); \
    x[a] ^= shmipc__rotl(x[d] + x[c], 18);

static void shmipc__salsa8(uint32_t b[16])
{
    uint32_t x[16];
    int i;
    memcpy(x, b, sizeof x);
    for (i = 0; i < 4; i++) {
        SHMIPC__QUARTER(0, 4, 8, 12)
        SHMIPC__QUARTER(5, 9, 13, 1)
        SHMIPC__QUARTER(10, 14, 2, 6)
        SHMIPC__QUARTER(15, 3, 7, 11)
        SHMIPC__QUARTER(0, 1, 2, 3)
        SHMIPC__QUARTER(5, 6, 7, 4)
        SHMIPC__QUARTER(10, 11, 8, 9)
        SHMIPC__QUARTER(15, 12, 13, 14)
    }
    for (i = 0; i < 16; i++) b[i] += x[i];
}

/* One BlockMix of 2r blocks of 16 words: from `in` to `out`, which must lie apart. */
static void shmipc__block_mix(const uint32_t *in, uint32_t *out, uint32_t r)
{
    uint32_t x[16], i, j;
    memcpy(x, in + (2 * r - 1) * 16, sizeof x);
    for (i = 0; i < 2 * r; i++) {
        for (j = 0; j < 16; j++) x[j] ^= in[16 * i + j];
        shmipc__salsa8(x);
        memcpy(out + (i / 2 + (i & 1) * r) * 16, x, sizeof x);
    }
}

/* scratch: v (n * 32r words), then x and y (32r words each). The look-up into v depends on the password by design:
 * that is what makes scrypt hard to compute with little memory. */
static void shmipc__ro_mix(uint8_t *block, uint32_t *scratch, uint64_t n, uint32_t r)
{
    size_t words = (size_t)32 * r, i, k;
    uint32_t *v = scratch, *x = v + (size_t)n * words, *y = x + words, *t;
    for (k = 0; k < words; k++) x[k] = shmipc__le32_get(block + 4 * k);
    for (i = 0; i < n; i++) {
        memcpy(v + i * words, x, words * 4);
        shmipc__block_mix(x, y, r);
        t = x;
        x = y;
        y = t;
    }
    for (i = 0; i < n; i++) {
        const uint32_t *picked = v + (size_t)(x[words - 16] & (n - 1)) * words;
        for (k = 0; k < words; k++) x[k] ^= picked[k];
        shmipc__block_mix(x, y, r);
        t = x;
        x = y;
        y = t;
    }
    for (k = 0; k < words; k++) shmipc__le32_put(block + 4 * k, x[k]);
}

SHMIPC_API size_t shmipc_scrypt_scratch(uint64_t n, uint32_t r, uint32_t p)
{
    uint64_t bytes;
    if (n < 2 || (n & (n - 1)) || n > (uint64_t)1 << 31 || !r || !p || r > 1024 || p > 1024) return 0;
    bytes = (uint64_t)128 * r * (n + 2 + p);
    return bytes > SIZE_MAX / 2 ? 0 : (size_t)bytes;
}

SHMIPC_API int shmipc_scrypt(const void *password, size_t password_len, const void *salt, size_t salt_len, uint64_t n,
                             uint32_t r, uint32_t p, void *scratch, size_t scratch_len, void *out, size_t out_len)
{
    size_t need = shmipc_scrypt_scratch(n, r, p), block = (size_t)128 * r;
    uint8_t *blocks;
    uint32_t i;
    if (!need || !scratch || scratch_len < need || ((uintptr_t)scratch & 3) || !out || !out_len || out_len > 1u << 20)
        return SHMIPC_CRYPTO_EINVAL;
    blocks = (uint8_t *)scratch + (size_t)(n + 2) * block;
    shmipc_pbkdf2(password, password_len, salt, salt_len, 1, blocks, block * p);
    for (i = 0; i < p; i++) shmipc__ro_mix(blocks + i * block, (uint32_t *)scratch, n, r);
    shmipc_pbkdf2(password, password_len, blocks, block * p, 1, out, out_len);
    shmipc_crypto_wipe(scratch, need);
    return SHMIPC_CRYPTO_OK;
}

#ifdef __cplusplus
}
#endif

#endif /* implementation */
