"""What the sandbox's Credly takes, refuses, finds and revokes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.anyio

REQUIRED = (
    "recipient_email",
    "issued_to_first_name",
    "issued_to_last_name",
    "badge_template_id",
    "issued_at",
)


async def find(partner: Any, text: str) -> Any:
    answer = await partner.client.get(
        partner.badges, params={"filter": text}, auth=(partner.config.credly_token, "")
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_badge_is_issued_and_found_again(partner: Any, order: dict[str, Any]) -> None:
    answer = await partner.issue(order)
    assert answer.status_code == 201
    badge = answer.json()["data"]
    assert badge["state"] == "pending"
    assert badge["expires_at"] is None
    assert badge["issued_at"] == order["issued_at"]
    for name in ("accept_badge_url", "badge_url", "image_url"):
        assert badge[name].startswith(partner.url)
    found = await find(partner, "badge_template_id::data-basics|recipient_email::ADA@example.org")
    assert [item["id"] for item in found["data"]] == [badge["id"]]
    assert found["metadata"]["total_count"] == 1
    assert (await find(partner, "badge_template_id::other"))["data"] == []
    counts = await partner.counts("credly")
    assert counts["issued"] == [{"templateId": "data-basics", "earner": "u1", "count": 1}]


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", ["gone", None, "", 7])
async def test_an_order_without_a_required_field_names_it(
    partner: Any, order: dict[str, Any], name: str, value: Any
) -> None:
    if value == "gone":
        del order[name]
    else:
        order[name] = value
    answer = await partner.issue(order)
    assert answer.status_code == 422
    assert name in answer.json()["data"]["message"]
    assert (await partner.counts("credly"))["badges"] == 0


async def test_an_empty_order_names_every_missing_field(partner: Any) -> None:
    message = (await partner.issue({})).json()["data"]["message"]
    assert all(f"{name} is required" in message for name in REQUIRED)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("issued_at", "2026-11-22T09:41:00Z"),
        ("issued_at", "2026-11-22 09:41:00"),
        ("issued_at", "2026-11-22 09:41:00 -05:00"),
        ("issued_at", "2026-11-31 09:41:00 -0500"),
        ("expires_at", "never"),
        ("expires_at", True),
        ("recipient_email", "ada"),
        ("issuer_earner_id", 7),
        ("suppress_badge_notification_email", "yes"),
        ("evidence", "a link"),
    ],
)
async def test_a_field_of_the_wrong_form_is_refused(
    partner: Any, order: dict[str, Any], name: str, value: Any
) -> None:
    answer = await partner.issue(order | {name: value})
    assert answer.status_code == 422
    assert name in answer.json()["data"]["message"]


@pytest.mark.parametrize(
    "change",
    [
        {"issuer_earner_id": "u2", "recipient_email": "Ada@Example.org"},
        {"issuer_earner_id": "u1", "recipient_email": "other@example.org"},
    ],
)
async def test_the_same_earner_or_address_gets_a_template_once(
    partner: Any, order: dict[str, Any], change: dict[str, str]
) -> None:
    assert (await partner.issue(order)).status_code == 201
    answer = await partner.issue(order | change)
    assert answer.status_code == 422
    assert "already" in answer.json()["data"]["message"]
    assert (await partner.issue(order | {"badge_template_id": "other"})).status_code == 201
    assert (await partner.counts("credly"))["badges"] == 2


async def test_a_template_that_allows_duplicates_shows_a_double_issue(
    partner: Any, order: dict[str, Any]
) -> None:
    await partner.control(
        "templates", {"templates": [{"id": "data-basics", "allowDuplicates": True}]}
    )
    for _ in range(2):
        assert (await partner.issue(order)).status_code == 201
    counts = await partner.counts("credly")
    assert counts["issued"][0]["count"] == 2
    assert counts["doubled"] == 1


async def test_an_archived_template_issues_nothing(partner: Any, order: dict[str, Any]) -> None:
    await partner.control("templates", {"templates": [{"id": "data-basics", "archived": True}]})
    answer = await partner.issue(order)
    assert answer.status_code == 422
    assert "archived" in answer.json()["data"]["message"]


@pytest.mark.parametrize("auth", [None, ("wrong", ""), ("sandbox-credly-token", "a password")])
async def test_a_wrong_key_is_refused(partner: Any, order: dict[str, Any], auth: Any) -> None:
    answer = await partner.client.post(partner.badges, json=order, auth=auth)
    assert answer.status_code == 401
    assert (await partner.counts("credly"))["badges"] == 0


async def test_another_organization_and_a_form_and_no_json_are_refused(
    partner: Any, order: dict[str, Any]
) -> None:
    auth = (partner.config.credly_token, "")
    elsewhere = partner.badges.replace(partner.config.organization, "elsewhere")
    assert (await partner.client.post(elsewhere, json=order, auth=auth)).status_code == 404
    assert (await partner.client.post(partner.badges, data=order, auth=auth)).status_code == 415
    json_type = {"content-type": "application/json"}
    for content, status in ((b"{", 400), (b"[]", 400)):
        answer = await partner.client.post(
            partner.badges, content=content, headers=json_type, auth=auth
        )
        assert answer.status_code == status


async def test_a_filter_that_is_not_known_is_refused(partner: Any) -> None:
    answer = await partner.client.get(
        partner.badges, params={"filter": "name::Ada"}, auth=(partner.config.credly_token, "")
    )
    assert answer.status_code == 422


async def test_a_revoked_badge_says_why_and_makes_way_for_a_new_one(
    partner: Any, order: dict[str, Any]
) -> None:
    auth = (partner.config.credly_token, "")
    badge = (await partner.issue(order)).json()["data"]
    url = f"{partner.badges}/{badge['id']}/revoke"
    assert (await partner.client.put(url, json={}, auth=auth)).status_code == 422
    answer = await partner.client.put(url, json={"reason": "issued by mistake"}, auth=auth)
    assert answer.status_code == 200
    assert answer.json()["data"]["state"] == "revoked"
    assert (await partner.client.put(url, json={"reason": "again"}, auth=auth)).status_code == 422
    assert (await partner.issue(order)).status_code == 201
    found = await find(partner, "badge_template_id::data-basics|state::pending")
    assert found["metadata"]["total_count"] == 1
    missing = f"{partner.badges}/none/revoke"
    assert (await partner.client.put(missing, json={"reason": "x"}, auth=auth)).status_code == 404


async def test_each_change_of_a_badge_is_an_event_that_can_be_fetched(
    partner: Any, order: dict[str, Any]
) -> None:
    auth = (partner.config.credly_token, "")
    badge = (await partner.issue(order)).json()["data"]
    listed = (await partner.client.get(f"{partner.url}/control/badges")).json()
    [event] = listed["events"]
    url = partner.badges.removesuffix("badges") + f"events/{event['id']}"
    fetched = (await partner.client.get(url, auth=auth)).json()["data"]
    assert fetched["event_type"] == "badge.created"
    assert fetched["organization_id"] == partner.config.organization
    assert fetched["badge"]["id"] == badge["id"]
    assert (await partner.client.get(url)).status_code == 401
    assert (await partner.client.get(url + "x", auth=auth)).status_code == 404


async def test_a_replacement_ends_the_badge_and_issues_one_to_the_same_earner(
    partner: Any, order: dict[str, Any]
) -> None:
    first = (await partner.issue(order)).json()["data"]
    again = {**order, "issued_at": "2027-11-22 09:00:00 +0000"}
    assert (await partner.issue(again)).status_code == 422
    del again["recipient_email"]

    async def replace(badge_id: str) -> httpx.Response:
        url, auth = f"{partner.badges}/{badge_id}/replace", (partner.config.credly_token, "")
        answer: httpx.Response = await partner.client.post(url, json=again, auth=auth)
        return answer

    template = {"id": order["badge_template_id"]}
    await partner.control("templates", {"templates": [{**template, "archived": True}]})
    assert (await replace(first["id"])).status_code == 422
    await partner.control("templates", {"templates": [template]})
    answer = await replace(first["id"])
    assert answer.status_code == 201
    second = answer.json()["data"]
    assert (second["state"], second["recipient_email"]) == ("pending", first["recipient_email"])
    revoked = (await find(partner, "state::revoked"))["data"]
    assert [badge["id"] for badge in revoked] == [first["id"]]
    assert (await replace(first["id"])).status_code == 422  # it is revoked
    assert (await replace("none")).status_code == 404
    assert (await partner.issue(order)).status_code == 422  # there is a valid one still
