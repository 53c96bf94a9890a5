"""Slack as a Surface: posts, redraws, tells one person, reads threads. What is posted is shown in full.

A reply longer than one message is continued in further ones. Each of those carries a digest of its content, so that
drawing the same reply again finds them in the thread and posts nothing twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

from bot.settings import SlackSettings
from bot.slack.blocks import SlackMessage, render
from bot.slack.directory import SlackDirectory
from bot.slack.text import mentioned, readable, visible
from bot.slack.web_api import SlackCallFailed, SlackWebApi
from handlers.reply import Reply
from handlers.surface import MessageRef, ThreadMessage
from handlers.turn import Place, Sender

PAGE = 200
MOST_PAGES = 10
"""Of a thread, 200 messages each; what lies beyond is not read."""
CONTINUATION = "countersign_continuation"
_STATUS_LENGTH = 50
_NOT_THERE = frozenset(
    {"user_not_in_channel", "not_in_channel", "channel_not_found", "is_archived", "messages_tab_disabled"}
)

# Links in what we send are never fetched by Slack: a preview has leaked private data before anybody clicked.
_QUIET: Mapping[str, Any] = {"unfurl_links": False, "unfurl_media": False, "parse": "none", "link_names": False}

logger = structlog.get_logger(__name__)


class SlackSurface:
    """Posts as the bot of one installation.

    surface = SlackSurface(settings.slack)
    ref = await surface.post(turn.place, Reply.text("On it."))
    """

    name = "slack"

    def __init__(self, settings: SlackSettings, *, api: SlackWebApi | None = None) -> None:
        self.api = api or SlackWebApi(settings.api_url, settings.bot_token)
        self.directory = SlackDirectory(self.api)

    async def close(self) -> None:
        """Release the connections."""
        await self.api.close()

    async def post(self, place: Place, reply: Reply) -> MessageRef:
        """Post in the place's thread; the reference is to the message with the buttons, else to the first."""
        pieces = render(reply)
        main = _main(pieces)
        refs: list[MessageRef] = []
        for index, message in enumerate(pieces):
            refs.append(await self._post(place, message, continued=index != main))
            place = _thread_of(refs[0]) if place.thread is None else place
        return refs[main]

    async def update(self, ref: MessageRef, reply: Reply) -> None:
        """Redraw a message; what does not fit in it follows in the thread, unless it is there already."""
        pieces = render(reply)
        main = pieces.pop(_main(pieces))
        if pieces:
            held = await self._continuations(ref)
            for piece in pieces:
                if _digest(piece) not in held:
                    await self._post(_thread_of(ref), piece, continued=True)
        await self.api.call(
            "chat.update",
            {
                "channel": ref.place.conversation,
                "ts": ref.message_id,
                "text": main.text,
                "blocks": list(main.blocks),
                "parse": "none",
                "link_names": False,
            },
        )

    async def tell_privately(self, place: Place, person: Sender, reply: Reply) -> None:
        """Show something to one person, in the thread; by direct message where they or we are not in the channel."""
        for message in render(reply):
            try:
                await self.api.call(
                    "chat.postEphemeral",
                    {"channel": place.conversation, "user": person.user, **_content(place, message)},
                )
            except SlackCallFailed as error:
                if error.code not in _NOT_THERE or place.direct:
                    raise
                await self._post(await self.direct_place(person), message, continued=False)

    async def show_progress(self, place: Place, step: str) -> None:
        """Show the step as the thread's status; nothing where Slack has no place for one."""
        if place.thread is None:
            return
        status = visible(step)
        arguments = {
            "channel_id": place.conversation,
            "thread_ts": place.thread,
            "status": status if len(status) <= _STATUS_LENGTH else "is working on it",
        }
        try:
            await self.api.call("assistant.threads.setStatus", arguments, tries=1)
        except SlackCallFailed as error:
            logger.info("slack_progress_not_shown", code=error.code)

    async def read_thread(self, place: Place, *, limit: int = 200) -> Sequence[ThreadMessage]:
        """The thread's last messages (the conversation's when there is no thread), oldest first."""
        if place.thread is None:
            found = await self._read("conversations.history", {"channel": place.conversation}, enough=limit)
            found = sorted(found, key=lambda message: _moment(message))
        else:
            found = await self._read("conversations.replies", {"channel": place.conversation, "ts": place.thread})
        found = [message for message in found if _is_said(message)][-limit:] if limit > 0 else []
        ourselves = await self.directory.ourselves()
        users = frozenset(str(message["user"]) for message in found if message.get("user"))
        names = await self.directory.names(users.union(*(mentioned(str(message.get("text"))) for message in found)))
        return [
            ThreadMessage(
                id=str(message["ts"]),
                author=names.get(str(message.get("user")), "")
                or str(message.get("username") or message.get("user") or message.get("bot_id") or "unknown"),
                text=readable(str(message.get("text") or ""), names=names),
                at=datetime.fromtimestamp(_moment(message), UTC),
                from_assistant=message.get("user") == ourselves.user
                or (bool(ourselves.bot) and message.get("bot_id") == ourselves.bot),
            )
            for message in found
        ]

    async def direct_place(self, person: Sender) -> Place:
        """The direct message with a person, opened if needed."""
        opened = await self.api.call("conversations.open", {"users": person.user})
        channel = opened.get("channel")
        identity = channel.get("id") if isinstance(channel, dict) else None
        if not isinstance(identity, str):
            raise SlackCallFailed("conversations.open", "answer_without_channel")
        return Place(
            surface="slack",
            tenant=person.tenant,
            conversation=identity,
            direct=True,
            internal=not person.is_external,
        )

    async def _post(self, place: Place, message: SlackMessage, *, continued: bool) -> MessageRef:
        arguments = {"channel": place.conversation, **_content(place, message)}
        if continued:
            arguments["metadata"] = {"event_type": CONTINUATION, "event_payload": {"digest": _digest(message)}}
        posted = await self.api.call("chat.postMessage", arguments)
        return MessageRef(place, str(posted.get("ts", "")))

    async def _continuations(self, ref: MessageRef) -> set[str]:
        """Digests of the continued messages in the thread of a message of ours."""
        place = _thread_of(ref)
        found = await self._read(
            "conversations.replies",
            {"channel": place.conversation, "ts": place.thread, "include_all_metadata": True},
        )
        digests = set()
        for message in found:
            metadata = message.get("metadata")
            if not isinstance(metadata, dict) or metadata.get("event_type") != CONTINUATION:
                continue
            payload = metadata.get("event_payload")
            if isinstance(payload, dict):
                digests.add(str(payload.get("digest")))
        return digests

    async def _read(
        self, method: str, arguments: Mapping[str, Any], *, enough: int = PAGE * MOST_PAGES
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            page = await self.api.call(method, {**arguments, "limit": PAGE, "cursor": cursor})
            messages = page.get("messages")
            found += (
                [message for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []
            )
            following = page.get("response_metadata")
            cursor = following.get("next_cursor") if isinstance(following, dict) else None
            if not cursor or len(found) >= enough:
                break
        return found


def _content(place: Place, message: SlackMessage) -> dict[str, Any]:
    return {"thread_ts": place.thread, "text": message.text, "blocks": list(message.blocks), **_QUIET}


def _thread_of(ref: MessageRef) -> Place:
    """Where a message is continued: in its thread, or in the one it begins."""
    return replace(ref.place, thread=ref.place.thread or ref.message_id)


def _main(pieces: Sequence[SlackMessage]) -> int:
    """Which of the messages is redrawn later: the one with the buttons, else the first."""
    return len(pieces) - 1 if pieces[-1].has_buttons else 0


def _digest(message: SlackMessage) -> str:
    return hashlib.sha256(orjson.dumps(message.blocks)).hexdigest()


def _is_said(message: Mapping[str, Any]) -> bool:
    """Whether somebody wrote it: joins, topic changes and the like are not read."""
    return isinstance(message.get("ts"), str) and message.get("subtype") in (
        None, "bot_message", "file_share", "thread_broadcast", "me_message",
    )  # fmt: skip


def _moment(message: Mapping[str, Any]) -> float:
    try:
        return float(str(message.get("ts")))
    except ValueError:
        return 0.0
