"""Read what a call used from the provider's answer (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from homeroom.lessonplans.model.config import Kind

MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call; cached and reasoning tokens are part of them."""

    input_tokens: int
    output_tokens: int


def usage_of(kind: Kind, body: bytes) -> Usage | None:
    """Return what an answer says it used; None where it says nothing that can be read."""
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    found = (
        answer.get("usageMetadata" if kind == "google" else "usage", None)
        if (isinstance(answer, dict))
        else None
    )
    if not isinstance(found, dict):
        return None
    if kind == "openai":
        return _usage(found, ("prompt_tokens",), ("completion_tokens",))
    if kind == "anthropic":
        cached = ("cache_creation_input_tokens", "cache_read_input_tokens")
        return _usage(found, ("input_tokens", *cached), ("output_tokens",))
    return _usage(found, ("promptTokenCount",), ("candidatesTokenCount", "thoughtsTokenCount"))


def _usage(
    found: Mapping[str, Any], inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> Usage | None:
    """Add up counts; the first of each must be there, the others may be."""
    sums = []
    for names in (inputs, outputs):
        counts = [found.get(name) for name in names]
        if not isinstance(counts[0], int):
            return None
        sums.append(sum(count for count in counts if isinstance(count, int) and count >= 0))
    return Usage(*sums)


def cost_of(usage: Usage, input_price: int, output_price: int) -> int:
    """Return a cost in micro-units, rounded up; prices are micro-units for a million tokens."""
    total = usage.input_tokens * input_price + usage.output_tokens * output_price
    return -(-total // MICRO)
