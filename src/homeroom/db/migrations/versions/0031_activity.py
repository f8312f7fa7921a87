"""Programmes, logs, obligations, and the runs of their schedules."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0031_activity"
down_revision: str | None = "0030_notify"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Create the tables of this package."""
    op.create_table(
        "programme",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("grace_minutes", sa.Integer(), nullable=False),
        sa.Column("closed_on", sa.Text(), nullable=True),
        sa.Column("managers", sa.Text(), nullable=False),
        sa.Column("log_url", sa.Text(), nullable=True),
        sa.Column("target_week", sa.Text(), nullable=False),
        sa.Column("last_day_to_join", sa.Integer(), nullable=False),
        sa.Column("late_is_missed", sa.Integer(), nullable=False),
        sa.Column("copy_facilitator", sa.Integer(), nullable=False),
        sa.Column("all_clear", sa.Integer(), nullable=False),
        sa.Column("per_user_time", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_programme")),
    )
    op.create_table(
        "offering",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("programme_id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("facilitator_id", sa.Text(), nullable=False),
        sa.Column("starts_on", sa.Text(), nullable=False),
        sa.Column("ends_on", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_offering")),
    )
    op.create_index(
        op.f("ix_offering_facilitator_id"), "offering", ["facilitator_id"], unique=False
    )
    op.create_index(op.f("ix_offering_programme_id"), "offering", ["programme_id"], unique=False)
    op.create_table(
        "activity_log",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("offering_id", sa.Text(), nullable=False),
        sa.Column("week_key", sa.Text(), nullable=False),
        sa.Column("facilitator_id", sa.Text(), nullable=False),
        sa.Column("programme_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("submitted_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_activity_log")),
        sa.UniqueConstraint(
            "offering_id", "week_key", name=op.f("uq_activity_log_offering_id_week_key")
        ),
    )
    op.create_index(
        op.f("ix_activity_log_facilitator_id_id"),
        "activity_log",
        ["facilitator_id", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_activity_log_programme_id_id"),
        "activity_log",
        ["programme_id", "id"],
        unique=False,
    )
    op.create_table(
        "log_obligation",
        sa.Column("offering_id", sa.Text(), nullable=False),
        sa.Column("week_key", sa.Text(), nullable=False),
        sa.Column("facilitator_id", sa.Text(), nullable=False),
        sa.Column("programme_id", sa.Text(), nullable=False),
        sa.Column("opens_at", sa.BigInteger(), nullable=False),
        sa.Column("deadline_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("exempt_reason", sa.Text(), nullable=True),
        sa.Column("log_id", sa.Text(), nullable=True),
        sa.Column("satisfied_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("offering_id", "week_key", name=op.f("pk_log_obligation")),
    )
    op.create_index(
        op.f("ix_log_obligation_programme_id_week_key"),
        "log_obligation",
        ["programme_id", "week_key"],
        unique=False,
    )
    op.create_table(
        "exemption",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("programme_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("offering_id", sa.Text(), nullable=True),
        sa.Column("starts_on", sa.Text(), nullable=False),
        sa.Column("ends_on", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exemption")),
    )
    op.create_index(op.f("ix_exemption_programme_id"), "exemption", ["programme_id"], unique=False)
    op.create_table(
        "compliance_warning",
        sa.Column("programme_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("week_key", sa.Text(), nullable=False),
        sa.Column("missed", sa.Text(), nullable=False),
        sa.Column("warned_at", sa.BigInteger(), nullable=False),
        sa.Column("resolved_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("programme_id", "user_id", name=op.f("pk_compliance_warning")),
    )
    op.create_table(
        "activity_run",
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("slot_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("late", sa.Integer(), nullable=False),
        sa.Column("sent", sa.Integer(), nullable=False),
        sa.Column("repeated", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("schedule", "slot", name=op.f("pk_activity_run")),
    )


def downgrade() -> None:
    """Drop the tables of this package."""
    op.drop_table("activity_run")
    op.drop_table("compliance_warning")
    op.drop_table("exemption")
    op.drop_table("log_obligation")
    op.drop_table("activity_log")
    op.drop_table("offering")
    op.drop_table("programme")
