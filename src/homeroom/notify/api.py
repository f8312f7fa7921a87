"""What other rooms, the CLI and ``wiring`` may use of ``notify``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from homeroom.access import api as access
from homeroom.clock import microseconds
from homeroom.db.database import Database
from homeroom.db.id import new_id
from homeroom.db.tx import Tx
from homeroom.errors import Conflict, Invalid, NotFound
from homeroom.jobs.api import Done, JobContext, Outcome, Registry, enqueue
from homeroom.notify import store, want
from homeroom.notify.apprise_carrier import AppriseCarrier
from homeroom.notify.bounce import Bounces, Heard, read_dsn, read_events
from homeroom.notify.bundle import Bundling
from homeroom.notify.carrier import Carrier, Letter, NoCarrier, Talk
from homeroom.notify.checks import Check, Checks
from homeroom.notify.deliver import Delivering, Post
from homeroom.notify.dsn import Notice
from homeroom.notify.jobs import BY_QUEUE, PruneNotifications, SendBundle
from homeroom.notify.kind import KINDS, Channel, kind_of
from homeroom.notify.link import Subscription, unseal
from homeroom.notify.message import Message
from homeroom.notify.notifier import TOPIC, Notifier, Observe, Planned, Sent, nothing
from homeroom.notify.personal import PERSONAL
from homeroom.notify.reply import Verdict
from homeroom.notify.smtp import Sender, Server, SmtpCarrier, compose, parse_url
from homeroom.notify.state import RESENDABLE, Status
from homeroom.notify.store import Attempt, Delivery, Notification
from homeroom.notify.template import KIND_TITLES, Templates, Words, languages
from homeroom.notify.want import Profile, Suppression

__all__ = [
    "EXAMPLES",
    "KINDS",
    "KIND_TITLES",
    "PERSONAL",
    "TOPIC",
    "AppriseCarrier",
    "Attempt",
    "Carrier",
    "Channel",
    "Check",
    "Delivery",
    "Heard",
    "Letter",
    "Message",
    "NoCarrier",
    "Notice",
    "Notification",
    "Notifications",
    "Observe",
    "Planned",
    "Profile",
    "PruneNotifications",
    "Sender",
    "Sent",
    "Server",
    "SmtpCarrier",
    "Status",
    "Subscription",
    "Suppression",
    "Talk",
    "Templates",
    "Verdict",
    "Words",
    "compose",
    "kind_of",
    "languages",
    "parse_url",
    "read_dsn",
    "read_events",
]

TEXTS_KEPT = timedelta(days=180)
KEYS_KEPT = timedelta(days=400)
"""Thirteen months: a key that is forgotten could be sent again."""
_PRUNE_PAGE = 500


class Notifications:
    """The whole room; built in ``wiring`` with its channels."""

    def __init__(
        self,
        db: Database,
        *,
        carriers: Mapping[Channel, Carrier],
        templates: Templates,
        public_url: str,
        texts_kept: timedelta = TEXTS_KEPT,
        observe: Observe = nothing,
    ) -> None:
        """Take a carrier for each channel but the inbox, and how long texts are kept."""
        self._db, self.templates, self.carriers = db, templates, carriers
        self._texts_kept = texts_kept
        self.checks = Checks()
        self.notifier = Notifier({name: each.off for name, each in carriers.items()}, observe)
        self.bounces = Bounces(observe)
        self._post = Post(
            db,
            self.notifier,
            self.checks,
            carriers,
            templates,
            self.bounces,
            public_url,
            observe,
        )

    def register(self, registry: Registry) -> None:
        """Say who runs the jobs of this room."""
        delivering, bundling = Delivering(self._post), Bundling(self._post)
        for args in BY_QUEUE.values():
            registry.add(args, delivering.run, delivering.changed)
        registry.add(SendBundle, bundling.run, bundling.changed)
        registry.add(PruneNotifications, self._prune)

    async def send(self, tx: Tx, messages: Sequence[Message]) -> Sent:
        """Take messages over in the caller's transaction, each once for ever by its key."""
        return await self.notifier.send(tx, messages)

    async def resolve(self, tx: Tx, keys: Sequence[str]) -> None:
        """Say that what messages were about is done: they stop being unread, and unsent ones."""
        for id in await store.resolve(tx, keys):
            tx.notify(TOPIC, id)

    def words(self, found: Notification, locale: str | None, *, whole: bool = False) -> Words:
        """Return a stored notification in words; one whose text is purged has its type's name."""
        if found.purged_at is not None:
            return Words(KIND_TITLES[found.type], "", "", "")
        return self.templates.words(found.type, found.params, locale=locale, whole=whole)

    async def resend(self, delivery_id: str, actor: str, why: str) -> Delivery:
        """Try a delivery that has ended once more, for a reason that is kept.

        Raises ``NotFound``; ``Conflict`` where it is under way or was complained about;
        ``Invalid`` without a reason.
        """
        if not why.strip():
            raise Invalid("Say why it is to be sent again: it is kept with the attempt.")
        async with self._db.write() as tx:
            found = await store.get(tx, delivery_id, hold=True)
            if found is None:
                raise NotFound(f"There is no delivery {delivery_id!r}.")
            delivery, notification = found
            if delivery.status not in RESENDABLE or delivery.channel is Channel.IN_APP:
                raise Conflict(
                    f"A delivery that is {delivery.status.value} cannot be sent again.",
                    details={"status": delivery.status.value},
                )
            kind = kind_of(notification.type)
            job = await enqueue(
                tx, BY_QUEUE[kind.queue](delivery_id=delivery_id), priority=kind.priority
            )
            await store.ask_again(tx, delivery_id, job, actor, why.strip())
            details = {"why": why.strip(), "was": delivery.status.value}
            await access.record(tx, actor, "delivery.resent", delivery_id, details)
            after = await store.get(tx, delivery_id)
        assert after is not None
        return after[0]

    async def subscription(self, tx: Tx, token: str) -> Subscription | None:
        """Return what a mail's link stands for; None for one that is not ours."""
        key = await want.known_link_key(tx)
        if key is None:
            return None
        found = unseal(token, key)
        known = found is not None and all(name in KINDS for name in found.type.split("+"))
        return found if known else None

    async def unsubscribe(self, token: str) -> Subscription | None:
        """Stop what a mail's link stands for; None for one that is not ours. Repeatable."""
        async with self._db.write() as tx:
            found = await self.subscription(tx, token)
            if found is None:
                return None
            for name in found.type.split("+"):
                if not kind_of(name).mandatory:
                    await want.put_preference(
                        tx, found.user_id, name, Channel(found.channel), False, "link"
                    )
            subject = {"type": found.type, "channel": found.channel}
            await access.record(tx, found.user_id, "mail.unsubscribed", found.user_id, subject)
        return found

    async def hear(self, source_id: str, notices: list[Notice]) -> Heard:
        """Take what mail servers and providers say of mails that had been accepted."""
        async with self._db.write() as tx:
            return await self.bounces.hear(tx, source_id, notices)

    async def lift(self, id: str, actor: str) -> None:
        """Write to a suppressed address again; raise ``NotFound``."""
        async with self._db.write() as tx:
            found = await want.lift(tx, id)
            if found is None:
                raise NotFound(f"There is no suppression {id!r}.")
            details = {"channel": found.channel, "reason": found.reason, "scope": found.scope}
            await access.record(tx, actor, "suppression.lifted", id, details)

    async def send_test(self, channel: Channel, address: str, type: str) -> Verdict:
        """Carry an example of a type to an address at once, past queue, rows and preferences."""
        carrier = self.carriers[channel]
        if carrier.off is not None:
            raise Conflict(f"Nothing can be sent: {carrier.off}.")
        words = self.templates.words(type, EXAMPLES[type])
        return await carrier.carry(Letter(new_id(), channel, address, words), Talk())

    async def _prune(self, ctx: JobContext, args: PruneNotifications) -> Outcome:
        texts = rows = 0
        while True:
            async with self._db.write() as tx:
                before = tx.now - microseconds(self._texts_kept)
                oldest = tx.now - microseconds(max(self._texts_kept, KEYS_KEPT))
                dropped = await store.purge(tx, before, oldest, _PRUNE_PAGE)
                texts, rows = texts + dropped[0], rows + dropped[1]
                if max(dropped) < _PRUNE_PAGE:
                    outcome = Done({"texts": texts, "rows": rows})
                    await ctx.settle(tx, outcome)
                    return outcome


