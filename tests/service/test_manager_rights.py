"""A manager sees and changes its own people alone, on every route of the OpenAPI document."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import openpyxl
import pytest
from tests.support.two_programmes import MARK, UNKNOWN, TwoProgrammes, manager, two_programmes

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("manager_rights")]


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


WITHOUT_PEOPLE = _names(
    """
    getLiveness getReadiness getIssuerJwks getIssuerKey getIssuerJwk getIssuerProfile
    getStatusList getCredentialPage getCredentialDocument getCredentialJws getCredentialPdf
    getCredentialPng getCredentialSvg getCredentialVerification receiveCredlyWebhook
    receiveEmailWebhook getSubscriptionPage unsubscribe openSession closeSession getSignInMethods
    """
)
"""Without a token: they publish credentials under random ids, or check one of their own."""
IN_TESTS_OF_THEIR_OWN = ("sendEvents", "streamHints")
OTHER_ROLES = _names(
    """
    listActivityRuns listAuditEntries listChanges retryCompletionSteps retryCompletionStep
    putCourse putEnrolment revokeCredentials reissueCredential revokeCredential
    listDeliveries getDelivery resendDelivery
    listDestinations resumeDestination testDestination listDispatches replayDispatches getDispatch
    replayDispatch searchJobs actOnJobs getJob cancelJob promoteJob retryJob listApiKeys
    createApiKey revokeApiKey getMetricsSummary getMetrics listQuarantinedEvents replayQuarantine
    listQueues cleanQueue pauseQueue resumeQueue listSchedules listUpcomingSlots updateSchedule
    pauseSchedule resumeSchedule runSchedule listSettings listSuppressions liftSuppression
    listUnmatchedReports listWorkers erasePerson putPerson listAlertRules updateAlertRules
    listAlerts acknowledgeAlert snoozeAlert archiveCourse unarchiveCourse endEnrolment getEnrolment
    importEnrolmentsCsv importOfferingsCsv importPeopleCsv importProgrammesCsv getMetricsHistory
    listPeople resumePerson suspendPerson putQueueLimits listLogObligations
    putProgramme putOffering createWorkflow deleteWorkflow createPlanCourse editPlanSchedule
    startGeneration cancelGeneration fillLessonPlan editLesson regenerateLesson regenerateModule
    retryGeneration awardAchievementRule deleteAchievementRule putAchievementRule
    listAchievementAwards previewAchievementRule
    """
)
"""Operations that the role manager may not use at all: 403."""
NARROWED: Mapping[str, tuple[int, int | None]] = {
    "listAchievements": (200, 403),
    "listAchievementRules": (200, None),
    "getAchievementRule": (404, None),
    "listActivityLogs": (200, 200),
    "createActivityLog": (404, None),
    "updateActivityLog": (404, None),
    "listUpcomingMessages": (404, None),
    "listProgrammeWeeks": (404, None),
    "getLesson": (404, None),
    "getActivityLog": (404, None),
    "deleteActivityLog": (404, None),
    "listCompletions": (200, 403),
    "getCompletion": (404, None),
    "listCourses": (200, None),
    "getCourse": (200, None),
    "listEnrolments": (200, None),
    "listLearners": (200, None),
    "getProgress": (200, 403),
    "updateProgress": (403, None),
    "getProgressHistory": (200, 403),
    "listCredentials": (200, 403),
    "getCredentialSharing": (404, None),
    "putCredentialSharing": (404, None),
    "createEventStreamTicket": (201, None),
    "listNotifications": (200, 403),
    "markNotificationRead": (404, None),
    "markAllNotificationsRead": (200, 403),
    "getPerson": (403, None),
    "exportPerson": (403, None),
    "getNotificationPreferences": (403, None),
    "putNotificationPreferences": (403, None),
    "listProgressOfPerson": (403, None),
    "listProgrammes": (200, None),
    "getProgramme": (404, None),
    "getComplianceReport": (404, None),
    "downloadComplianceReport": (404, None),
    "listExemptions": (404, None),
    "addExemption": (404, None),
    "endExemption": (404, None),
    "listOfferings": (404, None),
    "getWeeklyReport": (404, None),
    "downloadCompletions": (200, None),
    "downloadHrCsv": (200, None),
    "downloadHrXlsx": (200, None),
    "getSession": (200, None),
    "listTeam": (200, 403),
    "listWorkflows": (200, None),
    "getWorkflow": (404, None),
    "getLessonPlan": (404, None),
    "listModelCalls": (404, None),
    "exportLessonPlan": (404, None),
    "getGenerationStatus": (404, None),
}
"""The answers to a manager for records of another one's people: without and with a filter."""
OF_THE_SCHOOL = _names(
    """
    listCourses getCourse listAchievementRules getAchievementRule listWorkflows getWorkflow
    getLessonPlan listModelCalls exportLessonPlan
    getGenerationStatus getLesson createEventStreamTicket getSession
    """
)
"""Narrowed operations whose answers name no person but the caller."""
OWN_RECORDS = _names(
    """
    listNotifications markNotificationRead markAllNotificationsRead exportPerson getProgress
    getNotificationPreferences putNotificationPreferences updateProgress getProgressHistory
    getCredentialSharing putCredentialSharing
    """
)
"""Narrowed operations by which a manager reads or changes its own records, or with a filter."""
BODIES: Mapping[str, Any] = {
    "addExemption": {"startsOn": "2026-01-05", "endsOn": "2026-01-06", "reason": "holiday"},
    "updateProgress": {"userId": f"learner-{MARK}", "chapterId": "a", "progress": 1},
    "putNotificationPreferences": {},
    "putCredentialSharing": {"showsName": False, "isListed": False},
    "createActivityLog": {"offeringId": f"offering-{MARK}", "week": "2026-W02", "notes": "x"},
}
FILTERS = ("userId", "facilitatorId", "managerId")


