"""What is installed, and the source distribution."""

import glob
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile

import pytest

import shmipc

PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
ROOT = os.path.join(PACKAGE, "..", "..")


def test_version_is_that_of_the_header_and_the_metadata():
    from importlib.metadata import version

    with open(os.path.join(ROOT, "shmipc.h"), encoding="utf-8") as f:
        text = f.read()
    parts = [re.search(r"#define SHMIPC_VERSION_%s (\d+)" % p, text).group(1) for p in ("MAJOR", "MINOR", "PATCH")]
    assert version("shmipc") == shmipc.__version__ == ".".join(parts)


def test_one_module_for_all_versions_of_python():
    from shmipc import _native

    expected = sysconfig.get_config_var("EXT_SUFFIX") if sysconfig.get_config_var("Py_GIL_DISABLED") else ".abi3.so"
    assert _native.__file__.endswith(expected)
    assert os.path.exists(os.path.join(os.path.dirname(_native.__file__), "py.typed"))


def test_every_public_function_of_the_sockets_can_be_reached():
    from shmipc._core import lib

    with open(os.path.join(ROOT, "shmipc_socket.h"), encoding="utf-8") as f:
        (block,) = re.findall(r"/\* SHMIPC_CDEF_BEGIN \*/(.*?)/\* SHMIPC_CDEF_END \*/", f.read(), re.S)
    names = re.findall(r"SHMIPC_API [^;{}()]*\b(shmipc_\w+)\(", block)
    assert len(names) > 20 and [n for n in names if not hasattr(lib, n)] == []


def build_sdist(out):
    source = out / "source" / "bindings" / "python"  # a copy, so that the build leaves nothing in the repository
    shutil.copytree(
        PACKAGE, source, ignore=shutil.ignore_patterns("*.so", "build", "dist", "*.egg-info", "__pycache__")
    )
    for header in glob.glob(os.path.join(ROOT, "shmipc*.h")):
        shutil.copy(header, out / "source")
    run = subprocess.run(
        [sys.executable, "setup.py", "-q", "sdist", "-d", str(out)], cwd=source, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    (archive,) = out.glob("*.tar.gz")
    return archive


def test_the_source_distribution_carries_the_headers(tmp_path):
    archive = build_sdist(tmp_path)
    with tarfile.open(archive) as tar:
        names = {n.split("/", 1)[1] for n in tar.getnames() if "/" in n}
    assert {
        "headers/shmipc.h",
        "headers/shmipc_socket.h",
        "headers/shmipc_crypto.h",
        "native/handle.c",
        "src/shmipc/py.typed",
        "pyproject.toml",
    } <= names


@pytest.mark.skipif(not os.environ.get("FULL"), reason="compiles everything twice: FULL=1")
def test_the_source_distribution_builds_and_runs_without_network(tmp_path):
    archive = build_sdist(tmp_path)
    target = tmp_path / "installed"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-index",
            "--no-deps",
            "--no-build-isolation",
            "--target",
            str(target),
            str(archive),
        ],
        check=True,
    )
    code = """
import shmipc
with shmipc.Pusher("a") as p, shmipc.Puller("a") as q: p.send(1); print(q.recv(), shmipc.__file__)
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=dict(os.environ, PYTHONPATH=str(target)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["1", str(target / "shmipc" / "__init__.py")]
