"""A provider's bill beside our books: read exactly, compared by model and day, corrected once."""

from __future__ import annotations

import io
import json
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from billing import ledger, plans
from billing.models import Account, Entry, Hold
from jobs import rollups
from jobs.models import (
    Attempt,
    Call,
    CostLine,
    Job,
    Reconciliation,
    ReconciliationLine,
    RollupDay,
)
from jobs.reconciliation import compare, formats, naming
from saas_litellm.base.models import AuditEntry
from saas_litellm.base.refusals import Conflict, Invalid, PayloadTooLarge
from teams.models import Alias, User
from tests import factories

EXPORTS = Path(__file__).parent / "exports"
NEW_YEAR = date(2026, 1, 1)
GPT = "gpt-4o-2024-08-06"
GENERIC = "day,model,input_tokens,cached_tokens,output_tokens,cost_usd\n"
USAGE_CSV = "start_time,end_time,num_model_requests,model,input_tokens,output_tokens\n"
COSTS_CSV = "start_time,end_time,amount_value,amount_currency,line_item\n"
CLAUDE_CSV = "usage_date_utc,model,token_type,cost_usd\n"
BUCKET = "1767225600,1767312000"


def export(name: str) -> bytes:
    return (EXPORTS / name).read_bytes()


def figures(name: str) -> list[tuple[str, str, int | None, int | None]]:
    return [
        (f"{usage.day}", usage.model, usage.tokens, usage.cost_nano_usd)
        for usage in formats.read(export(name)).usages
    ]


def served(model: str, *, alias: str = "chat") -> Alias:
    team = factories.Team.objects.filter(slug="alice").first() or factories.team()
    return factories.serve(team, alias=alias, model=model)


def called(
    alias: Alias,
    *,
    nano_usd: int,
    prompt: int = 1000,
    completion: int = 100,
    at: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC),
    **more: Any,
) -> Call:
    """A finished call with its attempt and cost line, as `calls.settle` leaves them."""
    team = factories.Team.objects.get(slug="alice")
    deployment = alias.deployments.get()
    job = Job.objects.create(
        team=team,
        plan_version=plans.ensure_preset("consumption_usd"),
        account_id=ledger.account_of(team).pk,
        job_type="x",
        created_at=at,
        last_activity_at=at,
        provider_cost_nano_usd=nano_usd,
    )
    stored = {
        "status": Call.Status.SETTLED,
        "is_output_delivered": True,
        "usage_source": "provider",
        "finished_at": at + timedelta(seconds=2),
        **more,
    }
    call = Call.objects.create(
        job=job,
        team=team,
        alias=alias,
        deployment=deployment,
        created_at=at,
        dispatched_at=at,
        expires_at=at + timedelta(minutes=10),
        unit_prices={},
        estimated_prompt_tokens=prompt,
        max_output_tokens=completion,
        held_nanocredits=0,
        held_cost_nano_usd=nano_usd,
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        provider_cost_nano_usd=nano_usd,
        **stored,
    )
    attempt = Attempt.objects.create(call=call, deployment=deployment, number=1, started_at=at)
    CostLine.objects.create(
        call=call, attempt=attempt, kind="attempt", amount_nano_usd=nano_usd, created_at=at
    )
    return call


def compared(content: bytes | str, **more: Any) -> Reconciliation:
    raw = content.encode() if isinstance(content, str) else content
    return compare.reconcile(content=raw, filename="export", actor="test", **more)


def lines(made: Reconciliation) -> list[tuple[Any, ...]]:
    return [
        (
            f"{line.day}",
            line.model,
            line.their_tokens,
            line.our_tokens,
            line.their_nano_usd,
            line.our_nano_usd,
            line.variance_nano_usd,
            line.is_beyond_threshold,
        )
        for line in made.lines.all()
    ]


def money() -> tuple[Any, ...]:
    return tuple(list(model.objects.order_by("pk").values()) for model in (Account, Entry, Hold))


# Reading


def test_openai_usage_json_counts_cached_tokens_once_and_adds_up_groups() -> None:
    # 1,000 + 500, and 200 + 50 in a batch; 70 + 30.
    expected = [
        ("2026-01-01", GPT, 1750, None),
        ("2026-01-01", "gpt-4o-mini-2024-07-18", 100, None),
    ]
    assert figures("openai_usage.json") == expected
    found = formats.read(export("openai_usage.json"))
    assert (found.source, found.last_day) == ("openai_usage_json", date(2026, 1, 2))
    assert (found.has_tokens, found.has_cost) == (True, False)


