"""All SQL of credentials. Instants are microseconds UTC, scores units of 1e-4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, UniqueConstraint, select

from homeroom.changes import api as changes
from homeroom.db.personal_data import PeopleIds, rows_owned_by
from homeroom.db.tables import metadata
from homeroom.db.tx import Tx

CredentialState = Literal["issuing", "issued", "revoked", "superseded"]

CREDENTIAL = Table(
    "credential",
    metadata,
    Column("id", Text, primary_key=True),
    Column("completion_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("course_id", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("template_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("external_id", Text),
    Column("url", Text),
    Column("score", Integer),
    Column("issued_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("issuer_state", Text),
    Column("issuer_state_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("revocation_reason", Text),
    Column("superseded_by", Text),
    Column("issue", Integer, nullable=False, server_default="1"),
    UniqueConstraint("completion_id", "issuer"),
    UniqueConstraint("issuer", "external_id"),
    Index(None, "user_id", "created_at", "id"),
    Index(None, "created_at", "id"),
)

REVOKED_AT_ISSUER = "revoked at Credly"
"""The reason of a revocation that the issuer has reported."""
NO_COURSE = ""
"""The course of an achievement's credential, which is about several."""
_IDS_PER_STATEMENT = 500
_EARLIER = "#"
"""Stands between a completion's id and the number of an earlier issue, so that the latest one alone
has the plain id: the unique key of releases without issues holds for both."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential, stored before it is ordered. Its id is random and public."""

    id: str
    completion_id: str
    user_id: str
    course_id: str
    attempt: int
    issuer: str
    template_id: str
    state: CredentialState
    external_id: str | None
    url: str | None
    score: int | None
    issued_at: int
    """The completion's own date."""
    expires_at: int | None
    created_at: int
    issuer_state: str | None
    """Its state at the issuer: ``pending``, ``accepted``, ``rejected`` or ``revoked``."""
    issuer_state_at: int | None
    revoked_at: int | None
    revocation_reason: str | None
    superseded_by: str | None
    issue: int = 1
    """Counted from 1: one that was revoked may be issued anew, under another id."""

    @property
    def award_id(self) -> str | None:
        """Return the award whose credential it is; None: it is that of a completion.

        The award's id then stands in place of the completion's, so that an award too has one
        credential of an issuer; no course has an empty id.
        """
        return self.completion_id if self.course_id == NO_COURSE else None

    def __post_init__(self) -> None:
        """Take the number of an earlier issue from the id of the completion."""
        object.__setattr__(self, "completion_id", self.completion_id.partition(_EARLIER)[0])


@dataclass(frozen=True, slots=True)
class CredentialSelection:
    """Issued credentials that are not revoked; None matches all."""

    ids: tuple[str, ...] | None = None
    user_id: str | None = None
    course_id: str | None = None
    issued_since: int | None = None
    """Microseconds UTC, by ``created_at``: the instant of issue, not that of the completion."""


async def add(tx: Tx, new: Credential) -> bool:
    """Insert a credential unless its completion has one of this issuer."""
    return await tx.insert(CREDENTIAL, [new], on_conflict="ignore") == 1


async def set_reissued(tx: Tx, revoked: Credential) -> bool:
    """Give the completion's plain id to the next issue; False: there is one."""
    statement = (
        f"UPDATE credential SET completion_id = completion_id || '{_EARLIER}' || issue"
        " WHERE id = ? AND completion_id = ?"
    )
    return await tx.execute(statement, (revoked.id, revoked.completion_id)) == 1


async def get(tx: Tx, id: str) -> Credential | None:
    """Return a credential by its public id."""
    return await tx.fetch_one_into(Credential, select(CREDENTIAL).where(CREDENTIAL.c.id == id))


async def get_by_completion(tx: Tx, completion_id: str, issuer: str) -> Credential | None:
    """Return the latest credential that a completion has of an issuer."""
    statement = select(CREDENTIAL).where(
        CREDENTIAL.c.completion_id == completion_id, CREDENTIAL.c.issuer == issuer
    )
    return await tx.fetch_one_into(Credential, statement)


