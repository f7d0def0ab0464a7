/* A channel that nobody can read without the key: the cipher is OpenSSL's, plugged in by two functions.
 *
 * A nonce has 24 bytes: 16 that the sender drew at random, and 8 that count. AES-GCM takes 12, so the first 16 make a
 * key for each sender (by HMAC), and the count makes the nonce under it.
 * links: -lcrypto
 */
#define SHMIPC_IMPLEMENTATION
#include "shmipc_socket.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <sys/wait.h>

static int cipher(const unsigned char key[32], const unsigned char nonce[24], int seal, const void *aad, size_t aad_len,
                  const void *in, size_t len, unsigned char *out, unsigned char *tag)
{
    unsigned char derived[32], iv[12] = {0};
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int n, ok = c != NULL && HMAC(EVP_sha256(), key, 32, nonce, 16, derived, NULL) != NULL;
    memcpy(iv + 4, nonce + 16, 8);
    ok = ok && EVP_CipherInit_ex(c, EVP_aes_256_gcm(), NULL, derived, iv, seal);
    ok = ok && EVP_CipherUpdate(c, NULL, &n, (const unsigned char *)aad, (int)aad_len);
    ok = ok && EVP_CipherUpdate(c, out, &n, (const unsigned char *)in, (int)len);
    if (!seal) ok = ok && EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, 16, tag);
    ok = ok && EVP_CipherFinal_ex(c, out + n, &n);
    if (seal) ok = ok && EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, 16, tag);
    EVP_CIPHER_CTX_free(c);
    return ok ? SHMIPC_OK : SHMIPC_ECORRUPT;
}

static int seal(void *key, const unsigned char nonce[24], const void *aad, size_t aad_len, const void *in, size_t len,
                void *out)
{
    return cipher((const unsigned char *)key, nonce, 1, aad, aad_len, in, len, (unsigned char *)out,
                  (unsigned char *)out + len);
}

static int open_sealed(void *key, const unsigned char nonce[24], const void *aad, size_t aad_len, const void *in,
                       size_t len, void *out)
{
    unsigned char tag[16];
    memcpy(tag, (const unsigned char *)in + len - 16, 16);
    return cipher((const unsigned char *)key, nonce, 0, aad, aad_len, in, len - 16, (unsigned char *)out, tag);
}

int main(void)
{
    static unsigned char key[32] = "a key that both sides have";
    shmipc_aead aead = {seal, open_sealed, key};
    shmipc_ctx *ctx;
    shmipc_socket *s;
    shmipc_socket_config cfg;
    char text[64] = "";
    size_t len = 0;
    int rc, status;
    pid_t child = fork();
    shmipc_socket_config_init(&cfg);
    cfg.aead = &aead;
    if (shmipc_ctx_open(&ctx, NULL)) return 1;
    if (child == 0) {
        rc = shmipc_push_open(&s, ctx, "example/secrets", &cfg);
        if (!rc) rc = shmipc_send(s, "nobody else reads this", 23, -1);
    } else {
        rc = shmipc_pull_open(&s, ctx, "example/secrets", &cfg);
        if (!rc) rc = shmipc_recv(s, text, sizeof text, &len, 5000000000);
        printf("sealed: %s\n", rc ? shmipc_strerror(rc) : text);
        rc |= strcmp(text, "nobody else reads this") != 0;
    }
    shmipc_close(&s);
    shmipc_ctx_close(ctx);
    if (child && (waitpid(child, &status, 0) != child || status)) rc = 1;
    return rc != 0;
}
