"""The relations of people to their managers in all packages (decision 0053)."""

from __future__ import annotations

from homeroom.activity.api import select_facilitators
from homeroom.db.personal_data import Relations
from homeroom.people.api import select_reports

MANAGER_RELATIONS: Relations = {"report": select_reports, "facilitator": select_facilitators}
