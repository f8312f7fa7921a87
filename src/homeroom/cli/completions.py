"""``homeroom completions``: list outstanding steps, show completions, retry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from homeroom.cli.application import audit_actor, run_with_application
from homeroom.cli.group import (
    JsonOption,
    LazyModule,
    YesOption,
    command_group,
    epilog,
    parse_duration_us,
)
from homeroom.cli.job_view import format_duration
from homeroom.cli.terminal import (
    confirm,
    format_instant,
    pluralize,
    print_json,
    print_table,
    print_text,
    print_to_stderr,
    to_json_fields,
    truncate_line,
)
from homeroom.errors import BadRequest, HomeroomError, NotFound
from homeroom.redaction import redact_text

if TYPE_CHECKING:
    from homeroom import settings as settings_model
    from homeroom.access import api as access
    from homeroom.bootstrap.application import Application
    from homeroom.completion import api as completion_api
    from homeroom.completion import step_addition, step_retry
    from homeroom.completion.api import Completion, ListedStep
else:
    access = LazyModule("homeroom.access.api")
    completion_api = LazyModule("homeroom.completion.api")
    settings_model = LazyModule("homeroom.settings")
    step_addition = LazyModule("homeroom.completion.step_addition")
    step_retry = LazyModule("homeroom.completion.step_retry")

STEP_COLUMNS = ("LEARNER", "COURSE", "STEP", "STATUS", "AGE", "TRIES", "REASON")
_PAGE_SIZE = 200
_REASON_WIDTH = 120
StatusName = Literal[
    "waiting", "active", "completed", "failed", "skipped", "outstanding", "not-completed"
]
RetryableName = Literal["failed", "skipped", "waiting"]
StepOption = Annotated[
    str | None, typer.Option("--step", help="Only this step, such as credential or hr.")
]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", help="Only steps with this reason code.")
]
UserOption = Annotated[str | None, typer.Option("--user", help="Only of this learner.")]
CourseOption = Annotated[str | None, typer.Option("--course", help="Only of this course.")]
SinceOption = Annotated[
    str | None, typer.Option("--since", help="Only completions of the last 12h, 7d, 2w.")
]

app = command_group("List what is outstanding for which learner; retry steps.")


@app.command(
    "list",
    epilog=epilog(
        "homeroom completions list --outstanding",
        "homeroom completions list --step credential --status not-completed",
        "homeroom completions list --step credential --status failed --course fire-safety",
        "homeroom completions list --outstanding --user u-1042 --json",
    ),
)
def list_(
    step: StepOption = None,
    status: Annotated[
        StatusName | None,
        typer.Option(
            help="Only steps in this status. outstanding: waiting, active or failed;"
            " not-completed: skipped too."
        ),
    ] = None,
    outstanding: Annotated[
        bool, typer.Option("--outstanding", help="The same as --status outstanding.")
    ] = False,
    reason: ReasonOption = None,
    user: UserOption = None,
    course: CourseOption = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many steps at most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List the steps of completions with learner, course and reason, newest first.

    AGE is the time since the completion was recorded. Secrets are hidden, e-mail addresses masked.
    """
    if outstanding and status not in {None, "outstanding"}:
        raise BadRequest("--outstanding is a status itself: give it or --status, but not both.")

    async def read(application: Application) -> tuple[list[dict[str, Any]], int]:
        steps = completion_api.StepFilter(
            name=step, status="outstanding" if outstanding else status, reason=reason
        )
        query = _completion_filter(application, user, course, since)
        found: list[dict[str, Any]] = []
        before: str | None = None
        while len(found) <= limit:
            async with application.db.read() as tx:
                page = await application.completions.list_by_step(
                    tx, query, steps, before, _PAGE_SIZE
                )
                listed = await application.completions.list_steps(tx, [each.id for each in page])
            found += [
                _step_fields(completion, each)
                for completion in page
                for each in listed[completion.id]
                if steps.selects(each)
            ]
            if len(page) < _PAGE_SIZE:
                break
            before = page[-1].id
        return found, application.db.clock.now()

    found, now = run_with_application(read)
    if as_json:
        items = [to_json_fields(each) for each in found[:limit]]
        print_json({"items": items, "more": len(found) > limit})
        return
    print_table(STEP_COLUMNS, [_row(each, now) for each in found[:limit]], "There are none.")
    if len(found) > limit:
        print_to_stderr(f"There are more than these {limit:,}; --limit shows more of them.")


def _completion_filter(
    application: Application, user: str | None, course: str | None, since: str | None
) -> completion_api.CompletionFilter:
    return completion_api.CompletionFilter(
        user_id=user, course_id=course, recorded_since=_recorded_since(application, since)
    )


def _recorded_since(application: Application, since: str | None) -> int | None:
    return None if since is None else application.db.clock.now() - parse_duration_us(since)


