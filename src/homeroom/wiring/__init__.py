"""Build the whole house from the settings: the only room that knows everyone.

Nothing here runs at import time. ``open_house`` makes the parts that every command needs,
``serve`` and ``work`` add what runs for ever.
"""

from homeroom.db.migrate import SchemaState
from homeroom.settings import Problem, Settings, problems
from homeroom.wiring.house import (
    House,
    database_state,
    load_settings,
    open_house,
)
from homeroom.wiring.many import serve_many
from homeroom.wiring.moving import back_up, copy_database, restore, upgrade_database, verify
from homeroom.wiring.queue import redis_fault
from homeroom.wiring.records import RECORDS
from homeroom.wiring.serving import serve, work

__all__ = [
    "RECORDS",
    "House",
    "Problem",
    "SchemaState",
    "Settings",
    "back_up",
    "copy_database",
    "database_state",
    "load_settings",
    "open_house",
    "problems",
    "redis_fault",
    "restore",
    "serve",
    "serve_many",
    "upgrade_database",
    "verify",
    "work",
]
