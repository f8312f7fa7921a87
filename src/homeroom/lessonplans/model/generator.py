"""Lesson generator that uses an OpenAI-compatible, Anthropic or Google API."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx2
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic import ValidationError
from pydantic_ai import Agent, ModelSettings, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.exceptions import (
    AgentRunError,
    ContentFilterError,
    ModelAPIError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRequestRejectedError,
    OutputTokenLimitExceeded,
    UnexpectedModelBehavior,
    UserError,
)
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

from homeroom.db.database import Database
from homeroom.lessonplans.generator import (
    PLACES,
    RULE_BASED,
    GeneratorError,
    LessonGenerator,
    LessonResult,
    LessonTask,
    write_task_by_rules,
)
from homeroom.lessonplans.lesson import LessonFinding, LessonPart
from homeroom.lessonplans.lesson_parts import answer_model
from homeroom.lessonplans.model import prompt
from homeroom.lessonplans.model.config import ModelConfig
from homeroom.lessonplans.model.cost import ModelPrices
from homeroom.lessonplans.model.draft import compose_draft, place_parts
from homeroom.lessonplans.model.transport import (
    MAX_RETRY_AFTER_SECONDS,
    MeteredTransport,
    ModelCall,
    current_model_call,
)
from homeroom.redaction import redact_line

_MAX_REASONS = 8
_OPENAI_MODEL_PATTERN = re.compile(r"(gpt-|o[0-9])")


@dataclass(frozen=True, slots=True)
class _ModelAnswer:
    """The result of one prompt: parts of a lesson, or the reasons why there are none."""

    parts: LessonPart | None
    findings: list[LessonFinding]
    is_repairable: bool = True
    """False if a second prompt with the findings cannot help."""


class ModelGenerator(LessonGenerator):
    """Prompts a model, checks each part, and prompts again for the parts that failed.

    A part that fails again is a gap: a rule-based one takes its place, or the one that was there.
    """

    is_model = True

    def __init__(
        self, db: Database, config: ModelConfig, inner: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        """Use a model; ``inner`` sends the requests."""
        self.name = config.name
        self._config = config
        self._transport = MeteredTransport(db, config, ModelPrices(config), inner)
        self._client = httpx2.AsyncClient(
            transport=self._transport,
            follow_redirects=False,
            trust_env=False,
            timeout=config.timeout.total_seconds(),
        )
        self._agent: Agent[None, str] = Agent(
            _build_model(config, self._client),
            instructions=prompt.INSTRUCTIONS,
            retries=0,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def write(self, task: LessonTask) -> LessonResult:
        """Generate a lesson or parts of it. Raises ``GeneratorError``."""
        # What the model does not write, or writes wrongly, is there already or made by rules, so
        # that minutes and outcomes stay right.
        base = task.current or write_task_by_rules(task)
        answer = await self._ask_model(task, task.names, prompt.lesson_prompt(task))
        draft = compose_draft(task, base, base, task.names, answer.parts, answer.findings)
        if draft.findings and answer.is_repairable:
            repair = prompt.repair_prompt(task, draft.failed, answer.parts, draft.findings)
            again = await self._ask_model(task, draft.failed, repair, is_repair=True)
            draft = compose_draft(task, base, draft.body, draft.failed, again.parts, again.findings)
        written_by = {part: self.name for part in task.parts if part not in draft.failed}
        is_filled = bool(task.places) and PLACES not in draft.failed
        is_written = bool(written_by) or is_filled
        if task.current is None:
            written_by |= {part: RULE_BASED for part in task.parts if part in draft.failed}
        return LessonResult(
            draft.without_failed(task, base),
            self.name if is_written else RULE_BASED,
            gaps=tuple(draft.findings),
            provenance={"model": self._config.model, "promptVersion": prompt.PROMPT_VERSION},
            written_by=written_by,
            filled=place_parts(task) if is_filled else (),
        )

    async def _ask_model(
        self, task: LessonTask, names: Sequence[str], message: str, *, is_repair: bool = False
    ) -> _ModelAnswer:
        """Prompt the model; if its answer is truncated, again with twice the token limit."""
        limit = self._config.max_tokens
        for max_tokens in (limit, 2 * limit):
            try:
                call = ModelCall(task, max_tokens, is_repair=is_repair or max_tokens > limit)
                return _ModelAnswer(await self._call(call, names, message), [])
            except OutputTokenLimitExceeded:
                continue
            except ContentFilterError:
                finding = LessonFinding("refused", "the model refused to write this lesson")
                return _ModelAnswer(None, [finding], is_repairable=False)
            except UnexpectedModelBehavior as error:
                return _ModelAnswer(None, _unreadable_findings(error))
        finding = LessonFinding(
            "truncated", f"the model's answer was truncated at {2 * limit} tokens"
        )
        return _ModelAnswer(None, [finding], is_repairable=False)

    async def _call(self, call: ModelCall, names: Sequence[str], message: str) -> LessonPart:
        """Call the model for some parts.

        Raises ``GeneratorError``; pydantic-ai's ``UnexpectedModelBehavior`` for an invalid answer.
        """
        token = current_model_call.set(call)
        settings = ModelSettings(
            max_tokens=call.max_tokens, timeout=self._config.timeout.total_seconds()
        )
        try:
            result = await self._agent.run(
                message, output_type=self._output_type(names), model_settings=settings
            )
        except UnexpectedModelBehavior:
            raise
        except (AgentRunError, UserError) as error:
            raise call.refusal or self._generator_error(error) from error
        finally:
            current_model_call.reset(token)
        output: LessonPart = result.output
        return output

    def _output_type(self, names: Sequence[str]) -> Any:
        parts = tuple(name for name in names if name != PLACES)
        answer = answer_model(parts, has_places=PLACES in names)
        if self._config.output_mode == "native":
            return NativeOutput(answer, name="lesson")
        if self._config.output_mode == "prompted":
            return PromptedOutput(answer)
        return ToolOutput(answer, name="lesson")

    def _generator_error(self, error: Exception) -> GeneratorError:
        """Return the error for a failed call."""
        name = f"The model {self.name}"
        if not isinstance(error, ModelAPIError):
            return GeneratorError(
                f"{name} cannot be called: {self._redact(error)}", is_retryable=False
            )
        status = error.status_code if isinstance(error, ModelHTTPError) else None
        problem = "cannot be reached" if status is None else f"answered {status}"
        detail = self._redact(error.body if error.body is not None else error)
        message = f"{name} {problem}: {detail}"
        if isinstance(error, ModelQuotaExceededError):
            return GeneratorError(
                message, is_retryable=False, hint="Fix: add credit to the provider account."
            )
        if isinstance(error, ModelRequestRejectedError):
            hint = "Fix: check HOMEROOM_LLM_API_KEY, HOMEROOM_LLM_MODEL and HOMEROOM_LLM_URL."
            return GeneratorError(message, is_retryable=False, hint=hint)
        seconds = error.retry_after
        if seconds is not None:
            seconds = min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
        return GeneratorError(
            message,
            is_retryable=True,
            retry_after=timedelta(seconds=seconds) if seconds else None,
        )

    def _redact(self, value: object) -> str:
        return redact_line(str(value), [self._config.key or ""])


def _unreadable_findings(error: UnexpectedModelBehavior) -> list[LessonFinding]:
    """Return the findings for an answer that does not match the schema."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ValidationError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return [
            LessonFinding(
                "unreadable", f"the answer does not match the schema: {redact_line(error.message)}"
            )
        ]
    faults = cause.errors(include_url=False, include_input=False, include_context=False)
    return [
        LessonFinding(
            "unreadable",
            "/".join(str(part) for part in fault["loc"]) + f": {redact_line(fault['msg'])}",
        )
        for fault in faults[:_MAX_REASONS]
    ]


