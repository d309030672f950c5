"""A person's own pages: signing in and out, a forgotten password, an invitation, the account."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login, password_validation, update_session_auth_hash, views
from django.contrib.auth.forms import PasswordChangeForm, PasswordResetForm
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse_lazy

from saas_litellm.base import audit
from saas_litellm.base.refusals import Refusal
from saas_litellm.portal.access import page, signed_in
from teams import members
from teams.models import Invitation, Membership, User
from teams.sign_in import GuardedForm

# A second e-mail to the same address only this many seconds later.
RESET_EVERY_SECONDS = 300
# No scheme, no host, and nothing that a browser takes for one of them.
_PATH = re.compile(r"/(?!/)[^\\\x00-\x20\x7f]*")
_BACKEND = "django.contrib.auth.backends.ModelBackend"


class SignInForm(GuardedForm):
    """Members go by their address, others by a user name or by an address that is theirs alone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = "E-mail address"
        self.fields["code"].help_text = "Only if you have set up a second factor."

    def clean_username(self) -> str:
        given: str = self.cleaned_data["username"].strip()
        if "@" not in given or User.objects.filter(username=given).exists():
            return given
        email = given.lower()
        found = list(members.accounts_of(email).values_list("username", flat=True)[:2])
        return found[0] if len(found) == 1 else email


class SignIn(views.LoginView):
    template_name = "portal/sign_in.html"
    authentication_form = SignInForm
    next_page = "portal:home"
    redirect_authenticated_user = True

    def get_redirect_url(self, *args: Any, **kwargs: Any) -> str:
        """Only a path of this site, and not this page again, which would lead round in a circle."""
        there: str = super().get_redirect_url(*args, **kwargs)
        is_path = _PATH.fullmatch(there) is not None
        return there if is_path and there.partition("?")[0] != self.request.path else ""


class SignOut(views.LogoutView):
    next_page = "portal:sign_in"


class ResetForm(PasswordResetForm):
    def get_users(self, email: str) -> Iterable[User]:
        """Members alone: a mailbox must not open the admin. Each of them once in a while.

        However an address is spelt, the e-mail goes to the one that is kept.
        """
        spelt = {email, unicodedata.normalize("NFKC", email).casefold()}
        users = super().get_users
        found = {user.pk: user for text in spelt for user in users(text)}
        members_ = [user for user in found.values() if isinstance(user, User) and not user.is_staff]
        return [user for user in members_ if _may_reset(user)]


def _may_reset(user: User) -> bool:
    return cache.add(f"portal:reset:{user.pk}", 1, RESET_EVERY_SECONDS)


class Reset(views.PasswordResetView):
    template_name = "portal/reset.html"
    form_class = ResetForm
    email_template_name = "portal/mail/reset.txt"
    subject_template_name = "portal/mail/reset_subject.txt"
    success_url = reverse_lazy("portal:reset_sent")
    extra_email_context = {"public_url": settings.PUBLIC_URL, "portal_name": settings.PORTAL_NAME}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {**super().get_context_data(**kwargs), "is_mail_set_up": members.is_mail_set_up()}


class ResetSent(views.PasswordResetDoneView):
    template_name = "portal/reset_sent.html"


class ResetConfirm(views.PasswordResetConfirmView):
    template_name = "portal/reset_confirm.html"
    success_url = reverse_lazy("portal:sign_in")

    def get_user(self, uidb64: str) -> Any:
        user = super().get_user(uidb64)
        return None if isinstance(user, User) and user.is_staff else user

    def form_valid(self, form: Any) -> HttpResponse:
        with transaction.atomic():
            answer = super().form_valid(form)
            _note_password(form.user, reason="by a link in an e-mail")
        messages.success(self.request, "Your new password is set. Sign in with it.")
        return answer


@signed_in
def home(request: HttpRequest) -> HttpResponse:
    """The only team of somebody, or all of theirs to pick from."""
    mine = list(_memberships(request))
    if len(mine) == 1:
        return redirect("portal:overview", slug=mine[0].team.slug)
    return render(request, "portal/home.html", {"memberships": mine})


@signed_in
def account(request: HttpRequest) -> HttpResponse:
    """The name somebody signs in with, their teams, and a new password."""
    assert isinstance(request.user, User)
    form = PasswordChangeForm(request.user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            form.save()
            _note_password(request.user)
        update_session_auth_hash(request, form.user)
        messages.success(request, "Your password is changed; other sessions of yours have ended.")
        return redirect("portal:account")
    given = {"form": form, "memberships": _memberships(request)}
    return render(request, "portal/account.html", given)


class NewPasswordForm(forms.Form):
    password = forms.CharField(
        label="Choose a password",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=password_validation.password_validators_help_text_html(),
    )
    again = forms.CharField(
        label="The same again",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("password") != given.get("again"):
            self.add_error("again", "These two are not the same.")
        return given


@page
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """What a link in an e-mail opens: join with one's account, or with one made here."""
    earlier = members.joined_by(token, request.user) if isinstance(request.user, User) else None
    if earlier is not None:
        return redirect("portal:overview", slug=earlier.team.slug)
    found = members.invitation_of(token)
    form = NewPasswordForm(request.POST if "password" in request.POST else None)
    if request.method == "POST":
        joined = _join(request, token, form)
        if joined is not None:
            messages.success(request, f"You are a member of {joined.team.name} now.")
            return redirect("portal:overview", slug=joined.team.slug)
    return render(request, "portal/invitation.html", _invited(request, found, form))


def _invited(request: HttpRequest, found: Invitation, form: NewPasswordForm) -> dict[str, Any]:
    accounts = members.accounts_of(found.email)
    user = request.user
    return {
        "invitation": found,
        "form": form,
        "has_account": accounts.exists(),
        "is_signed_in": user.is_authenticated,
        "is_meant": isinstance(user, User) and accounts.filter(pk=user.pk).exists(),
    }


def _join(request: HttpRequest, token: str, form: NewPasswordForm) -> Membership | None:
    """None when the form has to be filled in anew; it says why."""
    if isinstance(request.user, User):
        return members.accept(token=token, user=request.user)
    if not form.is_valid():
        return None
    try:
        joined = members.accept_anew(token=token, password=form.cleaned_data["password"])
    except ValidationError as error:
        form.add_error("password", error)
        return None
    except Refusal as refusal:
        form.add_error(None, refusal.message)
        return None
    login(request, joined.user, backend=_BACKEND)
    return joined


def _memberships(request: HttpRequest) -> Iterable[Membership]:
    return (
        Membership.objects.filter(user=request.user.pk)
        .select_related("team__organization")
        .order_by("team__name", "pk")
    )


def _note_password(user: User, reason: str = "") -> None:
    name = f"user:{user.get_username()}"
    audit.record(actor=name, action="user.password", target=name, reason=reason)
