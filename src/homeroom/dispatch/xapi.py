"""The completion step that sends xAPI statements to a learning record store."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from homeroom.catalogue.api import Course
from homeroom.completion.api import Completion, StepArgs, StepContext
from homeroom.dispatch.api import XapiConfig
from homeroom.dispatch.destinations import DestinationKind
from homeroom.dispatch.message import Delivered, MessageKey
from homeroom.dispatch.message_step import MessageStep
from homeroom.dispatch.xapi_statement import XAPI_VERSION, build_statements, is_same_statement
from homeroom.jobs.api import FixedDelays
from homeroom.partner.client import Partner, encode_json
from homeroom.partner.failure import PartnerError

_STATEMENTS = ("statements",)
_HEADERS = {"x-experience-api-version": XAPI_VERSION}


class SendStatements(StepArgs, frozen=True, kw_only=True):
    """Send a completion to the record store; the payload is the completion's id."""

    kind: ClassVar[str] = "completion.xapi"
    queue: ClassVar[str] = "dispatch"


class LearningRecordStore:
    """A learning record store (xAPI 1.0.3)."""

    def __init__(self, name: str, partner: Partner) -> None:
        """Set the name of the destination, and the client of the store."""
        self.name = name
        self._partner = partner

    async def deliver(self, id: str, payload: str) -> Delivered:
        """Store statements, or find that they are stored.

        A conflict with the same statement is a repeat. Raises ``PartnerError``, which is final for
        a conflict with another statement.
        """
        response = await self._partner.call(
            "POST", _STATEMENTS, content=payload.encode(), headers=_HEADERS, expect=(409,)
        )
        if response.status == 409:
            for statement in msgspec.json.decode(payload):
                await self._settle_conflict(statement)
        return Delivered(response.status, self._partner.excerpt(response.body))

    async def _settle_conflict(self, statement: dict[str, Any]) -> None:
        """Store a statement of a refused set unless the store has the same."""
        stored = await self._find(statement["id"])
        if stored is None:
            content = encode_json([statement])
            await self._partner.call("POST", _STATEMENTS, content=content, headers=_HEADERS)
        elif not is_same_statement(statement, stored):
            raise PartnerError(
                f"{self._partner.name} holds another statement {statement['id']}; compare it with"
                " this dispatch, and void it there if it is wrong",
                kind="refused",
                response_status=409,
                is_retriable=False,
            )

    async def _find(self, id: str) -> dict[str, Any] | None:
        """Return a stored statement, None without it.

        The standard answers with the statement or 404, Ralph with a list of one or none.
        """
        response = await self._partner.call(
            "GET", _STATEMENTS, query={"statementId": id}, headers=_HEADERS, expect=(404,)
        )
        if response.status == 404:
            return None
        found = response.decode(dict[str, Any])
        if "statements" not in found:
            return found
        return next((each for each in found["statements"] if each.get("id") == id), None)


class XapiStep(MessageStep):
    """Send each completion as xAPI statements (HOMEROOM_XAPI_URL)."""

    name: ClassVar[str] = "xapi"
    job: ClassVar[type[StepArgs]] = SendStatements
    message_type: ClassVar[str] = "xapi.statements"
    destination_kind: ClassVar[DestinationKind] = "lrs"

    def __init__(self, context: StepContext) -> None:
        """Take the store from the settings."""
        super().__init__(context)
        self._config = context.part(XapiConfig)
        partner = self._config.store
        self._store = None if partner is None else LearningRecordStore(self.name, partner)

    @property
    def is_switched_on(self) -> bool:
        """Return whether there is a store: most schools have none."""
        return self._store is not None

    @property
    def receiver(self) -> LearningRecordStore | None:
        """Return the store, or None without its URL."""
        return self._store

    @property
    def missing_setting(self) -> str:
        """Return the setting that is missing."""
        return "HOMEROOM_XAPI_URL is not set"

    @property
    def retries(self) -> FixedDelays:
        """Return the waits of the settings."""
        return self._config.retries

    @property
    def rate(self) -> float:
        """Return the rate of the settings."""
        return self._config.rate

    async def build(self, key: MessageKey, completion: Completion, course: Course) -> Any:
        """Return the statements; nothing in them is learnt later."""
        return build_statements(self._config.source, completion)
