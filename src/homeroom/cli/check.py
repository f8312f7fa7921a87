"""``homeroom check``: what is wrong with the configuration, and how to mend it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from homeroom.cli.group import Json, epilog
from homeroom.cli.house import need_database, standing
from homeroom.cli.output import counted, print_json, say
from homeroom.cli.reach import reach
from homeroom.errors import ConfigurationError, HomeroomError, Unavailable
from homeroom.http.server import run_loop
from homeroom.wiring import Settings, load_settings, problems, redis_fault

EPILOG = epilog(
    "homeroom check",
    "homeroom check --connect",
    "homeroom check --json | jq '.items[] | select(.status != \"ok\")'",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, and how it is."""

    status: Literal["ok", "warning", "error"]
    subject: str
    """A setting, or a part of the house."""
    what: str
    mend: str | None = None
    exit_code: int = 0


def check(
    connect: Annotated[
        bool,
        typer.Option("--connect", help="Ask the partners too whether they are there."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what is wrong with the configuration, and how to mend it. Nothing is changed.

    It looks at the settings, at the database and its schema, and with --connect at Redis, if jobs
    go through it, and at the partners:
    directory and assessment are asked for somebody whom nobody knows, Credly for that person's
    badges, webhooks for an answer to HEAD, and the mail server for a greeting. Warnings leave the
    exit code at 0.
    """
    try:
        settings = load_settings()
    except ConfigurationError as error:
        findings = [_error("settings", error)]
    else:
        findings = [*_settings(settings), *_database(settings)]
        if connect:
            findings += [*_redis(settings), *_partners(settings)]
    findings.sort(key=lambda found: ("error", "warning", "ok").index(found.status))
    _report(findings, as_json)


def _error(subject: str, error: HomeroomError) -> Finding:
    return Finding("error", subject, error.message, error.hint, error.exit_code)


def _settings(settings: Settings) -> list[Finding]:
    found = [
        Finding(
            each.severity,
            each.setting,
            each.what,
            each.mend,
            ConfigurationError.exit_code if each.severity == "error" else 0,
        )
        for each in problems(settings)
    ]
    if any(each.status == "error" for each in found):
        return found
    return [Finding("ok", "settings", "A server can run with these."), *found]


def _database(settings: Settings) -> list[Finding]:
    try:
        place = settings.database_name
    except ConfigurationError:
        return []  # said by problems already
    try:
        state = need_database(settings)
    except HomeroomError as error:
        return [_error("database", error)]
    status: Literal["ok", "warning"] = "warning" if state.is_newer else "ok"
    return [
        Finding(status, "database", f"{place} is {standing(state)}."),
        *_private(settings.database_place),
    ]


def _private(place: Path | str) -> list[Finding]:
    """Say if a file may be read by others on this machine, as those of early releases may."""
    if not isinstance(place, Path) or not place.stat().st_mode & 0o077:
        return []
    what = f"{place} may be read by other users of this machine; it holds people's addresses."
    return [Finding("warning", "database", what, f"Take that from them: chmod 600 {place}*")]


def _redis(settings: Settings) -> list[Finding]:
    if not settings.uses_redis:
        return []
    try:
        fault = run_loop(redis_fault(settings))
    except ConfigurationError as error:
        return [_error("redis", error)]
    if fault is None:
        return [Finding("ok", "redis", "Redis answers and can keep jobs.")]
    mend = (
        "See that HOMEROOM_QUEUE_URL, REDIS_HOST or HOMEROOM_REDIS_SENTINELS is right, the password"
        " too, and that this machine may reach it."
    )
    if "maxmemory-policy" in fault:
        mend = "Set in redis.conf: maxmemory-policy noeviction"
    elif "oldest" in fault:
        mend = "Install a newer Redis."
    return [Finding("error", "redis", f"{fault}.", mend, Unavailable.exit_code)]


def _partners(settings: Settings) -> list[Finding]:
    found = [
        Finding("ok", each.setting, f"{each.name} answers.")
        if each.fault is None
        else Finding("error", each.setting, each.fault, each.mend, Unavailable.exit_code)
        for each in run_loop(reach(settings))
    ]
    return found or [Finding("ok", "partners", "None is configured, so nobody was asked.")]


def _report(findings: list[Finding], as_json: bool) -> None:
    """Print what was found; end with 78 for a faulty configuration, else 3 for what is away."""
    if as_json:
        items = [asdict(found) for found in findings]
        for item in items:
            del item["exit_code"]
        print_json({"ok": all(found.status != "error" for found in findings), "items": items})
    else:
        for found in findings:
            say(f"{found.status:<8} {found.subject}: {found.what}")
            if found.mend:
                say(f"{'':<8} To mend it: {found.mend}")
        errors = sum(found.status == "error" for found in findings)
        if errors:
            say(f"\n{counted(errors, 'error')} to mend.")
    code = max((found.exit_code for found in findings), default=0)
    if code:
        raise typer.Exit(code)
