"""Find jobs by queue, state, kind and text among millions of rows.

A text is sought in the jobs that are not completed, which an index of their own holds, and in the
newest completed ones, which are as many as are kept by default. Of older ones, which may be a
million, those with the id, or of the learner, that the text names are found at once; with
``state=completed`` all of them are read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    TextClause,
    and_,
    case,
    false,
    literal,
    or_,
    select,
    text,
    union_all,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from homeroom.db.tx import Tx
from homeroom.jobs.job import Job, JobState
from homeroom.jobs.store import JOB_FIELDS, fetch_jobs_with, job_table
from homeroom.jobs.subject import JobSubject, JobSubjects, SubjectMatch
from homeroom.redaction import redact_json, redact_text

_Condition = ColumnElement[bool] | TextClause
_SCANNED_ROWS = 1_000
"""Unfinished jobs that are compared with a text in one statement."""
_COMPLETED_ROWS = 10_000
"""The newest completed jobs, which are compared with a text."""
_ADDRESS = re.compile(r"[^\s@\"]+@[^\s@\"]+\.[^\s@\"]+")
_job = job_table.c
UNFINISHED = text("job.state <> 'completed' AND job.pruned_at IS NULL")
"""The condition of the index of unfinished jobs, in its words: SQLite compares the text."""


@dataclass(frozen=True, slots=True)
class JobQuery:
    """A filter on jobs; None means any. Pruned jobs are never listed."""

    queue: str | None = None
    state: JobState | None = None
    kind: str | None = None
    text: str | None = None
    """Part of the id, the payload, the last error, or the id of the learner or course."""
    subjects: JobSubjects = field(default_factory=JobSubjects)
    """How learners and courses of jobs are read, for ``text``."""
    done: bool | None = None
    """False: those that are not completed; failed ones are among them."""


@dataclass(frozen=True, slots=True)
class _Sequence:
    seq: int


@dataclass(frozen=True, slots=True)
class _ScannedJob:
    """The members of a job that are compared with a text."""

    id: str
    payload: Mapping[str, Any]


async def search(
    tx: Tx, query: JobQuery, *, limit: int, before: int | None = None
) -> list[tuple[int, Job]]:
    """Return jobs below a sequence number, with their own, newest first.

    Of a secret or an address that viewers do not see, a part finds nothing: they could guess it
    letter by letter.
    """
    if query.text is None:
        return await _fetch(tx, _filter_conditions(query, before), limit)
    found: list[tuple[int, Job]] = []
    while True:
        rows = await _search_text(tx, query, limit, before)
        jobs = [job for _, job in rows]
        subjects = await query.subjects.describe(tx, jobs)
        found += [
            (seq, job)
            for seq, job in rows
            if _names(subjects[job.id], query.text) or _shows_text(job, query.text)
        ]
        if len(rows) < limit or len(found) >= limit:
            return found[:limit]
        before = rows[-1][0]


async def _search_text(
    tx: Tx, query: JobQuery, limit: int, before: int | None
) -> list[tuple[int, Job]]:
    """Return jobs that match, in what is hidden from viewers too."""
    conditions = _filter_conditions(query, before)
    if query.state is JobState.COMPLETED or query.done:
        return await _fetch(tx, [*conditions, _contains_or_is_about(query)], limit)
    is_job = _job.id == query.text
    if await tx.fetch(select(_job.seq).where(is_job)):
        return await _fetch(tx, [*conditions, is_job], limit)
    # Whether the text is an id must not hang on filters or pages: an action on all jobs of `u-1`
    # would go on with those of `u-10` once the former are done.
    is_id = bool(await tx.fetch(select(_job.seq).where(_is_named(query)).limit(1)))
    found = dict(await _fetch(tx, [*conditions, _is_named(query)], limit))
    if is_id:
        unfinished = [UNFINISHED, *conditions, _contains(query.text or "")]
        seqs = [seq for seq, _ in await _fetch(tx, unfinished, limit)]
    else:
        seqs = await _scan_unfinished(tx, query, before, limit)
    if query.state is None and query.done is None:
        seqs += await _scan_completed(tx, query, before, limit)
    found |= dict(
        await _fetch(tx, [_job.seq.in_([seq for seq in seqs if seq not in found])], limit)
    )
    return sorted(found.items(), key=lambda item: item[0], reverse=True)[:limit]


async def _fetch(tx: Tx, conditions: Sequence[_Condition], limit: int) -> list[tuple[int, Job]]:
    statement = (
        select(*(_job[name] for name in JOB_FIELDS), _job.seq)
        .where(and_(*conditions))
        .order_by(_job.seq.desc())
        .limit(limit)
    )
    return [(extra.seq, job) for job, extra in await fetch_jobs_with(tx, _Sequence, statement)]


def _filter_conditions(query: JobQuery, before: int | None) -> list[_Condition]:
    """Return the conditions of all members but ``text``."""
    conditions: list[_Condition] = [_job.pruned_at.is_(None)]
    if query.done is False or query.state not in {None, JobState.COMPLETED}:
        conditions.append(UNFINISHED)
    elif query.done:
        conditions.append(_job.state == JobState.COMPLETED.value)
    if query.queue is not None:
        conditions.append(_job.queue == query.queue)
    if query.state is not None:
        conditions.append(_job.state == query.state.value)
    if query.kind is not None:
        conditions.append(_job.kind == query.kind)
    if before is not None:
        conditions.append(_job.seq < before)
    return conditions


def _contains(wanted: str, columns: ReadOnlyColumnCollection[str, Any] = _job) -> _Condition:
    """Return whether id, payload or last error contains a text, in any case."""
    searched = (columns.id, columns.payload, columns.last_error)
    return or_(*(column.icontains(wanted, autoescape=True) for column in searched))


def _contains_or_is_about(query: JobQuery) -> ColumnElement[bool]:
    wanted = query.text or ""

    def contains(column: ColumnElement[str]) -> ColumnElement[bool]:
        return column.icontains(wanted, autoescape=True)

    about = query.subjects.select_jobs(SubjectMatch(user=contains, course=contains))
    return or_(_contains(wanted), *(_job.id.in_(ids) for ids in about))


def _is_named(query: JobQuery) -> ColumnElement[bool]:
    """Return whether the text is the id of the job, its cause or its learner."""
    wanted = query.text or ""
    match = SubjectMatch(user=lambda column: column == wanted, course=lambda _: false())
    caused = and_(_job.id > f"{wanted}.", _job.id < f"{wanted}/")
    ids = union_all(
        select(literal(wanted)),
        select(_job.id).where(caused),
        *query.subjects.select_jobs(match),
    )
    return _job.id.in_(ids.subquery().select())


async def _scan_unfinished(tx: Tx, query: JobQuery, before: int | None, limit: int) -> list[int]:
    """Return the sequence numbers of unfinished jobs that match, newest first."""
    wanted = query.text or ""
    found: list[int] = []
    while len(found) < limit:
        matches = case((_contains(wanted), 1), else_=0)
        rows = await tx.fetch(
            select(_job.seq, _job.id, _job.payload, matches)
            .where(UNFINISHED, *_filter_conditions(query, before))
            .order_by(_job.seq.desc())
            .limit(_SCANNED_ROWS)
        )
        others = [
            _ScannedJob(id, msgspec.json.decode(payload)) for _, id, payload, ok in rows if not ok
        ]
        subjects = await query.subjects.describe(tx, others)
        found += [
            seq for seq, id, _, matches_text in rows if matches_text or _names(subjects[id], wanted)
        ]
        if len(rows) < _SCANNED_ROWS:
            break
        before = rows[-1][0]
    return found[:limit]


async def _scan_completed(tx: Tx, query: JobQuery, before: int | None, limit: int) -> list[int]:
    """Return sequence numbers of completed jobs that match, newest first."""
    conditions = _filter_conditions(replace(query, done=True), before)
    columns = (_job.seq, _job.id, _job.payload, _job.last_error)
    newest = (
        select(*columns)
        .where(*conditions)
        .order_by(_job.seq.desc())
        .limit(_COMPLETED_ROWS)
        .subquery("newest")
    )
    rows = await tx.fetch(
        select(newest.c.seq)
        .where(_contains(query.text or "", newest.c))
        .order_by(newest.c.seq.desc())
        .limit(limit)
    )
    return [seq for (seq,) in rows]


def _shows_text(job: Job, wanted: str) -> bool:
    """Return whether a job that contains a text shows it, or it is a whole address."""
    payload, error = dict(job.payload), job.last_error or ""
    shown = redact_json(payload), redact_text(error)
    if shown == (payload, error) or wanted.casefold() in job.id.casefold():
        return True
    text = "\n".join((msgspec.json.encode(shown[0]).decode(), shown[1]))
    if wanted.casefold() in text.casefold():
        return True
    stored = "\n".join((msgspec.json.encode(payload).decode(), error))
    whole = rf"(?<![\w.%+-]){re.escape(wanted)}(?![\w-])"
    return _ADDRESS.fullmatch(wanted) is not None and bool(re.search(whole, stored, re.IGNORECASE))


def _names(subject: JobSubject, part: str) -> bool:
    """Return whether the id of the learner or course contains a text, in any case."""
    wanted = part.casefold()
    ids = (subject.user_id, subject.course_id)
    return any(id is not None and wanted in id.casefold() for id in ids)
