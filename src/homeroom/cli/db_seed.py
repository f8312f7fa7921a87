"""``homeroom db seed``: fill an empty database with a school to look at."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from homeroom.cli.application import run_with_application
from homeroom.cli.group import JsonOption, LazyModule, YesOption
from homeroom.cli.terminal import (
    confirm,
    pluralize,
    print_json,
    print_text,
    print_to_stderr,
    to_json_fields,
)

if TYPE_CHECKING:
    from homeroom.bootstrap import database, database_commands
    from homeroom.demo import school_seed
    from homeroom.demo.school_seed import SeedSummary
    from homeroom.settings import Settings
else:
    database = LazyModule("homeroom.bootstrap.database")
    database_commands = LazyModule("homeroom.bootstrap.database_commands")
    school_seed = LazyModule("homeroom.demo.school_seed")

_OUTGOING = (
    *("directory_url", "assessment_url", "credly_url", "analytics_url", "hr_url", "xapi_url"),
    *("llm_model", "smtp_url", "sms_url", "chat_url", "steps"),
)
"""Settings of systems that the jobs of a school call."""


def seed(
    size: Annotated[
        Literal["small", "large"], typer.Option(help="60 learners, or 5,000.")
    ] = "small",
    learners: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Another number of learners.")
    ] = None,
    seed_: Annotated[int, typer.Option("--seed", help="Seed of the people and events.")] = 1,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fill an empty database with a school to look at: people, courses, progress.

    It creates the database if it is missing, and refuses one that holds rows. Learners with their
    managers take the example courses for six weeks; facilitators hand in their logs, some late
    and some not, and a lesson plan begins. The same seed makes the same school. The jobs wait for
    `homeroom serve`; where partners are configured, it asks first, since the jobs would reach them.
    """
    settings = database.load_settings()
    used = [f"HOMEROOM_{name.upper()}" for name in _OUTGOING if getattr(settings, name)]
    if used:
        print_to_stderr(
            f"Settings of other systems: {', '.join(used)}. Once a worker runs, its jobs reach"
            " them with learners who do not exist."
        )
        confirm("Make the school all the same?", yes=yes)
    database_commands.create_empty_database(settings)
    count = school_seed.SIZES[size] if learners is None else learners
    options = school_seed.SeedOptions(learners=count, seed=seed_)
    began = time.monotonic()
    if not as_json:
        print_to_stderr(f"Making a school of {pluralize(count, 'learner')} ...")
    made = run_with_application(lambda application: school_seed.seed_school(application, options))
    seconds = time.monotonic() - began
    if as_json:
        fields = to_json_fields(asdict(made))
        print_json({"database": settings.database_name, **fields, "seconds": round(seconds, 1)})
    else:
        _print_summary(settings, made, seconds)


def _print_summary(settings: Settings, made: SeedSummary, seconds: float) -> None:
    parts = (
        f"{pluralize(made.courses, 'course')}, {pluralize(made.learners, 'learner')} with"
        f" {pluralize(made.enrolments, 'enrolment')}, {pluralize(made.managers, 'manager')}",
        f"{pluralize(made.events, 'event')} of six weeks, and"
        f" {pluralize(made.completions, 'completed course')}",
        f"{pluralize(made.programmes, 'programme')} with"
        f" {pluralize(made.facilitators, 'facilitator')} and"
        f" {pluralize(made.logs, 'log')} of six weeks",
        f"the lesson plan {made.plan_id}",
        f"{pluralize(made.jobs, 'job')} waiting for a worker, {made.credentials:,} of them"
        " for credentials",
    )
    print_text(f"{settings.database_name} holds a school, made in {seconds:.0f} s:")
    for part in parts:
        print_text(f"  {part}")
    if not made.credentials:
        print_text("No credentials will be issued. On one machine, this makes and serves some:")
        print_text("  export HOMEROOM_CREDENTIAL_ALLOW_HTTP=true")
    print_text("Look at it:")
    print_text("  homeroom serve         runs the jobs, and prints a link that signs you in")
    print_text("  homeroom keys sign-in  prints another link")
