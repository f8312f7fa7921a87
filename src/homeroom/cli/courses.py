"""``homeroom courses``: publish and archive courses; enrol and un-enrol learners."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeroom.cli.application import audit_actor, run_with_application
from homeroom.cli.csv_import import (
    CsvFileArgument,
    DryRunOption,
    print_import_report,
    read_csv_file,
)
from homeroom.cli.group import JsonOption, LazyModule, command_group, epilog
from homeroom.cli.terminal import pluralize, print_file_fault, print_json, print_table, print_text
from homeroom.errors import Invalid

if TYPE_CHECKING:
    from homeroom.bootstrap.application import Application
    from homeroom.catalogue import course_document, document_faults
    from homeroom.catalogue import import_routes as enrolment_import
    from homeroom.catalogue.api import CourseDraft, VersionChangePreview
    from homeroom.people.import_routes import CsvImportReport
else:
    course_document = LazyModule("homeroom.catalogue.course_document")
    document_faults = LazyModule("homeroom.catalogue.document_faults")
    enrolment_import = LazyModule("homeroom.catalogue.import_routes")

app = command_group("Publish and archive courses; enrol and un-enrol learners.")


CourseIdArgument = Annotated[str, typer.Argument(metavar="COURSE", help="The course's id.")]
UserIdArgument = Annotated[str, typer.Argument(metavar="USER", help="The learner's user id.")]


@dataclass(frozen=True, slots=True)
class CourseFileEntry:
    """A course in a file, not yet checked by the catalogue."""

    file: Path
    at: str
    """The place in the file, as a JSON pointer."""
    course_id: str
    body: Any


@dataclass(frozen=True, slots=True)
class CourseFileFault:
    """A fault in a file and its place."""

    file: Path
    pointer: str
    detail: str


@dataclass(slots=True)
class CourseFiles:
    """The courses in the files, and all faults."""

    courses: list[CourseFileEntry] = field(default_factory=list)
    faults: list[CourseFileFault] = field(default_factory=list)


@app.command(
    "import",
    epilog=epilog(
        "homeroom courses import examples/courses   # from: homeroom examples",
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
        bool, typer.Option("--dry-run", help="Only show the changes for learners.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Publish courses from JSON files in one commit, or none if one is faulty.

    A file holds one course, or a list of courses, in the form of the body of
    PUT /api/v1/courses/{courseId}. A course's id is its `courseId`; without one, it is the name of
    the file without `.json`. The same course again makes no new version.
    """
    reading = read_course_files(files)
    if reading.faults:
        _fail_with_faults(reading, as_json)
    courses = reading.courses

    async def publish(
        application: Application,
    ) -> list[tuple[CourseDraft, VersionChangePreview | None]]:
        async with application.db.write() as tx:
            return [
                (await application.catalogue.publish(tx, each.course_id, each.body), None)
                for each in courses
            ]

    async def preview(
        application: Application,
    ) -> list[tuple[CourseDraft, VersionChangePreview | None]]:
        previews: list[tuple[CourseDraft, VersionChangePreview | None]] = []
        for each in courses:
            async with application.db.read() as tx:
                draft = await application.catalogue.draft(tx, each.course_id, each.body)
                previews.append((draft, await application.progress_jobs.preview(tx, draft.course)))
        return previews

    drafts = run_with_application(preview if dry_run else publish)
    _print_result(courses, drafts, dry_run=dry_run, as_json=as_json)


@app.command(
    "enrol",
    epilog=epilog(
        "homeroom courses enrol enrolments.csv --dry-run",
        "homeroom courses enrol enrolments.csv",
    ),
)
def enrol(
    file: CsvFileArgument, dry_run: DryRunOption = False, as_json: JsonOption = False
) -> None:
    """Enrol learners from a CSV file, or none if there is a fault.

    Existing enrolments stay. The columns are `courseId`, `userId` and, for the criterion `manual`,
    `approved` (true or false). After an interruption the same file enrols the rest.
    """
    content = read_csv_file(file)

    async def import_content(application: Application) -> CsvImportReport:
        return await enrolment_import.import_enrolments(
            application.db,
            application.catalogue,
            content,
            audit_actor(),
            may_approve=True,
            dry_run=dry_run,
        )

    print_import_report(file, run_with_application(import_content), as_json=as_json)


@app.command("unenrol", epilog=epilog("homeroom courses unenrol data-foundations ada", codes=(4,)))
def unenrol(course_id: CourseIdArgument, user_id: UserIdArgument) -> None:
    """End a learner's enrolment.

    Later events are refused; progress and completions stay.
    """

    async def store(application: Application) -> None:
        async with application.db.write() as tx:
            await application.catalogue.end_enrolment(tx, course_id, user_id, audit_actor())

    run_with_application(store)
    print_text(f"The enrolment of {user_id} in {course_id} is ended.")


@app.command("archive", epilog=epilog("homeroom courses archive data-foundations", codes=(4,)))
def archive(course_id: CourseIdArgument) -> None:
    """Archive a course: no new enrolments. Enrolled learners go on."""
    _set_archived(course_id, archived=True)
    print_text(f"{course_id} is archived and takes no new enrolments.")


