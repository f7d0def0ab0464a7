"""Every test has a directory of its own, leaves nothing in it, and is reported under the statement it is named for."""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

LIMIT_S = (600 if os.environ.get("FULL") else 60) * float(
    os.environ.get("CHECK_SLOW", "1")
)  # a hang, never a measure of speed
OWN = re.compile(r"^(registry|%2eshmipc%2f.*)$")


@pytest.fixture(autouse=True)
def scope(monkeypatch):
    """The directory; everything in it but the library's own must be gone after the test (S58)."""
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    folder = tempfile.mkdtemp(prefix="shmipc-pytest-", dir=base)
    monkeypatch.setenv("SHMIPC_DIR", folder)
    yield folder
    import shmipc

    shmipc.gc()
    left = [name for name in os.listdir(folder) if not OWN.match(name)]
    shutil.rmtree(folder)
    assert not left, "left behind: %s" % left


@pytest.fixture(autouse=True)
def limit():
    """A test that hangs fails: the alarm interrupts its wait."""

    def hang(signum, frame):
        raise TimeoutError("the test hangs")

    before = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


class Child:
    """A Python process of its own that runs `code`; lines go both ways: there `say(x)` prints, `hear()` reads."""

    HEAD = (
        "import sys, os, time, shmipc\n"
        "def say(*a): print(*a, flush=True)\n"
        "def hear(): return sys.stdin.readline().strip()\n"
    )

    def __init__(self, code):
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.HEAD + code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    @property
    def pid(self):
        return self.process.pid

    def line(self):
        ready, _, _ = select.select([self.process.stdout], [], [], LIMIT_S)
        assert ready, "the child says nothing"
        return self.process.stdout.readline().strip()

    def tell(self, text=""):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        """Waits for its end: what it still said, each line."""
        out, _ = self.process.communicate(timeout=LIMIT_S)
        assert self.process.returncode == 0, "the child failed with %d" % self.process.returncode
        return out.split("\n")[:-1]


@pytest.fixture
def child():
    """child(code) starts one; all that are left are killed."""
    children = []

    def start(code):
        children.append(Child(code))
        return children[-1]

    yield start
    for c in children:
        if c.process.poll() is None:
            c.kill()
        for stream in (c.process.stdin, c.process.stdout):
            stream.close()


def until(condition):
    """Waits for what another process does."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.002)


@pytest.fixture(name="until")
def until_fixture():
    return until


# ---- the report: one row per statement and test, and the closing line that tools/run-tests reads ----


def pytest_runtest_logreport(report):
    path = os.environ.get("CHECK_REPORT")
    if not path or not (report.when == "call" or (report.when == "setup" and report.skipped)):
        return
    test = report.nodeid.rsplit("::", 1)[-1]
    file = os.path.basename(report.nodeid.split("::")[0])
    status = {"passed": "passed", "failed": "failed", "skipped": "skipped"}[report.outcome]
    with open(path, "a", encoding="utf-8") as f:
        for statement in re.findall(r"(?<=_)[KSPLCI]\d+(?=_|\[|$)", test):
            f.write(
                json.dumps(
                    {"id": statement, "tests": "python/%s:%s" % (file, test), "status": status}, separators=(",", ":")
                )
                + "\n"
            )


def pytest_unconfigure(config):
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and os.environ.get("CHECK_CLOSING"):
        count = {key: len(reporter.stats.get(key, ())) for key in ("passed", "failed", "error", "skipped")}
        print("%d passed, %d failed" % (count["passed"], count["failed"] + count["error"]))
