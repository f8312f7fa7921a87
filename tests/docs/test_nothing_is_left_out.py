"""Every setting, command, job kind, table and exit code has its place in the docs."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from homeroom import errors
from homeroom.bootstrap import application
from homeroom.bootstrap.application import EXIT_STUCK
from homeroom.cli import app
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.identity import Role
from homeroom.jobs.api import JobState, Registry
from homeroom.jobs.job import PARTNER_DELAYS, Backoff, RetryDelays
from homeroom.progress.api import EventType
from homeroom.progress.event import EventStatus
from homeroom.settings import list_settings, load

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#([^)\s]*))?\)")
_NO_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """Return the cells of all table rows of a page."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture
async def registry(tmp_path: Path) -> Registry:
    settings = load(data_dir=tmp_path)
    async with application.open_application(settings, migrated=True) as opened:
        return opened.registry


def test_every_setting_is_on_its_page() -> None:
    text = page("settings.md")
    missing = [row.name for row in list_settings(load()) if f"| `{row.name}` |" not in text]
    assert missing == []


def test_settings_that_other_pages_speak_of_exist() -> None:
    known = {row.name for row in list_settings(load())}
    for path in [ROOT / "README.md", ROOT / "UPGRADE.md", *DOCS.rglob("*.md")]:
        spoken_of = set(re.findall(r"\bHOMEROOM_[A-Z_]+[A-Z]\b", path.read_text(encoding="utf-8")))
        # Those of a plug-in are read from its own model: test_every_block_runs tries that page.
        spoken_of -= {name for name in spoken_of if name.startswith("HOMEROOM_STEP_")}
        spoken_of.discard(
            "HOMEROOM_PULBIC_URL"
        )  # troubleshooting.md shows what a typing error does
        assert spoken_of <= known, path.name


def test_every_command_is_on_its_page() -> None:
    text = page("cli.md")
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    names = []
    for name, command in root.commands.items():
        inner = list(command.commands) if isinstance(command, TyperGroup) else []
        names += [f"homeroom {name} {each}" for each in inner] or [f"homeroom {name}"]
    assert [name for name in names if name not in text] == []


@pytest.mark.anyio
async def test_every_job_kind_is_described_as_it_is(registry: Registry) -> None:
    described = {row[0]: row[1:] for row in rows(page("jobs.md")) if len(row) == 7}
    for kind in registry.kinds():
        args = registry.get(kind).args
        queue, priority, _, attempts, timeout, _ = described[f"`{kind}`"]
        seconds = f"{args.timeout.total_seconds():g} s"
        told = (queue, priority, attempts, timeout)
        assert told == (f"`{args.queue}`", str(args.priority), str(1 + args.max_retries), seconds)
        fields = [
            field
            for field in args.__struct_encode_fields__
            if f'"{field}"' not in described[f"`{kind}`"][2]
        ]
        assert fields == [], kind
        usual: RetryDelays = Backoff()
        if kind == "lessonplans.generate_module":  # the page says so
            usual = Backoff(timedelta(minutes=1), timedelta(minutes=30))
        if kind in {"dispatch.replay", "dispatch.update"} or kind.startswith(
            "completion."
        ):  # the page lists the waits
            usual = PARTNER_DELAYS
        assert args.backoff == usual, "the page says that all other kinds wait alike"


@pytest.mark.anyio
async def test_every_kind_that_is_no_housekeeping_says_what_waits_for_it(
    registry: Registry,
) -> None:
    housekeeping = {
        "access.prune",
        "activity.prune",
        "changes.prune",
        "credentials.announce_expiries",
        "notify.prune",
        "progress.expire",
        "progress.fold_events",
        "progress.prune",
    }
    silent = {kind for kind in registry.kinds() if registry.get(kind).is_outstanding is None}
    assert silent == housekeeping  # their next slot does what a failed one did not


@pytest.mark.anyio
async def test_kinds_that_the_page_describes_exist(registry: Registry) -> None:
    described = {row[0].strip("`") for row in rows(page("jobs.md")) if len(row) == 7}
    assert described - {"kind", "---"} == set(registry.kinds())


@pytest.mark.anyio
async def test_kinds_that_node_may_add_are_on_its_page_and_in_its_example(
    registry: Registry,
) -> None:
    public = {kind: registry.get(kind).args for kind in registry.kinds()}
    public = {kind: args for kind, args in public.items() if args.public}
    described = {row[0].strip("`"): row[1:] for row in rows(page("node.md")) if len(row) == 5}
    assert described.keys() - {"kind", "---"} == public.keys()
    for kind, args in public.items():
        queue, payload, version, natural = described[kind]
        assert (queue, version) == (f"`{args.queue}`", str(args.version))
        assert all(f'"{field}"' in payload for field in args.__struct_encode_fields__)
        ids = {"completion_id": "<completionId>"} if "completionId" in payload else {}
        named = args(**ids).natural_id()
        assert natural == ("none" if named is None else f"`{named}`")
    example = (ROOT / "examples" / "node-service" / "homeroom.mjs").read_text(encoding="utf-8")
    shown = dict(re.findall(r'^  "([a-z_.]+)": "([a-z]+)",$', example, re.MULTILINE))
    assert shown == {kind: args.queue for kind, args in public.items()}


