"""What ``wiring`` and other rooms may use of ``monitoring``."""

from homeroom.monitoring.health import Health, Probe, Readiness
from homeroom.monitoring.hints import Hints
from homeroom.monitoring.memory import resident_bytes, return_memory
from homeroom.monitoring.metrics import Metrics
from homeroom.monitoring.sibling import Siblings

__all__ = [
    "Health",
    "Hints",
    "Metrics",
    "Probe",
    "Readiness",
    "Siblings",
    "resident_bytes",
    "return_memory",
]
