"""The built-in directory over HTTP (API page, "Catalogue")."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path, Response
from pydantic import AfterValidator

from homeroom.db.database import Database
from homeroom.errors import Forbidden, Invalid, NotFound
from homeroom.people import api, person
from homeroom.people.api import Person, Records, masked
from homeroom.web.identity import Auth, Identity, Role
from homeroom.web.model import Body, Line, OutsideId, View

UserId = Annotated[OutsideId, Path(alias="userId")]
_Email = Annotated[str, AfterValidator(person.check_email)]
_Locale = Annotated[str, AfterValidator(person.check_locale)]
_TimeZone = Annotated[str, AfterValidator(person.check_time_zone)]


class PersonBody(Body):
    """What the directory shall know of a person; it replaces what it knew."""

    email: _Email | None = None
    given_name: Line
    family_name: Line
    locale: _Locale | None = None
    time_zone: _TimeZone | None = None
    manager_id: OutsideId | None = None
    roles: list[Role] | None = None


class PersonView(View):
    """A person. Operators and viewers see only the first letter of the e-mail address."""

    user_id: str
    email: str | None
    given_name: str
    family_name: str
    locale: str | None
    time_zone: str | None
    manager_id: str | None
    roles: list[str]


class ExportView(View):
    """All that is kept of a person: rows as they are, by table."""

    user_id: str
    exported_at: str
    records: dict[str, list[dict[str, Any]]]


class ErasedView(View):
    """What an erasure took: rows that went or lost a name, by table."""

    user_id: str
    rows: dict[str, int]


def router(db: Database, auth: Auth, records: Records) -> APIRouter:
    """Return the routes of the directory."""
    routes = APIRouter(prefix="/api/v1/people", tags=["People"])
    writer: Identity = Depends(auth.require(Role.SERVICE))
    reader: Identity = Depends(auth.require(*Role))
    eraser: Identity = Depends(auth.require(Role.ADMIN))

    @routes.put(
        "/{userId}",
        response_model=PersonView,
        responses={201: {"model": PersonView, "description": "A new person"}},
    )
    async def put_person(
        user_id: UserId,
        body: PersonBody,
        response: Response,
        identity: Identity = writer,
    ) -> PersonView:
        """Store a person. Without an e-mail address nothing can be sent or issued to them."""
        if body.manager_id == user_id:
            raise Invalid("Nobody is their own manager.")
        roles = tuple(dict.fromkeys(role.value for role in body.roles or ()))
        if Role.ADMIN in roles and not identity.has(Role.ADMIN):
            raise Forbidden("Only an admin may call somebody an admin.")
        new = Person(
            id=user_id,
            email=body.email,
            given_name=body.given_name,
            family_name=body.family_name,
            locale=body.locale,
            time_zone=body.time_zone,
            manager_id=body.manager_id,
            roles=roles,
        )
        async with db.write() as tx:
            created = await api.put(tx, new)
        response.status_code = 201 if created else 200
        return _view(new, whole=True)

    @routes.get("/{userId}")
    async def get_person(
        user_id: UserId,
        identity: Identity = reader,
    ) -> PersonView:
        """Return a person: to themselves, to the platform's servers, and to staff."""
        identity.check_reads(user_id)
        async with db.read() as tx:
            found = await api.get(tx, user_id)
        if found is None:
            raise NotFound("The directory does not know this person.")
        whole = identity.is_person(user_id) or identity.has(Role.SERVICE, Role.MANAGER)
        return _view(found, whole=whole)

    @routes.get("/{userId}/export", response_model=ExportView)
    async def export_person(
        user_id: UserId,
        identity: Identity = reader,
    ) -> Response:
        """Return all that is kept of a person: to themselves and to an admin."""
        if not identity.is_person(user_id) and not identity.has(Role.ADMIN):
            raise Forbidden("Only the person or an admin may see all that is kept of a person.")
        found = await records.export(db, user_id, identity.subject)
        return Response(msgspec.json.encode(found), media_type="application/json")

    @routes.delete("/{userId}")
    async def erase_person(
        user_id: UserId,
        identity: Identity = eraser,
    ) -> ErasedView:
        """Erase a person for good. What others wrote stays, with a pseudonym for the name."""
        rows = await records.erase(db, user_id, identity.subject)
        return ErasedView(user_id=user_id, rows=rows)

    return routes


def _view(found: Person, *, whole: bool) -> PersonView:
    known = asdict(found)
    email = found.email if whole or found.email is None else masked(found.email)
    return PersonView(user_id=known.pop("id"), **{**known, "email": email})
