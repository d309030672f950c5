"""OpenTelemetry itself: imported where tracing is on, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

SERVICE = "saas-litellm"


def provider() -> TracerProvider:
    """Exports in batches, off the path of any call, to where the standard variables say."""
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", SERVICE)})
    made = TracerProvider(resource=resource)
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(made)
    return made


@contextmanager
def span(
    name: str,
    *,
    parent: Mapping[str, str] | None,
    is_server: bool,
    about: Mapping[str, str | bool | int | float],
) -> Iterator[Span]:
    with trace.get_tracer("saas_litellm").start_as_current_span(
        name,
        context=propagate.extract(parent) if parent is not None else None,
        kind=SpanKind.SERVER if is_server else SpanKind.INTERNAL,
        attributes=about,
        # An error's message may quote a prompt: the span tells its type alone.
        record_exception=False,
        set_status_on_exception=False,
    ) as made:
        try:
            yield made
        except BaseException as error:
            made.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
