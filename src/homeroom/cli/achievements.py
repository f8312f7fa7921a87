"""``homeroom achievements``: store rules, award them, list who has what."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeroom.cli.application import audit_actor, run_with_application
from homeroom.cli.group import JsonOption, LazyModule, YesOption, command_group, epilog
from homeroom.cli.terminal import (
    confirm,
    format_instant,
    pluralize,
    print_json,
    print_table,
    print_text,
    to_json_fields,
)
from homeroom.errors import BadRequest, Invalid

if TYPE_CHECKING:
    from homeroom.achievements import rule, rule_document
    from homeroom.achievements.api import AchievementRule, Award, AwardRun, NextAchievement
    from homeroom.achievements.rule_document import RuleBody
    from homeroom.bootstrap.application import Application
    from homeroom.lessonplans import curriculum_text
else:
    curriculum_text = LazyModule("homeroom.lessonplans.curriculum_text")
    rule = LazyModule("homeroom.achievements.rule")
    rule_document = LazyModule("homeroom.achievements.rule_document")

app = command_group("Store rules of achievements; award them; list who has what.")
RuleIdArgument = Annotated[str, typer.Argument(metavar="RULE", help="The id of a rule.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only list whom it awards, and change nothing.")
]
_MAX_FILE_BYTES = 1024 * 1024
_HOLDERS_AT_ONCE = 1_000


@app.command("list", epilog=epilog("homeroom achievements list"))
def list_(as_json: JsonOption = False) -> None:
    """List the rules."""

    async def read(application: Application) -> list[AchievementRule]:
        async with application.db.read() as tx:
            return await application.achievements.list_rules(tx)

    rules = run_with_application(read)
    if as_json:
        items = [{"id": each.id, **_document(each), "version": each.version} for each in rules]
        print_json({"items": items})
        return
    rows = [
        (each.id, each.title, rule.describe(each.asks), "yes" if each.credential else "no")
        for each in rules
    ]
    print_table(("ID", "TITLE", "RULE", "CREDENTIAL"), rows, "There are no rules.")


def _document(stored: AchievementRule) -> dict[str, Any]:
    condition = rule_document.read_condition(stored.condition)
    return {
        "title": stored.title,
        "description": stored.description,
        "condition": condition.model_dump(by_alias=True, exclude_none=True),
        "credential": stored.credential,
    }


@app.command(
    "set",
    epilog=epilog(
        "homeroom achievements set examples/achievements/first-rules.yaml --dry-run",
        "homeroom achievements set rules.json",
        codes=(5,),
    ),
)
def set_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A YAML or JSON file.")],
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Store the rules of a file in one commit, or none if one is faulty.

    The file holds one rule, or a list of rules, each with its `id`, in the form of the HTTP API.
    They award with each completion from now on; learners who fulfil them already are awarded by
    `homeroom achievements award`. Rules that the file does not name stay.
    """
    bodies = read_rule_file(file)
    if dry_run:
        runs = run_with_application(partial(_preview_all, bodies))
        _print_awards([award for run in runs.values() for award in run], dry_run=True, json=as_json)
        return

    async def store(application: Application) -> list[tuple[AchievementRule, bool]]:
        async with application.db.write() as tx:
            return [
                await application.achievements.put_rule(tx, id, body, audit_actor())
                for id, body in bodies.items()
            ]

    stored = run_with_application(store)
    if as_json:
        print_json({"items": [{"id": each.id, "version": each.version} for each, _ in stored]})
        return
    rows = [(each.id, each.version, each.title) for each, _ in stored]
    print_table(("ID", "VERSION", "TITLE"), rows, "There are no rules.")


def read_rule_file(file: Path) -> dict[str, RuleBody]:
    """Return the rules of a file by id; raise ``BadRequest`` or ``Invalid``."""
    try:
        content = file.read_bytes()
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{file} cannot be read: {error}.") from error
    if len(content) > _MAX_FILE_BYTES:
        raise BadRequest(f"{file} is larger than {_MAX_FILE_BYTES} bytes.")
    parse = curriculum_text.read_json if file.suffix == ".json" else curriculum_text.read_yaml
    source = parse(text)
    if source.faults:
        first = source.faults[0]
        raise Invalid(f"{file}: {first.place}: {first.detail}.")
    entries = source.body if isinstance(source.body, list) else [source.body]
    found: dict[str, RuleBody] = {}
    for number, entry in enumerate(entries, 1):
        place = f"{file}: rule {number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
            raise Invalid(f"{place} is no object with an id.")
        id = rule_document.check_rule_id(entry["id"])
        if id in found:
            raise Invalid(f"{place}: an earlier rule has the id {id!r} too.")
        body = {key: value for key, value in entry.items() if key != "id"}
        found[id] = rule_document.parse_rule(body, f"{place} ({id})")
    if not found:
        raise Invalid(f"{file} holds no rule.")
    return found


