"""``migrate`` reads revisions from file names, without importing Alembic."""

from __future__ import annotations

from alembic.config import Config
from alembic.script import ScriptDirectory

from homeroom.db import migrate


def test_a_migration_has_the_name_of_its_file_and_names_are_in_order() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate.MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    newest_first = [each.revision for each in script.walk_revisions()]
    assert migrate.head_revision() == script.get_current_head() == newest_first[0]
    files = sorted(file.stem for file in (migrate.MIGRATIONS / "versions").glob("[0-9]*.py"))
    assert files == newest_first[::-1]