def test_the_lock_of_the_node_example_is_exact_and_names_no_registry() -> None:
    folder = ROOT / "examples" / "node-service"
    wanted = json.loads((folder / "package.json").read_text(encoding="utf-8"))["dependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    locked = json.loads((folder / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert locked.pop("")["dependencies"] == wanted
    assert all("resolved" not in package for package in locked.values())
    assert all(package["integrity"].startswith("sha512-") for package in locked.values())


@pytest.mark.anyio
async def test_every_table_says_how_long_it_is_kept(sqlite: SqliteDatabase) -> None:
    async with sqlite.read() as tx:
        found = await tx.fetch(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
    described = {row[0].strip("`") for row in rows(page("records.md"))} - {"table", "---"}
    assert described == {name for (name,) in found}


def test_every_exit_code_is_on_the_page_for_the_night() -> None:
    text = page("operating.md")
    codes = {kind.exit_code for kind in vars(errors).values() if hasattr(kind, "exit_code")}
    for code in {*codes, EXIT_STUCK}:
        assert re.search(rf"\b{code}\b", text), code


@pytest.mark.parametrize(
    "path",
    [
        *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "UPGRADE")),
        *sorted(DOCS.rglob("*.md")),
    ],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_links_lead_somewhere(path: Path) -> None:
    text = _NO_CODE.sub("", path.read_text(encoding="utf-8"))
    for target, anchor in _LINK.findall(text):
        if "://" in target:
            continue
        there = (path.parent / target).resolve()
        assert there.exists(), f"{path.name} links to {target}"
        if anchor:
            heads = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            names = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in names, f"{path.name} links to {target}#{anchor}"


def test_files_that_the_architecture_names_exist() -> None:
    source = ROOT / "src" / "homeroom"
    named = re.findall(r"`([a-z_/]+\.py)`", page("architecture.md") + page("rules.md"))
    assert len(named) > 20
    missing = [name for name in named if "/" in name and not (source / name).exists()]
    assert missing == []


def test_docstrings_cite_rules_that_are_written_down() -> None:
    written = set(re.findall(r"\*\*(B\d+)\.", page("rules.md")))
    assert written == {f"B{number}" for number in range(1, 15)}
    cited = {
        rule
        for path in (ROOT / "src").rglob("*.py")
        for rule in re.findall(r"\bB\d{1,2}\b", path.read_text(encoding="utf-8"))
    }
    assert cited <= written


def test_routes_that_pages_speak_of_exist() -> None:
    paths = json.loads(page("openapi.json"))["paths"]
    known = {("GET", "/docs"), ("GET", "/openapi.json")}
    for path, item in paths.items():
        known |= {(method.upper(), re.sub(r"\{\w+\}", "{}", path)) for method in item}
    spoken_of = set()
    for file in [ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.glob("*.md")]:
        text = file.read_text(encoding="utf-8")
        for method, route in re.findall(r"\b(GET|PUT|POST|PATCH|DELETE) (/[\w/{}.-]+)", text):
            spoken_of.add((method, re.sub(r"\{\w+\}", "{}", route.rstrip("."))))
    assert len(spoken_of) > 10
    assert spoken_of <= known


def test_metrics_that_pages_speak_of_exist() -> None:
    found = set(re.findall(r"^\| `(\w+)` \|", page("metrics.md"), re.MULTILINE))
    pages = page("operating.md") + page("deploying.md")
    spoken_of = set(re.findall(r"\b(homeroom_[a-z_]+)\b", pages))
    assert spoken_of
    assert spoken_of <= found


def test_every_role_and_every_status_of_an_event_is_described() -> None:
    assert {row[0] for row in rows(page("security.md"))} >= {f"`{role}`" for role in Role}
    assert {row[0] for row in rows(page("http.md"))} >= {f"`{status}`" for status in EventStatus}
    assert all(f"`{kind}`" in page("http.md") for kind in EventType)
    assert {row[0] for row in rows(page("jobs.md"))} >= {f"`{state}`" for state in JobState}


def test_every_log_event_is_on_its_page() -> None:
    call = re.compile(
        r'\blog\.(?:debug|info|warning|error|exception|critical)(?:\(|,)\s*"([a-z_]+)"'
    )
    sources = (ROOT / "src" / "homeroom").rglob("*.py")
    written = {name for path in sources for name in call.findall(path.read_text())}
    described = {
        name for row in rows(page("log-events.md")) for name in re.findall(r"`([a-z_]+)`", row[0])
    }
    assert written == described
