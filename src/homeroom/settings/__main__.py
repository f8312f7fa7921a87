"""Print docs/settings.md: ``python -m homeroom.settings > docs/settings.md``."""

import sys

from homeroom.settings.listing import render_settings_page

sys.stdout.write(render_settings_page())
