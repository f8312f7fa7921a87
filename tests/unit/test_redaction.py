"""Secrets are hidden and e-mail addresses masked, by names and by looks."""

from __future__ import annotations

import json
import time

import pytest
from tests.support.secret_shapes import JSON_SHAPES, PASSWORD, SHAPES

from homeroom.access.store import new_token
from homeroom.redaction import (
    REDACTED,
    hide_secrets,
    hide_secrets_in_json,
    is_secret_name,
    redact_json,
    redact_line,
    redact_text,
)


@pytest.mark.parametrize(("text", "secret"), SHAPES.values(), ids=SHAPES)
def test_a_secret_is_hidden_in_text(text: str, secret: str) -> None:
    assert secret in text
    shown = redact_text(text)
    assert secret not in shown
    assert redact_text(shown) == shown


@pytest.mark.parametrize(("text", "secret"), SHAPES.values(), ids=SHAPES)
def test_a_secret_is_hidden_within_other_text(text: str, secret: str) -> None:
    for around in ("started\n{}\nended", "({})", "error: {}", '{{"note": "x"}} {}', "é {} é"):
        assert secret not in redact_text(around.format(text))
    assert secret not in json.dumps(redact_json({"a": [{"note": text}]}))
    assert secret not in redact_line(text)


@pytest.mark.parametrize("value", JSON_SHAPES.values(), ids=JSON_SHAPES)
def test_a_secret_is_hidden_in_json(value: object) -> None:
    assert PASSWORD not in json.dumps(redact_json(value))
    assert PASSWORD not in json.dumps(hide_secrets_in_json(value))
    assert PASSWORD not in redact_text(json.dumps(value))


def test_every_random_token_is_hidden() -> None:
    for _ in range(2_000):
        token = new_token("")
        assert token not in redact_text(f"saw {token} here")


@pytest.mark.parametrize(
    "text",
    [
        "week 2026-W48 at 09:00",
        "progress 12.5 %",
        "http://127.0.0.1:8420/docs?limit=5",
        "a @ b",
        "basic arithmetic, basic 101",
        "KeyError: 'course'",
        "InvalidTokenError: Signature verification failed",
        "webhook signature: can't be read",
        "Send the header as: Authorization: Bearer <token>.",
        'www-authenticate: Bearer realm="homeroom"',
        "input_tokens=512, max_tokens: 4096",
        "node_modules/@scope/pkg and bullmq@5.1.2",
        "job 0199c3d1-8a5e-7c11-9d0e-1f2a3b4c5d6e.credential failed",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "the key_id k1 and the idempotency_key=k2",
        '{"weekKey": "2026-W48", "dedupe_key": "digest.ada"}',
        "UPDATE job SET progress = ? WHERE id = ? AND lease_token = ?",
        "the bearer token is missing or wrong",
        "constraint pk_notification_preference",
        "https://www.credly.com/badges/5f2b8d1e-1f6a-4f0c-9f0e-000000000000",
    ],
)
def test_harmless_text_stays(text: str) -> None:
    assert redact_text(text) == text


def test_ids_may_look_like_tokens() -> None:
    """Microsoft Entra's ``sub`` is 32 bytes in base64, as a session's token is."""
    user_id = new_token("")
    assert redact_json({"userId": user_id, "sub": user_id}) == {"userId": user_id, "sub": user_id}
    assert redact_text(f"user_id={user_id}") == f"user_id={user_id}"


def test_json_keeps_its_form() -> None:
    value = {"token": None, "tokens": 5, "password": True, "key_id": "k", "n": 1.5, "a": []}
    assert redact_json(value) == value
    assert redact_json({"ada@x.example": 1, "anna@x.example": 2}) == {
        "a***@x.example": 1,
        "a***@x.example'": 2,
    }
    assert redact_json({"key": "k", "at": (1, b"token=x")}) == {
        "key": REDACTED,
        "at": [1, f"token={REDACTED}"],
    }


def test_an_owner_sees_their_address_but_no_secret() -> None:
    text = "ada@school.example has the token=x"
    assert hide_secrets(text) == f"ada@school.example has the token={REDACTED}"
    assert redact_text(text) == f"a***@school.example has the token={REDACTED}"


def test_known_secrets_are_hidden_in_any_shape() -> None:
    assert redact_text("got swordfish", ["swordfish"]) == f"got {REDACTED}"
    assert redact_text("/x/sword%2Ffish", ["sword/fish"]) == f"/x/{REDACTED}"
    assert redact_text("abcdef", ["abc", "abcdef", ""]) == REDACTED


def test_a_line_is_one_short_line() -> None:
    assert redact_line("550 <mia@example.org>: no\r\n such \x00 user") == (
        "550 <m***@example.org>: no such user"
    )
    assert redact_line("a" * 1_000_000) == "a" * 199 + "…"
    token = new_token("")
    for length in range(1_500, 1_640):
        assert token[:20] not in redact_line("x " * (length // 2) + token, max_length=200)


@pytest.mark.parametrize(
    "name", ["api-key", "apikey", "APIKey", "X-Api-Key", "aws_secret_access_key"]
)
def test_names_are_read_in_any_spelling(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["key_id", "monkey", "secretary", "tokenCount", "primary_key", "id"]
)
def test_other_names_are_no_secrets(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "part",
    ["a", "token", "token=", 'token="', "a@", "a://", "bearer ", "\\", '"', "Ab1_", ".", "=", " "],
)
def test_long_texts_take_little_time(part: str) -> None:
    text = part * (400_000 // len(part))
    started = time.perf_counter()
    redact_text(text)
    assert time.perf_counter() - started < 5  # begun again at each letter, it takes an hour