async def list_revocable(
    tx: Tx, selection: CredentialSelection, after_id: str | None, count: int
) -> list[Credential]:
    """Return selected credentials that can be revoked, by id, after an id."""
    columns = CREDENTIAL.c
    statement = select(CREDENTIAL).where(columns.state.in_(("issued", "superseded")))
    if selection.ids is not None:
        statement = statement.where(columns.id.in_(selection.ids))
    if selection.user_id is not None:
        statement = statement.where(columns.user_id == selection.user_id)
    if selection.course_id is not None:
        statement = statement.where(columns.course_id == selection.course_id)
    if selection.issued_since is not None:
        statement = statement.where(columns.created_at >= selection.issued_since)
    if after_id is not None:
        statement = statement.where(columns.id > after_id)
    return await tx.fetch_into(Credential, statement.order_by(columns.id).limit(count))


async def list_by_completions(tx: Tx, completion_ids: Sequence[str]) -> dict[str, Credential]:
    """Return the credentials of some completions that were issued, by completion."""
    found: dict[str, Credential] = {}
    for start in range(0, len(completion_ids), _IDS_PER_STATEMENT):
        part = completion_ids[start : start + _IDS_PER_STATEMENT]
        credentials = await tx.fetch_into(
            Credential,
            select(CREDENTIAL)
            .where(CREDENTIAL.c.completion_id.in_(part), CREDENTIAL.c.state != "issuing")
            .order_by(CREDENTIAL.c.created_at),
        )
        found.update((each.completion_id, each) for each in credentials)
    return found


async def get_by_external_id(tx: Tx, issuer: str, external_id: str) -> Credential | None:
    """Return the credential to which an issuer gave an id."""
    statement = select(CREDENTIAL).where(
        CREDENTIAL.c.issuer == issuer, CREDENTIAL.c.external_id == external_id
    )
    return await tx.fetch_one_into(Credential, statement)


async def list_used_external_ids(tx: Tx, issuer: str, external_ids: Sequence[str]) -> set[str]:
    """Return those of an issuer's ids that belong to a credential already."""
    if not external_ids:
        return set()
    rows = await tx.fetch(
        select(CREDENTIAL.c.external_id).where(
            CREDENTIAL.c.issuer == issuer, CREDENTIAL.c.external_id.in_(external_ids)
        )
    )
    return {external_id for (external_id,) in rows}


async def list_other_attempts(tx: Tx, known: Credential) -> list[Credential]:
    """Return a learner's credentials of other attempts at a course, the latest first.

    Only those of the same issuer and template that were not revoked, and of later attempts only
    those that were issued.
    """
    credential = CREDENTIAL.c
    statement = (
        select(CREDENTIAL)
        .where(
            credential.user_id == known.user_id,
            credential.course_id == known.course_id,
            credential.issuer == known.issuer,
            credential.template_id == known.template_id,
            credential.attempt != known.attempt,
            credential.state != "revoked",
        )
        .where((credential.attempt < known.attempt) | (credential.state != "issuing"))
        .order_by(credential.attempt.desc())
    )
    return await tx.fetch_into(Credential, statement)


async def has_later_attempt(tx: Tx, known: Credential) -> bool:
    """Return whether the learner has the credential of a later attempt."""
    row = await tx.fetch_one(
        "SELECT 1 FROM credential WHERE user_id = ? AND course_id = ? AND issuer = ?"
        " AND attempt > ? AND state IN ('issued', 'superseded') LIMIT 1",
        (known.user_id, known.course_id, known.issuer, known.attempt),
    )
    return row is not None


async def set_score(tx: Tx, id: str, score: int | None) -> None:
    """Set the score that the credential is issued with."""
    await tx.execute("UPDATE credential SET score = ? WHERE id = ?", (score, id))


async def set_issued(
    tx: Tx, id: str, external_id: str, url: str | None, issuer_state: str | None
) -> None:
    """Mark a credential as issued."""
    await tx.execute(
        "UPDATE credential SET state = 'issued', external_id = ?, url = ?, issuer_state = ?"
        " WHERE id = ? AND state = 'issuing'",
        (external_id, url, issuer_state, id),
    )
    await _record_change(tx, id)


