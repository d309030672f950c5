"""Calls opened and settled many at a time, as the gateway does it, and what the books say after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction

from billing import budgets, ledger, plans
from billing.models import Account, BudgetPeriod, Entry, Hold, UsageCounter
from jobs import quotes
from jobs.admission import Order
from jobs.cases import Settlement
from jobs.lifecycle import NewJob, spender_of
from jobs.models import Attempt, Call, CostLine, Job, StatusChange
from jobs.open_calls import OpenCall, Outcome
from jobs.opening import Opening, open_all
from jobs.settling import settle_all
from jobs.usage import Usage
from saas_litellm import verification
from saas_litellm.base.money import NANO
from saas_litellm.base.refusals import Refusal
from teams import catalog, directory, keys
from teams.models import ApiKey, Deployment, Team
from tests import factories, work
from tests.jobs.test_repricing import PLANS
from tests.work import HELLO, Clock


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How an opened call is to end."""

    prompt: int = 100
    is_delivered: bool = True


def opening(
    team: Team,
    *,
    number: int,
    job: Job | None = None,
    api_key: ApiKey | None = None,
    max_tokens: int = 1000,
    version_id: int = 0,
    **new_job: Any,
) -> Opening:
    """A call in the job, or in a new one. ``number`` makes its id."""
    new = None
    if job is None:
        new = NewJob(team=team, api_key=api_key, job_type="contract", **new_job)
        version_id = version_id or plans.version_for(team).pk
        if new.quote is not None:
            version_id = new.quote.plan_version_id
    return Opening(
        order=Order(messages=HELLO, params={"max_tokens": max_tokens}),
        resolved=catalog.resolve(team=team, name=None),
        team=team,
        api_key=api_key,
        job_id=job.pk if job is not None else None,
        new_job=new,
        version_id=version_id,
        account_id=ledger.account_of(team).pk,
        period_ids=budgets.current(spender_of(team, api_key.pk)) if api_key is not None else None,
        is_asked_at_once=True,
        call_id=UUID(int=number),
    )


def opened(openings: Sequence[Opening], *, at_once: int) -> list[OpenCall | Exception]:
    """Open them, so many in a transaction."""
    results: list[OpenCall | Exception] = []
    for batch in _batches(openings, at_once):
        results += open_all(batch)
    return results


def settled(pairs: Sequence[tuple[OpenCall, Ending]], *, at_once: int) -> list[Call]:
    """Settle them, so many in a transaction."""
    calls: list[Call] = []
    for batch in _batches([settlement(call, ending) for call, ending in pairs], at_once):
        calls += settle_all(batch)
    return calls


def settlement(call: OpenCall, ending: Ending = Ending()) -> Settlement:
    usage = Usage(prompt_tokens=ending.prompt) if ending.is_delivered else Usage()
    outcome = Outcome(usage=usage, latency_ms=1, is_output_delivered=ending.is_delivered)
    return Settlement(opened=call, attempt=call.attempt, outcome=outcome)


def told(result: OpenCall | Exception) -> Any:
    """A result as its caller sees it."""
    if isinstance(result, Refusal):
        return type(result).__name__, str(result), result.figures
    assert isinstance(result, OpenCall)
    return "open", dict(result.params), result.call.held_nanocredits


def picture() -> dict[str, Any]:
    """Every row that calls and money are made of, without the ids that a database gives."""
    names = _names_of_jobs()

    def named(reference: str) -> str:
        kind, _, pk = reference.partition(":")
        return names[UUID(pk)] if kind == "job" else reference

    holds = {row.pk: named(row.reference) for row in Hold.objects.all()}
    return {
        "jobs": _rows(Job, "id", names, hold_id=holds),
        "calls": _rows(Call, "id", {}, hold_id=holds, job_id=names),
        "holds": sorted(
            (
                named(row.reference),
                row.account_id,
                row.amount_nanocredits,
                row.drawn_nanocredits,
                row.state,
                row.closed_at,
                row.budget_period_ids,
                holds.get(row.pool_id),
            )
            for row in Hold.objects.all()
        ),
        "entries": [
            (
                row.account_id,
                row.kind,
                row.amount_nanocredits,
                row.balance_after_nanocredits,
                row.price_nano_usd,
                named(row.reference) if ":" in row.reference else row.reference,
                row.labels,
            )
            for row in Entry.objects.order_by("id")
        ],
        "accounts": list(Account.objects.order_by("id").values()),
        "periods": list(BudgetPeriod.objects.order_by("id").values()),
        "counters": list(
            UsageCounter.objects.order_by("team_id", "rule_id").values_list(
                "team_id", "rule_id", "month", "quantity"
            )
        ),
        "attempts": list(
            Attempt.objects.order_by("call_id").values_list("call_id", "number", "ended_at")
        ),
        "costs": list(
            CostLine.objects.order_by("call_id", "id").values_list(
                "call_id", "kind", "amount_nano_usd"
            )
        ),
        "history": sorted(
            (names[row.job_id], row.from_status, row.to_status, row.reason, row.actor)
            for row in StatusChange.objects.all()
        ),
    }


def _names_of_jobs() -> dict[UUID, str]:
    """A new job has another id each time: it is known by its first call."""
    first = dict(Call.objects.order_by("-id").values_list("job_id", "id"))
    return {
        job_id: f"job of {first[job_id].int}" if job_id in first else f"job {job_id}"
        for job_id in Job.objects.values_list("id", flat=True)
    }


