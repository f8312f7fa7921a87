"""Files that ``homeroom plans`` reads and writes: curricula, templates, exports."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeroom.cli.group import LazyModule
from homeroom.cli.terminal import pluralize, print_file_fault, print_json, print_text
from homeroom.errors import BadRequest, Conflict, Invalid

if TYPE_CHECKING:
    from homeroom.lessonplans import curriculum_file, curriculum_template
else:
    curriculum_file = LazyModule("homeroom.lessonplans.curriculum_file")
    curriculum_template = LazyModule("homeroom.lessonplans.curriculum_template")

OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="File to write; - is standard output.")
]


def template(
    form: Annotated[str, typer.Option("--format", "-f", help="xlsx, csv or yaml.")] = "xlsx",
    language: Annotated[str, typer.Option(help="Language of the headings, en or de.")] = "en",
    output: OutputOption = None,
) -> None:
    """Write an empty curriculum to fill in."""
    writer = curriculum_template.TEMPLATES.get(form)
    if writer is None:
        raise Invalid(f"There is no format {form!r}; there are xlsx, csv, yaml.")
    if language not in ("en", "de"):
        raise Invalid(f"There is no language {language!r}; there are en, de.")
    chosen: Any = language  # narrowed above
    name = {"en": "curriculum", "de": "lehrplan"}[language]
    write_file(writer(chosen), f"{name}.{form}", output)


def write_file(content: bytes, name: str, output: Path | None) -> None:
    """Write a file, to standard output for ``-``, and print its path.

    Without ``output`` its ``name`` is used, and a file that is there already stays. Raises
    ``Conflict``, ``BadRequest``.
    """
    if output is not None and str(output) == "-":
        sys.stdout.buffer.write(content)
        return
    path = output or Path(name)
    if output is None and path.exists():  # it may be edited
        raise Conflict(f"{path} exists already.", hint=f"Overwrite it with: -o {path}")
    try:
        path.write_bytes(content)
    except OSError as error:
        raise BadRequest(f"{path} cannot be written: {error.strerror}.") from error
    print_text(str(path))


def read_curricula(files: list[Path], options: dict[str, Any], as_json: bool) -> list[Any]:
    """Read files; print the faults of all of them and raise ``Invalid`` if any."""
    bodies, faults = [], []
    for file in files:
        try:
            form = curriculum_file.CURRICULUM_FORMATS.get(file.suffix.lower())
            if form is None:
                raise Invalid(f"is none of {', '.join(curriculum_file.CURRICULUM_FORMATS)}")
            bodies.append(
                curriculum_file.read_curriculum_file(file.read_bytes(), form, file.stem, options)
            )
        except OSError as error:
            detail = f"cannot be read: {error.strerror}"
            faults.append({"file": str(file), "pointer": "#", "detail": detail})
        except Invalid as error:
            errors = error.details.get("errors") or [{"pointer": "#", "detail": error.message}]
            faults += [
                {"file": str(file), "pointer": one["pointer"], "detail": one["detail"]}
                for one in errors
            ]
            hidden = error.details.get("errorCount", len(errors)) - len(errors)
            if hidden:
                faults.append(
                    {"file": str(file), "pointer": "#", "detail": f"{hidden} more faults"}
                )
    if not faults:
        return bodies
    if as_json:
        print_json({"items": [], "errors": faults})
    else:
        for fault in faults:
            print_file_fault(fault["file"], fault["pointer"], fault["detail"])
    raise Invalid(f"{pluralize(len(faults), 'fault')}; nothing was stored.")
