"""Closing, forking, threads, signals, leaks, logging, and what bad input gets."""

import inspect
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest

import shmipc

ALL = [shmipc.Publisher, shmipc.Subscriber, shmipc.Pusher, shmipc.Puller, shmipc.Requester, shmipc.Replier]


@pytest.mark.parametrize("kind", ALL)
def test_S56_use_after_close_is_a_library_error(kind):
    s = kind("a")
    s.close()
    s.close()
    assert s.closed and "closed" in repr(s) and s.name == "a"
    calls = [s.stats, s.peers, s.fileno]
    if hasattr(s, "send"):
        calls += [
            lambda: s.send(1),
            lambda: s.send_bytes(b"1"),
            lambda: s.send_bytes(bytearray(5000)),
            lambda: s.loan(5).__enter__(),
        ]
    if hasattr(s, "recv"):
        calls += [s.recv, lambda: s.recv(timeout=0), s.recv_bytes, lambda: s.recv_into(bytearray(5))]
    for call in calls:
        with pytest.raises(shmipc.SHMClosedError):
            call()
    assert [x for x in s] == [] if hasattr(s, "recv") else True


def test_C10_the_tree_of_errors():
    for name, builtin in (
        ("SHMConnectionError", ConnectionError),
        ("SHMTimeoutError", TimeoutError),
        ("SHMValueError", ValueError),
        ("SHMMessageSizeError", ValueError),
        ("MemoryFullError", MemoryError),
        ("SHMTypeError", TypeError),
        ("SHMPermissionError", PermissionError),
        ("SHMStateError", RuntimeError),
    ):
        kind = getattr(shmipc, name)
        assert issubclass(kind, shmipc.SHMError) and issubclass(kind, builtin)
        assert str(kind("text")) == "text"
    assert shmipc.SerializationError is shmipc.SHMSerializationError
    assert issubclass(shmipc.SHMClosedError, shmipc.SHMStateError)


@pytest.mark.parametrize(
    "name, error",
    [
        ("", ValueError),
        (5, TypeError),
        (None, TypeError),
        (b"a", TypeError),
        ("a\0b", ValueError),
        ("\ud800", ValueError),
        ("x" * 5000, ValueError),
    ],
)
def test_bad_names(name, error):
    for kind in ALL:
        with pytest.raises(error) as e:
            kind(name)
        assert isinstance(e.value, shmipc.SHMError)


def test_C1_bad_times_and_options():
    with shmipc.Subscriber("a") as sub:
        for call in (sub.recv, sub.recv_bytes, lambda t: sub.recv_many(1, t), lambda t: shmipc.poll([sub], t)):
            with pytest.raises(ValueError):
                call(-1)
            with pytest.raises(ValueError):
                call(float("nan"))
            with pytest.raises(TypeError):
                call("1")
    for options in (
        {"depth": -1},
        {"depth": 10**12},
        {"depth": "8"},
        {"max_message": 10**18},
        {"codec": "nonsense"},
        {"codec": (1, 2)},
    ):
        with pytest.raises(ValueError) as e:
            shmipc.Publisher("b", **options)
        assert isinstance(e.value, shmipc.SHMError)
    with pytest.raises(TypeError):
        shmipc.Publisher("b", nonsense=1)
    with pytest.raises(TypeError):
        shmipc.Subscriber("b", topics=[1])
    assert shmipc.list_segments() == []


def test_another_pattern_under_the_name():
    with shmipc.Publisher("a"):
        with pytest.raises(shmipc.SHMConnectionError) as e:
            shmipc.Pusher("a")
        assert "'a'" in str(e.value) or '"a"' in str(e.value)


def test_S51_a_foreign_directory_or_segment(scope, tmp_path):
    os.chmod(scope, 0o755)
    try:
        with pytest.raises(shmipc.SHMConnectionError):
            shmipc.Publisher("a", directory=str(tmp_path / "absent" / "deep"))
        folder = tmp_path / "open"
        folder.mkdir()
        os.chmod(folder, 0o777)
        with pytest.raises(PermissionError) as e:
            shmipc.Publisher("a", directory=str(folder))
        assert isinstance(e.value, shmipc.SHMError)
    finally:
        os.chmod(scope, 0o700)


