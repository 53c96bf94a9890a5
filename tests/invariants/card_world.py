"""The world with people's surfaces in front: a fake platform that keeps messages, and the real dialog."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from actions import plans
from handlers import deliveries
from handlers.card import Card
from handlers.deliveries import DeliveryKind, Nonces
from handlers.dialog import Dialog
from handlers.projector import Projector
from handlers.reply import ClickOutcome, Reply
from handlers.surface import MessageRef, SurfaceUnavailable, ThreadMessage
from handlers.turn import Click, Place, Sender, Turn, TurnKind
from handlers.wording import Wording
from policies.approvals import Approval
from records.database import Transaction
from tests.invariants.approval_world import World

CHANNEL = Place("slack", "T1", "C1")


class FakeSurface:
    """A platform: messages by id, in the order they were posted."""

    def __init__(self, name: str = "slack") -> None:
        self.name = name
        self.messages: dict[str, Reply] = {}
        self.updates = 0
        self.away = False

    async def post(self, place: Place, reply: Reply) -> MessageRef:
        self._answer()
        message_id = f"{place.conversation}-{len(self.messages) + 1}"
        self.messages[message_id] = reply
        return MessageRef(place, message_id)

    async def update(self, ref: MessageRef, reply: Reply) -> None:
        self._answer()
        if ref.message_id not in self.messages:
            raise SurfaceUnavailable("there is no such message")
        self.updates += 1
        self.messages[ref.message_id] = reply

    async def tell_privately(self, place: Place, person: Sender, reply: Reply) -> None:
        self._answer()

    async def show_progress(self, place: Place, step: str) -> None:
        """Nobody looks."""

    async def read_thread(self, place: Place, *, limit: int = 200) -> Sequence[ThreadMessage]:
        return [
            ThreadMessage(message, "assistant", str(reply), datetime.now(UTC), from_assistant=True)
            for message, reply in self.messages.items()
        ]

    async def direct_place(self, person: Sender) -> Place:
        return Place("slack", person.tenant, f"D{person.user}", direct=True)

    async def close(self) -> None:
        """Nothing to release."""

    def _answer(self) -> None:
        if self.away:
            raise SurfaceUnavailable("the platform is away")


class Room:
    """A channel with a card in it.

    approval, message = await room.card()
    outcome = await room.press(message, "approve", "amir")
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.surface = FakeSurface()
        self.nonces = Nonces(b"n" * 32)
        surfaces = {"slack": self.surface, "teams": FakeSurface("teams")}
        self.projector = Projector(world.database, surfaces, world.judgement, world.directory, self.nonces)
        self.dialog = Dialog(
            database=world.database,
            surfaces=surfaces,
            directory=world.directory,
            judgement=world.judgement,
            road=world.road,
            # Clicks need none of these.
            router=cast(Any, None),
            engine=cast(Any, None),
            questions=cast(Any, None),
            residency=cast(Any, None),
            skills=(),
            projector=self.projector,
            nonces=self.nonces,
            wording=Wording(),
        )

    async def card(self, action: str = "ledger.idempotent_key", *, place: Place = CHANNEL) -> tuple[Approval, str]:
        """Have a plan proposed and its card posted; returns the approval and the message's id."""

        def here(tx: Transaction, plan: plans.StoredPlan, approval: Approval | None) -> None:
            for kind in (DeliveryKind.CARD, DeliveryKind.NOTICE):
                deliveries.add(tx, self.nonces, plan_id=plan.id, digest=plan.digest, kind=kind, place=place)

        approval = await self.world.ask_for_signatures(action, also=here)
        known = set(self.surface.messages)
        await self.projector.project(approval.plan_id)
        (message,) = set(self.surface.messages) - known
        return approval, message

    def shows(self, message: str) -> Card:
        """What a message shows."""
        card = self.surface.messages[message].card
        assert card is not None
        return card

    def nonce(self, message: str, verb: str) -> str:
        """The value a message's button carries."""
        return next(button.nonce for button in self.shows(message).buttons if button.verb == verb)

    def turn(self, message: str, nonce: str, who: str, **changes: Any) -> Turn:
        """A press as a surface hands it on; `changes` are of the sender, the place or the click."""
        sender = Sender("slack", "T1", f"U{who.upper()}", name=who.capitalize())
        click = Click("approve", nonce, message)

        def of(value: Any) -> dict[str, Any]:
            return {name: change for name, change in changes.items() if name in value.__dataclass_fields__}

        return Turn(
            id=f"click-{message}-{who}",
            kind=TurnKind.CLICK,
            place=replace(CHANNEL, **of(CHANNEL)),
            sender=replace(sender, **of(sender)),
            text="",
            received_at=datetime.now(UTC),
            click=replace(click, **of(click)),
        )

    async def press(self, message: str, verb: str, who: str, **changes: Any) -> ClickOutcome:
        """Press a button, and wait until what follows is drawn."""
        return await self.take(self.turn(message, self.nonce(message, verb), who, **changes))

    async def take(self, turn: Turn) -> ClickOutcome:
        """Hand a click to the dialog, and wait until what follows is drawn."""
        outcome = await self.dialog.click(turn)
        await self.dialog.drain()
        return outcome
