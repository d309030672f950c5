"""`manage.py probe`: every deployment called, and told apart by how it answers."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import CommandError, call_command

from jobs.models import Call, CostLine
from saas_litellm.base.money import femto
from teams.models import Alias, Deployment, DeploymentHealth
from teams.prices import Rates, UnitPrices
from tests import factories
from tests.providers.server import ProviderServer, Reply


@pytest.mark.django_db(transaction=True)
def test_a_probe_reports_every_deployment_and_costs_no_team_anything(
    provider: ProviderServer,
) -> None:
    alice = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    factories.serve(alice.team, alias="demo", model="demo/echo")
    factories.serve(alice.team, alias="unpriced", model="demo/other", sheet=None)
    provider.default = Reply(status=500)
    out = io.StringIO()
    with pytest.raises(CommandError, match="2 of 3"):
        call_command("probe", "--json", stdout=out)
    found = {row["deployment"]: row for row in json.loads(out.getvalue())["deployments"]}
    assert found["demo: demo/echo"]["is_well"]
    assert float(found["demo: demo/echo"]["cost_usd"]) > 0
    assert "server_error" in found["chat: openai/gpt-4o-mini"]["detail"]
    assert "no unit price" in found["unpriced: demo/other"]["detail"]
    assert DeploymentHealth.objects.get().failures == 1
    assert not Call.objects.exists()
    assert not CostLine.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_probe_that_is_answered_closes_the_breaker(provider: ProviderServer) -> None:
    factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    DeploymentHealth.objects.create(deployment=Deployment.objects.get(), failures=3)
    call_command("probe", "--alias", "chat", stdout=io.StringIO())
    assert DeploymentHealth.objects.get().failures == 0


@pytest.mark.django_db(transaction=True)
def test_what_is_paid_by_the_unit_is_asked_for_the_least_of_it(provider: ProviderServer) -> None:
    alice = factories.company(model="demo/echo")
    provider.default = Reply(usage={"duration": 1})
    models = {
        "image": "openai/dall-e-3",
        "speech": "openai/tts-1",
        "transcription": "openai/whisper-1",
        "rerank": "cohere/rerank-v3.5",
    }
    sheet = UnitPrices(base=Rates(input=0, output=0), per_unit=femto("0.02"))
    for kind, model in models.items():
        base = provider.anthropic_base if kind == "rerank" else provider.openai_base
        factories.serve(alice.team, alias=kind, model=model, api_base=base, sheet=sheet)
        Alias.objects.filter(name=kind).update(kind=kind)
    out = io.StringIO()
    call_command("probe", "--json", stdout=out)
    found = {row["deployment"]: row for row in json.loads(out.getvalue())["deployments"]}
    told = {name.split(":")[0]: (row["detail"], row["cost_usd"]) for name, row in found.items()}
    assert told["image"] == ("1 units", "0.02")
    assert told["speech"] == ("0.002 units", "0.00004")
    assert told["transcription"] == ("1 units", "0.02")
    assert told["rerank"] == ("3 units", "0.06")
