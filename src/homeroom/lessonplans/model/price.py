"""What a call costs: by the prices of the settings, else by a bundled list of published prices."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from urllib.parse import urlsplit

import genai_prices

from homeroom.lessonplans.model.config import ModelConfig
from homeroom.lessonplans.model.usage import MICRO, Usage, cost_of

_OWN_HOSTS = {
    "openai": "api.openai.com",
    "anthropic": "api.anthropic.com",
    "google": "generativelanguage.googleapis.com",
}


class Prices:
    """The prices of one model; ``source`` None means that nobody knows them."""

    def __init__(self, config: ModelConfig) -> None:
        """Take the settings' prices; look for the model in the list where there are none."""
        self._config = config
        self.source: str | None = None
        if config.input_price is not None and config.output_price is not None:
            self.source = "settings"
        elif config.currency == "USD" and self._is_providers_own() and self._listed(Usage(1, 1)):
            self.source = f"genai-prices {genai_prices.__version__}"

    def cost(self, usage: Usage) -> int | None:
        """Return what a call costs in micro-units, rounded up; None: nobody knows."""
        config = self._config
        if config.input_price is not None and config.output_price is not None:
            return cost_of(usage, config.input_price, config.output_price)
        found = None if self.source is None else self._listed(usage)
        if found is None:
            return None
        return int((found * MICRO).to_integral_value(ROUND_CEILING))

    def _is_providers_own(self) -> bool:
        """Say whether it is the provider itself: others ask what they like for the same model."""
        url = self._config.url
        return url is None or urlsplit(url).hostname == _OWN_HOSTS[self._config.kind]

    def _listed(self, usage: Usage) -> Decimal | None:
        asked = genai_prices.Usage(
            input_tokens=usage.input_tokens, output_tokens=usage.output_tokens
        )
        try:
            found = genai_prices.calc_price(
                asked, self._config.model, provider_id=self._config.kind
            )
        except LookupError:
            return None
        return found.total_price
