/* Tests of shmipc_crypto.h: published vectors, agreement of all code paths, forgeries.
 *
 * Vectors: GCM specification (cases 13-16), FIPS 180-4, RFC 4231, RFC 5869, RFC 7914, C2SP XAES-256-GCM. */
#include "check.h"

#define SHMIPC_STATIC
#define SHMIPC_CRYPTO_IMPLEMENTATION
#include "../shmipc_crypto.h"

/* Hexadecimal text to bytes; how many. */
static size_t unhex(const char *text, uint8_t *out)
{
    size_t n = 0;
    unsigned value;
    while (sscanf(text + 2 * n, "%2x", &value) == 1) out[n++] = (uint8_t)value;
    return n;
}

static void check_hex(const void *bytes, const char *want)
{
    uint8_t expected[256];
    size_t n = unhex(want, expected);
    CHECK(n > 0 && memcmp(bytes, expected, n) == 0);
}

static void fill_random(uint8_t *p, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++) p[i] = (uint8_t)check_random();
}

static const int paths[] = {SHMIPC_CRYPTO_PATH_PORTABLE, SHMIPC_CRYPTO_PATH_AESNI, SHMIPC_CRYPTO_PATH_VAES};

static void gcm_vector(const char *key, const char *nonce, const char *aad, const char *plain, const char *sealed,
                       const char *tag)
{
    uint8_t k[32], n[12], a[64], p[64], c[64], t[16], out[64];
    size_t i, a_len = unhex(aad, a), p_len = unhex(plain, p);
    unhex(key, k);
    unhex(nonce, n);
    unhex(sealed, c);
    for (i = 0; i < 3; i++) {
        shmipc_gcm g;
        if (shmipc_gcm_init_path(&g, k, paths[i]) == SHMIPC_CRYPTO_ENOTSUP) continue;
        CHECK_EQ(shmipc_gcm_seal(&g, n, a, a_len, p, p_len, out, t), 0);
        CHECK(memcmp(out, c, p_len) == 0);
        check_hex(t, tag);
        CHECK_EQ(shmipc_gcm_open(&g, n, a, a_len, c, p_len, t, out), 0);
        CHECK(memcmp(out, p, p_len) == 0);
    }
}

TEST(gcm_published_vectors)
{
    const char *zero = "0000000000000000000000000000000000000000000000000000000000000000";
    const char *key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
    gcm_vector(zero, "000000000000000000000000", "", "", "", "530f8afbc74536b9a963b4f1c4cb738b");
    gcm_vector(zero, "000000000000000000000000", "", "00000000000000000000000000000000",
               "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919");
    gcm_vector(key, "cafebabefacedbaddecaf888", "",
               "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
               "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
               "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
               "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
               "b094dac5d93471bdec1a502270e3cc6c");
    gcm_vector(key, "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
               "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
               "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
               "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
               "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
               "76fc6ece0f4e1768cddf8853bb2d551b");
}

/* Every size up to 4,200 on every path, in place and apart, at odd addresses, against the portable one. */
TEST(gcm_paths_agree_for_all_sizes)
{
    static uint8_t plain[4300], one[4300], other[4300], aad[300];
    uint8_t key[32], nonce[12], tag[16], tag2[16];
    size_t len, path;
    fill_random(plain, sizeof plain);
    fill_random(aad, sizeof aad);
    for (len = 0; len <= 4200; len += len < 600 ? 1 : 1 + (size_t)(check_random() % 37)) {
        shmipc_gcm g, portable;
        size_t aad_len = (size_t)(check_random() % (len % 5 ? 40 : 300)), shift = (size_t)(check_random() % 17);
        fill_random(key, 32);
        fill_random(nonce, 12);
        CHECK_EQ(shmipc_gcm_init_path(&portable, key, SHMIPC_CRYPTO_PATH_PORTABLE), 0);
        CHECK_EQ(shmipc_gcm_seal(&portable, nonce, aad, aad_len, plain + shift, len, one, tag), 0);
        for (path = 1; path < 3; path++) {
            if (shmipc_gcm_init_path(&g, key, paths[path]) == SHMIPC_CRYPTO_ENOTSUP) continue;
            memcpy(other + shift, plain + shift, len);
            CHECK_EQ(shmipc_gcm_seal(&g, nonce, aad, aad_len, other + shift, len, other + shift, tag2), 0);
            CHECK(memcmp(one, other + shift, len) == 0 && memcmp(tag, tag2, 16) == 0);
            CHECK_EQ(shmipc_gcm_open(&g, nonce, aad, aad_len, one, len, tag, other + shift), 0);
            CHECK(memcmp(other + shift, plain + shift, len) == 0);
        }
        CHECK_EQ(shmipc_gcm_open(&portable, nonce, aad, aad_len, one, len, tag, one), 0);
        CHECK(memcmp(one, plain + shift, len) == 0);
    }
}

