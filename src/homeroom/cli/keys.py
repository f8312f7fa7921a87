"""``homeroom keys``: make, list and revoke API keys."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from homeroom.access.api import ROLES, ApiKey, create_key, list_keys, record, revoke_key
from homeroom.catalogue.fault import Faults
from homeroom.cli.actor import actor
from homeroom.cli.group import Json, epilog, group
from homeroom.cli.house import in_house
from homeroom.cli.output import moment, note, print_json, print_table, say, wire
from homeroom.errors import BadRequest
from homeroom.wiring import House

_PAGE = 500

app = group("Make, list and revoke API keys. Each command leaves a line in the audit trail.")


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
        list[str], typer.Option("--role", "-r", help=f"One of {', '.join(ROLES)}; repeatable.")
    ],
    as_json: Json = False,
) -> None:
    """Make an API key and print its token, which is not stored and never shown again."""
    unknown = [each for each in role if each not in ROLES]
    if unknown:
        raise BadRequest(
            f"There is no role {unknown[0]!r}.", hint=f"The roles are {', '.join(ROLES)}."
        )
    faults = Faults()
    faults.id(name, ("name",))
    for _, what in faults.found:
        raise BadRequest(f"The name of a key {what}.")

    async def work(house: House) -> tuple[ApiKey, str]:
        async with house.db.write() as tx:
            key, token = await create_key(tx, name, role)
            details = {"name": key.name, "roles": list(key.roles)}
            await record(tx, actor(), "key.made", key.id, details)
        return key, token

    key, token = in_house(work)
    if as_json:
        print_json({"token": token, **_fields(key)})
        return
    note(f"Made the key {key.id} ({key.name}) with the roles {', '.join(key.roles)}.")
    note("This is its token. Keep it: it is not stored and cannot be shown again.")
    say(token)


@app.command(
    "list",
    epilog=epilog(
        "homeroom keys list",
        "homeroom keys list --all",
        "homeroom keys list --json | jq -r '.items[].name'",
    ),
)
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Revoked keys too.")] = False,
    as_json: Json = False,
) -> None:
    """List the API keys. Their tokens are not stored, so they are not shown."""

    async def work(house: House) -> list[ApiKey]:
        found: list[ApiKey] = []
        while True:
            async with house.db.read() as tx:
                some = await list_keys(tx, _PAGE, found[-1].id if found else None)
            found += some[:_PAGE]
            if len(some) <= _PAGE:
                break
        async with house.db.write() as tx:
            await record(tx, actor(), "key.listed", "keys", {"count": len(found)})
        return found

    keys = [key for key in in_house(work) if everything or key.revoked_at is None]
    if as_json:
        print_json({"items": [_fields(key) for key in keys]})
        return
    print_table(
        ("ID", "NAME", "ROLES", "STATUS", "CREATED", "LAST USED"),
        [
            (
                key.id,
                key.name,
                " ".join(key.roles),
                "active" if key.revoked_at is None else f"revoked {moment(key.revoked_at)}",
                moment(key.created_at),
                moment(key.last_used_at),
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
    as_json: Json = False,
) -> None:
    """Revoke an API key and end its sessions. Servers that run follow within two seconds."""

    async def work(house: House) -> str:
        async with house.db.write() as tx:
            name = await revoke_key(tx, key_id)
            await record(tx, actor(), "key.revoked", key_id, {"name": name})
        return name

    name = in_house(work)
    if as_json:
        print_json({"id": key_id, "name": name, "revoked": True})
    else:
        say(f"Revoked the key {key_id} ({name}).")


def _fields(key: ApiKey) -> dict[str, Any]:
    return wire({**asdict(key), "roles": list(key.roles)})
