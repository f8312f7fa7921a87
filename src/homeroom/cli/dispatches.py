"""``homeroom dispatches``: list and show messages to partners, send them again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from homeroom.cli.application import audit_actor, run_with_application
from homeroom.cli.group import (
    JsonOption,
    LazyModule,
    YesOption,
    command_group,
    epilog,
    parse_duration_us,
)
from homeroom.cli.terminal import (
    confirm,
    format_instant,
    pluralize,
    print_json,
    print_table,
    print_text,
    print_to_stderr,
    to_json_fields,
    truncate_line,
)
from homeroom.errors import BadRequest, HomeroomError
from homeroom.instant import from_datetime

if TYPE_CHECKING:
    import dataclasses

    import msgspec

    from homeroom.bootstrap.application import Application
    from homeroom.dispatch import bulk_replay as replays
    from homeroom.dispatch import listing
    from homeroom.dispatch.listing import ListedDispatch
else:
    dataclasses = LazyModule("dataclasses")
    listing = LazyModule("homeroom.dispatch.listing")
    msgspec = LazyModule("msgspec")
    replays = LazyModule("homeroom.dispatch.bulk_replay")

_PAGE_SIZE = 200
_REASON_WIDTH = 120
DestinationOption = Annotated[
    str | None, typer.Option("--destination", help="Only to this destination.")
]

app = command_group("List the messages to partners; send them again.")


@app.command(
    "list",
    epilog=epilog(
        "homeroom dispatches list",
        "homeroom dispatches list --destination hr --status failed",
        "homeroom dispatches list --user u-1042 --json",
    ),
)
def list_dispatches(
    destination: DestinationOption = None,
    status: Annotated[
        Literal["waiting", "delivered", "failed", "skipped"] | None,
        typer.Option(help="Only those in this status."),
    ] = None,
    user: Annotated[str | None, typer.Option("--user", help="Only of this learner.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Created in the last 12h, 7d, or since a time.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List the messages to analytics and HR, newest first, with their answers."""

    async def read(application: Application) -> list[ListedDispatch]:
        application.dispatches.check_destination(destination)
        start = None if since is None else _parse_since(application, since)
        found: list[ListedDispatch] = []
        before: tuple[int, str] | None = None
        while len(found) <= limit:
            async with application.db.read() as tx:
                page = await application.dispatches.list_newest(
                    tx, destination, status, before, _PAGE_SIZE, user_id=user, since=start
                )
                found += await listing.add_jobs(tx, application.completions, page)
            if len(page) < _PAGE_SIZE:
                break
            before = (page[-1].created_at, page[-1].id)
        return found

    found = run_with_application(read)
    if as_json:
        print_json({"items": [_fields(each) for each in found[:limit]], "more": len(found) > limit})
        return
    print_table(
        ("ID", "TO", "LEARNER", "STATUS", "TRIES", "LAST TRY", "ANSWER", "NEXT TRY"),
        [
            (
                each.id,
                each.destination,
                each.user_id,
                each.status,
                each.attempts,
                format_instant(each.last_attempt_at),
                truncate_line(_describe_answer(each), _REASON_WIDTH),
                format_instant(each.next_attempt_at),
            )
            for each in found[:limit]
        ],
        "There are none.",
    )
    if len(found) > limit:
        print_to_stderr(f"There are more than these {limit:,}; --limit shows more of them.")


@app.command(
    "show",
    epilog=epilog(
        "homeroom dispatches show 5b0b4a3e-2f0e-5c62-9c60-8f6f3d1f4a11",
        codes=(4,),
    ),
)
def show(
    dispatch_id: Annotated[str, typer.Argument(metavar="ID", help="The webhook-id.")],
    as_json: JsonOption = False,
) -> None:
    """Show what was sent, the answer, and the next attempt.

    The message may hold the learner's name and score.
    """

    async def read(application: Application) -> ListedDispatch:
        async with application.db.read() as tx:
            found = await application.dispatches.get(tx, dispatch_id)
            return (await listing.add_jobs(tx, application.completions, [found]))[0]

    found = run_with_application(read)
    message = msgspec.json.decode(found.payload)
    if as_json:
        print_json({**_fields(found), "message": message})
        return
    for name, value in _facts(found).items():
        print_text(f"{name:<14}{value}")
    print_text("\n" + msgspec.json.format(found.payload, indent=2))


