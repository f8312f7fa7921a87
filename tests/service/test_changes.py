"""The feed of changes and ``since``: nothing that commits late is passed over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, ClassVar

import httpx
import pytest
from tests.support.api_client import AUTH, as_, client
from tests.support.kernel import Kernel

from homeroom.bootstrap.personal_data import PERSONAL_DATA
from homeroom.catalogue import api as catalogue
from homeroom.catalogue import routes as catalogue_routes
from homeroom.catalogue.api import Catalogue, Course, Enrolment
from homeroom.changes import routes as change_routes
from homeroom.changes import store
from homeroom.changes.api import ChangeFeed
from homeroom.changes.jobs import PruneChanges, PruneChangesHandler
from homeroom.changes.position import Position, decode_cursor, encode_cursor
from homeroom.clock import Clock
from homeroom.completion import recording, routes
from homeroom.completion.api import (
    ChapterRecord,
    Completion,
    Completions,
    CompletionStep,
    NewCompletion,
    StepArgs,
)
from homeroom.credentials.api import Credential
from homeroom.credentials.routes import change_records as credential_records
from homeroom.credentials.store import add as add_credential
from homeroom.credentials.store import list_issued_by_ids, set_issued, set_revoked
from homeroom.db.database import Database
from homeroom.db.postgres.database import PostgresDatabase
from homeroom.db.tx import Tx, render_sql
from homeroom.jobs.job import JobState

pytestmark = pytest.mark.anyio
CHAPTERS = (ChapterRecord("a", 10_000, 60, True),)
VIEWER = as_("viewer")
CHANGES, COMPLETIONS = "/api/v1/changes", "/api/v1/completions"


class Step(StepArgs, frozen=True, kw_only=True):
    kind: ClassVar[str] = "follow.test"
    queue: ClassVar[str] = "follow"


class IssuedCredentials:
    """Loads credentials as the package does, without its partners."""

    async def list_issued_by_ids(self, tx: Tx, ids: list[str]) -> list[Credential]:
        return await list_issued_by_ids(tx, ids)


@pytest.fixture
def completions() -> Completions:
    return Completions([CompletionStep("follow", lambda id: Step(completion_id=id))])


@pytest.fixture
async def course(db: Database) -> Course:
    body = {"title": "Fire", "units": [{"id": "u", "title": "U", "chapters": [
        {"id": "a", "title": "A"}]}]}  # fmt: skip
    async with db.write() as tx:
        return (await Catalogue().publish(tx, "fire/1", body)).course


@pytest.fixture
async def http(db: Database, completions: Completions) -> AsyncIterator[httpx.AsyncClient]:
    credentials: Any = IssuedCredentials()
    feed = ChangeFeed(
        db,
        {
            **routes.change_records(completions),
            **credential_records(credentials),
            **catalogue_routes.change_records(),
        },
    )
    lists, changes = routes.router(db, AUTH, completions), change_routes.router(AUTH, feed)
    async with client(lists, changes) as opened:
        opened.headers.update(VIEWER)
        yield opened


async def record(
    tx: Tx, completions: Completions, course: Course, user: str, attempt: int = 1
) -> Completion:
    await catalogue.add_enrolments(
        tx, [Enrolment(user, course.id, attempt, 1, "in_progress", tx.now, 0)]
    )
    new = NewCompletion(user, course, attempt, tx.now, 0, 60, CHAPTERS)
    [completion] = await completions.record(tx, [new])
    return completion


async def get(http: httpx.AsyncClient, path: str = CHANGES, **query: Any) -> dict[str, Any]:
    answer = await http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def problem(http: httpx.AsyncClient, path: str = CHANGES, **query: Any) -> dict[str, Any]:
    answer = await http.get(path, params=query)
    found: dict[str, Any] = answer.json()
    assert answer.status_code == found["status"] >= 400
    return found


class Poller:
    """A consumer that keeps its cursor, and what it has seen of one kind."""

    def __init__(self, http: httpx.AsyncClient, **query: Any) -> None:
        self.http, self.query = http, query
        self.cursor: str | None = None

    async def poll(self) -> list[str]:
        """Return the learners of new completions, in the order of the feed."""
        seen: list[str] = []
        while True:
            cursor = {} if self.cursor is None else {"cursor": self.cursor}
            page = await get(self.http, kinds="completions", **cursor, **self.query)
            self.cursor = page["nextCursor"]
            seen += [item["data"]["userId"] for item in page["items"]]
            if not page["hasMore"]:
                return seen


async def poll_since(http: httpx.AsyncClient, seen: set[str], newest: str | None) -> str | None:
    """Add the learners that are listed since a time; return the newest ``recordedAt``."""
    page = await get(http, COMPLETIONS, since=newest or "2000-01-01T00:00:00Z")
    seen.update(item["userId"] for item in page["items"])
    times = [str(each["recordedAt"]) for each in page["items"]]
    return max(times if newest is None else [*times, newest])


async def test_each_kind_comes_with_its_present_data(
    db: Database, completions: Completions, course: Course, http: httpx.AsyncClient
) -> None:
    async with db.write() as tx:
        completion = await record(tx, completions, course, "ada")
    page = await get(http)
    by_kind = {item["kind"]: item for item in page["items"]}
    assert len(page["items"]) == len(by_kind) == 3
    assert page["hasMore"] is False
    assert by_kind["completions"]["id"] == completion.id
    assert by_kind["completions"]["data"]["userId"] == "ada"
    assert by_kind["steps"]["id"] == f"{completion.id}/follow"
    step = by_kind["steps"]["data"]
    assert (step["status"], step["courseId"], step["userId"]) == ("waiting", "fire/1", "ada")
    assert by_kind["enrolments"]["id"] == "fire%2F1/ada/1"
    assert by_kind["enrolments"]["data"]["status"] == "completed"
    assert (await get(http, cursor=page["nextCursor"]))["items"] == []
    only = await get(http, kinds="steps,enrolments")
    assert {item["kind"] for item in only["items"]} == {"steps", "enrolments"}
    assert (await get(http, cursor="now"))["items"] == []
    assert (await problem(http, kinds="steps,lessons"))["status"] == 422


async def test_a_credential_comes_when_it_is_issued_and_when_it_is_revoked(
    db: Database, completions: Completions, course: Course, http: httpx.AsyncClient
) -> None:
    async with db.write() as tx:
        completion = await record(tx, completions, course, "ada")
        new = Credential(
            id="c1", completion_id=completion.id, user_id="ada", course_id=course.id, attempt=1,
            issuer="credly", template_id="t", state="issuing", external_id=None, url=None,
            score=None, issued_at=1, expires_at=None, created_at=1, issuer_state=None,
            issuer_state_at=None, revoked_at=None, revocation_reason=None, superseded_by=None,
        )  # fmt: skip
        await add_credential(tx, new)
    page = await get(http, kinds="credentials")
    assert page["items"] == []
    states = []
    for change in (
        lambda tx: set_issued(tx, "c1", "badge", None, "accepted"),
        lambda tx: set_revoked(tx, "c1", 5, "error"),
    ):
        async with db.write() as tx:
            await change(tx)
        page = await get(http, kinds="credentials", cursor=page["nextCursor"])
        states += [item["data"]["state"] for item in page["items"]]
    assert states == ["issued", "revoked"]


async def test_pages_end_where_the_next_ones_begin(
    db: Database,
    completions: Completions,
    course: Course,
    http: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "SCANNED_ROWS", 5)  # the kinds between are skipped by steps of five
    users = [f"u{number:02}" for number in range(10)]
    for user in users:
        async with db.write() as tx:
            await record(tx, completions, course, user)
    assert await Poller(http, limit=3).poll() == users
    assert await Poller(http, limit=1).poll() == users
    cursor = None
    seen: list[str] = []
    while True:
        page = await get(http, limit=7, **({"cursor": cursor} if cursor else {}))
        cursor, seen = page["nextCursor"], seen + [item["id"] for item in page["items"]]
        if not page["hasMore"]:
            break
    assert len(seen) == len(set(seen)) == 30


async def test_a_later_attempt_shows_the_earlier_completion_as_superseded(
    db: Database, completions: Completions, course: Course, http: httpx.AsyncClient
) -> None:
    async with db.write() as tx:
        first = await record(tx, completions, course, "ada")
    page = await get(http, kinds="completions")
    async with db.write() as tx:
        second = await record(tx, completions, course, "ada", attempt=2)
    page = await get(http, kinds="completions", cursor=page["nextCursor"])
    by_id = {item["id"]: item["data"]["supersededBy"] for item in page["items"]}
    assert by_id == {first.id: second.id, second.id: None}


async def test_a_rolled_back_transaction_leaves_no_change(
    db: Database, completions: Completions, course: Course, http: httpx.AsyncClient
) -> None:
    async def fail() -> None:
        async with db.write() as tx:
            await record(tx, completions, course, "ada")
            raise RuntimeError("rolled back")

    with pytest.raises(RuntimeError, match="rolled back"):
        await fail()
    assert (await get(http))["items"] == []


async def test_what_is_written_while_others_commit_is_seen(
    db: Database,
    completions: Completions,
    course: Course,
    http: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hold one transaction open that began first, and commit it last."""
    monkeypatch.setattr(recording, "MAX_WAIT_SECONDS", 0.2)
    poller, seen, newest = Poller(http), set[str](), None
    async with db.write() as tx:
        await record(tx, completions, course, "before")
    assert await poller.poll() == ["before"]
    newest = await poll_since(http, seen, newest)
    async with db.write() as late:
        await record(late, completions, course, "late")
        if db.dialect == "postgresql":
            async with db.write() as tx:
                await record(tx, completions, course, "quick")
            # The later transaction is committed and visible, but must not be shown yet.
            assert await poller.poll() == []
            refused = await problem(http, COMPLETIONS, since=newest)
            assert (refused["status"], "/api/v1/changes" in refused["hint"]) == (503, True)
        else:
            assert await poller.poll() == []
            newest = await poll_since(http, seen, newest)
    if db.dialect != "postgresql":
        async with db.write() as tx:
            await record(tx, completions, course, "quick")
    assert await poller.poll() == ["late", "quick"]
    await poll_since(http, seen, newest)
    assert seen == {"before", "late", "quick"}


