"""REQ/REP across processes."""

import os
import threading
import time

import pytest

import shmipc

DOUBLER = """
with shmipc.Replier("svc") as rep:
    say("ready")
    for x in rep:
        if x == "end":
            rep.send("bye")
            break
        rep.send(x * 2)
"""


@pytest.fixture
def doubler(child):
    c = child(DOUBLER)
    assert c.line() == "ready"
    return c


def test_S26_S29_S30_S31_exchanges(doubler):
    with shmipc.Requester("svc") as req:
        for i in range(5):
            req.send(i)
            assert req.recv(timeout=20, default=shmipc.RAISE) == 2 * i
        req.send_bytes(b"ab")
        assert req.recv_bytes(timeout=20) == b"abab"
        req.send(bytes(2_000_000))
        assert req.recv(timeout=20) == bytes(4_000_000)
        assert req.request("end", timeout=20) == "bye"
    doubler.end()


def test_S27_S32_many_exchanges_on_one_pair(doubler):
    with shmipc.Requester("svc") as req:
        for i in range(1000000 if os.environ.get("FULL") else 5000):
            assert req.request(i) == 2 * i
        req.request("end")
    doubler.end()


def test_S28_S33_a_timed_out_request_never_poisons_the_next(child):
    slow = child("""
with shmipc.Replier("svc") as rep:
    say("ready")
    x = rep.recv()
    hear()
    rep.send("late answer to %s" % x)
    rep.send("answer to %s" % rep.recv())
""")
    assert slow.line() == "ready"
    with shmipc.Requester("svc") as req:
        with pytest.raises(shmipc.SHMTimeoutError) as e:
            req.request("first", timeout=0.1)
        assert isinstance(e.value, TimeoutError) and "svc" in str(e.value)
        slow.tell()
        assert req.request("second", timeout=20) == "answer to second"
    slow.end()


def test_S34_requesters_get_only_their_own_replies(child):
    rep = child("""
with shmipc.Replier("svc") as rep:
    for _ in range(4 * 500): rep.send(rep.recv(timeout=25))
""")
    clients = [
        child(
            """
with shmipc.Requester("svc") as req:
    for i in range(500):
        assert req.request((%d, i), timeout=25) == (%d, i)
"""
            % (n, n)
        )
        for n in range(4)
    ]
    for c in clients:
        c.end()
    rep.end()


def test_S35_a_new_requester_never_sees_an_older_ones_reply():
    with shmipc.Replier("svc") as rep:
        with shmipc.Requester("svc") as old:
            old.send("old")
            assert rep.recv(timeout=5) == "old"
        with shmipc.Requester("svc") as new:
            rep.send("for the old one")
            new.send("new")
            assert new.recv(timeout=0) is None
            assert rep.recv(timeout=5) == "new"
            rep.send("for the new one")
            assert new.recv(timeout=5) == "for the new one"


def test_a_second_send_abandons_the_first():
    with shmipc.Replier("svc") as rep, shmipc.Requester("svc") as req:
        req.send(1)
        req.send(2)
        got = rep.recv(timeout=5)
        rep.send(got)
        if got == 1:
            assert req.recv(timeout=0) is None
            rep.send(rep.recv(timeout=5))
        assert req.recv(timeout=5) == 2


def test_S36_a_reply_without_a_request_is_a_state_error():
    with shmipc.Replier("svc") as rep, shmipc.Requester("svc") as req:
        with pytest.raises(shmipc.SHMStateError):
            rep.send(1)
        with pytest.raises(shmipc.SHMStateError):
            req.recv(timeout=0)
        req.send(1)
        assert rep.recv(timeout=5) == 1
        with pytest.raises(shmipc.SHMStateError):
            rep.recv(timeout=0)
        rep.send(2)
        assert req.recv(timeout=5) == 2


def test_S37_S60_C13_a_killed_replier_is_an_error_and_a_restarted_one_works(child):
    dies = child("""
rep = shmipc.Replier("svc")
say("ready")
rep.recv()
say("got it")
hear()
""")
    assert dies.line() == "ready"
    with shmipc.Requester("svc") as req:
        req.send("x")
        assert dies.line() == "got it"
        killer = threading.Timer(0.1, dies.process.kill)
        killer.start()
        with pytest.raises(shmipc.SHMConnectionError):
            req.recv(timeout=20)
        killer.join()
        again = child(DOUBLER)
        assert again.line() == "ready"
        assert req.request(4, timeout=20) == 8  # and "x" was not executed again: it would be answered first
        req.request("end")
        again.end()


def test_S60_a_killed_requester_is_forgotten(child, until):
    client = child("""
req = shmipc.Requester("svc")
req.send("from the dead")
say("sent")
hear()
""")
    with shmipc.Replier("svc") as rep:
        assert client.line() == "sent"
        assert rep.recv(timeout=20) == "from the dead"
        client.kill()
        assert rep.send("nobody hears it") is True
        until(lambda: rep.stats()["peers"] == 0)
        with shmipc.Requester("svc") as req:
            req.send(1)
            assert rep.recv(timeout=20) == 1
            rep.send(2)
            assert req.recv(timeout=5) == 2


def test_arrays_both_ways():
    np = pytest.importorskip("numpy")
    with shmipc.Replier("svc") as rep, shmipc.Requester("svc") as req:
        for n in (1, 1000, 300000):
            req.send(np.arange(n))
            x = rep.recv(timeout=5, copy=False)
            rep.send({"twice": x * 2})
            assert (req.recv(timeout=5)["twice"] == 2 * np.arange(n)).all()
            assert (x == np.arange(n)).all()  # the request was copied: it is still there after the answer


def test_S12_request_waits_its_time():
    with shmipc.Requester("svc") as req:
        begin = time.monotonic()
        with pytest.raises(shmipc.SHMTimeoutError):
            req.request(1, timeout=0.12)
        assert time.monotonic() - begin >= 0.12
