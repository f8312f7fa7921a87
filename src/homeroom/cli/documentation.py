"""``homeroom docs`` and ``homeroom examples``: files that the wheel brings."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from homeroom.cli.group import LazyModule, command_group, epilog
from homeroom.cli.terminal import print_text
from homeroom.errors import BadRequest, Conflict, NotFound

if TYPE_CHECKING:
    from homeroom import packaged_files
else:
    packaged_files = LazyModule("homeroom.packaged_files")

app = command_group("Read the documentation; copy the examples.")
DOCS_EPILOG = epilog(
    "homeroom docs",
    "homeroom docs settings | less",
    "homeroom docs operating",
    codes=(4,),
)
EXAMPLES_EPILOG = epilog(
    "homeroom examples",
    "homeroom examples ~/homeroom-examples",
    "homeroom examples && homeroom courses import examples/courses",
    codes=(5,),
)


@app.command("docs", epilog=DOCS_EPILOG)
def docs(
    page: Annotated[
        str | None, typer.Argument(metavar="[PAGE]", help="Name of a page, such as settings.")
    ] = None,
) -> None:
    """List the pages of the documentation, or print one, as Markdown."""
    pages = {
        file.stem: file for file in sorted(packaged_files.packaged_folder("docs").glob("*.md"))
    }
    if page is None:
        for name, file in pages.items():
            print_text(f"{name:<14} {_title(file)}")
        return
    found = pages.get(page.removesuffix(".md"))
    if found is None:
        raise NotFound(f"There is no page {page!r}.", hint=f"The pages are: {', '.join(pages)}.")
    print_text(found.read_text(encoding="utf-8").rstrip())


def _title(page: Path) -> str:
    """Return the heading of a page."""
    with page.open(encoding="utf-8") as lines:
        return next((line[2:].strip() for line in lines if line.startswith("# ")), page.stem)


@app.command("examples", epilog=EXAMPLES_EPILOG)
def examples(
    folder: Annotated[Path, typer.Argument(help="Folder to create.", file_okay=False)] = Path(
        "examples"
    ),
) -> None:
    """Copy the example courses and curricula into a new folder."""
    if folder.exists():
        raise Conflict(f"{folder} exists already.", hint="Name a folder that does not exist yet.")
    source = packaged_files.packaged_folder("examples")
    names = ("courses", "curricula")
    try:
        for name in names:
            shutil.copytree(source / name, folder / name)
    except OSError as error:
        raise BadRequest(
            f"The examples cannot be written to {folder}: {error.strerror or error}.",
            hint="Name a folder that you may create.",
        ) from error
    for file in sorted(folder.rglob("*.*")):
        print_text(str(file))