def test_openai_costs_json_is_rounded_once_after_the_sum() -> None:
    # 0.0012500000000000001 + 0.00500000049 = 0.0062500004900000001 USD.
    assert figures("openai_costs.json") == [
        ("2026-01-01", GPT, None, 6_250_000),
        ("2026-01-01", "web search tool calls", None, 2_500_000),
    ]


def test_openai_usage_csv() -> None:
    # 59,200 + 10,646 + 800 + 354.
    assert figures("openai_usage.csv") == [("2026-01-01", GPT, 71_000, None)]
    assert formats.read(export("openai_usage.csv")).last_day == date(2026, 1, 2)


def test_openai_costs_csv() -> None:
    # 0.895874 + 0.104126 USD.
    assert figures("openai_costs.csv") == [("2026-01-01", GPT, None, 10**9)]
    assert formats.read(export("openai_costs.csv")).last_day == date(2026, 1, 2)


def test_anthropic_costs_csv_names_models_as_the_api_does() -> None:
    assert figures("anthropic_costs.csv") == [
        ("2026-01-01", "claude-sonnet-4-5", None, 220_000_000),
        ("2026-01-02", "claude-3-5-sonnet-20241022", None, 1_250_000_000),
        ("2026-01-02", "web_search", None, 10_000_000),
    ]


def test_generic_csv_may_leave_tokens_or_cost_empty() -> None:
    assert figures("generic.csv") == [
        ("2026-01-01", "mistral-large-2411", 1800, 4_800_000),
        ("2026-01-02", "mistral-small", 15, None),
        ("2026-01-03", "mistral-small", None, 1_000),
    ]


def test_pages_of_one_answer_may_stand_in_an_array() -> None:
    first, second = export("openai_usage.json").decode(), usage_json(start=1767398400)
    found = formats.read(f"[{first}, {second}]".encode())
    assert [usage.tokens for usage in found.usages] == [1750, 100, 2]


