"""PUSH/PULL: jobs for two workers. One is killed in the middle of a job, and the other gets that job too."""

import multiprocessing
import os
import signal

import shmipc


def work(clumsy):
    with shmipc.Puller("jobs") as jobs, shmipc.Pusher("results") as results:
        while True:
            with jobs.take() as job:  # released when the block ends
                if job.data is None:
                    return
                if clumsy and job.data == 3:
                    os.kill(os.getpid(), signal.SIGKILL)
                results.send((job.data, job.data**2, job.redelivered))


def main():
    with shmipc.Pusher("jobs") as jobs, shmipc.Puller("results") as results:
        clumsy = multiprocessing.Process(target=work, args=(True,))
        clumsy.start()
        for n in range(10):
            jobs.send(n)
        clumsy.join()
        careful = multiprocessing.Process(target=work, args=(False,))
        careful.start()
        done = sorted(results.recv(timeout=20, default=shmipc.RAISE) for _ in range(10))
        jobs.send(None)
        careful.join()
    print("squares:", [square for _, square, _ in done])
    print("done by the second worker after the first one died over it:", [n for n, _, again in done if again])


if __name__ == "__main__":
    main()
