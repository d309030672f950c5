"""What a page may load and run: itself, and nothing from anywhere else.

The admin's theme sets its colours in a style element, hides with style attributes, and evaluates
its Alpine expressions, so there alone inline styles and eval are let through; scripts are files of
ours everywhere. The API reference draws with inline styles and indexes in a worker of its own.
"""

from __future__ import annotations

from typing import Any

from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.middleware import CSPMiddleware
from django.http import HttpRequest, HttpResponseBase

STRICT = {
    "default-src": [NONE],
    "script-src": [SELF],
    "style-src": [SELF],
    "img-src": [SELF, "data:"],
    "font-src": [SELF],
    "connect-src": [SELF],
    "form-action": [SELF],
    "base-uri": [NONE],
    "frame-ancestors": [NONE],
}
LOOSER: dict[str, dict[str, list[Any]]] = {
    "/admin/": {"script-src": [UNSAFE_EVAL], "style-src": [UNSAFE_INLINE]},
    "/docs": {"style-src": [UNSAFE_INLINE]},
    "/redoc": {"style-src": [UNSAFE_INLINE], "worker-src": ["blob:"]},
}


class ContentPolicyMiddleware(CSPMiddleware):  # type: ignore[misc] # django-csp is untyped
    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        for prefix, more in LOOSER.items():
            if request.path_info.startswith(prefix):
                response._csp_update = more  # type: ignore[attr-defined] # what django-csp reads
        answered: HttpResponseBase = super().process_response(request, response)
        return answered
