"""Carry a message to its channel: claimed and checked first, sent with no transaction open.

The claim is committed before the first word is said. A run that finds its delivery in ``sending``
therefore knows that an earlier one died in the middle of a conversation, and that nobody can tell
how it ended: the delivery is ``unknown``. Reminders stay so (their inbox shows them, and one click
sends them again); types with ``resend_on_unknown`` are sent once more.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.jobs.api import (
    Done,
    Fail,
    Job,
    JobContext,
    JobState,
    Outcome,
    Retry,
    Snooze,
)
from homeroom.notify import store, want
from homeroom.notify.bounce import Bounces
from homeroom.notify.carrier import Carrier, Letter, Talk
from homeroom.notify.checks import Checks
from homeroom.notify.jobs import Deliver
from homeroom.notify.kind import Channel, Kind, kind_of
from homeroom.notify.link import Subscription, seal
from homeroom.notify.message import Message
from homeroom.notify.notifier import TOPIC, Notifier, Observe
from homeroom.notify.reply import Phase, Verdict
from homeroom.notify.state import Status
from homeroom.notify.store import Delivery, Notification
from homeroom.notify.template import Templates, Words
from homeroom.notify.wait import wait_before

log = structlog.get_logger(__name__)
_chance = random.Random()
_MICROSECOND = timedelta(microseconds=1)
EXPIRED = "it was worth nothing any more"
RESOLVED = "what it was about was done"


@dataclass(frozen=True, slots=True)
class Post:
    """What delivering needs; the same for single messages and for bundles."""

    db: Database
    notifier: Notifier
    checks: Checks
    carriers: Mapping[Channel, Carrier]
    templates: Templates
    bounces: Bounces
    public_url: str
    observe: Observe

    def stop_url(
        self, key: bytes, user_id: str, kinds: Sequence[Kind], channel: Channel
    ) -> str | None:
        """Return the link that stops types for somebody; None where one cannot be stopped."""
        if any(kind.mandatory for kind in kinds) or not self.carriers[channel].stops():
            return None
        token = seal(Subscription(user_id, joined(kinds), channel.value), key)
        return f"{self.public_url}/u/{token}"


@dataclass(frozen=True, slots=True)
class Ready:
    """A delivery that may be sent now: where to, and in what words."""

    delivery: Delivery
    notification: Notification
    address: str
    words: Words
    stop_url: str | None


@dataclass(frozen=True, slots=True)
class NotNow:
    """A delivery that is not sent: where it goes instead, or how long it waits."""

    status: Status | None = None
    reason: str | None = None
    wait: timedelta | None = None


def joined(kinds: Sequence[Kind]) -> str:
    """Return the types of a link as one text; a mail may hold several."""
    return "+".join(sorted({kind.name for kind in kinds}))


async def prepare(
    post: Post, tx: Tx, delivery: Delivery, notification: Notification
) -> Ready | NotNow:
    """Look whether a pending delivery is still wanted, true and in time."""
    by_hand = delivery.asked_by is not None
    expires_at = notification.expires_at
    if expires_at is not None and expires_at <= tx.now and not by_hand:
        return NotNow(Status.EXPIRED, EXPIRED)
    if notification.purged_at is not None:
        return NotNow(Status.FAILED, "its text is kept no longer")
    params = await post.checks.params(tx, notification)
    if params is None:
        return NotNow(Status.CANCELLED, RESOLVED)
    user_id, kind = notification.user_id, kind_of(notification.type)
    known = await post.notifier.know(tx, [user_id])
    message = Message(notification.dedupe_key, kind.name, user_id)
    choices = {
        each.channel: each for each in post.notifier.choices(kind.name, message, known, tx.now)
    }
    choice = choices.get(delivery.channel)
    if choice is None:
        return NotNow(Status.SKIPPED, "switched off by the person")
    if choice.status is not Status.PENDING:
        return NotNow(choice.status, choice.reason)
    held = choice.not_before if choice.bundle is None else None
    if held is not None and held > tx.now and not by_hand:
        if expires_at is not None and held >= expires_at:
            return NotNow(Status.EXPIRED, "the quiet hours last longer than it is worth sending")
        return NotNow(wait=(held - tx.now) * _MICROSECOND)
    address = known.reach_of(user_id, kind)[delivery.channel].address
    assert address is not None  # it would not be pending
    person = known.people.get(user_id)
    key = await want.link_key(tx)
    stop_url = post.stop_url(key, user_id, [kind], delivery.channel)
    words = post.templates.words(
        kind.name,
        params,
        locale=None if person is None else person.locale,
        given_name=None if person is None else person.given_name,
        stop_url=stop_url,
    )
    return Ready(delivery, notification, address, words, stop_url)


async def set_aside(post: Post, tx: Tx, delivery: Delivery, type: str, why: NotNow) -> None:
    """Note that a delivery is not sent, and why."""
    assert why.status is not None
    if await store.move(tx, delivery.id, why.status, reason=why.reason):
        count(post, tx, type, delivery.channel, why.status)


def count(post: Post, tx: Tx, type: str, channel: Channel, status: Status) -> None:
    """Count a delivery's new state once it is committed."""
    tx.after_commit(lambda: post.observe(type, channel.value, status.value))


