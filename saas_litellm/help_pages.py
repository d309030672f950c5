"""The documentation at /help/: the files that `make docs` built, before anybody is asked who it is.

It names no customer and no secret, so it needs no session; WhiteNoise answers with types, ETags and
304s, and knows only files of that folder. What is not there falls through to ``missing``.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from whitenoise.middleware import WhiteNoiseMiddleware

PREFIX = "/help/"


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc] # untyped
    """The admin's static files, and the documentation beside them."""

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        # Where DEBUG is off the files are listed once, now; else each is looked for when asked for.
        if self.autorefresh or settings.HELP_ROOT.is_dir():
            self.add_files(str(settings.HELP_ROOT), prefix=PREFIX)


def missing(request: HttpRequest, path: str = "") -> HttpResponse:
    """There is no such page; or none at all, and how to build them."""
    is_built = (settings.HELP_ROOT / "index.html").is_file()
    return render(request, "help/missing.html", {"is_built": is_built}, status=404)
