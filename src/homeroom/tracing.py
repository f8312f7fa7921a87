"""The trace of the running request or job, and the port that records spans.

A trace is carried as text in the form of W3C's ``traceparent``: in the row of a job, and in the
header of a partner call. Nothing is recorded or stored while no tracer is built (``bootstrap``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Literal, Protocol

SpanKind = Literal["server", "consumer", "client"]
AttributeValue = str | int | float | bool
TRACE_HEADER = "traceparent"
current_trace: ContextVar[str | None] = ContextVar("trace", default=None)
"""The ``traceparent`` of the current span; None: no trace."""


class Span(Protocol):
    """One recorded operation, while it runs."""

    def rename(self, name: str) -> None:
        """Set its name, once that is known."""

    def set(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Add attributes; they hold no data of persons."""

    def fail(self, error: str) -> None:
        """Mark it as failed for a reason without data of persons."""


class Tracer(Protocol):
    """Records spans."""

    def span(
        self,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, AttributeValue],
        parent: str | None,
    ) -> AbstractContextManager[Span]:
        """Record a span and make it the current one; without ``parent`` a trace begins."""


_user_traces: ContextVar[Mapping[str, str]] = ContextVar("user_traces")


@contextmanager
def use_traces(traces: Mapping[str, str]) -> Iterator[None]:
    """Carry the traces of several requests in a block, by their users."""
    token = _user_traces.set(traces)
    try:
        yield
    finally:
        _user_traces.reset(token)


@contextmanager
def use_trace_of(user_id: str) -> Iterator[None]:
    """Make the trace of a user's request the current one, within ``use_traces``."""
    trace = _user_traces.get({}).get(user_id)
    if trace is None:
        yield
        return
    token = current_trace.set(trace)
    try:
        yield
    finally:
        current_trace.reset(token)
