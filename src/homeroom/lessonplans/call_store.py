"""All SQL of calls to language models: one row an HTTP attempt, limits and budgets read from them.

A row is written before anything is sent and completed afterwards, so that a crash leaves a call
that may have cost something, never one that nobody knows of. Money is in micro-units, instants are
microseconds UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, select

from homeroom.clock import SECOND
from homeroom.db.schema import metadata
from homeroom.db.tx import Tx
from homeroom.lessonplans.model.config import Limits

WINDOW = 60 * SECOND
"""Limits are by the minute, and the minute slides."""

CallOutcome = Literal["open", "answered", "refused", "unreachable", "lost", "timeout", "cancelled"]
"""``open``: sent, or about to be, and nothing was heard since."""

CALL = Table(
    "llm_call",
    metadata,
    Column("id", Text, primary_key=True),
    Column("plan_id", Text, nullable=False),
    Column("lesson_id", Text, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("outcome", Text, nullable=False),
    Column("http_status", Integer),
    Column("retry_after_ms", BigInteger),
    Column("reserved_tokens", Integer, nullable=False),
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("reserved_cost", BigInteger),  # the most that it can cost; null: no price is known
    Column("cost", BigInteger),  # null: unknown, and the most is what counts
    Column("currency", Text, nullable=False),
    Column("price_source", Text),
    Column("request_id", Text),
    Index(None, "endpoint", "started_at"),
    Index(None, "plan_id", "id"),
)
ENDPOINT = Table(
    "llm_endpoint",
    metadata,
    Column("endpoint", Text, primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("hold_until", BigInteger, nullable=False),  # its provider asked for silence until then
)


@dataclass(frozen=True, slots=True)
class CallRow:
    """One HTTP attempt."""

    id: str
    plan_id: str
    lesson_id: str
    job_id: str
    endpoint: str
    model: str
    started_at: int
    finished_at: int | None
    outcome: CallOutcome
    http_status: int | None
    retry_after_ms: int | None
    reserved_tokens: int
    input_tokens: int | None
    output_tokens: int | None
    reserved_cost: int | None
    cost: int | None
    currency: str
    price_source: str | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call that asks to be let through."""

    id: str
    plan_id: str
    lesson_id: str
    job_id: str
    endpoint: str
    model: str
    reserved_tokens: int
    reserved_cost: int | None
    currency: str
    price_source: str | None


@dataclass(frozen=True, slots=True)
class Spent:
    """What the calls of a plan have used. ``cost`` is None where no price is known."""

    requests: int
    input_tokens: int
    output_tokens: int
    cost: int | None
    cost_complete: bool
    """False: of some call nobody knows what it cost."""
    currency: str | None


async def admit(tx: Tx, wanted: Wanted, limits: Limits) -> int | Literal["budget"]:
    """Let a call through and write its row: 0; or say how long to wait, or that money is short.

    The endpoint's row is written first, so that of several workers one at a time decides.
    """
    await tx.execute(
        "INSERT INTO llm_endpoint (endpoint, calls, hold_until) VALUES (?, 0, 0)"
        " ON CONFLICT (endpoint) DO UPDATE SET calls = llm_endpoint.calls + 1",
        (wanted.endpoint,),
    )
    wait = await _wait(tx, wanted, limits)
    if wait > 0:
        return wait
    if limits.budget is not None:
        used = await _used(tx, wanted.plan_id)
        if wanted.reserved_cost is None or used + wanted.reserved_cost > limits.budget:
            return "budget"
    await tx.execute(
        "INSERT INTO llm_call (id, plan_id, lesson_id, job_id, endpoint, model, started_at,"
        " outcome, reserved_tokens, reserved_cost, currency, price_source)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            wanted.id,
            wanted.plan_id,
            wanted.lesson_id,
            wanted.job_id,
            wanted.endpoint,
            wanted.model,
            tx.now,
            "open",
            wanted.reserved_tokens,
            wanted.reserved_cost,
            wanted.currency,
            wanted.price_source,
        ),
    )
    return 0


