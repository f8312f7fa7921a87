"""Token usage and cost of model calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any
from urllib.parse import urlsplit

import genai_prices
import msgspec

from homeroom.lessonplans.model.config import ModelConfig, ModelKind

MICRO_UNITS = 1_000_000
_PROVIDER_HOSTS = {
    "openai": "api.openai.com",
    "anthropic": "api.anthropic.com",
    "google": "generativelanguage.googleapis.com",
}


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Token counts of one call, cached and reasoning tokens included."""

    input_tokens: int
    output_tokens: int


def parse_token_usage(kind: ModelKind, body: bytes) -> TokenUsage | None:
    """Return the token usage in a provider's response; None if it has none."""
    try:
        response = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if not isinstance(response, dict):
        return None
    usage = response.get("usageMetadata" if kind == "google" else "usage")
    if not isinstance(usage, dict):
        return None
    if kind == "openai":
        return _sum_tokens(usage, ("prompt_tokens",), ("completion_tokens",))
    if kind == "anthropic":
        cached = ("cache_creation_input_tokens", "cache_read_input_tokens")
        return _sum_tokens(usage, ("input_tokens", *cached), ("output_tokens",))
    return _sum_tokens(usage, ("promptTokenCount",), ("candidatesTokenCount", "thoughtsTokenCount"))


def _sum_tokens(
    usage: Mapping[str, Any], inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> TokenUsage | None:
    """Add up token counts; the first name of each tuple is required."""
    sums = []
    for names in (inputs, outputs):
        counts = [usage.get(name) for name in names]
        if not isinstance(counts[0], int):
            return None
        sums.append(sum(count for count in counts if isinstance(count, int) and count >= 0))
    return TokenUsage(*sums)


def usage_cost(usage: TokenUsage, input_price: int, output_price: int) -> int:
    """Return a cost in micro-units, rounded up.

    Prices are micro-units per million tokens.
    """
    total = usage.input_tokens * input_price + usage.output_tokens * output_price
    return -(-total // MICRO_UNITS)


class ModelPrices:
    """The prices of one model; ``source`` is None if no price is known."""

    def __init__(self, config: ModelConfig) -> None:
        """Use the prices of the settings, else those of the ``genai-prices`` list."""
        self._config = config
        self.source: str | None = None
        if config.input_price is not None and config.output_price is not None:
            self.source = "settings"
        elif (
            config.currency == "USD"
            and self._is_provider_host()
            and self._price_from_list(TokenUsage(1, 1))
        ):
            self.source = f"genai-prices {genai_prices.__version__}"

    def cost(self, usage: TokenUsage) -> int | None:
        """Return the cost of a call in micro-units, rounded up; None if unknown."""
        config = self._config
        if config.input_price is not None and config.output_price is not None:
            return usage_cost(usage, config.input_price, config.output_price)
        price = None if self.source is None else self._price_from_list(usage)
        if price is None:
            return None
        return int((price * MICRO_UNITS).to_integral_value(ROUND_CEILING))

    def _is_provider_host(self) -> bool:
        """Return whether the URL is the provider's own; resellers have other prices."""
        url = self._config.url
        return url is None or urlsplit(url).hostname == _PROVIDER_HOSTS[self._config.kind]

    def _price_from_list(self, usage: TokenUsage) -> Decimal | None:
        list_usage = genai_prices.Usage(
            input_tokens=usage.input_tokens, output_tokens=usage.output_tokens
        )
        try:
            price = genai_prices.calc_price(
                list_usage, self._config.model, provider_id=self._config.kind
            )
        except LookupError:
            return None
        return price.total_price
