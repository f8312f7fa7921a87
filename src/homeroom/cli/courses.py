"""``homeroom courses import``: publish courses from files, all of them or none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from homeroom.catalogue.api import Draft, EditPreview
from homeroom.catalogue.body import parse
from homeroom.catalogue.fault import Faults, pointer
from homeroom.cli.group import Json, epilog, group
from homeroom.cli.house import in_house
from homeroom.cli.output import counted, note, print_json, print_table, say
from homeroom.errors import Invalid
from homeroom.wiring import House

app = group("Bring courses into the catalogue.")


@dataclass(frozen=True, slots=True)
class Read:
    """A course as it was found in a file, before the catalogue has seen it."""

    file: Path
    at: str
    """Where in the file, as a JSON pointer."""
    course_id: str
    body: Any


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and where."""

    file: Path
    pointer: str
    detail: str


@dataclass(slots=True)
class Reading:
    """All that was found in the files, the faulty and the rest."""

    courses: list[Read] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


@app.command(
    "import",
    epilog=epilog(
        "homeroom courses import examples/courses",
        "homeroom courses import induction.json data-foundations.json --dry-run",
        "homeroom courses import courses/*.json --json",
    ),
)
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="JSON files, or folders of them."),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would change for learners.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Publish courses from JSON files: all of them in one commit, or none if one is faulty.

    A file holds one course, or a list of courses, in the form of the body of
    PUT /api/v1/courses/{courseId}. A course's id is its `courseId`; without one, it is the name of
    the file without `.json`. The same course again makes no new version.
    """
    reading = read_files(files)
    if reading.faults:
        _refuse(reading, as_json)
    courses = reading.courses

    async def work(house: House) -> list[tuple[Draft, EditPreview | None]]:
        if not dry_run:
            async with house.db.write() as tx:
                return [
                    (await house.catalogue.publish(tx, each.course_id, each.body), None)
                    for each in courses
                ]
        found: list[tuple[Draft, EditPreview | None]] = []
        for each in courses:
            async with house.db.read() as tx:
                draft = await house.catalogue.draft(tx, each.course_id, each.body)
                found.append((draft, await house.progress_jobs.preview(tx, draft.course)))
        return found

    _report(courses, in_house(work), dry_run=dry_run, as_json=as_json)


def read_files(paths: Sequence[Path]) -> Reading:
    """Read files and folders; gather what is wrong in all of them."""
    reading = Reading()
    for path in paths:
        if not path.is_dir():
            _read_file(reading, path)
            continue
        inside = sorted(path.glob("*.json"))
        if not inside:
            reading.faults.append(Fault(path, "#", "there is no file *.json in this folder"))
        for each in inside:
            _read_file(reading, each)
    seen: dict[str, Path] = {}
    for course in reading.courses:
        if course.course_id in seen:
            what = f"the course {course.course_id!r} is in {seen[course.course_id]} too"
            reading.faults.append(Fault(course.file, course.at, what))
        seen.setdefault(course.course_id, course.file)
    return reading


def _read_file(reading: Reading, path: Path) -> None:
    try:
        found = json.loads(path.read_bytes(), parse_constant=_no_number)
    except OSError as error:
        reading.faults.append(Fault(path, "#", f"cannot be read: {error.strerror}"))
        return
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        reading.faults.append(Fault(path, "#", f"is not JSON: {error.msg} ({where})"))
        return
    except (ValueError, RecursionError) as error:  # not UTF-8, NaN, or nested too deep
        reading.faults.append(Fault(path, "#", f"is not JSON: {error}"))
        return
    listed = isinstance(found, list)
    if found == []:
        reading.faults.append(Fault(path, "#", "holds no course"))
    for index, body in enumerate(found if listed else [found]):
        _read_course(reading, path, body, index if listed else None)


def _read_course(reading: Reading, path: Path, body: Any, index: int | None) -> None:
    prefix = "" if index is None else f"/{index}"
    if index is not None and not (isinstance(body, dict) and "courseId" in body):
        what = "needs a courseId, because its file holds a list"
        reading.faults.append(Fault(path, f"#{prefix}", what))
        return
    course_id = body.get("courseId", path.stem) if isinstance(body, dict) else path.stem
    faults = Faults()
    known = faults.id(course_id, ("courseId",))
    try:
        parse(known or "unknown", 1, body)
    except Invalid as error:
        for each in error.details["errors"]:
            if known or each["pointer"] != "#/courseId":  # said better below
                reading.faults.append(Fault(path, _below(each["pointer"], prefix), each["detail"]))
        hidden = error.details["errorCount"] - len(error.details["errors"])
        if hidden > 0:
            what = f"and {counted(hidden, 'fault')} more"
            reading.faults.append(Fault(path, f"#{prefix}", what))
    for at, what in faults.found:
        reading.faults.append(Fault(path, _below(pointer(at), prefix), what))
    reading.courses.append(Read(path, f"#{prefix}", known, body))


def _below(at: str, prefix: str) -> str:
    return f"#{prefix}{at.removeprefix('#')}"


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number in JSON")


def _refuse(reading: Reading, as_json: bool) -> None:
    """Say every fault, then end with ``Invalid``."""
    if as_json:
        print_json(
            {
                "items": [],
                "errors": [
                    {"file": str(each.file), "pointer": each.pointer, "detail": each.detail}
                    for each in reading.faults
                ],
            }
        )
    else:
        for each in reading.faults:
            note(f"{each.file}: {each.pointer}: {each.detail}")
    raise Invalid(f"{counted(len(reading.faults), 'fault')}; nothing was imported.")


def _outcome(draft: Draft) -> str:
    if draft.previous is None:
        return "created"
    return "new version" if draft.changes else "unchanged"


def _report(
    courses: Sequence[Read],
    drafts: Sequence[tuple[Draft, EditPreview | None]],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    pairs = list(zip(courses, drafts, strict=True))
    if as_json:
        print_json({"dryRun": dry_run, "items": [_item(each, *found) for each, found in pairs]})
        return
    columns = ["COURSE", "VERSION", "WOULD BE" if dry_run else "OUTCOME", "TITLE"]
    if dry_run:
        columns += ["NEWLY COMPLETE", "DROPPING", "MOVED", "ASKED AGAIN", "UNAFFECTED"]
    rows: list[list[object]] = []
    for each, (draft, preview) in pairs:
        row: list[object] = [each.course_id, draft.course.version, _outcome(draft)]
        row.append(draft.course.title)
        if preview is not None:
            row += [preview.newly_complete, preview.dropping, preview.moved, preview.renewed]
            row.append(preview.unaffected)
        rows.append(row)
    print_table(columns, rows, "There are no courses in these files.")
    if dry_run:
        say("Learners are counted; nothing was written.")


def _item(read: Read, draft: Draft, preview: EditPreview | None) -> dict[str, Any]:
    item: dict[str, Any] = {
        "file": str(read.file),
        "courseId": read.course_id,
        "title": draft.course.title,
        "version": draft.course.version,
        "outcome": _outcome(draft),
    }
    if preview is not None:
        item |= {
            "newlyComplete": preview.newly_complete,
            "dropping": preview.dropping,
            "moved": preview.moved,
            "renewed": preview.renewed,
            "unaffected": preview.unaffected,
        }
    return item
