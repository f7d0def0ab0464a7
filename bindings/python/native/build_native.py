"""Builds shmipc._native: cffi's module over the headers themselves, and in the same file the Handle of handle.c.

The declarations are what stands between the cdef markers of the headers; nothing is typed twice. The headers lie two
folders above in the repository, and in headers/ in a source distribution.
"""

import os
import re
import sysconfig

import cffi

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = os.path.dirname(HERE)
HEADERS = ["shmipc.h", "shmipc_socket.h", "shmipc_crypto.h"]
WARNINGS = "-Wall -Wextra -Wshadow -Wundef -Wno-unused-parameter -Werror".split()
LIMITED_API = "0x03090000"


def header_dir():
    for folder in (os.path.join(PACKAGE, "headers"), os.path.dirname(os.path.dirname(PACKAGE))):
        if all(os.path.exists(os.path.join(folder, name)) for name in HEADERS):
            return folder
    raise FileNotFoundError(
        "the headers %s are neither in headers/ nor two folders above bindings/python" % ", ".join(HEADERS)
    )


def declarations(folder):
    """What the markers of all headers enclose."""
    text = ""
    for name in HEADERS:
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            text += "\n".join(re.findall(r"/\* SHMIPC_CDEF_BEGIN \*/(.*?)/\* SHMIPC_CDEF_END \*/", f.read(), re.S))
    return text.replace("SHMIPC_API ", "")


def free_threaded():
    return bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def make():
    folder = header_dir()
    ffi = cffi.FFI()
    ffi.cdef(declarations(folder))
    with open(os.path.join(HERE, "handle.c"), encoding="utf-8") as f:
        handle = f.read()
    ffi.set_source(
        "shmipc._native",
        "#define SHMIPC_IMPLEMENTATION\n#define SHMIPC_STATIC\n#include <time.h>\n"
        + "".join('#include "%s"\n' % name for name in HEADERS)
        + handle,
        include_dirs=[folder],
        depends=[os.path.join(folder, name) for name in HEADERS] + [os.path.join(HERE, "handle.c")],
        define_macros=[] if free_threaded() else [("Py_LIMITED_API", LIMITED_API)],
        extra_compile_args=["-O2", "-fno-strict-aliasing"] + WARNINGS,
        extra_link_args=["-pthread"],
        py_limited_api=not free_threaded(),
    )
    return ffi


ffibuilder = make()

if __name__ == "__main__":
    print(declarations(header_dir()))