@pytest.fixture(scope="module")
def school(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoProgrammes]:
    with two_programmes(tmp_path_factory.mktemp("rights")) as running:
        yield running


@pytest.fixture
def mira(school: TwoProgrammes) -> Iterator[httpx.Client]:
    with school.client(manager("a1a1"), "manager") as client:
        yield client


@pytest.fixture
def otto(school: TwoProgrammes) -> Iterator[httpx.Client]:
    with school.client(manager(MARK), "manager") as client:
        yield client


def operations(school: TwoProgrammes) -> dict[str, tuple[str, str, list[str]]]:
    """Return method, path and filters by a person of each operation that is served."""
    document = httpx.get(f"{school.url}/openapi.json", timeout=60, trust_env=False).json()
    return {
        operation["operationId"]: (
            method.upper(),
            path,
            [
                each["name"]
                for each in operation.get("parameters", ())
                if each["in"] == "query" and each["name"] in FILTERS
            ],
        )
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def ask(
    client: httpx.Client,
    name: str,
    operation: tuple[str, str, list[str]],
    ids: Mapping[str, str],
    *,
    filtered: bool = False,
) -> httpx.Response:
    method, path, filters = operation
    url = re.sub(r"\{(\w+)\}", lambda found: ids.get(found[1], f"some-{MARK}"), path)
    query = {each: ids[each] for each in filters} if filtered else {}
    body = None if method in ("GET", "DELETE") else BODIES.get(name, {})
    if body and "offeringId" in body:
        body = {**body, "offeringId": ids["offeringId"]}
    return client.request(method, url, params=query, json=body)


def text_of(answer: httpx.Response) -> str:
    """Return what an answer says, without the id of the request."""
    if "spreadsheet" in answer.headers.get("content-type", ""):
        sheet = openpyxl.load_workbook(io.BytesIO(answer.content)).worksheets[0]
        return repr(list(sheet.iter_rows(values_only=True)))
    if answer.is_error:
        return json.dumps(
            {name: each for name, each in answer.json().items() if name != "instance"}
        )
    return answer.text


def unknown(ids: Mapping[str, str]) -> dict[str, str]:
    """Return ids of the same look that name no record."""
    found = {}
    for name, id in ids.items():
        if name in ("courseId", "week"):
            found[name] = id
        elif MARK in id:
            found[name] = id.replace(MARK, UNKNOWN)
        else:
            found[name] = f"{id[:-4]}ffff"
    return found


def without(text: str, ids: Mapping[str, str]) -> str:
    """Return a text without the ids that its request had."""
    for name, id in ids.items():
        if name not in ("courseId", "week"):
            text = text.replace(id, name)
    return text


def test_every_operation_is_listed(school: TwoProgrammes) -> None:
    listed = [*WITHOUT_PEOPLE, *IN_TESTS_OF_THEIR_OWN, *OTHER_ROLES, *NARROWED]
    assert len(listed) == len(set(listed))
    assert set(operations(school)) == set(listed)


def test_nothing_of_another_managers_people_is_shown_or_changed(
    school: TwoProgrammes, mira: httpx.Client, otto: httpx.Client
) -> None:
    known = operations(school)
    before = records_of(otto, known, school.ids)
    assert all(MARK in text for text in before.values()), before  # the same requests show all
    for name in OTHER_ROLES:
        answer = ask(mira, name, known[name], school.ids)
        assert answer.status_code == 403, (name, answer.text)
    for name, (plain, with_filter) in NARROWED.items():
        assert (with_filter is None) == (not known[name][2]), name
        for filtered, status in ((False, plain), (True, with_filter)):
            if status is None:
                continue
            answer = ask(mira, name, known[name], school.ids, filtered=filtered)
            assert answer.status_code == status, (name, filtered, answer.text)
            told = text_of(answer)
            if answer.is_error:  # it may have the ids of the request
                told = without(told, school.ids)
            assert MARK not in told.replace(f"some-{MARK}", ""), (name, filtered, told)
            ids = unknown(school.ids)
            stranger = ask(mira, name, known[name], ids, filtered=filtered)
            assert stranger.status_code == status, (name, filtered, stranger.text)
            if stranger.is_error:
                assert without(text_of(stranger), ids) == told, name
    assert records_of(otto, known, school.ids) == before


def records_of(
    client: httpx.Client, known: Mapping[str, tuple[str, str, list[str]]], ids: Mapping[str, str]
) -> dict[str, str]:
    """Return the answers to all narrowed reads about people."""
    found = {}
    for name, (_, with_filter) in NARROWED.items():
        if known[name][0] != "GET" or name in OF_THE_SCHOOL:
            continue
        if name not in OWN_RECORDS:
            found[name] = text_of(ask(client, name, known[name], ids))
        elif with_filter is not None and name != "listNotifications":
            found[name] = text_of(ask(client, name, known[name], ids, filtered=True))
    return found


def test_filters_and_leave_stay_within_the_managers_own_people(
    school: TwoProgrammes, mira: httpx.Client, otto: httpx.Client
) -> None:
    query = {"status": "completed", "step": "credential"}
    seen = [
        {each["userId"] for each in client.get("/api/v1/completions", params=query).json()["items"]}
        for client in (mira, otto)
    ]
    assert seen == [{"learner-a1a1"}, {f"learner-{MARK}"}]
    leave = BODIES["addExemption"] | {"reason": "leave"}
    url = "/api/v1/programmes/programme-a1a1/exemptions"
    answers = {
        user_id: mira.post(url, json={**leave, "userId": user_id}).status_code
        for user_id in ("facilitator-a1a1", f"facilitator-{MARK}", "unknown")
    }
    assert list(answers.values()) == [201, 403, 403], answers


MANAGED = ("progress_reset", "attempt_renewed", "chapter_waived")


def managed_event(user_id: str, kind: str, id: str) -> dict[str, Any]:
    return {
        "id": id,
        "userId": user_id,
        "courseId": "fire",
        "chapterId": "a",
        "eventType": kind,
        "timestamp": "2026-11-20T09:00:00Z",
        "metadata": {"reason": "passed elsewhere"},
    }


def test_events_count_for_the_managers_own_people(mira: httpx.Client, otto: httpx.Client) -> None:
    """Reset, renew and waive for a learner, a facilitator, and one who does not exist."""
    url = "/api/progress/enhanced-update"
    events = [
        managed_event(f"{who}-{mark}", kind, f"{who}-{mark}-{kind}")
        for who in ("learner", "facilitator", "manager")
        for mark in (MARK, UNKNOWN, "a1a1")
        for kind in MANAGED
    ]
    own = {each["id"] for each in events if "a1a1" in each["id"] and "manager" not in each["id"]}
    answer = mira.post(url, json=events).raise_for_status().json()
    refused = {each["id"]: each for each in answer["results"] if each["status"] == "rejected"}
    assert refused.keys() == {each["id"] for each in events} - own
    assert {(each["code"], each["message"]) for each in refused.values()} == {
        (
            "forbidden",
            "You may do this for your own people: those whose managerId you are, and the"
            " facilitators of your programmes.",
        )
    }
    assert answer["accepted"] == len(own)
    seen = otto.get("/api/v1/courses/fire/progress", params={"userId": f"learner-{MARK}"}).json()
    assert (seen["attempt"], seen["status"]) == (1, "completed")


def test_hints_are_about_the_managers_own_people(school: TwoProgrammes, mira: httpx.Client) -> None:
    units = [{"id": "u", "title": "U", "chapters": [{"id": "a", "title": "A"}]}]
    course = {"title": "First aid", "units": units}
    with school.client("platform", "service") as service:
        service.put("/api/v1/courses/first-aid", json=course).raise_for_status()
        with mira.stream("GET", "/api/v1/events") as stream:
            lines = stream.iter_lines()
            next(lines)  # the heartbeat: the stream is open
            for mark in (MARK, "a1a1"):
                change_records(service, mark)
                name = {"givenName": "New", "familyName": mark}
                service.put(f"/api/v1/people/facilitator-{mark}", json=name).raise_for_status()
                if mark == MARK:
                    service.put("/api/v1/people/facilitator-a1a1", json=name).raise_for_status()
            found: list[tuple[str, str]] = []
            while len(set(found)) < 6:
                line = next(lines)
                if line.startswith("data:"):
                    hint = json.loads(line.removeprefix("data:"))
                    found.append((hint["topic"], hint["id"]))
    assert found[0] == ("people", "facilitator-a1a1")  # and none about the other one's before
    assert set(found) == {
        ("people", "facilitator-a1a1"),
        ("progress", "learner-a1a1/first-aid"),
        ("completions", "*"),
        ("credentials", "*"),
        ("programmes", "*"),
        ("activity-logs", "*"),
    }


def change_records(service: httpx.Client, mark: str) -> None:
    """Change records of a learner, a facilitator and a programme."""
    event = managed_event(f"learner-{mark}", "chapter_complete", f"first-aid-{mark}")
    event["courseId"] = "first-aid"
    answer = service.post("/api/progress/enhanced-update", json=[event]).raise_for_status()
    assert answer.json()["accepted"] == 1
    programme = f"/api/v1/programmes/programme-{mark}"
    body = {"title": f"Programme {mark}", "timeZone": "UTC", "managers": [manager(mark)]}
    service.put(programme, json=body).raise_for_status()
    offering = f"{programme}/offerings/offering-{mark}"
    [stored] = service.get(f"{programme}/offerings").raise_for_status().json()
    fields = ("title", "facilitatorId", "startsOn", "endsOn")
    service.put(offering, json={each: stored[each] for each in fields}).raise_for_status()


def test_a_key_is_taken_as_the_manager_of_its_name(school: TwoProgrammes) -> None:
    with school.client("root", "admin") as admin:
        tokens = [
            admin.post("/api/v1/keys", json={"name": name, "roles": ["manager"]}).json()["token"]
            for name in (manager("a1a1"), "school office")
        ]
    answers = [
        httpx.get(
            f"{school.url}/api/v1/people/learner-a1a1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
            trust_env=False,
        )
        for token in tokens
    ]
    assert answers[0].json()["userId"] == "learner-a1a1"
    assert answers[1].status_code == 403
    assert "'school office'" in answers[1].json()["hint"]


def test_a_wider_role_stays_wider(school: TwoProgrammes) -> None:
    for role, status in (("operator", 200), ("viewer", 200), ("facilitator", 403)):
        with school.client(manager("a1a1"), "manager", role) as client:
            answer = client.get(f"/api/v1/people/learner-{MARK}")
            assert answer.status_code == status, role
            if status == 200:
                assert answer.json()["email"].startswith("l***@"), role
    with school.client(manager("a1a1"), "manager", "viewer") as client:  # no report for viewers
        assert MARK not in client.get("/api/v1/reports/hr.csv").text
