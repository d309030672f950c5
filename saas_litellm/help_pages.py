"""The documentation at /help/: the files that `make docs` built, before anybody is asked who it is.

It names no customer and no secret, so it needs no session; WhiteNoise answers with types, ETags and
304s, and knows only files of that folder. What is not there falls through to ``missing``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import IO, Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import FileResponse, HttpRequest, HttpResponse
from django.shortcuts import render
from whitenoise.middleware import WhiteNoiseMiddleware

PREFIX = "/help/"
PART_BYTES = 256 * 1024
LONGEST_BUILD_SECONDS = 600


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc] # untyped
    """The admin's static files, and the documentation beside them."""

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        # Where DEBUG is off the files are listed once, now; else each is looked for when asked for.
        if self.autorefresh or settings.HELP_ROOT.is_dir():
            self.add_files(str(settings.HELP_ROOT), prefix=PREFIX)

    @staticmethod
    def serve(static_file: Any, request: HttpRequest) -> FileResponse:
        response: FileResponse = WhiteNoiseMiddleware.serve(static_file, request)
        if isinstance(request, ASGIRequest):
            # An iterator that is not async would be read whole into memory first, with a warning.
            response.streaming_content = _parts(response.file_to_stream)
        return response


async def _parts(file: IO[bytes] | None) -> AsyncIterator[bytes]:
    """Of a file; nothing of None, for a HEAD or a 304."""
    while file is not None and (part := await asyncio.to_thread(file.read, PART_BYTES)):
        yield part


def missing(request: HttpRequest, path: str = "") -> HttpResponse:
    """There is no such page; or none at all, and how to build them, or that they are being built."""
    is_built = (settings.HELP_ROOT / "index.html").is_file()
    found = {"is_built": is_built, "is_being_built": _is_being_built()}
    return render(request, "help/missing.html", found, status=404)


def _is_being_built() -> bool:
    """`make run` leaves a mark while it builds; one that is old is of a build that was broken off."""
    try:
        began_at = (settings.HELP_ROOT.parent / "building").stat().st_mtime
    except OSError:
        return False
    return time.time() - began_at < LONGEST_BUILD_SECONDS
