"""A plan as a calendar: an event a lesson (RFC 5545)."""

from __future__ import annotations

from datetime import timedelta

from icalendar import Calendar, Event

from homeroom import __version__
from homeroom.clock import to_datetime
from homeroom.lessonplans.export.timetable import timetable
from homeroom.lessonplans.plan import Lesson, Plan
from homeroom.lessonplans.text import one_line, printable

_YEAR = timedelta(days=366)


def export(plan: Plan) -> bytes:
    """Return a plan as iCalendar, with the definition of its time zone."""
    calendar = Calendar()
    calendar.add("prodid", f"-//Homeroom//Lesson plans {__version__}//EN")
    calendar.add("version", "2.0")
    calendar.add("x-wr-calname", one_line(plan.curriculum.title))
    stamp = to_datetime(plan.created_at).replace(microsecond=0)
    meetings = timetable(plan)
    for lesson, meeting in zip(plan.lessons, meetings, strict=True):
        event = Event()
        # the same for every export, so that a second import updates what the first one made
        event.add("uid", f"{plan.id}.{lesson.slot.id}@homeroom")
        event.add("dtstamp", stamp)
        event.add("dtstart", meeting.begins)
        event.add("dtend", meeting.ends)
        event.add("sequence", lesson.revision)
        event.add("summary", f"{lesson.slot.number} {one_line(lesson.title)}")
        event.add("description", _description(plan, lesson))
        calendar.add_component(event)
    # a year on either side, so that the change of clocks before the first lesson is in it
    first, last = meetings[0].begins.date() - _YEAR, meetings[-1].ends.date() + _YEAR
    calendar.add_missing_timezones(first_date=first, last_date=last)
    made: bytes = calendar.to_ical()
    return made


def _description(plan: Plan, lesson: Lesson) -> str:
    lines = [plan.curriculum.modules[lesson.slot.module_index].title]
    lines += [f"- {outcome.text}" for outcome in lesson.slot.outcomes]
    if lesson.body is not None:
        lines += [f"{each.minutes} min {each.title}" for each in lesson.body.activities]
    lines += [f"Missing: {gap.message}" for gap in lesson.gaps]
    return "\n".join(printable(line) for line in lines)
