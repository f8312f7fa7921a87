"""A school that signs its credentials itself, without partners."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from tests.support.api_client import AUTH, client
from tests.support.kernel import Kernel

from homeroom.achievements import routes as achievement_routes
from homeroom.achievements.api import Achievements
from homeroom.catalogue.api import Catalogue, Course
from homeroom.completion.api import (
    ChapterRecord,
    Completions,
    NewCompletion,
    StepContext,
    StepState,
)
from homeroom.credentials import routes as credential_routes
from homeroom.credentials.api import (
    AwardSigner,
    BuiltInLearnerDirectory,
    CertificateStyle,
    CourseScoreLookup,
    Credential,
    Credentials,
    IssuerProfile,
    LearnerMessages,
    OpenBadgeIssuer,
)
from homeroom.credentials.open_badges import badge_routes
from homeroom.credentials.open_badges.page_routes import CredentialPages, page_router
from homeroom.credentials.step import CredentialStep
from homeroom.db.database import Database
from homeroom.notify.api import Notifications
from homeroom.partner.client import open_partner_client
from homeroom.people import api as people
from homeroom.people.api import Person

BASE_URL = "https://school.example"
PROFILE = IssuerProfile(BASE_URL, "Example School", "https://www.school.example", "a@b.example")
COURSE = {
    "title": "Data für alle",
    "validity": "P1Y",
    "units": [{"id": "u", "title": "U", "chapters": [{"id": "c1", "title": "One"}]}],
}
COMPLETED_AT = 1_795_338_000_123_456


@dataclass
class BadgeSchool:
    """The packages of the credential step on one database, with a client of its routes."""

    db: Database
    issuer: OpenBadgeIssuer
    credentials: Credentials
    completions: Completions
    kernel: Kernel
    http: httpx.AsyncClient
    pages: CredentialPages
    achievements: Achievements

    async def publish(self, course_id: str = "data", **changes: Any) -> Course:
        """Publish the course, with changes."""
        async with self.db.write() as tx:
            draft = await Catalogue().publish(tx, course_id, {**COURSE, **changes})
        return draft.course

    async def complete(
        self,
        course: Course,
        user_id: str = "ada",
        attempt: int = 1,
        completed_at: int = COMPLETED_AT,
        score: int | None = 8_750,
    ) -> str:
        """Record a completion and return its id."""
        new = NewCompletion(
            user_id,
            course,
            attempt,
            completed_at,
            score,
            5_400,
            (ChapterRecord("c1", 10_000, 5_400, True),),
        )
        async with self.db.write() as tx:
            [recorded] = await self.completions.record(tx, [new])
        return recorded.id

    async def step(self, completion_id: str) -> StepState:
        """Return the credential step of a completion."""
        async with self.db.read() as tx:
            steps = await self.completions.list_steps(tx, [completion_id])
        return steps[completion_id][0]

    async def issue(self, user_id: str = "ada", attempt: int = 1, **course: Any) -> Credential:
        """Complete the course, run the job and return the credential."""
        id = await self.complete(await self.publish(**course), user_id, attempt)
        await self.kernel.run_jobs()
        async with self.db.read() as tx:
            return (await self.credentials.list_by_completions(tx, [id]))[id]


@asynccontextmanager
async def badge_school(db: Database, **options: Any) -> AsyncIterator[BadgeSchool]:
    """Build the packages with this installation as the issuer."""
    profile = options.pop("profile", PROFILE)
    directory = options.pop("directory", None) or BuiltInLearnerDirectory(db)
    notifications: Notifications | None = options.pop("notifications", None)
    tells_learners = options.pop("tells_learners", True)
    issuer = OpenBadgeIssuer(db, profile, **options)
    messages = (
        None
        if notifications is None
        else LearnerMessages(db, notifications, directory, is_enabled=tells_learners)
    )
    credentials = Credentials(
        db,
        issuer=None,
        badges=issuer,
        directory=directory,
        assessment=CourseScoreLookup(),
        messages=messages,
    )
    completions = Completions()
    kernel = Kernel(db)
    achievements = Achievements(db, completions)
    achievements.register(kernel.registry)
    AwardSigner(db, achievements, issuer, directory).register(kernel.registry)
    async with open_partner_client() as partner_client:
        step = CredentialStep(
            StepContext(
                db,
                partner_client,
                profile.base_url,
                directory,
                parts={Completions: completions, Credentials: credentials},
            )
        )
    completions.declare([step.declaration()])
    completions.register(kernel.registry, step)
    if notifications is not None and messages is not None:
        messages.register(kernel.registry, completions)
        notifications.register(kernel.registry)
    async with db.write() as tx:
        await people.put(tx, Person("ada", "Ada@Example.org", "Ada", "Ọkáfọ̀r"))
    pages = CredentialPages(db, issuer, CertificateStyle(signatory="Head of School"))
    async with client(
        badge_routes.router(db, AUTH, issuer),
        page_router(db, pages),
        credential_routes.router(db, AUTH, credentials, completions, achievements),
        achievement_routes.router(db, AUTH, achievements),
    ) as http:
        yield BadgeSchool(db, issuer, credentials, completions, kernel, http, pages, achievements)
    await issuer.close()