@pytest.mark.parametrize(
    ("name", "id_"),
    [
        ("Claude Sonnet 4.5", "claude-sonnet-4-5"),
        ("Claude Opus 4", "claude-opus-4"),
        ("Claude 3.5 Sonnet 2024-10-22", "claude-3-5-sonnet-20241022"),
        ("Claude Sonnet 3.7", "claude-3-7-sonnet"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5-20251001"),
    ],
)
def test_a_display_name_is_the_apis_id(name: str, id_: str) -> None:
    assert naming.claude_id(name) == id_


# Refusing


def usage_json(*, start: int = 1767225600, **changes: Any) -> str:
    result = {
        "object": "organization.usage.completions.result",
        "input_tokens": 1,
        "output_tokens": 1,
        "model": GPT,
        **changes,
    }
    return pages([result], start=start, end=start + 86_400)


def costs_json(**changes: Any) -> str:
    amount = {"value": 1, "currency": "usd"}
    result = {"object": "organization.costs.result", "amount": amount, "line_item": GPT, **changes}
    return pages([result])


def pages(results: Any, *, start: int = 1767225600, end: int = 1767312000, **more: Any) -> str:
    bucket = {"object": "bucket", "start_time": start, "end_time": end, "results": results}
    return json.dumps({"object": "page", "data": [bucket], **more})


TOMORROW_BUT_ONE = f"{datetime.now(UTC).date() + timedelta(days=2)}"
BAD = {
    "nothing": ("", "Line 1: these are not"),
    "other columns": ("a,b\n1,2\n", "Line 1: these are not"),
    "no rows": (GENERIC, "no rows"),
    "unknown column": (GENERIC.replace("day", "day,colour"), "Line 1, column colour: is unknown"),
    "missing column": (GENERIC.replace(",output_tokens", ""), "column output_tokens: is missing"),
    "duplicate column": (GENERIC.replace("model", "model,model"), "column model: is there twice"),
    "missing of usage": (USAGE_CSV.replace(",model,", ","), "column model: is missing"),
    "missing of costs": (COSTS_CSV.replace(",amount_currency", ""), "amount_currency: is missing"),
    "missing of claude": (CLAUDE_CSV.replace(",cost_usd", ""), "column cost_usd: is missing"),
    "short row": (GENERIC + "2026-01-01,m,1\n", "Line 2: has 3 cells"),
    "bad number": (GENERIC + "2026-01-01,m,1,,1,1\n2026-01-01,m,x,,1,1\n", "Line 3, column input"),
    "fraction of a token": (
        GENERIC + "2026-01-01,m,1.5,,1,\n",
        "column input_tokens: is not a whole",
    ),
    "not a number": (GENERIC + "2026-01-01,m,1,,1,NaN\n", "column cost_usd: is not a number"),
    "infinite": (GENERIC + "2026-01-01,m,1,,1,Infinity\n", "column cost_usd: is not a number"),
    "thousands": (GENERIC + '2026-01-01,m,1,,1,"1,000"\n', "column cost_usd: is not a number"),
    "too dear": (GENERIC + "2026-01-01,m,1,,1,1e30\n", "column cost_usd: is not an amount"),
    "too fine": (GENERIC + "2026-01-01,m,1,,1,1e-99\n", "column cost_usd: is not an amount"),
    "negative tokens": (GENERIC + "2026-01-01,m,1,,-1,1\n", "column output_tokens: is negative"),
    "negative cached": (GENERIC + "2026-01-01,m,1,-1,1,1\n", "column cached_tokens: is negative"),
    "cached above input": (GENERIC + "2026-01-01,m,1,2,1,1\n", "column cached_tokens: is more"),
    "half the tokens": (GENERIC + "2026-01-01,m,1,,,1\n", "column output_tokens: is not a number"),
    "no figures": (GENERIC + "2026-01-01,m,,,,\n", "Line 2: has neither"),
    "no model": (GENERIC + "2026-01-01,,1,,1,1\n", "column model: is empty"),
    "long model": (GENERIC + f"2026-01-01,{'m' * 201},1,,1,1\n", "column model: is not a model"),
    "unprintable": (GENERIC + "2026-01-01,m\x00m,1,,1,1\n", "Line"),
    "open quote": (GENERIC + '2026-01-01,"m,1,,1,1\n', "Line"),
    "before 2020": (GENERIC + "2019-12-31,m,1,,1,1\n", "column day: 2019-12-31 is not between"),
    "after tomorrow": (GENERIC + f"{TOMORROW_BUT_ONE},m,1,,1,1\n", "is not between"),
    "no such day": (GENERIC + "2026-02-30,m,1,,1,1\n", "column day: is not a day"),
    "day with time": (GENERIC + "2026-01-01T00:00,m,1,,1,1\n", "column day: is not a day"),
    "euros": (COSTS_CSV + f"{BUCKET},1,eur,{GPT}\n", "column amount_currency: the currency"),
    "ungrouped costs": (COSTS_CSV + f"{BUCKET},1,usd,\n", "column line_item: is empty"),
    "ungrouped usage": (USAGE_CSV + f"{BUCKET},1,,5,5\n", "column model: is empty"),
    "two days": (USAGE_CSV + f"1767225600,1767398400,1,{GPT},5,5\n", "end_time: the bucket"),
    "backwards": (USAGE_CSV + f"1767312000,1767225600,1,{GPT},5,5\n", "end_time: is not after"),
    "not a time": (USAGE_CSV + f"soon,1767312000,1,{GPT},5,5\n", "start_time: is not a number"),
    "claude's day": (CLAUDE_CSV + "01/01/2026,Claude,output,1\n", "usage_date_utc: is not a day"),
    "not JSON": ("{", "Line 1, column 2"),
    "NaN in JSON": (usage_json(input_tokens=float("nan")), "NaN is not a number"),
    "twice in JSON": ('{"data": [], "data": []}', "'data' is there twice"),
    "not pages": ('{"object": "list"}', "data is missing"),
    "array of numbers": ("[1]", "data is missing"),
    "deep": ("[" * 100_000, "JSON"),
    "other result": (usage_json(object="organization.usage.images.result"), "object: is neither"),
    "unhashable result": (usage_json(object=[]), "object: is neither"),
    "no result": (pages([1]), "results is missing"),
    "null model": (usage_json(model=None), "data[0].results[0], column model: is empty"),
    "model of numbers": (usage_json(model=4), "column model: is not a model"),
    "negative in JSON": (usage_json(output_tokens=-1), "column output_tokens: is negative"),
    "negative cached in JSON": (usage_json(input_cached_tokens=-1), "input_cached_tokens"),
    "true": (usage_json(output_tokens=True), "column output_tokens: is not a number"),
    "dollars of Canada": (costs_json(amount={"value": 1, "currency": "cad"}), "amount.currency"),
    "no amount": (costs_json(amount=None), "column amount: is not an object"),
    "null line item": (costs_json(line_item=None), "column line_item: is empty"),
    "mixed": (
        f"[{usage_json(start=1767312000)}, {costs_json()}]",
        "[1].data[0].results[0]: usage and costs",
    ),
    "the same page twice": (f"[{usage_json()}, {usage_json()}]", "[1].data[0]: its time"),
    "more inside the day": (pages([], end=1767229200, has_more=True), "has_more"),
    "empty answer": ('{"data": []}', "no results"),
}


@pytest.mark.django_db
@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_not_understood_is_refused_where_it_errs(name: str) -> None:
    content, where = BAD[name]
    with pytest.raises(Invalid) as refused:
        compared(content)
    assert where in refused.value.message
    assert not Reconciliation.objects.exists()
    assert not AuditEntry.objects.filter(action="reconciliation.compare").exists()


@pytest.mark.django_db
def test_bytes_that_are_not_text_or_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Invalid, match="UTF-8"):
        compared(b"\xff\xfe\x00")
    with pytest.raises(PayloadTooLarge, match="20 MB"):
        compared(b" " * 20_000_001)
    monkeypatch.setattr(formats, "MAX_ROWS", 2)
    with pytest.raises(Invalid, match="Line 4: the file has more than 2 rows"):
        compared(GENERIC + "2026-01-01,m,1,,1,1\n" * 3)
    with pytest.raises(Invalid, match="more than 2 results"):
        compared(pages([json.loads(usage_json())["data"][0]["results"][0]] * 3))
    assert not Reconciliation.objects.exists()


