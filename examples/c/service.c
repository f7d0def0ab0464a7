/* A service and its client. The service is killed while it works: the client is told at once, and goes on with the next
 * service that comes up under the same name, without opening anything again. */
#define SHMIPC_IMPLEMENTATION
#include "shmipc_socket.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

/* Doubles what it gets; never returns from a 13. */
static int serve(void)
{
    shmipc_ctx *ctx;
    shmipc_socket *rep;
    size_t len;
    int value;
    if (shmipc_ctx_open(&ctx, NULL) || shmipc_rep_open(&rep, ctx, "example/double", NULL)) return 1;
    while (shmipc_recv(rep, &value, sizeof value, &len, -1) == SHMIPC_OK) {
        if (value == 13) raise(SIGKILL);
        value *= 2;
        if (shmipc_send(rep, &value, sizeof value, 0)) return 1;
    }
    return 1;
}

static pid_t service_start(void)
{
    pid_t child = fork();
    if (child == 0) _exit(serve());
    return child;
}

int main(void)
{
    shmipc_ctx *ctx;
    shmipc_socket *req;
    pid_t service = service_start();
    int ask, answer = 0, rc;
    size_t len;
    if (shmipc_ctx_open(&ctx, NULL) || shmipc_req_open(&req, ctx, "example/double", NULL)) return 1;
    for (ask = 11; ask <= 15; ask++) {
        rc = shmipc_request(req, &ask, sizeof ask, &answer, sizeof answer, &len, 5000000000);
        if (rc) {
            printf("service: %d: %s\n", ask, shmipc_strerror(rc));
            waitpid(service, NULL, 0);
            service = service_start();
        } else {
            printf("service: %d -> %d\n", ask, answer);
        }
        if ((rc == SHMIPC_EPEERDEAD) != (ask == 13) || (!rc && answer != 2 * ask)) break;
    }
    kill(service, SIGTERM);
    waitpid(service, NULL, 0);
    shmipc_close(&req);
    shmipc_ctx_close(ctx);
    return ask != 16;
}
