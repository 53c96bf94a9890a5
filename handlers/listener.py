"""What a surface hands its Turns to. `handlers/dialog.py` implements it; a test can too."""

from __future__ import annotations

from typing import Protocol

from handlers.reply import ClickOutcome
from handlers.turn import Turn


class Listener(Protocol):
    """Hears what people say and takes their clicks."""

    async def hear(self, turn: Turn) -> None:
        """Answer a message, command or greeting through the turn's surface.

        Returns when the answer is posted. People's mistakes are answered, not raised; what is raised is worth a retry.
        """
        ...

    async def click(self, turn: Turn) -> ClickOutcome:
        """Take a button press. The outcome is for the person who clicked and must be shown to them."""
        ...
