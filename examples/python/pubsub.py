"""PUB/SUB: a robot tells its pose, two others listen; neither side knows of the other but by the name."""

import multiprocessing
import time

import shmipc


def listen(who):
    with shmipc.Subscriber("robot/pose") as sub:
        for pose in sub:
            if pose is None:
                break
        print("%s heard of everything but %d messages" % (who, sub.missed))


def main():
    listeners = [multiprocessing.Process(target=listen, args=(who,)) for who in ("planner", "logger")]
    for listener in listeners:
        listener.start()
    with shmipc.Publisher("robot/pose") as pub:
        while pub.stats()["peers"] < 2:
            time.sleep(0.01)
        for i in range(1000):
            pub.send({"x": i * 0.001, "y": 2.0, "heading": 0.5})  # never waits
            time.sleep(0.0001)
        pub.send(None)
        for listener in listeners:
            listener.join()


if __name__ == "__main__":
    main()
