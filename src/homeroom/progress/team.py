"""A manager's people, their courses, and whether they are behind. No function writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import literal, select, union

from homeroom.activity import api as activity
from homeroom.catalogue import api as catalogue
from homeroom.db.tx import Tx
from homeroom.people import api as people
from homeroom.people.api import Person
from homeroom.progress import queries
from homeroom.progress.queries import CourseProgress
from homeroom.web.people_scope import Relations

IDLE_DAYS = 14
"""Days without activity after which a learner is behind in an unfinished course."""
_DAY_US = 86_400 * 1_000_000
_IDS_PER_STATEMENT = 500


@dataclass(frozen=True, slots=True)
class TeamMember:
    """A person of a manager. ``reasons`` say in what the person is behind; empty: in nothing."""

    user_id: str
    person: Person | None
    """None for a facilitator whom the directory does not know."""
    relations: tuple[str, ...]
    courses: tuple[CourseProgress, ...]
    reasons: tuple[str, ...]


async def list_team(
    tx: Tx, relations: Relations, manager_id: str, after: str | None, count: int
) -> list[TeamMember]:
    """Return up to ``count`` people of a manager by user id, each with all courses."""
    found = await _list_relations(tx, relations, manager_id, after, count)
    members: list[TeamMember] = []
    user_ids = list(found)
    for start in range(0, len(user_ids), _IDS_PER_STATEMENT):
        part = user_ids[start : start + _IDS_PER_STATEMENT]
        members += await _load_members(tx, manager_id, {id: found[id] for id in part})
    return members


async def _list_relations(
    tx: Tx, relations: Relations, manager_id: str, after: str | None, count: int
) -> dict[str, list[str]]:
    """Return the names of the relations of up to ``count`` people, by user id in order."""
    selects = []
    for name, select_people in relations.items():
        ids = select_people(manager_id)
        selects.append(ids.add_columns(literal(name)))
    rows = union(*selects).subquery()
    user_id, relation = rows.c
    statement = select(user_id, relation).order_by(user_id, relation)
    if after is not None:
        statement = statement.where(user_id > after)
    found: dict[str, list[str]] = {}
    for id, name in await tx.fetch(statement.limit(count * len(selects))):
        found.setdefault(id, []).append(name)
    return dict(list(found.items())[:count])


async def _load_members(
    tx: Tx, manager_id: str, relations: Mapping[str, Sequence[str]]
) -> list[TeamMember]:
    known = await people.find(tx, relations)
    enrolments = await catalogue.enrolments_of(tx, *relations)
    latest = {(each.user_id, each.course_id): each for each in enrolments}
    enrolled_at = {key: each.enrolled_at for key, each in latest.items()}
    courses: dict[str, list[CourseProgress]] = {}
    for each in await queries.progress_of(tx, list(latest.values())):
        courses.setdefault(each.user_id, []).append(each)
    missed = await activity.find_missed_weeks(tx, manager_id, list(relations))
    members = []
    for user_id, names in relations.items():
        reasons = [
            reason
            for each in courses.get(user_id, ())
            if (reason := _course_reason(each, enrolled_at[user_id, each.course_id], tx.now))
        ]
        if weeks := missed.get(user_id):
            reasons.append(f"Missed logs: {', '.join(weeks)}.")
        members.append(
            TeamMember(
                user_id=user_id,
                person=known.get(user_id),
                relations=tuple(sorted(names, reverse=True)),
                courses=tuple(courses.get(user_id, ())),
                reasons=tuple(reasons),
            )
        )
    return members


def _course_reason(course: CourseProgress, enrolled_at: int, now: int) -> str | None:
    """Return why a learner is behind in a course; None if that is not so."""
    if course.status == "expired":
        return f"{course.title}: expired."
    if course.status == "completed":
        return None
    days = (now - max(course.last_at or 0, enrolled_at)) // _DAY_US
    return f"{course.title}: no activity for {days} days." if days >= IDLE_DAYS else None
