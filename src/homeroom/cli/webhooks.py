"""``homeroom webhooks``: send a signed test message to a receiver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from homeroom.cli.application import audit_actor, run_with_application
from homeroom.cli.group import JsonOption, command_group, epilog
from homeroom.cli.terminal import print_json, print_text

if TYPE_CHECKING:
    from homeroom.bootstrap.application import Application

app = command_group("Send a signed test message to a receiver of webhooks.")


@app.command("test", epilog=epilog("homeroom webhooks test analytics", codes=(3, 4, 5)))
def send_test(
    name: Annotated[str, typer.Argument(help="analytics or hr.")], as_json: JsonOption = False
) -> None:
    """Send a signed test message, and say what the receiver answers.

    Its type is org.homeroom.webhook.test. It is signed with all secrets that are set for the
    receiver. This adds a line to the audit trail.
    """

    async def send(application: Application) -> int:
        return await application.dispatches.send_test(name, audit_actor())

    status = run_with_application(send)
    if as_json:
        print_json({"status": status})
        return
    print_text(f"{name} accepted the test message and its signature ({status}).")
