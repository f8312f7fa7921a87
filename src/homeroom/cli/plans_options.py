"""Options of ``homeroom plans`` for what a table cannot hold."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

_OPTIONS: dict[str, tuple[str, Any]] = {
    "title": ("title", Annotated[str | None, typer.Option(help="Title of the curriculum.")]),
    "course_id": ("courseId", Annotated[str | None, typer.Option(help="Id of its course.")]),
    "locale": ("locale", Annotated[str | None, typer.Option(help="Language tag, such as de.")]),
    "lesson_minutes": (
        "preferences.lessonMinutes",
        Annotated[int | None, typer.Option(help="Length of a lesson.")],
    ),
    "leftover": (
        "preferences.leftover",
        Annotated[
            str | None,
            typer.Option(help="Minutes beyond whole lessons: shorter_lesson or spread."),
        ],
    ),
    "delivery_mode": (
        "preferences.deliveryMode",
        Annotated[str | None, typer.Option(help="Such as classroom, online, on the job.")],
    ),
    "group_size": (
        "preferences.groupSize",
        Annotated[int | None, typer.Option(help="Number of learners.")],
    ),
    "room": ("preferences.room", Annotated[str | None, typer.Option(help="The usual room.")]),
    "material": (
        "preferences.materials",
        Annotated[
            list[str] | None, typer.Option(help="Material of every lesson; may be repeated.")
        ],
    ),
    "wording": (
        "preferences.wording",
        Annotated[
            str | None,
            typer.Option(
                help="Language of the rules' own wording, en or de, for a curriculum in another"
                " language."
            ),
        ],
    ),
    "starts_on": (
        "preferences.startsOn",
        Annotated[str | None, typer.Option(help="First day, such as 2027-01-11.")],
    ),
    "start_time": (
        "preferences.startTime",
        Annotated[str | None, typer.Option(help="Start of the first lesson, such as 09:00.")],
    ),
    "time_zone": (
        "preferences.timeZone",
        Annotated[str | None, typer.Option(help="Such as Europe/Berlin.")],
    ),
    "weekdays": (
        "preferences.weekdays",
        Annotated[str | None, typer.Option(help="Days with lessons, such as MO,WE,FR.")],
    ),
    "lessons_per_day": (
        "preferences.lessonsPerDay",
        Annotated[int | None, typer.Option(help="Lessons on such a day.")],
    ),
}
"""Each option's parameter, with its field of the curriculum and its type."""


def with_curriculum_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a curriculum to a command.

    The command gets those that are given as ``options``, in the shape of a curriculum's body.
    """
    signature = inspect.signature(command, eval_str=True)
    own = [each for each in signature.parameters.values() if each.name != "options"]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, (_, kind) in _OPTIONS.items()
    ]
    own = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]

    @wraps(command)
    def run(**values: Any) -> None:
        given = {name: values.pop(name) for name in _OPTIONS}
        command(**values, options=_curriculum_options(given))

    run.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]  # typer reads it
    run.__annotations__ = {each.name: each.annotation for each in (*own, *added)}
    return run


def _curriculum_options(given: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in given.items():
        if value is None or value == []:
            continue
        if name == "weekdays":
            value = [day.strip().upper() for day in value.split(",") if day.strip()]
        group, _, field = _OPTIONS[name][0].rpartition(".")
        if group:
            options.setdefault(group, {})[field] = value
        else:
            options[field] = value
    return options
