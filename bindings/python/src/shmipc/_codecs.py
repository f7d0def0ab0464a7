"""How objects become payloads. The tag of every message says how it was encoded, so that a receiver needs no agreement.

    tag 0   bytes as they are; also what C programs send unless they say otherwise
        1   pickle          2  JSON (UTF-8)          3  msgpack          4  the pair of functions given as codec
     0x81   pickle with its large buffers beside it          0x82  a NumPy array

With bit 7 set the payload is read in place, so that an array is copied once, or not at all (copy=False):

    0x81    u32 count of buffers, u32 0, u64 length of the pickle, u64 offset and u64 length of each; the pickle; the
            buffers, each at a multiple of 64
    0x82    u8 version 1, u8 order ('C' or 'F'), u8 dimensions, u8 0, u32 offset of the data (a multiple of 64), u64
            length of the dtype, u64 for each dimension; the dtype as text; the data
"""

from __future__ import annotations

import ast
import json
import pickle
import struct
import sys
from typing import Any, Callable, Iterable, List, Optional, Tuple, Union

from . import _errors
from ._core import ffi

RAW, PICKLE, JSON, MSGPACK, CUSTOM, BUFFERS, NUMPY = 0, 1, 2, 3, 4, 0x81, 0x82
NAMES = {
    RAW: "raw",
    PICKLE: "pickle",
    JSON: "json",
    MSGPACK: "msgpack",
    CUSTOM: "a custom codec",
    BUFFERS: "pickle",
    NUMPY: "numpy",
}

Codec = Union[str, Tuple[Callable[[Any], Any], Callable[[bytes], Any]]]
# What an encoder answers: (tag, bytes), or (tag, pieces) with pieces (object kept alive, address, length).
Piece = Tuple[Any, int, int]
Encoded = Tuple[int, Union[bytes, List[Piece]]]

_address = ffi.typeof("uintptr_t")


def piece(buffer: Any) -> Piece:
    """The memory of an object that has a contiguous buffer."""
    at = ffi.from_buffer(buffer)
    return at, int(ffi.cast(_address, at)), len(at)


def _padded(pieces: List[Piece], at: int) -> int:
    """Pads to a multiple of 64 and answers where that is."""
    pad = -at % 64
    if pad:
        pieces.append(piece(bytes(pad)))
    return at + pad


# ---- encoding --------------------------------------------------------------------------------------------------------


def encode_raw(data: Any) -> Encoded:
    if type(data) is bytes:
        return RAW, data
    if isinstance(data, str):
        raise _errors.SHMSerializationError("codec 'raw' takes bytes, not str: call .encode(), or use another codec")
    try:
        view = memoryview(data)
    except TypeError:
        raise _errors.SHMSerializationError(
            "codec 'raw' takes bytes or what has a buffer, not %s: use codec 'pickle' or another" % type(data).__name__
        ) from None
    if not view.contiguous:
        return RAW, view.tobytes()
    return RAW, bytes(view) if view.nbytes < 4096 else [piece(view.cast("B"))]


def _numpy() -> Any:
    return sys.modules.get("numpy")


def numpy_header(np: Any, dtype: Any, shape: Tuple[int, ...], order: str) -> bytes:
    """What goes before the data of an array; its length is a multiple of 64."""
    text = repr(np.lib.format.dtype_to_descr(dtype)).encode()
    fixed = (
        struct.pack("<BBBxIQ", 1, ord(order), len(shape), 0, len(text))
        + struct.pack("<%dQ" % len(shape), *shape)
        + text
    )
    size = (len(fixed) + 63) // 64 * 64
    return fixed[:4] + struct.pack("<I", size) + fixed[8:] + bytes(size - len(fixed))


def encode_array(np: Any, array: Any) -> Encoded:
    order = "C"
    if not array.flags.c_contiguous:
        if array.flags.f_contiguous:
            order = "F"
        else:
            array = np.ascontiguousarray(array)
    header = numpy_header(np, array.dtype, array.shape, order)
    if array.nbytes == 0:
        return NUMPY, header
    flat = array.T if order == "F" else array
    return NUMPY, [piece(header), (array, flat.__array_interface__["data"][0], array.nbytes)]