@app.command("unarchive", epilog=epilog("homeroom courses unarchive data-foundations", codes=(4,)))
def unarchive(course_id: CourseIdArgument) -> None:
    """Open an archived course to new enrolments again."""
    _set_archived(course_id, archived=False)
    print_text(f"{course_id} takes new enrolments again.")


def _set_archived(course_id: str, *, archived: bool) -> None:
    async def store(application: Application) -> None:
        async with application.db.write() as tx:
            await application.catalogue.set_archived(tx, course_id, archived, audit_actor())

    run_with_application(store)


def read_course_files(paths: Sequence[Path]) -> CourseFiles:
    """Read files and folders; collect the faults of all of them."""
    reading = CourseFiles()
    for path in paths:
        if not path.is_dir():
            _read_file(reading, path)
            continue
        files = sorted(path.glob("*.json"))
        if not files:
            reading.faults.append(
                CourseFileFault(path, "#", "there is no file *.json in this folder")
            )
        for each in files:
            _read_file(reading, each)
    seen: dict[str, Path] = {}
    for course in reading.courses:
        if course.course_id in seen:
            fault = f"the course {course.course_id!r} is in {seen[course.course_id]} too"
            reading.faults.append(CourseFileFault(course.file, course.at, fault))
        seen.setdefault(course.course_id, course.file)
    return reading


def _read_file(reading: CourseFiles, path: Path) -> None:
    try:
        document = json.loads(path.read_bytes(), parse_constant=_reject_constant)
    except OSError as error:
        reading.faults.append(CourseFileFault(path, "#", f"cannot be read: {error.strerror}"))
        return
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        reading.faults.append(CourseFileFault(path, "#", f"is not JSON: {error.msg} ({where})"))
        return
    except UnicodeDecodeError:
        reading.faults.append(
            CourseFileFault(path, "#", "is not UTF-8 text; save the file as UTF-8")
        )
        return
    except (ValueError, RecursionError) as error:  # NaN, or nested too deep
        reading.faults.append(CourseFileFault(path, "#", f"is not JSON: {error}"))
        return
    is_list = isinstance(document, list)
    if document == []:
        reading.faults.append(CourseFileFault(path, "#", "holds no course"))
    for index, body in enumerate(document if is_list else [document]):
        _read_course(reading, path, body, index if is_list else None)


def _read_course(reading: CourseFiles, path: Path, body: Any, index: int | None) -> None:
    prefix = "" if index is None else f"/{index}"
    if index is not None and not (isinstance(body, dict) and "courseId" in body):
        fault = "needs a courseId, because its file holds a list"
        reading.faults.append(CourseFileFault(path, f"#{prefix}", fault))
        return
    course_id = body.get("courseId", path.stem) if isinstance(body, dict) else path.stem
    faults = document_faults.DocumentFaults()
    valid_id = faults.id(course_id, ("courseId",))
    try:
        course_document.parse_course(valid_id or "unknown", 1, body)
    except Invalid as error:
        for each in error.details["errors"]:
            if valid_id or each["pointer"] != "#/courseId":  # reported below
                reading.faults.append(
                    CourseFileFault(
                        path, _prefixed_pointer(each["pointer"], prefix), each["detail"]
                    )
                )
        hidden = error.details["errorCount"] - len(error.details["errors"])
        if hidden > 0:
            fault = f"and {pluralize(hidden, 'fault')} more"
            reading.faults.append(CourseFileFault(path, f"#{prefix}", fault))
    for at, fault in faults.found:
        reading.faults.append(
            CourseFileFault(
                path, _prefixed_pointer(document_faults.json_pointer(at), prefix), fault
            )
        )
    reading.courses.append(CourseFileEntry(path, f"#{prefix}", valid_id, body))


def _prefixed_pointer(at: str, prefix: str) -> str:
    return f"#{prefix}{at.removeprefix('#')}"


def _reject_constant(text: str) -> None:
    raise ValueError(f"{text} is not a number in JSON")


def _fail_with_faults(reading: CourseFiles, as_json: bool) -> None:
    """Print every fault, then raise ``Invalid``."""
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
            print_file_fault(each.file, each.pointer, each.detail)
    raise Invalid(f"{pluralize(len(reading.faults), 'fault')}; nothing was imported.")


def _outcome(draft: CourseDraft) -> str:
    if draft.previous is None:
        return "created"
    return "new version" if draft.changes else "unchanged"


def _print_result(
    courses: Sequence[CourseFileEntry],
    drafts: Sequence[tuple[CourseDraft, VersionChangePreview | None]],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    pairs = list(zip(courses, drafts, strict=True))
    if as_json:
        print_json(
            {"dryRun": dry_run, "items": [_json_item(each, *draft) for each, draft in pairs]}
        )
        return
    columns = ["COURSE", "VERSION", "WOULD BE" if dry_run else "OUTCOME", "TITLE"]
    if dry_run:
        columns += ["NEWLY COMPLETE", "DROPPING", "MOVED", "RENEWED", "UNAFFECTED"]
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
        print_text("The numbers are of learners; nothing was written.")


def _json_item(
    entry: CourseFileEntry, draft: CourseDraft, preview: VersionChangePreview | None
) -> dict[str, Any]:
    item: dict[str, Any] = {
        "file": str(entry.file),
        "courseId": entry.course_id,
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
