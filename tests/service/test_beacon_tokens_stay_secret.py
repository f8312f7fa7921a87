"""The token of a beacon is in no line of the log and in no file of the server."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import jwt
import pytest
from tests.support.homeroom_process import ADMIN, server

pytestmark = pytest.mark.service
SECRET = "a-secret-of-the-beacon-tests-of-32-bytes"
PAGE = "https://learn.school.example"
PATH = "/api/progress/enhanced-update"


def minted(user_id: str, **claims: object) -> str:
    expires = datetime.now(UTC) + timedelta(hours=1)
    return jwt.encode({"sub": user_id, "roles": ["learner"], "exp": expires, **claims}, SECRET)


def test_no_log_line_and_no_file_has_the_token_of_a_beacon(tmp_path: Path) -> None:
    settings = {
        "HOMEROOM_JWT_SECRET": SECRET,
        "HOMEROOM_CORS_ORIGINS": PAGE,
        "HOMEROOM_LOG_LEVEL": "debug",
    }
    valid, expired = minted("ada"), minted("ada", exp=datetime(2020, 1, 1, tzinfo=UTC))
    foreign = jwt.encode({"sub": "ada"}, "another-secret-that-has-32-bytes-too")
    event = {
        "id": "b-1", "userId": "ada", "courseId": "c", "chapterId": "a", "progress": 40,
        "eventType": "chapter_progress", "timestamp": "2026-11-22T09:00:00Z",
    }  # fmt: skip
    batch = {"events": [event]}
    beacons = [
        (json.dumps({"token": valid, **batch}), PAGE, 200),
        (json.dumps({"token": valid, **batch, "surprise": 1}), PAGE, 200),
        (json.dumps({"token": expired, **batch}), PAGE, 401),
        (json.dumps({"token": foreign, **batch}), PAGE, 401),
        (json.dumps({"token": [valid], **batch}), PAGE, 401),
        (json.dumps({"token": valid})[:-1], PAGE, 401),
        (json.dumps({"token": valid, "events": valid}), PAGE, 422),
        (json.dumps({"token": valid, **batch, "priority": valid}), PAGE, 422),
        (json.dumps({"token": valid, **batch, "pad": "x" * 70_000}), PAGE, 413),
        (json.dumps({"token": valid, **batch}), "https://evil.example", 403),
    ]
    answers = []
    with server(tmp_path, settings) as url, httpx.Client(base_url=url, timeout=30) as http:
        course = {"title": "T", "units": [{"id": "u", "title": "U", "chapters": [
            {"id": "a", "title": "A"}]}]}  # fmt: skip
        http.put("/api/v1/courses/c", json=course, headers=ADMIN).raise_for_status()
        for body, origin, status in beacons:
            headers = {"Content-Type": "text/plain;charset=UTF-8", "Origin": origin}
            answer = http.post(PATH, content=body, headers=headers)
            assert answer.status_code == status, answer.text
            answers.append(answer.text)
    log = (tmp_path / "serve.log").read_text(encoding="utf-8")
    assert PATH in log, "requests are logged at this level"
    for token in (valid, expired, foreign):
        payload, signature = token.split(".")[1:]
        for secret in (payload, signature):
            assert secret not in log
            assert secret not in "".join(answers)
            for file in tmp_path.rglob("*"):
                assert not file.is_file() or secret.encode() not in file.read_bytes(), file
