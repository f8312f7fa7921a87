"""The sandbox's language model refuses questions that a real one could not answer well."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from tests.service.sandbox.conftest import Partner

pytestmark = [pytest.mark.anyio, pytest.mark.service]
QUESTION: dict[str, Any] = {
    "write": ["title", "exitQuiz"],
    "course": "Bread",
    "locale": "en",
    "titlesTaken": ["Knead a dough, by example"],
    "lesson": {
        "number": "1.1",
        "workingTitle": "Knead a dough",
        "minutes": 60,
        "outcomes": [{"id": "o1", "text": "Knead a dough", "bloomLevel": "apply"}],
        "mustAssess": ["o1"],
    },
}


def order(question: Any = QUESTION, **changes: Any) -> dict[str, Any]:
    properties = {name: {} for name in QUESTION["write"]}
    schema = {"name": "lesson", "schema": {"type": "object", "properties": properties}}
    return {
        "model": "sandbox-teacher",
        "max_tokens": 6_000,
        "messages": [
            {"role": "system", "content": "You write lessons."},
            {"role": "user", "content": json.dumps(question)},
        ],
        "response_format": {"type": "json_schema", "json_schema": schema},
        **changes,
    }


async def ask(partner: Partner, body: Any, key: str = "sandbox-llm-key") -> Any:
    return await partner.client.post(
        f"{partner.url}/llm/v1/chat/completions",
        json=body,
        headers={"authorization": f"Bearer {key}"},
    )


async def test_it_writes_the_parts_that_are_asked_for(partner: Partner) -> None:
    answer = await ask(partner, order())
    assert answer.status_code == 200, answer.text
    [chosen] = answer.json()["choices"]
    assert chosen["finish_reason"] == "stop"
    parts = json.loads(chosen["message"]["content"])
    assert list(parts) == ["title", "exitQuiz"]
    assert parts["title"] == "Knead a dough, with a case", "the first choice is taken"
    [question] = parts["exitQuiz"]
    assert question["answer"] not in question["distractors"]
    again = await ask(partner, order())
    assert again.json()["choices"] == answer.json()["choices"]
    counts = await partner.counts("llm")
    assert (counts["accepted"], counts["lessons"], counts["parts"]["title"]) == (2, {"1.1": 2}, 2)


def without(name: str) -> dict[str, Any]:
    question = copy.deepcopy(QUESTION)
    question["lesson"].pop(name, None)
    question.pop(name, None)
    return question


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (order(model="other"), 404),
        (order(max_tokens=0), 400),
        (order(messages=[]), 400),
        (order(messages=[{"role": "user", "content": "Write a lesson!"}]), 400),
        (order(response_format={"type": "text"}), 400),
        (order(without("minutes")), 400),
        (order(without("outcomes")), 400),
        (order(without("titlesTaken")), 400),
        (order({**QUESTION, "write": ["title"]}), 400),
        (order({**QUESTION, "lesson": {**QUESTION["lesson"], "mustAssess": ["x"]}}), 400),
        (order({"question": QUESTION}), 400),
    ],
    ids=lambda value: None,
)
async def test_it_refuses_what_is_incomplete(
    partner: Partner, body: dict[str, Any], status: int
) -> None:
    answer = await ask(partner, body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]


async def test_it_wants_its_key_and_fails_as_told(partner: Partner) -> None:
    assert (await ask(partner, order(), key="wrong")).status_code == 401
    await partner.control("faults", {"server": "llm", "mode": "status", "status": 529, "times": 1})
    assert (await ask(partner, order())).status_code == 529
    await partner.control("model/faults", {"answer": "truncated", "times": 1, "lesson": "1.1"})
    [chosen] = (await ask(partner, order())).json()["choices"]
    assert chosen["finish_reason"] == "length"
    [short] = (await ask(partner, order(max_tokens=10))).json()["choices"]
    assert (short["finish_reason"], len(short["message"]["content"])) == ("length", 40)
    await partner.control("model/faults", {"answer": "refused"})
    [refused] = (await ask(partner, order())).json()["choices"]
    assert (refused["finish_reason"], refused["message"]["content"]) == ("content_filter", None)
    await partner.client.delete(f"{partner.url}/control/model/faults")
    [well] = (await ask(partner, order())).json()["choices"]
    assert well["finish_reason"] == "stop"
    unknown = await partner.client.post(
        f"{partner.url}/control/model/faults", json={"answer": "poetry"}
    )
    assert unknown.status_code == 422
