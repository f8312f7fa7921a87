"""``homeroom schedules``: list, run, pause and change schedules."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeroom.cli.application import audit_actor, run_with_application, run_with_database
from homeroom.cli.group import JsonOption, LazyModule, command_group, epilog, parse_duration_us
from homeroom.cli.terminal import (
    format_instant,
    pluralize,
    print_json,
    print_table,
    print_text,
    print_to_stderr,
    to_json_fields,
)
from homeroom.errors import BadRequest
from homeroom.instant import SECOND
from homeroom.redaction import redact_json

if TYPE_CHECKING:
    from homeroom.access import api as access
    from homeroom.bootstrap.application import Application
    from homeroom.db.database import Database
    from homeroom.jobs import api as jobs_api
    from homeroom.jobs import schedule_store
    from homeroom.jobs.schedule import ScheduleSlot
    from homeroom.jobs.schedule_store import Schedule, SlotRecord, UpcomingSlot
else:
    access = LazyModule("homeroom.access.api")
    jobs_api = LazyModule("homeroom.jobs.api")
    schedule_store = LazyModule("homeroom.jobs.schedule_store")

ScheduleNameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="As `homeroom schedules list` shows it.")
]

app = command_group("List, run, pause and change schedules.")


@app.command(
    "list",
    epilog=epilog(
        "homeroom schedules list",
        "homeroom schedules list --json | jq '.items[] | select(.paused)'",
    ),
)
def list_(as_json: JsonOption = False) -> None:
    """List the schedules with their next instant and the outcome of their last slot."""

    async def read_schedules(db: Database) -> list[tuple[Schedule, list[SlotRecord]]]:
        async with db.read() as tx:
            return [
                (each, await schedule_store.fired_slots(tx, each.name, limit=10))
                for each in await schedule_store.schedules(tx)
            ]

    schedules = run_with_database(read_schedules)
    if as_json:
        items = [to_json_fields(jobs_api.schedule_fields(*each)) for each in schedules]
        print_json({"items": items})
        return
    print_table(
        ("NAME", "CRON", "TIME ZONE", "NEXT", "LAST SLOT", "STATE"),
        [
            (
                each.name,
                each.cron,
                each.time_zone,
                "paused" if each.paused else format_instant(each.next_slot_at),
                slots[0].slot if slots else "-",
                slots[0].outcome if slots else "-",
            )
            for each, slots in schedules
        ],
        "There are no schedules yet; a server or worker declares them when it starts.",
    )


@app.command(
    "next",
    epilog=epilog(
        "homeroom schedules next",
        "homeroom schedules next deadline_warning.data-lab",
        "homeroom schedules next --json | jq '.items[0].preview.messages[].userId'",
        codes=(4, 5),
    ),
)
def next_(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only this schedule.")] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=100, help="Schedules at most, those that fire first.")
    ] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show whom the coming slots would write to, and why not to the others.

    The answer is as of now: a log that arrives before the slot changes what is sent. Only schedules
    that write to people are listed. Nothing is written.
    """

    async def read_upcoming(application: Application) -> list[UpcomingSlot]:
        names = [name]
        if name is None:
            async with application.db.read() as tx:
                found = await schedule_store.list_upcoming_schedules(
                    tx, application.registry, limit
                )
            names = [each.name for each in found]
        upcoming = []
        for each in filter(None, names):
            async with application.db.read() as tx:
                upcoming.append(
                    await schedule_store.preview_next_slot(tx, application.registry, each)
                )
        return upcoming

    slots = run_with_application(read_upcoming)
    if as_json:
        print_json({"items": [_upcoming_fields(each) for each in slots]})
        return
    if not slots:
        print_text("No schedule writes to people yet; one comes with each programme.")
    for each in slots:
        schedule = each.schedule.name
        if each.slot is None:
            print_text(f"{schedule}: {'paused' if each.schedule.paused else 'no further slot'}.")
            continue
        print_text(f"{schedule} at {each.slot.name} would send:")
        _print_preview(redact_json(each.preview))


def _upcoming_fields(upcoming: UpcomingSlot) -> dict[str, Any]:
    slot = upcoming.slot
    fields = {
        "schedule": upcoming.schedule.name,
        "paused": upcoming.schedule.paused,
        "slot": None if slot is None else slot.name,
        "slot_at": None if slot is None else slot.at,
    }
    return {**to_json_fields(fields), "preview": redact_json(upcoming.preview)}