async def _preview_all(
    bodies: dict[str, RuleBody], application: Application
) -> dict[str, list[Award]]:
    """Return whom each rule would award, by the id of the rule."""
    found: dict[str, list[Award]] = {}
    for id, body in bodies.items():
        run = await application.achievements.preview(id, body)
        found[id] = list(run.awards)
        while run.after is not None:
            run = await application.achievements.preview(id, body, run.after)
            found[id] += run.awards
    return found


@app.command(
    "award",
    epilog=epilog(
        "homeroom achievements award first-course --dry-run",
        "homeroom achievements award first-course --yes",
        codes=(4,),
    ),
)
def award(
    id: RuleIdArgument,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Award a rule to all learners who fulfil it already; none is awarded twice."""

    async def run_all(application: Application, *, dry_run: bool) -> list[Award]:
        found: list[Award] = []
        run: AwardRun | None = None
        while run is None or run.after is not None:
            after = None if run is None else run.after
            run = await application.achievements.award(id, audit_actor(), after, dry_run=dry_run)
            found += run.awards
        return found

    awards = run_with_application(partial(run_all, dry_run=True))
    if not dry_run and awards:
        confirm(f"Award {id} to {pluralize(len(awards), 'learner')}?", yes=yes)
        awards = run_with_application(partial(run_all, dry_run=False))
    _print_awards(awards, dry_run=dry_run, json=as_json)


def _print_awards(awards: list[Award], *, dry_run: bool, json: bool) -> None:
    if json:
        items = [
            to_json_fields(
                {
                    "rule_id": each.rule_id,
                    "user_id": each.user_id,
                    "completion_id": each.completion_id,
                    "achieved_at": each.achieved_at,
                }
            )
            for each in awards
        ]
        print_json({"dryRun": dry_run, "items": items})
        return
    rows = [(each.rule_id, each.user_id, format_instant(each.achieved_at)) for each in awards]
    print_table(("RULE", "LEARNER", "ACHIEVED"), rows, "No learner is to be awarded.")


@app.command("holders", epilog=epilog("homeroom achievements holders first-course", codes=(4,)))
def holders(id: RuleIdArgument, as_json: JsonOption = False) -> None:
    """List the learners who have the achievement of a rule, also of an archived one."""

    async def read(application: Application) -> list[Award]:
        found: list[Award] = []
        async with application.db.read() as tx:
            while True:
                after = found[-1].user_id if found else None
                page = await application.achievements.list_holders(tx, id, after, _HOLDERS_AT_ONCE)
                found += page
                if len(page) < _HOLDERS_AT_ONCE:
                    return found

    awards = run_with_application(read)
    if as_json:
        _print_awards(awards, dry_run=False, json=True)
        return
    rows = [
        (each.user_id, format_instant(each.achieved_at), each.rule_version, each.completion_id)
        for each in awards
    ]
    columns = ("LEARNER", "ACHIEVED", "RULE VERSION", "COMPLETION")
    print_table(columns, rows, "No learner has it.")


@app.command("show", epilog=epilog("homeroom achievements show u-1042"))
def show(
    user: Annotated[str, typer.Argument(metavar="LEARNER", help="The id of the learner.")],
    as_json: JsonOption = False,
) -> None:
    """Show what a learner has achieved, and the progress towards the next."""

    async def read(application: Application) -> tuple[list[Award], list[NextAchievement]]:
        async with application.db.read() as tx:
            return (
                await application.achievements.list_awards(tx, user),
                await application.achievements.list_next(tx, user),
            )

    awarded, following = run_with_application(read)
    if as_json:
        print_json(
            {
                "awarded": [
                    to_json_fields(
                        {
                            "rule_id": each.rule_id,
                            "title": each.title,
                            "achieved_at": each.achieved_at,
                        }
                    )
                    for each in awarded
                ],
                "next": [
                    {
                        "ruleId": each.rule.id,
                        "title": each.rule.title,
                        "done": each.progress.done,
                        "required": each.progress.required,
                    }
                    for each in following
                ],
            }
        )
        return
    rows = [(each.rule_id, each.title, format_instant(each.achieved_at)) for each in awarded]
    rows += [
        (each.rule.id, each.rule.title, f"{each.progress.done} of {each.progress.required}")
        for each in following
    ]
    print_table(("RULE", "TITLE", "ACHIEVED"), rows, "There are no rules.")


@app.command("archive", epilog=epilog("homeroom achievements archive first-course", codes=(4,)))
def archive(id: RuleIdArgument, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Archive a rule: it awards nothing from now on, and what it has awarded stays."""
    confirm(f"Archive the rule {id}?", yes=yes)

    async def change(application: Application) -> None:
        async with application.db.write() as tx:
            await application.achievements.archive_rule(tx, id, audit_actor())

    run_with_application(change)
    if as_json:
        print_json({"id": id, "archived": True})
        return
    print_text(f"The rule {id} is archived.")
