"""Whose progress an identity may send, by its role and by how it was proved."""

from __future__ import annotations

import pytest

from homeroom.errors import Forbidden
from homeroom.progress.routes import sender_of
from homeroom.web.identity import Identity, Role


@pytest.mark.parametrize("role", [Role.LEARNER, Role.FACILITATOR, Role.MANAGER])
def test_an_api_key_is_told_that_these_roles_send_with_a_jwt(role: Role) -> None:
    assert sender_of(Identity("ada", frozenset({role}), "jwt")).person in ("ada", None)
    with pytest.raises(Forbidden) as refused:
        sender_of(Identity("a key", frozenset({role}), "key"))
    assert "with a JWT of their own" in refused.value.message
    assert "the role service" in refused.value.message


@pytest.mark.parametrize("role", [Role.AUTHOR, Role.OPERATOR, Role.VIEWER])
def test_the_other_roles_send_nothing(role: Role) -> None:
    with pytest.raises(Forbidden):
        sender_of(Identity("ada", frozenset({role}), "jwt"))
