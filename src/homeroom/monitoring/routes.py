"""Metrics, health, settings and hints over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.sse import format_sse_event

from homeroom.errors import Unavailable
from homeroom.monitoring.health import Health
from homeroom.monitoring.hints import Hint, Hints, is_about
from homeroom.monitoring.metrics import Metrics
from homeroom.monitoring.sibling import Siblings
from homeroom.web.context import QUIET
from homeroom.web.identity import Auth, Identity, Role
from homeroom.web.model import View

METRICS_TYPE = "text/plain; version=1.0.0; charset=utf-8"
PUBLIC: dict[str, Any] = {"security": []}
STAFF = (Role.OPERATOR, Role.VIEWER, Role.MANAGER, Role.SERVICE)
JobCounts = Callable[[], Awaitable[Mapping[str, Mapping[str, int]]]]
"""Return the number of jobs by queue and state."""
WorkerCount = Callable[[], Awaitable[int]]
"""Return how many workers are alive."""


class Alive(View):
    """The process answers."""

    status: Literal["ok"] = "ok"


class CheckView(View):
    """How one part is."""

    status: Literal["ok", "degraded", "failed"]
    detail: str | None = None


class ReadyView(View):
    """How all parts are."""

    status: Literal["ok", "degraded"]
    checks: dict[str, CheckView]


class SummaryView(View):
    """What the hook ``useProgressMetrics`` reads; rates are those of the last minute."""

    queue_size: int
    events_per_second: float
    error_rate: float
    average_processing_ms: float
    memory_mb: float
    uptime_seconds: float
    active_workers: int
    jobs: dict[str, dict[str, int]]


class SettingRow(View):
    """One setting; secrets are hidden."""

    name: str
    group: str
    value: str | None
    default: str
    is_set: bool
    secret: bool
    description: str


class HintView(View):
    """What changed. Read it again by its own route; the topic ``*`` says that hints were lost."""

    topic: str
    id: str


def router(
    auth: Auth,
    *,
    metrics: Metrics,
    health: Health,
    hints: Hints,
    job_counts: JobCounts,
    worker_count: WorkerCount,
    settings: Sequence[object],
    siblings: Siblings | None = None,
) -> APIRouter:
    """Return the routes.

    ``settings`` are rows of ``homeroom.settings.view``. One of several processes of a server gives
    its ``siblings``, and answers for all of them.
    """
    routes = APIRouter()
    _add_probes(routes, health)
    reader = Depends(auth.require(Role.OPERATOR, Role.VIEWER))

    @routes.get("/metrics", tags=["operations"], response_class=Response)
    async def prometheus(_: Identity = reader) -> Response:
        """Return all metrics in Prometheus's text format."""
        metrics.jobs(await job_counts())
        if siblings is None:
            text = metrics.text()
        else:
            text = metrics.text(siblings.name, await siblings.others())
        return Response(text, media_type=METRICS_TYPE)

    @routes.get("/api/v1/metrics/summary", tags=["operations"])
    async def summary(_: Identity = reader) -> SummaryView:
        """Return what is going on, in few numbers."""
        return SummaryView.model_validate(
            {
                **metrics.summary(() if siblings is None else await siblings.others()),
                "activeWorkers": await worker_count(),
                "jobs": await job_counts(),
            }
        )

    @routes.get("/api/v1/settings", tags=["operations"])
    async def list_settings(_: Identity = reader) -> list[SettingRow]:
        """List the settings that this process started with, secrets hidden."""
        return [SettingRow.model_validate(row) for row in settings]

    _add_hints(routes, auth, hints)
    return routes


def _add_probes(routes: APIRouter, health: Health) -> None:
    @routes.get("/healthz", tags=["operations"], openapi_extra=PUBLIC)
    async def alive(request: Request) -> Alive:
        """Say that the process answers."""
        request.scope[QUIET] = True
        return Alive()

    @routes.get("/readyz", tags=["operations"], openapi_extra=PUBLIC)
    async def ready(request: Request) -> ReadyView:
        """Say whether requests should be sent here: 503 only without database or its schema."""
        request.scope[QUIET] = True
        found = await health.ready()
        checks = {name: CheckView.model_validate(check) for name, check in found.checks.items()}
        if not found.is_ready:
            plain = {name: check.model_dump(exclude_none=True) for name, check in checks.items()}
            failed = next(c.detail for c in found.checks.values() if c.status == "failed")
            raise Unavailable(failed, retry_after_seconds=5, details={"checks": plain})
        return ReadyView(status=found.status, checks=checks)


def _add_hints(routes: APIRouter, auth: Auth, hints: Hints) -> None:
    anybody = Depends(auth.require(*Role))

    @routes.get(
        "/api/v1/events",
        tags=["operations"],
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}, "description": "Hints, for ever."}},
    )
    async def events(who: Identity = anybody) -> StreamingResponse:
        """Stream hints of what changed: `{topic, id}`, never the data.

        Learners get hints about their own records only. A stream ends after five minutes and is
        to be opened again, as browsers do by themselves.
        """
        hints.check_room(_listener(who))
        return StreamingResponse(
            _stream(hints, who),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )


def _listener(who: Identity) -> str:
    return f"{who.via} {who.subject}"


async def _stream(hints: Hints, who: Identity) -> AsyncIterator[bytes]:
    def visible(hint: Hint) -> bool:
        return who.has(*STAFF) or (who.via == "jwt" and is_about(who.subject, hint))

    async for hint in hints.listen(_listener(who), visible):
        if hint is None:
            yield b": still here\n\n"
        else:
            topic, changed = hint
            data = msgspec.json.encode({"topic": topic, "id": changed}).decode()
            yield format_sse_event(data_str=data)