def _step_fields(completion: Completion, step: ListedStep) -> dict[str, Any]:
    """Return a step with its learner and course, as JSON shows it, redacted."""
    return {
        "completion_id": completion.id,
        "user_id": completion.user_id,
        "course_id": completion.course_id,
        "course_title": completion.course_title,
        "recorded_at": completion.recorded_at,
        "step": step.name,
        "status": step.status,
        "attempts": step.attempts,
        "reason_code": step.reason_code,
        "last_error": None if step.last_error is None else redact_text(step.last_error),
        "skip_reason": step.skip_reason,
        "next_attempt_at": step.next_attempt_at,
        "finished_at": step.finished_at,
        "external_id": step.external_id,
        "job_id": step.job_id,
    }


def _row(fields: Mapping[str, Any], now: int) -> tuple[object, ...]:
    return (
        fields["user_id"],
        fields["course_id"],
        fields["step"],
        fields["status"],
        format_duration(max(now - fields["recorded_at"], 0) / 1_000_000),
        fields["attempts"],
        truncate_line(_describe_reason(fields), _REASON_WIDTH),
    )


def _describe_reason(fields: Mapping[str, Any]) -> str | None:
    """Return code and text of what keeps a step from being completed."""
    text = fields["skip_reason"] or fields["last_error"]
    return ": ".join(part for part in (fields["reason_code"], text) if part) or None


