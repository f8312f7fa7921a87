"""The demo from beginning to end: start, play, check, and go on serving."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict

import msgspec
from rich.console import Console

from homeroom.demo import curriculum, found, weeks
from homeroom.demo.check import Line, all_agree, compare
from homeroom.demo.school import Options, School, school, unless_a_child_dies
from homeroom.demo.view import View, summary
from homeroom.tasks import cancel

INTERRUPTED = 130
BeforeCheck = Callable[[School], Awaitable[None]]


async def run(
    options: Options,
    console: Console,
    *,
    keep_serving: bool,
    live: bool,
    as_json: bool = False,
    before_check: BeforeCheck | None = None,
) -> int:
    """Play a class and return the exit code: 0 if every number agrees, 1 if one is off.

    130 means that it was interrupted before it knew. ``before_check`` is for tests: it may change
    what is stored, which the check must then notice. Raises ``HomeroomError`` if a program dies or
    a request is refused.
    """
    code = INTERRUPTED
    with _cancelled_by_signals():
        try:
            async with school(options) as made:
                code = await _run(made, console, live=live, as_json=as_json, before=before_check)
                if keep_serving:
                    _say_what_now(made, console)
                    await unless_a_child_dies(made, _for_ever)
        except asyncio.CancelledError:
            console.print("Stopped.", markup=False)
    return code


@contextmanager
def _cancelled_by_signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM cancel this task meanwhile, so that it leaves no child behind."""
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if task is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    # Not loop.add_signal_handler: Windows has none.
    before = {
        number: signal.signal(number, lambda *_: loop.call_soon_threadsafe(task.cancel))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _run(
    made: School, console: Console, *, live: bool, as_json: bool, before: BeforeCheck | None
) -> int:
    began = time.monotonic()
    plan = made.plan
    if made.server.port != made.options.port:
        console.print(f"Port {made.options.port} is taken; a free one is used.", markup=False)
    console.print(
        f"The server is at {made.server.url}, its data and logs are in {made.options.data_dir}.\n"
        f"{len(plan.learners)} learners take {len(made.courses)} courses: {plan.events:,} events in"
        f" {plan.deliveries:,} requests, with repeats, late and faulty ones and cut connections.",
        markup=False,
        soft_wrap=True,
    )
    await unless_a_child_dies(made, made.load)
    await made.break_partners()
    plans = await curriculum.start(made.api)
    console.print(
        f"A curriculum of {plans.modules} modules and {plans.minutes / 60:g} contact hours becomes"
        " lesson plans meanwhile.",
        markup=False,
        soft_wrap=True,
    )
    drained = False

    async def play() -> None:
        nonlocal drained
        await made.play()
        drained = await made.settle()

    async with _watched(made, console, live=live):
        await unless_a_child_dies(made, play)
    if not drained:
        console.print("Some jobs are still not done after two minutes.", markup=False)
    if before is not None:
        await before(made)
    read = await found.read(made.api, made.sandbox.url, made.expected)
    lines = [
        *compare(made.expected, made.answers, read),
        *await curriculum.compare(made.api, plans),
    ]
    console.print("Four weeks of 30 facilitators in two programmes pass.", markup=False)
    folder, seed = made.options.data_dir / "facilitators", made.options.seed
    lines += await weeks.play(folder, made.sandbox.environment, made.sandbox.url, seed)
    seconds = time.monotonic() - began
    _say_result(made, lines, seconds, console, as_json=as_json)
    return 0 if all_agree(lines) else 1


@asynccontextmanager
async def _watched(made: School, console: Console, *, live: bool) -> AsyncIterator[None]:
    view = View(made, console, live=live)
    watching = asyncio.create_task(view.run())
    try:
        yield
        await view.look()  # what stays on the terminal is how it ended
    finally:
        await cancel(watching)


def _say_result(
    made: School, lines: Sequence[Line], seconds: float, console: Console, *, as_json: bool
) -> None:
    answers, off = made.answers, sum(not line.ok for line in lines)
    if as_json:
        result = {
            "ok": all_agree(lines),
            "url": made.server.url,
            "learners": len(made.plan.learners),
            "finishedCourses": len(made.expected.finished),
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
    console.print(summary(lines))
    console.print(
        f"{len(lines)} numbers compared after {seconds:.0f} s and {answers.events:,} events"
        f" ({answers.count('duplicate'):,} of them repeats, {answers.cuts} connections cut): "
        + ("all agree." if not off else f"{off} of them OFF."),
        markup=False,
        soft_wrap=True,
    )


def _say_what_now(made: School, console: Console) -> None:
    """Say how to look around: the sign-in link, and requests to try."""
    learner, course = made.plan.learners[0].user_id, made.courses[0].id
    link = made.server.sign_in_link()
    url, key = made.server.url, made.admin_key
    console.print(
        f"\nHomeroom goes on serving at {url} (its API: {url}/docs). Ctrl-C ends it.\n"
        + (f"Sign in once with {link}\n" if link else "")
        + "\nTry:\n"
        f"  export KEY={key}\n"
        f'  curl -H "Authorization: Bearer $KEY"'
        f' "{url}/api/v1/courses/{course}/progress?userId={learner}"\n'
        f'  curl -H "Authorization: Bearer $KEY" "{url}/api/v1/completions?limit=2"\n'
        f'  curl -H "Authorization: Bearer $KEY" {url}/api/v1/queues\n'
        f'  curl -H "Authorization: Bearer $KEY" {url}/api/v3/workflow\n'
        f"  curl {made.sandbox.url}/control/summary\n"
        "\nThe facilitators' four weeks, week by week, and a mail as its reader sees it:\n"
        f"  HOMEROOM_DATA_DIR={made.options.data_dir / 'facilitators'}"
        " .venv/bin/homeroom programmes compliance data-lab --to 2026-W46\n"
        f"  {made.sandbox.url}/control/mail/1 (all of them: {made.sandbox.url}/control/mail)",
        markup=False,
        soft_wrap=True,
    )
