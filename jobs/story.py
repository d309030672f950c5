"""One job told whole: its life, its calls and their attempts, and every figure of its money.

The number of queries does not grow with the job; of a very long one the first calls are told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from uuid import UUID

from django.db.models import Sum

from billing import plans, rules
from billing.models import Account, Entry
from jobs.models import Attempt, Call, CostLine, Job, Payload, StatusChange
from saas_litellm.base import clock

MOST_CALLS = 200
_MOST_LINES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Tokens and money of a call, of a job's own price, or of all of a job."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    provider_cost_nano_usd: int = 0
    price_nano_usd: int = 0
    refunded_nano_usd: int = 0
    charged_nanocredits: int = 0
    refunded_nanocredits: int = 0
    overrun_nanocredits: int = 0

    @property
    def margin_nano_usd(self) -> int:
        return self.price_nano_usd - self.refunded_nano_usd - self.provider_cost_nano_usd

    @property
    def net_nanocredits(self) -> int:
        return self.charged_nanocredits - self.refunded_nanocredits


_NAMES = tuple(column.name for column in fields(Figures))
_TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTold:
    """A call, ``number`` from 1 in the order they began, with all that it tried."""

    number: int
    call: Call
    attempts: Sequence[Attempt]
    figures: Figures
    rule: str
    has_payload: bool


@dataclass(frozen=True, slots=True)
class Line:
    """A ledger entry of the job; ``so_far``: what it and those before it took, in nanocredits."""

    entry: Entry
    so_far: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    job: Job
    account: Account | None
    life: Sequence[StatusChange]
    calls: Sequence[CallTold]
    call_count: int
    own: Figures
    total: Figures
    rule: str
    lines: Sequence[Line]
    cost_lines: Sequence[CostLine]

    @property
    def left_out(self) -> int:
        """Calls that are not told."""
        return self.call_count - len(self.calls)

    @property
    def has_own_price(self) -> bool:
        return any(getattr(self.own, name) for name in _NAMES)


def of(job_id: UUID) -> Story | None:
    """The story of the job with that id; None where there is none."""
    job = (
        Job.objects.select_related("team", "plan_version__plan", "api_key")
        .filter(pk=job_id)
        .first()
    )
    if job is None:
        return None
    found = list(
        job.calls.select_related("alias", "deployment__alias").order_by("created_at", "id")[
            :MOST_CALLS
        ]
    )
    ids = [call.pk for call in found]
    counted = job.calls.count() if len(found) == MOST_CALLS else len(found)
    return Story(
        job=job,
        account=Account.objects.select_related("team", "organization")
        .filter(pk=job.account_id)
        .first(),
        life=list(job.history.all()),
        calls=_calls(job, found),
        call_count=counted,
        own=_own(job),
        total=_total(job),
        rule=_rule(job),
        lines=_lines(job, ids),
        cost_lines=list(
            CostLine.objects.filter(call__in=ids).select_related("attempt__deployment__alias")[
                :_MOST_LINES
            ]
        ),
    )


def _calls(job: Job, found: Sequence[Call]) -> list[CallTold]:
    attempts = _by_call(
        Attempt.objects.filter(call__in=[call.pk for call in found])
        .select_related("deployment__alias")
        .order_by("number")
    )
    kept = set(
        Payload.objects.filter(
            call__in=[call.pk for call in found], expires_at__gt=clock.now()
        ).values_list("call_id", flat=True)
    )
    plan = plans.load(job.plan_version_id)
    return [
        CallTold(
            number=number,
            call=call,
            attempts=attempts.get(call.pk, []),
            figures=Figures(**{name: getattr(call, name) for name in _NAMES}),
            rule=rules.of_call(plan, job_type=job.job_type, alias=call.alias.name),
            has_payload=call.pk in kept,
        )
        for number, call in enumerate(found, start=1)
    ]


def _by_call(attempts: Iterable[Attempt]) -> Mapping[UUID, list[Attempt]]:
    by_call: dict[UUID, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        by_call[attempt.call_id].append(attempt)
    return by_call


def _own(job: Job) -> Figures:
    """The job's own price, apart from its calls'."""
    return Figures(
        price_nano_usd=job.base_price_nano_usd,
        refunded_nano_usd=job.base_refunded_nano_usd,
        charged_nanocredits=job.base_charged_nanocredits,
        refunded_nanocredits=job.base_refunded_nanocredits,
        overrun_nanocredits=job.base_overrun_nanocredits,
    )


def _total(job: Job) -> Figures:
    """The job's own totals; tokens are summed over all of its calls, told or not."""
    tokens = job.calls.order_by().aggregate(**{name: Sum(name) for name in _TOKENS})
    money = {name: getattr(job, name) for name in _NAMES if name not in _TOKENS}
    return Figures(**{name: tokens[name] or 0 for name in _TOKENS}, **money)


def _rule(job: Job) -> str:
    return rules.of_job(plans.load(job.plan_version_id), job_type=job.job_type)


def _lines(job: Job, call_ids: Sequence[UUID]) -> list[Line]:
    references = [f"job:{job.pk}", *(f"call:{call_id}" for call_id in call_ids)]
    entries = list(
        Entry.objects.filter(account=job.account_id, reference__in=references).order_by("id")[
            :_MOST_LINES
        ]
    )
    so_far = accumulate(-entry.amount_nanocredits for entry in entries)
    return [Line(entry, taken) for entry, taken in zip(entries, so_far, strict=True)]
