"""Which request, job and call a log line belongs to, carried along tasks and threads."""

from __future__ import annotations

import logging
from contextvars import ContextVar

from pythonjsonlogger.json import JsonFormatter

NO_IDS: dict[str, object] = {}
_ids: ContextVar[dict[str, object]] = ContextVar("ids", default=NO_IDS)


def bind(**ids: object) -> None:
    """From here on, in this task and what it starts, lines carry these ids beside the earlier ones."""
    _ids.set({**_ids.get(), **ids})


def bound() -> dict[str, str]:
    return {name: str(value) for name, value in _ids.get().items()}


class WithIds(logging.Filter):
    """Puts the ids on each record: ``ids`` for lines of text, and each by its name for JSON."""

    def filter(self, record: logging.LogRecord) -> bool:
        ids = bound()
        record.ids = "".join(f" {name}={value}" for name, value in ids.items())
        for name, value in ids.items():
            setattr(record, name, value)
        return True


class OneLine(logging.Filter):
    """What strangers cause, and nobody here can mend: a warning, without its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.exc_info = record.exc_text = None
        return True


class Json(JsonFormatter):
    """One object a line: time (UTC, ISO 8601), level, logger, message, and the ids there are."""

    def __init__(self) -> None:
        super().__init__(
            "{asctime}{levelname}{name}{message}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            datefmt="%Y-%m-%dT%H:%M:%S%z",
            # Django hangs the request on some lines: its path may be a link that opens something.
            # And litellm marks every record of the process, as it is imported.
            reserved_attrs=[*_RESERVED, "ids", "color_message", "request", "litellm_redacted"],
        )


# Attributes of every record, which are no news.
_RESERVED = [
    *logging.LogRecord("", 0, "", 0, "", None, None).__dict__,
    "message",
    "asctime",
    "taskName",
]
