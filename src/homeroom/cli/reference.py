"""Write the page of the documentation that shows the help of every command.

``python -m homeroom.cli.reference > docs/cli.md`` writes it; a test compares the two.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import typer

from homeroom.cli import app
from homeroom.cli.group import EXIT_CODES

_WIDTH = 90
_HEAD = """# Commands

`homeroom` reads its [settings](settings.md) from the environment, once, when it starts. `keys`,
`courses`, `jobs` and `db` act on the configured database directly, in short transactions, and may
do so while a server runs. What was asked for goes to standard output, everything else to standard
error; `--json` prints JSON, with the names of the HTTP API. In a pipe nothing is coloured, cut or
drawn, and nothing is ever said by colour alone. What changes many records asks first: on standard
error, unless there is `--yes`.

This page is written by `python -m homeroom.cli.reference > docs/cli.md`.

| exit code | meaning |
|---|---|
"""


def _helps(command: typer.core.TyperGroup, path: str) -> Iterator[tuple[str, str]]:
    """Yield the path and the help of a group and of everything in it."""
    for name, each in (("", command), *command.commands.items()):
        full = f"{path} {name}".strip()
        if isinstance(each, typer.core.TyperGroup) and name:
            yield from _helps(each, full)
            continue
        context = typer.Context(
            each,
            info_name=full,
            terminal_width=_WIDTH,
            max_content_width=_WIDTH,
            help_option_names=["-h", "--help"],  # as the app says of all its commands
        )
        yield full, each.get_help(context)


def markdown() -> str:
    """Return the page."""
    root = typer.main.get_command(app)
    assert isinstance(root, typer.core.TyperGroup)
    parts = [_HEAD, *(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items())]
    for path, text in _helps(root, "homeroom"):
        lines = "\n".join(line.rstrip() for line in text.strip().split("\n"))
        parts.append(f"\n## {path}\n\n```text\n{lines}\n```\n")
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(markdown())
