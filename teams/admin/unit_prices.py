"""Unit prices: every version with what it changed, setting one, and importing a map."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.html import format_html
from unfold.decorators import action

from saas_litellm.base import clock
from saas_litellm.base.admin import ReadOnlyAdmin, actor, once, permitted, tell
from saas_litellm.base.refusals import Refusal
from teams import cost_map, price_changes, prices
from teams.admin import price_forms, price_import
from teams.models import Alias, Deployment, UnitPrice
from teams.price_changes import RateChange
from teams.prices import BadPrice, UnitPrices


@admin.register(UnitPrice)
class UnitPriceAdmin(ReadOnlyAdmin):
    list_display = (
        "priced_model",
        "usd_per_million_tokens",
        "change",
        "source",
        "effective_from",
        "when",
    )
    search_fields = ("price_key",)
    fields = ("price_key", "usd_per_million_tokens", "source", "effective_from", "created_at")
    readonly_fields = fields
    actions_list = ("set_price", "import_prices")
    list_after_template = "admin/teams/no_price.html"
    has_set_permission = permitted("teams.add_unitprice")

    class Media:
        css = {"all": ("saas/catalog.css",)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[UnitPrice]:
        """Each version with the one before it, and whether a later one has taken its place."""
        found: QuerySet[UnitPrice] = super().get_queryset(request)
        same = UnitPrice.objects.filter(price_key=OuterRef("price_key"))
        own = OuterRef("effective_from")
        before = same.filter(
            Q(effective_from__lt=own) | Q(effective_from=own, id__lt=OuterRef("id"))
        )
        now = same.filter(effective_from__lte=clock.now())
        newest = ("-effective_from", "-id")
        return found.annotate(
            before=Subquery(before.order_by(*newest).values("rates")[:1]),
            standing=Subquery(now.order_by(*newest).values("pk")[:1]),
        )

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return lookup == "price_key" or super().lookup_allowed(lookup, value, request)

    @admin.display(description="Model", ordering="price_key")
    def priced_model(self, row: UnitPrice) -> str:
        return row.price_key

    @admin.display(description="USD per million tokens, or per unit")
    def usd_per_million_tokens(self, row: UnitPrice) -> str:
        return price_changes.line(UnitPrices.from_json(row.rates))

    @admin.display(description="Change")
    def change(self, row: Any) -> str:
        if row.before is None:
            return "first"
        changes = price_changes.between(
            UnitPrices.from_json(row.before), UnitPrices.from_json(row.rates)
        )
        return ", ".join(_said(one) for one in changes if one.old != one.new) or "none"

    @admin.display(description="In effect")
    def when(self, row: Any) -> str:
        if row.effective_from > clock.now():
            return "not yet"
        state = "now" if row.standing == row.pk else "replaced"
        return format_html(
            '{} <a class="catalog-link" href="?{}">History</a>',
            state,
            urlencode({"price_key": row.price_key}),
        )

    # Named, not "teams.add_unitprice": unfold's check would ask a database not yet migrated.
    @action(description="Set a price", url_path="set-price", permissions=["set"])  # type: ignore[untyped-decorator]
    def set_price(self, request: HttpRequest) -> HttpResponse:
        """One model's prices: a form, then what it would change, then it is done."""
        key = request.GET.get("price_key", "").strip()
        context = {
            **self.admin_site.each_context(request),
            "title": f"Prices of {key}" if key else "Set a price",
            "price_key": key,
            "model_names": sorted(prices.keys_in_use())[:50],
        }
        if not key:
            return render(request, "admin/teams/set_price.html", context)
        used = _used_by(key)
        row = prices.current([key]).get(key)
        standing = _sheet(row)
        listed = next((one for one in cost_map.suggestions(key) if one.model == key), None)
        is_from_map = listed is not None and (request.GET.get("from") == "map" or standing is None)
        start = listed.prices if is_from_map and listed else standing
        form = price_forms.PriceForm(
            request.POST or None,
            kind=used[0].alias.kind if used else None,
            standing=standing,
            initial={
                "idempotency_key": f"admin:{uuid.uuid4()}",
                **(price_forms.initial(start) if start else {}),
            },
        )
        context |= {"form": form, "row": row, "used": used, "is_from_map": is_from_map}
        context |= {"listed": price_changes.line(listed.prices) if listed and listed.prices else ""}
        if request.method == "POST" and form.is_valid():
            if "confirmed" in request.POST:
                return self._set(request, key, form)
            context |= _preview(key, form)
        return render(request, "admin/teams/set_price.html", context)

    def _set(self, request: HttpRequest, key: str, form: price_forms.PriceForm) -> HttpResponse:
        sheet, moment = form.cleaned_data["sheet"], form.cleaned_data["effective_from"]

        def work() -> str:
            row = prices.set_by_hand(
                price_key=key, prices=sheet, actor=actor(request), effective_from=moment
            )
            said = f"{price_changes.line(sheet)} USD."
            return f"{key} costs {said}" if row else f"Nothing changed: {key} costs {said}"

        try:
            said = once(
                request,
                act=f"prices.set {key}",
                key=form.cleaned_data["idempotency_key"],
                content=f"{sheet.fingerprint} {moment}",
                work=work,
            )
        except Refusal as refusal:
            tell(self, request, refusal)
        else:
            self.message_user(request, said, messages.SUCCESS)
        alias = request.GET.get("alias", "")
        if alias.isdecimal() and Alias.objects.filter(pk=int(alias)).exists():
            return redirect("admin:teams_alias_change", alias)
        history = urlencode({"price_key": key})
        return redirect(f"{reverse('admin:teams_unitprice_changelist')}?{history}")

    @action(description="Import prices", url_path="import-prices", permissions=["set"])  # type: ignore[untyped-decorator]
    def import_prices(self, request: HttpRequest) -> HttpResponse:
        """What a price map would change, and the chosen part of it done."""
        return price_import.page(self, request)


def _preview(key: str, form: price_forms.PriceForm) -> dict[str, Any]:
    """What the form would change; its confirmation is an act of its own, with a key of its own."""
    sheet, moment = form.cleaned_data["sheet"], form.cleaned_data["effective_from"]
    standing = _sheet(prices.in_effect(key, at=moment or clock.now()))
    changes = price_changes.between(standing, sheet)
    return {
        "fresh_key": f"admin:{uuid.uuid4()}",
        "changes": changes,
        "is_same": standing is not None and standing.fingerprint == sheet.fingerprint,
        "moment": moment,
    }


def _used_by(key: str) -> list[Deployment]:
    found = Deployment.objects.filter(Q(price_key=key) | Q(price_key="", model=key))
    return list(found.select_related("alias").order_by("alias__name", "id")[:20])


def _sheet(row: UnitPrice | None) -> UnitPrices | None:
    try:
        return UnitPrices.from_json(row.rates) if row else None
    except BadPrice:
        return None


def _said(one: RateChange) -> str:
    if one.percent is not None:
        return f"{one.name} {one.percent:+} %"
    return f"{one.name} {'gone' if one.new is None else 'new'}"
