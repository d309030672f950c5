"""Where a request comes from: known to whatever runs in it, without being passed along."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_current: ContextVar[str | None] = ContextVar("address", default=None)


def current() -> str | None:
    """The address of the request being answered; None outside of one (commands, the worker)."""
    return _current.get()


def of(request: HttpRequest) -> str | None:
    """The client's address: the peer's, or what the outermost trusted proxy says of its own peer.

    Each of TRUSTED_PROXY_COUNT proxies appends one entry to X-Forwarded-For, so the entry that
    many from the right is the first one a client cannot make up. A header with fewer did not come
    through all of them: then the peer is all that is known.
    """
    count: int = settings.TRUSTED_PROXY_COUNT
    hops = [hop.strip() for hop in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    if count > 0 and len(hops) >= count:
        forwarded = _valid(hops[-count])
        if forwarded is not None:
            return forwarded
    return _valid(request.META.get("REMOTE_ADDR", ""))


class AddressMiddleware:
    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if self.is_async:
            return self._later(request)
        token = _current.set(of(request))
        try:
            return self.get_response(request)
        finally:
            _current.reset(token)

    async def _later(self, request: HttpRequest) -> HttpResponseBase:
        token = _current.set(of(request))
        try:
            answering: Awaitable[HttpResponseBase] = self.get_response(request)
            return await answering
        finally:
            _current.reset(token)


def _valid(text: str) -> str | None:
    """An address as text; some proxies write a port after it."""
    for candidate in (text, text.rpartition(":")[0].strip("[]")):
        try:
            return str(ipaddress.ip_address(candidate))
        except ValueError:
            continue
    return None


def is_public(address: str) -> bool:
    """Whether an IP address is of the open internet: no address of a machine, a network, a group.

    Of IPv6 only global unicast is, and nothing that stands for an IPv4 address.
    """
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return False
    if known.version == 6 and (known not in _GLOBAL_UNICAST or known.sixtofour or known.teredo):
        return False
    return known.is_global and not known.is_multicast
