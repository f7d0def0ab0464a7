"""The same work for shmipc, pyzmq (ipc, tcp), multiprocessing's Pipe and Queue: see README.md beside this folder.

Rounds are interleaved, each peer once a round; a figure is the median over the rounds of the round's median, a ratio the
median of the ratios within one round. Every reply is compared with what was sent.
"""

import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import threading
import time

import numpy as np

import shmipc

try:
    import zmq
except ImportError:
    zmq = None

QUICK = bool(os.environ.get("BENCH_QUICK"))
ROUNDS = 2 if QUICK else 7
COUNT = 200 if QUICK else 3000
CPUS = sorted(os.sched_getaffinity(0))
fork = multiprocessing.get_context("fork")
FOLDER = tempfile.mkdtemp(prefix="shmipc-bench-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
os.environ["SHMIPC_DIR"] = FOLDER

# ---- peers: each gives a pair (ask, answer loop); made before the fork, opened on its own side after it ----


class ShmipcReqRep:
    def server(self, raw):
        with shmipc.Replier("svc") as s:
            recv, send = (s.recv_bytes, s.send_bytes) if raw else (s.recv, s.send)
            while True:
                x = recv()
                send(x)
                if len(x) == 3:
                    return

    def client(self, raw):
        s = shmipc.Requester("svc")
        send, recv = (s.send_bytes, s.recv_bytes) if raw else (s.send, s.recv)

        def ask(x):
            send(x)
            return recv()

        return ask, s.close


class ShmipcPubSub:
    def server(self, raw):
        with shmipc.Subscriber("to") as a, shmipc.Publisher("back") as b:
            recv, send = (a.recv_bytes, b.send_bytes) if raw else (a.recv, b.send)
            while True:
                x = recv()
                send(x)
                if len(x) == 3:
                    return

    def client(self, raw):
        a, b = shmipc.Publisher("to"), shmipc.Subscriber("back")
        while a.stats()["peers"] == 0 or b.stats()["peers"] == 0:
            time.sleep(0.001)
        send, recv = (a.send_bytes, b.recv_bytes) if raw else (a.send, b.recv)

        def ask(x):
            send(x)
            return recv()

        return ask, lambda: (a.close(), b.close())


class Zmq:
    def __init__(self, kind):
        self.address = "ipc://%s/zmq" % FOLDER if kind == "ipc" else "tcp://127.0.0.1:%d" % (20000 + os.getpid() % 20000)

    def server(self, raw):
        s = zmq.Context().socket(zmq.REP)
        s.bind(self.address)
        recv, send = (s.recv, s.send) if raw else (s.recv_pyobj, s.send_pyobj)
        while True:
            x = recv()
            send(x)
            if len(x) == 3:
                break
        s.close(1000)

    def client(self, raw):
        context = zmq.Context()
        s = context.socket(zmq.REQ)
        s.connect(self.address)
        send, recv = (s.send, s.recv) if raw else (s.send_pyobj, s.recv_pyobj)

        def ask(x):
            send(x)
            return recv()

        return ask, lambda: (s.close(1000), context.term())


class Pipe:
    def __init__(self):
        self.ours, self.theirs = fork.Pipe()

    def server(self, raw):
        recv, send = (self.theirs.recv_bytes, self.theirs.send_bytes) if raw else (self.theirs.recv, self.theirs.send)
        while True:
            x = recv()
            send(x)
            if len(x) == 3:
                return

    def client(self, raw):
        send, recv = (self.ours.send_bytes, self.ours.recv_bytes) if raw else (self.ours.send, self.ours.recv)

        def ask(x):
            send(x)
            return recv()

        return ask, lambda: None


class Queue:
    def __init__(self):
        self.to, self.back = fork.Queue(), fork.Queue()

    def server(self, raw):
        while True:
            x = self.to.get()
            self.back.put(x)
            if len(x) == 3:
                return

    def client(self, raw):
        def ask(x):
            self.to.put(x)
            return self.back.get()

        return ask, lambda: None


PEERS = {"shmipc REQ/REP": ShmipcReqRep, "shmipc PUB/SUB": ShmipcPubSub, "mp.Pipe": Pipe, "mp.Queue": Queue}
if zmq:
    PEERS.update({"pyzmq ipc": lambda: Zmq("ipc"), "pyzmq tcp": lambda: Zmq("tcp")})
VALUES = {"64 B": b"x" * 64, "dict": {"x": 1.0, "y": 2.0, "n": 3, "name": "arm/left"}, "4 KiB": b"y" * 4096}


def round_trip(peer, value, same_cpu):
    raw = isinstance(value, bytes)
    side = peer()

    def serve():
        os.sched_setaffinity(0, {CPUS[0] if same_cpu else CPUS[-1]})
        side.server(raw)

    process = fork.Process(target=serve)
    process.start()
    os.sched_setaffinity(0, {CPUS[0]})
    ask, close = side.client(raw)
    samples = []
    for i in range(COUNT + 100):
        begin = time.perf_counter_ns()
        got = ask(value)
        took = time.perf_counter_ns() - begin
        assert got == value
        if i >= 100:
            samples.append(took)
    ask(b"end" if raw else [1, 2, 3])
    close()
    process.join()
    os.sched_setaffinity(0, set(CPUS))
    return statistics.median(samples) / 1000


def call_costs(busy):
    """One thread sends to itself: what a call costs, microseconds in the mean; beside another that computes."""
    stop = []
    thread = threading.Thread(target=lambda: [sum(range(50)) for _ in iter(lambda: not stop, False)])
    with shmipc.Publisher("cost") as pub, shmipc.Subscriber("cost") as sub:
        if busy:
            thread.start()
        times = [0, 0]
        for _ in range(50):
            a = time.perf_counter_ns()
            for _ in range(50):
                pub.send_bytes(VALUES["64 B"])
            b = time.perf_counter_ns()
            for _ in range(50):
                sub.recv_bytes(0)
            times[0] += b - a
            times[1] += time.perf_counter_ns() - b
        stop.append(1)
        if busy:
            thread.join()
    return [t / 2500 / 1000 for t in times]


def array_costs():
    """10 MB: numpy.copyto, a copy sent and received, a view sent and received; microseconds."""
    source, target = np.ones(10_000_000, "u1"), np.zeros(10_000_000, "u1")
    with shmipc.Publisher("array", depth=4) as pub, shmipc.Subscriber("array") as sub:
        rows = []
        for i in range(30):
            t = [time.perf_counter_ns()]
            np.copyto(target, source)
            t.append(time.perf_counter_ns())
            pub.send(source)
            t.append(time.perf_counter_ns())
            view = sub.recv(timeout=1, copy=False)
            t.append(time.perf_counter_ns())
            assert view[-1] == 1
            del view
            if i >= 10:  # by then the memory is touched, and is used again
                rows.append([(b - a) / 1000 for a, b in zip(t, t[1:])])
        return [statistics.median(column) for column in zip(*rows)]


def rate(send, flush, receive, count):
    """Messages a second from one process to another, 64 bytes."""

    def source():
        os.sched_setaffinity(0, {CPUS[-1]})
        send(count)

    process = fork.Process(target=source)
    os.sched_setaffinity(0, {CPUS[0]})
    process.start()
    seconds = receive(count)
    process.join()
    flush()
    os.sched_setaffinity(0, set(CPUS))
    return count / seconds


def shmipc_rate(batch):
    def send(count):
        with shmipc.Pusher("rate") as s:
            if batch:
                for _ in range(count // 64):
                    s.send_many([VALUES["64 B"]] * 64)
            else:
                for _ in range(count):
                    s.send_bytes(VALUES["64 B"])

    def receive(count):
        with shmipc.Puller("rate") as s:
            n = 0
            s.recv_bytes()
            begin = time.perf_counter()
            while n < count - 1:
                n += len(s.recv_many(64)) if batch else bool(s.recv_bytes())
            return time.perf_counter() - begin

    return send, lambda: None, receive


def zmq_rate():
    address = "ipc://%s/rate" % FOLDER

    def send(count):
        context = zmq.Context()
        s = context.socket(zmq.PUSH)
        s.connect(address)
        for _ in range(count):
            s.send(VALUES["64 B"])
        s.close(10000)
        context.term()

    def receive(count):
        context = zmq.Context()
        s = context.socket(zmq.PULL)
        s.bind(address)
        s.recv()
        begin = time.perf_counter()
        for _ in range(count - 1):
            s.recv()
        seconds = time.perf_counter() - begin
        s.close()
        context.term()
        return seconds

    return send, lambda: None, receive


def main(path):
    rows = [{"bench": "python", "cpus": len(CPUS), "machine": platform.platform(), "python": platform.python_version(),
             "numpy": np.__version__, "pyzmq": zmq.__version__ if zmq else None, "quick": QUICK, "rounds": ROUNDS}]

    def tell(metric, unit, figures, base):
        """Figures of all rounds by peer; base: whose ratio to the others is told, above 1 it is ahead."""
        for peer, values in figures.items():
            ratios = [v / b if unit == "us" else b / v for v, b in zip(values, figures[base])]
            row = {"metric": metric, "peer": peer, unit: round(statistics.median(values), 3),
                   "ours_ahead": round(statistics.median(ratios), 2)}
            rows.append(row)
            print("%-28s %-16s %12.2f %-4s %8.1f" % (metric, peer, row[unit], unit, row["ours_ahead"]), flush=True)

    print("%-28s %-16s %17s %8s" % ("metric", "who", "", "ours ahead"))
    for cpus in (2, 1) if len(CPUS) > 1 else (1,):
        for size, value in VALUES.items():
            figures = {name: [] for name in PEERS}
            for _ in range(ROUNDS):
                for name, peer in PEERS.items():
                    figures[name].append(round_trip(peer, value, cpus == 1))
            tell("round trip, %s, %d CPU" % (size, cpus), "us", figures, "shmipc REQ/REP")
    count = 2000 if QUICK else 64000
    makers = {"shmipc": lambda: shmipc_rate(False), "shmipc, by 64": lambda: shmipc_rate(True)}
    if zmq:
        makers["pyzmq ipc"] = zmq_rate
    rates = {name: [] for name in makers}
    for _ in range(ROUNDS):
        for name, make in makers.items():
            rates[name].append(rate(*make(), count // 64 * 64) / 1e6)
    tell("PUSH/PULL rate, 64 B", "M/s", rates, "shmipc")
    calls = {True: [], False: []}
    for _ in range(ROUNDS):
        for busy in calls:
            calls[busy].append(call_costs(busy))
    for busy, label in ((False, "alone"), (True, "beside a busy thread")):
        for i, what in enumerate(("send", "recv")):
            tell("%s 64 B, %s" % (what, label), "us", {"shmipc": [c[i] for c in calls[busy]]}, "shmipc")
    arrays = [array_costs() for _ in range(ROUNDS)]
    names = ("numpy.copyto", "shmipc send", "shmipc recv view")
    tell("array of 10 MB", "us", {n: [a[i] for a in arrays] for i, n in enumerate(names)}, "shmipc send")
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    finally:
        for name in os.listdir(FOLDER):
            os.unlink(os.path.join(FOLDER, name))
        os.rmdir(FOLDER)
