"""Pages that every operator has for themselves: their password, and their second factor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import django_otp
import segno
from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth import authenticate
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.safestring import mark_safe
from django.views.decorators.cache import never_cache
from django_otp.plugins.otp_static import admin as static_admin
from django_otp.plugins.otp_totp import admin as totp_admin
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget

from saas_litellm.base import audit
from saas_litellm.base.admin import actor
from saas_litellm.base.refusals import Refusal
from teams import second_factor
from teams.models import User

# Their pages show secrets, and the guards of this module would not hold there.
admin.site.unregister((totp_admin.TOTPDevice, static_admin.StaticDevice))


class PasswordForm(forms.Form):
    password = forms.CharField(
        label="Your password",
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "current-password"}),
    )


class CodeForm(forms.Form):
    code = forms.CharField(
        max_length=32,
        widget=UnfoldAdminTextInputWidget(
            attrs={"autocomplete": "one-time-code", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )


def password_change(request: HttpRequest) -> HttpResponse:
    """The site's own page, with an audit entry."""
    answer: HttpResponse = admin.site.password_change(request)
    if request.method == "POST" and answer.status_code == 302:
        audit.record(actor=actor(request), action="user.password", target=f"user:{request.user}")
    return answer


@never_cache
def second_factor_page(request: HttpRequest) -> HttpResponse:
    """Enrol: password, then a QR and a code of it. Enrolled: new codes, another app, or none.

    A session alone, which somebody may have left open, changes nothing here.
    """
    assert isinstance(request.user, User)
    act = _ACTS.get(request.POST.get("act", "")) if request.method == "POST" else None
    shown: dict[str, Any] | HttpResponse
    try:
        shown = act(request, request.user) if act else {}
    except Refusal as refusal:
        messages.error(request, refusal.message)
        shown = {"is_pending": request.POST.get("act") == "confirm"}
    if isinstance(shown, HttpResponse):
        return shown
    context = {
        **admin.site.each_context(request),
        "title": "Second factor",
        "is_enrolled": second_factor.is_enrolled(request.user),
        "codes_left": second_factor.codes_left(request.user),
        "password_form": PasswordForm(),
        "code_form": CodeForm(),
        "is_compulsory": settings.REQUIRE_SECOND_FACTOR,
        **shown,
    }
    return render(request, "admin/second_factor.html", context)


class WrongPassword(second_factor.WrongCode):
    default_message = "That is not your password, or it was wrong too often: then wait a while."


def _begin(request: HttpRequest, user: User) -> dict[str, Any]:
    """The secret, in this one answer and never again."""
    _require_proof(request, user)
    enrolment = second_factor.begin(user=user)
    image = segno.make(enrolment.uri, error="m").svg_inline(scale=5, border=4, light="#fff")
    # segno's own markup of modules; the address is in it as pixels, not as text.
    return {"secret": enrolment.secret, "qr": mark_safe(image), "is_pending": True}  # noqa: S308


def _confirm(request: HttpRequest, user: User) -> dict[str, Any]:
    device, codes = second_factor.confirm(
        user=user, code=request.POST.get("code", ""), actor=actor(request)
    )
    # This session has just shown it; all others of this person end at their next page.
    django_otp.login(request, device)
    return {"codes": codes}


def _new_codes(request: HttpRequest, user: User) -> dict[str, Any]:
    _require_proof(request, user)
    return {"codes": second_factor.new_codes(user=user, actor=actor(request))}


def _remove(request: HttpRequest, user: User) -> HttpResponse:
    _require_proof(request, user)
    second_factor.reset(user=user, actor=actor(request), reason="by themselves")
    messages.success(request, "Your second factor is gone.")
    return redirect("second_factor")


_ACTS: dict[str, Callable[[HttpRequest, User], dict[str, Any] | HttpResponse]] = {
    "begin": _begin,
    "confirm": _confirm,
    "codes": _new_codes,
    "remove": _remove,
}


def _require_proof(request: HttpRequest, user: User) -> None:
    """A code of those who have one, the password of the others. Raises WrongCode, WrongPassword."""
    if second_factor.is_enrolled(user):
        if second_factor.verify(user=user, code=request.POST.get("code", "")) is None:
            raise second_factor.WrongCode
        return
    # By way of the backends, so that guesses here count as failed sign-ins do.
    password = request.POST.get("password", "")
    if authenticate(request, username=user.get_username(), password=password) != user:
        raise WrongPassword
