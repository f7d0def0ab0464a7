"""Channels with a password."""

import os

import pytest

import shmipc

SECRET = b"nobody may read this sentence"


def test_C7_I10_what_is_sent_is_nowhere_in_the_memory(scope):
    with shmipc.Pusher("p", password="open sesame") as push, shmipc.Puller("p", password="open sesame") as pull:
        for size in (1, 100, 5000):
            push.send_bytes(SECRET * size)
            dump = b""
            for name in os.listdir(scope):
                with open(os.path.join(scope, name), "rb") as f:
                    dump += f.read()
            assert b"p" in dump and SECRET not in dump and b"open sesame" not in dump
            assert pull.recv_bytes(timeout=5) == SECRET * size


@pytest.mark.parametrize("value", [None, b"", {"a": 1}, "x" * 100000])
def test_S11_objects_on_sealed_channels(value):
    with shmipc.Publisher("a", password=b"k") as pub, shmipc.Subscriber("a", password="k") as sub:
        pub.send(value)
        assert sub.recv(timeout=5, default=shmipc.RAISE) == value


def test_sealed_requests_and_arrays():
    np = pytest.importorskip("numpy")
    with shmipc.Requester("s", password="k") as req, shmipc.Replier("s", password="k") as rep:
        req.send(np.arange(20000))
        rep.send(rep.recv(timeout=5) * 2)
        assert (req.recv(timeout=5, copy=False) == np.arange(20000) * 2).all()


def test_C7_another_password_or_none_is_an_error():
    with shmipc.Publisher("a", password="one") as pub:
        with shmipc.Subscriber("a", password="two") as sub:
            pub.send("x")
            with pytest.raises(shmipc.SHMConnectionError) as e:
                sub.recv(timeout=5)
            assert "password" in str(e.value)
        with pytest.raises(shmipc.SHMConnectionError):
            shmipc.Publisher("a")
    for bad, error in (("", ValueError), (b"", ValueError), (5, TypeError)):
        with pytest.raises(error):
            shmipc.Publisher("b", password=bad)
