"""The admin's side bar, in the order of an operator's day; each entry only for who may open it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from saas_litellm import help_pages

# Title, icon (Material Symbols), URL name (the admin's own without its "admin:"), the permission
# that its page asks for.
Entry = tuple[str, str, str, str]
_OF_NO_MODEL = {"live"}
GROUPS: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    (
        "Business",
        (
            ("Overview", "monitoring", "index", ""),
            ("Live", "sensors", "live", "jobs.view_call"),
            ("Profit", "query_stats", "jobs_profitday_changelist", "jobs.view_profitday"),
            ("Jobs", "work", "jobs_job_changelist", "jobs.view_job"),
            ("Calls", "forum", "jobs_call_changelist", "jobs.view_call"),
        ),
    ),
    (
        "Customers",
        (
            ("Organizations", "domain", "teams_organization_changelist", "teams.view_organization"),
            ("Teams", "group", "teams_team_changelist", "teams.view_team"),
            ("Members", "badge", "teams_membership_changelist", "teams.view_membership"),
            ("Invitations", "mail", "teams_invitation_changelist", "teams.view_invitation"),
            (
                "Accounts",
                "account_balance_wallet",
                "billing_account_changelist",
                "billing.view_account",
            ),
            ("API keys", "key", "teams_apikey_changelist", "teams.view_apikey"),
            ("Budgets", "savings", "billing_budget_changelist", "billing.view_budget"),
        ),
    ),
    (
        "Prices",
        (
            ("Price plans", "sell", "prices:plans", "billing.view_priceplan"),
            (
                "Assignments",
                "assignment_ind",
                "billing_planassignment_changelist",
                "billing.view_planassignment",
            ),
            ("What if", "compare_arrows", "prices:what_if", "billing.view_priceplan"),
            ("Shadow plans", "visibility", "prices:shadows", "jobs.view_shadow"),
        ),
    ),
    (
        "Catalog",
        (
            ("Aliases", "label", "teams_alias_changelist", "teams.view_alias"),
            (
                "Access groups",
                "lock_open",
                "teams_accessgroup_changelist",
                "teams.view_accessgroup",
            ),
            (
                "Credentials",
                "vpn_key",
                "teams_providercredential_changelist",
                "teams.view_providercredential",
            ),
            ("Unit prices", "payments", "teams_unitprice_changelist", "teams.view_unitprice"),
            (
                "Deployment health",
                "vital_signs",
                "teams_deploymenthealth_changelist",
                "teams.view_deploymenthealth",
            ),
        ),
    ),
    (
        "Books",
        (
            ("Packages", "shopping_bag", "payments_package_changelist", "payments.view_package"),
            ("Payments", "credit_card", "payments_payment_changelist", "payments.view_payment"),
            (
                "Auto top-ups",
                "autorenew",
                "payments_autotopup_changelist",
                "payments.view_autotopup",
            ),
            (
                "Stripe events",
                "webhook",
                "payments_stripeevent_changelist",
                "payments.view_stripeevent",
            ),
            ("Ledger", "receipt_long", "billing_entry_changelist", "billing.view_entry"),
            ("Lots", "inventory_2", "billing_grant_changelist", "billing.view_grant"),
            ("Holds", "hourglass_empty", "billing_hold_changelist", "billing.view_hold"),
            ("Losses", "trending_down", "billing_loss_changelist", "billing.view_loss"),
            (
                "Deferred revenue",
                "event_upcoming",
                "jobs_profitday_deferred_revenue",
                "billing.view_entry",
            ),
            (
                "Reconciliation",
                "balance",
                "jobs_reconciliation_changelist",
                "jobs.view_reconciliation",
            ),
            ("Ledger checks", "fact_check", "base_ledgercheck_changelist", "base.view_ledgercheck"),
        ),
    ),
    (
        "Operations",
        (
            ("Alarms", "notifications", "base_alarm_changelist", "base.view_alarm"),
            (
                "Webhook endpoints",
                "webhook",
                "webhooks_endpoint_changelist",
                "webhooks.view_endpoint",
            ),
            (
                "Deliveries",
                "outgoing_mail",
                "webhooks_delivery_changelist",
                "webhooks.view_delivery",
            ),
            ("Events", "bolt", "base_event_changelist", "base.view_event"),
            ("Audit log", "policy", "base_auditentry_changelist", "base.view_auditentry"),
            ("Users", "person", "teams_user_changelist", "teams.view_user"),
            ("Groups", "groups", "auth_group_changelist", "auth.view_group"),
            ("Operator keys", "passkey", "teams_operatorkey_changelist", "teams.view_operatorkey"),
        ),
    ),
)
# The documentation: files, which anybody may read.
HELP = {"title": "Help", "icon": "help", "link": help_pages.PREFIX}


def groups(request: HttpRequest) -> list[dict[str, Any]]:
    """unfold's SIDEBAR.navigation, without what this operator may not open."""
    shown = [
        {
            "title": title,
            "separator": True,
            "items": [
                {"title": name, "icon": icon, "link": address(page)}
                for name, icon, page, permission in entries
                if not permission or request.user.has_perm(permission)
            ],
        }
        for title, entries in GROUPS
    ]
    return [*shown, {"separator": True, "items": [dict(HELP)]}]


def address(page: str) -> str:
    """Pages of no model have names outside the admin's own namespace."""
    return reverse(page if ":" in page or page in _OF_NO_MODEL else f"admin:{page}")
