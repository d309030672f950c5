"""What the price pages share: who may open one, and the admin's frame around it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from billing import plan_views, plans
from billing.models import PlanVersion, PricePlan
from saas_litellm.base.refusals import NotFound

View = Callable[..., HttpResponse]


def page(*permissions: str) -> Callable[[View], View]:
    """A page of the admin for those who have all of these permissions."""

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not request.user.has_perms(permissions):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return admin.site.admin_view(guarded)

    return decorate


def framed(request: HttpRequest, template: str, title: str, **context: Any) -> HttpResponse:
    frame = admin.site.each_context(request)
    return render(request, f"admin/plans/{template}", {**frame, "title": title, **context})


def found_plan(slug: str) -> PricePlan:
    """The plan, or 404; a preset is made by whoever takes it (``price_plans``), not by a look."""
    try:
        return plans.look_up(slug)
    except NotFound as refusal:
        raise Http404(refusal.message) from refusal


def found_version(slug: str, number: int) -> PlanVersion:
    """The version, or 404."""
    try:
        return plan_views.find_version(slug, number)
    except NotFound as refusal:
        raise Http404(refusal.message) from refusal


def say(request: HttpRequest, text: str) -> None:
    messages.success(request, text)


def refuse(request: HttpRequest, text: str) -> None:
    messages.error(request, text)
