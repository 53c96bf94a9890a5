"""What a person said or clicked, whatever the surface it came from.

Every identity in a Turn comes from the platform's verified envelope, never from text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class TurnKind(StrEnum):
    """How the person addressed us."""

    COMMAND = "command"
    """A slash command: `/countersign <words>`."""
    MENTION = "mention"
    """An at-mention in a channel or group chat."""
    DIRECT = "direct"
    """A message in a one-to-one conversation."""
    CLICK = "click"
    """A button on one of our cards."""
    INSTALLED = "installed"
    """The assistant was added to the conversation; it greets."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who acted, as the platform vouches for it."""

    surface: str
    """`slack` or `teams`."""
    tenant: str
    """Slack team id (or enterprise id when there is no team); Teams tenant id."""
    user: str
    """Slack user id; Teams `aadObjectId`."""
    name: str = ""
    """Display name, for people's eyes only; never used to decide anything."""
    is_bot: bool = False
    is_guest: bool = False
    is_external: bool = False
    """Belongs to another organisation (a partner in a shared channel)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message is, precisely enough to answer in the same thread."""

    surface: str
    tenant: str
    conversation: str
    """Slack channel id; Teams conversation id without its `;messageid=` suffix."""
    thread: str | None = None
    """Slack `thread_ts` to answer under; Teams root message id of a channel thread. None in a one-to-one chat."""
    direct: bool = False
    """A one-to-one conversation with the assistant."""
    internal: bool = True
    """False where people of other organisations can read along."""


@dataclass(frozen=True, slots=True)
class Click:
    """A button press: which button of which card, and what was typed into it."""

    verb: str
    """`approve`, `deny` or `details`; only a hint, the nonce decides what the button is."""
    nonce: str
    """The opaque value the button carried."""
    message_id: str
    """The message that carried the button, as the platform reports it."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Typed values, such as `reason` on a denial."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing a person said or clicked."""

    id: str
    """The inbox row's id; also the request id in logs and trace."""
    kind: TurnKind
    place: Place
    sender: Sender
    text: str
    """What was addressed to us, without the mention or the command's name; empty for clicks."""
    received_at: datetime
    message_id: str | None = None
    """Slack `ts`, Teams activity id; None for slash commands."""
    click: Click | None = None
