"""Where messages may go: checked as text when an endpoint is saved, and as addresses when it is
connected to.

A name is resolved here and the connection goes to one of the very addresses that were checked, so
that no second answer of the name's server can lead it elsewhere. Certificates are still checked
against the name.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import httpcore
from django.conf import settings

from saas_litellm.base import addresses
from saas_litellm.base.refusals import Invalid

LONGEST = 2000
NOT_OPEN = (
    "This address is not on the open internet. A receiver on a developer's machine gets events from"
    " `manage.py listen`; the setting WEBHOOK_PRIVATE_TARGETS opens a closed network."
)


class Refused(Exception):
    """This target is not written to; the message may be shown to its owner."""


def check(url: str) -> None:
    """Raises Invalid for what no message may be sent to, as far as the text tells."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise Invalid("This is no URL.", param="url") from error
    if not host or not url.isascii() or not url.isprintable() or " " in url or len(url) > LONGEST:
        raise Invalid("Give a whole URL in ASCII: https://app.example.com/hooks", param="url")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise Invalid(
            "The URL holds no user, password or #: signatures say who sends.", param="url"
        )
    is_address = _is_address(host)
    if (is_address or host == "localhost") and not _is_allowed(host if is_address else "127.0.0.1"):
        raise Invalid(NOT_OPEN, param="url")
    if parts.scheme not in schemes():
        raise Invalid(f"The URL begins with {' or '.join(schemes())}://", param="url")


def schemes() -> tuple[str, ...]:
    return ("https", "http") if settings.DEBUG else ("https",)


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host that may be connected to. Raises Refused when there are none."""
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Refused("the host has no address") from error
    every = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
    allowed = [address for address in every if _is_allowed(address)]
    if not allowed:
        raise Refused("the host's address is not on the open internet")
    return allowed


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses, and to nothing else."""

    def __init__(self) -> None:
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                return await self._connected(
                    host, port, local_address=local_address, socket_options=socket_options
                )
        except TimeoutError as error:
            raise httpcore.ConnectTimeout from error

    async def _connected(self, host: str, port: int, **options: Any) -> httpcore.AsyncNetworkStream:
        """Over the first of the host's addresses that answers."""
        refused: Exception = httpcore.ConnectError()
        for address in await resolve(host, port):
            try:
                return await self._network.connect_tcp(address, port, **options)
            except httpcore.ConnectError as error:
                refused = error
        raise refused

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise Refused("no socket of this machine is written to")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _is_allowed(address: str) -> bool:
    return settings.WEBHOOK_PRIVATE_TARGETS or addresses.is_public(address)


def _is_address(host: str) -> bool:
    """In any of the ways in which a resolver takes an IPv4 address (`127.1`, `0x7f000001`), too."""
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    return True
