"""A model server on loopback that answers by a script, with the APIs of three providers.

Replies are OpenAI chat completions; they are converted for requests to Anthropic's or Google's API.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

PROMPT_TOKENS, COMPLETION_TOKENS = 1_000, 500


def choice(text: str, **more: Any) -> dict[str, Any]:
    """Return a question with one right answer."""
    return {
        "question": text,
        "answer": "It rises",
        "distractors": ["It sinks", "It stays"],
        "feedback": "Look at the example again.",
        **more,
    }


def lesson(question: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the parts that a question asks for; they pass every check."""
    slot = question["lesson"]
    minutes = slot["minutes"]
    first = max(1, minutes // 3)
    activity = {
        "method": "talk",
        "facilitatorDoes": "Explains with an example.",
        "learnersDo": "Listen and ask.",
        "resources": [],
    }
    outcome_id = slot["outcomes"][0]["id"]
    parts = {
        "title": f"Model: {slot['workingTitle']}",
        "priorKnowledge": ["What dough is"],
        "keyPoints": ["One thing"],
        "vocabulary": [{"term": "dough", "definition": "Flour and water, kneaded."}],
        "misconceptions": [
            {"misconception": "More yeast is faster and better.", "correction": "It tastes of it."}
        ],
        "materials": ["flour"],
        "explanation": {"spoken": "Yeast eats sugar.", "shown": ["yeast + sugar"], "examples": []},
        "activities": [
            {"phase": "intro", "title": "Start", "minutes": first, **activity},
            {"phase": "teach", "title": "Work", "minutes": minutes - first, **activity},
        ],
        "checks": [choice("What does warm dough do?"), choice("What does rested dough do?")],
        "practice": [{"task": "Knead a dough.", "feedback": "It springs back when pressed."}],
        "assessments": [
            {
                "outcomeId": outcome["id"],
                "kind": "formative",
                "bloomLevel": outcome["bloomLevel"],
                "method": "question",
                "text": "Ask for it.",
            }
            for outcome in slot["outcomes"]
        ],
        "starterQuiz": [choice("What does dough do overnight?")],
        "exitQuiz": [choice("What does dough do in the oven?", outcomeId=outcome_id)],
        "differentiation": {
            "support": "A list of steps.",
            "stretch": "Two doughs at once.",
            "accessibility": "A high table.",
        },
        "homework": "Watch a dough for an hour.",
        "references": [],
        "notes": None,
        "places": [
            {"place": each["place"], "text": f"Filled {each['field']}"}
            for each in question.get("places", ())
        ],
    }
    return {
        name: value for name, value in {**parts, **changes}.items() if name in question["write"]
    }


@dataclass
class Reply:
    """A reply: JSON with a status, or a closed or silent connection."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    hang: bool = False


Behaviour = Callable[[dict[str, Any]], Reply]


def completion(text: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "scripted",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish,
                "message": {"role": "assistant", "content": text, **message},
            }
        ],
        "usage": {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": COMPLETION_TOKENS,
            "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
        },
    }


def well(question: dict[str, Any]) -> Reply:
    return Reply(completion(json.dumps(lesson(question))))


def fenced(question: dict[str, Any]) -> Reply:
    return Reply(completion(f"```json\n{json.dumps(lesson(question))}\n```"))


def short(question: dict[str, Any]) -> Reply:
    """Answer with activities that do not fill the lesson."""
    body = lesson(question)
    if "activities" in body:
        body["activities"] = body["activities"][:1]
    return Reply(completion(json.dumps(body)))


def inventing(question: dict[str, Any]) -> Reply:
    """Answer with an invented address and outcome, and a level too high."""
    body = lesson(question, references=["See https://invented.example.org/book"])
    if "assessments" in body:
        body["assessments"].append({**body["assessments"][0], "outcomeId": "made-up"})
        body["assessments"].append({**body["assessments"][0], "bloomLevel": "create"})
    return Reply(completion(json.dumps(body)))


def chatter(question: dict[str, Any]) -> Reply:
    return Reply(completion("Sure! Please hold on while I write your lesson."))


def misshapen(question: dict[str, Any]) -> Reply:
    return Reply(completion(json.dumps({"title": "", "activities": [], "mood": "good"})))


def truncated(question: dict[str, Any]) -> Reply:
    return Reply(completion(json.dumps(lesson(question))[:200], "length"))


def refusing(question: dict[str, Any]) -> Reply:
    return Reply(completion(None, "content_filter"))


def declining(question: dict[str, Any]) -> Reply:
    return Reply(completion(None, "stop", refusal="I cannot help with that."))


def error(status: int, message: str = "no", **headers: str) -> Behaviour:
    body = {"error": {"message": message, "type": "error", "code": None, "param": None}}
    return lambda question: Reply(
        body, status, {k.replace("_", "-"): v for k, v in headers.items()}
    )


def cutting(question: dict[str, Any]) -> Reply:
    return Reply(cut=True)


def hanging(question: dict[str, Any]) -> Reply:
    return Reply(hang=True)


@dataclass
class ScriptedModel:
    """The received requests and the next replies; ``well`` after the end of the script."""

    port: int = 0
    script: list[Behaviour] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    questions: list[dict[str, Any]] = field(default_factory=list)
    by_default: Behaviour = well
    seen: asyncio.Event = field(default_factory=asyncio.Event)
    before_answer: Callable[[int], None] | None = None
    after_answer: Callable[[int], None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def requests_by_lesson(self) -> Counter[str]:
        """Return the number of requests per lesson number."""
        return Counter(question["lesson"]["number"] for question in self.questions)

    def plays(self, *script: Behaviour) -> None:
        self.script = list(script)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._one(reader, writer):
                pass
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET "):  # the list of models, which `homeroom check` requests
            writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{"data":[]}')
            await writer.drain()
            return True
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        request = json.loads(await reader.readexactly(length))
        path = head.split(b" ", 2)[1].decode()
        question = json.loads(_user_message(request))
        self.requests.append({"head": head.decode(), "body": request, "question": question})
        question = question.get("question", question)
        self.questions.append(question)
        number = len(self.requests)
        self.seen.set()
        if self.before_answer is not None:
            self.before_answer(number)
        reply = (self.script.pop(0) if self.script else self.by_default)(question)
        if reply.hang:
            await reader.read()  # until the other side goes away
            return False
        if reply.cut:
            writer.transport.abort()
            return False
        body = json.dumps(_convert_reply(path, request, reply)).encode()
        lines = [f"HTTP/1.1 {reply.status} Scripted", "content-type: application/json"]
        lines += [f"content-length: {len(body)}", f"x-request-id: req-{number}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()
        if self.after_answer is not None:
            self.after_answer(number)
        return True


def _user_message(request: dict[str, Any]) -> str:
    """Return the last user message of a request to any of the three APIs."""
    if "contents" in request:
        return str(request["contents"][-1]["parts"][-1]["text"])
    content = request["messages"][-1]["content"]
    return str(content if isinstance(content, str) else content[-1]["text"])


def _convert_reply(path: str, request: dict[str, Any], reply: Reply) -> Any:
    """Return a reply in the format of the requested API."""
    if reply.status != 200 or path.endswith("/chat/completions"):
        return reply.body
    text = reply.body["choices"][0]["message"]["content"]
    if path.endswith("/messages"):
        tool = {"type": "tool_use", "id": "toolu_1", "name": request["tools"][0]["name"]}
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "scripted",
            "content": [{**tool, "input": json.loads(text)}],
            "stop_reason": "tool_use",
            "stop_sequence": None,
            "usage": {"input_tokens": PROMPT_TOKENS, "output_tokens": COMPLETION_TOKENS},
        }
    return {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}
        ],
        "usageMetadata": {
            "promptTokenCount": PROMPT_TOKENS,
            "candidatesTokenCount": COMPLETION_TOKENS,
            "totalTokenCount": PROMPT_TOKENS + COMPLETION_TOKENS,
        },
        "modelVersion": "scripted",
        "responseId": "r1",
    }


@asynccontextmanager
async def scripted_model(*script: Behaviour) -> AsyncIterator[ScriptedModel]:
    """Serve on a free port until the block ends."""
    model = ScriptedModel(script=list(script))
    server = await asyncio.start_server(model.answer, "127.0.0.1", 0)
    model.port = server.sockets[0].getsockname()[1]
    try:
        yield model
    finally:
        server.close()
