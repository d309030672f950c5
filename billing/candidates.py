"""A plan from a spec that nobody has saved: for trying prices out, and what keeps it a draft."""

from __future__ import annotations

from typing import Any

from billing import plan_specs, plans
from billing.models import CallRule, JobRule, PlanVersion
from billing.plan_specs import VersionSpec
from billing.pricing import Plan
from billing.refusals import PlanNotReady
from billing.tiers import BadTiers
from saas_litellm.base.money import InexactAmount
from saas_litellm.base.refusals import Invalid


def plan_of(spec: VersionSpec) -> Plan:
    """The plan that a draft of this spec is read as. Raises Invalid, PlanNotReady as drafting does.

    A refusal's ``param`` says which rule it is about: ``job_rules.0``, ``call_rules.2``.
    """
    param = "rules"
    try:
        version = PlanVersion(**plan_specs.version_columns(spec))
        job_rules, call_rules = [], []
        for number, job_rule in enumerate(spec.job_rules):
            param = f"job_rules.{number}"
            columns = plan_specs.job_columns(job_rule)
            job_rules.append(JobRule(pk=number + 1, version=version, **columns))
        for number, call_rule in enumerate(spec.call_rules):
            param = f"call_rules.{number}"
            columns = plan_specs.call_columns(call_rule)
            call_rules.append(CallRule(pk=number + 1, version=version, **columns))
    except InexactAmount as error:
        raise Invalid(str(error), param=param) from error
    except BadTiers as error:
        raise PlanNotReady(str(error), param=param) from error
    _require_once("job_rules", [(rule.job_type,) for rule in spec.job_rules])
    _require_once("call_rules", [(rule.job_type, rule.alias) for rule in spec.call_rules])
    return plans.compose(version, job_rules=job_rules, call_rules=call_rules)


def objection(plan: Plan) -> str:
    """Why it could not be activated as it stands, in a sentence; empty when it could."""
    try:
        plans.check_rules(plan)
    except PlanNotReady as refusal:
        return refusal.message
    return ""


def _require_once(name: str, matches: list[tuple[Any, ...]]) -> None:
    """As the database's unique constraints have it once the rules are saved."""
    for number, match in enumerate(matches):
        if match in matches[:number]:
            raise PlanNotReady(
                "Another rule is for the same jobs and calls.", param=f"{name}.{number}"
            )
