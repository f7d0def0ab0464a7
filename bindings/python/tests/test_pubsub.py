"""PUB/SUB across processes."""

import multiprocessing
import os
import signal
import time

import pytest

import shmipc

ECHO = """
with shmipc.Subscriber("echo") as sub, shmipc.Publisher("back") as pub:
    say("ready")
    for data in sub:
        if data == "end": break
        pub.send(data)
"""


def test_S1_S2_one_name_and_sensible_defaults():
    with shmipc.Publisher("a") as pub, shmipc.Subscriber(name="a") as sub:
        assert (pub.name, sub.name) == ("a", "a")
        assert pub.stats()["depth"] == 64 and pub.stats()["max_message"] == 16 << 20


VALUES = [
    None,
    False,
    0,
    "",
    b"",
    1,
    2.5,
    "t\u00e4xt",
    b"\0\xff",
    [1, (2, 3)],
    {1: "a", "b": {2}},
    frozenset((1,)),
    10**30,
    complex(1, 2),
    range(3),
    ValueError("x").args,
]


def test_S11_S23_S25_every_value_comes_back_equal_and_of_the_same_type(child):
    with shmipc.Publisher("echo") as pub, shmipc.Subscriber("back") as sub:
        echo = child(ECHO)
        assert echo.line() == "ready"
        for value in VALUES:
            pub.send(value)
            got = sub.recv(timeout=20, default=shmipc.RAISE)
            assert got == value and type(got) is type(value)
        pub.send("end")
        echo.end()


def test_S12_a_timed_recv_returns_no_earlier():
    with shmipc.Subscriber("a") as sub:
        begin = time.monotonic()
        assert sub.recv(timeout=0.12, default="nothing") == "nothing"
        assert time.monotonic() - begin >= 0.12
        assert sub.recv(timeout=0) is None


def test_C2_a_received_None_is_told_apart_by_default():
    with shmipc.Publisher("a") as pub, shmipc.Subscriber("a") as sub:
        pub.send(None)
        assert sub.recv(timeout=1, default="nothing") is None
        assert sub.recv(timeout=0, default="nothing") == "nothing"
        with pytest.raises(shmipc.SHMTimeoutError) as e:
            sub.recv(timeout=0.01, default=shmipc.RAISE)
        assert isinstance(e.value, TimeoutError) and "'a'" in str(e.value)


def test_S13_S66_order_and_a_burst_within_the_depth(child):
    with shmipc.Subscriber("burst") as sub:
        sender = child("""
with shmipc.Publisher("burst", depth=16384) as pub:
    for i in range(10000): pub.send(i)
""")
        assert [sub.recv(timeout=20, default=shmipc.RAISE) for _ in range(10000)] == list(range(10000))
        sender.end()


def test_S14_a_late_subscriber_gets_later_messages_or_history():
    with shmipc.Publisher("a") as pub:
        for i in range(10):
            pub.send(i)
        with shmipc.Subscriber("a") as late, shmipc.Subscriber("a", history=3) as some:
            pub.send("new")
            assert late.recv(timeout=5) == "new"
            assert [some.recv(timeout=5) for _ in range(4)] == [7, 8, 9, "new"]


