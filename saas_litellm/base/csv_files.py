"""CSV files of rows, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from django.http import HttpResponse


def csv_answer(rows: Iterable[dict[str, Any]], *, filename: str) -> HttpResponse:
    """A CSV file of rows that share their keys; text that a spreadsheet would run is defused."""
    text = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(text, list(row))
            writer.writeheader()
        writer.writerow({name: defused(value) for name, value in row.items()})
    return HttpResponse(
        text.getvalue(),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{filename}"'},
    )


def defused(value: Any) -> Any:
    """Text that begins like a formula gets an apostrophe in front: job types are the teams' own."""
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if is_formula else value
