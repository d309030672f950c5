"""The page: a snapshot of now, which the socket keeps going where there is JavaScript."""

from __future__ import annotations

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from saas_litellm.live import entrance, figures, socket


@never_cache
@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """For whoever may look at calls. Raises PermissionDenied."""
    if not request.user.has_perm(entrance.PERMISSION):
        raise PermissionDenied
    state = figures.Window().look()
    context = {
        **admin.site.each_context(request),
        "title": "Live",
        "figures": state.figures,
        "calls": state.calls,
        "calls_max": figures.CALLS,
        "socket_path": socket.PATH,
    }
    return render(request, "admin/live.html", context)
