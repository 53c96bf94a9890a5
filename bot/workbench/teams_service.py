"""The local Teams' Bot Connector: the part of its REST interface that a bot calls, with faults on request.

Paths and shapes: the Bot Connector REST reference.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bot.workbench.teams_identity import LocalIdentity
from bot.workbench.teams_state import CHANNEL, TEAM, StoredMessage, TeamsState

MAX_BODY_BYTES = 256 * 1024
MAX_MESSAGE_BYTES = 80_000


class Faults:
    """Failures the next calls meet, so that people can see how their installation takes them."""

    def __init__(self) -> None:
        self._status = 500
        self._retry_after: int | None = None
        self._left = 0
        self.calls: list[tuple[str, str]] = []
        """Method and path of the calls taken, newest last."""

    def fail_next(self, count: int, status: int, retry_after: int | None = None) -> None:
        """Answer the next calls with a status; `retry_after` in seconds."""
        self._left, self._status, self._retry_after = count, status, retry_after

    def meet(self, request: Request) -> Response | None:
        """The failure this call meets, if any."""
        self.calls.append((request.method, request.url.path))
        del self.calls[:-200]
        if self._left <= 0:
            return None
        self._left -= 1
        headers = {} if self._retry_after is None else {"Retry-After": str(self._retry_after)}
        return _error(self._status, "ServiceError", "asked for by the workbench", headers)


class ConnectorService:
    """Serves `/v3/conversations…`, the token endpoint and the published keys."""

    def __init__(self, identity: LocalIdentity, state: TeamsState, faults: Faults, tenant_id: str) -> None:
        self._identity = identity
        self._state = state
        self._faults = faults
        self._tenant_id = tenant_id

    def routes(self) -> list[Route]:
        """To be mounted at the base URL."""
        conversation = "/v3/conversations/{conversation}"
        return [
            Route("/v1/.well-known/openidconfiguration", self._metadata),
            Route("/v1/.well-known/keys", self._keys),
            Route("/oauth2/v2.0/token", self._token, methods=["POST"]),
            Route("/v3/conversations", self._create, methods=["POST"]),
            Route(f"{conversation}/activities", self._send, methods=["POST"]),
            Route(f"{conversation}/activities/{{activity}}", self._reply, methods=["POST"]),
            Route(f"{conversation}/activities/{{activity}}", self._update, methods=["PUT"]),
            Route(f"{conversation}/activities/{{activity}}", self._delete, methods=["DELETE"]),
            Route(f"{conversation}/members", self._members),
            Route(f"{conversation}/members/{{member}}", self._member),
        ]

    async def _metadata(self, request: Request) -> Response:
        return JSONResponse(self._identity.metadata())

    async def _keys(self, request: Request) -> Response:
        return JSONResponse(self._identity.keys())

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
        answer = self._identity.give(form.get("client_id", ""), form.get("client_secret", ""))
        if answer is None or form.get("grant_type") != "client_credentials":
            return JSONResponse({"error": "invalid_client"}, status_code=401)
        return JSONResponse(answer)

    async def _create(self, request: Request) -> Response:
        body = await self._taken(request)
        if isinstance(body, Response):
            return body
        members = body.get("members") or []
        person = self._person(str(members[0].get("id"))) if len(members) == 1 else None
        if person is None or body.get("isGroup"):
            return _error(403, "BotNotInConversationRoster", "only one-to-one chats with people here can be opened")
        return JSONResponse({"id": f"a:{person}"}, status_code=201)

    async def _send(self, request: Request) -> Response:
        return await self._post(request, None)

    async def _reply(self, request: Request) -> Response:
        return await self._post(request, request.path_params["activity"])

    async def _post(self, request: Request, reply_to: str | None) -> Response:
        body = await self._taken(request)
        if isinstance(body, Response):
            return body
        room, thread = self._room(request)
        if room is None:
            return _error(404, "ConversationNotFound", "there is no such conversation")
        if body.get("type") == "typing":
            return JSONResponse({}, status_code=202)
        if body.get("type") != "message":
            return _error(400, "BadSyntax", "only messages and typing are taken")
        if len(orjson.dumps(body)) > MAX_MESSAGE_BYTES:
            return _error(413, "MessageSizeTooBig", "a message has 80 KB at most")
        if room == CHANNEL and thread is None and reply_to is not None:
            answered = self._state.find(room, reply_to)
            thread = (answered.thread or answered.id) if answered is not None else None
        if thread is not None and self._state.find(room, thread) is None:
            return _error(404, "ActivityNotFoundInConversation", "there is no such thread")
        name = str((body.get("from") or {}).get("name") or "Countersign")
        message = self._state.add(room=room, thread=thread, author=None, name=name, activity=body)
        return JSONResponse({"id": message.id}, status_code=201)

    async def _update(self, request: Request) -> Response:
        body = await self._taken(request)
        if isinstance(body, Response):
            return body
        message = self._own_message(request)
        if message is None:
            return _error(404, "ActivityNotFoundInConversation", "there is no such message of yours")
        if len(orjson.dumps(body)) > MAX_MESSAGE_BYTES:
            return _error(413, "MessageSizeTooBig", "a message has 80 KB at most")
        self._state.replace(message, body)
        return JSONResponse({"id": message.id})

    async def _delete(self, request: Request) -> Response:
        body = await self._taken(request)
        if isinstance(body, Response):
            return body
        message = self._own_message(request)
        if message is None:
            return _error(404, "ActivityNotFoundInConversation", "there is no such message of yours")
        self._state.remove(message)
        return Response(status_code=200)

    async def _members(self, request: Request) -> Response:
        body = await self._taken(request)
        if isinstance(body, Response):
            return body
        return JSONResponse([self._account(person) for person in self._present(request.path_params["conversation"])])

    async def _member(self, request: Request) -> Response:
        body = await self._taken(request)
        if isinstance(body, Response):
            return body
        person = self._person(request.path_params["member"])
        if person is None or person not in self._present(request.path_params["conversation"]):
            return _error(404, "MemberNotFoundInConversation", "there is no such member")
        return JSONResponse(self._account(person))

    async def _taken(self, request: Request) -> dict[str, Any] | Response:
        """The body of a call that is authorised, whole and meets no fault; otherwise the refusal."""
        failure = self._faults.meet(request)
        if failure is not None:
            return failure
        if not self._identity.accepts(request.headers.get("Authorization", "")):
            return _error(401, "Unauthorized", "the token is not one of ours, or has ended")
        content = await request.body()
        if len(content) > MAX_BODY_BYTES:
            return _error(413, "MessageSizeTooBig", "the body is too large")
        if not content:
            return {}
        try:
            body = orjson.loads(content)
        except orjson.JSONDecodeError:
            body = None
        return body if isinstance(body, dict) else _error(400, "BadSyntax", "the body is not a JSON object")

    def _room(self, request: Request) -> tuple[str | None, str | None]:
        room, _, thread = request.path_params["conversation"].partition(";messageid=")
        known = room == CHANNEL or room in self._state.chats
        return (room if known else None), (thread or None)

    def _own_message(self, request: Request) -> StoredMessage | None:
        room, _ = self._room(request)
        message = None if room is None else self._state.find(room, request.path_params["activity"])
        return message if message is not None and message.from_assistant else None

    def _present(self, conversation: str) -> list[str]:
        room = conversation.partition(";messageid=")[0]
        if room in (CHANNEL, TEAM):
            return list(self._state.people)
        return [self._state.chats[room]] if room in self._state.chats else []

    def _person(self, account: str) -> str | None:
        person = account.removeprefix("29:")
        return person if person in self._state.people else None

    def _account(self, person: str) -> dict[str, Any]:
        return {
            "id": f"29:{person}",
            "name": self._state.people[person].name,
            "objectId": person,
            "aadObjectId": person,
            "tenantId": self._tenant_id,
            "userRole": "guest" if person in self._state.guests else "user",
        }


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status_code=status, headers=headers)
