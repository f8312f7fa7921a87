"""How far the tests go that draw at random or strike at random moments.

Once over in CI; ``make test-all`` has each tell five times as many stories.
"""

from __future__ import annotations

import os

EFFORT = max(1, int(os.environ.get("TEST_EFFORT", "1")))
