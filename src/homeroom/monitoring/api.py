"""What ``wiring`` and other rooms may use of ``monitoring``."""

from homeroom.monitoring.health import Health, Probe, Readiness
from homeroom.monitoring.hints import Hints
from homeroom.monitoring.memory import resident_bytes, return_memory
from homeroom.monitoring.metrics import Metrics

__all__ = ["Health", "Hints", "Metrics", "Probe", "Readiness", "resident_bytes", "return_memory"]
