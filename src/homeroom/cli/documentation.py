"""``homeroom docs`` and ``homeroom examples``: files that the wheel brings."""

from __future__ import annotations

import shutil
from difflib import get_close_matches
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
    "homeroom docs getting-started",
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
    pages = packaged_files.documentation_pages()
    if page is None:
        width = max(map(len, pages))
        for name, file in pages.items():
            print_text(f"{name:<{width}}  {_title(file)}")
        return
    print_text(_find_page(pages, page).read_text(encoding="utf-8").rstrip())


def _find_page(pages: dict[str, Path], wanted: str) -> Path:
    """Return the page of a name or of a link, such as ``../UPGRADE.md#sqlite``."""
    stem = wanted.partition("#")[0].rpartition("/")[2].removesuffix(".md")
    by_lower_name = {name.lower(): file for name, file in pages.items()}
    found = by_lower_name.get(stem.lower())
    if found is not None:
        return found
    close = get_close_matches(stem.lower(), by_lower_name, n=1)
    raise NotFound(
        f"There is no page {wanted!r}.",
        hint=f"Did you mean {close[0]}?" if close else "`homeroom docs` lists the pages.",
    )


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
