"""A language model with the API of OpenAI, which checks questions strictly."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from homeroom.sandbox.model_lesson import write_parts
from homeroom.sandbox.sandbox_request import (
    RequestRefused,
    SandboxRequest,
    SandboxResponse,
    require_bearer,
)

AnswerFault = Literal[
    "truncated",
    "refused",
    "chatter",
    "fenced",
    "misshapen",
    "missing_part",
    "wrong_minutes",
    "answer_among_distractors",
    "duplicate_question",
    "invented_link",
    "invented_outcome",
    "open_place",
    "too_long",
]
_ROLES = {"system", "developer", "user", "assistant"}
_BYTES_PER_TOKEN = 4


class ModelFault(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """A fault of the model's answers: its kind, its times, and its lesson.

    - `truncated`: half an answer that ends at the token limit; `refused`: a refusal.
    - `chatter`: a sentence instead of JSON; `fenced`: the right answer in a code fence.
    - `misshapen`: JSON of another form; `missing_part`: the last part is missing.
    - the others: an answer of the right form with one fault in each part that can have it.
    """

    answer: AnswerFault
    times: Annotated[int, Meta(ge=1)] | None = None
    lesson: str | None = None


class LanguageModelServer:
    """`GET /models` and `POST /chat/completions`."""

    def __init__(self, token: str, model: str) -> None:
        self._token, self._model = token, model
        self._faults: dict[int, ModelFault] = {}
        self._left: dict[int, int] = {}
        self._number = 0
        self._lessons: Counter[str] = Counter()
        self._parts: Counter[str] = Counter()

    def add(self, fault: ModelFault) -> int:
        """Add a fault and return its number."""
        self._number += 1
        self._faults[self._number] = fault
        if fault.times is not None:
            self._left[self._number] = fault.times
        return self._number

    def clear(self) -> None:
        """Remove all faults."""
        self._faults.clear()
        self._left.clear()

    def summary(self) -> dict[str, Any]:
        """Return how often each lesson and each part was asked for."""
        return {"lessons": dict(self._lessons), "parts": dict(self._parts)}

    def handle(self, request: SandboxRequest) -> SandboxResponse:
        """Handle one request. Raises RequestRefused."""
        require_bearer(request, self._token)
        match request.method, request.segments:
            case "GET", ("models",):
                model = {"id": self._model, "object": "model", "owned_by": "sandbox"}
                return SandboxResponse(200, {"object": "list", "data": [model]})
            case "POST", ("chat", "completions"):
                return self._complete(request)
        raise RequestRefused(404, "no such path: POST {url}/chat/completions or GET {url}/models")

    def _complete(self, request: SandboxRequest) -> SandboxResponse:
        body = request.read_object("application/json")
        if body.get("model") != self._model:
            raise RequestRefused(404, f"there is no model {body.get('model')!r}")
        max_tokens = body.get("max_completion_tokens", body.get("max_tokens"))
        if not isinstance(max_tokens, int) or max_tokens < 1:
            raise RequestRefused(400, "max_tokens is missing, so the answer has no limit")
        schema, tool = _answer_schema(body)
        question = _question(body)
        _check_question(question, schema)
        self._lessons[question["lesson"]["number"]] += 1
        self._parts.update(question["write"])
        fault = self._next_fault(question["lesson"]["number"])
        text, finish = _answer(question, fault)
        size = len(text.encode()) // _BYTES_PER_TOKEN + 1
        if size > max_tokens:
            text, finish, size = text[: max_tokens * _BYTES_PER_TOKEN], "length", max_tokens
        return SandboxResponse(200, self._completion(request, text, finish, size, tool))

    def _next_fault(self, lesson: str) -> AnswerFault | None:
        for number, fault in self._faults.items():
            if self._left.get(number) == 0 or fault.lesson not in (None, lesson):
                continue
            if number in self._left:
                self._left[number] -= 1
            return fault.answer
        return None

    def _completion(
        self, request: SandboxRequest, text: str, finish: str, size: int, tool: str | None
    ) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if finish == "content_filter":
            message["content"] = None
        elif tool is not None and finish == "stop":
            call = {"name": tool, "arguments": text}
            message = {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
            }
            finish = "tool_calls"
        asked = len(request.body) // _BYTES_PER_TOKEN + 1
        return {
            "id": f"chatcmpl-{sum(self._lessons.values())}",
            "object": "chat.completion",
            "created": 1,
            "model": self._model,
            "choices": [{"index": 0, "finish_reason": finish, "message": message}],
            "usage": {
                "prompt_tokens": asked,
                "completion_tokens": size,
                "total_tokens": asked + size,
            },
        }


def _answer_schema(body: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Return the schema of the answer, and the name of the tool that takes it."""
    form = body.get("response_format")
    if isinstance(form, dict) and form.get("type") == "json_schema":
        schema, tool = (form.get("json_schema") or {}).get("schema"), None
    elif body.get("tools"):
        function = body["tools"][0].get("function") or {}
        schema, tool = function.get("parameters"), function.get("name")
    else:
        raise RequestRefused(400, "neither response_format nor tools have a schema of the answer")
    if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
        raise RequestRefused(400, "the schema of the answer is no object with properties")
    return schema, tool


