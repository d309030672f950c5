"""A LiteLLM proxy carried over: its configuration, and tables made from the schema it ships."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from billing.models import Budget
from saas_litellm.base.refusals import Invalid
from saas_litellm.proxy_import import config
from teams import catalog, credentials, keys, prices
from teams.models import (
    AccessGroup,
    Alias,
    ApiKey,
    Deployment,
    Organization,
    ProviderCredential,
    Team,
)
from tests import factories
from tests.conftest import Live, database_url
from tests.providers.server import ProviderServer

CONFIG = """
model_list:
  - model_name: gpt-4.1-mini
    litellm_params:
      model: openai/gpt-4.1-mini
      api_key: os.environ/OPENAI_KEY_OF_TESTS
      api_base: {base}
      rpm: 60
      weight: 3
  - model_name: gpt-4.1-mini
    litellm_params:
      model: azure/eu-mini
      api_key: sk-azure
      api_base: https://eu.example.com
      api_version: "2024-06-01"
      input_cost_per_token: 4e-7
      output_cost_per_token: 0.0000016
      tpm: 100000
  - model_name: claude
    litellm_params:
      model: anthropic/claude-sonnet-4-5
      api_key: os.environ/NOT_SET_ANYWHERE
    model_info:
      access_groups: [beta]
  - model_name: embeddings
    litellm_params: {{model: text-embedding-3-small, custom_llm_provider: openai}}
    model_info: {{mode: embedding}}
  - model_name: "bedrock/*"
    litellm_params: {{model: "bedrock/*"}}
  - model_name: moderation
    litellm_params: {{model: omni-moderation-latest}}
    model_info: {{mode: moderation}}
litellm_settings:
  fallbacks: [{{"gpt-4.1-mini": ["claude"]}}]
  context_window_fallbacks: [{{"gpt-4.1-mini": ["claude", "embeddings"]}}]
  drop_params: true
  unheard_of: 1
router_settings:
  routing_strategy: latency-based-routing
general_settings:
  master_key: sk-1234
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: Any) -> Any:
    monkeypatch.setenv("OPENAI_KEY_OF_TESTS", "sk-of-tests")

    def write(base: str = "https://openai.example.com/v1") -> str:
        path = tmp_path / "config.yaml"
        path.write_text(CONFIG.format(base=base))
        return str(path)

    return write


def carry(*arguments: str) -> dict[str, Any]:
    said = io.StringIO()
    call_command("import_litellm_proxy", *arguments, "--json", stdout=said)
    answer: dict[str, Any] = json.loads(said.getvalue())
    return answer


def test_models_become_aliases_with_credentials_prices_and_fallbacks(
    db: None, written: Any
) -> None:
    report = carry(written())
    mini = Alias.objects.get(name="gpt-4-1-mini")
    assert [
        (
            d.model,
            d.priority,
            d.weight,
            d.requests_per_minute,
            d.tokens_per_minute,
            str(d.credential or "-"),
        )
        for d in mini.deployments.all()
    ] == [
        ("openai/gpt-4.1-mini", 0, 3, 60, None, "openai"),
        ("azure/eu-mini", 0, 1, None, 100_000, "azure"),
        ("anthropic/claude-sonnet-4-5", 1, 1, None, None, "-"),
    ]
    assert mini.context_window_fallback == Alias.objects.get(name="claude")
    assert Alias.objects.get(name="embeddings").kind == Alias.Kind.EMBEDDING
    azure = ProviderCredential.objects.get(name="azure")
    assert (azure.api_base, azure.extra) == (
        "https://eu.example.com",
        {"api_version": "2024-06-01"},
    )
    assert credentials.reveal(ProviderCredential.objects.get(name="openai")) == "sk-of-tests"
    standing = prices.current(["azure/eu-mini", "openai/gpt-4.1-mini"])
    assert standing["azure/eu-mini"].rates["base"]["input"] == 400_000_000
    assert set(standing) == {"azure/eu-mini", "openai/gpt-4.1-mini"}
    assert sorted(AccessGroup.objects.get(name="beta").aliases.values_list("name", flat=True)) == [
        "claude"
    ]
    left = "\n".join(report["left_out"])
    for word in (
        "NOT_SET_ANYWHERE",
        "bedrock/*",
        "mode moderation",
        "unheard_of: no counterpart",
        "routing_strategy",
        "one is kept, embeddings is not",
    ):
        assert word in left
    assert "alias gpt-4.1-mini is called gpt-4-1-mini" in report["changed"]
    assert "sk-" not in json.dumps(report)


