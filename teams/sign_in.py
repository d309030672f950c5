"""Signing in: the form, what of it is audited, and what a session must have to see a page.

Failures are counted by django-axes, by name and address together: whoever guesses locks out that
name from their own address, not the person elsewhere. Each refusal reads the same, whether the
name, the password, the code or the right to be here is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from axes.signals import user_locked_out
from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.deprecation import MiddlewareMixin
from unfold.forms import AuthenticationForm as AdminForm
from unfold.widgets import UnfoldAdminTextInputWidget

from saas_litellm.base import addresses, audit, clock
from saas_litellm.base.models import AuditEntry
from teams import second_factor, sessions
from teams.models import User
from teams.sessions import Standing

WRONG = (
    "That does not fit. Enter your username and password and, if you have a second factor, its"
    " current code; a code works once."
)


_CODE_ATTRS = {"autocomplete": "one-time-code", "autocapitalize": "none", "spellcheck": "false"}


class GuardedForm(AuthenticationForm):
    """A name, a password, a code for those who have a second factor; each failure counts."""

    error_messages = {"invalid_login": WRONG, "inactive": WRONG}
    # What else helps whoever has to wait.
    way_out = ""
    code = forms.CharField(
        required=False,
        max_length=32,
        label="Code",
        help_text="Of your authenticator app, or a backup code. Empty if you have neither.",
        widget=forms.TextInput(attrs=_CODE_ATTRS),
    )

    def clean(self) -> Any:
        try:
            return super().clean()
        except ValidationError:
            if getattr(self.request, "axes_locked_out", False):
                raise ValidationError(too_often(self.way_out), code="too_often") from None
            raise

    def confirm_login_allowed(self, user: User) -> None:
        """The password is right; whatever else is wrong counts as a failure all the same."""
        try:
            super().confirm_login_allowed(user)
            self._check_code(user)
        except ValidationError:
            user_login_failed.send(
                sender=__name__,
                credentials={"username": user.get_username()},
                request=self.request,
            )
            raise

    def _check_code(self, user: User) -> None:
        if not second_factor.is_enrolled(user):
            return
        device = second_factor.verify(user=user, code=self.cleaned_data.get("code", ""))
        if device is None:
            raise self.get_invalid_login_error()
        # django-otp writes it into the session as the sign-in makes one.
        user.otp_device = device  # type: ignore[attr-defined]


class SignInForm(GuardedForm, AdminForm):  # type: ignore[misc] # unfold is untyped
    """The admin's."""

    way_out = "; an owner can end the wait with the command `manage.py axes_reset_username`"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].widget = UnfoldAdminTextInputWidget(attrs=_CODE_ATTRS)


def too_often(way_out: str = "") -> str:
    minutes = int(settings.AXES_COOLOFF_TIME.total_seconds() // 60)
    return f"Too many failed sign-ins. Wait {minutes} minutes and try again{way_out}."


class SessionMiddleware(MiddlewareMixin):
    """Ends sessions that are over, and asks operators for a second factor before any page."""

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        user = request.user
        if not isinstance(user, User):
            return None
        standing = sessions.standing(request.session, user)
        if standing is Standing.UNENROLLED and request.path_info not in _open_to_unenrolled():
            return redirect("second_factor")
        if standing in {Standing.OVER, Standing.UNVERIFIED}:
            logout(request)
            messages.info(request, _WHY[standing])
            there = {"next": request.get_full_path()} if request.method == "GET" else {}
            is_portal = request.path_info.startswith(reverse("portal:home"))
            page = reverse("portal:sign_in" if is_portal else "admin:login")
            return redirect(f"{page}?{urlencode(there)}")
        sessions.touch(request.session)
        return None


_WHY = {
    Standing.OVER: "Your session ended. Sign in again.",
    Standing.UNVERIFIED: "Sign in again, with the code of your second factor.",
}


def _open_to_unenrolled() -> set[str]:
    names = ("second_factor", "admin:logout", "admin:jsi18n", "portal:sign_out")
    return {reverse(name) for name in names}


# --- What is audited: Django's own signals, so that no way of signing in is forgotten ----------


def on_signed_in(sender: Any, request: HttpRequest, user: Any, **_: Any) -> None:
    if hasattr(request, "session"):
        sessions.begin(request.session)
    device = getattr(user, "otp_device", None)
    audit.record(
        actor=f"user:{user.get_username()}",
        action="sign_in",
        target=f"user:{user.get_username()}",
        second_factor=device.name if device else None,
    )


def on_signed_out(sender: Any, request: HttpRequest, user: Any, **_: Any) -> None:
    if user is not None:
        name = f"user:{user.get_username()}"
        audit.record(actor=name, action="sign_out", target=name)


def on_failed(sender: Any, credentials: Any, request: Any = None, **_: Any) -> None:
    if not getattr(request, "axes_locked_out", False):
        audit.record(actor="nobody", action="sign_in.failed", target=_tried(credentials))


def on_locked_out(sender: Any, request: Any, username: str, **_: Any) -> None:
    """Once for each time that somebody is locked out, however often they go on trying."""
    target = _tried({"username": username})
    since = clock.now() - settings.AXES_COOLOFF_TIME
    known = AuditEntry.objects.filter(
        action="sign_in.locked_out",
        target=target,
        address=addresses.current(),
        created_at__gt=since + timedelta(seconds=1),
    )
    if not known.exists():
        audit.record(actor="nobody", action="sign_in.locked_out", target=target)


def _tried(credentials: Any) -> str:
    """Whose name was tried. A name that nobody has may be a password in the wrong field."""
    username = credentials.get("username") or ""
    is_known = User.objects.filter(username=username).exists()
    return f"user:{username}" if is_known else "user:unknown"


def listen() -> None:
    receivers: list[tuple[Any, Callable[..., None]]] = [
        (user_logged_in, on_signed_in),
        (user_logged_out, on_signed_out),
        (user_login_failed, on_failed),
        (user_locked_out, on_locked_out),
    ]
    for signal, receiver in receivers:
        signal.connect(receiver, dispatch_uid=f"teams.sign_in.{receiver.__name__}")
