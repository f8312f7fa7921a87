"""What a learner scored: asked of a partner's assessment service, or the course's own quizzes."""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from homeroom.completion.api import Completion
from homeroom.partner import Partner

SCALE = 10_000


class Assessment(Protocol):
    """Where scores are."""

    async def score(self, completion: Completion) -> int | None:
        """Return the score in units of 1e-4; None is none, 0 is one. Raises ``PartnerError``."""


class CourseScores:
    """The score that the course's own quizzes gave the completion."""

    async def score(self, completion: Completion) -> int | None:
        """Return the completion's own score."""
        return completion.score


class _Found(msgspec.Struct, rename="camel"):
    # required: an answer without the field is not the same as a null
    score: Annotated[float, Meta(ge=0, le=1)] | None


class HttpAssessment:
    """A partner's service: ``GET {url}/users/{userId}/courses/{courseId}/score``.

    404 and null both mean that there is no score, which is not 0.
    """

    def __init__(self, partner: Partner) -> None:
        """Take the partner to ask."""
        self._partner = partner

    async def score(self, completion: Completion) -> int | None:
        """Return the score in units of 1e-4, or None. Raises ``PartnerError``."""
        path = ("users", completion.user_id, "courses", completion.course_id, "score")
        answer = await self._partner.call("GET", path, expect={404})
        if answer.status == 404:
            return None
        found = answer.read(_Found).score
        return None if found is None else round(found * SCALE)
