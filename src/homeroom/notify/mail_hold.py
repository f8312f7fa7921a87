"""The hold of the mail queue while the mail server refuses Homeroom itself.

A refusal before RCPT concerns every mail, so it holds the queue at once. A later one may be the
policy of one recipient's server, so the same refusal has to come for recipients of three domains in
a row. A school whose people have fewer domains never sees that: there it has to come for three
recipients in a row and for all domains that mails went to in the last 30 days (decision 0043). Only
live sessions count: anyone can forge a bounce. The hold is the breaker of the partner ``mail``
(decision 0022), so jobs wait without spending attempts, and one of them probes.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import timedelta

from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.instant import to_microseconds
from homeroom.jobs.api import Hold, Outcome
from homeroom.notify.delivery_rules import MAIL_GATE
from homeroom.notify.smtp_response import DeliveryDecision, SmtpPhase
from homeroom.notify.tables import MAIL_REFUSAL
from homeroom.partner.failure import PartnerAway
from homeroom.partner.gate import PartnerGate

DOMAINS_TO_HOLD = 3
"""Domains whose recipients are refused alike, in a row, before the queue is held."""
RECIPIENTS_TO_HOLD = 3
"""Recipients who are refused alike, in a row, where mails go to fewer domains than that."""
DOMAIN_WINDOW = timedelta(days=30)
"""Age up to which a mail's domain is one of those that mails go to."""
_MAX_SAMPLE = 1_000
"""Newest mails to other domains that are looked at, at most."""
_BUCKETS = 1 << 16
_VARYING = re.compile(r"\S*@\S*|\S*\d\S*|[\w-]+(?:\.[\w-]+)+")
"""Words that differ from mail to mail: addresses, hosts, ids and numbers."""


@dataclass(frozen=True, slots=True)
class _MailRefusal:
    domain_hash: str
    recipient_bucket: int
    """Tells three recipients apart, mostly, and names none."""
    refusal: str
    at: int


class MailHold:
    """Holds the mail queue and releases it; its state is in the database."""

    def __init__(self, db: Database) -> None:
        """Use the gate of the partner ``mail``."""
        self._gate = PartnerGate(db, MAIL_GATE)

    async def admit(self, tx: Tx) -> Hold | None:
        """Return None if a mail may be sent or is the probe, else the outcome of its job."""
        try:
            await self._gate.admit_within(tx, "the mail server")
        except PartnerAway as error:
            outcome: Outcome = error.to_outcome()
            assert isinstance(outcome, Hold)
            return outcome
        return None

    async def record(self, tx: Tx, decision: DeliveryDecision, address: str) -> bool:
        """Record the outcome of a session; return whether the queue is held after it."""
        has_refusals, is_open = await _read_state(tx)
        if decision.refusal is None:
            if decision.phase is None or decision.phase < SmtpPhase.RCPT:
                return is_open  # the session did not come so far: it shows nothing
            if has_refusals:
                await tx.execute("DELETE FROM mail_refusal")
            if is_open:
                await self._gate.switch_on(tx)
            return False
        if decision.refusal == "relay" and not is_open:
            if not await _concerns_all_mails(tx, decision, address):
                return False
            await tx.execute("DELETE FROM mail_refusal")
        error = decision.error or "refused"
        await self._gate.open(tx, "refused", error, decision.code)
        return True


async def _read_state(tx: Tx) -> tuple[bool, bool]:
    """Return whether refusals are counted, and whether the queue is held."""
    [(refusals, holds)] = await tx.fetch(
        "SELECT (SELECT COUNT(*) FROM mail_refusal),"
        " (SELECT COUNT(*) FROM partner WHERE name = ? AND state <> 'closed')",
        (MAIL_GATE,),
    )
    return bool(refusals), bool(holds)


async def _concerns_all_mails(tx: Tx, decision: DeliveryDecision, address: str) -> bool:
    """Add a refusal; return whether those in a row concern all mails.

    They do for three domains, or for three recipients whose domains are all that mails go to.
    """
    refusal = _normalize_refusal(decision.error or "")
    await tx.lock("notify.mail_refusal")
    await tx.execute("DELETE FROM mail_refusal WHERE refusal <> ?", (refusal,))
    own = _hash_domain(address), _recipient_bucket(address)
    refused = await tx.fetch("SELECT domain_hash, recipient_bucket FROM mail_refusal")
    if sum(domain == own[0] for domain, _ in refused) < RECIPIENTS_TO_HOLD:
        row = _MailRefusal(*own, refusal, tx.now)
        await tx.insert(MAIL_REFUSAL, [row], on_conflict="ignore")
    recipients = {*refused, own}
    domains = {domain for domain, _ in recipients}
    if len(domains) >= DOMAINS_TO_HOLD:
        return True
    return len(recipients) >= RECIPIENTS_TO_HOLD and await _are_all_domains(tx, domains, address)


async def _are_all_domains(tx: Tx, domain_hashes: set[str], address: str) -> bool:
    """Return whether no mail of the last 30 days went to another domain than these."""
    rows = await tx.fetch(
        "SELECT address FROM delivery WHERE channel = 'email' AND address IS NOT NULL"
        " AND updated_at > ? AND LOWER(address) NOT LIKE ? ORDER BY id DESC LIMIT ?",
        (tx.now - to_microseconds(DOMAIN_WINDOW), f"%@{_domain(address)}", _MAX_SAMPLE),
    )
    return all(_hash_domain(other) in domain_hashes for (other,) in rows)


def _domain(address: str) -> str:
    return address.rpartition("@")[2].lower()


def _hash_domain(address: str) -> str:
    return hashlib.sha256(_domain(address).encode()).hexdigest()


def _recipient_bucket(address: str) -> int:
    digest = hashlib.sha256(address.lower().encode()).digest()
    return int.from_bytes(digest[:4], "big") % _BUCKETS


def _normalize_refusal(text: str) -> str:
    """Return what is the same in one refusal for several recipients."""
    code, _, rest = text.partition(" ")
    return " ".join([code, *_VARYING.sub(" ", rest.lower()).split()])
