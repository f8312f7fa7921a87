"""A manager's people, their courses, and in what they are behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import literal, select, union

from homeroom.catalogue import api as catalogue
from homeroom.db.personal_data import Relations
from homeroom.db.tx import Tx
from homeroom.people import api as people
from homeroom.people.api import Person
from homeroom.progress import queries
from homeroom.progress.queries import CourseProgress

FindMissedWeeks = Callable[[Tx, str, Sequence[str]], Awaitable[Mapping[str, Sequence[str]]]]
"""Return the weeks of missed logs by facilitator, of a manager's programmes."""
IDLE_DAYS = 14
"""Days without activity after which a learner is behind in an unfinished course."""
_DAY_US = 86_400 * 1_000_000
_IDS_PER_STATEMENT = 500


@dataclass(frozen=True, slots=True)
class TeamMember:
    """A person of a manager; ``reasons`` say in what the person is behind."""

    user_id: str
    person: Person | None
    """None for a facilitator whom the directory does not know."""
    relations: tuple[str, ...]
    courses: tuple[CourseProgress, ...]
    reasons: tuple[str, ...]


class Teams:
    """The people of managers, by the relations and missed logs of other packages."""

    def __init__(self, relations: Relations, find_missed_weeks: FindMissedWeeks) -> None:
        """Use the SELECTs of related people, by the name of the relation."""
        self._relations, self._find_missed_weeks = relations, find_missed_weeks

    async def list_members(
        self, tx: Tx, manager_id: str, after: str | None, count: int
    ) -> list[TeamMember]:
        """Return up to ``count`` people of a manager by user id, with all courses."""
        found = await self._list_relations(tx, manager_id, after, count)
        members: list[TeamMember] = []
        user_ids = list(found)
        for start in range(0, len(user_ids), _IDS_PER_STATEMENT):
            part = user_ids[start : start + _IDS_PER_STATEMENT]
            members += await self._load_members(tx, manager_id, {id: found[id] for id in part})
        return members

    async def _list_relations(
        self, tx: Tx, manager_id: str, after: str | None, count: int
    ) -> dict[str, list[str]]:
        """Return the names of people's relations, by user id in order."""
        selects = [
            select_people(manager_id).add_columns(literal(name))
            for name, select_people in self._relations.items()
        ]
        user_id, relation = union(*selects).subquery().c
        statement = select(user_id, relation).order_by(user_id, relation)
        if after is not None:
            statement = statement.where(user_id > after)
        found: dict[str, list[str]] = {}
        for id, name in await tx.fetch(statement.limit(count * len(selects))):
            found.setdefault(id, []).append(name)
        return dict(list(found.items())[:count])

    async def _load_members(
        self, tx: Tx, manager_id: str, relations: Mapping[str, Sequence[str]]
    ) -> list[TeamMember]:
        known = await people.find(tx, relations)
        enrolments = await catalogue.enrolments_of(tx, *relations)
        latest = {(each.user_id, each.course_id): each for each in enrolments}
        courses: dict[str, list[CourseProgress]] = {}
        reasons: dict[str, list[str]] = {}
        for each in await queries.progress_of(tx, list(latest.values())):
            courses.setdefault(each.user_id, []).append(each)
            enrolled_at = latest[each.user_id, each.course_id].enrolled_at
            if reason := _course_reason(each, enrolled_at, tx.now):
                reasons.setdefault(each.user_id, []).append(reason)
        for user_id, weeks in (
            await self._find_missed_weeks(tx, manager_id, list(relations))
        ).items():
            reasons.setdefault(user_id, []).append(f"Missed logs: {', '.join(weeks)}.")
        return [
            TeamMember(
                user_id=user_id,
                person=known.get(user_id),
                relations=tuple(sorted(names, reverse=True)),
                courses=tuple(courses.get(user_id, ())),
                reasons=tuple(reasons.get(user_id, ())),
            )
            for user_id, names in relations.items()
        ]


def _course_reason(course: CourseProgress, enrolled_at: int, now: int) -> str | None:
    """Return why a learner is behind in a course; None if that is not so."""
    if course.status == "expired":
        return f"{course.title}: expired."
    if course.status == "completed":
        return None
    days = (now - max(course.last_at or 0, enrolled_at)) // _DAY_US
    return f"{course.title}: no activity for {days} days." if days >= IDLE_DAYS else None
