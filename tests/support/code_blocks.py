"""Find the code blocks of a page, and run those of bash in order, in one shell.

The shell runs in a copy of the project's root, made of links, so that blocks change no file of it.
``homeroom serve`` is started in the background and waited for; the default ports become free ones.
A block of ``json`` or ``text`` after a block of bash is the output of the latter, where ``...``
stands for anything.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

from tests.support.homeroom_process import STOP_SECONDS, clean_environment

ROOT = Path(__file__).resolve().parents[2]
PORT, SANDBOX_PORT = "8420", "8430"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SERVE = re.compile(r"^(\S*homeroom serve\b.*)$", re.MULTILINE)
_END = "the-end-of-block"
_BLOCK_SECONDS = 90


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language and its text."""

    page: str
    line: int
    language: str
    text: str

    @property
    def targets(self) -> list[str]:
        """Return the targets of a block of nothing but ``make``; else nothing."""
        lines = [line.split("#")[0].split() for line in self.text.splitlines() if line.strip()]
        made = [words[1] for words in lines if len(words) >= 2 and words[0] == "make"]
        return made if len(made) == len(lines) else []


def pages() -> list[Path]:
    """Return the pages whose blocks run, the README first.

    Not ``cli.md``: the program writes it, and a test of the commands compares it.
    """
    written = (page for page in (ROOT / "docs").rglob("*.md") if page.name != "cli.md")
    return [ROOT / "README.md", *sorted(written)]


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    return [
        Block(name, text.count("\n", 0, hit.start()) + 1, hit[1], hit[2])
        for hit in _FENCE.finditer(text)
    ]


class Shell:
    """One bash that the blocks of a page run in, one after the other."""

    def __init__(self, folder: Path, programs: Path | None = None) -> None:
        """Start it in a folder of links to the project.

        ``programs`` is the folder of the command ``homeroom``; without it, the checkout's.
        """
        for name in (".venv", "src", "tests", "bench", "examples", "pyproject.toml", "Makefile"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "docs").mkdir()
        self.folder = folder
        self.port, self.sandbox_port = str(_free_port()), str(_free_port())
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=clean_environment(
                HOMEROOM_PORT=self.port,
                HOMEROOM_LOG_LEVEL="warning",
                PATH=f"{programs or ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, block: Block) -> str:
        """Run a block and return what it printed; fail where a command of it fails."""
        text = block.text.replace(f":{PORT}", f":{self.port}")
        text = text.replace(f":{SANDBOX_PORT}", f":{self.sandbox_port}")
        text = text.replace("homeroom sandbox", f"homeroom sandbox --port {self.sandbox_port}")
        text = _SERVE.sub(self._in_background, text)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(
            "trap 'status=$?; [ $status = 0 ] || failed=\"$BASH_COMMAND ($status)\"' ERR\n"
            f"failed=\n{text}\ntrap - ERR\n"
            f'printf "\\n{_END} %s\\n" "$failed"\n'
        )
        self._process.stdin.flush()
        said: list[str] = []
        limit = Timer(_BLOCK_SECONDS, os.killpg, (self._process.pid, signal.SIGKILL))
        limit.start()
        try:
            for line in self._process.stdout:
                if line.startswith(_END):
                    failed = line.removeprefix(_END).strip()
                    output = "".join(said).removesuffix("\n")
                    assert not failed, f"{block.page}:{block.line}: {failed}\n{output}"
                    return output
                said.append(line)
        finally:
            limit.cancel()
        raise AssertionError(f"{block.page}:{block.line} ended the shell:\n{''.join(said)}")

    def _in_background(self, hit: re.Match[str]) -> str:
        """Start a server in the background and wait until it answers."""
        answers = f"curl -sf --retry 60 --retry-connrefused --retry-delay 1 -o {os.devnull}"
        url = f"http://127.0.0.1:{self.port}/healthz"
        return f"{hit[1]} > serve.log 2>&1 &\n{answers} {url} || {{ cat serve.log; false; }}"

    def close(self) -> None:
        """End the shell and what it has started, as Ctrl-C in a terminal would."""
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()


def same(expected: str, found: str, language: str) -> bool:
    """Return whether the output is what the page shows; ``...`` stands for anything."""
    if language == "json":
        return _same_json(json.loads(expected), json.loads(found))
    shown = [line.rstrip() for line in expected.strip().splitlines()]
    printed = [line.rstrip() for line in found.strip().splitlines()]
    return len(shown) == len(printed) and all(
        fnmatch.fnmatchcase(line, re.sub(r"([\[\]*?])", r"[\1]", wanted).replace("...", "*"))
        for wanted, line in zip(shown, printed, strict=True)
    )


def _same_json(expected: object, found: object) -> bool:
    if expected == "...":
        return True
    if isinstance(expected, dict) and isinstance(found, dict):
        return expected.keys() == found.keys() and all(
            _same_json(value, found[name]) for name, value in expected.items()
        )
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(_same_json, expected, found))
    return bool(expected == found) and type(expected) is type(found)


def steps(page: Path) -> Iterator[tuple[Block, Block | None]]:
    """Yield the blocks of bash with the block that shows what they print, if there is one."""
    found = blocks(page)
    for index, block in enumerate(found):
        if block.language == "bash" and not block.targets:
            after = found[index + 1] if index + 1 < len(found) else None
            yield block, after if after and after.language in {"json", "text"} else None


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
