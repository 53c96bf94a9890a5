"""Teams activities as Turns: who, where, what, by the verified envelope."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botbuilder.schema import Activity

from bot.teams.adaptive import NONCE
from bot.teams.conversations import Account, Reference, Said
from bot.teams.members import Standing
from handlers.turn import Click, Place, Sender, TurnKind

SURFACE = "teams"


class NotAClick(Exception):
    """An invoke that none of our buttons sends; the message says why."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What an activity says about where it happened."""

    place: Place
    reference: Reference
    account: Account | None
    """Absent where nobody acted (an installation by policy)."""
    roster: str
    """The id to look members up under: the team's in a channel, the chat's elsewhere."""


def envelope(activity: Activity) -> Envelope:
    """Read the envelope of a verified activity."""
    data = activity.channel_data if isinstance(activity.channel_data, Mapping) else {}
    conversation, _, root = activity.conversation.id.partition(";messageid=")
    kind = _kind(activity, data)
    tenant = _id(data.get("tenant")) or activity.conversation.tenant_id or ""
    channel = data.get("channel")
    shared = isinstance(channel, Mapping) and channel.get("type") == "shared"
    person = activity.from_property.aad_object_id
    thread = (root or activity.reply_to_id or activity.id) if kind == "channel" and activity.type == "message" else root
    place = Place(
        SURFACE,
        tenant,
        conversation,
        thread=thread or None,
        direct=kind == "personal",
        internal=not shared,
    )
    reference = Reference(
        tenant=tenant,
        conversation=conversation,
        service_url=activity.service_url,
        kind=kind,
        bot=activity.recipient.id,
        person=person if kind == "personal" else None,
    )
    account = Account(tenant, person, activity.from_property.id) if person else None
    roster = conversation if shared else _id(data.get("team")) or conversation
    return Envelope(place, reference, account, roster)


def sender(activity: Activity, tenant: str, standing: Standing) -> Sender:
    """Who acted."""
    account = activity.from_property
    return Sender(
        surface=SURFACE,
        tenant=tenant,
        user=account.aad_object_id or account.id,
        name=account.name or "",
        is_bot=account.role in ("bot", "skill") or account.id.startswith("28:"),
        is_guest=standing.is_guest,
        is_external=standing.is_external,
    )


def said(activity: Activity, where: Envelope) -> Said:
    """The message, to be read back with its thread."""
    return Said(
        tenant=where.place.tenant,
        conversation=where.place.conversation,
        message=activity.id,
        thread=where.place.thread,
        person=activity.from_property.aad_object_id,
        author=activity.from_property.name or "",
        text=message_text(activity),
    )


def addressed(activity: Activity, where: Envelope) -> TurnKind | None:
    """How a message is for us: said to us alone, or naming us. None when it is not, or is a card's submitted form."""
    if activity.value is not None and not message_text(activity):
        return None
    if where.place.direct:
        return TurnKind.DIRECT
    named = any(mentioned == activity.recipient.id for mentioned, _ in _mentions(activity))
    return TurnKind.MENTION if named else None


def click(activity: Activity) -> Click:
    """The button press of an `adaptiveCard/action` invoke; raises NotAClick."""
    action = activity.value.get("action") if isinstance(activity.value, Mapping) else None
    if not isinstance(action, Mapping):
        raise NotAClick("the value names no action")
    if action.get("type") != "Action.Execute":
        raise NotAClick("only Action.Execute is supported")
    data = action.get("data")
    nonce = data.get(NONCE) if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(nonce, str) or not nonce:
        raise NotAClick("the button carries nothing of ours")
    if not activity.reply_to_id:
        raise NotAClick("the click names no message")
    verb = action.get("verb")
    inputs = {name: value for name, value in data.items() if name != NONCE and isinstance(value, str)}
    return Click(verb if isinstance(verb, str) else "", nonce, activity.reply_to_id, inputs)


def adds_us(activity: Activity) -> bool:
    """Whether an installation event is about us."""
    if activity.type == "installationUpdate":
        return (activity.action or "").startswith("add")
    return any(member.id == activity.recipient.id for member in activity.members_added or ())


def message_text(activity: Activity) -> str:
    """What was said, without the mention of us; other people's mentions stay as `@Name`.

    Only the exact text of a mention entity is taken out: botbuilder's own removal deletes our name everywhere in the
    message and reads it as a regular expression.
    """
    text = activity.text or ""
    for mentioned, shown in _mentions(activity):
        if not shown:
            continue
        name = shown.removeprefix("<at>").removesuffix("</at>")
        text = text.replace(shown, "" if mentioned == activity.recipient.id else f"@{name}", 1)
    if activity.text_format in ("xml", "html"):
        text = html.unescape(text)
    return text.replace("&nbsp;", " ").replace("\u00a0", " ").strip()


def _mentions(activity: Activity) -> list[tuple[str, str]]:
    found = []
    for entity in activity.entities or ():
        if (entity.type or "").lower() == "mention":
            fields = entity.additional_properties
            mentioned, shown = fields.get("mentioned"), fields.get("text")
            found.append((_id(mentioned), shown if isinstance(shown, str) else ""))
    return found


def _kind(activity: Activity, data: Mapping[str, Any]) -> str:
    named = activity.conversation.conversation_type
    if named in ("personal", "groupChat", "channel"):
        return str(named)
    if not activity.conversation.is_group:
        return "personal"
    return "channel" if data.get("channel") else "groupChat"


def _id(value: Any) -> str:
    found = value.get("id") if isinstance(value, Mapping) else None
    return found if isinstance(found, str) else ""
