"""What sample jobs would cost under the form as it stands; nothing is saved or charged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

from billing import candidates, plans
from billing.models import PricePlan
from billing.plan_specs import VersionSpec
from billing.pricing import Plan
from jobs import samples
from jobs.samples import Sample
from saas_litellm.base import shown
from saas_litellm.base.refusals import Refusal
from saas_litellm.plan_pages.version_form import VersionForm


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """One sample job, as the page shows it."""

    job_type: str
    about: str
    job_id: UUID | None
    cost: str
    now: str
    then: str
    then_nanocredits: int
    margin: str
    margin_percent: str
    is_loss: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """``current``: the number of the version in effect. ``objection``: why it could not be activated like that. ``error``: why there is no price."""

    error: str = ""
    objection: str = ""
    current: int | None = None
    is_tiered: bool = False
    samples: Sequence[Priced] = field(default_factory=list)


def of(form: VersionForm, *, plan: PricePlan) -> Preview:
    """Reads the form as it was sent, and marks in it what is wrong."""
    spec = form.spec()
    if spec is None:
        return Preview(error="Mend the marked fields to see prices.")
    try:
        return of_spec(spec, plan=plan)
    except Refusal as refusal:
        form.refuse(refusal)
        return Preview(error=refusal.message)


def of_spec(spec: VersionSpec, *, plan: PricePlan) -> Preview:
    """Raises Invalid and PlanNotReady as drafting it would."""
    candidate = candidates.plan_of(spec)
    replaced = plans.in_effect(plan)
    current = plans.load(replaced.pk) if replaced is not None else None
    return Preview(
        objection=candidates.objection(candidate),
        current=replaced.number if replaced is not None else None,
        is_tiered=candidate.is_tiered,
        samples=[_priced(sample, candidate, current) for sample in samples.typical()],
    )


def _priced(sample: Sample, candidate: Plan, current: Plan | None) -> Priced:
    price = sample.price(candidate)
    value, cost = candidate.nano_usd(price), sample.provider_cost_nano_usd
    return Priced(
        job_type=sample.job_type,
        about=sample.about,
        job_id=sample.job_id,
        cost=shown.usd(cost),
        now=_both(current, sample.price(current)) if current is not None else "",
        then=_both(candidate, price),
        then_nanocredits=price,
        margin=shown.usd(value - cost),
        margin_percent=shown.percent(Decimal(value - cost) * 100 / value if value else None),
        is_loss=value < cost,
    )


def _both(plan: Plan, nanocredits: int) -> str:
    """In credits, and in USD at that plan's rate."""
    return f"{shown.credit_amount(nanocredits)} credits = {shown.usd(plan.nano_usd(nanocredits))}"
