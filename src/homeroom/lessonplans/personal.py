"""Rows of lesson plans that name a person: the plans are the school's."""

from __future__ import annotations

from homeroom.db.personal import named_in
from homeroom.lessonplans.store import LESSON, PLAN

PERSONAL = (named_in(PLAN.c.created_by), named_in(LESSON.c.edited_by))