@app.command(
    "run",
    epilog=epilog(
        "homeroom schedules run reminder.data-lab --dry-run",
        "homeroom schedules run report.data-lab",
        codes=(4, 5),
    ),
)
def run(
    name: ScheduleNameArgument,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only list the messages that it would send, and the people without one.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the latest slot of a schedule now, also one that was missed or is paused.

    No message is sent twice, and none that has expired. A worker has to be running.
    """
    if dry_run:
        _dry_run(name, as_json)
        return

    async def run_now(application: Application) -> SlotRecord:
        async with application.db.write() as tx:
            slot = await schedule_store.run_schedule_now(tx, application.registry, name)
            await access.record_audit(tx, audit_actor(), "schedule.run", name, {"slot": slot.slot})
        return slot

    fired_slot = run_with_application(run_now)
    if as_json:
        print_json(
            to_json_fields(
                {
                    "schedule": name,
                    "slot": fired_slot.slot,
                    "dry_run": False,
                    "job_id": fired_slot.job,
                }
            )
        )
    else:
        print_text(f"Added the job {fired_slot.job} for the slot {fired_slot.slot}.")


def _dry_run(name: str, as_json: bool) -> None:
    async def read_preview(application: Application) -> tuple[ScheduleSlot, Any]:
        async with application.db.read() as tx:
            return await schedule_store.preview_schedule(tx, application.registry, name)

    slot, unredacted = run_with_application(read_preview)
    preview = redact_json(unredacted)
    if as_json:
        print_json({"schedule": name, "slot": slot.name, "dryRun": True, "preview": preview})
        return
    print_text(f"The slot {slot.name} of {name} would send:")
    _print_preview(preview)
    print_to_stderr(f"{pluralize(len(preview['messages']), 'message')}; nothing was written.")


def _print_preview(preview: dict[str, Any]) -> None:
    rows = [
        (each["userId"], each["type"], delivery["channel"], _planned_outcome(delivery))
        for each in preview["messages"]
        for delivery in each["deliveries"]
    ]
    print_table(("PERSON", "MESSAGE", "CHANNEL", "OUTCOME"), rows, "It would send no message.")
    if preview["sentBefore"]:
        sent = [(each["userId"], each["type"]) for each in preview["sentBefore"]]
        print_table(("SENT BEFORE", "MESSAGE"), sent, "")
    without_message = [(each["userId"], each["reason"]) for each in preview["others"]]
    if without_message:
        print_table(("NO MESSAGE FOR", "REASON"), without_message, "")


def _planned_outcome(delivery: dict[str, Any]) -> str:
    if delivery["status"] == "pending":
        return "to be sent"
    status, reason = delivery["status"], delivery["reason"]
    return str(status) if reason is None else f"{status}: {reason}"


@app.command("pause", epilog=epilog("homeroom schedules pause reminder.data-lab", codes=(4,)))
def pause(name: ScheduleNameArgument, as_json: JsonOption = False) -> None:
    """Pause a schedule: none of its slots fires until it is resumed."""

    async def pause_and_audit(db: Database) -> Schedule:
        async with db.write() as tx:
            await schedule_store.pause_schedule(tx, name)
            await access.record_audit(tx, audit_actor(), "schedule.paused", name)
            return await schedule_store.get_schedule(tx, name)

    _print_schedule(run_with_database(pause_and_audit), "Paused", as_json)


@app.command("resume", epilog=epilog("homeroom schedules resume reminder.data-lab", codes=(4,)))
def resume(name: ScheduleNameArgument, as_json: JsonOption = False) -> None:
    """Resume a schedule from now on; the slots of the pause are skipped."""

    async def resume_and_audit(db: Database) -> Schedule:
        async with db.write() as tx:
            await schedule_store.resume_schedule(tx, name)
            await access.record_audit(tx, audit_actor(), "schedule.resumed", name)
            return await schedule_store.get_schedule(tx, name)

    _print_schedule(run_with_database(resume_and_audit), "Resumed", as_json)


@app.command(
    "change",
    epilog=epilog(
        'homeroom schedules change reminder.data-lab --cron "30 8 * * 1"',
        "homeroom schedules change report.data-lab --catch-up 2d",
        codes=(4,),
    ),
)
def change(
    name: ScheduleNameArgument,
    cron: Annotated[str | None, typer.Option(help="Five fields, in its time zone.")] = None,
    time_zone: Annotated[str | None, typer.Option(help="An IANA time zone.")] = None,
    catch_up: Annotated[
        str | None, typer.Option(help="How late a slot may still fire, such as 11h.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change a schedule from now on; options that are left out stay as they are."""
    if not any((cron, time_zone, catch_up)):
        raise BadRequest("No change was given.", hint="Give --cron, --time-zone or --catch-up.")
    window = None if catch_up is None else timedelta(microseconds=parse_duration_us(catch_up))

    async def change_and_audit(db: Database) -> Schedule:
        async with db.write() as tx:
            schedule = await schedule_store.change_schedule(
                tx, name, cron=cron, time_zone=time_zone, catch_up=window
            )
            details = {"cron": schedule.cron, "timeZone": schedule.time_zone}
            await access.record_audit(tx, audit_actor(), "schedule.changed", name, details)
        return schedule

    _print_schedule(run_with_database(change_and_audit), "Changed", as_json)


def _print_schedule(schedule: Schedule, past_verb: str, as_json: bool) -> None:
    if as_json:
        print_json(to_json_fields(jobs_api.schedule_fields(schedule, [])))
        return
    upcoming = (
        "nothing fires"
        if schedule.paused
        else f"it fires next at {format_instant(schedule.next_slot_at)}"
    )
    hours = schedule.catch_up / SECOND / 3_600
    rule = f"{schedule.cron}, {schedule.time_zone}, catch-up {hours:g} h"
    print_text(f"{past_verb} {schedule.name} ({rule}): {upcoming}.")
