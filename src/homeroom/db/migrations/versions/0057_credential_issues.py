"""Numbered issues of a credential: a revoked one may be issued anew."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0057_credential_issues"
down_revision: str | None = "0056_message_recipients"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None
_ONE, _MANY = "uq_credential_completion_id_issuer", "uq_credential_completion_id_issuer_issue"


def upgrade() -> None:
    """Add the number of an issue, as a part of the unique key."""
    with op.batch_alter_table("credential") as table:
        table.add_column(sa.Column("issue", sa.Integer(), nullable=False, server_default="1"))
        table.drop_constraint(op.f(_ONE), type_="unique")
        table.create_unique_constraint(op.f(_MANY), ["completion_id", "issuer", "issue"])


def downgrade() -> None:
    """Keep the latest issue alone: the previous release has one for each completion."""
    op.execute(
        "DELETE FROM credential WHERE issue < (SELECT max(other.issue) FROM credential AS other"
        " WHERE other.completion_id = credential.completion_id"
        " AND other.issuer = credential.issuer)"
    )
    with op.batch_alter_table("credential") as table:
        table.drop_constraint(op.f(_MANY), type_="unique")
        table.create_unique_constraint(op.f(_ONE), ["completion_id", "issuer"])
        table.drop_column("issue")
