"""The directory of people and the assessment service with their scores."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from homeroom.sandbox import sandbox_request
from homeroom.sandbox.sandbox_request import (
    RequestRefused,
    SandboxRequest,
    SandboxResponse,
    require_bearer,
)

_GIVEN = (
    "Amara", "Anna", "Bilal", "Chloé", "Daniel", "Elif", "Emeka", "Fatima", "Giulia", "Hana",
    "Ibrahim", "Ines", "Jonas", "Kamala", "Kwame", "Lena", "Liam", "Lucía", "Mateo", "Mei",
    "Milan", "Nadia", "Noah", "Olga", "Omar", "Priya", "Ravi", "Sofia", "Thandi", "Tomás",
    "Yuki", "Zoë",
)  # fmt: skip
_FAMILY = (
    "Adeyemi", "Andersson", "Bauer", "Becker", "Chen", "Costa", "Dubois", "Fischer", "García",
    "Haddad", "Hoffmann", "Ivanova", "Jansen", "Kaya", "Kim", "Kowalska", "Lindqvist", "Mbeki",
    "Meyer", "Moreau", "Müller", "Nguyen", "Novak", "Okafor", "O'Neill", "Patel", "Rossi",
    "Sato", "Silva", "Singh", "Tanaka", "Weber",
)  # fmt: skip
_LOCALES = (
    ("en-GB", "Europe/London"),
    ("de-DE", "Europe/Berlin"),
    ("fr-FR", "Europe/Paris"),
    ("es-ES", "Europe/Madrid"),
    ("en-US", "America/New_York"),
    ("en-IN", "Asia/Kolkata"),
)

NonEmptyText = Annotated[str, Meta(min_length=1)]


class SandboxPerson(
    Struct, frozen=True, forbid_unknown_fields=True, rename="camel", omit_defaults=True
):
    """A person; fields that are left out are generated, `email` may be null."""

    id: NonEmptyText
    email: str | UnsetType | None = UNSET
    given_name: NonEmptyText | UnsetType = UNSET
    family_name: NonEmptyText | UnsetType = UNSET
    locale: NonEmptyText | UnsetType = UNSET
    time_zone: NonEmptyText | UnsetType = UNSET
    group_ids: list[NonEmptyText] | UnsetType = UNSET


def generated_person(seed: int, user_id: str) -> dict[str, Any]:
    """Return the same person for the same id; two ids never share an address."""
    digest = hashlib.sha256(f"{seed}:person:{user_id}".encode()).digest()
    given = _GIVEN[digest[0] % len(_GIVEN)]
    family = _FAMILY[digest[1] % len(_FAMILY)]
    locale, time_zone = _LOCALES[digest[2] % len(_LOCALES)]
    mailbox = f"{_ascii_letters(given)}.{_ascii_letters(family)}.{digest[3:9].hex()}"
    return {
        "id": user_id,
        "email": f"{mailbox}@example.org",
        "givenName": given,
        "familyName": family,
        "locale": locale,
        "timeZone": time_zone,
    }


class DirectoryServer:
    """`GET /users/{userId}`; unknown people are generated while `generate` is set."""

    def __init__(self, token: str | None, seed: int) -> None:
        self._token, self._seed = token, seed
        self.people: dict[str, SandboxPerson] = {}
        self.unknown: set[str] = set()
        self.generate = True

    def handle(self, request: SandboxRequest) -> SandboxResponse:
        """Handle one request. Raises RequestRefused."""
        require_bearer(request, self._token)
        match request.method, request.segments:
            case "GET", ("users", user_id) if user_id:
                return SandboxResponse(200, self._find(user_id))
            case _, ("users", user_id) if user_id:
                raise RequestRefused(405, "people are only read here", headers={"allow": "GET"})
        raise RequestRefused(404, "no such path: the directory answers GET {url}/users/{userId}")

    def _find(self, user_id: str) -> dict[str, Any]:
        person = self.people.get(user_id)
        if user_id in self.unknown or (person is None and not self.generate):
            raise RequestRefused(404, "unknown user")
        found = generated_person(self._seed, user_id)
        if person is not None:
            given = {
                "email": person.email,
                "givenName": person.given_name,
                "familyName": person.family_name,
                "locale": person.locale,
                "timeZone": person.time_zone,
                "groupIds": person.group_ids,
            }
            found |= {name: value for name, value in given.items() if value is not UNSET}
        return found


def _ascii_letters(name: str) -> str:
    # Addresses hold ASCII only; the digest tells people apart whose letters are lost.
    return "".join(letter for letter in name.lower() if letter.isascii() and letter.isalpha())


_FIRST_ASSESSMENT = datetime(2026, 1, 1, tzinfo=UTC)

ZonedInstant = Annotated[datetime, Meta(tz=True)]


class SandboxScore(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """The result of one learner in one course.

    `score` is 0 to 1, or null for a course without a result yet; `missing` stands for a 404.
    """

    user_id: NonEmptyText
    course_id: NonEmptyText
    score: Annotated[float, Meta(ge=0, le=1)] | None = None
    assessed_at: ZonedInstant | UnsetType | None = UNSET
    missing: bool = False


def generated_score(seed: int, user_id: str, course_id: str) -> float:
    """Return the same score for the same learner and course.

    It is 0.5 to 1, in steps of 1e-4.
    """
    digest = hashlib.sha256(f"{seed}:score:{user_id}:{course_id}".encode()).digest()
    return (5_000 + int.from_bytes(digest[:4]) % 5_001) / 10_000


class AssessmentServer:
    """`GET /users/{userId}/courses/{courseId}/score`; other scores are generated."""

    def __init__(self, token: str | None, seed: int) -> None:
        self._token, self._seed = token, seed
        self.scores: dict[tuple[str, str], SandboxScore] = {}
        self.generate = True

    def handle(self, request: SandboxRequest) -> SandboxResponse:
        """Handle one request. Raises RequestRefused."""
        require_bearer(request, self._token)
        match request.method, request.segments:
            case "GET", ("users", user_id, "courses", course_id, "score") if user_id and course_id:
                return SandboxResponse(200, self._find(user_id, course_id))
            case _, ("users", _, "courses", _, "score"):
                raise RequestRefused(405, "scores are only read here", headers={"allow": "GET"})
        raise RequestRefused(404, "no such path: GET {url}/users/{userId}/courses/{courseId}/score")

    def _find(self, user_id: str, course_id: str) -> dict[str, Any]:
        stored = self.scores.get((user_id, course_id))
        if stored is None and self.generate:
            score = generated_score(self._seed, user_id, course_id)
            assessed_at = _FIRST_ASSESSMENT + timedelta(minutes=round(score * 10_000))
            return {"score": score, "assessedAt": sandbox_request.format_rfc3339(assessed_at)}
        if stored is None or stored.missing:
            raise RequestRefused(404, "no score for this learner and course")
        answer: dict[str, Any] = {"score": stored.score}
        if isinstance(stored.assessed_at, datetime):
            answer["assessedAt"] = sandbox_request.format_rfc3339(stored.assessed_at)
        elif stored.assessed_at is None:
            answer["assessedAt"] = None
        return answer
