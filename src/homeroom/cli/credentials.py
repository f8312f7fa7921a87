"""``homeroom credentials``: preview and revoke credentials, rotate the key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from homeroom.cli.application import audit_actor, run_with_application
from homeroom.cli.group import JsonOption, LazyModule, YesOption, command_group, epilog
from homeroom.cli.terminal import confirm, print_json, print_text
from homeroom.errors import BadRequest

if TYPE_CHECKING:
    from homeroom.bootstrap import database, partners
    from homeroom.bootstrap.application import Application
    from homeroom.credentials.api import Credential
    from homeroom.credentials.open_badges import preview as previews
else:
    database = LazyModule("homeroom.bootstrap.database")
    partners = LazyModule("homeroom.bootstrap.partners")
    previews = LazyModule("homeroom.credentials.open_badges.preview")

app = command_group("Preview certificates; revoke credentials; rotate the key.")
_MAX_REASON = 500


@app.command(
    "preview",
    epilog=epilog(
        "homeroom credentials preview",
        'homeroom credentials preview --title "Data for everyone" --learner "Ada Okafor"',
    ),
)
def preview(
    folder: Annotated[
        Path, typer.Option("--folder", help="The folder to write to; it is made.")
    ] = Path("credential-preview"),
    title: Annotated[str, typer.Option(help="The title of the course.")] = "Data for everyone",
    learner: Annotated[str, typer.Option(help="The name on the certificate.")] = "Ada Example",
    as_json: JsonOption = False,
) -> None:
    """Write an example of certificate, badge and page, in the look of the settings.

    Nothing is signed or stored, and no database is needed. The badge holds no credential.
    """
    settings = database.load_settings()
    files = previews.preview_files(
        partners.issuer_profile(settings), partners.certificate_style(settings), title, learner
    )
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    if as_json:
        print_json({"files": [str(folder / name) for name in files]})
        return
    print_text("\n".join(str(folder / name) for name in files))


@app.command(
    "revoke",
    epilog=epilog(
        'homeroom credentials revoke 4fTzq0bW1mUuYQ2yqkN8Qw7e --reason "issued by mistake"',
        codes=(4, 5),
    ),
)
def revoke(
    id: Annotated[str, typer.Argument(help="The id at the end of the credential's address.")],
    reason: Annotated[str, typer.Option(help="The reason; it goes into the audit trail.")],
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Revoke a credential at its issuer and here. This cannot be undone."""
    if not 1 <= len(reason) <= _MAX_REASON:
        raise BadRequest(f"A reason has 1 to {_MAX_REASON} characters.")
    confirm(f"Revoke the credential {id}?", yes=yes)

    async def change(application: Application) -> Credential:
        return await application.credentials.revoke(id, reason, audit_actor())

    revoked = run_with_application(change)
    if as_json:
        print_json({"id": revoked.id, "state": revoked.state})
        return
    print_text(f"The credential {revoked.id} is revoked.")


@app.command(
    "rotate-key",
    epilog=epilog("homeroom credentials rotate-key", codes=(5,)),
)
def rotate_key(yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Sign credentials with a new key from now on.

    The private key before is deleted. Its public key stays published, so that what it has signed
    can be verified. With HOMEROOM_CREDENTIAL_KEY_FILE replace the file instead, and restart.
    """
    confirm("Sign with a new key from now on, and delete the one before?", yes=yes)

    async def rotate(application: Application) -> str:
        return await application.badge_issuer.rotate_key(audit_actor())

    id = run_with_application(rotate)
    if as_json:
        print_json({"keyId": id})
        return
    print_text(f"Credentials are signed with the key {id}.")
