"""Limits and pauses of queues from the command line."""

from __future__ import annotations

from typing import Any

import pytest

from homeroom.bootstrap.database import load_settings
from homeroom.errors import BadRequest


def _limits(terminal: Any) -> dict[str, Any]:
    [queue] = terminal.ok("queues", "list", "--json").json["items"]
    return {"paused": queue["paused"], **queue["limits"]}


def test_a_queue_is_limited_paused_and_set_free(terminal: Any, rows: Any) -> None:
    rows.waiting("w1")
    [queue] = terminal.ok("queues", "list", "--json").json["items"]
    name, free = queue["name"], {"concurrency": None, "rateMax": None, "rateWindowSeconds": None}
    assert _limits(terminal) == {"paused": False, **free}
    terminal.ok("queues", "set", name, "--concurrency", "2")
    terminal.ok("queues", "set", name, "--rate", "100/1m")
    terminal.ok("queues", "pause", name)
    limited = {"concurrency": 2, "rateMax": 100, "rateWindowSeconds": 60.0}
    assert _limits(terminal) == {"paused": True, **limited}
    assert "100 in 1.0m" in terminal.ok("queues", "list").out
    terminal.ok("queues", "resume", name)
    ended = terminal.ok("queues", "set", name, "--rate", "none", "--concurrency", "none", "--json")
    assert ended.json["limits"] == free
    assert _limits(terminal) == {"paused": False, **free}


@pytest.mark.parametrize(
    "words", [(), ("--concurrency", "0"), ("--rate", "5"), ("--rate", "x/1m"), ("--rate", "5/0")]
)
def test_a_limit_that_cannot_be_meant_ends_with_2(
    terminal: Any, rows: Any, words: tuple[str, ...]
) -> None:
    rows.waiting("w1")
    [queue] = terminal.ok("queues", "list", "--json").json["items"]
    assert terminal("queues", "set", queue["name"], *words).code == BadRequest.exit_code


def test_a_queue_that_is_not_there_ends_with_4(terminal: Any) -> None:
    assert terminal("queues", "pause", "nowhere").code == 4


def test_the_queues_of_a_worker_are_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEROOM_WORKER_QUEUES", "lessonplans, credentials,lessonplans,")
    assert load_settings().worker_queues == ("lessonplans", "credentials")