# Comparing


@pytest.mark.django_db
def test_our_undated_alias_meets_their_dated_name() -> None:
    chat = served("openai/gpt-4o")
    called(chat, nano_usd=4_000_000, prompt=1000, completion=500)
    called(chat, nano_usd=2_250_000, prompt=200, completion=50, usage_source="estimate")
    made = compared(export("openai_costs.json"))
    assert lines(made) == [
        ("2026-01-01", "gpt-4o", None, 1750, 6_250_000, 6_250_000, 0, False),
        ("2026-01-01", "web search tool calls", None, 0, 2_500_000, 0, 2_500_000, True),
    ]
    line = made.lines.get(model="gpt-4o")
    assert (line.calls, line.doubtful_calls) == (2, 1)
    assert (made.source, made.first_day, made.last_day) == (
        "openai_costs_json",
        NEW_YEAR,
        date(2026, 1, 2),
    )


@pytest.mark.django_db
def test_a_name_both_sides_date_keeps_its_date() -> None:
    called(served(f"openai/{GPT}"), nano_usd=6_250_000)
    called(served("openai/gpt-4o-mini", alias="mini"), nano_usd=1, prompt=70, completion=30)
    made = compared(export("openai_usage.json"))
    assert lines(made) == [
        ("2026-01-01", GPT, 1750, 1100, None, 6_250_000, None, True),
        ("2026-01-01", "gpt-4o-mini", 100, 100, None, 1, None, False),
    ]


@pytest.mark.django_db
def test_what_the_export_leaves_out_counts_as_nothing_and_other_providers_do_not_count() -> None:
    called(served("openai/o3", alias="o3"), nano_usd=7, at=datetime(2026, 1, 2, 1, tzinfo=UTC))
    called(served("azure/gpt-4o", alias="azure"), nano_usd=9)
    called(served("anthropic/claude-sonnet-4-5", alias="claude"), nano_usd=11)
    made = compared(export("openai_usage.csv"))
    assert lines(made) == [
        ("2026-01-01", GPT, 71_000, 0, None, 0, None, True),
        ("2026-01-02", "o3", 0, 1100, None, 7, None, True),
    ]


@pytest.mark.django_db
def test_a_generic_export_speaks_of_the_providers_it_names() -> None:
    called(served("mistral/mistral-small", alias="small"), nano_usd=500)
    called(served("openai/gpt-4o", alias="gpt"), nano_usd=9)
    made = compared(GENERIC + "2026-01-01,mistral/mistral-small,1000,,100,0.0000005\n")
    assert lines(made) == [("2026-01-01", "mistral/mistral-small", 1100, 1100, 500, 500, 0, False)]


