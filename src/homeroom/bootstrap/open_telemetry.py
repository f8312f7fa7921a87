"""Record spans with the SDK of OpenTelemetry, which the extra ``otel`` brings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from typing import Any

import structlog

from homeroom import __version__
from homeroom.settings.telemetry import TraceExporter, find_trace_exporter, has_service_name
from homeroom.tracing import TRACE_HEADER, AttributeValue, Span, SpanKind, Tracer, current_trace

log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_tracer() -> AsyncIterator[Tracer | None]:
    """Yield the tracer, None while traces are off; send what is left at the end.

    A missing extra is logged and turns traces off: the environment may be that of many programs.
    Raises ``ConfigurationError`` for an exporter that Homeroom does not have.
    """
    exporter = find_trace_exporter()
    if exporter is None:
        yield None
        return
    try:
        provider = _build_provider(exporter)
    except ImportError as error:
        log.warning("tracing_unavailable", missing=error.name, fix="pip install 'homeroom[otel]'")
        yield None
        return
    try:
        yield OpenTelemetryTracer(provider)
    finally:
        await asyncio.to_thread(provider.shutdown)


def _build_provider(exporter: TraceExporter) -> Any:
    sdk = import_module("opentelemetry.sdk.trace")
    export = import_module("opentelemetry.sdk.trace.export")
    resources = import_module("opentelemetry.sdk.resources")
    named = {} if has_service_name() else {"service.name": "homeroom"}
    resource = resources.Resource.create({**named, "service.version": __version__})
    provider = sdk.TracerProvider(resource=resource, shutdown_on_exit=False)
    if exporter == "console":
        processor = export.SimpleSpanProcessor(export.ConsoleSpanExporter())
    else:
        otlp = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        processor = export.BatchSpanProcessor(otlp.OTLPSpanExporter())
    provider.add_span_processor(processor)
    return provider


class OpenTelemetryTracer:
    """A tracer on a provider of the SDK, apart from the provider of other libraries."""

    def __init__(self, provider: Any) -> None:
        """Record with ``provider``, an ``opentelemetry.sdk.trace.TracerProvider``."""
        self._api = import_module("opentelemetry.trace")
        self._contexts = import_module("opentelemetry.context")
        propagation = import_module("opentelemetry.trace.propagation.tracecontext")
        self._propagator = propagation.TraceContextTextMapPropagator()
        self._tracer = provider.get_tracer("homeroom", __version__)

    @contextmanager
    def span(
        self,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, AttributeValue],
        parent: str | None,
    ) -> Iterator[Span]:
        """Record a span and make it the current one; without ``parent`` a trace begins."""
        context = self._contexts.Context()
        if parent is not None:  # one that cannot be read begins a trace, too
            context = self._propagator.extract({TRACE_HEADER: parent}, context)
        with self._tracer.start_as_current_span(
            name,
            context=context,
            kind=self._api.SpanKind[kind.upper()],
            attributes=attributes,
            record_exception=False,  # its text may name a person
        ) as span:
            carrier: dict[str, str] = {}
            self._propagator.inject(carrier)
            token = current_trace.set(carrier.get(TRACE_HEADER))
            try:
                yield _SdkSpan(span, self._api)
            finally:
                current_trace.reset(token)


class _SdkSpan:
    def __init__(self, span: Any, api: Any) -> None:
        self._span, self._api = span, api

    def rename(self, name: str) -> None:
        """Set the name."""
        self._span.update_name(name)

    def set(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Add attributes."""
        self._span.set_attributes(attributes)

    def fail(self, error: str) -> None:
        """Mark the span as failed."""
        self._span.set_attribute("error.type", error)
        self._span.set_status(self._api.StatusCode.ERROR)
