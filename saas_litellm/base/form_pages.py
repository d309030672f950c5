"""Pages with one form that does one thing, however often it is sent."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.http import url_has_allowed_host_and_scheme

from saas_litellm.base import idempotency
from saas_litellm.base.audited import actor
from saas_litellm.base.refusals import Invalid, Refusal


def list_of(model_admin: Any) -> str:
    """The name of the page that lists the admin's model."""
    meta = model_admin.model._meta
    return f"admin:{meta.app_label}_{meta.model_name}_changelist"


class PageForm(forms.Form):
    """A form page's form. The hidden key makes a second click of the same page change nothing."""

    idempotency_key = forms.CharField(widget=forms.HiddenInput, max_length=120)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownOnce:
    """A page that answers an act in place of the way back, and what is said when it is asked again."""

    page: HttpResponse
    text: str


def secret_page(
    model_admin: Any,
    request: HttpRequest,
    *,
    title: str,
    secret: str,
    note: str,
    back: str,
    again: str,
) -> ShownOnce:
    """What only this answer shows: in no message, no session and no cache. ``again`` is said later."""
    context = {
        **model_admin.admin_site.each_context(request),
        "title": title,
        "secret": secret,
        "note": note,
        "back": back,
    }
    page = render(request, "admin/secret.html", context)
    add_never_cache_headers(page)
    return ShownOnce(page=page, text=again)


def form_page(
    model_admin: Any,
    request: HttpRequest,
    *,
    form_class: type[PageForm],
    title: str,
    button: str,
    act: Callable[[dict[str, Any]], str | ShownOnce],
    initial: dict[str, Any] | None = None,
    note: str = "",
    back: str = "",
    is_once: bool = False,
) -> HttpResponse:
    """Show a form; when it is sent, ``act`` on it, say what it says and go back.

    Back is where ``?next=`` leads, else ``back``, else the list. ``note`` stands above the form.
    ``is_once``: for acts without an idempotency key of their own; sent again, the same form only
    says what it did. A Refusal that ``act`` raises is shown on the form, and nothing has changed.
    """
    blank = {"idempotency_key": f"admin:{uuid.uuid4()}", **(initial or {})}
    form = form_class(request.POST or None, request.FILES or None, initial=blank)
    way_back = _safe_next(request) or back or reverse(list_of(model_admin))
    if request.method == "POST" and form.is_valid():
        try:
            given = form.cleaned_data
            done = _once(request, given, act) if is_once else act(given)
        except Refusal as refusal:
            form.add_error(None, refusal.message)
        else:
            if isinstance(done, ShownOnce):
                return done.page
            model_admin.message_user(request, done, messages.SUCCESS)
            return redirect(way_back)
    context = {
        **model_admin.admin_site.each_context(request),
        "title": title,
        "button": button,
        "form": form,
        "note": note,
        "back": way_back,
    }
    return render(request, "admin/form_page.html", context)


def _once(
    request: HttpRequest, given: dict[str, Any], act: Callable[[dict[str, Any]], str | ShownOnce]
) -> str | ShownOnce:
    """Act in the transaction that keeps the form's key; the second time, only say what was done."""
    claim = idempotency.claim_of(
        caller=actor(request), act=request.path, key=given["idempotency_key"]
    )

    def said(done: str | ShownOnce) -> str:
        return done.text if isinstance(done, ShownOnce) else done

    done, earlier = idempotency.once(claim, lambda: act(given), said)
    return earlier if done is None else done


def _safe_next(request: HttpRequest) -> str:
    """Where the page was opened from, if that is a page of this site."""
    wanted = request.GET.get("next", "")
    is_ours = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if is_ours else ""


def once(request: HttpRequest, *, act: str, key: str, content: str, work: Callable[[], str]) -> str:
    """Do a page's database work once for its hidden key, and say what it said, however often the
    page is sent. Raises Invalid when it is sent again with other content, and what ``work`` raises.
    """
    claim = idempotency.claim_of(caller=actor(request), act=act, key=key, content=content)
    try:
        done, kept = idempotency.once(claim, work, str)
    except idempotency.KeyReused as error:
        raise Invalid("This page was sent before, with other content. Load it again.") from error
    return done or kept
