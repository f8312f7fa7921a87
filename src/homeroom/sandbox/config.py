"""What a sandbox is started with."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from standardwebhooks.webhooks import Webhook

# Public on purpose: it protects nothing, and a fixed one lets two terminals agree.
_OPEN_SECRET = "whsec_" + base64.b64encode(b"homeroom sandbox, not a secret").decode()


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """Say which keys the sandbox expects and how it makes up what nobody told it.

    `webhook_secret` is `whsec_` and base64, as in Standard Webhooks. A directory or assessment
    token of None means that the server asks for none. `seed` decides generated people, generated
    scores and the dice of faults with a probability. `keep` bounds the requests kept per server
    for `GET /control/received`; the counts stay exact beyond it.
    """

    webhook_secret: str = _OPEN_SECRET
    credly_token: str = "sandbox-credly-token"  # noqa: S105 - a key to nothing, printed at start
    organization: str = "sandbox-school"
    directory_token: str | None = None
    assessment_token: str | None = None
    seed: int = 0
    keep: int = 10_000

    def __post_init__(self) -> None:
        """Refuse a secret that could verify nothing.

        Raises ValueError.
        """
        if not self.webhook_secret.startswith("whsec_"):
            raise ValueError("The webhook secret starts with whsec_ and goes on in base64.")
        try:
            Webhook(self.webhook_secret)
        except Exception as error:  # the library raises three unrelated kinds
            raise ValueError(f"The webhook secret can't be read: {error}") from error
