"""HTTP transport below the provider SDKs that meters every attempt.

Each attempt is admitted against limits and budget and recorded in ``llm_call`` before it is sent,
including attempts that an SDK makes by itself.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta

import httpx2

from homeroom.db.database import Database
from homeroom.db.ids import new_id
from homeroom.instant import SECOND
from homeroom.lessonplans.generator import GeneratorError, LessonTask, ProviderThrottled
from homeroom.lessonplans.model import call_store
from homeroom.lessonplans.model.call_store import ModelCallOutcome, ModelCallRequest
from homeroom.lessonplans.model.config import ModelConfig, ModelKind
from homeroom.lessonplans.model.cost import MICRO_UNITS, ModelPrices, TokenUsage, parse_token_usage
from homeroom.lessonplans.store import TOPIC
from homeroom.tracing import AttributeValue, Span, current_trace

MAX_RESPONSE_BYTES = 4 * 1024 * 1024
MAX_RETRY_AFTER_SECONDS = 3_600
_MAX_INLINE_WAIT_SECONDS = 2.0
"""Longest delay that the transport waits for; for a longer delay the job is snoozed."""
_MAX_REPAIR_WAIT_SECONDS = 90.0
"""The same for a repair call: to end the job would discard a response that was paid for."""
_ADMISSION_POLL_SECONDS = 1.0
_OVERHEAD_TOKENS = 64
"""Tokens that a provider may add to the request: roles, separators."""
_PROVIDERS: Mapping[ModelKind, str] = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google": "gcp.gemini",
}
"""The names of OpenTelemetry; compatible servers count as OpenAI."""
_REQUEST_IDS = ("x-request-id", "request-id", "x-goog-request-id")


@dataclass(slots=True)
class ModelCall:
    """The context of an SDK call; ``refusal`` is set if it was not admitted."""

    task: LessonTask
    max_tokens: int
    is_repair: bool = False
    """True if this call repairs the response of an earlier call."""
    refusal: GeneratorError | None = None


current_model_call: ContextVar[ModelCall] = ContextVar("homeroom.llm_call")


class MeteredTransport(httpx2.AsyncBaseTransport):
    """Admits, records and sends each attempt, and records its result."""

    def __init__(
        self,
        db: Database,
        config: ModelConfig,
        prices: ModelPrices,
        inner: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Use a model's limits and prices; ``inner`` sends the requests."""
        self._db, self._config, self._prices = db, config, prices
        self._inner = inner or httpx2.AsyncHTTPTransport(retries=0)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one attempt. Raises ``httpx2.TransportError`` if it gets no response."""
        call = current_model_call.get()
        body = await request.aread()
        try:
            id = await self._admit(call, len(body))
        except GeneratorError as error:
            call.refusal = error
            raise httpx2.ConnectError("not sent", request=request) from error
        request.headers["accept-encoding"] = "identity"
        with self._span(call, request.url.host) as span:
            return await self._send(call, id, request, span)

    @contextmanager
    def _span(self, call: ModelCall, host: str) -> Iterator[Span | None]:
        """Record an attempt as a span; None without a trace.

        It has OpenTelemetry's names, and no text of the prompt or of the answer. The provider does
        not get the trace.
        """
        parent, tracer = current_trace.get(), self._db.tracer
        if tracer is None or parent is None:
            yield None
            return
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": _PROVIDERS[self._config.kind],
            "gen_ai.request.model": self._config.model,
            "gen_ai.request.max_tokens": call.max_tokens,
            "server.address": host,
        }
        with tracer.span(f"chat {self._config.model}", "client", attributes, parent) as span:
            yield span

    async def _send(
        self, call: ModelCall, id: str, request: httpx2.Request, span: Span | None
    ) -> httpx2.Response:
        """Send an admitted attempt and record its result."""
        try:
            async with asyncio.timeout(self._config.timeout.total_seconds()):
                response = await self._inner.handle_async_request(request)
                content = await self._read(response)
        except asyncio.CancelledError:
            # The request may have been sent and cost money: record it although the task ends.
            await asyncio.shield(self._record_failure(call, id, "cancelled", span))
            raise
        except (TimeoutError, httpx2.TimeoutException) as error:
            is_unsent = isinstance(error, httpx2.ConnectTimeout)
            await self._record_failure(call, id, "unreachable" if is_unsent else "timeout", span)
            raise httpx2.ReadTimeout("no response in time", request=request) from error
        except (httpx2.ConnectError, AttributeError) as error:  # the latter: see `http_client.py`
            await self._record_failure(call, id, "unreachable", span)
            raise httpx2.ConnectError(str(error), request=request) from error
        except httpx2.TransportError:
            await self._record_failure(call, id, "lost", span)
            raise
        usage = await self._record_response(call, id, response, content)
        if span is not None:
            _add_result(span, response.status_code, usage)
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

    async def _admit(self, call: ModelCall, size: int) -> str:
        """Record a call and return its id.

        Raises ``GeneratorError`` if limits or budget do not admit it.
        """
        config = self._config
        # A token is at least one byte, so this is the highest possible usage.
        highest_usage = TokenUsage(size + _OVERHEAD_TOKENS, call.max_tokens)
        reserved_tokens = size // 3 + call.max_tokens
        limit = config.limits.tokens_per_minute
        if limit is not None and reserved_tokens > limit:
            raise GeneratorError(
                f"One call may use {reserved_tokens} tokens, more than the limit of {limit} per"
                " minute.",
                is_retryable=False,
                hint="Fix: raise HOMEROOM_LLM_TOKENS_PER_MINUTE or lower HOMEROOM_LLM_MAX_TOKENS.",
            )
        if config.limits.budget is not None and self._prices.source is None:
            raise GeneratorError(
                f"A budget is set, but the price of the model {config.name} is unknown.",
                is_retryable=False,
                hint="Fix: set HOMEROOM_LLM_PRICE_INPUT and HOMEROOM_LLM_PRICE_OUTPUT.",
            )
        row = ModelCallRequest(
            id=new_id(),
            plan_id=call.task.plan_id,
            lesson_id=call.task.slot.id,
            job_id=call.task.job_id,
            endpoint=config.endpoint,
            model=config.model,
            reserved_tokens=reserved_tokens,
            reserved_cost=self._prices.cost(highest_usage),
            currency=config.currency,
            price_source=self._prices.source,
        )
        max_wait_seconds = _MAX_REPAIR_WAIT_SECONDS if call.is_repair else _MAX_INLINE_WAIT_SECONDS
        while True:
            async with self._db.write() as tx:
                wait = await call_store.admit_call(tx, row, config.limits)
            if wait == 0:
                return row.id
            if wait == "budget":
                raise self._budget_error(row)
            seconds = wait / SECOND
            if seconds > max_wait_seconds:
                raise _throttled_error(seconds, call)
            await asyncio.sleep(min(seconds, _ADMISSION_POLL_SECONDS))

    def _budget_error(self, row: ModelCallRequest) -> GeneratorError:
        budget, highest_cost = self._config.limits.budget or 0, row.reserved_cost or 0
        return GeneratorError(
            f"The next call may cost up to {_format_money(highest_cost)} {row.currency}, more than"
            f" what is left of the plan's budget of {_format_money(budget)} {row.currency}.",
            is_retryable=False,
            hint="Fix: raise HOMEROOM_LLM_BUDGET, then retry the plan. Generated lessons stay.",
        )

    async def _read(self, response: httpx2.Response) -> bytes:
        content = bytearray()
        try:
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > MAX_RESPONSE_BYTES:
                    raise httpx2.ReadError(f"the response has more than {MAX_RESPONSE_BYTES} bytes")
        finally:
            await response.aclose()
        return bytes(content)

    async def _record_response(
        self, call: ModelCall, id: str, response: httpx2.Response, content: bytes
    ) -> TokenUsage | None:
        """Complete the row of a call that got a response; return its tokens."""
        status, headers = response.status_code, response.headers
        usage: TokenUsage | None
        cost: int | None
        if status >= httpx2.codes.BAD_REQUEST:
            usage, cost = TokenUsage(0, 0), 0
        else:
            usage = parse_token_usage(self._config.kind, content)
            cost = None if usage is None else self._prices.cost(usage)
        retry_after = _parse_retry_after(headers.get("retry-after"))
        request_id = next((headers[name] for name in _REQUEST_IDS if name in headers), None)
        async with self._db.write() as tx:
            await call_store.finish_call(
                tx,
                id,
                "refused" if status >= httpx2.codes.BAD_REQUEST else "answered",
                http_status=status,
                retry_after_ms=None if retry_after is None else round(retry_after * 1_000),
                input_tokens=None if usage is None else usage.input_tokens,
                output_tokens=None if usage is None else usage.output_tokens,
                cost=cost,
                request_id=None if request_id is None else request_id[:128],
            )
            if retry_after is not None and status in {429, 503, 529}:
                until = tx.now + round(retry_after * SECOND)
                await call_store.hold_endpoint(tx, self._config.endpoint, until)
            tx.notify(TOPIC, call.task.plan_id)
        return usage

    async def _record_failure(
        self, call: ModelCall, id: str, outcome: ModelCallOutcome, span: Span | None
    ) -> None:
        """Complete the row of a call without a response; an unsent call costs nothing."""
        if span is not None:
            span.fail(outcome)
        is_unsent = outcome == "unreachable"
        async with self._db.write() as tx:
            await call_store.finish_call(
                tx,
                id,
                outcome,
                input_tokens=0 if is_unsent else None,
                output_tokens=0 if is_unsent else None,
                cost=0 if is_unsent else None,
            )
            tx.notify(TOPIC, call.task.plan_id)


def _add_result(span: Span, status: int, usage: TokenUsage | None) -> None:
    span.set({"http.response.status_code": status})
    if status >= httpx2.codes.BAD_REQUEST:
        span.fail(str(status))
    elif usage is not None:
        span.set(
            {
                "gen_ai.usage.input_tokens": usage.input_tokens,
                "gen_ai.usage.output_tokens": usage.output_tokens,
            }
        )


def _throttled_error(seconds: float, call: ModelCall) -> GeneratorError:
    """Return the error for a delay that is too long to wait for.

    A delay before a repair discards a response and therefore spends an attempt. Otherwise a model
    that needs repairs and an endpoint at its limit would repeat without end.
    """
    retry_after = timedelta(seconds=math.ceil(seconds))
    message = f"The rate limits of the model's provider require a delay of {math.ceil(seconds)} s."
    if call.is_repair:
        return GeneratorError(message, is_retryable=True, retry_after=retry_after)
    return ProviderThrottled(message, retry_after)


def _format_money(micro: int) -> str:
    return f"{micro / MICRO_UNITS:.4f}".rstrip("0").rstrip(".")


def _parse_retry_after(value: str | None) -> float | None:
    """Return the seconds of a ``Retry-After`` header; the SDK parses dates."""
    if value is None or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", value.strip()):
        return None
    return min(float(value), MAX_RETRY_AFTER_SECONDS)
