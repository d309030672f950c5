"""Running totals: what a quantity costs as a whole, from which each step is priced.

A tariff is a function P from a period's quantity to nanocredits. A call that moves the count from
q to q+d costs P(q+d) - P(q), so that the parts always add up to the whole. Quantities are jobs,
tokens or nano-USD of provider cost; tier prices are nanocredits per ``unit`` of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from saas_litellm.base.money import MAX_AMOUNT, NANO, divide_half_even, divide_up

# How many of a metric's quantity one tier price is for: a job, 1,000 tokens, 1 USD.
UNITS: Mapping[str, int] = {"jobs": 1, "tokens": 1000, "cost": NANO}
MAX_TIERS = 50


class BadTiers(ValueError):
    """Tiers that are no tariff; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Reaches to ``up_to`` inclusive (None: no end); ``flat`` is due once the tier is entered."""

    up_to: int | None
    nanocredits: int
    flat_nanocredits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """Each started package of ``size`` costs the same."""

    size: int
    nanocredits: int

    def total(self, quantity: int) -> int:
        return divide_up(quantity, self.size) * self.nanocredits

    def worst(self, *, before: int, quantity: int) -> int:
        """The most that up to ``quantity`` more can cost, from any count: d/size, rounded up."""
        return self.total(quantity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiers:
    """Graduated: each part at its own tier's price. Volume: all at the price of the tier reached.

    The first ``included`` of a period are free and do not count into the tiers.
    """

    mode: Literal["graduated", "volume"]
    tiers: tuple[Tier, ...]
    unit: int
    included: int = 0
    step: int = 1

    def total(self, quantity: int) -> int:
        """P(quantity) in nanocredits, rounded once, half to even, to the step."""
        return divide_half_even(self._exact(quantity), self.unit * self.step) * self.step

    def worst(self, *, before: int, quantity: int) -> int:
        """The most that up to ``quantity`` more can cost from a count of ``before`` or later.

        P is linear between tier bounds, so the dearest step begins or ends at one of them. Calls
        in flight only ever move the count up, which is why later counts matter.
        """
        dearest = max(
            self._exact(end) - self._exact(start)
            for start in self._starts(before, quantity)
            for end in self._ends(start, quantity)
        )
        if dearest <= 0:
            return 0
        return (divide_up(dearest, self.unit * self.step) + self._slack()) * self.step

    def _exact(self, quantity: int) -> int:
        """P before rounding, in nanocredits times the unit."""
        counted = max(0, quantity - self.included)
        if counted == 0:
            return 0
        if self.mode == "volume":
            reached = next(t for t in self.tiers if t.up_to is None or counted <= t.up_to)
            return counted * reached.nanocredits + reached.flat_nanocredits * self.unit
        total, lower = 0, 0
        for tier in self.tiers:
            if counted <= lower:
                break
            upper = counted if tier.up_to is None else min(counted, tier.up_to)
            total += (upper - lower) * tier.nanocredits + tier.flat_nanocredits * self.unit
            lower = upper
        return total

    def _bounds(self) -> list[int]:
        return [
            self.included,
            *(self.included + t.up_to for t in self.tiers if t.up_to is not None),
        ]

    def _starts(self, before: int, quantity: int) -> Iterator[int]:
        yield before
        for bound in self._bounds():
            for start in (bound, bound + 1, bound - quantity, bound + 1 - quantity):
                if start > before:
                    yield start

    def _ends(self, start: int, quantity: int) -> Iterator[int]:
        yield start + quantity
        for bound in self._bounds():
            for end in (bound, bound + 1):
                if start < end < start + quantity:
                    yield end

    def _slack(self) -> int:
        """A step more when totals are rounded: two roundings may add up to one step."""
        grain = self.unit * self.step
        is_whole = all(
            tier.nanocredits % grain == 0 and tier.flat_nanocredits % self.step == 0
            for tier in self.tiers
        )
        return 0 if is_whole else 1


def parse(stored: Sequence[Any]) -> tuple[Tier, ...]:
    """Tiers from their JSON; raises BadTiers unless they rise to one last tier without an end."""
    if not isinstance(stored, list) or not 0 < len(stored) <= MAX_TIERS:
        raise BadTiers(f"Give 1 to {MAX_TIERS} tiers.")
    tiers = tuple(_tier(number, given) for number, given in enumerate(stored, 1))
    *before, last = tiers
    if last.up_to is not None:
        raise BadTiers("The last tier must have no up_to: it reaches to any quantity.")
    lower = 0
    for number, tier in enumerate(before, 1):
        if tier.up_to is None or tier.up_to <= lower:
            raise BadTiers(f"Tier {number}: up_to must be above {lower}.")
        lower = tier.up_to
    return tiers


def _tier(number: int, given: Any) -> Tier:
    if not isinstance(given, dict) or not set(given) <= {
        "up_to",
        "nanocredits",
        "flat_nanocredits",
    }:
        raise BadTiers(f"Tier {number}: give up_to, nanocredits and flat_nanocredits only.")
    amounts = {name: given.get(name, 0) for name in ("nanocredits", "flat_nanocredits")}
    up_to = given.get("up_to")
    for name, value in (*amounts.items(), ("up_to", 0 if up_to is None else up_to)):
        if type(value) is not int or not 0 <= value <= MAX_AMOUNT:
            raise BadTiers(f"Tier {number}: {name} must be a whole number, 0 or more.")
    return Tier(up_to=up_to, **amounts)
