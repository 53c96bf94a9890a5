"""Reads the thread a person is in, as a model is given it."""

from __future__ import annotations

from handlers.skill import Ask
from inference.model import Utterance

MOST_MESSAGES = 200


async def read_utterances(ask: Ask) -> list[Utterance]:
    """What was said before the request, oldest first, without our own posts. Raises SurfaceUnavailable."""
    messages = await ask.surface.read_thread(ask.turn.place, limit=MOST_MESSAGES)
    return [
        Utterance(message.id, message.author, message.text, message.at)
        for message in messages
        if not message.from_assistant and message.id != ask.turn.message_id and message.text.strip()
    ]
