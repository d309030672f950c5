"""Who is limited by what: the rules a call counts under, and how that is told."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

from saas_litellm.base.limiter import Admission, Rule, Standing
from saas_litellm.base.limiter.rules import Kind
from saas_litellm.base.refusals import RateLimited
from teams.models import Alias, ApiKey, Deployment, Team
from teams.models.limits import Limited
from teams.models.limits import RateLimited as Bounded

_WHAT = {
    Kind.REQUESTS: "requests a minute",
    Kind.TOKENS: "tokens a minute",
    Kind.IN_FLIGHT: "calls at the same time",
}


def rules_for(*, team: Team, api_key: ApiKey | None, alias: Alias) -> tuple[Rule, ...]:
    """The rules of a team's call: of its key, the team, its organization, and the team's share of
    the alias. No query: the rows are loaded already."""
    return tuple(
        rule
        for scope, bound in (
            (f"key:{api_key.pk}" if api_key else "", api_key),
            (f"team:{team.pk}", team),
            (f"organization:{team.organization_id}", team.organization),
            (f"alias:{alias.pk}:{team.pk}", alias),
        )
        if bound is not None
        for rule in _rules(scope, bound)
    )


def rules_of(deployment: Deployment) -> tuple[Rule, ...]:
    """What a provider allows this deployment, whoever calls it."""
    return tuple(_rules(f"deployment:{deployment.pk}", deployment))


def refusal(admission: Admission) -> RateLimited:
    """What a caller is told whose request did not fit."""
    rule = admission.refused
    assert rule is not None, "only a refused admission is told"
    if rule.kind is Kind.TOKENS and admission.tokens > rule.limit:
        message = (
            f"This request may take {admission.tokens} tokens, more than the {rule.limit} tokens"
            " a minute that are allowed. Send less, or ask for less output."
        )
    else:
        message = f"The limit of {rule.limit} {_WHAT[rule.kind]} is reached."
    return RateLimited(
        message,
        retry_after_seconds=max(1, math.ceil(admission.retry_after_seconds)),
        headers=headers(admission),
    )


def headers(admission: Admission | None) -> dict[str, str]:
    """OpenAI's x-ratelimit headers, of the tightest rule of each kind; none without rules."""
    if admission is None:
        return {}
    told = {}
    for kind in (Kind.REQUESTS, Kind.TOKENS):
        tightest = _tightest(admission.standings, kind)
        if tightest is not None:
            told[f"x-ratelimit-limit-{kind}"] = str(tightest.rule.limit)
            told[f"x-ratelimit-remaining-{kind}"] = str(tightest.remaining)
            told[f"x-ratelimit-reset-{kind}"] = f"{tightest.reset_seconds:.3f}s"
    return told


def _rules(scope: str, bound: Bounded) -> Iterable[Rule]:
    limits = {Kind.REQUESTS: bound.requests_per_minute, Kind.TOKENS: bound.tokens_per_minute}
    if isinstance(bound, Limited):
        limits[Kind.IN_FLIGHT] = bound.calls_in_flight
    return (_rule(scope, kind, limit) for kind, limit in limits.items() if limit is not None)


@lru_cache(maxsize=4096)
def _rule(scope: str, kind: Kind, limit: int) -> Rule:
    """One for all calls that count under it: each call in flight keeps its rules."""
    return Rule(scope=scope, kind=kind, limit=limit)


def _tightest(standings: Iterable[Standing], kind: Kind) -> Standing | None:
    return min(
        (standing for standing in standings if standing.rule.kind is kind),
        key=lambda standing: standing.remaining,
        default=None,
    )
