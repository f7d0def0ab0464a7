"""The examples and the Python snippets of the documentation run, and say what they promise."""

import glob
import os
import re
import subprocess
import sys

import pytest

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", ".."))
PAGES = ["README.md", "bindings/python/README.md"] + sorted(
    os.path.relpath(p, ROOT) for p in glob.glob(ROOT + "/docs/*.md")
)


def snippets():
    for page in PAGES:
        with open(os.path.join(ROOT, page), encoding="utf-8") as f:
            text = f.read()
        for match in re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S):
            yield pytest.param(match.group(1), id="%s:%d" % (page, text.count("\n", 0, match.start()) + 2))


def run(arguments):
    pytest.importorskip("numpy")
    done = subprocess.run([sys.executable, "-W", "error", *arguments], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("code", list(snippets()))
def test_snippets_of_the_documentation_run(code):
    run(["-c", code])


def test_S1_S67_the_readme_shows_each_pattern_in_under_ten_lines():
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
        codes = re.findall(r"^```python\n(.*?)^```", f.read(), re.M | re.S)
    for kind in ("Publisher", "Pusher", "Requester"):
        assert any(kind in code and len(code.splitlines()) < 10 for code in codes)


@pytest.mark.parametrize("path", sorted(glob.glob(ROOT + "/examples/python/*.py")), ids=os.path.basename)
def test_S67_examples_run(path):
    assert run([path])
