"""SQL of language model calls: one row per HTTP attempt, limits and spending.

A row is committed before its request is sent and completed afterwards. A crash therefore leaves a
row without a result, which counts at its highest cost, and never an unrecorded call. Money is in
micro-units, instants are microseconds UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, select

from homeroom.db.tables import metadata
from homeroom.db.tx import Tx
from homeroom.instant import SECOND
from homeroom.lessonplans.model.config import ModelLimits

RATE_WINDOW = 60 * SECOND
"""Length of the sliding window of the limits per minute."""

ModelCallOutcome = Literal[
    "open", "answered", "refused", "unreachable", "lost", "timeout", "cancelled"
]
"""Outcome of a call; ``open``: sent or about to be sent, without a result so far."""

LLM_CALL = Table(
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
    Column("reserved_cost", BigInteger),  # the highest possible cost; null: no price is known
    Column("cost", BigInteger),  # null: unknown, reserved_cost counts
    Column("currency", Text, nullable=False),
    Column("price_source", Text),
    Column("request_id", Text),
    Index(None, "endpoint", "started_at"),
    Index(None, "plan_id", "id"),
)
LLM_ENDPOINT = Table(
    "llm_endpoint",
    metadata,
    Column("endpoint", Text, primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("hold_until", BigInteger, nullable=False),  # no call before this instant
)


@dataclass(frozen=True, slots=True)
class ModelCallRow:
    """One HTTP attempt."""

    id: str
    plan_id: str
    lesson_id: str
    job_id: str
    endpoint: str
    model: str
    started_at: int
    finished_at: int | None
    outcome: ModelCallOutcome
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
class ModelCallRequest:
    """A call to admit, with its highest possible use."""

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
class ModelSpending:
    """The use of a plan's calls; ``cost`` is None if no price is known."""

    requests: int
    input_tokens: int
    output_tokens: int
    cost: int | None
    cost_complete: bool
    """False if the cost of any call is unknown."""
    currency: str | None


@dataclass(frozen=True, slots=True)
class _CallTotals:
    requests: int
    input_tokens: int
    output_tokens: int
    cost: int | None
    unpriced: int
    currency: str | None


async def admit_call(
    tx: Tx, request: ModelCallRequest, limits: ModelLimits
) -> int | Literal["budget"]:
    """Admit a call and insert its row.

    Returns 0 if admitted, otherwise the microseconds to wait, or ``budget`` if the plan's budget
    does not cover the call. The endpoint's row is written first: it serializes the workers.
    """
    await tx.execute(
        "INSERT INTO llm_endpoint (endpoint, calls, hold_until) VALUES (?, 0, 0)"
        " ON CONFLICT (endpoint) DO UPDATE SET calls = llm_endpoint.calls + 1",
        (request.endpoint,),
    )
    wait = await _throttle_microseconds(tx, request, limits)
    if wait > 0:
        return wait
    if limits.budget is not None:
        committed = await _committed_cost(tx, request.plan_id)
        if request.reserved_cost is None or committed + request.reserved_cost > limits.budget:
            return "budget"
    await tx.insert(LLM_CALL, [request], started_at=tx.now, outcome="open")
    return 0


async def _throttle_microseconds(tx: Tx, request: ModelCallRequest, limits: ModelLimits) -> int:
    """Return the microseconds until the endpoint may be called."""
    [(hold_until,)] = await tx.fetch(
        "SELECT hold_until FROM llm_endpoint WHERE endpoint = ?", (request.endpoint,)
    )
    wait = max(0, hold_until - tx.now)
    if wait or (limits.requests_per_minute is None and limits.tokens_per_minute is None):
        return int(wait)
    recent = await tx.fetch(
        "SELECT started_at, CASE WHEN input_tokens IS NULL OR output_tokens IS NULL"
        " THEN reserved_tokens ELSE input_tokens + output_tokens END FROM llm_call"
        " WHERE endpoint = ? AND started_at > ? ORDER BY started_at",
        (request.endpoint, tx.now - RATE_WINDOW),
    )
    requests = len(recent)
    tokens = sum(used for _, used in recent)
    for started_at, used in recent:  # the oldest call leaves the window first
        too_many = (
            limits.requests_per_minute is not None and requests >= limits.requests_per_minute
        ) or (
            limits.tokens_per_minute is not None
            and tokens + request.reserved_tokens > limits.tokens_per_minute
        )
        if not too_many:
            break
        wait = started_at + RATE_WINDOW - tx.now
        requests -= 1
        tokens -= used
    return int(wait)


async def _committed_cost(tx: Tx, plan_id: str) -> int:
    [(cost,)] = await tx.fetch(
        "SELECT COALESCE(SUM(COALESCE(cost, reserved_cost, 0)), 0) FROM llm_call WHERE plan_id = ?",
        (plan_id,),
    )
    return int(cost)


async def finish_call(
    tx: Tx,
    id: str,
    outcome: ModelCallOutcome,
    *,
    http_status: int | None = None,
    retry_after_ms: int | None = None,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    cost: int | None = None,
    request_id: str | None = None,
) -> None:
    """Complete a call's row."""
    rows = await tx.fetch(
        "UPDATE llm_call SET finished_at = ?, outcome = ?, http_status = ?, retry_after_ms = ?,"
        " input_tokens = ?, output_tokens = ?, cost = ?, request_id = ? WHERE id = ?"
        " RETURNING currency",
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
    if cost is not None:
        for (currency,) in rows:
            tx.count("plan_cost", currency, amount=cost / 1_000_000)


async def hold_endpoint(tx: Tx, endpoint: str, until: int) -> None:
    """Block all calls to an endpoint until an instant."""
    await tx.execute(
        "UPDATE llm_endpoint SET hold_until = ? WHERE endpoint = ? AND hold_until < ?",
        (until, endpoint, until),
    )


async def sum_spending(tx: Tx, plan_id: str) -> ModelSpending:
    """Return the use of a plan's calls."""
    totals = await tx.fetch_one_into(
        _CallTotals,
        "SELECT COUNT(*) AS requests,"
        " CAST(COALESCE(SUM(input_tokens), 0) AS BIGINT) AS input_tokens,"
        " CAST(COALESCE(SUM(output_tokens), 0) AS BIGINT) AS output_tokens,"
        " CAST(SUM(cost) AS BIGINT) AS cost,"
        " CAST(COALESCE(SUM(CASE WHEN cost IS NULL THEN 1 ELSE 0 END), 0) AS BIGINT) AS unpriced,"
        " MAX(currency) AS currency FROM llm_call WHERE plan_id = ?",
        (plan_id,),
    )
    if totals is None or totals.requests == 0:
        return ModelSpending(0, 0, 0, 0, cost_complete=True, currency=None)
    return ModelSpending(
        requests=totals.requests,
        input_tokens=totals.input_tokens,
        output_tokens=totals.output_tokens,
        cost=totals.cost,
        cost_complete=totals.unpriced == 0,
        currency=totals.currency,
    )


async def list_calls(tx: Tx, plan_id: str, after: str, count: int) -> list[ModelCallRow]:
    """Return the calls of a plan by id, and so by time, after an id."""
    return await tx.fetch_into(
        ModelCallRow,
        select(LLM_CALL)
        .where(LLM_CALL.c.plan_id == plan_id, LLM_CALL.c.id > after)
        .order_by(LLM_CALL.c.id)
        .limit(count),
    )
