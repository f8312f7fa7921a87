"""HTTP routes of metrics, health, settings and change hints."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.sse import format_sse_event

from homeroom.db.database import Database
from homeroom.errors import HomeroomError, Unavailable
from homeroom.identity import Identity, Role
from homeroom.monitoring.health import PROBE_SECONDS, Health, answer_within
from homeroom.monitoring.hint_stream import Hint, HintStreams, ShowHint, VisibleHints, show_all
from homeroom.monitoring.metrics import Metrics
from homeroom.monitoring.peer_metrics import PeerMetrics
from homeroom.web.identity import IDENTITY_SCOPE_KEY, Auth
from homeroom.web.middleware import QUIET_SCOPE_KEY
from homeroom.web.model import ResponseModel
from homeroom.web.people_scope import PeopleScope

METRICS_MEDIA_TYPE = "text/plain; version=1.0.0; charset=utf-8"
PUBLIC_ROUTE: dict[str, Any] = {"security": []}
_STAFF_ROLES = (Role.AUTHOR, Role.FACILITATOR, Role.MANAGER)
_TOPICS_OF_THE_SCHOOL = ("courses", "lesson-plans")
"""Their records name no learner, and each role of ``_STAFF_ROLES`` reads all of them."""
CountJobs = Callable[[], Awaitable[Mapping[str, Mapping[str, int]]]]
"""Return the number of jobs by queue and state."""
CountWorkers = Callable[[], Awaitable[Mapping[str, int]]]
"""Return the number of workers by state: running, stale and gone."""


@dataclass(frozen=True, slots=True)
class StepTotals:
    """The number of completions' steps, as the database has them."""

    counts: Mapping[str, Mapping[str, int]]
    """By step and status."""
    oldest_seconds: Mapping[str, float]
    """The age of the oldest outstanding one, by step."""


CountSteps = Callable[[], Awaitable[StepTotals]]


RedeemTicket = Callable[[str], Awaitable[Identity]]
"""Use up a ticket for a stream; raise ``Unauthenticated`` if it is not valid."""