async def mark_superseded(tx: Tx, by: Credential) -> None:
    """Supersede earlier attempts' credentials, or this one by a later one (B12)."""
    await tx.lock(
        "credential", [by.user_id]
    )  # those of two attempts may be issued at the same moment
    # The issuer may have reported a replaced badge as revoked before the new one was saved here.
    await tx.execute(
        "UPDATE credential SET state = 'issued', revoked_at = NULL, revocation_reason = NULL"
        " WHERE user_id = ? AND course_id = ? AND issuer = ? AND attempt < ?"
        " AND state = 'revoked' AND revocation_reason = ? AND revoked_at >= ?",
        (by.user_id, by.course_id, by.issuer, by.attempt, REVOKED_AT_ISSUER, by.created_at),
    )
    earlier = await tx.fetch(
        "SELECT id FROM credential"
        " WHERE user_id = ? AND course_id = ? AND issuer = ? AND attempt < ? AND state = 'issued'",
        (by.user_id, by.course_id, by.issuer, by.attempt),
    )
    changes.record(tx, changes.CREDENTIALS, [(id, by.user_id) for (id,) in earlier])
    await tx.execute(
        "UPDATE credential SET state = 'superseded', superseded_by = ?"
        " WHERE user_id = ? AND course_id = ? AND issuer = ? AND attempt < ? AND state = 'issued'",
        (by.id, by.user_id, by.course_id, by.issuer, by.attempt),
    )
    later = await tx.fetch_one(
        "SELECT id FROM credential WHERE user_id = ? AND course_id = ? AND issuer = ?"
        " AND attempt > ? AND state IN ('issued', 'superseded') ORDER BY attempt LIMIT 1",
        (by.user_id, by.course_id, by.issuer, by.attempt),
    )
    if later is not None:
        (later_id,) = later
        await tx.execute(
            "UPDATE credential SET state = 'superseded', superseded_by = ?"
            " WHERE id = ? AND state = 'issued'",
            (later_id, by.id),
        )
        changes.record(tx, changes.CREDENTIALS, [(by.id, by.user_id)])


async def set_revoked(tx: Tx, id: str, at: int, reason: str | None) -> bool:
    """Revoke a credential; return whether it was not revoked before."""
    changed = await tx.execute(
        "UPDATE credential SET state = 'revoked', revoked_at = ?, revocation_reason = ?,"
        " issuer_state = 'revoked', issuer_state_at = ?"
        " WHERE id = ? AND state IN ('issued', 'superseded')",
        (at, reason, at, id),
    )
    if changed:
        await _record_change(tx, id)
    return changed == 1


async def set_issuer_state(tx: Tx, id: str, issuer_state: str, at: int) -> None:
    """Set the state at the issuer, unless a later one is known."""
    changed = await tx.execute(
        "UPDATE credential SET issuer_state = ?, issuer_state_at = ?"
        " WHERE id = ? AND state <> 'revoked'"
        " AND (issuer_state_at IS NULL OR issuer_state_at <= ?)",
        (issuer_state, at, id, at),
    )
    if changed:
        await _record_change(tx, id)


async def list_issued_by_ids(tx: Tx, ids: Sequence[str]) -> list[Credential]:
    """Return those credentials of some ids that were issued."""
    found: list[Credential] = []
    for start in range(0, len(ids), _IDS_PER_STATEMENT):
        part = ids[start : start + _IDS_PER_STATEMENT]
        found += await tx.fetch_into(
            Credential,
            select(CREDENTIAL).where(CREDENTIAL.c.id.in_(part), CREDENTIAL.c.state != "issuing"),
        )
    return found


async def _record_change(tx: Tx, id: str) -> None:
    rows = await tx.fetch("SELECT user_id FROM credential WHERE id = ?", (id,))
    changes.record(tx, changes.CREDENTIALS, [(id, user_id) for (user_id,) in rows])


async def list_newest(
    tx: Tx,
    user_id: str | None,
    before: tuple[int, str] | None,
    count: int,
    learners: PeopleIds | None = None,
) -> list[Credential]:
    """Return issued credentials by (created_at, id), newest first."""
    at, id = CREDENTIAL.c.created_at, CREDENTIAL.c.id
    statement = select(CREDENTIAL).where(CREDENTIAL.c.state != "issuing")
    if user_id is not None:
        statement = statement.where(CREDENTIAL.c.user_id == user_id)
    if learners is not None:
        statement = statement.where(CREDENTIAL.c.user_id.in_(learners))
    if before is not None:
        statement = statement.where(at <= before[0]).where(
            (at < before[0]) | ((at == before[0]) & (id < before[1]))
        )
    page = statement.order_by(at.desc(), id.desc()).limit(count)
    return await tx.fetch_into(Credential, page)


PERSONAL = (rows_owned_by(CREDENTIAL.c.user_id),)
