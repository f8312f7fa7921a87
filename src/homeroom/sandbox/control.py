"""The control API, by which tests and the demo set up and read the sandbox.

It requires no key; the sandbox belongs on loopback.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from html import escape
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from homeroom.sandbox.credly import BadgeTemplate
from homeroom.sandbox.directory_and_assessment import SandboxPerson, SandboxScore
from homeroom.sandbox.fault import InjectedFault
from homeroom.sandbox.language_model import ModelFault
from homeroom.sandbox.mail import MailFault
from homeroom.sandbox.sandbox_request import SERVER_NAMES, RequestRefused, ServerName
from homeroom.sandbox.state import SandboxState

_OUTCOMES = ("accepted", "refused", "repeated", "failed")

BodyT = TypeVar("BodyT")
ControlHandler = Callable[[SandboxState, Request], Awaitable[Any]]


class PeopleChange(Struct, frozen=True, forbid_unknown_fields=True):
    """People to set, ids to make unknown (404), and whether to generate others."""

    people: list[SandboxPerson] = []
    unknown: list[str] = []
    generate: bool | UnsetType = UNSET


class ScoresChange(Struct, frozen=True, forbid_unknown_fields=True):
    """Scores to set, and whether to generate others."""

    scores: list[SandboxScore] = []
    generate: bool | UnsetType = UNSET


class TemplatesChange(Struct, frozen=True, forbid_unknown_fields=True):
    """Badge templates to set."""

    templates: list[BadgeTemplate]


def control_routes(state: SandboxState) -> list[BaseRoute]:
    """Return the routes below `/control`."""
    table: list[tuple[str, str, ControlHandler]] = [
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
        ("POST", "/control/model/faults", _add_model_fault),
        ("DELETE", "/control/model/faults", _clear_model_faults),
        ("POST", "/control/reset", _reset),
    ]
    pages: list[BaseRoute] = [
        Route("/control/mailbox", _mailbox_page(state), methods=["GET"]),
        Route("/control/mail/{number:int}", _mail_page(state), methods=["GET"]),
    ]
    return pages + [
        Route(path, _endpoint(state, command), methods=[method]) for method, path, command in table
    ]


def _endpoint(
    state: SandboxState, command: ControlHandler
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            answer, status = await command(state, request), 200
        except RequestRefused as refused:
            answer, status = {"error": str(refused)}, refused.status
        return Response(msgspec.json.encode(answer), status, media_type="application/json")

    return endpoint


async def _read_body(request: Request, kind: type[BodyT]) -> BodyT:
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except msgspec.DecodeError as error:  # ValidationError is one, too
        raise RequestRefused(422, str(error)) from error


def _server_parameter(request: Request) -> ServerName | None:
    name = request.query_params.get("server")
    if name is None:
        return None
    for server in SERVER_NAMES:
        if server == name:
            return server
    raise RequestRefused(422, f"no server {name}: there are {', '.join(SERVER_NAMES)}")


async def _received(state: SandboxState, request: Request) -> Any:
    server, outcome = _server_parameter(request), request.query_params.get("outcome")
    if outcome not in (None, *_OUTCOMES):
        raise RequestRefused(422, f"no outcome {outcome}: there are {', '.join(_OUTCOMES)}")
    entries = state.ledger.entries(server, outcome)
    return {
        "items": [entry.to_json() for entry in entries],
        "forgotten": state.ledger.forgotten(server),
    }


async def _summary(state: SandboxState, request: Request) -> Any:
    return state.summary()


async def _badges(state: SandboxState, request: Request) -> Any:
    return {
        "items": list(state.credly.badges.values()),
        "events": list(state.credly.events.values()),
    }


async def _faults(state: SandboxState, request: Request) -> Any:
    return {"items": state.faults.to_json()}


async def _add_fault(state: SandboxState, request: Request) -> Any:
    return {"id": state.faults.add(await _read_body(request, InjectedFault))}


async def _clear_faults(state: SandboxState, request: Request) -> Any:
    state.faults.clear(_server_parameter(request))
    return {"items": state.faults.to_json()}


async def _set_people(state: SandboxState, request: Request) -> Any:
    body = await _read_body(request, PeopleChange)
    directory = state.directory
    for person in body.people:
        directory.people[person.id] = person
        directory.unknown.discard(person.id)
    directory.unknown.update(body.unknown)
    if body.generate is not UNSET:
        directory.generate = body.generate
    return {"people": len(directory.people), "unknown": len(directory.unknown)}


async def _set_scores(state: SandboxState, request: Request) -> Any:
    body = await _read_body(request, ScoresChange)
    assessment = state.assessment
    for score in body.scores:
        assessment.scores[score.user_id, score.course_id] = score
    if body.generate is not UNSET:
        assessment.generate = body.generate
    return {"scores": len(assessment.scores)}


async def _set_templates(state: SandboxState, request: Request) -> Any:
    body = await _read_body(request, TemplatesChange)
    for template in body.templates:
        state.credly.templates[template.id] = template
    return {"templates": len(state.credly.templates)}


async def _mails(state: SandboxState, request: Request) -> Any:
    to = request.query_params.get("to")
    mails = [mail for mail in state.mailbox.mails if to is None or to in mail.recipients]
    return {"items": mails, "forgotten": state.mailbox.forgotten}


async def _add_mail_fault(state: SandboxState, request: Request) -> Any:
    return {"id": state.mailbox.add(await _read_body(request, MailFault))}


async def _add_model_fault(state: SandboxState, request: Request) -> Any:
    return {"id": state.llm.add(await _read_body(request, ModelFault))}


async def _clear_model_faults(state: SandboxState, request: Request) -> Any:
    state.llm.clear()
    return {"items": []}


def _mailbox_page(state: SandboxState) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(_: Request) -> Response:
        """List the mails for a person, newest first."""
        rows = "".join(
            f"<tr><td>{escape(mail.at[:19])}<td>{escape(', '.join(mail.recipients))}"
            f'<td><a href="/control/mail/{mail.number}">{escape(mail.subject)}</a>'
            for mail in reversed(state.mailbox.mails)
        )
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>Mailbox</title>'
            "<style>body{font:1rem sans-serif;margin:2rem}td,th{padding:.3rem 1rem .3rem 0;"
            "text-align:left}</style><h1>Mails that the sandbox took</h1>"
            f"<table><tr><th>Time (UTC)<th>To<th>Subject{rows}</table>"
        )
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        return HTMLResponse(page, headers={"content-security-policy": policy})

    return endpoint


def _mail_page(state: SandboxState) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        """Show a mail as its reader sees it; no script runs, no image is fetched."""
        number = request.path_params["number"]
        for mail in state.mailbox.mails:
            if mail.number == number:
                policy = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
                return HTMLResponse(mail.html, headers={"content-security-policy": policy})
        return Response("there is no such mail", 404)

    return endpoint


async def _reset(state: SandboxState, request: Request) -> Any:
    state.reset()
    return {"status": "reset"}
