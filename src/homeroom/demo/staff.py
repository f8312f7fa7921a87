"""A manager and facilitators in the running school, and links to sign them in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from urllib.parse import quote

import jwt

from homeroom.clock import Clock
from homeroom.demo.environment import DemoEnvironment, DemoSetupFailed, put_json
from homeroom.demo.example_school import (
    FACILITATORS,
    MANAGER,
    MANAGER_NAME,
    PROGRAMME,
    PROGRAMME_TITLE,
    PROGRAMME_WEEKS,
    example_log,
    staff_member,
    week_key,
)
from homeroom.instant import to_datetime
from homeroom.sandbox.directory_and_assessment import generated_person

_TEAM_SIZE = 12
_TOKEN_LIFETIME = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class ConsoleLink:
    """A link that opens a page of the console, signed in."""

    title: str
    url: str


def console_link(
    environment: DemoEnvironment, title: str, user_id: str, role: str, page: str
) -> ConsoleLink:
    """Return a link to a page that signs a person in by a JWT of the platform."""
    token = _mint_token(environment, user_id, role)
    return ConsoleLink(title, f"{environment.server.url}/sign-in?next={quote(page)}#{token}")


def staff_links(environment: DemoEnvironment) -> Sequence[ConsoleLink]:
    """Return the links of an operator, a manager and a facilitator."""
    return (
        console_link(environment, "operator", "olu", "operator", "/console"),
        console_link(environment, "manager", MANAGER, "manager", "/console/programmes"),
        console_link(environment, "facilitator", "ada", "facilitator", "/console/logs"),
    )


async def add_staff(environment: DemoEnvironment) -> None:
    """Add a programme that runs now, its people, one log, the manager's team.

    Call it after the comparison: what it adds is not among the numbers.
    """
    api = environment.api
    await put_json(api, f"/api/v1/people/{MANAGER}", staff_member(MANAGER, MANAGER_NAME))
    for user_id, name in FACILITATORS.items():
        await put_json(api, f"/api/v1/people/{user_id}", staff_member(user_id, name, MANAGER))
    await put_json(
        api,
        f"/api/v1/programmes/{PROGRAMME}",
        {"title": PROGRAMME_TITLE, "timeZone": "UTC", "managers": [MANAGER]},
    )
    today = to_datetime(Clock().now()).date()
    begins = today - timedelta(days=today.weekday())
    for user_id, name in FACILITATORS.items():
        offering = {
            "title": f"Data skills with {name.split()[0]}",
            "facilitatorId": user_id,
            "startsOn": begins.isoformat(),
            "endsOn": (begins + timedelta(weeks=PROGRAMME_WEEKS)).isoformat(),
        }
        await put_json(api, f"/api/v1/programmes/{PROGRAMME}/offerings/of-{user_id}", offering)
    await _hand_in_a_log(environment, today)
    for each in environment.plan.learners[:_TEAM_SIZE]:
        person = generated_person(environment.options.seed, each.user_id) | {"managerId": MANAGER}
        del person["id"]
        await put_json(api, f"/api/v1/people/{each.user_id}", person)


async def _hand_in_a_log(environment: DemoEnvironment, today: date) -> None:
    """Hand in this week's log of one facilitator; the others owe theirs."""
    *_, facilitator = FACILITATORS
    token = _mint_token(environment, facilitator, "facilitator")
    answer = await environment.api.post(
        "/api/v1/activity-logs",
        headers={"authorization": f"Bearer {token}"},
        json={
            "offeringId": f"of-{facilitator}",
            "week": week_key(today),
            **example_log(today),
        },
    )
    if not answer.is_success:
        raise DemoSetupFailed(f"A log was answered {answer.status_code}: {answer.text}")


def _mint_token(environment: DemoEnvironment, user_id: str, role: str) -> str:
    """Return a person's token, as the learning platform would sign it."""
    expires = to_datetime(Clock().now()) + _TOKEN_LIFETIME
    claims = {"sub": user_id, "roles": [role], "exp": expires}
    return jwt.encode(claims, environment.jwt_secret, "HS256")
