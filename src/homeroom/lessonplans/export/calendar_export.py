"""Export of a plan as iCalendar (RFC 5545)."""

from __future__ import annotations

from datetime import datetime, timedelta

from icalendar import Calendar, Event

from homeroom import __version__
from homeroom.instant import to_datetime
from homeroom.lessonplans.curriculum import one_line, printable
from homeroom.lessonplans.plan import LessonPlan, PlannedLesson, schedule_meetings
from homeroom.lessonplans.wording import load_wording, wording_language

_TIME_ZONE_MARGIN = timedelta(days=366)


def render_icalendar(plan: LessonPlan) -> bytes:
    """Return a plan that has a first day as iCalendar, with its time zone.

    A calendar that imports the file again updates its events: their uids stay, and ``SEQUENCE`` and
    ``DTSTAMP`` grow with each edit of a lesson and each move of the plan.
    """
    calendar = Calendar()
    calendar.add("prodid", f"-//Homeroom//Lesson plans {__version__}//EN")
    calendar.add("version", "2.0")
    calendar.add("x-wr-calname", one_line(plan.curriculum.title))
    meetings = schedule_meetings(plan)
    for lesson, meeting in zip(plan.lessons, meetings, strict=True):
        revised = _revised_at(plan, lesson)
        event = Event()
        event.add("uid", f"{plan.id}.{lesson.slot.id}@homeroom")
        event.add("dtstamp", revised)
        event.add("last-modified", revised)
        event.add("dtstart", meeting.begins)
        event.add("dtend", meeting.ends)
        event.add("sequence", lesson.revision + plan.schedule_revision)
        event.add("summary", f"{lesson.slot.number} {one_line(lesson.title)}")
        event.add("description", _event_description(plan, lesson))
        calendar.add_component(event)
    # A year on either side includes the last change of clocks before the first lesson.
    first, last = (
        meetings[0].begins.date() - _TIME_ZONE_MARGIN,
        meetings[-1].ends.date() + _TIME_ZONE_MARGIN,
    )
    calendar.add_missing_timezones(first_date=first, last_date=last)
    content: bytes = calendar.to_ical()
    return content


def _revised_at(plan: LessonPlan, lesson: PlannedLesson) -> datetime:
    """Return the last change of a lesson or of the plan's days, in whole seconds."""
    changes = (plan.created_at, lesson.changed_at or 0, plan.scheduled_at or 0)
    return to_datetime(max(changes)).replace(microsecond=0)


def _event_description(plan: LessonPlan, lesson: PlannedLesson) -> str:
    lines = [plan.curriculum.modules[lesson.slot.module_index].title]
    lines += [f"- {outcome.text}" for outcome in lesson.slot.outcomes]
    if lesson.body is not None:
        lines += [f"{each.minutes} min {each.title}" for each in lesson.body.activities]
    labels = load_wording(wording_language(plan.curriculum)).labels
    lines += [labels["missing"].format(message=gap.message) for gap in lesson.gaps]
    if lesson.open_places:
        lines.append(labels["open_places"].format(count=len(lesson.open_places)))
    return "\n".join(printable(line) for line in lines)
