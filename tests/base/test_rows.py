"""Many rows in one statement, with every kind of value as it was."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from django.db import DataError, IntegrityError, connection, transaction
from django.db.models import Model
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import ledger
from billing.models import Hold
from jobs.models import Job
from saas_litellm.base import rows
from saas_litellm.base.models import Event, IdempotencyRecord
from saas_litellm.base.money import MAX_AMOUNT
from saas_litellm.base.rows import making
from tests import factories, work

pytestmark = pytest.mark.django_db
MOMENT = datetime(2026, 3, 10, 12, 30, 15, 123456, tzinfo=UTC)
TEXT = "quotes ' \" \\, a %s, a %(name)s, a\nline and 日本 🎉"
on_postgresql = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="SQLite has neither lengths nor one statement for all"
)


def event(**more: Any) -> Event:
    return Event(type="t", object_id="o", created_at=MOMENT, data="{}", **more)


def record(scope: str) -> IdempotencyRecord:
    return IdempotencyRecord(scope=scope, fingerprint="f", created_at=MOMENT, expires_at=MOMENT)


def holds(count: int) -> list[Hold]:
    account = ledger.account_of(factories.team())
    return [
        Hold(
            account=account,
            amount_nanocredits=MAX_AMOUNT - number,
            budget_period_ids=[number, 2**53 + 1],
            reference=f"{TEXT} {number}"[:100],
            created_at=MOMENT,
        )
        for number in range(count)
    ]


def put(made: Sequence[Model]) -> None:
    rows.number(made)
    rows.insert(made)


def test_rows_come_back_as_they_went_in_and_know_their_keys() -> None:
    made = holds(3)
    put(made)
    for one in made:
        stored = Hold.objects.get(pk=one.pk)
        assert not one._state.adding
        for field in Hold._meta.concrete_fields:
            assert getattr(stored, field.attname) == getattr(one, field.attname), field


def test_rows_whose_keys_nobody_asks_for_get_them_from_the_database() -> None:
    rows.insert([event(key="a"), event(key="b")])
    assert sorted(Event.objects.values_list("key", flat=True)) == ["a", "b"]


@on_postgresql
def test_keys_are_taken_ahead_of_need_and_given_once() -> None:
    def numbered(_: int) -> list[int]:
        made = [Hold() for _ in range(40)]
        rows.number(made)
        connection.close()
        return [one.pk for one in made]

    with ThreadPoolExecutor(8) as pool:
        given = [pk for pks in pool.map(numbered, range(32)) for pk in pks]
    assert len(set(given)) == 32 * 40
    rows.number([Hold() for _ in range(rows.KEYS_AHEAD)])
    with CaptureQueriesContext(connection) as asked:
        for _ in range(rows.KEYS_AHEAD):
            rows.number([Hold()])
    assert len(asked) <= 1


@on_postgresql
def test_keys_that_were_kept_for_long_are_given_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    making._taken.clear()
    rows.number(early := [Hold()])
    rows.number(next_ := [Hold()])
    assert next_[0].pk == early[0].pk + 1
    monkeypatch.setattr(making, "KEPT_SECONDS", -1)
    rows.number(late := [Hold()])
    assert late[0].pk > early[0].pk + 100


@on_postgresql
def test_keys_whose_order_means_something_are_taken_when_they_are_needed() -> None:
    rows.number([Hold()])
    rows.number(later := [Hold(), Hold()], ahead=0)
    rows.number(last := [Hold()], ahead=0)
    assert later[0].pk < later[1].pk < last[0].pk
    assert last[0].pk == later[1].pk + 1


def test_keys_that_are_no_numbers_and_related_rows_are_read_back_by_them() -> None:
    job = work.job(factories.team())
    made = [event(key=TEXT[:90]), event(key="b", team_id=3)]
    put(made)
    assert {one.pk for one in made} == set(Event.objects.values_list("pk", flat=True))
    again = Job(
        **{
            field.attname: getattr(job, field.attname)
            for field in Job._meta.concrete_fields
            if field.attname != "id"
        }
    )
    again.metadata = {"deep": [{"text": TEXT, "none": None, "float": 0.1, "big": 2**60}]}
    rows.insert([again])
    assert Job.objects.get(pk=again.pk).metadata == again.metadata


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200),
    number=st.none() | st.integers(-(2**63), 2**63 - 1),
    seconds=st.floats(0, 4e9),
)
def test_any_value_is_written_and_changed_as_it_is(
    db: None, text: str, number: int | None, seconds: float
) -> None:
    key, moment = uuid4().hex, datetime.fromtimestamp(seconds, UTC)
    made, kept = event(key=key, team_id=number), record(key)
    put([made])
    put([kept])
    kept.ciphertext, kept.is_done, kept.expires_at = text, True, moment
    rows.update([kept], ("ciphertext", "is_done", "expires_at"))
    stored = IdempotencyRecord.objects.get(scope=key)
    assert (stored.ciphertext, stored.is_done, stored.expires_at) == (text, True, moment)
    assert Event.objects.get(key=key).team_id == number


def test_an_update_writes_the_columns_it_is_told_to_and_no_other_row() -> None:
    made = [record(name) for name in "abc"]
    put(made)
    for one in made[:2]:
        one.ciphertext, one.reference = f"new {one.scope}", "not written"
    rows.update(made[:2], ("ciphertext",))
    told = IdempotencyRecord.objects.order_by("scope").values_list("ciphertext", "reference")
    assert list(told) == [("new a", ""), ("new b", ""), ("", "")]


def test_a_row_that_is_gone_is_not_passed_over() -> None:
    made = [record(name) for name in "ab"]
    put(made)
    IdempotencyRecord.objects.filter(scope="a").delete()
    with pytest.raises(RuntimeError, match="base_idempotencyrecord"), transaction.atomic():
        rows.update(made, ("ciphertext",))


def test_constraints_hold_and_then_none_of_the_rows_is_there() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        put([event(key="a"), event(key="b"), event(key="a")])
    assert not Event.objects.exists()


@on_postgresql
def test_a_text_too_long_for_its_column_is_refused_not_cut() -> None:
    with pytest.raises(DataError), transaction.atomic():
        put([event(key="k" * 101)])
    kept = record("k")
    put([kept])
    kept.reference = "r" * 61
    with pytest.raises(DataError), transaction.atomic():
        rows.update([kept], ("reference",))


def test_nothing_takes_no_statement() -> None:
    with CaptureQueriesContext(connection) as asked:
        rows.insert([])
        rows.update([], ("data",))
    assert len(asked) == 0


@on_postgresql
@pytest.mark.parametrize("count", [1, 8])
def test_so_many_rows_take_one_statement(count: int) -> None:
    made = holds(count)
    rows.number(made)
    with CaptureQueriesContext(connection) as asked:
        rows.insert(made)
        rows.update(made, ("state", "closed_at"))
    assert len(asked) == 2


@on_postgresql
def test_a_statement_is_planned_once_for_each_connection_where_that_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for size in (1, 5):
        rows.insert([record(f"{size} {number}") for number in range(size)])
    assert _kept("base_idempotencyrecord") == 1
    # As with DATABASE_PREPARED_STATEMENTS=0.
    monkeypatch.setattr(connection.connection, "prepare_threshold", None)
    rows.insert([event(key="a")])
    assert _kept("base_event") == 0
    assert Event.objects.count() == 1


def _kept(table: str) -> int:
    with connection.cursor() as cursor:
        sql = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE %s"
        cursor.execute(sql, [f"%INSERT INTO {table}%"])
        return int(cursor.fetchone()[0])


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_written_together_is_one_statement_as_far_as_no_table_comes_twice(
    count: int,
) -> None:
    put(made := holds(count))
    for one in made:
        one.expires_at = MOMENT
    with CaptureQueriesContext(connection) as asked, rows.gathered():
        rows.insert([event(key="a")])
        rows.add(Hold, {one.pk: [-5] for one in made}, ("amount_nanocredits",))
        with rows.gathered():
            # Sees what was added: it comes after that.
            rows.update(made, ("expires_at",), only=f"amount_nanocredits <= {MAX_AMOUNT - 5}")
        rows.insert([record("r")])
    assert Event.objects.exists()
    assert IdempotencyRecord.objects.exists()
    stored = Hold.objects.order_by("-amount_nanocredits").values_list(
        "expires_at", "amount_nanocredits"
    )
    assert list(stored) == [(MOMENT, MAX_AMOUNT - 5 - number) for number in range(count)]
    if connection.vendor == "postgresql":
        assert len(asked) == 2


def test_what_is_missed_among_what_is_written_together_is_told() -> None:
    put(made := [record("a"), record("b")])
    IdempotencyRecord.objects.filter(scope="a").delete()

    def write() -> None:
        rows.insert([event(key="a")])
        rows.update(made, ("reference",), missed=LookupError)

    with pytest.raises(LookupError), transaction.atomic(), rows.gathered():
        write()
    assert not Event.objects.exists()


def test_nothing_is_written_of_what_broke_off() -> None:

    def break_off() -> None:
        rows.insert([event(key="a")])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), transaction.atomic(), rows.gathered():
        break_off()
    assert not Event.objects.exists()
    rows.insert([event(key="b")])
    assert Event.objects.get().key == "b"


def test_a_new_row_is_as_the_model_makes_it() -> None:
    account = ledger.account_of(factories.team())
    given: dict[str, Any] = {
        "account": account,
        "amount_nanocredits": 5,
        "reference": "r",
        "created_at": MOMENT,
    }
    one, other = rows.new(Hold, **given), Hold(**given)
    assert one._state.adding
    for field in Hold._meta.concrete_fields:
        assert getattr(one, field.attname) == getattr(other, field.attname), field
    assert one.account is account
    # A default that is made is made for each.
    assert rows.new(Hold, **given).budget_period_ids is not one.budget_period_ids
    one.save()
    assert Hold.objects.get() == one
    with pytest.raises(TypeError, match="amount"):
        rows.new(Hold, amount=5)
