"""``homeroom schedules``: see what runs when, and run, pause or change it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import typer

from homeroom.access.api import record
from homeroom.cli.actor import actor
from homeroom.cli.age import read_age
from homeroom.cli.group import Json, epilog, group
from homeroom.cli.house import in_house
from homeroom.cli.output import counted, moment, note, print_json, print_table, say, wire
from homeroom.clock import SECOND
from homeroom.db.tx import Tx
from homeroom.errors import BadRequest
from homeroom.jobs import schedule_store
from homeroom.jobs.redact import redact
from homeroom.jobs.schedule import Slot
from homeroom.jobs.schedule_store import FiredSlot, Schedule
from homeroom.jobs.show import schedule_fields
from homeroom.wiring import House

Name = Annotated[str, typer.Argument(metavar="NAME", help="As `homeroom schedules list` shows it.")]

app = group("See what runs when, and run, pause or change it.")


@app.command(
    "list",
    epilog=epilog(
        "homeroom schedules list",
        "homeroom schedules list --json | jq '.items[] | select(.paused)'",
    ),
)
def list_(as_json: Json = False) -> None:
    """List the schedules: when they fire next, and what became of their last slot."""

    async def work(house: House) -> list[tuple[Schedule, list[FiredSlot]]]:
        async with house.db.read() as tx:
            return [
                (each, await schedule_store.fired_slots(tx, each.name, limit=10))
                for each in await schedule_store.schedules(tx)
            ]

    found = in_house(work)
    if as_json:
        print_json({"items": [wire(schedule_fields(*each)) for each in found]})
        return
    print_table(
        ("NAME", "CRON", "TIME ZONE", "NEXT", "LAST SLOT", "STATE"),
        [
            (
                each.name,
                each.cron,
                each.time_zone,
                "paused" if each.paused else moment(each.next_slot_at),
                slots[0].slot if slots else "-",
                slots[0].outcome if slots else "-",
            )
            for each, slots in found
        ],
        "There are no schedules yet; a server or worker declares them when it starts.",
    )


@app.command(
    "run",
    epilog=epilog(
        "homeroom schedules run reminder.data-lab --dry-run",
        "homeroom schedules run report.data-lab",
        codes=(4, 5),
    ),
)
def run(
    name: Name,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say who would get what, and who would not.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the latest slot of a schedule now, also one that was missed or is paused.

    Nobody gets a message twice by it, and none that has expired. A worker has to be running.
    """
    if dry_run:
        _dry_run(name, as_json)
        return

    async def work(house: House) -> FiredSlot:
        async with house.db.write() as tx:
            taken = await schedule_store.run_now(tx, house.registry, name)
            await record(tx, actor(), "schedule.run", name, {"slot": taken.slot})
        return taken

    taken = in_house(work)
    if as_json:
        print_json(
            wire({"schedule": name, "slot": taken.slot, "dry_run": False, "job_id": taken.job})
        )
    else:
        say(f"Added the job {taken.job} for the slot {taken.slot}.")


def _dry_run(name: str, as_json: bool) -> None:
    async def work(house: House) -> tuple[Slot, Any]:
        async with house.db.read() as tx:
            return await schedule_store.preview(tx, house.registry, name)

    slot, found = in_house(work)
    found = redact(found)
    if as_json:
        print_json({"schedule": name, "slot": slot.name, "dryRun": True, "preview": found})
        return
    say(f"The slot {slot.name} of {name} would lead to this:")
    rows = [
        (each["userId"], each["type"], way["channel"], _fate(each, way))
        for each in found["messages"]
        for way in each["deliveries"]
    ]
    print_table(("PERSON", "MESSAGE", "CHANNEL", "FATE"), rows, "Nobody would get a message.")
    others = [(each["userId"], each["reason"]) for each in found["others"]]
    if others:
        print_table(("GETS NOTHING", "BECAUSE"), others, "")
    note(f"{counted(len(found['messages']), 'message')}; nothing was written.")


def _fate(message: dict[str, Any], way: dict[str, Any]) -> str:
    if message["sentBefore"]:
        return "nothing: it was sent before"
    if way["status"] == "pending":
        return "to be sent"
    return way["status"] if way["reason"] is None else f"{way['status']}: {way['reason']}"


async def _shown(tx: Tx, name: str) -> Schedule:
    return await schedule_store.get_schedule(tx, name)


@app.command("pause", epilog=epilog("homeroom schedules pause reminder.data-lab", codes=(4,)))
def pause(name: Name, as_json: Json = False) -> None:
    """Let no slot of a schedule fire until it is resumed."""

    async def work(house: House) -> Schedule:
        async with house.db.write() as tx:
            await schedule_store.pause_schedule(tx, name)
            await record(tx, actor(), "schedule.paused", name)
            return await _shown(tx, name)

    _said(in_house(work), "Paused", as_json)


@app.command("resume", epilog=epilog("homeroom schedules resume reminder.data-lab", codes=(4,)))
def resume(name: Name, as_json: Json = False) -> None:
    """Let slots fire again from now on; those of the pause are left out."""

    async def work(house: House) -> Schedule:
        async with house.db.write() as tx:
            await schedule_store.resume_schedule(tx, name)
            await record(tx, actor(), "schedule.resumed", name)
            return await _shown(tx, name)

    _said(in_house(work), "Resumed", as_json)


@app.command(
    "change",
    epilog=epilog(
        'homeroom schedules change reminder.data-lab --cron "30 8 * * 1"',
        "homeroom schedules change report.data-lab --catch-up 2d",
        codes=(4,),
    ),
)
def change(
    name: Name,
    cron: Annotated[str | None, typer.Option(help="Five fields, in its time zone.")] = None,
    time_zone: Annotated[str | None, typer.Option(help="An IANA time zone.")] = None,
    catch_up: Annotated[
        str | None, typer.Option(help="How late a slot may still fire, such as 11h.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change when a schedule fires; what is left out stays. A new cron counts from now on."""
    if not any((cron, time_zone, catch_up)):
        raise BadRequest("Say what is to change.", hint="Give --cron, --time-zone or --catch-up.")
    window = None if catch_up is None else timedelta(microseconds=read_age(catch_up))

    async def work(house: House) -> Schedule:
        async with house.db.write() as tx:
            found = await schedule_store.change_schedule(
                tx, name, cron=cron, time_zone=time_zone, catch_up=window
            )
            details = {"cron": found.cron, "timeZone": found.time_zone}
            await record(tx, actor(), "schedule.changed", name, details)
        return found

    _said(in_house(work), "Changed", as_json)


def _said(found: Schedule, done: str, as_json: bool) -> None:
    if as_json:
        print_json(wire(schedule_fields(found, [])))
        return
    upcoming = "nothing fires" if found.paused else f"it fires next at {moment(found.next_slot_at)}"
    hours = found.catch_up / SECOND / 3_600
    say(f"{done} {found.name} ({found.cron}, {found.time_zone}, catch-up {hours:g} h): {upcoming}.")
