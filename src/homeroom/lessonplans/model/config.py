"""Which model writes, how it is reached, and what it may use (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

Kind = Literal["openai", "anthropic", "google"]
OutputMode = Literal["native", "tool", "prompted"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What an endpoint, and one plan, may be asked at most; None: no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    budget: int | None = None


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A model and its terms. Money is in micro-units of ``currency``."""

    kind: Kind
    model: str
    url: str | None = None
    """None: the provider's own address."""
    key: str | None = field(default=None, repr=False)
    output: OutputMode | None = None
    """How structured output is asked for; None: what suits the kind."""
    max_tokens: int = 6_000
    timeout: timedelta = timedelta(seconds=120)
    limits: Limits = field(default_factory=Limits)
    currency: str = "USD"
    input_price: int | None = None
    """Of a million tokens."""
    output_price: int | None = None

    @property
    def name(self) -> str:
        """Return what lessons say of who wrote them."""
        return f"{self.kind}:{self.model}"

    @property
    def endpoint(self) -> str:
        """Return what the limits of a minute are counted by."""
        return f"{self.kind} {self.url or 'default'} {self.model}"

    @property
    def output_mode(self) -> OutputMode:
        """Return how structured output is asked for."""
        return self.output or ("tool" if self.kind == "anthropic" else "native")
