"""Messages to partners from the command line: listed, shown, sent again."""

from __future__ import annotations

from typing import Any

import pytest

from homeroom.catalogue.api import Catalogue
from homeroom.completion.api import Completions, CompletionStep, NewCompletion, SkipReason
from homeroom.db.tx import Tx
from homeroom.dispatch import store
from homeroom.dispatch.store import Dispatch

COURSE = {
    "title": "Fire safety",
    "units": [{"id": "u", "title": "U", "chapters": [{"id": "a", "title": "A"}]}],
}


@pytest.fixture
def dispatched(terminal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Store a delivered and a failed dispatch, and a completion that has none yet."""
    monkeypatch.setenv("HOMEROOM_HR_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("HOMEROOM_WEBHOOK_SECRET", "whsec_" + "c2VjcmV0" * 6)
    was_unset = SkipReason("destination_not_configured", "HOMEROOM_HR_URL is not set")
    completions = Completions([CompletionStep("hr", lambda id: None, lambda *_: was_unset)])  # type: ignore[arg-type,return-value]

    async def write(tx: Tx) -> None:
        course = (await Catalogue().publish(tx, "fire-safety", COURSE)).course
        users = ("u-1", "u-2", "u-3")
        new = [NewCompletion(user, course, 1, 1_000_000, 0, 60, ()) for user in users]
        made = await completions.record(tx, new)
        for each, status in zip(made, ("delivered", "failed"), strict=False):
            id = f"message-{each.user_id}"
            body = '{"id": "x", "data": {"employeeId": "' + each.user_id + '"}}'
            await store.add(tx, Dispatch(id, "hr", "t", each.id, each.user_id, body, tx.now))
            is_delivered = status == "delivered"
            await store.record_attempt(
                tx,
                id,
                "delivered" if is_delivered else "failed",
                202 if is_delivered else 400,
                None if is_delivered else "the HR system answered 400",
                "case 17 accepted" if is_delivered else None,
            )

    terminal.write(write)


def test_messages_are_listed_with_their_answers(terminal: Any, dispatched: None) -> None:
    said = terminal.ok("dispatches", "list").out
    assert "202 case 17 accepted" in said
    assert "the HR system answered 400" in said
    listed = terminal.ok("dispatches", "list", "--status", "failed", "--json").json["items"]
    assert [(each["userId"], each["lastStatus"]) for each in listed] == [("u-2", 400)]
    assert "payload" not in listed[0]
    assert terminal.ok("dispatches", "list", "--since", "1h", "--user", "u-9", "--json").json == {
        "items": [],
        "more": False,
    }
    assert terminal("dispatches", "list", "--since", "2026-11-22T00:00:00").code == 2
    unknown = terminal("dispatches", "list", "--destination", "nothing")
    assert (unknown.code, "the destinations are" in unknown.err) == (2, True)


def test_a_message_is_shown_as_it_is_sent(terminal: Any, dispatched: None) -> None:
    shown = terminal.ok("dispatches", "show", "message-u-1", "--json").json
    assert shown["message"]["data"] == {"employeeId": "u-1"}
    assert shown["lastAnswer"] == "case 17 accepted"
    assert '"employeeId": "u-1"' in terminal.ok("dispatches", "show", "message-u-1").out
    assert terminal("dispatches", "show", "message-u-9").code == 4


def test_a_replay_asks_with_the_number_of_undelivered_messages(
    terminal: Any, dispatched: None
) -> None:
    words = ("dispatches", "replay", "--destination", "hr", "--since", "1h")
    assert terminal.ok(*words, "--dry-run", "--json").json == {"count": 2}
    assert terminal.ok(*words, "--dry-run", "--json", "--scope", "all").json == {"count": 3}
    assert terminal(*words, answer="n\n").code == 1
    assert terminal.rows("SELECT id FROM job") == []
    asked = terminal.ok(*words, answer="y\n")
    assert "Send 2 messages to hr again?" in asked.err
    [(first,), (second,)] = terminal.rows("SELECT id FROM job ORDER BY id")
    assert "dispatch.message-u-2.replay.1" in (first, second)
    assert terminal.rows("SELECT status FROM dispatch WHERE id = 'message-u-2'") == [("waiting",)]
    assert terminal.ok(*words, "--yes", "--json").json == {"count": 0}  # both are on their way


def test_one_message_is_replayed_by_its_id(terminal: Any, dispatched: None) -> None:
    assert terminal.ok("dispatches", "replay", "message-u-1", "--json").json == {"count": 1}
    ended = terminal("dispatches", "replay", "message-u-9")
    assert (ended.code, "message-u-9" in ended.err) == (4, True)
    assert terminal("dispatches", "replay", "message-u-1", "--since", "1h").code == 2
    assert terminal("dispatches", "replay").code == 2
