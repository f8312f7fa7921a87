"""The tables in the code are those that the migration makes."""

from __future__ import annotations

from pathlib import Path

from homeroom.access import store
from homeroom.db.migrate import schema_state


def test_the_migration_makes_the_tables_that_the_code_expects(database: Path | str) -> None:
    found = schema_state(database)
    names = {store.API_KEY.name, store.SIGN_IN.name, store.SESSION.name, store.AUDIT.name}
    # Only what would have to be added or changed counts: other rooms' tables are not loaded here.
    assert [line for line in found.differences if any(f"'{name}'" in line for name in names)] == []
    assert found.current == found.head
