"""The names of the migrations' files are what ``migrate`` goes by, without Alembic in memory."""

from __future__ import annotations

from alembic.config import Config
from alembic.script import ScriptDirectory

from homeroom.db import migrate


def test_a_migration_is_named_as_its_file_and_the_names_are_in_order() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate.MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    newest_first = [each.revision for each in script.walk_revisions()]
    assert migrate.head() == script.get_current_head() == newest_first[0]
    files = sorted(file.stem for file in (migrate.MIGRATIONS / "versions").glob("[0-9]*.py"))
    assert files == newest_first[::-1]
