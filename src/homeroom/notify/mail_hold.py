"""The hold of the mail queue while the mail server refuses Homeroom itself.

A refusal before RCPT concerns every mail, so it holds the queue at once. A later one may be the
policy of one recipient's server, so the same refusal has to come for recipients of three domains in
a row. Only live sessions count: anyone can forge a bounce. The hold is the breaker of the partner
``mail`` (decision 0022), so jobs wait without spending attempts, and one of them probes.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from sqlalchemy import select

from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.jobs.api import Hold, Outcome
from homeroom.notify.delivery_rules import MAIL_GATE
from homeroom.notify.smtp_response import DeliveryDecision, SmtpPhase
from homeroom.notify.tables import MAIL_REFUSAL
from homeroom.partner.failure import PartnerAway
from homeroom.partner.gate import PartnerGate

DOMAINS_TO_HOLD = 3
"""Domains whose recipients are refused alike, in a row, before the queue is held."""
_VARYING = re.compile(r"\S*@\S*|\S*\d\S*|[\w-]+(?:\.[\w-]+)+")
"""Words that differ from mail to mail: addresses, hosts, ids and numbers."""


@dataclass(frozen=True, slots=True)
class _MailRefusal:
    domain_hash: str
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
            if await _count_domains(tx, decision, address) < DOMAINS_TO_HOLD:
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


async def _count_domains(tx: Tx, decision: DeliveryDecision, address: str) -> int:
    """Add a refusal and return the number of domains refused alike, in a row."""
    refusal = _normalize_refusal(decision.error or "")
    await tx.lock("notify.mail_refusal")
    await tx.execute("DELETE FROM mail_refusal WHERE refusal <> ?", (refusal,))
    domain = address.rpartition("@")[2].lower()
    row = _MailRefusal(hashlib.sha256(domain.encode()).hexdigest(), refusal, tx.now)
    await tx.insert(MAIL_REFUSAL, [row], on_conflict="update")
    return len(await tx.fetch(select(MAIL_REFUSAL.c.domain_hash)))


def _normalize_refusal(text: str) -> str:
    """Return what is the same in one refusal for several recipients."""
    code, _, rest = text.partition(" ")
    return " ".join([code, *_VARYING.sub(" ", rest.lower()).split()])
