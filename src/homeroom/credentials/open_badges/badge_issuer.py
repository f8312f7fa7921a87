"""This installation as an issuer: its keys, its signatures, its status lists."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from homeroom.access import api as access
from homeroom.achievements.api import Award
from homeroom.catalogue.api import Course
from homeroom.completion.api import Completion, SkipReason
from homeroom.credentials.learner_lookup import LearnerRecord
from homeroom.credentials.open_badges import badge_store, signing
from homeroom.credentials.open_badges.badge_document import (
    BadgeContent,
    IssuerProfile,
    badge_document,
    multikey_document,
    profile_document,
    status_list_document,
    status_place,
    whole_seconds,
)
from homeroom.credentials.open_badges.badge_store import (
    CredentialStatus,
    OpenBadge,
    StatusListState,
    StoredKey,
)
from homeroom.credentials.open_badges.proof_hasher import ProofHasher
from homeroom.credentials.open_badges.signing import SigningKey
from homeroom.credentials.store import Credential
from homeroom.db.database import Database
from homeroom.db.ids import derived_id
from homeroom.db.tx import Tx
from homeroom.errors import Conflict, NotFound
from homeroom.instant import SECOND

OPEN_BADGES_ISSUER = "homeroom"
"""The value of ``Credential.issuer`` for credentials that are signed here."""
Evidence = Literal["hours", "score"]


@dataclass(frozen=True, slots=True)
class BadgeCheck:
    """The result of a check of a stored credential by its issuer."""

    is_signed: bool
    """The document is the one that was signed, with a key of this issuer."""
    is_revoked: bool
    is_expired: bool
    is_begun: bool

    @property
    def is_valid(self) -> bool:
        """Return whether the credential holds now."""
        return self.is_signed and self.is_begun and not (self.is_revoked or self.is_expired)


class OpenBadgeIssuer:
    """The issuer of Open Badges 3.0 that this installation is."""

    name = OPEN_BADGES_ISSUER

    def __init__(
        self,
        db: Database,
        profile: IssuerProfile,
        *,
        evidence: frozenset[Evidence] = frozenset(),
        file_key: SigningKey | None = None,
        allows_http: bool = False,
    ) -> None:
        """Sign for a profile with ``file_key``, else with a key in the database.

        ``evidence`` names what of a completion is published. ``allows_http`` is for the demo and
        tests: the address would stay in a credential as long as that exists.
        """
        self._db, self.profile = db, profile
        self._evidence, self._file_key = evidence, file_key
        self._allows_http = allows_http
        self._status_lists: dict[int, tuple[StatusListState, bytes]] = {}
        self._turn_lock, self._list_lock = asyncio.Lock(), asyncio.Lock()
        self._hasher = ProofHasher()

    async def close(self) -> None:
        """End the process that hashes credentials."""
        await self._hasher.close()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Let one job at a time issue a credential, and pause as long as that has taken.

        More at once would issue no more, since documents are hashed one by one, and keep the
        database's writer from requests; in the pause, it is theirs.
        """
        async with self._turn_lock:
            clock = asyncio.get_running_loop().time
            started = clock()
            yield
            await asyncio.sleep(clock() - started)

    def skip_reason(self) -> SkipReason | None:
        """Return the reason to sign nothing, or None."""
        if self._allows_http or self.profile.base_url.startswith("https://"):
            return None
        return SkipReason(
            "public_url_not_https",
            "HOMEROOM_PUBLIC_URL is no https address, and a credential names it as long as it"
            " exists; set it, or set the HOMEROOM_CREDLY_ settings to issue through Credly",
        )

    async def signing_key(self, tx: Tx) -> SigningKey:
        """Return the key that signs now.

        Its public half is published from this commit on. The unique number decides which process
        makes the first key.
        """
        keys = await badge_store.list_keys(tx)
        if self._file_key is not None:
            key = self._file_key
            if all(stored.id != key.id for stored in keys):
                number = keys[0].number + 1 if keys else 1
                stored_key = StoredKey(number, key.id, key.public_bytes.hex(), None)
                if not await badge_store.add_key(tx, stored_key):
                    raise Conflict("Another process is publishing a key; try again.")
            return key
        stored = next((each for each in keys if each.private_key is not None), None)
        if stored is None:
            await self._add_new_key(tx, keys[0].number + 1 if keys else 1)
            keys = await badge_store.list_keys(tx)
            stored = next(each for each in keys if each.private_key is not None)
        assert stored.private_key is not None
        private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(stored.private_key))
        return SigningKey(stored.id, private)

    async def _add_new_key(self, tx: Tx, number: int) -> SigningKey | None:
        """Add a generated key; return None where another process has taken the number."""
        private = Ed25519PrivateKey.generate()
        key = SigningKey.of(private)
        stored = StoredKey(
            number, key.id, key.public_bytes.hex(), private.private_bytes_raw().hex()
        )
        return key if await badge_store.add_key(tx, stored) else None

    async def rotate_key(self, actor: str) -> str:
        """Sign with a new key from now on, and return its id.

        Older public keys stay published, the private ones are deleted. Raises ``Conflict`` where
        the key is in a file.
        """
        if self._file_key is not None:
            raise Conflict(
                "The key is in a file: replace HOMEROOM_CREDENTIAL_KEY_FILE and restart. The public"
                " keys of the files before stay published."
            )
        async with self._db.write() as tx:
            await tx.lock("credential_key")
            keys = await badge_store.list_keys(tx)
            number = keys[0].number + 1 if keys else 1
            key = await self._add_new_key(tx, number)
            if key is None:
                raise Conflict("Another process is making a key; try again.")
            await badge_store.retire_keys(tx, number)
            await access.record_audit(tx, actor, "credential_key.rotated", key.id, {})
        return key.id

    async def sign(
        self,
        credential: Credential,
        completion: Completion,
        course: Course,
        learner: LearnerRecord | None,
        status: CredentialStatus,
        key: SigningKey,
        now: int,
    ) -> OpenBadge:
        """Return the credential of a completion, signed in both forms."""
        content = self._content(credential, completion, course, learner, status)
        return await self._sign(credential, content, learner, key, now)

    async def sign_award(
        self,
        credential: Credential,
        award: Award,
        learner: LearnerRecord | None,
        status: CredentialStatus,
        key: SigningKey,
        now: int,
    ) -> OpenBadge:
        """Return the credential of an achievement, signed in both forms."""
        identity, is_email = _identity(award.user_id, learner)
        content = BadgeContent(
            id=credential.id,
            subject_id=_subject_id(credential),
            achievement_id="urn:uuid:"
            + derived_id("achievement-rule", self.profile.base_url, award.rule_id),
            title=award.title,
            criteria=award.criteria,
            valid_from=credential.issued_at,
            valid_until=None,
            status_number=status.number,
            identity=identity,
            is_email=is_email,
            salt=secrets.token_urlsafe(12),
            achievement_type="Achievement",
            description=award.description or f"The holder has achieved: {award.title}.",
        )
        return await self._sign(credential, content, learner, key, now)

    async def _sign(
        self,
        credential: Credential,
        content: BadgeContent,
        learner: LearnerRecord | None,
        key: SigningKey,
        now: int,
    ) -> OpenBadge:
        document = badge_document(self.profile, content)
        signed = await signing.add_proof(
            document, self.profile, key, whole_seconds(now), self._hasher.hash
        )
        names = () if learner is None else (learner.given_name, learner.family_name)
        return OpenBadge(
            credential_id=credential.id,
            user_id=credential.user_id,
            holder_name=" ".join(name for name in names if name) or None,
            document=msgspec.json.encode(signed).decode(),
            jws=signing.sign_jws(document, self.profile, key),
            key_id=key.id,
            signed_at=now,
            shows_name=True,
            is_listed=False,
        )

    def _content(
        self,
        credential: Credential,
        completion: Completion,
        course: Course,
        learner: LearnerRecord | None,
        status: CredentialStatus,
    ) -> BadgeContent:
        identity, is_email = _identity(completion.user_id, learner)
        evidence: list[tuple[str, str]] = []
        if "hours" in self._evidence:
            hours = completion.time_spent / 3_600
            evidence.append(("Time spent", f"{hours:.1f} hours"))
        if "score" in self._evidence and credential.score is not None:
            evidence.append(("Score", f"{credential.score / 100:g} %"))
        return BadgeContent(
            id=credential.id,
            subject_id=_subject_id(credential),
            achievement_id=(
                "urn:uuid:" + derived_id("achievement", self.profile.base_url, course.id)
            ),
            title=completion.course_title,
            criteria=_criteria_text(course),
            valid_from=credential.issued_at,
            valid_until=credential.expires_at,
            status_number=status.number,
            identity=identity,
            is_email=is_email,
            salt=secrets.token_urlsafe(12),
            evidence=tuple(evidence),
        )

    async def public_keys(self, tx: Tx) -> dict[str, bytes]:
        """Return the public keys that were ever used, by id, newest first."""
        keys = await badge_store.list_keys(tx)
        return {key.id: bytes.fromhex(key.public_key) for key in keys}

    async def profile_document(self, tx: Tx) -> dict[str, Any]:
        """Return the issuer's profile, which is the controller document of its keys."""
        keys = await self.public_keys(tx)
        return profile_document(
            self.profile, [(id, signing.multikey(public)) for id, public in keys.items()]
        )

    async def jwks_document(self, tx: Tx) -> dict[str, Any]:
        """Return the public keys as a JWK set; the ``kid`` is the URL of a JWK."""
        keys = await self.public_keys(tx)
        return {"keys": [self._jwk(id, public) for id, public in keys.items()]}

    async def key_document(self, tx: Tx, id: str, form: Literal["multikey", "jwk"]) -> Any:
        """Return a public key; raise ``NotFound``."""
        public = (await self.public_keys(tx)).get(id)
        if public is None:
            raise NotFound("This issuer has no such key.")
        if form == "jwk":
            return self._jwk(id, public)
        return multikey_document(self.profile, id, signing.multikey(public))

    def _jwk(self, id: str, public: bytes) -> dict[str, str]:
        kid = self.profile.jwk_url(id)
        return {**signing.public_jwk(public), "kid": kid, "alg": "EdDSA", "use": "sig"}

    async def status_list(self, number: int) -> bytes:
        """Return a signed status list as JSON; raise ``NotFound``.

        It is signed again only once it has changed, by one request for all that wait.
        """
        async with self._list_lock:
            return await self._status_list(number)

    async def _status_list(self, number: int) -> bytes:
        async with self._db.read() as tx:
            state = await badge_store.get_list_state(tx, number)
            if state is None:
                raise NotFound("There is no such status list.")
            cached = self._status_lists.get(number)
            if cached is not None and cached[0] == state:
                return cached[1]
            numbers = await badge_store.list_revoked_numbers(tx, number)
        async with self._db.write() as tx:
            key = await self.signing_key(tx)
        indexes = [status_place(each)[1] for each in numbers]
        document = status_list_document(self.profile, number, indexes, state.changed_at)
        created = whole_seconds(state.changed_at)
        signed = await signing.add_proof(document, self.profile, key, created, self._hasher.hash)
        body = msgspec.json.encode(signed)
        self._status_lists[number] = (state, body)
        return body

    async def check(self, badge: OpenBadge, status: CredentialStatus, now: int) -> BadgeCheck:
        """Check the signature, the status and the validity of a stored credential."""
        document = msgspec.json.decode(badge.document)
        async with self._db.read() as tx:
            public = (await self.public_keys(tx)).get(badge.key_id)
        is_signed = public is not None and await signing.has_valid_proof(
            document, public, self._hasher.hash
        )
        today = whole_seconds(now // SECOND * SECOND)
        until = document.get("validUntil")
        return BadgeCheck(
            is_signed=is_signed,
            is_revoked=status.revoked_at is not None,
            is_expired=until is not None and until < today,
            is_begun=document["validFrom"] <= today,
        )


def _subject_id(credential: Credential) -> str:
    return f"urn:uuid:{derived_id('credential-subject', credential.id)}"


def _identity(user_id: str, learner: LearnerRecord | None) -> tuple[str, bool]:
    """Return the holder's identity for the hash, and whether it is an e-mail address."""
    if learner is None or learner.email is None:
        return user_id, False
    return learner.email.lower(), True


def _criteria_text(course: Course) -> str:
    """Return what a course asks for, as a sentence."""
    count = len(course.required)
    if count == 0:
        return f"Complete the course {course.title}."
    items = "its one required chapter" if count == 1 else f"its {count} required chapters"
    return f"Complete the course {course.title} with {items}."
