"""Metrics of a process as data, and those of several processes as one report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from prometheus_client import Metric


class SummaryFigures(msgspec.Struct, frozen=True):
    """Terms of the metrics summary, as sums that add up over processes."""

    queued: float
    stored: float
    faulty: float
    seen: float
    commits: float
    commit_seconds: float
    resident_bytes: float
    uptime_seconds: float


class MetricFamily(msgspec.Struct, frozen=True):
    """One metric of one process with all its samples."""

    name: str
    text: str
    type: str
    samples: list[tuple[str, dict[str, str], float]]


class MetricsSnapshot(msgspec.Struct, frozen=True):
    """All metrics of one process for another process."""

    process: str
    figures: SummaryFigures
    families: list[MetricFamily]


class SnapshotFamilies:
    """A Prometheus collector of the families of several processes."""

    def __init__(self, snapshots: Sequence[MetricsSnapshot]) -> None:
        """Report the families of ``snapshots``, each with the label ``process``."""
        self._snapshots = snapshots

    def collect(self) -> list[Metric]:
        """Return one metric for each name and type."""
        metrics: dict[tuple[str, str], Metric] = {}
        for snapshot in self._snapshots:
            for family in snapshot.families:
                metric = metrics.setdefault(
                    (family.name, family.type), Metric(family.name, family.text, family.type)
                )
                for name, labels, value in family.samples:
                    metric.add_sample(name, {**labels, "process": snapshot.process}, value)
        return list(metrics.values())


def metric_families(metrics: Iterable[Metric]) -> list[MetricFamily]:
    """Return metrics as data."""
    return [
        MetricFamily(
            metric.name,
            metric.documentation,
            metric.type,
            [(sample.name, dict(sample.labels), sample.value) for sample in metric.samples],
        )
        for metric in metrics
    ]
