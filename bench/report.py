"""Write the page of figures from what the benchmarks measured."""

from typing import Any

CAVEATS = {
    "ingest": (
        "Bodies of ten events, 64 connections, 1 % of the requests repeated, roll-ups on, API key"
        " checked, `synchronous=FULL`; the load generator shares the two cores with the server."
        " After every run the sum of `timeSpent` in the ledger was compared with what was"
        " acknowledged. `bare` only decodes and stores nothing."
    ),
    "jobs": (
        "No-op jobs in one process on SQLite. Ours keeps the row, the attempt and the history and"
        " settles durably; huey forgets a job that has run. `64 at once` is a setting, the default"
        " is 3."
    ),
    "finish": (
        "One client, one request at a time, a pause before each; the worker and the sandbox run"
        " meanwhile. All steps of all completions were seen done afterwards."
    ),
    "memory": (
        "Resident memory of the serving process (worker and scheduler included): idle, at the end"
        " of a load at full speed, and settled after it."
    ),
    "queueing": (
        "How long jobs wait for a slot, predicted by `bench/queueing.py` and measured with two"
        " worker processes of three slots each on one SQLite file; both were given the same jobs at"
        " the same times. A job takes 200 ms on average (log-normal, deviation as large as the"
        " average), 10 % are urgent (10), 70 % normal (5), 20 % low (1). In `a worker dies` one is"
        " killed after 10 s and holds its jobs for a lease of 3 s. Each ran once, and percentiles"
        " of the 45 urgent jobs are rough."
    ),
}
TITLES = {
    "ingest": "Ingest of progress events",
    "jobs": "Jobs",
    "finish": "A request that finishes a course",
    "memory": "Memory",
    "queueing": "Waiting for a worker",
}


def page(figures: dict[str, Any]) -> str:
    """Return the Markdown page of all figures."""
    parts = [
        "# What was measured",
        "`make bench` writes this page. Every figure is a median; each group ran in one go on one"
        " machine, contenders in turns, so compare within a group and not across.",
    ]
    for name, title in TITLES.items():
        if name in figures:
            machine = figures[name]["machine"]
            parts.append(f"## {title}")
            parts.append(CAVEATS[name])
            parts += _tables(figures[name]["measured"])
            parts.append("Measured with " + ", ".join(f"{k} {v}" for k, v in machine.items()) + ".")
    return "\n\n".join(parts) + "\n"


def _tables(measured: dict[str, Any]) -> list[str]:
    """Return the tables of one benchmark: contenders as rows where there are some."""
    plain = {key: value for key, value in measured.items() if not isinstance(value, dict)}
    tables = []
    for key, value in measured.items():
        if isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
            columns = list(dict.fromkeys(name for row in value.values() for name in row))
            rows = [
                [name, *(_text(row.get(c, "")) for c in columns)] for name, row in value.items()
            ]
            tables.append(_table([key, *columns], rows))
        elif isinstance(value, dict):
            tables.append(_table([key, ""], [[name, _text(v)] for name, v in value.items()]))
    if plain:
        tables.append(_table(["", ""], [[name, _text(v)] for name, v in plain.items()]))
    return tables


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:,.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
