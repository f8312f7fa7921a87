"""Register a class at Homeroom, then follow its completions into a table of your own."""

import json
import os
import sqlite3
import sys
from pathlib import Path

from homeroom_client import Completion, CursorGone, Homeroom

TABLES = """
CREATE TABLE IF NOT EXISTS completion (id TEXT PRIMARY KEY, user_id TEXT, course_id TEXT, at TEXT);
CREATE TABLE IF NOT EXISTS feed (name TEXT PRIMARY KEY, cursor TEXT);
"""


def register(homeroom: Homeroom, file: Path) -> None:
    """Publish the course and enrol the class. To do it again changes nothing."""
    group = json.loads(file.read_text(encoding="utf-8"))
    homeroom.put_course(group["courseId"], group["course"])
    for user_id, person in group["learners"].items():
        homeroom.put_person(user_id, person)
        homeroom.put_enrolment(group["courseId"], user_id)


def store(db: sqlite3.Connection, completions: list[Completion], cursor: str) -> None:
    """Store completions and the cursor after them in one transaction."""
    rows = [(c.id, c.user_id, c.course_id, c.completed_at.isoformat()) for c in completions]
    with db:
        db.executemany("INSERT OR REPLACE INTO completion VALUES (?, ?, ?, ?)", rows)
        db.execute("INSERT OR REPLACE INTO feed VALUES ('homeroom', ?)", (cursor,))
    for row in rows:
        print("completed", *row[1:], flush=True)


def follow(homeroom: Homeroom, db: sqlite3.Connection) -> None:
    """Follow completions from the stored cursor; from the lists where there is none."""
    row = db.execute("SELECT cursor FROM feed").fetchone()
    if row is None:
        now = homeroom.list_changes("now").next_cursor  # before the list, so that none is missed
        store(db, list(homeroom.list_completions()), now)
        row = (now,)
    for page in homeroom.follow_changes(row[0], kinds=["completions"]):
        records = [each.record for each in page.items if isinstance(each.record, Completion)]
        gone = [(each.id,) for each in page.items if each.data is None]
        db.executemany("DELETE FROM completion WHERE id = ?", gone)
        store(db, records, page.next_cursor)


with Homeroom(os.environ["HOMEROOM_URL"], os.environ["HOMEROOM_KEY"]) as server:
    database = sqlite3.connect(sys.argv[2])
    database.executescript(TABLES)
    register(server, Path(sys.argv[1]))
    while True:
        try:
            follow(server, database)
        except CursorGone as error:  # the feed cannot go on: read the lists anew
            print("starting anew:", error.reason, file=sys.stderr)
            with database:
                database.execute("DELETE FROM completion")
                database.execute("DELETE FROM feed")
