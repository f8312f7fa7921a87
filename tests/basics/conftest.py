"""The school that all of these tests play in."""

from collections.abc import AsyncIterator

import pytest
from tests.basics.school import School

from homeroom.db.database import Database


@pytest.fixture
async def school(db: Database) -> AsyncIterator[School]:
    async with School(db).open() as opened:
        yield opened
