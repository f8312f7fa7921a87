"""Who may run Python when: the event loop and the thread that commits share one interpreter lock.

A thread that wants the lock waits for ``sys.getswitchinterval()`` before it asks for it. With one
interval for all, the loop keeps the committing thread waiting after every statement, although the
loop could do its work while SQLite does its own, which needs no lock. So the thread shortens the
interval before a statement, to get the lock back at once after it, and lengthens it for its own
Python in between. Measured in decision 0010.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

NORMAL_SECONDS = 0.0005
"""Where nobody commits; CPython says 0.005."""
_OURS_SECONDS, _THEIRS_SECONDS = 0.005, 0.00002

Args = ParamSpec("Args")
Result = TypeVar("Result")


def take() -> None:
    """Let nobody interrupt this thread for some milliseconds."""
    sys.setswitchinterval(_OURS_SECONDS)


def give() -> None:
    """Go back to turns of equal length."""
    sys.setswitchinterval(NORMAL_SECONDS)


def lend(call: Callable[Args, Result], *args: Args.args, **options: Args.kwargs) -> Result:
    """Call something that mostly runs without the lock, and take the lock back right after it."""
    sys.setswitchinterval(_THEIRS_SECONDS)
    try:
        return call(*args, **options)
    finally:
        sys.setswitchinterval(_OURS_SECONDS)