_WEEK, _ZONE = "2026-W48", "Europe/Berlin"
_DEADLINE, _RECEIVED = 1_795_993_200_000_000, 1_795_999_000_000_000
_OWED = {
    "programme": "Data for all",
    "week": _WEEK,
    "timeZone": _ZONE,
    "deadlineAt": _DEADLINE,
    "url": "https://learn.example.org/logs",
    "offerings": [{"id": "a", "title": "Statistics"}, {"id": "b", "title": "SQL & friends"}],
}
_MISSED = {"programme": "Data for all", "week": _WEEK, "userId": "u1", "name": "Ada Okafor"}
EXAMPLES: Mapping[str, Mapping[str, object]] = {
    "log_reminder": _OWED,
    "deadline_warning": _OWED,
    "manager_report": {
        "programme": "Data for all",
        "week": _WEEK,
        "timeZone": _ZONE,
        "missing": [
            {"userId": "u1", "name": "Ada Okafor", "offering": "Statistics", "submittedAt": None}
        ],
        "late": [{"userId": "u2", "name": "Ben Li", "offering": "SQL", "submittedAt": _RECEIVED}],
        "compliance": [
            {
                "userId": "u1",
                "name": "Ada Okafor",
                "missed": ["2026-W46", _WEEK],
                "continuing": False,
            }
        ],
    },
    "late_log": {
        "programme": "Data for all",
        "week": _WEEK,
        "timeZone": _ZONE,
        "userId": "u2",
        "name": "Ben Li",
        "offering": "SQL",
        "submittedAt": _RECEIVED,
        "deadlineAt": _DEADLINE,
    },
    "compliance_warning": {**_MISSED, "missed": ["2026-W46", _WEEK], "expected": 4},
    "compliance_copy": {**_MISSED, "missed": ["2026-W46", _WEEK], "expected": 4},
    "unmanaged_programme": {
        "programme": "Data for all",
        "week": _WEEK,
        "missing": [{"name": "Ada Okafor"}],
        "late": [],
    },
    "schedule_missed": {
        "schedule": "reminder.data",
        "slot": "2026-11-23T09:00[Europe/Berlin]",
        "foundAt": _RECEIVED,
    },
}
"""What previews and test mails say."""
