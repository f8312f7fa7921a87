"""The assessment service: what a learner scored in a course."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from homeroom.sandbox import wall
from homeroom.sandbox.auth import require_bearer
from homeroom.sandbox.config import SandboxConfig
from homeroom.sandbox.exchange import Answer, Exchange, Refused

_FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)

Text = Annotated[str, Meta(min_length=1)]
Instant = Annotated[datetime, Meta(tz=True)]


class Score(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Set what the service answers for one learner and course.

    `score` is 0 to 1, or null for a course without a result yet; `missing` answers 404.
    """

    user_id: Text
    course_id: Text
    score: Annotated[float, Meta(ge=0, le=1)] | None = None
    assessed_at: Instant | UnsetType | None = UNSET
    missing: bool = False


def generated_score(seed: int, user_id: str, course_id: str) -> float:
    """Make up the same score for the same learner and course: 0.5 to 1, in steps of 1e-4."""
    digest = hashlib.sha256(f"{seed}:score:{user_id}:{course_id}".encode()).digest()
    return (5_000 + int.from_bytes(digest[:4]) % 5_001) / 10_000


class Assessment:
    """Answer `GET /users/{userId}/courses/{courseId}/score`."""

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self.scores: dict[tuple[str, str], Score] = {}
        self.generate = True

    def work(self, exchange: Exchange) -> Answer:
        """Answer one request. Raises Refused."""
        require_bearer(exchange, self._config.assessment_token)
        match exchange.method, exchange.segments:
            case "GET", ("users", user_id, "courses", course_id, "score") if user_id and course_id:
                return Answer(200, self._find(user_id, course_id))
            case _, ("users", _, "courses", _, "score"):
                raise Refused(405, "scores are only read here", headers={"allow": "GET"})
        raise Refused(404, "no such path: GET {url}/users/{userId}/courses/{courseId}/score")

    def _find(self, user_id: str, course_id: str) -> dict[str, Any]:
        told = self.scores.get((user_id, course_id))
        if told is None and self.generate:
            score = generated_score(self._config.seed, user_id, course_id)
            assessed_at = _FIRST_DAY + timedelta(minutes=round(score * 10_000))
            return {"score": score, "assessedAt": wall.rfc3339(assessed_at)}
        if told is None or told.missing:
            raise Refused(404, "no score for this learner and course")
        answer: dict[str, Any] = {"score": told.score}
        if isinstance(told.assessed_at, datetime):
            answer["assessedAt"] = wall.rfc3339(told.assessed_at)
        elif told.assessed_at is None:
            answer["assessedAt"] = None
        return answer