@pytest.mark.django_db
def test_a_call_belongs_to_the_utc_day_it_was_sent() -> None:
    chat = served(f"openai/{GPT}")
    called(chat, nano_usd=1, at=datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC))
    called(chat, nano_usd=10, at=datetime(2026, 1, 1, tzinfo=UTC))
    called(chat, nano_usd=100, at=datetime(2026, 1, 1, 23, 59, 59, tzinfo=UTC))
    called(chat, nano_usd=1000, at=datetime(2026, 1, 3, tzinfo=UTC))
    made = compared(export("openai_usage.csv"))
    assert [(line.calls, line.our_nano_usd) for line in made.lines.all()] == [(2, 110)]


@pytest.mark.django_db
def test_reversals_and_corrections_of_calls_count_in_ours() -> None:
    call = called(served(f"openai/{GPT}"), nano_usd=700, status="abandoned")
    attempt = call.attempts.get()
    for kind, amount in (("reversal", -700), ("correction", 40)):
        CostLine.objects.create(
            call=call,
            attempt=attempt,
            kind=kind,
            amount_nano_usd=amount,
            created_at=call.created_at,
        )
    line = compared(export("openai_usage.csv")).lines.get()
    assert (line.our_nano_usd, line.doubtful_calls) == (40, 1)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("ours", "basis_points", "is_beyond"),
    [(990, 100, False), (989, 100, True), (1010, 100, False), (1011, 100, True), (999, 0, True)],
)
def test_the_threshold_itself_is_within(ours: int, basis_points: int, is_beyond: bool) -> None:
    called(served("mistral/small"), nano_usd=ours)
    content = GENERIC + "2026-01-01,small,1,,1,0.000001\n"
    line = compared(content, threshold_basis_points=basis_points).lines.get()
    assert line.is_beyond_threshold is is_beyond
    assert line.variance_nano_usd == 1000 - ours


@pytest.mark.django_db
@pytest.mark.parametrize("basis_points", [-1, 1_000_001])
def test_a_threshold_out_of_range_is_refused(basis_points: int) -> None:
    with pytest.raises(Invalid):
        compared(export("generic.csv"), threshold_basis_points=basis_points)


@pytest.mark.django_db
def test_the_same_file_is_compared_once() -> None:
    made = compared(export("openai_usage.csv"))
    with pytest.raises(Conflict, match=f"reconciliation {made.pk}"):
        compared(export("openai_usage.csv"))
    assert Reconciliation.objects.count() == 1
    assert made.filename == "export"


@pytest.mark.django_db
def test_doubtful_calls_explain_first_then_dear_ones() -> None:
    chat = served("openai/gpt-4o")
    plain = called(chat, nano_usd=50)
    dear = called(chat, nano_usd=100)
    free = called(chat, nano_usd=0)
    counted = called(chat, nano_usd=10, usage_source="estimate")
    given_up = called(chat, nano_usd=20, status="abandoned", is_output_delivered=False)
    called(chat, nano_usd=999, at=datetime(2026, 1, 2, tzinfo=UTC))
    called(served("openai/o3", alias="o3"), nano_usd=999)
    line = compared(export("openai_costs.json")).lines.get(model="gpt-4o", day=NEW_YEAR)
    assert compare.explain(line) == [given_up, counted, free, dear, plain]


# Correcting


def at_once(act: Callable[[int], Any]) -> list[type]:
    """What six threads that start together each got: the type of a row or of a refusal."""
    gate = threading.Barrier(6)

    def run(number: int) -> type:
        gate.wait()
        try:
            return type(act(number))
        except Conflict as refusal:
            return type(refusal)
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        return list(pool.map(run, range(6)))


def line_of(*, ours: int = 6_000_000) -> ReconciliationLine:
    """Alice's gpt-4o of New Year: they say 6,250,000 nano-USD."""
    called(served("openai/gpt-4o"), nano_usd=ours)
    return compared(export("openai_costs.json")).lines.get(model="gpt-4o")


@pytest.mark.django_db
def test_a_variance_is_booked_once_and_no_wallet_moves() -> None:
    line = line_of()
    rollups.roll(NEW_YEAR)
    before = money()
    booked = compare.correct(line=line, actor="user:bob", reason="invoice 7")
    assert (booked.kind, booked.amount_nano_usd) == ("correction", 250_000)
    assert (booked.call_id, booked.attempt_id) == (None, None)
    assert (booked.model, booked.day, booked.reason) == ("gpt-4o", NEW_YEAR, "invoice 7")
    line.refresh_from_db()
    assert line.correction == booked
    assert RollupDay.objects.get(day=NEW_YEAR).is_dirty
    audited = AuditEntry.objects.get(action="cost.correct")
    assert (audited.actor, audited.reason) == ("user:bob", "invoice 7")
    with pytest.raises(Conflict, match="already"):
        compare.correct(line=line, actor="user:bob", reason="again")
    assert CostLine.objects.filter(kind="correction").count() == 1
    assert money() == before