async def test_what_is_recorded_later_is_stamped_later(
    postgresql: PostgresDatabase, clock: Clock, completions: Completions
) -> None:
    """The transaction that began first has not recorded yet when the poller reads."""
    db = postgresql
    chapters = [{"id": "a", "title": "A"}]
    body = {"title": "Fire", "units": [{"id": "u", "title": "U", "chapters": chapters}]}
    async with db.write() as tx:
        course = (await Catalogue().publish(tx, "fire", body)).course
    async with client(routes.router(db, AUTH, completions)) as http:
        http.headers.update(VIEWER)
        seen, newest = set[str](), None
        async with db.write() as late:
            await late.fetch("SELECT 1")
            async with db.write() as tx:
                await record(tx, completions, course, "quick")
            newest = await poll_since(http, seen, newest)
            assert seen == {"quick"}
            await record(late, completions, course, "late")
        assert await poll_since(http, seen, newest) != newest
        assert seen == {"quick", "late"}


async def test_a_clock_that_goes_back_hides_nothing_from_since(
    db: Database, clock: Clock, completions: Completions, course: Course, http: httpx.AsyncClient
) -> None:
    seen, newest = set[str](), None
    for user, moved in (("ada", timedelta(hours=2)), ("bob", -timedelta(hours=3))):
        clock.advance(moved)
        async with db.write() as tx:
            await record(tx, completions, course, user)
        newest = await poll_since(http, seen, newest)
    assert seen == {"ada", "bob"}


