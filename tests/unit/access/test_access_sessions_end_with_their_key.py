"""A session of an API key ends with it, also one that was opened a moment too late."""

from __future__ import annotations

import pytest

from homeroom.access import store
from homeroom.access.api import Access, create_key, revoke_key
from homeroom.clock import SECOND
from homeroom.db.database import Database
from homeroom.errors import Unauthenticated

pytestmark = pytest.mark.anyio


async def test_a_key_revoked_elsewhere_leaves_no_session_behind(db: Database) -> None:
    access = Access(db)
    async with db.write() as tx:
        key, token = await create_key(tx, "grafana", ["admin"])
    believed = await access.identify(f"Bearer {token}", None)
    async with db.write() as tx:  # as another process does, of which this one does not hear
        await revoke_key(tx, key.id)
    async with db.write() as tx:
        cookie = await store.open_session(tx, believed, 3_600 * SECOND)
    with pytest.raises(Unauthenticated):
        await access.identify(None, cookie)
    await access.close()
