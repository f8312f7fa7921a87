"""The route of a manager's team."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query

from homeroom.catalogue.api import EnrolmentStatus
from homeroom.db.database import Database
from homeroom.errors import Forbidden, Invalid
from homeroom.identity import Identity, Role
from homeroom.progress.team import FindMissedWeeks, TeamMember, Teams
from homeroom.web.identity import Auth
from homeroom.web.model import ExternalId, ResponseModel, Rfc3339Instant
from homeroom.web.paging import Page, PagingQuery, cut_page


class TeamMemberCourse(ResponseModel):
    """A course of a member, in the latest attempt. Progress is in percent."""

    course_id: str
    title: str
    status: EnrolmentStatus | None
    progress: float | None
    last_activity_at: Rfc3339Instant | None
    completed_at: Rfc3339Instant | None


class TeamMemberView(ResponseModel):
    """A person of a manager, with all courses."""

    user_id: str
    name: str
    """The user id of a person whom the directory does not know."""
    email: str | None
    relation: list[Literal["report", "facilitator"]]
    """`report`: the manager is their `managerId`; `facilitator`: in a programme of the manager."""
    courses: list[TeamMemberCourse]
    """All courses by id, each in the latest attempt."""
    behind: bool
    """True if there is a `reason`."""
    reason: str | None
    """In what they are behind: unfinished courses without activity for 14 days, expired ones,
    missed logs; null if they are not."""


def router(db: Database, auth: Auth, find_missed_weeks: FindMissedWeeks) -> APIRouter:
    """Return the route; ``find_missed_weeks`` finds those of missed logs."""
    routes = APIRouter(prefix="/api/v1", tags=["Progress"])
    teams = Teams(auth.relations, find_missed_weeks)
    reader: Identity = Depends(auth.require(Role.MANAGER))

    @routes.get("/team")
    async def list_team(
        paging: PagingQuery,
        manager_id: Annotated[
            ExternalId | None,
            Query(alias="managerId", description="The manager; one sees only their own team."),
        ] = None,
        identity: Identity = reader,
    ) -> Page[TeamMemberView]:
        """List the caller's people by user id; an admin names the manager.

        They are those whose `managerId` is the manager's, and the facilitators of the programmes
        that have the manager among their `managers`.
        """
        key = paging.key(str)
        async with db.read() as tx:
            rows = await teams.list_members(
                tx,
                _manager_id(identity, manager_id),
                None if key is None else str(key[0]),
                paging.limit + 1,
            )
        page, cursor = cut_page(rows, paging, lambda each: [each.user_id])
        return Page[TeamMemberView](items=[_member_view(each) for each in page], next_cursor=cursor)

    return routes


def _manager_id(identity: Identity, manager_id: str | None) -> str:
    """Return whose team to list; raise ``Forbidden`` if the caller may not."""
    if manager_id is None:
        if Role.MANAGER not in identity.roles:
            raise Invalid("managerId is missing. Fix: name the manager in managerId.")
        return identity.subject
    if manager_id != identity.subject and not identity.has(Role.ADMIN):
        raise Forbidden(
            "The team of another manager needs the role admin.",
            hint="Leave managerId out for your own team.",
        )
    return manager_id


def _member_view(member: TeamMember) -> TeamMemberView:
    person = member.person
    return TeamMemberView.model_validate(
        {
            "user_id": member.user_id,
            "name": (
                member.user_id if person is None else f"{person.given_name} {person.family_name}"
            ),
            "email": None if person is None else person.email,
            "relation": member.relations,
            "courses": [
                TeamMemberCourse(
                    course_id=each.course_id,
                    title=each.title,
                    status=each.status,
                    progress=None if each.progress is None else each.progress / 100,
                    last_activity_at=each.last_at,
                    completed_at=each.completed_at,
                )
                for each in member.courses
            ],
            "behind": bool(member.reasons),
            "reason": " ".join(member.reasons) or None,
        }
    )
