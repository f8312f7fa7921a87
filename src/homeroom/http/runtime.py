"""Settings of the interpreter that suit a server under load."""

from __future__ import annotations

import gc
import sys

YOUNG_OBJECTS = 50_000
"""New objects that may refer to each other before the collector looks at them; CPython says 700.

A commit makes some thousand short-lived objects that refer to nothing, so that looking after every
700 found no garbage and took a tenth of the time.
"""
TURN_SECONDS = 0.0005
"""How long a thread may keep the interpreter while others want it; CPython says 0.005, for which
the event loop would keep a database's thread waiting after every statement (decision 0010).
"""


def tune_runtime() -> None:
    """Collect garbage less often, without what the program is made of; let threads take turns.

    Called once everything is loaded; calling it again does no harm.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)
    sys.setswitchinterval(TURN_SECONDS)
