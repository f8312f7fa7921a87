"""Example content of each type of message, for previews and tests (pure)."""

from __future__ import annotations

from collections.abc import Mapping

_EXAMPLE_WEEK, _EXAMPLE_ZONE = "2026-W48", "Europe/Berlin"
_EXAMPLE_DEADLINE, _EXAMPLE_RECEIVED_AT = 1_795_993_200_000_000, 1_795_999_000_000_000
_OBLIGATION_EXAMPLE = {
    "programme": "Data for all",
    "week": _EXAMPLE_WEEK,
    "timeZone": _EXAMPLE_ZONE,
    "deadlineAt": _EXAMPLE_DEADLINE,
    "url": "https://learn.example.org/logs",
    "offerings": [{"id": "a", "title": "Statistics"}, {"id": "b", "title": "SQL & friends"}],
}
_COMPLIANCE_EXAMPLE = {
    "programme": "Data for all",
    "programmeId": "data",
    "week": _EXAMPLE_WEEK,
    "userId": "u1",
    "name": "Ada Okafor",
}
_CREDENTIAL_EXAMPLE = {
    "course": "Data for everyone",
    "url": "https://learn.example.org/credentials/4fTzq0bW1mUuYQ2yqkN8Qw7e",
    "validUntil": 1_827_529_000_000_000,
}
EXAMPLE_PARAMS: Mapping[str, Mapping[str, object]] = {
    "log_reminder": _OBLIGATION_EXAMPLE,
    "deadline_warning": _OBLIGATION_EXAMPLE,
    "manager_report": {
        "programme": "Data for all",
        "programmeId": "data",
        "week": _EXAMPLE_WEEK,
        "timeZone": _EXAMPLE_ZONE,
        "down": False,
        "expected": 4,
        "handedIn": 3,
        "previous": {
            "week": "2026-W47",
            "expected": 4,
            "handedIn": 3,
            "newlyMissing": [{"userId": "u1", "name": "Ada Okafor"}],
            "noLongerMissing": [{"userId": "u3", "name": "Chen Wei"}],
        },
        "missing": [
            {
                "userId": "u1",
                "name": "Ada Okafor",
                "offering": "Statistics",
                "submittedAt": None,
                "alsoBefore": False,
            }
        ],
        "late": [
            {
                "userId": "u2",
                "name": "Ben Li",
                "offering": "SQL",
                "submittedAt": _EXAMPLE_RECEIVED_AT,
                "alsoBefore": True,
            }
        ],
        "compliance": [
            {
                "userId": "u1",
                "name": "Ada Okafor",
                "missed": ["2026-W46", _EXAMPLE_WEEK],
                "continuing": False,
            }
        ],
    },
    "late_log": {
        "programme": "Data for all",
        "programmeId": "data",
        "week": _EXAMPLE_WEEK,
        "timeZone": _EXAMPLE_ZONE,
        "userId": "u2",
        "name": "Ben Li",
        "offering": "SQL",
        "submittedAt": _EXAMPLE_RECEIVED_AT,
        "deadlineAt": _EXAMPLE_DEADLINE,
    },
    "compliance_warning": {
        **_COMPLIANCE_EXAMPLE,
        "missed": ["2026-W46", _EXAMPLE_WEEK],
        "expected": 4,
    },
    "compliance_copy": {
        **_COMPLIANCE_EXAMPLE,
        "missed": ["2026-W46", _EXAMPLE_WEEK],
        "expected": 4,
    },
    "unmanaged_programme": {
        "programme": "Data for all",
        "week": _EXAMPLE_WEEK,
        "missing": [{"name": "Ada Okafor"}],
        "late": [],
    },
    "schedule_missed": {
        "schedules": [
            {
                "schedule": "reminder.data",
                "runs": 2,
                "first": "2026-11-16T09:00[Europe/Berlin]",
                "last": "2026-11-23T09:00[Europe/Berlin]",
            }
        ],
        "runs": 2,
        "foundAt": _EXAMPLE_RECEIVED_AT,
    },
    "alert": {
        "alerts": [
            {
                "rule": "destination",
                "subject": "hr",
                "severity": "warning",
                "detail": "It is away: no answer within 10 s",
            },
            {
                "rule": "owed_steps",
                "subject": "hr",
                "severity": "warning",
                "detail": "12 are outstanding, the oldest since 2026-11-23T08:00:00.000000Z.",
            },
        ],
        "raisedAt": _EXAMPLE_RECEIVED_AT,
        "url": "https://learn.example.org/console/alerts",
    },
    "credential_issued": {
        **_CREDENTIAL_EXAMPLE,
        "certificateUrl": f"{_CREDENTIAL_EXAMPLE['url']}.pdf",
    },
    "credential_expiring": _CREDENTIAL_EXAMPLE,
}
"""Parameters of previews and test mails, by type."""
