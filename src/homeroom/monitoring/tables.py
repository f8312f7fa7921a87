"""Tables of the history of metrics, of alerts, and of monitoring processes."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text

from homeroom.db.personal_data import rows_naming
from homeroom.db.tables import metadata

METRIC_HISTORY = Table(
    "metric_history",
    metadata,
    Column("resolution", Integer, primary_key=True, autoincrement=False),  # seconds
    Column("metric", Text, primary_key=True),
    Column("at", BigInteger, primary_key=True, autoincrement=False),  # the begin of the span
    Column("count", BigInteger, nullable=False),
    Column("total", BigInteger, nullable=False),  # of durations: microseconds
    Column("peak", BigInteger, nullable=False),  # the highest sample of a value
    Index(None, "resolution", "at"),
)
ALERT = Table(
    "alert",
    metadata,
    Column("id", Text, primary_key=True),  # UUIDv7: sorts by time
    Column("open_key", Text, unique=True),  # rule and subject; null once it is cleared
    Column("rule", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("group_name", Text, nullable=False),  # alerts of one cause
    Column("severity", Text, nullable=False),
    Column("state", Text, nullable=False),  # pending, open, cleared
    Column("value", BigInteger, nullable=False),  # thousandths of the rule's unit
    Column("threshold", BigInteger, nullable=False),
    Column("detail", Text),
    Column("since", BigInteger, nullable=False),
    Column("quiet_since", BigInteger),  # the condition no longer holds
    Column("raised_at", BigInteger),
    Column("raised_count", Integer, nullable=False),
    Column("cleared_at", BigInteger, index=True),
    Column("updated_at", BigInteger, nullable=False),
    Column("message", Text),  # the key of the message that told of it
    Column("acknowledged_at", BigInteger),
    Column("acknowledged_by", Text),
    Column("acknowledged_why", Text),
    Column("snoozed_until", BigInteger),
    Column("snoozed_by", Text),
)
ALERT_RULE = Table(
    "alert_rule",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("enabled", Integer, nullable=False),
    Column("threshold", BigInteger, nullable=False),  # thousandths of the rule's unit
    Column("for_seconds", Integer, nullable=False),
    Column("clear_seconds", Integer, nullable=False),
    Column("severity", Text, nullable=False),
)
MONITOR_LEASE = Table(
    "monitor_lease",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # 1: there is one row
    Column("holder", Text, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("observed_from", BigInteger, nullable=False),  # evaluated without a gap since then
    Column("counted_until", BigInteger, nullable=False),  # completions are in the history
)
MONITOR_PROCESS = Table(
    "monitor_process",
    metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("report", Text, nullable=False),  # JSON: a ProcessReport
)

PERSONAL = (rows_naming(ALERT.c.acknowledged_by), rows_naming(ALERT.c.snoozed_by))