def _build_model(config: ModelConfig, client: httpx2.AsyncClient) -> Model[Any]:
    """Return the model, with the SDK's own retries off."""
    key = config.key or "not-set"  # a local server needs no key, but the SDKs require one
    if config.kind == "openai":
        sdk = AsyncOpenAI(api_key=key, base_url=config.url, http_client=client, max_retries=0)
        if config.url is None:
            return OpenAIChatModel(config.model, provider=OpenAIProvider(openai_client=sdk))
        # Compatible servers know the older parameter `max_tokens`. Some ignore its successor
        # `max_completion_tokens`, which would leave an answer, and its cost, unbounded.
        is_openai_model = _OPENAI_MODEL_PATTERN.match(config.model) is not None
        return OpenAIChatModel(
            config.model,
            provider=OpenAICompatibleProvider("openai-compatible", openai_client=sdk),
            profile=OpenAIModelProfile(openai_chat_supports_max_completion_tokens=is_openai_model),
        )
    if config.kind == "anthropic":
        return AnthropicModel(
            config.model,
            provider=AnthropicProvider(
                anthropic_client=AsyncAnthropic(
                    api_key=key, base_url=config.url, http_client=client, max_retries=0
                )
            ),
        )
    return GoogleModel(
        config.model,
        provider=GoogleProvider(api_key=key, http_client=client, base_url=config.url),
    )