def encode_numpy(data: Any) -> Encoded:
    np = _need("numpy")
    array = np.asarray(data)
    if array.dtype.hasobject:
        raise _errors.SHMSerializationError("codec 'numpy' cannot send arrays of Python objects: use codec 'pickle'")
    return encode_array(np, array)


def encode_pickle(data: Any) -> Encoded:
    kind = type(data)
    if kind is bytes:
        return RAW, data
    np = _numpy()
    if np is not None and kind is np.ndarray and not data.dtype.hasobject:
        return encode_array(np, data)
    buffers: List[pickle.PickleBuffer] = []
    try:
        pickled = pickle.dumps(data, 5, buffer_callback=buffers.append)
        return _with_buffers(pickled, buffers) if buffers else (PICKLE, pickled)
    except Exception as e:
        raise _errors.SHMSerializationError(
            "%s cannot be pickled: %s. Send what can be, or give codec=(encode, decode)" % (kind.__name__, e)
        ) from e


def _with_buffers(pickled: bytes, buffers: List[pickle.PickleBuffer]) -> Encoded:
    raws = [b.raw() for b in buffers]
    at = 16 + 16 * len(raws) + len(pickled)
    table: List[int] = []
    for raw in raws:
        at += -at % 64
        table += [at, raw.nbytes]
        at += raw.nbytes
    head = struct.pack("<IIQ%dQ" % len(table), len(raws), 0, len(pickled), *table) + pickled
    pieces = [piece(head)]
    at = len(head)
    for raw in raws:
        at = _padded(pieces, at) + raw.nbytes
        if raw.nbytes:
            pieces.append(piece(raw))
    return BUFFERS, pieces