/* Each single bit of text, associated data, nonce and tag. */
TEST(gcm_refuses_each_flipped_bit)
{
    enum { LEN = 300, AAD = 20 };
    uint8_t all[LEN + AAD + 12 + 16], out[LEN], key[32];
    uint8_t *text = all, *aad = all + LEN, *nonce = aad + AAD, *tag = nonce + 12;
    size_t i, path, k;
    for (path = 0; path < 3; path++) {
        shmipc_gcm g;
        fill_random(key, 32);
        fill_random(all, sizeof all);
        if (shmipc_gcm_init_path(&g, key, paths[path]) == SHMIPC_CRYPTO_ENOTSUP) continue;
        CHECK_EQ(shmipc_gcm_seal(&g, nonce, aad, AAD, text, LEN, text, tag), 0);
        for (i = 0; i < sizeof all * 8; i += path ? 1 : 13) {
            all[i / 8] ^= (uint8_t)(1u << i % 8);
            memset(out, 0x5a, sizeof out);
            CHECK_EQ(shmipc_gcm_open(&g, nonce, aad, AAD, text, LEN, tag, out), SHMIPC_CRYPTO_EAUTH);
            for (k = 0; k < LEN; k++) CHECK_EQ(out[k], 0);
            all[i / 8] ^= (uint8_t)(1u << i % 8);
        }
        CHECK_EQ(shmipc_gcm_open(&g, nonce, aad, AAD, text, LEN - 1, tag, out), SHMIPC_CRYPTO_EAUTH);
        CHECK_EQ(shmipc_gcm_open(&g, nonce, aad, AAD, text, LEN, tag, out), 0);
    }
}

TEST(gcm_bad_arguments)
{
    shmipc_gcm g;
    uint8_t b[32];
    memset(b, 0, sizeof b);
    CHECK_EQ(shmipc_gcm_init(NULL, b), SHMIPC_CRYPTO_EINVAL);
    CHECK_EQ(shmipc_gcm_init(&g, NULL), SHMIPC_CRYPTO_EINVAL);
    CHECK_EQ(shmipc_gcm_init_path(&g, b, 99), SHMIPC_CRYPTO_EINVAL);
    CHECK_EQ(shmipc_gcm_init(&g, b), 0);
    CHECK_EQ(shmipc_gcm_seal(&g, NULL, NULL, 0, b, 1, b, b), SHMIPC_CRYPTO_EINVAL);
    CHECK_EQ(shmipc_gcm_seal(&g, b, NULL, 1, b, 1, b, b), SHMIPC_CRYPTO_EINVAL);
    CHECK_EQ(shmipc_gcm_seal(&g, b, NULL, 0, NULL, 1, b, b), SHMIPC_CRYPTO_EINVAL);
    if (sizeof(size_t) > 4) { /* 32 bits cannot say as much as is too much */
        CHECK_EQ(shmipc_gcm_seal(&g, b, NULL, 0, b, SIZE_MAX, b, b), SHMIPC_CRYPTO_EINVAL);
    }
    CHECK_EQ(shmipc_gcm_open(&g, b, NULL, 0, b, 1, NULL, b), SHMIPC_CRYPTO_EINVAL);
}

