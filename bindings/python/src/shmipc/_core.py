"""The native module, this process's contexts, and what every part needs: errors, times, logging, exit and fork."""

from __future__ import annotations

import atexit
import importlib.machinery
import importlib.util
import logging
import math
import os
import sys
import threading
import weakref
from typing import Any, Dict, Optional, Tuple

try:
    from . import _native
except ImportError as e:  # cffi itself says nothing of what to do
    if "subinterpreter" in str(e):
        raise ImportError(
            "shmipc cannot be imported in an isolated sub-interpreter: cffi modules do not support them. "
            "Import it in the main interpreter, or use processes."
        ) from e
    raise

from . import _errors

ffi: Any = _native.ffi
lib: Any = _native.lib
log = logging.getLogger("shmipc")
log.addHandler(logging.NullHandler())


def _load_handle() -> Any:
    """shmipc._handle lies in the same shared object as the cffi module, so that both call one copy of the library."""
    loader = importlib.machinery.ExtensionFileLoader("shmipc._handle", _native.__file__)
    spec = importlib.util.spec_from_file_location("shmipc._handle", _native.__file__, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


Handle: Any = _load_handle().Handle

CODES: Dict[int, str] = {
    getattr(lib, name): name[len("SHMIPC_") :]
    for name in dir(lib)
    if name.startswith("SHMIPC_E") and isinstance(getattr(lib, name), int) and getattr(lib, name) < 0
}


class _Raise:
    """The type of shmipc.RAISE: `recv(timeout=1, default=shmipc.RAISE)` raises SHMTimeoutError."""

    def __repr__(self) -> str:
        return "shmipc.RAISE"

    def __reduce__(self) -> str:
        return "RAISE"


RAISE = _Raise()
FOREVER = -1


def timeout_ns(timeout: Optional[float]) -> int:
    """Seconds, or None for ever, to what the library wants."""
    if timeout is None:
        return FOREVER
    if timeout == 0:
        return 0
    try:
        if timeout > 0:
            return min(math.ceil(timeout * 1e9), 2**62) if timeout < 4e9 else FOREVER
    except TypeError:
        raise _errors.SHMTypeError(
            "timeout is seconds as a number, or None to wait for ever, not %r" % (timeout,)
        ) from None
    raise _errors.SHMValueError("timeout is %r: give seconds from 0 up, or None to wait for ever" % (timeout,))


def describe(code: int, detail: str, what: str) -> str:
    """What was being done, what was found, and what to do about it."""
    advice = _errors.ADVICE.get(CODES.get(code, ""))
    if CODES.get(code) in ("ECLOSED", "EFORKED"):
        detail = ""  # of this call there is none
    if not detail:
        text = advice or ffi.string(lib.shmipc_strerror(code)).decode()
    else:
        text = "%s (%s)" % (detail, advice) if advice else detail
    return "%s: %s" % (what, text)


def make_error(code: int, detail: str, what: str) -> _errors.SHMError:
    return _errors.error(CODES.get(code), code, describe(code, detail, what))


def name_bytes(name: Any) -> bytes:
    if not isinstance(name, str):
        raise _errors.SHMTypeError("a channel's name is a str such as 'robot/pose', not %r" % (name,))
    if not name:
        raise _errors.SHMValueError("a channel's name must not be empty")
    try:
        return name.encode()
    except UnicodeEncodeError as e:
        raise _errors.SHMValueError("the name %r is not valid Unicode: %s" % (name, e)) from None


# ---- contexts: one for each directory and process, opened when first needed ----

_lock = threading.Lock()
_contexts: Dict[Tuple[int, Optional[bytes]], Any] = {}
_open_handles: "weakref.WeakSet[Any]" = weakref.WeakSet()  # objects with a _h and a close()
_exit_pid = 0


def context(directory: Optional[str] = None) -> Any:
    """The shmipc_ctx of this process for a directory; None: SHMIPC_DIR or the user's own."""
    chosen = directory if directory is not None else os.environ.get("SHMIPC_DIR")
    key = (os.getpid(), os.fsencode(chosen) if chosen else None)
    with _lock:
        ctx = _contexts.get(key)
        if ctx is None or lib.shmipc_ctx_check(ctx):
            ctx = _contexts[key] = _open_context(key[1])
        _register_exit()
    return ctx


def _open_context(directory: Optional[bytes]) -> Any:
    cfg = ffi.new("shmipc_ctx_config *")
    lib.shmipc_ctx_config_init(cfg)
    error_text = cfg.error_text = ffi.new("char[]", 512)
    cfg.error_len = 512
    folder = ffi.new("char[]", directory) if directory else ffi.NULL
    cfg.dir = folder
    out = ffi.new("shmipc_ctx **")
    rc = lib.shmipc_ctx_open(out, cfg)
    if rc:
        raise make_error(rc, ffi.string(error_text).decode(errors="replace"), "opening the shared-memory directory")
    log.debug(
        "opened %s as life %d",
        ffi.string(lib.shmipc_ctx_dir(out[0])).decode(errors="replace"),
        lib.shmipc_ctx_life(out[0]),
    )
    return out[0]


def detail(ctx: Any) -> str:
    text = lib.shmipc_ctx_detail(ctx)
    return ffi.string(text).decode(errors="replace") if text != ffi.NULL else ""


def track(handle_owner: Any) -> None:
    _open_handles.add(handle_owner)


def _register_exit() -> None:
    """Closes what is open when this process ends, so that nothing is left. multiprocessing ends its children without
    atexit, but runs its own finalizers."""
    global _exit_pid
    if _exit_pid == os.getpid():
        return
    if _exit_pid == 0:
        atexit.register(_close_all)
    _exit_pid = os.getpid()
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, _close_all, exitpriority=-100)


def _close_all() -> None:
    for owner in list(_open_handles):
        try:
            owner.close()
        except Exception as e:  # the process ends: the kernel frees what is left
            log.debug("closing %r at exit: %s", owner, e)


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for owner in list(_open_handles):
        owner._forked()
    _open_handles.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