def encode_json(data: Any) -> Encoded:
    try:
        return JSON, json.dumps(data, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as e:
        raise _errors.SHMSerializationError("%s cannot be sent as JSON: %s" % (type(data).__name__, e)) from e


def _need(package: str) -> Any:
    try:
        return __import__(package)
    except ImportError as e:
        raise _errors.SHMSerializationError(
            "this needs the package %s, which is not installed: pip install 'shmipc[%s]'" % (package, package)
        ) from e


def encode_msgpack(data: Any) -> Encoded:
    msgpack = _need("msgpack")
    try:
        return MSGPACK, msgpack.packb(data)
    except Exception as e:
        raise _errors.SHMSerializationError("%s cannot be sent as msgpack: %s" % (type(data).__name__, e)) from e


def _custom(function: Callable[[Any], Any]) -> Callable[[Any], Encoded]:
    def encode(data: Any) -> Encoded:
        try:
            payload = function(data)
            return CUSTOM, payload if type(payload) is bytes else bytes(memoryview(payload))
        except Exception as e:
            raise _errors.SHMSerializationError(
                "the codec's encoder failed on %s: %s" % (type(data).__name__, e)
            ) from e

    return encode


ENCODERS = {
    "pickle": encode_pickle,
    "raw": encode_raw,
    "json": encode_json,
    "msgpack": encode_msgpack,
    "numpy": encode_numpy,
}


def encoder(codec: Codec) -> Callable[[Any], Encoded]:
    if isinstance(codec, tuple) and len(codec) == 2 and callable(codec[0]) and callable(codec[1]):
        return _custom(codec[0])
    if isinstance(codec, str) and codec in ENCODERS:
        if codec in ("msgpack", "numpy"):
            _need(codec)
        return ENCODERS[codec]
    raise _errors.SHMValueError(
        "codec %r: use one of %s, or a pair of functions (encode, decode)" % (codec, ", ".join(ENCODERS))
    )


# ---- decoding --------------------------------------------------------------------------------------------------------


def _array(payload: memoryview, copy: bool) -> Any:
    np = _need("numpy")
    version, order, ndim, data_at, dtype_len = struct.unpack_from("<BBBxIQ", payload)
    if version != 1 or order not in b"CF" or ndim > 64 or 16 + 8 * ndim + dtype_len > data_at or data_at > len(payload):
        raise ValueError("the header of the array is damaged")
    shape = struct.unpack_from("<%dQ" % ndim, payload, 16)
    text = bytes(payload[16 + 8 * ndim : 16 + 8 * ndim + dtype_len]).decode()
    dtype = np.lib.format.descr_to_dtype(ast.literal_eval(text))
    count = 1
    for n in shape:
        count *= n
    if dtype.hasobject or count * dtype.itemsize != len(payload) - data_at:
        raise ValueError("the array's size and its header differ")
    flat = np.frombuffer(payload, dtype, count, data_at) if count and dtype.itemsize else np.empty(count, dtype)
    array = flat.reshape(shape, order=chr(order))
    return array.copy(order="A") if copy and count else array


def _unpickle_buffers(payload: memoryview, copy: bool) -> Any:
    count, _, pickle_len = struct.unpack_from("<IIQ", payload)
    table = struct.unpack_from("<%dQ" % (2 * count), payload, 16)
    at = 16 + 16 * count
    buffers: Iterable[Any] = (payload[o : o + n] for o, n in zip(table[::2], table[1::2]))
    if copy:
        buffers = [bytearray(b) for b in buffers]
    return pickle.loads(payload[at : at + pickle_len], buffers=buffers)


def _memory(payload: Any) -> memoryview:
    return payload if type(payload) is memoryview else memoryview(payload)


def _decode(tag: int, payload: Any, custom: Optional[Callable[[bytes], Any]], copy: bool) -> Any:
    if tag == RAW:
        return payload
    if tag == PICKLE:
        return pickle.loads(payload)
    if tag == NUMPY:
        return _array(_memory(payload), copy)
    if tag == BUFFERS:
        return _unpickle_buffers(_memory(payload), copy)
    if tag == JSON:
        return json.loads(bytes(payload))
    if tag == MSGPACK:
        return _need("msgpack").unpackb(payload, strict_map_key=False)
    if tag == CUSTOM and custom is not None:
        return custom(bytes(payload))
    raise _errors.SHMSerializationError(
        "the message was encoded by %s, unknown to this socket: open it with the sender's codec=(encode, decode)"
        % NAMES.get(tag, "an unknown codec (tag %d)" % tag)
    )


class Decoder:
    """Decodes whatever arrives. Pickles run their sender's code, so a socket with another codec refuses them."""

    def __init__(self, codec: Codec) -> None:
        encoder(codec)
        self.custom = codec[1] if isinstance(codec, tuple) else None
        self.unpickles = codec == "pickle"
        self.codec = codec if isinstance(codec, str) else "custom"

    def __call__(self, tag: int, payload: Any, copy: bool = True) -> Any:
        try:
            return self._decode(tag, payload, copy)
        except _errors.SHMSerializationError:
            if type(payload) is memoryview:
                payload.release()  # consumed: the traceback must not keep the message
            raise

    def _decode(self, tag: int, payload: Any, copy: bool) -> Any:
        if tag in (PICKLE, BUFFERS) and not self.unpickles:
            raise _errors.SHMSerializationError(
                "the message was sent with codec 'pickle', and this socket has codec %r, which does not unpickle: "
                "use the same codec on both sides, or 'pickle' here if its senders may be trusted" % self.codec
            )
        size = len(payload)
        try:
            return _decode(tag, payload, self.custom, copy)
        except _errors.SHMError:
            raise
        except Exception as e:
            raise self.failed(tag, size, e) from e

    def failed(self, tag: int, size: int, e: Exception) -> _errors.SHMSerializationError:
        return _errors.SHMSerializationError(
            "a message of %d bytes sent with %s cannot be decoded: %s: %s"
            % (size, NAMES.get(tag, "tag %d" % tag), type(e).__name__, e)
        )
