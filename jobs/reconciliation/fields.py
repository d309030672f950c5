"""One value of a provider's export: read exactly, or refused with the place it stands at."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any, Never

from saas_litellm.base import clock
from saas_litellm.base.money import MAX_AMOUNT
from saas_litellm.base.refusals import Invalid

FIRST_DAY = date(2020, 1, 1)
MAX_TOKENS = 10**15
MAX_USD = 10**9
MAX_COLUMNS = 200
DAY = timedelta(days=1)

# Wide enough for every sum of MAX_ROWS amounts within MAX_USD and MAX_DECIMALS.
EXACT = Context(prec=80)
MAX_DECIMALS = 50
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_NUMBER_CHARACTERS = 100
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a value stands: a line of a CSV, or a path into JSON."""

    at: str
    column: str = ""

    def of(self, column: str) -> Place:
        return Place(at=self.at, column=column)

    def refuse(self, reason: str) -> Never:
        """Raise Invalid that names this place."""
        where = f"{self.at}, column {self.column}" if self.column else self.at
        raise Invalid(f"{where}: {reason}", param=self.column or None)


def tokens(value: Any, *, place: Place) -> int:
    """A whole number of tokens, 0 or more; exports write 59200, 59200.0 or a JSON number."""
    count = _decimal(value, place=place)
    if count < 0:
        place.refuse("is negative")
    if count > MAX_TOKENS or count != count.to_integral_value():
        place.refuse("is not a whole number of tokens")
    return int(count)


def usd(value: Any, *, place: Place) -> Decimal:
    """US dollars, exact; negative is a provider's credit."""
    amount = _decimal(value, place=place)
    exponent = amount.as_tuple().exponent
    if abs(amount) > MAX_USD or not isinstance(exponent, int) or exponent < -MAX_DECIMALS:
        place.refuse("is not an amount of US dollars within bounds")
    return amount


def nano_usd(total: Decimal, *, place: Place) -> int:
    """A sum of dollars as nano-USD, rounded half-even once."""
    whole = int(total.scaleb(9, EXACT).to_integral_value(ROUND_HALF_EVEN))
    if abs(whole) > MAX_AMOUNT:
        place.refuse("the sum of its amounts is out of range")
    return whole


def require_usd(currency: Any, *, place: Place) -> None:
    if not isinstance(currency, str) or currency.lower() != "usd":
        place.refuse("the currency is not USD")


def day(value: Any, *, place: Place) -> date:
    """YYYY-MM-DD, from 2020 to tomorrow (UTC)."""
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        place.refuse("is not a day, YYYY-MM-DD")
    try:
        parsed = date.fromisoformat(value)
    except ValueError:
        place.refuse("is not a day, YYYY-MM-DD")
    return _within(parsed, place=place)


def bucket_day(start: Any, end: Any, *, place: Place) -> date:
    """The UTC day of a bucket given in epoch seconds, which must end by the next midnight."""
    first = _moment(start, place=place.of("start_time"))
    last = _moment(end, place=place.of("end_time"))
    if last <= first:
        place.of("end_time").refuse("is not after start_time")
    found = _within(first.date(), place=place.of("start_time"))
    if last > datetime.combine(found + DAY, datetime.min.time(), UTC):
        place.of("end_time").refuse("the bucket runs past its UTC day; export by day")
    return found


def model(value: Any, *, place: Place) -> str:
    """A model's name, in lower case."""
    if value is None or value == "":
        place.refuse("is empty; export grouped by model")
    if not isinstance(value, str) or not value.isprintable() or len(value) > 200:
        place.refuse("is not a model's name of at most 200 characters")
    name = value.strip().lower()
    return name or place.refuse("is empty; export grouped by model")


def check_columns(
    given: Collection[str], *, required: Collection[str], optional: Collection[str], place: Place
) -> None:
    """Raise Invalid for the first column that is duplicate, missing or unknown."""
    listed = list(given)
    if len(listed) > MAX_COLUMNS:
        place.refuse(f"has more than {MAX_COLUMNS} columns")
    for column in listed:
        if listed.count(column) > 1:
            place.of(column).refuse("is there twice")
    for column in required:
        if column not in listed:
            place.of(column).refuse("is missing")
    for column in listed:
        if column not in required and column not in optional:
            place.of(column or "(no name)").refuse("is unknown")


def _decimal(value: Any, *, place: Place) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        place.refuse("is not a number")
    text = str(value)
    if len(text) > _NUMBER_CHARACTERS or not _NUMBER.fullmatch(text):
        place.refuse("is not a number")
    try:
        return EXACT.create_decimal(text)
    except InvalidOperation:
        place.refuse("is not a number")


def _moment(value: Any, *, place: Place) -> datetime:
    seconds = _decimal(value, place=place)
    if seconds != seconds.to_integral_value() or not 0 <= seconds < 10**11:
        place.refuse("is not a time in epoch seconds")
    return datetime.fromtimestamp(int(seconds), UTC)


def _within(found: date, *, place: Place) -> date:
    if not FIRST_DAY <= found <= clock.now().date() + DAY:
        place.refuse(f"{found} is not between {FIRST_DAY} and tomorrow")
    return found