TEST(xaes_published_vectors)
{
    uint8_t key[32], out[12], tag[16];
    const char *nonce = "ABCDEFGHIJKLMNOPQRSTUVWX", *text = "XAES-256-GCM", *aad = "c2sp.org/XAES-256-GCM";
    memset(key, 1, sizeof key);
    CHECK_EQ(shmipc_xaes_seal(key, nonce, NULL, 0, text, 12, out, tag), 0);
    check_hex(out, "ce546ef63c9cc60765923609");
    check_hex(tag, "b33a9a1974e96e52daf2fcf7075e2271");
    memset(key, 3, sizeof key);
    CHECK_EQ(shmipc_xaes_seal(key, nonce, aad, strlen(aad), text, 12, out, tag), 0);
    check_hex(out, "986ec1832593df5443a17943");
    check_hex(tag, "7fd083bf3fdb41abd740a21f71eb769d");
    CHECK_EQ(shmipc_xaes_open(key, nonce, aad, strlen(aad), out, 12, tag, out), 0);
    CHECK(memcmp(out, text, 12) == 0);
    tag[3] ^= 1;
    CHECK_EQ(shmipc_xaes_open(key, nonce, aad, strlen(aad), out, 12, tag, out), SHMIPC_CRYPTO_EAUTH);
}

