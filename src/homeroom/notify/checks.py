"""Who knows whether a message is still true: rooms lend their checks, by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from homeroom.db.tx import Tx
from homeroom.notify.store import Notification

Params = Mapping[str, Any]
Check = Callable[[Tx, Params, Params], Awaitable[Params | None]]
"""Take what a message is about and its parameters; return those that it is to be sent with now.

None: what it is about is done, so it is not sent. Called in the transaction that claims it.
"""


class Checks:
    """The checks by name; filled in ``wiring``."""

    def __init__(self) -> None:
        """Start empty."""
        self._checks: dict[str, Check] = {}

    def add(self, name: str, check: Check) -> None:
        """Take a check; raise ValueError if the name has one."""
        if name in self._checks:
            raise ValueError(f"two checks are called {name}")
        self._checks[name] = check

    async def params(self, tx: Tx, notification: Notification) -> Params | None:
        """Return what a notification says now, or None if it is no longer true.

        A check that this program does not know cannot deny anything: the message is sent.
        """
        about = notification.about
        check = None if about is None else self._checks.get(str(about.get("check")))
        if about is None or check is None:
            return notification.params
        return await check(tx, about, notification.params)
