"""Write the page of the documentation that lists every setting."""

from __future__ import annotations

from itertools import groupby

from homeroom.settings.model import Settings
from homeroom.settings.view import view

_HEAD = """# Settings

Homeroom reads its settings from the environment, once, when it starts. `homeroom check` says what
is wrong with them and how to mend it, and so does the log at a start: a name that is misspelt is
reported there and has no effect. All have a default that works on one machine.

Durations are written as `30` (seconds), `30s`, `500ms`, `5m`, `12h`, `90d` or `2w`. Yes and no are
`true` and `false`. Settings marked *secret* are shown nowhere: not in the log, and not by
`GET /api/v1/settings`.

This page is written by `python -m homeroom.settings > docs/settings.md`.
"""
_TAIL = """
## Names from elsewhere
Who knows the progress queue that Homeroom takes the place of finds its knobs here:

| knob | here |
|---|---|
| `maxQueueSize` | `HOMEROOM_INGEST_MAX_QUEUE`; beyond it 429, nothing is dropped |
| `batchSize` | `HOMEROOM_INGEST_MAX_BATCH` |
| `flushInterval` | none: what waits is committed once the commit before it is done |
| `maxRetries`, `retryLimit` | `HOMEROOM_INGEST_MAX_RETRIES`; jobs have their own number, by kind |
| `retryDelay` | `HOMEROOM_INGEST_RETRY_DELAY` |
| `ttl` | `HOMEROOM_QUARANTINE_TTL`: only events of unknown courses ever expire |
| `maxConcurrency` | `HOMEROOM_CONCURRENCY` |
| `taskTimeout` | `HOMEROOM_INGEST_TASK_TIMEOUT`; jobs have their own, by kind |
| `healthCheckInterval` | `HOMEROOM_HEALTH_CHECK_INTERVAL` |

## What revoking takes
A token that was checked is believed for two seconds. A revoked API key, or a session of one, works
in other processes for at most that long. A JWT works until its `exp`, to the second.

`GET /metrics` needs the role `operator` or `viewer`, as every other reading of
what goes on does: give Prometheus an API key of the role `viewer` as its bearer token.
"""


def markdown() -> str:
    """Return the page."""
    parts = [_HEAD]
    defaults = Settings.model_construct()
    for group, rows in groupby(view(defaults), key=lambda row: row.group):
        parts.append(f"\n## {group}\n\n| setting | default | what it says |\n|---|---|---|\n")
        for row in rows:
            default = "unset" if row.default == "unset" else f"`{row.default}`"
            secret = " *Secret.*" if row.secret else ""
            parts.append(f"| `{row.name}` | {default} | {row.description}{secret} |\n")
    parts.append(_TAIL)
    return "".join(parts)
