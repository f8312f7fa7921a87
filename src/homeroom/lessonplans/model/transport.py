"""Send what the SDKs send, with a row in the ledger for every single HTTP attempt.

This sits below the SDKs, so that nothing they do by themselves goes unseen: limits and budget are
asked before each attempt, and each is written down before it is sent.
"""

from __future__ import annotations

import asyncio
import math
import re
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta

import httpx2

from homeroom.clock import SECOND
from homeroom.db.database import Database
from homeroom.db.id import new_id
from homeroom.lessonplans import call_store
from homeroom.lessonplans.call_store import CallOutcome, Wanted
from homeroom.lessonplans.generator import GeneratorError, NotYet, Task
from homeroom.lessonplans.model.config import ModelConfig
from homeroom.lessonplans.model.price import Prices
from homeroom.lessonplans.model.usage import MICRO, Usage, usage_of
from homeroom.lessonplans.store import TOPIC

MAX_ANSWER_BYTES = 4 * 1024 * 1024
MAX_RETRY_AFTER_SECONDS = 3_600
_WAITED_HERE_SECONDS = 2.0
"""A wait this short is sat out; for a longer one the job is let go."""
_WAITED_FOR_MENDING_SECONDS = 90.0
"""The same where an answer is to be mended: to let go would throw away what was paid for."""
_LOOK_SECONDS = 1.0
_OVERHEAD_TOKENS = 64
"""What a provider may add to the request's bytes: roles, separators."""
_REQUEST_IDS = ("x-request-id", "request-id", "x-goog-request-id")


@dataclass(slots=True)
class Call:
    """For whom the SDK is calling, and why an attempt was not let through."""

    task: Task
    max_tokens: int
    mends: bool = False
    """An earlier answer hangs on this one."""
    refusal: GeneratorError | None = None


current_call: ContextVar[Call] = ContextVar("homeroom.llm_call")


