"""The six sockets. A socket belongs to one thread at a time: calls of other threads take turns."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import threading
import time
from pickle import loads
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Type, TypeVar, Union

from . import _aio, _codecs, _core, _errors
from ._codecs import Codec
from ._core import RAISE, ffi, lib, timeout_ns

log = logging.getLogger("shmipc.socket")
_debugs = log.isEnabledFor
DEBUG = logging.DEBUG

Topic = Union[str, bytes]
Self = TypeVar("Self", bound="Socket")


class Peer(NamedTuple):
    """Somebody on the channel, ourselves too."""

    life: int
    role: str
    pid: int
    alive: bool
    sent: int
    received: int


ROLES = {1: "Publisher", 2: "Subscriber", 3: "Pusher", 4: "Puller", 5: "Requester", 6: "Replier"}


class Loan:
    """Room in shared memory, to be written in place: `with pub.loan((480, 640, 3), "uint8") as image: image[:] = ...`.

    Sent when the block ends, discarded when it raises. Then the memory belongs to the channel: do not keep it."""

    def __init__(self, socket: "Socket", header: bytes, nbytes: int, tag: int, shape: Any, dtype: Any) -> None:
        self._socket, self._header, self._nbytes, self._tag, self._shape, self._dtype = (
            socket,
            header,
            nbytes,
            tag,
            shape,
            dtype,
        )
        self._loan = ffi.new("shmipc_loan *")

    def __enter__(self) -> Any:
        s, size = self._socket, len(self._header) + self._nbytes
        with s._locked() as at:
            rc = lib.shmipc_loan_open(at, size, self._loan)
        if rc:
            raise s._error(rc, "loan")
        buffer = ffi.buffer(self._loan.data, size)
        if self._header:
            buffer[0 : len(self._header)] = self._header
        room = memoryview(buffer)[len(self._header) :]
        if self._dtype is None:
            return room
        np = _codecs._need("numpy")
        return np.frombuffer(room, self._dtype).reshape(self._shape)

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        s = self._socket
        with s._locked():
            if kind is None:
                self._loan.len = len(self._header) + self._nbytes
                self._loan.tag = self._tag
                rc = lib.shmipc_loan_commit(self._loan, 0)
                if rc:
                    lib.shmipc_loan_discard(self._loan)
            else:
                rc = lib.shmipc_loan_discard(self._loan)
        if rc and kind is None:
            raise s._error(rc, "loan")


class Item:
    """What Puller.take gives: yours until released. `with` releases it, or hands it on when the block raises."""

    def __init__(self, socket: "Socket", tag: int, view: int, address: int, length: int) -> None:
        self._socket, self._tag, self._view = socket, tag, view
        self._payload: Any = ffi.buffer(ffi.cast("char *", address), length) if length else b""
        self.redelivered: int = ffi.cast("shmipc_msg *", view).redelivered
        """How often it was handed out before to somebody who died or rejected it."""

    @property
    def data(self) -> Any:
        """The object, decoded each time it is asked for."""
        return self._socket._decode(self._tag, self.bytes)

    @property
    def bytes(self) -> bytes:
        """The payload, copied."""
        if not self._view:
            raise _errors.SHMStateError("the item was released")
        return bytes(self._payload)

    def release(self) -> None:
        """Done: nobody gets it again. May be called twice."""
        self._end(0)

    def reject(self) -> None:
        """Hands it on to another puller, who sees it counted in `redelivered`."""
        self._end(1)

    def _end(self, hand_on: int) -> None:
        view, self._view = self._view, 0
        if view:
            self._payload = b""
            self._socket._h.release(view, hand_on)

    def __enter__(self) -> "Item":
        return self

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        self._end(0 if kind is None else 1)

    def __del__(self) -> None:
        if getattr(self, "_view", 0):
            self._end(1)


class _Locked:
    """The socket for calls through cffi, by this thread alone."""

    __slots__ = ("_h",)

    def __init__(self, handle: Any) -> None:
        self._h = handle

    def __enter__(self) -> Any:
        return ffi.cast("shmipc_socket *", self._h.enter())

    def __exit__(self, *exc: Any) -> None:
        self._h.leave()


class Socket:
    """What all six have in common."""

    _open: Any = None
    _h: Any = None

    def __init__(
        self,
        name: str,
        *,
        codec: Codec = "pickle",
        password: Union[str, bytes, None] = None,
        directory: Optional[str] = None,
        timeout_connect: Optional[float] = None,
        topics: Optional[Iterable[Topic]] = None,
        **options: int,
    ) -> None:
        self._name = name
        encoded = _core.name_bytes(name)
        self._encode = _codecs.encoder(codec)
        self._decode = _codecs.Decoder(codec)
        connect_ns = 0 if timeout_connect is None else max(timeout_ns(timeout_connect), 1)
        self._ctx = _core.context(directory)
        cfg, keep = _config(encoded, topics, options)
        fail = functools.partial(
            _raise, type(self).__name__, name
        )  # not a method: a socket that is dropped closes at once
        self._h = _core.Handle(_number(self._ctx), fail, threading.main_thread().ident or 0)
        sealed = self._seal(encoded, password)
        cfg.aead = sealed
        stop, stop_arg = self._h.stop()
        cfg.stop, cfg.stop_arg = ffi.cast("int (*)(void *)", stop), ffi.cast("void *", stop_arg)
        out = ffi.new("shmipc_socket **")
        rc = self._open_native(out, encoded, cfg, connect_ns)
        if rc:
            raise self._error(rc, "opening")
        self._h.attach(_number(out[0]))
        self._unchecked = 0
        self._warned = False
        self._aio: Optional[_aio.Waiting] = None
        _core.track(self)
        if _debugs(DEBUG):
            log.debug("%r opened", self)

    def _seal(self, name: bytes, password: Union[str, bytes, None]) -> Any:
        """The cipher of a channel with a password. Both sides make the key from it and the name; it goes nowhere."""
        if password is None:
            return ffi.NULL
        if not isinstance(password, (str, bytes)):
            raise _errors.SHMTypeError("a password is str or bytes, not %r" % type(password).__name__)
        secret = password.encode() if isinstance(password, str) else password
        if not secret:
            raise _errors.SHMValueError("the password must not be empty; None leaves the channel in clear")
        salt = b"shmipc channel:" + name
        key = hashlib.scrypt(secret, salt=salt, n=2**15, r=8, p=1, maxmem=2**26, dklen=32)
        aead = ffi.new("shmipc_aead *")
        seal, open_, arg = self._h.aead(key)
        aead.seal, aead.open = ffi.cast("void *", seal), ffi.cast("void *", open_)
        aead.arg = ffi.cast("void *", arg)
        return aead

    def _open_native(self, out: Any, name: bytes, cfg: Any, connect_ns: int) -> int:
        """Waits for a peer by half seconds, so that a signal that arrives just before a sleep is handled soon."""
        until = time.monotonic_ns() + connect_ns
        left = connect_ns
        while True:
            cfg.connect_ns = min(left, 500_000_000)
            rc: int = self._open(out, self._ctx, name, cfg)
            left = until - time.monotonic_ns() if connect_ns else 0
            if not (rc == lib.SHMIPC_EINTR or (rc == lib.SHMIPC_ENOENT and left > 0)):
                return rc
            left = max(left, 1)

    # ---- errors, and what every call goes through

    def _what(self, operation: str) -> str:
        return "%s(%r) %s" % (type(self).__name__, self._name, operation)

    def _error(self, code: int, operation: str) -> _errors.SHMError:
        return _core.make_error(code, _core.detail(self._ctx), self._what(operation))

    def _timed_out(self, operation: str, timeout: Optional[float]) -> _errors.SHMTimeoutError:
        return _errors.SHMTimeoutError(
            "%s: nothing within %s s: is the other side running, and on the same name and directory?"
            % (self._what(operation), timeout)
        )

    def _locked(self) -> _Locked:
        return _Locked(self._h)

    # ---- common to all

    @property
    def name(self) -> str:
        """The channel's name."""
        return self._name

    @property
    def closed(self) -> bool:
        """True after close()."""
        return bool(self._h.closed())

    def close(self) -> None:
        """Gives up the socket; may be called twice. Loses nothing that was sent; views stay valid until dropped."""
        if self._aio is not None:
            self._aio.close()
            self._aio = None
        if self._h.close() and _debugs(DEBUG):
            log.debug("%r closed", self)

    def fileno(self) -> int:
        """A descriptor that becomes readable when a message comes, for select, epoll and event loops. Call arm() before
        each sleep on it, and sleep at most 50 ms or so: a peer killed at the wrong moment can lose one notice."""
        with self._locked() as s:
            fd: int = lib.shmipc_fd(s)
        if fd < 0:
            raise self._error(fd, "fileno")
        return fd

    def arm(self) -> bool:
        """Makes the descriptor tell of the next message. True: something is there already, do not sleep."""
        with self._locked() as s:
            rc: int = lib.shmipc_fd_arm(s)
        if rc < 0:
            raise self._error(rc, "arm")
        return rc > 0

    def _forked(self) -> None:
        self._h.forked()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, *exc: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<shmipc.%s %r%s>" % (type(self).__name__, self._name, " (closed)" if self.closed else "")

    def stats(self) -> Dict[str, int]:
        """sent, received, bytes_sent, bytes_received, dropped, errors, waits, queued, high_water, depth (the capacity),
        max_message, memory, peers (living sockets of the other side)."""
        st = ffi.new("shmipc_socket_stats *")
        with self._locked() as s:
            rc = lib.shmipc_socket_get_stats(s, st)
        if rc:
            raise self._error(rc, "stats")
        names = (
            "sent",
            "received",
            "bytes_sent",
            "bytes_received",
            "dropped",
            "errors",
            "waits",
            "queued",
            "high_water",
            "depth",
            "max_message",
            "memory",
            "peers",
        )
        result = {name: int(getattr(st, name)) for name in names}
        result["capacity"] = result["depth"]
        return result

    def peers(self) -> List[Peer]:
        """Who is on the channel, ourselves too."""
        count = 64
        while True:
            peers = ffi.new("shmipc_peer[]", count)
            with self._locked() as s:
                n = lib.shmipc_socket_peers(s, peers, count)
            if n < 0:
                raise self._error(n, "peers")
            if n <= count:
                return [Peer(p.life, ROLES[p.role], p.pid, bool(p.alive), p.sent, p.received) for p in peers[0:n]]
            count = n


