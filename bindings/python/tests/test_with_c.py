"""Python and C programs on one channel, both ways."""

import os
import shutil
import subprocess

import pytest

import shmipc

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")

PROGRAM = r"""
#define SHMIPC_IMPLEMENTATION
#include "shmipc_socket.h"
#include <stdio.h>

static int fail(shmipc_ctx *ctx, const char *what, int rc)
{
    printf("%s: %d %s\n", what, rc, shmipc_ctx_detail(ctx));
    return 1;
}

int main(void)
{
    static char text[200000], reply[200000];
    shmipc_ctx *ctx;
    shmipc_socket *sub, *pub, *pull, *push, *rep;
    shmipc_msg msg;
    size_t len;
    int rc, i;
    if (shmipc_ctx_open(&ctx, NULL)) return 2;
    if ((rc = shmipc_sub_open(&sub, ctx, "to c", NULL))) return fail(ctx, "sub", rc);
    if ((rc = shmipc_pub_open(&pub, ctx, "from c", NULL))) return fail(ctx, "pub", rc);
    if ((rc = shmipc_pull_open(&pull, ctx, "jobs", NULL))) return fail(ctx, "pull", rc);
    if ((rc = shmipc_push_open(&push, ctx, "done", NULL))) return fail(ctx, "push", rc);
    if ((rc = shmipc_rep_open(&rep, ctx, "service", NULL))) return fail(ctx, "rep", rc);
    puts("ready");
    fflush(stdout);
    for (i = 0; i < 20; i++) { /* what comes goes back, with its tag */
        if ((rc = shmipc_recv_msg(sub, text, sizeof text, &msg, -1))) return fail(ctx, "recv", rc);
        if ((rc = shmipc_send_tag(pub, text, (size_t)msg.len, msg.tag, 0))) return fail(ctx, "send", rc);
    }
    for (i = 0; i < 20; i++) {
        if ((rc = shmipc_recv(pull, text, sizeof text, &len, -1))) return fail(ctx, "pull", rc);
        if ((rc = shmipc_send(push, text, len, -1))) return fail(ctx, "push", rc);
    }
    for (i = 0; i < 20; i++) {
        if ((rc = shmipc_recv(rep, text, sizeof text, &len, -1))) return fail(ctx, "request", rc);
        snprintf(reply, sizeof reply, "%d bytes from C", (int)len);
        if ((rc = shmipc_send(rep, reply, strlen(reply), 0))) return fail(ctx, "reply", rc);
    }
    shmipc_ctx_close(ctx);
    return 0;
}
"""


def test_C_programs_and_python_on_one_channel_both_ways(tmp_path, scope):
    compiler = os.environ.get("CC") or shutil.which("cc")
    assert compiler, "no C compiler, which built the package, is found"
    (tmp_path / "peer.c").write_text(PROGRAM)
    build = [compiler, "-O0", "-I", ROOT, str(tmp_path / "peer.c"), "-o", str(tmp_path / "peer"), "-pthread"]
    subprocess.run(build, check=True)
    peer = subprocess.Popen([str(tmp_path / "peer")], stdout=subprocess.PIPE, text=True)
    try:
        assert peer.stdout.readline() == "ready\n"
        exchange()
        assert peer.wait(20) == 0, peer.stdout.read()
    finally:
        peer.kill()
        peer.wait()
        peer.stdout.close()


def exchange():
    with shmipc.Publisher("to c") as pub, shmipc.Subscriber("from c") as sub:
        values = [b"bytes", {"an": "object"}, None, b"", list(range(50)), "t\u00e4xt" * 1000, b"x" * 100000] * 3
        for value in values[:20]:
            pub.send(value)
            assert sub.recv(timeout=20, default=shmipc.RAISE) == value
    with shmipc.Pusher("jobs") as push, shmipc.Puller("done") as pull:
        for i in range(20):
            push.send_bytes(b"%d" % i)
        assert [pull.recv(timeout=20) for _ in range(20)] == [b"%d" % i for i in range(20)]
    with shmipc.Requester("service") as req:
        for i in range(20):
            assert req.request(bytes(i * 1000), timeout=20) == b"%d bytes from C" % (i * 1000)


def test_a_view_of_what_c_sent_is_bytes_in_place():
    with shmipc.Publisher("a") as pub, shmipc.Subscriber("a") as sub:
        pub.send_bytes(b"y" * 70000)
        view = sub.recv(timeout=5, copy=False)
        assert type(view) is memoryview and view == b"y" * 70000
        with pytest.raises(TypeError):
            view[0] = 0
        del view