async def test_a_cursor_of_another_epoch_is_gone(
    db: Database, completions: Completions, course: Course, http: httpx.AsyncClient
) -> None:
    async with db.write() as tx:
        await record(tx, completions, course, "ada")
    poller = Poller(http)
    assert await poller.poll() == ["ada"]
    async with db.write() as tx:
        _, sql = store.END_EPOCH
        await tx.execute(sql)
    gone = await problem(http, cursor=poller.cursor)
    assert (gone["status"], gone["code"], gone["reason"]) == (410, "cursor_gone", "other_epoch")
    assert "cursor=now" in gone["hint"]
    async with db.write() as tx:
        await record(tx, completions, course, "bob")
    poller.cursor = None
    assert await poller.poll() == ["bob"]  # what the data held before is read from the lists


async def test_a_pruned_cursor_is_gone_and_a_current_one_is_not(
    db: Database, clock: Clock, completions: Completions, course: Course, http: httpx.AsyncClient
) -> None:
    poller = Poller(http)
    await poller.poll()
    old = poller.cursor
    async with db.write() as tx:
        await record(tx, completions, course, "ada")
    await poller.poll()
    clock.advance(timedelta(days=31))
    async with db.write() as tx:
        await record(tx, completions, course, "bob")
    async with db.write() as tx:
        before = tx.now - 30 * 86_400 * 1_000_000
        assert await store.prune(tx, before, 1_000) == 3
        assert await store.prune(tx, before, 1_000) == 0
    gone = await problem(http, cursor=old)
    assert (gone["status"], gone["reason"]) == (410, "pruned")
    assert await poller.poll() == ["bob"]
    assert await Poller(http).poll() == ["bob"]