def test_a_second_time_changes_nothing(db: None, written: Any) -> None:
    carry(written())
    before = (Deployment.objects.count(), ProviderCredential.objects.count())
    report = carry(written())
    assert report["made"] == []
    assert "alias claude: left as it is" in report["there"]
    assert (Deployment.objects.count(), ProviderCredential.objects.count()) == before


def test_a_key_that_was_not_set_at_first_completes_what_lacked_it(
    db: None, written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry(written())
    assert "NOT_SET_ANYWHERE" in "\n".join(carry(written())["left_out"])
    monkeypatch.setenv("NOT_SET_ANYWHERE", "sk-late")
    report = carry(written())
    assert "alias claude: anthropic/claude-sonnet-4-5 has its credential now" in report["changed"]
    assert "NOT_SET_ANYWHERE" not in "\n".join(report["left_out"])
    # The fallback of the other alias too, and both with the same credential.
    used = Deployment.objects.filter(model="anthropic/claude-sonnet-4-5")
    assert [str(deployment.credential) for deployment in used] == ["anthropic", "anthropic"]
    assert credentials.reveal(ProviderCredential.objects.get(name="anthropic")) == "sk-late"
    assert carry(written())["changed"] == [
        line for line in report["changed"] if "credential" not in line
    ]


def test_a_dry_run_tells_and_writes_nothing(db: None, written: Any) -> None:
    report = carry(written(), "--dry-run")
    assert "alias claude, 1 deployment" in report["made"]
    assert not Alias.objects.exists()
    assert not ProviderCredential.objects.exists()


@pytest.mark.any_database
@pytest.mark.parametrize("text", ["", "a: [", "model_list: 7", "- 1"])
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match=r"YAML|configuration"):
        config.read(text, {})


@pytest.mark.any_database
def test_entries_without_sense_are_told_not_carried() -> None:
    read = config.read("model_list: [7, {model_name: x}, {litellm_params: {model: y}}]", {})
    assert (read.models, len(read.left_out)) == ([], 3)


@pytest.mark.any_database
@pytest.mark.django_db(transaction=True)
def test_a_model_carried_over_answers(written: Any, provider: ProviderServer, spawned: Any) -> None:
    carry(written(provider.openai_base))
    team = factories.company().team
    team.access_groups.add(AccessGroup.objects.get(name="litellm-proxy"))
    assert "gpt-4-1-mini" in [alias.name for alias in catalog.granted(team)]
    Deployment.objects.exclude(model="openai/gpt-4.1-mini").update(is_active=False)
    live: Live = spawned()
    secret = keys.issue(team=team, actor="test")[1]
    with live.client({"Authorization": f"Bearer {secret}"}) as client:
        ask = {"model": "gpt-4-1-mini", "messages": [{"role": "user", "content": "hi"}]}
        answer = client.post("/v1/chat/completions", json=ask)
    assert answer.status_code == 200, answer.text


# --- The proxy's database -------------------------------------------------------------------------

_TYPES = {
    "String": "text",
    "Float": "double precision",
    "Int": "integer",
    "BigInt": "bigint",
    "Boolean": "boolean",
    "DateTime": "timestamp(3)",
    "Json": "jsonb",
}
TABLES = ("BudgetTable", "OrganizationTable", "TeamTable", "VerificationToken", "UserTable")


def tables() -> Iterator[str]:
    """The columns of the proxy's tables, as the installed release declares them."""
    found = importlib.util.find_spec("litellm")
    assert found
    assert found.origin
    schema = (Path(found.origin).parent / "proxy/schema.prisma").read_text()
    for table in TABLES:
        body = re.search(rf"model LiteLLM_{table} {{(.*?)\n}}", schema, re.DOTALL)
        assert body, table
        columns = [
            f'"{name}" {_TYPES[kind]}{"[]" if many else ""}'
            for name, kind, many in re.findall(
                r"^\s+(\w+)\s+(\w+)(\[\])?[? \n]", body[1], re.MULTILINE
            )
            if kind in _TYPES
        ]
        yield f'CREATE TABLE "LiteLLM_{table}" ({", ".join(columns)})'


