"""Processor time that a ``homeroom`` command takes, beside a program of two typer commands.

Each command runs in a process of its own, in turns with the others; user and system time of the
process are added, and medians compared. ``homeroom jobs list`` reads an empty database file.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REFERENCE = """
import typer

app = typer.Typer({options})


@app.command()
def greet(name: str, times: int = 1) -> None:
    "Greet a person."


@app.command()
def leave(name: str) -> None:
    "Say goodbye to a person."


app()
"""
COMMANDS = ("--help", "--version", "jobs --help", "notify --help", "jobs list")


def _cpu_seconds(command: list[str], environment: Mapping[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(rounds: int = 15) -> dict[str, Any]:
    """Return median milliseconds of each command and its ratio to the typer program's help."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOMEROOM_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as folder:
        # compiled files as an installation has them, but outside the source tree
        environment = {
            **kept,
            "HOMEROOM_DATA_DIR": folder,
            "PYTHONPYCACHEPREFIX": str(Path(folder) / "compiled"),
        }
        commands = {}
        for name, options in (("typer", ""), ("typer without rich", "rich_markup_mode=None")):
            program = Path(folder) / f"program_{len(commands)}.py"
            program.write_text(REFERENCE.format(options=options))
            commands[name] = [sys.executable, str(program), "--help"]
        homeroom = [sys.executable, "-m", "homeroom"]
        commands |= {f"homeroom {each}": [*homeroom, *each.split()] for each in COMMANDS}
        subprocess.run(
            [*homeroom, "db", "upgrade"], env=environment, check=True, stdout=subprocess.DEVNULL
        )
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(rounds + 1):
            for name, command in commands.items():
                taken = _cpu_seconds(command, environment)
                if number:  # the first round compiles
                    seconds[name].append(taken)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return {
        "medians": {name: {"cpu_ms": round(each * 1_000, 1)} for name, each in medians.items()},
        "ratios": {
            f"{name} over typer --help": round(each / medians["typer"], 2)
            for name, each in medians.items()
            if name.startswith("homeroom")
        },
    }


if __name__ == "__main__":
    print(measure())