def test_S15_S24_many_publishers_and_subscribers(child):
    readers = [
        child("""
with shmipc.Subscriber("many") as sub:
    say("ready")
    last = {}
    for _ in range(300):
        who, n = sub.recv(timeout=25, default=shmipc.RAISE)
        assert n == last.get(who, -1) + 1, (who, n, last)
        last[who] = n
    say(len(last))
""")
        for _ in range(3)
    ]
    for r in readers:
        assert r.line() == "ready"
    pubs = [shmipc.Publisher("many") for _ in range(10)]
    for n in range(30):
        for who, pub in enumerate(pubs):
            pub.send((who, n))
    for r in readers:
        assert r.end() == ["10"]
    for pub in pubs:
        pub.close()


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 304, 305, 4096, 65536, 10_000_000])
def test_S16_S17_raw_bytes_are_exact_in_every_size(size):
    data = os.urandom(min(size, 4096)) * (size // 4096 + 1)
    with shmipc.Publisher("a") as pub, shmipc.Subscriber("a") as sub:
        pub.send_bytes(data[:size])
        pub.send_bytes(bytearray(data[:size]))
        pub.send_bytes(memoryview(data)[:size])
        for _ in range(3):
            assert sub.recv_bytes(timeout=5) == data[:size]


def test_S18_C5_oversize_names_limit_and_option():
    with shmipc.Publisher("a", max_message=1000) as pub:
        with pytest.raises(shmipc.SHMMessageSizeError) as e:
            pub.send_bytes(bytes(1001))
        assert isinstance(e.value, ValueError) and "1000" in str(e.value) and "max_message" in str(e.value)
        with pytest.raises(shmipc.SHMMessageSizeError):
            pub.send_bytes(bytearray(100_000))
        assert pub.send_bytes(bytes(1000)) is True


def test_S19_statistics_count():
    with shmipc.Publisher("a") as pub, shmipc.Subscriber("a") as sub:
        for _ in range(5):
            pub.send_bytes(b"12345678")
        assert sub.recv_bytes(timeout=5) == b"12345678"
        sent, got = pub.stats(), sub.stats()
        assert (sent["sent"], sent["bytes_sent"], sent["peers"], sent["capacity"]) == (5, 40, 1, 64)
        assert (got["received"], got["bytes_received"], got["queued"], got["dropped"], got["errors"]) == (1, 8, 4, 0, 0)
        assert {p.role for p in sub.peers()} == {"Publisher", "Subscriber"} and all(
            p.pid == os.getpid() for p in sub.peers()
        )


def test_S20_S21_S22_send_never_waits_and_loss_is_counted_exactly():
    with shmipc.Publisher("a", depth=8) as pub, shmipc.Subscriber("a") as sub:
        assert all(pub.send(i) is True for i in range(100))
        got = []
        while True:
            x = sub.recv(timeout=0)
            if x is None:
                break
            got.append(x)
        assert got == sorted(set(got)) and got[-1] == 99
        assert len(got) + sub.missed == 100


def test_S20_a_stopped_subscriber_delays_nobody(child):
    stopped = child("""
with shmipc.Subscriber("a") as sub:
    say("ready")
    sub.recv()
    say("one")
    hear()
""")
    assert stopped.line() == "ready"
    with shmipc.Publisher("a", depth=8) as pub, shmipc.Subscriber("a") as sub:
        pub.send(0)
        assert stopped.line() == "one" and sub.recv(timeout=5) == 0
        os.kill(stopped.pid, signal.SIGSTOP)
        for i in range(200):
            pub.send((i, bytes(2000)))
            assert sub.recv(timeout=5) == (i, bytes(2000))
        os.kill(stopped.pid, signal.SIGCONT)


def test_C12_latest_keeps_only_the_newest():
    with shmipc.Publisher("a") as pub, shmipc.Subscriber("a", latest=True) as sub:
        for i in range(10):
            pub.send(i)
        assert sub.recv(timeout=5) == 9
        assert sub.recv(timeout=0, default="nothing") == "nothing"


def test_topics_filter_by_prefix():
    with (
        shmipc.Publisher("a") as pub,
        shmipc.Subscriber("a", topics=["arm/", b"leg"]) as sub,
        shmipc.Subscriber("a") as everything,
    ):
        pub.send(1, topic="arm/left")
        pub.send(2, topic="head")
        pub.send(3, topic=b"legs")
        pub.send_bytes(b"4")
        assert [sub.recv(timeout=5), sub.recv(timeout=5), sub.recv(timeout=0)] == [1, 3, None]
        assert [everything.recv(timeout=5) for _ in range(4)] == [1, 2, 3, b"4"]


def test_S3_timeout_connect_raises_about_then():
    begin = time.monotonic()
    with pytest.raises(shmipc.SHMConnectionError) as e:
        shmipc.Subscriber("nobody", timeout_connect=0.2)
    assert isinstance(e.value, ConnectionError) and "nobody" in str(e.value)
    assert time.monotonic() - begin >= 0.2


def test_S3_timeout_connect_is_content_with_a_publisher_that_comes(child):
    pub = child("""
hear()
with shmipc.Publisher("late") as pub:
    say("up")
    hear()
""")
    pub.tell()
    with shmipc.Subscriber("late", timeout_connect=25):
        assert pub.line() == "up"
    pub.tell()
    pub.end()


def test_S4_S10_either_side_first_and_a_restarted_publisher_is_simply_there(child):
    with shmipc.Subscriber("a") as sub:
        for run in range(3):
            pub = child("with shmipc.Publisher('a') as pub: pub.send(%d)" % run)
            assert sub.recv(timeout=20) == run
            pub.end()


def test_S5_S58_C3_gone_after_the_last_close():
    with shmipc.Publisher("a") as pub, shmipc.Subscriber("a") as sub:
        pub.send(1)
        pub.close()
        assert sub.recv(timeout=1) == 1  # what was in the lane can still be read
        assert [s.name for s in shmipc.list_segments()] == ["a"]
    assert shmipc.list_segments() == []
    with shmipc.Publisher("a"), shmipc.Subscriber("a", history=5) as sub:
        assert sub.recv(timeout=0) is None


@pytest.mark.parametrize(
    "name", ["robot/pose", "two words", "\u540d\u524d", "x" * 230, "a.b-c_d", "%41", "..", "./x", "tab\there"]
)
def test_S6_any_name_works(name):
    with shmipc.Publisher(name) as pub, shmipc.Subscriber(name) as sub:
        pub.send(1)
        assert sub.recv(timeout=5) == 1
        assert [s.name for s in shmipc.list_segments()] == [name]


def test_S7_S60_S61_a_killed_publisher_leaves_the_channel_working(child, until):
    pub = child("""
pub = shmipc.Publisher("a")
say("up")
while True: pub.send(bytes(5000))
""")
    assert pub.line() == "up"
    with shmipc.Subscriber("a") as sub:
        assert sub.recv(timeout=20) == bytes(5000)
        pub.kill()
        while sub.recv(timeout=0.05) is not None:
            pass
        until(lambda: sub.stats()["peers"] == 0)
        with shmipc.Publisher("a") as again:
            again.send("new")
            assert sub.recv(timeout=20) == "new"


def test_S8_C4_opening_over_a_living_owner_joins_or_names_both_values():
    with shmipc.Publisher("a", depth=32) as one, shmipc.Publisher("a") as two, shmipc.Subscriber("a") as sub:
        assert two.stats()["depth"] == 32
        with pytest.raises(shmipc.SHMConnectionError) as e:
            shmipc.Publisher("a", depth=128)
        assert "32" in str(e.value) and "128" in str(e.value)
        one.send(1)
        assert sub.recv(timeout=5) == 1
        two.send(2)
        assert sub.recv(timeout=5) == 2


def test_S9_list_and_force_unlink():
    assert shmipc.force_unlink("a") is False
    with shmipc.Publisher("a"):
        (info,) = shmipc.list_segments()
        assert (info.name, info.kind, info.users, info.status) == ("a", "pubsub", 1, 0)
        assert shmipc.force_unlink("a") is True
        assert shmipc.list_segments() == []
        with shmipc.Publisher("a") as fresh, shmipc.Subscriber("a") as sub:
            fresh.send("fresh")
            assert sub.recv(timeout=5) == "fresh"


def test_S59_a_subscriber_that_exits_leaves_the_channel_working(child):
    with shmipc.Publisher("a") as pub, shmipc.Subscriber("a") as sub:
        for _ in range(2):
            other = child("""
sub = shmipc.Subscriber("a")
say("ready")
say(sub.recv())
""")
            assert other.line() == "ready"
            pub.send("x")
            assert other.end() == ["x"] and sub.recv(timeout=5) == "x"
        assert pub.stats()["peers"] == 1


def _answer(name):
    with shmipc.Subscriber(name) as sub, shmipc.Publisher(name + "/back") as pub:
        pub.send("up")
        pub.send(sub.recv() * 2)


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_S25_S63_multiprocessing(method):
    context = multiprocessing.get_context(method)
    with shmipc.Publisher("m") as pub, shmipc.Subscriber("m/back") as back:
        process = context.Process(target=_answer, args=("m",))
        process.start()
        assert back.recv(timeout=25) == "up"
        pub.send(21)
        assert back.recv(timeout=25) == 42
        process.join(20)
        assert process.exitcode == 0


def test_send_many_and_recv_many():
    with shmipc.Publisher("a") as pub, shmipc.Subscriber("a") as sub:
        assert pub.send_many(["a", b"b", {"c": 1}]) == 3
        assert sub.recv_many(10, timeout=5) == ["a", b"b", {"c": 1}]
        assert sub.recv_many(10, timeout=0) == []
        assert pub.send_many([]) == 0
        with pytest.raises(shmipc.SHMValueError):
            sub.recv_many(0)


def test_recv_into():
    with shmipc.Publisher("a") as pub, shmipc.Subscriber("a") as sub:
        pub.send_bytes(b"0123456789")
        small, room = bytearray(4), bytearray(16)
        with pytest.raises(shmipc.SHMMessageSizeError):
            sub.recv_into(small, timeout=5)
        assert sub.recv_into(room, timeout=5) == 10 and room[:10] == b"0123456789"
        assert sub.recv_into(room, timeout=0, default=-1) == -1
        with pytest.raises(TypeError):
            sub.recv_into(b"read-only")


def test_iteration_ends_when_another_thread_closes():
    import threading

    sub = shmipc.Subscriber("a")
    with shmipc.Publisher("a") as pub:
        pub.send(1)
        pub.send(2)
        got = []
        for x in sub:
            got.append(x)
            if x == 2:
                threading.Timer(0.1, sub.close).start()
        assert got == [1, 2] and sub.closed
