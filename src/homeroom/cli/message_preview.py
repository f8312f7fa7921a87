"""``homeroom notify preview``: print a message with example data or current data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from homeroom.cli.application import run_with_application
from homeroom.cli.group import JsonOption, LazyModule
from homeroom.cli.terminal import print_json, print_text
from homeroom.errors import BadRequest, NotFound
from homeroom.notify.message import MESSAGE_TYPES
from homeroom.notify.message_texts import list_languages

if TYPE_CHECKING:
    from homeroom.activity import api as activity
    from homeroom.bootstrap import database, partners
    from homeroom.bootstrap.application import Application
    from homeroom.notify import api as notify
    from homeroom.people import api as people
    from homeroom.people.api import Person
else:
    activity = LazyModule("homeroom.activity.api")
    database = LazyModule("homeroom.bootstrap.database")
    notify = LazyModule("homeroom.notify.api")
    partners = LazyModule("homeroom.bootstrap.partners")
    people = LazyModule("homeroom.people.api")


def require_message_type(name: str) -> str:
    """Return the name of a type of message; raise ``BadRequest`` for an unknown one."""
    if name not in MESSAGE_TYPES:
        raise BadRequest(
            f"There is no type of message {name!r}.",
            hint=f"The types are {', '.join(MESSAGE_TYPES)}.",
        )
    return name


def preview(
    type: Annotated[
        str, typer.Argument(metavar="TYPE", help=f"One of {', '.join(MESSAGE_TYPES)}.")
    ],
    locale: Annotated[
        str | None,
        typer.Option(help=f"One of {', '.join(list_languages())}; by default that of the person."),
    ] = None,
    programme: Annotated[
        str | None,
        typer.Option(help="The look and templates of this programme; with --user its data."),
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Write to this person, in their language.")
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="The HTML instead of the text.")] = False,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="A page with HTML and text beside each other.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print a message as it would be now, from your own templates if there are any.

    Nothing is stored or sent. Without a person it has example data. The unsubscribe link is an
    example, too.
    """
    unsubscribe_url = (
        None
        if MESSAGE_TYPES[require_message_type(type)].mandatory
        else "https://homeroom.example.org/u/token"
    )
    require_programme(programme, user)
    templates = partners.build_templates(database.load_settings())
    params, given_name = notify.EXAMPLE_PARAMS[type], "Ada"
    if programme is not None and user is not None:
        params, person = run_with_application(
            lambda application: load_content(application, type, programme, user)
        )
        locale, given_name = locale or person.locale, person.given_name
    words = templates.render(
        type,
        params,
        locale=locale,
        given_name=given_name,
        unsubscribe_url=unsubscribe_url,
        programme_id=programme,
    )
    if as_json:
        print_json(
            {
                "title": words.title,
                "summary": words.summary,
                "text": words.text,
                "html": words.page,
            }
        )
    elif side_by_side:
        print_text(templates.preview_page(words, locale=locale))
    elif html:
        print_text(words.page)
    else:
        print_text(f"Subject: {words.title}\n\n{words.text}".rstrip())


def require_programme(programme: str | None, user: str | None) -> None:
    """Raise ``BadRequest`` for a person without a programme."""
    if user is not None and programme is None:
        raise BadRequest(
            "--user needs --programme.", hint="Give both, or only a programme for an example."
        )


async def load_content(
    application: Application, type: str, programme_id: str, user_id: str
) -> tuple[Mapping[str, object], Person]:
    """Return the content that a message would have for a person now, and the person."""
    async with application.db.read() as tx:
        programme = await application.activity.programmes.get(tx, programme_id)
        person = await people.get(tx, user_id)
        if person is None:
            raise NotFound(f"There is no person {user_id!r}.")
        return await activity.build_preview_params(tx, programme, type, user_id), person
