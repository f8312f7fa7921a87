"""``homeroom credentials``: preview and revoke credentials, rotate the key."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    pluralize,
    print_json,
    print_table,
    print_text,
    print_to_stderr,
)
from homeroom.errors import BadRequest, Conflict

if TYPE_CHECKING:
    from homeroom.bootstrap import database, partners
    from homeroom.bootstrap.application import Application
    from homeroom.credentials import api as credentials
    from homeroom.credentials.api import Credential
    from homeroom.credentials.open_badges import preview as previews
else:
    database = LazyModule("homeroom.bootstrap.database")
    credentials = LazyModule("homeroom.credentials.api")
    partners = LazyModule("homeroom.bootstrap.partners")
    previews = LazyModule("homeroom.credentials.open_badges.preview")

app = command_group("Preview certificates; revoke credentials; rotate the key.")
_MAX_REASON = 500
_IDS_AT_ONCE = 200


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
    "revoke-many",
    epilog=epilog(
        'homeroom credentials revoke-many --course fire-safety --reason "wrong template" --dry-run',
        'homeroom credentials revoke-many --user u-1042 --reason "cheating" --yes',
        'homeroom credentials revoke-many --file ids.txt --reason "issued by mistake"',
        codes=(5,),
    ),
)
def revoke_many(
    reason: Annotated[str, typer.Option(help="The reason; it goes into the audit trail.")],
    course: Annotated[str | None, typer.Option(help="Only of this course.")] = None,
    user: Annotated[str | None, typer.Option(help="Only of this learner.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only those issued in the last 12h, 7d, 2w.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="Only the ids of this file, one a line.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List them, and change nothing.")
    ] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Revoke many credentials at their issuer and here. This cannot be undone.

    Ends with 5 where some could not be revoked; they are listed with the error.
    """
    if not 1 <= len(reason) <= _MAX_REASON:
        raise BadRequest(f"A reason has 1 to {_MAX_REASON} characters.")
    ids = None if file is None else _read_ids(file)
    if course is None and user is None and ids is None:
        raise BadRequest("Nothing is selected.", hint="Give --course, --user or --file.")
    age = None if since is None else parse_duration_us(since)

    async def change(
        application: Application, *, dry_run: bool
    ) -> tuple[list[Credential], list[tuple[str, str]]]:
        revoked: list[Credential] = []
        failures: list[tuple[str, str]] = []
        issued_since = None if age is None else application.db.clock.now() - age
        for part in _id_parts(ids):
            selection = credentials.CredentialSelection(part, user, course, issued_since)
            after: str | None = None
            while True:
                done = await application.credentials.revoke_selected(
                    selection, reason, audit_actor(), after=after, dry_run=dry_run
                )
                revoked += done.revoked
                failures += done.failures
                after = done.after
                if after is None:
                    break
        return revoked, failures

    revoked, failures = run_with_application(partial(change, dry_run=True))
    if not dry_run:
        confirm(f"Revoke {pluralize(len(revoked), 'credential')}?", yes=yes)
        revoked, failures = run_with_application(partial(change, dry_run=False))
    if as_json:
        print_json(
            {
                "dryRun": dry_run,
                "items": [
                    {"id": each.id, "userId": each.user_id, "courseId": each.course_id}
                    for each in revoked
                ],
                "failures": [{"id": id, "error": error} for id, error in failures],
            }
        )
    else:
        rows = [(each.id, each.user_id, each.course_id) for each in revoked]
        print_table(("ID", "LEARNER", "COURSE"), rows, "There are none.")
        for id, error in failures:
            print_to_stderr(f"{id}: {error}")
    if failures:
        raise Conflict(f"{pluralize(len(failures), 'credential')} could not be revoked.")


def _id_parts(ids: list[str] | None) -> list[tuple[str, ...] | None]:
    """Return ids in parts that one statement takes; no ids are one part."""
    if ids is None:
        return [None]
    return [tuple(ids[at : at + _IDS_AT_ONCE]) for at in range(0, len(ids), _IDS_AT_ONCE)]


def _read_ids(file: Path) -> list[str]:
    """Return the ids of a file, one a line; raise ``BadRequest``."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{file} cannot be read: {error}") from error
    return [line.strip() for line in lines if line.strip()]


@app.command(
    "reissue",
    epilog=epilog("homeroom credentials reissue 4fTzq0bW1mUuYQ2yqkN8Qw7e", codes=(4, 5)),
)
def reissue(
    id: Annotated[str, typer.Argument(help="The id of the revoked credential.")],
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Issue a revoked credential anew, under another id; the old one stays revoked."""
    confirm(f"Issue the credential {id} anew?", yes=yes)

    async def change(application: Application) -> Credential:
        return await application.credentials.reissue(id, audit_actor(), application.completions)

    new = run_with_application(change)
    if as_json:
        print_json({"id": new.id, "state": new.state})
        return
    print_text(f"The credential {new.id} will be issued; the job is waiting.")


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
