from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.html import format_html_join
from unfold.admin import TabularInline

from billing import expiry, lots, runway, search
from billing.admin import wallet_pages
from billing.admin.wallet_pages import reason_field
from billing.models import Account, Entry, Grant, Hold, Loss, Lot
from saas_litellm.base.admin import (
    PageForm,
    ReadOnlyAdmin,
    actor,
    credits_of,
    form_page,
    object_page,
    permitted,
)
from saas_litellm.base.money import from_nano

_WRITE = "write"


class ExpireForm(PageForm):
    reason = reason_field()


class LotInline(TabularInline):  # type: ignore[misc] # unfold is untyped
    model = Lot
    extra = 0
    can_delete = False
    fields = ("kind", "granted", "remaining", "paid", "priority", "expires_at")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Account | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Account | None = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).filter(remaining_nanocredits__gt=0)

    @admin.display
    def kind(self, lot: Lot) -> str:
        return lot.grant.kind

    @admin.display
    def granted(self, lot: Lot) -> str:
        return credits_of(lot.amount_nanocredits)

    @admin.display
    def remaining(self, lot: Lot) -> str:
        return credits_of(lot.remaining_nanocredits)

    @admin.display(description="Paid, USD")
    def paid(self, lot: Lot) -> str:
        return credits_of(lot.paid_nano_usd)


@admin.register(Account)
class AccountAdmin(ReadOnlyAdmin):
    list_display = ("owner", "balance", "held", "available", "lasts")
    list_select_related = ("team", "organization", "pace")
    list_per_page = 25
    search_fields = ("team__slug", "organization__slug")
    fields = ("owner", "balance", "held", "credit_limit", "available", "runs_dry_in", "last_lines")
    readonly_fields = fields
    inlines = (LotInline,)
    actions_detail = ("top_up", "adjust", "credit_limit_page")
    actions_row = ("top_up",)
    has_write_permission = permitted("billing.add_entry")
    has_limit_permission = permitted("billing.change_account")

    def changeform_view(
        self, request: HttpRequest, object_id: Any = None, *args: Any, **kw: Any
    ) -> Any:
        account = Account.objects.filter(pk=object_id).first()
        if account is not None:
            lots.live_lots(account)
        return super().changeform_view(request, object_id, *args, **kw)

    @admin.display(ordering="team__slug")
    def owner(self, account: Account) -> str:
        return str(account.team or account.organization)

    @admin.display(ordering="balance_nanocredits")
    def balance(self, account: Account) -> str:
        return credits_of(account.balance_nanocredits)

    @admin.display(ordering="held_nanocredits")
    def held(self, account: Account) -> str:
        return credits_of(account.held_nanocredits)

    @admin.display
    def credit_limit(self, account: Account) -> str:
        return credits_of(account.credit_limit_nanocredits)

    @admin.display
    def available(self, account: Account) -> str:
        return credits_of(account.available_nanocredits)

    @admin.display(description="Runs dry in")
    def lasts(self, account: Account) -> str:
        """At the pace that the worker keeps: a list asks nothing for each row."""
        pace = getattr(account, "pace", None)
        return _lasting(runway.at_pace(account, pace)) if pace else "–"

    @admin.display(description="Runs dry in")
    def runs_dry_in(self, account: Account) -> str:
        return _lasting(runway.current(account))

    @admin.display
    def last_lines(self, account: Account) -> str:
        entries = Entry.objects.filter(account=account)[:20]
        return format_html_join(
            "",
            "<div>{} · {} · {} · balance {} · {}</div>",
            (
                (
                    f"{entry.created_at:%Y-%m-%d %H:%M}",
                    entry.kind,
                    credits_of(entry.amount_nanocredits),
                    credits_of(entry.balance_after_nanocredits),
                    entry.reason or entry.reference,
                )
                for entry in entries
            ),
        )

    @object_page(description="Top up", path="top-up", permission=_WRITE)
    def top_up(self, request: HttpRequest, object_id: str) -> HttpResponse:
        account = get_object_or_404(Account, pk=object_id)
        return wallet_pages.top_up(self, request, account=lambda: account, whose=str(account))

    @object_page(description="Adjust", path="adjust", permission=_WRITE)
    def adjust(self, request: HttpRequest, object_id: str) -> HttpResponse:
        account = get_object_or_404(Account, pk=object_id)
        return wallet_pages.adjust(self, request, account=lambda: account, whose=str(account))

    @object_page(description="Credit limit", path="credit-limit", permission="limit")
    def credit_limit_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        account = get_object_or_404(Account, pk=object_id)
        return wallet_pages.credit_limit(
            self,
            request,
            account=lambda: account,
            whose=str(account),
            now=account.credit_limit_nanocredits,
        )


def _lasting(paced: runway.Runway) -> str:
    if paced.days is None:
        return "–"
    slowest = "∞" if paced.days_at_slowest is None else paced.days_at_slowest
    return f"{paced.days} days ({paced.days_at_fastest} to {slowest})"


@admin.register(Grant)
class GrantAdmin(ReadOnlyAdmin):
    list_display = ("entry", "kind", "paid_usd", "priority", "expires_at")
    list_filter = ("kind",)
    list_select_related = ("entry",)
    actions_detail = ("expire_now",)
    has_write_permission = permitted("billing.add_entry")

    @admin.display(description="Paid, USD")
    def paid_usd(self, grant: Grant) -> str:
        return credits_of(grant.paid_nano_usd)

    @object_page(description="Expire now", path="expire", permission=_WRITE)
    def expire_now(self, request: HttpRequest, object_id: str) -> HttpResponse:
        grant = get_object_or_404(Grant.objects.select_related("entry__account"), pk=object_id)

        def act(given: dict[str, Any]) -> str:
            entry = expiry.expire_now(
                account=grant.entry.account,
                grant_id=grant.pk,
                reason=given["reason"],
                actor=actor(request),
            )
            return f"Expired {from_nano(-entry.amount_nanocredits)} credits."

        return form_page(
            self,
            request,
            form_class=ExpireForm,
            title=f"Expire what is left of lot {grant.pk}",
            button="Expire",
            act=act,
        )


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    list_display = ("reference", "account", "credits", "state", "created_at", "expires_at")
    list_filter = ("state",)
    list_select_related = ("account__team", "account__organization")
    search_fields = ("reference",)
    search_help_text = "reference, id of a job or call"

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        about = search.about(search_term)
        return (queryset.filter(about) if search_term else queryset), False

    @admin.display
    def credits(self, hold: Hold) -> str:
        return credits_of(hold.amount_nanocredits)


@admin.register(Loss)
class LossAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "account", "credits", "reason", "actor")
    list_select_related = ("account__team", "account__organization")

    @admin.display
    def credits(self, loss: Loss) -> str:
        return credits_of(loss.amount_nanocredits)
