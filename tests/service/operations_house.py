"""A server with the rooms access and monitoring in it, on a real socket and a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import httpx
from starlette.types import Receive, Scope, Send
from tests.unit.web.serving import serving

from homeroom.access import routes as access_routes
from homeroom.access.api import Access, JwtVerifier, create_key
from homeroom.db.database import Database
from homeroom.db.migrate import head
from homeroom.http.app import create_app
from homeroom.monitoring import routes as monitoring_routes
from homeroom.monitoring.api import Health, Hints, Metrics
from homeroom.settings import load, view
from homeroom.web.identity import Auth
from homeroom.web.problem import problem_response

JWT_SECRET = "a-secret-of-more-than-thirty-two-bytes!"
ADMIN_KEY = "the-admin-key-of-the-tests"
ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}


@dataclass
class House:
    client: httpx.AsyncClient
    db: Database
    access: Access
    metrics: Metrics
    hints: Hints
    health: Health

    async def key(self, *roles: str) -> dict[str, str]:
        """Make an API key and return the header that carries it."""
        async with self.db.write() as tx:
            _, token = await create_key(tx, "-".join(roles), roles)
        return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def house(db: Database, hints: Hints | None = None) -> AsyncIterator[House]:
    access = Access(db, admin_key=ADMIN_KEY, jwt_verifier=JwtVerifier(secret=JWT_SECRET))
    auth = Auth(access_routes.identifier(access))
    metrics, health, hints = Metrics(), Health(db, head()), hints or Hints(db)

    async def job_counts() -> Mapping[str, Mapping[str, int]]:
        return {"partners": {"waiting": 2}}

    async def worker_count() -> int:
        return 1

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
                worker_count=worker_count,
                settings=view(load()),
            ),
        ],
        ingest=ingest,
        observe=metrics.request,
    )
    async with serving(app, stopping=hints.close) as client:
        yield House(client, db, access, metrics, hints, health)
    await access.close()
