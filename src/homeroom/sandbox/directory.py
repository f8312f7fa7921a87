"""The directory: who a learner is."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from homeroom.sandbox.auth import require_bearer
from homeroom.sandbox.config import SandboxConfig
from homeroom.sandbox.exchange import Answer, Exchange, Refused

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
_PLACES = (
    ("en-GB", "Europe/London"),
    ("de-DE", "Europe/Berlin"),
    ("fr-FR", "Europe/Paris"),
    ("es-ES", "Europe/Madrid"),
    ("en-US", "America/New_York"),
    ("en-IN", "Asia/Kolkata"),
)

Text = Annotated[str, Meta(min_length=1)]


class Person(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", omit_defaults=True):
    """Say what is known of a person; what is left out is made up, and an `email` may be null."""

    id: Text
    email: str | UnsetType | None = UNSET
    given_name: Text | UnsetType = UNSET
    family_name: Text | UnsetType = UNSET
    locale: Text | UnsetType = UNSET
    time_zone: Text | UnsetType = UNSET


def generated_person(seed: int, user_id: str) -> dict[str, Any]:
    """Make up the same person for the same id each time; two ids never share an address."""
    digest = hashlib.sha256(f"{seed}:person:{user_id}".encode()).digest()
    given = _GIVEN[digest[0] % len(_GIVEN)]
    family = _FAMILY[digest[1] % len(_FAMILY)]
    locale, time_zone = _PLACES[digest[2] % len(_PLACES)]
    return {
        "id": user_id,
        "email": f"{_plain(given)}.{_plain(family)}.{digest[3:9].hex()}@example.org",
        "givenName": given,
        "familyName": family,
        "locale": locale,
        "timeZone": time_zone,
    }


class Directory:
    """Answer `GET /users/{userId}`; whoever isn't known is made up, unless told otherwise."""

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self.people: dict[str, Person] = {}
        self.unknown: set[str] = set()
        self.generate = True

    def work(self, exchange: Exchange) -> Answer:
        """Answer one request. Raises Refused."""
        require_bearer(exchange, self._config.directory_token)
        match exchange.method, exchange.segments:
            case "GET", ("users", user_id) if user_id:
                return Answer(200, self._find(user_id))
            case _, ("users", user_id) if user_id:
                raise Refused(405, "people are only read here", headers={"allow": "GET"})
        raise Refused(404, "no such path: the directory answers GET {url}/users/{userId}")

    def _find(self, user_id: str) -> dict[str, Any]:
        person = self.people.get(user_id)
        if user_id in self.unknown or (person is None and not self.generate):
            raise Refused(404, "unknown user")
        found = generated_person(self._config.seed, user_id)
        if person is not None:
            told = {
                "email": person.email,
                "givenName": person.given_name,
                "familyName": person.family_name,
                "locale": person.locale,
                "timeZone": person.time_zone,
            }
            found |= {name: value for name, value in told.items() if value is not UNSET}
        return found


def _plain(name: str) -> str:
    # Ordinary addresses hold ASCII only; the digest keeps them apart when letters are lost.
    return "".join(letter for letter in name.lower() if letter.isascii() and letter.isalpha())