def _question(body: dict[str, Any]) -> dict[str, Any]:
    """Return the question about a lesson, which the last message of the user holds."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestRefused(400, "there are no messages")
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise RequestRefused(400, f"a message has no role of {', '.join(sorted(_ROLES))}")
    if messages[-1]["role"] != "user" or not isinstance(messages[-1].get("content"), str):
        raise RequestRefused(400, "the last message is no text of the user")
    try:
        question = msgspec.json.decode(messages[-1]["content"])
    except msgspec.DecodeError as error:
        raise RequestRefused(400, f"the last message is no JSON: {error}") from error
    if isinstance(question, dict) and "question" in question:
        if not question.get("reasons"):
            raise RequestRefused(400, "a repair has no reasons")
        question = question["question"]
    if not isinstance(question, dict):
        raise RequestRefused(400, "the last message is no question about a lesson")
    return question


class _Outcome(Struct, rename="camel"):
    id: str
    text: str
    bloom_level: Literal["remember", "understand", "apply", "analyze", "evaluate", "create"]


class _AskedLesson(Struct, rename="camel"):
    number: str
    working_title: str
    minutes: Annotated[int, Meta(ge=1)]
    outcomes: Annotated[list[_Outcome], Meta(min_length=1)]
    must_assess: list[str]


class _Question(Struct, rename="camel"):
    write: Annotated[list[str], Meta(min_length=1)]
    course: str
    locale: str
    lesson: _AskedLesson
    titles_taken: list[str]
    places: list[dict[str, Any]] = []


def _check_question(question: dict[str, Any], schema: dict[str, Any]) -> None:
    """Raise RequestRefused if a question is incomplete or unlike the schema."""
    try:
        asked = msgspec.convert(question, _Question)
    except msgspec.ValidationError as error:
        raise RequestRefused(400, f"the question is incomplete: {error}") from error
    reasons = []
    if set(asked.write) != set(schema["properties"]):
        reasons.append("write does not name the properties of the schema")
    if not set(asked.lesson.must_assess) <= {each.id for each in asked.lesson.outcomes}:
        reasons.append("mustAssess names an outcome that the lesson does not have")
    if ("places" in asked.write) != bool(asked.places):
        reasons.append("places are asked for and not given, or given and not asked for")
    if reasons:
        raise RequestRefused(400, *reasons)


def _answer(question: dict[str, Any], fault: AnswerFault | None) -> tuple[str, str]:
    """Return the text of the answer and why it ends."""
    if fault == "chatter":
        return "Sure! Please hold on while I write your lesson.", "stop"
    if fault == "refused":
        return "", "content_filter"
    parts = write_parts(question)
    if fault == "misshapen":
        parts = {"lesson": parts, "mood": "good"}
    elif fault == "missing_part":
        parts.pop(question["write"][-1])
    elif fault is not None:
        _spoil(parts, fault)
    text = msgspec.json.encode(parts).decode()
    if fault == "truncated":
        return text[: len(text) // 2], "length"
    return (f"```json\n{text}\n```" if fault == "fenced" else text), "stop"


def _spoil(parts: dict[str, Any], fault: AnswerFault) -> None:
    """Put a fault into every part that can have it."""
    questions = [
        each for part in ("checks", "starterQuiz", "exitQuiz") for each in parts.get(part, [])
    ]
    if fault == "wrong_minutes" and "activities" in parts:
        parts["activities"][0]["minutes"] += 1
    elif fault == "answer_among_distractors":
        for each in questions:
            each["distractors"][0] = f" {each['answer'].upper()}. "
    elif fault == "duplicate_question":
        for part in ("checks", "starterQuiz", "exitQuiz"):
            parts[part] = parts[part] * 2 if part in parts else []
            if not parts[part]:
                del parts[part]
    elif fault == "invented_link":
        for part in ("references", "keyPoints"):
            if part in parts:
                parts[part] = [*parts[part], "See https://invented.example.org/book"]
    elif fault == "invented_outcome":
        for each in (*questions, *parts.get("assessments", [])):
            each["outcomeId"] = "made-up"
    elif fault == "open_place" and "homework" in parts:
        parts["homework"] = "[add: a task for home]"
    elif fault == "too_long" and "vocabulary" in parts:
        parts["vocabulary"][0]["definition"] = "word " * 60