async def _wait(tx: Tx, wanted: Wanted, limits: Limits) -> int:
    """Return for how many microseconds the endpoint may not be called."""
    row = await tx.fetch_one(
        "SELECT hold_until FROM llm_endpoint WHERE endpoint = ?", (wanted.endpoint,)
    )
    held = max(0, (0 if row is None else row[0]) - tx.now)
    if held or (limits.requests_per_minute is None and limits.tokens_per_minute is None):
        return int(held)
    recent = await tx.fetch(
        "SELECT started_at, CASE WHEN input_tokens IS NULL OR output_tokens IS NULL"
        " THEN reserved_tokens ELSE input_tokens + output_tokens END FROM llm_call"
        " WHERE endpoint = ? AND started_at > ? ORDER BY started_at",
        (wanted.endpoint, tx.now - WINDOW),
    )
    requests = len(recent)
    tokens = sum(row[1] for row in recent)
    for started_at, its_tokens in recent:  # the oldest leave the window first
        too_many = (
            limits.requests_per_minute is not None and requests >= limits.requests_per_minute
        ) or (
            limits.tokens_per_minute is not None
            and tokens + wanted.reserved_tokens > limits.tokens_per_minute
        )
        if not too_many:
            break
        held = started_at + WINDOW - tx.now
        requests -= 1
        tokens -= its_tokens
    return int(held)


async def _used(tx: Tx, plan_id: str) -> int:
    row = await tx.fetch_one(
        "SELECT COALESCE(SUM(COALESCE(cost, reserved_cost, 0)), 0) FROM llm_call WHERE plan_id = ?",
        (plan_id,),
    )
    return 0 if row is None else int(row[0])


async def finish(
    tx: Tx,
    id: str,
    outcome: CallOutcome,
    *,
    http_status: int | None = None,
    retry_after_ms: int | None = None,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    cost: int | None = None,
    request_id: str | None = None,
) -> None:
    """Complete a call's row."""
    await tx.execute(
        "UPDATE llm_call SET finished_at = ?, outcome = ?, http_status = ?, retry_after_ms = ?,"
        " input_tokens = ?, output_tokens = ?, cost = ?, request_id = ? WHERE id = ?",
        (
            tx.now,
            outcome,
            http_status,
            retry_after_ms,
            input_tokens,
            output_tokens,
            cost,
            request_id,
            id,
        ),
    )


async def hold(tx: Tx, endpoint: str, until: int) -> None:
    """Let nobody call an endpoint before an instant."""
    await tx.execute(
        "UPDATE llm_endpoint SET hold_until = ? WHERE endpoint = ? AND hold_until < ?",
        (until, endpoint, until),
    )


async def spent(tx: Tx, plan_id: str) -> Spent:
    """Return what the calls of a plan have used."""
    row = await tx.fetch_one(
        "SELECT COUNT(*), COALESCE(SUM(input_tokens), 0), COALESCE(SUM(output_tokens), 0),"
        " SUM(cost), COALESCE(SUM(CASE WHEN cost IS NULL THEN 1 ELSE 0 END), 0), MAX(currency)"
        " FROM llm_call WHERE plan_id = ?",
        (plan_id,),
    )
    if row is None or row[0] == 0:
        return Spent(0, 0, 0, 0, cost_complete=True, currency=None)
    priced = row[4] < row[0]
    cost = int(row[3]) if priced else None
    return Spent(int(row[0]), int(row[1]), int(row[2]), cost, row[4] == 0, row[5])


async def calls(tx: Tx, plan_id: str, after: str, count: int) -> list[CallRow]:
    """Return the calls of a plan by id, which is by time, after such an id."""
    rows = await tx.fetch(
        select(CALL)
        .where(CALL.c.plan_id == plan_id, CALL.c.id > after)
        .order_by(CALL.c.id)
        .limit(count)
    )
    return [CallRow(*row) for row in rows]
