"""``homeroom tokens``: sign tokens of users for development."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from homeroom.cli.group import JsonOption, LazyModule, command_group, epilog, parse_duration_us
from homeroom.cli.terminal import print_json, print_text, print_to_stderr
from homeroom.errors import BadRequest
from homeroom.identity import Role

if TYPE_CHECKING:
    from homeroom.bootstrap import database, tokens
    from homeroom.catalogue import document_faults
else:
    database = LazyModule("homeroom.bootstrap.database")
    tokens = LazyModule("homeroom.bootstrap.tokens")
    document_faults = LazyModule("homeroom.catalogue.document_faults")

MAX_LIFETIME = timedelta(days=1)
_ROLES = tuple(Role)

app = command_group("Sign tokens of users with HOMEROOM_JWT_SECRET, to try the API.")


@app.callback()
def _group() -> None:
    """Sign tokens of users with HOMEROOM_JWT_SECRET, to try the API."""


@app.command(
    "mint",
    epilog=epilog(
        "homeroom tokens mint u-1042 --role learner --for 1h",
        "TOKEN=$(homeroom tokens mint u-1042)   # only the token goes to stdout",
    ),
)
def mint(
    user_id: Annotated[str, typer.Argument(metavar="USER_ID", help="Becomes the claim `sub`.")],
    role: Annotated[
        str, typer.Option("--role", "-r", help=f"One of {', '.join(_ROLES)}.")
    ] = Role.LEARNER.value,
    lifetime: Annotated[
        str, typer.Option("--for", help="Lifetime, such as 90s, 30m or 1h; 1d at most.")
    ] = "1h",
    as_json: JsonOption = False,
) -> None:
    """Print a JWT that a server with the same settings accepts until it expires.

    It cannot be revoked. Servers use API keys (`homeroom keys create`).
    """
    if role not in _ROLES:
        raise BadRequest(f"There is no role {role!r}.", hint=f"The roles are {', '.join(_ROLES)}.")
    faults = document_faults.DocumentFaults()
    faults.id(user_id, ("user",))
    for _, fault in faults.found:
        raise BadRequest(f"The user id {fault}.")
    duration = timedelta(microseconds=parse_duration_us(lifetime))
    if not timedelta(0) < duration <= MAX_LIFETIME:
        raise BadRequest(
            f"A token cannot be valid for {lifetime}.", hint="Write a lifetime from 1s to 1d."
        )
    token = tokens.mint_configured_token(database.load_settings(), user_id, Role(role), duration)
    if as_json:
        print_json(
            {
                "token": token,
                "userId": user_id,
                "role": role,
                "expiresInSeconds": int(duration.total_seconds()),
            }
        )
        return
    print_to_stderr(f"A token of {user_id} with the role {role}, valid for {lifetime}:")
    print_text(token)
