"""A session of an API key ends with it, even one opened just after."""

from __future__ import annotations

import pytest

from homeroom.access import store
from homeroom.access.api import Authenticator, create_key, revoke_key
from homeroom.db.database import Database
from homeroom.errors import Unauthenticated
from homeroom.instant import SECOND

pytestmark = pytest.mark.anyio


async def test_a_key_revoked_elsewhere_leaves_no_session_behind(db: Database) -> None:
    access = Authenticator(db)
    async with db.write() as tx:
        key, token = await create_key(tx, "grafana", ["admin"])
    cached = await access.identify(f"Bearer {token}", None)
    async with db.write() as tx:  # as another process does, without this one's cache
        await revoke_key(tx, key.id)
    async with db.write() as tx:
        cookie = await store.open_session(tx, cached, 3_600 * SECOND)
    with pytest.raises(Unauthenticated):
        await access.identify(None, cookie)
    await access.close()
