"""Watching the live view as a page does: over a WebSocket, with a session."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings as configured
from django.test import Client
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from jobs.models import Call
from tests.conftest import Live


def cookie_of(client: Client) -> str:
    name = configured.SESSION_COOKIE_NAME
    return f"{name}={client.cookies[name].value}"


def watch(at: Live, client: Client | None, *, origin: str = "", path: str = "") -> ClientConnection:
    return connect(
        at.url.replace("http", "ws") + (path or "/admin/live/socket"),
        additional_headers={"Cookie": cookie_of(client)} if client else None,
        origin=origin or at.url,
        proxy=None,
        ping_interval=None,
    )


def seen(socket: ClientConnection, is_it: Callable[[Any], Any], *, seconds: float = 15) -> Any:
    """The first message of which that is true; a busy machine has time for it."""
    deadline = time.monotonic() + seconds
    while True:
        message = json.loads(socket.recv(timeout=max(0, deadline - time.monotonic())))
        if is_it(message):
            return message


def closed(socket: ClientConnection, *, seconds: float = 5) -> tuple[int, str]:
    """With which code and reason it is closed."""
    deadline = time.monotonic() + seconds
    with pytest.raises(ConnectionClosed) as ending:
        _read_on(socket, until=deadline)
    assert ending.value.rcvd is not None
    return ending.value.rcvd.code, ending.value.rcvd.reason


def _read_on(socket: ClientConnection, *, until: float) -> None:
    while True:
        socket.recv(timeout=max(0, until - time.monotonic()))


def tile(state: Any, key: str) -> str:
    found = next(tile for tile in state["figures"]["tiles"] if tile["key"] == key)
    return str(found["exact"] or found["shown"])


def has(call: Call) -> Callable[[Any], bool]:
    return lambda message: str(call.pk) in {row["id"] for row in message["calls"]}
