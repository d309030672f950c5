"""The calls, exports and comparisons that the tests of reconciliations share."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from billing import ledger, plans
from billing.models import Account, Entry, Hold
from jobs.models import Attempt, Call, CostLine, Job, Reconciliation, ReconciliationLine
from jobs.reconciliation import compare
from teams.models import Alias, Team
from tests import factories

EXPORTS = Path(__file__).parent / "exports"
NEW_YEAR = date(2026, 1, 1)
GPT = "gpt-4o-2024-08-06"
GENERIC = "day,model,input_tokens,cached_tokens,output_tokens,cost_usd\n"
USAGE_CSV = "start_time,end_time,num_model_requests,model,input_tokens,output_tokens\n"
COSTS_CSV = "start_time,end_time,amount_value,amount_currency,line_item\n"
CLAUDE_CSV = "usage_date_utc,model,token_type,cost_usd\n"
BUCKET = "1767225600,1767312000"


def export(name: str) -> bytes:
    return (EXPORTS / name).read_bytes()


def served(model: str, *, alias: str = "chat") -> Alias:
    team = Team.objects.filter(slug="alice").first() or factories.team()
    return factories.serve(team, alias=alias, model=model)


def called(
    alias: Alias,
    *,
    nano_usd: int,
    prompt: int = 1000,
    completion: int = 100,
    at: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC),
    **more: Any,
) -> Call:
    """A finished call with its attempt and cost line, as `calls.settle` leaves them."""
    team = Team.objects.get(slug="alice")
    deployment = alias.deployments.get()
    job = Job.objects.create(
        team=team,
        plan_version=plans.ensure_preset("consumption_usd"),
        account_id=ledger.account_of(team).pk,
        job_type="x",
        created_at=at,
        last_activity_at=at,
        provider_cost_nano_usd=nano_usd,
    )
    stored = {
        "status": Call.Status.SETTLED,
        "is_output_delivered": True,
        "usage_source": "provider",
        "finished_at": at + timedelta(seconds=2),
        **more,
    }
    call = Call.objects.create(
        job=job,
        team=team,
        alias=alias,
        deployment=deployment,
        created_at=at,
        dispatched_at=at,
        expires_at=at + timedelta(minutes=10),
        unit_prices={},
        estimated_prompt_tokens=prompt,
        max_output_tokens=completion,
        held_nanocredits=0,
        held_cost_nano_usd=nano_usd,
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        provider_cost_nano_usd=nano_usd,
        **stored,
    )
    attempt = Attempt.objects.create(call=call, deployment=deployment, number=1, started_at=at)
    CostLine.objects.create(
        call=call, attempt=attempt, kind="attempt", amount_nano_usd=nano_usd, created_at=at
    )
    return call


def compared(content: bytes | str, **more: Any) -> Reconciliation:
    raw = content.encode() if isinstance(content, str) else content
    return compare.reconcile(content=raw, filename="export", actor="test", **more)


def money() -> tuple[Any, ...]:
    return tuple(list(model.objects.order_by("pk").values()) for model in (Account, Entry, Hold))


def line_of(*, ours: int = 6_000_000) -> ReconciliationLine:
    """Alice's gpt-4o of New Year: they say 6,250,000 nano-USD."""
    called(served("openai/gpt-4o"), nano_usd=ours)
    return compared(export("openai_costs.json")).lines.get(model="gpt-4o")
