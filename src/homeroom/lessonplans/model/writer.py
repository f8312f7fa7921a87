"""The generator that asks a language model, over any OpenAI-compatible, Anthropic or Google API."""

from __future__ import annotations

import re
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
from homeroom.lessonplans.check import Finding, check_lesson
from homeroom.lessonplans.generator import (
    RULE_BASED,
    Generator,
    GeneratorError,
    Task,
    Written,
    by_rule,
)
from homeroom.lessonplans.lesson import LessonBody
from homeroom.lessonplans.model import prompt
from homeroom.lessonplans.model.config import ModelConfig
from homeroom.lessonplans.model.price import Prices
from homeroom.lessonplans.model.transport import (
    MAX_RETRY_AFTER_SECONDS,
    Call,
    LedgerTransport,
    current_call,
)
from homeroom.partner import scrubbed

_REASONS_SHOWN = 8
_OPENAIS_OWN = re.compile(r"(gpt-|o[0-9])")


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of one question: a lesson, or why there is none."""

    body: LessonBody | None
    findings: list[Finding]
    mendable: bool = True
    """Asking again with the reasons may help."""


class ModelWriter(Generator):
    """Ask, check, ask once more with the reasons; what is then still wrong is a gap."""

    is_model = True

    def __init__(
        self, db: Database, config: ModelConfig, inner: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        """Take the model; ``inner`` is what really sends."""
        self.name = config.name
        self._config = config
        self._transport = LedgerTransport(db, config, Prices(config), inner)
        self._client = httpx2.AsyncClient(
            transport=self._transport,
            follow_redirects=False,
            trust_env=False,
            timeout=config.timeout.total_seconds(),
        )
        self._agent: Agent[None, LessonBody] = Agent(
            _model(config, self._client),
            output_type=_output(config),
            instructions=prompt.INSTRUCTIONS,
            retries=0,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def write(self, task: Task) -> Written:
        """Have a lesson written. Raises ``GeneratorError``."""
        provenance: dict[str, object] = {
            "model": self._config.model,
            "promptVersion": prompt.VERSION,
        }
        answer = await self._asked(task, prompt.question(task))
        if answer.findings and answer.mendable:
            again = prompt.repair(task, answer.body, answer.findings)
            answer = await self._asked(task, again, mends=True)
        if answer.body is not None and not answer.findings:
            return Written(answer.body, self.name, provenance=provenance)
        # The rules hold the lesson's place, so that minutes and outcomes stay right.
        gaps = tuple(answer.findings)
        return Written(by_rule(task), RULE_BASED, gaps=gaps, provenance=provenance)

    async def _asked(self, task: Task, question: str, *, mends: bool = False) -> _Answer:
        """Ask once, and once more with twice the room where the answer was cut off."""
        limit = self._config.max_tokens
        for max_tokens in (limit, 2 * limit):
            try:
                call = Call(task, max_tokens, mends=mends or max_tokens > limit)
                body = await self._call(call, question)
            except OutputTokenLimitExceeded:
                continue
            except ContentFilterError:
                finding = Finding("refused", "the model refused to write this lesson")
                return _Answer(None, [finding], mendable=False)
            except UnexpectedModelBehavior as error:
                return _Answer(None, _unreadable(error))
            findings = check_lesson(
                task.slot, body, titles=task.titles, allowed_links=task.allowed_links
            )
            return _Answer(body, findings)
        finding = Finding(
            "truncated", f"the model's answer was longer than {2 * limit} tokens and was cut off"
        )
        return _Answer(None, [finding], mendable=False)

    async def _call(self, call: Call, question: str) -> LessonBody:
        """Ask the model. Raises what pydantic-ai says of a bad answer, else ``GeneratorError``."""
        token = current_call.set(call)
        settings = ModelSettings(
            max_tokens=call.max_tokens, timeout=self._config.timeout.total_seconds()
        )
        try:
            result = await self._agent.run(question, model_settings=settings)
        except UnexpectedModelBehavior:
            raise
        except (AgentRunError, UserError) as error:
            raise call.refusal or self._failed(error) from error
        finally:
            current_call.reset(token)
        return result.output

    def _failed(self, error: Exception) -> GeneratorError:
        """Say what went wrong between us and the provider, and whether a retry can help."""
        name = f"The model {self.name}"
        if not isinstance(error, ModelAPIError):
            return GeneratorError(f"{name} cannot be asked: {self._clean(error)}", again=False)
        status = error.status_code if isinstance(error, ModelHTTPError) else None
        said = f" answered {status}" if status is not None else ""
        detail = self._clean(error.body if error.body is not None else error)
        message = f"{name}{said or ' cannot be reached'}: {detail}"
        if isinstance(error, ModelQuotaExceededError):
            return GeneratorError(message, again=False, hint="Look at the account's credit.")
        if isinstance(error, ModelRequestRejectedError):
            hint = "Look at HOMEROOM_LLM_API_KEY, HOMEROOM_LLM_MODEL and HOMEROOM_LLM_URL."
            return GeneratorError(message, again=False, hint=hint)
        after = error.retry_after
        if after is not None:
            after = min(max(after, 0.0), MAX_RETRY_AFTER_SECONDS)
        return GeneratorError(
            message, again=True, after=timedelta(seconds=after) if after else None
        )

    def _clean(self, said: object) -> str:
        text = str(said)
        if self._config.key:
            text = text.replace(self._config.key, "[hidden]")
        return scrubbed(text)


def _unreadable(error: UnexpectedModelBehavior) -> list[Finding]:
    """Return what kept an answer from being read: every fault of its form, if it had one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ValidationError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return [Finding("unreadable", f"the answer is not in the form: {scrubbed(error.message)}")]
    faults = cause.errors(include_url=False, include_input=False, include_context=False)
    return [
        Finding(
            "unreadable",
            "/".join(str(part) for part in fault["loc"]) + f": {scrubbed(fault['msg'])}",
        )
        for fault in faults[:_REASONS_SHOWN]
    ]


def _output(config: ModelConfig) -> Any:
    if config.output_mode == "native":
        return NativeOutput(LessonBody, name="lesson")
    if config.output_mode == "prompted":
        return PromptedOutput(LessonBody)
    return ToolOutput(LessonBody, name="lesson")


def _model(config: ModelConfig, client: httpx2.AsyncClient) -> Model[Any]:
    """Return the model, its SDK told to leave retries to us."""
    key = config.key or "not-set"  # a local server needs none, but the SDKs want something
    if config.kind == "openai":
        sdk = AsyncOpenAI(api_key=key, base_url=config.url, http_client=client, max_retries=0)
        if config.url is None:
            return OpenAIChatModel(config.model, provider=OpenAIProvider(openai_client=sdk))
        # Servers with models of their own know the room for an answer by its older name, and some
        # ignore the newer one, which would leave the answer, and its cost, without a bound.
        newer = _OPENAIS_OWN.match(config.model) is not None
        return OpenAIChatModel(
            config.model,
            provider=OpenAICompatibleProvider("openai-compatible", openai_client=sdk),
            profile=OpenAIModelProfile(openai_chat_supports_max_completion_tokens=newer),
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
