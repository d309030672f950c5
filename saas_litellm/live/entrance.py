"""Who may watch: the same people, sessions and pages as may open the page itself."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.http import is_same_domain

from saas_litellm.base.refusals import Forbidden, Unauthenticated
from saas_litellm.live.watchers import NOT_ALLOWED, SIGNED_OUT, Ending
from teams import operators

PERMISSION = "jobs.view_call"


def is_of_our_page(request: HttpRequest) -> bool:
    """Whether a page of ours opens it, by the rule for forms (CSRF_TRUSTED_ORIGINS included).

    Browsers send a session's cookie with any page's sockets, and always say which page it was.
    """
    origin = request.META.get("HTTP_ORIGIN", "")
    try:
        if origin == f"{request.scheme}://{request.get_host()}":
            return True
        asked = urlsplit(origin)
    except (DisallowedHost, ValueError):
        return False
    return origin in _CSRF.allowed_origins_exact or any(
        is_same_domain(asked.netloc, pattern)
        for pattern in _CSRF.allowed_origin_subdomains.get(asked.scheme, ())
    )


def session_key(request: HttpRequest) -> str:
    return request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")


def refusal(key: str) -> Ending | None:
    """Why whoever has this session may not watch (any more); None: they may."""
    try:
        operators.of_session(key).require(PERMISSION)
    except Unauthenticated:
        return Ending(SIGNED_OUT, "You are signed out.")
    except Forbidden:
        return Ending(NOT_ALLOWED, "Your role does not include looking at calls.")
    return None


def refusals(keys: Iterable[str]) -> dict[str, Ending]:
    """The sessions among these that may not watch any more."""
    found = {key: refusal(key) for key in keys}
    return {key: ending for key, ending in found.items() if ending is not None}


def _never_called(_request: HttpRequest) -> HttpResponse:
    raise NotImplementedError


_CSRF = CsrfViewMiddleware(_never_called)
