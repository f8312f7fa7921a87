"""The tables of messages: what was said, how it got there, and what people want."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, UniqueConstraint

from homeroom.db.schema import metadata

NOTIFICATION = Table(
    "notification",
    metadata,
    Column("id", Text, primary_key=True),  # UUIDv7: later ones sort after earlier ones
    Column("dedupe_key", Text, nullable=False, unique=True),
    Column("type", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("params", Text, nullable=False),  # JSON
    Column("about", Text),  # JSON; null: always true
    Column("metadata", Text, nullable=False),  # JSON
    Column("group_name", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("read_at", BigInteger),
    Column("resolved_at", BigInteger),
    Column("purged_at", BigInteger),
    Index(None, "user_id", "id"),
    Index(None, "created_at"),
)
DELIVERY = Table(
    "delivery",
    metadata,
    Column("id", Text, primary_key=True),
    Column("notification_id", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text),  # why it is not delivered, in words
    Column("address", Text),  # where it was sent
    Column("attempts", Integer, nullable=False),
    Column("bundle", Text),
    Column("not_before", BigInteger),
    Column("job", Text),
    Column("asked_by", Text),  # who wanted another attempt
    Column("asked_why", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("accepted_at", BigInteger),
    UniqueConstraint("notification_id", "channel"),
    Index(None, "status", "id"),
    Index(None, "bundle"),
)
ATTEMPT = Table(
    "delivery_attempt",
    metadata,
    Column("delivery_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("outcome", Text),  # the state that it led to; null while it lasts
    Column("code", Integer),
    Column("error", Text),
    Column("actor", Text),
    Column("why", Text),
)
PREFERENCE = Table(
    "notification_preference",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("wanted", Integer, nullable=False),
    Column("source", Text, nullable=False),  # person, link or staff
    Column("updated_at", BigInteger, nullable=False),
)
PROFILE = Table(
    "notification_profile",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("quiet_start", Integer),  # minutes after midnight
    Column("quiet_end", Integer),
    Column("digest_minute", Integer),
    Column("sms", Text),
    Column("chat", Text),
    Column("updated_at", BigInteger, nullable=False),
)
SUPPRESSION = Table(
    "suppression",
    metadata,
    Column("id", Text, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("scope", Text, nullable=False),  # global, or a type of message
    Column("reason", Text, nullable=False),  # hard, soft, complaint or manual
    Column("detail", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("channel", "address", "scope"),
)
BOUNCE = Table(
    "bounce",
    metadata,
    Column("id", Text, primary_key=True),
    Column("source_id", Text, nullable=False, unique=True),  # who told it twice counts once
    Column("delivery_id", Text),
    Column("channel", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("kind", Text, nullable=False),  # hard, soft or complaint
    Column("detail", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Index(None, "address", "at"),
)
LINK_KEY = Table(
    "link_key",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("secret", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
