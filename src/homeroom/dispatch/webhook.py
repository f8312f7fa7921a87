"""Webhooks: a partner system that receives signed messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import httpx
from standardwebhooks.webhooks import Webhook

from homeroom.clock import Clock
from homeroom.db.ids import new_id
from homeroom.dispatch.cloud_event import build_test_event
from homeroom.dispatch.message import Delivered
from homeroom.instant import SECOND, to_datetime
from homeroom.partner.client import WEBHOOK_TIMEOUT, Partner, encode_json
from homeroom.partner.gate import PartnerGate


class Destination:
    """One partner system that receives webhooks."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        name: str,
        title: str,
        url: str,
        secrets: Sequence[str],
        *,
        timeout: timedelta = WEBHOOK_TIMEOUT,
        gate: PartnerGate | None = None,
    ) -> None:
        """Set its name in the database, its title in messages, and the secrets that sign.

        A secret is ``whsec_`` and base64. While one is replaced there are two, and a receiver that
        has either accepts the message. ``gate`` holds jobs while the partner is away.
        """
        self.name = name
        self.partner = Partner(
            client, title, url, timeout=timeout, secrets=secrets, signs_time=True, gate=gate
        )
        self._webhooks = [Webhook(secret) for secret in secrets]
        # Receivers compare with the real time, whatever Homeroom's own clock shows.
        self._real_clock = Clock()

    async def deliver(self, id: str, payload: str) -> Delivered:
        """Post a message; raise ``PartnerError``.

        The body is sent byte for byte as it is given, because the signature is over its bytes.
        """
        headers = self._headers(id, payload)
        response = await self.partner.call("POST", content=payload.encode(), headers=headers)
        return Delivered(response.status, self.partner.excerpt(response.body))

    async def send_test(self, source: str) -> int:
        """Post a signed message without a completion; return the status, 2xx.

        Raises ``PartnerError``. The breaker does not count it: receivers may refuse its type.
        """
        now = self._real_clock.now()
        id = new_id()
        payload = encode_json(build_test_event(id, source, now)).decode()
        response = await self.partner.call(
            "POST", content=payload.encode(), headers=self._headers(id, payload), is_gated=False
        )
        return response.status

    def _headers(self, id: str, payload: str) -> dict[str, str]:
        now = self._real_clock.now()
        signatures = (each.sign(id, to_datetime(now), payload) for each in self._webhooks)
        return {
            "content-type": "application/cloudevents+json",
            "webhook-id": id,
            "webhook-timestamp": str(now // SECOND),
            "webhook-signature": " ".join(signatures),
        }
