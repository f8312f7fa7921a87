"""Nothing is shown to a reader that does not work."""

import configparser
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from tests.support.code_blocks import ROOT, Block, Shell, blocks, pages, same, steps
from tests.support.homeroom_process import clean_environment

pytestmark = pytest.mark.service
_TRIED_ELSEWHERE = {"docs/tokens.md": ("env", "json"), "docs/sign-in.md": ("env", "json")}
"""Kinds of blocks that tests of their own try, by page: ``test_tokens_of_providers.py`` and
``test_sign_in_at_providers.py``."""
_RUN_ELSEWHERE = ("docs/troubleshooting.md", "docs/getting-started.md")
"""Pages whose blocks need more: faults that ``test_troubleshooting.py`` causes, and the wheel of
``test_installed_from_the_wheel.py``."""
_TARGET = re.compile(r"^([a-z-]+):.*##", re.MULTILINE)


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize(
    "page",
    [
        page
        for page in pages()
        if named(page) not in _RUN_ELSEWHERE and any(True for _ in steps(page))
    ],
    ids=named,
)
def test_the_commands_of_a_page_do_what_it_shows(page: Path, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    try:
        for block, shown in steps(page):
            printed = shell.run(block)
            if shown is not None:
                where = f"{shown.page}:{shown.line}"
                told = f"{where} shows\n{shown.text}\nbut this was printed\n{printed}"
                assert same(shown.text, printed, shown.language), told
    finally:
        shell.close()


@pytest.mark.parametrize("page", pages(), ids=named)
def test_every_block_is_of_a_kind_that_is_tried(page: Path) -> None:
    for block in blocks(page):
        is_output = block.language in {"json", "text"} and any(
            after == block for _, after in steps(page)
        )
        known = (
            block.language in {"bash", "ini", *_TRIED_ELSEWHERE.get(named(page), ())} or is_output
        )
        assert known, f"{block.page}:{block.line}: nothing tries a block of {block.language!r}"


def test_make_has_the_targets_that_are_shown() -> None:
    known = set(_TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    shown = {target for page in pages() for block in blocks(page) for target in block.targets}
    assert {"run", "test"} <= shown <= known


def recipe(target: str, **values: str) -> list[str]:
    """Return the last command that a target would run, without its set-up."""
    given = [f"{name}={value}" for name, value in {"ARGS": "", **values}.items()]
    # Not as a part of the make that runs these tests, whose variables would hold here too.
    apart = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    shown = subprocess.run(
        ["make", "-n", target, *given],
        cwd=ROOT,
        env=apart,
        check=True,
        capture_output=True,
        text=True,
    )
    return shlex.split(shown.stdout.splitlines()[-1])


def test_make_run_plays_a_class_whose_numbers_agree() -> None:
    command = recipe("run", ARGS="--exit --learners 5 --port 0 --plain")
    played = subprocess.run(
        command,
        cwd=ROOT,
        env=clean_environment(),
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert played.returncode == 0, played.stdout + played.stderr
    assert "all agree" in played.stdout


def test_make_test_runs_all_tests_and_test_all_goes_further() -> None:
    for target, effort in (("test", False), ("test-all", True)):
        command = recipe(target)
        assert command[-1] == "loadgroup" or "--timeout" in command[-1], "no test is left out"
        assert any(word.startswith("TEST_EFFORT=") for word in command) is effort


def test_the_unit_of_systemd_can_be_read_and_starts_what_exists() -> None:
    texts = [block.text for page in pages() for block in blocks(page) if block.language == "ini"]
    [text] = [text for text in texts if "[Unit]" in text]
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep case
    unit.read_string(text)
    assert unit["Service"]["ExecStart"].endswith("/homeroom serve")
    assert unit["Service"]["RestartPreventExitStatus"] == "78"


def test_a_command_that_fails_is_noticed(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    try:
        with pytest.raises(AssertionError, match=r"README\.md:7: false \(1\)"):
            shell.run(Block("README.md", 7, "bash", "false\necho goes on\n"))
        assert shell.run(Block("README.md", 9, "bash", "echo still here\n")) == "still here\n"
    finally:
        shell.close()


@pytest.mark.parametrize(
    ("shown", "printed", "language", "agree"),
    [
        ('{"a": 1, "b": "..."}', '{"b": 7, "a": 1}', "json", True),
        ('{"a": 1}', '{"a": 2}', "json", False),
        ('{"a": 1}', '{"a": 1, "b": 2}', "json", False),
        ("done in ... s", "done in 12 s", "text", True),
        ("done", "done\nand more", "text", False),
    ],
)
def test_what_is_shown_is_compared_with_what_was_printed(
    shown: str, printed: str, language: str, agree: bool
) -> None:
    assert same(shown, printed, language) is agree
