"""A Slack small enough to run beside the product: people write, press and submit; an app hears of it as from Slack.

Its messages outlive a restart. Nothing here calls into the product: requests are signed and go over HTTP both ways.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute, Route

from bot.workbench.platform import LocalMessage, LocalPerson, LocalRoom, PressRefused
from bot.workbench.slack_sender import SlackSender
from bot.workbench.slack_web import SlackWebMethods
from bot.workbench.slack_workspace import CHANNEL, Json, SlackError, SlackWorkspace

API_PATH = "/workbench/slack/api/"
APP_ID = "A0COUNTERSIGN"
NAMES_OF_THE_APP = ("@Countersign", "@countersign")


class LocalSlack:
    """Implements LocalPlatform.

    slack = LocalSlack(signing_secret="…", bot_token="xoxb-…", team_id="T0LOCAL", bot_user_id="U0BOT", people=people,
                       events_url="http://127.0.0.1:8080/slack/events", state_file=None)
    await slack.say("U0ANA", "C0SUPPORT1", "@Countersign refund order 4711")

    `sender` and `web` take the faults to test with.
    """

    name = "slack"

    def __init__(
        self,
        *,
        signing_secret: str,
        bot_token: str,
        team_id: str,
        bot_user_id: str,
        people: Sequence[LocalPerson],
        events_url: str,
        state_file: Path | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.team_id = team_id
        self.bot_user_id = bot_user_id
        self.channel = CHANNEL.id
        self.workspace = SlackWorkspace(people, bot_user_id=bot_user_id, state_file=state_file, clock=clock)
        self.sender = SlackSender(signing_secret=signing_secret, events_url=events_url)
        self.web = SlackWebMethods(self.workspace, bot_token=bot_token, team_id=team_id)
        self.send_channel_messages = False
        """Also send every channel message as `message`, as to an app that subscribes to `message.channels`."""
        self._clock = clock

    def routes(self) -> list[BaseRoute]:
        """The Web API, to mount beside whatever else the server serves."""
        return [Route(API_PATH + "{method:str}", self.web.respond, methods=["GET", "POST"])]

    async def start(self) -> None:
        """Bring back the messages of an earlier run."""
        await self.workspace.load()

    async def close(self) -> None:
        """Save what changed and release the connections."""
        await self.sender.close()
        await self.workspace.flush()

    def people(self) -> Sequence[LocalPerson]:
        return list(self.workspace.people.values())

    def assistant(self) -> LocalPerson:
        return LocalPerson(self.bot_user_id, "Countersign")

    def rooms(self, person: str) -> Sequence[LocalRoom]:
        return [room for room in self.workspace.rooms.values() if person in self.workspace.members(room.id)]

    def messages(self, room: str, person: str) -> Sequence[LocalMessage]:
        if room not in self.workspace.rooms or person not in self.workspace.members(room):
            return []
        return [
            self._shown(room, message)
            for message in self.workspace.messages(room)
            if message.get("only_for") in (None, person)
        ]

    async def say(self, person: str, room: str, text: str, thread: str | None = None) -> None:
        if person not in self.workspace.people or person not in self.workspace.members(room):
            raise PressRefused("You cannot write there.")
        if text.startswith("/"):
            await self._command(person, room, text)
            return
        sent = self._as_typed(text)
        message: Json = {"user": person, "team": self.team_id, "text": sent}
        if thread is not None:
            message["thread_ts"] = thread
        try:
            kept = self.workspace.add(room, message)
        except SlackError as error:
            raise PressRefused("That message is not there any more.") from error
        event = {**message, "ts": kept["ts"], "event_ts": kept["ts"], "channel": room}
        if self.workspace.rooms[room].direct:
            await self.sender.event(self._event({"type": "message", "channel_type": "im", **event}))
            return
        if self.send_channel_messages:
            await self.sender.event(self._event({"type": "message", "channel_type": "channel", **event}))
        if f"<@{self.bot_user_id}>" in sent:
            await self.sender.event(self._event({"type": "app_mention", **event}))

    async def press(self, person: str, room: str, message: str, action: Mapping[str, Any]) -> str | None:
        """Press a button of a message, or of the person's open modal when `message` is the modal's id."""
        view = self.workspace.view(person)
        if view is not None and view["id"] == message:
            button = _button(view, action)
            source: Json = {"container": {"type": "view", "view_id": view["id"]}, "view": self._view(view)}
        else:
            found = self._message_with_buttons(person, room, message)
            button = _button(found, action)
            source = self._carrier(room, found)
        payload = {**self._interaction("block_actions", person), **source, "actions": [button]}
        failure = await self.sender.interaction(payload)
        if failure is not None:
            raise PressRefused("Countersign did not answer. Try again.")
        return None

    def modal(self, person: str) -> Mapping[str, Any] | None:
        return self.workspace.view(person)

    async def submit_modal(self, person: str, values: Mapping[str, str] | None) -> None:
        view = self.workspace.view(person)
        if view is None:
            raise PressRefused("The form is closed.")
        if values is None:
            self.workspace.close_view(person, view["id"])
            return
        typed: Json = {}
        for block in view["blocks"]:
            if block["type"] == "input":
                value = values.get(block["block_id"]) or None
                if value is None and not block.get("optional"):
                    raise PressRefused("Please complete this required field.")
                element = block["element"]
                typed[block["block_id"]] = {element["action_id"]: {"type": element["type"], "value": value}}
        sent = self._view({**view, "state": {"values": typed}})
        payload = {**self._interaction("view_submission", person), "view": sent, "response_urls": []}
        failure = await self.sender.interaction(payload)
        if failure is not None:
            raise PressRefused("We had some trouble connecting. Try again?")
        self.workspace.close_view(person, view["id"])

    def changes(self) -> AsyncIterator[str]:
        return self.workspace.changes()

    async def _command(self, person: str, room: str, text: str) -> None:
        command, _, words = text.partition(" ")
        known = self.workspace.rooms[room]
        failure = await self.sender.command(
            {
                "token": "local",
                "team_id": self.team_id,
                "team_domain": "workbench",
                "channel_id": room,
                "channel_name": "directmessage" if known.direct else known.name.removeprefix("#"),
                "user_id": person,
                "user_name": self.workspace.people[person].name,
                "command": command,
                "text": self._as_typed(words),
                "api_app_id": APP_ID,
                "is_enterprise_install": "false",
                "response_url": "https://hooks.slack.com/commands/local",
                "trigger_id": self.workspace.trigger(person),
            }
        )
        if failure is not None:
            raise PressRefused(f"{command} failed with the error {failure!r}")

    def _event(self, event: Json) -> Json:
        shared = bool(self.web.channel_flags.get(event["channel"], {}).get("is_ext_shared"))
        return {
            "token": "local",
            "team_id": self.team_id,
            "context_team_id": self.team_id,
            "context_enterprise_id": None,
            "api_app_id": APP_ID,
            "event": {**event, "client_msg_id": secrets.token_hex(16)},
            "type": "event_callback",
            "event_id": "Ev" + secrets.token_hex(5).upper(),
            "event_time": int(self._clock()),
            "authorizations": [
                {
                    "enterprise_id": None,
                    "team_id": self.team_id,
                    "user_id": self.bot_user_id,
                    "is_bot": True,
                    "is_enterprise_install": False,
                }
            ],
            "is_ext_shared_channel": shared,
            "event_context": "4-" + secrets.token_hex(8),
        }

    def _interaction(self, kind: str, person: str) -> Json:
        team = self.web.user_flags.get(person, {}).get("team_id", self.team_id)
        return {
            "type": kind,
            "user": {"id": person, "name": self.workspace.people[person].name, "team_id": team},
            "api_app_id": APP_ID,
            "token": "local",
            "trigger_id": self.workspace.trigger(person),
            "team": {"id": self.team_id, "domain": "workbench"},
            "enterprise": None,
            "is_enterprise_install": False,
        }

    def _carrier(self, room: str, message: Json) -> Json:
        known = self.workspace.rooms[room]
        container: Json = {
            "type": "message",
            "message_ts": message["ts"],
            "channel_id": room,
            "is_ephemeral": bool(message.get("only_for")),
        }
        if message.get("thread_ts"):
            container["thread_ts"] = message["thread_ts"]
        return {
            "container": container,
            "channel": {"id": room, "name": "directmessage" if known.direct else known.name.removeprefix("#")},
            "message": {name: value for name, value in message.items() if name != "only_for"},
            "state": {"values": {}},
            "response_url": "https://hooks.slack.com/actions/local",
        }

    def _view(self, view: Json) -> Json:
        return {**view, "team_id": self.team_id, "app_installed_team_id": self.team_id, "app_id": APP_ID}

    def _message_with_buttons(self, person: str, room: str, moment: str) -> Json:
        if room not in self.workspace.rooms or person not in self.workspace.members(room):
            raise PressRefused("You cannot see that message.")
        try:
            message = self.workspace.find(room, moment)
        except SlackError as error:
            raise PressRefused("That message is not there any more.") from error
        if message.get("only_for") not in (None, person):
            raise PressRefused("You cannot see that message.")
        return message

    def _as_typed(self, text: str) -> str:
        """Text as Slack sends what a person typed: control characters escaped, names with an @ as mentions."""
        sent = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        names = dict.fromkeys(NAMES_OF_THE_APP, self.bot_user_id)
        names |= {f"@{person.name}": person.id for person in self.workspace.people.values()}
        for name in sorted(names, key=len, reverse=True):
            sent = sent.replace(name, f"<@{names[name]}>")
        return sent

    def _shown(self, room: str, message: Json) -> LocalMessage:
        author = str(message.get("user", ""))
        person = self.workspace.people.get(author)
        return LocalMessage(
            id=message["ts"],
            room=room,
            thread=message.get("thread_ts"),
            author=author,
            author_name=person.name if person else "Countersign",
            from_assistant=author == self.bot_user_id,
            at=datetime.fromtimestamp(float(message["ts"]), UTC),
            text=message["text"],
            payload={"blocks": message.get("blocks") or []},
            only_for=message.get("only_for"),
            edited="edited" in message,
        )


def _button(carrier: Json, action: Mapping[str, Any]) -> Json:
    """The pressed button as Slack reports it; it must be on what was shown."""
    for block in carrier.get("blocks") or []:
        for element in block.get("elements") or [] if block.get("type") == "actions" else []:
            if element.get("action_id") == action.get("action_id") and element.get("value") == action.get("value"):
                return {
                    "type": "button",
                    "action_id": element["action_id"],
                    "block_id": block["block_id"],
                    "text": element["text"],
                    "value": element.get("value"),
                    "action_ts": f"{time.time():.6f}",
                }
    raise PressRefused("That button is not there any more.")
