"""Lookups of learners and their scores, in the database or at a partner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from homeroom.completion.api import Completion
from homeroom.db.database import Database
from homeroom.partner.client import Partner
from homeroom.partner.failure import PartnerError
from homeroom.people import api as people

SCORE_SCALE = 10_000


@dataclass(frozen=True, slots=True)
class LearnerRecord:
    """A learner in a directory; None for a field that it does not have."""

    id: str
    email: str | None
    given_name: str | None
    family_name: str | None
    locale: str | None = None
    group_ids: tuple[str, ...] = ()


class LearnerDirectory(Protocol):
    """A directory of learners."""

    async def find(self, user_id: str) -> LearnerRecord | None:
        """Return a learner, or None for an unknown id. Raises ``PartnerError``."""


class ScoreLookup(Protocol):
    """A source of the scores of completions."""

    async def score(self, completion: Completion) -> int | None:
        """Return the score in units of 1e-4, or None. Raises ``PartnerError``."""


class BuiltInLearnerDirectory:
    """The directory of the package ``people``."""

    def __init__(self, db: Database) -> None:
        """Use the database of ``people``."""
        self._db = db

    async def find(self, user_id: str) -> LearnerRecord | None:
        """Return a learner, or None for an unknown id."""
        async with self._db.read() as tx:
            person = await people.get(tx, user_id)
        if person is None:
            return None
        return LearnerRecord(
            person.id,
            person.email,
            person.given_name,
            person.family_name,
            person.locale,
            person.group_ids,
        )


class HttpLearnerDirectory:
    """A partner's directory: ``GET {url}/users/{userId}``; 404 means unknown."""

    def __init__(self, partner: Partner) -> None:
        """Use this partner."""
        self.partner = partner

    async def find(self, user_id: str) -> LearnerRecord | None:
        """Return a learner, or None for an unknown id. Raises ``PartnerError``."""
        response = await self.partner.call("GET", ("users", user_id), expect={404})
        if response.status == 404:
            return None
        learner = response.decode(_LearnerResponse)
        if learner.id is not None and learner.id != user_id:
            raise PartnerError(
                f"{self.partner.name} answered with another learner than the one asked for",
                kind="unreadable",
                is_retriable=False,
            )
        return LearnerRecord(
            user_id,
            _strip_or_none(learner.email),
            _strip_or_none(learner.given_name),
            _strip_or_none(learner.family_name),
            _strip_or_none(learner.locale),
            tuple(learner.group_ids or ()),
        )


class CourseScoreLookup:
    """The scores that the courses' own quizzes gave."""

    async def score(self, completion: Completion) -> int | None:
        """Return the completion's own score."""
        return completion.score


class HttpScoreLookup:
    """A partner's assessment: ``GET {url}/users/{userId}/courses/{courseId}/score``.

    404 and null both mean that there is no score, which is not 0.
    """

    def __init__(self, partner: Partner) -> None:
        """Use this partner."""
        self.partner = partner

    async def score(self, completion: Completion) -> int | None:
        """Return the score in units of 1e-4, or None. Raises ``PartnerError``."""
        path = ("users", completion.user_id, "courses", completion.course_id, "score")
        response = await self.partner.call("GET", path, expect={404})
        if response.status == 404:
            return None
        score = response.decode(_ScoreResponse).score
        return None if score is None else round(score * SCORE_SCALE)


class _LearnerResponse(msgspec.Struct, rename="camel"):
    id: str | None = None
    email: str | None = None
    given_name: str | None = None
    family_name: str | None = None
    locale: str | None = None
    group_ids: list[str] | None = None


class _ScoreResponse(msgspec.Struct, rename="camel"):
    # Required: a response without the field is not the same as null.
    score: Annotated[float, Meta(ge=0, le=1)] | None


def _strip_or_none(value: str | None) -> str | None:
    """Return text without spaces around it, and None for blank text."""
    return (value.strip() or None) if value is not None else None
