"""The common way: FastAPI, pydantic models and ORM sessions; select, then update, for each event.

Written as a competent developer would before measuring: one session and one commit a request, the
event's id as primary key, the same fields as Homeroom stores. A request checks its API key against
a table, and the course is rolled up once, from its chapters. SQLite runs with WAL and
`synchronous=FULL`; on PostgreSQL, by psycopg, the requests for one learner wait for one another.
"""

import argparse
import hashlib
import random
import time
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Header, HTTPException
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    Engine,
    create_engine,
    event,
    func,
    insert,
    inspect,
    make_url,
    select,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

BLOCK = 50_000


class Base(DeclarativeBase):
    """The tables."""


class ApiKey(Base):
    """Who may send."""

    __tablename__ = "api_key"
    digest: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]


class ProgressEvent(Base):
    """The ledger: every event, by its id."""

    __tablename__ = "progress_event"
    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str]
    course_id: Mapped[str]
    chapter_id: Mapped[str | None]
    event_type: Mapped[str]
    progress: Mapped[int | None]
    time_spent: Mapped[int]
    occurred_at: Mapped[int] = mapped_column(BigInteger)
    received_at: Mapped[int] = mapped_column(BigInteger)
    course_version: Mapped[int] = mapped_column(default=1)
    attempt: Mapped[int] = mapped_column(default=1)
    body_hash: Mapped[bytes]
    event_metadata: Mapped[dict[str, Any] | None] = mapped_column(JSON)


class ChapterProgress(Base):
    """How far a learner is in a chapter."""

    __tablename__ = "chapter_progress"
    user_id: Mapped[str] = mapped_column(primary_key=True)
    course_id: Mapped[str] = mapped_column(primary_key=True)
    chapter_id: Mapped[str] = mapped_column(primary_key=True)
    progress: Mapped[int] = mapped_column(default=0)
    time_spent: Mapped[int] = mapped_column(default=0)
    completed: Mapped[bool] = mapped_column(default=False)
    last_watched_at: Mapped[int] = mapped_column(BigInteger)


class CourseProgress(Base):
    """How far a learner is in a course."""

    __tablename__ = "course_progress"
    user_id: Mapped[str] = mapped_column(primary_key=True)
    course_id: Mapped[str] = mapped_column(primary_key=True)
    progress: Mapped[int] = mapped_column(default=0)
    time_spent: Mapped[int] = mapped_column(default=0)
    last_activity_at: Mapped[int] = mapped_column(BigInteger)


class Wire(BaseModel):
    """What all of the wire shares: camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class EventIn(Wire):
    """One event."""

    id: str = Field(min_length=1, max_length=128)
    user_id: str = Field(min_length=1, max_length=128)
    course_id: str = Field(min_length=1, max_length=128)
    chapter_id: str | None = Field(default=None, max_length=128)
    event_type: str
    progress: float | None = Field(default=None, ge=0, le=100)
    time_spent: int = Field(default=0, ge=0, le=86_400)
    timestamp: AwareDatetime
    metadata: dict[str, Any] | None = None


class BodyIn(Wire):
    """A request's body."""

    events: list[EventIn] = Field(min_length=1, max_length=1_000)


class Result(Wire):
    """What became of an event that was not plainly accepted."""

    id: str
    status: str


class Answer(Wire):
    """What became of the body."""

    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    quarantined: int = 0
    rejected: int = 0
    results: list[Result] = []


def now_us() -> int:
    """Return the time in microseconds."""
    return time.time_ns() // 1_000


def body_hash(one: EventIn) -> bytes:
    """Return what tells a repeat from a conflict."""
    return hashlib.sha256(one.model_dump_json().encode()).digest()


def store(session: Session, one: EventIn) -> str:
    """Add one event to the ledger and to its chapter; return what became of it."""
    digest = body_hash(one)
    known = session.get(ProgressEvent, one.id)
    if known is not None:
        return "duplicate" if known.body_hash == digest else "conflict"
    occurred, progress = round(one.timestamp.timestamp() * 1_000_000), one.progress
    basis_points = None if progress is None else round(progress * 100)
    session.add(
        ProgressEvent(
            id=one.id,
            user_id=one.user_id,
            course_id=one.course_id,
            chapter_id=one.chapter_id,
            event_type=one.event_type,
            progress=basis_points,
            time_spent=one.time_spent,
            occurred_at=occurred,
            received_at=now_us(),
            body_hash=digest,
            event_metadata=one.metadata,
        )
    )
    if one.chapter_id is None:
        return "accepted"
    chapter = session.get(ChapterProgress, (one.user_id, one.course_id, one.chapter_id))
    if chapter is None:
        chapter = ChapterProgress(
            user_id=one.user_id,
            course_id=one.course_id,
            chapter_id=one.chapter_id,
            progress=0,
            time_spent=0,
            last_watched_at=occurred,
        )
        session.add(chapter)
    chapter.progress = max(chapter.progress, basis_points or 0)
    chapter.completed = chapter.progress >= 10_000
    chapter.time_spent += one.time_spent
    chapter.last_watched_at = max(chapter.last_watched_at, occurred)
    return "accepted"


