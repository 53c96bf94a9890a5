"""Whether somebody is a member of our organisation, a guest in it, or from another one, as Teams says."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from bot.settings import TeamsSettings
from bot.teams.connector import Connector

KEEP_SECONDS = 600.0
"""How long an answer is used for what people say; for what they press, Teams is asked each time."""
KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Standing:
    """What a person is to our organisation."""

    is_guest: bool
    is_external: bool


class Members:
    """Looks people up in the conversation they speak in, and remembers them for a while."""

    def __init__(
        self, settings: TeamsSettings, connector: Connector, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._connector = connector
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[float, Standing]] = {}

    async def standing(
        self, *, tenant: str, person: str, account: str, roster: str, service_url: str, fresh: bool = False
    ) -> Standing:
        """What a person is, by the member list of a team or chat (`roster`). Raises SurfaceUnavailable.

        `fresh` asks Teams even when the answer is known: a signature counts by what the person is now.
        A member without a role or a tenant counts as a guest from elsewhere. Local emulators know neither, and
        everybody there is a member.
        """
        if self._settings.emulator:
            return Standing(is_guest=False, is_external=False)
        known = self._known.get((tenant, person))
        if not fresh and known is not None and self._clock() - known[0] < KEEP_SECONDS:
            return known[1]
        member = await self._connector.get_member(service_url, roster, account)
        role = str(member.get("userRole") or "").lower()
        standing = Standing(
            is_guest=not role or role in ("guest", "anonymous"),
            is_external=member.get("tenantId") != tenant,
        )
        if len(self._known) >= KEPT:
            self._known.clear()
        self._known[tenant, person] = (self._clock(), standing)
        return standing