class Delivering:
    """Runs the jobs that carry one message each."""

    def __init__(self, post: Post) -> None:
        """Take what delivering needs."""
        self._post = post

    async def run(self, ctx: JobContext, args: Deliver) -> Outcome:
        """Claim, send, and note how it went."""
        ready = await self._claim(ctx, args.delivery_id)
        if not isinstance(ready, Ready):
            return ready
        talk = Talk()
        letter = Letter(
            ready.delivery.id, ready.delivery.channel, ready.address, ready.words, ready.stop_url
        )
        carrier = self._post.carriers[ready.delivery.channel]
        try:
            verdict = await carrier.carry(letter, talk)
        except asyncio.CancelledError:
            if talk.phase < Phase.END:
                # nothing was handed over: the next run may begin anew
                await self._take_back(ready.delivery)
            raise
        return await self._note(ctx, ready, verdict)

    async def _claim(self, ctx: JobContext, delivery_id: str) -> Ready | Outcome:
        post = self._post
        async with post.db.write() as tx:
            found = await store.get(tx, delivery_id, hold=True)
            if found is None:
                return Fail("the delivery is kept no longer")
            delivery, notification = found
            kind = kind_of(notification.type)
            if delivery.status is Status.SENDING:
                await end_lost(post, tx, delivery, kind)
                if not kind.resend_on_unknown:
                    return await _settled(ctx, tx, Done({"status": Status.UNKNOWN.value}))
                again = await store.get(tx, delivery_id)
                assert again is not None
                delivery = again[0]
            if delivery.status is not Status.PENDING:
                return await _settled(ctx, tx, Done({"status": delivery.status.value}))
            ready = await prepare(post, tx, delivery, notification)
            if isinstance(ready, NotNow):
                if ready.wait is not None:
                    return await _settled(ctx, tx, Snooze(ready.wait, "quiet hours"))
                await set_aside(post, tx, delivery, notification.type, ready)
                assert ready.status is not None
                return await _settled(ctx, tx, Done({"status": ready.status.value}))
            await store.begin(tx, delivery, ready.address)
        return ready

    async def _take_back(self, delivery: Delivery) -> None:
        async with self._post.db.write() as tx:
            await store.move(tx, delivery.id, Status.PENDING, only_from=[Status.SENDING])
            await store.end_attempt(
                tx, delivery.id, delivery.attempts + 1, "pending", None, "broken off before its end"
            )

    async def _note(self, ctx: JobContext, ready: Ready, verdict: Verdict) -> Outcome:
        """Save the outcome and end the job in one transaction."""
        post, delivery, notification = self._post, ready.delivery, ready.notification
        async with post.db.write() as tx:
            kind, expires_at = kind_of(notification.type), notification.expires_at
            outcome, status, reason = after(ctx, kind, expires_at, verdict, tx.now)
            await note(post, tx, ready, verdict, status, reason)
            await ctx.settle(tx, outcome)
        if status is not Status.ACCEPTED:
            log.warning(
                "delivery_not_accepted",
                delivery=delivery.id,
                channel=delivery.channel.value,
                status=status.value,
                error=verdict.error,
            )
        return outcome

    async def changed(self, tx: Tx, job: Job, args: Deliver) -> None:
        """Keep the delivery in step with what was done to its job by others."""
        found = await store.get(tx, args.delivery_id)
        if found is None or found[0].job != job.id:
            return
        delivery, notification = found
        if job.state is JobState.FAILED:
            if delivery.status is Status.PENDING:
                await store.move(tx, delivery.id, Status.FAILED, reason=job.last_error)
            elif delivery.status is Status.SENDING:
                await end_lost(self._post, tx, delivery, None)
        elif job.state is JobState.WAITING and delivery.status is Status.FAILED:
            await store.move(tx, delivery.id, Status.PENDING, only_from=[Status.FAILED])
        tx.notify(TOPIC, notification.user_id)


