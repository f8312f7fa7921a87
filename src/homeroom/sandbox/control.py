"""The control API: what a test or a demo tells the sandbox, and asks it.

It asks for no key; the sandbox belongs on loopback.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from homeroom.sandbox.assessment import Score
from homeroom.sandbox.credly import Template
from homeroom.sandbox.directory import Person
from homeroom.sandbox.exchange import SERVERS, Refused, Server
from homeroom.sandbox.fault import Fault
from homeroom.sandbox.mail import MailFault
from homeroom.sandbox.world import World

_OUTCOMES = ("accepted", "refused", "repeated", "failed")

Order = TypeVar("Order")
Command = Callable[[World, Request], Awaitable[Any]]


class PeopleOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """Set people; make ids unknown (404); say whether unheard-of ids are made up."""

    people: list[Person] = []
    unknown: list[str] = []
    generate: bool | UnsetType = UNSET


class ScoresOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """Set scores; say whether unheard-of ones are made up."""

    scores: list[Score] = []
    generate: bool | UnsetType = UNSET


class TemplatesOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """Set how badge templates behave."""

    templates: list[Template]


def routes(world: World) -> list[BaseRoute]:
    """Return the routes below `/control`."""
    table: list[tuple[str, str, Command]] = [
        ("GET", "/control/received", _received),
        ("GET", "/control/summary", _summary),
        ("GET", "/control/badges", _badges),
        ("GET", "/control/faults", _faults),
        ("POST", "/control/faults", _add_fault),
        ("DELETE", "/control/faults", _clear_faults),
        ("POST", "/control/people", _set_people),
        ("POST", "/control/scores", _set_scores),
        ("POST", "/control/templates", _set_templates),
        ("GET", "/control/mail", _mails),
        ("POST", "/control/mail/faults", _add_mail_fault),
        ("POST", "/control/reset", _reset),
    ]
    shown: list[BaseRoute] = [
        Route("/control/mail/{number:int}", _mail_page(world), methods=["GET"])
    ]
    return shown + [
        Route(path, _endpoint(world, command), methods=[method]) for method, path, command in table
    ]


def _endpoint(world: World, command: Command) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            answer, status = await command(world, request), 200
        except Refused as refused:
            answer, status = {"error": str(refused)}, refused.status
        return Response(msgspec.json.encode(answer), status, media_type="application/json")

    return endpoint


async def _read(request: Request, kind: type[Order]) -> Order:
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except msgspec.DecodeError as error:  # ValidationError is one, too
        raise Refused(422, str(error)) from error


def _server(request: Request) -> Server | None:
    name = request.query_params.get("server")
    if name is None:
        return None
    for server in SERVERS:
        if server == name:
            return server
    raise Refused(422, f"no server {name}: there are {', '.join(SERVERS)}")


async def _received(world: World, request: Request) -> Any:
    server, outcome = _server(request), request.query_params.get("outcome")
    if outcome not in (None, *_OUTCOMES):
        raise Refused(422, f"no outcome {outcome}: there are {', '.join(_OUTCOMES)}")
    entries = world.ledger.entries(server, outcome)
    return {
        "items": [entry.shown() for entry in entries],
        "forgotten": world.ledger.forgotten(server),
    }


async def _summary(world: World, request: Request) -> Any:
    return world.summary()


async def _badges(world: World, request: Request) -> Any:
    return {
        "items": list(world.credly.badges.values()),
        "events": list(world.credly.events.values()),
    }


async def _faults(world: World, request: Request) -> Any:
    return {"items": world.faults.shown()}


async def _add_fault(world: World, request: Request) -> Any:
    return {"id": world.faults.add(await _read(request, Fault))}


async def _clear_faults(world: World, request: Request) -> Any:
    world.faults.clear(_server(request))
    return {"items": world.faults.shown()}


async def _set_people(world: World, request: Request) -> Any:
    order = await _read(request, PeopleOrder)
    directory = world.directory
    for person in order.people:
        directory.people[person.id] = person
        directory.unknown.discard(person.id)
    directory.unknown.update(order.unknown)
    if order.generate is not UNSET:
        directory.generate = order.generate
    return {"people": len(directory.people), "unknown": len(directory.unknown)}


async def _set_scores(world: World, request: Request) -> Any:
    order = await _read(request, ScoresOrder)
    assessment = world.assessment
    for score in order.scores:
        assessment.scores[score.user_id, score.course_id] = score
    if order.generate is not UNSET:
        assessment.generate = order.generate
    return {"scores": len(assessment.scores)}


async def _set_templates(world: World, request: Request) -> Any:
    order = await _read(request, TemplatesOrder)
    for template in order.templates:
        world.credly.templates[template.id] = template
    return {"templates": len(world.credly.templates)}


async def _mails(world: World, request: Request) -> Any:
    to = request.query_params.get("to")
    mails = [mail for mail in world.mailroom.mails if to is None or to in mail.recipients]
    return {"items": mails, "forgotten": world.mailroom.forgotten}


async def _add_mail_fault(world: World, request: Request) -> Any:
    return {"id": world.mailroom.add(await _read(request, MailFault))}


def _mail_page(world: World) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        """Show a mail as its reader would see it; nothing in it runs or is fetched."""
        number = request.path_params["number"]
        for mail in world.mailroom.mails:
            if mail.number == number:
                policy = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
                return HTMLResponse(mail.html, headers={"content-security-policy": policy})
        return Response("there is no such mail", 404)

    return endpoint


async def _reset(world: World, request: Request) -> Any:
    world.reset()
    return {"status": "reset"}
