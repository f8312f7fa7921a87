"""OpenTelemetry's own names of the environment: they turn traces on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from homeroom.errors import ConfigurationError

TraceExporter = Literal["otlp", "console"]
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def find_trace_exporter(environ: Mapping[str, str] | None = None) -> TraceExporter | None:
    """Return the exporter of traces; None: no trace is recorded.

    Traces are on with ``OTEL_TRACES_EXPORTER`` or an OTLP endpoint, and off with
    ``OTEL_SDK_DISABLED=true``. The SDK reads endpoints, headers and samplers itself. Raises
    ``ConfigurationError`` for an exporter that Homeroom does not have.
    """
    given = os.environ if environ is None else environ
    if given.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    default = "otlp" if any(given.get(name) for name in _ENDPOINTS) else "none"
    exporter = given.get("OTEL_TRACES_EXPORTER", "").strip().lower() or default
    if exporter == "none":
        return None
    if exporter == "otlp":
        return "otlp"
    if exporter == "console":
        return "console"
    raise ConfigurationError(
        f"OTEL_TRACES_EXPORTER is {exporter!r}.", hint="Set it to otlp, console or none."
    )


def has_service_name(environ: Mapping[str, str] | None = None) -> bool:
    """Return whether the environment names the service."""
    given = os.environ if environ is None else environ
    attributes = given.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return bool(given.get("OTEL_SERVICE_NAME")) or "service.name=" in attributes
