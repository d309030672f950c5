"""What a provider's export says, by UTC day and model, whatever its format was."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from jobs.models import ReconciliationLine
from jobs.reconciliation import fields
from jobs.reconciliation.fields import EXACT, Place
from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import Invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a provider says one model used on one UTC day; a figure it does not give is None."""

    day: date
    model: str
    tokens: int | None
    cost_nano_usd: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A whole file: its days, also those without usage, and its figures by day and model."""

    source: str
    first_day: date
    last_day: date
    has_tokens: bool
    has_cost: bool
    usages: list[Usage]


@dataclass(slots=True)
class Sums:
    """Adds a file's rows up, exactly; amounts are rounded to nano-USD once, at the end."""

    source: str
    has_tokens: bool = False
    has_cost: bool = False
    days: set[date] = field(default_factory=set)
    tokens: dict[tuple[date, str], int] = field(default_factory=dict)
    usd: dict[tuple[date, str], Decimal] = field(default_factory=dict)

    def add(
        self, *, day: date, model: str, tokens: int | None = None, usd: Decimal | None = None
    ) -> None:
        key = (day, model)
        self.days.add(day)
        if tokens is not None:
            self.has_tokens = True
            self.tokens[key] = self.tokens.get(key, 0) + tokens
        if usd is not None:
            self.has_cost = True
            self.usd[key] = EXACT.add(self.usd.get(key, Decimal(0)), usd)

    def export(self) -> Export:
        """Raises Invalid for a file without a day, or a sum that is out of range."""
        if not self.days:
            raise Invalid("The file has no rows.")
        return Export(
            source=self.source,
            first_day=min(self.days),
            last_day=max(self.days),
            has_tokens=self.has_tokens,
            has_cost=self.has_cost,
            usages=[self._usage(*key) for key in sorted({*self.tokens, *self.usd})],
        )

    def _usage(self, day: date, model: str) -> Usage:
        usd = self.usd.get((day, model))
        place = Place(at=f"{model} on {day}")
        return Usage(
            day=day,
            model=model,
            tokens=self.tokens.get((day, model)),
            cost_nano_usd=None if usd is None else fields.nano_usd(usd, place=place),
        )


def shown(line: ReconciliationLine) -> dict[str, Any]:
    """A line as JSON; amounts in USD."""
    return {
        "id": line.pk,
        "day": line.day,
        "model": line.model,
        "their_tokens": line.their_tokens,
        "our_tokens": line.our_tokens,
        "their_usd": maybe_usd(line.their_nano_usd),
        "our_usd": from_nano(line.our_nano_usd),
        "variance_usd": maybe_usd(line.variance_nano_usd),
        "calls": line.calls,
        "doubtful_calls": line.doubtful_calls,
        "is_beyond_threshold": line.is_beyond_threshold,
        "is_corrected": line.correction_id is not None,
    }


def maybe_usd(nano_usd: int | None) -> Decimal | None:
    return None if nano_usd is None else from_nano(nano_usd)
