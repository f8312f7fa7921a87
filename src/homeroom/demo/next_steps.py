"""The links and hints at the end of the demo, for a person who goes on."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from rich.console import Console

from homeroom.demo.environment import SIGNED_COURSE, DemoEnvironment
from homeroom.demo.staff import console_link, staff_links


def print_live_link(environment: DemoEnvironment, console: Console) -> None:
    """Print the link by which the console shows the class while it plays."""
    link = console_link(environment, "operator", "olu", "operator", "/console")
    _print(console, f"Watch the class in the console: {link.url}")


async def print_next_steps(environment: DemoEnvironment, console: Console, plan_id: str) -> None:
    """Print links that open, and requests to try."""
    url, sandbox_url = environment.server.url, environment.sandbox.url
    pages = [(f"console, as {each.title}", each.url) for each in staff_links(environment)]
    plan = console_link(environment, "plan", "ada", "author", f"/console/plans/{plan_id}")
    credential = await _find_credential(environment)
    if credential is not None:
        pages.append(("a learner's credential", credential))
    pages += [("a lesson plan", plan.url), ("the mailbox", f"{sandbox_url}/control/mailbox")]
    lines = "\n".join(f"  {title + ':':<25} {link}" for title, link in pages)
    learner, course = environment.plan.learners[0].user_id, environment.courses[0].id
    _print(
        console,
        f"\nHomeroom keeps serving at {url} (its API: {url}/docs). Ctrl-C ends it.\nOpen:\n{lines}"
        "\n\nOr in another terminal:\n"
        f"  export KEY={environment.admin_key}\n"
        f'  curl -H "Authorization: Bearer $KEY"'
        f' "{url}/api/v1/courses/{course}/progress?userId={learner}"\n'
        f'  curl -H "Authorization: Bearer $KEY" {url}/api/v1/queues\n'
        f"  HOMEROOM_DATA_DIR={environment.options.data_dir / 'facilitators'}"
        f" {_command()} programmes compliance data-lab --to 2026-W46\n" + _player_hint(environment),
    )


async def _find_credential(environment: DemoEnvironment) -> str | None:
    """Return the page of a credential that was signed here."""
    answer = await environment.api.get("/api/v1/credentials", params={"limit": "1000"})
    items = answer.raise_for_status().json()["items"]
    return next((each["url"] for each in items if each["courseId"] == SIGNED_COURSE), None)


def _print(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)


def _player_hint(environment: DemoEnvironment) -> str:
    """Return how to start the example page; empty outside a checkout, which has it."""
    folder = Path("examples") / "react-course-player"
    if not folder.is_dir():
        return ""
    return (
        "\nA page with a course, in another terminal:\n"
        f"  cd {folder} && npm ci\n"
        f"  HOMEROOM_URL={environment.server.url} HOMEROOM_KEY={environment.admin_key}"
        f" HOMEROOM_JWT_SECRET={environment.jwt_secret} npm start\n"
    )


def _command() -> str:
    """Return the command that started the demo, as the reader may type it."""
    started = Path(sys.argv[0])
    on_path = shutil.which("homeroom")
    if on_path is not None and Path(on_path).resolve() == started.resolve():
        return "homeroom"
    return str(started) if started.name == "homeroom" else f"{sys.executable} -m homeroom"