@pytest.mark.django_db
def test_a_later_export_finds_the_correction_in_our_books() -> None:
    compare.correct(line=line_of(), actor="test", reason="invoice 7")
    content = COSTS_CSV + f'{BUCKET},0.00625,usd,"{GPT}, input"\n'
    line = compared(content).lines.get()
    assert (line.model, line.our_nano_usd, line.variance_nano_usd) == ("gpt-4o", 6_250_000, 0)


@pytest.mark.django_db
def test_one_variance_seen_by_two_exports_is_not_booked_twice() -> None:
    first = line_of()
    second = compared(COSTS_CSV + f'{BUCKET},0.00625,usd,"{GPT}, input"\n').lines.get()
    compare.correct(line=first, actor="test", reason="invoice 7")
    with pytest.raises(Conflict, match="have changed"):
        compare.correct(line=second, actor="test", reason="invoice 7")
    second.refresh_from_db()
    assert (second.our_nano_usd, second.variance_nano_usd) == (6_250_000, 0)
    with pytest.raises(Conflict, match="no variance"):
        compare.correct(line=second, actor="test", reason="invoice 7")
    assert CostLine.objects.filter(kind="correction").count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_corrections_at_once_one_is_booked() -> None:
    first = line_of()
    second = compared(COSTS_CSV + f'{BUCKET},0.00625,usd,"{GPT}, input"\n').lines.get()
    outcomes = at_once(
        lambda number: compare.correct(line=(first, second)[number % 2], actor="t", reason="x")
    )
    assert CostLine.objects.filter(kind="correction").count() == 1
    assert [kind for kind in outcomes if kind is not Conflict] == [CostLine]


@pytest.mark.django_db(transaction=True)
def test_of_many_uploads_of_one_file_at_once_one_is_stored() -> None:
    outcomes = at_once(lambda number: compared(export("generic.csv")))
    assert Reconciliation.objects.count() == 1
    assert [kind for kind in outcomes if kind is not Conflict] == [Reconciliation]


@pytest.mark.django_db
def test_what_has_no_cost_no_variance_or_no_reason_is_not_corrected() -> None:
    called(served(f"openai/{GPT}"), nano_usd=10**9)
    costless = compared(export("openai_usage.csv")).lines.get()
    with pytest.raises(Conflict, match="no cost"):
        compare.correct(line=costless, actor="test", reason="x")
    equal = compared(export("openai_costs.csv")).lines.get()
    with pytest.raises(Conflict, match="no variance"):
        compare.correct(line=equal, actor="test", reason="x")
    for reason in ("", "  ", "x" * 501, "\x00"):
        with pytest.raises(Invalid, match="reason"):
            compare.correct(line=equal, actor="test", reason=reason)
    assert not CostLine.objects.filter(kind="correction").exists()


@pytest.mark.django_db
def test_a_calls_correction_moves_its_cost_and_its_jobs_and_no_wallet() -> None:
    call = called(served("openai/gpt-4o"), nano_usd=1000)
    rollups.roll(NEW_YEAR)
    before = money()
    booked = compare.correct_call(
        call=call, amount_nano_usd=-400, actor="user:bob", reason="credit note"
    )
    assert (booked.call, booked.attempt) == (call, call.attempts.get())
    assert (booked.kind, booked.amount_nano_usd) == ("correction", -400)
    call.refresh_from_db()
    assert (call.provider_cost_nano_usd, call.job.provider_cost_nano_usd) == (600, 600)
    assert RollupDay.objects.get(day=NEW_YEAR).is_dirty
    assert AuditEntry.objects.get(action="cost.correct").target == f"call:{call.pk}"
    compare.correct_call(call=call, amount_nano_usd=1, actor="user:bob", reason="a cent")
    assert Job.objects.get().provider_cost_nano_usd == 601
    assert money() == before


