"""The tables of programmes, logs and what is owed."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, UniqueConstraint

from homeroom.db.schema import metadata

PROGRAMME = Table(
    "programme",
    metadata,
    Column("id", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("grace_minutes", Integer, nullable=False),
    Column("closed_on", Text),  # a date; null: it runs
    Column("managers", Text, nullable=False),  # JSON list of user ids
    Column("log_url", Text),
    Column("target_week", Text, nullable=False),
    Column("last_day_to_join", Integer, nullable=False),
    Column("late_is_missed", Integer, nullable=False),
    Column("copy_facilitator", Integer, nullable=False),
    Column("all_clear", Integer, nullable=False),
    Column("per_user_time", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
OFFERING = Table(
    "offering",
    metadata,
    Column("id", Text, primary_key=True),
    Column("programme_id", Text, nullable=False, index=True),
    Column("title", Text, nullable=False),
    Column("facilitator_id", Text, nullable=False, index=True),
    Column("starts_on", Text, nullable=False),  # dates, both within
    Column("ends_on", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
LOG = Table(
    "activity_log",
    metadata,
    Column("id", Text, primary_key=True),
    Column("offering_id", Text, nullable=False),
    Column("week_key", Text, nullable=False),
    Column("facilitator_id", Text, nullable=False),
    Column("programme_id", Text, nullable=False),
    Column("status", Text, nullable=False),  # draft or submitted
    Column("content", Text, nullable=False),  # JSON
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("submitted_at", BigInteger),  # by this server's clock, the first time
    UniqueConstraint("offering_id", "week_key"),
    Index(None, "facilitator_id", "id"),
    Index(None, "programme_id", "id"),
)
OBLIGATION = Table(
    "log_obligation",
    metadata,
    Column("offering_id", Text, primary_key=True),
    Column("week_key", Text, primary_key=True),
    Column("facilitator_id", Text, nullable=False),
    Column("programme_id", Text, nullable=False),
    Column("opens_at", BigInteger, nullable=False),
    Column("deadline_at", BigInteger, nullable=False),  # frozen when the week opened
    Column("state", Text, nullable=False),  # open, submitted, late, missed, exempt
    Column("exempt_reason", Text),
    Column("log_id", Text),
    Column("satisfied_at", BigInteger),
    Index(None, "programme_id", "week_key"),
)
EXEMPTION = Table(
    "exemption",
    metadata,
    Column("id", Text, primary_key=True),
    Column("programme_id", Text, nullable=False, index=True),
    Column("user_id", Text),  # null: everybody
    Column("offering_id", Text),  # null: all of theirs
    Column("starts_on", Text, nullable=False),
    Column("ends_on", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("note", Text),
    Column("created_by", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
WARNING = Table(
    "compliance_warning",
    metadata,
    Column("programme_id", Text, primary_key=True),
    Column("user_id", Text, primary_key=True),
    Column("week_key", Text, nullable=False),  # the report that it was in
    Column("missed", Text, nullable=False),  # JSON list of weeks
    Column("warned_at", BigInteger, nullable=False),
    Column("resolved_at", BigInteger),
)
RUN = Table(
    "activity_run",
    metadata,
    Column("schedule", Text, primary_key=True),
    Column("slot", Text, primary_key=True),
    Column("slot_at", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # fanning_out or done
    Column("late", Integer, nullable=False),
    Column("sent", Integer, nullable=False),
    Column("repeated", Integer, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
)
