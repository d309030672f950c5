"""CSV files of rows, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse


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


def csv_stream(
    batches: AsyncIterator[Sequence[dict[str, Any]]], *, columns: Sequence[str], filename: str
) -> StreamingHttpResponse:
    """The same, sent batch by batch: a file of any length in little memory."""

    async def pieces() -> AsyncIterator[str]:
        yield _written(columns, [], header=True)
        async for rows in batches:
            yield _written(columns, rows)

    return StreamingHttpResponse(
        pieces(),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{filename}"'},
    )


def _written(
    columns: Sequence[str], rows: Sequence[dict[str, Any]], *, header: bool = False
) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    if header:
        writer.writeheader()
    writer.writerows({name: defused(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def defused(value: Any) -> Any:
    """Text that begins like a formula gets an apostrophe in front: job types are the teams' own."""
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if is_formula else value
