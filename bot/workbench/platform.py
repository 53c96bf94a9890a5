"""What the workbench page needs of a local chat platform; the local Slack and the local Teams both provide it.

A local platform is a real peer: it sends signed requests to our public endpoints and serves the platform's own API
for our answers. Nothing here calls into the product's code.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class LocalPerson:
    """Someone who uses the workbench."""

    id: str
    """User id on the platform (Slack user id; Teams aadObjectId)."""
    name: str


@dataclass(frozen=True, slots=True)
class LocalRoom:
    """A channel, or one person's one-to-one chat with the assistant."""

    id: str
    name: str
    direct: bool


@dataclass(frozen=True, slots=True)
class LocalMessage:
    """One message as the platform holds it."""

    id: str
    room: str
    thread: str | None
    """Id of the message it answers under; None at the top level."""
    author: str
    author_name: str
    from_assistant: bool
    at: datetime
    text: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    """As posted: Slack `{"blocks": [...]}`, Teams `{"attachments": [...], "entities": [...]}`."""
    only_for: str | None = None
    """Shown to this person only (a Slack ephemeral)."""
    edited: bool = False


class PressRefused(Exception):
    """The product did not take the press; the message is what the platform would show."""


class LocalPlatform(Protocol):
    """A chat platform small enough to run beside the product."""

    name: str

    def people(self) -> Sequence[LocalPerson]:
        """Who can use it: a requester first, then an approver."""
        ...

    def assistant(self) -> LocalPerson:
        """The assistant's own account, for the page to name it where somebody mentions it."""
        ...

    def rooms(self, person: str) -> Sequence[LocalRoom]:
        """Where a person can write."""
        ...

    def messages(self, room: str, person: str) -> Sequence[LocalMessage]:
        """What a person sees in a room, oldest first, cards in their own version where the platform has one."""
        ...

    async def say(self, person: str, room: str, text: str, thread: str | None = None) -> None:
        """Write a message. `@Countersign` in it is a mention; Slack also takes `/countersign <words>`."""
        ...

    async def press(self, person: str, room: str, message: str, action: Mapping[str, Any]) -> str | None:
        """Press a button, given as the platform's own JSON of the pressed element.

        Slack: the button element (`action_id`, `value`, `block_id`). Teams: `{"verb", "data", "inputs"}`.
        Returns a sentence to show the person when the platform shows one; raises PressRefused.
        """
        ...

    def modal(self, person: str) -> Mapping[str, Any] | None:
        """The modal a person has open, as the platform's JSON (Slack view with its `id`); None when there is none."""
        ...

    async def submit_modal(self, person: str, values: Mapping[str, str] | None) -> None:
        """Send the open modal with values by block id, or close it with None."""
        ...

    def changes(self) -> AsyncIterator[str]:
        """Room ids (or `modal`) as they change, for live pages."""
        ...
