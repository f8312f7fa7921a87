"""Carry several messages to somebody in one: a daily digest, or alerts that came close together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from homeroom.db.tx import Tx
from homeroom.jobs.api import Done, Job, JobContext, JobState, Outcome, Snooze
from homeroom.notify import store, want
from homeroom.notify.carrier import Letter, Talk
from homeroom.notify.deliver import (
    Post,
    Ready,
    after,
    end_lost,
    note,
    prepare,
    set_aside,
)
from homeroom.notify.jobs import SendBundle
from homeroom.notify.kind import kind_of
from homeroom.notify.reply import Phase, Verdict
from homeroom.notify.state import Status
from homeroom.people import api as people


class Bundling:
    """Runs the jobs that carry what goes out together."""

    def __init__(self, post: Post) -> None:
        """Take what delivering needs."""
        self._post = post

    async def run(self, ctx: JobContext, args: SendBundle) -> Outcome:
        """Claim what is still wanted and true, send it as one, and note how it went for each."""
        claimed = await self._claim(ctx, args.bundle)
        if not isinstance(claimed, tuple):
            return claimed
        ready, letter = claimed
        talk = Talk()
        try:
            verdict = await self._post.carriers[letter.channel].carry(letter, talk)
        except asyncio.CancelledError:
            if talk.phase < Phase.END:
                await self._take_back(ready)
            raise
        return await self._note(ctx, ready, verdict)

    async def _claim(
        self, ctx: JobContext, bundle: str
    ) -> tuple[Sequence[Ready], Letter] | Outcome:
        post = self._post
        async with post.db.write() as tx:
            ready: list[Ready] = []
            wait = None
            for delivery, notification in await store.of_bundle(tx, bundle, hold=True):
                kind = kind_of(notification.type)
                if delivery.status is Status.SENDING:
                    await end_lost(post, tx, delivery, kind)
                    again = await store.get(tx, delivery.id)
                    assert again is not None
                    delivery = again[0]
                if delivery.status is not Status.PENDING:
                    continue
                found = await prepare(post, tx, delivery, notification)
                if isinstance(found, Ready):
                    ready.append(found)
                elif found.wait is not None:
                    wait = found.wait
                else:
                    await set_aside(post, tx, delivery, notification.type, found)
            if wait is not None:
                outcome: Outcome = Snooze(wait, "quiet hours")
            elif not ready:
                outcome = Done({"status": "nothing"})
            else:
                for each in ready:
                    await store.begin(tx, each.delivery, each.address)
                return ready, await self._letter(tx, ready)
            await ctx.settle(tx, outcome)
        return outcome

    async def _letter(self, tx: Tx, ready: Sequence[Ready]) -> Letter:
        """Return one letter for all: a single message goes out as itself."""
        first = ready[0]
        channel, user_id = first.delivery.channel, first.notification.user_id
        if len(ready) == 1:
            return Letter(first.delivery.id, channel, first.address, first.words, first.stop_url)
        person = await people.get(tx, user_id)
        kinds = [kind_of(each.notification.type) for each in ready]
        stop_url = self._post.stop_url(await want.link_key(tx), user_id, kinds, channel)
        items = [{"title": each.words.title, "summary": each.words.summary} for each in ready]
        words = self._post.templates.words(
            "bundle",
            {"items": items},
            locale=None if person is None else person.locale,
            given_name=None if person is None else person.given_name,
            stop_url=stop_url,
        )
        return Letter(first.delivery.id, channel, first.address, words, stop_url)

    async def _take_back(self, ready: Sequence[Ready]) -> None:
        async with self._post.db.write() as tx:
            for each in ready:
                id, number = each.delivery.id, each.delivery.attempts + 1
                await store.move(tx, id, Status.PENDING, only_from=[Status.SENDING])
                await store.end_attempt(
                    tx, id, number, "pending", None, "broken off before its end"
                )

    async def _note(self, ctx: JobContext, ready: Sequence[Ready], verdict: Verdict) -> Outcome:
        ends = [each.notification.expires_at for each in ready]
        last = None if None in ends else max(end for end in ends if end is not None)
        kind = kind_of(ready[0].notification.type)
        async with self._post.db.write() as tx:
            outcome, status, reason = after(ctx, kind, last, verdict, tx.now)
            for each in ready:
                await note(self._post, tx, each, verdict, status, reason)
            await ctx.settle(tx, outcome)
        return outcome

    async def changed(self, tx: Tx, job: Job, args: SendBundle) -> None:
        """Keep the deliveries in step with what was done to their job by others."""
        for delivery, _ in await store.of_bundle(tx, args.bundle):
            if job.state is JobState.FAILED and delivery.status is Status.PENDING:
                await store.move(tx, delivery.id, Status.FAILED, reason=job.last_error)
            elif job.state is JobState.FAILED and delivery.status is Status.SENDING:
                await end_lost(self._post, tx, delivery, None)
            elif job.state is JobState.WAITING and delivery.status is Status.FAILED:
                await store.move(tx, delivery.id, Status.PENDING, only_from=[Status.FAILED])
