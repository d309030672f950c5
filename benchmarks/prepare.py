"""Tables, teams with credits and limits, and an alias for each of the upstream's models.

`python -m benchmarks.prepare BASE TEAMS` on the empty database of the environment; prints one JSON
line with the teams' API keys. Their limits are wide, but there: the limiter is asked.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from typing import Any

MODELS = ("burst", "paced", "paced-100", "sparse", "held")


def team(base: str, **fields: Any) -> dict[str, str]:
    """A new team behind ``base``, with ``fields`` of its own. Django is set up."""
    from billing import ledger, plans
    from saas_litellm.base.money import NANO
    from teams import directory, keys
    from teams.models import Alias

    aliases = [_alias(model, base) for model in MODELS]
    suffix = secrets.token_hex(4)
    made = directory.create_team(
        slug=f"bench-{suffix}",
        organization=directory.create_organization(slug=f"bench-{suffix}", actor="bench"),
        actor="bench",
        access_groups=[_group(aliases)],
        default_alias=Alias.objects.get(name="burst"),
    )
    type(made).objects.filter(pk=made.pk).update(**fields)
    plans.assign(plan=plans.ensure_preset("consumption_usd").plan, team=made, actor="bench")
    ledger.grant(
        account=ledger.account_of(made),
        amount_nanocredits=10**6 * NANO,
        actor="bench",
        idempotency_key="bench",
    )
    return {"team": made.slug, "key": keys.issue(team=made, actor="bench")[1]}


def _alias(model: str, base: str) -> Any:
    from teams import credentials, prices
    from teams.models import Alias, Deployment

    alias, is_new = Alias.objects.get_or_create(name=model)
    if is_new:
        credential = credentials.save(name=model, api_key="x", api_base=base, actor="bench")
        Deployment.objects.create(alias=alias, model=f"openai/{model}", credential=credential)
        sheet = prices.UnitPrices(base=prices.Rates(input=10**8, output=10**8))
        prices.publish(price_key=f"openai/{model}", prices=sheet, source="bench")
    return alias


def _group(aliases: list[Any]) -> Any:
    from teams.models import AccessGroup

    group, _ = AccessGroup.objects.get_or_create(name="bench")
    group.aliases.set(aliases)
    return group


LIMITS = {"requests_per_minute": 10**7, "tokens_per_minute": 10**9, "calls_in_flight": 10**5}

if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "saas_litellm.settings"
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    print(json.dumps([team(sys.argv[1], **LIMITS)["key"] for _ in range(int(sys.argv[2]))]))
