"""A factor for the number of random cases, kills and restarts.

It is 1 in CI and 5 in ``make test-all``.
"""

from __future__ import annotations

import os

EFFORT = max(1, int(os.environ.get("TEST_EFFORT", "1")))
