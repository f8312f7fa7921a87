"""The relations of people to their managers in all packages (decision 0053)."""

from __future__ import annotations

from homeroom.activity.api import select_facilitators
from homeroom.people.api import select_reports
from homeroom.web.people_scope import Relations

MANAGER_RELATIONS: Relations = {"report": select_reports, "facilitator": select_facilitators}
