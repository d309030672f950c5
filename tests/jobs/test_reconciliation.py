"""A provider's bill beside our books: compared by model and UTC day, corrected once."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.db import connection

from jobs import rollups
from jobs.models import CostLine, Job, Reconciliation, RollupDay
from jobs.reconciliation import compare
from saas_litellm.base.models import AuditEntry
from saas_litellm.base.refusals import Conflict, Invalid
from tests.jobs.reconciling import (
    BUCKET,
    COSTS_CSV,
    GENERIC,
    GPT,
    NEW_YEAR,
    called,
    compared,
    export,
    line_of,
    money,
    served,
)


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