def _raise(kind: str, name: str, code: int, detail: str, operation: str) -> None:
    raise _core.make_error(code, detail, "%s(%r) %s" % (kind, name, operation))


def _number(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))


def _bytes_of(topic: Topic) -> bytes:
    if isinstance(topic, str):
        return topic.encode()
    if isinstance(topic, bytes):
        return topic
    raise _errors.SHMTypeError("a topic is str or bytes, not %r" % (topic,))


def _config(name: bytes, topics: Optional[Iterable[Topic]], options: Dict[str, int]) -> Tuple[Any, Any]:
    cfg = ffi.new("shmipc_socket_config *")
    lib.shmipc_socket_config_init(cfg)
    cfg.interruptible = 1
    cfg.name_len = len(name)
    for key, value in options.items():
        if not isinstance(value, int) or (value < 0 and key != "linger_ns"):
            raise _errors.SHMValueError(
                "%s is %r: give a number from 0 up, 0 or nothing for the default" % (key, value)
            )
        try:
            setattr(cfg, key, value)
        except OverflowError:
            raise _errors.SHMValueError("%s is %r, which is too large" % (key, value)) from None
    if isinstance(topics, (str, bytes)):
        topics = [topics]
    texts = [ffi.new("char[]", _bytes_of(t)) for t in topics or ()]
    array = ffi.new("char *[]", texts) if texts else ffi.NULL
    cfg.topics, cfg.topic_count = array, len(texts)
    return cfg, (texts, array)


