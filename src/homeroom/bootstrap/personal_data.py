"""The registry of personal data in all packages, for export and erasure."""

from __future__ import annotations

from homeroom.access.api import PERSONAL as IN_AUDIT
from homeroom.achievements.api import PERSONAL as IN_ACHIEVEMENTS
from homeroom.activity.api import PERSONAL as IN_PROGRAMMES
from homeroom.catalogue.api import PERSONAL as IN_CATALOGUE
from homeroom.catalogue.api import lock_learners
from homeroom.changes.api import PERSONAL as IN_CHANGES
from homeroom.completion.api import PERSONAL as IN_COMPLETIONS
from homeroom.credentials.api import PERSONAL as IN_CREDENTIALS
from homeroom.dispatch.api import PERSONAL as IN_DISPATCHES
from homeroom.lessonplans.api import PERSONAL as IN_PLANS
from homeroom.monitoring.tables import PERSONAL as IN_ALERTS
from homeroom.notify.api import PERSONAL as IN_MESSAGES
from homeroom.people.api import PERSONAL as IN_DIRECTORY
from homeroom.people.api import PersonalDataRegistry
from homeroom.progress.api import PERSONAL as IN_PROGRESS

PERSONAL_DATA = PersonalDataRegistry(
    (
        *IN_CATALOGUE,
        *IN_PROGRESS,
        *IN_CREDENTIALS,
        *IN_ACHIEVEMENTS,
        *IN_DISPATCHES,
        *IN_COMPLETIONS,
        *IN_MESSAGES,
        *IN_PROGRAMMES,
        *IN_PLANS,
        *IN_ALERTS,
        *IN_AUDIT,
        *IN_CHANGES,
        *IN_DIRECTORY,
    ),
    lock_learners,
)