TEST(sha256_published_vectors)
{
    shmipc_sha256 s;
    uint8_t digest[32], thousand[1000];
    int i;
    shmipc_sha256_init(&s);
    shmipc_sha256_final(&s, digest);
    check_hex(digest, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    shmipc_sha256_init(&s);
    shmipc_sha256_update(&s, "abc", 3);
    shmipc_sha256_final(&s, digest);
    check_hex(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    memset(thousand, 'a', sizeof thousand);
    shmipc_sha256_init(&s);
    for (i = 0; i < 1000; i++) shmipc_sha256_update(&s, thousand, sizeof thousand);
    shmipc_sha256_final(&s, digest);
    check_hex(digest, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(sha256_any_cutting_and_both_paths)
{
    uint8_t data[700], whole[32], cut[32];
    size_t len, at, n;
    fill_random(data, sizeof data);
    for (len = 0; len < sizeof data; len += 1 + (size_t)(check_random() % 5)) {
        shmipc_sha256 s;
        shmipc_sha256_init(&s);
        shmipc_sha256_update(&s, data, len);
        shmipc_sha256_final(&s, whole);
        shmipc_sha256_init(&s);
        for (at = 0; at < len; at += n) {
            n = 1 + (size_t)(check_random() % 90);
            if (n > len - at) n = len - at;
            shmipc_sha256_update(&s, data + at, n);
        }
        shmipc_sha256_final(&s, cut);
        CHECK(memcmp(whole, cut, 32) == 0);
    }
#if SHMIPC__CRYPTO_X86
    if (shmipc__x86_has_sha()) {
        uint32_t a[8], b[8];
        fill_random((uint8_t *)a, sizeof a);
        memcpy(b, a, sizeof a);
        shmipc__sha_blocks_portable(a, data, 10);
        shmipc__sha_blocks_ni(b, data, 10);
        CHECK(memcmp(a, b, sizeof a) == 0);
    }
#endif
}

TEST(hmac_published_vectors)
{
    shmipc_hmac keyed, running;
    uint8_t key[131], digest[32];
    const char *text = "Test Using Larger Than Block-Size Key - Hash Key First";
    memset(key, 0x0b, 20);
    shmipc_hmac_init(&keyed, key, 20);
    shmipc_hmac_sum(&keyed, "Hi There", 8, digest);
    check_hex(digest, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    shmipc_hmac_init(&keyed, "Jefe", 4);
    shmipc_hmac_begin(&keyed, &running);
    shmipc_hmac_update(&running, "what do ya want ", 16);
    shmipc_hmac_update(&running, "for nothing?", 12);
    shmipc_hmac_end(&running, digest);
    check_hex(digest, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, sizeof key);
    shmipc_hmac_init(&keyed, key, sizeof key);
    shmipc_hmac_sum(&keyed, text, strlen(text), digest);
    check_hex(digest, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST(hkdf_published_vectors)
{
    uint8_t secret[22], salt[13], info[10], out[42];
    size_t i;
    memset(secret, 0x0b, sizeof secret);
    for (i = 0; i < sizeof salt; i++) salt[i] = (uint8_t)i;
    for (i = 0; i < sizeof info; i++) info[i] = (uint8_t)(0xf0 + i);
    CHECK_EQ(shmipc_hkdf(salt, sizeof salt, secret, sizeof secret, info, sizeof info, out, sizeof out), 0);
    check_hex(out, "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
    CHECK_EQ(shmipc_hkdf(NULL, 0, secret, sizeof secret, NULL, 0, out, sizeof out), 0);
    check_hex(out, "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
    CHECK_EQ(shmipc_hkdf(NULL, 0, secret, sizeof secret, NULL, 0, out, 255 * 32 + 1), SHMIPC_CRYPTO_EINVAL);
}

TEST(scrypt_published_vectors)
{
    uint8_t out[64];
    size_t need = shmipc_scrypt_scratch(1024, 8, 16);
    void *scratch = malloc(need);
    CHECK(scratch != NULL);
    shmipc_pbkdf2("passwd", 6, "salt", 4, 1, out, 64);
    check_hex(out, "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
                   "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783");
    CHECK_EQ(shmipc_scrypt("", 0, "", 0, 16, 1, 1, scratch, need, out, 64), 0);
    check_hex(out, "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442"
                   "fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906");
    CHECK_EQ(shmipc_scrypt("password", 8, "NaCl", 4, 1024, 8, 16, scratch, need, out, 64), 0);
    check_hex(out, "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
                   "2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640");
    free(scratch);
}

TEST(scrypt_refuses_bad_costs)
{
    uint8_t out[32];
    uint32_t scratch[64];
    CHECK_EQ(shmipc_scrypt_scratch(0, 8, 1), 0);
    CHECK_EQ(shmipc_scrypt_scratch(1, 8, 1), 0);
    CHECK_EQ(shmipc_scrypt_scratch(24, 8, 1), 0);
    CHECK_EQ(shmipc_scrypt_scratch(16, 0, 1), 0);
    CHECK_EQ(shmipc_scrypt_scratch(16, 8, 0), 0);
    CHECK_EQ(shmipc_scrypt("p", 1, "s", 1, 16, 8, 1, scratch, sizeof scratch, out, 32), SHMIPC_CRYPTO_EINVAL);
}

TEST(util_compare_wipe_random)
{
    uint8_t a[40], b[40], zero[40];
    size_t i;
    memset(zero, 0, sizeof zero);
    CHECK_EQ(shmipc_crypto_random(a, sizeof a), 0);
    CHECK_EQ(shmipc_crypto_random(b, sizeof b), 0);
    CHECK(memcmp(a, b, sizeof a) != 0);
    memcpy(b, a, sizeof a);
    CHECK_EQ(shmipc_crypto_equal(a, b, sizeof a), 1);
    CHECK_EQ(shmipc_crypto_equal(a, b, 0), 1);
    for (i = 0; i < sizeof a; i++) {
        b[i] ^= 0x80;
        CHECK_EQ(shmipc_crypto_equal(a, b, sizeof a), 0);
        b[i] ^= 0x80;
    }
    shmipc_crypto_wipe(a, sizeof a);
    CHECK(memcmp(a, zero, sizeof a) == 0);
}
