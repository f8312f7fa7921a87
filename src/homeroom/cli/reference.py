"""The documentation page with the help of every command.

``python -m homeroom.cli.reference > docs/cli.md`` writes it; a test compares the two.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import typer

from homeroom.cli import app
from homeroom.cli.group import EXIT_CODES

_HELP_WIDTH = 90
_PAGE_HEADER = """# Commands

`homeroom` reads its [settings](settings.md) from the environment, once, when it starts. `keys`,
`courses`, `jobs` and `db` work on the configured database directly, in short transactions, and may
do so while a server runs. Results go to standard output, all other lines to standard error;
`--json` prints JSON, with the names of the HTTP API. In a pipe nothing is coloured, cut or drawn,
and no meaning is carried by colour alone. Commands that change many records ask first, on standard
error, unless there is `--yes`.

This page is written by `python -m homeroom.cli.reference > docs/cli.md`.

| exit code | meaning |
|---|---|
"""


def _command_help(command: typer.core.TyperGroup, path: str) -> Iterator[tuple[str, str]]:
    """Yield the path and the help of a group and of all its commands."""
    for name, each in (("", command), *command.commands.items()):
        full = f"{path} {name}".strip()
        if isinstance(each, typer.core.TyperGroup) and name:
            yield from _command_help(each, full)
            continue
        context = typer.Context(
            each,
            info_name=full,
            terminal_width=_HELP_WIDTH,
            max_content_width=_HELP_WIDTH,
            help_option_names=[
                "-h",
                "--help",
            ],  # as in cli/__init__.py, from which all commands inherit it
        )
        yield full, each.get_help(context)


def reference_page() -> str:
    """Return the text of ``docs/cli.md``."""
    root = typer.main.get_command(app)
    assert isinstance(root, typer.core.TyperGroup)
    parts = [_PAGE_HEADER, *(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items())]
    for path, text in _command_help(root, "homeroom"):
        lines = "\n".join(line.rstrip() for line in text.strip().split("\n"))
        parts.append(f"\n## {path}\n\n```text\n{lines}\n```\n")
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(reference_page())
