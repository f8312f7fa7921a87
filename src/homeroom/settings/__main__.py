"""Print docs/settings.md: ``python -m homeroom.settings > docs/settings.md``."""

import sys

from homeroom.settings.page import markdown

sys.stdout.write(markdown())
