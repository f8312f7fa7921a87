"""Rights to send progress, by role and kind of token."""

from __future__ import annotations

import json
from typing import Literal

import pytest

from homeroom.errors import Forbidden
from homeroom.identity import Identity, Role
from homeroom.progress.api import ProgressEvent, RejectedEvent, decode_body
from homeroom.progress.routes import event_sender_of


@pytest.mark.parametrize("role", [Role.LEARNER, Role.FACILITATOR, Role.MANAGER])
def test_an_api_key_is_refused_where_these_roles_need_a_jwt(role: Role) -> None:
    assert event_sender_of(Identity("ada", frozenset({role}), "jwt")).person == "ada"
    with pytest.raises(Forbidden) as refused:
        event_sender_of(Identity("a key", frozenset({role}), "key"))
    assert "a key" in refused.value.message
    assert "the role service" in (refused.value.hint or "")


@pytest.mark.parametrize("via", ["jwt", "session"])
def test_a_manager_resets_other_progress_and_sends_its_own_only(
    via: Literal["jwt", "session"],
) -> None:
    manager = event_sender_of(Identity("mo", frozenset({Role.MANAGER}), via))
    sent = {"id": "1", "userId": "ada", "courseId": "c", "timestamp": "2026-11-22T09:00:00Z"}
    reset = json.dumps([{**sent, "eventType": "progress_reset"}]).encode()
    progress = json.dumps([{**sent, "eventType": "heartbeat", "timeSpent": 1}]).encode()
    assert isinstance(decode_body(reset, manager, 0)[0], ProgressEvent)
    refused = decode_body(progress, manager, 0)[0]
    assert isinstance(refused, RejectedEvent)
    assert refused.code == "forbidden"


@pytest.mark.parametrize("role", [Role.AUTHOR, Role.OPERATOR, Role.VIEWER])
def test_the_other_roles_send_nothing(role: Role) -> None:
    with pytest.raises(Forbidden):
        event_sender_of(Identity("ada", frozenset({role}), "jwt"))
