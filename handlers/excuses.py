"""What an answer has to say about the engines that were asked for it: the one place that decides who is told what.

That the offline engine stands in for a language model that is away is said once a thread and outage. Whatever else
stood in the language model's way (a budget, too many at once, data that may not go there) is said each time: it is
about this request, and the next one may be treated differently.
"""

from __future__ import annotations

from handlers import notices
from handlers.turn import Place
from inference.handover import AWAY
from records.database import Database


class Excuses:
    """The excuses of one turn.

    excuses = Excuses(database, turn.place, has_language_model=engine.has_language_model)
    sentences = await excuses.due()
    """

    def __init__(self, database: Database, place: Place, *, has_language_model: bool) -> None:
        self._database = database
        self._place = place
        self._has_language_model = has_language_model
        self._asked = False
        self._degraded: dict[str, None] = {}
        self._claimed = False

    def note(self, engine: str | None, degraded: str | None) -> None:
        """An engine was asked, and why it was not the language model; `engine` None for nobody asked."""
        self._asked = self._asked or engine is not None
        if degraded is not None:
            self._degraded[degraded] = None

    async def due(self) -> tuple[str, ...]:
        """The sentences that people have to be told with the answer, which is posted next."""
        if AWAY in self._degraded:
            self._claimed = self._claimed or await self._database.write(lambda tx: notices.claim(tx, self._place))
        elif self._asked and self._has_language_model and not self._degraded:
            await self._database.write(lambda tx: notices.withdraw(tx, self._place))
        return tuple(sentence for sentence in self._degraded if sentence != AWAY or self._claimed)

    async def not_told(self) -> None:
        """The answer did not get through, so that nobody has read its excuses."""
        if self._claimed:
            await self._database.write(lambda tx: notices.withdraw(tx, self._place))
