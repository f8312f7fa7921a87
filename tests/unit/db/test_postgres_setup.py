"""Getting a PostgreSQL database ready: its URL, its schema, and what is said where that fails."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from tests.servers.missing import skip_or_fail
from tools.servers.debian import Missing
from tools.servers.postgres import Postgres, need_binaries

from homeroom.clock import Clock
from homeroom.db import migrate, postgres_driver
from homeroom.db.postgres import PostgresDatabase, connect
from homeroom.errors import ConfigurationError, HomeroomError, Unavailable
from homeroom.settings import load
from homeroom.wiring import House, open_house

pytestmark = pytest.mark.anyio


async def opening(url: str) -> HomeroomError:
    """Return why a database cannot be opened."""
    with pytest.raises(HomeroomError) as refused:
        await PostgresDatabase(url, Clock()).open()
    return refused.value


def test_a_missing_server_skips_on_a_laptop_and_fails_in_a_build(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tools.servers.postgres.binaries", lambda: None)
    monkeypatch.setattr("os.geteuid", lambda: 1_000)
    with pytest.raises(Missing, match="apt install postgresql") as missing:
        need_binaries()
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt install postgresql"):
        skip_or_fail(missing.value)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt install postgresql"):
        skip_or_fail(missing.value)


def test_upgrades_that_start_at_once_make_one_schema(postgres: Postgres) -> None:
    name = postgres.make_database()
    url = postgres.url(name)
    assert migrate.state(url).current is None
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(migrate.upgrade, [url] * 4))
    found = migrate.state(url)
    assert found.is_current, found.differences
    postgres.drop_database(name)


def test_text_is_compared_by_its_bytes(postgres: Postgres, postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2]
    columns = postgres.rows(
        "SELECT table_name, column_name, collation_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND data_type IN ('text', 'character varying')"
        " AND collation_name IS DISTINCT FROM 'C'",
        name,
    )
    assert columns == []


def test_what_the_database_numbers_never_runs_out(postgres: Postgres, postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2]
    kinds = postgres.rows(
        "SELECT DISTINCT data_type FROM information_schema.columns WHERE table_schema = 'public'"
        " AND (column_default LIKE 'nextval%' OR column_name LIKE '%_seq')",
        name,
    )
    assert kinds == [("bigint",)]


def test_a_user_who_may_make_no_tables_is_told_how_to_get_there(postgres: Postgres) -> None:
    name = postgres.make_database()
    postgres.run("CREATE ROLE guest LOGIN")
    url = postgres.url(name).replace("homeroom@", "guest@")
    with pytest.raises(ConfigurationError, match="permission denied") as refused:
        migrate.upgrade(url)
    assert "OWNER TO" in str(refused.value.hint)
    assert migrate.state(url).current is None
    postgres.run(f"ALTER DATABASE {name} OWNER TO guest")
    migrate.upgrade(url)
    assert migrate.state(url).is_current
    postgres.drop_database(name)
    postgres.run("DROP ROLE guest")


async def test_a_server_that_is_not_there_is_unavailable(postgres_url: str) -> None:
    error = await opening("postgresql://homeroom:swordfish@127.0.0.1:1/homeroom")
    assert isinstance(error, Unavailable)
    assert error.retry_after_seconds == 1
    assert "swordfish" not in str(error)


async def test_a_database_that_is_not_there_is_said_so(postgres_url: str) -> None:
    error = await opening(postgres_url.rpartition("/")[0] + "/elsewhere")
    assert isinstance(error, Unavailable)
    assert "elsewhere" in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://homeroom:sword fish@[::1/homeroom",
        "postgresql://homeroom:sword#fish@host:port/homeroom",
        "postgresql://host/homeroom?sslmode=perhaps",
    ],
)
async def test_a_url_that_cannot_be_read_is_said_without_its_password(url: str) -> None:
    error = await opening(url)
    assert isinstance(error, ConfigurationError)
    assert "HOMEROOM_DATABASE_URL" in error.message
    assert "fish" not in str(error) + str(error.hint)


async def test_a_missing_driver_is_said_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(postgres_driver, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError) as refused:
        PostgresDatabase("postgresql://host/homeroom", Clock())
    assert "pip install 'homeroom[postgres]'" in str(refused.value.hint)
    with pytest.raises(ConfigurationError):
        await connect("postgresql://host/homeroom")


async def test_an_old_server_and_one_with_another_encoding_are_refused(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeroom.db.postgres.OLDEST", 99)
    assert "99 is the oldest" in (await opening(postgres.url())).message
    monkeypatch.undo()
    postgres.run(
        "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'",
    )
    assert "LATIN1" in (await opening(postgres.url("latin"))).message
    postgres.drop_database("latin")


async def test_nobody_serves_on_a_schema_that_its_operator_has_not_upgraded(
    postgres: Postgres, tmp_path: Path
) -> None:
    name = postgres.make_database()
    settings = load(database_url=postgres.url(name), data_dir=tmp_path)

    async def enter() -> House:
        async with open_house(settings, migrated=True) as house:
            return house

    with pytest.raises(ConfigurationError) as refused:
        await enter()
    assert "homeroom db upgrade" in str(refused.value.hint)
    migrate_in_thread(settings.database_url.get_secret_value())
    assert (await enter()).db.dialect == "postgresql"
    postgres.drop_database(name)


def migrate_in_thread(url: str) -> None:
    """Upgrade though a loop runs here."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(migrate.upgrade, url).result()


def test_tables_in_another_schema_than_a_backup_looks_in_are_refused(postgres: Postgres) -> None:
    name = postgres.make_database()
    postgres.run("CREATE SCHEMA homeroom", database=name)  # named like the user: it comes first
    with pytest.raises(ConfigurationError, match="are in homeroom") as refused:
        migrate.upgrade(postgres.url(name))
    assert "search_path" in str(refused.value.hint)
    postgres.run("ALTER ROLE homeroom SET search_path = public", database=name)
    try:
        migrate.upgrade(postgres.url(name))
    finally:
        postgres.run("ALTER ROLE homeroom RESET search_path", database=name)
    postgres.drop_database(name)


@pytest.mark.parametrize(
    "options",
    [
        "connect_timeout=10",
        "keepalives=1&keepalives_idle=30",
        "channel_binding=prefer&gssencmode=disable",
        "sslmode=disable&application_name=school&client_encoding=utf8",
    ],
)
async def test_options_that_only_libpq_has_are_left_to_its_tools(
    postgres_url: str, options: str
) -> None:
    db = PostgresDatabase(f"{postgres_url}?{options}", Clock())
    await db.open()
    try:
        await db.ping()
    finally:
        await db.close()
    connection = await connect(f"{postgres_url}?{options}")
    assert await connection.fetchval("SHOW application_name") == "homeroom"
    await connection.close()


@pytest.mark.parametrize("option", ["channel_binding=require", "invented=1"])
async def test_an_option_that_nobody_can_keep_is_refused_by_name(
    postgres_url: str, option: str
) -> None:
    error = await opening(f"{postgres_url}?{option}")
    assert isinstance(error, ConfigurationError)
    assert option.partition("=")[0] in error.message


@pytest.mark.parametrize("seconds", [-60, 60])
async def test_a_clock_far_from_the_servers_is_refused(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    shifted = Clock(timedelta(seconds=seconds))
    monkeypatch.setattr("homeroom.db.postgres.Clock", lambda: shifted)
    error = await opening(postgres_url)
    assert isinstance(error, ConfigurationError)
    assert "60 s apart" in error.message