# ---- sending ----


class _Sender(Socket):
    _check_every = 1 << 62

    def _put(self, payload: Any, tag: int, wait_ns: int, topic: Optional[bytes] = None) -> bool:
        """One C call. False: it stayed full."""
        if type(payload) is not bytes:
            if topic is None:
                numbers: List[int] = []
                for _, address, length in payload:
                    numbers += (address, length)
                return bool(self._h.send_pieces(tag, wait_ns, *numbers))
            payload = b"".join(ffi.buffer(ffi.cast("char *", a), n) for _, a, n in payload)
        sent: bool = self._h.send(payload, tag, wait_ns, topic)
        self._unchecked += 1
        if self._unchecked > self._check_every:
            self._check()
        if _debugs(DEBUG):
            log.debug("%s: %d bytes, tag %#x", self._what("send"), len(payload), tag)
        return sent

    def _check(self) -> None:
        """Now and then: warns, once, when the queue is 90 % full. Publishers have none."""
        st = self.stats()
        self._unchecked = 0
        self._check_every = max(st["depth"] // 10, 1)
        if not self._warned and st["queued"] * 10 >= st["depth"] * 9 > 0:
            self._warned = True
            log.warning(
                "%s: the queue holds %d of %d messages: read faster, add readers, or open it with more depth",
                self._what("send"),
                st["queued"],
                st["depth"],
            )

    def _batch(self, items: Iterable[Tuple[int, Any]], wait_ns: int) -> int:
        batch = []
        for tag, payload in items:
            if type(payload) is not bytes:
                payload = b"".join(ffi.buffer(ffi.cast("char *", a), n) for _, a, n in payload)
            batch.append((tag, payload))
        return int(self._h.send_many(batch, wait_ns))

    def loan(self, shape: Union[int, Sequence[int]], dtype: Any = None) -> Loan:
        """Room in shared memory: for an array of that shape and dtype, or without a dtype for `shape` bytes."""
        if dtype is None:
            if not isinstance(shape, int) or shape < 0:
                raise _errors.SHMTypeError("without a dtype give loan the number of bytes, not %r" % (shape,))
            return Loan(self, b"", shape, _codecs.RAW, None, None)
        np = _codecs._need("numpy")
        kind, dims = np.dtype(dtype), (shape,) if isinstance(shape, int) else tuple(int(n) for n in shape)
        if kind.hasobject or any(n < 0 for n in dims):
            raise _errors.SHMValueError(
                "loan%r: dimensions count from 0, and the dtype must not hold Python objects" % ((shape, dtype),)
            )
        nbytes = kind.itemsize
        for n in dims:
            nbytes *= n
        return Loan(self, _codecs.numpy_header(np, kind, dims, "C"), nbytes, _codecs.NUMPY, dims, kind)


# ---- receiving ----


class _Receiver(Socket):
    def _take(self, got: Any, copy: bool) -> Any:
        """An object from what Handle.recv gave."""
        if len(got) == 2:
            tag, payload = got
            if _debugs(DEBUG):
                log.debug("%s: %d bytes, tag %#x", self._what("recv"), len(payload), tag)
            if tag == 0:
                return payload
            if tag == 1 and self._decode.unpickles:
                try:
                    return loads(payload)
                except Exception as e:
                    raise self._decode.failed(tag, len(payload), e) from e
            return self._decode(tag, payload)
        return self._decode(got[0], self._view(*got[1:]), copy)

    def _view(self, view: int, address: int, length: int) -> Any:
        """Read-only memory that gives its message back when the last reference to it is dropped, also after close()."""
        release = self._h.release
        if not length:
            release(view)
            return memoryview(b"")
        held = ffi.gc(ffi.cast("char *", address), lambda _: release(view))
        return memoryview(ffi.buffer(held, length)).toreadonly()

    def recv(self, timeout: Optional[float] = None, default: Any = None, copy: bool = True) -> Any:
        """The next message. After `timeout` seconds (None: never, 0: at once) `default`; if that is RAISE, an error.

        copy=False gives arrays and bytes as read-only views of shared memory where that is possible; a view is valid
        until you drop it, whatever happens to the socket."""
        got = self._h.recv(-1 if timeout is None else timeout_ns(timeout), not copy)
        if got is None:
            if default is RAISE:
                raise self._timed_out("recv", timeout)
            return default
        return self._take(got, copy)

    def recv_bytes(self, timeout: Optional[float] = None, default: Any = None, copy: bool = True) -> Any:
        """The payload of the next message as it was sent: bytes, or with copy=False a read-only memoryview."""
        got = self._h.recv(-1 if timeout is None else timeout_ns(timeout), not copy)
        if got is None:
            if default is RAISE:
                raise self._timed_out("recv_bytes", timeout)
            return default
        payload = got[1] if len(got) == 2 else self._view(*got[1:])
        return bytes(payload) if copy else payload

    def recv_into(self, buffer: Any, timeout: Optional[float] = None, default: Any = None) -> Any:
        """Copies the payload of the next message into a writable buffer: how many bytes. SHMMessageSizeError if it is
        too small: the message stays."""
        try:
            at = ffi.from_buffer(buffer, require_writable=True)
        except (TypeError, BufferError) as e:
            raise _errors.SHMTypeError("recv_into needs a writable, contiguous buffer: %s" % e) from None
        got = self._h.recv_into(_number(at), len(at), timeout_ns(timeout))
        if got is None:
            if default is RAISE:
                raise self._timed_out("recv_into", timeout)
            return default
        return got[1]

    def __iter__(self) -> Iterator[Any]:
        """Messages, until the socket is closed."""
        while True:
            try:
                got = self._h.recv(-1, 0)
            except _errors.SHMClosedError:
                return
            yield self._take(got, True)

    async def arecv(self, timeout: Optional[float] = None, default: Any = None) -> Any:
        """recv for asyncio. When it is cancelled no message is lost."""
        got = await _aio.receive(self, timeout_ns(timeout))
        if got is None:
            if default is RAISE:
                raise self._timed_out("arecv", timeout)
            return default
        return self._take(got, True)

    def __aiter__(self: Self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return self._take(await _aio.receive(self, -1), True)
        except _errors.SHMClosedError:
            raise StopAsyncIteration from None


class _BatchReceiver(_Receiver):
    def recv_many(self, n: int, timeout: Optional[float] = None) -> List[Any]:
        """Up to n messages; waits for the first only. An empty list after the timeout."""
        if n <= 0:
            raise _errors.SHMValueError("recv_many(%r): ask for at least one" % (n,))
        return [self._take(got, True) for got in self._h.recv_many(n, timeout_ns(timeout))]


# ---- PUB/SUB ----


class Publisher(_Sender):
    """Sends to every subscriber that is there; never waits for any.

    depth: messages kept for slow subscribers (64). max_message: bytes (16 MiB). password: seals what is sent, the same
    on both sides. Several publishers may share a name."""

    _open = staticmethod(lib.shmipc_pub_open)

    def __init__(
        self,
        name: str,
        *,
        depth: int = 0,
        max_message: int = 0,
        codec: Codec = "pickle",
        password: Union[str, bytes, None] = None,
        capacity: int = 0,
        directory: Optional[str] = None,
    ) -> None:
        super().__init__(
            name,
            codec=codec,
            password=password,
            directory=directory,
            depth=depth,
            max_message=max_message,
            capacity=capacity,
        )

    def send(self, data: Any, *, topic: Optional[Topic] = None) -> bool:
        """Publishes an object. True."""
        tag, payload = self._encode(data)
        return self._put(payload, tag, 0, None if topic is None else _bytes_of(topic))

    def send_bytes(self, data: Any, *, topic: Optional[Topic] = None) -> bool:
        """Publishes bytes, or anything with a buffer, as they are. True."""
        payload = data if type(data) is bytes else _codecs.encode_raw(data)[1]
        return self._put(payload, 0, 0, None if topic is None else _bytes_of(topic))

    def send_many(self, items: Iterable[Any]) -> int:
        """Publishes several with one wake-up: how many."""
        return self._batch(map(self._encode, items), 0)

    async def asend(self, data: Any, *, topic: Optional[Topic] = None) -> bool:
        """send for asyncio: it never waits anyway."""
        return self.send(data, topic=topic)


class Subscriber(_BatchReceiver):
    """Receives what is published from now on; history=N begins with the last N messages of each living publisher.

    latest=True: always the newest only. topics: only messages whose topic begins with one of these.
    timeout_connect: SHMConnectionError if no publisher is there within so many seconds; else it may come later."""

    _open = staticmethod(lib.shmipc_sub_open)

    def __init__(
        self,
        name: str,
        *,
        timeout_connect: Optional[float] = None,
        latest: bool = False,
        history: int = 0,
        topics: Optional[Iterable[Topic]] = None,
        codec: Codec = "pickle",
        password: Union[str, bytes, None] = None,
        capacity: int = 0,
        directory: Optional[str] = None,
    ) -> None:
        super().__init__(
            name,
            codec=codec,
            password=password,
            directory=directory,
            timeout_connect=timeout_connect,
            topics=topics,
            latest=int(latest),
            history=history,
            capacity=capacity,
        )

    def _take(self, got: Any, copy: bool) -> Any:
        if not self._warned:
            self._unchecked += 1
            if self._unchecked >= 64:
                self._check_loss()
        return super()._take(got, copy)

    def _check_loss(self) -> None:
        """Now and then: warns, once, when messages were missed."""
        self._unchecked = 0
        if self.missed:
            self._warned = True
            log.warning(
                "%s: messages were overwritten before they were read, %d so far: read faster, or let publishers open "
                "with more depth",
                self._what("recv"),
                self.missed,
            )

    @property
    def missed(self) -> int:
        """How many messages were overwritten before this subscriber read them, exactly."""
        return self.stats()["dropped"]


# ---- PUSH/PULL ----


class Pusher(_Sender):
    """Sends each item to exactly one puller. Items outlive the pusher for `linger` seconds.

    depth: items in the queue (1,024). Several pushers may share a name."""

    _open = staticmethod(lib.shmipc_push_open)
    _check_every = 0

    def __init__(
        self,
        name: str,
        *,
        depth: int = 0,
        max_message: int = 0,
        linger: float = 30.0,
        codec: Codec = "pickle",
        password: Union[str, bytes, None] = None,
        capacity: int = 0,
        directory: Optional[str] = None,
    ) -> None:
        linger_ns = timeout_ns(linger) or -1
        super().__init__(
            name,
            codec=codec,
            password=password,
            directory=directory,
            depth=depth,
            max_message=max_message,
            capacity=capacity,
            linger_ns=linger_ns,
        )

    def send(self, data: Any, *, block: bool = True, timeout: Optional[float] = None) -> bool:
        """True when handed over. Waits while it is full; after `timeout` SHMBufferFullError; block=False: False."""
        tag, payload = self._encode(data)
        return self._push(payload, tag, block, timeout)

    def send_bytes(self, data: Any, *, block: bool = True, timeout: Optional[float] = None) -> bool:
        """send, for bytes or anything with a buffer, as they are."""
        return self._push(data if type(data) is bytes else _codecs.encode_raw(data)[1], 0, block, timeout)

    def _push(self, payload: Any, tag: int, block: bool, timeout: Optional[float]) -> bool:
        wait_ns = (-1 if timeout is None else timeout_ns(timeout)) if block else 0
        if self._put(payload, tag, wait_ns):
            return True
        if not block:
            return False
        raise self._full(timeout)

    def _full(self, timeout: Optional[float]) -> _errors.SHMBufferFullError:
        return _errors.SHMBufferFullError(
            "%s: the queue stayed full for %s s: add pullers, or open it with more depth"
            % (self._what("send"), timeout)
        )

    def send_many(self, items: Iterable[Any], *, timeout: Optional[float] = None) -> int:
        """Sends several with few wake-ups: how many were handed over before the timeout."""
        return self._batch(map(self._encode, items), timeout_ns(timeout))

    async def asend(self, data: Any, *, timeout: Optional[float] = None) -> bool:
        """send for asyncio: waits for room without blocking the loop."""
        tag, payload = self._encode(data)
        if await _aio.send(self, lambda: self._put(payload, tag, 1), timeout_ns(timeout)):
            return True
        raise self._full(timeout)


class Puller(_BatchReceiver):
    """Gets each item that no other puller gets. recv releases it on return; take() keeps it until you release it."""

    _open = staticmethod(lib.shmipc_pull_open)

    def __init__(
        self,
        name: str,
        *,
        depth: int = 0,
        max_message: int = 0,
        timeout_connect: Optional[float] = None,
        codec: Codec = "pickle",
        password: Union[str, bytes, None] = None,
        capacity: int = 0,
        directory: Optional[str] = None,
    ) -> None:
        super().__init__(
            name,
            codec=codec,
            password=password,
            directory=directory,
            timeout_connect=timeout_connect,
            depth=depth,
            max_message=max_message,
            capacity=capacity,
        )

    def take(self, timeout: Optional[float] = None, default: Any = None) -> Any:
        """The next Item, which goes to another puller if this process dies before it is released."""
        got = self._h.recv(timeout_ns(timeout), 1)
        if got is None:
            if default is RAISE:
                raise self._timed_out("take", timeout)
            return default
        return Item(self, *got)


# ---- REQ/REP ----


class Requester(_Sender, _Receiver):
    """Sends a request and receives its reply, and nobody else's. A second send abandons the first request."""

    _open = staticmethod(lib.shmipc_req_open)
    _check_every = 0

    def __init__(
        self,
        name: str,
        *,
        depth: int = 0,
        max_message: int = 0,
        timeout_connect: Optional[float] = None,
        codec: Codec = "pickle",
        password: Union[str, bytes, None] = None,
        capacity: int = 0,
        directory: Optional[str] = None,
    ) -> None:
        super().__init__(
            name,
            codec=codec,
            password=password,
            directory=directory,
            timeout_connect=timeout_connect,
            depth=depth,
            max_message=max_message,
            capacity=capacity,
        )

    def send(self, data: Any, *, timeout: Optional[float] = None) -> bool:
        """Sends the request; waits while the queue is full."""
        tag, payload = self._encode(data)
        return self._ask(payload, tag, timeout)

    def send_bytes(self, data: Any, *, timeout: Optional[float] = None) -> bool:
        """send, for bytes or anything with a buffer, as they are."""
        return self._ask(data if type(data) is bytes else _codecs.encode_raw(data)[1], 0, timeout)

    def _ask(self, payload: Any, tag: int, timeout: Optional[float]) -> bool:
        if self._put(payload, tag, -1 if timeout is None else timeout_ns(timeout)):
            return True
        raise _errors.SHMBufferFullError(
            "%s: the queue of requests stayed full for %s s: add repliers" % (self._what("send"), timeout)
        )

    def request(self, data: Any, timeout: Optional[float] = 5.0) -> Any:
        """Sends and receives. SHMTimeoutError when no reply comes in time; the next request still gets its own."""
        tag, payload = self._encode(data)
        wait_ns = -1 if timeout is None else timeout_ns(timeout)
        start = time.monotonic_ns()
        if self._put(payload, tag, wait_ns):
            left = wait_ns if wait_ns < 0 else max(wait_ns - (time.monotonic_ns() - start), 0)
            got = self._h.recv(left, 0)
            if got is not None:
                return self._take(got, True)
            self._h.abandon()
        raise self._timed_out("request", timeout)

    async def asend(self, data: Any, *, timeout: Optional[float] = None) -> bool:
        """send for asyncio."""
        tag, payload = self._encode(data)
        if await _aio.send(self, lambda: self._put(payload, tag, 1), timeout_ns(timeout)):
            return True
        raise self._timed_out("asend", timeout)

    async def arequest(self, data: Any, timeout: Optional[float] = 5.0) -> Any:
        """request for asyncio."""
        start = time.monotonic()
        await self.asend(data, timeout=timeout)
        left = None if timeout is None else max(timeout - (time.monotonic() - start), 0)
        try:
            return await self.arecv(left, RAISE)
        except (TimeoutError, asyncio.CancelledError):
            self._h.abandon()
            raise


class Replier(_Sender, _Receiver):
    """Receives a request, then sends its reply. Several repliers may share a name; a request that a replier dies over
    is not executed again."""

    _open = staticmethod(lib.shmipc_rep_open)

    def __init__(
        self,
        name: str,
        *,
        depth: int = 0,
        max_message: int = 0,
        codec: Codec = "pickle",
        password: Union[str, bytes, None] = None,
        capacity: int = 0,
        directory: Optional[str] = None,
    ) -> None:
        super().__init__(
            name,
            codec=codec,
            password=password,
            directory=directory,
            depth=depth,
            max_message=max_message,
            capacity=capacity,
        )

    def recv(self, timeout: Optional[float] = None, default: Any = None, copy: bool = True) -> Any:
        """The next request, always copied: its memory is the replier's only until the reply is sent."""
        return super().recv(timeout, default, True)

    def recv_bytes(self, timeout: Optional[float] = None, default: Any = None, copy: bool = True) -> Any:
        """The payload of the next request, always copied."""
        return super().recv_bytes(timeout, default, True)

    def send(self, data: Any) -> bool:
        """Answers the request received last. SHMStateError if there is none. True, also if the requester is gone."""
        tag, payload = self._encode(data)
        return self._put(payload, tag, 0)

    def send_bytes(self, data: Any) -> bool:
        """send, for bytes or anything with a buffer, as they are."""
        return self._put(data if type(data) is bytes else _codecs.encode_raw(data)[1], 0, 0)

    async def asend(self, data: Any) -> bool:
        """send for asyncio: it never waits anyway."""
        return self.send(data)


SOCKETS: Tuple[Type[Socket], ...] = (Publisher, Subscriber, Pusher, Puller, Requester, Replier)
