"""The demo as a whole: start, play, compare, and keep serving."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import msgspec
from rich.console import Console

from homeroom.cancellation import cancel_and_wait
from homeroom.demo import facilitators
from homeroom.demo.comparison import (
    ComparisonLine,
    all_agree,
    compare_numbers,
    compare_results,
    in_group,
    read_actual,
)
from homeroom.demo.environment import DemoEnvironment, DemoOptions, open_environment, run_supervised
from homeroom.demo.example_school import example_curriculum
from homeroom.demo.live_view import LiveView, comparison_table
from homeroom.demo.next_steps import print_live_link, print_next_steps
from homeroom.demo.staff import add_staff
from homeroom.errors import HomeroomError

EXIT_INTERRUPTED = 130
BeforeCheck = Callable[[DemoEnvironment], Awaitable[None]]


class PlanGenerationFailed(HomeroomError):
    """The example curriculum could not be generated."""

    code = "curriculum_failed"


@dataclass(frozen=True, slots=True)
class Presentation:
    """The form and extent of what a run prints."""

    live: bool = False
    """A view that is drawn anew, instead of lines."""
    as_json: bool = False
    """The result as JSON on standard output."""
    verbose: bool = False
    """Each number instead of a line for each kind."""


@dataclass(frozen=True, slots=True)
class PlanGeneration:
    """A plan that was started, and the totals of its curriculum."""

    id: str
    modules: int
    minutes: int
    outcomes: int


async def run_demo(
    options: DemoOptions,
    console: Console,
    *,
    keep_serving: bool,
    presentation: Presentation,
    before_check: BeforeCheck | None = None,
) -> int:
    """Play a class and return the exit code: 0 if every number agrees, else 1.

    130 means that it was interrupted before the comparison. ``before_check`` is for tests: it may
    change stored data, which the comparison must then report. Raises ``HomeroomError`` if a process
    dies or a request is refused.
    """
    code = EXIT_INTERRUPTED
    with _cancelled_by_signals():
        try:
            async with open_environment(options) as environment:
                if keep_serving:
                    print_live_link(environment, console)
                code, plan = await _play_and_compare(
                    environment, console, presentation, before=before_check
                )
                if keep_serving:
                    await add_staff(environment)
                    await print_next_steps(environment, console, plan)
                    await run_supervised(environment, _wait_forever)
        except asyncio.CancelledError:
            console.print("Stopped.", markup=False)
    return code


@contextmanager
def _cancelled_by_signals() -> Iterator[None]:
    """Cancel this task on SIGINT and SIGTERM, so that no child process is left."""
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if task is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    # Not loop.add_signal_handler: Windows has none.
    previous = {
        number: signal.signal(number, lambda *_: loop.call_soon_threadsafe(task.cancel))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


async def _wait_forever() -> None:
    await asyncio.Event().wait()


async def _play_and_compare(
    environment: DemoEnvironment,
    console: Console,
    presentation: Presentation,
    *,
    before: BeforeCheck | None,
) -> tuple[int, str]:
    """Return the exit code and the id of the lesson plans."""
    began = time.monotonic()
    plan = environment.plan
    server, options = environment.server, environment.options
    if options.port not in {0, server.port}:
        console.print(f"Port {options.port} is in use; a free one is used instead.", markup=False)
    console.print(
        f"The server is at {server.url}, its data and logs are in {options.data_dir}.\n"
        f"{len(plan.learners)} learners take {len(environment.courses)} courses:"
        f" {plan.event_count:,} events in {plan.request_count:,} requests,"
        " with repeats, late and faulty ones and cut connections.",
        markup=False,
        soft_wrap=True,
    )
    await run_supervised(environment, environment.load)
    await environment.inject_partner_faults()
    plans = await start_lesson_plans(environment.api)
    console.print(
        f"A curriculum of {plans.modules} modules and {plans.minutes / 60:g} contact hours becomes"
        " lesson plans meanwhile.",
        markup=False,
        soft_wrap=True,
    )
    is_idle = False

    async def play() -> None:
        nonlocal is_idle
        await environment.play()
        is_idle = await environment.settle()

    async with _live_view(environment, console, live=presentation.live):
        await run_supervised(environment, play)
    if not is_idle:
        console.print("Some jobs are still unfinished after two minutes.", markup=False)
    if before is not None:
        await before(environment)
    actual = await read_actual(environment.api, environment.sandbox.url, environment.expected)
    lines = [
        *compare_results(environment.expected, environment.answers, actual),
        *in_group("lesson plans", await compare_lesson_plans(environment.api, plans)),
    ]
    console.print("Four weeks of 30 facilitators in two programmes pass.", markup=False)
    folder, seed = environment.options.data_dir / "facilitators", environment.options.seed
    messages = await facilitators.play_weeks(
        folder, environment.sandbox.environment, environment.sandbox.url, seed
    )
    lines += in_group("messages", messages)
    seconds = time.monotonic() - began
    _print_result(environment, lines, seconds, console, presentation)
    return (0 if all_agree(lines) else 1), plans.id


@asynccontextmanager
async def _live_view(
    environment: DemoEnvironment, console: Console, *, live: bool
) -> AsyncIterator[None]:
    view = LiveView(environment, console, live=live)
    watching = asyncio.create_task(view.run())
    try:
        yield
        await view.refresh()  # the last view stays on the terminal
    finally:
        await cancel_and_wait(watching)


def _print_result(
    environment: DemoEnvironment,
    lines: Sequence[ComparisonLine],
    seconds: float,
    console: Console,
    presentation: Presentation,
) -> None:
    answers, off = environment.answers, sum(not line.ok for line in lines)
    if presentation.as_json:
        result = {
            "ok": all_agree(lines),
            "url": environment.server.url,
            "learners": len(environment.plan.learners),
            "finishedCourses": len(environment.expected.finished),
            "events": answers.events,
            "requests": answers.requests,
            "cutConnections": answers.cuts,
            "lostAnswers": answers.lost,
            "seconds": round(seconds, 1),
            "lines": [asdict(line) for line in lines],
        }
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
        sys.stdout.flush()
        return
    console.print(comparison_table(lines, verbose=presentation.verbose))
    console.print(
        f"{len(lines)} numbers compared after {seconds:.0f} s and {answers.events:,} events"
        f" ({answers.count('duplicate'):,} of them repeats, {answers.cuts} connections cut): "
        + ("all agree." if not off else f"{off} of them OFF."),
        markup=False,
        soft_wrap=True,
    )


async def start_lesson_plans(api: httpx.AsyncClient) -> PlanGeneration:
    """Store the example curriculum and start its generation."""
    body = example_curriculum()
    created = await api.post("/api/v3/workflow", json=body)
    if created.status_code != httpx.codes.CREATED:
        raise PlanGenerationFailed(f"The curriculum was refused: {created.text}")
    id = created.json()["workflowId"]
    started = await api.post(f"/api/v3/workflow/{id}/step10")
    if started.status_code != httpx.codes.ACCEPTED:
        raise PlanGenerationFailed(f"The generation was refused: {started.text}")
    modules = body["modules"]
    return PlanGeneration(
        id,
        len(modules),
        round(sum(module["contactHours"] for module in modules) * 60),
        sum(len(module["outcomes"]) for module in modules),
    )


async def compare_lesson_plans(
    api: httpx.AsyncClient, expected: PlanGeneration
) -> Sequence[ComparisonLine]:
    """Compare the generated plan with its curriculum."""
    plan = await _get_data(api, f"/api/v3/workflow/{expected.id}/step10")
    status = await _get_data(api, f"/api/v3/workflow/{expected.id}/step10/status")
    lessons = [lesson for module in plan["modules"] for lesson in module["lessons"]]
    minutes = sum(
        activity["minutes"] for lesson in lessons for activity in lesson.get("activities", ())
    )
    covered = sum(bool(each["taughtIn"] and each["assessedIn"]) for each in plan["coverage"])
    return [
        compare_numbers("lesson plans: modules", expected.modules, status["modulesGenerated"]),
        compare_numbers("lesson plans: contact minutes", expected.minutes, minutes),
        compare_numbers("lesson plans: outcomes taught and assessed", expected.outcomes, covered),
        compare_numbers("lesson plans: gaps", 0, status["lessonsWithGaps"]),
    ]


async def _get_data(api: httpx.AsyncClient, path: str) -> Any:
    answer = await api.get(path)
    answer.raise_for_status()
    return answer.json()["data"]
