"""The lesson that the language model of the sandbox writes, part by part (pure).

It is made from the words of the question, the same for the same question, and holds no knowledge of
any subject.
"""

from __future__ import annotations

import re
from typing import Any

_QUOTED_WORDS = 12


def write_parts(question: dict[str, Any]) -> dict[str, Any]:
    """Return the parts named in ``write`` of a question about a lesson."""
    lesson = question["lesson"]
    outcomes = lesson["outcomes"]
    topics = [_quote(outcome["text"]) for outcome in outcomes]
    earlier = lesson.get("retrieves") or []
    writers: dict[str, Any] = {
        "title": lambda: _title(lesson["workingTitle"], question.get("titlesTaken") or []),
        "priorKnowledge": lambda: [
            f"The lesson before: {_quote(each['text'])}" for each in earlier
        ],
        "keyPoints": lambda: [f"What matters for {topic}" for topic in topics[:4]],
        "vocabulary": lambda: _vocabulary(outcomes),
        "misconceptions": lambda: [
            {
                "misconception": f"There is only one way to {topics[0]}.",
                "correction": "Two ways are compared, and each has its use.",
            }
        ],
        "materials": lambda: ["paper", *(question.get("materials") or [])],
        "explanation": lambda: {
            "spoken": f"Today we work on {topics[0]}. I show one case, and then you explain it.",
            "shown": [f"One case: {topics[0]}"],
            "examples": ["A case from the learners' own work"],
        },
        "activities": lambda: _activities(question),
        "checks": lambda: [
            _choice(f"In step {step}, what comes next for {topics[0]}?", step) for step in (1, 2)
        ],
        "practice": lambda: [
            {
                "task": f"Work on your own case: {topic}. Write down each step.",
                "feedback": "Compare your steps with those of a neighbour, and mark differences.",
            }
            for topic in list(dict.fromkeys(topics))[:3]
        ],
        "assessments": lambda: [
            {
                "outcomeId": outcome["id"],
                "kind": "summative" if outcome["id"] in lesson["mustAssess"] else "formative",
                "bloomLevel": outcome["bloomLevel"],
                "method": "task with a checklist",
                "text": f"Show it on a case: {topic}.",
            }
            for outcome, topic in zip(outcomes, topics, strict=True)
        ],
        "starterQuiz": lambda: (
            [
                _choice(f"What do you remember of {_quote(each['text'])}?", 0, each["id"])
                for each in earlier[:1]
            ]
            or [_choice("What do you know already about today's work?", 0)]
        ),
        "exitQuiz": lambda: [
            _choice(f"What shows that you can do this: {topics[0]}?", 3, outcomes[0]["id"])
        ],
        "differentiation": lambda: {
            "support": "A card with the steps, and a partner.",
            "stretch": "A second case in which one step is missing.",
            "accessibility": "Everything shown is also read aloud.",
        },
        "homework": lambda: f"Find a case of your own: {topics[0]}.",
        "references": list,
        "notes": lambda: f"Delivery: {question.get('deliveryMode') or 'classroom'}.",
        "places": lambda: [
            {"place": each["place"], "text": f"One case, worked out in full: {topics[0]}"}
            for each in question.get("places") or []
        ],
    }
    return {name: writers[name]() for name in question["write"]}


def _title(working_title: str, taken: list[str]) -> str:
    titles = {title.casefold() for title in taken}
    for suffix in ("by example", "with a case", "step by step", "in practice"):
        title = f"{working_title}, {suffix}"
        if title.casefold() not in titles:
            return title
    return f"{working_title}, once more"


def _vocabulary(outcomes: list[dict[str, Any]]) -> list[dict[str, str]]:
    words = [word for one in outcomes for word in re.findall(r"[^\W\d_]{5,30}", one["text"])]
    chosen = list(dict.fromkeys(word.casefold() for word in words))[:3] or ["case"]
    return [
        {"term": word, "definition": f"What the lesson means by {word}, in the learners' words."}
        for word in chosen
    ]


def _activities(question: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the suggested activities; without any, three that fill the time."""
    minutes = question["lesson"]["minutes"]
    suggested = question.get("suggestedActivities") or []
    if sum(each["minutes"] for each in suggested) != minutes:
        first, last = max(1, minutes // 6), max(1, minutes // 10)
        suggested = [
            {"phase": "intro", "title": "Begin", "minutes": first},
            {"phase": "practice", "title": "Work on a case", "minutes": minutes - first - last},
            {"phase": "close", "title": "Look back", "minutes": last},
        ]
    topic = _quote(question["lesson"]["outcomes"][0]["text"])
    return [
        {
            **each,
            "method": "work on a case",
            "facilitatorDoes": f"Leads the case, and asks why each step comes: {topic}.",
            "learnersDo": "Say the next step, do it, and note what they would ask.",
            "resources": [],
        }
        for each in suggested
    ]


def _choice(text: str, number: int, outcome_id: str | None = None) -> dict[str, Any]:
    return {
        "question": text,
        "answer": f"The step that the case shows as number {number + 1}",
        "distractors": ["The last step first", "Any step, in any order"],
        "feedback": "Go back to the case and read its steps aloud.",
        "outcomeId": outcome_id,
    }


def _quote(text: str) -> str:
    words = text.split()
    return " ".join(words[:_QUOTED_WORDS]).rstrip(".;: ") or "the case"
