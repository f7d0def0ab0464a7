"""Exceptions. One root, SHMError; each also inherits the built-in that callers expect, so `except TimeoutError` works.

SHMError
  SHMConnectionError      (ConnectionError)   no such channel, other options or pattern, peer dead, forked
    SHMPermissionError    (PermissionError)   the directory or a file belongs to somebody else, or lets others in
  SHMTimeoutError         (TimeoutError)
  SHMBufferFullError                          the queue stayed full
  SHMSerializationError                       cannot be encoded or decoded; SerializationError is the same class
  SHMMessageSizeError     (ValueError)        longer than max_message, or than the buffer given
  SHMValueError           (ValueError)        an argument is out of its range
  SHMTypeError            (TypeError)         an argument is of the wrong type
  SHMStateError           (RuntimeError)      the call does not fit what the socket is doing
    SHMClosedError                            used after close()
  MemoryFullError         (MemoryError)       the shared-memory file system, or this process's memory, is full
"""

from __future__ import annotations

from typing import Dict, Optional, Type


class SHMError(Exception):
    """Root of all errors of this package. `code` is the number of the C library, 0 if the error was found in Python."""

    code: int = 0


class SHMConnectionError(SHMError, ConnectionError):
    """The channel cannot be joined, or the other side is gone."""


class SHMPermissionError(SHMConnectionError, PermissionError):
    """The operating system or the checks of the directory refuse access."""


class SHMTimeoutError(SHMError, TimeoutError):
    """The time given has passed."""


class SHMBufferFullError(SHMError):
    """The queue stayed full for the time given."""


class SHMSerializationError(SHMError):
    """An object could not be encoded, or a payload not decoded."""


class SHMMessageSizeError(SHMError, ValueError):
    """A message is longer than the channel's max_message, or than the buffer given."""


class SHMValueError(SHMError, ValueError):
    """An argument is out of its range."""


class SHMTypeError(SHMError, TypeError):
    """An argument is of the wrong type."""


class SHMStateError(SHMError, RuntimeError):
    """The call does not fit what the socket is doing, such as a reply without a request."""


class SHMClosedError(SHMStateError):
    """The socket was closed."""


class MemoryFullError(SHMError, MemoryError):
    """The shared-memory file system is full, or this process has no memory left."""


SerializationError = SHMSerializationError

CLASSES: Dict[str, Type[SHMError]] = {
    "EINVAL": SHMValueError,
    "ENOMEM": MemoryFullError,
    "ENOSPC": MemoryFullError,
    "EFULL": SHMBufferFullError,
    "ETIMEDOUT": SHMTimeoutError,
    "EMSGSIZE": SHMMessageSizeError,
    "EACCES": SHMPermissionError,
    "EOWNER": SHMPermissionError,
    "EMODE": SHMPermissionError,
    "ESYMLINK": SHMPermissionError,
    "ECLOSED": SHMClosedError,
    "ESTATE": SHMStateError,
    "EBUSY": SHMStateError,
    "ENOTSUP": SHMError,
    "EOS": SHMError,
}

ADVICE = {
    "ECLOSED": "the socket was closed; open a new one",
    "EFORKED": "the socket was opened before a fork; open a new one in the child",
    "ENOSPC": "the shared-memory file system is full: remove something, or mount it larger (-o remount,size=...)",
    "ECORRUPT": "damaged, or, where a password is used, sent with another one",
    "EPEERDEAD": "the peer died before it answered; the request is not executed again, send it again if that is safe",
    "ETABLE": "a table in shared memory is full: open the channel with more capacity, or close sockets",
    "ENFILE": "no file descriptor is left: close some, or raise the limit (ulimit -n)",
}


def error(name: Optional[str], code: int, text: str) -> SHMError:
    """The exception for a code of the C library, SHMIPC_ and `name`. What is not listed is about connecting."""
    e = CLASSES.get(name or "EOS", SHMConnectionError)(text)
    e.code = code
    return e
