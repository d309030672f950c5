"""Importing prices: a map beside our own, and the rows of it that an operator chooses."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.core.cache import cache
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from unfold.widgets import UnfoldAdminFileFieldWidget

from saas_litellm.base.admin import PageForm, actor, once, tell
from saas_litellm.base.refusals import Invalid, Refusal
from teams import cost_map, price_changes, prices
from teams.cost_map import Listed
from teams.price_changes import Diff, Kind, Line
from teams.prices import UnitPrices

ROWS_A_PAGE = 100
MAX_BYTES = 7 * 1024 * 1024
KEPT_SECONDS = 3600
_HAND = ("user:", "key:", "command:")


class UploadForm(forms.Form):
    file = forms.FileField(
        widget=UnfoldAdminFileFieldWidget,
        label="A price map of your own",
        help_text="JSON in the format of litellm's model_prices_and_context_window.json, 7 MB at"
        " most. Nothing is published before you choose it.",
    )

    def clean_file(self) -> tuple[str, str]:
        file = self.cleaned_data["file"]
        if (file.size or 0) > MAX_BYTES:
            raise forms.ValidationError("The file is larger than 7 MB.")
        try:
            text: str = file.read().decode()
            cost_map.parse(text)
        except UnicodeDecodeError as error:
            raise forms.ValidationError("The file is not text in UTF-8.") from error
        except cost_map.BadCostMap as refusal:
            raise forms.ValidationError(refusal.message) from refusal
        return str(file.name), text


def page(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """The diff of a map with what is in effect; POST publishes what was chosen of it."""
    upload = UploadForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and "upload" in request.POST and upload.is_valid():
        name, text = upload.cleaned_data["file"]
        digest = hashlib.sha256(text.encode()).hexdigest()[:20]
        cache.set(_slot(request, digest), (name, text), KEPT_SECONDS)
        return redirect(f"{request.path}?{urlencode({'map': digest})}")
    try:
        listed, source = _map(request)
        if request.method == "POST" and "apply" in request.POST:
            _apply(model_admin, request, listed, source)
            return redirect(request.get_full_path())
    except Refusal as refusal:
        tell(model_admin, request, refusal)
        return redirect(request.path)
    if "upload" not in request.POST:
        upload = UploadForm()
    context = {
        **model_admin.admin_site.each_context(request),
        "title": "Import prices",
        "upload": upload,
        "source": source,
        **_shown(request, listed),
    }
    return render(request, "admin/teams/import_prices.html", context)


def _map(request: HttpRequest) -> tuple[Sequence[Listed], str]:
    """The map that is asked about, and what to call it. Raises Invalid when it is gone."""
    digest = request.GET.get("map", "")
    if not digest:
        try:
            return cost_map.bundled(), cost_map.SOURCE
        except cost_map.CostMapMissing as error:
            raise Invalid(f"The installed litellm has no price map: {error}.") from error
    kept = cache.get(_slot(request, digest))
    if kept is None:
        raise Invalid("That file is no longer kept. Choose it again.")
    name, text = kept
    return list(cost_map.priced_models(cost_map.parse(text))), f"file {name}"[:200]


def _slot(request: HttpRequest, digest: str) -> str:
    return f"price-map:{request.user.pk}:{digest}"


def _diff(listed: Sequence[Listed], *, is_all: bool) -> tuple[Diff, dict[str, str]]:
    """The lines, and where each known price came from."""
    rows = prices.current_all()
    known = {key: UnitPrices.from_json(row.rates) for key, row in rows.items()}
    only = None if is_all else prices.keys_in_use()
    return price_changes.diff(listed, known, only=only), {k: row.source for k, row in rows.items()}


def _shown(request: HttpRequest, listed: Sequence[Listed]) -> dict[str, Any]:
    is_all, asked = request.GET.get("show") == "all", request.GET.get("q", "").strip()
    found, sources = _diff(listed, is_all=is_all)
    words = asked.lower().split()
    lines = [line for line in found.lines if all(word in line.price_key.lower() for word in words)]
    page = Paginator(lines, ROWS_A_PAGE).get_page(request.GET.get("page"))
    kept = {name: request.GET[name] for name in ("map", "show", "q") if request.GET.get(name)}
    return {
        "form": PageForm(initial={"idempotency_key": f"admin:{uuid.uuid4()}"}),
        "page": page,
        "is_publishable": any(line.new for line in page),
        "rows": [_row(line, sources, is_chosen=not is_all) for line in page],
        "counts": {kind.value: len(found.of(kind)) for kind in Kind},
        "unchanged": found.unchanged,
        "is_all": is_all,
        "asked": asked,
        "query": urlencode(kept),
        "map": request.GET.get("map", ""),
    }


def _row(line: Line, sources: dict[str, str], *, is_chosen: bool) -> dict[str, Any]:
    source = sources.get(line.price_key, "")
    is_by_hand = source.startswith(_HAND)
    return {
        "line": line,
        "source": source,
        "is_by_hand": is_by_hand,
        # What somebody set on purpose is only replaced on purpose.
        "is_chosen": is_chosen and not is_by_hand,
        "old": price_changes.line(line.old) if line.old else "",
        "rates": [one for one in line.rates if one.old != one.new],
    }


def _apply(model_admin: Any, request: HttpRequest, listed: Sequence[Listed], source: str) -> None:
    form = PageForm(request.POST)
    if not form.is_valid():
        raise Invalid("The page is incomplete. Load it again.")
    # Rows, each by the digest of what was shown of it.
    chosen = request.POST.getlist("chosen")
    if not chosen:
        raise Invalid("Choose a row first.")

    def work() -> str:
        found, _ = _diff(listed, is_all=True)
        wanted = set(chosen)
        sheets = {line.price_key: line.new for line in found.lines if line.digest in wanted}
        added, changed = prices.import_sheets(
            {key: sheet for key, sheet in sheets.items() if sheet is not None},
            source=source,
            actor=actor(request),
        )
        said = f"Prices added: {len(added)}, changed: {len(changed)}."
        left = len(wanted) - len(added) - len(changed)
        return f"{said} {left} moved since you looked, and were left alone." if left > 0 else said

    said = once(
        request,
        act="prices.import",
        key=form.cleaned_data["idempotency_key"],
        content=" ".join(sorted(chosen)),
        work=work,
    )
    model_admin.message_user(request, said, messages.SUCCESS)
