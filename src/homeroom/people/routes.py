"""The built-in directory, export and erasure over HTTP."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import AfterValidator, Field

from homeroom.db.database import Database
from homeroom.errors import Forbidden, Invalid, NotFound
from homeroom.identity import Identity, Role
from homeroom.people import api, person
from homeroom.people.api import Person, PersonalDataRegistry, mask_email
from homeroom.time_zone import check_time_zone
from homeroom.web import etag
from homeroom.web.identity import Auth
from homeroom.web.model import (
    ExternalId,
    IfMatch,
    RequestModel,
    ResponseModel,
    Rfc3339Instant,
    SingleLine,
)
from homeroom.web.paging import Page, PagingQuery, cut_page

UserIdPath = Annotated[ExternalId, Path(alias="userId")]
_Email = Annotated[str, AfterValidator(person.check_email)]
_Locale = Annotated[str, AfterValidator(person.check_locale)]
_TimeZone = Annotated[str, AfterValidator(check_time_zone)]


class PersonBody(RequestModel):
    """A person to store in place of the one with this id."""

    email: _Email | None = None
    given_name: SingleLine
    family_name: SingleLine
    locale: _Locale | None = None
    time_zone: _TimeZone | None = None
    manager_id: ExternalId | None = None
    roles: list[Role] | None = None
    group_ids: Annotated[list[ExternalId] | None, Field(max_length=50)] = None


class PersonView(ResponseModel):
    """A person. Operators and viewers see the e-mail address masked."""

    user_id: str
    email: str | None
    given_name: str
    family_name: str
    locale: str | None
    time_zone: str | None
    manager_id: str | None
    roles: list[str]
    group_ids: list[str]
    suspended_at: Rfc3339Instant | None


class PersonExport(ResponseModel):
    """All rows about a person, by table."""

    user_id: str
    exported_at: str
    records: dict[str, list[dict[str, Any]]]


class PersonErasure(ResponseModel):
    """The rows that an erasure deleted or pseudonymised, by table."""

    user_id: str
    rows: dict[str, int]


def router(db: Database, auth: Auth, records: PersonalDataRegistry) -> APIRouter:
    """Return the routes of the directory, and of the export and erasure of a person."""
    routes = APIRouter(prefix="/api/v1/people", tags=["People"])
    _add_directory(routes, db, auth)
    _add_personal_data(routes, db, auth, records)
    return routes


def _add_directory(routes: APIRouter, db: Database, auth: Auth) -> None:
    writer: Identity = Depends(auth.require(Role.SERVICE))
    staff: Identity = Depends(auth.require(Role.SERVICE, Role.OPERATOR, Role.VIEWER))
    reader: Identity = Depends(auth.require(*Role))

    @routes.put(
        "/{userId}",
        response_model=PersonView,
        responses={201: {"model": PersonView, "description": "A new person"}},
    )
    async def put_person(
        user_id: UserIdPath,
        body: PersonBody,
        response: Response,
        if_match: IfMatch = None,
        identity: Identity = writer,
    ) -> PersonView:
        """Store a person. Sending mail and issuing credentials need an e-mail address."""
        new = build_person(user_id, body, may_give_admin=identity.has(Role.ADMIN))
        async with db.write() as tx:
            if if_match is not None:
                await tx.lock(f"person {user_id}")  # the check and the write belong together
            stored = await api.get(tx, user_id)
            if if_match is not None:
                etag.check_if_match(if_match, None if stored is None else _person_json(stored))
            if stored is not None:
                new = replace(new, suspended_at=stored.suspended_at)
            created = await api.put(tx, new)
        response.status_code = 201 if created else 200
        response.headers["ETag"] = etag.entity_tag(_person_json(new))
        return _person_view(new, shows_email=True)

    @routes.post("/{userId}/suspend", status_code=204)
    async def suspend_person(user_id: UserIdPath, identity: Identity = writer) -> None:
        """Suspend a person: no message is sent. What they do is recorded as before."""
        async with db.write() as tx:
            await api.set_suspended(tx, user_id, True, identity.subject)

    @routes.post("/{userId}/resume", status_code=204)
    async def resume_person(user_id: UserIdPath, identity: Identity = writer) -> None:
        """End the suspension of a person: messages from now on are sent again."""
        async with db.write() as tx:
            await api.set_suspended(tx, user_id, False, identity.subject)

    @routes.get("")
    async def list_people(
        paging: PagingQuery,
        q: Annotated[str, Query(max_length=200)] = "",
        manager_id: Annotated[ExternalId | None, Query(alias="managerId")] = None,
        group_id: Annotated[ExternalId | None, Query(alias="groupId")] = None,
        identity: Identity = staff,
    ) -> Page[PersonView]:
        """List people by id.

        Each word of `q` is the beginning of an id, a part of a name, or a whole e-mail address.
        """
        key = paging.key(str)
        async with db.read() as tx:
            found = await api.search(
                tx,
                text=q,
                manager_id=manager_id,
                group_id=group_id,
                after=None if key is None else str(key[0]),
                count=paging.limit + 1,
            )
        page, cursor = cut_page(found, paging, lambda each: [each.id])
        shows_email = identity.has(Role.SERVICE)
        items = [_person_view(each, shows_email=shows_email) for each in page]
        return Page[PersonView](items=items, next_cursor=cursor)

    @routes.get("/{userId}")
    async def get_person(
        user_id: UserIdPath,
        response: Response,
        identity: Identity = reader,
    ) -> PersonView:
        """Return a person, to the person, to the platform's servers and to staff.

        Managers may read their own people.
        """
        scope = auth.people(identity)
        async with db.read() as tx:
            await scope.check(tx, user_id)
            person = await api.get(tx, user_id)
            shows_email = (
                identity.is_learner(user_id)
                or identity.has(Role.SERVICE)
                or bool(await scope.related(tx, [user_id]))
            )
        if person is None:
            raise NotFound(f"There is no person {user_id!r} in the directory.")
        response.headers["ETag"] = etag.entity_tag(_person_json(person))
        return _person_view(person, shows_email=shows_email)


def build_person(user_id: str, body: PersonBody, *, may_give_admin: bool) -> Person:
    """Return the person of a body; raise ``Invalid`` or ``Forbidden``."""
    if body.manager_id == user_id:
        raise Invalid("A person cannot be their own manager.")
    roles = tuple(dict.fromkeys(role.value for role in body.roles or ()))
    if Role.ADMIN in roles and not may_give_admin:
        raise Forbidden("Only an admin may give the role admin.")
    return Person(
        id=user_id,
        email=body.email,
        given_name=body.given_name,
        family_name=body.family_name,
        locale=body.locale,
        time_zone=body.time_zone,
        manager_id=body.manager_id,
        roles=roles,
        group_ids=tuple(dict.fromkeys(body.group_ids or ())),
    )


def _person_json(stored: Person) -> bytes:
    """Return a person as those see it who see all."""
    return _person_view(stored, shows_email=True).model_dump_json(by_alias=True).encode()


def _add_personal_data(
    routes: APIRouter, db: Database, auth: Auth, records: PersonalDataRegistry
) -> None:
    reader: Identity = Depends(auth.require(*Role))
    eraser: Identity = Depends(auth.require(Role.ADMIN))

    @routes.get("/{userId}/export", response_model=PersonExport)
    async def export_person(
        user_id: UserIdPath,
        identity: Identity = reader,
    ) -> Response:
        """Return all data about a person, to the person and to an admin."""
        if not identity.is_learner(user_id) and not identity.has(Role.ADMIN):
            raise Forbidden("Only the person or an admin may export all data about a person.")
        data = await records.export(db, user_id, identity.subject)
        return Response(msgspec.json.encode(data), media_type="application/json")

    @routes.delete("/{userId}")
    async def erase_person(
        user_id: UserIdPath,
        identity: Identity = eraser,
    ) -> PersonErasure:
        """Erase a person. Rows that belong to others stay, with a pseudonym for the id."""
        rows = await records.erase(db, user_id, identity.subject)
        return PersonErasure(user_id=user_id, rows=rows)


def _person_view(person: Person, *, shows_email: bool) -> PersonView:
    known = asdict(person)
    email = person.email if shows_email or person.email is None else mask_email(person.email)
    return PersonView(user_id=known.pop("id"), **{**known, "email": email})
