"""The log: its formats, and the secrets that are redacted."""

from __future__ import annotations

import io
import json
import logging
import os
from typing import Any

import pytest
import structlog

from homeroom.http import logging_config
from homeroom.http.logging_config import configure_logging
from homeroom.redaction import REDACTED, redact_text
from homeroom.web.request_id import current_request_id


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_level_time_and_request(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    token = current_request_id.set("r-1")
    structlog.get_logger().info("stored", events=3)
    structlog.get_logger().debug("not shown")
    current_request_id.reset(token)
    [line] = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "stored", "level": "info", "events": 3, "request_id": "r-1"}


def test_values_with_secret_names_are_redacted_at_any_depth(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
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
def test_texts_that_look_like_secrets_or_addresses_are_redacted(text: str) -> None:
    found = redact_text(text)
    for secret in ("ada", "swordfish", "abcdefghijkl", "C2FVs", "eyJzdWI", "sig_nature"):
        assert secret not in found


@pytest.mark.parametrize(
    "text", ["week 2026-W48 at 09:00", "progress 12.5 %", "http://127.0.0.1:8420/docs", "a @ b"]
)
def test_harmless_text_is_unchanged(text: str) -> None:
    assert redact_text(text) == text


def test_tracebacks_are_redacted_too(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    try:
        raise ValueError("no mailbox ada@school.example")
    except ValueError:
        structlog.get_logger().exception("failed")
    [line] = lines(stream)
    assert "Traceback" in line["exception"]
    assert "a***@school.example" in line["exception"]
    assert "ada@" not in stream.getvalue()


def test_libraries_log_in_the_same_format_from_warning_up(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    logging.getLogger("httpx").info("GET https://directory/users/ada")
    logging.getLogger("uvicorn.error").warning("slow %s", "ada@school.example")
    [line] = lines(stream)
    assert (line["event"], line["logger"], line["level"]) == (
        "slow a***@school.example",
        "uvicorn.error",
        "warning",
    )


def test_a_console_line_is_plain_text(stream: io.StringIO) -> None:
    configure_logging("debug", "console", stream)
    structlog.get_logger().debug("stored", events=3, token="swordfish")
    assert "stored" in stream.getvalue()
    assert "events=3" in stream.getvalue()
    assert "swordfish" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_a_line_that_cannot_be_written_is_counted_and_ends_nothing() -> None:
    before = logging_config.lost_lines
    disk = os.open("/dev/full", os.O_WRONLY)
    stream = open(disk, "w")  # noqa: SIM115
    configure_logging("info", "json", stream)
    structlog.get_logger().error("disk full")
    logging.getLogger("uvicorn.error").error("disk full")
    assert logging_config.lost_lines == before + 2
    room = os.open(os.devnull, os.O_WRONLY)
    os.dup2(room, disk)  # so that the stream can be closed
    os.close(room)
    stream.close()
    closed = io.StringIO()
    configure_logging("info", "json", closed)
    closed.close()
    structlog.get_logger().error("nowhere to write")
    assert logging_config.lost_lines == before + 3
