"""The log: its forms, and what must never be in it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from homeroom.http.log import REDACTED, configure, redact_text
from homeroom.web.request_id import request_id


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = (root.handlers, root.level)
    yield io.StringIO()
    structlog.reset_defaults()
    root.handlers, level = before
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_level_time_and_request(stream: io.StringIO) -> None:
    configure("info", "json", stream)
    token = request_id.set("r-1")
    structlog.get_logger().info("stored", events=3)
    structlog.get_logger().debug("not shown")
    request_id.reset(token)
    [line] = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "stored", "level": "info", "events": 3, "request_id": "r-1"}


def test_names_that_mean_secrets_are_redacted_however_deep(stream: io.StringIO) -> None:
    configure("info", "json", stream)
    structlog.get_logger().info(
        "asked",
        authorization="abc",
        headers={"Cookie": "c", "nested": [{"api_key": "k", "set-cookie": "s"}]},
        password=b"bytes",
        token=None,
        key_id="visible",
        monkey="visible",
    )
    [line] = lines(stream)
    assert line["authorization"] == line["password"] == REDACTED
    assert line["headers"] == {
        "Cookie": REDACTED,
        "nested": [{"api_key": REDACTED, "set-cookie": REDACTED}],
    }
    assert (line["token"], line["key_id"], line["monkey"]) == (None, "visible", "visible")


@pytest.mark.parametrize(
    "text",
    [
        "ada.lovelace+x@school.example",
        "mail to <ada@school.co.uk> failed",
        "Authorization: Bearer swordfish-123456",
        "key hr_abcdefghijklmnopqrstuvwxyz",
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.sig_nature",
        "redis://user:swordfish@cache:6379",
        "https://:swordfish@hr.example/hook",
    ],
)
def test_what_looks_like_a_secret_or_an_address_is_redacted(text: str) -> None:
    found = redact_text(text)
    for secret in ("ada", "swordfish", "abcdefghijkl", "C2FVs", "eyJzdWI", "sig_nature"):
        assert secret not in found


@pytest.mark.parametrize(
    "text", ["week 2026-W48 at 09:00", "progress 12.5 %", "http://127.0.0.1:8420/docs", "a @ b"]
)
def test_what_is_harmless_stays(text: str) -> None:
    assert redact_text(text) == text


def test_tracebacks_are_redacted_too(stream: io.StringIO) -> None:
    configure("info", "json", stream)
    try:
        raise ValueError("no mailbox ada@school.example")
    except ValueError:
        structlog.get_logger().exception("failed")
    [line] = lines(stream)
    assert "Traceback" in line["exception"]
    assert "[email]" in line["exception"]
    assert "ada@" not in stream.getvalue()


def test_libraries_log_in_the_same_form_and_only_what_matters(stream: io.StringIO) -> None:
    configure("info", "json", stream)
    logging.getLogger("httpx").info("GET https://directory/users/ada")
    logging.getLogger("uvicorn.error").warning("slow %s", "ada@school.example")
    [line] = lines(stream)
    assert (line["event"], line["logger"], line["level"]) == (
        "slow [email]",
        "uvicorn.error",
        "warning",
    )


def test_a_console_line_is_for_eyes(stream: io.StringIO) -> None:
    configure("debug", "console", stream)
    structlog.get_logger().debug("stored", events=3, token="swordfish")
    assert "stored" in stream.getvalue()
    assert "events=3" in stream.getvalue()
    assert "swordfish" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