def test_S63_sockets_of_the_parent_are_errors_in_a_forked_child():
    with shmipc.Publisher("a") as pub, shmipc.Subscriber("a") as sub:
        pub.send("for the parent")
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for call in (lambda: pub.send(1), lambda: sub.recv(timeout=0), sub.stats):
                    with pytest.raises(shmipc.SHMConnectionError):
                        call()
                with shmipc.Publisher("a") as own:
                    own.send("from the child")
                pub.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert [sub.recv(timeout=10), sub.recv(timeout=10)] == ["for the parent", "from the child"]


def test_S63_fork_while_another_thread_waits():
    with shmipc.Subscriber("a") as sub, shmipc.Publisher("a") as pub:
        got = []
        thread = threading.Thread(target=lambda: got.append(sub.recv(timeout=20)))
        thread.start()
        time.sleep(0.05)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                with pytest.raises(shmipc.SHMConnectionError):
                    sub.recv(timeout=0)
                sub.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        pub.send("x")
        thread.join()
        assert got == ["x"]


@pytest.mark.parametrize("wait", ["recv()", "recv(timeout=100)", "take()", "recv_into(bytearray(9))", "recv_many(3)"])
def test_ctrl_c_ends_any_wait(child, wait):
    waits = child(
        """
with shmipc.Puller("a") as s:
    say("ready")
    try: s.%s
    except KeyboardInterrupt: say("interrupted")
"""
        % wait
    )
    assert waits.line() == "ready"
    time.sleep(0.05)
    os.kill(waits.pid, signal.SIGINT)
    assert waits.line() == "interrupted"
    waits.end()


@pytest.mark.parametrize(
    "wait",
    [
        "shmipc.poll([shmipc.Subscriber('a')])",
        "shmipc.Requester('r').request(1, timeout=100)",
        "shmipc.Subscriber('a', timeout_connect=100)",
        "[p.send(1) for p in [shmipc.Pusher('p', depth=4, linger=0)] for _ in range(9)]",
    ],
)
def test_ctrl_c_ends_the_other_waits(child, wait):
    waits = child(
        """
say("ready")
try: %s
except KeyboardInterrupt: say("interrupted")
"""
        % wait
    )
    assert waits.line() == "ready"
    time.sleep(0.1)
    os.kill(waits.pid, signal.SIGINT)
    assert waits.line() == "interrupted"
    waits.end()


