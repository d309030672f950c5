"""A job's page: its story in the words and figures that are shown."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.urls import reverse
from django.utils.html import format_html

from jobs import story, timeline
from jobs.models import CostLine
from jobs.story import CallTold, Figures, Line, Story
from saas_litellm.base import shown
from saas_litellm.base.charts import full
from saas_litellm.base.money import from_nano

BAR_KINDS = (
    ("wait", "the call"),
    ("well", "an attempt that answered"),
    ("failed", "one that failed"),
    ("running", "one that runs"),
)


def margin(nano_usd: int) -> str:
    """Signed and coloured, to a page's few digits."""
    if nano_usd == 0:
        return shown.usd(0)
    kind = "good" if nano_usd > 0 else "bad"
    return format_html('<span class="money-{}">{}</span>', kind, shown.signed_usd(nano_usd))


def of_job(job_id: UUID, user: Any) -> dict[str, Any]:
    """The context of a job's page; empty where there is no such job.

    Ledger entries, cost lines and payloads are for those who may see each.
    """
    told = story.of(job_id)
    if told is None:
        return {}
    may_look = user.has_perm("jobs.view_payload")
    numbers = {one.call.pk: one.number for one in told.calls}
    return {
        "title": f"{told.job.job_type} of {told.job.team}",
        "told": told,
        "job": told.job,
        "tiles": _tiles(told),
        "metadata": json.dumps(told.job.metadata, indent=2, ensure_ascii=False)
        if told.job.metadata
        else "",
        "timeline": timeline.of(told),
        "calls": [_call(call, may_look=may_look) for call in told.calls],
        "own": _money(told.own) if told.has_own_price else None,
        "total": _money(told.total),
        "lines": [_line(line) for line in told.lines]
        if user.has_perm("billing.view_entry")
        else None,
        "cost_lines": [_cost_line(line, numbers) for line in told.cost_lines]
        if user.has_perm("jobs.view_costline")
        else None,
        "more_calls": f"{reverse('admin:jobs_call_changelist')}?job={told.job.pk}",
        "caps": _caps(told),
        "has_stored": may_look and any(one.has_payload for one in told.calls),
        "call_rules": sorted({(one.call.alias.name, one.rule) for one in told.calls}),
        "bar_kinds": BAR_KINDS,
    }


def _tiles(told: Story) -> list[dict[str, Any]]:
    total, job = told.total, told.job
    revenue = total.price_nano_usd - total.refunded_nano_usd
    share = ""
    if revenue > 0:
        share = f"{shown.percent(from_nano(total.margin_nano_usd) * 100 / from_nano(revenue))} of the price"
    refunded = f"{shown.exact(total.refunded_nanocredits)} of them refunded"
    return [
        {
            "name": "Price",
            "value": shown.usd(revenue),
            "note": f"{shown.exact(revenue)} USD, refunds taken off",
        },
        {
            "name": "Provider cost",
            "value": shown.usd(total.provider_cost_nano_usd),
            "note": f"{shown.exact(total.provider_cost_nano_usd)} USD",
        },
        {
            "name": "Margin",
            "value": shown.signed_usd(total.margin_nano_usd),
            "kind": {-1: "bad", 0: "", 1: "good"}[_sign(total.margin_nano_usd)],
            "note": share or "nothing was charged",
        },
        {
            "name": "Credits",
            "value": shown.credit_amount(total.net_nanocredits),
            "note": refunded if total.refunded_nanocredits else shown.exact(total.net_nanocredits),
        },
        {
            "name": "Overrun",
            "value": shown.credit_amount(total.overrun_nanocredits),
            "kind": "bad" if total.overrun_nanocredits else "",
            "note": "credits that could not be taken" if total.overrun_nanocredits else "none",
        },
        {
            "name": "Calls",
            "value": shown.count(told.call_count),
            "note": f"{job.failed_calls:,} failed, {job.in_flight:,} running,"
            f" {job.total_tokens:,} tokens",
        },
    ]


def _sign(amount: int) -> int:
    return (amount > 0) - (amount < 0)


def _caps(told: Story) -> list[tuple[str, str]]:
    job = told.job
    caps = [
        ("Most it may cost the team", job.max_nanocredits, "credits"),
        ("Quoted", job.quote_nanocredits, "credits"),
        ("Most its calls may cost you", job.max_provider_cost_nano_usd, "USD"),
    ]
    return [
        (name, f"{shown.exact(amount)} {unit}") for name, amount, unit in caps if amount is not None
    ]


def _money(figures: Figures) -> dict[str, Any]:
    return {
        "prompt": full(figures.prompt_tokens),
        "cached": full(figures.cached_tokens),
        "output": full(figures.completion_tokens),
        "cost": shown.exact(figures.provider_cost_nano_usd),
        "price": shown.exact(figures.price_nano_usd),
        "refunded_usd": _or_dash(-figures.refunded_nano_usd),
        "credits": shown.exact(figures.charged_nanocredits),
        "refunded": _or_dash(-figures.refunded_nanocredits),
        "overrun": _or_dash(figures.overrun_nanocredits),
        "margin": _exact_margin(figures.margin_nano_usd),
    }


def _exact_margin(nano_usd: int) -> str:
    if nano_usd == 0:
        return "0"
    kind, sign = ("good", "+") if nano_usd > 0 else ("bad", "")
    return format_html('<span class="money-{}">{}{}</span>', kind, sign, shown.exact(nano_usd))


def _or_dash(amount: int) -> str:
    return shown.exact(amount) if amount else "–"


def _call(told: CallTold, *, may_look: bool) -> dict[str, Any]:
    call = told.call
    payload = reverse("admin:jobs_call_payload", args=[call.pk])
    return {
        "told": told,
        "call": call,
        "link": reverse("admin:jobs_call_change", args=[call.pk]),
        "deployment": call.deployment.model if call.deployment else _instead(call.is_cache_hit),
        "payload": payload if may_look and told.has_payload else "",
        **_money(told.figures),
    }


def _instead(is_cache_hit: bool) -> str:  # noqa: FBT001 - a column's value
    return "(cached answer)" if is_cache_hit else "–"


def _line(line: Line) -> dict[str, Any]:
    entry = line.entry
    return {
        "entry": entry,
        "link": reverse("admin:billing_entry_change", args=[entry.pk]),
        "amount": shown.exact(entry.amount_nanocredits),
        "so_far": shown.exact(line.so_far),
        "balance": shown.exact(entry.balance_after_nanocredits),
        "usd": "–" if entry.price_nano_usd is None else shown.exact(entry.price_nano_usd),
    }


def _cost_line(line: CostLine, numbers: dict[UUID, int]) -> dict[str, Any]:
    return {
        "line": line,
        "number": numbers.get(line.call_id) if line.call_id else None,
        "deployment": line.attempt.deployment if line.attempt else "",
        "usd": shown.exact(line.amount_nano_usd),
    }
