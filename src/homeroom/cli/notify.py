"""``homeroom notify``: see how messages look, send one, and follow what was sent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from homeroom.cli.actor import actor
from homeroom.cli.group import Json, epilog, group
from homeroom.cli.house import in_house
from homeroom.cli.output import moment, note, print_json, print_table, say, short, wire
from homeroom.errors import BadRequest, HomeroomError, NotFound
from homeroom.notify import store, want
from homeroom.notify.api import (
    EXAMPLES,
    KINDS,
    Attempt,
    Channel,
    Delivery,
    Heard,
    Notification,
    Status,
    Suppression,
    Templates,
    Verdict,
    languages,
    read_dsn,
)
from homeroom.people.api import masked
from homeroom.wiring import House, load_settings

app = group("See how messages look, send one, and follow what was sent.")


def _kind(name: str) -> str:
    if name not in KINDS:
        raise BadRequest(
            f"There is no type of message {name!r}.", hint=f"The types are {', '.join(KINDS)}."
        )
    return name


@app.command(
    "preview",
    epilog=epilog(
        "homeroom notify preview log_reminder",
        "homeroom notify preview manager_report --locale de",
        "homeroom notify preview deadline_warning --html > warning.html",
    ),
)
def preview(
    type: Annotated[str, typer.Argument(metavar="TYPE", help=f"One of {', '.join(EXAMPLES)}.")],
    locale: Annotated[str, typer.Option(help=f"One of {', '.join(languages())}.")] = "en",
    html: Annotated[bool, typer.Option("--html", help="The HTML instead of the text.")] = False,
    as_json: Json = False,
) -> None:
    """Print a type of message with made-up data, from your templates if there are any."""
    settings = load_settings()
    stop_url = None if KINDS[_kind(type)].mandatory else "https://homeroom.example.org/u/token"
    words = Templates(settings.template_dir).words(
        type, EXAMPLES[type], locale=locale, given_name="Ada", stop_url=stop_url
    )
    if as_json:
        print_json(
            {
                "title": words.title,
                "summary": words.summary,
                "text": words.text,
                "html": words.html,
            }
        )
    elif html:
        say(words.html)
    else:
        say(f"Subject: {words.title}\n\n{words.text}".rstrip())


@app.command(
    "send-test",
    epilog=epilog(
        "homeroom notify send-test ada@example.org",
        "homeroom notify send-test ada@example.org --type manager_report",
        "homeroom notify send-test +4915112345678 --channel sms",
        codes=(5,),
    ),
)
def send_test(
    address: Annotated[str, typer.Argument(help="An address of the channel.")],
    channel: Annotated[str, typer.Option(help="email, sms or chat.")] = "email",
    type: Annotated[str, typer.Option(help="Which example to send.")] = "log_reminder",
    as_json: Json = False,
) -> None:
    """Send an example at once and say what the server answered. It leaves no rows behind."""
    if channel not in ("email", "sms", "chat"):
        raise BadRequest(f"There is no channel {channel!r}.", hint="Use email, sms or chat.")
    chosen = Channel(channel)

    async def work(house: House) -> Verdict:
        return await house.notifications.send_test(chosen, address, _kind(type))

    verdict = in_house(work)
    if as_json:
        print_json({"status": verdict.status, "code": verdict.code, "error": verdict.error})
    if verdict.status is Status.ACCEPTED:
        if not as_json:
            say(f"The {channel} server has taken it.")
        return
    raise HomeroomError(f"It was not sent ({verdict.status}): {verdict.error}.")


@app.command(
    "deliveries",
    epilog=epilog(
        "homeroom notify deliveries --status unknown",
        "homeroom notify deliveries --user ada --channel email",
        "homeroom notify deliveries 0199c0de-7a3b-7c11-9f7e-2f60b1a2c3d4",
        codes=(4,),
    ),
)
def deliveries(
    delivery_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Show this one with its attempts.")
    ] = None,
    status: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(each.value for each in Status)}.")
    ] = None,
    channel: Annotated[str | None, typer.Option(help="in_app, email, sms or chat.")] = None,
    user: Annotated[str | None, typer.Option(help="Only those to this person.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    as_json: Json = False,
) -> None:
    """List deliveries, newest first: what was sent, what was not, and why."""
    if delivery_id is not None:
        _show(delivery_id, as_json)
        return
    if status is not None and status not in set(Status):
        known = ", ".join(each.value for each in Status)
        raise BadRequest(f"There is no state {status!r}; there are {known}.")
    if channel is not None and channel not in set(Channel):
        known = ", ".join(each.value for each in Channel)
        raise BadRequest(f"There is no channel {channel!r}; there are {known}.")

    async def work(house: House) -> list[tuple[Delivery, Notification]]:
        async with house.db.read() as tx:
            return await store.newest_deliveries(
                tx, status=status, channel=channel, user_id=user, before_id=None, count=limit
            )

    found = in_house(work)
    if as_json:
        print_json({"items": [wire(_fields(*each)) for each in found]})
        return
    print_table(
        ("ID", "PERSON", "MESSAGE", "CHANNEL", "STATUS", "TRIES", "CHANGED", "REASON"),
        [
            (
                delivery.id,
                notification.user_id,
                notification.type,
                delivery.channel.value,
                delivery.status.value,
                delivery.attempts,
                moment(delivery.updated_at),
                short(delivery.reason, 60),
            )
            for delivery, notification in found
        ],
        "There are no such deliveries.",
    )


def _show(delivery_id: str, as_json: bool) -> None:
    async def work(house: House) -> tuple[Delivery, Notification, list[Attempt]]:
        async with house.db.read() as tx:
            found = await store.get(tx, delivery_id)
            if found is None:
                raise NotFound(f"There is no delivery {delivery_id!r}.")
            return (*found, await store.attempts(tx, delivery_id))

    delivery, notification, tries = in_house(work)
    fields = wire(_fields(delivery, notification))
    if as_json:
        print_json({**fields, "tries": [wire(_attempt(each)) for each in tries]})
        return
    for name, value in fields.items():
        say(f"{name}: {'-' if value is None else value}")
    print_table(
        ("TRY", "BEGAN", "ENDED", "OUTCOME", "ERROR", "ASKED BY", "BECAUSE"),
        [
            (
                each.number,
                moment(each.started_at),
                moment(each.finished_at),
                each.outcome or "under way",
                short(each.error, 60),
                each.actor or "-",
                each.why or "-",
            )
            for each in tries
        ],
        "It was not tried yet.",
    )


def _fields(delivery: Delivery, notification: Notification) -> dict[str, Any]:
    address = delivery.address
    return {
        "id": delivery.id,
        "user_id": notification.user_id,
        "type": notification.type,
        "key": notification.dedupe_key,
        "channel": delivery.channel.value,
        "status": delivery.status.value,
        "reason": delivery.reason,
        "address": masked(address) if address is not None and "@" in address else None,
        "attempts": delivery.attempts,
        "job_id": delivery.job,
        "created_at": delivery.created_at,
        "updated_at": delivery.updated_at,
    }


def _attempt(each: Attempt) -> dict[str, Any]:
    return {
        "number": each.number,
        "started_at": each.started_at,
        "finished_at": each.finished_at,
        "outcome": each.outcome,
        "code": each.code,
        "error": each.error,
        "actor": each.actor,
        "why": each.why,
    }


@app.command(
    "resend",
    epilog=epilog(
        'homeroom notify resend 0199c0de-7a3b-7c11-9f7e-2f60b1a2c3d4 --why "he did not get it"',
        codes=(4, 5),
    ),
)
def resend(
    delivery_id: Annotated[str, typer.Argument(metavar="ID")],
    why: Annotated[str, typer.Option(help="Kept with the attempt and in the audit trail.")],
    as_json: Json = False,
) -> None:
    """Try a delivery that has ended once more. A worker has to be running."""

    async def work(house: House) -> Delivery:
        return await house.notifications.resend(delivery_id, actor(), why)

    found = in_house(work)
    if as_json:
        print_json({"id": found.id, "status": found.status.value, "jobId": found.job})
    else:
        say(f"The delivery {found.id} waits to be sent again (job {found.job}).")


@app.command(
    "bounce",
    epilog=epilog(
        "homeroom notify bounce returned.eml",
        "homeroom notify bounce -   # an alias of the mail server: |/opt/homeroom/bounce",
    ),
)
def bounce(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A mail, or - for standard input.")],
    as_json: Json = False,
) -> None:
    """Take note of a mail that came back: a bounce (RFC 3464) or a complaint (RFC 5965)."""
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise BadRequest(f"{file} cannot be read: {error.strerror}.") from error
    notices = read_dsn(raw)

    async def work(house: House) -> Heard:
        source = "-".join(str(notice.message_id) for notice in notices)
        return await house.notifications.hear(f"cli:{source}", notices)

    heard = in_house(work)
    if as_json:
        print_json({"known": heard.known, "unknown": heard.unknown})
    elif heard.known:
        say(f"Noted for {heard.known} of our mails.")
    else:
        note("It is about no mail of ours.")


@app.command("suppressions", epilog=epilog("homeroom notify suppressions"))
def suppressions(as_json: Json = False) -> None:
    """List the addresses that nothing is sent to any more, newest first."""

    async def work(house: House) -> list[Suppression]:
        async with house.db.read() as tx:
            return await want.newest_suppressions(tx, None, 1_000)

    found = in_house(work)
    rows = [
        {
            "id": each.id,
            "channel": each.channel,
            "address": masked(each.address) if "@" in each.address else f"{each.address[:3]}***",
            "scope": each.scope,
            "reason": each.reason,
            "detail": each.detail,
            "created_at": each.created_at,
        }
        for each in found
    ]
    if as_json:
        print_json({"items": [wire(row) for row in rows]})
        return
    print_table(
        ("ID", "CHANNEL", "ADDRESS", "REASON", "SINCE", "DETAIL"),
        [
            (
                each["id"],
                each["channel"],
                each["address"],
                each["reason"],
                moment(int(str(each["created_at"]))),
                short(str(each["detail"]), 60),
            )
            for each in rows
        ],
        "No address is suppressed.",
    )


@app.command(
    "lift", epilog=epilog("homeroom notify lift 0199c0de-7a3b-7c11-9f7e-2f60b1a2c3d4", codes=(4,))
)
def lift(suppression_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Send to a suppressed address again; an audit line is left."""

    async def work(house: House) -> None:
        await house.notifications.lift(suppression_id, actor())

    in_house(work)
    say(f"Lifted {suppression_id}.")
