"""All SQL of achievement rules and awards. Instants are microseconds UTC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, UniqueConstraint, select

from homeroom.achievements.rule import Condition
from homeroom.achievements.rule_document import read_condition
from homeroom.db.personal_data import rows_owned_by
from homeroom.db.tables import metadata
from homeroom.db.tx import Tx
from homeroom.jobs import api as jobs

ACHIEVEMENT_RULE = Table(
    "achievement_rule",
    metadata,
    Column("id", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("condition", Text, nullable=False),
    Column("credential", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("archived_at", BigInteger),
)
ACHIEVEMENT_AWARD = Table(
    "achievement_award",
    metadata,
    Column("id", Text, primary_key=True),
    Column("rule_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("completion_id", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("criteria", Text, nullable=False),
    Column("credential", Integer, nullable=False),
    Column("rule_version", Integer, nullable=False),
    Column("achieved_at", BigInteger, nullable=False),
    Column("awarded_at", BigInteger, nullable=False),
    UniqueConstraint("user_id", "rule_id"),
    Index(None, "rule_id", "user_id"),
)
_IDS_PER_STATEMENT = 500


@dataclass(frozen=True, slots=True)
class AchievementRule:
    """A rule as it is stored."""

    id: str
    title: str
    description: str
    condition: str
    """Its document in JSON; see ``rule_document``."""
    credential: bool
    version: int
    created_at: int
    updated_at: int
    archived_at: int | None = None
    """An archived rule awards nothing; what it has awarded stays."""

    @property
    def asks(self) -> Condition:
        """Return what the rule asks for."""
        return read_condition(self.condition).to_condition()


@dataclass(frozen=True, slots=True)
class Award:
    """An achievement of a learner, with the words that the rule had then."""

    id: str
    rule_id: str
    user_id: str
    completion_id: str
    """The completion with which the rule was fulfilled."""
    title: str
    description: str
    criteria: str
    credential: bool
    """Whether it is a credential too."""
    rule_version: int
    achieved_at: int
    """The date of that completion."""
    awarded_at: int


async def has_rules(tx: Tx) -> bool:
    """Return whether any rule awards something."""
    row = await tx.fetch_one("SELECT 1 FROM achievement_rule WHERE archived_at IS NULL LIMIT 1")
    return row is not None


async def list_rules(tx: Tx) -> list[AchievementRule]:
    """Return the rules that are not archived, by id."""
    return await tx.fetch_into(
        AchievementRule, "SELECT * FROM achievement_rule WHERE archived_at IS NULL ORDER BY id"
    )


async def get_rule(tx: Tx, id: str) -> AchievementRule | None:
    """Return a rule, also an archived one."""
    return await tx.fetch_one_into(
        AchievementRule, "SELECT * FROM achievement_rule WHERE id = ?", (id,)
    )


async def put_rule(tx: Tx, rule: AchievementRule) -> None:
    """Insert a rule, or replace the one of its id."""
    await tx.insert(ACHIEVEMENT_RULE, [rule], on_conflict="update", keep=("created_at",))


async def archive_rule(tx: Tx, id: str) -> bool:
    """Archive a rule; return whether it was not archived before."""
    changed = await tx.execute(
        "UPDATE achievement_rule SET archived_at = ?, updated_at = ?"
        " WHERE id = ? AND archived_at IS NULL",
        (tx.now, tx.now, id),
    )
    return changed == 1


async def add_awards(tx: Tx, awards: Sequence[Award]) -> list[Award]:
    """Insert awards; return those that are new.

    The unique key (learner, rule) decides: two jobs that find the same learner insert one.
    """
    if await tx.insert(ACHIEVEMENT_AWARD, awards, on_conflict="ignore") == len(awards):
        return list(awards)
    added: set[str] = set()
    ids = [award.id for award in awards]
    for start in range(0, len(ids), _IDS_PER_STATEMENT):
        column = ACHIEVEMENT_AWARD.c.id
        part = ids[start : start + _IDS_PER_STATEMENT]
        added.update(id for (id,) in await tx.fetch(select(column).where(column.in_(part))))
    return [award for award in awards if award.id in added]


async def get_award(tx: Tx, id: str) -> Award | None:
    """Return an award."""
    return await tx.fetch_one_into(Award, "SELECT * FROM achievement_award WHERE id = ?", (id,))


async def list_awards(tx: Tx, user_id: str) -> list[Award]:
    """Return a learner's awards, newest first."""
    return await tx.fetch_into(
        Award,
        "SELECT * FROM achievement_award WHERE user_id = ? ORDER BY achieved_at DESC, id DESC",
        (user_id,),
    )


async def list_holders(tx: Tx, rule_id: str, after: str | None, count: int) -> list[Award]:
    """Return the awards of a rule by the learner's id, after such an id."""
    return await tx.fetch_into(
        Award,
        "SELECT * FROM achievement_award WHERE rule_id = ? AND user_id > ?"
        " ORDER BY user_id LIMIT ?",
        (rule_id, after or "", count),
    )


async def list_holder_ids(tx: Tx, rule_id: str, user_ids: Sequence[str]) -> set[str]:
    """Return those of some learners who have the award of a rule."""
    row = ACHIEVEMENT_AWARD.c
    found: set[str] = set()
    for start in range(0, len(user_ids), _IDS_PER_STATEMENT):
        part = user_ids[start : start + _IDS_PER_STATEMENT]
        statement = select(row.user_id).where(row.rule_id == rule_id, row.user_id.in_(part))
        found.update(id for (id,) in await tx.fetch(statement))
    return found


PERSONAL = (
    *jobs.job_rows_by_cause(
        lambda user_id: select(ACHIEVEMENT_AWARD.c.id).where(ACHIEVEMENT_AWARD.c.user_id == user_id)
    ),
    rows_owned_by(ACHIEVEMENT_AWARD.c.user_id),
)
