from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from unfold.admin import TabularInline

from billing.models import Entry, Loss
from payments import auto, currencies, events, settlement
from payments.models import AutoTopUp, Payment, Reversal, StripeEvent
from saas_litellm.base.admin import ReadOnlyAdmin, actor, credits_of, tell
from saas_litellm.base.refusals import Refusal


class ReversalInline(TabularInline):  # type: ignore[misc] # unfold is untyped
    model = Reversal
    extra = 0
    can_delete = False
    fields = ("kind", "stripe_id", "amount", "status", "reason", "created_at")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display
    def amount(self, reversal: Reversal) -> str:
        return currencies.shown(reversal.amount_minor, reversal.payment.currency)


@admin.register(Payment)
class PaymentAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "team", "package", "shown_price", "kind", "state", "went_back")
    list_filter = ("state", "kind")
    list_select_related = ("team", "package")
    search_fields = ("id", "team__slug", "intent_id", "charge_id", "session_id")
    date_hierarchy = "created_at"
    inlines = (ReversalInline,)
    actions = ("look_again",)
    fields = (
        "id",
        ("team", "account", "package"),
        ("kind", "state", "failure_code", "failure"),
        ("shown_price", "bought", "received", "went_back"),
        ("taken_back", "lost"),
        ("intent_id", "charge_id", "session_id", "link_id"),
        ("card", "receipt", "pay_at"),
        ("created_by", "created_at", "paid_at"),
        "lines",
    )
    readonly_fields = (
        *("id", "shown_price", "bought", "received", "went_back", "taken_back"),
        *("lost", "receipt", "pay_at", "lines"),
    )

    @admin.display(description="Price", ordering="amount_minor")
    def shown_price(self, payment: Payment) -> str:
        return payment.price

    @admin.display(description="Credits")
    def bought(self, payment: Payment) -> str:
        return credits_of(payment.nanocredits)

    @admin.display
    def received(self, payment: Payment) -> str:
        return currencies.shown(payment.received_minor, payment.currency)

    @admin.display(description="Went back", ordering="returned_minor")
    def went_back(self, payment: Payment) -> str:
        back = payment.returned_minor
        return currencies.shown(back, payment.currency) if back else "–"

    @admin.display(description="Credits taken back")
    def taken_back(self, payment: Payment) -> str:
        return credits_of(payment.taken_nanocredits)

    @admin.display(description="Credits lost")
    def lost(self, payment: Payment) -> str:
        return credits_of(payment.lost_nanocredits)

    @admin.display(description="Stripe's receipt")
    def receipt(self, payment: Payment) -> str:
        return _link(payment.receipt_url, "open")

    @admin.display(description="Where it is paid")
    def pay_at(self, payment: Payment) -> str:
        return _link(payment.url, payment.url) if payment.state == Payment.State.OPEN else "–"

    @admin.display(description="Ledger lines")
    def lines(self, payment: Payment) -> str:
        entries = Entry.objects.filter(account=payment.account_id, reference=payment.reference)
        losses = Loss.objects.filter(account=payment.account_id, reference=payment.reference)
        shown = [
            (
                reverse("admin:billing_entry_change", args=[entry.pk]),
                f"{entry.created_at:%Y-%m-%d %H:%M}",
                entry.kind,
                credits_of(entry.amount_nanocredits),
                entry.reason,
            )
            for entry in entries.order_by("id")
        ] + [
            (
                reverse("admin:billing_loss_change", args=[loss.pk]),
                f"{loss.created_at:%Y-%m-%d %H:%M}",
                "loss",
                credits_of(loss.amount_nanocredits),
                loss.reason,
            )
            for loss in losses.order_by("id")
        ]
        return format_html_join("", '<div><a href="{}">{}</a> {} {} · {}</div>', shown) or "–"

    @admin.action(description="Look at Stripe again", permissions=["reconcile"])
    def look_again(self, request: HttpRequest, queryset: QuerySet[Payment]) -> None:
        """Book what no event has told: of payments that Stripe knows."""
        known = queryset.exclude(intent_id=None)
        for payment in known[:50]:
            try:
                settlement.settle(payment.intent_id or "")
            except Refusal as refusal:
                tell(self, request, refusal)
                return
        self.message_user(request, f"Looked at {len(known[:50])}.", messages.SUCCESS)

    def has_reconcile_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("payments.change_payment"))


@admin.register(AutoTopUp)
class AutoTopUpAdmin(ReadOnlyAdmin):
    list_display = ("account", "state", "package", "threshold", "ceiling", "card", "last_error")
    list_select_related = ("account__team", "account__organization", "package")
    list_filter = ("is_on", "needs_person")
    search_fields = ("account__team__slug", "account__organization__slug")
    actions = ("switch_off",)
    exclude = ("threshold_nanocredits", "monthly_ceiling_minor", "payment_method_id")
    readonly_fields = ("state", "threshold", "ceiling")

    @admin.display
    def state(self, top_up: AutoTopUp) -> str:
        return top_up.state

    @admin.display(description="Below, credits", ordering="threshold_nanocredits")
    def threshold(self, top_up: AutoTopUp) -> str:
        return credits_of(top_up.threshold_nanocredits)

    @admin.display(description="Ceiling a month")
    def ceiling(self, top_up: AutoTopUp) -> str:
        if top_up.package is None:
            return "–"
        return currencies.shown(top_up.monthly_ceiling_minor, top_up.package.currency)

    @admin.action(description="Switch off", permissions=["stop"])
    def switch_off(self, request: HttpRequest, queryset: QuerySet[AutoTopUp]) -> None:
        for top_up in queryset:
            auto.switch_off(top_up=top_up, actor=actor(request))

    def has_stop_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("payments.change_autotopup"))


@admin.register(StripeEvent)
class StripeEventAdmin(ReadOnlyAdmin):
    list_display = ("received_at", "type", "event_id", "state", "attempts", "error")
    list_filter = ("state", "type")
    search_fields = ("event_id", "object_id", "intent_id")
    actions = ("apply_again",)

    @admin.action(description="Apply again", permissions=["apply"])
    def apply_again(self, request: HttpRequest, queryset: QuerySet[StripeEvent]) -> None:
        """Those that failed; what was applied stays as it is."""
        done = 0
        for kept in queryset.exclude(state=StripeEvent.State.APPLIED)[:50]:
            StripeEvent.objects.filter(pk=kept.pk, state=StripeEvent.State.IGNORED).update(
                state=StripeEvent.State.RECEIVED
            )
            kept.refresh_from_db()
            try:
                events.apply(kept)
                done += 1
            except Refusal as refusal:
                tell(self, request, refusal)
        self.message_user(request, f"Applied {done}.", messages.SUCCESS)

    def has_apply_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("payments.change_stripeevent"))


def _link(url: str, text: str) -> str:
    return format_html('<a href="{}" rel="noopener">{}</a>', url, text) if url else "–"
