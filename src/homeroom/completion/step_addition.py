"""Add a step to completions that were recorded before it was installed."""

from __future__ import annotations

from collections.abc import Sequence

from homeroom.access import api as access
from homeroom.catalogue import api as catalogue
from homeroom.changes import api as changes
from homeroom.completion import step_store, store
from homeroom.completion.api import CompletionFilter, Completions, StepState
from homeroom.completion.step import TOPIC, start_steps
from homeroom.db.database import Database
from homeroom.db.tx import Tx
from homeroom.errors import Invalid
from homeroom.instant import to_rfc3339

ADDITION_BATCH = 100
"""Completions in one transaction, for which ingest waits on SQLite."""


async def add_step(
    db: Database,
    completions: Completions,
    name: str,
    query: CompletionFilter,
    actor: str,
    *,
    dry_run: bool = False,
) -> int:
    """Add a step to the completions that match and lack it; return their number.

    The oldest come first. A step with a reason to be skipped is added as skipped. Each transaction
    writes an audit line. ``dry_run`` counts and changes nothing. Raises ``Invalid`` for a step that
    is not installed, or that is switched off by its settings.
    """
    completions.check_step_name(name)
    if not completions.steps[name].is_switched_on:
        raise Invalid(
            f"The step {name!r} is switched off by its settings.",
            hint=f"`homeroom completions steps` lists the settings; {name} needs them first.",
        )
    count, after = 0, None
    while True:
        async with db.read() as tx:
            ids = await step_store.find_completions_without(tx, name, query, after, ADDITION_BATCH)
        if ids and not dry_run:
            async with db.write() as tx:
                added = await _add_to(tx, completions, name, ids)
                if added:
                    details = {**_details(query), "count": added}
                    await access.record_audit(tx, actor, "steps.added", name, details)
            count += added
        else:
            count += len(ids)
        if len(ids) < ADDITION_BATCH:
            return count
        after = ids[-1]


async def _add_to(tx: Tx, completions: Completions, name: str, ids: Sequence[str]) -> int:
    """Add a step to those of some completions that still exist and lack it."""
    found = await store.find_by_ids(tx, ids)
    await catalogue.lock_learners(tx, sorted({each.user_id for each in found.values()}))
    found = await store.find_by_ids(tx, ids)  # some may have been erased before the lock
    steps: dict[str, list[StepState]] = {}
    for step in await store.list_steps(tx, ids):
        steps.setdefault(step.completion_id, []).append(step)
    courses = await catalogue.courses_at(
        tx, {(each.course_id, each.course_version) for each in found.values()}
    )
    declared = completions.steps[name]
    position = list(completions.steps).index(name)
    added: list[StepState] = []
    for completion in found.values():
        known = steps.get(completion.id, [])
        if any(step.name == name for step in known):
            continue
        course = courses[completion.course_id, completion.course_version]
        added += await start_steps(tx, completion, course, [(position, declared)], known)
        tx.notify(TOPIC, completion.id)
    await store.add_steps(tx, added)
    user_ids = {id: each.user_id for id, each in found.items()}
    changes.record(
        tx,
        changes.STEPS,
        [(store.step_record_id(step), user_ids[step.completion_id]) for step in added],
    )
    return len(added)


def _details(query: CompletionFilter) -> dict[str, object]:
    since = None if query.recorded_since is None else to_rfc3339(query.recorded_since)
    members = {"userId": query.user_id, "courseId": query.course_id, "since": since}
    return {name: value for name, value in members.items() if value is not None}
