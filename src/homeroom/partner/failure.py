"""The failure of a call to a partner, and the outcome of its job."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from homeroom.errors import HomeroomError
from homeroom.jobs.job import JobReason
from homeroom.jobs.outcome import Fail, Hold, Retry

FailureKind = Literal[
    "refused", "timed out", "lost", "unreachable", "unreadable", "misconfigured", "away"
]
"""``away``: no call was made, because the partner's breaker is open. ``lost``: the connection broke
after something was sent. ``refused``: a status that is no 2xx."""


class PartnerError(HomeroomError):
    """A partner system could not do what it was asked."""

    status = 502
    code = "partner_failed"

    def __init__(
        self,
        message: str,
        *,
        kind: FailureKind,
        response_status: int | None = None,
        is_retriable: bool = True,
        retry_after: timedelta | None = None,
    ) -> None:
        """Set the failure; ``response_status`` is None where no response came."""
        super().__init__(
            message,
            retry_after_seconds=None if retry_after is None else retry_after.total_seconds(),
        )
        self.kind = kind
        self.response_status = response_status
        self.is_retriable = is_retriable
        self.retry_after = retry_after
        self.gate: str | None = None
        """The partner's gate, which releases jobs of such failures when the partner is back."""
        self.hold_reason: JobReason | None = None
        """Set while the gate is closed: the job waits for it and spends no attempt."""

    @property
    def is_outcome_unknown(self) -> bool:
        """Return whether the partner may have done the work although the call failed."""
        if self.kind == "refused":
            return self.response_status is not None and self.response_status >= 500
        return self.kind in {"timed out", "lost", "unreadable"}

    def to_outcome(self, at_least: timedelta = timedelta()) -> Retry | Hold | Fail:
        """Return the outcome of a job that ends with this error.

        ``at_least`` is the shortest wait, for a partner that may still be at work.
        """
        if not self.is_retriable:
            return Fail(self.message)
        if self.gate is not None and self.hold_reason is not None:
            return Hold(self.gate, self.message, self.hold_reason)
        return Retry(self.message, self.retry_after, at_least, self.gate)


class PartnerAway(PartnerError):
    """No call was made, because the partner has not answered for some time."""

    status = 503
    code = "partner_away"

    def __init__(
        self, message: str, *, gate: str, hold_reason: JobReason, retry_after: timedelta
    ) -> None:
        """Set the gate that releases the job, and the time until the next probe."""
        super().__init__(message, kind="away", retry_after=retry_after)
        self.gate, self.hold_reason = gate, hold_reason
