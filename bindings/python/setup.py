"""The parts of the build that pyproject.toml cannot say: the native module, the version, the headers in an sdist."""

import os
import re
import shutil
import sys

from setuptools import setup
from setuptools.command.sdist import sdist

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "native"))
import build_native  # noqa: E402


def version():
    with open(os.path.join(build_native.header_dir(), "shmipc.h"), encoding="utf-8") as f:
        text = f.read()
    return ".".join(
        re.search(r"#define SHMIPC_VERSION_%s (\d+)" % part, text).group(1) for part in ("MAJOR", "MINOR", "PATCH")
    )


class sdist_with_headers(sdist):
    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        os.makedirs(os.path.join(base_dir, "headers"), exist_ok=True)
        for name in build_native.HEADERS:
            shutil.copy(os.path.join(build_native.header_dir(), name), os.path.join(base_dir, "headers", name))


setup(
    version=version(),
    cffi_modules=["native/build_native.py:ffibuilder"],
    cmdclass={"sdist": sdist_with_headers},
    options={} if build_native.free_threaded() else {"bdist_wheel": {"py_limited_api": "cp39"}},
)
