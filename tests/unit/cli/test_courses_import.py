"""Courses out of files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "courses"


def course(**members: Any) -> dict[str, Any]:
    chapters = [{"id": "c1", "title": "First"}, {"id": "c2", "title": "Second"}]
    return {
        "title": "Fire safety",
        "units": [{"id": "u1", "title": "All", "chapters": chapters}],
        **members,
    }


def write(path: Path, value: Any) -> str:
    path.write_text(json.dumps(value))
    return str(path)


def outcomes(ended: Any) -> dict[str, tuple[str, int]]:
    return {item["courseId"]: (item["outcome"], item["version"]) for item in ended.json["items"]}


def test_the_examples_are_created_and_then_unchanged(terminal: Any) -> None:
    first = outcomes(terminal.ok("courses", "import", str(EXAMPLES), "--json"))
    assert len(first) == 2
    assert set(first.values()) == {("created", 1)}
    second = outcomes(terminal.ok("courses", "import", str(EXAMPLES), "--json"))
    assert set(second.values()) == {("unchanged", 1)}
    assert "unchanged" in terminal.ok("courses", "import", str(EXAMPLES)).out


def test_a_changed_course_is_a_new_version(terminal: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "fire.json", course())
    assert outcomes(terminal.ok("courses", "import", file, "--json")) == {"fire": ("created", 1)}
    write(tmp_path / "fire.json", course(title="Fire safety, 2027"))
    ended = terminal.ok("courses", "import", file, "--json")
    assert outcomes(ended) == {"fire": ("new version", 2)}
    assert terminal.rows("SELECT version FROM course") == [(2,)]


def test_a_dry_run_writes_nothing_and_counts_learners(terminal: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "fire.json", course())
    ended = terminal.ok("courses", "import", file, "--dry-run", "--json")
    (item,) = ended.json["items"]
    assert (item["outcome"], item["version"]) == ("created", 1)
    assert [item[key] for key in ("newlyComplete", "dropping", "moved", "unaffected")] == [0] * 4
    assert terminal.rows("SELECT * FROM course") == []
    assert "nothing was written" in terminal.ok("courses", "import", file, "--dry-run").out


def test_one_file_may_hold_many_courses(terminal: Any, tmp_path: Path) -> None:
    both = [course(courseId="fire"), course(courseId="water")]
    ended = terminal.ok("courses", "import", write(tmp_path / "all.json", both), "--json")
    assert outcomes(ended) == {"fire": ("created", 1), "water": ("created", 1)}


def test_every_fault_of_every_file_is_said_and_nothing_is_imported(
    terminal: Any, tmp_path: Path
) -> None:
    good = write(tmp_path / "good.json", course())
    chapters = [{"id": "c1", "title": " ", "weight": -1}, {"id": "c1", "title": "Again"}]
    bad = write(
        tmp_path / "bad.json",
        course(units=[{"id": "u1", "title": "All", "chapters": chapters}], colour="red"),
    )
    listed = write(tmp_path / "list.json", [course(courseId="x"), course(), course(courseId="")])
    broken = tmp_path / "broken.json"
    broken.write_text('{"title": "Fire",\n  "units": [}')
    odd = tmp_path / "odd.json"
    odd.write_text('{"title": NaN}')
    files = [good, bad, listed, str(broken), str(odd), str(tmp_path / "nowhere.json")]
    ended = terminal("courses", "import", *files)
    assert ended.code == 2
    for expected in (
        f"{bad}: #/colour: is not a known field",
        f"{bad}: #/units/0/chapters/0/title: must be text that is not blank",
        f"{bad}: #/units/0/chapters/0/weight: must be a number",
        f"{bad}: #/units/0/chapters/1/id: is the id of an earlier chapter too",
        f"{listed}: #/1: needs a courseId",
        f"{listed}: #/2/courseId: must be an id",
        f"{broken}: is not JSON: ",
        "(line 2, column 13)",
        f"{odd}: is not JSON: NaN",
        "nowhere.json: cannot be read: No such file or directory",
        "nothing was imported",
    ):
        assert expected in ended.err
    assert good not in ended.err
    in_json = terminal("courses", "import", *files, "--json")
    assert in_json.code == 2
    assert {"file": bad, "pointer": "#/colour"}.items() <= in_json.json["errors"][0].items()
    assert len(in_json.json["errors"]) == 9
    assert terminal.rows("SELECT * FROM course") == []


def test_the_same_course_in_two_files_is_a_fault(terminal: Any, tmp_path: Path) -> None:
    one = write(tmp_path / "one.json", course(courseId="fire"))
    two = write(tmp_path / "two.json", course(courseId="fire"))
    ended = terminal("courses", "import", one, two)
    assert ended.code == 2
    assert f"{two}: the course 'fire' is in {one} too" in ended.err


@pytest.mark.parametrize("text", ["[]", "7", '"course"', "null", "[" * 100_000, "\udcff", ""])
def test_what_is_no_course_is_said_so(terminal: Any, tmp_path: Path, text: str) -> None:
    file = tmp_path / "odd.json"
    file.write_bytes(text.encode(errors="surrogateescape"))
    ended = terminal("courses", "import", str(file))
    assert ended.code == 2
    assert f"{file}: " in ended.err
    assert ("save the file as UTF-8" in ended.err) is (text == "\udcff")


def test_an_empty_folder_is_said_so(terminal: Any, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    ended = terminal("courses", "import", str(folder))
    assert (ended.code, "no file *.json" in ended.err) == (2, True)
