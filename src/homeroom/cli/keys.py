"""``homeroom keys``: create, list and revoke API keys."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeroom.cli.application import audit_actor, run_with_database
from homeroom.cli.group import JsonOption, LazyModule, command_group, epilog
from homeroom.cli.terminal import (
    format_instant,
    print_json,
    print_table,
    print_text,
    print_to_stderr,
    to_json_fields,
)
from homeroom.errors import BadRequest
from homeroom.identity import Role

if TYPE_CHECKING:
    from homeroom.access import api as access
    from homeroom.access import routes as access_routes
    from homeroom.access.api import ApiKey
    from homeroom.bootstrap import database, partners
    from homeroom.catalogue import document_faults
    from homeroom.db.database import Database
else:
    access = LazyModule("homeroom.access.api")
    access_routes = LazyModule("homeroom.access.routes")
    database = LazyModule("homeroom.bootstrap.database")
    partners = LazyModule("homeroom.bootstrap.partners")
    document_faults = LazyModule("homeroom.catalogue.document_faults")

_PAGE_SIZE = 500
_ROLES = tuple(Role)

app = command_group(
    "Create, list and revoke API keys; sign in. Each change adds a line to the audit trail."
)


@app.command(
    "create",
    epilog=epilog(
        "homeroom keys create grafana --role viewer",
        "homeroom keys create lms --role service --role author",
        "KEY=$(homeroom keys create ci --role service)   # only the token goes to stdout",
    ),
)
def create(
    name: Annotated[str, typer.Argument(help="Shown in logs and in the audit trail.")],
    role: Annotated[
        list[str], typer.Option("--role", "-r", help=f"One of {', '.join(_ROLES)}; repeatable.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Create an API key and print its token, which is not stored."""
    unknown = [each for each in role if each not in _ROLES]
    if unknown:
        raise BadRequest(
            f"There is no role {unknown[0]!r}.", hint=f"The roles are {', '.join(_ROLES)}."
        )
    access.check_key_roles(role)
    faults = document_faults.DocumentFaults()
    faults.id(name, ("name",))
    for _, fault in faults.found:
        raise BadRequest(f"The name of a key {fault}.")

    async def create_and_audit(db: Database) -> tuple[ApiKey, str]:
        async with db.write() as tx:
            key, token = await access.create_key(tx, name, role)
            details = {"name": key.name, "roles": list(key.roles)}
            await access.record_audit(tx, audit_actor(), "key.made", key.id, details)
        return key, token

    key, token = run_with_database(create_and_audit)
    if as_json:
        print_json({"token": token, **_key_fields(key)})
        return
    print_to_stderr(f"Created the key {key.id} ({key.name}) with the roles {', '.join(key.roles)}.")
    print_to_stderr("This is its token. Save it: it is not stored and cannot be shown again.")
    print_text(token)


@app.command("sign-in", epilog=epilog("homeroom keys sign-in"))
def sign_in(as_json: JsonOption = False) -> None:
    """Print a link that signs an admin in by browser, once and within 24 hours.

    The first start of a server prints one too. Earlier links that were not used stay valid.
    """
    public_url = partners.public_url(database.load_settings())

    async def create_and_audit(db: Database) -> str:
        async with db.write() as tx:
            token = await access.create_sign_in(tx, "admin", [Role.ADMIN])
            await access.record_audit(tx, audit_actor(), "sign_in.made", "admin")
        return token

    link = access_routes.sign_in_link(public_url, run_with_database(create_and_audit))
    if as_json:
        print_json({"link": link})
    else:
        print_text(link)


@app.command(
    "list",
    epilog=epilog(
        "homeroom keys list",
        "homeroom keys list --all",
        "homeroom keys list --json | jq -r '.items[].name'",
    ),
)
def list_(
    include_revoked: Annotated[bool, typer.Option("--all", help="Revoked keys too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the API keys. Their tokens are not stored, so they are not shown."""

    async def read(db: Database) -> list[ApiKey]:
        keys: list[ApiKey] = []
        while True:
            async with db.read() as tx:
                page = await access.list_keys(tx, _PAGE_SIZE, keys[-1].id if keys else None)
            keys += page[:_PAGE_SIZE]
            if len(page) <= _PAGE_SIZE:
                return keys

    keys = [key for key in run_with_database(read) if include_revoked or key.revoked_at is None]
    if as_json:
        print_json({"items": [_key_fields(key) for key in keys]})
        return
    print_table(
        ("ID", "NAME", "ROLES", "STATUS", "CREATED", "LAST USED"),
        [
            (
                key.id,
                key.name,
                " ".join(key.roles),
                "active" if key.revoked_at is None else f"revoked {format_instant(key.revoked_at)}",
                format_instant(key.created_at),
                format_instant(key.last_used_at),
            )
            for key in keys
        ],
        "There are no keys. Make one with: homeroom keys create NAME --role ROLE",
    )


@app.command(
    "revoke",
    epilog=epilog("homeroom keys revoke 0199c0de-7a3b-7c11-9f7e-2f60b1a2c3d4", codes=(4,)),
)
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `homeroom keys list` shows it.")],
    as_json: JsonOption = False,
) -> None:
    """Revoke an API key and end its sessions.

    Running servers follow within two seconds.
    """

    async def revoke_and_audit(db: Database) -> str:
        async with db.write() as tx:
            name = await access.revoke_key(tx, key_id)
            await access.record_audit(tx, audit_actor(), "key.revoked", key_id, {"name": name})
        return name

    name = run_with_database(revoke_and_audit)
    if as_json:
        print_json({"id": key_id, "name": name, "revoked": True})
    else:
        print_text(f"Revoked the key {key_id} ({name}).")


def _key_fields(key: ApiKey) -> dict[str, Any]:
    fields = asdict(key)
    del fields["role_names"]
    return to_json_fields({**fields, "roles": list(key.roles)})
