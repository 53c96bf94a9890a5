"""On whose behalf, and for what, a model is asked: what the wire, the limits and the residency rule need to know.

Tenant and account are opaque here; this floor never learns who they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Lane(StrEnum):
    """Which tier of model is asked. The fast lane is never queued behind the other."""

    FAST = "fast"
    """Somebody is waiting for the answer."""
    RICH = "rich"
    """Work in the background (drafts, digests, ranking), by a larger model where there is one."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A configured model server, as the residency rule judges it."""

    name: str
    """Host name and served model, for people: `llm.internal/qwen3`."""
    inside: bool
    """It runs on the organisation's own machines."""
    receives: str
    """What the operator lets it receive when it is not inside: `nothing`, `own-words` or `everything`."""


class Residency(Protocol):
    """Says what may go to an endpoint, for one request. Bound to the request's person and place by whoever asks."""

    def refusal(self, endpoint: Endpoint, *, others_words: bool) -> str | None:
        """Why it may not go there, in a sentence for people; None where it may.

        `others_words`: the request carries what other people wrote, and not only the requester's own words.
        """
        ...


class InsideOnly:
    """The residency rule where nobody gave one: nothing leaves the organisation's machines."""

    def refusal(self, endpoint: Endpoint, *, others_words: bool) -> str | None:
        """See `Residency.refusal`."""
        return None if endpoint.inside else "This may not leave the organisation's own machines."


@dataclass(frozen=True, slots=True)
class Purpose:
    """One request's context. `Engine.on_behalf_of(purpose)` gives an engine that asks in its name."""

    tenant: str = ""
    """Whose prefix cache and whose share of the concurrency it uses; opaque."""
    account: str = ""
    """Whose daily token budget it uses; opaque. Empty for the house's own work, which has none."""
    request_id: str = ""
    """Sent as `X-Request-Id`, and the seed of the trace id."""
    lane: Lane = Lane.FAST
    residency: Residency = field(default_factory=InsideOnly)