def roll_up(session: Session, user_id: str, course_id: str) -> None:
    """Work a learner's course out from its chapters."""
    session.flush()
    mean, spent, last = session.execute(
        select(
            func.avg(ChapterProgress.progress),
            func.sum(ChapterProgress.time_spent),
            func.max(ChapterProgress.last_watched_at),
        ).where(ChapterProgress.user_id == user_id, ChapterProgress.course_id == course_id)
    ).one()
    if last is None:
        return
    course = session.get(CourseProgress, (user_id, course_id))
    if course is None:
        course = CourseProgress(user_id=user_id, course_id=course_id)
        session.add(course)
    course.progress, course.time_spent, course.last_activity_at = int(mean), spent, last


def hold(session: Session, learners: Iterable[str]) -> None:
    """Make other requests for these learners wait: they would read what this one changes.

    On SQLite one transaction writes, and the others wait for it as it is.
    """
    if session.get_bind().dialect.name == "postgresql":
        for learner in sorted(learners):
            session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(learner, 0))))


def open_engine(database: str, pool: str = "default") -> Engine:
    """Open the database at a URL with SQLAlchemy's ``default`` pool, or with ``one`` connection.

    With a pool of several, each with a busy time-out, SQLite lets writers sleep and starve.
    """
    limits: dict[str, Any] = {}
    if pool == "one":
        limits = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 60}
    url = make_url(database)
    if url.get_backend_name() == "postgresql":
        return create_engine(url.set(drivername="postgresql+psycopg"), **limits)
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": 30}, **limits)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def prefill(engine: Engine, learners: int, chapters: int, events: int) -> None:
    """Fill the tables: every learner in every chapter of `course-000`, and random ids."""
    draw, at = random.Random(7), now_us()

    def progress_rows() -> Iterator[dict[str, Any]]:
        for learner in range(learners):
            for chapter in range(chapters):
                yield {
                    "user_id": f"learner-{learner:06d}",
                    "course_id": "course-000",
                    "chapter_id": f"chapter-{chapter:03d}",
                    "progress": draw.randrange(10_000),
                    "time_spent": draw.randrange(3_600),
                    "completed": False,
                    "last_watched_at": at,
                }

    def event_rows() -> Iterator[dict[str, Any]]:
        for _ in range(events):
            yield {
                "id": str(uuid.UUID(bytes=draw.randbytes(16), version=4)),
                "user_id": f"learner-{draw.randrange(max(learners, 1)):06d}",
                "course_id": "course-000",
                "chapter_id": f"chapter-{draw.randrange(max(chapters, 1)):03d}",
                "event_type": "chapter_progress",
                "progress": draw.randrange(10_000),
                "time_spent": draw.randrange(60),
                "occurred_at": at,
                "received_at": at,
                "body_hash": draw.randbytes(32),
                "course_version": 1,
                "attempt": 1,
            }

    with engine.begin() as connection:
        for table, rows in ((ChapterProgress, progress_rows()), (ProgressEvent, event_rows())):
            block = []
            for row in rows:
                block.append(row)
                if len(block) == BLOCK:
                    connection.execute(insert(table), block)
                    block = []
            if block:
                connection.execute(insert(table), block)


def build(engine: Engine) -> FastAPI:
    """Build the application."""
    app = FastAPI(title="Naive progress")

    @app.post("/api/progress/enhanced-update")
    def update(body: BodyIn, authorization: Annotated[str, Header()] = "") -> Answer:
        digest = hashlib.sha256(authorization.removeprefix("Bearer ").encode()).hexdigest()
        answer = Answer()
        # Opened here and not by a dependency: FastAPI closes those on a thread of the pool in which
        # all others wait for this very session, and the server stands still.
        with Session(engine) as session, session.begin():
            if session.get(ApiKey, digest) is None:
                raise HTTPException(401, "unknown API key")
            hold(session, {one.user_id for one in body.events})
            for one in body.events:
                status = store(session, one)
                setattr(answer, status, getattr(answer, status) + 1)
                if status != "accepted":
                    answer.results.append(Result(id=one.id, status=status))
            for user_id, course_id in {(one.user_id, one.course_id) for one in body.events}:
                roll_up(session, user_id, course_id)
        return answer

    @app.get("/sums")
    def sums() -> dict[str, int]:
        """Return what is stored, for checking it against what was acknowledged."""
        with Session(engine) as session:
            events = session.scalar(select(func.count()).select_from(ProgressEvent)) or 0
            spent = session.scalar(select(func.sum(ChapterProgress.time_spent))) or 0
        return {"events": events, "timeSpent": spent}

    return app


def main() -> None:
    """Fill a database of its own and serve it on loopback until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--port", type=int, default=8431)
    parser.add_argument("--database", required=True, help="SQLAlchemy's URL of it")
    parser.add_argument("--pool", choices=("default", "one"), default="default")
    parser.add_argument("--key", default="hr_bench")
    parser.add_argument("--learners", type=int, default=10_000)
    parser.add_argument("--chapters", type=int, default=50)
    parser.add_argument("--events", type=int, default=1_000_000)
    options = parser.parse_args()
    engine = open_engine(options.database, options.pool)
    if not inspect(engine).has_table(ApiKey.__tablename__):
        Base.metadata.create_all(engine)
        with Session(engine) as session, session.begin():
            digest = hashlib.sha256(options.key.encode()).hexdigest()
            session.add(ApiKey(digest=digest, role="service"))
        started = datetime.now(UTC)
        prefill(engine, options.learners, options.chapters, options.events)
        print(f"prefilled in {(datetime.now(UTC) - started).total_seconds():.0f} s", flush=True)
    uvicorn.run(
        build(engine),
        host="127.0.0.1",
        port=options.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
