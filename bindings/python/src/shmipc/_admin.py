"""What is there: segments, and waiting for several sockets."""

from __future__ import annotations

import time
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple, Union

from . import _core, _errors
from ._core import ffi, lib, timeout_ns
from ._sockets import Socket

IN, OUT = 1, 2
KINDS = {0: "memory", 1: "pubsub", 2: "pushpull", 3: "reqrep"}


class SegmentInfo(NamedTuple):
    """One segment of shared memory."""

    name: str
    kind: str
    users: int
    """Living attachments."""
    dead: int
    """Attachments of the dead that are not swept yet."""
    bytes: int
    file: str
    created: float
    """Seconds since 1970."""
    status: int
    """0, or the code of what is wrong with the file."""


def list_segments(directory: Optional[str] = None) -> List[SegmentInfo]:
    """What is live in the directory: channels and other segments, without the library's own."""
    ctx = _core.context(directory)
    count = 64
    while True:
        infos = ffi.new("shmipc_segment_info[]", count)
        n = lib.shmipc_segment_list(ctx, infos, count)
        if n < 0:
            raise _core.make_error(n, _core.detail(ctx), "list_segments")
        if n <= count:
            return [_info(i) for i in infos[0:n] if i.current and not ffi.string(i.name).startswith(b".shmipc/")]
        count = n


def _info(i: Any) -> SegmentInfo:
    s = ffi.string
    return SegmentInfo(
        s(i.name).decode(errors="replace"),
        KINDS.get(i.kind, str(i.kind)),
        i.users,
        i.dead,
        i.size,
        s(i.file).decode(errors="replace"),
        i.created_ns / 1e9,
        i.status,
    )


def force_unlink(name: str, directory: Optional[str] = None) -> bool:
    """Frees the name at once; who is attached keeps the old memory and meets nobody new. False: no such name."""
    ctx = _core.context(directory)
    rc = lib.shmipc_segment_unlink(ctx, _core.name_bytes(name))
    if rc == lib.SHMIPC_ENOENT:
        return False
    if rc < 0:
        raise _core.make_error(rc, _core.detail(ctx), "force_unlink(%r)" % name)
    return True


def gc(directory: Optional[str] = None) -> int:
    """Removes what nobody living holds: how many segments."""
    ctx = _core.context(directory)
    rc = lib.shmipc_ctx_sweep(ctx, 0)
    if rc < 0:
        raise _core.make_error(rc, _core.detail(ctx), "gc")
    return int(rc)


PollItem = Union[Socket, Tuple[Socket, int]]


def poll(sockets: Iterable[PollItem], timeout: Optional[float] = None) -> List[Tuple[Socket, int]]:
    """Waits until one of the sockets is ready: [(socket, events), ...], empty after `timeout` seconds.

    An item is a socket (ready when recv would give something) or a pair of a socket and IN, OUT or IN | OUT."""
    wanted = [item if isinstance(item, tuple) else (item, IN) for item in sockets]
    for pair in wanted:
        if len(pair) != 2 or not isinstance(pair[0], Socket):
            raise _errors.SHMTypeError("poll takes sockets, or pairs of a socket and events, not %r" % (pair,))
    if not wanted:
        raise _errors.SHMValueError("poll: give at least one socket")
    wait_ns = timeout_ns(timeout)
    until = time.monotonic_ns() + wait_ns
    while True:
        left = 50_000_000 if wait_ns < 0 else min(max(until - time.monotonic_ns(), 0), 50_000_000)
        ready = _poll_once(wanted, left)
        if ready or (wait_ns >= 0 and time.monotonic_ns() >= until):
            return ready


def _poll_once(wanted: List[Tuple[Socket, int]], wait_ns: int) -> List[Tuple[Socket, int]]:
    items = ffi.new("shmipc_poll_item[]", len(wanted))
    entered: Dict[Socket, int] = {}
    try:
        for socket in sorted(
            {s for s, _ in wanted}, key=id
        ):  # always in the same order: no two polls wait for each other
            entered[socket] = socket._h.enter()
        for item, (socket, events) in zip(items, wanted):
            item.socket, item.events = ffi.cast("shmipc_socket *", entered[socket]), events
        rc = lib.shmipc_poll(items, len(wanted), wait_ns)
    finally:
        for socket in entered:
            socket._h.leave()
    if rc in (lib.SHMIPC_ETIMEDOUT, lib.SHMIPC_EINTR):
        return []
    if rc < 0:
        raise wanted[0][0]._error(rc, "poll")
    return [(s, item.ready) for item, (s, _) in zip(items, wanted) if item.ready]
