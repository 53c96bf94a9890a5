"""The contract a chat platform fulfils for the dialog. `bot/slack` and `bot/teams` implement it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from handlers.reply import Reply
from handlers.turn import Place, Sender


class SurfaceUnavailable(Exception):
    """The platform did not take the call after bounded retries; the message says which call and why.

    Raised by every method of a Surface. What was to be shown is still due: callers keep it in the database.
    """


@dataclass(frozen=True, slots=True)
class MessageRef:
    """One message we posted."""

    place: Place
    message_id: str


@dataclass(frozen=True, slots=True)
class ThreadMessage:
    """One message of a thread, as read back from the platform or from what we were told."""

    id: str
    author: str
    """Display name."""
    text: str
    at: datetime
    from_assistant: bool = False


class Surface(Protocol):
    """Somewhere people are.

    ref = await surface.post(turn.place, Reply.text("On it."))
    await surface.update(ref, Reply.text("Done."))
    """

    name: str

    async def post(self, place: Place, reply: Reply) -> MessageRef:
        """Post in the place's thread (or start one under the message asked in)."""
        ...

    async def update(self, ref: MessageRef, reply: Reply) -> None:
        """Replace a message we posted. Idempotent."""
        ...

    async def tell_privately(self, place: Place, person: Sender, reply: Reply) -> None:
        """Show something to one person only (Slack ephemeral; in Teams a one-to-one message)."""
        ...

    async def show_progress(self, place: Place, step: str) -> None:
        """Say that work is under way (`searching tickets`); best effort, never raises."""
        ...

    async def read_thread(self, place: Place, *, limit: int = 200) -> Sequence[ThreadMessage]:
        """Messages of the place's thread (of the conversation when there is none), oldest first."""
        ...

    async def direct_place(self, person: Sender) -> Place:
        """The one-to-one conversation with a person, opened if needed."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
