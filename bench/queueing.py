"""Predict how long jobs wait: a simulation of workers, and a check of it against real ones.

Jobs arrive at random (Poisson), take a log-normal time, and are worked by several workers, each of
which runs a few at once. The most urgent waiting job is next, then the oldest; what runs is not
interrupted. A worker that dies holds its jobs until their leases end.

    python -m bench.queueing --rate 20 --seconds 0.4 --workers 4        what would happen
    python -m bench --only queueing                                     predicted beside measured
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

PRIORITIES = {10: 0.1, 5: 0.7, 1: 0.2}
"""The share of each priority: urgent, normal, low."""


@dataclass(frozen=True)
class Plan:
    """What arrives, and who works. Times are seconds."""

    rate: float
    """Jobs a second."""
    seconds: float
    """How long a job takes on average."""
    workers: int = 2
    concurrency: int = 3
    jobs: int = 2_000
    spread: float = 1.0
    """Standard deviation of the time that a job takes, over its average."""
    overhead: float = 0.0
    """How much longer a slot is taken: claim and settlement."""
    lease: float = 30.0
    tick: float = 1.0
    """How often ended leases are looked for."""
    deaths: tuple[float, ...] = ()
    """When a worker dies, each time the next one; it is back after ``restart``."""
    restart: float = 2.0
    seed: int = 1

    @property
    def load(self) -> float:
        """Return the share of all slots that is busy; from 1 on, the queue keeps growing."""
        return self.rate * (self.seconds + self.overhead) / (self.workers * self.concurrency)


@dataclass(frozen=True, order=True)
class Arrival:
    """One job: when it comes, how urgent it is, and how long it takes."""

    at: float
    priority: int
    seconds: float


def arrivals(plan: Plan) -> list[Arrival]:
    """Return the jobs of a plan, the same ones for the same seed."""
    draw = random.Random(plan.seed)
    variance = math.log(1 + plan.spread**2)
    mean = math.log(plan.seconds) - variance / 2
    found, at = [], 0.0
    for _ in range(plan.jobs):
        at += draw.expovariate(plan.rate)
        priority = draw.choices(list(PRIORITIES), list(PRIORITIES.values()))[0]
        found.append(Arrival(at, priority, draw.lognormvariate(mean, math.sqrt(variance))))
    return found


@dataclass
class _Worker:
    slots: int
    alive: bool = True
    running: set[int] = field(default_factory=set)


class _QueueSimulation:
    """The state of one simulation."""

    def __init__(self, plan: Plan, jobs: Sequence[Arrival]) -> None:
        self.plan, self.jobs = plan, jobs
        self.now, self.runs = 0.0, 0
        self.draw = random.Random(plan.seed + 1)
        self.workers = [_Worker(plan.concurrency) for _ in range(plan.workers)]
        self.waiting: list[tuple[int, int]] = []
        self.started: dict[int, float] = {}
        self.run_of: dict[int, tuple[int, int]] = {}
        """By job: the worker that runs it, and which run of all this is."""
        self.events: list[tuple[float, int, str, int, int]] = []
        self.lost = 0
        for number, job in enumerate(jobs):
            self.add(job.at, "arrives", number)
        for number, at in enumerate(plan.deaths):
            self.add(at, "dies", number % plan.workers)

    def add(self, at: float, what: str, whom: int, run: int = 0) -> None:
        heapq.heappush(self.events, (at, len(self.events), what, whom, run))

    def run(self) -> None:
        while self.events:
            self.now, _, what, whom, run = heapq.heappop(self.events)
            if what in {"arrives", "is_rescued"}:
                heapq.heappush(self.waiting, (-self.jobs[whom].priority, whom))
            elif what == "ends":
                self.end(whom, run)
            elif what == "dies":
                self.die(whom)
            else:
                self.workers[whom].alive = True
            self.start()

    def start(self) -> None:
        """Give waiting jobs to the worker with the most free slots."""
        while self.waiting:
            free = [each for each in self.workers if each.alive and each.slots > len(each.running)]
            if not free:
                return
            worker = max(free, key=lambda each: each.slots - len(each.running))
            _, job = heapq.heappop(self.waiting)
            self.runs += 1
            worker.running.add(job)
            self.started[job] = self.now
            self.run_of[job] = (self.workers.index(worker), self.runs)
            length = self.jobs[job].seconds + self.plan.overhead
            self.add(self.now + length, "ends", job, self.runs)

    def end(self, job: int, run: int) -> None:
        worker, current = self.run_of[job]
        if current == run:
            self.workers[worker].running.discard(job)

    def die(self, whom: int) -> None:
        """Hold its jobs until their leases end; those are renewed at a third of their length."""
        worker, plan = self.workers[whom], self.plan
        left = self.draw.uniform(plan.lease * 2 / 3, plan.lease)
        for job in worker.running:
            self.run_of[job] = (whom, 0)
            self.add(self.now + left + self.draw.uniform(0, plan.tick), "is_rescued", job)
        self.lost += len(worker.running)
        worker.running.clear()
        worker.alive = False
        self.add(self.now + plan.restart, "is_back", whom)


def simulate(plan: Plan, jobs: Sequence[Arrival] | None = None) -> dict[str, Any]:
    """Return how long jobs wait for their last start, in milliseconds, by priority and in all."""
    jobs = arrivals(plan) if jobs is None else jobs
    simulation = _QueueSimulation(plan, jobs)
    simulation.run()
    waits = [(job.priority, simulation.started[number] - job.at) for number, job in enumerate(jobs)]
    return summary(waits) | {"lost": simulation.lost}


def summary(waits: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """Return mean and percentiles of waits in seconds, as milliseconds."""
    groups: dict[str, list[float]] = {"all": [wait for _, wait in waits]}
    for priority in PRIORITIES:
        groups[f"priority {priority}"] = [wait for each, wait in waits if each == priority]
    return {name: _figures(group) for name, group in groups.items() if group}


def _figures(waits: Sequence[float]) -> dict[str, float]:
    ordered = sorted(1_000 * wait for wait in waits)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)

    return {
        "mean_ms": round(statistics.fmean(ordered), 1),
        "p50_ms": at(0.5),
        "p95_ms": at(0.95),
        "max_ms": round(ordered[-1], 1),
    }


def erlang_wait(rate: float, seconds: float, slots: int) -> float:
    """Return the mean wait in seconds for exponential times and no priorities (Erlang's C)."""
    offered = rate * seconds
    if offered >= slots:
        return math.inf
    term, total = 1.0, 1.0
    for number in range(1, slots):
        term *= offered / number
        total += term
    last = term * offered / slots * slots / (slots - offered)
    return last / (total + last) * seconds / (slots - offered)


def main() -> None:
    """Print what a plan leads to."""
    parser = argparse.ArgumentParser(prog="python -m bench.queueing", description=__doc__)
    for name, default in asdict(Plan(rate=20, seconds=0.4, workers=4, jobs=20_000)).items():
        if name != "deaths":
            parser.add_argument(f"--{name}", type=type(default), default=default)
    plan = Plan(**vars(parser.parse_args()))
    print(json.dumps({"load": round(plan.load, 3), **simulate(plan)}, indent=2))


if __name__ == "__main__":
    main()
