"""``homeroom destinations``: list the partner systems, and switch one on."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeroom.cli.application import audit_actor, run_with_application
from homeroom.cli.group import JsonOption, command_group, epilog
from homeroom.cli.terminal import (
    format_instant,
    pluralize,
    print_json,
    print_table,
    print_text,
    to_json_fields,
)
from homeroom.instant import to_rfc3339

if TYPE_CHECKING:
    from homeroom.bootstrap.application import Application
    from homeroom.dispatch.destinations import DestinationStatus

app = command_group("List the partner systems that jobs call, and switch one on.")


@app.command(
    "list",
    epilog=epilog("homeroom destinations list", "homeroom destinations list --json"),
)
def list_destinations(as_json: JsonOption = False) -> None:
    """List the partner systems: states, last successes and errors, backlogs.

    WAITING are jobs that wait until the partner is back. OUTSTANDING are the steps of completions
    that are not done, FAILED those of them that are not tried again by themselves.
    """

    async def read(application: Application) -> list[DestinationStatus]:
        async with application.db.read() as tx:
            return await application.destinations.list_all(tx)

    found = run_with_application(read)
    if as_json:
        print_json({"items": [_fields(status) for status in found]})
        return
    print_table(
        (
            *("name", "state", "since", "last success", "waiting", "outstanding", "failed"),
            *("next probe", "last error"),
        ),
        [
            (
                status.name,
                status.state if status.is_configured else "not configured",
                "" if status.since is None else format_instant(status.since),
                "" if status.last_success_at is None else format_instant(status.last_success_at),
                str(status.held_jobs),
                str(status.waiting_steps + status.failed_steps),
                str(status.failed_steps),
                "" if status.next_probe_at is None else format_instant(status.next_probe_at),
                status.disabled_reason or status.last_error or "",
            )
            for status in found
        ],
        "There are no partner systems.",
    )


@app.command(
    "switch-on",
    epilog=epilog("homeroom destinations switch-on credly", codes=(4,)),
)
def switch_on(
    name: Annotated[str, typer.Argument(help="Such as credly, analytics or hr.")],
    as_json: JsonOption = False,
) -> None:
    """Start the waiting jobs of a partner now, and enable it after a 410.

    A partner that is away is found to be back by itself, in five minutes at most. Steps that failed
    while it was disabled have to be retried. This adds a line to the audit trail.
    """

    async def switch(application: Application) -> DestinationStatus:
        return await application.destinations.switch_on(name, audit_actor())

    status = run_with_application(switch)
    if as_json:
        print_json(_fields(status))
        return
    print_text(f"{name} is on; {pluralize(status.held_jobs, 'waiting job')} will start.")


def _fields(status: DestinationStatus) -> dict[str, Any]:
    instants = {"since": status.since, "outstandingSince": status.outstanding_since}
    return {
        **to_json_fields(asdict(status)),
        **{
            name: None if instant is None else to_rfc3339(instant)
            for name, instant in instants.items()
        },
    }