async def note(
    post: Post, tx: Tx, ready: Ready, verdict: Verdict, status: Status, reason: str | None
) -> None:
    """Save how an attempt ended, with the bounce that a refusal is."""
    delivery, notification = ready.delivery, ready.notification
    await store.move(tx, delivery.id, status, reason=reason, only_from=[Status.SENDING])
    ended = verdict.status.value
    await store.end_attempt(
        tx, delivery.id, delivery.attempts + 1, ended, verdict.code, verdict.error
    )
    count(post, tx, notification.type, delivery.channel, status)
    if verdict.bounce is not None:
        source = f"smtp:{delivery.id}:{delivery.attempts + 1}"
        detail = verdict.error or ""
        await post.bounces.record(
            tx, source, delivery.id, delivery.channel, ready.address, verdict.bounce, detail
        )
    tx.notify(TOPIC, notification.user_id)


async def end_lost(post: Post, tx: Tx, delivery: Delivery, kind: Kind | None) -> None:
    """Say that nobody knows how a conversation ended; let it be sent again where that is meant."""
    error = "its worker died before it could tell how the conversation ended"
    await store.move(tx, delivery.id, Status.UNKNOWN, reason=error)
    await store.end_attempt(tx, delivery.id, delivery.attempts, "unknown", None, error)
    if kind is not None:
        count(post, tx, kind.name, delivery.channel, Status.UNKNOWN)
        if kind.resend_on_unknown:
            await store.move(tx, delivery.id, Status.PENDING, only_from=[Status.UNKNOWN])


def after(
    ctx: JobContext, kind: Kind, expires_at: int | None, verdict: Verdict, now: int
) -> tuple[Outcome, Status, str | None]:
    """Return how the job ends, and where the delivery is then."""
    status, error = verdict.status, verdict.error
    again = status is Status.PENDING or (status is Status.UNKNOWN and kind.resend_on_unknown)
    if not again:
        if status is Status.FAILED:
            return Fail(error or "refused"), status, error
        return Done({"status": status.value}), status, error
    wait = wait_before(ctx.job.attempts, now, expires_at, _chance)
    if wait is not None and ctx.job.attempts < ctx.job.max_attempts:
        return Retry(error or "not sent", wait), Status.PENDING, error
    if status is Status.UNKNOWN:
        return Done({"status": status.value}), status, error
    gave_up = f"given up after {ctx.job.attempts} attempts: {error}"
    return Fail(gave_up), Status.FAILED, gave_up


async def _settled(ctx: JobContext, tx: Tx, outcome: Outcome) -> Outcome:
    await ctx.settle(tx, outcome)
    return outcome
