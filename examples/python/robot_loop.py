"""asyncio: a control loop at 100 Hz, a stream of sensor data and a command service in one thread."""

import asyncio
import multiprocessing

import shmipc


def sensor():
    """Another process: publishes until it is told to stop."""
    with shmipc.Publisher("sensor/range") as pub, shmipc.Subscriber("stop", history=1) as stop:
        n = 0
        while stop.recv(timeout=0.002) is None:
            n += 1
            pub.send({"n": n, "range": 1.0 + n * 0.001})


async def main():
    latest = {}
    process = multiprocessing.Process(target=sensor)

    async def listen(sub):
        async for message in sub:
            latest.update(message)

    async def serve(rep):
        async for command in rep:
            await rep.asend({"did": command})

    async with shmipc.Subscriber("sensor/range") as sub, shmipc.Replier("command") as rep, shmipc.Publisher("stop") as stop:
        tasks = [asyncio.create_task(listen(sub)), asyncio.create_task(serve(rep))]
        process.start()
        while not latest:
            await asyncio.sleep(0.01)
        for _ in range(20):  # the control loop
            await asyncio.sleep(0.01)
        async with shmipc.Requester("command") as req:  # usually another process
            print(await req.arequest("stand up", timeout=5))
        stop.send("now")
        process.join()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    print("heard of", "many" if latest["n"] > 20 else latest["n"], "ranges")


if __name__ == "__main__":
    asyncio.run(main())
