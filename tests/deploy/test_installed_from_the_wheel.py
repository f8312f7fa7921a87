"""The wheel in environments that hold nothing else: it works, or says in a sentence what it needs.

``test_image_is_built`` installs it once more, by pip from its registry.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests.support.code_blocks import ROOT, Shell, same, steps
from tests.support.condition import PATIENCE_SECONDS
from tests.support.installed_wheel import InstalledWheel, build_distributions, run_python
from tools.servers.postgres import Postgres
from tools.servers.redis import RedisServer

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("wheel")]

DEMO_SECONDS = 240
EXTRAS = ("redis", "postgres", "llm", "channels")
NEEDS = {
    "redis": {"HOMEROOM_QUEUE_URL": "redis://127.0.0.1:1/0"},
    "postgres": {"HOMEROOM_DATABASE_URL": "postgresql://a:b@127.0.0.1:1/c"},
    "llm": {"HOMEROOM_LLM_MODEL": "a-model", "HOMEROOM_LLM_URL": "http://127.0.0.1:1"},
    "channels": {"HOMEROOM_SMS_URL": "json://127.0.0.1:1/{address}"},
}
COMMANDS = {
    "redis": ("check", "serve", "worker"),
    "postgres": ("check", "serve", "db upgrade", "keys list"),
    "llm": ("check", "serve"),
    "channels": ("check", "serve"),
}
Install = Callable[..., InstalledWheel]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the source distribution and the wheel of this checkout."""
    return build_distributions(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def install(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Return a function that installs the wheel with extras."""

    def install(*extras: str) -> InstalledWheel:
        return InstalledWheel(tmp_path_factory.mktemp("environment"), built[1], *extras)

    return install


@pytest.fixture(scope="module")
def bare(install: Install) -> InstalledWheel:
    """Return the wheel without extras, with a database."""
    bare = install()
    assert bare.run("db", "upgrade").returncode == 0
    return bare


def starts_and_stops(
    installed: InstalledWheel,
    *words: str,
    look: Callable[[str], None] = lambda line: None,
    **settings: str,
) -> None:
    """Run a server or a worker until its first line, look, and end it by SIGTERM."""
    process = subprocess.Popen(
        [installed.program, *words],
        cwd=installed.home,
        env=installed.environment(HOMEROOM_PORT="0", **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        if first:
            look(first)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=PATIENCE_SECONDS)
        assert first, log
        assert process.returncode == 0, log
    finally:
        process.kill()
        process.communicate()


def test_a_bare_installation_checks_serves_works_and_plays_the_demo(bare: InstalledWheel) -> None:
    assert bare.run("check").returncode == 0
    starts_and_stops(bare, "serve")
    starts_and_stops(bare, "worker")
    assert bare.run("keys", "list").returncode == 0
    words = ("demo", "--exit", "--json", "--learners", "3", "--port", "0")
    played = bare.run(*words, patience_seconds=DEMO_SECONDS)
    assert played.returncode == 0, played.stderr
    assert json.loads(played.stdout)["ok"]


def test_an_installation_shows_its_console_without_node(bare: InstalledWheel) -> None:
    def look(line: str) -> None:
        url = line.split()[3]
        for path in ("/", "/admin/queues", "/console/jobs/any"):
            page = httpx.get(url + path)
            assert page.headers["content-type"].startswith("text/html")
            assert "script-src 'self'" in page.headers["content-security-policy"]
        files = re.findall(r'(?:src|href)="(/console/[^"]+)"', page.text)
        assert {file.rpartition(".")[2] for file in files} == {"js", "css", "svg"}
        for file in files:
            assert httpx.get(url + file).status_code == 200

    starts_and_stops(bare, "serve", look=look, PATH="/nowhere")


def test_an_installation_brings_its_documentation_and_examples(bare: InstalledWheel) -> None:
    assert "settings" in bare.run("docs").stdout
    assert "HOMEROOM_DATABASE_URL" in bare.run("docs", "settings").stdout
    assert "expand, then contract" in bare.run("docs", "upgrade").stdout
    assert "Unreleased" in bare.run("docs", "../CHANGELOG.md#unreleased").stdout
    assert bare.run("docs", "nothing").returncode == 4
    assert "Fix: Did you mean operating?" in bare.run("docs", "opperating").stderr
    assert bare.run("examples").returncode == 0
    assert bare.run("examples").returncode == 5
    assert bare.run("courses", "import", "examples/courses").returncode == 0


def test_the_first_steps_work_outside_of_a_checkout(bare: InstalledWheel, tmp_path: Path) -> None:
    shell = Shell(tmp_path, bare.program.parent)
    (tmp_path / ".venv").unlink()
    try:
        shown_outputs = 0
        for block, shown in steps(ROOT / "docs" / "getting-started.md"):
            printed = shell.run(block)
            if shown is not None:
                shown_outputs += 1
                assert same(shown.text, printed, shown.language), printed
        assert shown_outputs >= 5
    finally:
        shell.close()


@pytest.mark.parametrize("extra", EXTRAS)
def test_without_its_extra_a_setting_is_answered_by_one_sentence(
    bare: InstalledWheel, extra: str
) -> None:
    for command in COMMANDS[extra]:
        ended = bare.run(*command.split(), **NEEDS[extra])
        assert ended.returncode == 78, (command, ended)
        output = ended.stdout + ended.stderr
        assert output.count(f"pip install 'homeroom[{extra}]'") == 1, output
        assert "Traceback" not in output


def test_with_the_extra_postgres_it_works_on_a_server(install: Install, postgres: Postgres) -> None:
    installed = install("postgres")
    name = postgres.make_database()
    settings = {"HOMEROOM_DATABASE_URL": postgres.url(name)}
    for command in ("db upgrade", "check", "keys list"):
        ended = installed.run(*command.split(), **settings)
        assert ended.returncode == 0, ended
    starts_and_stops(installed, "serve", **settings)
    postgres.drop_database(name)


def test_with_the_extra_redis_it_works_on_a_server(
    install: Install, redis_server: RedisServer
) -> None:
    installed = install("redis")
    settings = {"HOMEROOM_QUEUE_URL": redis_server.url}
    assert installed.run("db", "upgrade").returncode == 0
    assert installed.run("check", "--connect", **settings).returncode == 0
    starts_and_stops(installed, "worker", **settings)


@pytest.mark.parametrize("extra", ["llm", "channels"])
def test_with_the_extra_of_a_setting_a_server_starts(install: Install, extra: str) -> None:
    installed = install(extra)
    assert installed.run("db", "upgrade").returncode == 0
    starts_and_stops(installed, "serve", **NEEDS[extra])


def test_the_source_distribution_brings_its_tests_and_builds_the_same_wheel(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    source, wheel = built
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    [folder] = tmp_path.iterdir()
    run_python("-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "again"), cwd=folder)
    [again] = (tmp_path / "again").glob("*.whl")
    contents = [
        {each.filename: each.CRC for each in zipfile.ZipFile(file).infolist()}
        for file in (wheel, again)
    ]
    assert contents[0] == contents[1]
    run_python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/test_plain_text.py", cwd=folder
    )
