"""Roles in the claims of a token: paths, words, the default, and what a 403 says."""

from __future__ import annotations

from typing import Any

import pytest

from homeroom.access.role_claim import RoleClaim
from homeroom.errors import Forbidden
from homeroom.identity import Identity, Role

_WORDS = {
    "student": frozenset({Role.LEARNER}),
    "teacher": frozenset({Role.FACILITATOR, Role.AUTHOR}),
}


@pytest.mark.parametrize(
    ("claim", "claims", "roles"),
    [
        (RoleClaim(), {"roles": ["learner", "emperor", 7]}, {"learner"}),
        (RoleClaim(), {"roles": "learner viewer"}, {"learner", "viewer"}),
        (RoleClaim("a.b"), {"a": {"b": ["learner"]}}, {"learner"}),
        (RoleClaim("a.b"), {"a.b": ["viewer"], "a": {"b": ["learner"]}}, {"viewer"}),
        (RoleClaim("a.b"), {"a": ["b"]}, set()),
        (RoleClaim(words=_WORDS), {"roles": ["teacher"]}, {"facilitator", "author"}),
        (RoleClaim(words=_WORDS), {"roles": ["admin", "student"]}, {"learner"}),
        (RoleClaim(default=Role.LEARNER), {}, {"learner"}),
        (RoleClaim(default=Role.LEARNER), {"roles": ["offline_access"]}, {"learner"}),
        (RoleClaim(default=Role.LEARNER), {"roles": ["viewer"]}, {"viewer"}),
        (RoleClaim(), {"roles": {"learner": True}}, set()),
    ],
)
def test_roles_are_found_in_a_claim(claim: RoleClaim, claims: Any, roles: set[str]) -> None:
    found, reason = claim.roles_of(claims)
    assert found == roles
    assert (reason is None) is bool(roles)


@pytest.mark.parametrize(
    "claim",
    [
        RoleClaim(),
        RoleClaim("a.b.c"),
        RoleClaim("https://school.example/roles"),
        RoleClaim("a.b", _WORDS),
    ],
)
def test_a_new_token_holds_the_role_that_is_read_from_it(claim: RoleClaim) -> None:
    claims: dict[str, Any] = {"sub": "ada"}
    claim.add_to(claims, Role.LEARNER)
    assert claim.roles_of(claims) == ({Role.LEARNER}, None)


def test_a_role_without_a_word_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="admin"):
        RoleClaim(words=_WORDS).add_to({}, Role.ADMIN)


def test_a_refusal_says_what_was_held_and_expected_without_content() -> None:
    roles, reason = RoleClaim("a.b").roles_of({"a": {"b": ["secret-word"]}})
    with pytest.raises(Forbidden) as refused:
        Identity("ada", roles, "jwt", no_role_reason=reason).require(Role.LEARNER)
    assert refused.value.details == {"held": [], "expected": ["learner"]}
    assert "`a.b`" in refused.value.message
    assert "secret-word" not in refused.value.message
    with pytest.raises(Forbidden) as refused:
        Identity("ada", frozenset({Role.LEARNER}), "jwt").require(Role.VIEWER)
    assert refused.value.details == {"held": ["learner"], "expected": ["viewer"]}
