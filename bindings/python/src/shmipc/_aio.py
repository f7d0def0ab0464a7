"""Waiting in asyncio. Every attempt is a call that does not wait, so a cancelled await has taken nothing."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Callable, Optional

TURN_S = 0.05  # a peer killed at the wrong moment can lose one notice of the descriptor


class Waiting:
    """The descriptor of a socket in one event loop, and the tasks that wait for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        self.loop, self.fd = loop, fd
        self.waiters: "set[asyncio.Future[None]]" = set()

    def notice(self) -> None:
        for waiter in list(self.waiters):
            if not waiter.done():
                waiter.set_result(None)

    async def turn(self, seconds: float) -> None:
        """Until something may be there, or the time has passed."""
        waiter: "asyncio.Future[None]" = self.loop.create_future()
        if not self.waiters:
            self.loop.add_reader(self.fd, self.notice)
        self.waiters.add(waiter)
        timer = self.loop.call_later(seconds, self.notice)
        try:
            await waiter
        finally:
            timer.cancel()
            self.waiters.discard(waiter)
            if not self.waiters:
                self.loop.remove_reader(self.fd)

    def close(self) -> None:
        if not self.loop.is_closed():
            self.loop.remove_reader(self.fd)
            self.notice()


def _waiting(socket: Any) -> Waiting:
    loop = asyncio.get_running_loop()
    if socket._aio is None or socket._aio.loop is not loop:
        socket._aio = Waiting(loop, socket.fileno())
    waiting: Waiting = socket._aio
    return waiting


async def _pause(socket: Any, step: int, seconds: float) -> None:
    """One turn of waiting for a message. arm() may be true for one that another task takes, or that is unwanted."""
    waiting = _waiting(socket)
    if socket.arm():
        await asyncio.sleep(0)
    else:
        await waiting.turn(min(seconds, TURN_S))


async def _repeat(socket: Any, attempt: Callable[[], Any], failed: Any, wait_ns: int, pause: Any) -> Any:
    until: Optional[float] = None if wait_ns < 0 else time.monotonic() + wait_ns / 1e9
    step = 0
    while True:
        got = attempt()
        if got is not failed:
            return got
        left = TURN_S if until is None else until - time.monotonic()
        if left <= 0:
            return failed
        await pause(socket, step, left)
        step += 1


async def receive(socket: Any, wait_ns: int) -> Any:
    """What Handle.recv gives; None after the time."""
    return await _repeat(socket, lambda: socket._h.recv(0, 0), None, wait_ns, _pause)


async def _room(socket: Any, step: int, seconds: float) -> None:
    await asyncio.sleep(min(seconds, 0.0002 * 2 ** min(step, 6)))


async def send(socket: Any, attempt: Callable[[], bool], wait_ns: int) -> bool:
    """Tries until there is room; False after the time. The descriptor tells of messages only, so room is looked for."""
    return bool(await _repeat(socket, attempt, False, wait_ns, _room))
