"""What changes between two price sheets, and between a price map and our own prices; pure.

Amounts here are what people read: Decimal USD per million tokens, per request or per unit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum

from saas_litellm.base.money import from_femto, plain
from teams.cost_map import Listed
from teams.prices import RATE_NAMES, Rates, UnitPrices


@dataclass(frozen=True, slots=True, kw_only=True)
class RateChange:
    """One rate before and after; None where there is none."""

    name: str
    old: Decimal | None
    new: Decimal | None

    @property
    def percent(self) -> Decimal | None:
        """Of the old rate, to a tenth; None when there was none, or it was free."""
        if not self.old or self.new is None:
            return None
        return ((self.new - self.old) * 100 / self.old).quantize(Decimal("0.1"), ROUND_HALF_EVEN)


class Kind(StrEnum):
    NEW = "new"
    CHANGED = "changed"
    ABSENT = "absent"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A model that a map has another price for, none, or one that we cannot hold."""

    price_key: str
    kind: Kind
    old: UnitPrices | None = None
    new: UnitPrices | None = None
    problem: str = ""

    @property
    def rates(self) -> list[RateChange]:
        return [] if self.new is None else between(self.old, self.new)

    @property
    def digest(self) -> str:
        """Of what this line would change: a line looked at earlier is only applied as it was."""
        sides = [side.fingerprint if side else "" for side in (self.old, self.new)]
        return hashlib.sha256(" ".join([self.price_key, *sides]).encode()).hexdigest()[:20]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """The lines by kind and then by name, and how many models have the price they had."""

    lines: tuple[Line, ...]
    unchanged: int

    def of(self, kind: Kind) -> list[Line]:
        return [line for line in self.lines if line.kind is kind]


def amounts(sheet: UnitPrices) -> dict[str, Decimal]:
    """Every rate that is set, by the name people know it by."""
    by_unit = {} if sheet.per_unit is None else {"unit": from_femto(sheet.per_unit)}
    base = {} if by_unit and not (sheet.base.input or sheet.base.output) else _rates(sheet.base)
    shown = {**base, **by_unit}
    if sheet.per_request:
        shown["request"] = from_femto(sheet.per_request)
    for tier in sheet.tiers:
        rates = _rates(tier.rates)
        shown |= {f"{name} above {tier.above_tokens:,} tokens": rates[name] for name in rates}
    return shown


def line(sheet: UnitPrices) -> str:
    """All of it in one line; long contexts only by where they begin."""
    tiers = [f"above {tier.above_tokens}" for tier in sheet.tiers]
    rates = amounts(
        UnitPrices(base=sheet.base, per_request=sheet.per_request, per_unit=sheet.per_unit)
    )
    return ", ".join([*(f"{name} {amount}" for name, amount in rates.items()), *tiers])


def between(old: UnitPrices | None, new: UnitPrices) -> list[RateChange]:
    """Every rate of either sheet, as it was and as it will be."""
    before, after = (amounts(old) if old else {}), amounts(new)
    return [
        RateChange(name=name, old=before.get(name), new=after.get(name))
        for name in {**after, **before}
    ]


def diff(
    listed: Iterable[Listed],
    known: Mapping[str, UnitPrices],
    *,
    only: Collection[str] | None = None,
) -> Diff:
    """What a map would change of what is known, of ``only`` these models (None: of all there are)."""
    by_model = {entry.model: entry for entry in listed}
    keys = set(by_model) | set(known) if only is None else set(only)
    lines, unchanged = [], 0
    for key in keys:
        entry, old = by_model.get(key), known.get(key)
        if entry is None:
            lines.append(Line(price_key=key, kind=Kind.ABSENT, old=old))
        elif entry.prices is None:
            lines.append(Line(price_key=key, kind=Kind.REFUSED, old=old, problem=entry.problem))
        elif old is not None and old.fingerprint == entry.prices.fingerprint:
            unchanged += 1
        else:
            kind = Kind.NEW if old is None else Kind.CHANGED
            lines.append(Line(price_key=key, kind=kind, old=old, new=entry.prices))
    order = list(Kind)
    lines.sort(key=lambda line: (order.index(line.kind), line.price_key))
    return Diff(lines=tuple(lines), unchanged=unchanged)


def _rates(rates: Rates) -> dict[str, Decimal]:
    return {
        name.replace("_", " "): plain(from_femto(rate) * 10**6)
        for name in RATE_NAMES
        if (rate := getattr(rates, name)) is not None
    }