@pytest.fixture
def proxy(db: None) -> Iterator[str]:
    """The URL of a database as a running proxy leaves it."""
    if connection.vendor != "postgresql":
        pytest.skip("a proxy's database is PostgreSQL")
    name, own = f"proxy_{uuid4().hex[:12]}", database_url()
    with psycopg.connect(own, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        url = f"{own.rsplit('/', 1)[0]}/{name}"
        try:
            with psycopg.connect(url) as made:
                for statement in tables():
                    made.execute(statement)
                _fill(made)
            yield url
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _fill(made: psycopg.Connection[Any]) -> None:
    made.execute("""
        INSERT INTO "LiteLLM_BudgetTable" (budget_id, max_budget, budget_duration, rpm_limit)
        VALUES ('b1', 250, '30d', 600);
        INSERT INTO "LiteLLM_OrganizationTable" (organization_id, organization_alias, budget_id)
        VALUES ('o1', 'Northwind GmbH', 'b1');
        INSERT INTO "LiteLLM_TeamTable"
            (team_id, team_alias, organization_id, max_budget, budget_duration, models, tpm_limit,
             max_parallel_requests, blocked)
        VALUES ('t1', 'Contracts', 'o1', 10, '7d', '{claude,beta,unknown}', 5000, 4, false),
               ('t2', 'Research & Co', NULL, 5, '10d', '{}', NULL, NULL, true);
        INSERT INTO "LiteLLM_VerificationToken"
            (token, key_name, key_alias, team_id, rpm_limit, max_budget, expires, blocked, models)
        VALUES ('h1', 'sk-...1', 'production', 't1', 30, 2.5, '2099-01-01', NULL, '{}'),
               ('h2', 'sk-...2', 'old', 't1', NULL, NULL, '2001-01-01', NULL, '{}'),
               ('h3', 'sk-...3', NULL, NULL, NULL, NULL, NULL, NULL, '{}');
        INSERT INTO "LiteLLM_UserTable" (user_id) VALUES ('u1'), ('u2');
    """)


def test_teams_limits_budgets_and_keys_become_ours(
    proxy: str, written: Any, tmp_path: Path
) -> None:
    file = tmp_path / "keys.csv"
    report = carry(written(), "--database-url", proxy, "--issue-keys", str(file))
    contracts = Team.objects.get(slug="contracts")
    assert contracts.organization.slug == "northwind-gmbh"
    assert (contracts.tokens_per_minute, contracts.calls_in_flight) == (5000, 4)
    # Its own models, and those of the group that it was granted.
    assert [alias.name for alias in catalog.granted(contracts)] == ["claude"]
    research = Team.objects.get(slug="research-co")
    assert (research.status, research.organization.slug) == ("suspended", "litellm-proxy")
    assert Organization.objects.get(slug="northwind-gmbh").requests_per_minute == 600
    # At ten credits a dollar, as the default plan has it.
    assert sorted(
        Budget.objects.values_list("period", "limit_nanocredits", "team__slug", "api_key__name")
    ) == [
        ("month", 2500 * 10**9, None, None),
        ("total", 25 * 10**9, None, "production"),
        ("week", 100 * 10**9, "contracts", None),
    ]
    key = ApiKey.objects.get(team=contracts)
    assert (key.name, key.requests_per_minute, key.expires_at.year) == ("production", 30, 2099)  # type: ignore[union-attr]
    (row,) = csv.DictReader(file.open())
    assert (row["team"], row["name"]) == ("contracts", "production")
    assert keys.authenticate(row["key"]).pk == key.pk
    assert file.stat().st_mode & 0o777 == 0o600
    assert row["key"] not in json.dumps(report)
    left = "\n".join(report["left_out"])
    for word in ("unknown", "a 10d", "key old of contracts: blocked or expired", "of no team"):
        assert word in left
    assert "2 rows of LiteLLM_UserTable" in left


@pytest.mark.parametrize("budget", ["Infinity", "-Infinity", "NaN", "1e300", "1e-12"])
def test_a_budget_that_is_no_amount_is_left_out(budget: str, proxy: str, written: Any) -> None:
    with psycopg.connect(proxy) as made:
        made.execute(
            "UPDATE \"LiteLLM_TeamTable\" SET max_budget = %s WHERE team_id = 't1'", [budget]
        )
    report = carry(written(), "--database-url", proxy)
    assert not Budget.objects.filter(team__slug="contracts").exists()
    assert any("contracts: a budget of" in line for line in report["left_out"])
    assert Budget.objects.filter(period="month").exists()


def test_a_file_that_is_there_keeps_its_words_and_no_key_is_made(
    proxy: str, written: Any, tmp_path: Path
) -> None:
    file = tmp_path / "keys.csv"
    file.write_text("mine")
    with pytest.raises(CommandError, match="cannot be written"):
        carry(written(), "--database-url", proxy, "--issue-keys", str(file))
    assert file.read_text() == "mine"
    assert not Team.objects.exists()


def test_another_database_is_refused(proxy: str, written: Any) -> None:
    with pytest.raises(CommandError, match="not a LiteLLM proxy's"):
        carry(written(), "--database-url", database_url())