@pytest.mark.django_db
@pytest.mark.parametrize("amount", [0, -1001, 4 * 10**18])
def test_a_call_cannot_cost_less_than_nothing_or_more_than_the_bounds(amount: int) -> None:
    call = called(served("openai/gpt-4o"), nano_usd=1000)
    with pytest.raises(Invalid):
        compare.correct_call(call=call, amount_nano_usd=amount, actor="test", reason="x")
    assert CostLine.objects.count() == 1
    assert Job.objects.get().provider_cost_nano_usd == 1000


@pytest.mark.django_db
def test_a_call_that_runs_or_was_never_sent_is_not_corrected() -> None:
    chat = served("openai/gpt-4o")
    running = called(chat, nano_usd=0, status="dispatched", finished_at=None)
    with pytest.raises(Conflict, match="running"):
        compare.correct_call(call=running, amount_nano_usd=1, actor="test", reason="x")
    unsent = called(chat, nano_usd=0)
    unsent.pk = uuid.uuid4()  # a copy without an attempt
    unsent.save(force_insert=True)
    with pytest.raises(Conflict, match="never"):
        compare.correct_call(call=unsent, amount_nano_usd=1, actor="test", reason="x")
    assert not CostLine.objects.filter(kind="correction").exists()


# In the admin


@pytest.fixture
def pages_served(settings: Any) -> None:
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


def staff(*permissions: str) -> Client:
    """Bob signs in, with these permissions only."""
    bob = User.objects.create_user("bob", password="x" * 20, is_staff=True)
    bob.user_permissions.set(
        Permission.objects.filter(codename__in=permissions, content_type__app_label="jobs")
    )
    client = Client(enforce_csrf_checks=False)
    client.force_login(bob)
    return client


def upload(client: Client, content: bytes, name: str = "costs.json") -> Any:
    return client.post(
        "/admin/jobs/reconciliation/upload/",
        {"file": SimpleUploadedFile(name, content), "threshold": "1"},
    )


@pytest.mark.django_db
def test_bob_uploads_looks_and_corrects_with_one_click_that_counts_once(
    pages_served: None,
) -> None:
    call = called(served("openai/gpt-4o"), nano_usd=6_000_000)
    bob = staff("view_reconciliation", "add_reconciliation", "add_costline", "view_call")
    assert bob.get("/admin/jobs/reconciliation/").status_code == 200
    assert bob.get("/admin/jobs/reconciliation/upload/").status_code == 200
    answer = upload(bob, export("openai_costs.json"), r"C:\bills\costs.json")
    made = Reconciliation.objects.get()
    assert (made.actor, made.filename) == ("user:bob", "costs.json")
    assert answer.url == f"/admin/jobs/reconciliation/{made.pk}/change/"
    line = made.lines.get(model="gpt-4o")
    page = bob.get(answer.url, {"calls": line.pk}).content.decode()
    assert "Book a correction" in page
    assert "csrfmiddlewaretoken" in page
    assert f"{call.pk}" in page
    before = money()
    path = f"/admin/jobs/reconciliation/lines/{line.pk}/correct/"
    bob.post(path, {"reason": ""})
    assert not CostLine.objects.filter(kind="correction").exists()
    first = bob.post(path, {"reason": "invoice 7"}, follow=True).content.decode()
    assert "Booked a correction of 0.00025 USD" in first
    again = bob.post(path, {"reason": "invoice 7"}, follow=True).content.decode()
    assert "This line has its correction already." in again
    booked = CostLine.objects.get(kind="correction")
    assert (booked.amount_nano_usd, booked.actor) == (250_000, "user:bob")
    assert money() == before


@pytest.mark.django_db
def test_a_bad_file_or_the_same_one_again_is_shown_on_the_form(pages_served: None) -> None:
    bob = staff("view_reconciliation", "add_reconciliation")
    bad = upload(bob, (GENERIC + "2026-01-01,m,x,,1,1\n").encode())
    assert "Line 2, column input_tokens" in bad.content.decode()
    assert not Reconciliation.objects.exists()
    assert upload(bob, export("generic.csv")).status_code == 302
    assert "compared before" in upload(bob, export("generic.csv")).content.decode()
    assert Reconciliation.objects.count() == 1
    wrong = {"file": SimpleUploadedFile("x.csv", b"x"), "threshold": "-1"}
    assert bob.post("/admin/jobs/reconciliation/upload/", wrong).status_code == 200


