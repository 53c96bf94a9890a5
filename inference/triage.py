"""The classifier of tickets that an operator installed, taken up when it appears and when it is replaced."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from inference.embeddings import Embedder
from inference.model_card import CARD, ModelRefused
from inference.ticket_classifier import Ticket, TicketClassifier, TicketPrediction

INSTALLED = Path("models", "tickets")
"""Where `countersign train tickets --install` puts one, in the data folder."""

logger = structlog.get_logger(__name__)


class Triage:
    """Proposes for a ticket what a classifier fitted on the organisation's own tickets says.

    found = await triage.propose(Ticket("VPN drops every hour"))  # None where none is installed
    """

    def __init__(self, folder: Path, embedder: Embedder) -> None:
        """`folder` may be empty, now or for ever."""
        self._folder = folder
        self._embedder = embedder
        self._classifier: TicketClassifier | None = None
        self._stamp: tuple[int, int] | None = None
        self._loading = asyncio.Lock()

    async def propose(self, ticket: Ticket) -> TicketPrediction | None:
        """What to propose; None where there is no classifier to use. Raises `ModelUnavailable` where nothing can embed
        the text."""
        async with self._loading:
            # A remote embedder knows its version only once it has been asked.
            await self._embedder.embed([ticket.text])
            await asyncio.to_thread(self._take_up)
            classifier = self._classifier
        return await classifier.predict(ticket) if classifier is not None else None

    def _take_up(self) -> None:
        try:
            found = (self._folder / CARD).stat()
        except OSError:
            self._classifier, self._stamp = None, None
            return
        stamp = (found.st_mtime_ns, found.st_ino)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._classifier = TicketClassifier.load(self._folder, self._embedder)
        except ModelRefused as refused:
            self._classifier = None
            logger.warning("ticket_classifier_refused", problem=str(refused))
