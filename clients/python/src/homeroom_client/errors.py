"""Errors of the client, all of them ``HomeroomError``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from homeroom_client.events import ProgressEvent
    from homeroom_client.models import SendReport


class HomeroomError(Exception):
    """The base of all errors that the client raises on purpose."""


class InvalidEvent(HomeroomError, ValueError):
    """An event that the server would reject; ``field`` names what is wrong."""

    def __init__(self, field: str, rule: str) -> None:
        """Name the field and the rule that it breaks."""
        super().__init__(f"{field} must be {rule}.")
        self.field = field


class UnexpectedAnswer(HomeroomError):
    """A successful answer that is not in the form of Homeroom's API."""


class InterruptedSend:
    """The state of a ``send_events`` that an error has ended; empty after other calls."""

    unsent: tuple[ProgressEvent, ...] = ()
    """Events that the server has not confirmed: send these same ones again."""
    report: SendReport | None = None
    """The results of the events before them."""


class ApiError(HomeroomError, InterruptedSend):
    """An answer that refuses the request, with its problem document (RFC 9457)."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        """Take the HTTP status and the problem document, which may be empty."""
        self.status = status
        self.problem = dict(problem)
        texts = (self._text("detail") or self._text("title"), *self._faults(), self.hint)
        said = " ".join(text for text in texts if text)
        super().__init__(f"{status}: {said}" if said else f"The server answered {status}.")

    @property
    def code(self) -> str | None:
        """The stable code of the problem, such as ``not_found``; None without one."""
        return self._text("code")

    @property
    def hint(self) -> str | None:
        """The server's proposal of a fix; None without one."""
        return self._text("hint")

    def _faults(self) -> list[str]:
        """Return the values that are not allowed, each with its place and the reason.

        The detail names the first one already.
        """
        listed, detail = self.problem.get("errors"), self._text("detail") or ""
        faults = [
            f"{each.get('pointer') or each.get('parameter')}: {each.get('detail')}."
            for each in (listed if isinstance(listed, list) else ())
            if isinstance(each, dict)
        ]
        return [fault for fault in faults if fault not in detail]

    def _text(self, name: str) -> str | None:
        value = self.problem.get(name)
        return value if isinstance(value, str) else None


class AccessRefused(ApiError):
    """The token is missing, expired or may not do this (401, 403, or an event's ``forbidden``)."""


class CursorGone(ApiError):
    """The feed cannot go on from this cursor (410): start anew from ``cursor="now"``."""

    @property
    def reason(self) -> str | None:
        """One of ``other_epoch``, ``pruned`` and ``ahead``; None without one."""
        return self._text("reason")


class Unavailable(HomeroomError, InterruptedSend):
    """No usable answer in the time that the client may retry for."""

    def __init__(self, text: str, status: int | None, retry_after_seconds: float | None) -> None:
        """Take the message, the last HTTP status, and the wait that the server asked for."""
        super().__init__(text)
        self.status = status
        """The last HTTP status; None where there was no answer."""
        self.retry_after_seconds = retry_after_seconds
        """The wait that the server asked for; None without one."""
