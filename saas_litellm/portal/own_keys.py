"""A team's API keys, where an operator lets its managers look after them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpResponse
from django.views.decorators.http import require_POST

from saas_litellm.base import clock
from saas_litellm.base.refusals import Conflict, NotFound, Refusal
from saas_litellm.portal.access import Visit, team_page
from saas_litellm.portal.forms import ActForm, once
from teams import directory, keys
from teams.models import ApiKey

ROWS = 50
MOST = 50
_ENDS = [("", "never"), ("30", "in 30 days"), ("90", "in 90 days"), ("365", "in a year")]
_OVERLAPS = [("0", "at once"), ("1", "in an hour"), ("24", "in a day"), ("168", "in a week")]
_DONE = "That was done already: the key is in the list, and its secret was shown then."


class IssueForm(ActForm):
    name = forms.CharField(max_length=100, help_text="What it is for.")
    ends = forms.ChoiceField(choices=_ENDS, required=False, label="It ends")


class RotateForm(ActForm):
    overlap = forms.TypedChoiceField(choices=_OVERLAPS, coerce=int, label="The old one ends")


class TooManyKeys(Conflict):
    code = "too_many_keys"
    default_message = f"{MOST} keys in use at a time at most: revoke one first. A rotation always fits if the old key ends at once."


@team_page
def own_keys(visit: Visit) -> HttpResponse:
    """The keys, and a form for one more. Its secret is in the answer to the form alone."""
    _require_open(visit)
    form = IssueForm(visit.request.POST or None)
    if visit.request.method == "POST" and form.is_valid():
        return _made(visit, form, lambda: _issue(visit, form.cleaned_data))
    return _listed(visit, form)


@team_page
def rotate(visit: Visit, prefix: str) -> HttpResponse:
    """A successor with a secret of its own, and an end to the old one."""
    _require_open(visit)
    key = _find(visit, prefix)
    form = RotateForm(visit.request.POST or None)
    if visit.request.method == "POST" and form.is_valid():
        overlap = timedelta(hours=form.cleaned_data["overlap"])
        return _made(
            visit,
            form,
            lambda: _rotate(visit, key, overlap),
        )
    return visit.show("portal/rotate.html", {"key": key, "form": form})


@require_POST
@team_page
def revoke(visit: Visit, prefix: str) -> HttpResponse:
    """End it now, everywhere."""
    _require_open(visit)
    key = _find(visit, prefix)
    keys.revoke(prefix=key.prefix, actor=visit.actor, reason="by the team")
    return visit.go("keys", f"The key {key} has ended.")


def _made(visit: Visit, form: ActForm, make: Any) -> HttpResponse:
    try:
        made = once(visit, form, make)
    except Refusal as refusal:
        return _listed(visit, IssueForm(), said=refusal.message, status=refusal.status)
    if made is None:
        return _listed(visit, IssueForm(), said=_DONE)
    key, secret = made
    return visit.show("portal/key_made.html", {"key": key, "secret": secret})


def _issue(visit: Visit, given: dict[str, Any]) -> tuple[ApiKey, str]:
    _require_room(visit)
    days = given["ends"]
    return keys.issue(
        team=visit.team,
        actor=visit.actor,
        name=given["name"],
        expires_at=clock.now() + timedelta(days=int(days)) if days else None,
    )


def _rotate(visit: Visit, key: ApiKey, overlap: timedelta) -> tuple[ApiKey, str]:
    """While the old key goes on, both count."""
    if overlap:
        _require_room(visit)
    return keys.rotate(prefix=key.prefix, actor=visit.actor, overlap=overlap)


def _require_room(visit: Visit) -> None:
    """Within the transaction that fills it: one after another, so none is counted too late."""
    directory.lock(visit.team)
    if _usable(visit).count() >= MOST:
        raise TooManyKeys


def _listed(visit: Visit, form: IssueForm, *, said: str = "", status: int = 200) -> HttpResponse:
    found = _all(visit).select_related("replaced_by")
    page = Paginator(found, ROWS).get_page(visit.request.GET.get("page"))
    now = clock.now()
    rows = [(key, key.is_usable_at(now)) for key in page]
    given = {"rows": rows, "page": page, "form": form, "said": said}
    return visit.show("portal/keys.html", given, status=status)


def _require_open(visit: Visit) -> None:
    """Off, or not a manager: then there is no such page."""
    if not (visit.is_manager and visit.team.is_key_self_service):
        raise NotFound("There is no such page.")


def _all(visit: Visit) -> QuerySet[ApiKey]:
    return ApiKey.objects.filter(team=visit.team)


def _usable(visit: Visit) -> QuerySet[ApiKey]:
    ends_later = Q(expires_at=None) | Q(expires_at__gt=clock.now())
    return _all(visit).filter(ends_later, revoked_at=None)


def _find(visit: Visit, prefix: str) -> ApiKey:
    key = _all(visit).filter(prefix=prefix).first()
    if key is None:
        raise NotFound("There is no such key.")
    return key
