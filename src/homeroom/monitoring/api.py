"""What ``wiring`` and other rooms may use of ``monitoring``."""

from homeroom.monitoring.health import Health, Probe, Readiness
from homeroom.monitoring.hints import Hints
from homeroom.monitoring.metrics import Metrics, resident_bytes

__all__ = ["Health", "Hints", "Metrics", "Probe", "Readiness", "resident_bytes"]
