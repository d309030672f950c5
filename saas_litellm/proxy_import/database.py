"""A proxy's own PostgreSQL tables, read: organizations, teams, keys and their budgets.

Rows are asked for as JSON: which columns there are differs from release to release of the proxy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql

from saas_litellm.base.refusals import Invalid

_SECONDS_TO_CONNECT = 10
_MOST_COUNTED = 1000
# What it keeps besides, and what becomes of it here.
_OTHERWISE = {
    "LiteLLM_ProxyModelTable": "models that the proxy keeps in its database, sealed with its own key:"
    " put them into the config.yaml, or enter them under Aliases",
    "LiteLLM_UserTable": "people: a team's members are invited by e-mail (Invite a member)",
    "LiteLLM_EndUserTable": "end users: a job names its end user, who needs no row",
    "LiteLLM_TeamMembership": "budgets of members within a team: give each a key with a budget",
    "LiteLLM_TagTable": "tags: use job types and metadata",
    "LiteLLM_MCPServerTable": "MCP servers: no counterpart",
    "LiteLLM_GuardrailsTable": "guardrails: no counterpart",
    "LiteLLM_SpendLogs": "spend of the past: history stays in the proxy",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What somebody may use and spend; money in USD of provider cost, rates of a minute."""

    models: tuple[str, ...] = ()
    max_budget_usd: Decimal | None = None
    budget_duration: str = ""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    calls_in_flight: int | None = None
    is_blocked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization:
    id: str
    name: str
    terms: Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    id: str
    name: str
    organization_id: str
    terms: Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """Of the key itself the proxy keeps a digest, which opens nothing here."""

    name: str
    team_id: str
    expires_at: datetime | None
    terms: Terms


@dataclass(slots=True, kw_only=True)
class Books:
    organizations: list[Organization] = field(default_factory=list)
    teams: list[Team] = field(default_factory=list)
    keys: list[ApiKey] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def read(url: str) -> Books:
    """Read-only, in one snapshot. Raises Invalid where it cannot be reached or is no proxy's."""
    try:
        with psycopg.connect(url, connect_timeout=_SECONDS_TO_CONNECT) as connection:
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            return _read(connection)
    except psycopg.Error as error:
        # The error of a connection may quote the URL's host, never its password.
        raise Invalid(f"The proxy's database could not be read: {error}".strip()) from error


def _read(connection: psycopg.Connection[Any]) -> Books:
    present = {
        name
        for (name,) in connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'LiteLLM\\_%'"
        )
    }
    if "LiteLLM_TeamTable" not in present:
        raise Invalid("This database is not a LiteLLM proxy's: it has no LiteLLM_TeamTable.")

    def rows(table: str) -> list[Mapping[str, Any]]:
        if table not in present:
            return []
        query = sql.SQL("SELECT to_jsonb(t) FROM {} t").format(sql.Identifier(table))
        return [row for (row,) in connection.execute(query)]

    budgets = {row["budget_id"]: row for row in rows("LiteLLM_BudgetTable")}

    def terms(row: Mapping[str, Any]) -> Terms:
        # A budget's row counts where the row itself says nothing.
        shared = budgets.get(row.get("budget_id") or "", {})
        both = {**shared, **{name: value for name, value in row.items() if value is not None}}
        return _terms(both)

    books = Books(
        organizations=[
            Organization(
                id=row["organization_id"],
                name=row.get("organization_alias") or row["organization_id"],
                terms=terms(row),
            )
            for row in rows("LiteLLM_OrganizationTable")
        ],
        teams=[
            Team(
                id=row["team_id"],
                name=row.get("team_alias") or row["team_id"],
                organization_id=row.get("organization_id") or "",
                terms=terms(row),
            )
            for row in rows("LiteLLM_TeamTable")
        ],
        keys=[
            ApiKey(
                name=row.get("key_alias") or row.get("key_name") or "",
                team_id=row.get("team_id") or "",
                expires_at=_moment(row.get("expires")),
                terms=terms(row),
            )
            for row in rows("LiteLLM_VerificationToken")
        ],
    )
    for table, otherwise in _OTHERWISE.items():
        if table in present:
            query = sql.SQL("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT {}) t")
            counted = connection.execute(query.format(sql.Identifier(table), _MOST_COUNTED))
            many = counted.fetchone()[0]  # type: ignore[index] # a count has a row
            if many:
                more = " or more" if many == _MOST_COUNTED else ""
                books.left_out.append(f"{many}{more} rows of {table}: {otherwise}")
    return books


def _terms(row: Mapping[str, Any]) -> Terms:
    budget = row.get("max_budget")
    return Terms(
        models=tuple(map(str, row.get("models") or ())),
        max_budget_usd=Decimal(str(budget)) if budget is not None else None,
        budget_duration=str(row.get("budget_duration") or ""),
        requests_per_minute=_limit(row.get("rpm_limit")),
        tokens_per_minute=_limit(row.get("tpm_limit")),
        calls_in_flight=_limit(row.get("max_parallel_requests")),
        is_blocked=bool(row.get("blocked")),
    )


def _limit(value: Any) -> int | None:
    return int(value) if value else None


def _moment(text: Any) -> datetime | None:
    """The proxy's timestamps have no zone; they are UTC."""
    if not text:
        return None
    moment = datetime.fromisoformat(str(text))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
