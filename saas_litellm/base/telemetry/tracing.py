"""Spans for OpenTelemetry, where OTEL_EXPORTER_OTLP_ENDPOINT is set; nothing at all elsewhere.

Attributes are ids, counts and names that operators may see: never a prompt, an answer or a key.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any

_NOTHING: AbstractContextManager[Any] = nullcontext()
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_provider: Any = None


@lru_cache(maxsize=1)
def is_on() -> bool:
    return bool(os.environ.get(ENDPOINT))


def span(
    name: str,
    *,
    parent: Mapping[str, str] | None = None,
    is_server: bool = False,
    about: Mapping[str, object] | None = None,
) -> AbstractContextManager[Any]:
    """A span around a block, or None where tracing is off. ``parent``: headers that carry one.

    An exception marks the span as failed, by its type alone.
    """
    return _span(name, parent, is_server=is_server, about=about or {}) if is_on() else _NOTHING


@contextmanager
def _span(
    name: str, parent: Mapping[str, str] | None, *, is_server: bool, about: Mapping[str, object]
) -> Iterator[Any]:
    from saas_litellm.base.telemetry import otlp  # noqa: PLC0415 - only where tracing is on

    attributes = {key: _plain(value) for key, value in about.items()}
    with otlp.span(name, parent=parent, is_server=is_server, about=attributes) as made:
        yield made


def note(made: Any, **about: object) -> None:
    """Add what became known meanwhile to a span of ``span``; nothing where tracing is off."""
    if made is not None:
        for key, value in about.items():
            made.set_attribute(key, _plain(value))


def start() -> None:
    """Once a process, before its first request."""
    global _provider  # noqa: PLW0603 - OpenTelemetry's own is global too
    if is_on() and _provider is None:
        from saas_litellm.base.telemetry import otlp  # noqa: PLC0415 - only where tracing is on

        _provider = otlp.provider()


def stop() -> None:
    """Send what waits."""
    if _provider is not None:
        _provider.shutdown()


def _plain(value: object) -> str | bool | int | float:
    return value if isinstance(value, bool | int | float) else str(value)
