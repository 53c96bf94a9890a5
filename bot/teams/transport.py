"""botbuilder-core behind one small seam that speaks dict activities.

`Transport` verifies, reads and runs incoming activities; `connector.Connector` sends. botbuilder's types are known in
this module, in `verification.py` and in `turns.py` only, so that another SDK can take its place.

An activity runs through `CloudAdapterBase.process_activity` and an `ActivityHandler`, with an authentication of ours:
the stock one builds two service clients for every activity (6 ms of CPU), and the stock `CloudAdapter.process` answers
500 to every card invoke.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import botbuilder.schema
import orjson
from botbuilder.core import ActivityHandler, CloudAdapterBase
from botbuilder.schema import Activity
from botframework.connector.auth.authenticate_request_result import AuthenticateRequestResult
from botframework.connector.auth.bot_framework_authentication import BotFrameworkAuthentication
from botframework.connector.auth.claims_identity import ClaimsIdentity
from botframework.connector.auth.connector_factory import ConnectorFactory
from msrest.serialization import Deserializer

from bot.settings import TeamsSettings
from bot.teams.connector import Connector
from bot.teams.keys import SigningKeys
from bot.teams.verification import Peer, Verifier, text_at

Json = dict[str, Any]


class Malformed(Exception):
    """The body is not an activity; the message says what is wrong with it."""


class Transport:
    """The door to botbuilder.

    activity = transport.parse(body)
    await transport.verify(auth_header, activity, peer)
    response = await transport.run(transport.read(activity), handler)
    """

    def __init__(self, settings: TeamsSettings, connector: Connector, *, keys: SigningKeys | None = None) -> None:
        self.keys = keys or SigningKeys(settings.openid_metadata)
        self._verifier = Verifier(settings, self.keys)
        self._adapter = _Adapter()
        self._deserializer = Deserializer(  # type: ignore[no-untyped-call]
            {name: value for name, value in vars(botbuilder.schema).items() if isinstance(value, type)}
        )
        self.send = connector.send
        self.update = connector.update
        self.delete = connector.delete
        self.get_member = connector.get_member

    @staticmethod
    def parse(body: bytes) -> Json:
        """The body as a JSON object with what every activity has; raises Malformed."""
        try:
            activity = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Malformed("the body is not JSON") from error
        if not isinstance(activity, dict):
            raise Malformed("the body is not a JSON object")
        if not isinstance(activity.get("type"), str) or not activity["type"]:
            raise Malformed("the activity has no type")
        for name in ("id", "serviceUrl", "channelId", "text", "name", "action", "replyToId", "textFormat"):
            if not isinstance(activity.get(name), str | None):
                raise Malformed(f"the activity's {name} is not a string")
        for path in (("conversation", "id"), ("from", "id"), ("recipient", "id")):
            if not text_at(activity, *path):
                raise Malformed(f"the activity has no {'.'.join(path)}")
        if activity["type"] in ("message", "invoke") and not activity.get("id"):
            raise Malformed("the activity has no id")
        return activity

    async def verify(self, auth_header: str, activity: Mapping[str, Any], peer: Peer) -> ClaimsIdentity:
        """The sender's claims; raises `verification.Refused`."""
        return await self._verifier.verify(auth_header, activity, peer)

    def read(self, activity: Json) -> Activity:
        """The activity by botbuilder's schema; raises Malformed."""
        try:
            return self._deserializer("Activity", activity)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise Malformed("the activity does not fit the Bot Framework schema") from error

    async def run(self, activity: Activity, handler: ActivityHandler) -> Json | None:
        """Let a handler take a verified activity; returns the body of an invoke's response, None for others."""
        verified = AuthenticateRequestResult()
        verified.claims_identity = ClaimsIdentity({}, True)
        verified.connector_factory = _NoConnector()
        response = await self._adapter.process_activity(verified, activity, handler.on_turn)
        return None if response is None else invoke_response(response)

    async def close(self) -> None:
        """Stop fetching keys."""
        await self.keys.close()


def invoke_response(response: Any) -> Json:
    """The body of a botbuilder InvokeResponse; one without a body says so in the shape cards understand."""
    if isinstance(response.body, dict):
        return response.body
    return invoke_error(int(response.status), "NotSupported", "Countersign does not know this request.")


def invoke_error(status: int, code: str, message: str) -> Json:
    """An error as the page on universal actions for Adaptive Cards has it; the HTTP status stays 200."""
    return {
        "statusCode": status,
        "type": "application/vnd.microsoft.error",
        "value": {"code": code, "message": message},
    }


class _Adapter(CloudAdapterBase):  # type: ignore[misc]
    """The stock adapter over an authentication that has been done already."""

    def __init__(self) -> None:
        super().__init__(_Verified())


class _Verified(BotFrameworkAuthentication):  # type: ignore[misc]
    """Activities are verified before they are stored; nothing reaches the adapter that is not."""

    async def authenticate_request(self, activity: Activity, auth_header: str) -> AuthenticateRequestResult:
        raise PermissionError("activities are verified before they are run")

    async def authenticate_streaming_request(
        self, auth_header: str, channel_id_header: str
    ) -> AuthenticateRequestResult:
        raise PermissionError("streaming connections are not taken")

    def create_connector_factory(self, claims_identity: ClaimsIdentity) -> ConnectorFactory:
        return _NoConnector()

    async def create_user_token_client(self, claims_identity: ClaimsIdentity) -> None:
        return None


class _NoConnector(ConnectorFactory):  # type: ignore[misc]
    """Stands where the adapter wants a client: what we say goes through `connector.Connector`, outside the turn."""

    async def create(self, service_url: str, audience: str) -> _NoConnector:
        return self

    @property
    def conversations(self) -> Any:
        raise NotImplementedError("post through TeamsSurface; a turn only returns an invoke response")
