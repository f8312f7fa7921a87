"""API keys from the command line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from homeroom.access.store import hash_token


def test_a_key_is_made_and_only_its_token_goes_to_standard_output(terminal: Any) -> None:
    made = terminal.ok("keys", "create", "ci", "--role", "viewer", "-r", "operator")
    token = made.out.strip()
    assert token.startswith("hr_")
    assert made.out == f"{token}\n"
    assert token not in made.err
    ((hash_, roles),) = terminal.rows("SELECT hash, roles FROM api_key")
    assert (hash_, roles) == (hash_token(token), "operator viewer")


def test_a_key_in_json_has_its_token_once(terminal: Any) -> None:
    made = terminal.ok("keys", "create", "lms", "--role", "service", "--json").json
    assert made["token"].startswith("hr_")
    (listed,) = terminal.ok("keys", "list", "--json").json["items"]
    assert listed == {key: value for key, value in made.items() if key != "token"}
    assert listed["roles"] == ["service"]
    assert listed["createdAt"].endswith("Z")


def test_a_sign_in_link_is_printed_each_time_it_is_asked_for(terminal: Any) -> None:
    links = {terminal.ok("keys", "sign-in").out.strip() for _ in range(2)}
    links.add(terminal.ok("keys", "sign-in", "--json").json["link"])
    rows = terminal.rows("SELECT hash, roles FROM sign_in WHERE used_at IS NULL")
    tokens = {hash_token(link.partition("/sign-in#")[2]) for link in links}
    assert len(tokens) == 3
    assert set(rows) == {(token, "admin") for token in tokens}


def test_a_revoked_key_is_listed_only_when_asked_for(terminal: Any) -> None:
    key_id = terminal.ok("keys", "create", "old", "--role", "viewer", "--json").json["id"]
    terminal.ok("keys", "create", "new", "--role", "viewer")
    assert "(old)" in terminal.ok("keys", "revoke", key_id).out
    assert [each["name"] for each in terminal.ok("keys", "list", "--json").json["items"]] == ["new"]
    out = terminal.ok("keys", "list", "--all").out
    assert "revoked 2" in out
    assert out.splitlines()[0].split()[:4] == ["ID", "NAME", "ROLES", "STATUS"]


def test_each_change_leaves_an_audit_line_without_the_token_and_a_list_writes_none(
    terminal: Any,
) -> None:
    made = terminal.ok("keys", "create", "ci", "--role", "viewer", "--json").json
    terminal.ok("keys", "list")
    terminal.ok("keys", "revoke", made["id"], "--json")
    lines = terminal.rows("SELECT actor, action, subject, details FROM audit ORDER BY at, id")
    assert [line[1] for line in lines] == ["key.made", "key.revoked"]
    assert all(line[0].startswith("cli") for line in lines)
    assert lines[0][2] == lines[1][2] == made["id"]
    assert json.loads(lines[0][3]) == {"name": "ci", "roles": ["viewer"]}
    assert made["token"] not in repr(lines)


@pytest.mark.parametrize(
    "words",
    [
        ("create", "ci"),
        ("create", "ci", "--role", "headmaster"),
        ("create", "", "--role", "viewer"),
        ("create", "a\nb", "--role", "viewer"),
        ("create", "x" * 129, "--role", "viewer"),
        ("revoke",),
    ],
)
def test_bad_input_ends_with_2_and_makes_nothing(terminal: Any, words: tuple[str, ...]) -> None:
    assert terminal("keys", *words).code == 2
    assert terminal.rows("SELECT id FROM api_key") == []
    assert terminal.rows("SELECT id FROM audit") == []


def test_a_key_that_is_not_there_ends_with_4(terminal: Any) -> None:
    ended = terminal("keys", "revoke", "nothing")
    assert ended.code == 4
    assert "'nothing'" in ended.err
    assert terminal.rows("SELECT id FROM audit") == []


def test_a_key_for_a_learner_is_refused(terminal: Any) -> None:
    refused = terminal("keys", "create", "page", "--role", "learner")
    assert refused.code == 2
    assert "tokens mint" in refused.err
    assert terminal.rows("SELECT id FROM api_key") == []
