"""Configuration of the language model: endpoint, limits and prices (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

ModelKind = Literal["openai", "anthropic", "google"]
ModelOutputMode = Literal["native", "tool", "prompted"]


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """Limits per minute of an endpoint, and the budget of a plan; None: no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    budget: int | None = None


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A model with its limits and prices; money is in micro-units of ``currency``."""

    kind: ModelKind
    model: str
    url: str | None = None
    """None: the provider's own address."""
    key: str | None = field(default=None, repr=False)
    output: ModelOutputMode | None = None
    """Method of structured output; None: the default of the kind."""
    max_tokens: int = 6_000
    timeout: timedelta = timedelta(seconds=120)
    limits: ModelLimits = field(default_factory=ModelLimits)
    currency: str = "USD"
    input_price: int | None = None
    """Price of a million input tokens."""
    output_price: int | None = None

    @property
    def name(self) -> str:
        """Return the generator name that lessons carry."""
        return f"{self.kind}:{self.model}"

    @property
    def endpoint(self) -> str:
        """Return the key by which the limits per minute are counted."""
        return f"{self.kind} {self.url or 'default'} {self.model}"

    @property
    def output_mode(self) -> ModelOutputMode:
        """Return the method of structured output."""
        return self.output or ("tool" if self.kind == "anthropic" else "native")
