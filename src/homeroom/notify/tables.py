"""Tables of messages and deliveries, and the personal data that they hold."""

from __future__ import annotations

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Index,
    Integer,
    Select,
    Table,
    Text,
    UniqueConstraint,
    or_,
    select,
    union,
)

from homeroom.db.personal_data import (
    NO_COLUMNS,
    PersonalRows,
    json_contains_id,
    rows_locked_first,
    rows_naming,
    rows_owned_by,
)
from homeroom.db.tables import metadata
from homeroom.jobs import api as jobs
from homeroom.notify.jobs import SendBundle
from homeroom.people.api import select_email

NOTIFICATION = Table(
    "notification",
    metadata,
    Column("id", Text, primary_key=True),  # UUIDv7: sorts by time
    Column("dedupe_key", Text, nullable=False, unique=True),
    Column("type", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("params", Text, nullable=False),  # JSON
    Column("about", Text),  # JSON; null: always relevant
    Column("metadata", Text, nullable=False),  # JSON
    Column("group_name", Text),
    Column("recipient", Text),  # JSON; null: the built-in directory describes the recipient
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
    Column("reason", Text),  # why it has its status, as a text
    Column("reason_code", Text),  # the same as a ``ReasonCode``; null in rows of earlier releases
    Column("address", Text),  # the address it was sent to
    Column("server_id", Text),  # the id in the answer of the server that accepted it
    Column("attempts", Integer, nullable=False),
    Column("bundle", Text),
    Column("not_before", BigInteger),
    Column("job", Text),
    Column("asked_by", Text),  # the operator who requested another attempt
    Column("asked_why", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("accepted_at", BigInteger),
    UniqueConstraint("notification_id", "channel"),
    Index(None, "status", "id"),
    Index(None, "bundle"),
    Index(None, "server_id"),
)
DELIVERY_ATTEMPT = Table(
    "delivery_attempt",
    metadata,
    Column("delivery_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("outcome", Text),  # the status that it led to; null while it runs
    Column("code", Integer),
    Column("error", Text),
    Column("actor", Text),
    Column("why", Text),
)
NOTIFICATION_PREFERENCE = Table(
    "notification_preference",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("wanted", Integer, nullable=False),
    Column("source", Text, nullable=False),  # person, link or staff
    Column("updated_at", BigInteger, nullable=False),
)
NOTIFICATION_PROFILE = Table(
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
    Column("reason", Text, nullable=False),  # hard, soft or complaint
    Column("detail", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),  # of soft ones; null: until an operator lifts it
    UniqueConstraint("channel", "address", "scope"),
)
BOUNCE = Table(
    "bounce",
    metadata,
    Column("id", Text, primary_key=True),
    Column("source_id", Text, nullable=False, unique=True),  # a repeated report counts once
    Column("delivery_id", Text),
    Column("channel", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("kind", Text, nullable=False),  # hard, soft, block or complaint
    Column("detail", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Index(None, "address", "at"),
)
UNMATCHED_NOTICE = Table(
    "unmatched_notice",
    metadata,
    Column("id", Text, primary_key=True),
    Column("source_id", Text, nullable=False, unique=True),  # a repeated report is kept once
    Column("kind", Text, nullable=False),
    Column("server_id", Text),  # by it a mail is found whose answer is recorded later
    Column("recipient", Text),  # masked
    Column("detail", Text, nullable=False),  # redacted
    Column("at", BigInteger, nullable=False),
    Index(None, "server_id"),
    Index(None, "at"),
)
MAIL_REFUSAL = Table(
    "mail_refusal",
    metadata,
    Column("domain_hash", Text, primary_key=True),
    Column("recipient_bucket", Integer, primary_key=True, autoincrement=False),  # of 65,536
    Column("refusal", Text, nullable=False),  # without addresses, hosts and numbers
    Column("at", BigInteger, nullable=False),
)
EMAIL_HOOK_TOKEN = Table(
    "email_hook_token",
    metadata,
    Column("token_hash", Text, primary_key=True),
    Column("body_hash", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Index(None, "at"),
)
LINK_KEY = Table(
    "link_key",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("secret", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
SENDING_PACE = Table(
    "sending_pace",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("next_at", BigInteger, nullable=False),  # the next mail under a limit goes then
)


def _select_messages_about(user_id: str) -> Select[tuple[str]]:
    about = or_(
        json_contains_id(NOTIFICATION.c.params, user_id),
        json_contains_id(NOTIFICATION.c.about, user_id),
    )
    return select(NOTIFICATION.c.id).where(or_(NOTIFICATION.c.user_id == user_id, about))


def _is_personal_delivery(user_id: str) -> ColumnElement[bool]:
    return DELIVERY.c.notification_id.in_(_select_messages_about(user_id))


def _is_own_delivery(user_id: str) -> ColumnElement[bool]:
    own = select(NOTIFICATION.c.id).where(NOTIFICATION.c.user_id == user_id)
    return DELIVERY.c.notification_id.in_(own)


def _is_personal_attempt(user_id: str) -> ColumnElement[bool]:
    return DELIVERY_ATTEMPT.c.delivery_id.in_(
        select(DELIVERY.c.id).where(_is_personal_delivery(user_id))
    )


def _is_personal_bounce(user_id: str) -> ColumnElement[bool]:
    """Match bounces of a person's addresses; their deliveries may be pruned."""
    profile = NOTIFICATION_PROFILE.c.user_id == user_id
    addresses = union(
        select_email(user_id),
        select(NOTIFICATION_PROFILE.c.sms).where(profile),
        select(NOTIFICATION_PROFILE.c.chat).where(profile),
        select(DELIVERY.c.address).where(_is_own_delivery(user_id)),
    )
    deliveries = select(DELIVERY.c.id).where(_is_personal_delivery(user_id))
    return or_(BOUNCE.c.address.in_(addresses), BOUNCE.c.delivery_id.in_(deliveries))


def _json_escaped(user_id: str) -> str:
    return msgspec.json.encode(user_id).decode()[1:-1]


_EXPORTED_DELIVERY_COLUMNS = frozenset(DELIVERY.columns.keys()) - {"asked_by", "asked_why"}
PERSONAL = (
    rows_locked_first(DELIVERY.c.updated_at, _is_personal_delivery),
    *jobs.job_rows_by_id(
        lambda user_id: select(DELIVERY.c.job).where(_is_personal_delivery(user_id))
    ),
    *jobs.job_rows_by_mention(SendBundle.kind, lambda user_id: f":{_json_escaped(user_id)}:"),
    PersonalRows(BOUNCE, _is_personal_bounce),
    PersonalRows(DELIVERY_ATTEMPT, _is_personal_attempt, visible_columns=NO_COLUMNS),
    PersonalRows(DELIVERY, _is_own_delivery, visible_columns=_EXPORTED_DELIVERY_COLUMNS),
    PersonalRows(DELIVERY, _is_personal_delivery, visible_columns=NO_COLUMNS),
    rows_owned_by(NOTIFICATION.c.user_id),
    PersonalRows(
        NOTIFICATION,
        lambda user_id: NOTIFICATION.c.id.in_(_select_messages_about(user_id)),
        visible_columns=NO_COLUMNS,
    ),
    rows_owned_by(NOTIFICATION_PREFERENCE.c.user_id),
    rows_owned_by(NOTIFICATION_PROFILE.c.user_id),
    rows_naming(DELIVERY.c.asked_by),
    rows_naming(DELIVERY_ATTEMPT.c.actor),
)
