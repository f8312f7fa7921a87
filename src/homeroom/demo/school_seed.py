"""A school to look at, made in an empty database by the application's services.

Nothing is written but by the services that serve HTTP requests, so that completions, steps and jobs
come to be as they do. The jobs wait until a server or worker runs.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any

import msgspec

from homeroom.bootstrap.application import Application
from homeroom.cancellation import cancel_and_wait
from homeroom.clock import Clock
from homeroom.demo.example_school import (
    FACILITATORS,
    MANAGER,
    MANAGER_NAME,
    example_courses,
    example_curriculum,
    staff_member,
)
from homeroom.demo.programme_seed import FACILITATORS_PER_PROGRAMME, add_programmes
from homeroom.demo.workload import (
    LATER_CHAPTER,
    WORKLOAD_SPAN,
    Outline,
    PlannedLearner,
    generate_learners,
)
from homeroom.instant import to_datetime
from homeroom.people import api as people
from homeroom.people.api import Person
from homeroom.progress.api import EventSender, ingest_events, read_body
from homeroom.sandbox.directory_and_assessment import generated_person

SIZES = {"small": 60, "large": 5_000}
"""Learners of a school by size."""
_ACTOR = "seed"
_CHUNK = 250
"""Learners that are stored in one transaction."""
_CONCURRENCY = 64
"""Learners whose requests are ingested at once, so that a commit takes many."""
_LEARNERS_PER_TEAM = 25
_LEARNERS_PER_FACILITATOR = 50
_GRADER = EventSender(person=None, trusted=True, may_manage=True)


@dataclass(frozen=True, slots=True)
class SeedOptions:
    """The size of a school, and the seed of all that is drawn."""

    learners: int
    seed: int = 1


@dataclass(frozen=True, slots=True)
class SeedSummary:
    """The numbers of what was made."""

    courses: int
    learners: int
    managers: int
    facilitators: int
    programmes: int
    logs: int
    enrolments: int
    events: int
    """Events that count; players repeat some, and send some faulty ones."""
    completions: int
    credentials: int
    """Credentials that jobs will issue."""
    jobs: int
    """Jobs that wait for a worker, those of the credentials included."""
    plan_id: str


async def seed_school(application: Application, options: SeedOptions) -> SeedSummary:
    """Fill the application's database, which must be empty.

    The same seed gives the same people and events; six weeks of them end now.
    """
    clock, courses = application.db.clock, example_courses()
    now = to_datetime(clock.now()).replace(microsecond=0) - timedelta(seconds=1)
    school = _School(application, options, courses)
    with _six_weeks_ago(clock):
        await school.publish_courses()
        staff = await school.add_staff()
    # Part by part: the events of a large school would take half a gigabyte.
    learners = generate_learners(courses, learners=options.learners, seed=options.seed, now=now)
    async with _running_ingest(application):
        while part := list(islice(learners, _CHUNK)):
            with _six_weeks_ago(clock):  # learners were enrolled before their first event
                await school.add_learners(part, staff.managers)
                await school.enrol(part)
            await school.ingest(part)
    await school.publish_later_chapter()
    programmes, logs = await add_programmes(application, staff.facilitators)
    plan_id = await school.start_lesson_plan()
    counts = await school.count("completion", "enrolment", "job")
    return SeedSummary(
        courses=len(courses),
        learners=options.learners,
        managers=len(staff.managers),
        facilitators=len(staff.facilitators),
        programmes=programmes,
        logs=logs,
        enrolments=counts["enrolment"],
        events=school.events["accepted"] + school.events["quarantined"],
        completions=counts["completion"],
        credentials=await school.count_credentials(),
        jobs=counts["job"],
        plan_id=plan_id,
    )


@contextmanager
def _six_weeks_ago(clock: Clock) -> Iterator[None]:
    clock.advance(-WORKLOAD_SPAN)
    try:
        yield
    finally:
        clock.advance(WORKLOAD_SPAN)


@asynccontextmanager
async def _running_ingest(application: Application) -> AsyncIterator[None]:
    """Commit events until the end of the block, as a server does."""
    writing = asyncio.create_task(application.ingest.run())
    try:
        yield
        application.ingest.close()
        await writing
    finally:
        await cancel_and_wait(writing)


@dataclass(frozen=True, slots=True)
class _Staff:
    managers: Sequence[str]
    facilitators: Sequence[str]


class _School:
    """The parts of a school, each through the service that owns it."""

    def __init__(
        self, application: Application, options: SeedOptions, courses: Sequence[Outline]
    ) -> None:
        self._application, self._db = application, application.db
        self._options, self._courses = options, courses
        self._learner_count = 0
        self.events: Counter[str] = Counter()
        """Ingested events by status."""

    async def publish_courses(self) -> None:
        """Publish the example courses."""
        async with self._db.write() as tx:
            for course in self._courses:
                await self._application.catalogue.publish(tx, course.id, course.document)

    async def add_staff(self) -> _Staff:
        """Store managers and facilitators in numbers that fit the learners."""
        learners = self._options.learners
        managers = {MANAGER: staff_member(MANAGER, MANAGER_NAME)}
        for number in range(2, max(1, learners // _LEARNERS_PER_TEAM) + 1):
            managers[f"manager-{number}"] = self._generated(f"manager-{number}")
        bosses = list(managers)
        facilitators = {
            user_id: staff_member(user_id, name, MANAGER) for user_id, name in FACILITATORS.items()
        }
        for number in range(len(FACILITATORS) + 1, learners // _LEARNERS_PER_FACILITATOR + 1):
            user_id, programme = f"facilitator-{number}", number // FACILITATORS_PER_PROGRAMME
            boss = {"managerId": bosses[programme % len(bosses)]}
            facilitators[user_id] = self._generated(user_id) | boss
        await self._put_people({**managers, **facilitators})
        return _Staff(bosses, list(facilitators))

    async def add_learners(
        self, learners: Sequence[PlannedLearner], managers: Sequence[str]
    ) -> None:
        """Store learners, each in the team of a manager."""
        bodies = {}
        for learner in learners:
            team = self._learner_count // _LEARNERS_PER_TEAM
            boss = {"managerId": managers[team % len(managers)]}
            bodies[learner.user_id] = self._generated(learner.user_id) | boss
            self._learner_count += 1
        await self._put_people(bodies)

    def _generated(self, user_id: str) -> dict[str, Any]:
        return generated_person(self._options.seed, user_id)

    async def _put_people(self, bodies: Mapping[str, Mapping[str, Any]]) -> None:
        async with self._db.write() as tx:
            for user_id, body in bodies.items():
                person = Person(
                    user_id,
                    body["email"],
                    body["givenName"],
                    body["familyName"],
                    body["locale"],
                    body["timeZone"],
                    body.get("managerId"),
                )
                await people.put(tx, person)

    async def enrol(self, learners: Sequence[PlannedLearner]) -> None:
        """Enrol learners in their courses."""
        async with self._db.write() as tx:
            for learner in learners:
                for course_id in learner.courses:
                    await self._application.catalogue.enrol(tx, course_id, learner.user_id)

    async def ingest(self, learners: Sequence[PlannedLearner]) -> None:
        """Ingest the requests of learners, those of each in their order."""
        remaining = iter(learners)

        async def play() -> None:
            for learner in remaining:  # shared by all tasks: each takes the next
                await self._play(learner)

        async with asyncio.TaskGroup() as group:
            for _ in range(_CONCURRENCY):
                group.create_task(play())

    async def _play(self, learner: PlannedLearner) -> None:
        player = EventSender(person=learner.user_id, trusted=False, may_manage=False)
        for request in learner.track:
            sender = _GRADER if request.sender == "grader" else player
            body = msgspec.json.encode({"events": request.events})
            decoded = read_body(body, sender, self._db.clock.now())
            ingest = self._application.ingest
            counts, _ = await ingest_events(ingest, decoded.events, decoded.priority)
            self.events.update(counts)

    async def publish_later_chapter(self) -> None:
        """Publish the chapter for which events are held; a job replays them."""
        course = max(self._courses, key=lambda each: len(each.lessons))
        later = course.with_chapter(LATER_CHAPTER, "Added later: what graduates do with it")
        async with self._db.write() as tx:
            await self._application.catalogue.publish(tx, course.id, later)

    async def start_lesson_plan(self) -> str:
        """Store the example curriculum and start its generation; return the plan's id."""
        plans = self._application.plans
        async with self._db.write() as tx:
            plan_id = await plans.create(tx, example_curriculum(), _ACTOR)
        await plans.start(plan_id, _ACTOR)
        return plan_id

    async def count_credentials(self) -> int:
        """Return the number of credentials that wait for their job."""
        async with self._db.read() as tx:
            rows = await tx.fetch(
                "SELECT COUNT(*) FROM completion_step"
                " WHERE name = 'credential' AND status = 'waiting'"
            )
        return int(rows[0][0])

    async def count(self, *tables: str) -> dict[str, int]:
        """Return the number of rows of tables."""
        async with self._db.read() as tx:
            return {
                table: (await tx.fetch(f"SELECT COUNT(*) FROM {table}"))[0][0]  # noqa: S608
                for table in tables
            }
