"""``homeroom notify``: preview and send messages, list deliveries."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeroom.cli.application import audit_actor, run_with_application, run_with_database
from homeroom.cli.group import JsonOption, LazyModule, command_group, epilog
from homeroom.cli.message_preview import (
    load_content,
    preview,
    require_message_type,
    require_programme,
)
from homeroom.cli.terminal import (
    format_instant,
    pluralize,
    print_json,
    print_table,
    print_text,
    print_to_stderr,
    to_json_fields,
    truncate_line,
)
from homeroom.errors import BadRequest, HomeroomError, NotFound
from homeroom.notify.delivery_rules import DeliveryStatus
from homeroom.notify.message import Channel

if TYPE_CHECKING:
    from homeroom.bootstrap.application import Application
    from homeroom.db.database import Database
    from homeroom.notify import api as notify
    from homeroom.notify import store, suppression
    from homeroom.notify.api import (
        Delivery,
        DeliveryAttempt,
        DeliveryDecision,
        NoticeCounts,
        Notification,
        Suppression,
    )
    from homeroom.notify.suppression import UnmatchedNotice
    from homeroom.people import api as people
else:
    notify = LazyModule("homeroom.notify.api")
    people = LazyModule("homeroom.people.api")
    store = LazyModule("homeroom.notify.store")
    suppression = LazyModule("homeroom.notify.suppression")

_KEEP_AND_RETRY = 75
"""EX_TEMPFAIL of sysexits.h: the mail server keeps the mail in its queue."""
app = command_group("Preview and send messages; list deliveries.")


app.command(
    "preview",
    epilog=epilog(
        "homeroom notify preview log_reminder",
        "homeroom notify preview manager_report --locale de",
        "homeroom notify preview deadline_warning --html > warning.html",
        "homeroom notify preview log_reminder --programme data --user ada --side-by-side > a.html",
        codes=(4,),
    ),
)(preview)


@app.command(
    "send-test",
    epilog=epilog(
        "homeroom notify send-test ada@example.org",
        "homeroom notify send-test ada@example.org --type manager_report --locale de",
        "homeroom notify send-test me@example.org --type log_reminder --programme data --user ada",
        "homeroom notify send-test +4915112345678 --channel sms",
        codes=(4, 5),
    ),
)
def send_test(
    address: Annotated[str, typer.Argument(help="An address of the channel.")],
    channel: Annotated[str, typer.Option(help="email, sms or chat.")] = "email",
    type: Annotated[str, typer.Option(help="The type of message to send.")] = "log_reminder",
    locale: Annotated[
        str | None, typer.Option(help="A language; by default that of the person, or English.")
    ] = None,
    programme: Annotated[
        str | None,
        typer.Option(help="The look and templates of this programme; with --user its data."),
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Write as if to this person; only ADDRESS gets the message.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Send a message at once to one address and print the server's answer.

    It is stored nowhere, and has the headers of a real one; its unsubscribe link changes nothing.
    Without a person it has example data.
    """
    if channel not in ("email", "sms", "chat"):
        raise BadRequest(f"There is no channel {channel!r}.", hint="Use email, sms or chat.")
    chosen = Channel(channel)
    require_message_type(type)
    require_programme(programme, user)

    async def send(application: Application) -> DeliveryDecision:
        params, given_name, language = None, "Ada", locale
        if programme is not None and user is not None:
            params, person = await load_content(application, type, programme, user)
            given_name, language = person.given_name, locale or person.locale
        return await application.notifications.send_test(
            chosen,
            address,
            type,
            params=params,
            locale=language,
            given_name=given_name,
            programme_id=programme,
        )

    decision = run_with_application(send)
    if as_json:
        print_json({"status": decision.status, "code": decision.code, "error": decision.error})
    if decision.status is DeliveryStatus.ACCEPTED:
        if not as_json:
            print_text(f"The {channel} server has accepted it.")
        return
    raise HomeroomError(f"It was not sent ({decision.status}): {decision.error}.")


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
        str | None, typer.Option(help=f"One of {', '.join(each.value for each in DeliveryStatus)}.")
    ] = None,
    channel: Annotated[str | None, typer.Option(help="in_app, email, sms or chat.")] = None,
    user: Annotated[str | None, typer.Option(help="Only those to this person.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List deliveries, newest first, with their status and its reason."""
    if delivery_id is not None:
        _show_delivery(delivery_id, as_json)
        return
    if status is not None and status not in set(DeliveryStatus):
        statuses = ", ".join(each.value for each in DeliveryStatus)
        raise BadRequest(f"There is no status {status!r}; there are {statuses}.")
    if channel is not None and channel not in set(Channel):
        channels = ", ".join(each.value for each in Channel)
        raise BadRequest(f"There is no channel {channel!r}; there are {channels}.")

    async def read_deliveries(db: Database) -> list[tuple[Delivery, Notification]]:
        async with db.read() as tx:
            return await store.list_deliveries(
                tx, status=status, channel=channel, user_id=user, before_id=None, count=limit
            )

    rows = run_with_database(read_deliveries)
    if as_json:
        print_json({"items": [to_json_fields(_delivery_fields(*each)) for each in rows]})
        return
    print_table(
        ("ID", "PERSON", "MESSAGE", "CHANNEL", "STATUS", "ATTEMPTS", "CHANGED", "REASON"),
        [
            (
                delivery.id,
                notification.user_id,
                notification.type,
                delivery.channel.value,
                delivery.status.value,
                delivery.attempts,
                format_instant(delivery.updated_at),
                truncate_line(delivery.reason, 60),
            )
            for delivery, notification in rows
        ],
        "There are no such deliveries.",
    )


def _show_delivery(delivery_id: str, as_json: bool) -> None:
    async def read_delivery(db: Database) -> tuple[Delivery, Notification, list[DeliveryAttempt]]:
        async with db.read() as tx:
            row = await store.get_delivery(tx, delivery_id)
            if row is None:
                raise NotFound(f"There is no delivery {delivery_id!r}.")
            return (*row, await store.list_attempts(tx, delivery_id))

    delivery, notification, attempts = run_with_database(read_delivery)
    fields = to_json_fields(_delivery_fields(delivery, notification))
    if as_json:
        print_json(
            {**fields, "tries": [to_json_fields(_attempt_fields(each)) for each in attempts]}
        )
        return
    for name, value in fields.items():
        print_text(f"{name}: {'-' if value is None else value}")
    print_table(
        ("ATTEMPT", "STARTED", "FINISHED", "OUTCOME", "ERROR", "ACTOR", "REASON"),
        [
            (
                each.number,
                format_instant(each.started_at),
                format_instant(each.finished_at),
                each.outcome or "running",
                truncate_line(each.error, 60),
                each.actor or "-",
                each.why or "-",
            )
            for each in attempts
        ],
        "There was no attempt yet.",
    )


def _delivery_fields(delivery: Delivery, notification: Notification) -> dict[str, Any]:
    address = delivery.address
    return {
        "id": delivery.id,
        "user_id": notification.user_id,
        "type": notification.type,
        "key": notification.dedupe_key,
        "channel": delivery.channel.value,
        "status": delivery.status.value,
        "reason": delivery.reason,
        "reason_code": delivery.reason_code,
        "address": people.mask_email(address) if address is not None and "@" in address else None,
        "attempts": delivery.attempts,
        "job_id": delivery.job,
        "created_at": delivery.created_at,
        "updated_at": delivery.updated_at,
    }


def _attempt_fields(each: DeliveryAttempt) -> dict[str, Any]:
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
    as_json: JsonOption = False,
) -> None:
    """Send a delivery that has ended once more. A worker has to be running."""

    async def resend_delivery(application: Application) -> Delivery:
        return await application.notifications.resend(delivery_id, audit_actor(), why)

    delivery = run_with_application(resend_delivery)
    if as_json:
        print_json({"id": delivery.id, "status": delivery.status.value, "jobId": delivery.job})
    else:
        print_text(f"The delivery {delivery.id} will be sent again by the job {delivery.job}.")


@app.command(
    "bounce",
    epilog=epilog(
        "homeroom notify bounce returned.eml",
        "homeroom notify bounce -   # an alias of the mail server: |/opt/homeroom/bounce",
        codes=(_KEEP_AND_RETRY,),
        without=(3, 78),
    ),
)
def bounce(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A mail, or - for standard input.")],
    as_json: JsonOption = False,
) -> None:
    """Record a bounce or a complaint from a returned mail.

    Made for an alias of a mail server: a mail that is none, or not of Homeroom, is taken (0). If it
    cannot be recorded now, whatever the cause, 75 tells the server to keep it and to try again.
    """
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise BadRequest(f"{file} cannot be read: {error.strerror}.") from error
    try:
        notices = notify.parse_dsn(raw)
    except BadRequest as error:
        print_to_stderr(error.message)
        notices = []

    async def record_notices(application: Application) -> NoticeCounts:
        source = hashlib.sha256(raw).hexdigest()
        return await application.notifications.receive_notices(f"cli:{source}", notices)

    try:
        counts = run_with_application(record_notices)
    except HomeroomError as error:
        print_to_stderr(f"The mail cannot be recorded now: {error.message}")
        raise typer.Exit(_KEEP_AND_RETRY) from error
    if as_json:
        print_json({"known": counts.known, "unknown": counts.unknown, "ignored": counts.ignored})
    elif counts.known:
        print_text(f"Recorded for {pluralize(counts.known, 'mail')} that Homeroom sent.")
    elif counts.ignored:
        print_to_stderr("It is about no final outcome: a delay or an automatic reply.")
    elif counts.unknown:
        print_to_stderr("It does not refer to a mail that Homeroom sent. It is kept for 90 days.")


@app.command("unmatched", epilog=epilog("homeroom notify unmatched"))
def unmatched(as_json: JsonOption = False) -> None:
    """List the bounces and complaints that match no mail of Homeroom, newest first."""

    async def read_unmatched(db: Database) -> list[UnmatchedNotice]:
        async with db.read() as tx:
            return await suppression.list_unmatched(tx, 1_000)

    found = run_with_database(read_unmatched)
    if as_json:
        print_json({"items": [to_json_fields(asdict(each)) for each in found]})
        return
    print_table(
        ("RECEIVED", "KIND", "RECIPIENT", "DETAIL"),
        [
            (
                format_instant(each.at),
                each.kind,
                each.recipient or "-",
                truncate_line(each.detail, 80),
            )
            for each in found
        ],
        "Every report matched a mail.",
    )


@app.command("suppressions", epilog=epilog("homeroom notify suppressions"))
def suppressions(as_json: JsonOption = False) -> None:
    """List the suppressed addresses, newest first. No message is sent to them."""

    async def read_suppressions(db: Database) -> list[Suppression]:
        async with db.read() as tx:
            return await suppression.list_suppressions(tx, None, 1_000)

    suppressed = run_with_database(read_suppressions)
    rows: list[dict[str, Any]] = [
        {
            "id": each.id,
            "channel": each.channel,
            "address": people.mask_email(each.address)
            if "@" in each.address
            else f"{each.address[:3]}***",
            "scope": each.scope,
            "reason": each.reason,
            "detail": each.detail,
            "created_at": each.created_at,
            "expires_at": each.expires_at,
        }
        for each in suppressed
    ]
    if as_json:
        print_json({"items": [to_json_fields(row) for row in rows]})
        return
    print_table(
        ("ID", "CHANNEL", "ADDRESS", "REASON", "SINCE", "UNTIL", "DETAIL"),
        [
            (
                each["id"],
                each["channel"],
                each["address"],
                each["reason"],
                format_instant(int(str(each["created_at"]))),
                "lifted" if each["expires_at"] is None else format_instant(each["expires_at"]),
                truncate_line(str(each["detail"]), 60),
            )
            for each in rows
        ],
        "No address is suppressed.",
    )


@app.command(
    "lift", epilog=epilog("homeroom notify lift 0199c0de-7a3b-7c11-9f7e-2f60b1a2c3d4", codes=(4,))
)
def lift(suppression_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Lift a suppression: messages are sent to the address again."""

    async def lift_suppression(application: Application) -> None:
        await application.notifications.lift_suppression(suppression_id, audit_actor())

    run_with_application(lift_suppression)
    print_text(f"Lifted {suppression_id}.")
