"""Sockets with names over shared memory: as fast as the memory itself, safe against kill -9 at any instruction.

    # one process                                   # another
    import shmipc                                   import shmipc
    pub = shmipc.Publisher("robot/pose")            sub = shmipc.Subscriber("robot/pose")
    pub.send({"x": 1.0})                            print(sub.recv())

PUB/SUB: Publisher, Subscriber. PUSH/PULL: Pusher, Puller. REQ/REP: Requester, Replier. Times are seconds; None
waits for ever. Either side may start first, die, and come back. Errors: see SHMError.
"""

from __future__ import annotations

from ._admin import IN, OUT, SegmentInfo, force_unlink, gc, list_segments, poll
from ._core import RAISE, lib as _lib
from ._errors import (
    MemoryFullError,
    SerializationError,
    SHMBufferFullError,
    SHMClosedError,
    SHMConnectionError,
    SHMError,
    SHMMessageSizeError,
    SHMPermissionError,
    SHMSerializationError,
    SHMStateError,
    SHMTimeoutError,
    SHMTypeError,
    SHMValueError,
)
from ._sockets import Item, Loan, Peer, Publisher, Puller, Pusher, Replier, Requester, Socket, Subscriber

__version__ = "%d.%d.%d" % (_lib.SHMIPC_VERSION_MAJOR, _lib.SHMIPC_VERSION_MINOR, _lib.SHMIPC_VERSION_PATCH)

__all__ = [
    "IN",
    "OUT",
    "RAISE",
    "Item",
    "Loan",
    "MemoryFullError",
    "Peer",
    "Publisher",
    "Puller",
    "Pusher",
    "Replier",
    "Requester",
    "SHMBufferFullError",
    "SHMClosedError",
    "SHMConnectionError",
    "SHMError",
    "SHMMessageSizeError",
    "SHMPermissionError",
    "SHMSerializationError",
    "SHMStateError",
    "SHMTimeoutError",
    "SHMTypeError",
    "SHMValueError",
    "SegmentInfo",
    "SerializationError",
    "Socket",
    "Subscriber",
    "force_unlink",
    "gc",
    "list_segments",
    "poll",
]
