"""The people whose records a caller may see: all, its own, or itself.

The one place of the rule (decision 0053): a manager sees the people whose ``managerId`` it is, the
facilitators of its programmes and itself. Routes get a scope from ``Auth.people``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Select, false, literal, select, union_all

from homeroom.db.personal_data import PeopleIds, Relations
from homeroom.db.tx import Tx
from homeroom.errors import Forbidden
from homeroom.identity import Identity, Role

ALL_PEOPLE_ROLES = (Role.SERVICE, Role.OPERATOR, Role.VIEWER)
"""The roles that see the records of all people."""
_IDS_PER_STATEMENT = 500


class PeopleScope:
    """The people that one request may see; it caches what it has found."""

    def __init__(self, identity: Identity, relations: Relations, wide: Collection[Role]) -> None:
        """Use the roles ``wide``, whose holders see all people on this route."""
        self._identity, self._relations = identity, relations
        self.sees_all = identity.has(*wide)
        self.is_manager = identity.has(Role.MANAGER)
        """Sees more than itself; an admin does, too."""
        self._expected = (*wide, Role.MANAGER)
        self._related: dict[str, bool] = {}

    @property
    def ids(self) -> PeopleIds | None:
        """Return the SELECT of the visible people; None if all are visible."""
        if self.sees_all:
            return None
        selects = self._relation_selects()
        if self._identity.via == "jwt":  # an API key belongs to no person
            selects.append(select(literal(self._identity.subject)))
        return union_all(*selects or [select(literal("")).where(false())])

    def _relation_selects(self) -> list[Select[Any]]:
        if not self.is_manager:
            return []
        return [select_people(self._identity.subject) for select_people in self._relations.values()]

    async def list_related(self, tx: Tx) -> frozenset[str]:
        """Return the ids of a manager's people, for filters outside SQL."""
        selects = self._relation_selects()
        rows = await tx.fetch(union_all(*selects)) if selects else []
        return frozenset(id for (id,) in rows)

    async def related(self, tx: Tx, user_ids: Collection[str]) -> frozenset[str]:
        """Return those of some people that are a manager's own.

        One query for the ids that it has not seen yet.
        """
        selects = self._relation_selects()
        unknown = sorted(set(user_ids).difference(self._related))
        for start in range(0, len(unknown), _IDS_PER_STATEMENT):
            part = unknown[start : start + _IDS_PER_STATEMENT]
            self._related.update(dict.fromkeys(part, False))
            if selects:
                among = union_all(*(_among(each, part) for each in selects))
                self._related.update({id: True for (id,) in await tx.fetch(among)})
        return frozenset(id for id in user_ids if self._related[id])

    async def sees(self, tx: Tx, user_id: str) -> bool:
        """Return whether the records of a person are visible."""
        if self.sees_all or self._identity.is_learner(user_id):
            return True
        return bool(await self.related(tx, [user_id]))

    async def check(self, tx: Tx, user_id: str) -> None:
        """Raise ``Forbidden`` unless the records of a person are visible.

        The answer is the same for a person that does not exist.
        """
        if not await self.sees(tx, user_id):
            raise self.refusal()

    def refusal(self) -> Forbidden:
        """Return the error for a hidden person; it is the same for an unknown one."""
        if not self.is_manager:
            *first, last = self._expected
            return Forbidden(
                f"The records of another person need the role {', '.join(first)} or {last}."
            )
        name = self._identity.subject
        hint = None
        if self._identity.via != "jwt":
            hint = (
                f"The name {name!r} of your API key or session counts as the manager's user id."
                " Send the manager's JWT, or use a key that has the manager's user id as its name."
            )
        return Forbidden(
            f"The role manager sees its own people: those whose managerId is {name!r}, and the"
            f" facilitators of programmes that have {name!r} among their managers.",
            hint=hint,
        )


def _among(people: Select[Any], user_ids: Collection[str]) -> Select[Any]:
    column: ColumnElement[Any] = people.selected_columns[0]
    return people.where(column.in_(user_ids))