class LedgerTransport(httpx2.AsyncBaseTransport):
    """Ask, write down, send, write down."""

    def __init__(
        self,
        db: Database,
        config: ModelConfig,
        prices: Prices,
        inner: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Take the terms; ``inner`` is what really sends."""
        self._db, self._config, self._prices = db, config, prices
        self._inner = inner or httpx2.AsyncHTTPTransport(retries=0)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one attempt; raises an ``httpx2.TransportError`` where none is answered."""
        call = current_call.get()
        body = await request.aread()
        try:
            id = await self._admit(call, len(body))
        except GeneratorError as error:
            call.refusal = error
            raise httpx2.ConnectError("not sent", request=request) from error
        request.headers["accept-encoding"] = "identity"
        try:
            async with asyncio.timeout(self._config.timeout.total_seconds()):
                response = await self._inner.handle_async_request(request)
                content = await self._read(response)
        except asyncio.CancelledError:
            # what was sent may cost something; the row must say so though this task ends
            await asyncio.shield(self._finish(call, id, "cancelled"))
            raise
        except (TimeoutError, httpx2.TimeoutException) as error:
            connecting = isinstance(error, httpx2.ConnectTimeout)
            await self._finish(call, id, "unreachable" if connecting else "timeout")
            raise httpx2.ReadTimeout("no answer in time", request=request) from error
        except (httpx2.ConnectError, AttributeError) as error:  # the latter: see `outgoing`
            await self._finish(call, id, "unreachable")
            raise httpx2.ConnectError(str(error), request=request) from error
        except httpx2.TransportError:
            await self._finish(call, id, "lost")
            raise
        await self._answered(call, id, response, content)
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=httpx2.ByteStream(content),
            extensions=response.extensions,
            request=request,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    async def _admit(self, call: Call, size: int) -> str:
        """Write the row of a call that may be made; raise ``GeneratorError`` for another."""
        config = self._config
        # a token is one byte at least, so this is the most that the request can hold
        worst = Usage(size + _OVERHEAD_TOKENS, call.max_tokens)
        reserved_tokens = size // 3 + call.max_tokens
        limit = config.limits.tokens_per_minute
        if limit is not None and reserved_tokens > limit:
            raise GeneratorError(
                f"One lesson may need {reserved_tokens} tokens, more than the {limit} of a minute.",
                again=False,
                hint="Raise HOMEROOM_LLM_TOKENS_PER_MINUTE or lower HOMEROOM_LLM_MAX_TOKENS.",
            )
        if config.limits.budget is not None and self._prices.source is None:
            raise GeneratorError(
                "There is a budget, but nobody knows what this model costs.",
                again=False,
                hint="Set HOMEROOM_LLM_PRICE_INPUT and HOMEROOM_LLM_PRICE_OUTPUT.",
            )
        wanted = Wanted(
            id=new_id(),
            plan_id=call.task.plan_id,
            lesson_id=call.task.slot.id,
            job_id=call.task.job_id,
            endpoint=config.endpoint,
            model=config.model,
            reserved_tokens=reserved_tokens,
            reserved_cost=self._prices.cost(worst),
            currency=config.currency,
            price_source=self._prices.source,
        )
        patience = _WAITED_FOR_MENDING_SECONDS if call.mends else _WAITED_HERE_SECONDS
        while True:
            async with self._db.write() as tx:
                found = await call_store.admit(tx, wanted, config.limits)
            if found == 0:
                return wanted.id
            if found == "budget":
                raise self._over_budget(wanted)
            seconds = found / SECOND
            if seconds > patience:
                raise _pause(seconds, call)
            await asyncio.sleep(min(seconds, _LOOK_SECONDS))

    def _over_budget(self, wanted: Wanted) -> GeneratorError:
        budget, most = self._config.limits.budget or 0, wanted.reserved_cost or 0
        return GeneratorError(
            f"The next call may cost {_money(most)} {wanted.currency}, which the plan's budget of"
            f" {_money(budget)} {wanted.currency} does not hold any more.",
            again=False,
            hint="What is written stays. Raise HOMEROOM_LLM_BUDGET, then retry the plan.",
        )

    async def _read(self, response: httpx2.Response) -> bytes:
        content = bytearray()
        try:
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    raise httpx2.ReadError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        finally:
            await response.aclose()
        return bytes(content)

    async def _answered(
        self, call: Call, id: str, response: httpx2.Response, content: bytes
    ) -> None:
        """Complete the row of a call that was answered, whatever with."""
        status, headers = response.status_code, response.headers
        usage: Usage | None
        cost: int | None
        if status >= httpx2.codes.BAD_REQUEST:
            usage, cost = Usage(0, 0), 0
        else:
            usage = usage_of(self._config.kind, content)
            cost = None if usage is None else self._prices.cost(usage)
        pause = _retry_after(headers.get("retry-after"))
        request_id = next((headers[name] for name in _REQUEST_IDS if name in headers), None)
        async with self._db.write() as tx:
            await call_store.finish(
                tx,
                id,
                "refused" if status >= httpx2.codes.BAD_REQUEST else "answered",
                http_status=status,
                retry_after_ms=None if pause is None else round(pause * 1_000),
                input_tokens=None if usage is None else usage.input_tokens,
                output_tokens=None if usage is None else usage.output_tokens,
                cost=cost,
                request_id=None if request_id is None else request_id[:128],
            )
            if pause is not None and status in {429, 503, 529}:
                until = tx.now + round(pause * SECOND)
                await call_store.hold(tx, self._config.endpoint, until)
            tx.notify(TOPIC, call.task.plan_id)

    async def _finish(self, call: Call, id: str, outcome: CallOutcome) -> None:
        """Complete the row of a call without an answer; one that reached nobody cost nothing."""
        unsent = outcome == "unreachable"
        async with self._db.write() as tx:
            await call_store.finish(
                tx,
                id,
                outcome,
                input_tokens=0 if unsent else None,
                output_tokens=0 if unsent else None,
                cost=0 if unsent else None,
            )
            tx.notify(TOPIC, call.task.plan_id)


def _pause(seconds: float, call: Call) -> GeneratorError:
    """Return the wait; one that throws an answer away spends an attempt, so that it ends some time.

    Otherwise a model that needs mending and an endpoint that is always busy would go on for ever.
    """
    after = timedelta(seconds=math.ceil(seconds))
    message = "the limits of the model's provider ask for a pause"
    if call.mends:
        return GeneratorError(message, again=True, after=after)
    return NotYet(message, after)


def _money(micro: int) -> str:
    return f"{micro / MICRO:.4f}".rstrip("0").rstrip(".")


def _retry_after(value: str | None) -> float | None:
    """Read seconds; a date is left to the SDK, whose error says the same."""
    if value is None or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", value.strip()):
        return None
    return min(float(value), MAX_RETRY_AFTER_SECONDS)
