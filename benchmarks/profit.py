"""Profit reports at size, on one PostgreSQL: `python -m benchmarks.profit [calls] [teams]`.

Fills a scratch database with calls (a million by default) in a tenth as many jobs of 200 teams
over 60 days, and times reports of 30 days from the work itself and from kept days, and what the
admin's overview gathers for its page.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from benchmarks import scratch

DAYS = 60
GROUPS = (None, "team", "organization", "job_type", "alias", "day", "month", "job")


def main(calls: int, teams: int) -> int:
    with scratch.database() as url:
        scratch.set_up(url)
        _fill(calls, teams)
        from jobs import profit, rollups
        from saas_litellm.base import clock

        today = clock.now().date()
        span: dict[str, Any] = {"start": today - timedelta(days=30), "end": today}
        raw = {g: _timed(lambda g=g: profit.report(**span, group_by=g)) for g in GROUPS}
        rolled, rolling = _once(rollups.rebuild)
        print(f"{calls} calls; {rolled} days rolled up in {rolling:.1f} s")
        differences, comparing = _once(rollups.compare)
        print(f"compare: {len(differences)} differences, {comparing:.1f} s")
        print(f"{'30 days by':>14} {'the work, s':>12} {'kept days, s':>13}")
        for group in GROUPS:
            kept = _timed(lambda g=group: profit.report(**span, group_by=g))
            print(f"{group or 'nothing':>14} {raw[group]:>12.3f} {kept:>13.3f}")
        _overview()
        from django.db import connection

        connection.close()
    return 0


def _overview() -> None:
    from django.db import connection
    from django.test import RequestFactory
    from django.test.utils import CaptureQueriesContext

    from billing import runway
    from saas_litellm.dashboard import home
    from teams.models import User

    _, pacing = _once(runway.keep_paces)
    print(f"paces of all accounts: {pacing:.1f} s")
    request = RequestFactory().get("/admin/")
    request.user = User.objects.create_superuser("bench", password=None)
    for period in ("today", "7d", "30d", "month"):
        request.GET = request.GET.copy()
        request.GET["period"] = period
        seconds = _timed(lambda: home.context(request, {}))
        with CaptureQueriesContext(connection) as queries:
            home.context(request, {})
        print(f"overview, {period:>6}: {seconds:.3f} s, {len(queries)} queries")


def _once(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.monotonic()
    result = work()
    return result, time.monotonic() - began


def _timed(work: Callable[[], Any]) -> float:
    """The median of three."""
    return sorted(_once(work)[1] for _ in range(3))[1]


def _fill(calls: int, team_count: int) -> None:
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", verbosity=0)
    from billing import ledger, plans
    from teams.models import Alias, Organization, Team

    organizations = [Organization(slug=f"o{n}", name="o") for n in range(20)]
    Organization.objects.bulk_create(organizations)
    teams = [
        Team(slug=f"t{n}", name="t", organization=organizations[n % 20]) for n in range(team_count)
    ]
    Team.objects.bulk_create(teams)
    Alias.objects.bulk_create([Alias(name=f"a{n}") for n in range(5)])
    account_id = ledger.account_of(teams[0]).pk
    values = {
        "jobs": calls // 10,
        "calls": calls,
        "team": teams[0].pk,
        "alias": Alias.objects.order_by("pk")[0].pk,
        "account": account_id,
        "version": plans.ensure_preset("consumption_usd").pk,
        "teams": team_count,
        "seconds": DAYS * 86_400,
    }
    with connection.cursor() as cursor:
        for statement in (_JOBS, _CALLS, _TOTALS, "ANALYZE"):
            cursor.execute(statement, values if "%(" in statement else None)


_ID = "('00000000-0000-4000-8000-' || lpad(to_hex(%s), 12, '0'))::uuid"
_DEFAULTS = {
    "jobs_job": (
        "user_id, external_task_id, metadata, outcome, error_message, is_waived, is_single, in_flight,"
        " held_nanocredits, held_cost_nano_usd, counted_tokens, base_charged_nanocredits,"
        " base_overrun_nanocredits, base_price_nano_usd, base_refunded_nanocredits,"
        " base_refunded_nano_usd, failed_calls, total_latency_ms, overrun_nanocredits,"
        " refunded_nanocredits, refunded_nano_usd",
        "'', '', '{}', '', '', false, false, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0",
    ),
    "jobs_call": (
        "is_stream, is_cache_hit, saved_nano_usd, purpose, call_metadata, unit_prices, estimated_prompt_tokens,"
        " max_output_tokens, held_nanocredits, held_cost_nano_usd, usage_source, finish_reason,"
        " error_code, is_output_delivered, overrun_nanocredits, overrun_reason,"
        " refunded_nanocredits, refunded_nano_usd, latency_ms",
        "false, false, 0, '', '{}', '{}', 0, 0, 0, 0, 'provider', 'stop', '', true, 0, '', 0, 0, 900",
    ),
}
_WHEN = "now() - (n::float8 / %(jobs)s * %(seconds)s) * interval '1 second'"
_JOBS = f"""
INSERT INTO jobs_job (id, team_id, plan_version_id, account_id, job_type, status, created_at,
    closed_at, last_activity_at, successful_calls, total_tokens, charged_nanocredits,
    price_nano_usd, provider_cost_nano_usd, {_DEFAULTS["jobs_job"][0]})
SELECT {_ID % "n"}, %(team)s + n %% %(teams)s, %(version)s, %(account)s, 'type' || n %% 8,
    'completed', {_WHEN}, {_WHEN}, {_WHEN}, 10, 12000, 0, 0, 0, {_DEFAULTS["jobs_job"][1]}
FROM generate_series(0, %(jobs)s - 1) n"""
_CALLS = f"""
INSERT INTO jobs_call (id, job_id, team_id, alias_id, status, created_at, finished_at, expires_at,
    prompt_tokens, cached_tokens, completion_tokens, total_tokens, price_nanocredits,
    charged_nanocredits, price_nano_usd, provider_cost_nano_usd, {_DEFAULTS["jobs_call"][0]})
SELECT {_ID % "c"}, {_ID % "n"}, %(team)s + n %% %(teams)s, %(alias)s + c %% 5, 'settled',
    {_WHEN}, {_WHEN}, {_WHEN}, 1000, 100, 200, 1200, 150000 + c %% 977, 150000 + c %% 977,
    15000 + c %% 977, 12000 + c %% 491, {_DEFAULTS["jobs_call"][1]}
FROM (SELECT c, c %% %(jobs)s AS n FROM generate_series(0, %(calls)s - 1) c) AS numbered"""
_TOTALS = """
UPDATE jobs_job SET charged_nanocredits = s.charged, price_nano_usd = s.price,
    provider_cost_nano_usd = s.cost
FROM (SELECT job_id, sum(charged_nanocredits) charged, sum(price_nano_usd) price,
    sum(provider_cost_nano_usd) cost FROM jobs_call GROUP BY job_id) s WHERE s.job_id = id"""


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    sys.exit(main(*given, *(1_000_000, 200)[len(given) :]))
