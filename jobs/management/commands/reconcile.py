from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from jobs.models import Call, ReconciliationLine
from jobs.reconciliation import compare, figures, formats
from saas_litellm.base.commands import OperatorCommand
from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import Conflict, Invalid

HEADINGS = ("day", "model", "tokens theirs", "ours", "USD theirs", "ours", "variance", "%", "")
SHOWN_CALLS = 5


class Command(OperatorCommand):
    help = "Compare a provider's usage export with our calls, by model and UTC day."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="One of the exports in docs/reconciliation.md.")
        parser.add_argument(
            "--threshold", default="1.0", help="Percent of the provider's figure; default 1.0."
        )
        parser.add_argument(
            "--correct",
            action="store_true",
            help="Book the variance of each line beyond the threshold that both sides know of.",
        )

    def operate(self, **options: Any) -> None:
        path = Path(options["file"])
        made = compare.reconcile(
            content=_content(path),
            filename=path.name,
            actor=self.actor,
            threshold_basis_points=_basis_points(options["threshold"]),
        )
        lines = list(made.lines.select_related("reconciliation"))
        booked = self._correct(lines, path.name) if options["correct"] else {}
        explained = {line.pk: compare.explain(line) for line in lines if line.is_beyond_threshold}
        self.answer(
            f"Reconciliation {made.pk}: {made}, {len(lines)} lines\n"
            + _table(lines, explained, booked),
            reconciliation=made.pk,
            source=made.source,
            lines=[_figures(line, explained.get(line.pk, []), booked) for line in lines],
        )

    def _correct(self, lines: list[ReconciliationLine], filename: str) -> dict[int, str]:
        """Correct what stands out on both sides; what became of each, by line."""
        booked = {}
        for line in lines:
            if line.is_beyond_threshold and line.their_nano_usd and line.calls:
                try:
                    correction = compare.correct(
                        line=line, actor=self.actor, reason=f"reconcile --correct {filename}"[:500]
                    )
                except Conflict as refusal:
                    booked[line.pk] = refusal.message
                else:
                    booked[line.pk] = f"corrected by {from_nano(correction.amount_nano_usd)}"
        return booked


def _content(path: Path) -> bytes:
    """The file's bytes, and one more than is allowed at most."""
    try:
        with path.open("rb") as file:
            return file.read(formats.MAX_BYTES + 1)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}.") from error


def _basis_points(percent: str) -> int:
    try:
        points = Decimal(percent) * 100
    except InvalidOperation as error:
        raise Invalid(f"{percent} is not a percentage.", param="threshold") from error
    if not points.is_finite() or points != points.to_integral_value() or abs(points) > 10**9:
        raise Invalid("A threshold has at most two decimal places.", param="threshold")
    return int(points)


def _figures(line: ReconciliationLine, calls: list[Call], booked: dict[int, str]) -> dict[str, Any]:
    return {
        **figures.shown(line),
        "correction": booked.get(line.pk),
        "explaining_calls": [str(call.pk) for call in calls[:SHOWN_CALLS]],
    }


def _table(
    lines: list[ReconciliationLine], explained: dict[int, list[Call]], booked: dict[int, str]
) -> str:
    rows = [HEADINGS, *(_row(line, booked) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    printed = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    below = [_call(call) for line in lines for call in explained.get(line.pk, [])[:SHOWN_CALLS]]
    return "\n".join([*printed, *(["", "Calls that may explain it:", *below] if below else [])])


def _row(line: ReconciliationLine, booked: dict[int, str]) -> tuple[str, ...]:
    mark = "beyond the threshold" if line.is_beyond_threshold else ""
    return (
        f"{line.day}",
        line.model,
        _text(line.their_tokens),
        f"{line.our_tokens}",
        _text(figures.maybe_usd(line.their_nano_usd)),
        f"{from_nano(line.our_nano_usd)}",
        _text(figures.maybe_usd(line.variance_nano_usd)),
        compare.percent(line),
        booked.get(line.pk, mark),
    )


def _call(call: Call) -> str:
    day = call.dispatched_at and call.dispatched_at.date()
    usage = call.usage_source or "no usage"
    return (
        f"{day}  {call.pk}  {call.team.slug}/{call.alias.name}  {call.status}, {usage}"
        f"  {call.total_tokens} tokens  {from_nano(call.provider_cost_nano_usd)} USD"
    )


def _text(figure: Decimal | int | None) -> str:
    return "-" if figure is None else f"{figure}"