async def test_a_cursor_ahead_of_the_database_is_gone(
    db: Database, completions: Completions, course: Course, http: httpx.AsyncClient
) -> None:
    """The file or the server was set back outside of Homeroom."""
    async with db.write() as tx:
        await record(tx, completions, course, "ada")
    ahead = Position(2**60 if db.dialect == "postgresql" else 0, 2**60)
    epoch = (await get(http, cursor="now"))["nextCursor"]
    text = moved_cursor(epoch, ahead)
    gone = await problem(http, cursor=text)
    assert (gone["status"], gone["reason"]) == (410, "ahead")
    assert (await problem(http, cursor="bm90IGEgY3Vyc29y"))["status"] == 422


def moved_cursor(given: str, position: Position) -> str:
    epoch, _ = decode_cursor(given)
    return encode_cursor(epoch, position)


async def test_changes_of_an_erased_person_are_removed(
    db: Database, completions: Completions, course: Course, http: httpx.AsyncClient
) -> None:
    for user in ("ada", "bob"):
        async with db.write() as tx:
            await record(tx, completions, course, user)
    await PERSONAL_DATA.erase(db, "ada", "admin")
    assert await Poller(http).poll() == ["bob"]
    async with db.read() as tx:
        assert await tx.fetch("SELECT DISTINCT user_id FROM change") == [("bob",)]


async def test_learners_and_managers_may_not_follow_all(http: httpx.AsyncClient) -> None:
    for role, status in {"learner:ada": 403, "manager": 403, "service": 200, "admin": 200}.items():
        answer = await http.get(CHANGES, headers=as_(role))
        assert answer.status_code == status, role


async def test_a_poll_reads_no_earlier_changes(
    db: Database, completions: Completions, course: Course, http: httpx.AsyncClient
) -> None:
    """The plan of the database searches by the position, so that a poll costs what is new."""
    async with db.write() as tx:
        await tx.executemany(
            "INSERT INTO change (kind, record_id, user_id, at) VALUES (?, ?, ?, ?)",
            [("completions", f"c{number}", "ada", 1) for number in range(5_000)],
        )
        if db.dialect == "postgresql":
            await tx.execute("ANALYZE change")
    await get(http)
    async with db.read() as tx:
        state, horizon = await store.get_state(tx), await store.fetch_horizon(tx)
        assert state is not None
        after = horizon.end if db.dialect == "postgresql" else Position(0, horizon.end.seq - 1)
        statement = store._select_after(tx, state, after, horizon).limit(10)
        sql, values = render_sql(statement, (), db.dialect)
        explain = "EXPLAIN" if db.dialect == "postgresql" else "EXPLAIN QUERY PLAN"
        plan = str(await tx.fetch(f"{explain} {sql}", values))
    assert ("ROW(xid, seq) > ROW" if db.dialect == "postgresql" else "rowid>?") in plan


async def test_the_job_prunes_what_is_older_than_the_retention(
    db: Database, clock: Clock, completions: Completions, course: Course, http: httpx.AsyncClient
) -> None:
    async with db.write() as tx:
        await record(tx, completions, course, "ada")
    clock.advance(timedelta(days=2))
    async with db.write() as tx:
        await record(tx, completions, course, "bob")
    kernel = Kernel(db)
    PruneChangesHandler(db, timedelta(days=1)).register(kernel.registry)
    id = await kernel.add(PruneChanges())
    async with kernel.worker():
        job = await kernel.wait_for_state(id, JobState.COMPLETED)
    assert job.result == {"dropped": 3}
    assert await Poller(http).poll() == ["bob"]
