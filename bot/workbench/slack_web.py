"""The part of Slack's Web API that the product calls, answered by the local Slack with Slack's own error codes."""

from __future__ import annotations

import hmac
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson
from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.blocks import Block
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bot.workbench.slack_workspace import Json, SlackError, SlackWorkspace

MOST_BLOCKS = 50
MOST_MODAL_BLOCKS = 100
MOST_BLOCK_CHARACTERS = 13_200
"""Of all blocks of a message together; measured at the real Slack."""
KEPT_CALLS = 1_000


@dataclass(slots=True)
class Fault:
    """A method's next calls fail this way."""

    times: int
    status: int = 200
    error: str = "fatal_error"
    retry_after: int = 1
    """Seconds, told with a 429."""
    after_effect: bool = False
    """The call does its work and then fails: what a lost answer looks like."""


class SlackWebMethods:
    """Answers `POST <api>/{method}`.

    methods.fail("chat.postMessage", Fault(times=2, status=429))
    """

    def __init__(self, workspace: SlackWorkspace, *, bot_token: str, team_id: str) -> None:
        self._workspace = workspace
        self._token = bot_token
        self._team = team_id
        self.bot_id = "B" + workspace.bot_user_id[1:]
        self.user_flags: dict[str, Json] = {}
        """Fields of `users.info` by person, such as `{"is_restricted": True}`."""
        self.channel_flags: dict[str, Json] = {}
        """Fields of `conversations.info` by room, such as `{"is_ext_shared": True}`."""
        self.hidden_channels: set[str] = set()
        """Rooms the bot is no member of."""
        self.calls: deque[tuple[str, Json]] = deque(maxlen=KEPT_CALLS)
        """Methods called, with their arguments, the newest last."""
        self._faults: dict[str, list[Fault]] = {}
        self._methods: dict[str, Callable[[Json], Json]] = {
            "auth.test": self._auth_test,
            "chat.postMessage": self._post_message,
            "chat.update": self._update,
            "chat.postEphemeral": self._post_ephemeral,
            "chat.delete": self._delete,
            "conversations.replies": self._replies,
            "conversations.history": self._history,
            "conversations.open": self._open,
            "conversations.info": self._info,
            "users.info": self._user,
            "views.open": self._view_open,
            "views.push": self._view_push,
            "views.update": self._view_update,
            "assistant.threads.setStatus": self._status,
            "reactions.add": self._react,
        }

    def fail(self, method: str, fault: Fault) -> None:
        """Let a method's next calls fail."""
        self._faults.setdefault(method, []).append(fault)

    async def respond(self, request: Request) -> Response:
        """The ASGI side: authentication, arguments, faults, answer."""
        method = request.path_params["method"]
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            return _refusal("not_authed")
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            return _refusal("invalid_auth")
        try:
            arguments = await _arguments(request)
        except (ValueError, TypeError):
            return _refusal("invalid_json")
        self.calls.append((method, arguments))
        fault = self._next_fault(method)
        if fault is not None and not fault.after_effect:
            return _faulty(fault)
        answer = self.call(method, arguments)
        return _faulty(fault) if fault is not None else JSONResponse(answer)

    def call(self, method: str, arguments: Json) -> Json:
        """Carry out a method, as if the token had been checked."""
        carry_out = self._methods.get(method)
        if carry_out is None:
            return {"ok": False, "error": "unknown_method", "req_method": method}
        try:
            return {"ok": True, **carry_out(arguments)}
        except SlackError as error:
            return {"ok": False, "error": str(error)}

    def _next_fault(self, method: str) -> Fault | None:
        waiting = self._faults.get(method)
        if not waiting:
            return None
        fault = waiting[0]
        fault.times -= 1
        if fault.times <= 0:
            waiting.pop(0)
        return fault

    def _auth_test(self, arguments: Json) -> Json:
        return {
            "url": "http://localhost/",
            "team": "Workbench",
            "user": "countersign",
            "team_id": self._team,
            "user_id": self._workspace.bot_user_id,
            "bot_id": self.bot_id,
            "is_enterprise_install": False,
        }

    def _post_message(self, arguments: Json) -> Json:
        room = self._room(arguments)
        posted = self._workspace.add(room, {**self._as_posted(arguments), **_thread(arguments)})
        return {"channel": room, "ts": posted["ts"], "message": posted}

    def _update(self, arguments: Json) -> Json:
        room = self._room(arguments)
        message = self._workspace.find(room, str(arguments.get("ts")))
        if message.get("user") != self._workspace.bot_user_id or message.get("only_for"):
            raise SlackError("cant_update_message")
        changed = self._as_posted(arguments)
        for number, block in enumerate(changed["blocks"]):
            block.setdefault("block_id", f"b{number}")
        message.update(changed)
        message["edited"] = {"user": self._workspace.bot_user_id, "ts": message["ts"]}
        self._workspace.changed(room)
        return {"channel": room, "ts": message["ts"], "text": message["text"], "message": message}

    def _post_ephemeral(self, arguments: Json) -> Json:
        room = self._room(arguments)
        person = str(arguments.get("user"))
        if person not in self._workspace.members(room):
            raise SlackError("user_not_in_channel")
        posted = self._workspace.add(room, {**self._as_posted(arguments), **_thread(arguments), "only_for": person})
        return {"message_ts": posted["ts"]}

    def _delete(self, arguments: Json) -> Json:
        room = self._room(arguments)
        self._workspace.remove(room, str(arguments.get("ts")))
        return {"channel": room, "ts": arguments.get("ts")}

    def _replies(self, arguments: Json) -> Json:
        room = self._room(arguments)
        root = str(arguments.get("ts"))
        self._workspace.find(room, root)
        return _page(
            [one for one in self._read(room, arguments) if root in (one["ts"], one.get("thread_ts"))], arguments
        )

    def _history(self, arguments: Json) -> Json:
        found = [one for one in self._read(self._room(arguments), arguments) if not one.get("thread_ts")]
        return _page(found[::-1], arguments)

    def _open(self, arguments: Json) -> Json:
        room = self._workspace.direct_rooms.get(str(arguments.get("users")))
        if room is None:
            raise SlackError("user_not_found")
        return {"channel": {"id": room}}

    def _info(self, arguments: Json) -> Json:
        room = self._workspace.rooms[self._room(arguments)]
        described: Json = {
            "id": room.id,
            "name": room.name.removeprefix("#"),
            "is_channel": not room.direct,
            "is_im": room.direct,
            "is_private": room.direct,
            "is_member": True,
            "is_ext_shared": False,
        }
        return {"channel": {**described, **self.channel_flags.get(room.id, {})}}

    def _user(self, arguments: Json) -> Json:
        user = str(arguments.get("user"))
        person = self._workspace.people.get(user)
        is_bot = user == self._workspace.bot_user_id
        if person is None and not is_bot:
            raise SlackError("user_not_found")
        name = person.name if person else "Countersign"
        described: Json = {
            "id": user,
            "team_id": self._team,
            "name": name.lower().replace(" ", "."),
            "real_name": name,
            "profile": {"display_name": name},
            "deleted": False,
            "is_bot": is_bot,
            "is_restricted": False,
            "is_ultra_restricted": False,
        }
        return {"user": {**described, **self.user_flags.get(user, {})}}

    def _view_open(self, arguments: Json) -> Json:
        return {"view": self._workspace.open_view(str(arguments.get("trigger_id")), _view(arguments), pushed=False)}

    def _view_push(self, arguments: Json) -> Json:
        return {"view": self._workspace.open_view(str(arguments.get("trigger_id")), _view(arguments), pushed=True)}

    def _view_update(self, arguments: Json) -> Json:
        return {"view": self._workspace.update_view(str(arguments.get("view_id")), _view(arguments))}

    def _status(self, arguments: Json) -> Json:
        room = self._room({"channel": arguments.get("channel_id")})
        thread = str(arguments.get("thread_ts"))
        self._workspace.find(room, thread)
        self._workspace.statuses[room, thread] = str(arguments.get("status", ""))
        self._workspace.changed(room)
        return {}

    def _react(self, arguments: Json) -> Json:
        room = self._room(arguments)
        message = self._workspace.find(room, str(arguments.get("timestamp")))
        name = str(arguments.get("name"))
        reactions = message.setdefault("reactions", [])
        if name in reactions:
            raise SlackError("already_reacted")
        reactions.append(name)
        self._workspace.changed(room)
        return {}

    def _room(self, arguments: Json) -> str:
        room = str(arguments.get("channel"))
        if room not in self._workspace.rooms or room in self.hidden_channels:
            raise SlackError("channel_not_found")
        return room

    def _read(self, room: str, arguments: Json) -> list[Json]:
        hidden = {"only_for", *(() if arguments.get("include_all_metadata") in (True, "true") else ("metadata",))}
        return [
            {name: value for name, value in message.items() if name not in hidden}
            for message in self._workspace.messages(room)
            if not message.get("only_for")
        ]

    def _as_posted(self, arguments: Json) -> Json:
        text, blocks = str(arguments.get("text") or ""), arguments.get("blocks") or []
        if not text and not blocks:
            raise SlackError("no_text")
        _check_blocks(blocks, most=MOST_BLOCKS)
        if len(orjson.dumps(blocks).decode()) > MOST_BLOCK_CHARACTERS:
            raise SlackError("msg_blocks_too_long")
        posted: Json = {
            "user": self._workspace.bot_user_id,
            "bot_id": self.bot_id,
            "team": self._team,
            "text": text,
            "blocks": blocks,
        }
        if arguments.get("metadata"):
            posted["metadata"] = arguments["metadata"]
        return posted


