"""Personal data is exported, and erased everywhere, after a restore too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from sqlalchemy import String, Table, insert, select
from tests.support.api_client import AUTH, as_, client
from tests.support.database import database_at, url_of
from tests.support.populated_school import play

from homeroom.backup import backup_and_restore
from homeroom.bootstrap import database_commands
from homeroom.bootstrap.personal_data import PERSONAL_DATA
from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Course
from homeroom.completion.api import Completion, Completions, StepContext
from homeroom.credentials.credly import CredlyIssuer
from homeroom.credentials.jobs import IssueCredential, IssueCredentialHandler
from homeroom.credentials.learner_lookup import CourseScoreLookup, LearnerRecord
from homeroom.db.database import Database
from homeroom.db.ids import natural_id
from homeroom.db.tables import metadata
from homeroom.dispatch.api import MessageKey, MessageStep
from homeroom.dispatch.jobs import SendAnalytics
from homeroom.errors import NotFound
from homeroom.jobs.outcome import Fail
from homeroom.people import routes
from homeroom.settings import Settings, load

pytestmark = [pytest.mark.anyio, pytest.mark.service]
EVA = 'eva-7f3c-"é'
"""With what JSON has to escape."""
PATH = "/api/v1/people/eva-7f3c-%22%C3%A9"
ADMIN = as_("admin")
ELSEWHERE = {
    "unmatched_notice": "its address is masked, and its mail is not known",
    "mail_refusal": "a hash of a domain and 16 bits of one of an address, until the next mail",
    "email_hook_token": "hashes of webhooks",
    "suppression": "an address that complained is not written to again",
    "api_key": "keys have names, and belong to servers",
    "sign_in": "links of the first admin",
}
"""Tables in which a name may stay, and why."""
OF_PEOPLE = {"actor", "subject", "managers", "user_id", "facilitator_id", "manager_id", "address"}


def names_somebody(table: Table) -> bool:
    return any(
        column.name in OF_PEOPLE or column.name.endswith("_by")
        for column in table.columns
        if column.name != "superseded_by"
    )


def test_every_table_that_may_name_a_person_is_spoken_for() -> None:
    held = {holding.table.name for holding in PERSONAL_DATA.personal_rows}
    naming = {table.name for table in metadata.tables.values() if names_somebody(table)}
    assert naming - held - ELSEWHERE.keys() == set()
    assert held.isdisjoint(ELSEWHERE)


def row(table: str, **given: Any) -> tuple[Table, dict[str, Any]]:
    """Return a row of a table; columns that are not given are as plain as may be."""
    columns = metadata.tables[table].columns
    plain = {
        column.name: "{}" if isinstance(column.type, String) else 1
        for column in columns
        if not column.nullable and column.name != "seq"
    }
    return metadata.tables[table], plain | given


def corners(who: str) -> list[tuple[Table, dict[str, Any]]]:
    """Return rows that speak of a person in every room that no event reaches."""
    about = {"user_id": who}
    other = f'x"{who}'  # in JSON its end looks like the id
    quoted = msgspec.json.encode([who, "boss", other]).decode()
    params = msgspec.json.encode({"userId": who, "name": "Eva"}).decode()
    old_id = natural_id("progress", "replay", "fire", who, "1")
    return [
        row("person", id=who, given_name="Eva", email="eva@school.example"),
        row("person", id=f"below {len(who)}", manager_id=who),
        row("credential", id=f"c {who}", completion_id=f"c {who}", **about),
        row("open_badge", credential_id=f"c {who}", holder_name="Eva", **about),
        row("achievement_award", id=f"w {who}", completion_id=f"c {who}", **about),
        row("job", id=f"w {who}.credential", kind="credentials.sign_award", payload="{}"),
        row("stream_ticket", hash="t", subject=who),
        row("session", hash="s", name=who, key_id="jwt"),
        row("dispatch", id=f"d {who}", completion_id=f"c {who}", payload=f'["{who}"]', **about),
        row("notification", id=f"n {who}", dedupe_key=f"n {who}", **about),
        row("delivery", id=f"v {who}", notification_id=f"n {who}", job=f"j {who}", asked_by=who),
        row("delivery_attempt", delivery_id=f"v {who}", actor=who),
        row("delivery_attempt", delivery_id="another's", number=len(who), actor=who),
        row("bounce", id="b1", source_id=f"b {who}", delivery_id=f"v {who}"),
        row("bounce", id="b2", source_id="pruned", address="eva@school.example"),
        row("job", id=f"j {who}", payload=json.dumps([who])),
        row("job", id="hashed", kind="notify.send_bundle", payload=bundle(f"digest:{who}:mail:1")),
        row("job", id=old_id, kind="progress.replay_quarantine", state="completed"),
        row("job_log", id=len(who), job=f"j {who}", line=who),
        row("notification_preference", **about),
        row("notification_profile", sms="+3110", **about),
        row("programme", id=f"p {len(who)}", managers=quoted),
        row("offering", id=f"o {len(who)}", facilitator_id=who),
        row("activity_log", id=f"l {len(who)}", offering_id=f"o {len(who)}", facilitator_id=who),
        row("log_obligation", offering_id=f"o {len(who)}", facilitator_id=who),
        row("exemption", id=f"e {len(who)}", created_by=who),
        row("compliance_warning", **about),
        row("lesson_plan", id=f"plan {len(who)}", created_by=who),
        row("lesson_plan_lesson", plan_id=f"plan {len(who)}", edited_by=who),
        row("audit", id=f"a {len(who)}", actor=who, subject="fire"),
        row("audit", id="a2", actor="boss", action="person.exported", subject=who),
        row("audit", id="a6", actor=who, action="session.opened", subject=who),
        row("audit", id="a3", actor="boss", details=json.dumps({"userId": who, "reason": "leave"})),
        row("audit", id="a4", actor="boss", action="chapter.waived", subject=who,
            details='{"reason": "said to be ill"}'),
        row("audit", id="a5", actor="oidc", action="session.closed", subject=who),
        row("notification", id="others", dedupe_key=f"late {who}", user_id="boss",
            params=params, about="{}"),
        row("delivery", id="others", notification_id="others", address="boss@school.example"),
        row("erasure", id="earlier", user_id="gone", erased_by=who),
        row("alert", id=f"al {len(who)}", acknowledged_by=who),
        row("exemption", id="e4", user_id=who, created_by="boss", note="said to be ill"),
    ]  # fmt: skip


def bundle(name: str) -> str:
    return msgspec.json.encode({"bundle": name}).decode()


async def live(db: Database, who: str) -> None:
    """Run a school, rename one of its learners, and name that person in all tables."""
    await play(db)
    async with db.write() as tx:
        for table in metadata.tables.values():
            if "user_id" in table.columns:
                sql = f"UPDATE {table.name} SET user_id = ? WHERE user_id = 'bo'"
                await tx.execute(sql, (who,))
        for table, values in corners(who):
            await tx.execute(insert(table).values(values))


async def found(db: Database, text: str) -> dict[str, int]:
    """Return in how many rows of each table a text is to be found."""
    counts: dict[str, int] = {}
    async with db.read() as tx:
        for table in metadata.tables.values():
            rows = await tx.fetch(select(table))
            hits = [row for row in rows if any(text in str(value) for value in row)]
            if hits:
                counts[table.name] = len(hits)
    return counts


@pytest.fixture
async def http(db: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with client(routes.router(db, AUTH, PERSONAL_DATA)) as opened:
        yield opened


async def test_nothing_is_left_of_who_was_erased_and_all_of_everybody_else(
    db: Database, http: httpx.AsyncClient
) -> None:
    await live(db, EVA)
    before = await found(db, "7f3c")
    held = {
        holding.table.name
        for holding in PERSONAL_DATA.personal_rows
        if holding.visible_columns != frozenset()
    }
    no_rows = {"progress_fold", "progress_quarantine", "completion_note"}
    assert before.keys() >= held - no_rows - {"completion_step"}
    others = await found(db, "Zoë ñandú")
    answer = await http.delete(PATH, headers=ADMIN)
    assert answer.status_code == 200, answer.text
    assert answer.json()["rows"]["progress_event"] == 5
    # The manager with almost the same name is another person.
    assert await found(db, "7f3c") == {"erasure": 1, "programme": 1}
    assert await found(db, "Zoë ñandú") == others
    assert await found(db, "eva@school") == {}
    assert await found(db, "said to be ill") == {}
    again = await http.delete(PATH, headers=ADMIN)
    assert again.status_code == 404


async def test_what_others_wrote_stays_under_one_pseudonym(
    db: Database, http: httpx.AsyncClient
) -> None:
    await live(db, EVA)
    await http.delete(PATH, headers=ADMIN)
    async with db.read() as tx:
        [(facilitator,)] = await tx.fetch("SELECT facilitator_id FROM offering")
        [(managers,)] = await tx.fetch("SELECT managers FROM programme")
        trail = await tx.fetch("SELECT actor, subject FROM audit WHERE action = '{}' ORDER BY id")
        [(manager,)] = await tx.fetch("SELECT manager_id FROM person WHERE id LIKE 'below %'")
    assert facilitator.startswith("erased-")
    assert json.loads(managers) == [facilitator, "boss", f'x"{EVA}']
    assert trail == [(facilitator, "fire"), ("boss", "{}")]
    assert manager is None
    async with db.read() as tx:
        leave = await tx.fetch("SELECT user_id, note FROM exemption WHERE id = 'e4'")
        [(about,)] = await tx.fetch("SELECT details FROM audit WHERE id = 'a3'")
        by = await tx.fetch("SELECT erased_by FROM erasure WHERE id = 'earlier'")
    assert leave == [(facilitator, None)]
    assert json.loads(about)["userId"] == facilitator
    assert by == [(facilitator,)]


async def test_an_export_holds_all_that_is_kept_for_the_person_and_nobody_else(
    db: Database, http: httpx.AsyncClient
) -> None:
    await live(db, EVA)
    answer = await http.get(f"{PATH}/export", headers=ADMIN)
    assert answer.status_code == 200, answer.text
    records = answer.json()["records"]
    assert [each["email"] for each in records["person"]] == ["eva@school.example"]
    assert len(records["progress_event"]) == 5
    assert records["progress_event"][0]["occurred_at"].startswith("2026-11-20T09:")
    chapters = [each["chapters"].keys() for each in records["course_progress"]]
    assert sorted(chapters[0] | chapters[1]) == ["a", "q"]
    assert {"completion", "credential", "dispatch", "notification", "enrolment"} <= records.keys()
    assert records.keys().isdisjoint({"job", "job_log", "job_attempt", "programme"})
    # Of rows that are others', what names the person is shown, and nothing of the others.
    assert {"id": f"a {len(EVA)}", "actor": EVA} in records["audit"]
    assert "boss" not in answer.text
    assert "ada-1" not in answer.text
    for who, status in (("learner:ada", 403), ("service", 403), ("operator", 403)):
        assert (await http.get(f"{PATH}/export", headers=as_(who))).status_code == status
        assert (await http.delete(PATH, headers=as_(who))).status_code == status
    own = await http.get("/api/v1/people/ada/export", headers=as_("learner:ada"))
    assert own.status_code == 200
    unknown = await http.get("/api/v1/people/unknown/export", headers=ADMIN)
    assert unknown.status_code == 404
    assert unknown.json()["detail"] == "Homeroom holds no data about this person."


def at(place: Path | str, folder: Path) -> Settings:
    return load(database_url=url_of(place), data_dir=folder)


async def test_who_was_erased_is_erased_again_after_an_older_backup_is_restored(
    database: Path | str, tmp_path: Path
) -> None:
    settings = at(database, tmp_path)
    db = database_at(database)
    await db.open()
    await live(db, EVA)
    await db.close()
    file = tmp_path / "monday.zip"
    await asyncio.to_thread(database_commands.back_up_database, settings, file)
    await db.open()
    await PERSONAL_DATA.erase(db, EVA, "cli:test")
    await db.close()
    done = await asyncio.to_thread(database_commands.restore_database, settings, file, force=True)
    assert done.erased == 1
    assert not file.with_name("monday.zip.erasures").exists()
    await db.open()
    assert await found(db, "7f3c") == {"erasure": 1, "programme": 1}
    await live_again(db)
    await db.close()
    # What came after the erasure is not an older backup's to lose.
    later = tmp_path / "tuesday.zip"
    await asyncio.to_thread(database_commands.back_up_database, settings, later)
    done = await asyncio.to_thread(database_commands.restore_database, settings, later, force=True)
    assert done.erased == 0
    assert (await asyncio.to_thread(database_commands.verify_database, settings, None)).faults == []
    await db.open()
    assert (await found(db, "7f3c"))["person"] == 1
    await db.close()


async def test_a_restore_that_was_cut_off_still_knows_whom_to_erase(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = at(postgres_url, tmp_path)
    db = database_at(postgres_url)
    await db.open()
    await live(db, EVA)
    await db.close()
    file = tmp_path / "monday.zip"
    await asyncio.to_thread(database_commands.back_up_database, settings, file)
    await db.open()
    await PERSONAL_DATA.erase(db, EVA, "cli:test")
    await db.close()

    def cut_off(*_: object) -> None:
        raise RuntimeError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(backup_and_restore, "replay_erasures", cut_off)
        with pytest.raises(RuntimeError, match="cut off"):
            await asyncio.to_thread(database_commands.restore_database, settings, file, force=True)
    await db.open()
    assert (await found(db, "7f3c"))["person"] == 2
    await db.close()
    done = await asyncio.to_thread(database_commands.restore_database, settings, file, force=True)
    assert done.erased == 1
    await db.open()
    assert await found(db, "7f3c") == {"erasure": 1, "programme": 1}
    await db.close()


async def test_over_a_damaged_file_nobody_can_say_who_was_erased(
    database_file: Path, tmp_path: Path
) -> None:
    settings = at(database_file, tmp_path)
    db = database_at(database_file)
    await db.open()
    await live(db, EVA)
    await db.close()
    await asyncio.to_thread(database_commands.back_up_database, settings, tmp_path / "monday.zip")
    await asyncio.to_thread(database_file.write_bytes, b"no database" * 1_000)
    done = await asyncio.to_thread(
        database_commands.restore_database, settings, tmp_path / "monday.zip", force=True
    )
    assert done.erased is None


async def test_a_learner_s_own_json_cannot_break_the_export(
    db: Database, http: httpx.AsyncClient
) -> None:
    deep = "[" * 1_000 + "]" * 1_000
    async with db.write() as tx:
        for number, text in enumerate((deep, "[" * 9, '{"a":[1]}')):
            table, values = row("notification", id=str(number), dedupe_key=str(number), user_id="x")
            await tx.execute(insert(table).values(values | {"params": text}))
    answer = await http.get("/api/v1/people/x/export", headers=ADMIN)
    assert answer.status_code == 200
    assert '"params":{"a":[1]}' in answer.text


async def test_an_id_is_nobody_else_s_whatever_its_case(
    db: Database, http: httpx.AsyncClient
) -> None:
    await live(db, EVA)
    for other in ("EVA-7f3c-%22%C3%A9", "%25", "_", "\\"):
        assert (await http.delete(f"/api/v1/people/{other}", headers=ADMIN)).status_code == 404


async def test_a_step_that_was_running_writes_nobody_back(db: Database) -> None:
    await live(db, EVA)
    completions = Completions([])
    async with db.read() as tx:
        [id, *_] = (await tx.fetch("SELECT id FROM completion WHERE user_id = ?", (EVA,)))[0]
        known = await completions.get(tx, id)
        course = await catalogue.course_at(tx, known.course_id, known.course_version)

    class Telling(MessageStep):
        name = "hr"
        job = SendAnalytics
        message_type = "a type"
        receiver = None
        missing_setting = ""

        async def build(self, key: MessageKey, completion: Completion, course: Course) -> Any:
            await PERSONAL_DATA.erase(db, EVA, "cli:test")  # while the directory is asked
            return {"id": key.id, "name": "Eva"}

    nothing: Any = None
    step = Telling(StepContext(db, nothing, "", nothing, parts={Completions: completions}))
    key = MessageKey(known.id, "hr", "a type")
    with pytest.raises(NotFound):
        await step.store_message(key, known, course)
    assert (await found(db, "7f3c")).keys() == {"erasure", "programme"}


async def test_a_credential_that_was_being_ordered_writes_nobody_back(db: Database) -> None:
    await live(db, EVA)
    async with db.write() as tx:
        await tx.execute("DELETE FROM credential")
        bodies = await tx.fetch("SELECT body FROM course_version WHERE course_id = 'fire'")
        with_badge = msgspec.json.decode(bodies[0][0]) | {"badgeTemplateId": "badge"}
        body = msgspec.json.encode(with_badge).decode()
        await tx.execute("UPDATE course_version SET body = ?, body_hash = 'new'", (body,))
        [id, *_] = (await tx.fetch("SELECT id FROM completion WHERE user_id = ?", (EVA,)))[0]

    class Erasing:
        async def find(self, user_id: str) -> LearnerRecord:
            await PERSONAL_DATA.erase(db, EVA, "cli:test")
            return LearnerRecord(user_id, "eva@school.example", "Eva", "Løve")

    async with httpx.AsyncClient() as client_of_partners:
        issuer = CredlyIssuer(client_of_partners, "http://127.0.0.1:9", "school", "token")
        issuing = IssueCredentialHandler(
            db, Completions([]), issuer, Erasing(), CourseScoreLookup(), lambda *_: None
        )
        context: Any = None  # nothing is settled
        outcome = await issuing.run(context, IssueCredential(completion_id=id))
    assert isinstance(outcome, Fail)
    assert (await found(db, "7f3c")).keys() == {"erasure", "programme"}


async def live_again(db: Database) -> None:
    async with db.write() as tx:
        table, values = row("person", id=EVA)
        await tx.execute(insert(table).values(values))
