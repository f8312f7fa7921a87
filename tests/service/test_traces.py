"""One trace from the request through the job to the call of the partner, as OTLP brings it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tests.support.condition import until
from tests.support.console_school import COMPLETED, console_school

from homeroom.errors import ConfigurationError
from homeroom.settings.telemetry import find_trace_exporter

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
SERVER, CLIENT, CONSUMER = 2, 3, 5


@dataclass(frozen=True)
class Span:
    trace: str
    id: str
    parent: str
    name: str
    kind: int
    attributes: dict[str, Any]


@contextmanager
def _collector() -> Iterator[tuple[str, list[Span]]]:
    """Receive OTLP over HTTP; yield the endpoint and the spans that have come."""
    request_type = import_module(
        "opentelemetry.proto.collector.trace.v1.trace_service_pb2"
    ).ExportTraceServiceRequest
    spans: list[Span] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = import_module("gzip").decompress(body)
            for resource in request_type.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(_span(each) for each in scope.spans)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *words: object) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", spans
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _span(span: Any) -> Span:
    attributes = {
        each.key: each.value.string_value or each.value.int_value for each in span.attributes
    }
    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
    return Span(*ids, span.name, span.kind, attributes)


@pytest.mark.service
def test_a_trace_joins_the_request_the_job_and_the_call_of_the_partner(tmp_path: Path) -> None:
    with _collector() as (endpoint, spans):
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        caller = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
        with console_school(tmp_path, settings=settings, headers=caller):
            called = until(
                lambda: [
                    each
                    for each in spans
                    if each.kind == CLIENT and each.attributes.get("http.response.status_code")
                ]
            )
            by_id = {each.id: each for each in spans}
            job = by_id[until(lambda: by_id.get(called[0].parent) and called[0].parent)]
    by_id = {each.id: each for each in spans}
    assert {each.trace for each in called} == {TRACE}
    assert (job.kind, job.trace) == (CONSUMER, TRACE)
    assert job.name.startswith("process completion.")
    request = by_id[job.parent]
    assert (request.kind, request.parent) == (SERVER, CALLER)
    assert request.name == "POST /api/progress/enhanced-update"
    assert request.attributes["http.response.status_code"] == 200
    said = repr(spans)
    assert not [user_id for user_id in COMPLETED if user_id in said]


@pytest.mark.parametrize(
    ("environment", "exporter"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, None),
    ],
)
def test_traces_are_on_by_the_names_of_opentelemetry(
    environment: dict[str, str], exporter: str | None
) -> None:
    assert find_trace_exporter(environment) == exporter


def test_an_exporter_that_homeroom_lacks_is_a_fault_of_the_configuration() -> None:
    with pytest.raises(ConfigurationError, match="jaeger"):
        find_trace_exporter({"OTEL_TRACES_EXPORTER": "jaeger"})
