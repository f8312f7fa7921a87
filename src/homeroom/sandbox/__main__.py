"""Run the sandbox: `python -m homeroom.sandbox --port 8430`.

Prints one line of JSON once it accepts requests:
`{"url": "http://127.0.0.1:8430", "environment": {"HOMEROOM_DIRECTORY_URL": "...", ...}}`.
SIGTERM and SIGINT stop it within a second; so does the end of its standard input with
`--until-stdin-closes`, which ties its lifetime to the process that started it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence

from homeroom.sandbox.server import environment, serve
from homeroom.sandbox.state import SandboxConfig


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until stopped; return the exit code: 0, or 1 if the port is in use."""
    options = _parser().parse_args(arguments)
    try:
        config = SandboxConfig(
            webhook_secret=options.webhook_secret,
            credly_token=options.credly_token,
            organization=options.organization,
            directory_token=options.directory_token,
            assessment_token=options.assessment_token,
            seed=options.seed,
        )
        ports = (options.port, options.mail_port)
        asyncio.run(_run_until_stopped(config, options.host, ports, options.until_stdin_closes))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"The sandbox cannot start: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    default = SandboxConfig()
    parser = argparse.ArgumentParser(
        prog="python -m homeroom.sandbox",
        description="Run partner systems to develop and test against, on loopback.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0, the default, uses a free one")
    parser.add_argument("--mail-port", type=int, default=0, help="of the mail server, likewise")
    parser.add_argument("--webhook-secret", default=default.webhook_secret, metavar="whsec_...")
    parser.add_argument("--credly-token", default=default.credly_token)
    parser.add_argument("--organization", default=default.organization)
    parser.add_argument("--directory-token", help="unset: the directory requires none")
    parser.add_argument("--assessment-token", help="unset: the assessment service requires none")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="stop when standard input, a pipe, ends",
    )
    return parser


async def _run_until_stopped(
    config: SandboxConfig, host: str, ports: tuple[int, int], until_stdin_closes: bool
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Not loop.add_signal_handler: Windows has none.
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    if until_stdin_closes:
        standard_input = sys.stdin.fileno()

        def drain() -> None:
            if not os.read(standard_input, 4096):
                loop.remove_reader(standard_input)
                stop.set()

        loop.add_reader(standard_input, drain)

    mail_ports: list[int] = []

    def announce(bound_port: int) -> None:
        base_url = f"http://{f'[{host}]' if ':' in host else host}:{bound_port}"
        line = {"url": base_url, "environment": environment(base_url, config, mail_ports[0])}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    await serve(
        config,
        host=host,
        port=ports[0],
        mail_port=ports[1],
        started=announce,
        mail_started=mail_ports.append,
        stop=stop,
    )


if __name__ == "__main__":
    raise SystemExit(main())
