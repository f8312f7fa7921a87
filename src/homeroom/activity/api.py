"""What other rooms, the CLI and ``wiring`` may use of ``activity``."""

from __future__ import annotations

from homeroom.activity.compliance import Mark
from homeroom.activity.fanout import FanOut
from homeroom.activity.jobs import PLANS, PruneRuns, schedule_name
from homeroom.activity.ledger import Run, runs
from homeroom.activity.logs import Logs
from homeroom.activity.owed import Exemption, Offering, State
from homeroom.activity.personal import PERSONAL
from homeroom.activity.programme import Obligation, Programme
from homeroom.activity.programmes import Programmes
from homeroom.activity.store import KeptExemption, Log
from homeroom.activity.view import Table, as_csv, compliance
from homeroom.activity.week import Week, parse_week
from homeroom.db.database import Database
from homeroom.jobs.api import Registry
from homeroom.notify.api import Notifications

__all__ = [
    "PERSONAL",
    "PLANS",
    "Activity",
    "Exemption",
    "KeptExemption",
    "Log",
    "Mark",
    "Obligation",
    "Offering",
    "Programme",
    "PruneRuns",
    "Run",
    "State",
    "Table",
    "Week",
    "as_csv",
    "compliance",
    "parse_week",
    "runs",
    "schedule_name",
]


class Activity:
    """The whole room; built in ``wiring``."""

    def __init__(self, db: Database, notifications: Notifications) -> None:
        """Take the room that gets messages to people."""
        self.programmes = Programmes(db, notifications)
        self.logs = Logs(db, notifications)
        self.fan_out = FanOut(db, notifications)

    def register(self, registry: Registry) -> None:
        """Say who runs the schedules' jobs."""
        self.fan_out.register(registry)