class Liveness(ResponseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class HealthCheck(ResponseModel):
    """The state of one part."""

    status: Literal["ok", "degraded", "failed"]
    detail: str | None = None


class ReadinessView(ResponseModel):
    """The states of all parts."""

    status: Literal["ok", "degraded"]
    checks: dict[str, HealthCheck]


class MetricsSummary(ResponseModel):
    """Figures for the hook ``useProgressMetrics``; rates of the last minute."""

    queue_size: int
    events_per_second: float
    error_rate: float
    average_processing_ms: float
    memory_mb: float
    uptime_seconds: float
    active_workers: int
    jobs: dict[str, dict[str, int]]
    steps: dict[str, dict[str, int]]
    """The number of completions' steps by name and status."""


class Setting(ResponseModel):
    """One setting; secrets are hidden."""

    name: str
    group: str
    value: str | None
    default: str
    is_set: bool
    secret: bool
    description: str


def router(
    auth: Auth,
    *,
    metrics: Metrics,
    health: Health,
    hints: HintStreams,
    job_counts: CountJobs,
    worker_counts: CountWorkers,
    step_totals: CountSteps,
    settings: Sequence[object],
    redeem_ticket: RedeemTicket,
    peers: PeerMetrics | None = None,
    read_shared_metrics: Callable[[], Awaitable[None]] | None = None,
) -> APIRouter:
    """Return the routes.

    ``redeem_ticket`` returns the caller of a ticket for a stream. ``read_shared_metrics`` sets the
    metrics that are the same in all processes before each read.

    ``settings`` are entries of ``homeroom.settings.list_settings``. One of several processes of a
    server passes its ``peers`` and reports the metrics of all.
    """
    routes = APIRouter()
    _add_probes(routes, health)
    reader = Depends(auth.require(Role.OPERATOR, Role.VIEWER))

    @routes.get("/metrics", tags=["Operations"], response_class=Response)
    async def get_metrics(_: Identity = reader) -> Response:
        """Return all metrics in Prometheus's text format."""
        try:
            if read_shared_metrics is not None:
                await answer_within(PROBE_SECONDS, read_shared_metrics())
            metrics.set_job_counts(await answer_within(PROBE_SECONDS, job_counts()))
            metrics.set_worker_counts(await answer_within(PROBE_SECONDS, worker_counts()))
            steps = await answer_within(PROBE_SECONDS, step_totals())
            metrics.set_step_counts(steps.counts, steps.oldest_seconds)
        except (HomeroomError, TimeoutError):
            # What the database counts is missing; the causes are not.
            metrics.set_job_counts({})
            metrics.set_worker_counts({})
            metrics.set_step_counts({}, {})
            metrics.set_database_gauges(())
        readiness = await health.ready()
        metrics.set_health({name: each.status == "ok" for name, each in readiness.checks.items()})
        if peers is None:
            text = metrics.render()
        else:
            text = metrics.render(peers.name, await peers.peer_snapshots())
        return Response(text, media_type=METRICS_MEDIA_TYPE)

    @routes.get("/api/v1/metrics/summary", tags=["Operations"])
    async def get_metrics_summary(_: Identity = reader) -> MetricsSummary:
        """Return rates, queue sizes and workers in a few numbers."""
        return MetricsSummary.model_validate(
            {
                **metrics.summary(() if peers is None else await peers.peer_snapshots()),
                "activeWorkers": (await worker_counts())["running"],
                "jobs": await job_counts(),
                "steps": (await step_totals()).counts,
            }
        )

    @routes.get("/api/v1/settings", tags=["Operations"])
    async def list_settings(_: Identity = reader) -> list[Setting]:
        """List the settings that this process started with, secrets hidden."""
        return [Setting.model_validate(row) for row in settings]

    _add_hint_stream(routes, auth, hints, redeem_ticket)
    return routes


def _add_probes(routes: APIRouter, health: Health) -> None:
    @routes.get("/healthz", tags=["Operations"], openapi_extra=PUBLIC_ROUTE)
    async def get_liveness(request: Request) -> Liveness:
        """Return 200 while the process serves requests."""
        request.scope[QUIET_SCOPE_KEY] = True
        return Liveness()

    @routes.get("/readyz", tags=["Operations"], openapi_extra=PUBLIC_ROUTE)
    async def get_readiness(request: Request) -> ReadinessView:
        """Return whether the process can serve requests: 503 without database or schema."""
        request.scope[QUIET_SCOPE_KEY] = True
        readiness = await health.ready()
        checks = {
            name: HealthCheck.model_validate(check) for name, check in readiness.checks.items()
        }
        if not readiness.is_ready:
            plain = {name: check.model_dump(exclude_none=True) for name, check in checks.items()}
            failed = next(c.detail for c in readiness.checks.values() if c.status == "failed")
            raise Unavailable(failed, retry_after_seconds=5, details={"checks": plain})
        return ReadinessView(status=readiness.status, checks=checks)


def _add_hint_stream(
    routes: APIRouter, auth: Auth, hints: HintStreams, redeem_ticket: RedeemTicket
) -> None:
    any_role = auth.require(*Role)

    async def caller_of_stream(
        request: Request,
        authorization: Annotated[str | None, Header()] = None,
        ticket: Annotated[str | None, Query(max_length=128)] = None,
    ) -> Identity:
        if ticket is None:
            return await any_role(request, authorization)
        identity = await redeem_ticket(ticket)
        request.scope[IDENTITY_SCOPE_KEY] = identity.subject
        return identity

    identified = Depends(caller_of_stream)

    @routes.get(
        "/api/v1/events",
        tags=["Operations"],
        response_class=StreamingResponse,
        responses={
            200: {"content": {"text/event-stream": {}}, "description": "A stream of hints."}
        },
    )
    async def stream_hints(caller: Identity = identified) -> StreamingResponse:
        """Stream hints about changed records: `{topic, id}`, never the data.

        Hints wake a poller and may be lost, those of other processes too: `GET /api/v1/changes` is
        what loses nothing. Learners receive hints about their own records only, managers about
        those of the people who were theirs when the stream began, and about their programmes. The
        id is `*` where it is not told. A stream ends after five minutes.
        `EventSource` cannot send a token: it uses a `ticket` of `POST /api/v1/events/ticket`, a new
        one for each connection.
        """
        hints.check_capacity(_subscriber_key(caller))
        show = await _visible_hints(hints.db, auth.people(caller), caller)
        return StreamingResponse(
            _stream_hints(hints, caller, show),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )


def _subscriber_key(caller: Identity) -> str:
    return f"{caller.via} {caller.subject}"


async def _visible_hints(db: Database, scope: PeopleScope, caller: Identity) -> ShowHint:
    if scope.sees_all:
        return show_all
    person = caller.subject if caller.via == "jwt" else None
    people = set() if person is None else {person}
    if scope.is_manager:
        async with db.read() as tx:
            people |= await scope.list_related(tx)
    manager = caller.subject if scope.is_manager else None
    topics = _TOPICS_OF_THE_SCHOOL if caller.has(*_STAFF_ROLES) else ()
    return VisibleHints(people, person, manager, topics).show


async def _stream_hints(
    hints: HintStreams, caller: Identity, show: ShowHint
) -> AsyncIterator[bytes]:
    async for hint in hints.stream(_subscriber_key(caller), show):
        if hint is None:
            yield b": still here\n\n"
        else:
            yield _encode_hint(hint)


@lru_cache(maxsize=1_024)
def _encode_hint(hint: Hint) -> bytes:
    """Return the event of a hint; it is encoded once for all streams."""
    topic, id = hint
    return format_sse_event(data_str=msgspec.json.encode({"topic": topic, "id": id}).decode())
