"""Charts as SVG drawn on the server: axes, units, a value for each slot, and a table behind.

Nothing of a chart needs a script or an inline style, so pages with a strict content policy show it
too. Widths are per cent and heights pixels: text keeps its size on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cached_property
from itertools import pairwise
from typing import Literal

Number = int | float | Decimal
HEIGHT = 220
_TOP, _BOTTOM = 12, 28
_TICKS = 4
# As many labels, and characters of them all, as a phone has room for, and a laptop.
_NARROW, _WIDE = (4, 40), (12, 120)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line of dots, or one set of bars; None: no value there."""

    name: str
    values: Sequence[Number | None]
    kind: Literal["bar", "line"] = "line"


@dataclass(frozen=True, slots=True)
class Mark:
    """A bar, or a dot of a line; x and width in per cent, y and height in pixels."""

    series: int
    x: str
    y: str
    width: str = ""
    height: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    series: int
    x1: str
    y1: str
    x2: str
    y2: str


@dataclass(frozen=True, slots=True)
class Tick:
    y: str
    text: str
    is_zero: bool


@dataclass(frozen=True, slots=True)
class Slot:
    """The column of one label: where the pointer rests, and what it is told."""

    x: str
    width: str
    middle: str
    label: str
    narrow_label: str
    wide_label: str
    values: list[tuple[int, str, str]]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """``unit`` stands beside the title; ``labels`` name the slots from left to right."""

    title: str
    unit: str
    labels: Sequence[str]
    series: Sequence[Series]
    slot_name: str = "Day"
    height: int = HEIGHT

    @property
    def is_empty(self) -> bool:
        return not any(value for series in self.series for value in series.values)

    @cached_property
    def _scale(self) -> list[Decimal]:
        values = [Decimal(str(v)) for series in self.series for v in series.values if v is not None]
        return scale(min([*values, Decimal(0)]), max([*values, Decimal(0)]))

    @property
    def base(self) -> str:
        """Where zero lies."""
        return self._y(Decimal(0))

    @property
    def label_y(self) -> int:
        return self.height - 8

    @cached_property
    def ticks(self) -> list[Tick]:
        return [Tick(self._y(at), short(at), at == 0) for at in self._scale]

    @cached_property
    def slots(self) -> list[Slot]:
        narrow, wide = self._axis_labels(*_NARROW), self._axis_labels(*_WIDE)
        return [
            Slot(
                x=self._x(number),
                width=_percent(self._slot),
                middle=self._x(number + 0.5),
                label=label,
                narrow_label=narrow[number],
                wide_label=wide[number],
                values=[
                    (index, series.name, full(series.values[number]))
                    for index, series in enumerate(self.series)
                ],
            )
            for number, label in enumerate(self.labels)
        ]

    def _axis_labels(self, most: int, length: int) -> list[str]:
        """What is written below each slot, where there is room for so many and so much; "" is nothing."""
        count = len(self.labels)
        every = max(1, math.ceil(count / most))
        room = length // max(1, min(count, most))
        # Counted from the right: the newest label is always written.
        return [
            (label if len(label) <= room else f"{label[: room - 1]}…")
            if (count - 1 - number) % every == 0
            else ""
            for number, label in enumerate(self.labels)
        ]

    @cached_property
    def bars(self) -> list[Mark]:
        bars = [(i, series) for i, series in enumerate(self.series) if series.kind == "bar"]
        width = self._slot * 0.76 / max(1, len(bars))
        marks = []
        for place, (index, series) in enumerate(bars):
            for number, value in enumerate(series.values):
                if not value:
                    continue
                top, zero = float(self._y(Decimal(str(value)))), float(self.base)
                x = (number + 0.12) * self._slot + place * width
                height = max(1.0, abs(zero - top))
                marks.append(
                    Mark(index, _percent(x), _px(min(top, zero)), _percent(width), _px(height))
                )
        return marks

    @cached_property
    def dots(self) -> list[Mark]:
        return [
            Mark(index, self._x(number + 0.5), self._y(Decimal(str(value))))
            for index, series in enumerate(self.series)
            if series.kind == "line"
            for number, value in enumerate(series.values)
            if value is not None
        ]

    @cached_property
    def segments(self) -> list[Segment]:
        found = []
        for index, series in enumerate(self.series):
            if series.kind != "line":
                continue
            for number, (one, two) in enumerate(pairwise(series.values)):
                if one is None or two is None:
                    continue
                found.append(
                    Segment(
                        index,
                        self._x(number + 0.5),
                        self._y(Decimal(str(one))),
                        self._x(number + 1.5),
                        self._y(Decimal(str(two))),
                    )
                )
        return found

    @property
    def _slot(self) -> float:
        return 100 / max(1, len(self.labels))

    def _x(self, slots: float) -> str:
        return _percent(slots * self._slot)

    def _y(self, value: Decimal) -> str:
        low, high = self._scale[0], self._scale[-1]
        share = float((value - low) / (high - low))
        return _px(self.height - _BOTTOM - share * (self.height - _TOP - _BOTTOM))


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar in a table's cell, from the middle or from the left; per cent."""

    x: str
    width: str
    is_negative: bool


def in_cells(values: Sequence[Number]) -> list[Bar]:
    """One bar a value, to one scale, beginning where zero lies."""
    shares = [float(value) for value in values]
    lowest, highest = min([*shares, 0.0]), max([*shares, 0.0])
    span = (highest - lowest) or 1.0
    zero = -lowest / span * 100
    bars = []
    for value in shares:
        width = abs(value) / span * 100
        bars.append(Bar(_percent(zero if value >= 0 else zero - width), _percent(width), value < 0))
    return bars


def scale(low: Decimal, high: Decimal) -> list[Decimal]:
    """Round marks from at or below ``low`` to at or above ``high``, zero among them."""
    span = (high - low) or Decimal(1)
    rough = span / _TICKS
    power = Decimal(10) ** rough.adjusted()
    step = next(m * power for m in map(Decimal, ("1", "2", "2.5", "5", "10")) if m * power >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    if first == last:
        last += 1
    return [step * n for n in range(first, last + 1)]


def short(value: Number) -> str:
    """As an axis has room for: 1.2k, 3M, 0.002."""
    number = Decimal(str(value))
    for power, letter in ((9, "G"), (6, "M"), (3, "k")):
        if abs(number) >= Decimal(10) ** power:
            return f"{_trimmed(number / Decimal(10) ** power)}{letter}"
    return _trimmed(number)


def full(value: Number | None) -> str:
    """As a table shows it, with at most nine decimals, none of them idle."""
    if value is None:
        return "–"
    number = Decimal(str(value)).quantize(Decimal("1e-9"), ROUND_HALF_EVEN)
    text = f"{number:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _trimmed(number: Decimal) -> str:
    text = f"{number.quantize(Decimal('1e-9'), ROUND_HALF_EVEN):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _percent(value: float) -> str:
    return f"{value:.3f}%"


def _px(value: float) -> str:
    return f"{value:.1f}"
