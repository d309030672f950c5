"""CSV files of rows, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse

# Where a cell may begin, and a formula's first sign after it; or a blank that a spreadsheet drops.
_FORMULA = re.compile(
    r"(\A(?=[\t\r\n])|(?:\A|[;\t\r\n])(?=(?:[^\S\t\r\n]|[\"\x00\ufeff])*[=+\-@＝＋－＠]))"
)


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
    """Text that a spreadsheet would run gets an apostrophe in front: much of it is not our own.

    Blanks and quotes before a formula do not stop it, and where a semicolon or a tab parts cells,
    as it does in half the world, or a line ends, what follows one begins a cell of its own.
    """
    return _FORMULA.sub(r"\1'", value) if isinstance(value, str) else value
