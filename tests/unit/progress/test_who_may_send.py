"""Whose progress an identity may send, by its role and by how it was proved."""

from __future__ import annotations

import json

import pytest

from homeroom.errors import Forbidden
from homeroom.progress.api import Event, Rejected, read_body
from homeroom.progress.routes import sender_of
from homeroom.web.identity import Identity, Role


@pytest.mark.parametrize("role", [Role.LEARNER, Role.FACILITATOR, Role.MANAGER])
def test_an_api_key_is_told_that_these_roles_send_with_a_jwt(role: Role) -> None:
    assert sender_of(Identity("ada", frozenset({role}), "jwt")).person == "ada"
    with pytest.raises(Forbidden) as refused:
        sender_of(Identity("a key", frozenset({role}), "key"))
    assert "with a JWT of their own" in refused.value.message
    assert "the role service" in refused.value.message


def test_a_manager_resets_anybodys_progress_and_sends_its_own_only() -> None:
    manager = sender_of(Identity("mo", frozenset({Role.MANAGER}), "jwt"))
    sent = {"id": "1", "userId": "ada", "courseId": "c", "timestamp": "2026-11-22T09:00:00Z"}
    reset = json.dumps([{**sent, "eventType": "progress_reset"}]).encode()
    progress = json.dumps([{**sent, "eventType": "heartbeat", "timeSpent": 1}]).encode()
    assert isinstance(read_body(reset, manager, 0)[0], Event)
    refused = read_body(progress, manager, 0)[0]
    assert isinstance(refused, Rejected)
    assert refused.code == "forbidden"


@pytest.mark.parametrize("role", [Role.AUTHOR, Role.OPERATOR, Role.VIEWER])
def test_the_other_roles_send_nothing(role: Role) -> None:
    with pytest.raises(Forbidden):
        sender_of(Identity("ada", frozenset({role}), "jwt"))
