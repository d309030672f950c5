"""Readers of OpenAI's Usage and Costs APIs: one answer, or a JSON array of all its pages.

Both answer pages of buckets by time, documented with an example each at
https://developers.openai.com/api/docs/api-reference/usage (completions, costs): ``data`` is a
list of buckets with ``start_time`` and ``end_time`` in epoch seconds and ``results``. Fields that
these readers do not need are left unread, because the API says it adds to them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any, Never

from jobs.reconciliation import fields
from jobs.reconciliation.fields import Place
from jobs.reconciliation.figures import Export, Sums
from jobs.reconciliation.naming import line_item_model
from saas_litellm.base.refusals import Invalid


def read(text: str, *, max_rows: int) -> Export:
    """The export in these pages; raises Invalid, naming the path, for what is not understood."""
    document = _parse(text)
    found = document if isinstance(document, list) else [document]
    sums = Sums(source="")
    rows, seen = 0, set()
    for number, page in enumerate(found):
        at = f"[{number}].data" if isinstance(document, list) else "data"
        for index, bucket in enumerate(_list(page, "data", place=Place(at=at))):
            place = Place(at=f"{at}[{index}]")
            results = _list(bucket, "results", place=place)
            rows += len(results)
            if rows > max_rows:
                place.refuse(f"the file has more than {max_rows:,} results")
            span = f"{bucket.get('start_time')} to {bucket.get('end_time')}"
            if span in seen:
                place.refuse("its time is there twice, and would be counted twice")
            seen.add(span)
            _add_bucket(sums, bucket, results, place)
    if found and isinstance(found[-1], dict) and found[-1].get("has_more") is True:
        _require_whole_days(found[-1])
    if not sums.source:
        raise Invalid("The file has no results, so it does not say what it is an export of.")
    return sums.export()


def _add_bucket(sums: Sums, bucket: dict[str, Any], results: list[Any], place: Place) -> None:
    day = fields.bucket_day(bucket.get("start_time"), bucket.get("end_time"), place=place)
    sums.days.add(day)
    for index, result in enumerate(results):
        at = Place(at=f"{place.at}.results[{index}]")
        kind = str(result.get("object"))
        if kind not in _READERS:
            at.of("object").refuse("is neither a completions usage nor a costs result")
        source, add = _READERS[kind]
        if sums.source not in {"", source}:
            at.refuse("usage and costs are mixed in one file")
        sums.source = source
        add(sums, day, result, at)


def _usage(sums: Sums, day: date, result: dict[str, Any], place: Place) -> None:
    """``input_tokens`` includes cached ones; ``model`` is null unless grouped by model."""
    model = fields.model(result.get("model"), place=place.of("model"))
    counts = {
        name: fields.tokens(_required(result, name, place), place=place.of(name))
        for name in ("input_tokens", "output_tokens")
    }
    if result.get("input_cached_tokens") is not None:
        fields.tokens(result["input_cached_tokens"], place=place.of("input_cached_tokens"))
    sums.add(day=day, model=model, tokens=sum(counts.values()))


def _costs(sums: Sums, day: date, result: dict[str, Any], place: Place) -> None:
    """``amount`` is {value, currency}; ``line_item`` is null unless grouped by line_item."""
    amount = _required(result, "amount", place)
    if not isinstance(amount, dict):
        place.of("amount").refuse("is not an object")
    fields.require_usd(amount.get("currency"), place=place.of("amount.currency"))
    value = fields.usd(amount.get("value"), place=place.of("amount.value"))
    item = fields.model(result.get("line_item"), place=place.of("line_item"))
    sums.add(day=day, model=line_item_model(item), usd=value)


_READERS: dict[str, tuple[str, Callable[[Sums, date, dict[str, Any], Place], None]]] = {
    "organization.usage.completions.result": ("openai_usage_json", _usage),
    "organization.costs.result": ("openai_costs_json", _costs),
}


def _require_whole_days(page: dict[str, Any]) -> None:
    """A page that more pages follow must not end inside a day: that day would be short."""
    buckets = page["data"]
    if buckets and Decimal(str(buckets[-1]["end_time"])) % 86_400:
        raise Invalid("has_more: the last day goes on in the next page; put all pages in an array.")


def _parse(text: str) -> Any:
    try:
        return json.loads(
            text, parse_float=Decimal, parse_constant=_refuse, object_pairs_hook=_object
        )
    except json.JSONDecodeError as error:
        raise Invalid(f"Line {error.lineno}, column {error.colno}: not JSON.") from error
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise Invalid("The file is not JSON that this platform reads.") from error


def _refuse(constant: str) -> Never:
    raise Invalid(f"{constant} is not a number.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise Invalid(f"The field {twice!r} is there twice in one object.", param=twice)
    return made


def _list(owner: Any, name: str, *, place: Place) -> list[Any]:
    found = owner.get(name) if isinstance(owner, dict) else None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        place.refuse(f"is not what the Usage API answers: {name} is missing")
    return found


def _required(result: dict[str, Any], name: str, place: Place) -> Any:
    if name not in result:
        place.of(name).refuse("is missing")
    return result[name]