def test_a_handler_that_returns_does_not_end_a_wait():
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda *a: seen.append(1))
    try:
        with shmipc.Subscriber("a") as sub, shmipc.Publisher("a") as pub:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            threading.Timer(0.2, pub.send, ("x",)).start()
            assert sub.recv(timeout=20) == "x" and seen == [1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_threads_take_turns_on_one_socket():
    with shmipc.Pusher("q") as push, shmipc.Puller("q") as pull:
        got, lock = [], threading.Lock()

        def work():
            while True:
                x = pull.recv()
                if x is None:
                    return
                with lock:
                    got.append(x)

        def feed(n):
            for i in range(100):
                push.send((n, i))

        workers = [threading.Thread(target=work) for _ in range(3)]
        feeders = [threading.Thread(target=feed, args=(n,)) for n in range(3)]
        for t in workers + feeders:
            t.start()
        for t in feeders:
            t.join()
        for _ in workers:
            push.send(None)
        for t in workers:
            t.join()
        assert sorted(got) == sorted((n, i) for n in range(3) for i in range(100))


def test_close_by_another_thread_ends_a_wait():
    for kind in (shmipc.Subscriber, shmipc.Puller, shmipc.Replier):
        s = kind("a")
        threading.Timer(0.05, s.close).start()
        with pytest.raises(shmipc.SHMClosedError):
            s.recv()


def test_a_dropped_socket_closes_itself():
    s = shmipc.Publisher("a")
    gone = weakref.ref(s)
    del s
    assert gone() is None and shmipc.list_segments() == []


def test_S58_nothing_is_left_by_a_process_that_closes_nothing(child):
    child("""
import threading
s = [shmipc.Publisher("a"), shmipc.Subscriber("a"), shmipc.Replier("b")]
s[0].send(bytes(100000))
view = s[1].recv(copy=False)
threading.Thread(target=s[2].recv, daemon=True).start()
""").end()
    assert shmipc.gc() >= 0 and shmipc.list_segments() == []


def test_poll_over_many_sockets(child):
    with (
        shmipc.Subscriber("a") as a,
        shmipc.Puller("b") as b,
        shmipc.Pusher("c", depth=4, linger=0) as c,
        shmipc.Replier("d") as d,
    ):
        assert shmipc.poll([a, b, d], timeout=0.05) == []
        assert shmipc.poll([a, (c, shmipc.OUT)], timeout=5) == [(c, shmipc.OUT)]
        for _ in range(4):
            c.send(1)
        assert shmipc.poll([(c, shmipc.OUT)], timeout=0) == []
        other = child("with shmipc.Pusher('b') as p: p.send(1)\nshmipc.Requester('d').request(2, timeout=25)")
        assert shmipc.poll([a, b, (c, shmipc.OUT)], timeout=20) == [(b, shmipc.IN)]
        assert b.recv(timeout=0) == 1
        assert shmipc.poll([a, b, d], timeout=20) == [(d, shmipc.IN)]
        d.send(d.recv())
        other.end()
        for bad in ([], [5], [(a, 9)], [(a, 1, 2)]):
            with pytest.raises((shmipc.SHMError)):
                shmipc.poll(bad, timeout=0)


def test_S57_logging(caplog, capfd):
    with caplog.at_level(logging.DEBUG, "shmipc"):
        with shmipc.Pusher("q", depth=16, linger=0) as push:
            for _ in range(16):
                push.send(b"x")
    assert any("16" in r.message or "15" in r.message for r in caplog.records if r.levelno == logging.WARNING)
    assert any(r.levelno == logging.DEBUG and "1 bytes" in r.message for r in caplog.records)
    assert {r.name.split(".")[0] for r in caplog.records} == {"shmipc"}
    caplog.clear()
    with shmipc.Publisher("a", depth=8) as pub, shmipc.Subscriber("a") as sub:
        for i in range(300):
            pub.send(i)
            if i > 100:
                sub.recv(timeout=0)
    assert sum("overwritten" in r.message for r in caplog.records) == 1
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_S62_no_growth_of_memory_or_descriptors():
    with (
        shmipc.Publisher("a") as pub,
        shmipc.Subscriber("a") as sub,
        shmipc.Pusher("b") as push,
        shmipc.Puller("b") as pull,
    ):

        def some(n):
            for i in range(n):
                pub.send({"i": i})
                sub.recv(timeout=0)
                push.send_bytes(bytes(5000))
                pull.recv(timeout=0, copy=False)
                push.send([memoryview(b"x" * 500).toreadonly().tobytes(), i])
                pull.recv(timeout=0)

        some(2000)
        before, fds = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(os.listdir("/proc/self/fd"))
        some(6000)
        for _ in range(50):
            shmipc.Subscriber("a").close()
            shmipc.Requester("c")
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert len(os.listdir("/proc/self/fd")) == fds
        assert after - before < 2048  # KiB


def test_every_public_name_is_documented_and_typed():
    import typing

    for name in shmipc.__all__:
        thing = getattr(shmipc, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__, name
        if inspect.isclass(thing) and issubclass(thing, shmipc.Socket):
            for method, f in inspect.getmembers(thing, inspect.isfunction):
                if not method.startswith("_"):
                    assert f.__doc__, "%s.%s" % (name, method)
                    assert "return" in typing.get_type_hints(f), "%s.%s" % (name, method)


def test_import_does_not_need_numpy_and_prints_nothing():
    code = """
import sys; sys.modules["numpy"] = None; import shmipc
with shmipc.Pusher("a") as p, shmipc.Puller("a") as q: p.send({1}); q.recv()
"""
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
