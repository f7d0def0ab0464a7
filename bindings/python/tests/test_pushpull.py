"""PUSH/PULL across processes."""

import os
import time

import pytest

import shmipc


def test_S38_in_order_objects_and_bytes(child):
    puller = child("""
with shmipc.Puller("q") as pull:
    for _ in range(1000): say(pull.recv(timeout=25))
    say(pull.recv_bytes(timeout=25))
    say(pull.recv(timeout=0, default="nothing"))
""")
    with shmipc.Pusher("q") as push:
        for i in range(1000):
            assert push.send(i) is True
        push.send_bytes(b"raw")
        assert puller.end() == [str(i) for i in range(1000)] + ["b'raw'", "nothing"]


def test_S39_S43_each_item_exactly_once_with_several_on_both_sides(child):
    pullers = [
        child("""
with shmipc.Puller("q") as pull:
    say("ready")
    while True:
        x = pull.recv(timeout=25, default=shmipc.RAISE)
        if x is None: break
        say(x)
""")
        for _ in range(2)
    ]
    for p in pullers:
        assert p.line() == "ready"
    pushers = [
        child(
            """
with shmipc.Pusher("q") as push:
    for i in range(500): push.send((%d, i))
"""
            % who
        )
        for who in range(2)
    ]
    for p in pushers:
        p.end()
    with shmipc.Pusher("q") as push:
        push.send(None)
        push.send(None)
        lines = sum((p.end() for p in pullers), [])
    assert sorted(lines) == sorted(str((w, i)) for w in range(2) for i in range(500))


def test_S40_C3_jobs_of_a_pusher_that_exits_at_once_arrive(child):
    child("with shmipc.Pusher('q') as push:\n    for i in range(10): push.send(i)").end()
    pullers = [
        child("""
with shmipc.Puller("q") as pull:
    while True:
        x = pull.recv(timeout=1)
        if x is None: break
        say(x)
""")
        for _ in range(2)
    ]
    assert sorted(int(x) for p in pullers for x in p.end()) == list(range(10))


def test_S41_C11_full_queue_by_block_and_timeout():
    with shmipc.Pusher("q", depth=4) as push, shmipc.Puller("q") as pull:
        assert [push.send(i, block=False) for i in range(6)] == [True] * 4 + [False] * 2
        assert push.stats()["dropped"] == 2
        begin = time.monotonic()
        with pytest.raises(shmipc.SHMBufferFullError) as e:
            push.send(9, timeout=0.1)
        assert time.monotonic() - begin >= 0.1 and "'q'" in str(e.value)
        assert push.stats()["dropped"] == 2
        assert [pull.recv(timeout=0) for _ in range(5)] == [0, 1, 2, 3, None]


def test_C11_a_blocked_send_goes_on_when_there_is_room(child):
    with shmipc.Pusher("q", depth=4) as push:
        for i in range(4):
            push.send(i)
        puller = child("with shmipc.Puller('q') as pull:\n    for _ in range(6): say(pull.recv(timeout=25))")
        push.send(4)
        push.send(5)
        assert puller.end() == [str(i) for i in range(6)]


def test_S44_what_a_killed_puller_held_is_redelivered_and_counted(child):
    holder = child("""
pull = shmipc.Puller("q")
item = pull.take(timeout=25)
say(item.data, item.redelivered)
hear()
""")
    with shmipc.Pusher("q") as push, shmipc.Puller("q") as pull:
        push.send("job")
        assert holder.line() == "job 0"
        assert pull.recv(timeout=0) is None
        holder.kill()
        with pull.take(timeout=20) as item:
            assert (item.data, item.redelivered) == ("job", 1)
        assert pull.recv(timeout=0) is None


def test_S44_take_release_reject():
    with shmipc.Pusher("q") as push, shmipc.Puller("q") as pull:
        push.send(1)
        with pytest.raises(ZeroDivisionError):
            with pull.take(timeout=5) as item:
                1 / 0
        item = pull.take(timeout=5)
        assert item.redelivered == 1 and item.bytes and item.data == 1
        item.release()
        item.release()
        with pytest.raises(shmipc.SHMStateError):
            item.data
        assert pull.take(timeout=0) is None
        with pytest.raises(TimeoutError):
            pull.take(timeout=0.01, default=shmipc.RAISE)


def test_S45_S53_what_cannot_be_decoded_is_consumed_and_harms_nobody_else():
    with (
        shmipc.Pusher("q", codec=(lambda x: x, lambda b: b)) as odd,
        shmipc.Pusher("q") as push,
        shmipc.Puller("q") as pull,
    ):
        odd.send(b"?")
        push.send("next")
        with pytest.raises(shmipc.SHMSerializationError):
            pull.recv(timeout=5)
        assert pull.recv(timeout=5) == "next"


def test_S46_an_idle_recv_burns_no_cpu(child):
    idle = child("""
import resource
with shmipc.Puller("q") as pull:
    pull.recv(timeout=0.2)
    begin = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    pull.recv(timeout=1.5)
    say(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - begin)
""")
    (used,) = idle.end()
    assert float(used) < 0.03  # a spinning wait uses 1.5 s; the kernel counts in steps of up to 10 ms


def test_S55_large_items_with_take_and_views():
    np = pytest.importorskip("numpy")
    with shmipc.Pusher("q") as push, shmipc.Puller("q") as pull:
        for i in range(8):
            push.send(np.full((200, 300), i))
        views = [pull.recv(timeout=5, copy=False) for _ in range(8)]
        assert [int(v[0, 0]) for v in views] == list(range(8)) and not views[0].flags.writeable
        del views
        assert pull.stats()["queued"] == 0


def test_S66_a_burst_of_10000_all_arrive(child):
    puller = child("""
with shmipc.Puller("q") as pull:
    n = 0
    for n in range(10000):
        assert pull.recv(timeout=25) == n
    say("all")
""")
    with shmipc.Pusher("q") as push:
        assert push.send_many(range(10000), timeout=25) == 10000
        assert puller.end() == ["all"]


def test_send_many_stops_at_a_full_queue():
    with shmipc.Pusher("q", depth=8) as push, shmipc.Puller("q") as pull:
        assert push.send_many(range(20), timeout=0) == 8
        assert push.send_many(range(20), timeout=0.05) == 0
        assert pull.recv_many(100, timeout=5) == list(range(8))


def test_C3_linger_zero_keeps_nothing():
    with shmipc.Pusher("q", linger=0) as push:
        push.send(1)
    assert shmipc.list_segments() == []


def test_S60_a_killed_pusher_loses_nothing_that_was_sent(child, until):
    pusher = child("""
push = shmipc.Pusher("q")
for i in range(100): push.send(i)
say("sent")
hear()
""")
    assert pusher.line() == "sent"
    pusher.kill()
    with shmipc.Puller("q") as pull:
        assert [pull.recv(timeout=5) for _ in range(100)] == list(range(100))
        assert pull.recv(timeout=0.05) is None
        until(lambda: pull.stats()["peers"] == 0)
        assert os.getpid() in [p.pid for p in pull.peers()]
