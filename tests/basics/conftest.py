"""Fixture of the school that all tests in this folder use."""

from collections.abc import AsyncIterator

import pytest
from tests.support.basic_school import School

from homeroom.db.database import Database


@pytest.fixture
async def school(db: Database) -> AsyncIterator[School]:
    async with School(db).open() as opened:
        yield opened
