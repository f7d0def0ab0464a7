/* Frames of a camera without a copy: written once, in the shared memory, and read there.
 *
 * shmipc_loan_open gives room for a frame, commit publishes it. shmipc_take gives the frame in place; it stays
 * unchanged until shmipc_release, whatever the camera does meanwhile. */
#define SHMIPC_IMPLEMENTATION
#include "shmipc_socket.h"

#include <stdio.h>
#include <sys/wait.h>

enum { WIDTH = 1280, HEIGHT = 720, BYTES = WIDTH * HEIGHT * 3, FRAMES = 60 };

static int camera(shmipc_ctx *ctx)
{
    shmipc_socket *pub;
    shmipc_socket_config cfg;
    uint32_t i;
    shmipc_socket_config_init(&cfg);
    cfg.depth = 8; /* frames kept for slow readers: 8 of them, and no more memory than that */
    cfg.connect_ns = -1;
    if (shmipc_pub_open(&pub, ctx, "example/camera", &cfg)) return 1;
    for (i = 0; i < FRAMES; i++) {
        shmipc_loan loan;
        if (shmipc_loan_open(pub, BYTES, &loan)) return 1;
        memset(loan.data, (int)i, BYTES); /* here the driver would write */
        loan.tag = i;
        if (shmipc_loan_commit(&loan, 0)) return 1;
    }
    shmipc_close(&pub);
    return 0;
}

static int viewer(shmipc_ctx *ctx)
{
    shmipc_socket *sub;
    shmipc_msg frame;
    uint32_t seen = 0, torn = 0, last = 0;
    if (shmipc_sub_open(&sub, ctx, "example/camera", NULL)) return 1;
    while (last + 1 < FRAMES && shmipc_take(sub, &frame, 2000000000) == SHMIPC_OK) {
        const unsigned char *pixels = (const unsigned char *)frame.data;
        last = frame.tag;
        torn += pixels[0] != last || pixels[BYTES / 2] != last || pixels[BYTES - 1] != last;
        seen++;
        shmipc_release(&frame);
    }
    printf("camera: %u of %u frames of %u KB seen in place, %u torn\n", seen, (unsigned)FRAMES, (unsigned)BYTES / 1024,
           torn);
    shmipc_close(&sub);
    return torn != 0 || last + 1 != FRAMES;
}

int main(void)
{
    shmipc_ctx *ctx;
    int status, rc;
    pid_t child = fork();
    if (shmipc_ctx_open(&ctx, NULL)) return 1;
    rc = child ? viewer(ctx) : camera(ctx);
    shmipc_ctx_close(ctx);
    if (child && (waitpid(child, &status, 0) != child || status)) rc = 1;
    return rc;
}
