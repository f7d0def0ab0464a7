// From C++: a handle with a destructor is all that a program wants on top.
#define SHMIPC_IMPLEMENTATION
#include "shmipc_socket.h"

#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>

namespace {

struct ctx_closer {
    void operator()(shmipc_ctx *c) const { shmipc_ctx_close(c); }
};
struct socket_closer {
    void operator()(shmipc_socket *s) const { shmipc_close(&s); }
};
typedef std::unique_ptr<shmipc_ctx, ctx_closer> context;
typedef std::unique_ptr<shmipc_socket, socket_closer> endpoint;

int must(int rc)
{
    if (rc < 0) throw std::runtime_error(shmipc_strerror(rc));
    return rc;
}

endpoint open(int (*how)(shmipc_socket **, shmipc_ctx *, const char *, const shmipc_socket_config *), const context &c,
              const std::string &name)
{
    shmipc_socket *s = nullptr;
    must(how(&s, c.get(), name.c_str(), nullptr));
    return endpoint(s);
}

} // namespace

int main()
{
    shmipc_ctx *raw = nullptr;
    must(shmipc_ctx_open(&raw, nullptr));
    context ctx(raw);
    endpoint sub = open(shmipc_sub_open, ctx, "example/c++"), pub = open(shmipc_pub_open, ctx, "example/c++");
    const std::string text = "hello from C++";
    char got[64];
    size_t len = 0;
    must(shmipc_send(pub.get(), text.data(), text.size(), 0));
    must(shmipc_recv(sub.get(), got, sizeof got, &len, 1000000000));
    std::printf("sockets.cc: %.*s\n", static_cast<int>(len), got);
    return std::string(got, len) != text;
}
