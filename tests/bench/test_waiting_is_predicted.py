"""The simulation of waiting: right where the answer is known, and run beside real workers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench.queueing import PRIORITIES, Plan, arrivals, erlang_wait, simulate
from bench.queueing_workers import SMALL, compare

pytestmark = [pytest.mark.xdist_group("bench")]
LONG = Plan(rate=20.0, seconds=0.25, workers=2, concurrency=3, jobs=60_000)


def test_it_agrees_with_erlang_where_erlang_knows() -> None:
    # log-normal times with a deviation as large as their average wait about as exponential ones do
    expected = 1_000 * erlang_wait(LONG.rate, LONG.seconds, LONG.workers * LONG.concurrency)
    assert simulate(LONG)["all"]["mean_ms"] == pytest.approx(expected, rel=0.1)


def test_erlangs_formula_is_that_of_the_books() -> None:
    assert erlang_wait(0.5, 1.0, 1) == pytest.approx(1.0)  # M/M/1: rho / (1 - rho) x service
    assert erlang_wait(1.0, 1.0, 2) == pytest.approx(1 / 3)  # M/M/2 at half load
    assert erlang_wait(2.0, 1.0, 2) == float("inf")


def test_the_more_urgent_wait_less() -> None:
    found = simulate(LONG)
    means = [found[f"priority {priority}"]["mean_ms"] for priority in sorted(PRIORITIES)]
    assert means == sorted(means, reverse=True)


def test_the_same_seed_is_the_same_day() -> None:
    plan = replace(LONG, jobs=2_000)
    assert arrivals(plan) == arrivals(plan)
    assert simulate(plan) == simulate(plan)
    assert simulate(plan) != simulate(replace(plan, seed=2))


def test_a_death_costs_its_jobs_about_a_lease() -> None:
    quiet = replace(LONG, jobs=4_000, rate=10.0)
    deadly = replace(quiet, deaths=(100.0, 200.0), lease=30.0)
    assert simulate(quiet)["lost"] == 0
    found = simulate(deadly)
    assert 0 < found["lost"] <= 2 * quiet.concurrency
    assert 20_000 < found["all"]["max_ms"] < 35_000
    assert found["all"]["p50_ms"] == pytest.approx(simulate(quiet)["all"]["p50_ms"], abs=5)


def test_real_workers_are_measured_beside_it() -> None:
    found = compare(SMALL)
    [plan] = SMALL.values()
    [scene] = found["scenes"].values()
    assert 0.5 < scene["load"] < 1
    assert scene["predicted_lost"] <= plan.concurrency
    assert scene["measured_lost"] <= plan.concurrency
    assert set(found["waits"]) == {
        f"a worker dies: {group}" for group in ("all", *(f"priority {p}" for p in PRIORITIES))
    }
    assert all(row["measured_p95_ms"] > 0 for row in found["waits"].values())
