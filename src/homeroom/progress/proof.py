"""By what a ledger and what is rolled up from it are held against each other, and against a copy.

Statements over all rows of all learners, for ``homeroom db copy``, ``backup`` and ``verify``.
"""

from __future__ import annotations

from homeroom.db.proof import Check, Proof, Total

_TIMES = (
    "SELECT user_id, course_id, CAST(sum(recorded) AS BIGINT) AS ledger,"
    " CAST(sum(counted) AS BIGINT) AS course FROM ("
    "SELECT user_id, course_id, time_spent AS recorded, 0 AS counted FROM progress_event"
    " WHERE type NOT IN ('progress_reset', 'attempt_renewed') UNION ALL"
    " SELECT user_id, course_id, time_spent, 0 FROM progress_fold UNION ALL"
    " SELECT user_id, course_id, 0, time_spent FROM course_progress) AS both_of"
    " GROUP BY user_id, course_id"
)
_ENDS = (
    "SELECT user_id, course_id, max(seq) AS ledger, max(last) AS course FROM ("
    "SELECT user_id, course_id, seq, 0 AS last FROM progress_event UNION ALL"
    " SELECT user_id, course_id, 0, last_seq FROM course_progress) AS both_of"
    " GROUP BY user_id, course_id"
)

PROOF = Proof(
    totals=(
        Total(
            "ledger seconds",
            "SELECT CAST(coalesce(sum(time_spent), 0) AS BIGINT) FROM (SELECT time_spent"
            " FROM progress_event UNION ALL SELECT time_spent FROM progress_fold) AS both_of",
        ),
        Total(
            "course seconds",
            "SELECT CAST(coalesce(sum(time_spent), 0) AS BIGINT) FROM course_progress",
        ),
    ),
    checks=(
        Check(
            "time spent",
            "Of learner {} in course {} the ledger has {} s and the course {} s.",
            f"SELECT user_id, course_id, ledger, course FROM ({_TIMES}) AS times"
            " WHERE ledger <> course",
        ),
        Check(
            "chain",
            "The ledger's row {} names {} as the one before it, which is {}.",
            "SELECT seq, coalesce(CAST(previous AS TEXT), 'none'),"
            " coalesce(CAST(before AS TEXT), 'none') FROM"
            " (SELECT seq, previous, lag(seq) OVER (PARTITION BY user_id, course_id ORDER BY seq)"
            " AS before FROM progress_event) AS linked"
            " WHERE coalesce(previous, 0) <> coalesce(before, 0)",
        ),
        Check(
            "end of the chain",
            "Of learner {} in course {} the ledger ends with row {}, and the course with {}.",
            f"SELECT user_id, course_id, ledger, course FROM ({_ENDS}) AS ends"
            " WHERE ledger <> course",
        ),
    ),
)
"""Times of one learner's attempts are added up: events move from one to another as these open.

What was folded of rows that are gone counts as the ledger's. A row 0 is none.
"""
