"""Obligations, and the coming messages of a programme, over HTTP."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query

from homeroom.activity import obligation_store, store
from homeroom.activity.api import (
    Activity,
    Obligation,
    ObligationState,
    Offering,
    Programme,
    Week,
    list_report_weeks,
    parse_week,
    week_at,
)
from homeroom.activity.fanout import load_names
from homeroom.activity.log_routes import STAFF, WeekKey, check_read_access
from homeroom.activity.obligation_store import OwnObligation
from homeroom.activity.obligation_update import list_down_weeks
from homeroom.activity.upcoming_messages import UpcomingMessages
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import Forbidden
from homeroom.identity import Identity, Role
from homeroom.web.identity import Auth
from homeroom.web.model import ExternalId, ResponseModel, Rfc3339Instant
from homeroom.web.paging import Page, PagingQuery, cut_page

State = Literal["open", "submitted", "late", "missed", "exempt"]
CellState = Literal["open", "submitted", "late", "missed", "exempt", "down"]
ProgrammeId = Annotated[ExternalId, Path(alias="programmeId", max_length=64)]


class LogObligationView(ResponseModel):
    """The log of an offering and a week, as its facilitator sees it."""

    offering_id: str
    offering_title: str
    programme_id: str
    programme_title: str
    time_zone: str
    week: str
    starts_on: date
    """Monday of the week."""
    ends_on: date
    """Sunday of the week."""
    opens_at: Rfc3339Instant
    deadline_at: Rfc3339Instant
    state: State
    exempt_reason: str | None
    log_id: str | None
    """The log of the week, a draft too."""
    log_status: Literal["draft", "submitted"] | None


class ProgrammeCellView(ResponseModel):
    """An offering's log of one week.

    ``down``: Homeroom was down, and the week counts neither way.
    """

    state: CellState
    exempt_reason: str | None
    log_id: str | None
    deadline_at: Rfc3339Instant


class ProgrammeOfferingWeeks(ResponseModel):
    """One offering: a cell a week; a week in which it does not run has none."""

    offering_id: str
    title: str
    facilitator_id: str
    facilitator_name: str
    weeks: dict[str, ProgrammeCellView]


class ProgrammeWeeksPage(ResponseModel):
    """A page of offerings, a column a week."""

    programme_id: str
    weeks: list[str]
    current_week: str
    """The week that runs now."""
    items: list[ProgrammeOfferingWeeks]
    next_cursor: str | None


class UpcomingDeliveryView(ResponseModel):
    """One channel of a message that would be sent."""

    channel: str
    status: str
    reason: str | None


class UpcomingMessageView(ResponseModel):
    """A message that would be sent, with its recipient by name."""

    user_id: str
    name: str
    type: str
    deliveries: list[UpcomingDeliveryView]


class NoMessageView(ResponseModel):
    """A person who gets no message, and why."""

    user_id: str
    name: str
    reason: str


class UpcomingMessagesView(ResponseModel):
    """A coming slot of a programme, and what it would send as of now."""

    kind: Literal["reminder", "deadline_warning", "report"]
    schedule: str
    paused: bool
    slot_at: Rfc3339Instant | None
    week: str | None
    """The week that the messages are about."""
    messages: list[UpcomingMessageView]
    """Messages that would be sent."""
    sent_before: int
    """Number of messages that were sent already."""
    others: list[NoMessageView]


def router(db: Database, auth: Auth, activity: Activity) -> APIRouter:
    """Return the routes of obligations and of coming messages."""
    routes = APIRouter()
    _add_own_obligations(routes, db, auth)
    _add_programme_weeks(routes, db, auth, activity)
    _add_upcoming_messages(routes, db, auth, activity)
    return routes


def _add_own_obligations(routes: APIRouter, db: Database, auth: Auth) -> None:
    reader: Identity = Depends(auth.require(*STAFF, Role.FACILITATOR))

    @routes.get("/log-obligations")
    async def list_log_obligations(
        paging: PagingQuery,
        facilitator_id: Annotated[ExternalId | None, Query(alias="facilitatorId")] = None,
        outstanding: bool | None = None,
        identity: Identity = reader,
    ) -> Page[LogObligationView]:
        """Return a facilitator's logs that are or were due, the latest week first.

        With `outstanding` true only those without a log, with false only the others. Without
        `facilitatorId` the caller's own.
        """
        user_id = facilitator_id or identity.subject
        if not identity.has(*STAFF) and not identity.is_learner(user_id):
            raise Forbidden("Only staff may list the obligations of another person.")
        key = paging.key(str, str)
        async with db.read() as tx:
            rows = await obligation_store.list_own_obligations(
                tx,
                user_id,
                outstanding=outstanding,
                before=None if key is None else (key[0], key[1]),
                count=paging.limit + 1,
            )
            now = tx.now
        page, cursor = cut_page(rows, paging, lambda one: (one.week_key, one.offering_id))
        return Page(items=[_obligation_view(each, now) for each in page], next_cursor=cursor)


def _obligation_view(row: OwnObligation, now: int) -> LogObligationView:
    return LogObligationView(
        offering_id=row.offering_id,
        offering_title=row.offering_title,
        programme_id=row.programme_id,
        programme_title=row.programme_title,
        time_zone=row.time_zone,
        week=row.week_key,
        starts_on=row.week.monday,
        ends_on=row.week.monday + timedelta(days=6),
        opens_at=row.opens_at,
        deadline_at=row.deadline_at,
        state=row.state_at(now).value,
        exempt_reason=row.exempt_reason,
        log_id=row.written_log_id,
        log_status=None if row.log_status is None else _log_status(row.log_status),
    )


def _log_status(text: str) -> Literal["draft", "submitted"]:
    return "draft" if text == "draft" else "submitted"


def _add_programme_weeks(routes: APIRouter, db: Database, auth: Auth, activity: Activity) -> None:
    reader: Identity = Depends(auth.require(*STAFF, Role.MANAGER))

    @routes.get("/programmes/{programmeId}/weeks")
    async def list_programme_weeks(
        programme_id: ProgrammeId,
        paging: PagingQuery,
        first: Annotated[WeekKey | None, Query(alias="from")] = None,
        last: Annotated[WeekKey | None, Query(alias="to")] = None,
        identity: Identity = reader,
    ) -> ProgrammeWeeksPage:
        """Return the weeks of a programme: a row an offering, a column a week.

        The last 12 weeks, unless others are given.
        """
        key = paging.key(str)
        async with db.read() as tx:
            programme = await activity.programmes.get(tx, programme_id)
            check_read_access(identity, programme)
            weeks = list_report_weeks(
                programme,
                tx.now,
                None if first is None else parse_week(first),
                None if last is None else parse_week(last),
            )
            offerings = [
                each
                for each in await store.list_offerings(tx, programme_id)
                if key is None or each.id > key[0]
            ]
            page, cursor = cut_page(offerings[: paging.limit + 1], paging, lambda one: (one.id,))
            return ProgrammeWeeksPage(
                programme_id=programme_id,
                weeks=[each.key for each in weeks],
                current_week=week_at(tx.now, programme.zone).key,
                items=await _offering_weeks(tx, programme, page, weeks),
                next_cursor=cursor,
            )


async def _offering_weeks(
    tx: Tx, programme: Programme, offerings: list[Offering], weeks: list[Week]
) -> list[ProgrammeOfferingWeeks]:
    rows = await obligation_store.list_obligations(tx, programme.id, weeks[0].key, weeks[-1].key)
    down_weeks = await list_down_weeks(tx, programme, rows)
    cells: dict[str, dict[str, ProgrammeCellView]] = {}
    for row in rows:
        by_week = cells.setdefault(row.offering_id, {})
        by_week[row.week_key] = _cell_view(row, tx.now, was_down=row.week_key in down_weeks)
    name = await load_names(tx, [each.facilitator_id for each in offerings])
    return [
        ProgrammeOfferingWeeks(
            offering_id=each.id,
            title=each.title,
            facilitator_id=each.facilitator_id,
            facilitator_name=name(each.facilitator_id),
            weeks=cells.get(each.id, {}),
        )
        for each in offerings
    ]


def _cell_view(row: Obligation, now: int, *, was_down: bool) -> ProgrammeCellView:
    state = row.state_at(now)
    is_excused = was_down and state in (ObligationState.MISSED, ObligationState.LATE)
    return ProgrammeCellView(
        state="down" if is_excused else state.value,
        exempt_reason=row.exempt_reason,
        log_id=row.log_id,
        deadline_at=row.deadline_at,
    )


def _add_upcoming_messages(routes: APIRouter, db: Database, auth: Auth, activity: Activity) -> None:
    reader: Identity = Depends(auth.require(*STAFF, Role.MANAGER))

    @routes.get("/programmes/{programmeId}/upcoming")
    async def list_upcoming_messages(
        programme_id: ProgrammeId, identity: Identity = reader
    ) -> list[UpcomingMessagesView]:
        """Return what coming reminders, warnings and reports would send, to whom.

        The answer is as of now: as if nothing changed until the slot. Nothing is stored.
        """
        async with db.read() as tx:
            programme = await activity.programmes.get(tx, programme_id)
            check_read_access(identity, programme)
            slots = await activity.list_upcoming_messages(tx, programme)
        return [_upcoming_view(each) for each in slots]


def _upcoming_view(upcoming: UpcomingMessages) -> UpcomingMessagesView:
    preview, names, slot = upcoming.preview, upcoming.names, upcoming.slot
    return UpcomingMessagesView.model_validate(
        {
            "kind": upcoming.kind,
            "schedule": slot.schedule.name,
            "paused": slot.schedule.paused,
            "slot_at": None if slot.slot is None else slot.slot.at,
            "week": preview.get("week"),
            "messages": [
                {
                    "user_id": each["userId"],
                    "name": names[each["userId"]],
                    "type": each["type"],
                    "deliveries": [
                        {name: one[name] for name in ("channel", "status", "reason")}
                        for one in each["deliveries"]
                    ],
                }
                for each in preview.get("messages", ())
            ],
            "sent_before": len(preview.get("sentBefore", ())),
            "others": [
                {
                    "user_id": each["userId"],
                    "name": names[each["userId"]],
                    "reason": each["reason"],
                }
                for each in preview.get("others", ())
            ],
        }
    )
