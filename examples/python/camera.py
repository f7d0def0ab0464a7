"""Images without a copy: the camera writes into shared memory, the viewer reads them there."""

import multiprocessing
import time

import numpy as np

import shmipc

SHAPE = (720, 1280, 3)


def camera(frames):
    with shmipc.Publisher("camera/front") as pub:
        while pub.stats()["peers"] == 0:
            time.sleep(0.01)
        for i in range(frames):
            with pub.loan(SHAPE, "uint8") as image:  # room in shared memory
                image[:] = i  # a driver would write its pixels here
            time.sleep(0.01)
        pub.send("end")


def main():
    with shmipc.Subscriber("camera/front", latest=True) as sub:  # a slow viewer sees the newest image
        process = multiprocessing.Process(target=camera, args=(50,))
        process.start()
        seen = 0
        while True:
            image = sub.recv(copy=False)  # read-only, in place, valid as long as we keep it
            if isinstance(image, str):
                break
            assert image.shape == SHAPE and (image == image[0, 0, 0]).all()
            seen += 1
        process.join()
    print("saw %d images of %d bytes, none of them torn" % (seen, int(np.prod(SHAPE))))


if __name__ == "__main__":
    main()