@pytest.mark.django_db
def test_staff_without_the_permission_may_neither_upload_nor_correct(pages_served: None) -> None:
    line = line_of()
    bob = staff("view_reconciliation")
    assert bob.get("/admin/jobs/reconciliation/upload/").status_code == 403
    assert upload(bob, export("generic.csv")).status_code == 403
    assert (
        bob.post(f"/admin/jobs/reconciliation/lines/{line.pk}/correct/", {"reason": "x"})
    ).status_code == 403
    page = bob.get(f"/admin/jobs/reconciliation/{line.reconciliation_id}/change/")
    assert page.status_code == 200
    assert "Book a correction" not in page.content.decode()
    assert Reconciliation.objects.count() == 1
    assert not CostLine.objects.filter(kind="correction").exists()


@pytest.mark.django_db
def test_staff_without_any_permission_and_strangers_see_nothing(pages_served: None) -> None:
    line = line_of()
    page = f"/admin/jobs/reconciliation/{line.reconciliation_id}/change/"
    assert staff().get(page).status_code == 403
    assert Client().get(page).status_code == 302
    assert (
        Client()
        .post(f"/admin/jobs/reconciliation/lines/{line.pk}/correct/", {"reason": "x"})
        .url.startswith("/admin/login/")
    )
    assert not CostLine.objects.filter(kind="correction").exists()


@pytest.mark.django_db
def test_correcting_takes_a_post_with_its_csrf_token(pages_served: None) -> None:
    line = line_of()
    path = f"/admin/jobs/reconciliation/lines/{line.pk}/correct/"
    bob = staff("view_reconciliation", "add_costline")
    assert bob.get(path).status_code == 405
    bob.handler.enforce_csrf_checks = True
    assert bob.post(path, {"reason": "x"}).status_code == 403
    assert not CostLine.objects.filter(kind="correction").exists()


@pytest.mark.django_db
@pytest.mark.parametrize("query", ["calls=x", "calls=99999999", "calls=-1", "page=x", "page=9"])
def test_a_made_up_address_shows_the_page(pages_served: None, query: str) -> None:
    line = line_of()
    bob = staff("view_reconciliation")
    page = bob.get(f"/admin/jobs/reconciliation/{line.reconciliation_id}/change/?{query}")
    assert page.status_code == 200


# By command


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("reconcile", *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.django_db
def test_the_command_prints_each_line_and_the_calls_behind_a_variance() -> None:
    call = called(served("openai/gpt-4o"), nano_usd=6_000_000)
    printed = run(str(EXPORTS / "openai_costs.json"))
    row = next(line.split() for line in printed.splitlines() if " gpt-4o " in line)
    assert row[:8] == [
        "2026-01-01",
        "gpt-4o",
        "-",
        "1100",
        "0.00625",
        "0.006",
        "0.00025",
        "+4.00",
    ]
    assert f"{call.pk}  alice/chat" in printed
    assert not CostLine.objects.filter(kind="correction").exists()


@pytest.mark.django_db
def test_the_command_corrects_what_both_sides_know_of() -> None:
    called(served("openai/gpt-4o"), nano_usd=6_000_000)
    answer = json.loads(run(str(EXPORTS / "openai_costs.json"), "--correct", "--json"))
    shown = {line["model"]: line for line in answer["lines"]}
    assert shown["gpt-4o"]["correction"] == "corrected by 0.00025"
    assert shown["web search tool calls"]["correction"] is None
    booked = CostLine.objects.get(kind="correction")
    assert booked.amount_nano_usd == 250_000
    assert booked.actor.startswith("command:")


@pytest.mark.django_db
def test_within_its_threshold_the_command_corrects_nothing() -> None:
    called(served("openai/gpt-4o"), nano_usd=6_000_000)
    printed = run(str(EXPORTS / "openai_costs.json"), "--threshold", "4.0", "--correct")
    assert "corrected" not in printed
    assert Reconciliation.objects.get().threshold_basis_points == 400


@pytest.mark.django_db
@pytest.mark.parametrize(
    "arguments",
    [
        ("missing.csv",),
        (str(EXPORTS),),
        (str(EXPORTS / "generic.csv"), "--threshold", "x"),
        (str(EXPORTS / "generic.csv"), "--threshold", "0.001"),
        (str(EXPORTS / "generic.csv"), "--threshold", "NaN"),
        (str(EXPORTS / "generic.csv"), "--threshold", "-1"),
    ],
)
def test_the_command_refuses_in_words(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        run(*arguments)
    assert not Reconciliation.objects.exists()
