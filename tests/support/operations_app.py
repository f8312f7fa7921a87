"""A server with the packages access and monitoring, on a real socket and database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import httpx
from starlette.types import Receive, Scope, Send
from tests.support.asgi_server import MAX_BODY_BYTES, serving

from homeroom.access import routes as access_routes
from homeroom.access.api import Authenticator, JwtVerifier, create_key, redeem_stream_ticket
from homeroom.db.database import Database
from homeroom.db.migrate import head_revision
from homeroom.http.app import create_app
from homeroom.identity import Identity
from homeroom.monitoring import routes as monitoring_routes
from homeroom.monitoring.health import Health
from homeroom.monitoring.hint_stream import HintStreams
from homeroom.monitoring.metrics import Metrics
from homeroom.settings import list_settings, load
from homeroom.web.identity import Auth
from homeroom.web.problem import problem_response

JWT_SECRET = "a-secret-of-more-than-thirty-two-bytes!"
ADMIN_KEY = "the-admin-key-of-the-tests"
ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}


@dataclass
class OperationsApp:
    client: httpx.AsyncClient
    db: Database
    access: Authenticator
    metrics: Metrics
    hints: HintStreams
    health: Health

    async def key(self, *roles: str) -> dict[str, str]:
        """Create an API key and return its Authorization header."""
        async with self.db.write() as tx:
            _, token = await create_key(tx, "-".join(roles), roles)
        return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def operations_app(
    db: Database, hints: HintStreams | None = None
) -> AsyncIterator[OperationsApp]:
    access = Authenticator(db, admin_key=ADMIN_KEY, jwt_verifier=JwtVerifier(secret=JWT_SECRET))
    auth = Auth(access.identify)
    metrics, health, hints = Metrics(), Health(db, head_revision()), hints or HintStreams(db)

    async def job_counts() -> Mapping[str, Mapping[str, int]]:
        return {"partners": {"waiting": 2}}

    async def worker_counts() -> Mapping[str, int]:
        return {"running": 1, "stale": 0, "gone": 0}

    async def step_totals() -> monitoring_routes.StepTotals:
        return monitoring_routes.StepTotals({"hr": {"failed": 3}}, {"hr": 90.0})

    async def redeem_ticket(ticket: str) -> Identity:
        async with db.write() as tx:
            return await redeem_stream_ticket(tx, ticket)

    async def ingest(scope: Scope, receive: Receive, send: Send) -> None:
        await (await problem_response(RuntimeError()))(scope, receive, send)

    app = create_app(
        [
            access_routes.router(
                db, auth, access, session_lifetime=timedelta(hours=1), secure_cookie=False
            ),
            monitoring_routes.router(
                auth,
                metrics=metrics,
                health=health,
                hints=hints,
                job_counts=job_counts,
                worker_counts=worker_counts,
                step_totals=step_totals,
                settings=list_settings(load()),
                redeem_ticket=redeem_ticket,
            ),
        ],
        ingest=ingest,
        max_body_bytes=MAX_BODY_BYTES,
        observe=metrics.observe_request,
    )
    async with serving(app, before_stop=hints.close) as client:
        yield OperationsApp(client, db, access, metrics, hints, health)
    await access.close()
