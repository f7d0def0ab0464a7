"""The forms for asyncio."""

import asyncio
import select
import time

import pytest

import shmipc


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 25))


def test_async_recv_wakes_for_a_message_of_another_process(child):
    echo = child("""
with shmipc.Subscriber("to") as sub, shmipc.Publisher("back") as pub:
    say("ready")
    for x in sub:
        pub.send(x)
        if x == 99: break
""")
    assert echo.line() == "ready"

    async def main():
        async with shmipc.Publisher("to") as pub, shmipc.Subscriber("back") as sub:
            for i in range(100):
                await pub.asend(i)
                assert await sub.arecv(20, shmipc.RAISE) == i

    run(main())
    echo.end()


def test_async_C2_timeouts_and_defaults():
    async def main():
        async with shmipc.Subscriber("a") as sub:
            begin = time.monotonic()
            assert await sub.arecv(0.1, "nothing") == "nothing"
            assert time.monotonic() - begin >= 0.1
            with pytest.raises(shmipc.SHMTimeoutError):
                await sub.arecv(0.01, shmipc.RAISE)
            with pytest.raises(ValueError):
                await sub.arecv(-1)

    run(main())


def test_async_for_ends_at_close_and_other_tasks_go_on():
    async def main():
        got = []
        async with shmipc.Publisher("b") as pub, shmipc.Subscriber("b") as sub:

            async def reader():
                async for x in sub:
                    got.append(x)

            task = asyncio.create_task(reader())
            for i in range(3):
                pub.send(i)
                await asyncio.sleep(0.01)
            sub.close()
            await task
            assert got == [0, 1, 2]

    run(main())


def test_async_cancellation_loses_no_message():
    async def main():
        async with shmipc.Pusher("q") as push, shmipc.Puller("q") as pull:
            got = []
            for i in range(200):
                task = asyncio.create_task(pull.arecv())
                await asyncio.sleep(0)
                if i % 2:
                    push.send(i)
                if i % 3:
                    await asyncio.sleep(0)
                task.cancel()
                try:
                    got.append(await task)
                except asyncio.CancelledError:
                    pass
            while True:
                x = pull.recv(timeout=0)
                if x is None:
                    break
                got.append(x)
            assert got == list(range(1, 200, 2))

    run(main())


def test_async_requests_and_many_tasks():
    async def main():
        reps = [shmipc.Replier("svc") for _ in range(2)]

        async def serve(rep):
            async for x in rep:
                await rep.asend(x + 1)

        async def ask(n):
            async with shmipc.Requester("svc") as req:
                for i in range(20):
                    assert await req.arequest(n + i, timeout=20) == n + i + 1

        servers = [asyncio.create_task(serve(rep)) for rep in reps]
        await asyncio.gather(*(ask(1000 * n) for n in range(8)))
        for rep in reps:
            rep.close()
        await asyncio.gather(*servers)

    run(main())


def test_async_request_without_answer_times_out_and_does_not_poison_the_next():
    async def main():
        async with shmipc.Requester("svc") as req, shmipc.Replier("svc") as rep:
            with pytest.raises(shmipc.SHMTimeoutError):
                await req.arequest("first", timeout=0.05)
            task = asyncio.create_task(req.arequest("second", timeout=20))
            x = await rep.arecv(20)
            if x == "first":
                await rep.asend("late")
                x = await rep.arecv(20)
            await rep.asend("answer to " + x)
            assert await task == "answer to second"

    run(main())


def test_async_send_waits_for_room_without_blocking_the_loop():
    async def main():
        async with shmipc.Pusher("q", depth=4) as push, shmipc.Puller("q") as pull:
            for i in range(4):
                assert await push.asend(i)
            with pytest.raises(shmipc.SHMBufferFullError):
                await push.asend(4, timeout=0.02)
            task = asyncio.create_task(push.asend(4))
            await asyncio.sleep(0.01)
            assert not task.done()
            assert await pull.arecv(5) == 0
            assert await task
            assert pull.recv_many(9, timeout=0) == [1, 2, 3, 4]
            assert push.stats()["dropped"] == 0

    run(main())


def test_fileno_tells_of_messages():
    with shmipc.Publisher("a") as pub, shmipc.Subscriber("a") as sub:
        poller = select.poll()
        poller.register(sub.fileno(), select.POLLIN)
        assert sub.arm() is False
        assert poller.poll(0) == []
        pub.send(1)
        assert poller.poll(20000)
        assert sub.arm() is True
        assert sub.recv(timeout=0) == 1
        assert sub.arm() is False


def test_an_idle_async_recv_burns_no_cpu(child):
    idle = child("""
import asyncio, resource
async def main():
    async with shmipc.Subscriber("a") as sub:
        await sub.arecv(0.2)
        begin = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        await sub.arecv(1.5)
        say(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - begin)
asyncio.run(main())
""")
    (used,) = idle.end()
    assert float(used) < 0.06  # a loop without a pause uses 1.5 s
