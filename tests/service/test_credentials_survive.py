"""Keys, status lists and documents survive a restart, a restore and a move to PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.support.badge_school import BadgeSchool, badge_school
from tests.support.database import database_at, url_of

from homeroom.bootstrap import database_commands
from homeroom.settings import Settings, load

pytestmark = [pytest.mark.anyio, pytest.mark.service]
PUBLISHED = ("/issuer/profile", "/issuer/jwks.json", "/issuer/status/1")


async def published(school: BadgeSchool, id: str) -> dict[str, Any]:
    """Return all that is public about a credential, and its page."""
    paths = [*PUBLISHED, *(f"/credentials/{id}.{form}" for form in ("json", "jwt"))]
    found = {path: (await school.http.get(path)).text for path in paths}
    answer = await school.http.get(f"/credentials/{id}", headers={"Accept": "text/html"})
    return {**found, "page": answer.text}


def at(place: Path | str, folder: Path) -> Settings:
    return load(database_url=url_of(place), data_dir=folder)


async def test_what_was_signed_stays_after_a_restore_and_a_move(
    database_file: Path, postgres_url: str, tmp_path: Path
) -> None:
    db = database_at(database_file)
    await db.open()
    async with badge_school(db) as school:
        first, revoked = await school.issue("ada"), await school.issue("bo")
        await school.credentials.revoke(revoked.id, "a mistake", "cli:test")
        before = await published(school, first.id)
        jwks = before["/issuer/jwks.json"]
    await db.close()
    backup, restored = tmp_path / "monday.zip", tmp_path / "restored.db"
    here = at(database_file, tmp_path)
    await asyncio.to_thread(database_commands.back_up_database, here, backup)
    there = at(restored, tmp_path / "there")
    await asyncio.to_thread(database_commands.restore_database, there, backup, force=False)
    await asyncio.to_thread(
        database_commands.copy_database, here, at(postgres_url, tmp_path), rehearse=False
    )
    for place in (restored, postgres_url):
        db = database_at(place)
        await db.open()
        async with badge_school(db) as school:
            assert await published(school, first.id) == before
            third = await school.issue("cy")
            assert (await school.http.get("/issuer/jwks.json")).text == jwks
            async with db.read() as tx:
                numbers = await tx.fetch(
                    "SELECT number FROM credential_status WHERE credential_id = ?", (third.id,)
                )
            assert numbers == [(3,)]
        await db.close()
