"""Messages to learners: a credential was issued, and it expires soon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar

from homeroom.catalogue import api as catalogue
from homeroom.catalogue.api import Course
from homeroom.completion.api import Completion, CompletionFilter, Completions
from homeroom.credentials import store
from homeroom.credentials.learner_lookup import (
    BuiltInLearnerDirectory,
    LearnerDirectory,
    LearnerRecord,
)
from homeroom.credentials.store import Credential
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import NotFound
from homeroom.instant import DAY
from homeroom.jobs.api import LOW, Done, JobArgs, JobContext, Outcome, Registry
from homeroom.notify.api import Message, Notifications, Recipient
from homeroom.partner.failure import PartnerError

NOTICE_DAYS = (30, 7)
"""Days before the end of a validity on which the learner is told, the first one first."""
MAX_COMPLETION_AGE_US = 60 * DAY
"""A completion that is older when its credential is issued, such as an imported one, is no news."""
_NEWS_LIFETIME_US = 14 * DAY
_CHECK = "credentials.completion"
_PAGE = 500
_DATE_MARGIN_US = 7 * DAY
"""More than the days by which the ends of months move the start of a validity."""


class AnnounceExpiries(JobArgs, frozen=True, kw_only=True):
    """Tell learners whose completions expire soon. Result: ``{"messages"}``."""

    kind: ClassVar[str] = "credentials.announce_expiries"
    queue: ClassVar[str] = "upkeep"
    priority: ClassVar[int] = LOW
    timeout: ClassVar[timedelta] = timedelta(minutes=30)


class LearnerMessages:
    """Messages about credentials, each sent once.

    A learner whom another directory describes is written to at that directory's address.
    """

    def __init__(
        self,
        db: Database,
        notifications: Notifications,
        directory: LearnerDirectory,
        *,
        is_enabled: bool = True,
    ) -> None:
        """Send by ``notifications`` to learners of a directory, if it is enabled."""
        self._is_enabled = is_enabled
        self._db, self._notifications, self._directory = db, notifications, directory
        self._is_built_in = isinstance(directory, BuiltInLearnerDirectory)

    def register(self, registry: Registry, completions: Completions) -> None:
        """Register the job, and the check that a message is still true."""

        async def announce(ctx: JobContext, args: AnnounceExpiries) -> Outcome:
            return await self.announce_expiries(ctx, completions)

        async def check(
            tx: Tx, about: Mapping[str, Any], params: Mapping[str, Any]
        ) -> Mapping[str, Any] | None:
            return await _current_params(tx, completions, str(about["completionId"]), params)

        registry.add(AnnounceExpiries, announce)
        self._notifications.checks.add(_CHECK, check)

    async def announce_issued(
        self,
        tx: Tx,
        completion: Completion,
        credential: Credential,
        learner: LearnerRecord | None,
        *,
        url: str | None,
        certificate_url: str | None,
    ) -> None:
        """Tell the learner about a new credential, in the transaction that issues it.

        ``certificate_url`` is the address of the PDF; None where the issuer has none.
        """
        if not self._is_enabled or completion.superseded_by is not None:
            return
        if tx.now - completion.completed_at > MAX_COMPLETION_AGE_US:
            return
        message = Message(
            f"credential.issued:{credential.id}",
            "credential_issued",
            completion.user_id,
            {
                "course": completion.course_title,
                "url": url,
                "certificateUrl": certificate_url,
                "validUntil": credential.expires_at,
            },
            about=_about(completion),
            metadata=_metadata(completion, credential),
            expires_at=tx.now + _NEWS_LIFETIME_US,
            recipient=self._recipient(learner),
        )
        await self._notifications.send(tx, [message])

    async def announce_expiries(self, ctx: JobContext, completions: Completions) -> Outcome:
        """Tell learners once in each span of ``NOTICE_DAYS``, a page a commit.

        A notice that came due while no process ran is sent late, unless a later one is due too.
        """
        count = 0
        if not self._is_enabled:
            return Done({"messages": count})
        async with self._db.read() as tx:
            courses = await catalogue.expiring_versions(tx)
        for course_id, versions in courses.items():
            by_version = {course.version: course for course in versions}
            after: tuple[int, str] | None = None
            while True:
                async with self._db.read() as tx:
                    query = _expiring_filter(course_id, versions, tx.now)
                    page = await completions.list_by_date(tx, query, after, _PAGE)
                    notices = await self._new_notices(tx, page, by_version)
                if notices:
                    try:
                        count += await self._send_notices(notices, completions)
                    except PartnerError as error:
                        return error.to_outcome()
                    await ctx.progress({"messages": count})
                if len(page) < _PAGE:
                    break
                after = (page[-1].completed_at, page[-1].id)
        return Done({"messages": count})

    async def _new_notices(
        self, tx: Tx, page: Sequence[Completion], by_version: Mapping[int, Course]
    ) -> dict[str, Message]:
        """Return the notices that are due and were not sent, by completion."""
        due: list[tuple[Completion, int, int]] = []
        for completion in page:
            course = by_version.get(completion.course_version)
            ends_at = None if course is None else course.valid_until(completion.completed_at)
            if ends_at is None or completion.superseded_by is not None:
                continue
            days = notice_due(completion.completed_at, ends_at, tx.now)
            if days is not None:
                due.append((completion, ends_at, days))
        keys = {completion.id: _notice_key(completion, days) for completion, _, days in due}
        sent = await self._notifications.find_sent(tx, list(keys.values()))
        unsent = [each for each in due if keys[each[0].id] not in sent]
        issued = await store.list_by_completions(tx, [each.id for each, _, _ in unsent])
        return {
            completion.id: Message(
                keys[completion.id],
                "credential_expiring",
                completion.user_id,
                {
                    "course": completion.course_title,
                    "url": None if credential is None else credential.url,
                    "validUntil": ends_at,
                },
                about=_about(completion),
                metadata=_metadata(completion, credential),
                expires_at=ends_at,
            )
            for completion, ends_at, _ in unsent
            if (credential := issued.get(completion.id)) is None or credential.state != "revoked"
        }

    async def _send_notices(self, notices: Mapping[str, Message], completions: Completions) -> int:
        """Send notices and return the number of new ones. Raises ``PartnerError``."""
        described = {id: await self._describe(message) for id, message in notices.items()}
        async with self._db.write() as tx:
            # A learner may have been erased while the directory was asked.
            await catalogue.lock_learners(tx, {each.user_id for each in described.values()})
            known = await completions.find_by_ids(tx, list(described))
            messages = [message for id, message in described.items() if id in known]
            return (await self._notifications.send(tx, messages)).new

    async def _describe(self, message: Message) -> Message:
        """Return a message with its recipient, looked up outside of transactions."""
        if self._is_built_in:
            return message
        try:
            learner = await self._directory.find(message.user_id)
        except PartnerError as error:
            if error.is_retriable:
                raise
            return message  # an unreadable record shall not stop the messages to all others
        return replace(message, recipient=self._recipient(learner))

    def _recipient(self, learner: LearnerRecord | None) -> Recipient | None:
        if self._is_built_in or learner is None:
            return None
        return Recipient(learner.email, learner.given_name, learner.locale)


def notice_due(starts_at: int, ends_at: int, now: int) -> int | None:
    """Return the days of the notice that is due at an instant; None: there is none.

    A validity that is no longer than the days of a notice has no such notice. Instants are
    microseconds UTC.
    """
    if now >= ends_at:
        return None
    due = [
        days
        for days in NOTICE_DAYS
        if ends_at - days * DAY <= now and ends_at - starts_at > days * DAY
    ]
    return due[-1] if due else None


def _expiring_filter(course_id: str, versions: Sequence[Course], now: int) -> CompletionFilter:
    """Return a selection that has all completions that expire soon."""
    validities = [course.validity for course in versions if course.validity is not None]
    soon = now + max(NOTICE_DAYS) * DAY
    return CompletionFilter(
        course_id=course_id,
        completed_from=min(each.latest_start(now) for each in validities) - _DATE_MARGIN_US,
        completed_before=max(each.latest_start(soon) for each in validities) + 1,
    )


async def _current_params(
    tx: Tx, completions: Completions, completion_id: str, params: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """Return a message's parameters; None once its completion is renewed or revoked."""
    try:
        completion = await completions.get(tx, completion_id)
    except NotFound:
        return None
    if completion.superseded_by is not None:
        return None
    credential = (await store.list_by_completions(tx, [completion_id])).get(completion_id)
    return None if credential is not None and credential.state == "revoked" else params


def _notice_key(completion: Completion, days: int) -> str:
    return f"credential.expiring:{completion.id}:{days}"


def _about(completion: Completion) -> dict[str, str]:
    return {"check": _CHECK, "completionId": completion.id}


def _metadata(completion: Completion, credential: Credential | None) -> dict[str, str]:
    found = {"completionId": completion.id, "courseId": completion.course_id}
    return found if credential is None else {**found, "credentialId": credential.id}
