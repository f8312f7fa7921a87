"""Tokens from the command line."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

SECRET = "a-secret-of-more-than-thirty-two-bytes!"


def test_a_token_is_signed_as_the_settings_say(
    terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "SECRET": SECRET,
        "ISSUER": "https://id",
        "ROLES_CLAIM": "a.roles",
        "ROLE_MAP": "pupil=learner",
    }.items():
        monkeypatch.setenv(f"HOMEROOM_JWT_{name}", value)
    made = terminal.ok("tokens", "mint", "u-1042", "--role", "learner", "--for", "2h")
    claims = jwt.decode(made.out.strip(), SECRET, ["HS256"])
    assert (claims["sub"], claims["iss"]) == ("u-1042", "https://id")
    assert claims["a"] == {"roles": ["pupil"]}
    assert claims["exp"] - claims["iat"] == 7_200
    assert SECRET not in made.out + made.err
    assert terminal("tokens", "mint", "u-1042", "--role", "admin").code == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("u-1042",), 78),
        (("u-1042", "--role", "emperor"), 2),
        (("u-1042", "--for", "2d"), 2),
        (("u-1042", "--for", "0s"), 2),
        (("u-1042", "--for", "soon"), 2),
        (("u\n1042",), 2),
    ],
)
def test_a_token_that_cannot_be_signed_is_refused(
    terminal: Any, arguments: tuple[str, ...], code: int
) -> None:
    assert terminal("tokens", "mint", *arguments).code == code
