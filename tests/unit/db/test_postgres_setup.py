"""Preparing a PostgreSQL database: its URL, its schema, and the errors of both."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from tests.support.missing_server import skip_or_fail
from tools.servers.debian import Missing
from tools.servers.postgres import Postgres, need_binaries

from homeroom.bootstrap.application import Application, open_application
from homeroom.clock import Clock
from homeroom.db import migrate
from homeroom.db.postgres import driver
from homeroom.db.postgres.database import PostgresDatabase
from homeroom.db.postgres.driver import connect_postgres
from homeroom.errors import ConfigurationError, HomeroomError, Unavailable
from homeroom.settings import load

pytestmark = pytest.mark.anyio


async def opening(url: str) -> HomeroomError:
    """Return the error of opening a database."""
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
    assert migrate.schema_state(url).current is None
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(migrate.upgrade, [url] * 4))
    found = migrate.schema_state(url)
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


def test_generated_numbers_never_run_out(postgres: Postgres, postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2]
    kinds = postgres.rows(
        "SELECT DISTINCT data_type FROM information_schema.columns WHERE table_schema = 'public'"
        " AND (column_default LIKE 'nextval%' OR column_name LIKE '%_seq')",
        name,
    )
    assert kinds == [("bigint",)]


def test_a_user_without_permission_gets_the_statement_to_grant_it(postgres: Postgres) -> None:
    name = postgres.make_database()
    postgres.run("CREATE ROLE guest LOGIN")
    url = postgres.url(name).replace("homeroom@", "guest@")
    with pytest.raises(ConfigurationError, match="permission denied") as refused:
        migrate.upgrade(url)
    assert "OWNER TO" in str(refused.value.hint)
    assert migrate.schema_state(url).current is None
    postgres.run(f"ALTER DATABASE {name} OWNER TO guest")
    migrate.upgrade(url)
    assert migrate.schema_state(url).is_current
    postgres.drop_database(name)
    postgres.run("DROP ROLE guest")


def test_a_database_of_another_encoding_gets_no_tables(postgres: Postgres) -> None:
    name = "of_another_encoding"
    postgres.run(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(ConfigurationError, match="SQL_ASCII") as refused:
        migrate.upgrade(postgres.url(name))
    assert "--encoding=UTF8" in str(refused.value.hint)
    assert migrate.schema_state(postgres.url(name)).current is None
    postgres.drop_database(name)


async def test_a_missing_server_is_unavailable(postgres_url: str) -> None:
    error = await opening("postgresql://homeroom:swordfish@127.0.0.1:1/homeroom")
    assert isinstance(error, Unavailable)
    assert error.retry_after_seconds == 1
    assert "swordfish" not in str(error)


async def test_a_missing_database_is_named(postgres_url: str) -> None:
    error = await opening(postgres_url.rpartition("/")[0] + "/elsewhere")
    assert isinstance(error, Unavailable)
    assert "elsewhere" in str(error)
    assert "correct its name" in str(error.hint)


async def test_a_wrong_user_and_an_unencoded_password_have_a_fix(postgres_url: str) -> None:
    stranger = await opening(postgres_url.replace("homeroom@", "stranger@"))
    assert isinstance(stranger, Unavailable)
    assert "Check the user and the password" in str(stranger.hint)
    # An @ of a password that is not percent-encoded makes its rest a part of the host.
    error = await opening("postgresql://homeroom:sword@fish@127.0.0.1:1/homeroom")
    assert isinstance(error, Unavailable)
    assert "%40" in str(error.hint)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://homeroom:sword fish@[::1/homeroom",
        "postgresql://homeroom:sword#fish@host:port/homeroom",
        "postgresql://host/homeroom?sslmode=perhaps",
    ],
)
async def test_an_invalid_url_is_reported_without_its_password(url: str) -> None:
    error = await opening(url)
    assert isinstance(error, ConfigurationError)
    assert "HOMEROOM_DATABASE_URL" in error.message
    assert "fish" not in str(error) + str(error.hint)


async def test_a_missing_driver_is_reported_with_its_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(driver, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError) as refused:
        PostgresDatabase("postgresql://host/homeroom", Clock())
    assert "pip install 'homeroom[postgres]'" in str(refused.value.hint)
    with pytest.raises(ConfigurationError):
        await connect_postgres("postgresql://host/homeroom")


async def test_an_old_server_and_one_with_another_encoding_are_refused(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeroom.db.postgres.database.MIN_SERVER_MAJOR", 99)
    assert "needs 99 or later" in (await opening(postgres.url())).message
    monkeypatch.undo()
    postgres.run(
        "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'",
    )
    assert "LATIN1" in (await opening(postgres.url("latin"))).message
    postgres.drop_database("latin")


async def test_a_server_does_not_start_on_an_old_schema(postgres: Postgres, tmp_path: Path) -> None:
    name = postgres.make_database()
    settings = load(database_url=postgres.url(name), data_dir=tmp_path)

    async def enter() -> Application:
        async with open_application(settings, migrated=True) as application:
            return application

    with pytest.raises(ConfigurationError) as refused:
        await enter()
    assert "homeroom db upgrade" in str(refused.value.hint)
    migrate_in_thread(settings.database_url.get_secret_value())
    assert (await enter()).db.dialect == "postgresql"
    postgres.drop_database(name)


def migrate_in_thread(url: str) -> None:
    """Upgrade outside the thread of the running loop."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(migrate.upgrade, url).result()


def test_tables_outside_of_the_schema_public_are_refused(postgres: Postgres) -> None:
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
async def test_options_of_libpq_alone_are_removed(postgres_url: str, options: str) -> None:
    db = PostgresDatabase(f"{postgres_url}?{options}", Clock())
    await db.open()
    try:
        await db.ping()
    finally:
        await db.close()
    connection = await connect_postgres(f"{postgres_url}?{options}")
    assert await connection.fetchval("SHOW application_name") == "homeroom"
    await connection.close()


@pytest.mark.parametrize("option", ["channel_binding=require", "invented=1"])
async def test_an_option_that_the_driver_cannot_satisfy_is_refused_by_name(
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
    monkeypatch.setattr("homeroom.db.postgres.database.Clock", lambda: shifted)
    error = await opening(postgres_url)
    assert isinstance(error, ConfigurationError)
    assert "60 s apart" in error.message