@app.command(
    "show",
    epilog=epilog(
        "homeroom completions show 0199c0de-7a3b-7c11-9f7e-2f60b1a2c3d4",
        "homeroom completions show --user u-1042 --course fire-safety",
        codes=(4,),
    ),
)
def show(
    completion_id: Annotated[str | None, typer.Argument(metavar="ID")] = None,
    user: Annotated[str | None, typer.Option("--user", help="The learner.")] = None,
    course: Annotated[str | None, typer.Option("--course", help="The course.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a completion with its steps, by its id or by learner and course.

    Of several attempts at a course the latest completed one is shown.
    """
    if (completion_id is None) != (user is not None and course is not None):
        raise BadRequest("Name one completion: by its id, or by --user and --course.")

    async def read(application: Application) -> tuple[Completion, list[ListedStep]]:
        async with application.db.read() as tx:
            if completion_id is not None:
                found = await application.completions.get(tx, completion_id)
            else:
                latest = await application.completions.find(tx, str(user), str(course))
                if latest is None:
                    raise NotFound(f"{user} has not completed the course {course!r}.")
                found = latest
            return found, (await application.completions.list_steps(tx, [found.id]))[found.id]

    completion, steps = run_with_application(read)
    fields = [_step_fields(completion, step) for step in steps]
    if as_json:
        common = {"completion_id", "user_id", "course_id", "course_title", "recorded_at"}
        own = [{name: each[name] for name in each if name not in common} for each in fields]
        print_json({**to_json_fields(_completion_fields(completion)), "steps": _json_items(own)})
        return
    for name, value in _facts(completion).items():
        print_text(f"{name:<12}{value}")
    for each in fields:
        print_text(f"\n{each['step']}: {each['status']}")
        for name, value in _step_facts(each).items():
            print_text(f"    {name:<14}{value}")


def _json_items(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [to_json_fields(row) for row in rows]


def _completion_fields(completion: Completion) -> dict[str, Any]:
    return {
        "id": completion.id,
        "user_id": completion.user_id,
        "course_id": completion.course_id,
        "course_title": completion.course_title,
        "attempt": completion.attempt,
        "completed_at": completion.completed_at,
        "recorded_at": completion.recorded_at,
        "score": completion_api.score_fraction(completion.score),
        "superseded_by": completion.superseded_by,
    }


def _facts(completion: Completion) -> dict[str, object]:
    return {
        "id": completion.id,
        "learner": completion.user_id,
        "course": f"{completion.course_id} ({completion.course_title})",
        "attempt": completion.attempt,
        "completed": format_instant(completion.completed_at),
        "recorded": format_instant(completion.recorded_at),
    }


def _step_facts(fields: Mapping[str, Any]) -> dict[str, object]:
    facts = {
        "attempts": fields["attempts"],
        "reason": _describe_reason(fields),
        "next attempt": fields["next_attempt_at"] and format_instant(fields["next_attempt_at"]),
        "finished": fields["finished_at"] and format_instant(fields["finished_at"]),
        "external id": fields["external_id"],
        "job": fields["job_id"],
    }
    return {name: value for name, value in facts.items() if value is not None}


@app.command(
    "retry",
    epilog=epilog(
        "homeroom completions retry --all --step credential",
        "homeroom completions retry --all --step credential --reason handler_failed --dry-run",
        "homeroom completions retry --all --step hr --status waiting --since 1d --yes",
        "homeroom completions retry 0199c0de-7a3b-7c11-9f7e-2f60b1a2c3d4 --step hr",
        codes=(4, 5),
    ),
)
def retry(
    step: Annotated[str, typer.Option("--step", help="The step, such as credential or hr.")],
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Completions.")] = None,
    all_matching: Annotated[
        bool, typer.Option("--all", help="The step of all completions that match; asks first.")
    ] = False,
    status: Annotated[
        RetryableName,
        typer.Option(
            help="With --all: failed steps, skipped ones whose reason is gone, or waiting ones"
            " whose next attempt is later."
        ),
    ] = "failed",
    reason: ReasonOption = None,
    user: UserOption = None,
    course: CourseOption = None,
    since: SinceOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count them only.")] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run a step of completions again, also where its job was removed."""
    filters = (reason, user, course, since)
    if bool(ids) == all_matching or (ids and any(each is not None for each in filters)):
        raise BadRequest(
            "Select completions by their ids, or by --all and options.",
            hint="`homeroom completions list` shows what is outstanding.",
        )
    if ids:
        _retry_each(ids, step, as_json)
        return

    async def retry_all(application: Application, *, is_dry: bool) -> int:
        selected = step_retry.StepRetry(
            step=step,
            status=status,
            reason=reason,
            user_id=user,
            course_id=course,
            recorded_since=_recorded_since(application, since),
        )
        return await step_retry.retry_all(
            application.db, application.completions, selected, audit_actor(), dry_run=is_dry
        )

    count = run_with_application(lambda application: retry_all(application, is_dry=True))
    if count and not dry_run:
        confirm(f"Retry the step {step} of {pluralize(count, 'completion')}?", yes=yes)
        count = run_with_application(lambda application: retry_all(application, is_dry=False))
    if as_json:
        print_json({"count": count})
    else:
        verb = "Would retry" if dry_run else "Retried"
        print_text(f"{verb} the step {step} of {pluralize(count, 'completion')}.")


def _retry_each(ids: Sequence[str], step: str, as_json: bool) -> None:
    """Retry a step of each completion; raise the first error at the end."""

    async def retry_each(application: Application) -> list[HomeroomError]:
        errors: list[HomeroomError] = []
        for completion_id in dict.fromkeys(ids):
            try:
                async with application.db.write() as tx:
                    await application.completions.retry_step(tx, completion_id, step)
                    details = {"step": step}
                    await access.record_audit(
                        tx, audit_actor(), "step.retried", completion_id, details
                    )
            except HomeroomError as error:
                errors.append(error)
        return errors

    errors = run_with_application(retry_each)
    count = len(set(ids)) - len(errors)
    if as_json:
        print_json({"count": count})
    elif count:
        print_text(f"Retried the step {step} of {pluralize(count, 'completion')}.")
    for error in errors[1:]:
        print_to_stderr(f"Error: {error.message}")
    if errors:
        raise errors[0]


@app.command(
    "steps",
    epilog=epilog("homeroom completions steps", "homeroom completions steps --json", codes=(3,)),
)
def steps(as_json: JsonOption = False) -> None:
    """List the installed steps with their settings; secrets are hidden."""

    async def read(application: Application) -> list[dict[str, Any]]:
        declared = application.completions.steps
        entries = settings_model.list_step_settings(application.steps.settings)
        return [
            {
                "name": each.name,
                "package": each.source,
                "description": each.description,
                "is_switched_on": declared[each.name].is_switched_on,
                "job_kind": each.step.job.kind,
                "queue": each.step.job.queue,
                "settings": [
                    {"name": entry.name, "value": entry.value, "description": entry.description}
                    for entry in entries
                    if entry.group == settings_model.step_group(each.name)
                ],
            }
            for each in application.steps.installed
        ]

    found = run_with_application(read)
    if as_json:
        print_json({"items": _json_items(found)})
        return
    for each in found:
        state = "" if each["is_switched_on"] else " (switched off by its settings)"
        print_text(f"{each['name']}{state}: {each['description']}")
        print_text(f"    {each['package']}, job {each['job_kind']}, queue {each['queue']}")
        for setting in each["settings"]:
            value = "unset" if setting["value"] is None else setting["value"]
            print_text(f"    {setting['name']}={value}  {setting['description']}".rstrip())


@app.command(
    "add-step",
    epilog=epilog(
        "homeroom completions add-step xapi --dry-run",
        "homeroom completions add-step xapi --since 365d",
        "homeroom completions add-step xapi --course fire-safety --yes",
    ),
)
def add_step(
    name: Annotated[str, typer.Argument(help="The step, such as xapi.")],
    user: UserOption = None,
    course: CourseOption = None,
    since: SinceOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count them only.")] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Add a step to completions from before it was installed or switched on.

    Those that have the step are left alone, so the command may be repeated. It asks first.
    """

    async def add(application: Application, *, is_dry: bool) -> int:
        query = _completion_filter(application, user, course, since)
        return await step_addition.add_step(
            application.db, application.completions, name, query, audit_actor(), dry_run=is_dry
        )

    count = run_with_application(lambda application: add(application, is_dry=True))
    if count and not dry_run:
        confirm(f"Add the step {name} to {pluralize(count, 'completion')}?", yes=yes)
        count = run_with_application(lambda application: add(application, is_dry=False))
    if as_json:
        print_json({"count": count})
    else:
        verb = "Would add" if dry_run else "Added"
        print_text(f"{verb} the step {name} to {pluralize(count, 'completion')}.")
