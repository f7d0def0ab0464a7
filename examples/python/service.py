"""REQ/REP: a service that is killed over a request. The client is told, and goes on with the one that is started next."""

import multiprocessing

import shmipc


def serve():
    with shmipc.Replier("divider") as rep:
        for a, b in rep:
            rep.send(a / b)  # a division by zero ends this process


def start():
    process = multiprocessing.Process(target=serve, daemon=True)
    process.start()
    return process


def main():
    service = start()
    with shmipc.Requester("divider") as req:
        print("6 / 3 =", req.request((6, 3), timeout=20))
        req.send((7, 2))
        print("7 / 2 =", req.recv(timeout=20, default=shmipc.RAISE))
        service.kill()
        service.join()
        try:
            req.request((1, 2), timeout=0.2)
        except shmipc.SHMTimeoutError as e:
            print("nobody there:", e)
        service = start()
        print("9 / 3 =", req.request((9, 3), timeout=20))
        service.kill()
        service.join()


if __name__ == "__main__":
    main()