def _rows(model: Any, key: str, names: dict[Any, str], **related: dict[Any, str]) -> list[Any]:
    rows = []
    for row in model.objects.values():
        row[key] = names.get(row[key], str(row[key]))
        for column, known in related.items():
            row[column] = known.get(row[column])
        rows.append(row)
    return sorted(rows, key=lambda row: str(row[key]))


def _batches(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


COUNTED = {
    "jobs": {
        "call_rules": [
            {
                "kind": "tiered",
                "metric": "jobs",
                "tiers": [{"up_to": 2, "credits": "0.1"}, {"credits": "0.04"}],
            }
        ]
    },
    "clamped": {"call_rules": [{"kind": "markup", "clamp_output": True}]},
}


on_postgresql = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="SQLite takes rows one by one, on one connection a thread"
)


def sharing(*, credits_: int, names: tuple[str, ...] = ("anna", "bert")) -> list[Team]:
    """Teams of one organization that draw on its wallet, and one with a wallet of its own."""
    organization = directory.create_organization(slug="shop", actor="test")
    made = []
    for name in names:
        team = directory.create_team(slug=name, organization=organization, actor="test")
        directory.set_wallet(team=team, draws_on=Team.Wallet.ORGANIZATION, actor="test")
        team.default_alias = factories.serve(team, alias="chat", model="demo/echo")
        team.save()
        made.append(Team.objects.select_related("organization").get(pk=team.pk))
    if credits_:
        factories.top_up(made[0], credits_ * NANO)
    return made


def assigned(team: Team, spec: dict[str, Any], *, name: str) -> None:
    plans.assign(plan=work.plan(name, **spec), team=team, actor="test")


class Stage:
    """Two teams that share a wallet and one with its own, with jobs under every kind of plan."""

    def __init__(self, clock: Clock) -> None:
        self.teams = sharing(credits_=2)
        self.teams.append(factories.company(name="carl", credits_=1, plan="").team)
        self.teams[-1] = Team.objects.select_related("organization").get(slug="carl")
        # One way only: which deployment is asked is a matter of chance.
        Deployment.objects.exclude(pk=Deployment.objects.earliest("pk").pk).delete()
        self.keys = [keys.issue(team=team, actor="test")[0] for team in self.teams]
        plans_ = [work.plan(f"plan-{name}", **spec) for name, spec in {**PLANS, **COUNTED}.items()]
        self.jobs: list[Job] = []
        for team in self.teams:
            for plan in plans_:
                clock.tick(60)
                plans.assign(plan=plan, team=team, actor="test")
                if plan.slug not in {"plan-flat", "plan-minimum"}:
                    self.jobs.append(work.job(team))
        self.jobs.append(work.job(self.teams[0], max_nanocredits=NANO // 2))
        self.jobs.append(work.job(self.teams[2], max_nanocredits=NANO // 2, is_reserving=True))
        owner: Any
        for owner, period, limit in (
            (self.teams[0], "day", NANO),
            (self.teams[0].organization, "month", 3 * NANO // 2),
            (self.keys[2], "total", NANO // 2),
        ):
            budgets.create(owner=owner, period=period, limit_nanocredits=limit, actor="test")
        for team, api_key in zip(self.teams, self.keys, strict=True):
            # Made now: a sequence is not rolled back, and theirs are rows to compare.
            budgets.current(spender_of(team, api_key.pk))
        self.versions = [plan.versions.get().pk for plan in plans_]

    def opening(
        self, number: int, which: int, max_tokens: int, cap: int | None, kind: str, is_keyed: bool
    ) -> Any:
        team_number = which % 3
        more: dict[str, Any] = {}
        if which < len(self.jobs):
            job = self.jobs[which]
            team_number = next(n for n, team in enumerate(self.teams) if team.pk == job.team_id)
            more["job"] = job
        else:
            more = {
                "version_id": self.versions[(number + which) % len(self.versions)],
                "is_single": kind == "single",
                "is_reserving": kind == "reserving",
                "max_nanocredits": None if cap is None else cap * NANO // 10,
            }
        team = self.teams[team_number]
        if kind == "quoted" and "job" not in more:
            more["quote"] = quotes.give(
                team=team, job_type="contract", model=None, messages=[], expected_calls=2
            )
        api_key = self.keys[team_number] if is_keyed else None
        return opening(team, number=number, max_tokens=max_tokens, api_key=api_key, **more)

    def played(self, made: Any, ends: Any, order: Any, *, at_once: int) -> Any:
        """What came of it all, and the books after; then it never was."""
        with transaction.atomic():
            results = opened(made, at_once=at_once)
            after_opening = picture()
            pairs = [
                (results[number], Ending(prompt=ends[number][0], is_delivered=ends[number][1]))
                for number in order
                if number < len(results) and isinstance(results[number], OpenCall)
            ]
            settled(pairs, at_once=at_once)
            seen = ([told(one) for one in results], after_opening, picture())
            assert verification.verify() == []
            transaction.set_rollback(True)
        return seen


def customer(spec: dict[str, Any], *, credits_: int = 100) -> Team:
    made = factories.company(credits_=credits_, plan="").team
    assigned(made, spec, name="theirs")
    return Team.objects.select_related("organization").get(pk=made.pk)


def opened_calls(*made: Any) -> list[OpenCall]:
    results = open_all(made)
    assert [one for one in results if not isinstance(one, OpenCall)] == []
    return [one for one in results if isinstance(one, OpenCall)]
