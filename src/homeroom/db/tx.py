"""One transaction, the same for SQLite and PostgreSQL: ``execute``, ``executemany``, ``fetch``.

Every store takes a ``Tx``, so that one commit can span rooms. A statement is either SQL text with
``?`` placeholders that both databases understand, or a SQLAlchemy Core construct. Rows are tuples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy.sql import ClauseElement

Statement = str | ClauseElement
Row = tuple[Any, ...]
Found = TypeVar("Found")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Question(Generic[Answer]):
    """A SELECT for many keys as ``Tx.fetch_as`` runs it, and how its rows are understood.

    Rooms hand out questions so that those of several rooms can be asked together.
    """

    of: type[Any]
    sql: str
    keys: Sequence[Sequence[Any]]
    read: Callable[[list[Any]], Answer]


class Tx(ABC):
    """A transaction that is open: all it did is committed together, or not at all."""

    dialect: Literal["sqlite", "postgresql"]

    def __init__(self, now: int) -> None:
        """Start with the instant (microseconds UTC) that all rows of this commit carry."""
        self.now = now
        self.topics: list[tuple[str, str]] = []
        self.on_only_writes: Callable[[], None] | None = None
        """Who waits for ``only_writes_follow``."""
        self._after_commit: list[Callable[[], None]] = []

    @abstractmethod
    async def execute(self, statement: Statement, values: Sequence[Any] = ()) -> int:
        """Run a statement and return how many rows it changed."""

    @abstractmethod
    async def executemany(
        self, sql: str, rows: Sequence[Sequence[Any]], *, nul_free: bool = False
    ) -> int:
        """Run a statement for every row of values and return how many rows changed.

        An ``INSERT ... VALUES (?, ...)`` may be sent with many rows at a time, so no two rows of
        one call may name the same key in an ``ON CONFLICT DO UPDATE``. ``nul_free`` says that no
        text in them holds a NUL character, which PostgreSQL cannot store: else it is looked for.
        """

    @abstractmethod
    async def fetch_as(
        self, of: type[Found], sql: str, keys: Sequence[Sequence[Any]]
    ) -> list[Found]:
        """Run a SELECT for any number of keys at once; ``{keys}`` in it stands for their rows.

        The key columns are ``column1``, ``column2``, ...: ``FROM {keys} AS k CROSS JOIN t WHERE
        t.a = k.column1``, where CROSS JOIN makes SQLite walk the keys. The statement must name
        every key column and give every column a name of its own. What it selects is text, integers
        and nulls; columns named ``..._json`` come last, hold JSON text, and arrive decoded. ``of``
        is a tuple, or a msgspec type that is written as an array.
        """

    async def fetch_keyed(self, sql: str, keys: Sequence[Sequence[Any]]) -> list[Row]:
        """Run a SELECT as ``fetch_as`` does, and return tuples."""
        return await self.fetch_as(Row, sql, keys)

    async def ask(self, question: Question[Answer]) -> Answer:
        """Return the answer to one question."""
        return question.read(await self.fetch_as(question.of, question.sql, question.keys))

    async def ask_all(self, *questions: Question[Any]) -> list[Any]:
        """Return the answers to several questions, in one trip to a server, from one snapshot."""
        return [await self.ask(question) for question in questions]

    async def lock(self, kind: str, ids: Collection[str] | None = None) -> None:
        """Hold a lock until the end of this transaction; wait for others that hold it.

        For what is read and then written, where no row to lock may be there yet. Without ``ids``
        everything of that kind is locked. SQLite has one writer: nothing is to be done there.
        """
        return

    @property
    def row_lock(self) -> str:
        """Return what ends a SELECT whose rows nobody else may change before this transaction."""
        return " FOR UPDATE" if self.dialect == "postgresql" else ""

    @abstractmethod
    async def fetch(self, statement: Statement, values: Sequence[Any] = ()) -> list[Row]:
        """Run a statement and return all its rows."""

    async def fetch_one(self, statement: Statement, values: Sequence[Any] = ()) -> Row | None:
        """Return the first row of a statement, or None."""
        rows = await self.fetch(statement, values)
        return rows[0] if rows else None

    def notify(self, topic: str, id: str) -> None:
        """Tell the database's subscribers, after the commit, that ``id`` of ``topic`` changed.

        It is a hint and may be lost; nothing that must happen may depend on it.
        """
        self.topics.append((topic, id))

    def only_writes_follow(self) -> None:
        """Say that this transaction reads nothing more, so that its writer may begin another one.

        A hint, for databases on which several may be under way.
        """
        if self.on_only_writes is not None:
            self.on_only_writes()

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call something once this is committed; it is forgotten if the transaction fails."""
        self._after_commit.append(call)

    def committed(self) -> Iterable[Callable[[], None]]:
        """Return what waits for the commit (for the database that runs this transaction)."""
        return self._after_commit
