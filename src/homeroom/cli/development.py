"""``homeroom demo`` and ``homeroom sandbox``, to try Homeroom and to develop."""

from __future__ import annotations

import shlex
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeroom.cli.group import JsonOption, LazyModule, command_group, epilog
from homeroom.cli.terminal import print_json, print_text, print_to_stderr
from homeroom.errors import BadRequest, Unavailable

if TYPE_CHECKING:
    import asyncio

    from rich import console as rich_console

    from homeroom.demo import environment as demo_environment
    from homeroom.demo import run as demo_run
    from homeroom.http import server as http_server
    from homeroom.sandbox import server as sandbox_server
    from homeroom.sandbox import state as sandbox_config
    from homeroom.sandbox.state import SandboxConfig
else:
    asyncio = LazyModule("asyncio")
    rich_console = LazyModule("rich.console")
    demo_environment = LazyModule("homeroom.demo.environment")
    demo_run = LazyModule("homeroom.demo.run")
    http_server = LazyModule("homeroom.http.server")
    sandbox_config = LazyModule("homeroom.sandbox.state")
    sandbox_server = LazyModule("homeroom.sandbox.server")

app = command_group("Try Homeroom, and develop against it.")
DEMO_EPILOG = """\b
Examples:
  homeroom demo                        play a class of 200 learners, check, and keep serving
  homeroom demo --exit                 end after the summary
  homeroom demo --exit --verbose       the same with every number
  homeroom demo --learners 25 --seed=7 a smaller class with other events
  homeroom demo --data-dir play        keep database and logs in the folder play
  homeroom demo --exit --json          the summary as JSON, for programs

\b
It starts a server, a worker, a scheduler and the partner systems of `homeroom sandbox`, in a
temporary folder and with keys of their own. Your settings and your data are not used.

Exit codes: 0 every number agrees, 1 a number differs or a process died, 130 interrupted."""
SANDBOX_PORT = 8430
SANDBOX_EPILOG = epilog(
    "homeroom sandbox",
    "homeroom sandbox > partners.env &   # then: . ./partners.env && homeroom serve",
    "homeroom sandbox --port 0 --json | jq .environment",
    'curl -X POST localhost:8430/control/faults -d \'{"server": "hr", "mode": "status"}\'',
)


@app.command("demo", epilog=DEMO_EPILOG)
def demo(
    exit_after: Annotated[bool, typer.Option("--exit", help="End after the summary.")] = False,
    learners: Annotated[int, typer.Option(min=1, max=5_000, help="Size of the class.")] = 200,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port; if it is in use, a free one.")
    ] = 8420,
    seed: Annotated[int, typer.Option(help="Seed of the learners' events.")] = 1,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder for database and logs; else a temporary one.", file_okay=False),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of a live view.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print each number, not a line for each kind.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Play a class of learners through HTTP and check every number.

    The expected numbers are computed from the sent events alone.
    """
    # With --json, standard output holds the summary and nothing else.
    console = rich_console.Console(stderr=as_json, highlight=False)
    with ExitStack() as stack:
        folder = data_dir
        if folder is None:
            temporary = tempfile.TemporaryDirectory(prefix="homeroom-", ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(temporary))
        options = demo_environment.DemoOptions(
            folder.resolve(), learners=learners, seed=seed, port=port
        )
        presentation = demo_run.Presentation(
            live=console.is_terminal and not plain and not as_json,
            as_json=as_json,
            verbose=verbose,
        )
        code = http_server.run_loop(
            demo_run.run_demo(
                options, console, keep_serving=not exit_after, presentation=presentation
            )
        )
    sys.exit(code)


@app.command("sandbox", epilog=SANDBOX_EPILOG)
def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 uses a free one.")] = SANDBOX_PORT,
    mail_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of the mail server; 0 uses a free one.")
    ] = 0,
    webhook_secret: Annotated[
        str | None, typer.Option(metavar="whsec_...", help="Secret of the webhooks' signatures.")
    ] = None,
    credly_token: Annotated[
        str | None, typer.Option(help="Token that the Credly-like server requires.")
    ] = None,
    organization: Annotated[
        str | None, typer.Option(help="Organization of the Credly-like server.")
    ] = None,
    directory_token: Annotated[
        str | None, typer.Option(help="Token that the directory requires; unset: none.")
    ] = None,
    assessment_token: Annotated[
        str | None, typer.Option(help="Token that the assessment service requires; unset: none.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the generated people and scores, and of random faults.")
    ] = 0,
    model: Annotated[
        bool, typer.Option("--model", help="Print the settings of the language model, too.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run partner systems to develop and test against, until Ctrl-C.

    They are a directory, an assessment service, a Credly-like issuer, receivers for analytics and
    HR, a mail server, and a language model for lesson plans. They check the requests that they
    receive, and can be made to fail, to be slow, or to time out after the work is done. Standard
    output gets the settings that point Homeroom at them, to be read by a shell.
    """
    given: dict[str, Any] = {
        "webhook_secret": webhook_secret,
        "credly_token": credly_token,
        "organization": organization,
        "directory_token": directory_token,
        "assessment_token": assessment_token,
    }
    try:
        config = sandbox_config.SandboxConfig(
            seed=seed, **{name: value for name, value in given.items() if value is not None}
        )
    except ValueError as error:
        raise BadRequest(str(error), hint="Leave it out to use the sandbox's default.") from error

    mail_ports: list[int] = []

    def announce(bound_port: int) -> None:
        url = f"http://{f'[{host}]' if ':' in host else host}:{bound_port}"
        settings = sandbox_server.environment(url, config, mail_ports[0])
        if model:
            settings |= sandbox_server.model_environment(url, config)
        if as_json:
            print_json({"url": url, "environment": settings})
        else:
            print_to_stderr(f"The partner systems listen at {url}; Ctrl-C ends them.")
            print_to_stderr(f"Received requests: {url}/control/summary. Settings for Homeroom:")
            print_text(
                "\n".join(f"export {name}={shlex.quote(settings[name])}" for name in settings)
            )
        sys.stdout.flush()

    try:
        http_server.run_loop(
            _serve_until_signal(config, host, (port, mail_port), announce, mail_ports.append)
        )
    except OSError as error:
        raise Unavailable(
            f"The sandbox cannot listen on {host}:{port}: {error.strerror or error}.",
            hint="Choose another port with --port, or any free one with --port 0.",
        ) from error


async def _serve_until_signal(
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
    await sandbox_server.serve(
        config,
        host=host,
        port=ports[0],
        mail_port=ports[1],
        started=announce,
        mail_started=mail_started,
        stop=stop,
    )
