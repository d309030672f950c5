"""Providers' exports are read to the last digit, or refused where they err."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from jobs.models import Reconciliation
from jobs.reconciliation import formats, naming
from saas_litellm.base.models import AuditEntry
from saas_litellm.base.refusals import Invalid, PayloadTooLarge
from tests.jobs.reconciling import (
    BUCKET,
    CLAUDE_CSV,
    COSTS_CSV,
    GENERIC,
    GPT,
    USAGE_CSV,
    compared,
    export,
)

pytestmark = pytest.mark.any_database


def figures(name: str) -> list[tuple[str, str, int | None, int | None]]:
    return [
        (f"{usage.day}", usage.model, usage.tokens, usage.cost_nano_usd)
        for usage in formats.read(export(name)).usages
    ]


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
