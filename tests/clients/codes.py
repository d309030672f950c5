"""The platform's error codes, and which of them our clients have no class for."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from typing import Any

import billing
import jobs
import payments
import saas_litellm
import teams
import webhooks
from saas_litellm.base.refusals import Refusal

_NO_MODULES = {"migrations", "management", "asgi", "local_env"}
# Codes of people's pages, the management API, payments and webhooks, which the clients do not call.
# A new code of the platform is either a class of theirs, or it is named here.
NOT_FOR_CLIENTS = {
    *("account_exists", "already_exists", "already_member", "already_shadowing"),
    *("another_account", "assignment_taken", "beyond_your_rights", "credit_limit_in_use"),
    *("endpoint_off", "invalid_signature", "invitation_over", "key_already_ending"),
    *("last_manager", "last_owner", "lot_not_live", "mail_not_sent", "no_card", "no_mail"),
    *("payment_mismatch", "payment_provider_error", "payment_provider_unavailable"),
    *("payments_off", "plan_not_ready", "refund_beyond_charge", "refund_limit_exceeded"),
    *("too_many_budgets", "too_many_endpoints", "too_many_invitations", "too_many_keys"),
    *("wallet_is_shared", "wrong_code"),
}


def below(kind: type[Any]) -> Iterable[type[Any]]:
    for child in kind.__subclasses__():
        yield child
        yield from below(child)


def refusals() -> list[type[Refusal]]:
    """Every refusal that the platform has."""
    for package in (saas_litellm, jobs, billing, teams, payments, webhooks):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not _NO_MODULES & set(found.name.split(".")):
                importlib.import_module(found.name)
    return [Refusal, *below(Refusal)]
