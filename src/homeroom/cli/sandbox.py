"""``homeroom sandbox``: partner systems to develop and test against."""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from homeroom.cli.group import Json, epilog
from homeroom.cli.output import note, print_json, say
from homeroom.errors import BadRequest, Unavailable
from homeroom.http.server import run_loop
from homeroom.sandbox.config import SandboxConfig
from homeroom.sandbox.server import environment, serve

_DEFAULT = SandboxConfig()
PORT = 8430
EPILOG = epilog(
    "homeroom sandbox",
    "homeroom sandbox > partners.env &   # then: . ./partners.env && homeroom serve",
    "homeroom sandbox --port 0 --json | jq .environment",
    'curl -X POST localhost:8430/control/faults -d \'{"server": "hr", "mode": "status"}\'',
)


def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = PORT,
    mail_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of the mail server; 0 takes a free one.")
    ] = 0,
    webhook_secret: Annotated[
        str, typer.Option(metavar="whsec_...", help="What webhooks must be signed with.")
    ] = _DEFAULT.webhook_secret,
    credly_token: Annotated[
        str, typer.Option(help="What the Credly-like server wants.")
    ] = _DEFAULT.credly_token,
    organization: Annotated[
        str, typer.Option(help="The organization there.")
    ] = _DEFAULT.organization,
    directory_token: Annotated[
        str | None, typer.Option(help="What the directory wants; unset: nothing.")
    ] = None,
    assessment_token: Annotated[
        str | None, typer.Option(help="What the assessment service wants; unset: nothing.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Decides the people, scores and dice it makes up.")
    ] = _DEFAULT.seed,
    as_json: Json = False,
) -> None:
    """Run directory, assessment, Credly-like, analytics, HR and mail servers until Ctrl-C.

    They check what they are sent, and can be told to fail, be slow, or time out after having done
    the work. Standard output gets the settings that point Homeroom at them, to be read by a shell.
    """
    try:
        config = SandboxConfig(
            webhook_secret=webhook_secret,
            credly_token=credly_token,
            organization=organization,
            directory_token=directory_token,
            assessment_token=assessment_token,
            seed=seed,
        )
    except ValueError as error:
        raise BadRequest(str(error), hint="Leave it out to take the sandbox's own.") from error

    mail_ports: list[int] = []

    def announce(bound: int) -> None:
        url = f"http://{f'[{host}]' if ':' in host else host}:{bound}"
        settings = environment(url, config, mail_ports[0])
        if as_json:
            print_json({"url": url, "environment": settings})
        else:
            note(f"The partner systems answer at {url}; Ctrl-C ends them.")
            note(f"What they got: {url}/control/summary. Homeroom finds them by:")
            say("\n".join(f"export {name}={shlex.quote(settings[name])}" for name in settings))
        sys.stdout.flush()

    try:
        run_loop(_until_told(config, host, (port, mail_port), announce, mail_ports.append))
    except OSError as error:
        raise Unavailable(
            f"The sandbox cannot listen on {host}:{port}: {error.strerror or error}.",
            hint="Take another port with --port, or any free one with --port 0.",
        ) from error


async def _until_told(
    config: SandboxConfig,
    host: str,
    ports: tuple[int, int],
    announce: Callable[[int], None],
    mail_started: Callable[[int], None],
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # not loop.add_signal_handler: Windows has none
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    await serve(
        config,
        host=host,
        port=ports[0],
        mail_port=ports[1],
        started=announce,
        mail_started=mail_started,
        stop=stop,
    )