def _thread(arguments: Json) -> Json:
    return {"thread_ts": str(arguments["thread_ts"])} if arguments.get("thread_ts") else {}


def _view(arguments: Json) -> Json:
    view = arguments.get("view")
    if not isinstance(view, dict) or view.get("type") != "modal":
        raise SlackError("invalid_arguments")
    title = (view.get("title") or {}).get("text", "")
    if not 0 < len(title) <= 24 or len(view.get("private_metadata") or "") > 3_000:
        raise SlackError("invalid_arguments")
    _check_blocks(view.get("blocks") or [], most=MOST_MODAL_BLOCKS)
    return view


def _check_blocks(blocks: Any, *, most: int) -> None:
    if not isinstance(blocks, list) or len(blocks) > most:
        raise SlackError("invalid_blocks")
    for block in blocks:
        try:
            parsed = Block.parse(block)
            if parsed is None:
                raise SlackError("invalid_blocks")
            parsed.to_dict()
        except SlackObjectFormationError as error:
            raise SlackError("invalid_blocks") from error
        if block["type"] == "actions":
            used = Counter(element.get("action_id") for element in block["elements"])
            if used and used.most_common(1)[0][1] > 1:
                raise SlackError("invalid_blocks")


def _page(messages: list[Json], arguments: Json) -> Json:
    limit = max(1, min(int(arguments.get("limit") or 100), 1_000))
    start = int(arguments.get("cursor") or 0)
    following = start + limit if start + limit < len(messages) else None
    return {
        "messages": messages[start : start + limit],
        "has_more": following is not None,
        "response_metadata": {"next_cursor": "" if following is None else str(following)},
    }


async def _arguments(request: Request) -> Json:
    arguments: Json = dict(request.query_params)
    body = await request.body()
    if not body:
        return arguments
    if request.headers.get("content-type", "").startswith("application/json"):
        sent = orjson.loads(body)
        if not isinstance(sent, dict):
            raise ValueError("the arguments are no object")
        return arguments | sent
    for name, value in parse_qsl(body.decode(), keep_blank_values=True):
        arguments[name] = orjson.loads(value) if name in ("blocks", "metadata", "view") else value
    return arguments


def _refusal(code: str) -> Response:
    return JSONResponse({"ok": False, "error": code})


def _faulty(fault: Fault) -> Response:
    headers = {"Retry-After": str(fault.retry_after)} if fault.status == 429 else {}
    return JSONResponse({"ok": False, "error": fault.error}, status_code=fault.status, headers=headers)
