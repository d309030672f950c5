"""Random ids, as `uuid4` makes them, from randomness that is fetched in bulk.

Each look at the system's source gives the interpreter's lock away, and on a busy event loop it takes
longer to get that back than all else that a request's ids cost.
"""

from __future__ import annotations

import os
import threading
from uuid import UUID

_IDS_AT_ONCE = 256


class _Reserve(threading.local):
    """Of one thread: bytes that nobody has had yet."""

    left = b""


_reserve = _Reserve()


def _forget() -> None:
    # A forked process would give the same ids.
    _reserve.left = b""


os.register_at_fork(after_in_child=_forget)


def new_id() -> UUID:
    """A random UUID, version 4."""
    if not _reserve.left:
        _reserve.left = os.urandom(16 * _IDS_AT_ONCE)
    taken, _reserve.left = _reserve.left[:16], _reserve.left[16:]
    return UUID(bytes=taken, version=4)