@app.command(
    "replay",
    epilog=epilog(
        "homeroom dispatches replay --destination hr --since 2d --dry-run",
        "homeroom dispatches replay --destination hr --since 2026-11-22T00:00:00Z",
        "homeroom dispatches replay --destination analytics --since 7d --scope all --yes",
        "homeroom dispatches replay 5b0b4a3e-2f0e-5c62-9c60-8f6f3d1f4a11",
        codes=(4,),
    ),
)
def replay(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Dispatches.")] = None,
    destination: Annotated[
        str | None, typer.Option("--destination", help="With --since: to it.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", help="Created in the last 12h, 7d, or since a time. Asks first."),
    ] = None,
    scope: Annotated[
        Literal["undelivered", "all"],
        typer.Option(
            help="With --since: what failed or was skipped; all: what was delivered, too."
        ),
    ] = "undelivered",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count them only.")] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Send messages again with the same ids; switch their destination on.

    Messages that wait for an attempt are passed over: they are sent anyway. Completions whose
    message failed or was skipped before it was made get theirs.
    """
    has_filter = destination is not None and since is not None
    if bool(ids) == has_filter or (ids and (destination or since or dry_run)):
        raise BadRequest("Name dispatches: by their ids, or by --destination and --since.")
    if ids:
        _replay_each(ids, as_json)
        return

    async def count_all(application: Application) -> int:
        return await _replays(application).count(selected(application))

    async def replay_all(application: Application) -> int:
        return await _replays(application).run(selected(application), audit_actor())

    def selected(application: Application) -> replays.Replay:
        return replays.Replay(str(destination), _parse_since(application, str(since)), scope)

    count = run_with_application(count_all)
    if count and not dry_run:
        confirm(f"Send {pluralize(count, 'message')} to {destination} again?", yes=yes)
        count = run_with_application(replay_all)
    if as_json:
        print_json({"count": count})
    else:
        verb = "Would send" if dry_run else "Sending"
        print_text(f"{verb} {pluralize(count, 'message')} to {destination} again.")


def _replays(application: Application) -> replays.DispatchReplays:
    return replays.DispatchReplays(application.db, application.dispatches, application.completions)


def _replay_each(ids: Sequence[str], as_json: bool) -> None:
    """Replay each dispatch; raise the first error at the end."""

    async def replay_each(application: Application) -> list[HomeroomError]:
        errors: list[HomeroomError] = []
        for id in dict.fromkeys(ids):
            try:
                await application.dispatches.replay(id, audit_actor())
            except HomeroomError as error:
                errors.append(error)
        return errors

    errors = run_with_application(replay_each)
    count = len(set(ids)) - len(errors)
    if as_json:
        print_json({"count": count})
    elif count:
        print_text(f"Sending {pluralize(count, 'message')} again.")
    for error in errors[1:]:
        print_to_stderr(f"Error: {error.message}")
    if errors:
        raise errors[0]


def _parse_since(application: Application, text: str) -> int:
    """Return the instant of a duration before now, or of an RFC 3339 time."""
    if "T" not in text.upper():
        return application.db.clock.now() - parse_duration_us(text)
    try:
        return from_datetime(datetime.fromisoformat(text))
    except (ValueError, OverflowError) as error:
        raise BadRequest(
            f"{text!r} is not a time with a zone.", hint="Write it as 2026-11-22T00:00:00Z, or 2d."
        ) from error


def _describe_answer(dispatch: ListedDispatch) -> str | None:
    if dispatch.status == "delivered":
        parts = (str(dispatch.last_status or ""), dispatch.last_answer or "")
        return " ".join(part for part in parts if part)
    return dispatch.last_error


def _fields(dispatch: ListedDispatch) -> dict[str, Any]:
    values = dataclasses.asdict(dispatch)
    del values["payload"]
    return to_json_fields(values)


def _facts(dispatch: ListedDispatch) -> dict[str, object]:
    facts: dict[str, object] = {
        "id": dispatch.id,
        "to": dispatch.destination,
        "type": dispatch.type,
        "learner": dispatch.user_id,
        "completion": dispatch.completion_id,
        "status": dispatch.status,
        "attempts": dispatch.attempts,
        "replays": dispatch.replays,
        "created": format_instant(dispatch.created_at),
        "last attempt": format_instant(dispatch.last_attempt_at),
        "answer": _describe_answer(dispatch) or "-",
        "delivered": format_instant(dispatch.delivered_at),
        "next attempt": format_instant(dispatch.next_attempt_at),
        "job": dispatch.job_id or "-",
    }
    return facts
