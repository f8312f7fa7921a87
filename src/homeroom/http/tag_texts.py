"""Descriptions of the groups of operations."""

from __future__ import annotations

TAG_TEXTS = {
    "Progress": "Events in, course progress out.",
    "Catalogue": "Courses in their versions, completion criteria and enrolments.",
    "Completion": "Completions, the steps that follow them, credentials and reports.",
    "Credentials": "Credentials that are signed here: pages, documents, keys and status lists.",
    "Changes": "What changed, in commit order, for consumers that follow.",
    "People": "The built-in directory; export and erasure of personal data.",
    "Lesson plans": "A curriculum in, lesson plans out.",
    "Facilitators": "Programmes, weekly activity logs and their compliance.",
    "Operations": "Queues, jobs, schedules, partner systems, metrics, settings and hints.",
    "Access": "API keys, sessions, tickets of event streams and the audit trail.",
    "Notifications": "Messages, preferences, deliveries and suppressions.",
}
"""Texts by the name of a group; ``tests/docs`` fails for a group without one."""
