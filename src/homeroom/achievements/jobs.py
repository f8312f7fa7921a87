"""The job that awards achievements after a completion."""

from __future__ import annotations

from typing import ClassVar

from homeroom.db.ids import natural_id
from homeroom.jobs.api import JobArgs


class AwardAchievements(JobArgs, frozen=True, kw_only=True):
    """Award what a learner has reached; the payload is ``{"completionId": "..."}``.

    Result: ``{"awarded": [<ids of the rules>]}``.
    """

    kind: ClassVar[str] = "achievements.award"
    queue: ClassVar[str] = "credentials"  # one of its own would be one more connection to Redis

    completion_id: str

    def log_fields(self) -> dict[str, str | int]:
        """Return the id of the completion."""
        return {"completion_id": self.completion_id}

    def natural_id(self) -> str:
        """Return an id that no step of the completion has: their names have no hyphen."""
        return natural_id(self.completion_id, "award-achievements")
